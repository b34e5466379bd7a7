"""Tables, and documents of them under a protocol: for the terminal (Rich), as plain text, Markdown, CSV and LaTeX.

Whatever has numbers to show makes a `Document`, so that every medium says the same. Each medium escapes all words, as
any of them may come from data (`escaping`). HTML is in `tables.html`.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forethought.escaping import latex, markdown, printable, spreadsheet

if TYPE_CHECKING:
    from rich import table as rich_table
    from rich.console import RenderableType
    from rich.text import Text

WIDTH = 140  # columns of plain text


@dataclass(frozen=True)
class Table:
    """A table of ready-made cells: the first `names` columns say what a row is, the others hold numbers."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    names: int = 1

    def __rich__(self) -> rich_table.Table:
        from rich.table import Table as RichTable

        table = RichTable(title=shown(self.title), title_justify="left", title_style="bold", box=None, pad_edge=False)
        for place, column in enumerate(self.columns):
            table.add_column(shown(column), justify="left" if place < self.names else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*map(shown, row))
        return table

    def markdown(self) -> str:
        rule = ["---"] * self.names + ["---:"] * (len(self.columns) - self.names)
        lines = [list(map(markdown, self.columns)), rule, *[list(map(markdown, row)) for row in self.rows]]
        return "\n".join([f"**{markdown(self.title)}**", "", *(f"| {' | '.join(line)} |" for line in lines)])

    def csv(self) -> str:
        """A line of columns and one a row; the title is left out."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows([map(spreadsheet, line) for line in (self.columns, *self.rows)])
        return out.getvalue()

    def latex(self) -> str:
        """A `table` with a caption, for the package booktabs."""
        kinds = "l" * self.names + "r" * (len(self.columns) - self.names)
        lines = [" & ".join(map(latex, line)) + r" \\" for line in (self.columns, *self.rows)]
        # a bracket or a star at the beginning would belong to the end of the line before
        columns, *rows = ["{}" + line if line[0] in "[*" else line for line in lines]
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{latex(self.title)}}}",
                rf"\begin{{tabular}}{{{kinds}}}",
                *(r"\toprule", columns, r"\midrule", *rows, r"\bottomrule"),
                r"\end{tabular}",
                r"\end{table}",
            ]
        )


@dataclass(frozen=True)
class Document:
    """Tables under the protocol that their numbers were measured by.

    Attributes:
        protocol: in one line.
        remarks: what to know of the numbers, a paragraph each.
        alarm: whether the protocol is unusual (sampled candidates, noisy histories) and must catch the eye.
    """

    protocol: str
    tables: list[Table]
    remarks: list[str] = field(default_factory=list)
    alarm: bool = False

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        spaced = [part for table in self.tables for part in (Text(), table)]
        remarks = [shown(remark, "dim") for remark in self.remarks]
        return Group(shown(self.protocol, "bold red" if self.alarm else "dim"), *spaced, Text(), *remarks)

    def text(self) -> str:
        """Sentences stand in one line each, however long, so that they can be searched and cut."""
        tables = [f"\n{plain(table, WIDTH)}" for table in self.tables]
        return "\n".join([printable(self.protocol), *tables, "", *map(printable, self.remarks)])

    def markdown(self) -> str:
        protocol, tables = f"Protocol: {markdown(self.protocol)}", [table.markdown() for table in self.tables]
        return "\n\n".join([protocol, *tables, *map(markdown, self.remarks)]) + "\n"

    def latex(self) -> str:
        protocol, tables = f"Protocol: {latex(self.protocol)}", [table.latex() for table in self.tables]
        return "\n\n".join([protocol, *tables, *map(latex, self.remarks)]) + "\n"


def plain(view: RenderableType, width: int) -> str:
    """What the terminal would show, without colours."""
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(view)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def shown(words: object, style: str = "") -> Text:
    """For Rich as `Text`: names of data may hold what it takes for markup, or what a terminal obeys."""
    from rich.text import Text

    return Text(printable(words), style=style)
