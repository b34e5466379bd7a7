"""The softmax over the catalogue, walked in blocks, and the two moments that every loss needs of it.

For a state r and items E, with z_i = r.e_i and p = softmax(z):

    lse(r)  = log sum_i exp(z_i)        a scalar a row
    mean(r) = sum_i p_i e_i             a vector a row

Here r and E are scaled (`catalogue.Catalogue`): temperature and bias are in them, so that one walk serves them all.
No tensor of [rows, N] outlives a block. Products of (rows x N x D), the unit of cost, are counted for each function.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from forethought.catalogue import narrow
from forethought.catalogue.blocks import MAX_ITEMS, accumulator, block_room, item_shards, product, row_blocks
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.narrow import Walked, is_narrow
from forethought.catalogue.sparse_scores import SparseScores
from forethought.catalogue.split import Shard


class Moments(NamedTuple):
    lse_P: Tensor
    mean_PD: Tensor


def weighted_lse(
    states_PD: Tensor, catalogue: Catalogue, weights_P: Tensor, added: SparseScores | None = None
) -> tuple[Tensor, Tensor]:
    """sum_p w_p lse_p, and the lse of each row (without gradient).

    The rows' weights are known beforehand, so the gradients to states and items are made in the same walk:
    3 products where autograd's two walks take 4; 1 where no gradient is wanted. Differentiable in states, items and
    weights. Under autocast the inputs are narrowed, the scores are not. Inside `narrow.narrow_products` all products
    are bfloat16.

    Args:
        added: to the logits; no product more, and differentiable in its values.
    """
    if catalogue.shard is not None:
        assert added is None, "evidence is read where all items are in one process"
        return _split_weighted_lse(states_PD, catalogue, catalogue.shard, weights_P)
    device, items_ND = states_PD.device.type, catalogue.scaled_ND
    if torch.is_autocast_enabled(device):
        narrow = torch.get_autocast_dtype(device)
        states_PD, items_ND = states_PD.to(narrow), items_ND.to(narrow)
    if not torch.is_grad_enabled():  # a Function is not told, and would make gradients for nobody
        states_PD, items_ND = states_PD.detach(), items_ND.detach()
    with torch.autocast(device, enabled=False):
        return _WeightedLSE.apply(states_PD, items_ND, weights_P, None if added is None else added.values_T, added)


def _split_weighted_lse(
    states_PD: Tensor, catalogue: Catalogue, shard: Shard, weights_P: Tensor
) -> tuple[Tensor, Tensor]:
    """4 products: how large a share of each row's softmax lies here must be known before the walk with gradients.

    d lse = sum of the processes' shares times d of their own lse, so the walk has gradients alone to give.
    """
    with torch.no_grad():
        own_P = weighted_lse(states_PD, catalogue.held(), torch.ones_like(weights_P))[1]
        lse_P, share_P = share_of(own_P, shard)
    walked, _ = weighted_lse(shard.everywhere(states_PD), catalogue.held(), weights_P.detach() * share_P)
    return (weights_P.to(lse_P.dtype) * lse_P).sum() + (walked - walked.detach()), lse_P


def share_of(own_P: Tensor, shard: Shard) -> tuple[Tensor, Tensor]:
    """The lse over all items, and the share of each softmax that lies on those here; no gradient."""
    lse_P = torch.stack(shard.gathered(own_P)).logsumexp(0)
    return lse_P, (own_P.detach() - lse_P).exp()


def moments(states_PD: Tensor, catalogue: Catalogue) -> Moments:
    """Both moments, differentiable in states and items.

    2 products forward. Backward: 2 where only `lse` is used, else 5, since the gradient of `mean` is the
    covariance of the softmax times a vector. That is a difference, so 16-bit inputs are widened.
    """
    if catalogue.shard is not None:
        shard = catalogue.shard
        own = moments(shard.everywhere(states_PD), catalogue.held())
        return merge([Moments(*part) for part in zip(*(shard.beside_others(each) for each in own), strict=True)])
    if torch.compiler.is_exporting():  # a program has no walk: its rows are few
        scores_PN = states_PD @ catalogue.scaled_ND.T
        return Moments(scores_PN.logsumexp(-1), scores_PN.softmax(-1) @ catalogue.scaled_ND)
    wide = accumulator(states_PD.dtype)
    with torch.autocast(states_PD.device.type, enabled=False):
        return Moments(*_Moments.apply(states_PD.to(wide), catalogue.scaled_ND.to(wide)))


def merge(shards: list[Moments]) -> Moments:
    """The moments over the union of disjoint sets of items, exactly: the log-sum of sums and the weighted mean.

    No product; differentiable in all shards.
    """
    lse_SP = torch.stack([shard.lse_P for shard in shards])
    lse_P = torch.logsumexp(lse_SP, dim=0)
    share_SP = torch.exp(lse_SP - lse_P)
    return Moments(lse_P, sum(s[:, None] * shard.mean_PD for s, shard in zip(share_SP, shards, strict=True)))  # type: ignore[arg-type]


def _softmax_(scores_BN: Tensor) -> Tensor:
    """Softmax in place, row by row in cache; returns each row's lse."""
    top_B = scores_BN.amax(dim=-1)
    torch.softmax(scores_BN, dim=-1, out=scores_BN)
    return top_B - scores_BN.amax(dim=-1).log()  # the largest p is at least 1/N: its log is safe


def _walk(
    states_PD: Tensor,
    items_ND: Tensor,
    weights_P: Tensor,
    added: SparseScores | None = None,
    *,
    to_states: bool,
    to_items: bool,
) -> Walked:
    """The lse of each row, and the gradients of their weighted sum to states and items where they are wanted."""
    lse_P = states_PD.new_empty(states_PD.shape[0], dtype=accumulator(states_PD.dtype))
    d_states = torch.zeros_like(states_PD, dtype=lse_P.dtype) if to_states else None
    d_items = torch.zeros_like(items_ND, dtype=lse_P.dtype) if to_items else None
    d_added = None if added is None else torch.zeros_like(added.values_T)
    shards = list(item_shards(items_ND.shape[0]))
    room = block_room(states_PD, shards[0].stop)

    def scores(rows: slice, shard: slice) -> Tensor:
        z = product(states_PD[rows], items_ND[shard].T, room)
        if added is not None:
            added.add_(z, rows, shard)
        return z

    for rows in row_blocks(states_PD, shards[0].stop):
        r, w = states_PD[rows], weights_P[rows, None]
        if len(shards) > 1:  # a fourth product: the lse must be known before the first share
            lse_P[rows] = torch.stack([scores(rows, shard).logsumexp(-1) for shard in shards]).logsumexp(0)
        for shard in shards if len(shards) == 1 or to_states or to_items else []:
            e = items_ND[shard]
            p = scores(rows, shard)
            if len(shards) == 1:
                lse_P[rows] = _softmax_(p)
            else:
                p.sub_(lse_P[rows, None]).exp_()
            if added is not None and d_added is not None:
                added.gather(p, rows, shard, d_added)
            p = p.to(e.dtype)
            if d_states is not None:
                d_states[rows] += product(p, e).mul_(w)
            if d_items is not None:
                _add_product_(d_items[shard], p.T, (w * r).to(p.dtype))  # weights scale the thin side only
    if added is not None and d_added is not None:
        d_added *= weights_P[added.rows_T]
    return Walked(lse_P, d_states, d_items, d_added)


class _WeightedLSE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states_PD: Tensor,
        items_ND: Tensor,
        weights_P: Tensor,
        values_T: Tensor | None,
        added: SparseScores | None,
    ) -> tuple[Tensor, Tensor]:
        to_states, to_items = ctx.needs_input_grad[:2]
        walked = None
        if is_narrow(states_PD):
            walked = narrow.walk(states_PD, items_ND, weights_P, added, to_states=to_states, to_items=to_items)
        if walked is None:
            walked = _walk(states_PD, items_ND, weights_P, added, to_states=to_states, to_items=to_items)
        lse_P, d_states, d_items, d_added = walked
        ctx.save_for_backward(d_states, d_items, lse_P, d_added)
        ctx.dtypes = states_PD.dtype, items_ND.dtype, weights_P.dtype, weights_P.dtype
        ctx.mark_non_differentiable(lse_P)
        return (weights_P.to(lse_P.dtype) * lse_P).sum(), lse_P

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        grad = grads[0]
        d_states, d_items, lse_P, d_added = ctx.saved_tensors
        out = (d_states, d_items, lse_P, d_added)
        gradients = (
            None if d is None or not need else (grad * d).to(dtype)
            for d, need, dtype in zip(out, ctx.needs_input_grad[:4], ctx.dtypes, strict=True)
        )
        return *gradients, None


def _add_product_(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, without a copy where the types agree."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += product(left, right)


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_PD: Tensor, items_ND: Tensor) -> tuple[Tensor, Tensor]:
        lse_P = states_PD.new_empty(states_PD.shape[0])
        mean_PD = torch.empty_like(states_PD)
        shards = list(item_shards(items_ND.shape[0]))
        room = block_room(states_PD, shards[0].stop)
        for rows in row_blocks(states_PD, shards[0].stop):
            parts = []
            for shard in shards:
                p = product(states_PD[rows], items_ND[shard].T, room)
                lse = _softmax_(p)
                parts.append(Moments(lse, p @ items_ND[shard]))
            lse_P[rows], mean_PD[rows] = merge(parts) if len(parts) > 1 else parts[0]
        ctx.save_for_backward(states_PD, items_ND, lse_P, mean_PD)
        ctx.set_materialize_grads(False)
        return lse_P, mean_PD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        g_lse_P, g_mean_PD = grads
        r_PD, e_ND, lse_P, mean_PD = ctx.saved_tensors
        need_states, need_items = ctx.needs_input_grad
        if g_lse_P is None and g_mean_PD is None:
            return None, None
        g_P = torch.zeros_like(lse_P) if g_lse_P is None else g_lse_P
        if g_mean_PD is None and not need_items:
            return g_P[:, None] * mean_PD, None
        d_states = g_P[:, None] * mean_PD if g_mean_PD is None else torch.zeros_like(r_PD)
        d_items = torch.zeros_like(e_ND)
        room = block_room(r_PD, min(e_ND.shape[0], MAX_ITEMS))
        for shard in item_shards(e_ND.shape[0]):
            e = e_ND[shard]
            for rows in row_blocks(r_PD, e.shape[0]):
                p = product(r_PD[rows], e.T, room).sub_(lse_P[rows, None]).exp_()
                if g_mean_PD is None:
                    d_items[shard].addmm_(p.T, g_P[rows, None] * r_PD[rows])
                    continue
                h = g_mean_PD[rows]
                if need_items:
                    d_items[shard].addmm_(p.T, h)
                # d z_i = p_i (g + h.(e_i - mean)): the mean's gradient is the covariance of p times h
                p.mul_((h @ e.T).add_((g_P[rows] - (h * mean_PD[rows]).sum(-1))[:, None]))
                if need_states:
                    d_states[rows] += p @ e
                if need_items:
                    d_items[shard].addmm_(p.T, r_PD[rows])
        return d_states if need_states else None, d_items if need_items else None
