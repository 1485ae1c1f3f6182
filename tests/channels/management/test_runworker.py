"""`manage.py runworker`: a real process that handles messages, outlives errors, stops and reloads; and mistakes."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import autoreload
from tests.channels.management.project import ASGI_APPLICATION, PATIENCE, Process, Project
from tests.channels.management.worker_site import patient
from tests.channels.management.worker_site.consumers import ThumbnailConsumer
from tests.channels.management.worker_site.gallery import GalleryConsumer
from tests.channels.management.worker_site.layers import DirectoryChannelLayer

from channels.consumer import AsyncConsumer
from channels.layers import InMemoryChannelLayer, channel_layers
from channels.management.commands.runworker import Command
from channels.routing import ChannelNameRouter
from channels.testing import WebsocketCommunicator
from channels.worker import Worker

SITE = Path(__file__).parent / "worker_site"


class Site:
    """A project with a worker's application, and the other end of its channel layer, whose alias is `other`."""

    def __init__(self, directory: Path, debug: bool) -> None:
        self.layer = DirectoryChannelLayer(str(directory / "messages"))
        backend = {"BACKEND": "runsite.layers.DirectoryChannelLayer", "CONFIG": {"directory": "messages"}}
        extra = f"{ASGI_APPLICATION}; DEBUG = {debug}; CHANNEL_LAYERS = {{'other': {backend!r}}}"
        self.project = Project(directory, ["channels"], extra)
        for path in SITE.glob("*.py"):
            self.project.write(f"runsite/{path.name}", path.read_text())
        self.processes: list[Process] = []

    def runworker(self, *arguments: str) -> Process:
        self.processes.append(self.project.start("runworker", "--layer", "other", *arguments))
        return self.processes[-1]

    def ask(self, *images: str) -> None:
        for image in images:
            message = {"type": "thumbnail.make", "image": image, "reply_to": "results"}
            asyncio.run(self.layer.send("thumbnails", message))

    def result(self) -> str:
        message = asyncio.run(asyncio.wait_for(self.layer.receive("results"), PATIENCE))
        return str(message["url"])

    def edit(self, name: str, text: str, times: list[float]) -> None:
        """Change a file, with a time that no earlier look at it has seen."""
        path = self.project.directory / "runsite" / name
        path.write_text(text)
        times[0] += 10
        os.utime(path, (times[0], times[0]))


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    site = Site(tmp_path, debug=request.param)
    yield site
    for process in site.processes:
        process.close()


@pytest.mark.slow
@pytest.mark.parametrize("site", [False], indirect=True)
def test_messages_are_handled_in_spite_of_an_error_and_sigterm_waits_for_the_handler(site: Site, tmp_path: Path):
    site.ask("a.jpg", "broken.jpg", "b.jpg")
    worker = site.runworker("thumbnails")
    worker.read_until(r"INFO Worker listens to thumbnails$")
    assert [site.result(), site.result()] == ["/thumbs/200/a.jpg", "/thumbs/200/b.jpg"]
    worker.read_until(r"ERROR A handler of channel thumbnails failed$")
    worker.read_until(r"^ValueError: broken\.jpg is not an image$")

    site.ask("huge.jpg", "c.jpg")
    worker.read_until("^drawing$")
    assert len(site.layer.waiting("thumbnails")) == 1
    worker.popen.terminate()
    worker.read_until("INFO Stopping; once more to cancel the handlers that still run$")
    (tmp_path / "drawn").touch()

    assert worker.wait() == 0
    assert site.result() == "/thumbs/200/huge.jpg"
    assert len(site.layer.waiting("thumbnails")) == 1
    assert sum("Traceback" in line for line in worker.lines) == 1


@pytest.mark.slow
@pytest.mark.parametrize("site", [True], indirect=True)
def test_a_change_of_the_code_starts_it_again_also_after_a_mistake(site: Site):
    images = (SITE / "images.py").read_text()
    times = [(site.project.directory / "runsite" / "images.py").stat().st_mtime]
    worker = site.runworker("thumbnails", "--reload")
    site.ask("a.jpg")
    assert site.result() == "/thumbs/200/a.jpg"

    read_after_edits(site, worker, times, "return (", "SyntaxError")
    site.ask("b.jpg")
    read_after_edits(site, worker, times, images.replace("/thumbs/", "/small/"), "Worker listens to thumbnails")
    assert site.result() == "/small/200/b.jpg"

    assert worker.interrupt() == 0


def read_after_edits(site: Site, worker: Process, times: list[float], text: str, pattern: str) -> None:
    """Edit until the reloader has seen it: what had changed by its first look is not news to it."""
    for _ in range(20):
        site.edit("images.py", text, times)
        try:
            worker.read_until(pattern, patience=0.7)
        except TimeoutError:
            continue
        return
    pytest.fail("the worker was not reloaded")


@pytest.mark.slow
@pytest.mark.parametrize("site", [True], indirect=True)
def test_a_channel_that_the_application_does_not_know_is_one_sentence_and_exit_code_1(site: Site):
    done = site.project.manage("runworker", "--layer", "other", "misspelt")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "CommandError: ValueError: No application configured for channel name 'misspelt' (--traceback shows where)"
    )
    assert "Traceback" not in done.stderr


# In this process ----------------------------------------------------------------------------------------------


class Noting(Worker):
    """Notes how it was made, and what a consumer would get, instead of running."""

    made: list[dict[str, Any]]

    def __init__(self, application: Any, channels: list[str], channel_layer: Any) -> None:
        super().__init__(application, channels, channel_layer)
        self.made.append(self.__dict__)

    def run(self) -> None:
        self.made[-1]["alias"] = AsyncConsumer.channel_layer_alias
        self.made[-1]["grace"] = self.shutdown_timeout


@pytest.fixture
def command(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Command:
    settings.ASGI_APPLICATION = f"{__name__}.application"
    memory = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    settings.CHANNEL_LAYERS = {"default": memory, "other": memory}
    Noting.made = []
    monkeypatch.setattr(Command, "worker_class", Noting)
    return Command(stderr=io.StringIO())


async def application(scope: Any, receive: Any, send: Any) -> None:
    await receive()


def test_the_worker_is_made_of_the_arguments_and_settings(command: Command):
    call_command(command, "a", "b", verbosity=2)

    (made,) = Noting.made
    assert made["application"] is application
    assert made["channels"] == ["a", "b"]
    assert made["channel_layer"] is command.channel_layer is channel_layers["default"]
    assert made["alias"] == "default"
    assert "concurrency" not in made
    assert made["grace"] == 10.0
    assert command.verbosity == 2
    assert command.leave_locale_alone is True


def test_layer_and_concurrency(command: Command):
    call_command(command, "a", "--layer", "other", "--concurrency", "4")

    (made,) = Noting.made
    assert made["channel_layer"] is channel_layers["other"]
    assert made["alias"] == "other"
    assert made["concurrency"] == 4
    assert AsyncConsumer.channel_layer_alias == "default"


def test_a_layer_that_is_not_configured_is_refused(command: Command):
    with pytest.raises(CommandError, match=r"^There is no channel layer 'absent': configure it in CHANNEL_LAYERS\.$"):
        call_command(command, "a", "--layer", "absent")


def test_without_an_application_nothing_is_run(command: Command, settings: Any):
    settings.ASGI_APPLICATION = None

    with pytest.raises(CommandError, match=r"^You have not set ASGI_APPLICATION to the dotted path of an application$"):
        call_command(command, "a")


def test_the_in_memory_layer_is_warned_about(command: Command):
    call_command(command, "a")

    assert "The in-memory layer does not reach other processes" in command.stderr._out.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_a_concurrency_that_is_no_number_of_handlers_is_refused(command: Command, number: str):
    with pytest.raises(CommandError, match=f"argument --concurrency: must be a number of at least 1, not '{number}'"):
        call_command(command, "a", f"--concurrency={number}")


def test_a_channel_name_that_is_not_valid_is_one_sentence(command: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Command, "worker_class", Worker)

    with pytest.raises(CommandError, match=r"^TypeError: Channel name is not valid: .+ \(--traceback shows where\)$"):
        call_command(command, "no spaces")


def test_with_the_reloader_a_mistake_is_one_sentence_and_waits_for_its_correction(
    command: Command, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Command, "worker_class", Worker)
    monkeypatch.setattr(autoreload, "run_with_reloader", lambda function, *args: function(*args))

    call_command(command, "no spaces", "--reload")

    first, second = command.stderr._out.getvalue().splitlines()[-2:]  # type: ignore[attr-defined]
    assert first.startswith("TypeError: Channel name is not valid: ")
    assert second == "Waiting for a change of the code."
    assert command.worker is not None
    assert command.worker.shutdown_timeout == 2.0


def test_with_the_reloader_the_import_error_of_the_application_is_not_hidden(
    command: Command, settings: Any, monkeypatch: pytest.MonkeyPatch
):
    settings.ASGI_APPLICATION = "tests.absent.application"
    monkeypatch.setattr(autoreload, "run_with_reloader", lambda function, *args: function(*args))

    with pytest.raises(ImportError, match=r"^No module named 'tests\.absent'$"):
        call_command(command, "a", "--reload")


def test_lines_go_to_stderr_once_where_django_prints_none(
    command: Command, settings: Any, capfd: pytest.CaptureFixture[str]
):
    settings.DEBUG = False
    call_command(command, "a")
    call_command(command, "a")

    assert capfd.readouterr().err.count("Worker listens to a") == 2


# The examples of docs/howto/run-workers.md ----------------------------------------------------------------------


async def test_a_client_asks_a_worker_and_gets_its_answer():
    layer = InMemoryChannelLayer()
    channel_layers.set("default", layer)
    worker = Worker(ChannelNameRouter({"thumbnails": ThumbnailConsumer.as_asgi()}), ["thumbnails"], layer)
    working = asyncio.create_task(worker.arun())
    client = WebsocketCommunicator(GalleryConsumer.as_asgi(), "/")
    try:
        await client.connect()
        await client.send_json_to({"image": "a.jpg"})
        assert await client.receive_json_from(PATIENCE) == {"url": "/thumbs/200/a.jpg"}
        await client.disconnect()
    finally:
        worker.stop()
        await asyncio.wait_for(working, PATIENCE)
        channel_layers.backends.clear()


async def test_a_subclass_of_worker_reports_errors():
    layer = InMemoryChannelLayer()
    worker = patient.PatientWorker(ThumbnailConsumer.as_asgi(), ["thumbnails"], layer)
    working = asyncio.create_task(worker.arun())
    await layer.send("thumbnails", {"type": "thumbnail.make", "image": "broken.jpg"})
    async with asyncio.timeout(PATIENCE):
        while not patient.reports:  # noqa: ASYNC110  # the example only appends to a list
            await asyncio.sleep(0.01)
    worker.stop()
    await asyncio.wait_for(working, PATIENCE)

    assert patient.reports == [("thumbnails", "broken.jpg is not an image")]
    assert patient.Command.worker_class is patient.PatientWorker
