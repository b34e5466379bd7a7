"""A chain of thought as a picture: where each step came to, among the prototypes and items it was near to."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from forethought.errors import ConfigError
from forethought.escaping import printable
from forethought.explaining.explanation import Explanation
from forethought.explaining.parts import Plane, PlanePoint
from forethought.reports.pictures import BLUE, FAINT, GREEN, INK, ORANGE, VERMILION, Label, place_labels, write_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes


LABELLED = 4  # items of the answer that are named in the picture
LONGEST = 30  # letters of a name
WIDE = {"step": 0.36, "centroid": 0.16, "item": 0.12, "target": 0.26}  # marks in inches, with a margin


def write_trajectory(explanation: Explanation, path: str | Path) -> Path:
    """Write the plane of an explanation as .png, .svg or .pdf.

    Raises:
        ConfigError: another ending, or there is no plane.
        MissingExtraError: matplotlib is not installed.
    """
    if (plane := explanation.plane) is None:
        raise ConfigError(
            "A picture shows the way of a state, and this model comes to scores without one: leave the picture out (on "
            "the command line --picture)."
        )
    return write_picture(path, lambda axes: _draw(axes, explanation, plane))


def _draw(axes: Axes, explanation: Explanation, plane: Plane) -> None:
    points = plane.points
    of = {kind: [p for p in points if p.kind == kind] for kind in ("step", "centroid", "item", "target")}
    axes.scatter(*_xy(of["item"]), s=26, color=GREEN, linewidth=0, zorder=2)
    axes.scatter(*_xy(of["centroid"]), s=52, color=ORANGE, marker="D", linewidth=0, zorder=2)
    axes.scatter(*_xy(of["target"]), s=190, color=VERMILION, marker="*", linewidth=0, zorder=3)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.16, 0.12)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    _steps(axes, explanation, of["step"])
    place_labels(axes, _labels(explanation, of), [(p.x, p.y, WIDE[p.kind]) for p in points])
    _heading(axes, explanation, plane.share, of)


def _steps(axes: Axes, explanation: Explanation, places: list[PlanePoint]) -> None:
    """The way: full where it was gone, faint where it would have gone on, a ring where it stopped."""
    for (before, after), step in zip(pairwise(places), explanation.steps[1:], strict=True):
        taken = {"color": BLUE if step.taken else FAINT, "linestyle": "-" if step.taken else (0, (4, 3))}
        arrow = {"arrowstyle": "-|>", "shrinkA": 8, "shrinkB": 9, "linewidth": 1.6 if step.taken else 1.1, **taken}
        axes.annotate("", (after.x, after.y), (before.x, before.y), arrowprops=arrow, zorder=4)
    for place, step in zip(places, explanation.steps, strict=True):
        if step.step == explanation.answer_step and len(places) > 1:
            axes.scatter(place.x, place.y, s=420, facecolor="none", edgecolor=BLUE, linewidth=1.4, zorder=5)
        face, edge, ink = (BLUE, BLUE, "white") if step.taken else ("white", FAINT, FAINT)
        axes.scatter(place.x, place.y, s=210, facecolor=face, edgecolor=edge, linewidth=1.1, zorder=5)
        number = {"color": ink, "ha": "center", "va": "center_baseline", "fontweight": "bold", "fontsize": 9}
        axes.text(place.x, place.y, str(step.step), zorder=6, **number)


def _labels(explanation: Explanation, of: dict[str, list[PlanePoint]]) -> list[Label]:
    """Names of the best items, of each step's nearest centroid, of the target, and of the end."""
    labels = [Label(p.x, p.y, _short(p.label), VERMILION, 3, bold=True) for p in of["target"]]
    best = [str(each.title or each.item) for each in explanation.answer[:LABELLED]]
    labels += [Label(p.x, p.y, _short(p.label), GREEN, 1) for p in of["item"] if p.label in best]
    nearest = {p.step: p for p in reversed(of["centroid"])}
    for step, place in nearest.items():
        size = explanation.steps[step or 0].centroids[0].size
        named = f"{_short(place.label)}, {size:,} item{'s' * (size != 1)} (step {step})"
        labels.append(Label(place.x, place.y, named, "#9a6a00", 2))
    if len(of["step"]) > 1 and explanation.answer_step is not None:
        place = of["step"][explanation.answer_step]
        last = explanation.answer_step == len(of["step"]) - 1
        labels.append(Label(place.x, place.y, "the last step" if last else "stops here", BLUE, 4, bold=True))
    return labels


def _heading(axes: Axes, explanation: Explanation, share: float, of: dict[str, list[PlanePoint]]) -> None:
    items = f"{len(explanation.history):,} item{'s' * (len(explanation.history) != 1)}"
    if len(explanation.steps) == 1:
        title = f"Where a history of {items} led"
    elif explanation.answer_step is None:
        title = f"Where a history of {items} led: several steps blended"
    else:
        title = f"Where a history of {items} led in {explanation.answer_step} of {len(explanation.steps) - 1} steps"
    axes.figure.text(0.03, 0.965, title, fontsize=13, fontweight="bold", color=INK, va="top")
    legend = [("● step" if len(explanation.steps) == 1 else "● steps", BLUE), ("● best items", GREEN)]
    if of["centroid"]:
        legend.append((f"◆ nearest {explanation.centroid}s", "#9a6a00"))
    if of["target"]:
        legend.append(("★ target", VERMILION))
    left = 0.03
    for words, colour in legend:
        text = axes.figure.text(left, 0.915, words, color=colour, va="top", fontsize=10)
        left = axes.figure.transFigure.inverted().transform(text.get_window_extent().get_points())[1][0] + 0.025
    note = f"Directions in the plane that shows most of them: {share:.0%} of the spread."
    axes.figure.text(0.97, 0.02, note, fontsize=8, color=FAINT, ha="right")


def _xy(points: list[PlanePoint]) -> tuple[list[float], list[float]]:
    return [p.x for p in points], [p.y for p in points]


def _short(label: str) -> str:
    name = printable(label)
    return name if len(name) <= LONGEST else name[: LONGEST - 1].rstrip(" ,;") + "…"
