"""Degradation curves as a table: what every kind and share of noise leaves of a run's quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forethought.evaluation.protocol import in_words
from forethought.evaluation.tables import interval
from forethought.tables.formats import number
from forethought.tables.table import Document, Table

if TYPE_CHECKING:
    from forethought.robustness import Robustness

WHAT = {
    "replace": "positions hold other items",
    "insert": "other items come in between",
    "delete": "positions are gone",
    "swap": "items change places",
}


def robustness_table(told: Robustness) -> Table:
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
    return Table("robustness to noise, mean [95% interval over users]", columns, rows)


def remarks(told: Robustness) -> list[str]:
    kinds = dict.fromkeys(point.kind for point in told.points)
    return [
        f"{'; '.join(f'{kind}: {WHAT[kind]}' for kind in kinds)}. Mean of noise seeds "
        f"{', '.join(map(str, told.seeds))}. Histories are noisy, targets and candidates are not.",
        "Drop: share of the clean metric that is lost, paired over users. Positions and cases: how many of them the "
        "noise really touches, as a share of a short history may round to nothing.",
    ]


def robustness_document(told: Robustness) -> Document:
    """The curves under the protocol of the clean evaluation."""
    return Document(in_words(told.protocol), [robustness_table(told)], remarks(told))
