"""From messages to sockets: what waits for one, for many, and when it is written."""
