"""What the readers of a layer that fails do: try again, not all at once, and say so once."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from tests.fairway.loops import LoopThread, on_each_loop

from fairway.delivery import process_statistics
from fairway.layers import outage as outage_module
from fairway.layers.outage import Outage, backoff, outage_of, receive_through

DEADLINE = 10.0


class Layer:
    """Raises `error` while there is one; then the next message, or waits."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.calls = 0
        self.messages: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    async def receive(self) -> dict[str, object]:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return await self.messages.get()


async def calls(layer: Layer, count: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while layer.calls < count:  # noqa: ASYNC110  # a layer that raises tells nobody
            await asyncio.sleep(0.001)


def test_tries_are_spread_and_become_rarer_up_to_a_bound():
    for failures, most in ((0, 0.1), (1, 0.2), (3, 0.8), (20, 30.0), (100_000, 30.0)):
        delays = [backoff(failures, 30.0) for _ in range(50)]
        assert most / 2 <= min(delays) < max(delays) <= most


async def test_a_message_ends_an_outage(caplog: pytest.LogCaptureFixture):
    layer, outage = Layer(ConnectionError("refused")), Outage("Some")
    reader = asyncio.create_task(receive_through(outage, layer.receive, ()))
    await calls(layer, 2)
    assert outage.is_on
    layer.error = None
    layer.messages.put_nowait({"type": "a"})
    async with asyncio.timeout(DEADLINE):
        assert await reader == {"type": "a"}
    assert not outage.is_on
    assert caplog.messages == [
        "The channel layer Some is failing; trying again until it works: ConnectionError: refused",
        "The channel layer Some works again",
    ]


async def test_waiting_long_enough_ends_an_outage_and_wakes_the_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(outage_module, "_SHORTEST_PATIENCE", 0.05)
    broken, patient, outage = Layer(ConnectionError("refused")), Layer(ConnectionError("refused")), Outage("Some")
    # Its next try is far away, and becomes due when the other has found the layer working.
    monkeypatch.setattr(outage_module, "_SHORTEST_DELAY", 60.0)
    monkeypatch.setattr(outage_module, "_LONGEST_DELAY", 60.0)
    late = asyncio.create_task(receive_through(outage, broken.receive, ()))
    await calls(broken, 1)
    monkeypatch.setattr(outage_module, "_SHORTEST_DELAY", 0.01)
    soon = asyncio.create_task(receive_through(outage, patient.receive, ()))
    await calls(patient, 1)
    broken.error = patient.error = None
    await calls(patient, 2)
    await calls(broken, 2)
    assert not outage.is_on
    assert len(caplog.messages) == 2
    for task, layer in ((late, broken), (soon, patient)):
        layer.messages.put_nowait({"type": "a"})
        async with asyncio.timeout(DEADLINE):
            assert await task == {"type": "a"}


@pytest.mark.slow
async def test_many_readers_are_one_line_and_try_only_so_often(caplog: pytest.LogCaptureFixture):
    layer, outage = Layer(ConnectionError("refused")), Outage("Some")
    clock = asyncio.get_running_loop().time
    began = clock()  # the first readers may try again before the last has failed
    readers = [asyncio.create_task(receive_through(outage, layer.receive, ())) for _ in range(2000)]
    await calls(layer, 2000)
    await asyncio.sleep(0.5)
    assert layer.calls < 2000 + 100 + 200 * (clock() - began)  # however long a loaded machine has slept
    assert len(caplog.messages) == 1
    layer.error = None
    layer.messages.put_nowait({"type": "a"})
    async with asyncio.timeout(DEADLINE):
        await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED)
        await calls(layer, 4000)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    assert not outage._waiting


async def test_a_layer_that_fails_again_and_again_is_not_reported_each_time(caplog: pytest.LogCaptureFixture):
    layer, outage = Layer(), Outage("Some")
    for _ in range(5):
        layer.error = ConnectionError("refused")
        reader = asyncio.create_task(receive_through(outage, layer.receive, ()))
        await calls(layer, layer.calls + 1)
        layer.error = None
        layer.messages.put_nowait({"type": "a"})
        async with asyncio.timeout(DEADLINE):
            await reader
    assert len(caplog.messages) == 2


def test_a_service_that_takes_long_to_fail_is_not_taken_for_one_that_is_back():
    outage = Outage("Some")
    assert outage._judge(5.0)  # nothing was known of it
    assert not outage._judge(5.0)
    assert not outage._judge(9.0)
    assert outage._judge(3600.0)


async def test_cancelling_a_reader_is_not_a_failure_of_the_layer(caplog: pytest.LogCaptureFixture):
    layer, outage = Layer(), Outage("Some")
    reader = asyncio.create_task(receive_through(outage, layer.receive, ()))
    await calls(layer, 1)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert not caplog.messages


async def test_a_cancellation_from_within_the_layer_is_a_failure_of_it(caplog: pytest.LogCaptureFixture):
    layer, outage = Layer(asyncio.CancelledError("its own")), Outage("Some")
    reader = asyncio.create_task(receive_through(outage, layer.receive, ()))
    await calls(layer, 2)
    layer.error = None
    layer.messages.put_nowait({"type": "a"})
    async with asyncio.timeout(DEADLINE):
        assert await reader == {"type": "a"}
    assert caplog.messages[0].endswith("CancelledError: its own")


@pytest.mark.parametrize("before", [0, 1])
async def test_some_errors_are_raised_whether_or_not_there_is_an_outage(before: int):
    layer, outage = Layer(ConnectionError("refused") if before else TypeError("wrong")), Outage("Some")
    reader = asyncio.create_task(receive_through(outage, layer.receive, (TypeError,)))
    await calls(layer, 1)
    layer.error = TypeError("wrong")
    with pytest.raises(TypeError, match=r"^wrong$"):
        await asyncio.wait_for(reader, DEADLINE)


@on_each_loop
async def test_readers_in_several_event_loops_share_an_outage(new_loop, caplog: pytest.LogCaptureFixture):
    layer, outage = Layer(ConnectionError("refused")), Outage("Some")

    async def read() -> dict[str, object]:
        return await receive_through(outage, layer.receive, ())

    with LoopThread(new_loop) as other:
        there = other.submit(read())
        here = asyncio.create_task(read())
        await calls(layer, 4)
        layer.error = None
        layer.messages.put_nowait({"type": "a"})
        there.cancel()
        async with asyncio.timeout(DEADLINE):
            assert await here == {"type": "a"}
    assert len(caplog.messages) == 2


def test_a_layer_has_one_outage_and_is_not_kept_by_it():
    layer = Layer()
    outage = outage_of(layer)
    assert outage_of(layer) is outage is not outage_of(Layer())
    gone = weakref.ref(layer)
    del layer
    gc.collect()
    assert gone() is None


def test_whether_a_layer_is_up_is_among_the_statistics_of_the_process():
    class Pigeons:
        """A layer."""

    layer, name = Pigeons(), f"channel layer {Pigeons.__qualname__}"
    outage = outage_of(layer)
    assert process_statistics().up[name]

    outage.begin(ConnectionError("refused"))
    assert not process_statistics().up[name]

    outage.end()
    assert process_statistics().up[name]


def test_a_layer_that_cannot_be_a_key_shares_with_its_class():
    class Odd:
        __slots__ = ()

    assert outage_of(Odd()) is outage_of(Odd())
