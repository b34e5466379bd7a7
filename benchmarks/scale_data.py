"""How much memory and time a large table takes, from Parquet to the training batches of one epoch.

    python benchmarks/scale_data.py --interactions 100_000_000 --order shuffled

Simulated interactions are written to a temporary folder; a fresh process then reads them, splits them and walks
through batches, and reports its peak resident memory, mapped files included.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

CHUNK = 5_000_000
PER_USER, PER_ITEM = 50, 100  # interactions of an average user and item


def simulate(folder: Path, n: int, order: str) -> None:
    """Parquet files of int64 user, item and time; popular items as in a long tail."""
    random = np.random.default_rng(0)
    n_users, n_items = max(n // PER_USER, 1), max(n // PER_ITEM, 1)
    for part, start in enumerate(range(0, n, CHUNK)):
        size = min(CHUNK, n - start)
        ranks = start + np.arange(size)
        users = ranks // PER_USER if order == "sorted" else random.integers(0, n_users, size)
        first = 1_500_000_000 + users % 1000 * 86_400
        seconds = ranks % PER_USER * 3600 if order == "sorted" else random.integers(0, 10**8, size)
        columns = {
            "user_id": users * 7 + 10**9,
            "item_id": (n_items * random.random(size) ** 2).astype(np.int64) * 13 + 5,
            "timestamp": first + seconds,
        }
        pl.DataFrame(columns).write_parquet(folder / f"{part:04d}.parquet", row_group_size=1_000_000)


def measure(folder: Path, max_batches: int) -> dict[str, float]:
    """Read, split, plan and walk through batches; times in seconds, memory in MB."""
    marks = {"start_s": time.perf_counter()}
    from forethought.data.batches import plan, training_batch, windows
    from forethought.data.reading import read
    from forethought.data.splits import leave_last_out

    marks["import_s"] = time.perf_counter()
    rss = {"import_rss_mb": _peak_mb()}
    data = read(folder, cache=folder.parent)
    marks["read_s"], rss["read_rss_mb"] = time.perf_counter(), _peak_mb()
    rows = windows(leave_last_out(data).train, 50)
    batches = plan(rows.lengths - 1, positions=16_384, seed=0, epoch=0)
    marks["plan_s"], rss["plan_rss_mb"] = time.perf_counter(), _peak_mb()
    walked = batches[:max_batches] if max_batches else batches
    positions = sum(training_batch(rows.take(each)).weight for each in walked)
    marks["batches_s"] = time.perf_counter()
    names = list(marks)
    spent = {after: marks[after] - marks[before] for before, after in itertools.pairwise(names)}
    counts = {"interactions": len(data), "users": data.n_users, "items": data.n_items}
    walk = {"batches": len(batches), "batches_walked": len(walked), "positions_walked": positions}
    return counts | walk | spent | rss | {"peak_rss_mb": _peak_mb()}


def _peak_mb() -> float:
    """Peak resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=lambda text: int(float(text)), default=1_000_000)
    parser.add_argument("--order", choices=("shuffled", "sorted"), default="shuffled")
    parser.add_argument("--folder", help="a disk with room: about 4 GB for 100 million")
    parser.add_argument("--max-batches", type=int, default=0, help="walk only so many batches (0: the whole epoch)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure, asked.max_batches)))
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        folder = Path(scratch) / "table"
        folder.mkdir()
        simulate(folder, asked.interactions, asked.order)
        again = [sys.executable, __file__, "--measure", str(folder), "--max-batches", str(asked.max_batches)]
        told = subprocess.run(again, check=True, capture_output=True, text=True).stdout
    for name, value in json.loads(told).items():
        print(f"{name:>18}  {value:,.1f}" if isinstance(value, float) else f"{name:>18}  {value:,}")


if __name__ == "__main__":
    main()
