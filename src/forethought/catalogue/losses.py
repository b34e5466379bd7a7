"""Losses over the whole catalogue, from its moments: cross-entropy to an item or to any soft target, entropy, KL.

States are scaled (`Catalogue.scaled`), as are the item vectors e of the formulas.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import Moments, weighted_lse
from forethought.catalogue.sparse_scores import SparseScores


class FewTargets(NamedTuple):
    """A soft target over a few items of each row, which takes a part of the hard one's place.

    Attributes:
        items_PK: item rows.
        shares_PK: of each, summing to 1; constant.
        weight: of the soft target, 0 to 1; the hard one has the rest. One number, or one a row, [P, 1].
    """

    items_PK: Tensor
    shares_PK: Tensor
    weight: float | Tensor

    def at(self, rows_R: Tensor) -> FewTargets:
        """Of some rows."""
        weight = self.weight[rows_R] if isinstance(self.weight, Tensor) else self.weight
        return FewTargets(self.items_PK[rows_R], self.shares_PK[rows_R], weight)

    def mixed(self, hard_PD: Tensor, soft_PD: Tensor) -> Tensor:
        """What stands for the item and for these, in their parts of the target."""
        weight = self.weight.to(hard_PD) if isinstance(self.weight, Tensor) else self.weight
        return torch.lerp(hard_PD, soft_PD, weight)

    def mixed_scores(self, hard_P: Tensor, soft_PK: Tensor) -> Tensor:
        """The same of a number for each."""
        soft_P = (self.shares_PK.to(hard_P) * soft_PK).sum(-1)
        return self.mixed(hard_P[:, None], soft_P[:, None])[:, 0]

    def moment(self, catalogue: Catalogue) -> Tensor:
        """m_p = sum_i q_pi e_i, [P, D]: differentiable in the items, and no product over all of them."""
        scaled_ND = catalogue.scaled_ND
        return F.embedding_bag(self.items_PK, scaled_ND, mode="sum", per_sample_weights=self.shares_PK.to(scaled_ND))


def cross_entropy(
    states_PD: Tensor,
    catalogue: Catalogue,
    targets_P: Tensor,
    weights_P: Tensor,
    *,
    smoothing: float = 0.0,
    added: SparseScores | None = None,
    soft: FewTargets | None = None,
) -> Tensor:
    """sum_p w_p (lse_p - r_p.e_y): the full softmax in 3 products, gradients included.

    Args:
        targets_P: item rows.
        weights_P: a weight a row; 1 / (number of rows) makes it a mean.
        smoothing: share of the target's mass spread evenly over all items; its soft target has the moment
            (1 - s) e_y + s mean(E), so it costs no product.
        added: to the logits, of targets and all others.
        soft: target in part, beside the item; not where items are split over processes.
    """
    target_PD = catalogue.scaled_of(targets_P)
    if soft is not None:
        assert catalogue.shard is None
        target_PD = soft.mixed(target_PD, soft.moment(catalogue))
    if smoothing:
        target_PD = (1 - smoothing) * target_PD + smoothing * catalogue.scaled_mean()
    if added is None:
        return soft_cross_entropy(states_PD, catalogue, target_PD, weights_P)
    total, _ = weighted_lse(states_PD, catalogue, weights_P, added)
    added_P = added.of(targets_P)
    if soft is not None:
        added_P = soft.mixed_scores(added_P, added.of_each(soft.items_PK))
    target_P = (states_PD * target_PD).sum(-1) + (1 - smoothing) * added_P
    if smoothing:
        target_P = target_P + smoothing / len(catalogue) * added.sums()
    return total - (target_P * weights_P).sum()


def soft_cross_entropy(states_PD: Tensor, catalogue: Catalogue, target_PD: Tensor, weights_P: Tensor) -> Tensor:
    """sum_p w_p (lse_p - r_p.m_p) for any soft targets q, given by their moments m_p = sum_i q_i e_i: 3 products.

    Where the gradient must reach the items through m as well, compute m with a graph: q is what is constant.
    """
    total, _ = weighted_lse(states_PD, catalogue, weights_P)
    return total - ((states_PD * target_PD).sum(-1) * weights_P).sum()


def entropy(states_PD: Tensor, of: Moments) -> Tensor:
    """H(p) = lse - r.mean, a row each, in nats. No product beyond those of the moments."""
    return of.lse_P - (states_PD * of.mean_PD).sum(-1)


def kl(first_PD: Tensor, first: Moments, second_PD: Tensor, second: Moments) -> Tensor:
    """KL(p' given r' || p given r) = (r'.mean' - lse') - (r.mean' - lse), a row each, in nats.

    No product beyond those of the moments; differentiable in both arguments and the items.
    """
    return -entropy(first_PD, first) - (second_PD * first.mean_PD).sum(-1) + second.lse_P


def per_position(states_PD: Tensor, catalogue: Catalogue, targets_P: Tensor) -> Tensor:
    """Cross-entropy of each row, without gradient: 1 product."""
    with torch.no_grad():
        ones = states_PD.new_ones(states_PD.shape[0])
        _, lse_P = weighted_lse(states_PD, catalogue, ones)
        return lse_P - (states_PD * catalogue.scaled_of(targets_P)).sum(-1)
