"""Wall clock of a history, measured so that two runs can be held against each other: the best of a few repetitions."""

from __future__ import annotations

import math

import numpy as np
import torch

from forethought.data.batches import case_batches
from forethought.data.histories import Cases
from forethought.evaluation.ranking import BATCH, clock, filtered_items
from forethought.methods.interface import Method
from forethought.reasoning.halting import Halting

BATCHES = 4  # stand for all, from short histories to long ones
REPEATS = 3  # other work on the machine only ever adds time, so the shortest is the truest


@torch.inference_mode()
def ms_per_history(
    method: Method, cases: Cases, *, exclude_history: bool, halting: Halting | None = None, batch: int = BATCH
) -> dict[str, float]:
    """Milliseconds of a case: "encode" (reading and thinking) and "rank", where `batch` cases go together.

    The random generators stay as they are. Arguments as in `rank_cases`.
    """
    n_batches = -(-len(cases) // batch)
    chosen = np.unique((np.arange(BATCHES) + 0.5) * n_batches // BATCHES).tolist()
    some = [each for place, each in enumerate(case_batches(cases, method.window, batch)) if place in chosen]
    best = {(place, stage): math.inf for place in range(len(some)) for stage in ("encode", "rank")}
    was_training, device = method.training, method.device
    method.eval()
    with torch.random.fork_rng(devices=[]):
        for _ in range(REPEATS):
            for place, (rows, histories) in enumerate(some):
                spent = {"encode": 0.0, "rank": 0.0}
                with clock(spent, "encode", device):
                    represented = method.represent(histories.to(device), halting)
                with clock(spent, "rank", device):
                    excluded = filtered_items(cases.met.take(rows), device) if exclude_history else None
                    method.rank_of(
                        represented, torch.from_numpy(cases.targets[rows].astype(np.int64)).to(device), excluded
                    )
                for stage, seconds in spent.items():
                    best[place, stage] = min(best[place, stage], seconds)
    method.train(was_training)
    n_timed = sum(len(rows) for rows, _ in some)
    return {
        stage: 1000 * sum(best[place, stage] for place in range(len(some))) / max(n_timed, 1)
        for stage in ("encode", "rank")
    }
