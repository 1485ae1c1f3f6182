"""Who is present, as bytes: entries in the store, and what processes tell each other about them.

Whatever comes from the store or from another process is checked before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fairway.layers.backplane import NOTE, Present
from fairway.layers.codec import Codec, Kind
from fairway.layers.errors import MessageTooLarge, Undecodable
from fairway.layers.presence import Difference, Entry, Reading

MOST_DATA, BESIDE = 4096, 1024
"""Bytes of the data of one entry, and of what goes with it into one message: the key, and marks."""

_NOTE_BYTES = 8


def subject_of_presence(group: str) -> str:
    """The subject of a group's entries, and of the differences between them."""
    return f"h.{group}"


class PresenceCodec:
    """Writes and reads presence. Entries that cannot be read are left out, and given to `undecodable`."""

    def __init__(self, codec: Codec, undecodable: Callable[[str, Undecodable], None]) -> None:
        self._codec = codec
        self._undecodable = undecodable

    def freeze(self, data: Any) -> bytes:
        """The data of an entry. Raises TypeError if it cannot be sent, ValueError if it takes too much room."""
        frozen = self._codec.freeze(data)
        most = min(MOST_DATA, self._codec.max_size - BESIDE)
        if len(frozen) > most:
            raise ValueError(
                f"the data about one who is present takes {len(frozen):,} bytes, and may take {max(most, 0):,}: give a "
                "reference to it"
            )
        return frozen

    def thaw(self, data: bytes) -> Any:
        return self._codec.thaw(data)

    # The store ------------------------------------------------------------------------------------------------

    def stored(self, subject: str, entries: Mapping[str, Entry], number: int | None = None) -> dict[str, bytes]:
        """Entries for the store, and a note of the number of the last change, if it is known."""
        found = {id_: self._codec.encode(Kind.ENTRY, list(entry), subject) for id_, entry in entries.items()}
        if number is not None:
            found[NOTE] = number.to_bytes(_NOTE_BYTES, "big")
        return found

    def reading(self, subject: str, present: Present) -> Reading:
        """What the store says about one process. Without a note it has not entered everything yet."""
        note = present.entries.get(NOTE)
        number = -1 if note is None else int.from_bytes(note, "big")
        return Reading(present.process, present.term, number, self._entries(subject, present))

    def people(self, subject: str, present: Iterable[Present]) -> list[Entry]:
        """All entries of all processes."""
        return [entry for one in present for entry in self._entries(subject, one).values()]

    def _entries(self, subject: str, present: Present) -> dict[str, Entry]:
        found = {}
        for id_, data in present.entries.items():
            if id_ == NOTE:
                continue
            try:
                found[id_] = self._entry(*self._codec.decode(data, subject))
            except Undecodable as error:
                self._undecodable(subject, error)
            except (TypeError, ValueError) as error:
                self._undecodable(subject, Undecodable(f"an entry has not the form of one: {error}"))
        return found

    def _entry(self, kind: Kind, body: Any) -> Entry:
        if kind is not Kind.ENTRY:
            raise ValueError("it is another message")
        return _checked(body)

    # Between processes ----------------------------------------------------------------------------------------

    def difference(self, subject: str, process: str, term: int, difference: Difference) -> bytes:
        """A message to those who know the group. If it takes too many bytes, it makes them read the store."""
        joined = {id_: list(entry) for id_, entry in difference.joined.items()}
        numbers = [process, term, difference.since, difference.number]
        try:
            return self._codec.encode(Kind.PRESENCE, [*numbers, joined, list(difference.left)], subject)
        except MessageTooLarge:
            numbers[2] = difference.number
            return self._codec.encode(Kind.PRESENCE, [*numbers, {}, []], subject)

    def departed(self, place: str, process: str, term: int) -> bytes:
        """A message to all processes: this term of a process has ended."""
        return self._codec.encode(Kind.DEPARTED, [process, term], place)


def read_difference(body: Any) -> tuple[str, int, Difference]:
    """The process, its term, and the difference. Raises TypeError or ValueError if the message has another form."""
    process, term, since, number, joined, left = body
    _require(type(process) is str and all(type(one) is int for one in (term, since, number)))
    _require(type(joined) is dict and type(left) is list)
    entries = {_id(id_): _checked(entry) for id_, entry in joined.items()}
    return process, term, Difference(since, number, entries, [_id(id_) for id_ in left])


def read_departed(body: Any) -> tuple[str, int]:
    """The process, and the term that has ended. Raises TypeError or ValueError if the message has another form."""
    process, term = body
    _require(type(process) is str and type(term) is int)
    return process, term


def _id(value: Any) -> str:
    _require(type(value) is str and value != NOTE)
    return str(value)


def _checked(value: Any) -> Entry:
    person, data = value
    _require(type(person) is str and len(person) > 1 and type(data) is bytes and len(data) <= MOST_DATA)
    return Entry(person, data)


def _require(is_so: bool) -> None:
    if not is_so:
        raise ValueError("it does not say who is present")
