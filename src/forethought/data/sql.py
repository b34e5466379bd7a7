"""DuckDB: any query over any files it can open becomes a table. This is the one file about it.

A query may come from somebody else, so it reads and does nothing else. DuckDB itself parses it, and the parse must
be one SELECT all the way down, over functions that are known to read or to count: COPY hides inside WITH, and some
functions write files or take addresses in memory. Extensions are neither loaded nor fetched, so nothing comes from
the network, and what a query spills goes to a folder of its own.
"""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING, Any

import polars as pl

from forethought.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

QUERIES = ("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE")
READERS = (
    *("read_parquet", "parquet_scan", "read_csv", "read_csv_auto", "read_text", "read_blob", "read_duckdb", "glob"),
    *("read_json", "read_json_auto", "read_json_objects", "read_json_objects_auto"),
    *("read_ndjson", "read_ndjson_auto", "read_ndjson_objects", "json_each", "json_tree"),
    *("range", "generate_series", "repeat", "repeat_row", "unnest"),
)
CLOSED = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
}


def sql(query: str, database: str = ":memory:") -> pl.LazyFrame:
    """The rows of a DuckDB query, which is run once, here and now.

    Args:
        query: one SELECT; files of this machine are named in it, as in `SELECT * FROM 'clicks/*.parquet'`.
        database: a DuckDB database file to read from.

    Raises:
        DataError: the query is more than one SELECT, or does more than read; DuckDB refuses it, whose own words are
            passed on.
        MissingExtraError: DuckDB or pyarrow is not installed.
    """
    try:
        import duckdb
        import pyarrow  # noqa: F401  how rows leave DuckDB
    except ImportError as error:
        raise MissingExtraError(error.name or "duckdb", "data", "Reading an SQL query") from error
    with tempfile.TemporaryDirectory(prefix="forethought-") as spilled:
        config = {**CLOSED, "temp_directory": spilled}
        try:
            with duckdb.connect(database, read_only=database != ":memory:", config=config) as connection:
                connection.execute("SET python_enable_replacements = false")  # our own variables are no tables
                connection.execute("SET lock_configuration = true")
                _check_reads(connection, query)
                return relation_frame(connection.sql(query)).lazy()
        except (duckdb.Error, UnicodeError, RuntimeError) as error:
            if isinstance(error, duckdb.InterruptException) or str(error) == "Query interrupted":  # by Ctrl-C
                raise KeyboardInterrupt from error
            if isinstance(error, duckdb.Error | UnicodeError):
                raise _refusal(query, error) from error
            raise


def _check_reads(connection: DuckDBPyConnection, query: str) -> None:
    """Refuse what is not one SELECT that only reads."""
    ((parsed,),) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()
    try:
        tree = json.loads(parsed)
    except RecursionError as error:
        raise DataError(f"The query {query.strip()!r} is nested too deeply to be checked: make it simpler.") from error
    if not tree["error"]:
        n = len(tree["statements"])
        what = f"{n or 'no'} statements" if n != 1 else _beyond_reading(tree)
    elif tree["error_type"] == "parser":
        raise _refused(query, tree["error_message"])
    else:
        what = "another statement"
    if what is not None:
        raise DataError(
            f"The query {query.strip()!r} has {what}, but sql: takes one SELECT that only reads files of this "
            "machine: do the rest in DuckDB itself, and read what comes of it."
        )


def _beyond_reading(parsed: Any) -> str | None:
    """What a parsed query does beside reading, in words; None where it does nothing else."""
    nodes = [parsed]
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes += node
        elif isinstance(node, dict):
            nodes += node.values()
            kind = node.get("type")
            if isinstance(kind, str) and kind.endswith("_NODE") and kind not in QUERIES:
                return f"{kind.removesuffix('_NODE').removesuffix('_QUERY')} inside it"
            if kind == "TABLE_FUNCTION" and (name := str(node["function"]["function_name"])).lower() not in READERS:
                return f"the table function {name!r} inside it"
    return None


def _refusal(query: str, error: Exception) -> DataError:
    said = " ".join(str(error).split())
    if "extension" in said:  # DuckDB's own advice, to install it, would not help
        return DataError(
            f"The query {query.strip()!r} needs an extension of DuckDB, but sql: loads none and reads nothing from the "
            "network: fetch the file first, or give its address alone as the source."
        )
    return _refused(query, said)


def _refused(query: str, said: str) -> DataError:
    """In DuckDB's own words, as one sentence."""
    said = " ".join(said.split())
    end = "" if said.endswith((".", "?", "!")) else "."
    return DataError(f"DuckDB refused the query {query.strip()!r}: {said}{end}")


def relation_frame(relation: Any) -> pl.DataFrame:
    """A DuckDB relation as a frame, its UUIDs as 16 bytes."""
    frame: pl.DataFrame = relation.pl()
    uuids = [name for name, kind in zip(relation.columns, relation.types, strict=True) if str(kind) == "UUID"]
    return frame.with_columns(pl.col(uuids).str.replace_all("-", "").str.decode("hex")) if uuids else frame
