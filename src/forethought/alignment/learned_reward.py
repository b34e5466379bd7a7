"""A learned reward: what a path is worth, as its signs tell it where nobody knows the next item.

    r(path) = sigmoid(b + sum_f w_f (x_f - mean_f) / std_f)

    L(w, b) = 1/G sum_ug [-y ln r - (1 - y) ln(1 - r)] + |w|^2 / 2

Logistic regression with soft targets: y in [0, 1] is what the path's rank of the true next item is worth. r is bounded,
so that no sign pays without end; L is convex, so that Newton's method finds its minimum without chance; and a layer
of tanh between (8 to 32 units) told paths of other users worse (docs/align.md).

Shapes: U histories, G paths of each, F signs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from forethought.alignment.path_signs import path_signs
from forethought.decoding.path_facts import PathFacts
from forethought.errors import DataError
from forethought.reasoning.grpo import Reward

LEARNED = "learned"  # what the reward is called
FOLDS, NEWTON_STEPS, STEADY = 5, 50, 1e-10
Figures = dict[str, float]


class JudgedPaths(NamedTuple):
    """Paths of histories of which the next item is known.

    Attributes:
        names: of the signs.
        signs_UGF: what the paths say of themselves, float64.
        worth_UG: what the rank of the next item is worth, float64.
        users_U: whose histories they are.
    """

    names: tuple[str, ...]
    signs_UGF: Tensor
    worth_UG: Tensor
    users_U: Tensor


@dataclass(frozen=True, eq=False)
class LearnedReward:
    """The fitted model.

    Attributes:
        names: of the signs that it reads.
        means_F, stds_F: of these signs where it was fitted.
        weights_F, bias: w and b.
        gain, top: what a rank was worth.
        figures: `told_apart`, of the paths of users that it was not fitted to.
    """

    names: tuple[str, ...]
    means_F: Tensor
    stds_F: Tensor
    weights_F: Tensor
    bias: Tensor
    gain: Reward
    top: int
    figures: Figures = field(default_factory=dict)

    def says(self, signs_XF: Tensor) -> Tensor:
        """r of each path, [X] of any shape, float64."""
        means_F, stds_F, weights_F, bias = (
            each.to(signs_XF.device) for each in (self.means_F, self.stds_F, self.weights_F, self.bias)
        )
        return (((signs_XF - means_F) / stds_F) @ weights_F + bias).sigmoid()

    def earned(self, facts: PathFacts, rare_N: Tensor) -> Tensor:
        """What the whole path earned, [B, G]."""
        signs = path_signs(facts, rare_N)
        assert signs.names == self.names, "signs of another kind of run"
        return self.says(signs.values_BGF)

    def tensors(self) -> dict[str, Tensor]:
        return {
            "means": self.means_F,
            "stds": self.stds_F,
            "weights": self.weights_F,
            "bias": self.bias,
        }


def fit(paths: JudgedPaths, gain: Reward, top: int) -> LearnedReward:
    """Fitted to all of these paths; its figures are of models that each leave out a fifth of the users.

    Raises:
        DataError: all of them are worth the same, so that there is nothing to learn.
    """
    worth_UG = paths.worth_UG
    if bool((worth_UG == worth_UG.flatten()[0]).all()):
        raise DataError(
            f"A reward cannot be learned where all {worth_UG.numel():,} paths of held-out users are worth "
            f"{float(worth_UG.flatten()[0]):g}: train the run longer first, or give a larger top."
        )
    says_UG = cross_predicted(paths, gain, top)
    model = _fitted(paths.names, paths.signs_UGF, worth_UG, gain, top)
    return replace(model, figures=told_apart(says_UG, worth_UG))


def _fitted(names: tuple[str, ...], signs_UGF: Tensor, worth_UG: Tensor, gain: Reward, top: int) -> LearnedReward:
    flat_XF = signs_UGF.flatten(0, 1)
    means_F, stds_F = flat_XF.mean(0), flat_XF.std(0, correction=0)
    stds_F = torch.where(stds_F > STEADY, stds_F, 1.0)  # a sign that never differs says nothing
    ones_X1 = flat_XF.new_ones(len(flat_XF), 1)
    scaled_XF = torch.cat([(flat_XF - means_F) / stds_F, ones_X1], dim=1)
    weights_F = _newton(scaled_XF, worth_UG.flatten(), worth_UG.shape[1])
    return LearnedReward(names, means_F, stds_F, weights_F[:-1].clone(), weights_F[-1].clone(), gain, top)


def _newton(inputs_XF: Tensor, worth_X: Tensor, group: int) -> Tensor:
    """The minimum of L; the last input is constant, and its weight is not held down."""
    ridge_F = torch.ones_like(inputs_XF[0])
    ridge_F[-1] = 0
    start = worth_X.mean().clamp(STEADY, 1 - STEADY).logit()
    weights_F = torch.zeros_like(ridge_F)
    weights_F[-1] = start

    def loss(weights_F: Tensor) -> Tensor:
        logits_X = inputs_XF @ weights_F
        each_X = torch.nn.functional.softplus(logits_X) - worth_X * logits_X
        return each_X.sum() / group + (ridge_F * weights_F.square()).sum() / 2

    for _ in range(NEWTON_STEPS):
        says_X = (inputs_XF @ weights_F).sigmoid()
        slope_F = inputs_XF.T @ (says_X - worth_X) / group + ridge_F * weights_F
        curved_FF = (inputs_XF * (says_X * (1 - says_X))[:, None]).T @ inputs_XF / group + torch.diag(ridge_F)
        step_F, before, length = torch.linalg.solve(curved_FF, slope_F), loss(weights_F), 1.0
        while length > STEADY and loss(weights_F - length * step_F) > before:  # far from the minimum it may leap over
            length /= 2
        weights_F = weights_F - length * step_F
        if float(step_F.abs().max()) < STEADY:
            break
    return weights_F


def cross_predicted(paths: JudgedPaths, gain: Reward, top: int) -> Tensor:
    """What models say of the paths of users that they were not fitted to, a fifth after the other, [U, G].

    There are two users at least.
    """
    _, nth_U = paths.users_U.unique(return_inverse=True)
    folds_U = nth_U % FOLDS
    says_UG = torch.empty_like(paths.worth_UG)
    for fold in folds_U.unique():
        mine_U = folds_U == fold
        model = _fitted(paths.names, paths.signs_UGF[~mine_U], paths.worth_UG[~mine_U], gain, top)
        says_UG[mine_U] = model.says(paths.signs_UGF[mine_U])
    return says_UG


def told_apart(says_UG: Tensor, worth_UG: Tensor) -> Figures:
    """How well a reward tells what paths are worth; what is not defined is left out.

    correlation: Pearson's, over all paths. within: likewise after the mean of each history is taken off both, which is
    all that alignment learns from. auc: how often a path with a hit has more than one without, ties a half. says and
    worth are the means, and their difference is how far it promises too much.
    """
    apart = [each - each.mean(1, keepdim=True) for each in (says_UG, worth_UG)]
    figures = {
        "correlation": _correlation(says_UG, worth_UG),
        "within": _correlation(*apart),
        "auc": _auc(says_UG.flatten(), worth_UG.flatten() > 0),
        "says": float(says_UG.mean()),
        "worth": float(worth_UG.mean()),
    }
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _correlation(one: Tensor, other: Tensor) -> float:
    one, other = one - one.mean(), other - other.mean()
    norms = float(one.norm() * other.norm())
    return float((one * other).sum()) / norms if norms > STEADY else math.nan


def _auc(says_X: Tensor, hits_X: Tensor) -> float:
    """From mid-ranks (Mann-Whitney)."""
    n, hits = len(says_X), int(hits_X.sum())
    if not 0 < hits < n:
        return math.nan
    ordered = np.sort(said := says_X.numpy())
    ranks = (np.searchsorted(ordered, said, "left") + np.searchsorted(ordered, said, "right") + 1) / 2
    return float((ranks[hits_X.numpy()].sum() - hits * (hits + 1) / 2) / (hits * (n - hits)))
