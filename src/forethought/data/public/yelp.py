"""The Yelp Open Dataset: reviews and businesses as JSON lines, in a tar archive that Yelp hands out to who asks."""

from __future__ import annotations

import polars as pl

from forethought.data.progress import Report, silent
from forethought.data.public.files import RawFile, RawKind, Source
from forethought.data.public.rows import json_lines, loose_lines
from forethought.data.public.tables import RawTables, in_order
from forethought.errors import DataError

REVIEWS = RawKind("Yelp reviews (JSON lines)", r".*review.*\.json", r'"business_id"')
BUSINESSES = RawKind("Yelp businesses (JSON lines)", r".*business.*\.json", r'"business_id"')

KEYS = {"user_id": pl.String, "business_id": pl.String, "stars": pl.Float64, "date": pl.String}
ITEM_SCHEMA = {"item_id": pl.String, "title": pl.String, "categories": pl.List(pl.String)}


def read_yelp(source: Source, *, report: Report = silent) -> RawTables:
    """Read reviews and, where it is there, the file about the businesses.

    Dates are taken as UTC; old editions have only days. The file has no order within a day or second.

    Args:
        source: the file, a list of files, or their folder or archive.
        report: told of lines done.

    Raises:
        DataError: a file is missing, damaged or has a wrong line, which is named.
    """
    reviews = REVIEWS.only_in(source)
    table = json_lines(reviews, KEYS, report)
    day = pl.col("date").str.slice(0, 10).str.to_datetime("%Y-%m-%d", strict=False)
    second = pl.col("date").str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)
    table = table.rename({"business_id": "item_id", "stars": "rating"})
    table = table.with_columns(timestamp=pl.coalesce(second, day).dt.epoch("s"))
    undated = table.filter(pl.col("timestamp").is_null())["date"]
    if len(undated):
        raise DataError(
            f"{len(undated):,} reviews in {reviews} have dates such as {undated[0]!r}, not like 2018-07-07 or "
            "2018-07-07 22:09:11: mend or delete those lines."
        )
    businesses = BUSINESSES.maybe_in(source)
    return RawTables(in_order(table), _items(businesses) if businesses else None)


def _items(file: RawFile) -> pl.LazyFrame:
    rows = []
    with file.open() as stream:
        for number, record in loose_lines(file, stream):
            if not isinstance(record.get("business_id"), str):
                raise DataError(f"Line {number:,} of {file} has no business_id: mend or delete that line.")
            categories = (record.get("categories") or "").split(",")
            rows.append(
                {
                    "item_id": record["business_id"],
                    "title": record.get("name"),
                    "categories": [name.strip() for name in categories if name.strip()],
                }
            )
    return pl.DataFrame(rows, schema=ITEM_SCHEMA).lazy()
