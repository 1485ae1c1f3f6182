"""Tracks: the rules one by one, and a model with a network that loses, doubles and reorders what a service sends."""

from __future__ import annotations

import random

from tests.seeds import seeded

from fairway.layers.backplane import Keep, Kept, Page, Position
from fairway.layers.histories import Histories
from fairway.layers.tracks import OVERHEAD, RING_OVERHEAD, Gap, Missed, Step, Tracks

S = "g.room"


def at(offset: int, epoch: str = "e") -> Position:
    return Position(epoch, offset)


def message(offset: int, epoch: str = "e") -> Kept[bytes]:
    return Kept(f"{epoch}{offset}".encode(), at(offset, epoch), 1000.0 + offset, offset - 1)


def page(*offsets: int, top: int, epoch: str = "e", is_complete: bool = True, began: int = 0) -> Page[bytes]:
    return Page([message(offset, epoch) for offset in offsets], at(top, epoch), is_complete, began)


def tracks_at(offset: int, **options: int) -> Tracks:
    tracks = Tracks(**options)
    assert tracks.open(S)
    tracks.begin(S, at(offset))
    return tracks


def arrive(tracks: Tracks, *offsets: int, epoch: str = "e", most: int = 100) -> list[Step]:
    """Let messages arrive, and deliver those that are next."""
    steps = []
    for offset in offsets:
        kept = message(offset, epoch)
        steps.append(tracks.arrived(S, kept.position, kept.previous))
        if steps[-1] is Step.DELIVER:
            tracks.delivered(S, kept, most)
    return steps


def deliver(tracks: Tracks, messages: list[Kept[bytes]]) -> list[str]:
    for kept in messages:
        tracks.delivered(S, kept, 100)
    return [kept.data.decode() for kept in messages]


def test_what_follows_is_delivered_and_a_double_is_dropped() -> None:
    tracks = tracks_at(4)

    assert arrive(tracks, 5, 5, 4, 1, 6) == [Step.DELIVER, Step.DROP, Step.DROP, Step.DROP, Step.DELIVER]
    assert tracks.position(S) == at(6)


def test_the_first_message_begins_a_new_track() -> None:
    tracks = Tracks()
    tracks.open(S)
    assert not tracks.is_level(S)
    assert arrive(tracks, 7) == [Step.DELIVER]
    tracks.begin(S, at(9))  # the answer to an earlier question

    assert tracks.is_level(S)
    assert tracks.position(S) == at(7)
    assert data_of(tracks.missed(S, at(6))) == (["e7"], True)
    tracks.fill(S, [message(6), message(7)], at(7))
    assert data_of(tracks.missed(S, at(5))) == (["e6", "e7"], True)


def test_a_message_that_cannot_be_read_is_passed_by() -> None:
    tracks = tracks_at(4)
    assert tracks.arrived(S, at(5), 4) is Step.DELIVER
    tracks.skipped(S, at(5))

    assert tracks.position(S) == at(5)
    assert arrive(tracks, 5, 6) == [Step.DROP, Step.DELIVER]


def test_after_a_hole_everything_waits_for_the_service() -> None:
    tracks = tracks_at(4)
    assert arrive(tracks, 6, 7) == [Step.READ, Step.READ]
    assert tracks.position(S) == at(4)
    progress = tracks.page(S, page(5, 6, top=6))

    assert deliver(tracks, list(progress.messages)) == ["e5", "e6"]
    assert (progress.gap, progress.is_level) == (None, False)  # 7 has been seen
    progress = tracks.page(S, page(7, top=7))
    assert deliver(tracks, list(progress.messages)) == ["e7"]
    assert progress.is_level
    assert arrive(tracks, 7, 8) == [Step.DROP, Step.DELIVER]


def test_what_arrives_while_a_page_is_delivered_is_read_afterwards() -> None:
    tracks = tracks_at(4)
    arrive(tracks, 6)
    progress = tracks.page(S, page(5, 6, top=6))
    assert progress.is_level
    assert arrive(tracks, 7) == [Step.READ]
    deliver(tracks, list(progress.messages))

    assert not tracks.is_level(S)
    assert deliver(tracks, list(tracks.page(S, page(7, top=7)).messages)) == ["e7"]
    assert tracks.is_level(S)


def test_pages_follow_each_other() -> None:
    tracks = tracks_at(0)
    arrive(tracks, 4)
    for offset in (1, 2, 3):
        progress = tracks.page(S, page(offset, top=4))
        assert (deliver(tracks, list(progress.messages)), progress.is_level) == ([f"e{offset}"], False)
    progress = tracks.page(S, page(4, top=4))
    assert (deliver(tracks, list(progress.messages)), progress.is_level) == (["e4"], True)


def test_what_was_trimmed_is_a_gap_before_the_rest() -> None:
    tracks = tracks_at(4)
    arrive(tracks, 9)
    progress = tracks.page(S, page(8, 9, top=9, is_complete=False))

    assert progress.gap == Gap("trimmed", at(4), at(7))
    assert deliver(tracks, list(progress.messages)) == ["e8", "e9"]
    assert tracks.is_level(S)


def test_when_all_was_trimmed_the_gap_ends_at_the_top() -> None:
    tracks = tracks_at(4)
    assert tracks.compare(S, at(9))
    progress = tracks.page(S, page(top=9, is_complete=False))

    assert progress == (type(progress))(Gap("trimmed", at(4), at(9)), [], True)
    assert arrive(tracks, 10) == [Step.DELIVER]


def test_another_epoch_is_a_gap_and_what_it_took_over_is_not_repeated() -> None:
    tracks = tracks_at(105)
    assert arrive(tracks, 102, epoch="f") == [Step.READ]
    progress = tracks.page(S, page(99, 100, 101, 102, top=102, epoch="f", is_complete=False, began=100))

    assert progress.gap == Gap("epoch", at(105), at(100, "f"))
    assert deliver(tracks, list(progress.messages)) == ["f101", "f102"]
    assert arrive(tracks, 103, epoch="f") == [Step.DELIVER]


def test_a_service_that_went_back_in_its_epoch_is_a_gap() -> None:
    tracks = tracks_at(9)
    arrive(tracks, 11)
    progress = tracks.page(S, page(1, 2, 3, top=3, is_complete=False))

    assert progress.gap == Gap("epoch", at(9), at(3))
    assert list(progress.messages) == []
    assert arrive(tracks, 4) == [Step.DELIVER]


def test_a_message_that_the_service_has_lost_again_is_not_waited_for() -> None:
    tracks = tracks_at(4)
    arrive(tracks, 9)
    assert tracks.page(S, page(top=4)).is_level
    assert tracks.is_level(S)
    assert arrive(tracks, 5) == [Step.DELIVER]


def test_comparing_notices_what_no_message_shows() -> None:
    tracks = tracks_at(4)
    assert not tracks.compare(S, at(4))
    assert not tracks.compare(S, at(3))  # an answer that is older than a message
    assert tracks.compare(S, at(5))
    assert deliver(tracks, list(tracks.page(S, page(5, top=5)).messages)) == ["e5"]
    assert tracks.compare(S, at(0, "f"))


def test_one_that_was_closed_is_nowhere() -> None:
    tracks = tracks_at(4)
    arrive(tracks, 5)
    tracks.close(S)
    tracks.close(S)

    assert (len(tracks), tracks.size, tracks.position(S), tracks.missed(S, None)) == (0, 0, None, None)
    assert not tracks.compare(S, at(9))
    assert arrive(tracks, 9) == [Step.DELIVER]  # nobody follows it: hand it on
    assert list(tracks.page(S, page(10, top=10)).messages) == []


def test_giving_up_begins_anew() -> None:
    tracks = tracks_at(4)
    arrive(tracks, 9)
    tracks.give_up(S)

    assert arrive(tracks, 10) == [Step.DELIVER]


# Rings --------------------------------------------------------------------------------------------------------


def data_of(missed: Missed | None) -> tuple[list[str], bool] | None:
    return None if missed is None else ([kept.data.decode() for kept in missed.messages], missed.is_complete)


def test_a_member_that_comes_back_is_served_from_the_ring() -> None:
    tracks = tracks_at(4)
    arrive(tracks, 5, 6, 7)

    assert data_of(tracks.missed(S, at(4))) == (["e5", "e6", "e7"], True)
    assert data_of(tracks.missed(S, at(6))) == (["e7"], True)
    assert data_of(tracks.missed(S, at(7))) == ([], True)
    assert tracks.missed(S, at(3)) is None
    assert tracks.missed(S, at(6, "f")) is None
    assert tracks.missed(S, at(8)) is None
    assert tracks.missed(S, None) is None


def test_a_ring_is_filled_once_with_what_is_older() -> None:
    tracks = tracks_at(4)
    arrive(tracks, 5, 6)
    tracks.fill(S, [message(offset) for offset in (2, 3, 4, 5, 6)], at(6))

    assert tracks.is_filled(S)
    assert data_of(tracks.missed(S, at(1))) == (["e2", "e3", "e4", "e5", "e6"], True)
    assert data_of(tracks.missed(S, None)) == (["e2", "e3", "e4", "e5", "e6"], True)
    assert data_of(tracks.missed(S, at(0))) == (["e2", "e3", "e4", "e5", "e6"], False)
    assert data_of(tracks.missed(S, at(5, "f"))) == (["e2", "e3", "e4", "e5", "e6"], False)


def test_a_ring_answers_from_a_time() -> None:
    tracks = tracks_at(4)
    arrive(tracks, 5, 6)
    assert tracks.missed(S, 1003.5) is None
    assert data_of(tracks.missed(S, 1005.0)) == (["e6"], True)
    tracks.fill(S, [message(3), message(4)], at(6))

    assert data_of(tracks.missed(S, 1003.5)) == (["e4", "e5", "e6"], True)
    assert data_of(tracks.missed(S, 1002.5)) == (["e3", "e4", "e5", "e6"], False)


def test_a_ring_is_not_filled_with_another_epoch_which_is_read_instead() -> None:
    tracks = tracks_at(10)
    arrive(tracks, 11, 12)
    tracks.fill(S, [message(1, "f")], at(1, "f"))

    assert not tracks.is_level(S)
    assert not tracks.is_filled(S)
    assert tracks.missed(S, at(7)) is None
    assert data_of(tracks.missed(S, at(11))) == (["e12"], True)
    assert tracks.page(S, page(1, top=1, epoch="f", is_complete=False)).gap == Gap("epoch", at(12), at(0, "f"))


def test_the_ring_of_a_history_without_messages_is_whole() -> None:
    tracks = tracks_at(0)
    assert data_of(tracks.missed(S, None)) == ([], True)
    arrive(tracks, 1)

    assert data_of(tracks.missed(S, None)) == (["e1"], True)
    assert data_of(tracks.missed(S, 1000.5)) == (["e1"], True)


def test_a_ring_is_bounded_in_messages_and_stays_whole() -> None:
    tracks = tracks_at(0)
    arrive(tracks, *range(1, 10), most=3)

    assert data_of(tracks.missed(S, None)) == (["e7", "e8", "e9"], True)
    assert data_of(tracks.missed(S, at(5))) == (["e7", "e8", "e9"], False)


def test_a_ring_is_bounded_in_bytes_and_does_not_pretend() -> None:
    tracks = tracks_at(0, ring_bytes=RING_OVERHEAD + 3 * (OVERHEAD + 2))
    arrive(tracks, *range(1, 10))

    assert tracks.size == RING_OVERHEAD + 3 * (OVERHEAD + 2)
    assert tracks.missed(S, None) is None
    assert data_of(tracks.missed(S, at(6))) == (["e7", "e8", "e9"], True)
    tracks.fill(S, [message(offset) for offset in range(1, 10)], at(9))
    assert tracks.missed(S, at(5)) is None
    assert tracks.is_filled(S)


def test_all_rings_are_bounded_and_the_least_used_goes_first() -> None:
    tracks = Tracks(max_bytes=3 * (RING_OVERHEAD + OVERHEAD + 2))
    for name in ("a", "b", "c"):
        tracks.open(name)
        tracks.begin(name, at(0))
        tracks.delivered(name, message(1), 9)
    tracks.missed("a", at(0))
    tracks.open("d")
    tracks.begin("d", at(0))
    tracks.delivered("d", message(1), 9)

    assert tracks.size == 3 * (RING_OVERHEAD + OVERHEAD + 2)
    assert tracks.missed("b", at(0)) is None
    assert data_of(tracks.missed("a", at(0))) == (["e1"], True)
    assert tracks.position("b") == at(1)


def test_a_ring_says_nothing_about_another_epoch() -> None:
    tracks = tracks_at(0)
    arrive(tracks, 1, 2)
    tracks.compare(S, at(1, "f"))
    progress = tracks.page(S, page(1, top=1, epoch="f", is_complete=False))
    assert tracks.size == 0
    deliver(tracks, list(progress.messages))

    assert data_of(tracks.missed(S, at(0, "f"))) == (["f1"], True)
    assert tracks.missed(S, at(1)) is None or data_of(tracks.missed(S, at(1))) == (["f1"], False)


# The model ----------------------------------------------------------------------------------------------------

KEEP = Keep(6, 1000)


class World:
    """A service with one history, a network that it sends over, a process, and members that come back.

    The process reads whenever it has to, but other things happen between its reads.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.service: Histories[bytes] = Histories("e")
        self.tracks = Tracks(ring_bytes=self.chance.choice([10**6, 2000]))
        self.tracks.open(S)
        self.tracks.begin(S, self.service.top(S, 0))
        self.network: list[Kept[bytes]] = []
        self.sent: list[Kept[bytes]] = []
        self.delivered: list[Kept[bytes] | Gap] = []
        self.members: list[tuple[int, list[Kept[bytes]]]] = []  # where in `delivered` it joined, and what it got then

    def send(self) -> None:
        _, kept = self.service.append(S, str(len(self.sent)).encode(), 1, KEEP, 0, float(len(self.sent)))
        assert kept is not None
        self.sent.append(kept)
        for _ in range(self.chance.choice([0, 1, 1, 1, 2])):
            self.network.insert(self.chance.randint(max(0, len(self.network) - 3), len(self.network)), kept)

    def receive(self) -> None:
        if self.network:
            kept = self.network.pop(0)
            if self.tracks.arrived(S, kept.position, kept.previous) is Step.DELIVER:
                self.deliver(kept)

    def deliver(self, kept: Kept[bytes]) -> None:
        self.tracks.delivered(S, kept, KEEP.size)
        self.delivered.append(kept)

    def read(self) -> None:
        position = self.tracks.position(S)
        assert position is not None
        progress = self.tracks.page(S, self.service.read(S, position, self.chance.randint(1, 4), 0))
        if progress.gap is not None:
            self.delivered.append(progress.gap)
        for kept in progress.messages:
            if self.chance.random() < 0.3:
                self.receive()  # in the middle of a page
            self.deliver(kept)

    def compare(self) -> None:
        self.tracks.compare(S, self.service.top(S, 0))

    def flush(self) -> None:
        self.service.clear()

    def join(self) -> None:
        if not self.tracks.is_level(S):
            return
        own = self.tracks.position(S)
        known = [one.position for one in self.delivered if isinstance(one, Kept)] or [own]
        since = self.chance.choice([*known[-9:], None])
        missed = self.tracks.missed(S, since)
        if missed is None:
            page = self.service.read(S, None, 1000, 0)
            self.tracks.fill(S, page.messages, page.top)
            missed = self.tracks.missed(S, since) if self.tracks.is_level(S) else None
        if missed is None or since is None:
            return
        expected = [
            one for one in self.sent if one.position.epoch == since.epoch and one.position.offset > since.offset
        ]
        upto = [one for one in expected if own is not None and one.position.offset <= own.offset]
        if missed.is_complete:
            assert list(missed.messages) == upto, "recovered, so all of it and nothing else"
        else:
            assert own is not None
            assert since.epoch != own.epoch or len(missed.messages) < len(upto), "or else it is said"

    def settle(self) -> None:
        while self.network:
            self.receive()
        self.compare()
        for _ in range(1000):
            if self.tracks.is_level(S):
                break
            self.read()
        assert self.tracks.position(S) == self.service.top(S, 0)


@seeded(150)
def test_each_message_comes_once_and_in_order_or_its_gap_is_told(seed: int) -> None:
    world = World(seed)
    for _ in range(120):
        if not world.tracks.is_level(S) and world.chance.random() < 0.5:
            world.read()
        step = world.chance.choices(
            [world.send, world.receive, world.join, world.compare, world.flush], [8, 8, 3, 1, 0.1]
        )[0]
        step()
    world.settle()
    check(world)


def check(world: World) -> None:
    sent = {one.position: index for index, one in enumerate(world.sent)}
    seen = [one.position for one in world.delivered if isinstance(one, Kept)]
    assert [sent[position] for position in seen] == sorted({sent[position] for position in seen}), "once, in order"
    missing = sent.keys() - set(seen)
    last = Position("", 0)  # what was delivered last
    for one in world.delivered:
        if isinstance(one, Kept):
            last = one.position
            continue
        assert one.begin == last or not last.epoch
        if one.reason == "trimmed":
            lost = {
                place
                for place in sent
                if place.epoch == one.begin.epoch and one.begin.offset < place.offset <= one.end.offset
            }
            assert lost <= missing
            assert lost, "a gap is only told if something is missing"
        else:
            lost = {
                place
                for place in sent
                if (place.epoch == one.begin.epoch and place.offset > one.begin.offset)
                or (place.epoch == one.end.epoch and place.offset <= one.end.offset)
                or number_of(one.begin) < number_of(place) < number_of(one.end)
            }
        missing -= lost
        last = one.end
    assert not missing, "whatever is missing is in a gap"


def number_of(place: Position) -> int:
    """Epochs are numbered."""
    return int(place.epoch[1:], 16)
