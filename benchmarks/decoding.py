"""What ranking all items by token tables costs, and beam search before it: tables a second of one thread.

python benchmarks/decoding.py DATA OUT.json [--repetitions 3] [--quick]

A table is one path of one user: log-probabilities of 8 x 256 tokens, by which all items are scored, paths merged and
the ten best listed. Figures are of processor time, so that a second program on the same cores moves them little. The
floor is the bare look-up of as many rows; what is gathered item by item is [paths, items, books] numbers, some paths at
a time. Items and tables are drawn; DATA is not read. A quick run leaves out the million items.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.catalogue.ranking import best, ranks
from forethought.decoding.token_scores import TokenScorer
from reasoning import run_alone

BOOKS, SIZE = 8, 256
PATHS = 8
ROWS = {12_101: 64, 1_000_000: 8}  # users together
GATHERED = 2**26  # numbers that are gathered at a time


def measure(data: Path, repetitions: int, share: float, *, quick: bool = False) -> dict[str, Any]:
    del data, share
    torch.set_num_threads(1)  # whatever was asked for: figures are of one
    figures: dict[str, Any] = {}
    for n_items, rows in ROWS.items():
        if n_items > 100_000 and quick:
            continue
        generator = torch.Generator().manual_seed(0)
        codes = torch.randint(SIZE, (n_items, BOOKS), generator=generator).to(torch.uint8)
        scorer = _scorer(codes, rows, generator)
        targets = torch.randint(n_items, (rows,), generator=generator)
        one = scorer.take(torch.tensor([0]))
        steps = {
            "floor": (rows, lambda codes=codes, s=scorer: _look_up(codes, s)),
            "top10": (rows, lambda s=scorer: best(s, 10)),
            "ranks": (rows, lambda s=scorer, t=targets: ranks(s, t)),
            "one_user": (1, lambda s=one: best(s, 10)),
            "gathered": (2, lambda codes=codes, s=scorer: _gathered(codes, s.take(torch.arange(2)))),
        }
        each = _processor_seconds({name: run for name, (_, run) in steps.items()}, repetitions)
        medians = map(statistics.median, each)
        of = {name: s / (n * PATHS) for (name, (n, _)), s in zip(steps.items(), medians, strict=True)}
        figures[str(n_items)] = {f"{name}_tables_per_s": 1 / s for name, s in of.items()} | {
            "top10_over_floor": of["top10"] / of["floor"],
            "gathered_over_top10": of["gathered"] / of["top10"],
            "rows": rows,
        }
    return figures


def _scorer(codes_NM: Tensor, rows: int, generator: torch.Generator) -> TokenScorer:
    log_probs = torch.randn(rows, PATHS, BOOKS, SIZE, generator=generator).log_softmax(-1)
    return TokenScorer(log_probs, torch.zeros(rows, PATHS), codes_NM)


def _processor_seconds(steps: Mapping[str, Callable[[], object]], repetitions: int) -> list[list[float]]:
    """Of each, one after the other in every turn; the first turn warms up."""
    each: list[list[float]] = [[] for _ in steps]
    for turn in range(repetitions + 1):
        for seconds, run in zip(each, steps.values(), strict=True):
            begin = time.process_time()
            run()
            if turn:
                seconds.append(time.process_time() - begin)
    return each


def _look_up(codes_NM: Tensor, scorer: TokenScorer) -> None:
    """As many rows of tables, looked up and added, 64 paths at a time; nothing else."""
    columns = 64
    table_XS = torch.zeros(BOOKS * SIZE, columns)
    at_NM = codes_NM.int() + torch.arange(BOOKS, dtype=torch.int32) * SIZE
    for _ in range(scorer.weights_BP.numel() // columns):
        for part_NM in at_NM.split(4096):
            F.embedding_bag(part_NM, table_XS, mode="sum")


def _gathered(codes_NM: Tensor, scorer: TokenScorer) -> None:
    """Each path's numbers for each item and book, then their sum: how it is written down first."""
    table_SMC = scorer.log_probs_BPMC.flatten(0, 1)
    parts = []
    for part_NM in codes_NM.long().split(max(1, GATHERED // (len(table_SMC) * BOOKS))):
        at_SMN = part_NM.T.expand(len(table_SMC), -1, -1)
        parts.append(table_SMC.gather(2, at_SMN).sum(1))
    scores_BPN = torch.cat(parts, dim=1).view(*scorer.weights_BP.shape, -1)
    scores_BPN.logsumexp(1).topk(10, dim=1)


if __name__ == "__main__":
    run_alone(measure, __doc__)
