"""Our side of the table, in a process of its own: floor, epoch and evaluation in turns, so that noise hits all alike.

python benchmarks/ours.py DATA OUT.json [--repetitions 3] [--threads 2] [--share 1] [--quick]

Epochs are timed in float32 and as `precision=auto` has them, against a float32 floor and one whose products over the
items are bfloat16; with a share, of every so manieth batch, scaled to the epoch. A quick run leaves
memory out, which needs a whole training.
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
from typing import Any

import torch

from floor import Product, catalogue_products, encoder_products, seconds
from forethought.backbones.sasrec import SASRec
from forethought.catalogue.narrow import cpu_has_bf16, narrow_products
from forethought.config import RunConfig
from forethought.data.batches import Batch, case_batches, plan, training_batch, windows
from forethought.data.histories import Spans
from forethought.data.interactions import DataSizes
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out
from forethought.evaluation.ranking import BATCH, rank_cases
from forethought.methods.interface import Method
from forethought.methods.items import ItemLoss
from forethought.methods.next_item import NextItem
from forethought.recommender import Recommender
from forethought.training.optimiser import adamw
from forethought.training.settings import Training
from peers.measure import latency_ms

# The same objective and shape as the peers: plain dot products, two blocks.
BACKBONE = SASRec(width=64, layers=2, heads=2, window=50, dropout=0.5)
METHOD = NextItem(backbone=BACKBONE, loss=ItemLoss(cosine=False, temperature=1.0))
LATENCY_REQUESTS = 500


def measure(data: Path, repetitions: int, share: float) -> dict[str, Any]:
    """Everything about us, as medians of `repetitions`."""
    split = leave_last_out(read(str(data)))
    n_items = split.data.n_items
    settings = Training()
    rows = windows(split.train, BACKBONE.window)
    planned = plan(rows.lengths - 1, settings.batch_positions, 0, 0)
    chosen = planned[:: max(1, round(1 / share))]
    batches = [training_batch(rows.take(batch)) for batch in chosen]
    supervised = int((rows.lengths - 1).sum())
    scale = supervised / sum(b.weight for b in batches)
    method, epochs = None, {}
    for narrow in (False, True) if cpu_has_bf16() else (False,):
        torch.manual_seed(0)
        method = METHOD.build(DataSizes(n_items))
        epochs["epoch_s" if narrow else "epoch_32_s"] = _epoch(method, rows, chosen, settings, narrow, scale)
    assert method is not None
    floors = _floors(batches, n_items)
    cases = split.test
    shapes = [tuple(b.items_BL.shape) for _, b in case_batches(cases, method.window, BATCH)]
    floor_eval = catalogue_products(len(cases), n_items, BACKBONE.width, backward=False)
    floor_eval += encoder_products(shapes, BACKBONE, backward=False)

    def evaluation() -> float:
        begin = time.perf_counter()
        rank_cases(method, cases, exclude_history=True)
        return time.perf_counter() - begin

    def lists() -> float:
        return rank_cases(method, cases, exclude_history=True, k=20).seconds["lists"]

    timed: dict[str, Callable[[], float]] = {
        **{name: lambda floor=floor: seconds(floor) * scale for name, floor in floors.items()},
        **epochs,
        "floor_eval_s": lambda: seconds(floor_eval),
        "eval_s": evaluation,
        "lists_s": lists,
    }
    each: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(repetitions + 1):
        for name, action in timed.items():
            took = action()
            if turn:  # the first turn warms up
                each[name].append(took)
    result: dict[str, Any] = {name: statistics.median(values) for name, values in each.items()}
    pairs = [("eval_s", "floor_eval_s")] + [(epoch, floor) for epoch in epochs for floor in floors]
    result["over"] = {
        f"{above}/{below}": statistics.median(_ratios(each[above], each[below])) for above, below in pairs
    }
    if "epoch_s" in each:
        result["over"]["epoch_s/epoch_32_s"] = statistics.median(_ratios(each["epoch_s"], each["epoch_32_s"]))
    result["each"] = each
    result["latency_ms"] = _latency(method, split)
    result |= {"positions": supervised, "items": n_items, "share": 1 / scale}
    return result | {"users": split.data.n_users, "test_cases": len(cases), "batches": len(planned)}


def _epoch(
    method: Method, rows: Spans, chosen: list[Any], settings: Training, narrow: bool, scale: float
) -> Callable[[], float]:
    """Seconds of an epoch of a model of its own."""
    optimiser = adamw(method, settings)

    def run() -> float:
        method.train()
        begin = time.perf_counter()
        for batch in chosen:
            with narrow_products(narrow):
                loss = method.loss(training_batch(rows.take(batch))).total
            loss.backward()
            torch.nn.utils.clip_grad_norm_(method.parameters(), settings.clip_norm)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return (time.perf_counter() - begin) * scale

    return run


def _floors(batches: list[Batch], n_items: int) -> dict[str, list[Product]]:
    encoder = encoder_products([tuple(b.items_BL.shape) for b in batches], BACKBONE, backward=True)
    made: dict[str, list[Product]] = {}
    for name, dtype in {"floor_32_s": torch.float32, "floor_bf16_s": torch.bfloat16}.items():
        if dtype == torch.float32 or cpu_has_bf16():
            walk = [catalogue_products(b.weight, n_items, BACKBONE.width, backward=True, dtype=dtype) for b in batches]
            made[name] = [product for products in walk for product in products] + encoder
    return made


def _ratios(above: list[float], below: list[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def _latency(method: Any, split: Split) -> dict[str, float]:
    """One history to its top 10, raw ids in and out."""
    method.eval()
    config = RunConfig(method=METHOD)
    about = {"exclude_history": True}
    model = Recommender(method, config, split.data.items, split.data.item_table, about)
    histories = [split.data.items.id_list(split.test.history[row]) for row in range(0, len(split.test), 20)]
    return latency_ms(lambda history: model.recommend([history], 10), histories, LATENCY_REQUESTS)


def import_seconds(repetitions: int) -> float:
    """Median seconds of `import forethought` in fresh processes."""
    code = "import time; t = time.perf_counter(); import forethought; print(time.perf_counter() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(repetitions)
    ]
    return statistics.median(float(run.stdout) for run in runs)


def _memory(data: Path) -> dict[str, float]:
    """Of a training and an evaluation in a process of their own."""
    command = [sys.executable, str(Path(__file__).with_name("memory.py")), str(data)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0, help="of an epoch's batches")
    parser.add_argument("--quick", action="store_true", help="leave memory out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = {
        "import_s": import_seconds(args.repetitions),
        **({} if args.quick else _memory(args.data)),
        **measure(args.data, args.repetitions, args.share),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
