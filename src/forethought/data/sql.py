"""DuckDB: any query over any files or databases it can open becomes a table. This is the one file about it."""

from __future__ import annotations

from typing import Any

import polars as pl

from forethought.errors import DataError, MissingExtraError


def sql(query: str, database: str = ":memory:") -> pl.LazyFrame:
    """The rows of a DuckDB query.

    Args:
        query: one SELECT; files are named in it, as in `SELECT * FROM 'clicks/*.parquet'`.
        database: a DuckDB database file to read from.

    Raises:
        DataError: DuckDB refuses the query; its own words are passed on.
        MissingExtraError: DuckDB or pyarrow is not installed.
    """
    try:
        import duckdb
        import pyarrow  # noqa: F401  how rows leave DuckDB
    except ImportError as error:
        raise MissingExtraError(error.name or "duckdb", "data", "Reading an SQL query") from error
    try:
        with duckdb.connect(database, read_only=database != ":memory:") as connection:
            return relation_frame(connection.sql(query)).lazy()
    except duckdb.Error as error:
        raise DataError(f"DuckDB refused the query {query.strip()!r}: {' '.join(str(error).split())}") from error


def relation_frame(relation: Any) -> pl.DataFrame:
    """A DuckDB relation as a frame, its UUIDs as 16 bytes."""
    frame: pl.DataFrame = relation.pl()
    uuids = [name for name, kind in zip(relation.columns, relation.types, strict=True) if str(kind) == "UUID"]
    return frame.with_columns(pl.col(uuids).str.replace_all("-", "").str.decode("hex")) if uuids else frame
