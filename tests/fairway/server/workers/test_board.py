"""The board by itself, in one process and in two."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fairway.server.workers.board import Board, make_board


@pytest.fixture
def board() -> Iterator[Board]:
    made = make_board(4)
    yield made
    made.close()


def test_who_is_alone_has_no_others(board: Board) -> None:
    board.tell(0, 1000, 10.0)
    assert board.others(0, 10.0) == (0, 0)


def test_the_others_are_counted(board: Board) -> None:
    for slot, connections in enumerate((5, 100, 20)):
        board.tell(slot, connections, 10.0)
    assert board.others(0, 10.0) == (2, 120)
    assert board.others(3, 10.0) == (3, 125)


def test_who_has_said_nothing_for_a_second_does_not_count(board: Board) -> None:
    board.tell(1, 7, 10.0)
    assert board.others(0, 10.9) == (1, 7)
    assert board.others(0, 11.0) == (0, 0)


def test_who_has_left_does_not_count(board: Board) -> None:
    board.tell(1, 7, 10.0)
    board.clear(1)
    assert board.others(0, 10.0) == (0, 0)
    assert board.told_at(1) == 0


def test_another_process_sees_what_is_told(board: Board) -> None:
    pid = os.fork()
    if not pid:
        board.tell(2, 7, 5.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.told_at(2) == 5.0
    assert board.others(0, 5.0) == (1, 7)
