"""Amazon reviews of 2014 (McAuley et al., SIGIR 2015; He and McAuley, WWW 2016).

Reviews come as JSON lines (`reviews_Beauty_5.json.gz`) or as ratings alone (`ratings_Beauty.csv`), items as Python
literals (`meta_Beauty.json.gz`). Times are whole days, and the files are sorted by item.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import polars as pl

from forethought.data.progress import Report, silent
from forethought.data.public.files import RawFile, RawKind, Source
from forethought.data.public.rows import json_lines, loose_object, separated
from forethought.data.public.tables import PRODUCT, RawTables, in_order

REVIEWS = RawKind("Amazon 2014 reviews (JSON lines)", r".*\.json", r"""["']reviewerID["']""")
RATINGS = RawKind("Amazon 2014 ratings (user,item,rating,time)", r".*\.csv", r"^[A-Z0-9]+,\w{10},\d(\.\d)?,\d{9,10}$")
META = RawKind("Amazon 2014 items (meta)", r".*\.json", r"""^(?!.*["']reviewerID["']).*["']asin["']""")


def read_amazon_2014(source: Source, *, report: Report = silent) -> RawTables:
    """Read reviews or ratings and, where it is there, the file about the items.

    Of the items only those that occur in the interactions are read. Their categories are all levels of all paths,
    each once, in order.

    Args:
        source: the file, a list of files, or their folder or archive.
        report: told of lines done.

    Raises:
        DataError: a file is missing, damaged or has a wrong line, which is named.
    """
    reviews = REVIEWS.maybe_in(source)
    if reviews:
        keys = {"reviewerID": pl.String, "asin": pl.String, "overall": pl.Float64, "unixReviewTime": pl.Int64}
        table = json_lines(reviews, keys, report)
        table = table.rename(
            {"reviewerID": "user_id", "asin": "item_id", "overall": "rating", "unixReviewTime": "timestamp"}
        )
    else:
        places = {
            0: ("user_id", pl.String),
            1: ("item_id", pl.String),
            2: ("rating", pl.Float64),
            3: ("timestamp", pl.Int64),
        }
        table = separated(RATINGS.only_in(source), places, ",")
    meta = META.maybe_in(source)
    items = _items(meta, set(table["item_id"].unique()), report) if meta else None
    return RawTables(in_order(table), items)


def _items(file: RawFile, wanted: set[str], report: Report) -> pl.LazyFrame:
    return pl.DataFrame([_item(record) for record in _records(file, wanted, report)], schema=PRODUCT).lazy()


def _records(file: RawFile, wanted: set[str], report: Report) -> Iterator[dict[str, Any]]:
    """Objects of wanted items; of others no more than the id is looked at, for literals are slow to read."""
    asin = re.compile(rb"""['"]asin['"]: ?['"](\w+)['"]""")
    with file.open() as stream:
        for number, line in enumerate(stream, 1):
            if number % 10_000 == 0:
                report(f"reading {file.name}", number, None)
            match = asin.search(line)
            if not line.strip() or (match and match[1].decode() not in wanted):
                continue
            record = loose_object(file, number, line)
            if record.get("asin") in wanted:
                yield record


def _item(record: dict[str, Any]) -> dict[str, Any]:
    price = record.get("price")
    levels = [level for path in record.get("categories") or [] for level in path]
    return {
        "item_id": record["asin"],
        "title": _text(record.get("title")),
        "brand": _text(record.get("brand")),
        "categories": [html.unescape(level) for level in dict.fromkeys(levels)],
        "price": float(price) if isinstance(price, int | float) else None,
    }


def _text(value: Any) -> str | None:
    """Text as a reader would write it: the files carry HTML's `&amp;`."""
    return html.unescape(value).strip() or None if isinstance(value, str) else None
