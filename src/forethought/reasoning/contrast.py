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
    scores_PP = _scores(anchors_PD, others_PD, temperature, ignore_PP)
    own = torch.arange(len(scores_PP), device=scores_PP.device)
    return F.cross_entropy(scores_PP, own, reduction="none")


def info_nce_both(one_PD: Tensor, other_PD: Tensor, temperature: float, ignore_PP: Tensor | None = None) -> Tensor:
    """The mean of `info_nce` in both directions, from one product."""
    scores_PP = _scores(one_PD, other_PD, temperature, ignore_PP)
    return (scores_PP.logsumexp(1) + scores_PP.logsumexp(0)) / 2 - scores_PP.diagonal()


def _scores(one_PD: Tensor, other_PD: Tensor, temperature: float, ignore_PP: Tensor | None) -> Tensor:
    scores_PP = one_PD @ other_PD.T / temperature
    if ignore_PP is None:
        return scores_PP
    own = torch.arange(len(scores_PP), device=scores_PP.device)
    return scores_PP.masked_fill(ignore_PP & (own[:, None] != own), -torch.inf)


def positives(labels_P: Tensor) -> Tensor:
    """For each row another one with the same label, itself where there is none: a random ring through each label."""
    order_P = torch.randperm(len(labels_P), device=labels_P.device)
    order_P = order_P[labels_P[order_P].argsort(stable=True)]
    _, ring_P, sizes = labels_P[order_P].unique_consecutive(return_inverse=True, return_counts=True)
    first_P = (sizes.cumsum(0) - sizes)[ring_P]
    place_P = torch.arange(len(labels_P), device=labels_P.device) - first_P
    partner_P = torch.empty_like(order_P)
    partner_P[order_P] = order_P[first_P + (place_P + 1) % sizes[ring_P]]
    return partner_P
