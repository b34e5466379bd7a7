"""Prepare: a table is filtered, ordered, split and written once, as a folder in the uniform layout.

`interactions.parquet` (user_id, item_id, timestamp and session where known, position, split), `items.parquet` in the
order of item rows, `item_text_embeddings.npy` where the source had them, and `prepared.json`, which says how all this
came about. A folder appears whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from forethought.data import filters
from forethought.data.columns import Columns
from forethought.data.interactions import Interactions
from forethought.data.leakage import leakage
from forethought.data.names import as_name, check_name
from forethought.data.origin import Origin
from forethought.data.parts import PARTS, last_session_parts, session_parts
from forethought.data.reading import read
from forethought.data.sources import OpenTable, describe, folder_of, open_table, readable
from forethought.data.splits import Split, SplitConfig, make_split
from forethought.data.texts import VECTORS, item_texts
from forethought.data.times import moment
from forethought.data.vocabulary import Vocabulary, uuid_bytes
from forethought.errors import DataError
from forethought.files import first_line
from forethought.folders import check_own, replace_folder
from forethought.settings import Count, Number, Settings, check

Duplicates = Literal["keep", "same_time", "repeats"]
SPLIT_BY = {"column": "split", "leave_last_session_out": "session"}  # columns that a kind of split reads
HELD_OUT = "held_out"  # in the stead of train, where an item is held out of training
FACTS_FILE = "prepared.json"
WRITTEN = ("interactions.parquet", "items.parquet", VECTORS, FACTS_FILE)


@dataclass(frozen=True, kw_only=True)
class Filters(Settings):
    """What is left out, in this order.

    Attributes:
        minimum_rating: rows rated lower, or not rated, go.
        duplicates: "same_time" drops rows with the same user, item and time, "repeats" every later meeting of a
            user with an item.
        k_core: (users, items): how many interactions every remaining user and item must have.
    """

    minimum_rating: Number | None = None
    duplicates: Duplicates = "keep"
    k_core: tuple[Count, Count] | None = None


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(Settings):
    """What a prepared folder is made of a table by."""

    columns: Columns = field(default_factory=Columns)
    """Which column of the table means what."""
    keep: Filters = field(default_factory=Filters)
    """What is left out."""
    split: SplitConfig | None = None
    """How the rest is divided; None: the last item of each user tests, which is refused where the table has a column
    `split` of its own, that the folder's would take the place of."""
    name: str | None = None
    """What reports call this data, and part of the names of files; None: as the folder is called."""


def prepare(
    source: Any,
    out: str | Path,
    config: PrepareConfig | None = None,
    *,
    items: Any = None,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda said: None,
    cache: str | Path | None = None,
) -> Split:
    """Filter, order and split a table, and write it as a folder that `open_prepared` and `read` understand.

    The rows are written in their final order, shuffled ties included, so that the split read back is this one.

    Args:
        source, items, cache: as in `read`.
        out: the folder to be made.
        config: columns, filters and split; by default nothing is filtered, and the last item of each user left out.
        overwrite: replace a prepared folder that is already there; anything else is refused.
        report: told in a sentence what is being done.

    Returns:
        The split, as it will be read back.

    Raises:
        DataError: `out` exists and is not empty (with `overwrite`: is no prepared folder, or holds other files too),
            the disk is full, the source cannot be used, or the name has slashes; nothing is then left behind.
    """
    out, config = Path(out), PrepareConfig() if config is None else config
    check(config, PrepareConfig, "config")
    check(overwrite, bool, "overwrite")
    name = _name(config.name, out)
    check_own(out, WRITTEN, _is_prepared, "a prepared folder", overwrite=overwrite)
    prepared = prepared_folder(source)
    if prepared is not None and prepared.resolve() != out.resolve():
        raise DataError(
            f"{str(source)!r} is prepared already, with a split of its own: prepare what it was made from, or only its "
            "interactions.parquet."
        )
    report(f"reading {describe(source)}")
    with readable(source):
        table = open_table(source)
        rows = table.frame.select(pl.len()).collect(engine="streaming").item()
    split = _split_of(config, table, report)
    columns, keep = config.columns.noted(), config.keep
    data = read(table, **columns, minimum_rating=keep.minimum_rating, items=items, name=name, cache=cache)
    steps = [{"step": "source", "interactions": rows}, _counted("read", data)]
    for step, filtered in _filtered(data, keep):
        data = filtered
        steps.append(_counted(step, data))
        report(f"after {step}: {data.n_users:,} users, {data.n_items:,} items, {len(data):,} interactions")
    done = split.apply(data)
    done = replace(done, data=replace(data, histories=done.test.history.histories))  # ties in order, nothing left out
    facts = {
        "source": str(source) if isinstance(source, str | Path) else describe(source),
        "columns": columns,
        "filters": asdict(keep),
        "steps": steps,
        "split": asdict(split),
    }
    report(f"writing {str(out)!r}")
    return _written(done, out, facts, overwrite=overwrite)


def keep_split(split: Split, out: str | Path, *, overwrite: bool = False) -> Split:
    """Write a split and its data as a prepared folder, which every verb takes for `--data`.

    Args:
        split: such as `ft.custom_split` or `ft.split_of_tables` has made.
        out, overwrite: as in `prepare`.

    Raises:
        DataError: as in `prepare`; or the split has noise, which belongs to a run.
    """
    check(split, Split, "split")
    out = Path(out)
    if split.noise is not None:
        raise DataError("Noise belongs to a run and not to its data: keep the split without it.")
    check_own(out, WRITTEN, _is_prepared, "a prepared folder", overwrite=overwrite)
    facts = {"source": "a split from Python", "columns": Columns().noted(), "filters": asdict(Filters())}
    facts |= {"steps": [_counted("kept", split.data)], "split": asdict(split.config)}
    whole = replace(split, data=replace(split.data, histories=split.test.history.histories))
    return _written(whole, out, facts, overwrite=overwrite)


def _written(split: Split, out: Path, facts: dict[str, Any], *, overwrite: bool) -> Split:
    """The split, once it lies in its folder with what there is to know of it."""
    data = split.data
    facts = {"name": _name(data.name, out), **facts, "protocol": split.protocol}
    facts |= {"leakage": leakage(split).sentences(), "notes": list(data.notes), "data_hash": data.data_hash}
    with replace_folder(out, overwrite=overwrite) as folder:
        _write(split, folder)
        _write_vectors(data, folder)
        text = json.dumps({**facts, "forethought": version("forethought")}, indent=2)
        (folder / FACTS_FILE).write_text(text + "\n", encoding="utf-8")
    return replace(split, data=replace(data, origin=Origin.of(out, Columns())))


def _split_of(config: PrepareConfig, table: OpenTable, report: Callable[[str], None]) -> SplitConfig:
    """How the table is split; a split of its own is never written over in silence.

    Raises:
        DataError: it has a column `split`, and nobody has said what becomes of that.
    """
    if config.columns.split is not None and config.split is None:
        return SplitConfig(kind="column")
    if "split" in table.frame.collect_schema() and config.columns.split is None:
        if config.split is None and prepared_folder(table) is None:
            raise DataError(
                f"{describe(table)} has a column 'split' already, which would be written over: keep it (--split "
                "column), or say how to split anew (such as --split leave_last_out)."
            )
        report("the column 'split' of the table gives way to the new split")
    return SplitConfig() if config.split is None else config.split


def _name(name: str | None, out: Path) -> str:
    """What the data is called: as was said, else as the folder is."""
    if not name:
        return as_name(out.absolute().name) or "data"
    check_name(name)
    return name


def prepared_folder(source: Any) -> Path | None:
    """The source as a folder that `prepare` has made, None where it is something else."""
    folder = folder_of(source)
    return folder if folder is not None and (folder / FACTS_FILE).is_file() else None


def open_prepared(folder: str | Path, *, cache: str | Path | None = None) -> Split:
    """The data and the split of a prepared folder.

    Raises:
        DataError: no such folder, its `prepared.json` is damaged or names the data by a path, or its tables are not
            those it was written with.
    """
    folder = Path(folder)
    facts_at = folder / FACTS_FILE
    if not facts_at.is_file():
        raise DataError(f"{str(folder)!r} holds no prepared.json: make such a folder with prepare, or use read.")
    try:
        facts = json.loads(facts_at.read_text(encoding="utf-8"))
        name, config, expected = facts["name"], dict(facts["split"]), facts["data_hash"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{str(facts_at)!r} is damaged ({first_line(error)}): prepare the folder again.") from error
    check_name(name, f"the data in {str(facts_at)!r}")
    split, session = (name if config.get("kind") == kind else None for kind, name in SPLIT_BY.items())
    data = read(folder, name=name, cache=cache, split=split, session=session)
    if data.data_hash != expected:
        raise DataError(
            f"The tables in {str(folder)!r} are not those that were prepared (hash {data.data_hash}, expected "
            f"{expected}): prepare the folder again."
        )
    opened = make_split(data, config)
    if opened.protocol.get("parts") != _parts_of(facts):
        raise DataError(
            f"The parts in {str(folder)!r} are not those that were prepared: prepare the folder again, as its column "
            f"{split or session} has changed since."
        )
    return opened


def _parts_of(facts: dict[str, Any]) -> Any:
    protocol = facts.get("protocol")
    return protocol.get("parts") if isinstance(protocol, dict) else None


def _filtered(data: Interactions, keep: Filters) -> Iterator[tuple[str, Interactions]]:
    if keep.duplicates != "keep":
        data = filters.drop_duplicates(data, repeats=keep.duplicates == "repeats")
        yield f"dropping duplicates ({keep.duplicates})", data
    if keep.k_core is not None:
        data = filters.k_core(data, *keep.k_core)
        yield f"{keep.k_core[0]}-core of users and {keep.k_core[1]}-core of items", data


def _counted(step: str, data: Interactions) -> dict[str, Any]:
    return {"step": step, "interactions": len(data), "users": data.n_users, "items": data.n_items}


def _is_prepared(folder: Path) -> bool:
    """Whether `prepare` wrote it, damaged settings included."""
    try:
        facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and {"forethought", "split", "data_hash"} <= facts.keys()


def _write(split: Split, folder: Path) -> None:
    data = split.data
    table = data.item_table.drop("source_row", strict=False).with_columns(item_id=_ids(data.items))
    table.write_parquet(folder / "items.parquet")
    types: dict[str, pl.DataType] = {"user_id": _ids(data.users).dtype, "item_id": _ids(data.items).dtype}
    types |= {"timestamp": pl.Int64()} if data.histories.times is not None else {}
    types |= {"session": pl.Int32()} if data.sessions is not None else {}
    schema = pl.Schema(types | {"position": pl.Int32(), "split": _part_type(split)})
    part = _part_of_rows(split)

    def blocks(columns: list[str] | None, *_: Any) -> Iterator[pl.DataFrame]:
        for users in data.histories.blocks():
            frame = _block(data, part, users, schema)
            yield frame.select(columns) if columns is not None else frame

    register_io_source(blocks, schema=schema, is_pure=True).sink_parquet(folder / "interactions.parquet")


def _block(data: Interactions, part: np.ndarray, users: slice, schema: pl.Schema) -> pl.DataFrame:
    histories = data.histories
    rows, owner = histories.rows(users), histories.owners(users)
    columns = {
        "user_id": _ids(data.users).gather(owner),
        "item_id": _ids(data.items).gather(histories.items[rows]),
        "timestamp": None if histories.times is None else histories.times[rows],
        "session": None if data.sessions is None else data.sessions[rows],
        "position": np.arange(rows.start, rows.stop) - histories.starts[owner],
        "split": _names(schema["split"]).gather(part[rows]),
    }
    return pl.DataFrame({name: columns[name] for name in schema}).cast(schema)


def _ids(vocabulary: Vocabulary) -> pl.Series:
    """Ids as they are written: UUIDs as 16 bytes."""
    if vocabulary.kind != "uuid":
        return vocabulary.ids
    return vocabulary.ids.to_frame("id").select(uuid_bytes(pl.col("id"))).to_series()


def _part_type(split: Split) -> pl.Enum:
    return pl.Enum([*PARTS, HELD_OUT] if split.config.hold_out_items else PARTS)


def _names(dtype: pl.DataType) -> pl.Series:
    """The parts, in order of their numbers."""
    assert isinstance(dtype, pl.Enum)
    return pl.Series(dtype.categories, dtype=dtype)


def _part_of_rows(split: Split) -> np.ndarray:
    """Of each interaction its part, uint8 [n]: its period in a temporal split, else what is to be found."""
    histories = split.data.histories
    if split.config.kind == "column" and split.data.parts is not None:
        part = split.data.parts
    elif split.config.kind == "leave_last_session_out":
        part = last_session_parts(split.data)
    elif split.config.kind == "session":
        names = ("valid_share", "test_share", "order", "seed")
        part = session_parts(histories, **{name: getattr(split.config, name) for name in names})
        part = np.repeat(part, histories.lengths)
    elif histories.times is not None and split.config.kind == "temporal":
        bounds = [moment(split.protocol[name], name) for name in ("valid_from", "test_from")]
        part = np.searchsorted(bounds, histories.times, side="right").astype(np.uint8)
    else:
        part = np.zeros(len(histories.items), np.uint8)
        part[split.valid.history.ends] = 1
        part[split.test.history.ends] = 2
    if split.config.hold_out_items:
        trained_N = split.train.item_counts(split.data.n_items) > 0
        part[(part == 0) & ~trained_N[histories.items]] = len(PARTS)
    return part


def _write_vectors(data: Interactions, folder: Path) -> None:
    """Text vectors beside the source, brought into the order of item rows."""
    if data.texts is not None:
        np.save(folder / VECTORS, item_texts(data))
