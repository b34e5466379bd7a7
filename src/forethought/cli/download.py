"""forethought download"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from forethought.cli.shared import Bar, console, parse


@dataclass(kw_only=True)
class Download:
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """A known data set, such as ml-1m or amazon-2014-beauty; `list` shows all."""
    out: Path = Path("raw")
    """The files go to OUT/NAME."""


def run(arguments: list[str]) -> None:
    about = "Fetch a known data set, with checksum and resume.\n\nExample: forethought download ml-1m --out raw"
    args = parse(Download, arguments, "download", about)
    from forethought.data.public.known import KNOWN, fetch

    if args.name == "list":
        for name, known in KNOWN.items():
            console().print(f"{name:<40} {known.page}", highlight=False)
        return
    with Bar() as bar:
        folder = fetch(args.name, args.out, report=bar.named)
    console().print(f"{folder} is there; next: forethought prepare {folder} --out data/{args.name}")
