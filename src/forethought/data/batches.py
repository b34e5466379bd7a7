"""Rows become padded tensors, padded on the right; `lengths_B` says what is real.

There is no padding item: padded slots repeat a row's first item. A causal model never looks at what comes later,
the others are told the lengths, and a test changes the padding to see that nothing moves.

A batch is cut by a budget of positions from pools of rows sorted by length, so that little of it is padding.
The plan of an epoch is a function of (seed, epoch) alone; a run that stops at batch 17 goes on at batch 17, and
several processes share each batch by taking every n-th row of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from forethought.data.histories import Cases, Histories, Spans

POOL_BATCHES = 32  # rows of so many batches are sorted by length together
CROPS, EARLIER = 1, 3  # random numbers of crops and of earlier stretches, which know nothing of those of plans
MOST_LATER = 3  # items after the next that a target may hold
CASE_POSITIONS = 65_536  # in an evaluation batch, padding included: windows of 1,000 would take gigabytes else


class LaterTargets(NamedTuple):
    """Items that come after the next one, which have a part of the target.

    Attributes:
        items_BLK: item rows, int64.
        shares_BLK: of each in that part, summing to 1, or to 0 where none follows; float64.
        weight_BL: the part, 0 where none follows; the next item has the rest.
    """

    items_BLK: Tensor
    shares_BLK: Tensor
    weight_BL: Tensor


@dataclass
class Batch:
    """Right-padded histories. B rows, L positions.

    Attributes:
        items_BL: item rows, int64.
        lengths_B: how many positions of each row are real, int64.
        targets_BL: the item that follows each position, in training; None otherwise.
        later: items after that which share the target with it, where `later_targets` asks for them.
        times_BL: Unix seconds, int64, or None where the data has only an order.
        users_B: user rows, int64; -1 for somebody unknown.
        weight: supervised positions of the whole (global) batch; losses divide by it.
        starts_B: in training, where each row begins in the flat array of histories, int64.
    """

    items_BL: Tensor
    lengths_B: Tensor
    targets_BL: Tensor | None = None
    times_BL: Tensor | None = None
    users_B: Tensor | None = None
    weight: int = 0
    starts_B: Tensor | None = None
    later: LaterTargets | None = None

    def valid_BL(self) -> Tensor:
        """True where a position is real."""
        return torch.arange(self.items_BL.shape[1], device=self.items_BL.device) < self.lengths_B[:, None]

    def last(self, window: int) -> Batch:
        """The last `window` positions of each row, without targets."""
        if self.items_BL.shape[1] <= window:
            return self
        length = min(int(self.lengths_B.max()), window)
        first_B = (self.lengths_B - window).clamp_min(0)
        at_BL = first_B[:, None] + torch.arange(length, device=first_B.device)
        lengths_B = self.lengths_B.clamp_max(window)
        real_BL = torch.arange(length, device=first_B.device) < lengths_B[:, None]
        at_BL = torch.where(real_BL, at_BL, first_B[:, None])
        times_BL = None if self.times_BL is None else self.times_BL.gather(1, at_BL)
        items_BL = self.items_BL.gather(1, at_BL)
        return replace(self, items_BL=items_BL, lengths_B=lengths_B, targets_BL=None, times_BL=times_BL, later=None)

    def to(self, device: torch.device) -> Batch:
        parts = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in parts.items()})


def replace_randomly(rows: Tensor, chance: float, n_rows: int) -> tuple[Tensor, Tensor]:
    """Each row number, with this chance, replaced by one drawn evenly from all; and where that was."""
    replaced = torch.rand(rows.shape, device=rows.device) < chance
    return torch.where(replaced, torch.randint(n_rows, rows.shape, device=rows.device), rows), replaced


def later_targets(targets_BL: Tensor, lengths_B: Tensor, share: float) -> LaterTargets:
    """What follows each target in its row: of the whole target the one j later has a share in proportion to share^j,
    0 <= j <= MOST_LATER, as far as the row goes.

    Args:
        targets_BL: as `Batch` has them.
        share: of each of them in that of the one before it.
    """
    steps_K = torch.arange(1, MOST_LATER + 1, device=targets_BL.device)
    at_LK = torch.arange(targets_BL.shape[1], device=targets_BL.device)[:, None] + steps_K
    weights_BLK = (at_LK < lengths_B[:, None, None]) * share ** steps_K.double()
    sums_BL = weights_BLK.sum(-1)
    shares_BLK = weights_BLK / torch.where(sums_BL > 0, sums_BL, 1.0)[..., None]
    items_BLK = targets_BL[:, at_LK.clamp_max(targets_BL.shape[1] - 1)]
    return LaterTargets(items_BLK, shares_BLK, sums_BL / (1 + sums_BL))


def varied(batch: Batch, n_items: int, *, input_noise: float, later: float) -> Batch:
    """A training batch with items replaced with this chance (`replace_randomly`), and with later targets that have this
    share; 0 leaves them out."""
    if input_noise:
        batch = replace(batch, items_BL=replace_randomly(batch.items_BL, input_noise, n_items)[0])
    if later:
        assert batch.targets_BL is not None
        batch = replace(batch, later=later_targets(batch.targets_BL, batch.lengths_B, later))
    return batch


def windows(train: Spans, window: int, *, every: bool = True) -> Spans:
    """Training rows: pairs of (input, target) cut into stretches of at most `window` inputs.

    A row of n inputs spans n + 1 items, the last of which is only a target. With `every`, a long history
    becomes several rows counted from its end, so that each transition is supervised exactly once and a position
    sees at most what stands in its own row; otherwise only the last row remains.
    """
    transitions = np.maximum(train.lengths - 1, 0)
    rows = -(-transitions // window) if every else np.minimum(transitions, 1)
    owner = np.repeat(np.arange(len(train)), rows)
    back = np.arange(len(owner)) - np.repeat(np.cumsum(rows) - rows, rows)  # 0 is a user's latest row
    ends = train.ends[owner] - back * window
    starts = np.maximum(train.starts[owner], ends - window - 1)
    return Spans(train.histories, train.users[owner], starts, ends)


def earlier(rows: Spans, train: Spans, share: float, *draw: int) -> Spans:
    """The same rows, each moved with this chance to an earlier stretch of its history, where there is one.

    It is as long, and begins at any place before the row's own start alike: of t transitions and a window of T the
    starts are 1 to t - T, each with chance share / (t - T), and the last T are left with 1 - share (SSE-PT++).

    Args:
        rows: the last windows, as `windows` cuts them without `every`.
        train: whole training histories, a row a user in their order.
        draw: seed, epoch and batch, as of `cropped`.
    """
    if not share:
        return rows
    rng, firsts = np.random.default_rng((EARLIER, *draw)), train.starts[np.searchsorted(train.users, rows.users)]
    moved, places = rng.random(len(rows)) < share, rng.random(len(rows))
    before = rows.starts - firsts
    back = np.where(moved, before - np.floor(places * before).astype(np.int64), 0)  # 1 to before, or 0 of 0
    return Spans(rows.histories, rows.users, rows.starts - back, rows.ends - back)


def cropped(rows: Spans, share: float, *draw: int) -> Spans:
    """The same rows, this share of them cut to a random stretch of two items or more; those of two stay whole.

    Args:
        draw: seed, epoch and batch: all that it depends on, so that several processes cut alike.
    """
    if not share:
        return rows
    rng, lengths = np.random.default_rng((CROPS, *draw)), rows.lengths
    cut = (rng.random(len(rows)) < share) & (lengths > 2)
    kept = np.where(cut, 2 + np.floor(rng.random(len(rows)) * (lengths - 2)).astype(np.int64), lengths)
    starts = rows.starts + np.floor(rng.random(len(rows)) * (lengths - kept + 1)).astype(np.int64)
    return Spans(rows.histories, rows.users, starts, starts + kept)


def plan(lengths: np.ndarray, positions: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of an epoch, as arrays of row numbers: every row once, about `positions` padded positions each."""
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    mean = max(float(lengths.mean()), 1.0) if len(lengths) else 1.0
    pool = max(1, int(POOL_BATCHES * positions / mean))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches.extend(_cut(rows, lengths[rows], positions))
    return [batches[i] for i in rng.permutation(len(batches))]


def _cut(rows: np.ndarray, lengths: np.ndarray, positions: int) -> list[np.ndarray]:
    """Cut rows sorted by length into runs whose padded size (rows x longest) stays within the budget."""
    cuts, first = [], 0
    while first < len(rows):
        # lengths rise, so the padded size of rows[first:last] rises with last: the first size over budget ends it
        sizes = lengths[first : first + positions] * np.arange(1, min(positions, len(rows) - first) + 1)
        count = max(1, int(np.searchsorted(sizes, positions, side="right")))
        cuts.append(rows[first : first + count])
        first += count
    return cuts


def training_batch(rows: Spans, *, rank: int = 0, world: int = 1) -> Batch:
    """Inputs and next-item targets of the given rows; with several processes, this one's share of them."""
    weight = int((rows.lengths - 1).sum())
    mine = rows.take(np.arange(rank, len(rows), world)) if world > 1 else rows
    histories = mine.histories
    index_BL, lengths = _positions(mine.starts, mine.ends - 1)
    return Batch(
        items_BL=_gather(histories.items, index_BL),
        lengths_B=torch.from_numpy(lengths),
        targets_BL=_gather(histories.items, index_BL + 1),
        times_BL=None if histories.times is None else _gather(histories.times, index_BL),
        users_B=torch.from_numpy(mine.users.astype(np.int64)),
        starts_B=torch.from_numpy(mine.starts.astype(np.int64)),
        weight=weight,
    )


def history_batch(rows: Spans, window: int) -> Batch:
    """The last `window` items of each row, without targets."""
    rows = rows.last(window)
    index_BL, lengths = _positions(rows.starts, rows.ends)
    times = rows.histories.times
    return Batch(
        items_BL=_gather(rows.histories.items, index_BL),
        lengths_B=torch.from_numpy(lengths),
        times_BL=None if times is None else _gather(times, index_BL),
        users_B=torch.from_numpy(rows.users.astype(np.int64)),
    )


def _positions(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices into the flat array, [B, L]; padding points at each row's first item and is never read."""
    lengths = ends - starts
    steps = np.arange(max(int(lengths.max(initial=0)), 1))
    return starts[:, None] + np.where(steps < lengths[:, None], steps, 0), lengths


def _gather(flat: np.ndarray, index_BL: np.ndarray) -> Tensor:
    return torch.from_numpy(flat[np.minimum(index_BL, len(flat) - 1)].astype(np.int64))


def case_batches(cases: Cases, window: int, batch: int) -> Iterator[tuple[np.ndarray, Batch]]:
    """Evaluation batches sorted by length: the rows' numbers and their histories.

    Args:
        batch: rows in each; fewer where histories are so long that they would have more than `CASE_POSITIONS`.
    """
    lengths = np.minimum(cases.history.lengths, window)
    order, start = np.argsort(lengths, kind="stable"), 0
    while start < len(order):
        rows = order[start : start + batch]
        positions = lengths[rows] * np.arange(1, len(rows) + 1)  # padding included, if the batch ended here
        rows = rows[: max(1, int(np.searchsorted(positions, CASE_POSITIONS, side="right")))]
        yield rows, history_batch(cases.history.take(rows), window)
        start += len(rows)


def lists_batch(lists: list[np.ndarray], window: int) -> Batch:
    """A batch straight from lists of item rows, for histories that belong to no data set."""
    histories = Histories.from_lists(lists)
    batch = history_batch(histories.all(), window)
    return replace(batch, users_B=torch.full((len(lists),), -1))
