"""The softmax over the catalogue with bfloat16 products, on a CPU that makes them faster than those of float32.

What is rounded to bfloat16 (8 significant bits): what goes into a product, what comes out of it, and exp(score).
What is float32: the sums inside a product, the exponential itself, the sums of the softmax and over blocks.
Scores are stored relative to one of each row's largest, because a number near 0 is rounded least. No row's maximum is
needed: exponentials that leave the range in which they are exact enough send the walk back to float32.
Only the walks of cross-entropy and soft targets are narrow. Moments and expectations end in differences and stay
float32, as do encoders (casts would cost more than products save), the optimiser and ranking.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.catalogue.blocks import VECTOR, item_shards, row_blocks
from forethought.catalogue.sparse_scores import SparseScores

LOG2_E = 1 / math.log(2)  # exp(z) = 2^(z log2 e), and exp2 takes a seventh less time
SAMPLE = 64  # every 64th item says where a row's large scores lie, for a 64th of a product
CHUNK = 128  # exponentials summed in float32 and rounded once; their sums are then added in float32
LARGEST = 2.0**46  # of a row's sum, exp(32): further from 0 a score is rounded by an eighth and more
SMALLEST = 2.0**-46

_wanted: ContextVar[bool] = ContextVar("narrow", default=False)


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware: AVX-512 BF16 or AMX."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask is not None and ask() for ask in checks)


@contextmanager
def narrow_products(wanted: bool = True) -> Iterator[None]:
    """Inside, the walks over the catalogue multiply float32 tensors on a CPU in bfloat16."""
    before = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(before)


def is_narrow(states_PD: Tensor) -> bool:
    """Whether a walk over these states is to be narrow."""
    return _wanted.get() and states_PD.device.type == "cpu" and states_PD.dtype == torch.float32


class Walked(NamedTuple):
    """The log-sum-exp of each row, and the gradients of its weighted sum."""

    lse_P: Tensor
    d_states_PD: Tensor | None
    d_items_ND: Tensor | None
    d_added_T: Tensor | None = None


def padded(rows_PD: Tensor) -> Tensor:
    """With rows of zeros up to a whole number of vectors.

    Each shape of a bfloat16 product is compiled when it is first met, which takes milliseconds, and the code is kept,
    about a megabyte for the three products of a walk; batches are of any size, and padded they are of few.
    """
    return F.pad(rows_PD, (0, 0) * (rows_PD.ndim - 1) + (0, -len(rows_PD) % VECTOR))


class Scorer:
    """Blocks of exp(r.e - near), bfloat16, in memory that is used again and again.

    Attributes:
        near_P: each row's largest score among a sample of the items.
    """

    def __init__(self, states_PD: Tensor, items_ND: Tensor, shards: list[slice] | None = None) -> None:
        shift_P = ((states_PD @ items_ND[::SAMPLE].T).amax(1) * LOG2_E).bfloat16()
        self.near_P = shift_P.float() / LOG2_E
        self.items_ND = items_ND.bfloat16()
        # the shift is one more column against 1: the score is rounded after it, not before
        self.left_PK = torch.cat([(states_PD * LOG2_E).bfloat16(), -shift_P[:, None]], dim=1)
        self.right_NK = torch.cat([self.items_ND, self.items_ND.new_ones(items_ND.shape[0], 1)], dim=1)
        self.shards = list(item_shards(items_ND.shape[0])) if shards is None else shards
        self.blocks = list(row_blocks(self.items_ND.new_empty(states_PD.shape[0], 0), self.shards[0].stop))
        most = max((rows.stop - rows.start for rows in self.blocks), default=0)
        self.room = self.items_ND.new_empty(most * self.shards[0].stop)

    def exponentials(self, rows: slice, shard: slice) -> Tensor:
        n_rows, n_items = rows.stop - rows.start, shard.stop - shard.start
        x_BN = self.room[: n_rows * n_items].view(n_rows, n_items)
        torch.mm(self.left_PK[rows], self.right_NK[shard].T, out=x_BN)
        return torch.exp2(x_BN, out=x_BN)


def bearable(sums_B: Tensor) -> bool:
    """Whether each row's scores lie so near to where they were expected that bfloat16 holds them."""
    return bool(((sums_B > SMALLEST) & (sums_B < LARGEST)).all())


def row_sums(x_BN: Tensor) -> Tensor:
    """Float32 sums of bfloat16 rows, without a float32 copy of them."""
    whole = x_BN.shape[1] - x_BN.shape[1] % CHUNK
    sums_B = x_BN[:, :whole].unflatten(1, (-1, CHUNK)).sum(-1).float().sum(-1) if whole else 0.0
    return sums_B + x_BN[:, whole:].float().sum(-1)


def walk(
    states_PD: Tensor,
    items_ND: Tensor,
    weights_P: Tensor,
    added: SparseScores | None = None,
    *,
    to_states: bool,
    to_items: bool,
) -> Walked | None:
    """As `moments._walk`; None where some row's scores are beyond bfloat16.

    exp(score) is never divided by its sum: the sum goes into the thin sides of the two gradient products.
    """
    P, states_PD, weights_P = len(states_PD), padded(states_PD), padded(weights_P)
    scorer = Scorer(states_PD, items_ND)
    lse_P, scales_P = states_PD.new_empty(2, states_PD.shape[0])
    d_states = torch.zeros_like(states_PD) if to_states else None
    d_items = torch.zeros_like(items_ND) if to_items else None
    d_added = None if added is None else torch.zeros_like(added.values_T)

    def exponentials(rows: slice, shard: slice) -> Tensor:
        x_BN = scorer.exponentials(rows, shard)
        if added is not None:
            added.multiply_(x_BN, rows, shard)
        return x_BN

    for rows in scorer.blocks:
        sums_B, x_BN = torch.zeros_like(lse_P[rows]), scorer.room
        for shard in scorer.shards:
            x_BN = exponentials(rows, shard)
            if added is not None and d_added is not None:
                added.gather(x_BN, rows, shard, d_added)
            sums_B += row_sums(x_BN)
            if d_states is not None:
                d_states[rows] += x_BN @ scorer.items_ND[shard]
        if not bearable(sums_B):
            return None
        lse_P[rows] = sums_B.log() + scorer.near_P[rows]
        w_B1 = (weights_P[rows] / sums_B)[:, None]
        if d_states is not None:
            d_states[rows] *= w_B1
        thin_BD = (states_PD[rows] * w_B1).bfloat16()
        for shard in scorer.shards if d_items is not None else ():
            if len(scorer.shards) > 1:  # a fourth product: the sum had to be known before the first share
                x_BN = exponentials(rows, shard)
            d_items[shard] += x_BN.T @ thin_BD  # type: ignore[index]
        scales_P[rows] = w_B1[:, 0]
    if added is not None and d_added is not None:
        d_added *= scales_P[added.rows_T]
    return Walked(lse_P[:P], None if d_states is None else d_states[:P], d_items, d_added)
