"""How sure a number is: intervals by resampling users, paired tests between methods, Holm's correction.

What is resampled are users, not cases, because the cases of one user resemble each other. A mean over cases is then a
ratio of two sums over users (of the metric, and of the number of cases), and both are resampled together.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13 (percentile interval); Davison and
Hinkley, Bootstrap Methods and their Application, 1997, secs. 3.8 (clusters) and 4.3 (permutation tests); Holm, A simple
sequentially rejective multiple test procedure, Scand. J. Statist. 1979.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from forethought.settings import Resamples, Seed, check_all

LEVEL = 0.95
BLOCK_NUMBERS = 16_000_000  # random numbers held at once: 128 MB of float64


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% interval."""

    mean: float
    ci95: tuple[float, float]


def cluster_sums(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Sums of the rows that share a cluster, and their number.

    Args:
        values: float64 [n, C], one row a case.
        clusters: int [n], the user of each case.

    Returns:
        float64 [U, C+1], one row a user in the order of `np.unique`; the last column counts the cases.
    """
    table = np.column_stack([values, np.ones(len(values))])
    order = np.argsort(clusters, kind="stable")
    begins = np.flatnonzero(np.diff(clusters[order], prepend=-np.inf))
    return np.add.reduceat(table[order], begins, axis=0)


def bootstrap_sums(sums: np.ndarray, *, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Column sums over users drawn with replacement, as many as there are.

    Args:
        sums: float64 [U, C], one row a user.
        resamples: R, how many times the users are drawn.
        seed: the same seed draws the same users.

    Returns:
        float64 [R, C]. Quotients of its columns are draws of quotients of totals, so that everything computed from
        one call is paired.

    Raises:
        ConfigError: too few resamples to have a spread, or a negative seed.
    """
    check_all(seed=(seed, Seed), resamples=(resamples, Resamples))
    n_users = len(sums)
    random = np.random.default_rng(seed)
    draws = []
    for size in _blocks(resamples, n_users):
        weights = np.empty((size, n_users))
        for row in weights:
            row[:] = np.bincount(random.integers(0, n_users, n_users), minlength=n_users)
        draws.append(weights @ sums)
    return np.concatenate(draws)


def interval(draws: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """The percentile interval of each column.

    Args:
        draws: float64 [R, ...]; NaN where a resample left nothing to average, which is passed over.

    Returns:
        float64 [2, ...]: lower and upper end.
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    if not np.isnan(draws).any():
        return np.quantile(draws, tails, axis=0)
    with warnings.catch_warnings(category=RuntimeWarning, action="ignore"):  # all NaN: so is the interval
        return np.asarray(np.nanquantile(draws, tails, axis=0))


def estimate_means(
    values: np.ndarray, clusters: np.ndarray, *, resamples: int = 1000, seed: int = 0, strata: np.ndarray | None = None
) -> list[list[Estimate]]:
    """Means over cases with 95% intervals over users.

    Args:
        values: float64 [n, M], one row a case, one column a metric.
        clusters: int [n], the user of each case.
        strata: bool [n, S], groups of cases to average apart (a case may be in several); None is one group of all.

    Returns:
        S lists of M estimates. Every stratum must have a case.
    """
    members = np.ones((len(values), 1), bool) if strata is None else strata
    n_strata, n_metrics = members.shape[1], values.shape[1]
    columns = [values * members[:, s, None] for s in range(n_strata)]
    sums = cluster_sums(np.column_stack([*columns, members]), clusters)[:, :-1]
    totals = np.vstack([sums.sum(axis=0), bootstrap_sums(sums, resamples=resamples, seed=seed)])
    split = n_strata * n_metrics
    with np.errstate(invalid="ignore"):  # a resample may hold nobody of a small stratum: 0 / 0
        means = totals[:, :split].reshape(-1, n_strata, n_metrics) / totals[:, split:, None]
    low, high = interval(means[1:])
    return [
        [Estimate(float(means[0, s, m]), (float(low[s, m]), float(high[s, m]))) for m in range(n_metrics)]
        for s in range(n_strata)
    ]


def sign_flip_test(differences: np.ndarray, *, resamples: int = 10_000, seed: int = 0) -> np.ndarray:
    """Two-sided paired permutation test: were the two methods interchangeable for every user?

    Swapping the methods of a user flips the sign of the user's difference. The observed labelling is one of the
    possible ones, so it counts among the draws and no p-value is zero.

    Args:
        differences: float64 [U, C], each user's summed difference, one column a comparison.

    Returns:
        p-values, float64 [C]; 1 where the two never differ.
    """
    flipping = differences[np.any(differences != 0, axis=1)]  # a zero stays zero whatever its sign
    observed = np.abs(flipping.sum(axis=0))
    # Sums of the same numbers in another order differ in the last digits; they must still count as equal.
    threshold = observed - 1e-9 * np.abs(flipping).sum(axis=0)
    random = np.random.default_rng(seed)
    extreme = np.zeros(differences.shape[1])
    for size in _blocks(resamples, len(flipping)):
        bits = np.unpackbits(random.integers(0, 256, (size, -(-len(flipping) // 8)), np.uint8), axis=1)
        flipped = bits[:, : len(flipping)].astype(np.float64) @ flipping
        extreme += (np.abs(flipping.sum(axis=0) - 2 * flipped) >= threshold).sum(axis=0)
    return (extreme + 1) / (resamples + 1)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values, float64 [C]: below alpha means rejected with family-wise error at most alpha."""
    order = np.argsort(p_values)
    steps = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _blocks(total: int, width: int) -> Iterator[int]:
    """`total` rows in portions that keep rows x width within `BLOCK_NUMBERS`."""
    size = max(1, BLOCK_NUMBERS // max(width, 1))
    while total > 0:
        yield min(size, total)
        total -= size
