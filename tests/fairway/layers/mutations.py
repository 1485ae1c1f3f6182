# ruff: noqa: E501  # a table has a row for each rule
"""Does a test notice when a rule of histories or of presence is broken? Run it on demand; it takes some minutes.

    python -m tests.fairway.layers.mutations [--only WORD] [--processes 2]

Each mutation changes one piece of a pure module, in a copy of the source. The tests of that module then have to fail.
The first one that does is shown beside the rule. Exits with 1 if a mutation is not noticed.

`test_mutations.py` sees to it that every piece is still in its module.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGE = "src/fairway/layers"
HERE = "tests/fairway/layers"

TESTS = {
    "tracks": ("test_tracks",),
    "histories": ("test_histories",),
    "leases": ("test_leases",),
    "presence": ("test_presence",),
    "attendance": ("test_attendance", "test_shared_reach"),
    "audiences": ("test_attendance", "test_shared_reach"),
}
"""The tests of each module."""


@dataclass(frozen=True)
class Mutation:
    """In a module, `old` becomes `new`: the rule does not hold any more."""

    module: str
    rule: str
    old: str
    new: str

    def apply(self, source: str) -> str:
        count = source.count(self.old)
        if count != 1:
            raise ValueError(f"{self.module}: {count} times instead of once, mend the table: {self.old!r}")
        return source.replace(self.old, self.new)


def of(module: str, *rows: tuple[str, str, str]) -> list[Mutation]:
    return [Mutation(module, *row) for row in rows]


TRACKS = of(
    "tracks",
    ("the same message twice is delivered once", "if position.offset <= own.offset:", "if position.offset < own.offset:"),
    ("a message that does not follow is not delivered", "if previous <= own.offset and not", "if not"),
    ("what arrives while something is missing is not delivered", "<= own.offset and not track.is_behind:", "<= own.offset:"),
    ("another epoch does not follow", "        if position.epoch == own.epoch:\n", "        if True:\n"),
    (
        "what has arrived while it was read is read, too",
        "        if track.goal is None or track.goal.epoch != position.epoch or track.goal.offset < position.offset:\n"
        "            track.goal = position\n",
        "",
    ),
    ("a new track begins before its first message", "Position(position.epoch, previous)\n", "position\n"),
    (
        "the answer to an earlier question counts for a new track only",
        "if track is not None and track.position is None:",
        "if track is not None:",
    ),
    ("comparing notices another epoch", "top.epoch != own.epoch or top.offset > own.offset", "top.offset > own.offset"),
    ("comparing notices a lost message", "elif top.epoch != own.epoch or top.offset > own.offset", "elif top.epoch != own.epoch"),
    ("another epoch is a gap", 'gap = Gap("epoch", own, _before(messages, top))', "gap = None"),
    ("what was in the earlier epoch is not delivered again", " if kept.position.offset > page.began]", "]"),
    ("a service that went back is a gap", "elif top.offset < own.offset:", "elif False:"),
    ("what was trimmed is a gap", "elif not page.is_complete:", "elif False:"),
    ("a gap ends before the first message that is there", 'Gap("trimmed", own, _before(messages, top))', 'Gap("trimmed", own, top)'),
    ("one page after the other is read", "is_last = not page.messages or page", "is_last = True or page"),
    (
        "a ring does not reach over a gap",
        "        if gap is not None:\n            self._forget_ring(subject, track)\n",
        "",
    ),
    (
        "it goes on reading until it has what has arrived",
        "is_level = is_last and not (messages and track.is_short_of_goal(top))",
        "is_level = is_last",
    ),
    ("it is level with the last message of the last page", "track.end = top if is_level else None", "track.end = None"),
    ("what comes in the middle of a page is read afterwards", "self.is_behind = self.is_short_of_goal(position)", "self.is_behind = False"),
    ("it is behind until a page was delivered", "track.is_behind = bool(messages) or not is_level", "track.is_behind = not is_level"),
    ("a ring that does not reach back is not asked", "track.reaches <= since.offset <= own.offset", "since.offset <= own.offset"),
    ("a position beyond the newest is not recovered", "track.reaches <= since.offset <= own.offset", "track.reaches <= since.offset"),
    ("a position of another epoch is not recovered", "since.epoch == own.epoch and track.reaches", "track.reaches"),
    ("a member does not get the message that it has", "if kept.position.offset > since.offset]", "if kept.position.offset >= since.offset]"),
    ("a time is answered only if the ring goes back to it", "if len(later) < len(held):", "if True:"),
    ("a ring that is not whole does not know everything", "        if not track.is_whole:\n            return None\n", ""),
    ("everything that is left is not all since a position", "return Missed(held, since is None)", "return Missed(held, True)"),
    ("a ring is not filled with what it has", " if one.position.offset <= track.reaches]", "]"),
    ("a ring is not filled with another epoch", " or self.has_ended(subject, top):\n            return\n        self._touch", ":\n            return\n        self._touch"),
    ("an epoch that has ended is read", "        track.is_behind = True\n        return True\n\n    def fill", "        return True\n\n    def fill"),
    ("a ring that could not be filled is not whole", "                track.is_whole = False\n                break\n", "                break\n"),
    ("a filled ring reaches further back", "            track.reaches = older[first].previous\n", ""),
    ("a ring is bounded in messages", "(len(ring) - gone > most or track.size", "(track.size"),
    ("a ring is bounded in bytes", "(len(ring) - gone > most or track.size > self._ring_bytes)", "len(ring) - gone > most"),
    ("a ring knows what it has dropped", "            track.reaches = ring[gone - 1].position.offset\n", ""),
    ("a ring that drops for its bytes is not whole", "track.is_whole = track.is_whole and len(ring) >= most", "pass"),
    ("the ring that was not used for the longest time goes first", "self._used.move_to_end(subject)", "self._used.move_to_end(subject, last=False)"),
    ("all rings together are bounded", "while self.size > self._max_bytes:", "while False:"),
    ("a ring counts for itself, too", "            self.size += RING_OVERHEAD\n", ""),
    ("a track that is closed gives its bytes back", "        if track is not None:\n            self.size -= track.size\n", "        if track is not None:\n"),
    ("a message that cannot be read is passed by", "        if track is not None:\n            track.advance(position)\n", "        if track is not None:\n"),
    ("giving up begins anew", "            self.close(subject)\n            self.open(subject)\n", "            self.open(subject)\n"),
)  # fmt: skip

HISTORIES = of(
    "histories",
    ("a key counts once", "        if known is not None:\n            return known[1], None\n", ""),
    ("a key counts in its group", "known = self._keys.get((subject, key)) if key else None", "known = next((found for (_, one), found in self._keys.items() if one == key), None)"),
    ("a key is remembered for a time", "now + KEY_LIFE, position", "now + 2 * KEY_LIFE, position"),
    ("only so many keys are remembered", "keys[first][0] > now and len(keys) <= MOST_KEYS", "keys[first][0] > now"),
    ("so many messages are kept", "(count - gone > size or self", "(self"),
    ("so many bytes of one history are kept", "or self.size > max_bytes or", "or"),
    ("messages are kept so long", " or messages[gone][0] <= now)", ")"),
    ("one history takes a share", "self._max_bytes // SHARE, now", "self._max_bytes, now"),
    ("what expires is not read", "        self._trim(subject, history, now)\n        messages = [kept", "        messages = [kept"),
    ("a position of another epoch is not complete", "after.epoch == history.epoch and oldest", "oldest"),
    ("a position before the oldest is not complete", "oldest <= after.offset <= history.top", "after.offset <= history.top"),
    ("the position before the oldest is complete", "oldest <= after.offset <= history.top", "oldest < after.offset <= history.top"),
    ("a position beyond the newest is not complete", "oldest <= after.offset <= history.top", "oldest <= after.offset"),
    ("what was seen is not read again", "if kept.position.offset > after.offset]", "if kept.position.offset >= after.offset]"),
    ("a time is not complete unless it is", "is_complete = is_complete_after(after, messages, history.top)", "is_complete = True"),
    ("what was sent at a time is not after it", "if kept.at > after]", "if kept.at >= after]"),
    ("without messages nothing is missing", "return not top or (bool(messages)", "return (bool(messages)"),
    ("the first message of all is complete", "(messages[0].at <= time or not messages[0].previous)", "messages[0].at <= time"),
    ("a page has so many messages", "(number >= limit or taken", "(taken"),
    ("a page has so many bytes", "(number >= limit or taken > PAGE_BYTES)", "number >= limit"),
    ("a page has one message at least", "if number and (number >= limit", "if (number >= limit"),
    ("an epoch outlives its messages", "now + max(LIFE, 2 * keep.seconds)", "now + keep.seconds"),
    ("an epoch ends", "if history is not None and history.ends_at <= now:", "if False:"),
    ("another history is another epoch", "            self._count += 1\n", ""),
    ("each message has the number of the one before", "Kept(data, position, at, history.top)", "Kept(data, position, at, history.top + 1)"),
    ("all histories together are bounded", "while self.size > self._max_bytes and", "while False and"),
    ("the history that was not used goes first", "        self._histories.move_to_end(subject)\n", ""),
    ("histories without messages go first", "chain(self._bare, self._histories)", "self._histories"),
    ("a history with messages is not bare", "        self._bare.pop(subject, None)\n        self._make_room(subject)\n        return", "        self._make_room(subject)\n        return"),
    ("a change shows", "        self.changes += 1\n        if key:", "        if key:"),
    ("clearing is a change", "        self.size = 0\n        self.changes += 1\n", "        self.size = 0\n"),
    ("clearing forgets the keys", "        self._keys.clear()\n", ""),
    ("expiring looks at all in turn", "                self._sweep = iter(list(self._histories))\n", ""),
    ("expiring ends epochs", "                if history.ends_at <= now:\n                    self._drop(subject)\n", ""),
    ("what is dropped gives its bytes back", "self.size -= self._histories.pop(subject).size", "self._histories.pop(subject)"),
    ("what is trimmed gives its bytes back", "        self.size += history.size - before\n        if not", "        if not"),
    ("a history whose messages have expired is bare", "        if not history.messages:\n            self._bare[subject] = None\n", ""),
)  # fmt: skip

LEASES = of(
    "leases",
    ("a lease that has ended does not come back", "if lease is None or lease.until <= now:\n            return False", "if lease is None:\n            return False"),
    ("a lease is renewed", "        lease.until = until\n        return True", "        return True"),
    ("a term that never began is not renewed", "lease = self._leases.get((process, term))\n        if lease is None or lease.until", "lease = next((one for (name, _), one in self._leases.items() if name == process), None)\n        if lease is None or lease.until"),
    ("shortening does not make longer", "lease.until = min(lease.until, until)", "lease.until = until"),
    ("there is a bound for all", "if self.size + growth > self._max_bytes:", "if False:"),
    ("what is changed is not counted twice", "growth -= sum(_size(key, own[key]) for key in entries if key in own)", "pass"),
    ("what is around entries counts", "            growth += _bare_size(subject)\n", "            pass\n"),
    ("and is given back", "self.size -= _bare_size(subject) + sum(", "self.size -= sum("),
    ("what is left gives its bytes back", "self.size -= _size(key, own.pop(key))", "own.pop(key)"),
    ("a note goes with the last entry", "if len(own) == (NOTE in own):", "if not own:"),
    ("the dead are not listed", "            if self._leases[process, term].until > now\n", ""),
    ("the dead are not counted", " for lease in there if lease.until > now]", " for lease in there]"),
    ("a lease ends at its time, not after it", "            if self._leases[process, term].until > now\n", "            if self._leases[process, term].until >= now\n"),
    ("notes are not counted", "len(entries) - (NOTE in entries)", "len(entries)"),
    ("the living are not named", "if lease.until <= now and lease.named_until <= now:", "if lease.named_until <= now:"),
    ("each is named to one", "                lease.named_until = now + swept_within\n", ""),
    ("one that was not swept is named again", "lease.named_until = now + swept_within", "lease.named_until = math.inf"),
    ("few are named at once", "                if len(found) == MOST_NAMED:\n                    break\n", ""),
    ("the living are not swept", "if lease is not None and lease.until <= now:\n            for", "if lease is not None:\n            for"),
    ("sweeping removes everything", "for subject in list(lease.entries):", "for subject in list(lease.entries)[:1]:"),
    ("what was swept is not named again", "            del self._leases[process, term]\n", ""),
    ("what nobody sees to goes in the end", "if lease.until + after <= now]", "if False]"),
    ("it does not go before", "if lease.until + after <= now]", "if lease.until <= now]"),
)  # fmt: skip

OWN = of(
    "presence",
    ("another person is another entry", "if id_ is not None and own.entries[id_].person != entry.person:", "if False:"),
    ("what has not changed is not told", "if own.entries.get(id_) != entry:", "if True:"),
    ("whoever comes back takes the entry over", "self._take_over(group, entry.person) or _short", "_short"),
    ("only the same person takes it over", "waiting = self._waiting.get((group, person))\n        if not waiting:", "waiting = next((ids for (where, _), ids in self._waiting.items() if where == group), None)\n        if not waiting:"),
    ("what was taken over does not expire", "if own is None or entry is None or not self._stop_lingering(group, entry.person, id_):", "if own is None or entry is None:"),
    ("whoever has gone lingers", "(now + self.linger, group, id_)", "(now, group, id_)"),
    ("and then has left", "            self._remove(group, own, id_, now)\n            removed.append((group, id_))\n", "            removed.append((group, id_))\n"),
    ("whoever ends is not tracked any more", "ids = self._by_channel.pop(channel, {})\n        for", "ids = self._by_channel.get(channel, {})\n        for"),
    ("changes are gathered", "self._changed.setdefault(group, now + GATHER)\n\n    # Telling", "self._changed.setdefault(group, now)\n\n    # Telling"),
    ("they are named once", "        for group in found:\n            del self._changed[group]\n", ""),
    ("it is known when something is due", "return min(lingering, next(iter(self._changed.values()), math.inf))", "return lingering"),
    ("it is known when something expires", "return min(lingering, next(iter(self._changed.values()), math.inf))", "return next(iter(self._changed.values()), math.inf)"),
    ("the last change of an entry counts", "        own.pending.pop(id_, None)\n        own.pending[id_]", "        own.pending[id_]"),
    ("the store is told what is new", "pending[id_] > stored, reversed(pending)", "pending[id_] > stored + 1, reversed(pending)"),
    ("the store is told who has left", "left += [id_ for id_ in news if id_ not in own.entries]", "pass"),
    ("a store that knows nothing is told everything", "entries = own.entries if own.stored is None else", "entries = {} if own.stored is None else"),
    ("what could not be removed is removed later", "            self._unremoved.setdefault(group, []).extend(batch.left)\n", "            pass\n"),
    ("what could not be stored is stored again", "        if own is not None:\n            own.stored = None\n\n    def was_not_told", "\n    def was_not_told"),
    ("what could not be told is told as a whole", "        if own is not None:\n            own.told = None\n", ""),
    ("and soon", "            own.told = None\n        self._changed.setdefault(group, now + GATHER)\n", "            own.told = None\n"),
    ("a new term is told to the store", "own.stored = own.told = None", "own.told = None"),
    ("a new term is told to others", "own.stored = own.told = None", "own.stored = None"),
    ("numbers go on when a group ends", "differences=[Difference(0, next(self._numbers), {}, ())]", "differences=[Difference(0, 0, {}, ())]"),
    ("a group without entries is forgotten", "        if not own.entries:\n            del self._groups[group]\n        return replace(batch, differences=differences)", "        return replace(batch, differences=differences)"),
    ("a long list is read, not sent", "is_short = len(own.entries) <= MOST_TOLD", "is_short = True"),
    ("parts follow each other", "        since = number\n", ""),
    ("a store that may have lost something is told again", "        for own in self._groups.values():\n            own.stored = None\n", ""),
)  # fmt: skip

VIEWS = of(
    "presence",
    ("what is said in an ended term does not count", "        if self._departures.include(process, term):\n            return\n", ""),
    ("what is read of an ended term does not count", "            if self._departures.include(reading.process, reading.term):\n                continue\n", ""),
    ("an earlier term does not count", "if term < part.term or difference.number <= part.number:", "if difference.number <= part.number:"),
    ("what comes twice has no effect", "if term < part.term or difference.number <= part.number:", "if term < part.term:"),
    ("a later term takes the place of the earlier", "if part is None or part.term < term:\n            part = self._begin(process, term)\n        if", "if part is None:\n            part = self._begin(process, term)\n        if"),
    ("a gap is not jumped over", "        elif difference.since > part.number:\n            return\n", ""),
    ("a gap is noticed", "return any(part.number < part.heard for part in self._parts.values())", "return False"),
    ("a whole difference replaces everything", "            self._replace(process, part, difference.joined)\n        elif", "            pass\n        elif"),
    ("who has left has left", "        for id_ in difference.left:\n            self._set(process, part, id_, None)\n", ""),
    ("what has been applied is not missing", "        part.number = difference.number\n", ""),
    ("what was heard while reading is newer", "if (part.term, part.number) < (reading.term, reading.number):", "if True:"),
    ("whoever was heard while reading is there", "        part.is_fresh = True\n", ""),
    ("each reading begins anew", "            part.is_fresh = False\n", "            pass\n"),
    ("this process is not in the store's answer", "if not part.is_fresh and process != OWN}", "if not part.is_fresh}"),
    ("whoever is not in the store has gone", "            for process in missing:\n                self._end(process)\n", "            pass\n"),
    ("unless others may still come back", "        if is_complete:\n            for", "        if True:\n            for"),
    ("then it is read again", "return self.has_gap or (bool(missing) and not is_complete)", "return self.has_gap"),
    ("a gap that has stayed is read again", "return self.has_gap or (bool(missing) and not is_complete)", "return bool(missing) and not is_complete"),
    ("a later term does not depart with an earlier one", "if part is not None and part.term <= term:", "if part is not None:"),
    ("the last term that departed counts", "term = max(term, self._terms.pop(process, term))", "self._terms.pop(process, None)"),
    ("departures are bounded", "if len(self._terms) > MOST_DEPARTED:", "if False:"),
    ("what an earlier term had stays until it is replaced", "            part.people = earlier.people\n", "            pass\n"),
    ("the end of a process is the end of its entries", "        for id_ in list(part.people):\n            self._set(process, part, id_, None)\n", ""),
    ("a person leaves with the last entry", "            if not entries:\n                del self._people[earlier]\n", "            del self._people[earlier]\n"),
    ("another person behind an entry is news", "(entry is None or entry.person != earlier)", "entry is None"),
    ("the same data is no news", "            if where in entries and entries[where] == entry.data:\n                return\n", ""),
    ("coming and going between two looks is no news", "if not before and now:", "if not before:"),
    ("what has not changed is no news", "elif before != now:", "else:"),
    ("news is told once", "        self._before = {}\n        return News", "        return News"),
    ("what was told last is what it was before", "        if person not in self._before:\n", "        if True:\n"),
    ("the same data is shown once", "        if data not in found:\n            found", "        if True:\n            found"),
    ("few data of one person are shown", "            if len(found) == MOST_SHOWN:\n                break\n", ""),
)  # fmt: skip

ATTENDANCE = of(
    "attendance",
    ("a consumer that ends is noticed", "            self._hub.endings.add(channel, self._ended)\n", "            pass\n"),
    ("a key is checked", "if not isinstance(key, str) or not 0 < len(key) <= MOST_KEY:", "if False:"),
    ("a hidden key is hidden", "(HIDDEN if hides_key else SHOWN) + key", "SHOWN + key"),
    ("a channel without a key is hidden", 'return f"{HIDDEN}{channel}"', 'return f"{SHOWN}{channel}"'),
    ("whoever has untracked hears nothing more", "            self._stop_hearing(group, channel)\n            if id_ is None:", "            if id_ is None:"),
    ("whoever has ended hears nothing more", "                self._stop_hearing(group, channel)\n            self._expire(now)", "                pass\n            self._expire(now)"),
    ("the first who hears makes it read", "                self.reach.watch(group)\n", "                pass\n"),
    ("others are told what is due", "                self.reach.tell(due)\n", "                pass\n"),
    ("channels are told what is due", "            self.audiences.tell(now)\n", ""),
    ("what expires is seen to", "            now = self._clock()\n            self._expire(now)\n            if due := self.own.due", "            now = self._clock()\n            if due := self.own.due"),
    ("the store is told at once", "        self.arm()\n        await self.reach.store(group)\n\n    async def untrack", "        self.arm()\n\n    async def untrack"),
    ("data is a copy", "    def freeze(self, data: Any) -> Any:\n        return copied(data)", "    def freeze(self, data: Any) -> Any:\n        return data"),
    ("a forked child knows nobody", "    for attendance in list(_attendances):\n        attendance.start_anew()\n", "    pass\n"),
    ("another loop goes on where one has ended", "if self._loop is None or not self._loop.is_running():", "if self._loop is None:"),
    ("an earlier time is not missed", "if self._loop is None or at >= self._at:", "if self._loop is None or self._at < math.inf:"),
    ("what could not be told is told later", "            self.own.was_not_told(group, self._clock())\n", "            pass\n"),
)  # fmt: skip

AUDIENCES = of(
    "audiences",
    ("a channel gets the state first", "hears = DIFF in types and channel not in audience.waiting", "hears = DIFF in types"),
    ("only those who want it get a difference", "hears = DIFF in types and channel not in audience.waiting", "hears = channel not in audience.waiting"),
    ("only those who want it get the state", "if STATE in audience.hearing[channel] and not self._deliver(", "if not self._deliver("),
    ("each gets the state once", "                del audience.waiting[channel]\n", ""),
    ("a channel that was full gets the state again", "copied(event)) and STATE in types:\n                audience.waiting[channel] = None", "copied(event)) and STATE in types:\n                pass"),
    ("a channel that was full for the state gets it later", "                    audience.waiting[channel] = None\n                    is_full = True\n", "                    is_full = True\n"),
    ("events have their own data", "self._deliver(channel, copied(event))", "self._deliver(channel, event)"),
    ("the state is not told before the view was read", "if not audience.is_due and audience.is_ready and", "if not audience.is_due and"),
    ("what is in the state is no news", "            audience.view.take()  # it is in the state, which everybody has still to get\n", ""),
    ("there is a pause between two events", "audience.next_at = now if audience.waiting and not is_full else now + pause", "audience.next_at = now"),
    ("of very many only numbers are told", "if sum(map(len, lists.values())) > MOST_LISTED:", "if False:"),
    ("of very many the state has the number", "if len(view) > MOST_LISTED:", "if False:"),
    ("a key that is hidden is a word", "        if person[0] == SHOWN:\n            return person[1:]\n", "        return person[1:]\n"),
    ("one that has departed has left all groups", "            audience.view.depart(process, term)\n", ""),
    ("departures are remembered", "        self._departures.add(process, term)\n        for", "        for"),
    ("own entries are in a new view", "                audience.view.own(id_, entry)\n            audience.view.take()", "                pass\n            audience.view.take()"),
    ("an audience ends with its last channel", "        del self._audiences[group]\n        return True", "        return True"),
    ("a gap makes it read", "        return audience.view.has_gap\n", "        return False\n"),
)  # fmt: skip

ALL = [*TRACKS, *HISTORIES, *LEASES, *OWN, *VIEWS, *ATTENDANCE, *AUDIENCES]


def source_of(module: str) -> Path:
    return ROOT / PACKAGE / f"{module}.py"


def caught_by(mutation: Mutation, copy: Path) -> str | None:
    """The first test that fails with the mutation. None if all pass."""
    original = source_of(mutation.module).read_text()
    path = copy / PACKAGE / f"{mutation.module}.py"
    path.write_text(mutation.apply(original))
    try:
        for test in TESTS[mutation.module]:
            command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
            done = subprocess.run(
                [*command, "-o", "timeout=20", f"{HERE}/{test}.py"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(copy / "src")},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if done.returncode:
                found = re.search(r"^(?:FAILED|ERROR) \S+?::(\S+)", done.stdout, re.MULTILINE)
                return found[1] if found else f"exit code {done.returncode} of {test}"
    finally:
        path.write_text(original)
    return None


def shown(mutations: Sequence[Mutation], processes: int) -> int:
    """Try all of them, and print what has caught each. Returns how many were not caught."""
    missed = 0
    with tempfile.TemporaryDirectory(prefix="fairway-mutations-") as directory:
        copies = [Path(directory) / str(number) for number in range(processes)]
        for copy in copies:
            shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
        with ThreadPoolExecutor(processes) as pool:

            def look(mutation: Mutation) -> str | None:
                copy = copies.pop()
                try:
                    return caught_by(mutation, copy)
                finally:
                    copies.append(copy)

            for mutation, test in zip(mutations, pool.map(look, mutations), strict=True):
                missed += test is None
                print(f"{mutation.module:<11}{mutation.rule:<66}{test or 'NOT CAUGHT'}", flush=True)
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="those whose module or rule has this word")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    chosen = [one for one in ALL if options.only in f"{one.module} {one.rule}"]
    missed = shown(chosen, options.processes)
    print(f"{len(chosen) - missed} of {len(chosen)} were caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
