"""Losses over a few drawn items, for catalogues where the whole softmax is too dear: M of its N columns.

Sampled softmax with log-Q correction (Bengio & Senecal 2008), BCE with one or more negatives (SASRec, Kang &
McAuley 2018), gBCE (gSASRec, Petrov & Macdonald 2023) and BPR (Rendle et al. 2009, arXiv 1205.2618).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.catalogue.catalogue import Catalogue


class Proposal:
    """A distribution q over the items that negatives are drawn from, with replacement."""

    def __init__(self, counts_N: Tensor, power: float = 1.0) -> None:
        """q is proportional to counts^power: 0 draws evenly, 1 by popularity. An item without counts has one."""
        share_N = counts_N.double().clamp_min(1.0) ** power
        share_N /= share_N.sum()
        self.cumulative_N = share_N.cumsum(0)
        self.log_q_N = share_N.log().float()

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Item rows."""
        device = self.cumulative_N.device
        uniform = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
        return torch.searchsorted(self.cumulative_N, uniform).clamp_max(len(self.cumulative_N) - 1)


def sampled_softmax(
    states_PD: Tensor, catalogue: Catalogue, targets_P: Tensor, negatives_M: Tensor, log_q_N: Tensor, weights_P: Tensor
) -> Tensor:
    """Which of {target, M negatives} is the target, from scores less log q; accidental hits are removed.

    With q that negatives were really drawn from, sum_m exp(s_m - log q_m) / M estimates the whole softmax's sum
    without bias, and the loss is least at the scores the whole softmax is least at (exactly so for M = 1): the chance
    that i of the candidates is the target goes with p_i / q_i.

    Args:
        negatives_M: shared by all rows.
        log_q_N: a constant more changes nothing.
    """
    positive_P = (states_PD * catalogue.scaled_of(targets_P)).sum(-1) - log_q_N[targets_P]
    scores_PM = states_PD @ catalogue.scaled_of(negatives_M).T - log_q_N[negatives_M]
    scores_PM = scores_PM.masked_fill(negatives_M[None, :] == targets_P[:, None], -torch.inf)
    lse_P = torch.logaddexp(positive_P, scores_PM.logsumexp(-1))
    return ((lse_P - positive_P) * weights_P).sum()


def binary_cross_entropy(
    states_PD: Tensor,
    catalogue: Catalogue,
    targets_P: Tensor,
    negatives_PM: Tensor,
    weights_P: Tensor,
    *,
    calibration: float = 0.0,
    constants_P: Tensor | None = None,
) -> Tensor:
    """gBCE: -(beta log sigmoid(s+) + sum log(1 - sigmoid(s-))) / (M + 1), beta = a (t (1 - 1/a) + 1/a), a = M/(N-1).

    Args:
        calibration: the paper's t: 0 is plain BCE (beta = 1), 1 recovers softmax-like scores (beta = a).
        constants_P: what a state adds to its logits of all items, which no softmax would feel.
    """
    rate = negatives_PM.shape[1] / max(len(catalogue) - 1, 1)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    positive_P = (states_PD * catalogue.scaled_of(targets_P)).sum(-1)
    negative_PM = torch.einsum("pd,pmd->pm", states_PD, catalogue.scaled_of(negatives_PM))
    if constants_P is not None:
        positive_P, negative_PM = positive_P + constants_P, negative_PM + constants_P[:, None]
    # log sigmoid(s)^beta = beta log sigmoid(s): no power is taken, so no float64 is needed
    loss_P = -beta * F.logsigmoid(positive_P) - F.logsigmoid(-negative_PM).sum(-1)
    return (loss_P / (negatives_PM.shape[1] + 1) * weights_P).sum()


def pairwise_ranking(
    states_PD: Tensor, catalogue: Catalogue, targets_P: Tensor, negatives_PM: Tensor, weights_P: Tensor
) -> Tensor:
    """BPR: the mean of -log sigmoid(s+ - s-) over M negatives, the chance that the target is above each of them.

    What a state adds to all items alike is in both scores, and is not felt.
    """
    positive_P1 = (states_PD * catalogue.scaled_of(targets_P)).sum(-1, keepdim=True)
    negative_PM = torch.einsum("pd,pmd->pm", states_PD, catalogue.scaled_of(negatives_PM))
    return -(F.logsigmoid(positive_P1 - negative_PM).mean(-1) * weights_P).sum()


def half_squares(
    states_PD: Tensor, catalogue: Catalogue, targets_P: Tensor, negatives_PM: Tensor, weights_P: Tensor
) -> Tensor:
    """Half the squared lengths of raw states, and of the target and the negatives of each: what BPR's L2 shrinks."""
    target_PD, negative_PMD = (catalogue.take(items).vectors_ND for items in (targets_P, negatives_PM))
    squares_P = states_PD.square().sum(-1) + target_PD.square().sum(-1) + negative_PMD.square().sum((-1, -2))
    return 0.5 * (squares_P * weights_P).sum()
