"""What the lists look like as a whole: how much of the catalogue they show, how evenly, and how popular it is.

Lists are int [n, K] item rows, best first, -1 where a list ran out of items. Popularity is an item's number of
training interactions, int [N].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from forethought.data.histories import Spans
from forethought.evaluation.metrics import CUTS


def exposure(lists: np.ndarray, n_items: int) -> np.ndarray:
    """How many lists show each item, int64 [N]."""
    return np.bincount(lists[lists >= 0], minlength=n_items)


def coverage(shown: np.ndarray) -> float:
    """Share of the catalogue that at least one list shows, from exposures [N].

    Source: Ge, Delgado-Battenfeld and Jannach, Beyond accuracy, RecSys 2010 (catalogue coverage).
    """
    return float(np.count_nonzero(shown) / len(shown))


def gini(shown: np.ndarray) -> float:
    """Inequality of exposure over all N items, those never shown included: 0 is even, (N-1)/N is one item only.

    With exposures sorted x_(1) <= ... <= x_(N): sum_i (2i - N - 1) x_(i) / (N sum_i x_i), which equals the mean
    absolute difference of all pairs over twice the mean. NaN when nothing is shown.

    Source: Fleder and Hosanagar, Blockbuster culture's next rise or fall, Management Science 2009.
    """
    n, total = len(shown), shown.sum()
    if total == 0:
        return float("nan")
    return float(np.sum((2.0 * np.arange(1, n + 1) - n - 1) * np.sort(shown)) / (n * total))


def novelty(lists: np.ndarray, popularity: np.ndarray) -> float:
    """Mean self-information -log2 p(item) of the listed items, in bits; higher is less popular.

    p(item) = (count + 1) / (sum of counts + N): add-one smoothing keeps an item that training never saw finite.

    Source: Zhou et al., Solving the apparent diversity-accuracy dilemma of recommender systems, PNAS 2010.
    """
    bits = -np.log2((popularity + 1.0) / (popularity.sum() + len(popularity)))
    return _mean(_row_means(lists, bits))


def average_popularity(lists: np.ndarray, popularity: np.ndarray) -> float:
    """ARP: the mean over lists of the mean training count of their items.

    Source: Yin et al., Challenging the long tail recommendation, PVLDB 2012.
    """
    return _mean(_row_means(lists, popularity))


def popularity_lift(lists: np.ndarray, history: Spans, popularity: np.ndarray) -> float:
    """By how much lists are more popular than what the same users chose: (GAP_lists - GAP_histories) / GAP_histories.

    GAP is the mean over users of the mean popularity of their items. 0 keeps the users' own taste for the popular,
    1 doubles it. NaN when no history has an item that training saw.

    Source: Abdollahpouri et al., The connection between popularity bias, calibration, and fairness in recommendation,
    RecSys 2020.
    """
    sums = np.concatenate([[0], np.cumsum(popularity[history.histories.items])])
    has_items = history.lengths > 0
    taken = history.take(np.flatnonzero(has_items))
    chosen = _mean((sums[taken.ends] - sums[taken.starts]) / taken.lengths)
    return average_popularity(lists, popularity) / chosen - 1 if chosen > 0 else float("nan")


def beyond_accuracy(
    lists: np.ndarray, history: Spans, popularity: np.ndarray, cuts: Sequence[int] = CUTS
) -> dict[str, float]:
    """All of the above at every cut the lists are long enough for.

    Args:
        lists: int [n, K], best first, -1 fills.
        history: [n], what each list was made from.
        popularity: int [N], training interactions of each item.

    Returns:
        `coverage@k`, `gini@k`, `novelty@k`, `arp@k` and `popularity_lift@k`.
    """
    values: dict[str, float] = {}
    for k in (k for k in cuts if k <= lists.shape[1]):
        top, shown = lists[:, :k], exposure(lists[:, :k], len(popularity))
        values |= {
            f"coverage@{k}": coverage(shown),
            f"gini@{k}": gini(shown),
            f"novelty@{k}": novelty(top, popularity),
            f"arp@{k}": average_popularity(top, popularity),
            f"popularity_lift@{k}": popularity_lift(top, history, popularity),
        }
    return values


def _row_means(lists: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The mean of values[item] over each list's items; empty lists are left out."""
    filled = lists >= 0
    lengths = filled.sum(axis=1)
    sums = np.where(filled, values[np.where(filled, lists, 0)], 0).sum(axis=1)
    return sums[lengths > 0] / lengths[lengths > 0]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
