"""From bytes to WebSocket messages: the server's side of RFC 6455 section 5.

Theory of operation. `decode` walks over the bytes at hand, one frame a turn. There are three ways through a turn:

* A whole, unfragmented, uncompressed message takes a straight line at the top of the loop. Nearly all messages do.
* Any other frame that is there in full is taken in one go: control frames, fragments, compressed messages.
* A data frame that is not complete is *streamed*. What has arrived of it is unmasked and checked at once, so bad UTF-8
  fails in the middle of a frame (section 8.1), and a frame that is too long is refused from its header.

Between two calls a decoder is in one of four states:

* at rest: no message has begun, and no byte is kept;
* inside a message: `_message` holds what there is of it. Its `left` counts the bytes that the current frame still
  lacks, or is -1 between two of its frames;
* *pending*: one of three budgets was used up (the number of items, the memory of the messages, what may be inflated for
  now). Whole frames may lie in `_buffer`. The caller passes what arrives meanwhile to `keep`, and goes on with
  `decode(b"")`. A budget is looked at before a frame and not within one, so the last message may exceed it;
* finished: after a `Close` or a `Failure`. All further input is ignored.

Bytes are kept raw in `_buffer` only while pending, or while a header or a control frame is incomplete.

Budgets count memory and not bytes on the wire: 1 KiB may inflate to 1 MiB, and a text with one character from beyond
the Basic Multilingual Plane takes four bytes for each of its characters.

Nothing that the peer sends raises: a broken rule is the last item of a result, as a `Failure`. Any split of the input
gives the same items.
"""

from __future__ import annotations

from codecs import IncrementalDecoder, getincrementaldecoder
from math import inf
from sys import getsizeof
from typing import Any, TypeAlias

from fairway.protocols.websocket.deflate import InflateError, Inflation, TooLarge, inflate
from fairway.protocols.websocket.events import Close, Failure, Ping, Pong
from fairway.protocols.websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    INVALID_DATA,
    MAX_CONTROL_PAYLOAD,
    MESSAGE_TOO_BIG,
    NO_STATUS_RECEIVED,
    PING,
    POLICY_VIOLATION,
    PROTOCOL_ERROR,
    TEXT,
    is_valid_close_code,
)
from fairway.protocols.websocket.masking import apply_mask

Item: TypeAlias = str | bytes | Ping | Pong | Close | Failure

# Looked up once, and not for every text that does not come in one piece.
_new_utf8_decoder = getincrementaldecoder("utf-8")

# Pieces shorter than this are put together at once: a list of tiny objects would take many times what it holds.
_SMALL_PIECE = 1024


class _PeerError(Exception):
    """Carries a Failure from where a rule is broken to the one place that reports it.

    It never leaves `decode`. Inside, raising keeps the rules readable: each stands where its bytes are at hand, and
    none of the calls in between has to pass on that something was wrong.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.failure = Failure(code, reason)


class _Message:
    """A message that is being put together: there is one only meanwhile, so that a decoder at rest is small."""

    __slots__ = ("compressed", "fin", "fragments", "left", "mask", "opcode", "parts", "seen", "size", "utf8")

    def __init__(self, opcode: int, compressed: bool) -> None:
        self.opcode = opcode
        self.compressed = compressed
        self.size = 0
        self.fragments = 0
        self.parts: list[Any] = []  # str for text that is checked as it comes, else bytes
        # Compressed text cannot be checked before it is inflated, and that happens when all of it is there: to inflate
        # piece by piece would keep a window of 32 KiB for each message under way.
        self.utf8: IncrementalDecoder | None = None
        if opcode == TEXT and not compressed:
            self.utf8 = _new_utf8_decoder("strict")
        # The data frame that is being streamed; -1 says: none.
        self.left = -1
        self.fin = False
        self.mask = b""
        self.seen: tuple[float, int] | None = None  # when its pace was last looked at, and how much there was of it


# Stands in the place of a message when nothing more is to be decoded. A sentinel rather than a flag: whoever may begin
# or continue a message has to look at `_message` anyway, and cannot forget to look at a second attribute.
_FINISHED = _Message(0, False)


class Decoder:
    """Decodes what one client sends.

    `max_frame_bytes` and `max_message_bytes` are payload sizes, the latter after decompression too; `max_fragments`
    bounds the frames of one message. A message that has begun has to arrive at `min_rate` bytes a second, on average
    over `patience` seconds. `inflation` is given if permessage-deflate was negotiated (without context
    takeover); several decoders may share one.
    """

    __slots__ = ("_buffer", "_message", "controls", "inflation", "limits", "pending")

    def __init__(
        self,
        max_frame_bytes: int = 1 << 20,
        max_message_bytes: int = 1 << 20,
        max_fragments: int = 1024,
        inflation: Inflation | None = None,
        min_rate: int = 0,
        patience: float = inf,
    ) -> None:
        # One tuple, shared by all decoders with the same limits, instead of three attributes.
        self.limits = _shared_limits(max_frame_bytes, max_message_bytes, max_fragments, min_rate, patience)
        self.inflation = inflation
        self.pending = False
        self.controls = False
        self._buffer = b""
        self._message: _Message | None = None

    def decode(self, data: bytes, budget: int = 256, room: float = inf) -> list[Item]:
        """The items that are complete now, in order: at most `budget` of them, and none after the one with which the
        messages take `room` bytes of memory.
        """
        self.pending = False
        self.controls = False
        # One short text message and nothing else: what most reads bring. bench/micro/websocket.py has the gain. The
        # conditions are those of a frame that is final, masked and without reserved bits, whose length fits into the
        # seven bits of its header and is exactly what has come; and nothing may lie in front of it. What fails one of
        # them is not wrong, it only goes the longer way.
        size = len(data) - 6
        if (
            0 <= size < 126
            and data[0] == 0x81
            and data[1] == 0x80 + size
            and size <= self.limits[1]
            and self._message is None
            and not self._buffer
            and size <= self.limits[0]
            and budget
        ):
            try:
                return [apply_mask(data[6:], data[2:6]).decode()]
            except UnicodeDecodeError:
                pass  # reported below, like every other fault
        items: list[Item] = []
        if self._message is _FINISHED:
            return items
        # Unless the decoder was pending, what was kept is the beginning of a header or of a control frame: so little
        # that to join it costs less than to walk over two pieces.
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        try:
            position = self._walk(data, items, budget, room)
        except _PeerError as error:
            # What was complete before the broken rule stays in front of it: the client said it in time.
            self._finish()
            self.controls = True
            items.append(error.failure)
            return items
        if position < len(data) and self._message is not _FINISHED:
            self._buffer = data[position:]
        return items

    def keep(self, data: bytes) -> None:
        """Take bytes without decoding any: they are pending. Behind the end nothing is kept."""
        if self._message is not _FINISHED:
            self._buffer += data
            self.pending = True

    def _walk(self, data: bytes, items: list[Item], budget: int, room: float) -> int:
        """Take frames until the data or a budget is used up; the position of the first byte that is not taken."""
        position = 0
        end = len(data)
        # The data begins in the middle of a frame whose header was in an earlier call. No budget can be used up yet,
        # and `_stream` takes no more than what is left of that one frame.
        if self._message is not None and self._message.left >= 0:
            position = self._stream(self._message, data, 0, items)
            room -= sum(map(getsizeof, items))
        # For a message of one frame the two limits are one.
        limit = min(self.limits[0], self.limits[1])
        # Six bytes are the shortest frame from a client: two of header, four of mask (section 5.2).
        while end - position >= 6:
            # Set by `_stream`, when a compressed message is complete but must not be inflated now. It keeps its place:
            # nothing behind it may be looked at, or messages would change their order.
            if self.pending:
                return position
            if len(items) >= budget or room <= 0:
                self.pending = True
                return position
            first = data[position]
            second = data[position + 1]
            # A whole, unfragmented, uncompressed message in one piece: nearly always.
            if (first == 0x81 or first == 0x82) and second >= 0x80 and self._message is None:
                length = second & 0x7F
                start = position + 6
                if length >= 126:
                    if length == 126 and end - position >= 8:
                        length = data[position + 2] << 8 | data[position + 3]
                        start = position + 8
                    else:
                        length = -1  # left to the general path
                stop = start + length
                # A length that is not in its shortest form, or too long, is refused on the general path.
                if 0 <= length <= limit and stop <= end and (length > 125 or start == position + 6):
                    payload = apply_mask(data[start:stop], data[start - 4 : start])
                    position = stop
                    item: str | bytes = payload
                    if first == 0x81:
                        try:
                            item = payload.decode()
                        except UnicodeDecodeError:
                            raise _bad_utf8() from None
                    items.append(item)
                    room -= getsizeof(item)
                    continue
            # The general way takes one frame, which completes one item or none.
            count = len(items)
            following = self._frame(data, position, items)
            if following is None:
                return position
            if self._message is _FINISHED:
                return end
            room -= sum(map(getsizeof, items[count:]))
            position = following
        if 2 <= end - position < 6 and self._message is not _FINISHED and not self.pending:
            # A header that is not complete may already be wrong: refuse it without waiting for the rest.
            self._check_first_bytes(data[position], data[position + 1])
        return position

    def _frame(self, data: bytes, position: int, items: list[Item]) -> int | None:
        """Take the frame at `position`. Return the position behind what was taken, or None when nothing can be before
        more bytes have come: a control frame is taken whole (section 5.5), a data frame as soon as its header is there.
        """
        first, second = data[position], data[position + 1]
        # Before anything is waited for: what the first two bytes rule out must not make anybody wait for more.
        self._check_first_bytes(first, second)
        length = second & 0x7F
        start = position + 6
        if length == 126:
            start = position + 8
        elif length == 127:
            start = position + 14
        if start > len(data):
            return None
        if length == 126:
            length = data[position + 2] << 8 | data[position + 3]
            # A length in a longer form than it needs is refused, although it could be read: two parties that read such
            # a frame differently would see different frames behind it.
            if length < 126:
                raise _PeerError(PROTOCOL_ERROR, "length not in the shortest form (RFC 6455 section 5.2)")
        elif length == 127:
            length = int.from_bytes(data[position + 2 : position + 10], "big")
            if length < 0x10000 or length >> 63:
                raise _PeerError(PROTOCOL_ERROR, "length not in the shortest form (RFC 6455 section 5.2)")
        # Control frames may stand between the fragments of a message, and touch nothing of it.
        if first & 0x08:
            stop = start + length
            if stop > len(data):
                return None
            self._control(first & 0x0F, apply_mask(data[start:stop], data[start - 4 : start]), items)
            return stop
        message = self._begin_data_frame(first, length)
        message.mask = data[start - 4 : start]
        return self._stream(message, data, start, items)

    def _check_first_bytes(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, 0xA):
            raise _PeerError(PROTOCOL_ERROR, f"reserved opcode {opcode} (RFC 6455 section 5.2)")
        reserved = first & 0x70
        if reserved and not (reserved == 0x40 and self.inflation is not None and opcode in (TEXT, BINARY)):
            raise _PeerError(PROTOCOL_ERROR, "reserved bits set (RFC 6455 section 5.2)")
        if second < 0x80:
            raise _PeerError(PROTOCOL_ERROR, "frame not masked (RFC 6455 section 5.1)")
        if opcode & 0x08:
            if not first & 0x80:
                raise _PeerError(PROTOCOL_ERROR, "fragmented control frame (RFC 6455 section 5.5)")
            if second & 0x7F > MAX_CONTROL_PAYLOAD:
                raise _PeerError(PROTOCOL_ERROR, "control frame too long (RFC 6455 section 5.5)")
        elif opcode == CONTINUATION:
            if self._message is None:
                raise _PeerError(PROTOCOL_ERROR, "nothing to continue (RFC 6455 section 5.4)")
        elif self._message is not None:
            raise _PeerError(PROTOCOL_ERROR, "new message inside a fragmented one (RFC 6455 section 5.4)")

    def _begin_data_frame(self, first: int, length: int) -> _Message:
        """Judge a frame by its header alone: what is too long is refused before any of it is kept."""
        max_frame, max_message, max_fragments, _, _ = self.limits
        message = self._message
        if message is None:
            # Opcode and RSV1 belong to the first frame; `_check_first_bytes` has seen to it that no other has them.
            message = self._message = _Message(first & 0x0F, bool(first & 0x40))
        message.fragments += 1
        message.size += length
        if length > max_frame:
            raise _PeerError(MESSAGE_TOO_BIG, f"frame longer than {max_frame} bytes (RFC 6455 section 10.4)")
        if message.size > max_message:
            raise _too_big(max_message)
        if message.fragments > max_fragments:
            raise _PeerError(
                POLICY_VIOLATION, f"message of more than {max_fragments} fragments (RFC 6455 section 10.4)"
            )
        message.left = length
        message.fin = bool(first & 0x80)
        return message

    def _stream(self, message: _Message, data: bytes, position: int, items: list[Item]) -> int:
        """Take what there is of the current data frame."""
        stop = min(position + message.left, len(data))
        count = stop - position
        if count:
            mask = message.mask
            self._append(message, apply_mask(data[position:stop], mask))
            # The next piece begins where this one ends in the four bytes of the mask (section 5.3).
            turn = count & 3
            if turn:
                message.mask = mask[turn:] + mask[:turn]
            message.left -= count
        if message.left == 0:
            # The frame is complete. If the allowance for inflating is used up, it stays so until it is asked for again:
            # `left` remains 0, so that the next call comes here first, with no further byte.
            if message.fin and message.compressed and self.inflation is not None and self.inflation.left <= 0:
                self.pending = True  # it is complete, but not to be inflated now
                return stop
            message.left = -1
            if message.fin:
                self._message = None
                items.append(self._complete(message))
        return stop

    def _append(self, message: _Message, payload: bytes) -> None:
        """Keep an unmasked piece; of uncompressed text, what it decodes to."""
        piece: Any = payload
        if message.utf8 is not None:
            try:
                piece = message.utf8.decode(payload)
            except UnicodeDecodeError:
                raise _bad_utf8() from None
        # A peer that sends a megabyte in frames of one byte must not make us keep a million objects. Joining two small
        # pieces copies at most `_SMALL_PIECE` bytes, so the work stays linear in what came.
        parts = message.parts
        if parts and len(parts[-1]) < _SMALL_PIECE and len(piece) < _SMALL_PIECE:
            parts[-1] += piece
        else:
            parts.append(piece)

    def _complete(self, message: _Message) -> str | bytes:
        """Put the pieces together. The decoder of UTF-8 is told the end, so a sequence that is cut off fails."""
        if message.utf8 is not None:
            try:
                return "".join((*message.parts, message.utf8.decode(b"", True)))
            except UnicodeDecodeError:
                raise _bad_utf8() from None
        data: bytes = b"".join(message.parts)
        if message.compressed:
            data = self._inflate(data)
            if message.opcode == TEXT:
                try:
                    return data.decode()
                except UnicodeDecodeError:
                    raise _bad_utf8() from None
        return data

    def _inflate(self, message: bytes) -> bytes:
        inflation, max_message = self.inflation, self.limits[1]
        assert inflation is not None, "a compressed message is refused unless compression was negotiated"
        try:
            data = inflate(message, max_message)
        except TooLarge:
            # It was inflated up to the limit before it was refused, and that is what it has cost.
            inflation.spend(max_message)
            raise _too_big(max_message) from None
        except InflateError:
            raise _PeerError(INVALID_DATA, "compressed data cannot be read (RFC 7692 section 7.2.2)") from None
        inflation.spend(len(data))
        return data

    def _control(self, opcode: int, payload: bytes, items: list[Item]) -> None:
        self.controls = True
        if opcode == PING:
            items.append(Ping(payload))
        elif opcode == CLOSE:
            items.append(self._close(payload))
            self._finish()
        else:
            items.append(Pong(payload))

    def _close(self, payload: bytes) -> Close:
        if not payload:
            return Close(NO_STATUS_RECEIVED, "")
        # Either nothing, or a code of two bytes and a reason.
        if len(payload) == 1:
            raise _PeerError(PROTOCOL_ERROR, "close frame of one byte (RFC 6455 section 5.5.1)")
        code = payload[0] << 8 | payload[1]
        if not is_valid_close_code(code):
            raise _PeerError(PROTOCOL_ERROR, f"close code {code} (RFC 6455 section 7.4)")
        try:
            return Close(code, payload[2:].decode())
        except UnicodeDecodeError:
            raise _PeerError(INVALID_DATA, "close reason is not UTF-8 (RFC 6455 section 5.5.1)") from None

    def _finish(self) -> None:
        self._message = _FINISHED
        self.pending = False
        self._buffer = b""

    @property
    def is_finished(self) -> bool:
        """Whether nothing more is decoded: the peer has closed, or broken a rule."""
        return self._message is _FINISHED

    @property
    def is_at_rest(self) -> bool:
        """Whether the next byte begins a frame that continues nothing."""
        return self._message is None and not self._buffer

    def is_too_slow(self, now: float) -> bool:
        """Whether the message under way has not gone on fast enough. To be asked now and then: it counts from when that
        was asked first, and judges when the patience has passed, and again each time that it has.
        """
        message = self._message
        _, _, _, rate, patience = self.limits
        if message is None or message is _FINISHED or not rate or self.pending:
            return False
        size = message.size - max(message.left, 0)
        at, seen = message.seen or (now, size)
        if message.seen is not None and now < at + patience:
            return False
        message.seen = (now, size)
        return size - seen < rate * (now - at)

    def forgive(self) -> None:
        """The peer could not go on meanwhile, because it was not read: count from the next time that is asked."""
        message = self._message
        if message is not None and message is not _FINISHED:
            message.seen = None

    @property
    def held_bytes(self) -> int:
        """How much of unfinished frames and messages is kept: bounded by the limits."""
        parts = self._message.parts if self._message is not None else ()
        return len(self._buffer) + sum(map(len, parts))


_Limits: TypeAlias = tuple[int, int, int, int, float]

_LIMITS: dict[_Limits, _Limits] = {}


def _shared_limits(*limits: Any) -> _Limits:
    key: _Limits = limits
    return _LIMITS.setdefault(key, key)


def _bad_utf8() -> _PeerError:
    return _PeerError(INVALID_DATA, "text is not UTF-8 (RFC 6455 section 8.1)")


def _too_big(max_message: int) -> _PeerError:
    return _PeerError(MESSAGE_TOO_BIG, f"message longer than {max_message} bytes (RFC 6455 section 7.4.1)")
