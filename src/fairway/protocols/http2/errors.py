"""Error codes, and the two ways in which a peer can break HTTP/2 (RFC 9113 sections 5.4 and 7).

The exceptions stay inside this folder. `Http2Protocol` turns them into frames and events, so that nothing a peer sends
makes it raise. A mistake of the caller raises `LocalProtocolError` (`fairway.protocols.http.errors`).
"""

from __future__ import annotations

import enum


class ErrorCode(enum.IntEnum):
    """The error codes of RFC 9113 section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFault(Exception):
    """The peer broke the connection (RFC 9113 section 5.4.1). `code` is for the GOAWAY; `reason` names the section."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class StreamFault(Exception):
    """The peer broke one stream (RFC 9113 section 5.4.2). `code` is for the RST_STREAM; `reason` names the section."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
