"""Attention of positions to a few vectors beside them, which a row shares or each position has for itself.

Shapes: B rows, L positions, P places the vectors belong to (1: the whole row, or L: each position has its own),
M vectors a place, H heads, C channels a head, D = H * C.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CrossAttention(nn.Module):
    """softmax(Q K^T / sqrt(C)) V, with positions as queries and the vectors beside them as keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.keys_values = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def project(self, beside_BPMD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the vectors beside, [B, P, M, H, C] each."""
        k, v = self.keys_values(beside_BPMD).unflatten(-1, (2 * self.heads, -1)).chunk(2, dim=-2)
        return k, v

    def forward(
        self, x_BLD: Tensor, keys_values: tuple[Tensor, Tensor], kept_BM: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What each position retrieves, [B, L, D], and the weights it gave, [B, L, H, M].

        Args:
            keys_values: as `project` makes them; where there are B / V of them, they are shared by V views, which stand
                one after the other in x.
            kept_BM: False for vectors that a row may not look at; one at least is True.
        """
        k, v = keys_values
        q_BLHC = self.query(x_BLD).unflatten(-1, (self.heads, -1))
        scores_BLHM = beside_scores(q_BLHC, k, kept_BM)
        weights_BLHM = F.softmax(scores_BLHM, dim=-1)
        return self.out(beside_values(weights_BLHM, v).flatten(-2)), weights_BLHM


def beside_scores(q_BLHC: Tensor, k_BPMHC: Tensor, kept_BM: Tensor | None = None) -> Tensor:
    """q . k / sqrt(C), [B, L, H, M]; -inf where a vector is not to be looked at."""
    q_VBLHC = _views(q_BLHC * q_BLHC.shape[-1] ** -0.5, k_BPMHC.shape[0])
    if k_BPMHC.shape[1] == 1:
        scores = torch.einsum("vblhc,bmhc->vblhm", q_VBLHC, k_BPMHC[:, 0])
    else:
        scores = (q_VBLHC[:, :, :, None] * k_BPMHC).sum(-1).transpose(3, 4)  # a sixth of the time of so small products
    scores = scores.flatten(0, 1)
    return scores if kept_BM is None else scores.masked_fill(~kept_BM[:, None, None], -torch.inf)


def beside_values(weights_BLHM: Tensor, v_BPMHC: Tensor) -> Tensor:
    """The values that the weights pick, [B, L, H, C]."""
    weights_VBLHM = _views(weights_BLHM, v_BPMHC.shape[0])
    if v_BPMHC.shape[1] == 1:
        return torch.einsum("vblhm,bmhc->vblhc", weights_VBLHM, v_BPMHC[:, 0]).flatten(0, 1)
    return (weights_VBLHM.transpose(3, 4)[..., None] * v_BPMHC).sum(3).flatten(0, 1)


def _views(of_BL: Tensor, rows: int) -> Tensor:
    """[V, B / V, L, ...]: views of the same rows beside each other; an empty batch is one view of none."""
    return of_BL.unflatten(0, (of_BL.shape[0] // max(rows, 1) or 1, rows))
