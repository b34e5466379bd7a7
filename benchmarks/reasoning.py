"""What thinking costs: epochs of PRL and DTRec against their bare products, and against a row per prefix.

python benchmarks/reasoning.py DATA OUT.json [--repetitions 3] [--threads 2] [--share 0.1] [--quick]

A fixed share of an epoch's batches is timed, everything in turns, and scaled to the epoch; ratios are of neighbours.
Precision is as `auto` has it, but for what is called `_32`; floors are float32. A quick run has the defaults alone and
what they are held against; what it leaves out takes two thirds of the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from floor import Product, catalogue_products, encoder_products, seconds
from forethought.backbones.sasrec import SASRec
from forethought.catalogue.narrow import cpu_has_bf16, narrow_products
from forethought.data.batches import Batch, plan, training_batch, windows
from forethought.data.interactions import DataSizes
from forethought.data.reading import read
from forethought.data.splits import leave_last_out
from forethought.methods.dtrec import DTRec, DTRecModel
from forethought.methods.interface import Method
from forethought.methods.rearec import ReaRec, ReaRecModel
from forethought.training.optimiser import adamw
from forethought.training.settings import Training
from row_per_prefix import prefix_rows, prl_loss_with_contrast

BACKBONE = SASRec(width=64, layers=2, heads=2, window=50, dropout=0.5, input_norm=True)
ROWS = 256  # the batch of the public codes
ROW_BATCHES = 6
VARIANTS = {
    "dtrec": DTRec(backbone=BACKBONE, warmup_epochs=0),
    "dtrec_all_steps": DTRec(backbone=BACKBONE, warmup_epochs=0, draw_step=False),
    "dtrec_all_steps_exact": DTRec(backbone=BACKBONE, warmup_epochs=0, draw_step=False, indicator_source="exact"),
    "dtrec_all_steps_without_hps": DTRec(backbone=BACKBONE, supervision="none", draw_step=False),
}


QUICK = ("prl", "prl_drawn", "prl_floor", "dtrec", "dtrec_32", "dtrec_floor")


def measure(data: Path, repetitions: int, share: float, *, quick: bool = False) -> dict[str, Any]:
    split, settings = leave_last_out(read(str(data))), Training()
    n_items = split.data.n_items
    rows = windows(split.train, BACKBONE.window)
    planned = plan(rows.lengths - 1, settings.batch_positions, 0, 0)
    chosen = planned[:: max(1, round(1 / share))]
    batches = [training_batch(rows.take(c)) for c in chosen]
    prefixes = [_rows_of(batches, n) for n in range(ROW_BATCHES)]
    torch.manual_seed(0)
    prl = ReaRec(backbone=BACKBONE, steps=2, reasoning_dropout=True, contrast_weight=1.0, draw_step=False).build(
        DataSizes(n_items)
    )  # as the rows do
    prl.begin_epoch(20)
    drawn = replace(prl.config, draw_step=True).build(DataSizes(n_items))
    drawn.begin_epoch(20)
    models = {name: config.build(DataSizes(n_items)) for name, config in VARIANTS.items()}
    for model in models.values():
        model.begin_epoch(20)
    steps = {
        name: training_steps(model, batches, settings)
        for name, model in {"prl": prl, "prl_drawn": drawn, **models}.items()
    }
    wide = VARIANTS["dtrec"].build(DataSizes(n_items))
    wide.begin_epoch(20)
    steps["dtrec_32"] = training_steps(wide, batches, settings, narrow=False)
    steps["rows"] = _row_steps(prl, prefixes, settings)
    steps["prl_floor"] = _floor(3, batches, n_items, _contrast_products(batches))
    model = models["dtrec"]
    steps["dtrec_floor"] = _floor(4, batches, n_items, _hps_products(model, batches, drawn=True), losses=1)
    steps["dtrec_all_steps_floor"] = _floor(4, batches, n_items, _hps_products(model, batches, drawn=False))
    each = in_turns({name: step for name, step in steps.items() if not quick or name in QUICK}, repetitions)
    return _figures(each, sum(b.weight for b in batches), int((rows.lengths - 1).sum()))


def _figures(each: dict[str, list[float]], positions: int, epoch: int) -> dict[str, Any]:
    """Whole epochs, and ratios of what ran in the same turn."""
    scale = {name: epoch / (ROWS * ROW_BATCHES if name == "rows" else positions) for name in each}
    told: dict[str, Any] = {f"{name}_epoch_s": statistics.median(s) * scale[name] for name, s in each.items()}

    def ratio(above: str, below: str) -> float:
        pairs = zip(each[above], each[below], strict=True)
        return statistics.median(a * scale[above] / (b * scale[below]) for a, b in pairs)

    told["prl_over_floor"] = ratio("prl", "prl_floor")
    told["dtrec_over_floor"] = ratio("dtrec", "dtrec_floor")
    told["dtrec_32_over_floor"] = ratio("dtrec_32", "dtrec_floor")
    if "rows" not in each:
        return told
    told["dtrec_all_steps_over_floor"] = ratio("dtrec_all_steps", "dtrec_all_steps_floor")
    told["rows_over_prl"] = ratio("rows", "prl")
    told["rows_over_prl_drawn"] = ratio("rows", "prl_drawn")
    told["hps_share"] = 1 - 1 / ratio("dtrec_all_steps", "dtrec_all_steps_without_hps")
    told["hps_and_exact_share"] = 1 - 1 / ratio("dtrec_all_steps_exact", "dtrec_all_steps_without_hps")
    return told


def in_turns(steps: Mapping[str, Callable[[], None]], repetitions: int) -> dict[str, list[float]]:
    """Seconds of each, one after the other in every turn; the first turn warms up."""
    each: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repetitions + 1):
        for name, run in steps.items():
            begin = time.perf_counter()
            run()
            if turn:
                each[name].append(time.perf_counter() - begin)
    return each


def training_steps(
    method: Method, batches: list[Batch], settings: Training, *, narrow: bool = cpu_has_bf16()
) -> Callable[[], None]:
    """One call is a step of the optimiser on each batch."""
    optimiser = adamw(method.train(), settings)

    def run() -> None:
        for batch in batches:
            with narrow_products(narrow):
                loss = method.loss(batch).total
            _step(loss, method, optimiser, settings)

    return run


def _row_steps(model: ReaRecModel, prefixes: list[Batch], settings: Training) -> Callable[[], None]:
    optimiser = adamw(model, settings)

    def run() -> None:
        for rows in prefixes:
            _step(prl_loss_with_contrast(model, rows), model, optimiser, settings)

    return run


def _step(loss: torch.Tensor, method: Method, optimiser: torch.optim.Optimizer, settings: Training) -> None:
    loss.backward()
    torch.nn.utils.clip_grad_norm_(method.parameters(), settings.clip_norm)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def _rows_of(batches: list[Batch], seed: int) -> Batch:
    """A batch as the public codes have it: 256 prefixes drawn at random, padded to 50."""
    drawn = prefix_rows(batches[seed % len(batches)], pad_to=BACKBONE.window)
    at = torch.from_numpy(np.random.default_rng(seed).integers(0, len(drawn.items_BL), ROWS))
    assert drawn.targets_BL is not None
    return Batch(drawn.items_BL[at], drawn.lengths_B[at], drawn.targets_BL[at], None, None, ROWS)


def _floor(
    states: int, batches: list[Batch], n_items: int, more: list[Product], losses: int | None = None
) -> Callable[[], None]:
    """Each state costs the encoder's products, each loss three over the catalogue; a link reads as a position does."""
    shapes, n = [tuple(b.items_BL.shape) for b in batches], losses or states
    products = [p for b in batches for p in catalogue_products(n * b.weight, n_items, 64, backward=True)]
    for _ in range(states):
        products += encoder_products(shapes, BACKBONE, backward=True)
    products += more
    return lambda: (seconds(products), None)[1]


def _contrast_products(batches: list[Batch]) -> list[Product]:
    """PRL's noisy links, two of them, and of each the products of all positions with each other."""
    products = encoder_products([tuple(b.items_BL.shape) for b in batches] * 2, BACKBONE, backward=True)
    for b in batches * 2:
        products += catalogue_products(b.weight, b.weight, 64, backward=True)
    return products


def _hps_products(model: DTRecModel, batches: list[Batch], *, drawn: bool) -> list[Product]:
    """Soft targets of the clusters present, 4 products a level, and 2 of each state over the coarsest prototypes.

    Counted with the library's own clusters; where a step is drawn, a level meets its share of the positions only.
    """
    products: list[Product] = []
    levels = len(model.prototypes.counts)
    for batch in batches:
        assert batch.targets_BL is not None
        targets = batch.targets_BL[batch.valid_BL()]
        targets = targets[:: levels + 1] if drawn else targets
        for t in range(levels):
            present = len(model.prototypes.clusters_of(t, targets).unique())
            products += catalogue_products(present, len(model.items.weight), 64, backward=True)
            products += catalogue_products(present, len(model.items.weight), 64, backward=False)
        for _ in range(2):
            products += catalogue_products((levels + 1) * batch.weight, model.prototypes.counts[0], 64, backward=False)
    return products


def run_alone(measure: Callable[..., dict[str, Any]], about: str | None) -> None:
    """What a script of this kind does when called."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--share", type=float, default=0.1, help="of an epoch's batches")
    parser.add_argument("--quick", action="store_true", help="leave out what is no default")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = measure(args.data, args.repetitions, args.share, quick=args.quick)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    run_alone(measure, __doc__)
