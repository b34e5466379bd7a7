"""Tables of an explanation and what stands in their cells."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from forethought.escaping import printable
from forethought.explaining.parts import Candidate, Category, Contribution, ItemRef, ItemSum, RankChange
from forethought.explaining.token_parts import TokenSum
from forethought.tables.table import shown

BROAD, NARROW = 44, 32  # columns of ids and titles: alone, and where much stands beside them


def typical(category: Category | None, items: Sequence[ItemRef | Candidate]) -> str:
    """The category, of whose path two levels say enough, and the items that come first."""
    like = "; ".join(short(named) for named in items)
    if category is None:
        return like
    share, overall = category.share, category.overall
    return f"{' › '.join(map(printable, category.path[-2:]))}: {share:.0%} of them, {overall:.1%} of all items\n{like}"


def titled(title: str, *names: str, **others: str) -> Table:
    """Columns of text, then those of numbers by their heading; the heading "left" is a blank column of text."""
    heading = Text(title)
    table = Table(title=heading, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.min_width = heading.cell_len  # else it is broken where all cells are narrower
    for name in names:
        heading = "" if name in ("item", "title") else name
        table.add_column(heading, no_wrap=True, overflow="ellipsis", max_width=BROAD)
    for heading in others.values():
        blank = heading == "left"
        table.add_column("" if blank else heading, justify="left" if blank else "right", no_wrap=not blank)
    return table


def narrow(table: Table) -> Table:
    """Ids and titles leave room for what stands beside them."""
    for column in table.columns[:2]:
        column.max_width = NARROW
    return table


def named_cells(named: ItemRef | Candidate | RankChange | ItemSum | TokenSum) -> tuple[Text, Text]:
    """As `Text`, so that Rich takes nothing in them for markup."""
    return shown(named.item), shown(named.title or "")


def short(named: ItemRef | Candidate | Contribution, most: int = 30) -> str:
    name = printable(named.title or named.item)
    return name if len(name) <= most else textwrap.shorten(name, most, placeholder="…")


def or_blank(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
