"""forethought pull"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from forethought.cli.shared import console, parse, print_json


@dataclass(kw_only=True)
class Pull:
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A repository of the Hugging Face hub, hf://OWNER/NAME or hf://OWNER/NAME@REVISION, or a folder."""
    out: Path
    """Run folder to be made."""
    overwrite: bool = False
    """Replace an earlier run in OUT."""
    json: bool = False
    """Print what was fetched as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Fetch a published run; all of its files are checked before the folder gets its name.\n\n"
        "Example: forethought pull hf://me/first --out runs/first"
    )
    args = parse(Pull, arguments, "pull", about)
    from forethought.publishing import pull

    model = pull(args.source, args.out, overwrite=args.overwrite)
    if args.json:
        print_json({"run": str(args.out), "items": len(model.items), "weights": model.weights_sum})
        return
    console().print(
        f"A run over {len(model.items):,} items lies in {args.out}; next: forethought recommend "
        f"{args.out} --history ID",
        highlight=False,
    )
