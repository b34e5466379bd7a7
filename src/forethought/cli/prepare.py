"""forethought prepare"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from forethought.cli.shared import Bar, ColumnOptions, Splitting, console, parse, print_json, tell_notes


@dataclass(kw_only=True)
class Prepare:
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A table, the raw files of a known data set, or "sql: SELECT ..."."""
    out: Path
    """Folder to be made."""
    columns: Annotated[ColumnOptions, tyro.conf.arg(name="")]
    splitting: Annotated[Splitting, tyro.conf.arg(name="")]
    k_core: tuple[int, int] | None = None
    """Keep users and items with at least so many interactions each, such as 5 5."""
    minimum_rating: float | None = None
    """Keep interactions rated at least so."""
    duplicates: Literal["keep", "same_time", "repeats"] = "keep"
    """Drop nothing, rows equal in user, item and time, or every later meeting with the same item."""
    name: str | None = None
    """What reports call this data."""
    overwrite: bool = False
    """Replace a prepared folder that lies there."""
    json: bool = False
    """Print what was made as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Filter, order, split and write a table.\n\n"
        "Example: forethought prepare raw/ml-1m --out data/ml-1m --k-core 5 5 --ties shuffle"
    )
    args = parse(Prepare, arguments, "prepare", about)
    from forethought.data.leakage import leakage
    from forethought.data.prepare import Filters, PrepareConfig, prepare
    from forethought.errors import ConfigError

    if args.splitting.of_tables():
        raise ConfigError(
            "prepare takes one table: give --test-table and --valid-table to train, tune or evaluate --scores, or put "
            "several tables into a folder from Python, with ft.keep_split."
        )
    if args.minimum_rating is None:
        args.columns.refuse_rating()
    view = console()
    source, raw = _raw_or_table(args.source)
    config = PrepareConfig(
        columns=replace(args.columns.columns(), **args.splitting.columns()),
        keep=Filters(minimum_rating=args.minimum_rating, duplicates=args.duplicates, k_core=args.k_core),
        split=None if args.splitting == Splitting() else args.splitting.config(),
        name=args.name,
    )
    split = prepare(
        source,
        args.out,
        config,
        items=raw if args.columns.items is None else args.columns.items,
        overwrite=args.overwrite,
        report=view.print,
    )
    tell_notes(view, split.data)
    sentences = leakage(split).sentences()
    for sentence in sentences:
        view.print(f"- {sentence}", highlight=False)
    if args.json:
        data = split.data
        counts = {"users": data.n_users, "items": data.n_items, "interactions": len(data)}
        cases = {"valid": len(split.valid), "test": len(split.test)}
        print_json({"out": str(args.out), **counts, **cases, "protocol": split.protocol, "leakage": sentences})


def _raw_or_table(source: str) -> tuple[Any, Any]:
    """The tables of raw files of a known format, or the source itself for `read` to open."""
    from forethought.data.public.known import detect, read_raw

    if not os.path.exists(source) or (Path(source) / "interactions.parquet").is_file() or detect(source) is None:
        return source, None
    with Bar() as bar:
        tables = read_raw(source, report=bar.named)
    return tables.interactions, tables.items
