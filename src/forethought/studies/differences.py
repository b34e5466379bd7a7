"""Every variant of a study against the first one, paired over users and, as far as it goes, over seeds.

Runs of one seed share their batches and often their first weights, or a whole encoder. A variant that was run with
fewer seeds than the first is therefore held against those very seeds of it, not against the mean of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from forethought.evaluation.compare import compare
from forethought.evaluation.report import Evaluation
from forethought.evaluation.statistics import holm
from forethought.evaluation.storage import plain

COMPARED = ("recall@10", "ndcg@10")


def paired(evaluations: Mapping[str, Mapping[int, Evaluation]]) -> dict[str, Any] | None:
    """What `compare` says of each variant that shares a seed with the first; None where there is none.

    Args:
        evaluations: by variant, the first one's before all others, evaluations by seed.

    Returns:
        Plain values: `baseline`, and `differences` with the `seeds` of each; Holm's correction is over all of them.
    """
    first, *others = evaluations
    differences: list[dict[str, Any]] = []
    for seeds, variants in _by_seeds(evaluations, first, others).items():
        same = {variant: [evaluations[variant][seed] for seed in seeds] for variant in (first, *variants)}
        each = compare(same, first, metrics=COMPARED).to_json()["differences"]
        differences += [difference | {"seeds": list(seeds)} for difference in each]
    if not differences:
        return None
    dataset = {variant: at for at, variant in enumerate(others)}
    differences.sort(key=lambda difference: dataset[difference["method"]])
    for difference, p in zip(differences, holm(np.array([d["p"] for d in differences])).tolist(), strict=True):
        difference["p_holm"] = p
    return {"baseline": first, "differences": plain(differences)}


def merged(before: Mapping[str, Any] | None, renewed: Mapping[str, Any], variants: Sequence[str]) -> dict[str, Any]:
    """Renewed differences, and those of before that could not be: their runs' cases are gone, or there are fewer now.

    Args:
        before, renewed: as `paired` returns them.
        variants: of the study, in the order of its page; of others nothing stays.

    Returns:
        Differences in that order, with Holm's correction over all of them.
    """
    found = {(each["method"], each["metric"]): each for each in renewed["differences"]}
    stays = before["differences"] if before is not None and before["baseline"] == renewed["baseline"] else []
    for each in stays:
        key = each["method"], each["metric"]
        if each["method"] in variants and (key not in found or len(found[key]["seeds"]) < len(each["seeds"])):
            found[key] = each
    order = sorted(found.values(), key=lambda each: (variants.index(each["method"]), COMPARED.index(each["metric"])))
    p_holm = holm(np.array([each["p"] for each in order])).tolist()
    return {
        "baseline": renewed["baseline"],
        "differences": [each | {"p_holm": p} for each, p in zip(order, p_holm, strict=True)],
    }


def _by_seeds(
    evaluations: Mapping[str, Mapping[int, Evaluation]], first: str, others: list[str]
) -> dict[tuple[int, ...], list[str]]:
    """The variants by the seeds that they share with the first."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for variant in others:
        if shared := tuple(sorted(evaluations[first].keys() & evaluations[variant].keys())):
            groups.setdefault(shared, []).append(variant)
    return groups
