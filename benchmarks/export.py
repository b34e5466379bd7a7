"""Writes the folder that every peer is handed: the same interactions, in the same order, for all of them.

    python benchmarks/export.py SOURCE OUT

SOURCE holds `interactions.parquet` with user_id, item_id and position (the file order inside a user). OUT gets
`train.csv`, `valid.csv` and `test.csv` with those three columns, and `meta.json` with the counts. The last item of a
user is the test target, the one before it the validation target, the others are for training. CSV, because it is what
all the peers' environments can read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import polars as pl

from forethought.data.sources import read_parquet


def export(source: Path, out: Path) -> dict[str, int]:
    """Split the interactions under `source` leave-last-out by position, write them to `out` and return the counts."""
    columns = ["user_id", "item_id", "position"]
    table = read_parquet(source / "interactions.parquet", columns).sort("user_id", "position")
    from_end = pl.len().over("user_id") - 1 - pl.int_range(pl.len()).over("user_id")
    parts = {
        "train": table.filter(from_end >= 2),
        "valid": table.filter(from_end == 1),
        "test": table.filter(from_end == 0),
    }
    if parts["train"]["user_id"].n_unique() < table["user_id"].n_unique():
        raise ValueError("some users have fewer than 3 interactions; leave-last-out needs at least 3 of each")

    out.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        part.write_csv(out / f"{name}.csv")
    meta = {
        "users": table["user_id"].n_unique(),
        "items": table["item_id"].n_unique(),
        "interactions": table.height,
        "train_interactions": parts["train"].height,
    }
    (out / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
    return meta


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the input folder of the peer benchmarks.")
    parser.add_argument("source", type=Path, help="folder with interactions.parquet")
    parser.add_argument("out", type=Path, help="folder to write")
    arguments = parser.parse_args()
    print(json.dumps(export(arguments.source, arguments.out)))


if __name__ == "__main__":
    main()
