"""Evaluations and comparisons as tables: for the terminal (Rich), for documents (Markdown), and as plain text.

The protocol always stands above the numbers. Whatever has a table is first made into a `Sheet`, so that the terminal,
Markdown and the HTML page say the same.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from forethought.escaping import markdown, printable
from forethought.reports import costs
from forethought.reports.numbers import noisy, number

if TYPE_CHECKING:
    from forethought.evaluation.compare import Comparison, Difference
    from forethought.evaluation.groups import Group as CaseGroup
    from forethought.evaluation.report import Evaluation
    from forethought.evaluation.statistics import Estimate

WIDTH = 140  # columns of plain text
ALPHA = 0.05  # p-values below it are starred
HEADLINE = ("recall@10", "ndcg@10")  # what groups are shown by
GROUPINGS = {"history_length": "history length", "target_popularity": "training interactions of the target"}
SAID = (
    "data",
    "data_hash",
    "split",
    "ties",
    "tie_seed",
    "part",
    "n_cases",
    "n_items",
    "candidates",
    "history_excluded",
)


@dataclass(frozen=True)
class Sheet:
    """A table of ready-made cells: the first `names` columns say what a row is, the others hold numbers."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    names: int = 1

    def rich(self) -> Table:
        table = Table(title=_shown(self.title), title_justify="left", title_style="bold", box=None, pad_edge=False)
        for place, column in enumerate(self.columns):
            table.add_column(_shown(column), justify="left" if place < self.names else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*map(_shown, row))
        return table

    def markdown(self) -> str:
        rule = ["---"] * self.names + ["---:"] * (len(self.columns) - self.names)
        lines = [list(map(markdown, self.columns)), rule, *[list(map(markdown, row)) for row in self.rows]]
        return "\n".join([f"**{markdown(self.title)}**", "", *(f"| {' | '.join(line)} |" for line in lines)])


def _shown(words: str, style: str = "") -> Text:
    """As `Text`: names of data may hold what Rich takes for markup, or what a terminal obeys."""
    return Text(printable(words), style=style)


def text(view: RenderableType, width: int = WIDTH) -> str:
    """What the terminal would show, without colours."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(view)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def describe(protocol: Mapping[str, Any]) -> str:
    """A protocol in one line."""
    name, digest = protocol.get("data", "data"), str(protocol.get("data_hash", ""))[:8]
    ties = f"ties {protocol.get('ties')}" + ("" if (seed := protocol.get("tie_seed")) is None else f" (seed {seed})")
    n_items = f"{protocol.get('n_items', 0):,}"
    if protocol.get("candidates") == "sampled":
        candidates = (
            f"SAMPLED (biased): {protocol['negatives']} {protocol['negatives_by']} negatives of {n_items} items"
        )
    else:
        candidates = f"full ranking of {n_items} items"
    noise = protocol.get("noise")
    rest = [
        f"{key} {value}"
        for key, value in protocol.items()
        if key not in SAID and not key.startswith("negatives") and not isinstance(value, dict | list)
    ]
    parts = [
        f"{name} ({digest})",
        f"split {protocol.get('split')}",
        ties,
        f"{protocol.get('part')}, {protocol.get('n_cases', 0):,} cases",
        f"history {'excluded' if protocol.get('history_excluded') else 'not excluded'}",
        candidates,
        *([] if noise is None else [f"NOISY histories: {noisy(noise)}"]),
        *rest,
    ]
    return " · ".join(parts)


def evaluation_sheets(evaluation: Evaluation) -> list[Sheet]:
    """Accuracy, lists, groups and cost of one evaluation."""
    sheets = [
        _by_cut("accuracy, mean [95% interval over users]", {n: interval(e) for n, e in evaluation.metrics.items()})
    ]
    if evaluation.lists:
        sheets.append(_by_cut("lists", {name: number(value, ".4g") for name, value in evaluation.lists.items()}))
    sheets += [_groups(GROUPINGS.get(by, by), groups) for by, groups in evaluation.groups.items()]
    return [*sheets, Sheet("cost", *costs.stage_rows(evaluation.cost))]


def evaluation_view(evaluation: Evaluation) -> RenderableType:
    """An evaluation for the terminal."""
    return _stack(evaluation.protocol, evaluation_sheets(evaluation), costs.evaluation_notes(evaluation))


def evaluation_markdown(evaluation: Evaluation) -> str:
    """An evaluation for a document, such as a model card."""
    return _markdown(evaluation.protocol, evaluation_sheets(evaluation), costs.evaluation_notes(evaluation))


def comparison_sheets(comparison: Comparison) -> list[Sheet]:
    """Every metric of every method with its difference to the baseline, and what the methods cost."""
    gains = {(gain.method, gain.metric): gain for gain in comparison.differences}
    methods = comparison.methods
    accuracy = [
        [
            metric,
            method,
            interval(standing.metrics[metric]),
            number(standing.seed_std[metric], ".4f"),
            *_gain(gains.get((method, metric))),
        ]
        for metric in methods[comparison.baseline].metrics
        for method, standing in methods.items()
    ]
    case = costs.case_rows(methods)
    columns = ["metric", "method", "mean [95%]", "seed std", "difference [95%]", "relative [95%]", "p (Holm)"]
    return [
        Sheet(f"accuracy, against {comparison.baseline}", columns, accuracy, names=2),
        Sheet("cost of a history: read and thought about, then all items ranked", costs.CASE_COLUMNS, case, names=2),
        Sheet("cost of training", costs.TRAINING_COLUMNS, costs.training_rows(methods)),
    ]


def notes(comparison: Comparison) -> list[str]:
    """What saved steps saved, and how intervals, p-values and costs came about."""
    statistics = (
        f"Intervals: percentile bootstrap over users ({comparison.resamples:,} resamples), paired for differences. "
        f"p: two-sided paired sign-flip test ({comparison.permutations:,} permutations); Holm's correction over all "
        f"{len(comparison.differences)} differences, * below {ALPHA}. Both speak of users; "
        "the seed std speaks of training seeds."
    )
    spent = (
        "FLOPs: products and attention, padding included. ms: wall clock as each run was evaluated; "
        "hold them against each other only if that was on the same idle machine."
    )
    return [*_noises(comparison), *costs.savings(comparison), statistics, spent]


def _noises(comparison: Comparison) -> list[str]:
    """Who read noisy histories, where that differs: the protocol that is shared then says nothing of it."""
    if not any(method.noise for method in comparison.methods.values()) or "noise" in comparison.protocol:
        return []
    told = {name: "clean" if m.noise is None else noisy(m.noise) for name, m in comparison.methods.items()}
    return [f"Histories that were read: {'; '.join(f'{name} ({what})' for name, what in told.items())}."]


def comparison_view(comparison: Comparison) -> RenderableType:
    """A comparison for the terminal."""
    return _stack(comparison.protocol, comparison_sheets(comparison), notes(comparison))


def comparison_markdown(comparison: Comparison) -> str:
    """A comparison for a document."""
    return _markdown(comparison.protocol, comparison_sheets(comparison), notes(comparison))


def interval(estimate: Estimate, form: str = ".4f") -> str:
    """`0.0512 [0.0490, 0.0534]`; a dash where there is no number."""
    if not math.isfinite(estimate.mean):
        return "–"
    low, high = estimate.ci95
    return f"{estimate.mean:{form}} [{low:{form}}, {high:{form}}]"


def _gain(gain: Difference | None) -> list[str]:
    if gain is None:
        return ["", "", ""]
    star = "*" if gain.p_holm < ALPHA else ""
    return [
        interval(gain.absolute, "+.4f"),
        interval(gain.relative, "+.1%"),
        f"{gain.p_holm:.4f}{star}",
    ]


def _by_cut(title: str, values: Mapping[str, str]) -> Sheet:
    """`name@k` to rows of names and columns of k."""
    named = {name: name.rpartition("@")[::2] for name in values}
    cuts = list(dict.fromkeys(cut for _, cut in named.values()))
    rows = [
        [first, *(values.get(f"{first}@{cut}", "") for cut in cuts)]
        for first in dict.fromkeys(first for first, _ in named.values())
    ]
    return Sheet(title, ["", *(f"@{cut}" for cut in cuts)], rows)


def _groups(by: str, groups: Mapping[str, CaseGroup]) -> Sheet:
    known = next(iter(groups.values())).metrics if groups else {}
    shown = [name for name in known if name.endswith(HEADLINE)]
    thinks = any(g.steps for g in groups.values())
    rows = [
        [
            *(name, f"{g.range[0]:,}–{g.range[1]:,}", f"{g.cases:,}"),
            *(interval(g.metrics[metric]) for metric in shown),
            *([number(g.steps, ".2f")] if thinks else []),
        ]
        for name, g in groups.items()
    ]
    return Sheet(f"by {by}", ["group", "range", "cases", *shown, *(["steps"] if thinks else [])], rows)


def _stack(protocol: Mapping[str, Any], sheets: list[Sheet], remarks: list[str]) -> RenderableType:
    style = "bold red" if protocol.get("candidates") == "sampled" or protocol.get("noise") else "dim"
    parts: list[RenderableType] = [_shown(describe(protocol), style)]
    for sheet in sheets:
        parts += [Text(), sheet.rich()]
    return Group(*parts, Text(), *(_shown(remark, "dim") for remark in remarks))


def _markdown(protocol: Mapping[str, Any], sheets: list[Sheet], remarks: list[str]) -> str:
    above = f"Protocol: {markdown(describe(protocol))}"
    return "\n\n".join([above, *(sheet.markdown() for sheet in sheets), *map(markdown, remarks)]) + "\n"
