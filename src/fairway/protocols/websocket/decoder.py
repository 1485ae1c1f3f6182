"""Decodes bytes from a client into WebSocket messages: the server's side of RFC 6455 section 5.

Theory of operation. `decode` takes one frame after another from its input. There are three ways to take a frame:

* A complete, unfragmented, uncompressed message is decoded in a fast path at the top of the loop. Nearly all messages
  are of this kind.
* Any other complete frame is decoded at once: a control frame, a fragment, or a compressed message.
* An incomplete data frame is *streamed*. The bytes that have arrived are unmasked and checked at once. So invalid UTF-8
  fails in the middle of a frame (section 8.1), and a frame that is too long is refused when its header has arrived.

Between two calls, a decoder is in one of four states:

* *At rest*: no message has begun, and no bytes are kept.
* *Inside a message*: `_message` holds the parts that have arrived. Its `left` is the number of bytes that are missing
  from the current frame, or -1 between two frames.
* *Pending*: one of four budgets is used up: the number of items, of fragments that complete none, the memory of the
  messages, or the bytes that may be inflated for now. Complete frames may lie in `_buffer`, and `_message` may be half
  inflated. The caller must pass new bytes to `keep`, and continue with `decode(b"")`. All but the last are checked
  between frames, so the last message may exceed the memory; inflating also stops within a message, after each
  `_INFLATED_AT_ONCE` bytes.
* *Finished*: a `Close` or a `Failure` has been returned. All further input is ignored.

`_buffer` keeps undecoded bytes only in the pending state, and while a header or a control frame is incomplete.

The memory budget is not in bytes on the wire: 1 KiB may inflate to 1 MiB, and a text with one character outside of the
Basic Multilingual Plane takes four bytes for each of its characters.

No method raises because of what the peer sends. If the peer breaks a rule, the last item of a result is a `Failure`.
Every split of the input into pieces gives the same items.
"""

from __future__ import annotations

from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Sequence
from math import inf
from sys import getsizeof
from typing import Any, TypeAlias

from fairway.protocols.websocket.deflate import InflateError, Inflating, Inflation, TooLarge
from fairway.protocols.websocket.events import Close, Failure, LongText, Ping, Pong
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

Item: TypeAlias = str | bytes | LongText | Ping | Pong | Close | Failure

# Look this up only once, not for each text that arrives in several pieces.
_new_utf8_decoder = getincrementaldecoder("utf-8")

# Pieces shorter than this are joined at once: a list of tiny objects would take many times the memory of its content.
_SMALL_PIECE = 1024

# Pieces of this size stay in the processor's cache, so inflating a long message takes half the time. Nearly all
# compressed messages are a single piece.
_INFLATED_AT_ONCE = 1 << 16

# How many fragments that complete no message one call takes: a third of a millisecond.
_FRAGMENTS_AT_ONCE = 128


# A text of so many characters is returned in pieces unless it is ASCII: joined, it may take four times the memory, and
# it may have to wait until it is handled.
_LONG_TEXT = 1 << 16


class _PeerError(Exception):
    """Carries a `Failure` from the place that finds a broken rule to `decode`, which reports it.

    It is never raised out of `decode`. Because of it, each rule can be checked where its bytes are read, and the calls
    in between need not pass on errors.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.failure = Failure(code, reason)


class _Message:
    """An incomplete message. It exists only while a message is incomplete, so that a decoder at rest is small."""

    __slots__ = (
        "compressed",
        "fin",
        "fragments",
        "inflating",
        "left",
        "mask",
        "opcode",
        "parts",
        "seen",
        "size",
        "utf8",
    )

    def __init__(self, opcode: int, compressed: bool) -> None:
        self.opcode = opcode
        self.compressed = compressed
        self.size = 0
        self.fragments = 0
        self.parts: list[Any] = []  # str for text, unless it is still compressed, otherwise bytes
        # A compressed message is inflated, and text is checked, once it has arrived. Inflating it as it arrives would
        # keep a window of 32 KiB for each incomplete message.
        self.inflating: Inflating | None = None
        self.utf8: IncrementalDecoder | None = None
        if opcode == TEXT and not compressed:
            self.utf8 = _new_utf8_decoder("strict")
        # Bytes that are missing from the data frame that is being streamed; -1 if there is none.
        self.left = -1
        self.fin = False
        self.mask = b""
        self.seen: tuple[float, int] | None = None  # when its rate was last checked, and its size then


# The value of `_message` in the finished state. A sentinel is safer than a flag: code that begins or continues a
# message must check `_message` in any case, and might forget to check a second attribute.
_FINISHED = _Message(0, False)


class Decoder:
    """Decodes what one client sends.

    `max_frame_bytes` and `max_message_bytes` limit the payload of a frame and of a message, the latter also after
    decompression. `max_fragments` limits the number of frames of a message. A message that has begun must arrive at
    `min_rate` bytes a second, on average over `patience` seconds. `inflation` is needed if permessage-deflate was
    negotiated (without context takeover). Several decoders may share one.

    `pending` is true in the pending state. `controls` says whether the last result of `decode` has other items than
    messages.
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
        # All decoders with the same limits share one tuple, which takes less memory than attributes.
        self.limits = _shared_limits(max_frame_bytes, max_message_bytes, max_fragments, min_rate, patience)
        self.inflation = inflation
        self.pending = False
        self.controls = False
        self._buffer = b""
        self._message: _Message | None = None

    def decode(self, data: bytes, budget: int = 256, room: float = inf) -> list[Item]:
        """Decode these bytes, and return the items that are complete now, in order.

        Returns at most `budget` items, and none after the item with which the messages take `room` bytes of memory. If
        a budget is used up, the decoder is `pending`; it may be so without any item, behind many fragments.
        """
        self.pending = False
        self.controls = False
        # A fast path for the most frequent input: exactly one short text message (measured in
        # bench/micro/websocket.py). The conditions: the frame is final, masked and without reserved bits, its length
        # fits into the seven bits of the first form, the input is exactly the frame, and nothing is kept from before.
        # Input that fails a condition may still be valid, and takes the longer path.
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
                pass  # the longer path reports it
        items: list[Item] = []
        if self._message is _FINISHED:
            return items
        # Unless the decoder was pending, only the beginning of a header or of a control frame is kept. That is so short
        # that joining costs less than decoding two pieces.
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        try:
            position = self._walk(data, items, budget, room)
        except _PeerError as error:
            # The items that were complete before the broken rule are still returned, in front of the failure.
            self._finish()
            self.controls = True
            items.append(error.failure)
            return items
        if position < len(data) and self._message is not _FINISHED:
            self._buffer = data[position:]
        return items

    def keep(self, data: bytes) -> None:
        """Keep bytes for a later `decode(b"")`, because the decoder is pending. Once it is finished, ignore them."""
        if self._message is not _FINISHED:
            self._buffer += data
            self.pending = True

    def _walk(self, data: bytes, items: list[Item], budget: int, room: float) -> int:
        """Decode frames until the data or a budget is used up. Return the position of the first byte that is left."""
        position = fragments = 0
        end = len(data)
        # The data begins in the middle of a frame, whose header came with an earlier call. No budget is used up yet,
        # and `_stream` only takes the rest of this frame.
        if self._message is not None and self._message.left >= 0:
            was_inflating = self.is_inflating
            position = self._stream(self._message, data, 0, items)
            room -= sum(map(getsizeof, items))
            if was_inflating and position < end:
                # Those who share the budget have their turn before the next message of this client begins.
                self.pending = True
                return position
        # A message of one frame must respect both limits.
        limit = min(self.limits[0], self.limits[1])
        # The shortest frame from a client has six bytes: a header of two and a mask of four (section 5.2).
        while end - position >= 6:
            # `_stream` sets this if a compressed message is complete but must not be inflated now. Later frames must
            # wait for it, or messages would change their order.
            if self.pending:
                return position
            if len(items) >= budget or room <= 0:
                self.pending = True
                return position
            first = data[position]
            second = data[position + 1]
            # The fast path: a complete, unfragmented, uncompressed message. Nearly all are.
            if (first == 0x81 or first == 0x82) and second >= 0x80 and self._message is None:
                length = second & 0x7F
                start = position + 6
                if length >= 126:
                    if length == 126 and end - position >= 8:
                        length = data[position + 2] << 8 | data[position + 3]
                        start = position + 8
                    else:
                        length = -1  # for the general path
                stop = start + length
                # The general path refuses a length that is too long or not in its shortest form.
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
            # The general path takes one frame, which completes one item or none.
            count = len(items)
            following = self._frame(data, position, items)
            if following is None:
                return position
            if self._message is _FINISHED:
                return end
            position = following
            if len(items) > count:
                room -= getsizeof(items[count])
            elif (fragments := fragments + 1) == _FRAGMENTS_AT_ONCE and position < end:
                self.pending = True
                return position
        if 2 <= end - position < 6 and self._message is not _FINISHED and not self.pending:
            # An incomplete header may already break a rule. Refuse it without waiting for the rest.
            self._check_first_bytes(data[position], data[position + 1])
        return position

    def _frame(self, data: bytes, position: int, items: list[Item]) -> int | None:
        """Take the frame at `position`. Return the position behind the bytes that were taken.

        Return None if more bytes are needed. A control frame is taken when it is complete (section 5.5), a data frame
        as soon as its header is complete.
        """
        first, second = data[position], data[position + 1]
        # Check these first, so that a frame whose first two bytes break a rule is refused without waiting for more.
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
            # A length in a longer form than needed could be read, but is refused: if a proxy reads it differently, the
            # two parties see different frames behind it.
            if length < 126:
                raise _PeerError(PROTOCOL_ERROR, "length not in the shortest form (RFC 6455 section 5.2)")
        elif length == 127:
            length = int.from_bytes(data[position + 2 : position + 10], "big")
            if length < 0x10000 or length >> 63:
                raise _PeerError(PROTOCOL_ERROR, "length not in the shortest form (RFC 6455 section 5.2)")
        # A control frame may come between the fragments of a message, and does not change the message.
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
        """Check the limits with the header alone, so that nothing of a frame that is too long is kept."""
        max_frame, max_message, max_fragments, _, _ = self.limits
        message = self._message
        if message is None:
            # Opcode and RSV1 belong to the first frame. `_check_first_bytes` has checked that no other frame has them.
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
        """Take the bytes of the current data frame that have arrived. Return the position behind them."""
        stop = min(position + message.left, len(data))
        count = stop - position
        if count:
            mask = message.mask
            self._append(message, apply_mask(data[position:stop], mask))
            # Rotate the mask, so that the next piece begins at the right one of its four bytes (section 5.3).
            turn = count & 3
            if turn:
                message.mask = mask[turn:] + mask[:turn]
            message.left -= count
        if message.left == 0:
            # The frame is complete. If the budget for inflating is used up, `left` remains 0, so that the next call
            # comes here first, before it reads further bytes.
            if message.fin and message.compressed and not self._inflate(message):
                self.pending = True  # the message has arrived, but must not be inflated further now
                return stop
            message.left = -1
            if message.fin:
                self._message = None
                items.append(self._complete(message))
        return stop

    def _append(self, message: _Message, payload: bytes) -> None:
        """Keep an unmasked piece of the message. A piece of uncompressed text is decoded."""
        piece: Any = payload
        if message.utf8 is not None:
            try:
                piece = message.utf8.decode(payload)
            except UnicodeDecodeError:
                raise _bad_utf8() from None
        # A peer may send a megabyte in frames of one byte. Small pieces are joined, so that this does not make a
        # million objects. Joining copies at most `_SMALL_PIECE` bytes, so the work is linear in the size of the
        # message.
        parts = message.parts
        if parts and len(parts[-1]) < _SMALL_PIECE and len(piece) < _SMALL_PIECE:
            parts[-1] += piece
        else:
            parts.append(piece)

    def _inflate(self, message: _Message) -> bool:
        """Inflate a message that has arrived, as far as the budget allows. True if nothing of it is left."""
        inflation = self.inflation
        assert inflation is not None, "a compressed message is refused unless compression was negotiated"
        try:
            while inflation.left > 0:
                if message.inflating is None and self._begin_inflating(message, inflation):
                    return True
                assert message.inflating is not None
                self._append(message, inflation.take(message.inflating, _INFLATED_AT_ONCE))
                if message.inflating.ended:
                    return True
        except TooLarge:
            inflation.spend(_INFLATED_AT_ONCE)  # it was inflated up to the limit before it was refused
            raise _too_big(self.limits[1]) from None
        except InflateError:
            raise _PeerError(INVALID_DATA, "compressed data cannot be read (RFC 7692 section 7.2.2)") from None
        return False

    def _begin_inflating(self, message: _Message, inflation: Inflation) -> bool:
        """Inflate a message at once if it is short, and return True. Else it is to be inflated piece by piece."""
        data = b"".join(message.parts)
        whole = inflation.take_short(data)
        if whole is not None:
            if len(whole) > self.limits[1]:
                raise TooLarge
            message.parts = [whole]
            return True
        message.inflating = Inflating(data, self.limits[1])
        message.parts = []
        if message.opcode == TEXT:
            message.utf8 = _new_utf8_decoder("strict")
        return False

    def _complete(self, message: _Message) -> str | bytes | LongText:
        """Join the pieces of a message, unless it is long and wide. An incomplete UTF-8 sequence at its end is an
        error.
        """
        try:
            if message.utf8 is None:
                whole: bytes = b"".join(message.parts)
                return whole.decode() if message.opcode == TEXT else whole
            pieces = (*message.parts, message.utf8.decode(b"", True))
            if (message.size >= _LONG_TEXT or message.inflating is not None) and _is_long_and_wide(pieces):
                return LongText(pieces)
            return "".join(pieces)
        except UnicodeDecodeError:
            raise _bad_utf8() from None

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
        # A payload is empty, or a code of two bytes and then a reason.
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
        """Whether all further input is ignored, because the peer has sent a Close or broken a rule."""
        return self._message is _FINISHED

    @property
    def is_at_rest(self) -> bool:
        """Whether no message has begun and no bytes are kept."""
        return self._message is None and not self._buffer

    @property
    def is_inflating(self) -> bool:
        """Whether a message is half inflated, because the budget was used up."""
        return self._message is not None and self._message.inflating is not None

    def is_too_slow(self, now: float) -> bool:
        """Whether the incomplete message arrives more slowly than `min_rate`. Call this now and then.

        The first call for a message starts the measurement. The first call after `patience` seconds compares the rate,
        and starts the next measurement. All other calls return False.
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
        """Start the measurement of `is_too_slow` anew, because the server has not read from the peer meanwhile."""
        message = self._message
        if message is not None and message is not _FINISHED:
            message.seen = None

    @property
    def held_bytes(self) -> int:
        """How many bytes of incomplete frames and messages are kept. Bounded by the limits, unless `keep` is called."""
        message = self._message
        if message is None:
            return len(self._buffer)
        compressed = 0 if message.inflating is None else message.inflating.held_bytes
        return len(self._buffer) + compressed + sum(map(len, message.parts))


_Limits: TypeAlias = tuple[int, int, int, int, float]

_LIMITS: dict[_Limits, _Limits] = {}


def _shared_limits(*limits: Any) -> _Limits:
    key: _Limits = limits
    return _LIMITS.setdefault(key, key)


def _is_long_and_wide(pieces: Sequence[str]) -> bool:
    return sum(map(len, pieces)) >= _LONG_TEXT and not all(map(str.isascii, pieces))


def _bad_utf8() -> _PeerError:
    return _PeerError(INVALID_DATA, "text is not UTF-8 (RFC 6455 section 8.1)")


def _too_big(max_message: int) -> _PeerError:
    return _PeerError(MESSAGE_TOO_BIG, f"message longer than {max_message} bytes (RFC 6455 section 7.4.1)")
