"""A report on runs as one page: how good, how they learned, for whom, at what cost, on what data, and why.

Needs no network and no file beside it. Charts hold at most eight runs; tables below them hold all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forethought.escaping import html as escape
from forethought.evaluation.compare import Comparison
from forethought.evaluation.report import Evaluation
from forethought.evaluation.tables import GROUPINGS
from forethought.explaining.explanation import Explanation
from forethought.reports import charts
from forethought.reports.charts import Line
from forethought.reports.figures import headline
from forethought.tables.html import fragment, page_of, terminal_html
from forethought.tables.table import Document

STYLE = """<style>
figure { background: #fff; color: #1d2129; padding: .5rem; border-radius: .3rem; }
.bar { display: inline-block; height: .8rem; background: var(--mark); vertical-align: middle; border-radius: 2px; }
.bars td { text-align: left; border: 0; padding: .15rem .7rem .15rem 0; } .bars { margin: 0 0 1rem; }
details { margin: .7rem 0; } summary { cursor: pointer; } h4 { margin: 1.2rem 0 .3rem; }
</style>"""


@dataclass(frozen=True)
class ReportedRun:
    """What a report knows of one run.

    Attributes:
        evaluation: None where it was never evaluated.
        log: the rows of its training log, a dict an epoch.
        about: of its data, as the run folder has it.
    """

    name: str
    evaluation: Evaluation | None
    log: Sequence[Mapping[str, Any]]
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """A case of the test part, explained.

    Attributes:
        title: which run, which user, and where the item that came next was ranked.
    """

    title: str
    explanation: Explanation


@dataclass(frozen=True)
class RunReport:
    """All that a report shows.

    Attributes:
        comparison: of the runs that were evaluated under one protocol; None where there is one run.
        health: what the doctor says of the data, a sentence each.
        notes: what is missing, and why.
    """

    runs: Sequence[ReportedRun]
    comparison: Comparison | None = None
    health: Sequence[str] = ()
    examples: Sequence[Example] = ()
    notes: Sequence[str] = field(default_factory=list)

    def page(self) -> str:
        """The report as HTML.

        Raises:
            MissingExtraError: Plotly is not installed.
        """
        sections = [
            *_section("At a glance", _glance(self.runs)),
            *_section("How good", _accuracy(self.runs), _comparison(self.comparison)),
            *_section("How they learned" if len(self.runs) > 1 else "How it learned", _learning(self.runs)),
            *_section("For whom", *_groups(self.runs)),
            *_section("At what cost", _cost(self.runs)),
            *_section("How long it thinks", _steps(self.runs)),
            *_section("The data", _data(self.runs[0].about), _sentences(self.health)),
            *_section("Examples, with reasons", *map(_example, self.examples)),
            *_section("Every number", *_numbers(self.runs)),
            *_section("What is missing here", _sentences(self.notes)),
        ]
        title = "Report on " + ", ".join(run.name for run in self.runs[:3]) + (" ..." if len(self.runs) > 3 else "")
        blocked = (
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data: blob:; '
            "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        )
        return page_of(title, "\n".join([STYLE, charts.script(), *sections]), head=blocked)


def _section(title: str, *parts: str) -> list[str]:
    """Nothing where there is nothing to show."""
    shown = [part for part in parts if part]
    return [f"<h2>{escape(title)}</h2>", *shown] if shown else []


def _evaluated(runs: Sequence[ReportedRun]) -> list[tuple[str, Evaluation]]:
    return [(run.name, run.evaluation) for run in runs if run.evaluation is not None]


def _drawn(runs: Sequence[ReportedRun]) -> list[tuple[str, Evaluation]]:
    """Those that a chart has room for: the best by the last headline metric."""
    known = _evaluated(runs)
    if len(known) <= charts.MOST:
        return known
    best = sorted(known, key=lambda each: -each[1].metrics[headline(list(each[1].metrics))[-1]].mean)
    kept = {name for name, _ in best[: charts.MOST]}
    return [each for each in known if each[0] in kept]


def _glance(runs: Sequence[ReportedRun]) -> str:
    """For who reads no tables: words and bars."""
    known = _evaluated(runs)
    if not known:
        return ""
    metric = headline(list(known[0][1].metrics))[0]
    cut = metric.rpartition("@")[2]
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td>{estimate.mean:.1%}</td><td style="width: 60%">'
        f'<span class="bar" style="width: {100 * min(max(estimate.mean, 0.0), 1.0):.1f}%"></span></td></tr>'
        for name, evaluation in known
        if (estimate := evaluation.metrics.get(metric)) is not None
    )
    cases = known[0][1].protocol["n_cases"]
    return (
        f"<p>How often the item that came next is among the first {escape(cut)} of the list "
        f"({escape(metric)}, {cases:,} cases):</p><table class='bars'>{rows}</table>"
    )


def _accuracy(runs: Sequence[ReportedRun]) -> str:
    """Headline metrics with intervals."""
    each = []
    for name, evaluation in _drawn(runs):
        shown = {metric: evaluation.metrics[metric] for metric in headline(list(evaluation.metrics))}
        each.append(charts.of_estimates(name, shown))
    return charts.lines("Accuracy, with 95% intervals over users", "metric", "mean", each, joined=False) if each else ""


def _comparison(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    return f"<details open><summary>Paired tests</summary>{_tables(comparison.document())}</details>"


def _learning(runs: Sequence[ReportedRun]) -> str:
    """The validation metric after each epoch."""
    names = {name for name, _ in _drawn(runs)} or {run.name for run in runs[: charts.MOST]}
    each, metrics = [], []
    for run in runs:
        metric = next((key for row in run.log for key in row if key.startswith("valid_") and key != "valid_s"), None)
        rows = [row for row in run.log if metric in row]
        if run.name not in names or metric is None or not rows:
            continue
        hover = [
            f"{run.name}: epoch {row.get('epoch')}, {metric[6:]} {row[metric]:.4f}, "
            f"loss {row.get('loss', float('nan')):.4f}, {row.get('trained_s', 0):.0f} s"
            for row in rows
        ]
        each.append(Line(run.name, [row.get("epoch") for row in rows], [row[metric] for row in rows], None, hover))
        metrics.append(metric[6:])
    if not each:
        return ""
    what = " or ".join(dict.fromkeys(metrics))
    return charts.lines(f"{what} on the validation part after each epoch", "epoch", what, each, whole=True)


def _groups(runs: Sequence[ReportedRun]) -> list[str]:
    """The last headline metric in each group of each grouping."""
    known = _drawn(runs)
    shown = []
    for by in dict.fromkeys(by for _, evaluation in known for by in evaluation.groups):
        each = []
        for name, evaluation in known:
            metric = headline(list(evaluation.metrics))[-1]
            groups = evaluation.groups.get(by, {})
            named = {f"{group} ({g.range[0]:,}–{g.range[1]:,})": g.metrics[metric] for group, g in groups.items()}
            each += [charts.of_estimates(name, named)] if named else []
        metric = headline(list(known[0][1].metrics))[-1]
        shown.append(charts.lines(f"{metric} by {GROUPINGS.get(by, by)}", "group", metric, each, joined=False))
    return shown


def _cost(runs: Sequence[ReportedRun]) -> str:
    """Quality against the time of a history."""
    each = []
    for name, evaluation in _drawn(runs):
        metric, ms = headline(list(evaluation.metrics))[-1], evaluation.cost.get("ms_per_history", {})
        if ms:
            estimate, spent = evaluation.metrics[metric], sum(ms.values())
            size = f"{evaluation.cost.get('parameters', 0):,} parameters"
            hover = f"{name}: {metric} {estimate.mean:.4f}, {spent:.3f} ms, {size}"
            each.append(Line(name, [spent], [estimate.mean], [estimate.ci95], [hover]))
    if not each:
        return ""
    note = '<p class="note">Timings tell methods apart only where all were evaluated on one idle machine.</p>'
    metric = headline(list(_drawn(runs)[0][1].metrics))[-1]
    return charts.lines("Quality against time", "ms a history, in batches", metric, each, joined=False) + note


def _steps(runs: Sequence[ReportedRun]) -> str:
    """Which share of histories took how many steps."""
    each = []
    for name, evaluation in _drawn(runs):
        if evaluation.halting is None:
            continue
        taken = evaluation.cases["steps"].round(0).cast(int)
        most = max(int(evaluation.halting["max_steps"]), int(taken.max() or 0))  # pyright: ignore[reportArgumentType]
        counts = [int((taken == step).sum()) for step in range(most + 1)]
        each.append(Line(name, list(range(most + 1)), [count / max(sum(counts), 1) for count in counts]))
    title = "Share of histories by reasoning steps taken"
    return charts.lines(title, "steps", "share of histories", each, whole=True) if each else ""


def _data(about: Mapping[str, Any]) -> str:
    words = (
        f"{about['data']}: {about['users']:,} users, {about['items']:,} items, {about['interactions']:,} interactions "
        f"(hash {about['data_hash']})."
    )
    return f"<p>{escape(words)}</p>"


def _sentences(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in sentences)}</ul>" if sentences else ""


def _example(example: Example) -> str:
    shown = terminal_html(example.explanation)
    return f"<details><summary>{escape(example.title)}</summary>{shown}</details>"


def _numbers(runs: Sequence[ReportedRun]) -> list[str]:
    return [
        f"<details><summary>{escape(name)}</summary>{_tables(e.document())}</details>" for name, e in _evaluated(runs)
    ]


def _tables(document: Document) -> str:
    return f'<div class="scroll">{fragment(document)}</div>'
