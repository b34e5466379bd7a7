"""Soft targets q = softmax(c . E) by their first moment: what a cross-entropy with a distribution over items needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from forethought.catalogue.blocks import accumulator, block_room, product, row_blocks


def soft_target(prototypes_CD: Tensor, items_ND: Tensor) -> Tensor:
    """m_c = sum_i q_ci e_i with q = softmax(prototypes . items) held constant, [C, D].

    Both are scaled beforehand (`moments.scaled`). q gets no gradient, E does: a frozen m would lose the part
    -q_i r of the gradient to the items. 2 products of (C x N x D) forward, 2 backward. Autocast narrows none of them.
    """
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
