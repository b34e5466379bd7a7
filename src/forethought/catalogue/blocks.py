"""How a product over the whole catalogue is cut, so that a block of scores stays where the processor is fast."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CPU_BLOCK_BYTES = 12 * 2**20  # a block of scores, its softmax and both gradients stay in the last-level cache
CUDA_BLOCK_BYTES = 512 * 2**20  # large enough that a launch costs nothing beside the product
MIN_ROWS = 128  # below this a product is a sweep over the items, and memory's speed is the limit
VECTOR = 32  # rows that fill whole vector registers
MAX_ITEMS = 2**18  # wider catalogues are walked in shards, merged exactly


def row_blocks(states_PD: Tensor, n_items: int) -> Iterator[slice]:
    """Slices of rows such that [rows, n_items] scores fit the block size of the device."""
    budget = CUDA_BLOCK_BYTES if states_PD.is_cuda else CPU_BLOCK_BYTES
    rows = max(MIN_ROWS, budget // (max(n_items, 1) * states_PD.element_size()))
    if rows > 2 * VECTOR:
        rows -= rows % VECTOR
    for start in range(0, states_PD.shape[0], rows):
        yield slice(start, min(start + rows, states_PD.shape[0]))


def block_room(states_PD: Tensor, n_items: int) -> Tensor:
    """Memory that each block of scores in turn can be written to: fresh pages cost a tenth of the product."""
    rows = next(row_blocks(states_PD, n_items), slice(0, 0))
    return states_PD.new_empty((rows.stop - rows.start) * n_items, dtype=accumulator(states_PD.dtype))


def item_shards(n_items: int, width: int = MAX_ITEMS) -> Iterator[slice]:
    """Slices of the catalogue, one only when it is of ordinary size."""
    for start in range(0, n_items, width):
        yield slice(start, min(start + width, n_items))


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The type in which sums of products are kept: float32 for the 16-bit types."""
    return torch.float32 if dtype.itemsize == 2 else dtype


def product(left: Tensor, right: Tensor, into: Tensor | None = None) -> Tensor:
    """left @ right; 16-bit inputs accumulate and return float32.

    Args:
        into: room for at least as many numbers as the result has, as `block_room` makes it; a hint.
    """
    wide = accumulator(left.dtype)
    if wide == left.dtype:
        n_rows, n_columns = left.shape[0], right.shape[1]
        room = None if into is None else into[: n_rows * n_columns].view(n_rows, n_columns)
        return torch.mm(left, right, out=room)
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=wide)
    return torch.mm(left.to(wide), right.to(wide))  # CPUs would round the result to 16 bits
