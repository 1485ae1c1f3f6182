"""The tutorial's two exercises: small diffs over the printed project, applied, served and used."""

from __future__ import annotations

import difflib
import filecmp
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.examples.running import EXERCISES, FAIRWAY, RUNSERVER, TUTORIAL, command, copy_project, running
from tests.examples.test_tutorial import Site
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

pytestmark = pytest.mark.slow

ROOMS = "1-rooms.diff"
NOTIFICATIONS = "2-notifications.diff"
COMMANDS = pytest.mark.parametrize("args", [RUNSERVER, FAIRWAY], ids=["runserver", "fairway"], scope="module")


def say(socket: ClientConnection, **content: str) -> None:
    socket.send(json.dumps(content))


def heard(socket: ClientConnection) -> dict[str, str]:
    return json.loads(socket.recv(timeout=10))


# The diffs


@pytest.mark.parametrize("diff", [ROOMS, NOTIFICATIONS])
def test_a_diff_changes_at_most_forty_lines(diff: str) -> None:
    lines = (EXERCISES / diff).read_text(encoding="utf-8").splitlines()
    changed = [line for line in lines if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))]
    assert 0 < len(changed) <= 40


@pytest.mark.parametrize("diff", [ROOMS, NOTIFICATIONS])
def test_a_diff_taken_back_leaves_the_printed_files(diff: str, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project", diff)
    names = ["your_app/consumers.py", "your_app/routing.py", "your_app/templates/chat.html"]
    assert filecmp.cmpfiles(project, TUTORIAL, names, shallow=False)[1] == names
    command(["git", "apply", "-R", str(EXERCISES / diff)], project)
    assert filecmp.cmpfiles(project, TUTORIAL, names, shallow=False)[0] == names


# The changed files, which the pages show


def changed_files(exercise: str) -> dict[str, str]:
    """The files of an exercise, by their names in the project."""
    folder = EXERCISES / exercise
    files = (path for path in folder.rglob("*") if path.suffix in {".py", ".html"})
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


def added(before: str, after: str) -> list[str]:
    """The lines that `after` has beyond those of `before`, whose lines it all has, in order."""
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    assert [line for line in lines if line.startswith("- ")] == []
    return [line[2:] for line in lines if line.startswith("+ ")]


def test_the_files_of_the_first_exercise_are_what_its_diff_makes(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project", ROOMS)
    files = changed_files("1-rooms")
    assert len(files) == 4
    assert {name: (project / name).read_text(encoding="utf-8") for name in files} == files


def test_the_second_exercise_adds_to_the_first_what_its_diff_adds_to_the_printed_files(tmp_path: Path) -> None:
    alone = copy_project(tmp_path / "project", NOTIFICATIONS)
    rooms, both = changed_files("1-rooms"), changed_files("2-notifications")
    assert len(both) == 3
    for name, text in both.items():
        printed = (TUTORIAL / name).read_text(encoding="utf-8")
        by_diff = added(printed, (alone / name).read_text(encoding="utf-8"))
        assert sorted(added(rooms[name], text)) == sorted(by_diff), name


def test_rooms_and_notifications_live_side_by_side(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    for exercise in ("1-rooms", "2-notifications"):
        shutil.copytree(EXERCISES / exercise, project, dirs_exist_ok=True)
    with running(FAIRWAY, project) as server:
        site = Site("", server.port())
        with site.socket("/ws/chat/music/") as chat, site.socket("/ws/notifications/") as news:
            say(news, notification="lunch")
            assert heard(news) == {"notification": "lunch"}
            say(chat, message="marker")
            assert heard(chat) == {"message": "marker"}


@pytest.mark.parametrize("diff", [ROOMS, NOTIFICATIONS])
def test_the_projects_own_tests_still_pass(diff: str, tmp_path: Path) -> None:
    assert "Ran 2 tests" in command("python manage.py test", copy_project(tmp_path / "project", diff))


# Exercise 1: rooms


@pytest.fixture(scope="module")
def rooms(args: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(args, copy_project(tmp_path_factory.mktemp("rooms") / "project", ROOMS)) as server:
        yield Site("", server.port())


@COMMANDS
def test_a_message_reaches_its_own_room_and_no_other(rooms: Site) -> None:
    with (
        rooms.socket("/ws/chat/music/") as alice,
        rooms.socket("/ws/chat/music/") as bob,
        rooms.socket("/ws/chat/games/") as carol,
    ):
        say(alice, message="to music")
        assert heard(alice) == heard(bob) == {"message": "to music"}
        say(carol, message="marker")
        assert heard(carol) == {"message": "marker"}


@COMMANDS
def test_the_printed_address_is_the_lobby(rooms: Site) -> None:
    with rooms.socket("/ws/chat/") as old, rooms.socket("/ws/chat/lobby/") as new:
        say(old, message="still here")
        assert heard(new) == {"message": "still here"}


@COMMANDS
def test_someone_who_left_the_room_hears_no_more_and_disturbs_nobody(rooms: Site) -> None:
    with rooms.socket("/ws/chat/music/") as alice:
        with rooms.socket("/ws/chat/music/") as bob:
            say(bob, message="bye")
            assert heard(alice) == heard(bob) == {"message": "bye"}
        say(alice, message="alone")
        assert heard(alice) == {"message": "alone"}


@COMMANDS
def test_a_name_that_can_be_no_room_is_not_found(rooms: Site) -> None:
    with pytest.raises(InvalidStatus, match="404"), rooms.socket(f"/ws/chat/{'x' * 41}/"):
        pass


@COMMANDS
def test_the_page_has_a_drop_down_with_the_rooms(rooms: Site) -> None:
    page = rooms.get("/").decode()
    assert '<select id="chat-room"' in page
    assert [name for name in ("lobby", "music", "games") if f"<option>{name}</option>" in page] == [
        "lobby",
        "music",
        "games",
    ]


# Exercise 2: notifications


@pytest.fixture(scope="module")
def notifications(args: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    project = copy_project(tmp_path_factory.mktemp("notifications") / "project", NOTIFICATIONS)
    with running(args, project) as server:
        yield Site("", server.port())


@COMMANDS
def test_a_notification_arrives_at_every_client(notifications: Site) -> None:
    with (
        notifications.socket("/ws/notifications/") as alice,
        notifications.socket("/ws/notifications/") as bob,
    ):
        say(alice, notification="lunch")
        assert heard(bob) == heard(alice) == {"notification": "lunch"}


@COMMANDS
def test_the_chat_beside_it_is_as_printed_and_sees_no_notification(notifications: Site) -> None:
    with notifications.socket("/ws/chat/") as chat, notifications.socket("/ws/notifications/") as news:
        say(news, notification="not for the chat")
        assert heard(news) == {"notification": "not for the chat"}
        say(chat, message="marker")
        assert heard(chat) == {"message": "marker"}


@COMMANDS
def test_the_page_has_a_button_that_sends_one(notifications: Site) -> None:
    assert '<button id="notification-submit">' in notifications.get("/").decode()


SENDING_VIEW = """
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.http import HttpResponse


def announce(request):
    event = {"type": "notification.sent", "notification": "from a view"}
    async_to_sync(get_channel_layer().group_send)("notifications", event)
    return HttpResponse("sent")
"""


@pytest.mark.parametrize("args", [RUNSERVER, FAIRWAY], ids=["runserver", "fairway"])
def test_an_ordinary_view_reaches_the_same_group(args: list[str], tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project", NOTIFICATIONS)
    with (project / "your_app" / "views.py").open("a", encoding="utf-8") as views:
        views.write(SENDING_VIEW)
    urls = project / "your_project_name" / "urls.py"
    known = "    path('', views.chat_page),\n"
    added = f"{known}    path('announce/', views.announce),\n"
    urls.write_text(urls.read_text(encoding="utf-8").replace(known, added), encoding="utf-8")
    with running(args, project) as server:
        site = Site("", server.port())
        with site.socket("/ws/notifications/") as news:
            assert site.get("/announce/") == b"sent"
            assert heard(news) == {"notification": "from a view"}
