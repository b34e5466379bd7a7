"""forethought export"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from forethought.cli.shared import console, parse, print_json

if TYPE_CHECKING:
    from forethought.data.splits import Split
    from forethought.recommender import Recommender


@dataclass(kw_only=True)
class Export:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder; it stays as it is."""
    to: Literal["onnx", "torch", "parquet"] = "onnx"
    """A program for ONNX Runtime (onnx) or PyTorch (torch), or vectors for a database (parquet)."""
    out: Path
    """Folder to be made."""
    k: int | None = None
    """The program lists so many items; by default it gives the scores of all."""
    data: str | None = None
    """Where the data lies now whose histories the program is tried on; by default where the run says, and drawn
    histories where it is gone."""
    items: str | None = None
    """The same for the table of items, for runs that were trained with --items."""
    histories: str | None = None
    """Table of histories, as recommend --input reads it, whose query vectors are written beside those of the items
    (--to parquet)."""
    neighbours: int | None = None
    """Most neighbours of an item, 20 if not given (--to parquet)."""
    overwrite: bool = False
    """Replace an earlier export in OUT."""
    json: bool = False
    """Print what was made as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Write a run as a program that needs Forethought no more, or as vectors for a database; a program is held "
        "against the run before it is kept.\n\n"
        "Examples: forethought export runs/first --to onnx --out first-onnx\n"
        "          forethought export runs/first --to parquet --out first-vectors --histories histories.parquet"
    )
    args = parse(Export, arguments, "export", about)
    from forethought.exporting.export import export
    from forethought.recommender import load

    model = load(args.run, device="cpu")
    split = None if args.to == "parquet" else _split(model, args)
    made = export(
        model,
        args.out,
        args.to,
        k=args.k,
        split=split,
        histories=args.histories,
        neighbours=args.neighbours,
        overwrite=args.overwrite,
    )
    if args.json:
        print_json({"out": str(args.out), **made.about})
        return
    for line in _program(made.about) if args.to != "parquet" else _vectors(made.about):
        console().print(line, highlight=False)
    console().print(f"{args.out} is ready; its README.md says how to use it.", highlight=False)


def _split(model: Recommender, args: Export) -> Split | None:
    """The run's own data; None, with a remark, where the run says where it lay and it is gone."""
    from forethought.errors import DataError
    from forethought.runs import split_of

    try:
        return split_of(model, args.data, args.items)
    except DataError as error:
        if args.data is not None or args.items is not None:
            raise
        console().print(f"Tried on histories that are drawn, as the run's data cannot be read: {error}")
        return None


def _program(about: dict[str, Any]) -> list[str]:
    check, latency = about["check"], about["latency"]
    kind = "histories of the run's data" if check["real_histories"] else "drawn histories"
    swapped = f" ({check['swapped_lists']} but for as good as equal items)" if check["swapped_lists"] else ""
    return [
        f"On {check['histories']} {kind} scores differ by {check['max_abs_difference']:.1e} at most "
        f"(allowed: {check['tolerance']:.1e}), and the ten best items are the same{swapped}.",
        f"A single history takes {latency['exported_ms']:.2f} ms, here in the library {latency['library_ms']:.2f} ms "
        f"(medians, threads: {latency['threads']}).",
    ]


def _vectors(about: dict[str, Any]) -> list[str]:
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in about["neighbours"].items())
    lines = [f"{about['items']:,} vectors of {about['dimensions']} numbers; pairs of neighbours: {kinds}."]
    if "queries" in about:
        unmet = about["queries_without_known_item"]
        lines.append(f"{about['queries']:,} query vectors" + (f", {unmet:,} of them empty." if unmet else "."))
    if about["evidence"]:
        lines.append("Evidence beside the model is part of its scores, and not of these vectors' inner products.")
    return lines
