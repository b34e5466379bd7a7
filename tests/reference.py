"""Oracles that several tests hold the code against: the textbook's formulas in numpy and float64, by brute force.

None of them knows the package. They are slow, short, and written as one would write them on a blackboard.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

# ---- layers


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return x @ weight.T + bias


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def attend(q_D: np.ndarray, k_ND: np.ndarray, v_ND: np.ndarray, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """One query over keys and values, head by head: the mix [D], and the weights [heads, N]."""
    mixed, weights = [], []
    for of in np.split(np.arange(len(q_D)), heads):
        scores = np.exp(k_ND[:, of] @ q_D[of] / math.sqrt(len(of)))
        weights.append(scores / scores.sum())
        mixed.append(weights[-1] @ v_ND[:, of])
    return np.concatenate(mixed), np.array(weights)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


# ---- the softmax


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def moments(states_PD: np.ndarray, items_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The log-sum-exp of each state's scores, and the mean item vector under their softmax."""
    scores = states_PD @ items_ND.T
    return scores[:, 0] - log_softmax(scores)[:, 0], np.exp(log_softmax(scores)) @ items_ND


def entropy(log_p: np.ndarray) -> np.ndarray:
    """In nats, over the last axis."""
    return -(np.exp(log_p) * log_p).sum(-1)


def kl(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """KL(p || q) in nats, over the last axis."""
    return (np.exp(log_p) * (log_p - log_q)).sum(-1)


def info_nce(anchors: np.ndarray, others: np.ndarray, temperature: float, ignored: np.ndarray) -> np.ndarray:
    """Of each anchor: how surprising its own partner is among all that are not ignored; its own never is."""
    told = []
    for p, anchor in enumerate(anchors):
        scores = {q: anchor @ others[q] / temperature for q in range(len(others)) if q == p or not ignored[p, q]}
        told.append(math.log(sum(map(math.exp, scores.values()))) - scores[p])
    return np.array(told)


# ---- ranking


def mid_rank(scores: Sequence[float], target: int, candidates: Collection[int] | None = None) -> float:
    """1 + those that score better + half of those that score the same; infinite where the target is no candidate."""
    among = range(len(scores)) if candidates is None else candidates
    if target not in among:
        return math.inf
    better = sum(scores[i] > scores[target] for i in among)
    return 1 + better + sum(scores[i] == scores[target] for i in among if i != target) / 2


def metric(name: str, rank: float, k: float) -> float:
    """What one case with one target adds: recall, NDCG or MRR at k."""
    if rank > k:
        return 0.0
    return {"recall": 1.0, "ndcg": math.log(2) / math.log(rank + 1), "mrr": 1 / rank}[name]


# ---- clusters


def lloyd(points_ND: np.ndarray, start_KD: np.ndarray, iterations: int, *, sphere: bool) -> np.ndarray:
    """The cluster of each point after so many rounds of k-means; on a `sphere` by angle, among centres of length 1."""
    centres = unit(start_KD) if sphere else start_KD
    for _ in range(iterations):
        of = _nearest(points_ND, centres, sphere)
        centres = np.stack([points_ND[of == c].mean(0) for c in range(len(centres))])
        centres = unit(centres) if sphere else centres
    return _nearest(points_ND, centres, sphere)


def _nearest(points_ND: np.ndarray, centres_KD: np.ndarray, sphere: bool) -> np.ndarray:
    if sphere:
        return (points_ND @ centres_KD.T).argmax(1)
    return ((points_ND[:, None] - centres_KD) ** 2).sum(-1).argmin(1)
