"""How many ways lead to one item, and how far the paths of one user agree; beside what chance would have it.

The effective number of ways is exp(H) of their shares among the cases that an item tops. Chance deals the same ways out
among all of these cases anew, so that an item of n cases has n draws and what it is does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from forethought.evaluation.statistics import estimate_means, interval
from forethought.studies.labels import NONE, information

LEAST = 10  # cases of an item, for its ways to be counted
DEALS = 200


def as_groups(*columns: np.ndarray) -> np.ndarray:
    """Rows of whole numbers as groups from 0, [n]: equal rows are one group."""
    table = np.column_stack(columns)
    return np.unique(table, axis=0, return_inverse=True)[1].reshape(-1)


def ways_by_item(items: np.ndarray, ways: np.ndarray, seed: int, least: int = LEAST) -> dict[str, Any]:
    """How many ways lead to items that top the lists of so many cases or more.

    Args:
        items: int [n], the item that tops each case's list.
        ways: int [n], groups from 0, such as the order of codebooks on the path that leads there.

    Returns:
        `items` and `cases` that were looked at, and where there are any the means over these items of `distinct` ways
        and of their `effective` number, `several`, the share of items that more than one way leads to, and what chance
        would have: `distinct_by_chance` and `effective_by_chance` with `ci95` over deals.
    """
    kept = np.bincount(items)[items] >= least
    which, of = as_groups(items[kept]), as_groups(ways[kept]) if kept.any() else ways[kept]
    if not kept.any():
        return {"items": 0, "cases": 0}
    distinct, effective = _numbers(which, of)
    rng = np.random.default_rng(seed)
    dealt = np.array([[each.mean() for each in _numbers(which, rng.permutation(of))] for _ in range(DEALS)])
    low, high = interval(dealt)
    return {
        "items": len(distinct),
        "cases": int(kept.sum()),
        "distinct": float(distinct.mean()),
        "effective": float(effective.mean()),
        "several": float((distinct > 1).mean()),
        "distinct_by_chance": {"mean": float(dealt[:, 0].mean()), "ci95": [float(low[0]), float(high[0])]},
        "effective_by_chance": {"mean": float(dealt[:, 1].mean()), "ci95": [float(low[1]), float(high[1])]},
    }


def _numbers(which: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct and effective numbers of ways of each item, [I]."""
    counts_IW = np.zeros((which.max() + 1, of.max() + 1))
    np.add.at(counts_IW, (which, of), 1)
    share_IW = counts_IW / counts_IW.sum(1, keepdims=True)
    entropy_I = -(share_IW * np.log(np.where(share_IW > 0, share_IW, 1))).sum(1)
    return (counts_IW > 0).sum(1), np.exp(entropy_I)


def information_within(
    labels: np.ndarray, groups: Mapping[str, np.ndarray], items: np.ndarray, least: int = LEAST
) -> dict[str, Any]:
    """What groups tell of labels among cases of one and the same item: adjusted mutual information, weighted by cases.

    Items of one label tell nothing and are left out; a group that all cases of an item share has 0 there.

    Args:
        labels: of each case, "" where it has none.
        items: int [n], of each case.
    """
    rows = []
    for item in np.flatnonzero(np.bincount(items, minlength=1) >= least):
        at = np.flatnonzero((items == item) & (labels != NONE))
        if len(at) >= least and len(set(labels[at])) > 1:
            rows.append(at)
    told = {"items": len(rows), "cases": sum(map(len, rows))}
    if not rows:
        return told | {"information": {}}
    return told | {
        "information": {
            what: float(
                sum(len(at) * (information(labels[at], of[at]) if len(set(of[at])) > 1 else 0.0) for at in rows)
                / told["cases"]
            )
            for what, of in groups.items()
        }
    }


def agreement(best_nP: np.ndarray, weights_nP: np.ndarray, users: np.ndarray, seed: int) -> dict[str, Any]:
    """How far the paths of a case lead to the same item.

    Args:
        best_nP: the item that each path thinks most of.
        weights_nP: of the paths; where it is 0 there is no path.

    Returns:
        `paths` a case, the `share` of a case's paths whose item is its commonest one, with its interval over users,
        `unanimous`, the share of cases where all are, and `by_chance`, the share among as many paths of other cases.
    """
    alive_nP = weights_nP > 0
    share_n = _commonest_share(best_nP, alive_nP)
    found = estimate_means(np.column_stack([share_n, share_n == 1]), users)[0]
    rng = np.random.default_rng(seed)
    dealt_nP = best_nP.copy()
    dealt_nP[alive_nP] = rng.permutation(best_nP[alive_nP])
    return {
        "paths": float(alive_nP.sum(1).mean()),
        "share": {"mean": found[0].mean, "ci95": found[0].ci95},
        "unanimous": {"mean": found[1].mean, "ci95": found[1].ci95},
        "by_chance": float(_commonest_share(dealt_nP, alive_nP).mean()),
    }


def _commonest_share(best_nP: np.ndarray, alive_nP: np.ndarray) -> np.ndarray:
    """The share of each case's paths that have its commonest item, [n]."""
    equal_nPP = (best_nP[:, :, None] == best_nP[:, None]) & alive_nP[:, :, None] & alive_nP[:, None]
    return equal_nPP.sum(-1).max(-1) / np.maximum(alive_nP.sum(1), 1)
