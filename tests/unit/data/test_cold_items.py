"""Data without some of its items: as if they had not been there yet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from forethought.data.cold_items import holding_out, moved, without_items
from forethought.data.histories import Histories
from forethought.data.hold_out import drawn_items
from forethought.data.interactions import Interactions
from forethought.data.splits import Split, leave_last_out, temporal
from forethought.data.vocabulary import Vocabulary
from forethought.errors import DataError


def made(n_users: int = 40, n_items: int = 12) -> Interactions:
    draw = np.random.default_rng(0)
    rows = [draw.permutation(n_items)[: 3 + user % 6] for user in range(n_users)]
    histories = Histories.from_lists(rows)
    times = np.concatenate([np.sort(draw.integers(0, 10_000, len(row))) for row in rows])
    ids = pl.Series("item_id", [f"i{row:02d}" for row in range(n_items)])
    table = pl.DataFrame({"item_id": ids, "brand": [f"b{row % 3}" for row in range(n_items)]})
    users = Vocabulary(pl.Series("user_id", [f"u{user}" for user in range(n_users)]), "string")
    return Interactions(replace(histories, times=times), users, Vocabulary(ids, "string"), table, name="toy")


SPLITS = {
    "last": lambda: leave_last_out(made()),
    "shuffled": lambda: leave_last_out(made(), ties="shuffle", seed=1),
    "temporal": lambda: temporal(made(), valid_from=0.7, test_from=0.85),
}


@pytest.mark.parametrize("name", SPLITS)
def test_what_is_left_in_loops(name: str) -> None:
    split = SPLITS[name]()
    gone_N = drawn_items(12, 0.25, seed=3)
    assert gone_N.sum() == 3
    left, ids = without_items(split, gone_N), split.data.items.ids.to_list()
    kept = [item for row, item in enumerate(ids) if not gone_N[row]]
    assert left.data.items.ids.to_list() == left.data.item_table["item_id"].to_list() == kept
    assert left.data.n_users == split.data.n_users

    def names(of: Split, items: np.ndarray) -> list[str]:
        every = of.data.items.ids.to_list()
        return [every[item] for item in items]

    def fewer(items: np.ndarray) -> list[str]:
        return [item for item in names(split, items) if item in kept]

    for mine, theirs in ((left.train, split.train), (left.data.histories.all(), split.data.histories.all())):
        assert [names(left, mine[row]) for row in range(len(mine))] == [
            fewer(theirs[row]) for row in range(len(theirs))
        ]
    for part in ("valid", "test"):
        mine, theirs = getattr(left, part), getattr(split, part)
        wanted = [
            (user, fewer(theirs.history[row]), ids[target])
            for row, (user, target) in enumerate(zip(theirs.history.users, theirs.targets, strict=True))
            if ids[target] in kept and fewer(theirs.history[row])
        ]
        got = zip(mine.history.users, range(len(mine)), mine.targets, strict=True)
        assert [(user, names(left, mine.history[row]), kept[target]) for user, row, target in got] == wanted
    assert left.data.data_hash != split.data.data_hash


def test_times_go_with_their_items() -> None:
    split, gone_N = leave_last_out(made()), drawn_items(12, 0.25, seed=3)
    whole, left = split.data.histories, without_items(split, gone_N).data.histories
    assert whole.times is not None
    assert left.times is not None
    assert left.times.tolist() == [t for t, item in zip(whole.times, whole.items, strict=True) if not gone_N[item]]


def test_cases_under_other_rows() -> None:
    cases = leave_last_out(made()).test
    row_of_N = np.random.default_rng(1).permutation(12)
    other = moved(cases, row_of_N)
    for row in range(len(cases)):
        assert other.history[row].tolist() == [row_of_N[item] for item in cases.history[row]]
        assert other.targets[row] == row_of_N[cases.targets[row]]
    assert other.clean is None
    again = moved(replace(cases, clean=cases.history), row_of_N)
    assert again.clean is not None
    assert again.clean[0].tolist() == other.history[0].tolist()


def test_something_must_be_left() -> None:
    gone_N = np.ones(12, bool)
    gone_N[:1] = False
    with pytest.raises(DataError, match="Without 11 of 12 items a part of the split is empty: leave fewer out"):
        without_items(leave_last_out(made()), gone_N)


def test_holding_out_afterwards_is_holding_out_at_once() -> None:
    at_once, after = leave_last_out(made(), hold_out_items=0.25, hold_out_seed=3), leave_last_out(made())
    held = holding_out(after, 0.25, 3)
    assert [row.tolist() for row in held.train] == [row.tolist() for row in at_once.train]
    assert sum(len(row) for row in held.train) < sum(len(row) for row in after.train)
    assert held.test.targets.tolist() == after.test.targets.tolist()
    for name in ("hold_out_items", "hold_out_seed"):
        assert held.protocol[name] == at_once.protocol[name]
    assert held.config == at_once.config
