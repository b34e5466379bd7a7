"""Noise on histories: what if part of what a user is said to have done were wrong, missing or out of order?

At test time the model reads the noisy history, while target and candidates stay those of the clean one; in training
the noise lies in the data, hence also in what is to be predicted there. Every random number is a function of (seed,
user, place), so noise depends on no batch, order or process, all methods meet the same one, and a larger share holds
the draws of a smaller one.

After the robustness study of IGR-SR (arXiv 2512.14034, sec. 4.4.1), whose protocol is not told in detail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple, get_args

import numpy as np

from forethought.data.histories import Cases, Histories, Spans
from forethought.errors import DataError
from forethought.settings import Between, Seed, Settings, Share, check

NoiseKind = Literal["replace", "insert", "delete", "swap"]
KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)
Draws = Annotated[int, Between(1, 1_000)]

POSITIONS, ITEMS, GAPS, TRAINING = range(4)  # streams of random numbers that know nothing of each other
BLOCK = 4_000_000  # positions that are disturbed at once


class Flat(NamedTuple):
    """Histories one after the other: of each position its row, its place within, its item and its time."""

    row: np.ndarray  # int64 [n], ascending
    place: np.ndarray  # int64 [n], from 0
    items: np.ndarray  # int32 [n]
    times: np.ndarray | None  # int64 [n]

    def take(self, at: np.ndarray) -> Flat:
        return Flat(self.row[at], self.place[at], self.items[at], None if self.times is None else self.times[at])


@dataclass(frozen=True, kw_only=True)
class Noise(Settings):
    """What is done to histories, to how much of each, and which draw of it."""

    kind: NoiseKind = "replace"
    """replace: drawn positions hold other items; insert: as many other items come in between; delete: drawn positions
    are gone; swap: the items of drawn positions change places."""
    share: Share = 0.2
    """Positions drawn, as a share of a history's length, 0 to 1."""
    seed: Seed = 0
    """Of the draw."""

    def seeds(self, n: int) -> list[Noise]:
        """The same noise drawn n times: with this seed, the next one and so on."""
        check(n, Draws, "noise_seeds")
        return [replace(self, seed=self.seed + more) for more in range(n)]

    def protocol(self, seeds: int = 1) -> dict[str, Any]:
        """What a protocol says of it, as plain JSON values."""
        return asdict(self) | {"seeds": seeds}

    def drawn(self, lengths: np.ndarray) -> np.ndarray:
        """How many positions of histories of these lengths are drawn, int64 [n]: round(share * length), a half up.

        A history may be too short to be touched (0.1 * 4 rounds to 0). Deletion leaves at least one item, and a swap
        takes at least two positions, where there are two.
        """
        wanted = np.floor(self.share * lengths + 0.5 + 1e-9).astype(np.int64)  # 1e-9: 0.15 * 10 is a little below 1.5
        if self.kind == "delete":
            return np.minimum(wanted, np.maximum(lengths - 1, 0))
        if self.kind == "swap":
            return np.where(lengths < 2, 0, np.where(wanted == 1, 2, wanted))
        return wanted

    def on_cases(self, cases: Cases, n_items: int) -> Cases:
        """The cases with noisy histories; targets stay, and so does what is excluded from the candidates.

        Items are drawn evenly from all but those of the clean history and the target.

        Raises:
            DataError: a user has met everything there is, so that nothing is left to draw.
        """
        rows = cases.history
        items, times, lengths = self._applied(rows, cases.met, cases.targets, n_items)
        behind, offsets = np.cumsum(lengths), np.concatenate([[0], np.cumsum(lengths + 1)])
        items = np.insert(items, behind, cases.targets)  # `Cases` promises that this moment stands behind a history
        if times is not None:
            dated = rows.histories.dated()
            times = np.insert(times, behind, dated[np.minimum(rows.ends, len(dated) - 1)])
        noisy = Spans(Histories(items, offsets, times), rows.users, offsets[:-1], offsets[1:] - 1)
        return Cases(noisy, cases.targets, cases.met)

    def on_training(self, train: Spans, n_items: int) -> Spans:
        """The training rows with noise, held-out items untouched; what a row predicts may be noise too.

        Items are drawn evenly from all that the user never met, held-out items included, so that none leaks in. What is
        drawn has nothing to do with what `on_cases` draws with the same seed, so that none is trained on what it is
        tested on.

        Args:
            train: rows of the clean data, which know the whole of each history.

        Raises:
            DataError: as `on_cases`.
        """
        whole, users = train.histories, train.users
        ever = Spans(whole, users, whole.starts[users], whole.ends[users])
        own = uniform(self.seed, TRAINING, np.zeros(1), np.zeros(1))
        items, times, lengths = replace(self, seed=int(own[0] * 2**53))._applied(train, ever, None, n_items)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Spans(Histories(items, offsets, times), users, offsets[:-1], offsets[1:])

    def _applied(
        self, rows: Spans, met: Spans, targets: np.ndarray | None, n_items: int
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Items and times of all noisy rows, one after the other, and their lengths."""
        parts, lengths = [], []
        for some in _blocks(rows.lengths):
            block, block_targets = rows.take(some), None if targets is None else targets[some]
            free = Free(met.take(some), block_targets, n_items)
            parts.append(self._disturbed(block, free))
            lengths.append(np.bincount(parts[-1].row, minlength=len(block)))
        items = np.concatenate([part.items for part in parts] or [np.zeros(0, np.int32)])
        dated = [part.times for part in parts if part.times is not None]
        times = None if rows.histories.times is None else np.concatenate(dated or [np.zeros(0, np.int64)])
        return items, times, np.concatenate(lengths or [np.zeros(0, np.int64)])

    def _disturbed(self, rows: Spans, free: Free) -> Flat:
        flat, counts = _laid_out(rows), self.drawn(rows.lengths)
        if self.kind == "insert":
            return self._inserted(flat, counts, rows, free)
        chosen = self._chosen(flat, counts, rows)
        if self.kind == "delete":
            return flat.take(np.delete(np.arange(len(flat.row)), chosen))
        items = flat.items.copy()
        if self.kind == "swap":  # around a ring in drawn order, so that every drawn position gets another's item
            ring = np.cumsum(counts)
            before = np.arange(len(chosen)) - 1
            before[(ring - counts)[counts > 0]] = ring[counts > 0] - 1
            items[chosen] = flat.items[chosen[before]]
        else:
            owner, place = flat.row[chosen], flat.place[chosen]
            items[chosen] = free.draw(owner, uniform(self.seed, ITEMS, rows.users[owner], place))
        return flat._replace(items=items)

    def _chosen(self, flat: Flat, counts: np.ndarray, rows: Spans) -> np.ndarray:
        """Where the drawn positions stand, row by row and within a row in the order they were drawn."""
        lots = uniform(self.seed, POSITIONS, rows.users[flat.row], flat.place)
        order = np.lexsort((lots, flat.row))
        return order[flat.place < counts[flat.row]]  # rows ascend and stay together: a place is also a rank in `order`

    def _inserted(self, flat: Flat, counts: np.ndarray, rows: Spans, free: Free) -> Flat:
        """New items in gaps drawn evenly, the one before the first item and the one behind the last among them."""
        owner = np.repeat(np.arange(len(rows)), counts)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        users, lengths = rows.users[owner], rows.lengths
        gap = np.floor(uniform(self.seed, GAPS, users, place) * (lengths[owner] + 1)).astype(np.int64)
        items = free.draw(owner, uniform(self.seed, ITEMS, users, place))
        # It happened when the item before it did, and what comes first when the item behind it did.
        neighbour = (np.cumsum(lengths) - lengths)[owner] + np.maximum(gap - 1, 0)
        order = np.lexsort((np.concatenate([2 * flat.place + 1, 2 * gap]), np.concatenate([flat.row, owner])))
        added = flat.take(neighbour)._replace(items=items)
        times = None if flat.times is None or added.times is None else np.concatenate([flat.times, added.times])
        both = Flat(
            np.concatenate([flat.row, owner]),
            np.concatenate([flat.place, gap]),
            np.concatenate([flat.items, items]),
            times,
        )
        return both.take(order)


class Free:
    """What may be drawn for each row: all items but those that were met, and the target."""

    def __init__(self, met: Spans, targets: np.ndarray | None, n_items: int) -> None:
        flat, first_key = _laid_out(met), np.arange(len(met)) * n_items
        keys = flat.row * n_items + flat.items
        keys = np.unique(keys if targets is None else np.concatenate([keys, first_key + targets]))
        self.n_items, self.first = n_items, np.searchsorted(keys, first_key)
        n_taken = np.diff(np.append(self.first, len(keys)))
        self.n_free = n_items - n_taken
        # Of the j-th smallest taken item: how many free ones are smaller. Ascending within a row, and over all rows.
        self.free_below = keys - (np.arange(len(keys)) - np.repeat(self.first, n_taken))

    def draw(self, row: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """One free item for each of these rows, int32 [m], evenly if the numbers from [0, 1) are."""
        if (self.n_free[row] == 0).any():
            raise DataError(
                f"A user has met all {self.n_items} items, so there is none that noise could draw: "
                "use noise that deletes or swaps."
            )
        nth = np.floor(uniforms * self.n_free[row]).astype(np.int64)
        skipped = np.searchsorted(self.free_below, row * self.n_items + nth, side="right") - self.first[row]
        return (nth + skipped).astype(np.int32)


def uniform(seed: int, stream: int, users: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Numbers from [0, 1), float64 [n], each a function of seed, stream, user and place alone.

    The mixer is SplitMix64's (Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014).
    """
    state = np.array([seed % 2**64], np.uint64)
    for word in (np.array([stream]), users, places):
        state = _mixed(state + np.uint64(0x9E3779B97F4A7C15) * (word.astype(np.int64).view(np.uint64) + np.uint64(1)))
    return (state >> np.uint64(11)) * 2.0**-53


def _mixed(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _laid_out(rows: Spans) -> Flat:
    lengths, histories = rows.lengths, rows.histories
    row = np.repeat(np.arange(len(rows)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    index = np.repeat(rows.starts, lengths) + place
    return Flat(row, place, histories.items[index], None if histories.times is None else histories.times[index])


def _blocks(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Runs of rows of about `BLOCK` positions together."""
    ends, first = np.cumsum(lengths), 0
    while first < len(lengths):
        done = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, done + BLOCK, side="right")), first + 1)
        yield np.arange(first, last)
        first = last
