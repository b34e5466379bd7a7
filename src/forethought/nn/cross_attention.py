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

    def forward(self, x_BLD: Tensor, beside_BPMD: Tensor, kept_BM: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What each position retrieves, [B, L, D], and the weights it gave, [B, L, H, M].

        Args:
            kept_BM: False for vectors that a row may not look at; one at least is True.
        """
        q_BLHC = self.query(x_BLD).unflatten(-1, (self.heads, -1))
        k, v = self.keys_values(beside_BPMD).unflatten(-1, (2 * self.heads, -1)).chunk(2, dim=-2)
        scores_BLHM = beside_scores(q_BLHC, k, kept_BM)
        weights_BLHM = F.softmax(scores_BLHM, dim=-1)
        return self.out(beside_values(weights_BLHM, v).flatten(-2)), weights_BLHM


def beside_scores(q_BLHC: Tensor, k_BPMHC: Tensor, kept_BM: Tensor | None = None) -> Tensor:
    """q . k / sqrt(C), [B, L, H, M]; -inf where a vector is not to be looked at."""
    q_BLHC = q_BLHC * q_BLHC.shape[-1] ** -0.5
    if k_BPMHC.shape[1] == 1:
        scores = torch.einsum("blhc,bmhc->blhm", q_BLHC, k_BPMHC[:, 0])
    else:
        scores = (q_BLHC[:, :, None] * k_BPMHC).sum(-1).transpose(2, 3)  # a sixth of the time of so small products
    return scores if kept_BM is None else scores.masked_fill(~kept_BM[:, None, None], -torch.inf)


def beside_values(weights_BLHM: Tensor, v_BPMHC: Tensor) -> Tensor:
    """The values that the weights pick, [B, L, H, C]."""
    if v_BPMHC.shape[1] == 1:
        return torch.einsum("blhm,bmhc->blhc", weights_BLHM, v_BPMHC[:, 0])
    return (weights_BLHM.transpose(2, 3)[..., None] * v_BPMHC).sum(2)
