"""Histories to try a program on: of the run's own data where it can be read, else drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from forethought.data.batches import Batch, history_batch, lists_batch
from forethought.data.popularity import TRAIN_COUNT
from forethought.data.splits import Split
from forethought.recommender import Recommender

HISTORIES = 64
DAY = 86_400
FIRST_SECOND = 1_600_000_000


class Trial(NamedTuple):
    """Histories in batches of several sizes.

    Attributes:
        real: whether they are of the run's data.
    """

    batches: list[Batch]
    real: bool

    def __len__(self) -> int:
        return sum(len(batch.lengths_B) for batch in self.batches)

    def single(self) -> list[Batch]:
        """Each history for itself, without padding."""
        return [_rows(batch, [row]) for batch in self.batches for row in range(len(batch.lengths_B))]


def trial(run: Recommender, split: Split | None, seed: int = 0) -> Trial:
    """The same histories for the same run: from the split's test part, or drawn where there is no split."""
    random = np.random.default_rng(seed)
    whole = _drawn(run, random) if split is None else _real(run, split, random)
    whole = replace(whole, users_B=torch.full_like(whole.lengths_B, -1))
    if not run.method.inputs.times:
        whole = replace(whole, times_BL=None)
    n = len(whole.lengths_B)
    cuts = [range(0, 1), range(1, 3), range(3, n)]
    return Trial([_rows(whole, [row for row in rows if row < n]) for rows in cuts if rows.start < n], split is not None)


def _real(run: Recommender, split: Split, random: np.random.Generator) -> Batch:
    cases = split.test.history
    rows = np.sort(random.permutation(np.flatnonzero(cases.lengths))[:HISTORIES])
    return history_batch(cases.take(random.permutation(rows)), run.method.window)


def _drawn(run: Recommender, random: np.random.Generator) -> Batch:
    """Of every length up to the window, items as often as training met them."""
    n_items, window = len(run.items), run.method.window
    counts = run.item_table[TRAIN_COUNT].to_numpy() if TRAIN_COUNT in run.item_table.columns else np.zeros(n_items)
    shares = (counts + 1) / (counts + 1).sum()
    lengths = [1, window, *random.integers(1, window + 1, HISTORIES - 2)]
    batch = lists_batch([random.choice(n_items, length, p=shares).astype(np.int64) for length in lengths], window)
    gaps = random.exponential(5 * DAY, batch.items_BL.shape).astype(np.int64)
    return replace(batch, times_BL=torch.from_numpy(FIRST_SECOND + gaps.cumsum(1)))


def inputs_of(batch: Batch) -> dict[str, Tensor]:
    """A batch as a program is given it, by the names of its inputs."""
    named = {"items": batch.items_BL, "lengths": batch.lengths_B}
    return named if batch.times_BL is None else named | {"times": batch.times_BL}


def _rows(batch: Batch, rows: list[int]) -> Batch:
    """Some rows, without the slots that none of them fills."""
    length = int(batch.lengths_B[rows].max())
    return Batch(
        items_BL=batch.items_BL[rows, :length],
        lengths_B=batch.lengths_B[rows],
        times_BL=None if batch.times_BL is None else batch.times_BL[rows, :length],
        users_B=None if batch.users_B is None else batch.users_B[rows],
    )
