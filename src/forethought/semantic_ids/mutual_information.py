"""How much two codebooks tell of each other: adjusted mutual information, 0 where nothing beyond chance, 1 for copies.

    AMI = (I(a, b) - E[I]) / ((H(a) + H(b)) / 2 - E[I])

E[I] is that of codebooks with the same counts and items dealt out by chance (Vinh et al., JMLR 2010, eq. 24).
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln


def adjusted_mutual_information(a_N: np.ndarray, b_N: np.ndarray) -> float:
    """Of two lists of codes of the same items."""
    _, a_N, a_counts = np.unique(a_N, return_inverse=True, return_counts=True)
    _, b_N, b_counts = np.unique(b_N, return_inverse=True, return_counts=True)
    if len(a_counts) == len(b_counts) == 1:
        return 1.0
    n = len(a_N)
    _, both = np.unique(a_N * len(b_counts) + b_N, return_counts=True)
    mutual = _entropy(a_counts, n) + _entropy(b_counts, n) - _entropy(both, n)
    chance = _expected(a_counts, b_counts, n)
    most = (_entropy(a_counts, n) + _entropy(b_counts, n)) / 2
    apart = most - chance
    return float((mutual - chance) / apart) if abs(apart) > 1e-12 else 0.0


def _entropy(counts: np.ndarray, n: int) -> float:
    return float(-(counts / n * np.log(counts / n)).sum())


def _expected(a_counts: np.ndarray, b_counts: np.ndarray, n: int) -> float:
    """Over pairs of counts that occur: many codes have the same one."""
    a_sizes, a_times = np.unique(a_counts, return_counts=True)
    b_sizes, b_times = np.unique(b_counts, return_counts=True)
    log_factorial = gammaln(np.arange(n + 1) + 1.0)
    total = 0.0
    for a, times in zip(a_sizes, a_times, strict=True):
        common = np.arange(1, a + 1)[None]  # how many items two codes share
        b = b_sizes[:, None]
        possible = (common <= b) & (common >= a + b - n)
        k, left = np.where(possible, common, 1), np.where(possible, n - a - b + common, 0)
        log_chance = (
            log_factorial[a] + log_factorial[b] + log_factorial[n - a] + log_factorial[n - b] - log_factorial[n]
            - log_factorial[k] - log_factorial[a - k] - log_factorial[np.maximum(b - k, 0)] - log_factorial[left]
        )  # fmt: skip
        terms = k / n * np.log(n * k / (a * b)) * np.exp(np.where(possible, log_chance, 0.0))
        total += times * float((b_times * np.where(possible, terms, 0.0).sum(1)).sum())
    return total
