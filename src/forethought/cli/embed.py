"""forethought embed"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from forethought.cli.shared import Bar, console, parse, print_json


@dataclass(kw_only=True)
class Embed:
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A data folder with an items.parquet, or a table with one row an item (Parquet, CSV, TSV)."""
    out: Path | None = None
    """The .npy to be written; by default item_text_embeddings.npy in the folder, where it is found by itself."""
    columns: tuple[str, ...] = ()
    """What is read of each item; by default those of title, brand and categories that there are."""
    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A sentence encoder: a folder, or a name on the hub, whence it is fetched once."""
    batch: int = 64
    """Texts encoded together."""
    device: str = "auto"
    """Where it computes: auto (the first CUDA device if there is one, else the CPU), cpu, cuda or cuda:N."""
    overwrite: bool = False
    """Replace vectors that lie there."""
    json: bool = False
    """Print what was made as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Make text vectors of items, for models that read texts (extra text).\n\n"
        "Examples: forethought embed data/beauty\n"
        "          forethought embed products.csv --columns title maker --out products.npy"
    )
    args = parse(Embed, arguments, "embed", about)
    from forethought.data.sentences import embed
    from forethought.data.texts import write_texts
    from forethought.folders import writable

    out = _place(args)
    choices: dict[str, Any] = {"columns": args.columns or None, "model": args.model, "batch": args.batch}
    with writable(out.parent), Bar() as bar:
        vectors = embed(args.source, device=args.device, report=bar.named, **choices)
    write_texts(out, vectors)
    summary = {"file": str(out), "items": len(vectors), "width": vectors.shape[1]}
    summary["without_text"] = int((~vectors.any(axis=1)).sum())
    if args.json:
        print_json(summary)
        return
    silent = f", {summary['without_text']:,} of them without a text" if summary["without_text"] else ""
    width = "" if vectors.shape[1] == 384 else f" --text-width {vectors.shape[1]}"
    texts = "" if args.out is None else f" --texts {out}"
    data = args.source if os.path.isdir(args.source) else f"... --items {args.source}"
    console().print(
        f"{out}: {len(vectors):,} items{silent}, {vectors.shape[1]} numbers each; "
        f"next: forethought train igr-sr --data {data} --intents texts{texts}{width} --out ..."
    )


def _place(args: Embed) -> Path:
    """Where the vectors are to lie, known to be free before any text is read."""
    from forethought.data.texts import VECTORS, check_vectors
    from forethought.errors import ConfigError

    out = args.out
    if out is None:
        if not os.path.isdir(args.source):
            raise ConfigError(f"{args.source!r} is no data folder: say with --out which .npy is to be written.")
        out = Path(args.source) / VECTORS
    if out.suffix != ".npy":
        raise ConfigError(f"{str(out)!r} ends in {out.suffix or 'nothing'!r}, but vectors are written as .npy.")
    if out.is_dir():
        raise ConfigError(f"{str(out)!r} is a folder, but vectors are written as one file: choose another --out.")
    if out.exists() and not args.overwrite:
        raise ConfigError(f"{str(out)!r} is there already: choose another --out, or --overwrite it.")
    if out.exists():
        check_vectors(out)
    return out
