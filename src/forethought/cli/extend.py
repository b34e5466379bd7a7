"""forethought extend"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from forethought.cli.shared import console, parse, print_json


@dataclass(kw_only=True)
class Extend:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder, trained with --features; it stays as it is."""
    items: str
    """Table with one row a new item (Parquet, CSV, TSV), with the columns that the run reads."""
    out: Path
    """Run folder to be made."""
    texts: Path | None = None
    """An .npy with a text vector for each row of --items, where the run reads texts (forethought embed makes it)."""
    item: str | None = None
    """Column with item ids; by default what they were called in the run's own data, else item_id."""
    lift: float | None = None
    """Nats added to the scores of all items that training never met, these among them; below 0 they are held back.
    By default as the run has it, from its validation part."""
    lift_from: Path | None = None
    """A run of the same method, trained with --hold-out-items: as far as its validation part lifted those."""
    json: bool = False
    """Print what was made as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Add items that a trained run never saw; it knows them by their features.\n\n"
        "Example: forethought extend runs/first --items new.parquet --out runs/first-and-new"
    )
    args = parse(Extend, arguments, "extend", about)
    from forethought.extending import extend

    lifts = {"lift": args.lift, "lift_from": args.lift_from}
    model = extend(args.run, args.items, args.out, texts=args.texts, item=args.item, **lifts)
    made = model.about["extended"][-1]
    added = made["items"]
    if args.json:
        told = {name: made[name] for name in ("tied", "lift") if name in made}
        print_json({"run": str(args.out), "items": len(model.items), "new": added, **told})
    else:
        if tied := made.get("tied"):
            console().print(
                f"{tied:,} of the new items share all their tokens with another item, so that every ranking ties them: "
                "no tokens near theirs are free. What tells them apart in the features, or more or larger codebooks, "
                "would."
            )
        if args.lift_from:
            moved = "lifted" if made["lift"] >= 0 else "held back"
            console().print(f"New items are {moved} by {abs(made['lift']):g} nats, as they are in {args.lift_from}.")
        console().print(
            f"The run in {args.out} knows {len(model.items):,} items, {added:,} of them new; next: "
            f"forethought recommend {args.out} --history ID,ID"
        )
