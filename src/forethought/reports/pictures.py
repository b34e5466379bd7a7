"""Pictures as PNG, SVG or PDF, by matplotlib (extra `report`), and labels that keep out of each other's way.

The one file that is about matplotlib: whoever draws gets axes from here.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forethought.errors import ConfigError, MissingExtraError
from forethought.escaping import plot
from forethought.files import check_replaceable, replace_file
from forethought.version import MADE_BY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
INK, FAINT = "#222222", "#8a8a8a"
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"  # told apart by all (Okabe and Ito)


def new_figure(size: tuple[float, float], purpose: str, **choices: Any) -> Figure:
    """An empty figure without a window; the same drawing always gives the same file.

    Args:
        size: width and height in inches.
        purpose: what needs it, in case matplotlib is not there.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report", purpose) from error
    mpl.rcParams["svg.hashsalt"] = "forethought"
    return Figure(figsize=size, **choices)


def check_picture(path: str | Path) -> Path:
    """The path, if a picture can be drawn there; cheap, so ask before the work.

    Raises:
        ConfigError: another ending than .png, .svg or .pdf.
        RunError: a file that we did not draw lies there.
        MissingExtraError: matplotlib is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{path} ends in {path.suffix or 'nothing'}, but a picture is written as .png, .svg or .pdf.")
    check_replaceable(path)
    new_figure((1, 1), "Drawing a picture")
    return path


def write_picture(path: str | Path, draw: Callable[[Axes], None], size: tuple[float, float] = (8.4, 6.4)) -> Path:
    """A picture with one pair of axes, whole or not at all.

    Args:
        draw: gets axes whose place is settled, so that texts can be measured.
        size: width and height in inches.
    """
    path = check_picture(path)
    figure = new_figure(size, "Drawing a picture", dpi=150, facecolor="white")
    with _any_script():
        draw(figure.add_axes((0.03, 0.03, 0.94, 0.84)))
    save_figure(figure, path)
    return path


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as the path's ending says, with our mark and without a date."""
    kind = path.suffix.lower()[1:]
    metadata = {"svg": {"Creator": MADE_BY, "Date": None}, "png": {"Software": MADE_BY}}
    metadata["pdf"] = {"Creator": MADE_BY, "CreationDate": None}
    with _any_script():
        replace_file(path, lambda part: figure.savefig(part, format=kind, metadata=metadata[kind]))


@contextlib.contextmanager
def _any_script() -> Iterator[None]:
    """Titles may be of any language; where the font lacks a sign it draws a box, and need not say so at each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from|Matplotlib currently does not support", UserWarning)
        yield


@dataclass(frozen=True)
class Label:
    """Words beside a point; the weightier choose their place first."""

    x: float
    y: float
    words: str
    colour: str = INK
    weight: float = 0.0
    bold: bool = False


Box = tuple[float, float, float, float]  # left, bottom, right, top in pixels
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
DISTANCES = (0.0, 0.1, 0.24, 0.4, 0.6)  # inches between a mark and its label, tried in turn


def place_labels(axes: Axes, labels: list[Label], marks: list[tuple[float, float, float]]) -> None:
    """Write each label where it covers least of other labels and marks, near places first.

    Args:
        marks: what should stay visible: x and y in data coordinates, and how wide it is in inches.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    to_pixels, to_data, inch = axes.transData.transform, axes.transData.inverted().transform, figure.dpi
    bounds = axes.get_window_extent()
    frame = (bounds.x0, bounds.y0, bounds.x1, bounds.y1)
    wide = {(x, y): size * inch for x, y, size in marks}
    covered = [_around(*map(float, to_pixels(at)), width=size, height=size) for at, size in wide.items()]
    for label in sorted(labels, key=lambda each: -each.weight):
        weight = "bold" if label.bold else "normal"
        text = axes.text(0, 0, plot(label.words), color=label.colour, fontweight=weight, fontsize=9.5)
        size, at = text.get_window_extent(), to_pixels((label.x, label.y)).tolist()
        space = size.width + 0.04 * inch, size.height
        own = wide.get((label.x, label.y), 0.0) / 2
        tried = []
        for far in DISTANCES:
            for side in SIDES:
                box = _beside(at, side, own + far * inch, space)
                lost = 4 * (space[0] * space[1] - _common(box, frame)) + sum(_common(box, other) for other in covered)
                lost += sum(_common(spot, other) for spot in _leader(at, box) for other in covered[len(wide) :])
                tried.append((lost + 0.05 * far * space[0] * space[1], len(tried), box, far))
        _, _, box, far = min(tried)
        covered.append(box)
        middle = to_data(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
        text.set(ha="center", va="center", position=middle, zorder=6)
        if far > 0.2:
            end = to_data(_nearest(at, box))
            axes.plot([label.x, end[0]], [label.y, end[1]], color=FAINT, linewidth=0.5, zorder=1.5)


def _beside(at: Any, side: tuple[int, int], gap: float, space: tuple[float, float]) -> Box:
    gap *= 0.75 if all(side) else 1.0  # as far across a corner as straight
    return _around(at[0] + side[0] * (gap + space[0] / 2), at[1] + side[1] * (gap + space[1] / 2), *space)


def _around(x: float, y: float, width: float, height: float) -> Box:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _nearest(at: Any, box: Box) -> tuple[float, float]:
    """The place in a box that is nearest to a point."""
    return min(max(at[0], box[0]), box[2]), min(max(at[1], box[1]), box[3])


def _leader(at: Any, box: Box) -> list[Box]:
    """Small boxes along the line from a point to its label."""
    end = _nearest(at, box)
    return [_around(at[0] + (end[0] - at[0]) * s, at[1] + (end[1] - at[1]) * s, 9, 9) for s in (0.25, 0.5, 0.75)]


def _common(one: Box, other: Box) -> float:
    """Area that two boxes share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)
