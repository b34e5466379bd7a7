"""How time and memory of token methods grow with items (N), codebooks (M) and codes a book (C), one thread.

    python benchmarks/scale_tokens.py OUT.json [--items 12_101 100_000 1_000_000] [--repetitions 3]

One of N, M and C is turned at a time from N = 100,000, M = 8, C = 256. Each point is a process of its own, so that its
memory is its own: the largest resident size less that of the same process before anything is made. Tokens are drawn.

| figure | of |
|---|---|
| `tables_per_s` | paths by which all items are scored, to the ten best of eight paths; eight users together |
| `one_ms` | the same for one user alone with eight paths |
| `items_batch_s`, `tokens_batch_s` | loss of 1,024 positions and its gradient: of the item among all, of each token |
| `codes_mb` | the tokens of the items, a byte each up to 256 codes |
| `decode_mb`, `train_mb` | memory beyond that before |

Seconds are of processor time, so that a second program on the same cores moves them little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ITEMS, BOOKS, CODES = (12_101, 100_000, 1_000_000), (4, 8, 16, 32), (64, 256, 1024)
BASE = (100_000, 8, 256)
PATHS, POSITIONS, WIDTH, ROWS = 8, 1024, 64, 8


def points(items: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Every point once."""
    n, m, c = BASE
    grown = [*((each, m, c) for each in items), *((n, each, c) for each in BOOKS), *((n, m, each) for each in CODES)]
    return list(dict.fromkeys(grown))


def measure(n_items: int, books: int, size: int, repetitions: int) -> dict[str, float]:
    """All figures of one point."""
    import torch

    from forethought.catalogue.ranking import best
    from forethought.catalogue.token_softmax import TokenBags, token_lse
    from forethought.decoding.token_scores import TokenScorer

    torch.set_num_threads(1)
    before = _resident_mb()
    random = torch.Generator().manual_seed(0)
    codes_NM = torch.randint(size, (n_items, books), generator=random).to(torch.uint8 if size <= 256 else torch.int16)
    log_probs = torch.randn(ROWS, PATHS, books, size, generator=random).log_softmax(-1)
    scorer = TokenScorer(log_probs, torch.zeros(ROWS, PATHS), codes_NM)
    one = scorer.take(torch.tensor([0]))
    told = {"tables_per_s": ROWS * PATHS / _seconds(lambda: best(scorer, 10), repetitions)}
    told["one_ms"] = 1000 * _seconds(lambda: best(one, 10), repetitions)
    told |= {"codes_mb": codes_NM.numel() * codes_NM.element_size() / 1e6, "decode_mb": _peak_mb() - before}
    states_PD = torch.randn(POSITIONS, WIDTH, generator=random)
    codes_MCD = torch.randn(books, size, WIDTH, generator=random).mul_(0.1).requires_grad_()
    targets_P = torch.randint(n_items, (POSITIONS,), generator=random)
    bags = TokenBags.of(codes_NM, size)

    def said() -> torch.Tensor:
        return (states_PD @ codes_MCD.mT).transpose(0, 1)  # [P, M, C]

    def of_items() -> None:
        table_PX = said().flatten(1)
        own_P = table_PX.gather(1, bags.places_NM[targets_P].long()).sum(1)
        (token_lse(table_PX, bags) - own_P).sum().backward()

    def of_tokens() -> None:
        targets_X = codes_NM[targets_P].long().flatten()
        torch.nn.functional.cross_entropy(said().flatten(0, 1), targets_X, reduction="sum").backward()

    told["tokens_batch_s"] = _seconds(of_tokens, repetitions)
    told["items_batch_s"] = _seconds(of_items, 1 if n_items > 500_000 else repetitions)
    return told | {"train_mb": _peak_mb() - before}


def _seconds(run: Callable[[], object], repetitions: int) -> float:
    """The median of some runs; the first warms up."""
    each = []
    for _ in range(repetitions + 1):
        begin = time.process_time()
        run()
        each.append(time.process_time() - begin)
    return statistics.median(each[1:])


def _status_mb(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{name}:")[1].split()[0]) / 1e3


def _peak_mb() -> float:
    return _status_mb("VmHWM")


def _resident_mb() -> float:
    return _status_mb("VmRSS")


def main() -> None:
    def number(text: str) -> int:
        return int(float(text))

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--items", type=number, nargs="+", default=ITEMS)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--point", type=int, nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.point:
        print(json.dumps(measure(*asked.point, asked.repetitions)))
        return
    told = []
    for n, m, c in points(tuple(asked.items)):
        again = [sys.executable, __file__, str(asked.out), "--repetitions", str(asked.repetitions), "--point"]
        run = subprocess.run([*again, str(n), str(m), str(c)], check=True, capture_output=True, text=True)
        told.append({"items": n, "codebooks": m, "codes": c} | json.loads(run.stdout))
        print("  ".join(f"{name} {value:,.4g}" for name, value in told[-1].items()), flush=True)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
