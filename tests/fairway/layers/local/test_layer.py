"""The local layer's settings, and who starts a broker for it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import override_settings
from tests.fairway.layers.local import example_settings
from tests.fairway.layers.local.brokers import client
from tests.services.local import broker_id, end_broker

from channels.checks import _layer_problem
from channels.layers import channel_layers, get_channel_layer
from fairway.delivery import serving
from fairway.layers.backplane import Unavailable
from fairway.layers.errors import InvalidChannelLayerError
from fairway.layers.local import LocalChannelLayer
from fairway.layers.local.__main__ import main
from fairway.layers.local.place import Misplaced, default_place, given_place
from fairway.layers.local.project import place_of_layer, project_folder
from fairway.layers.local.starting import start_process


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_message_size": 2**25}, "max_message_size is 33554432, and a message to other processes has at most"),
        ({"prefix": "x" * 2000}, "prefix has more than 1000 bytes"),
        ({"socket": "relative.sock"}, "give a path that begins with /"),
        ({"group": "users"}, "group lets other users in, who look elsewhere: give a path in socket, too"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=said):
        LocalChannelLayer(**options)  # type: ignore[arg-type]


def entry(**config: object) -> dict[str, object]:
    return {"default": {"BACKEND": "fairway.layers.local.LocalChannelLayer", "CONFIG": config}}


def test_the_settings_of_the_documentation_make_a_layer() -> None:
    with override_settings(CHANNEL_LAYERS=example_settings.CHANNEL_LAYERS):
        assert _layer_problem("default") is None
        assert isinstance(channel_layers.make_backend("default"), LocalChannelLayer)
        assert place_of_layer("default") == default_place(project_folder(), "fairway")


def test_a_misspelt_option_is_told_so() -> None:
    with override_settings(CHANNEL_LAYERS=entry(start_borker=False)):
        problem = _layer_problem("default")
    assert problem is not None
    assert problem.endswith("did you mean 'start_broker'?")


def test_the_command_finds_the_place_that_the_settings_give(tmp_path: Path) -> None:
    path = str(tmp_path / "broker.sock")
    with override_settings(CHANNEL_LAYERS=entry(socket=path)):
        assert place_of_layer("default") == given_place(path)
        with pytest.raises(Misplaced, match="there is no channel layer 'other' in CHANNEL_LAYERS"):
            place_of_layer("other")


def test_the_command_says_in_a_sentence_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--socket", "relative.sock"]) == 1
    assert capsys.readouterr().err.startswith("python -m fairway.layers.local: socket is 'relative.sock': give a path")


def test_a_second_command_leaves_the_first_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = given_place(str(tmp_path / "broker.sock"))
    start_process(place)
    try:
        assert main(["--socket", place.path]) == 0
        assert capsys.readouterr().err == f"A broker is at {place.path} already.\n"
    finally:
        end_broker(place)


@pytest.mark.asyncio
async def test_a_server_starts_a_broker_before_its_first_client(tmp_path: Path) -> None:
    place = given_place(str(tmp_path / "broker.sock"))
    with override_settings(CHANNEL_LAYERS=entry(socket=place.path)), serving():
        layer = get_channel_layer()
        assert isinstance(layer, LocalChannelLayer)
        outside = LocalChannelLayer(socket=place.path, start_broker=False)
        try:
            await outside.group_send("room", {"type": "nobody.there"})
        finally:
            await outside.close()
            await layer.close()
            await asyncio.to_thread(end_broker, place)
            channel_layers.backends.clear()


@pytest.mark.asyncio
async def test_others_do_not(tmp_path: Path) -> None:
    place = given_place(str(tmp_path / "broker.sock"))
    layer = LocalChannelLayer(socket=place.path, answer_timeout=0.2)
    with pytest.raises(Unavailable, match="no broker listens at"):
        await layer.group_send("room", {"type": "nobody.there"})
    assert not layer.is_up()
    await layer.close()
    with serving():
        may_not = LocalChannelLayer(socket=place.path, answer_timeout=0.2, start_broker=False)
        with pytest.raises(Unavailable, match="no broker listens at"):
            await may_not.group_send("room", {"type": "nobody.there"})
        await may_not.close()


@pytest.mark.asyncio
async def test_what_reached_nobody_is_counted(tmp_path: Path) -> None:
    place = given_place(str(tmp_path / "broker.sock"))
    await asyncio.to_thread(start_process, place)
    layer = LocalChannelLayer(socket=place.path)
    try:
        await layer.new_channel()
        await layer.group_send("room", {"type": "nobody.there"})
        await layer.close()
        assert layer.node.statistics.unheard == 1
    finally:
        await asyncio.to_thread(end_broker, place)


@pytest.mark.asyncio
async def test_a_stopped_broker_is_an_outage_until_it_goes_on(tmp_path: Path) -> None:
    place = given_place(str(tmp_path / "broker.sock"))
    await asyncio.to_thread(start_process, place)
    layer = LocalChannelLayer(socket=place.path, answer_timeout=0.5, confirm=True)
    try:
        await layer.group_send("room", {"type": "a"})
        number = await asyncio.to_thread(broker_id, place)
        os.kill(number, signal.SIGSTOP)
        try:
            with pytest.raises(Unavailable, match=r"has not answered within 0\.5 s"):
                await layer.group_send("room", {"type": "a"})
        finally:
            os.kill(number, signal.SIGCONT)
        await layer.group_send("room", {"type": "a"})
    finally:
        await layer.close()
        await asyncio.to_thread(end_broker, place)


FORKING = """
import asyncio, os, sys
from django.conf import settings
settings.configure()
from fairway.layers.local import LocalChannelLayer

layer = LocalChannelLayer(socket=sys.argv[1])

async def main():
    name = await layer.new_channel()
    await layer.group_add("room", name)
    child = os.fork()
    if not child:
        return None
    assert os.waitpid(child, 0)[1] == 0
    return (await layer.receive(name))["from"], layer.node.name

async def in_child():
    await layer.group_send("room", {"type": "a", "from": layer.node.name})
    await layer.close()

loop = asyncio.new_event_loop()
found = loop.run_until_complete(main())
if found is None:
    # As in the child of any framework that forks: the parent's loop is left alone.
    asyncio.events._set_running_loop(None)
    asyncio.run(in_child())
    sys.stdout.flush()
    os._exit(0)
assert found[0] != found[1], found
loop.run_until_complete(layer.close())
print("both")
"""


def test_a_forked_child_has_a_connection_of_its_own(tmp_path: Path) -> None:
    place = given_place(str(tmp_path / "broker.sock"))
    start_process(place)
    try:
        done = subprocess.run(
            [sys.executable, "-c", FORKING, place.path], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.stdout, done.returncode) == ("both\n", 0), done.stderr
    finally:
        end_broker(place)


@pytest.mark.asyncio
async def test_prefixes_share_a_socket_and_see_nothing_of_each_other(tmp_path: Path) -> None:
    place = given_place(str(tmp_path / "broker.sock"))
    await asyncio.to_thread(start_process, place)
    short, long = (LocalChannelLayer(socket=place.path, prefix=prefix) for prefix in ("a", "ag."))
    try:
        names = {layer: await layer.new_channel() for layer in (short, long)}
        for layer, name in names.items():
            await layer.group_add("room", name)
            await layer.group_send("room", {"type": "from", "prefix": layer is short})
        for layer, name in names.items():
            assert await layer.receive(name) == {"type": "from", "prefix": layer is short}
            assert layer.node.statistics.received == 1
    finally:
        for layer in (short, long):
            await layer.close()
        await asyncio.to_thread(end_broker, place)


@pytest.mark.asyncio
async def test_the_broker_may_be_seen_by_a_stranger_who_knows_the_protocol_only(tmp_path: Path) -> None:
    place = given_place(str(tmp_path / "broker.sock"))
    await asyncio.to_thread(start_process, place)
    try:
        async with client(place) as stranger:
            await stranger.says(b"\x80\x04\x95pickle.")
            assert "that is not what a process of this version says" in await stranger.refusal()
    finally:
        await asyncio.to_thread(end_broker, place)
