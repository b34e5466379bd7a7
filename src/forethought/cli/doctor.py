"""forethought doctor"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from forethought.cli.shared import ColumnOptions, parse, print_json
from forethought.escaping import printable


@dataclass(kw_only=True)
class Doctor:
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A table (Parquet, CSV, TSV, folder) or "sql: SELECT ..."."""
    columns: Annotated[ColumnOptions, tyro.conf.arg(name="")]
    json: bool = False
    """Print findings as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Say what is wrong with a table, and what it holds.\n\nExample: forethought doctor interactions.csv --user uid"
    )
    args = parse(Doctor, arguments, "doctor", about)
    from forethought.data.doctor import diagnose

    of = args.columns
    of.refuse_rating()
    diagnosis = diagnose(
        args.source,
        user=of.user,
        item=of.item,
        time=of.time,
        position=of.position,
        items=of.items,
    )
    if args.json:
        findings = [asdict(finding) for finding in diagnosis.findings]
        print_json({"source": args.source, "healthy": diagnosis.healthy, "findings": findings})
    else:
        sys.stdout.write("".join(printable(sentence) + "\n" for sentence in diagnosis.sentences()))
    if not diagnosis.healthy:
        sys.exit(2)
