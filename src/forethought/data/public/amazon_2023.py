"""Amazon reviews of 2023 (Hou et al., arXiv 2403.03952).

Reviews and items come as JSON lines (`All_Beauty.jsonl.gz`, `meta_All_Beauty.jsonl.gz`), the ids alone as tables
(`All_Beauty.csv.gz`, or `.train.csv`, `.valid.csv` and `.test.csv`). Items are named by `parent_asin`.
"""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from forethought.data.progress import Report, silent
from forethought.data.public.files import RawFile, RawKind, Source
from forethought.data.public.rows import json_lines, loose_object, separated
from forethought.data.public.tables import PRODUCT, RawTables, in_order

REVIEWS = RawKind("Amazon 2023 reviews (JSON lines)", r".*\.jsonl", r'^(?!.*"main_category").*"parent_asin"')
TABLES = RawKind(
    "Amazon 2023 ids (user_id,parent_asin,rating,timestamp)", r".*\.csv", r"^user_id,parent_asin,rating,timest"
)
META = RawKind("Amazon 2023 items (meta)", r".*\.jsonl", r'"main_category"')

PART = re.compile(r"\.(train|valid|test)\.csv$")
COLUMNS = {"user_id": pl.String, "parent_asin": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}


def read_amazon_2023(source: Source, *, report: Report = silent) -> RawTables:
    """Read reviews or tables of ids and, where it is there, the file about the items.

    Times come in milliseconds and leave in seconds; `position` keeps the order that the milliseconds gave. The
    three parts of a split are put together again. The brand of an item is its `store`. Of the items only
    those that occur in the interactions are read.

    Args:
        source: the file, a list of files, or their folder or archive.
        report: told of lines done.

    Raises:
        DataError: a file is missing, damaged or has a wrong line, which is named.
    """
    reviews = REVIEWS.maybe_in(source)
    if reviews:
        table = json_lines(reviews, COLUMNS, report)
    else:
        places = {place: (name, dtype) for place, (name, dtype) in enumerate(COLUMNS.items())}
        table = pl.concat([separated(file, places, ",", header=True) for file in _tables(source)])
    table = table.rename({"parent_asin": "item_id"}).sort("timestamp", maintain_order=True)
    meta = META.maybe_in(source)
    items = _items(meta, set(table["item_id"].unique()), report) if meta else None
    return RawTables(in_order(table.with_columns(pl.col("timestamp") // 1000)), items)


def _tables(source: Source) -> list[RawFile]:
    """One table of ids, or the parts of one that was split."""
    files = TABLES.all_in(source)
    split = {PART.sub("", file.name) for file in files if PART.search(file.name)}
    whole = [file for file in files if not PART.search(file.name)]
    return files if len(split) == 1 and not whole else [TABLES.only_in(source)]


def _items(file: RawFile, wanted: set[str], report: Report) -> pl.LazyFrame:
    rows = []
    with file.open() as stream:
        for number, line in enumerate(stream, 1):
            if number % 10_000 == 0:
                report(f"reading {file.name}", number, None)
            if line.strip():
                record = loose_object(file, number, line)
                if record.get("parent_asin") in wanted:
                    rows.append(_item(record))
    return pl.DataFrame(rows, schema=PRODUCT).lazy()


def _item(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "item_id": record["parent_asin"],
        "title": (record.get("title") or "").strip() or None,
        "brand": (record.get("store") or "").strip() or None,
        "categories": list(dict.fromkeys(record.get("categories") or [])),
        "price": _price(record.get("price")),
    }


def _price(value: Any) -> float | None:
    """A number, whether it is written as one or as in "from 12.99"; None for a dash."""
    match = re.search(r"\d+(\.\d+)?", str(value).replace(",", ""))
    return float(match[0]) if match else None
