"""Degradation curves as a table: what every kind and share of noise leaves of a run's quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from forethought.escaping import printable
from forethought.reports.numbers import number
from forethought.reports.tables import Sheet, describe, interval

if TYPE_CHECKING:
    from forethought.robustness import Robustness

WHAT = {
    "replace": "positions hold other items",
    "insert": "other items come in between",
    "delete": "positions are gone",
    "swap": "items change places",
}


def robustness_sheet(told: Robustness) -> Sheet:
    """A row for the clean histories and one for each point."""
    names = list(told.clean)
    columns = ["noise", "share", "positions", "cases"]
    rows = [["none", "", "", "", *(cell for name in names for cell in (interval(told.clean[name]), ""))]]
    for name in names:
        columns += [name, "drop"]
    for point in told.points:
        cells = [cell for name in names for cell in (interval(point.metrics[name]), interval(point.drops[name], ".1%"))]
        size = [f"{point.share:.0%}", number(point.positions, ".1%"), number(point.cases, ".0%")]
        rows.append([point.kind, *size, *cells])
    return Sheet("robustness to noise, mean [95% interval over users]", columns, rows)


def remarks(told: Robustness) -> list[str]:
    kinds = dict.fromkeys(point.kind for point in told.points)
    return [
        f"{'; '.join(f'{kind}: {WHAT[kind]}' for kind in kinds)}. Mean of noise seeds "
        f"{', '.join(map(str, told.seeds))}. Histories are noisy, targets and candidates are not.",
        "Drop: share of the clean metric that is lost, paired over users. Positions and cases: how many of them the "
        "noise really touches, as a share of a short history may round to nothing.",
    ]


def robustness_view(told: Robustness) -> RenderableType:
    """The curves for the terminal."""
    notes = [Text(remark, style="dim") for remark in remarks(told)]
    return Group(
        Text(printable(describe(told.protocol)), style="dim"), Text(), robustness_sheet(told).rich(), Text(), *notes
    )
