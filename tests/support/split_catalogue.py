"""Three processes that hold a catalogue between them, each against the whole: run as a script, it prints what differs.

One line a process, JSON: for every check the largest difference of its values and gradients from those of the whole.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import split_table
import torch
from torch import Tensor, distributed, multiprocessing

from forethought.catalogue import blocks, losses, ranking, sampled
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.expectation import expectation
from forethought.catalogue.moments import moments
from forethought.catalogue.ranking import FilteredItems, rank_of, top_k
from forethought.catalogue.soft_targets import soft_target
from forethought.catalogue.split import Shard

BOUNDS = (0, 4, 15, 23)  # of the three shards
N, P, D = BOUNDS[-1], 9, 5
K = 6  # more than the first process holds


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


STATES, OTHERS, VECTORS, BIAS, WEIGHTS = (
    draw(P, D, seed=1),
    draw(P, D, seed=2),
    draw(N, D, seed=3),
    draw(N, seed=4),
    draw(P, seed=5).abs(),
)
TARGETS = torch.tensor([0, 3, 4, 14, 15, 22, 7, 7, 1])
SOME = torch.tensor([22, 0, 4, 4])
CENTRES = draw(3, D + 1, seed=6)
HISTORIES = FilteredItems.from_histories(
    torch.arange(P * 4).view(P, 4) * 7 % N, torch.tensor([4, 3, 4, 0, 1, 4, 2, 4, 4])
)
ALLOWED = torch.arange(N) % 5 != 2

# each from raw states, others, weights and a catalogue, to numbers that have gradients in all of them
Check = Callable[[Tensor, Tensor, Tensor, Catalogue], Tensor]


def smoothed(r: Tensor, _: Tensor, w: Tensor, of: Catalogue) -> Tensor:
    return losses.cross_entropy(of.scaled(r), of, TARGETS, w, smoothing=0.1)


def soft(r: Tensor, _: Tensor, w: Tensor, of: Catalogue) -> Tensor:
    return losses.soft_cross_entropy(of.scaled(r), of, soft_target(CENTRES, of)[TARGETS % 3], w)


def divergence(r: Tensor, h: Tensor, w: Tensor, of: Catalogue) -> Tensor:
    r, h = of.scaled(r), of.scaled(h)
    first, second = moments(r, of), moments(h, of)
    return w * losses.kl(r, first, h, second) + losses.entropy(h, second)


def expected(r: Tensor, h: Tensor, w: Tensor, of: Catalogue) -> Tensor:
    return expectation(of.scaled(r), of, w[:, None].detach() * of.scaled(h))


def sampled_softmax(r: Tensor, _: Tensor, w: Tensor, of: Catalogue) -> Tensor:
    return sampled.sampled_softmax(of.scaled(r), of, TARGETS, SOME, torch.zeros(N).double(), w)


def gbce(r: Tensor, _: Tensor, w: Tensor, of: Catalogue) -> Tensor:
    return sampled.binary_cross_entropy(of.scaled(r), of, TARGETS, SOME.expand(P, -1), w, calibration=0.75)


def scores_of_some(r: Tensor, _: Tensor, w: Tensor, of: Catalogue) -> Tensor:
    few = of.take(SOME)
    return of.scores_of(of.comparable(r), SOME.expand(P, -1)) + w[:, None] * (few.scaled(r) @ few.scaled_ND.T)


LOSSES: list[Check] = [smoothed, soft, divergence, expected, sampled_softmax, gbce, scores_of_some]


def told(check: Check, rows: slice, shard: Shard | None) -> list[Tensor]:
    """Value, and gradients in states, others, weights, the vectors and the biases here."""
    inputs = [x.clone().requires_grad_() for x in (STATES, OTHERS, WEIGHTS, VECTORS[rows], BIAS[rows])]
    value = check(*inputs[:3], Catalogue(inputs[3], inputs[4], temperature=0.3, cosine=True, shard=shard))
    slopes = torch.linspace(0.5, 2, value.numel(), dtype=value.dtype).view_as(value)
    gradients = torch.autograd.grad(value, inputs, slopes, allow_unused=True, materialize_grads=True)
    return [value.detach(), *gradients]


def ranked(rows: slice, shard: Shard | None) -> dict[str, list[Tensor]]:
    catalogue = Catalogue(VECTORS[rows], BIAS[rows], temperature=0.3, cosine=True, shard=shard)
    states = catalogue.comparable(STATES)
    return {
        "ranks": [rank_of(states, catalogue, TARGETS), rank_of(states, catalogue, TARGETS, HISTORIES)],
        "lists": [*top_k(states, catalogue, K), *top_k(states, catalogue, K, HISTORIES, ALLOWED)],
    }


def trained(rows: slice, shard: Shard | None) -> list[Tensor]:
    """Weights of an encoder that all have and of the items here, and the latter's moments, after steps of Adam."""
    encoder, items = draw(D, D, seed=7).requires_grad_(), VECTORS[rows].clone().requires_grad_()
    optimiser = torch.optim.Adam([encoder, items], lr=0.1)
    for _ in range(4):
        optimiser.zero_grad()
        catalogue = Catalogue(items, temperature=0.3, cosine=True, shard=shard)
        losses.cross_entropy(catalogue.scaled(STATES @ encoder), catalogue, TARGETS, WEIGHTS).backward()
        optimiser.step()
    return [encoder.detach(), items.detach(), *(optimiser.state[items][name] for name in ("exp_avg", "exp_avg_sq"))]


def differences(rank: int) -> dict[str, float]:
    here, everything = slice(BOUNDS[rank], BOUNDS[rank + 1]), slice(0, N)
    shard, found = Shard(here.start, N), {}

    def note(name: str, ours: list[Tensor], parts: list[Tensor]) -> None:
        assert [a.shape for a in ours] == [b.shape for b in parts]
        apart = [torch.where(a == b, 0.0, (a - b).abs()).flatten() for a, b in zip(ours, parts, strict=True)]
        found[name] = float(torch.cat(apart).max())

    def compare(name: str, ours: list[Tensor], whole: list[Tensor]) -> None:
        note(name, ours, [w[here] if w.shape[:1] == (N,) else w for w in whole])

    for check in LOSSES:
        compare(check.__name__, told(check, here, shard), told(check, everything, None))
    compare("training", trained(here, shard), trained(everything, None))
    lists = ranked(everything, None)
    for name, ours in ranked(here, shard).items():
        compare(name, ours, lists[name])
    for each in split_table.compared(rank):
        note(*each)
    return found


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=3)
    found = {"one block": differences(rank)}
    blocks.CPU_BLOCK_BYTES, blocks.MIN_ROWS, ranking.SHARD = 1, 2, 3
    found["blocks"] = differences(rank)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    distributed.destroy_process_group()


if __name__ == "__main__":
    multiprocessing.start_processes(work, (sys.argv[1],), nprocs=3, start_method="fork")
