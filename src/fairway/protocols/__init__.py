"""Wire protocols as pure state machines: bytes in, events and bytes out; no sockets, no clock, no asyncio."""
