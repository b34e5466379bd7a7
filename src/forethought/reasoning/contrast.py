"""InfoNCE: a state is to be told from all others by its twin (van den Oord et al., 2018, arXiv 1807.03748)."""

from __future__ import annotations

from collections.abc import Sequence

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


def info_nce_of_steps(
    noisy: Sequence[Tensor], clean: Sequence[Tensor], temperature: float, ignore_PP: Tensor | None = None
) -> Tensor:
    """Each step's state is to be told from all others by its noisy twin, mean over steps, [P] (ReaRec's eq. 7).

    Args:
        noisy, clean: [P, D] a step, of `chain.reason_with_noise` and `chain.reason`, as they are compared.
    """
    steps = [info_nce(one, other, temperature, ignore_PP) for one, other in zip(noisy, clean, strict=True)]
    return torch.stack(steps).mean(0)


def same_user_or_target(users_P: Tensor, targets_P: Tensor) -> Tensor:
    """Positions that are no negatives of each other: in a batch of random prefixes they would be rare, where every
    position of a history is supervised they stand side by side."""
    return (users_P[:, None] == users_P) | (targets_P[:, None] == targets_P)


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
