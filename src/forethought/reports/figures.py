"""Figures of results for papers: dots with 95% intervals, by matplotlib (extra `report`).

Of an evaluation: its headline metrics by group. Of a comparison: how far each method is from another, relative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from forethought.escaping import plot
from forethought.evaluation.compare import Comparison
from forethought.evaluation.report import Evaluation
from forethought.evaluation.statistics import Estimate
from forethought.evaluation.tables import ALPHA, GROUPINGS, HEADLINE
from forethought.reports.pictures import BLUE, FAINT, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 8  # rows or lines of one plot that can still be told apart
ROW, PANEL = 0.32, 4.6  # inches


def figure_of(result: Evaluation | Comparison) -> Figure:
    """The figure that a result makes of itself.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return _gains(result) if isinstance(result, Comparison) else _groups(result)


def headline(names: Sequence[str]) -> list[str]:
    """The metrics that a figure shows: Recall@10 and NDCG@10 where they were measured, otherwise the first two."""
    return [name for name in names if name.endswith(HEADLINE)] or list(names[:2])


def _gains(comparison: Comparison) -> Figure:
    metrics = headline(list(dict.fromkeys(gain.metric for gain in comparison.differences)))
    gains = [[gain for gain in comparison.differences if gain.metric == metric] for metric in metrics]
    rows = max(map(len, gains))
    figure = new_figure(
        (PANEL * len(metrics), 1.3 + ROW * rows), "Drawing a figure", layout="constrained", facecolor="white"
    )
    for place, (metric, each) in enumerate(zip(metrics, gains, strict=True)):
        axes = figure.add_subplot(1, len(metrics), place + 1)
        names = [g.method if g.against == comparison.baseline else f"{g.method} − {g.against}" for g in each]
        _dots(axes, names, [gain.relative for gain in each], [gain.p_holm < ALPHA for gain in each])
        axes.axvline(0, color=FAINT, linestyle="--", linewidth=1)
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:+.3g}%" if share else "0")
        axes.set_title(plot(f"{metric}: relative gain over {comparison.baseline}"), fontsize=10)
        if place:
            axes.tick_params(labelleft=False)
    figure.supxlabel(f"95% intervals over users; filled: p < {ALPHA} after Holm's correction", fontsize=8, color=FAINT)
    return figure


def _groups(evaluation: Evaluation) -> Figure:
    metrics = headline(list(evaluation.metrics))
    rows: list[tuple[str, dict[str, Estimate]]] = [("all cases", evaluation.metrics)]
    for by, groups in evaluation.groups.items():
        for name, group in groups.items():
            low, high = group.range
            rows.append((f"{GROUPINGS.get(by, by).partition(' (')[0]}, {name} ({low:,}–{high:,})", group.metrics))
    size = (3.2 + 3.4 * len(metrics), 1.2 + ROW * len(rows))
    figure = new_figure(size, "Drawing a figure", layout="constrained", facecolor="white")
    for place, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), place + 1)
        _dots(axes, [name for name, _ in rows], [each[metric] for _, each in rows])
        axes.axvline(evaluation.metrics[metric].mean, color=FAINT, linestyle="--", linewidth=1)
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
        axes.set_title(plot(metric), fontsize=10)
        if place:
            axes.tick_params(labelleft=False)
    figure.supxlabel("95% intervals over users", fontsize=8, color=FAINT)
    return figure


def _dots(axes: Axes, names: list[str], estimates: list[Estimate], sure: list[bool] | None = None) -> None:
    """A dot a row with its interval, the first at the top; what is no number leaves its row empty."""
    for row, estimate in enumerate(estimates):
        if math.isfinite(estimate.mean) and all(map(math.isfinite, estimate.ci95)):
            filled = sure is None or sure[row]
            axes.plot(estimate.ci95, [row, row], color=BLUE, linewidth=1.6, solid_capstyle="butt")
            face = BLUE if filled else "white"
            axes.plot([estimate.mean], [row], "o", color=BLUE, markerfacecolor=face, markersize=5.5)
    axes.set_yticks(range(len(names)), [plot(name) for name in names], fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#e3e3e3", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
