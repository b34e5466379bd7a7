"""Soft targets q = softmax(c . E) by their first moment: what a cross-entropy with a distribution over items needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from forethought.catalogue.blocks import MAX_ITEMS, accumulator, block_room, product, row_blocks
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import share_of, weighted_lse
from forethought.catalogue.narrow import Scorer, bearable, is_narrow, padded, row_sums


def soft_target(prototypes_CD: Tensor, catalogue: Catalogue) -> Tensor:
    """m_c = sum_i q_ci e_i with q = softmax(prototypes . items) held constant, [C, D].

    Both are scaled: a prototype is a state. q gets no gradient, E does: a frozen m would lose the part
    -q_i r of the gradient to the items. 2 products of (C x N x D) forward, 2 backward. Autocast narrows none of them;
    inside `narrow.narrow_products` all are bfloat16, and where q fits a block it is kept: 1 product backward.
    """
    if catalogue.shard is not None:  # 1 product more forward
        with torch.no_grad():
            own_C = weighted_lse(prototypes_CD, catalogue.held(), torch.ones_like(prototypes_CD[:, 0]))[1]
            _, share_C = share_of(own_C, catalogue.shard)
        return catalogue.shard.summed(share_C[:, None] * soft_target(prototypes_CD, catalogue.held()))
    items_ND = catalogue.scaled_ND
    if is_narrow(items_ND) and items_ND.shape[0] <= MAX_ITEMS:
        narrow_CD = _NarrowSoftTarget.apply(prototypes_CD.detach(), items_ND)
        if narrow_CD is not None:
            return narrow_CD
    with torch.autocast(items_ND.device.type, enabled=False):
        return _SoftTarget.apply(prototypes_CD.detach(), items_ND)


class _SoftTarget(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, prototypes_CD: Tensor, items_ND: Tensor) -> Tensor:
        wide = accumulator(items_ND.dtype)
        c, e = prototypes_CD.to(wide), items_ND.to(wide)
        m_CD, room = torch.empty_like(c), block_room(c, e.shape[0])
        for rows in row_blocks(c, e.shape[0]):
            m_CD[rows] = torch.softmax(product(c[rows], e.T, room), dim=-1) @ e
        ctx.save_for_backward(c, e)
        ctx.dtype = items_ND.dtype
        return m_CD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[None, Tensor | None]:  # type: ignore[override]
        c, e = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return None, None
        d_items, room = torch.zeros_like(e), block_room(c, e.shape[0])
        for rows in row_blocks(c, e.shape[0]):
            q = torch.softmax(product(c[rows], e.T, room), dim=-1)
            d_items.addmm_(q.T, grads[0][rows])
        return None, d_items.to(ctx.dtype)


class _NarrowSoftTarget(torch.autograd.Function):
    """The same in bfloat16; None where the scores are beyond it."""

    @staticmethod
    def forward(ctx: Any, prototypes_CD: Tensor, items_ND: Tensor) -> Tensor | None:
        everything = slice(0, items_ND.shape[0])
        C, prototypes_CD = len(prototypes_CD), padded(prototypes_CD)
        scorer = Scorer(prototypes_CD, items_ND, [everything])
        m_CD, sums_C1 = torch.empty_like(prototypes_CD), prototypes_CD.new_empty(len(prototypes_CD), 1)
        x_CN = None
        for rows in scorer.blocks:
            x_CN = scorer.exponentials(rows, everything)
            sums_C1[rows, 0] = row_sums(x_CN)
            m_CD[rows] = x_CN @ scorer.items_ND
        if not bearable(sums_C1):
            return None
        ctx.scorer, ctx.sums_C1 = scorer, sums_C1
        ctx.kept_CN = x_CN if len(scorer.blocks) == 1 else None
        return m_CD.div_(sums_C1)[:C]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[None, Tensor | None]:  # type: ignore[override]
        if not ctx.needs_input_grad[1]:
            return None, None
        scorer, thin_CD = ctx.scorer, (padded(grads[0]) / ctx.sums_C1).bfloat16()
        everything = slice(0, len(scorer.items_ND))
        d_items = torch.zeros_like(scorer.items_ND, dtype=grads[0].dtype)
        for rows in scorer.blocks:
            q = scorer.exponentials(rows, everything) if ctx.kept_CN is None else ctx.kept_CN
            d_items += q.T @ thin_CD[rows]
        return None, d_items
