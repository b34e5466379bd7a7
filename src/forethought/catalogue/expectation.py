"""What a softmax over the items expects of a linear score, where only the softmax is learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from forethought.catalogue.blocks import MAX_ITEMS, accumulator, block_room, item_shards, product, row_blocks
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import moments, share_of, weighted_lse
from forethought.catalogue.split import Shard


def expectation(states_PD: Tensor, catalogue: Catalogue, readers_PD: Tensor) -> Tensor:
    """sum_p sum_i p_pi (h_p . e_i) with p = softmax(r . E), the scores h . e being constants; all are scaled.

    Gradients go to states and items through p alone: dz_i = p_i (h.e_i - h.mean). That is what a divergence from
    constant distributions wants: KL(p' || p) = sum_i p'_i (log p'_i - log p_i) has no other gradient in p', so
    h = r' - r. (`losses.kl` with a detached second argument would still move the items through r . mean'.)
    4 products, gradients included.
    """
    if catalogue.shard is not None:
        return _split_expectation(states_PD, catalogue, catalogue.shard, readers_PD.detach())
    wide = accumulator(states_PD.dtype)
    with torch.autocast(states_PD.device.type, enabled=False):
        return _Expectation.apply(states_PD.to(wide), catalogue.scaled_ND.to(wide), readers_PD.detach().to(wide))


def _split_expectation(states_PD: Tensor, catalogue: Catalogue, shard: Shard, readers_PD: Tensor) -> Tensor:
    """9 products: within the items here p moves as if they were all, and their share of p moves as a whole."""
    held, states_PD = catalogue.held(), shard.everywhere(states_PD)
    with torch.no_grad():
        own = moments(states_PD, held)
        _, share_P = share_of(own.lse_P, shard)
        part_P = torch.linalg.vecdot(readers_PD, own.mean_PD)
        whole_P = shard.total_(share_P * part_P)
    within = expectation(states_PD, held, share_P[:, None] * readers_PD)
    between, _ = weighted_lse(states_PD, held, share_P * (part_P - whole_P))
    moved = within + between
    return whole_P.sum() + (moved - moved.detach())


class _Expectation(torch.autograd.Function):
    """Gradients are made in the forward walk, as those of `weighted_lse`."""

    @staticmethod
    def forward(ctx: Any, states_PD: Tensor, items_ND: Tensor, readers_PD: Tensor) -> Tensor:
        d_states, d_items = torch.zeros_like(states_PD), torch.zeros_like(items_ND)
        room, other = (block_room(states_PD, min(items_ND.shape[0], MAX_ITEMS)) for _ in range(2))
        shards, total = list(item_shards(items_ND.shape[0])), states_PD.new_zeros(())
        for rows in row_blocks(states_PD, min(items_ND.shape[0], MAX_ITEMS)):
            r, h = states_PD[rows], readers_PD[rows]
            # over several shards 2 products more: p must be known beforehand
            of = moments(r, Catalogue(items_ND)) if len(shards) > 1 else None
            for shard in shards:
                e = items_ND[shard]
                p, s = product(r, e.T, room), product(h, e.T, other)
                if of is None:
                    torch.softmax(p, dim=-1, out=p)
                    expected_P = torch.linalg.vecdot(p, s)
                    total += expected_P.sum()
                else:
                    p.sub_(of.lse_P[:, None]).exp_()
                    expected_P = (h * of.mean_PD).sum(-1)
                p.mul_(s.sub_(expected_P[:, None]))
                d_states[rows] += p @ e
                d_items[shard].addmm_(p.T, r)
            if of is not None:
                total += (h * of.mean_PD).sum()
        ctx.save_for_backward(d_states, d_items)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        d_states, d_items = ctx.saved_tensors
        return grads[0] * d_states, grads[0] * d_items, None
