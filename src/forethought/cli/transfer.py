"""forethought transfer"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from forethought.cli.shared import ColumnOptions, Splitting, console, open_split, parse, print_json, tell_notes


@dataclass(kw_only=True)
class Transfer:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder of a method over tokens, which are made of features alone; it stays as it is."""
    data: str
    """The other data: folder, table, or "sql: SELECT ..."."""
    out: Path
    """Run folder to be made."""
    columns: Annotated[ColumnOptions, tyro.conf.arg(name="")]
    splitting: Annotated[Splitting, tyro.conf.arg(name="")]
    json: bool = False
    """Print what was made as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Give a trained run the items of other data, read as tokens by what made its own; nothing is trained.\n\n"
        "Example: forethought transfer runs/beauty --data data/sports --out runs/beauty-on-sports"
    )
    args = parse(Transfer, arguments, "transfer", about)
    from forethought.transferring import transfer

    view = console()
    split = open_split(args.data, args.columns, args.splitting)
    tell_notes(view, split.data)
    model = transfer(args.run, split, args.out)
    if args.json:
        print_json({"run": str(args.out), "items": len(model.items), "from": model.about["started_from"]["data"]})
    else:
        view.print(
            f"The run in {args.out} knows the {len(model.items):,} items of {split.data.name}, untrained there; next: "
            f"forethought evaluate {args.out}"
        )
