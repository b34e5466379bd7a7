"""Neighbours of items: for each item the few that speak for it most, by co-occurrence or by likeness of their vectors.

    co-occurrence   c(j, i) = n_ji / (n_j^a n_i^b)      n_ji: how often i was met near j, nearer ones counting more
    likeness        l(j, i) = max(0, cos(x_j, x_i))^q    of text vectors, say

Both are sparse tables of the same form, so that whatever reads one reads the other.

Sources: item-based collaborative filtering (Sarwar et al. 2001), sequence-aware as in Quadrana et al. 2018. The powers
a and b, the decay and the number of neighbours are as found on Beauty's validation part (docs/results/tuning.md):
b near 0, hence nearly plain counts, is a third better than the cosine's 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from forethought.data.histories import Spans

FROM_POWER, TO_POWER = 0.5, 0.1  # a and b of co-occurrence
LAG_DECAY = 0.9  # a pair k places apart counts 0.9^(k - 1)
LIKENESS_POWER = 2.0
AT_ONCE = 2_000_000  # interactions whose pairs are counted together
SCORED = 16_000_000  # cosines held at once


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of each of N items, best first.

    Attributes:
        items_NK: int32, item rows; what fills up a row is item 0 with the value 0.
        values_NK: float32, positive.
        pairs_NK: int32, how often the two were met near each other; None where it is not about meeting.
    """

    items_NK: np.ndarray
    values_NK: np.ndarray
    pairs_NK: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.items_NK)

    def matrix(self) -> sparse.csr_array:
        """The same as a sparse [N, N] matrix: row j holds what j says of the others."""
        n, k = self.items_NK.shape
        rows = np.repeat(np.arange(n), k)
        table = sparse.csr_array((self.values_NK.ravel(), (rows, self.items_NK.ravel())), shape=(n, n))
        table.eliminate_zeros()
        return table


def co_occurrence(
    train: Spans, n_items: int, *, most: int = 20, window: int = 20, directed: bool = False
) -> Neighbours:
    """Which items the users of a training part met near each other.

    Args:
        train: stretches of histories, one a user.
        most: neighbours kept of each item (K).
        window: how many places apart two items may stand.
        directed: only what came after j speaks for j; else what came before counts the same.
    """
    weighted, plain = met_near(train, n_items, window)
    if not directed:
        weighted, plain = sparse.csr_array(weighted + weighted.T), sparse.csr_array(plain + plain.T)
    counts_N = np.maximum(train.item_counts(n_items), 1).astype(np.float64)
    values = weighted.tocoo()
    value_of = values.data / (counts_N[values.row] ** FROM_POWER * counts_N[values.col] ** TO_POWER)
    return _kept(values.row, values.col, value_of, plain.tocoo().data, n_items, most)


def met_near(train: Spans, n_items: int, window: int) -> tuple[sparse.csr_array, sparse.csr_array]:
    """How often i came up to `window` places behind j, [j, i]: decayed by the distance, and plainly counted.

    Both have the same places, so that their entries stand in the same order. No item is a neighbour of itself.
    """
    weighted = sparse.csr_array((n_items, n_items))
    plain = sparse.csr_array((n_items, n_items), dtype=np.int32)
    ends = np.cumsum(train.lengths)
    first = 0
    while first < len(train):
        last = max(first + 1, int(np.searchsorted(ends, (ends[first - 1] if first else 0) + AT_ONCE, side="right")))
        some = train.take(np.arange(first, last))
        lengths = some.lengths
        owner = np.repeat(np.arange(len(some)), lengths)
        items = some.histories.items[
            np.arange(len(owner)) + np.repeat(some.starts - np.cumsum(lengths) + lengths, lengths)
        ]
        for lag in range(1, window + 1):
            near = (owner[lag:] == owner[:-lag]) & (items[lag:] != items[:-lag])
            if not len(near) or not (owner[lag:] == owner[:-lag]).any():
                break
            at = items[:-lag][near], items[lag:][near]
            met = sparse.csr_array((np.ones(len(at[0]), np.int32), at), shape=(n_items, n_items))
            plain = sparse.csr_array(plain + met)
            weighted = sparse.csr_array(weighted + LAG_DECAY ** (lag - 1) * met)
        first = last
    for table in (weighted, plain):
        table.sort_indices()
    return weighted, plain


def alike(vectors_NF: np.ndarray, *, most: int = 50) -> Neighbours:
    """Items whose vectors point the same way; an item whose vector is zero is nobody's neighbour and has none.

    Args:
        vectors_NF: of any length each; float32.
        most: neighbours kept of each item (K).
    """
    n = len(vectors_NF)
    most = min(most, max(n - 1, 1))
    lengths_N1 = np.linalg.norm(vectors_NF, axis=1, keepdims=True)
    unit_NF = (vectors_NF / np.maximum(lengths_N1, 1e-12)).astype(np.float32)
    items_NK, values_NK = np.zeros((n, most), np.int32), np.zeros((n, most), np.float32)
    step = max(1, SCORED // max(n, 1))
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        cosines = unit_NF[rows] @ unit_NF.T
        cosines[np.arange(len(rows)), rows] = 0.0
        best = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
        values = np.maximum(np.take_along_axis(cosines, best, axis=1), 0.0) ** LIKENESS_POWER
        order = np.argsort(-values, axis=1, kind="stable")
        items_NK[rows], values_NK[rows] = np.take_along_axis(best, order, 1), np.take_along_axis(values, order, 1)
    return Neighbours(np.where(values_NK > 0, items_NK, 0), values_NK)


def _kept(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, pairs: np.ndarray, n_items: int, most: int
) -> Neighbours:
    """The most valued entries of each row, of equal ones the lower item row."""
    order = np.lexsort((columns, -values, rows))
    rows, columns, values, pairs = rows[order], columns[order], values[order], pairs[order]
    counts = np.bincount(rows, minlength=n_items)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = place < most
    width = max(1, min(most, int(counts.max(initial=0))))
    items_NK, values_NK = np.zeros((n_items, width), np.int32), np.zeros((n_items, width), np.float32)
    pairs_NK = np.zeros((n_items, width), np.int32)
    at = rows[kept], place[kept]
    items_NK[at], values_NK[at], pairs_NK[at] = columns[kept], values[kept], pairs[kept]
    return Neighbours(items_NK, values_NK, pairs_NK)
