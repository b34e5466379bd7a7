"""Accuracy of one case: where did the item that came next stand among the candidates?

Each case has a single relevant item, so every metric follows from its rank alone. Ranks are mid-ranks (equal scores
count half), hence may be half-integers; a target that cannot be recommended has rank infinity and scores zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from forethought.errors import ConfigError

CUTS = (5, 10, 20)


def recall(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 where the target is among the first k, else 0, float64 [n]; with one relevant item also called hit rate."""
    return (ranks <= k).astype(np.float64)


def ndcg(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 / log2(rank + 1) within the first k, float64 [n]; the ideal gain of one relevant item is 1.

    Source: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002.
    """
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def mrr(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 / rank within the first k, float64 [n]."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


METRICS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"recall": recall, "ndcg": ndcg, "mrr": mrr}


def named(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The metric of a name such as "ndcg@10": ranks in, one number a case out.

    Raises:
        ConfigError: there is no such metric.
    """
    kind, _, cut = name.partition("@")
    if kind not in METRICS or not (cut.isascii() and cut.isdigit() and int(cut) > 0):
        raise ConfigError(f"There is no metric {name!r}: give {', '.join(METRICS)} with a length, such as ndcg@10.")
    return lambda ranks: METRICS[kind](ranks, int(cut))


def per_case(ranks: np.ndarray, cuts: Sequence[int] = CUTS) -> dict[str, np.ndarray]:
    """All metrics of all cases.

    Args:
        ranks: float64 [n], 1 is best, infinity where the target is no candidate.
        cuts: list lengths k.

    Returns:
        `recall@5`, `recall@10`, ... `mrr@20`, each float64 [n].
    """
    return {f"{name}@{k}": metric(ranks, k) for name, metric in METRICS.items() for k in cuts}
