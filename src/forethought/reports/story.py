"""An explanation as a story: what was met, how the best items rose and fell from step to step, what was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forethought.escaping import plot, printable
from forethought.explaining.explanation import Explanation
from forethought.explaining.parts import Step
from forethought.reports.pictures import BLUE, FAINT, GREEN, INK, ORANGE, VERMILION, write_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (12.4, 6.0)  # inches
CHOSEN = 5  # items of the answer whose way is drawn
MET = 8  # items of the history, the last ones
LOWEST = 6  # ranks below it stand close together, as they would leave the page
LONGEST = 40  # letters of a title
NEAR = 20  # letters of what a step is near to
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, "#8d4b8f")
LEFT, RIGHT = 0.38, 0.62  # of the chart, as shares of the width
NAMES = 0.05  # from the end of the chart
TOP, LINE = 0.80, 0.082  # of the first rank and between two, as shares of the height


@dataclass(frozen=True)
class _Column:
    """What stands over a column of ranks, and the rank of each chosen item in it."""

    head: str
    below: str
    ranks: list[float | None]


def write_story(explanation: Explanation, path: str | Path) -> Path:
    """Write the story of an explanation as .png, .svg or .pdf.

    Raises:
        ConfigError: another ending.
        MissingExtraError: matplotlib is not installed.
    """
    return write_picture(path, lambda axes: _draw(axes, explanation), SIZE)


def _draw(axes: Axes, explanation: Explanation) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_axis_off()
    axes.figure.text(0.03, 0.965, plot(_title(explanation)), fontsize=13, fontweight="bold", color=INK, va="top")
    axes.figure.text(0.03, 0.905, plot(_ending(explanation)), fontsize=9.5, color=FAINT, va="top")
    _history(axes, explanation)
    _ways(axes, explanation, _columns(explanation))


def _title(explanation: Explanation) -> str:
    n = len(explanation.history)
    return f"From {n:,} item{'s' * (n != 1)} that {'were' if n != 1 else 'was'} met to what is recommended"


def _ending(explanation: Explanation) -> str:
    """How many steps it took, and whether anything speaks beside the model."""
    last = len(explanation.steps) - 1
    if last < 1:
        said = "The model reads the history and answers at once."
    elif explanation.answer_step is None:
        said = f"The model thinks {last} step{'s' * (last != 1)} and blends what they say."
    else:
        said = f"The model stops after step {explanation.answer_step} of {last}."
    return said if explanation.sums is None else f"{said} What items were met together speaks beside it."


def _history(axes: Axes, explanation: Explanation) -> None:
    """The items that were met, the latest last, at the left."""
    axes.text(0.0, TOP + 0.11, "met so far, the latest last", color=INK, fontsize=10, fontweight="bold", va="center")
    shown = explanation.history[-MET:]
    for place, each in enumerate(shown):
        y = TOP - place * LINE
        axes.scatter(0.012, y, s=60, color=INK, linewidth=0, zorder=3)
        if place:
            axes.plot([0.012, 0.012], [y, y + LINE], color=FAINT, linewidth=1.2, zorder=1)
        axes.text(0.03, y, _named(each), color=INK, fontsize=9.5, va="center")
    if earlier := len(explanation.history) - len(shown):
        axes.text(0.03, TOP + 0.055, plot(f"{earlier:,} earlier"), color=FAINT, fontsize=8.5, va="center")
    arrow = {"arrowstyle": "-|>", "color": FAINT, "linewidth": 1.4}
    axes.annotate("", (LEFT - 0.03, TOP), (LEFT - 0.075, TOP), arrowprops=arrow)


def _columns(explanation: Explanation) -> list[_Column]:
    """The steps that were taken, then the answer where it is none of them."""
    chosen = [each.item for each in explanation.answer[:CHOSEN]]
    ways = {each.item: each for each in explanation.movements}
    taken = [step for step in explanation.steps if step.taken]
    several = len(explanation.steps) > 1
    columns = [
        _Column(
            f"step {step.step}" if several else "the model",
            _near(step),
            [ways[item].ranks[at] for item in chosen],
        )
        for at, step in enumerate(explanation.steps)
        if step in taken
    ]
    if explanation.answer_step is None or explanation.sums is not None or not columns:
        below = "with evidence" if explanation.sums is not None else "all together" if columns else ""
        columns.append(_Column("the answer", below, [ways[item].rank for item in chosen]))
    return columns


def _near(step: Step) -> str:
    """The label of what a step is nearest to; that it is the history as it was read."""
    if step.step == 0:
        return "as read"
    if not step.centroids or step.centroids[0].category is None:
        return ""
    return f"near {_short(step.centroids[0].category.label, NEAR)}"


def _ways(axes: Axes, explanation: Explanation, columns: list[_Column]) -> None:
    """A line an item through its ranks, best at the top, and its name at the end."""
    n = len(columns)
    xs = [RIGHT] if n == 1 else [LEFT + (RIGHT - LEFT) * at / (n - 1) for at in range(n)]
    for x, column in zip(xs, columns, strict=True):
        axes.text(x, TOP + 0.11, plot(column.head), color=INK, fontsize=10, fontweight="bold", ha="center", va="center")
        axes.text(x, TOP + 0.07, plot(column.below), color=FAINT, fontsize=8, ha="center", va="center")
    heights = [_heights(column.ranks) for column in columns]
    for place, (each, colour) in enumerate(zip(explanation.answer, COLOURS, strict=False)):
        ranks = [column.ranks[place] for column in columns]
        ys = [each[place] for each in heights]
        axes.plot(xs, ys, color=colour, linewidth=2.2, zorder=2)
        for x, y, rank in zip(xs, ys, ranks, strict=True):
            axes.scatter(x, y, s=250, color=colour, linewidth=0, zorder=3)
            number = {"color": "white", "fontsize": 8.5, "fontweight": "bold", "ha": "center", "va": "center_baseline"}
            axes.text(x, y, "–" if rank is None else f"{rank:.3g}", zorder=4, **number)
        sure = "" if each.probability is None else f"  {each.probability:.0%}"
        axes.text(RIGHT + NAMES, ys[-1], f"{_named(each)}{plot(sure)}", color=colour, fontsize=9.5, va="center")
    axes.text(RIGHT + NAMES, TOP + 0.11, "recommended", color=INK, fontsize=10, fontweight="bold", va="center")
    note = "In circles: the rank among all items. In percent: how likely the model thinks it."
    axes.figure.text(0.97, 0.02, note, fontsize=8, color=FAINT, ha="right")


def _heights(ranks: list[float | None]) -> list[float]:
    """Where the ranks of a column are drawn; those far off in their order below, so that none covers another."""
    order = sorted(range(len(ranks)), key=lambda at: (ranks[at] is None, ranks[at] or 0.0))
    heights, line = [0.0] * len(ranks), 0.0
    for at in order:
        rank = ranks[at]
        line = rank - 1 if rank is not None and rank <= LOWEST else max(LOWEST - 0.2, line + 0.8)
        heights[at] = TOP - line * LINE
    return heights


def _named(each: Any) -> str:
    return plot(_short(str(each.title or each.item), LONGEST))


def _short(words: str, most: int) -> str:
    name = printable(words)
    return name if len(name) <= most else name[: most - 1].rstrip(" ,;") + "…"
