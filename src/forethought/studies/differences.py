"""Every variant of a study against the first one, paired over users and, as far as it goes, over seeds.

Runs of one seed share their batches and often their first weights, or a whole encoder. A variant that was run with
fewer seeds than the first is therefore held against those very seeds of it, not against the mean of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from forethought.evaluation.compare import compare
from forethought.evaluation.report import Evaluation
from forethought.evaluation.statistics import holm
from forethought.evaluation.storage import plain

METRICS = ("recall@10", "ndcg@10")


def paired(found: Mapping[str, Mapping[int, Evaluation]]) -> dict[str, Any] | None:
    """What `compare` says of each variant that shares a seed with the first; None where there is none.

    Args:
        found: by variant, the first one's before all others, evaluations by seed.

    Returns:
        Plain values: `baseline`, and `differences` with the `seeds` of each; Holm's correction is over all of them.
    """
    first, *others = found
    told: list[dict[str, Any]] = []
    for seeds, variants in _by_seeds(found, first, others).items():
        same = {variant: [found[variant][seed] for seed in seeds] for variant in (first, *variants)}
        each = compare(same, first, metrics=METRICS).to_json()["differences"]
        told += [difference | {"seeds": list(seeds)} for difference in each]
    if not told:
        return None
    place = {variant: at for at, variant in enumerate(others)}
    told.sort(key=lambda difference: place[difference["method"]])
    for difference, p in zip(told, holm(np.array([d["p"] for d in told])).tolist(), strict=True):
        difference["p_holm"] = p
    return {"baseline": first, "differences": plain(told)}


def _by_seeds(
    found: Mapping[str, Mapping[int, Evaluation]], first: str, others: list[str]
) -> dict[tuple[int, ...], list[str]]:
    """The variants by the seeds that they share with the first."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for variant in others:
        if shared := tuple(sorted(found[first].keys() & found[variant].keys())):
            groups.setdefault(shared, []).append(variant)
    return groups
