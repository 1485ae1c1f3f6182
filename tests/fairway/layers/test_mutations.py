"""The table of mutations fits the source: `python -m tests.fairway.layers.mutations` shows that each is caught."""

from __future__ import annotations

import pytest
from tests.fairway.layers.mutations import ALL, Mutation, source_of


@pytest.mark.parametrize("module", sorted({mutation.module for mutation in ALL}))
def test_every_piece_is_once_in_its_module(module: str) -> None:
    source = source_of(module).read_text()
    for mutation in ALL:
        if mutation.module == module:
            compile(mutation.apply(source), module, "exec")


def test_no_rule_is_named_twice() -> None:
    names = [f"{mutation.module}: {mutation.rule}" for mutation in ALL]
    assert len(set(names)) == len(names)


def test_a_piece_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"tracks: 0 times instead of once, mend the table: 'nothing'"):
        Mutation("tracks", "", "nothing", "").apply("something")
