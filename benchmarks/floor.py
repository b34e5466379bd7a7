"""The floor: the bare matrix products that an epoch or an evaluation cannot do without, timed on the spot.

Same shapes, same threads, outputs allocated beforehand, nothing between the products. A cross-entropy epoch needs
three products over (supervised positions x items x width): the scores, and the gradients to states and to items;
the encoder needs one forward and two backward for each linear layer, two and four for attention.

There are two floors: all of it in float32, and the products over the catalogue in bfloat16, as the library narrows
them, with the encoder's in float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from forethought.backbones.sasrec import SASRec
from forethought.catalogue.blocks import row_blocks

Product = Callable[[], object]


def catalogue_products(
    positions: int, n_items: int, width: int, *, backward: bool, dtype: torch.dtype = torch.float32
) -> list[Product]:
    """The products over the catalogue, in the blocks that the library walks in."""
    items = torch.randn(n_items, width).to(dtype)
    made: list[Product] = []
    for block in row_blocks(torch.empty(positions, width, dtype=dtype), n_items):
        rows = block.stop - block.start
        made.append(_score(torch.randn(rows, width).to(dtype), items, backward))
    return made


def _score(states: torch.Tensor, items: torch.Tensor, backward: bool) -> Product:
    def run() -> None:
        scores = _buffer("scores", states.shape[0], items.shape[0], dtype=states.dtype)
        torch.mm(states, items.T, out=scores)
        if backward:
            torch.mm(scores, items, out=_buffer("states", *states.shape, dtype=states.dtype))
            _buffer("items", *items.shape, dtype=states.dtype).addmm_(scores.T, states)

    return run


def encoder_products(shapes: list[tuple[int, ...]], config: SASRec, *, backward: bool) -> list[Product]:
    """The encoder's products for batches of the given [rows, positions]."""
    return [_encode(rows, length, config, backward) for rows, length in shapes]


def _encode(rows: int, length: int, config: SASRec, backward: bool) -> Product:
    width, ffn = config.width, config.ffn_width
    linear = ((width, 3 * width), (width, width), (width, ffn), (ffn, width))

    def run() -> None:
        for _ in range(config.layers):
            for inward, outward in linear:
                x, y = _buffer("x", rows * length, inward), _buffer("y", rows * length, outward)
                w = _buffer("w", inward, outward)
                torch.mm(x, w, out=y)
                if backward:
                    torch.mm(y, w.T, out=x)
                    torch.mm(x.T, y, out=w)
            q = _buffer("q", rows * config.heads, length, width // config.heads)
            weights, mixed = _buffer("a", rows * config.heads, length, length), _buffer("o", *q.shape)
            for _ in range(3 if backward else 1):
                torch.bmm(q, q.transpose(1, 2), out=weights)
                torch.bmm(weights, q, out=mixed)

    return run


_buffers: dict[tuple[str, torch.dtype], torch.Tensor] = {}


def _buffer(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A piece of memory that stays where it is between calls, zero at first so that no number ever overflows."""
    size = 1
    for side in shape:
        size *= side
    key = name, dtype
    if key not in _buffers or _buffers[key].numel() < size:
        _buffers[key] = torch.zeros(size, dtype=dtype)
    return _buffers[key][:size].view(shape)


def seconds(products: list[Product]) -> float:
    """Wall clock of all products, one after the other."""
    begin = time.perf_counter()
    for product in products:
        product()
    return time.perf_counter() - begin
