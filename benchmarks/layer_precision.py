"""What the precision of layers saves on this CPU: steps of training, and histories ranked, at several widths.

python benchmarks/layer_precision.py DATA OUT.json [--widths 64 256 1024] [--methods sasrec reg4rec] [--seconds 20]

Batches are DATA's own, 1,024 positions each, the same for all; modes are measured in turns, and ratios are of medians.

    fp32    everything in float32
    walk    the softmax over the items in bfloat16, as `--precision auto` has it, layers in float32
    bf16    that, and all layers in bfloat16
    ladq    that, and the layers as `--ladq.assign tolerance` assigns them, sampled on the model as it is

A method without a softmax over the items has no `walk`. Ranking is with layers in fp32, bf16 and int8, everything else
in float32; `same_top` is the share of histories whose best item stays. Models are trained for a few steps only: what
formats do to quality is for whole trainings to tell.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from forethought import machine
from forethought.catalogue.narrow import narrow_products
from forethought.data.batches import history_batch, plan, training_batch, windows
from forethought.data.features import Features
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out
from forethought.methods.interface import Method
from forethought.methods.item_tokens import token_shape_of, with_tokens
from forethought.methods.items import walks_items
from forethought.precision import cost
from forethought.precision.formats import Format
from forethought.precision.ladq import Controller
from forethought.precision.linear import PrecisionLinear, make_precise, set_formats, set_to
from forethought.precision.settings import LADQ
from forethought.recipes import METHODS
from forethought.references import resolve
from forethought.semantic_ids.rq_kmeans import RQKMeans
from forethought.training.layer_precision import LayerPrecision
from forethought.training.optimiser import adamw
from forethought.training.settings import Training

BATCHES, WARM, LEAST = 8, 2, 3
RANKED = {"sasrec": 512, "reg4rec": 32}
TOKENS = RQKMeans(codebooks=8, size=256, collisions="greedy")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--methods", nargs="+", default=["sasrec", "reg4rec"])
    parser.add_argument("--seconds", type=float, default=20.0, help="for each table, roughly")
    args = parser.parse_args(arguments)
    split = leave_last_out(read(str(args.data)))
    report: dict[str, Any] = {"machine": machine.described(torch.device("cpu")), "threads": torch.get_num_threads()}
    for name in args.methods:
        for width in args.widths:
            sys.stderr.write(f"{name}, width {width}\n")
            report.setdefault(name, {})[str(width)] = measure(name, width, split, args.seconds)
            args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measure(name: str, width: int, split: Split, seconds: float) -> dict[str, Any]:
    torch.manual_seed(0)
    method, settings = built(name, width, split), Training()
    rows = windows(split.train, method.window)
    planned = plan(rows.lengths - 1, settings.batch_positions, 0, 0)
    batches = [training_batch(rows.take(chosen)) for chosen in planned[:: len(planned) // BATCHES][:BATCHES]]
    layers = make_precise(method)
    costs = cost.measured(layers, settings.batch_positions)
    optimiser, walks = adamw(method, settings), walks_items(method)

    def step(at: int, *, narrow: bool) -> None:
        with narrow_products(narrow):
            losses = method.loss(batches[at % BATCHES])
        losses.total.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    method.train()
    for at in range(WARM):
        step(at, narrow=False)
    controller = Controller(layers, LADQ(assign="tolerance"), costs)
    begin = time.perf_counter()
    LayerPrecision(method, controller, 0).before_step(0, rows)
    sampling_s, assigned = time.perf_counter() - begin, dict(controller.assignment)
    uniform: dict[str, Format] = dict.fromkeys(layers, "bf16")
    plain: dict[str, Format] = dict.fromkeys(layers, "fp32")
    modes = {"fp32": (plain, False), "walk": (plain, walks), "bf16": (uniform, walks), "ladq": (assigned, walks)}
    if not walks:
        del modes["walk"]

    def training(mode: str) -> Callable[[int], object]:
        formats, narrow = modes[mode]

        def run(at: int) -> None:
            set_formats(layers, formats)
            step(at, narrow=narrow)

        return run

    figures = in_turns({mode: training(mode) for mode in modes}, seconds)
    return {
        "layers": len(layers),
        "parameters": sum(parameter.numel() for parameter in method.parameters()),
        "steps_an_epoch": len(planned),
        "step_s": figures,
        "over_fp32": {mode: figures["fp32"] / s for mode, s in figures.items()},
        "assigned": {each: sum(v == each for v in assigned.values()) for each in ("fp32", "bf16")},
        "sampling_s": sampling_s,
        "ranking": ranking(method, layers, split, RANKED.get(name, 512), seconds),
    }


def ranking(
    method: Method, layers: dict[str, PrecisionLinear], split: Split, rows: int, seconds: float
) -> dict[str, Any]:
    """Histories a second, whole: read, and the ten best of all items."""
    method.eval()
    chosen = split.train.take(torch.arange(rows).numpy())
    batch = history_batch(chosen, method.window)
    lists: dict[str, torch.Tensor] = {}

    def run(each: Format) -> Callable[[int], object]:
        def ask(at: int) -> None:
            del at
            with torch.inference_mode(), set_to(layers, dict.fromkeys(layers, each)):
                lists[each] = method.recommend(method.represent(batch), 10)[0]

        return ask

    formats: tuple[Format, ...] = ("fp32", "bf16", "int8")
    figures = in_turns({each: run(each) for each in formats}, seconds / 2)
    return {
        "histories_per_s": {each: rows / s for each, s in figures.items()},
        "over_fp32": {each: figures["fp32"] / s for each, s in figures.items()},
        "same_top": {each: float((lists[each][:, 0] == lists["fp32"][:, 0]).float().mean()) for each in formats},
    }


def in_turns(runs: dict[str, Callable[[int], object]], seconds: float) -> dict[str, float]:
    """Median seconds; each turn has all of them, on the same batch."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    turn, until = 0, time.perf_counter() + seconds
    while turn < 1 + LEAST or time.perf_counter() < until:
        for name, run in runs.items():
            begin = time.perf_counter()
            run(turn)
            if turn:  # shapes are compiled when they are first met
                times[name].append(time.perf_counter() - begin)
        turn += 1
    return {name: statistics.median(each) for name, each in times.items()}


def built(name: str, width: int, split: Split) -> Method:
    """The recipe of a method at a width, two layers, feed-forward nets of four times the width."""
    config: Any = METHODS[name]().method
    config = replace(config, backbone=replace(config.backbone, width=width, layers=2, ffn_width=4 * width))
    if not hasattr(config, "tokenizer"):
        return config.build(split.data.sizes)
    config = replace(config, tokenizer=TOKENS)
    side = resolve(config, split, Features(use="auto"))
    method = with_tokens(config.build(split.data.sizes), token_shape_of(side.tokens))
    method.fit_side_information(side)
    return method


if __name__ == "__main__":
    main()
