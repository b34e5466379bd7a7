"""How much memory and time exact ranking takes: users over items, random states in float32, histories excluded.

    python benchmarks/scale_ranking.py --users 100_000 --items 1_000_000

A fresh process makes the vectors, ranks one target a user and reports its peak resident memory. The bare product of
the first users, timed in the same process, is the floor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

FLOOR_USERS, HISTORY = 768, 10


def measure(n_users: int, n_items: int, width: int, batch: int, threads: int) -> dict[str, float]:
    """Rank in batches as evaluation does; times in seconds, memory in MB."""
    import torch

    from forethought.catalogue.blocks import item_shards, row_blocks
    from forethought.catalogue.catalogue import Catalogue
    from forethought.catalogue.ranking import SHARD, FilteredItems, rank_of

    torch.set_num_threads(threads)
    told = {"import_rss_mb": _peak_mb()}
    random = torch.Generator().manual_seed(0)
    catalogue = Catalogue(torch.randn(n_items, width, generator=random))
    states = torch.randn(n_users, width, generator=random)
    begin = time.perf_counter()
    few = states[:FLOOR_USERS]
    for rows in row_blocks(few, min(n_items, SHARD)):
        for shard in item_shards(n_items, SHARD):
            few[rows] @ catalogue.vectors_ND[shard].T
    told["floor_s"] = (time.perf_counter() - begin) / len(few) * n_users
    begin = time.perf_counter()
    total = 0.0
    for start in range(0, n_users, batch):
        some = states[start : start + batch]
        histories = torch.randint(n_items, (len(some), HISTORY), generator=random)
        targets = torch.randint(n_items, (len(some),), generator=random)
        excluded = FilteredItems.from_histories(histories, torch.full((len(some),), HISTORY))
        ranks = rank_of(some, catalogue, targets, excluded)
        total += ranks[ranks.isfinite()].sum().item()
    told["rank_s"] = time.perf_counter() - begin
    told["rank_over_floor"] = told["rank_s"] / told["floor_s"]
    return told | {"mean_rank": total / n_users, "peak_rss_mb": _peak_mb()}


def _peak_mb() -> float:
    """Peak resident memory of this process, as Linux keeps it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def main() -> None:
    def number(text: str) -> int:
        return int(float(text))

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=number, default=2_000)
    parser.add_argument("--items", type=number, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=number, default=4096, help="users ranked together")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.users, asked.items, asked.width, asked.batch, asked.threads)))
        return
    again = [sys.executable, __file__, *sys.argv[1:], "--measure"]
    told = json.loads(subprocess.run(again, check=True, capture_output=True, text=True).stdout)
    for name, value in told.items():
        print(f"{name:>18}  {value:,.2f}")


if __name__ == "__main__":
    main()
