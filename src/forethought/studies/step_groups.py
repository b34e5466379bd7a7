"""Who takes more steps: cases grouped by the length of their history, and by how hard they are before anybody thinks.

Groups are fifths, G1 the shortest or easiest. What is held against each other are the outermost two, by a bootstrap
over users.

Shapes: n cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from forethought.catalogue import losses
from forethought.catalogue.moments import moments
from forethought.data.batches import case_batches
from forethought.data.histories import Cases
from forethought.evaluation.groups import quantile_groups
from forethought.evaluation.ranking import rank_cases
from forethought.evaluation.statistics import bootstrap_sums, cluster_sums, interval
from forethought.methods.interface import Method, dense_states
from forethought.reasoning.halting import Halting

GROUPED = {
    "length": "length of the history",
    "entropy": "entropy before the first step",
    "rank": "rank of the next item before the first step",
}
"""What cases are grouped by; the last is known only afterwards."""
UNTHOUGHT = Halting(rule="fixed", max_steps=0)


def sizes_of(method: Method, cases: Cases, *, exclude_history: bool) -> dict[str, np.ndarray]:
    """What each case is grouped by, [n] each: items of its history, entropy as a share of ln N, rank of its target."""
    ranked = rank_cases(method, cases, exclude_history=exclude_history, halting=UNTHOUGHT)
    return {"length": cases.history.lengths, "entropy": entropies(method, cases), "rank": ranked.ranks}


@torch.inference_mode()
def entropies(method: Method, cases: Cases) -> np.ndarray:
    """Of the softmax over all items before the first step, as a share of ln N, [n]; exact, however a method looks."""
    method.eval()
    catalogue, found = method.catalogue(), np.empty(len(cases))
    for rows, batch in case_batches(cases, method.window, 1024):
        states = method.user_states(batch.to(method.device), UNTHOUGHT)
        r_BD = catalogue.tempered(dense_states(states, "Measuring how sure a history is").states_BD)
        found[rows] = losses.entropy(r_BD, moments(r_BD, catalogue)).double().cpu().numpy()
    return found / math.log(max(len(catalogue), 2))


def steps_by(steps_n: np.ndarray, sizes: Mapping[str, np.ndarray], users_n: np.ndarray) -> dict[str, dict[str, Any]]:
    """Mean steps of each group, and how many more the last takes than the first.

    Returns:
        By what they are grouped by: `means` by group, `difference` and its `ci95`, over users; these are None where
        all cases are in one group.
    """
    return {name: _by(steps_n, quantile_groups(values_n), users_n) for name, values_n in sizes.items()}


def _by(steps_n: np.ndarray, groups_n: np.ndarray, users_n: np.ndarray) -> dict[str, Any]:
    names = np.unique(groups_n)
    means = {str(name): float(steps_n[groups_n == name].mean()) for name in names}
    if len(names) < 2:
        return {"means": means, "difference": None, "ci95": None}
    first_n, last_n = groups_n == names[0], groups_n == names[-1]
    sums = cluster_sums(np.column_stack([steps_n * last_n, last_n, steps_n * first_n, first_n]), users_n)
    draws = bootstrap_sums(sums)
    with np.errstate(divide="ignore", invalid="ignore"):  # nobody of a small group was drawn: passed over
        differences = draws[:, 0] / draws[:, 1] - draws[:, 2] / draws[:, 3]
    low, high = interval(differences[:, None])
    difference = means[str(names[-1])] - means[str(names[0])]
    return {"means": means, "difference": difference, "ci95": [float(low[0]), float(high[0])]}


def difference_words(by: Mapping[str, Any]) -> str:
    if by["difference"] is None or None in by["ci95"]:
        return "unknown"
    low, high = by["ci95"]
    return f"{by['difference']:+.2f} [{low:+.2f}, {high:+.2f}]"
