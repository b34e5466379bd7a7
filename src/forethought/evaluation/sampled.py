"""Ranking the target among a few sampled negatives: cheap, customary, and biased.

Sampled metrics need not order methods as full ranking does (Krichene and Rendle, On sampled metrics for item
recommendation, KDD 2020). They exist here to be set beside older papers; the protocol says `sampled`, the metrics are
named `sampled100:ndcg@10`, and `compare` does not mix them with full ranking.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from forethought.data.histories import Cases
from forethought.errors import DataError
from forethought.settings import Between, Seed, Settings

# Case rows [b] and item rows [b, m] go in, scores [b, m] come out; higher is better.
Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]

BLOCK = 1024  # cases scored at once


@dataclass(frozen=True)
class Sample(Settings):
    """How the negatives of a case are drawn.

    Attributes:
        negatives: how many items the target is ranked against, all different.
        by: "uniform", or "popularity" for chances in proportion to training interactions + 1.
        seed: the same seed draws the same negatives for the same cases.
    """

    negatives: Annotated[int, Between(1, 10_000)] = 100
    by: Literal["uniform", "popularity"] = "uniform"
    seed: Seed = 0

    def protocol(self) -> dict[str, Any]:
        return {"negatives": self.negatives, "negatives_by": self.by, "negatives_seed": self.seed}


def sampled_ranks(
    scores_of: Scorer, cases: Cases, popularity: np.ndarray, sample: Sample, *, history_excluded: bool
) -> np.ndarray:
    """Mid-ranks of the targets among their negatives, float64 [n], from 1 to negatives + 1.

    Args:
        scores_of: the model; target and negatives of a case are scored in one call, the target first.
        cases: [n].
        popularity: int [N], training interactions of each item.
        sample: how negatives are drawn.
        history_excluded: whether negatives must not be in the case's history. The target never is a negative.

    Raises:
        DataError: too few items to draw from, or scores of another shape or that are not numbers.
    """
    weights = popularity + 1.0 if sample.by == "popularity" else np.ones(len(popularity))
    random, ranks = np.random.default_rng(sample.seed), np.empty(len(cases))
    for begin in range(0, len(cases), BLOCK):
        rows = np.arange(begin, min(begin + BLOCK, len(cases)))
        block = cases.take(rows)
        negatives = draw_negatives(block, weights, sample.negatives, random, history_excluded=history_excluded)
        items = np.column_stack([block.targets, negatives]).astype(np.int32)
        scores = np.asarray(scores_of(rows, items))
        if scores.shape != items.shape or np.isnan(scores).any():
            raise DataError(
                f"Scores must be numbers of shape {items.shape}, but have shape {scores.shape} "
                f"and {int(np.isnan(scores).sum())} NaN."
            )
        target, others = scores[:, :1], scores[:, 1:]
        ranks[rows] = 1 + (others > target).sum(axis=1) + (others == target).sum(axis=1) / 2
    return ranks


def draw_negatives(
    cases: Cases, weights: np.ndarray, n_negatives: int, random: np.random.Generator, *, history_excluded: bool
) -> np.ndarray:
    """Different items for each case that are neither its target nor, if excluded, in its history; int64 [n, m].

    Drawn one after the other by weight [N]; what is not allowed is drawn again.
    """
    n_items = len(weights)
    forbidden = _forbidden(cases, n_items, history_excluded)
    free = n_items - np.bincount(forbidden // n_items, minlength=len(cases)).max(initial=0)
    if free < 2 * n_negatives:  # few free items would be hit too rarely, and all can be ranked as well
        raise DataError(
            f"{n_negatives} negatives are to be drawn from at least {2 * n_negatives} items, "
            f"but a case here has only {free}: rank all items instead."
        )
    edges = np.cumsum(weights) / np.sum(weights)
    drawn = _draw(edges, random, (len(cases), n_negatives))
    open_rows = np.arange(len(cases))
    while len(open_rows):
        rejected = _rejected(drawn[open_rows], open_rows, forbidden, n_items)
        again = drawn[open_rows]
        again[rejected] = _draw(edges, random, (int(rejected.sum()),))
        drawn[open_rows] = again
        open_rows = open_rows[rejected.any(axis=1)]
    return drawn


def _draw(edges: np.ndarray, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.minimum(np.searchsorted(edges, random.random(shape), side="right"), len(edges) - 1)


def _forbidden(cases: Cases, n_items: int, history_excluded: bool) -> np.ndarray:
    """Sorted keys row * N + item of what must not be drawn."""
    keys = np.arange(len(cases)) * n_items + cases.targets
    if history_excluded:
        spans, lengths = cases.history, cases.history.lengths
        rows = np.repeat(np.arange(len(cases)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        met = spans.histories.items[np.repeat(spans.starts, lengths) + within]
        keys = np.concatenate([keys, rows * n_items + met])
    return np.unique(keys)


def _rejected(drawn: np.ndarray, rows: np.ndarray, forbidden: np.ndarray, n_items: int) -> np.ndarray:
    """Where a draw is forbidden or repeats another of its row, bool [rows, m]."""
    keys = rows[:, None] * n_items + drawn
    at = np.minimum(np.searchsorted(forbidden, keys), len(forbidden) - 1)
    order = np.argsort(drawn, axis=1, kind="stable")
    ascending = np.take_along_axis(drawn, order, axis=1)
    repeated = np.zeros(drawn.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], ascending[:, 1:] == ascending[:, :-1], axis=1)
    return repeated | (forbidden[at] == keys)
