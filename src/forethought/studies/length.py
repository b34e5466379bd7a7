"""Long histories: what a longer window is worth, and what reading one history costs in time and memory.

The window is what a model was trained with; every figure is of the longest test histories, cut to that window.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from forethought.data.batches import history_batch
from forethought.data.splits import Split
from forethought.recommender import Recommender
from forethought.studies import results
from forethought.studies.page import Page, number
from forethought.studies.results import Result
from forethought.studies.study import Study
from forethought.studies.tables import results_table

TOGETHER = 64  # histories in one batch, for memory
REPEATS = 30


@torch.inference_mode()
def probe(model: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """Time and memory of reading the longest histories."""
    method, rows = model.method, split.test.history
    method.eval()
    longest = np.argsort(-rows.lengths, kind="stable")[:TOGETHER]
    one, many = (history_batch(rows.take(which), method.window).to(method.device) for which in (longest[:1], longest))
    spent = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        method.user_states(one)
        if method.device.type == "cuda":
            torch.cuda.synchronize(method.device)
        spent.append(1000 * (time.perf_counter() - begin))
    method.user_states(many)  # what is set up once is no part of the peak
    return {
        "window": method.window,
        "items": int(one.lengths_B[0]),
        "ms": float(np.median(spent[1:])),
        "mb": peak_mb(lambda: method.user_states(many), method.device),
    }


def peak_mb(work: Callable[[], object], device: torch.device) -> float:
    """Most that tensors took at once beyond what there was, as the device's allocator tells; the process's own memory
    would not, since what was freed stays with it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler is not None
    record: Any = profiler.profiler.kineto_results  # events of operators hide what they free inside
    events = sorted((e.start_ns(), at, e.nbytes()) for at, e in enumerate(record.events()) if e.name() == "[memory]")
    return max(accumulate((taken for _, _, taken in events), initial=0)) / 1e6


def write(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    results_table(page, runs_of, STUDY.name)
    for dataset in results.places(runs_of):
        rows = []
        for variant, runs in results.at(runs_of, dataset).items():
            for figures in (run.probe for run in runs if run.probe is not None):
                rows.append(
                    (variant, figures["window"], figures["items"], number(figures["ms"], 2), number(figures["mb"], 0))
                )
        if rows:
            page.heading(f"Reading the longest histories of {dataset}")
            page.say(
                "One history alone (median), and how much memory beyond the model's own a batch of "
                f"{TOGETHER} takes at its peak, by the allocator's record."
            )
            page.table(["variant", "window", "items read", "ms, one history", "MB, a batch"], rows)


STUDY = Study(
    name="long-histories",
    title="Long histories",
    question="What are windows of 200 and of 1,000 items worth, and what do they cost with and without intents?",
    variants=("sasrec-200", "sasrec-1000", "igr-sr-200", "igr-sr-1000"),
    write=write,
    probe=probe,
)
