"""What intents cost: epochs of IGR-SR's second stage against an epoch of SASRec of equal width.

python benchmarks/intents.py DATA OUT.json [--repetitions 3] [--threads 2] [--share 0.1] [--quick]

A fixed share of an epoch's batches is timed, everything in turns; ratios are of neighbours. Precision is as `auto` has
it, but for what is called `_32`. A quick run has the default alone.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch

from forethought.data.batches import plan, training_batch, windows
from forethought.data.interactions import DataSizes
from forethought.data.reading import read
from forethought.data.splits import leave_last_out
from forethought.methods.igr_sr import IGRSR, REASONER
from forethought.methods.next_item import NextItem
from forethought.training.settings import Training
from reasoning import in_turns, run_alone, training_steps

VARIANTS = {
    "causal": IGRSR(),
    "rows": IGRSR(over="rows"),
    "learned": IGRSR(intents="learned"),
}


def measure(data: Path, repetitions: int, share: float, *, quick: bool = False) -> dict[str, Any]:
    variants = {"causal": VARIANTS["causal"]} if quick else VARIANTS
    split, settings = leave_last_out(read(str(data))), Training()
    n_items, bar = split.data.n_items, NextItem()
    rows = windows(split.train, bar.backbone.window)
    planned = plan(rows.lengths - 1, settings.batch_positions, 0, 0)
    batches = [training_batch(rows.take(chosen)) for chosen in planned[:: max(1, round(1 / share))]]
    torch.manual_seed(0)
    models = {name: config.build(DataSizes(n_items)) for name, config in variants.items()}
    wide = {"sasrec_32": bar.build(DataSizes(n_items)), "causal_32": VARIANTS["causal"].build(DataSizes(n_items))}
    for model in (*models.values(), wide["causal_32"]):
        model.begin_stage(REASONER)
    steps = {name: training_steps(model, batches, settings, narrow=False) for name, model in wide.items()}
    steps |= {
        name: training_steps(model, batches, settings)
        for name, model in {"sasrec": bar.build(DataSizes(n_items)), **models}.items()
    }
    each = in_turns(steps, repetitions)
    scale = int((rows.lengths - 1).sum()) / sum(batch.weight for batch in batches)
    told: dict[str, Any] = {f"{name}_epoch_s": statistics.median(s) * scale for name, s in each.items()}
    for name in (*variants, "causal_32"):
        for bar_name in ("sasrec", "sasrec_32"):
            pairs = zip(each[name], each[bar_name], strict=True)
            told[f"{name}_over_{bar_name}"] = statistics.median(a / b for a, b in pairs)
    return told


if __name__ == "__main__":
    run_alone(measure, __doc__)
