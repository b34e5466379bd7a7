"""InfoNCE: a state is to be told from all others by its twin (van den Oord et al., 2018, arXiv 1807.03748)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(anchors_PD: Tensor, others_PD: Tensor, temperature: float, ignore_PP: Tensor | None = None) -> Tensor:
    """-log exp(a_p.o_p / tau) / sum_q exp(a_p.o_q / tau), a row each, [P].

    Args:
        others_PD: row p is the twin of anchor p, all other rows are its negatives.
        ignore_PP: True for pairs that are no negatives of each other; a row's own twin always counts.
    """
    scores_PP = anchors_PD @ others_PD.T / temperature
    own = torch.arange(len(scores_PP), device=scores_PP.device)
    if ignore_PP is not None:
        scores_PP = scores_PP.masked_fill(ignore_PP & (own[:, None] != own), -torch.inf)
    return F.cross_entropy(scores_PP, own, reduction="none")
