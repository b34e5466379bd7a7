"""forethought report"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from forethought.cli.shared import Bar, console, parse


@dataclass(kw_only=True)
class Report:
    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME=]RUN ...")]
    """Run folders, evaluated best; NAME=FOLDER names one."""
    out: Path = Path("report.html")
    """The page."""
    examples: int = 3
    """So many cases of the test part are explained, by the first run; 0 leaves them out."""
    data: str | None = None
    """Where the data of the first run lies now; by default where it lay when the run was trained."""
    items: str | None = None
    """Where the table of items lies now, for a run that was trained with --items."""


def run(arguments: list[str]) -> None:
    about = (
        "Write what is known of runs as one page: figures, groups, cost, data health, examples with reasons.\n\n"
        "Example: forethought report runs/sasrec runs/dtrec --out report.html"
    )
    args = parse(Report, arguments, "report", about)
    from forethought.errors import ConfigError
    from forethought.files import check_replaceable, replace_file
    from forethought.reporting import report
    from forethought.reports.charts import script

    if args.out.suffix != ".html":
        raise ConfigError(
            f"{args.out} ends in {args.out.suffix or 'nothing'}, but a report is a page: end it in .html."
        )
    check_replaceable(args.out)
    script()  # says at once what is not installed
    named: dict[str, str] = {}
    for argument in args.runs:
        name, _, folder = argument.rpartition("=")
        name = name or Path(folder).name
        if name in named:
            raise ConfigError(f"Two runs are called {name!r}: name each, NAME=FOLDER.")
        named[name] = folder
    with Bar("reading runs") as bar:
        made = report(named, data=args.data, items=args.items, examples=args.examples, progress=bar.counted)
    replace_file(args.out, lambda part: part.write_text(made.page(), encoding="utf-8"))
    for note in made.notes:
        console().print(note, markup=False)
    console().print(f"Written to {args.out}.", markup=False)
