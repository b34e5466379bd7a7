"""forethought push"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from forethought.cli.shared import console, parse, print_json


@dataclass(kw_only=True)
class Push:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder; it stays as it is."""
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A repository of the Hugging Face hub, hf://OWNER/NAME, or a folder to be made."""
    private: bool = False
    """Show a repository that is made to nobody else."""
    overwrite: bool = False
    """Replace an earlier run in the folder; on the hub a push is one more revision."""
    json: bool = False
    """Print where it lies as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Publish a run, with its model card: what load needs, the log and the figures, but no state of the training "
        "and no ranks of single users.\n\nExample: forethought push runs/first hf://me/first"
    )
    args = parse(Push, arguments, "push", about)
    from forethought.publishing import push

    place = push(args.run, args.target, private=args.private, overwrite=args.overwrite)
    if args.json:
        print_json({"run": str(args.run), "target": place})
        return
    console().print(
        f"The run lies in {place}. Its config.json says where the data lay on this machine, and items.parquet all that "
        "is known of the items.",
        highlight=False,
    )
