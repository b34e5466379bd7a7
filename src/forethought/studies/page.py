"""A page of results: Markdown with tables, and plots beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forethought.errors import RunError
from forethought.escaping import link, markdown
from forethought.files import replace_file
from forethought.reports.pictures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart by the colour-blind too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
BARE_PIPE = re.compile(r"(?<!\\)\|")  # would end a cell, inside code too


class Page:
    """Grows from top to bottom and is written at the end.

    Attributes:
        folder: where the page and its plots go.
        name: of the page's file, and the beginning of its plots' names.
    """

    def __init__(self, folder: Path, name: str, title: str, question: str) -> None:
        self.folder, self.name = folder, name
        self.lines = [f"# {title}", "", question, ""]

    def heading(self, text: object) -> None:
        self.lines += [f"## {markdown(text)}", ""]

    def say(self, text: str) -> None:
        """A paragraph of Markdown; what comes from data is escaped by who says it."""
        self.lines += [text, ""]

    def table(self, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Cells are numbers, plain text, or `Markdown`."""
        self.lines += ["| " + " | ".join(map(_cell, head)) + " |", "|" + "---|" * len(head)]
        self.lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
        self.lines.append("")

    def plot(self, name: str, text: str, axes: int = 1, across: int = 0, names: int = 0) -> Plot:
        """A plot to draw in, `with page.plot(...) as axes`; it stands where it was begun.

        Args:
            name: of the file, after the page's.
            text: what it shows, for those who cannot see it.
            axes: how many, side by side.
            across: at most so many side by side, and the others below; 0: all.
            names: how many stand below each other, each with room of its own.
        """
        file = f"{self.name}-{name}.svg"
        self.lines += [f"!{link(text, file)}", ""]
        return Plot(self.folder / file, axes, across, names)

    def write(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.name}.md"
        if path.exists() and not path.read_bytes().startswith(f"{self.lines[0]}\n".encode()):
            raise RunError(f"{path} is there already and is another page: choose another folder.")
        replace_file(path, lambda part: part.write_text("\n".join(self.lines).rstrip() + "\n", encoding="utf-8"))
        return path


class Plot:
    """A figure that is saved when its `with` ends well."""

    def __init__(self, path: Path, axes: int, across: int, names: int) -> None:
        self.path, self.n_axes, self.across, self.names = path, axes, across or axes, names

    def __enter__(self) -> list[Axes]:
        rows = math.ceil(self.n_axes / self.across)
        height = max(3.8 if rows == 1 else 3.2, 0.8 + 0.2 * self.names)
        size = ((5.6 if rows == 1 else 3.6) * self.across, height * rows)
        self.figure = new_figure(size, "Drawing the plots of a study", layout="constrained")
        all_axes = [self.figure.add_subplot(rows, self.across, n + 1) for n in range(self.n_axes)]
        for axes in all_axes:
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
            # a line beyond the colours is a dotted one
            axes.set_prop_cycle(color=COLOURS * 2, linestyle=["-"] * len(COLOURS) + [":"] * len(COLOURS))
        return all_axes

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_figure(self.figure, self.path)


def number(value: float, digits: int = 4) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _cell(value: object) -> str:
    return number(value) if isinstance(value, float) else BARE_PIPE.sub(r"\\|", markdown(value))
