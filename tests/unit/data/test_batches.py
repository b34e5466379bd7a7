"""Windows, plans and padded tensors, against loops that do the same item by item."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forethought.data import batches
from forethought.data.batches import (
    case_batches,
    history_batch,
    lists_batch,
    plan,
    replace_randomly,
    training_batch,
    windows,
)
from forethought.data.histories import Cases, Histories, Spans
from forethought.data.splits import Split

lengths = st.lists(st.integers(0, 23), min_size=1, max_size=12)


def histories(lengths: list[int], *, times: bool = True) -> Histories:
    """User u meets the items 100 u, 100 u + 1, ..., ten seconds apart: every item tells where it stood."""
    made = Histories.from_lists([np.arange(n) + 100 * u for u, n in enumerate(lengths)])
    return Histories(made.items, made.offsets, made.items.astype(np.int64) * 10 if times else None)


# ---- windows


@given(lengths, st.integers(1, 7))
def test_each_transition_is_supervised_exactly_once(lengths: list[int], window: int) -> None:
    train = histories(lengths).all()
    rows = windows(train, window)
    seen = Counter((int(a), int(b)) for r in range(len(rows)) for a, b in zip(rows[r], rows[r][1:], strict=False))
    wanted = Counter((100 * u + i, 100 * u + i + 1) for u, n in enumerate(lengths) for i in range(n - 1))
    assert seen == wanted
    assert (rows.lengths - 1 <= window).all()
    assert (rows.lengths >= 2).all()
    assert all((rows[r] // 100 == rows.users[r]).all() for r in range(len(rows)))


@given(lengths, st.integers(1, 7))
def test_only_the_last_window_if_so_wanted(lengths: list[int], window: int) -> None:
    rows = windows(histories(lengths).all(), window, every=False)
    wanted = [list(range(100 * u + max(0, n - window - 1), 100 * u + n)) for u, n in enumerate(lengths) if n >= 2]
    assert [rows[r].tolist() for r in range(len(rows))] == wanted


def test_windows_count_from_the_end() -> None:
    rows = windows(histories([8]).all(), 3)
    assert sorted(rows[r].tolist() for r in range(len(rows))) == [[0, 1], [1, 2, 3, 4], [4, 5, 6, 7]]


# ---- plans


@given(st.lists(st.integers(1, 20), max_size=200), st.integers(1, 90), st.integers(0, 5), st.integers(0, 5))
def test_a_plan_holds_every_row_once_within_the_budget(rows: list[int], budget: int, seed: int, epoch: int) -> None:
    sizes = np.array(rows, np.int64)
    batches = plan(sizes, budget, seed, epoch)
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(rows)))
    assert all(len(b) == 1 or len(b) * sizes[b].max() <= budget for b in batches)
    again = plan(sizes, budget, seed, epoch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_plans_differ_by_seed_and_epoch() -> None:
    sizes = np.random.default_rng(0).integers(1, 20, 500)
    plans = {str([b.tolist() for b in plan(sizes, 200, seed, epoch)]) for seed in range(3) for epoch in range(3)}
    assert len(plans) == 9


def test_little_of_a_batch_is_padding() -> None:
    sizes = np.random.default_rng(0).integers(1, 51, 5000)
    padded = sum(len(b) * sizes[b].max() for b in plan(sizes, 2048, 0, 0))
    assert padded < 1.08 * sizes.sum()


def test_short_and_long_rows_come_mixed() -> None:
    """Rows are sorted by length to be cut, and the batches are drawn in any order: no epoch goes from short to long."""
    sizes = np.random.default_rng(0).integers(1, 51, 2000)
    means = np.array([sizes[b].mean() for b in plan(sizes, 1024, 0, 0)])
    assert len(means) > 40
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.4
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.4


# ---- tensors


@given(lengths, st.booleans())
def test_training_batch_by_hand(lengths: list[int], times: bool) -> None:
    rows = windows(histories(lengths, times=times).all(), 5)
    batch = training_batch(rows)
    assert batch.weight == (rows.lengths - 1).sum()
    assert batch.lengths_B.tolist() == (rows.lengths - 1).tolist()
    assert batch.targets_BL is not None
    assert batch.users_B is not None
    assert batch.users_B.tolist() == rows.users.tolist()
    assert (batch.times_BL is not None) == times
    assert batch.valid_BL().sum(1).tolist() == batch.lengths_B.tolist()
    for r, n in enumerate(batch.lengths_B.tolist()):
        assert batch.items_BL[r, :n].tolist() == rows[r][:-1].tolist()
        assert batch.targets_BL[r, :n].tolist() == rows[r][1:].tolist()
        assert batch.times_BL is None or batch.times_BL[r, :n].tolist() == (rows[r][:-1] * 10).tolist()


@pytest.mark.parametrize("world", [2, 3, 20])
def test_shares_of_a_batch_partition_it(world: int) -> None:
    """Also where there are more processes than rows: the others get an empty share."""
    rows = windows(histories([9, 2, 6, 4, 3]).all(), 5)
    shares = [training_batch(rows, rank=rank, world=world) for rank in range(world)]
    assert {share.weight for share in shares} == {int((rows.lengths - 1).sum())}
    assert sum(int(share.lengths_B.sum()) for share in shares) == shares[0].weight
    pairs = Counter()
    for share in shares:
        assert share.targets_BL is not None
        real = share.valid_BL()
        pairs.update(zip(share.items_BL[real].tolist(), share.targets_BL[real].tolist(), strict=True))
    assert set(pairs.values()) == {1}
    assert len(pairs) == shares[0].weight


def test_history_batch_keeps_the_last_items() -> None:
    batch = history_batch(histories([7, 2, 5]).all(), 4)
    assert batch.lengths_B.tolist() == [4, 2, 4]
    assert batch.items_BL[0].tolist() == [3, 4, 5, 6]
    assert batch.items_BL[1, :2].tolist() == [100, 101]
    assert batch.times_BL is not None
    assert batch.times_BL[2].tolist() == [2010, 2020, 2030, 2040]
    assert batch.targets_BL is None
    assert batch.weight == 0


def test_lists_batch_belongs_to_nobody() -> None:
    batch = lists_batch([np.array([4, 2]), np.array([7])], 5)
    assert batch.items_BL[0].tolist() == [4, 2]
    assert batch.users_B is not None
    assert batch.users_B.tolist() == [-1, -1]


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_case_batches_visit_every_case_once(split: Split, size: int) -> None:
    window, visited = 6, []
    for rows, batch in case_batches(split.test, window, size):
        assert len(rows) <= size
        visited += rows.tolist()
        for r, case in enumerate(rows):
            wanted = split.test.history[case][-window:]
            assert batch.items_BL[r, : batch.lengths_B[r]].tolist() == wanted.tolist()
    assert sorted(visited) == list(range(len(split.test)))


def test_memory_mapped_arrays_give_the_same_batches(tmp_path: Path) -> None:
    plain = histories([9, 3, 14, 2])
    assert plain.times is not None
    arrays = []
    for name, array in (("items", plain.items), ("times", plain.times)):
        np.save(tmp_path / f"{name}.npy", array)
        arrays.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    mapped = Histories(arrays[0], plain.offsets, arrays[1])
    one, other = (training_batch(windows(h.all(), 5)) for h in (plain, mapped))
    assert one.targets_BL is not None
    assert one.times_BL is not None
    for name in ("items_BL", "targets_BL", "times_BL", "lengths_B"):
        assert getattr(one, name).equal(getattr(other, name))
    cases = Cases(Spans(mapped, np.arange(4), mapped.starts, mapped.ends - 1), mapped.items[mapped.ends - 1])
    assert sum(len(rows) for rows, _ in case_batches(cases, 5, 3)) == 4


def test_long_histories_come_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [1, 2, 2, 9, 10, 10, 30]
    histories = Histories.from_lists([np.arange(n + 1) for n in lengths])
    history = Spans(histories, np.arange(len(lengths)), histories.starts, histories.ends - 1)
    cases = Cases(history, histories.items[histories.ends - 1])
    monkeypatch.setattr(batches, "CASE_POSITIONS", 20)
    made = [(rows.tolist(), tuple(batch.items_BL.shape)) for rows, batch in case_batches(cases, 40, 4)]
    assert made == [([0, 1, 2], (3, 2)), ([3, 4], (2, 10)), ([5], (1, 10)), ([6], (1, 30))]


@pytest.mark.parametrize("chance", [0.0, 0.08, 0.92, 1.0])
def test_a_chance_is_that_of_being_replaced(chance: float) -> None:
    """Not of being kept, which is what the authors' thresholds are."""
    torch.manual_seed(0)
    rows = torch.full((200, 500), 7)
    shared, replaced = replace_randomly(rows, chance, 50)
    assert replaced.double().mean().item() == pytest.approx(chance, abs=0.005)
    assert (shared != 7).double().mean().item() == pytest.approx(chance * 49 / 50, abs=0.005)
    assert (shared[~replaced] == 7).all()
    if chance:
        drawn = torch.bincount(shared[replaced], minlength=50).double()
        assert (drawn / drawn.sum()).tolist() == pytest.approx([1 / 50] * 50, rel=0.25)
