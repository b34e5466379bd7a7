"""An item table that three processes split, each with positions of its own, against one that has all of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from forethought.catalogue.split import Shard
from forethought.methods.items import ItemLoss, ItemTable

BOUNDS = (0, 4, 15, 23)  # of the items, as in `split_catalogue`
SHARES = (0, 2, 9, 9)  # of the positions: the last process has none
N, D = BOUNDS[-1], 5
TARGETS = torch.tensor([0, 3, 4, 14, 15, 22, 7, 7, 1])

TABLES = {
    "table: softmax": ItemLoss(bias=True, smoothing=0.1, temperature=0.3),
    "table: drawn evenly": ItemLoss(kind="sampled_softmax", negatives=6, temperature=0.3),
    "table: drawn by popularity": ItemLoss(kind="sampled_softmax", proposal="popularity", negatives=6, bias=True),
    "table: drawn in the batch": ItemLoss(kind="sampled_softmax", proposal="in_batch", negatives=6),
    "table: bce": ItemLoss(kind="bce", negatives=4, cosine=False),
    "table: gbce": ItemLoss(kind="gbce", negatives=4, bias=True, temperature=0.3),
    "table: bpr": ItemLoss(kind="bpr", negatives=4, bias=True, temperature=0.3, cosine=False, l2=0.1),
}
LOOKUP = "table: lookup"
NAMES = (*TABLES, LOOKUP)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def table(loss: ItemLoss, rank: int | None) -> ItemTable:
    """All of it, or what a process has; biases are not 0, and targets not equally frequent."""
    made = ItemTable(N, D, loss, 1.0).double()
    made.weight.data = draw(N, D, seed=1)
    if made.bias is not None:
        made.bias.data = draw(N, seed=2)
    if made.target_counts_N is not None:
        made.target_counts_N = torch.arange(N) % 4
    if rank is not None:
        rows = slice(BOUNDS[rank], BOUNDS[rank + 1])
        made.split(Shard(rows.start, N), rows)
    return made


def outcome(loss: ItemLoss, rank: int | None) -> list[Tensor]:
    """The loss, and its gradients in states, constants, vectors and biases, of what is here."""
    positions = slice(0, SHARES[-1]) if rank is None else slice(SHARES[rank], SHARES[rank + 1])
    states, constants = (draw(*shape, seed=3)[positions].requires_grad_() for shape in ((9, D), (9,)))
    weights = draw(9, seed=4).abs()[positions]
    here = table(loss, rank)
    torch.manual_seed(5 if rank is None else 5 + rank)  # negatives are those of the first process
    value = here.loss_of(states, TARGETS[positions], weights, constants)
    inputs = [states, constants, *here.parameters()]
    gradients = torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)
    value = value.detach() * (1 if rank is None else 3)
    return [value, *gradients]


def looked_up(rank: int | None) -> list[Tensor]:
    """Vectors of some items, two rows of them, and gradients of all tables' vectors."""
    positions = slice(0, SHARES[-1]) if rank is None else slice(SHARES[rank], SHARES[rank + 1])
    here, slopes = table(ItemLoss(), rank), draw(2, 9, D, seed=6)[:, positions]
    vectors = here(torch.stack([TARGETS, TARGETS.flip(0)])[:, positions])
    return [vectors.detach(), torch.autograd.grad(vectors, here.weight, slopes)[0]]


def compared(rank: int) -> Iterator[tuple[str, list[Tensor], list[Tensor]]]:
    """What was computed, what this process has of it, and the same part of the whole."""
    items, positions = (slice(*list(pairwise(bounds))[rank]) for bounds in (BOUNDS, SHARES))

    def part(whole: Tensor) -> Tensor:
        return whole[items] if whole.shape[:1] == (N,) else whole[positions] if whole.shape[:1] == (9,) else whole

    outcomes: dict[str, Callable[[int | None], list[Tensor]]] = {
        name: lambda at, loss=loss: outcome(loss, at) for name, loss in TABLES.items()
    }
    for name, of in outcomes.items():
        yield name, of(rank), [part(whole) for whole in of(None)]
    vectors, gradients = looked_up(None)
    yield LOOKUP, looked_up(rank), [vectors[:, positions], gradients[items]]
