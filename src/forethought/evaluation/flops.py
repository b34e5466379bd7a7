"""FLOPs of reading, thinking, ranking and training, counted by watching every product that is really computed.

A multiplication and an addition are two. Only products and attention are counted, as `FlopCounterMode` does it; norms,
activations and softmaxes are not, nor what is done outside PyTorch (faiss's clustering), nor products of
sparse matrices, nor the attention of a reasoning step to the few steps before it, which is made of sums. Padding is
computed, so it counts, and causal attention counts whole. Rows that have halted are gone and count no more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from forethought.data.batches import case_batches, cropped, plan, training_batch
from forethought.data.histories import Cases, Spans
from forethought.methods.interface import Method
from forethought.precision.inference import in_float32
from forethought.reasoning.halting import Halting

SAMPLE = 1024  # cases that stand for all
LOOKED_AT = 64  # of them, where each takes as much
TRAINING_BATCHES = 4  # batches that stand for an epoch; they come in random order and are of one size

aten = torch.ops.aten
# What FlopCounterMode passes over in silence, and the kin of the same arguments that it knows.
KIN = {
    aten.addmm_: aten.addmm,
    aten.baddbmm_: aten.baddbmm,
    aten._scaled_dot_product_flash_attention_for_cpu: aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: aten._scaled_dot_product_flash_attention_backward,
}


def counter() -> FlopCounterMode:
    """A context whose `get_total_flops()` knows the products inside it, CPU kernels and in-place sums included."""
    mode = FlopCounterMode(display=False)
    mode.flop_registry |= {op: mode.flop_registry[kin] for op, kin in KIN.items()}
    mode.flop_registry |= {op: _of_dense(mode.flop_registry[op]) for op in (aten.mm, aten.addmm)}
    return mode


def _of_dense(count: Callable[..., int]) -> Callable[..., int]:
    """Products of sparse matrices are not as large as they look, and the counter would take their shapes for it."""

    def counted(*args: Any, **kwargs: Any) -> int:
        sparse = any(isinstance(arg, torch.Tensor) and arg.layout != torch.strided for arg in args)
        return 0 if sparse else count(*args, **kwargs)

    return counted


@contextmanager
def _held(method: Method) -> Iterator[None]:
    """No parameter asks for gradients. Views of those that do still say so in inference mode, and the counter's look
    at modules fails on one that has no history.
    """
    asking = [parameter for parameter in method.parameters() if parameter.requires_grad]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


@torch.inference_mode()
def flops_per_history(
    method: Method, cases: Cases, *, halting: Halting | None = None, batch: int = SAMPLE, sample: int = SAMPLE
) -> dict[str, float]:
    """FLOPs of one case: "encode" (reading and thinking, looks at the catalogue included) and "rank".

    The method and the random generators stay as they are.

    Args:
        halting: as in `Method.user_states`.
        batch: cases that are encoded together when all of them are ranked. The sample is cut into as many batches as
            all cases are, so that it is padded alike.
        sample: how many cases stand for all; always the same ones.
    """
    chosen = np.random.default_rng(0).choice(len(cases), min(sample, len(cases)), replace=False)
    some, was_training = cases.take(np.sort(chosen)), method.training
    method.eval()
    encode, rank = counter(), counter()
    total = dict.fromkeys(("encode", "rank"), 0)
    with torch.random.fork_rng(devices=[]), _held(method), in_float32(method):
        for _, histories in case_batches(some, method.window, max(1, round(batch * len(some) / max(len(cases), 1)))):
            with encode:
                method.represent(histories.to(method.device), halting)
            total["encode"] += encode.get_total_flops()
        for rows, histories in case_batches(some, method.window, batch):  # small batches would meet more shards a row
            represented = method.represent(histories.to(method.device), halting)
            with rank:
                method.rank_of(represented, torch.from_numpy(some.targets[rows].astype(np.int64)).to(method.device))
            total["rank"] += rank.get_total_flops()
    method.train(was_training)
    return {stage: flops / max(len(some), 1) for stage, flops in total.items()}


@torch.inference_mode()
def look_ups_per_history(method: Method, cases: Cases, *, halting: Halting | None = None) -> float:
    """Numbers of token tables that are looked up to rank all items for one history; 0 where items have vectors.

    Each is an addition at a place that depends on the item, which no product is, so no FLOPs tell of it.

    Args:
        halting: as in `Method.user_states`.
    """
    was_training, first = method.training, cases.take(np.arange(min(LOOKED_AT, len(cases))))
    method.eval()
    with torch.random.fork_rng(devices=[]):
        each = [
            method.represent(histories.to(method.device), halting).look_ups * len(rows)
            for rows, histories in case_batches(first, method.window, LOOKED_AT)
        ]
    method.train(was_training)
    return sum(each) / max(len(first), 1) * method.n_items


def flops_per_epoch(
    method: Method,
    rows: Spans,
    *,
    positions: int,
    seed: int,
    epoch: int,
    stage: str | None = None,
    crop: float = 0.0,
) -> float:
    """FLOPs of an epoch's losses and gradients, from a few of its batches; the optimiser's are not counted.

    The method stays as it is, and so do the random generators.

    Args:
        rows: training rows, as `data.batches.windows` cuts them.
        positions: in a batch, padding included.
        seed, epoch: which batches and draws, and how the method trains in that epoch (its schedules and warm-ups).
        stage: which one the epoch is of; None: the one that the method stands in.
        crop: share of the rows that are cut.
    """
    method = copy.deepcopy(method)
    flops, supervised = 0, 0
    with torch.random.fork_rng(devices=[]), in_float32(method):
        torch.manual_seed(seed % 2**63)
        if stage is not None:
            method.begin_stage(stage)
        method.train()
        method.begin_epoch(epoch)
        for at, chosen in enumerate(plan(rows.lengths - 1, positions, seed, epoch)[:TRAINING_BATCHES], start=1):
            whole = rows.take(chosen)
            batch = training_batch(cropped(whole, crop, seed, epoch, at)).to(method.device)
            with counter() as products:
                method.loss(batch).total.backward()
            flops, supervised = flops + products.get_total_flops(), supervised + int((whole.lengths - 1).sum())
    return flops / max(supervised, 1) * float((rows.lengths - 1).sum())
