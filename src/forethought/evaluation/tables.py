"""Evaluations and comparisons as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from forethought.evaluation import cost_tables
from forethought.evaluation.groups import N_GROUPS, Group
from forethought.evaluation.protocol import in_words, is_unusual, noisy
from forethought.evaluation.statistics import Estimate
from forethought.evaluation.summary import Difference, MethodSummary
from forethought.tables.formats import NONE, number
from forethought.tables.table import Document, Table

ALPHA = 0.05  # p-values below it are starred
HEADLINE = ("recall@10", "ndcg@10")  # what groups are shown by
GROUPINGS = {
    "history_length": "history length",
    "target_popularity": "training interactions of the target",
    "target": "whether training met the target (range: its training interactions)",
    "repeat": "whether the target stands in the history (range: its training interactions)",
}


def evaluation_document(
    protocol: Mapping[str, Any],
    metrics: Mapping[str, Estimate],
    lists: Mapping[str, float],
    groups: Mapping[str, Mapping[str, Group]],
    cost: Mapping[str, Any],
    halting: Mapping[str, Any] | None,
    weights: str | None,
) -> Document:
    """Accuracy, lists, groups and cost of one evaluation, by the parts of `Evaluation`."""
    accuracy = {name: interval_cell(estimate) for name, estimate in metrics.items()}
    apart = {name: cell for name, cell in accuracy.items() if "@" not in name}  # of one's own
    cut = {name: cell for name, cell in accuracy.items() if name not in apart}
    tables = [_by_cut("accuracy, mean [95% interval over users]", cut)]
    if apart:
        tables.append(Table("own metrics, mean [95% interval over users]", ["", "mean"], [*map(list, apart.items())]))
    if lists:
        tables.append(_by_cut("lists", {name: number(value, ".4g") for name, value in lists.items()}))
    tables += [
        _groups(GROUPINGS.get(by, f"{by} (range: training interactions of the target)"), each)
        for by, each in groups.items()
    ]
    tables += [cost_tables.stage_table(cost)] if cost.get("ms_per_history") else []
    remarks = _empty_groups(groups) + cost_tables.remarks(halting, cost)
    remarks += [] if weights is None else [f"Weights: {weights[:12]}, the first digits of their checksum."]
    return Document(in_words(protocol), tables, remarks, is_unusual(protocol))


def comparison_document(
    protocol: Mapping[str, Any],
    methods: Mapping[str, MethodSummary],
    baseline: str,
    differences: Sequence[Difference],
    resamples: int,
    permutations: int,
) -> Document:
    """Methods side by side, by the parts of `Comparison`: tables, and how intervals, p-values and costs came about."""
    statistics = (
        f"Intervals: percentile bootstrap over users ({resamples:,} resamples), paired for differences. "
        f"p: two-sided paired sign-flip test ({permutations:,} permutations); Holm's correction over all "
        f"{len(differences)} differences, * below {ALPHA}. Both speak of users; "
        "the seed std speaks of training seeds."
    )
    spent = (
        "FLOPs: products and attention, padding included. ms: wall clock as each run was evaluated; "
        "hold them against each other only if that was on the same idle machine."
    )
    return Document(
        in_words(protocol),
        comparison_tables(methods, baseline, differences),
        [
            *_noises(protocol, methods),
            *_strangers(protocol, methods),
            *cost_tables.savings(methods, baseline),
            statistics,
            spent,
        ],
        is_unusual(protocol),
    )


def comparison_tables(
    methods: Mapping[str, MethodSummary], baseline: str, differences: Sequence[Difference]
) -> list[Table]:
    """Every metric of every method with its difference to the baseline, and what the methods cost."""
    gains = {(gain.method, gain.metric): gain for gain in differences if gain.against == baseline}
    between = [gain for gain in differences if gain.against != baseline]
    accuracy = [
        [
            metric,
            method,
            interval_cell(summary.metrics[metric]),
            number(summary.seed_std[metric], ".4f"),
            *_gain(gains.get((method, metric))),
        ]
        for metric in methods[baseline].metrics
        for method, summary in methods.items()
    ]
    columns = ["metric", "method", "mean [95%]", "seed std", "difference [95%]", "relative [95%]", "p (Holm)"]
    return [
        Table(f"accuracy, against {baseline}", columns, accuracy, names=2),
        *([_between(between)] if between else []),
        cost_tables.case_table(methods),
        cost_tables.training_table(methods),
    ]


def interval_cell(estimate: Estimate, form: str = ".4f") -> str:
    """`0.0512 [0.0490, 0.0534]`; a dash where there is no number."""
    if not math.isfinite(estimate.mean):
        return NONE
    low, high = estimate.ci95
    return f"{estimate.mean:{form}} [{low:{form}}, {high:{form}}]"


def _between(gains: Sequence[Difference]) -> Table:
    """The methods other than the baseline against each other."""
    columns = ["metric", "method", "against", "difference [95%]", "relative [95%]", "p (Holm)"]
    metrics = dict.fromkeys(gain.metric for gain in gains)
    rows = [[m, gain.method, gain.against, *_gain(gain)] for m in metrics for gain in gains if gain.metric == m]
    return Table("accuracy, of the other pairs", columns, rows, names=3)


def _gain(gain: Difference | None) -> list[str]:
    if gain is None:
        return ["", "", ""]
    star = "*" if gain.p_holm < ALPHA else ""
    return [
        interval_cell(gain.absolute, "+.4f"),
        interval_cell(gain.relative, "+.1%"),
        f"{gain.p_holm:.4f}{star}",
    ]


def _by_cut(title: str, values: Mapping[str, str]) -> Table:
    """`name@k` to rows of names and columns of k."""
    named = {name: name.rpartition("@")[::2] for name in values}
    cuts = list(dict.fromkeys(cut for _, cut in named.values()))
    rows = [
        [first, *(values.get(f"{first}@{cut}", "") for cut in cuts)]
        for first in dict.fromkeys(first for first, _ in named.values())
    ]
    return Table(title, ["", *(f"@{cut}" for cut in cuts)], rows)


def _groups(by: str, groups: Mapping[str, Group]) -> Table:
    known = next(iter(groups.values())).metrics if groups else {}
    shown = [name for name in known if name.endswith(HEADLINE)] or [*known][:2]
    reasons = any(g.steps for g in groups.values())
    chances = any(g.chance is not None for g in groups.values())
    rows = [
        [
            *(name, f"{g.range[0]:,}–{g.range[1]:,}", f"{g.cases:,}"),
            *(interval_cell(g.metrics[metric]) for metric in shown),
            *([number(g.chance, ".4f")] if chances else []),
            *([number(g.steps, ".2f")] if reasons else []),
        ]
        for name, g in groups.items()
    ]
    more = [*(["recall@10 by chance"] if chances else []), *(["steps"] if reasons else [])]
    return Table(f"by {by}", ["group", "range", "cases", *shown, *more], rows)


def _empty_groups(groups: Mapping[str, Mapping[str, Group]]) -> list[str]:
    """Which fifths have no case, and why; else one looks for them."""
    fifths = [f"G{n + 1}" for n in range(N_GROUPS)]
    missing = {
        by: [name for name in fifths if name not in each] for by, each in groups.items() if each.keys() <= {*fifths}
    }
    return [
        f"By {GROUPINGS.get(by, by)} there is no {' and no '.join(names)}: cases of equal value share a group, and so "
        "many are equal that they fill more than a fifth."
        for by, names in missing.items()
        if names and len(names) < N_GROUPS
    ]


def _noises(protocol: Mapping[str, Any], methods: Mapping[str, MethodSummary]) -> list[str]:
    """Who read noisy histories, where that differs: the protocol that is shared then says nothing of it."""
    if not any(method.noise for method in methods.values()) or "noise" in protocol:
        return []
    noises = {name: "clean" if m.noise is None else noisy(m.noise) for name, m in methods.items()}
    return [f"Histories that were read: {'; '.join(f'{name} ({what})' for name, what in noises.items())}."]


def _strangers(protocol: Mapping[str, Any], methods: Mapping[str, MethodSummary]) -> list[str]:
    """Who read histories without knowing whose they are, where that differs."""
    names = [name for name, method in methods.items() if method.unknown_users]
    if not names or "unknown_users" in protocol:
        return []
    return [f"Read as unknown users' histories, though vectors of users were trained: {', '.join(names)}."]
