"""The board by itself, in one process and in two."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from fairway.server.workers.board import UNLIMITED, Board, make_board


@pytest.fixture
def board() -> Iterator[Board]:
    made = make_board(4)
    yield made
    made.close()


def test_who_is_alone_takes_all(board: Board) -> None:
    board.tell(0, 1000, 10.0)
    assert board.room(0, 1000, 10.0) == UNLIMITED


def test_who_has_more_than_the_mean_and_eight_takes_none(board: Board) -> None:
    board.tell(1, 100, 10.0)
    assert board.room(0, 100, 10.0) == 9
    assert board.room(0, 115, 10.0) == 107 + 8 - 115 + 1
    assert board.room(0, 117, 10.0) == 0


def test_of_many_a_fiftieth_matters_to_nobody(board: Board) -> None:
    board.tell(1, 100_000, 10.0)
    assert board.room(0, 100_000, 10.0) == 2001


def test_who_has_said_nothing_for_a_second_does_not_count(board: Board) -> None:
    board.tell(1, 0, 10.0)
    assert board.room(0, 100, 10.9) == 0
    assert board.room(0, 100, 11.0) == UNLIMITED


def test_who_has_left_does_not_count(board: Board) -> None:
    board.tell(1, 0, 10.0)
    board.clear(1)
    assert board.room(0, 100, 10.0) == UNLIMITED
    assert board.told_at(1) == 0


@pytest.mark.parametrize("seed", range(5))
def test_however_unevenly_they_are_woken_all_get_as_many(seed: int) -> None:
    chance = random.Random(seed)
    board = make_board(4)
    held = [0] * 4
    for _ in range(2000):
        # One is woken most of the time, as the system's order of waiting has it.
        for slot in chance.choices(range(4), [20, 4, 1, 1], k=20):
            board.tell(slot, held[slot], 1.0)
            if board.room(slot, held[slot], 1.0):
                held[slot] += 1
                break
    board.close()
    assert max(held) <= 1.05 * sum(held) / 4


def test_another_process_sees_what_is_told(board: Board) -> None:
    pid = os.fork()
    if not pid:
        board.tell(2, 7, 5.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.told_at(2) == 5.0
    assert board.room(0, 7, 5.0) == 9
