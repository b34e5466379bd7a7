"""ReaRec: a few latent steps before the next item is named (Tang et al., 2025, arXiv 2503.22675).

    r_0 = f(history)        r_k = f(history, ..., r_{k-1} + p_k),  k = 1..K          (eq. 2)

ERL averages all states and keeps them apart; PRL sharpens step after step and steadies each against noise.
Every position of a history is supervised, each with a chain of its own (`thinking/chain.py`): the paper's row a
prefix, in one pass. Weights of the steps and the direction of ERL's gradient follow the authors' code, which differs
from the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from forethought.backbones.all import AnyBackbone
from forethought.backbones.sasrec import SASRec
from forethought.catalogue import losses
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.expectation import expectation
from forethought.data.batches import Batch
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.interface import DenseStates, Inputs, Losses, Method, MethodConfig, Reasoning, check_times
from forethought.methods.items import ItemLoss, ItemTable
from forethought.settings import Epoch, Scale, Steps, Weight
from forethought.thinking.chain import History, Roots, roots_at_end, roots_everywhere, think, think_with_noise
from forethought.thinking.contrast import info_nce
from forethought.thinking.halting import Halting, Judge, Rule, Trace, look_at, think_until
from forethought.thinking.health import Health, likeness, of_trajectory
from forethought.thinking.picks import pick

Learning = Literal["erl", "prl"]
StepWeights = Literal["mean", "sum"]


@dataclass(frozen=True, kw_only=True)
class ReaRec(MethodConfig):
    """Configuration: a backbone that thinks K steps."""

    backbone: AnyBackbone = field(default_factory=lambda: SASRec(input_norm=True))
    """The encoder of histories, and of thoughts."""
    loss: ItemLoss = field(default_factory=ItemLoss)
    """Score and temperature tau; full cross-entropy only."""
    learning: Learning = "prl"
    """erl: ensemble of all steps; prl: progressive, the last step speaks."""
    steps: Steps = 2
    """K, reasoning steps."""
    link_dropout: bool = False
    """Drop units inside the reasoning links too, as the authors of ReaRec do; each link then adds noise to the last."""
    draw_step: bool = True
    """Train one step of each position, drawn by its weight, in place of all: the same loss on average for a share of
    the products. ERL draws the step whose divergence counts."""
    step_weights: StepWeights = "mean"
    """PRL: the steps before the last weigh 1 together (mean, the authors' code) or 1 each (sum, the text)."""
    warmth: Scale = 1.0
    """PRL's alpha: step k is trained at temperature tau * alpha^(K - k); 1 is the same for all."""
    divergence_weight: Weight = 0.05
    """ERL's lambda: how strongly the steps' predictions are pushed apart."""
    contrast_weight: Weight = 0.0
    """PRL: weight of the contrast of each step with its noisy twin (the authors' code: 1)."""
    contrast_noise: Weight = 0.01
    """gamma, standard deviation of the noise on a step's input."""
    contrast_from: Epoch = 2
    """Epochs before the contrast sets in."""
    item_std: Scale = 0.02
    """Spread of the items' initial vectors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss.kind != "ce":
            raise ConfigError(f"ReaRec is trained with full cross-entropy, so its loss cannot be {self.loss.kind!r}.")

    def build(self, sizes: DataSizes) -> ReaRecModel:
        return ReaRecModel(self, sizes.n_items)

    def check(self, split: Split) -> None:
        check_times(self.backbone, split)


class ReaRecModel(Method):
    def __init__(self, config: ReaRec, n_items: int) -> None:
        super().__init__()
        self.config = config
        self.items = ItemTable(n_items, config.backbone.width, config.loss, config.item_std)
        self.backbone = config.backbone.build()
        self.marks = nn.Parameter(torch.randn(config.steps, config.backbone.width) * 0.02)  # p_1 .. p_K
        self.window = config.backbone.window
        self.inputs = Inputs(times=self.backbone.needs_times)
        self.contrasting = False
        rules: tuple[Rule, ...] = ("fixed",) if config.learning == "erl" else ("fixed", "change", "entropy", "random")
        self.reasoning = Reasoning(config.steps, Halting(rule="fixed"), rules)

    def begin_epoch(self, epoch: int) -> None:
        self.contrasting = self.config.contrast_weight > 0 and epoch >= self.config.contrast_from

    def loss(self, batch: Batch) -> Losses:
        assert batch.targets_BL is not None
        roots = roots_everywhere(self.backbone, self.items, History(batch.items_BL, batch.lengths_B, batch.times_BL))
        chains = think(self.backbone, roots, self.marks, dropout=self.config.link_dropout)
        states = [state[roots.real_BP] for state in chains]  # K + 1 of [P, D], all positions of the batch
        targets_P = batch.targets_BL[batch.valid_BL()]
        told = self._losses(roots, chains, states, targets_P, batch)
        return Losses(told.total, told.parts | {"likeness": likeness(states[0], states[-1]) / batch.weight})

    def health(self, figures: Mapping[str, float]) -> Health:
        return of_trajectory(figures["likeness"])

    def _losses(
        self, roots: Roots, chains: list[Tensor], states: list[Tensor], targets_P: Tensor, batch: Batch
    ) -> Losses:
        if self.config.learning == "erl":
            return self._erl(states, targets_P, batch.weight)
        named = self._prl(states, targets_P, batch.weight)
        if not self.contrasting:
            return Losses(named, {"loss": named.detach()})
        noise, dropout = self.config.contrast_noise, self.config.link_dropout
        noisy = think_with_noise(self.backbone, roots, chains, self.marks, noise, dropout=dropout)
        contrast = self._contrast([n[roots.real_BP] for n in noisy], states[1:], targets_P, batch)
        total = named + self.config.contrast_weight * contrast
        return Losses(total, {"loss": total.detach(), "named": named.detach(), "contrast": contrast.detach()})

    def _prl(self, states: list[Tensor], targets_P: Tensor, weight: int) -> Tensor:
        """-sum_k w_k log yhat^(k)[v+], tau_k = tau alpha^(K - k) (eq. 5): 3 (K + 1) products, or 3 with `draw_step`."""
        K, P, catalogue = self.config.steps, len(targets_P), self.items.catalogue()
        early = 1.0 if self.config.step_weights == "sum" else 1.0 / K
        r_SPD = torch.stack([catalogue.scaled(r, self.config.warmth ** (K - k)) for k, r in enumerate(states)])
        weights_SP = r_SPD.new_tensor([early] * K + [1.0])[:, None].expand(-1, P) / weight
        of = pick(weights_SP, draw=self.config.draw_step)
        return losses.cross_entropy(
            r_SPD[of.step_R, of.row_R],
            catalogue,
            targets_P[of.row_R],
            weights_SP[of.step_R, of.row_R] * of.scale_R,
            smoothing=self.config.loss.smoothing,
        ) + 0 * sum(r.sum() for r in states)  # an empty share of a batch reaches every parameter

    def _erl(self, states: list[Tensor], targets_P: Tensor, weight: int) -> Losses:
        """CE of the mean state - lambda mean_{i != j} KL(p_j || p_i), p_i held still (eq. 4).

        3 products for the mean state, and 4 for each step j or, with `draw_step`, for one drawn.
        """
        K, P, catalogue = self.config.steps, len(targets_P), self.items.catalogue()
        rows = torch.full((P,), 1.0 / weight, dtype=self.marks.dtype, device=self.marks.device)
        ensemble = catalogue.scaled(torch.stack(states).mean(0))
        named = losses.cross_entropy(ensemble, catalogue, targets_P, rows, smoothing=self.config.loss.smoothing)
        named = named + 0 * sum(r.sum() for r in states)  # an empty share of a batch reaches every parameter
        if not self.config.divergence_weight:
            return Losses(named, {"loss": named.detach()})
        r_SPD = catalogue.scaled(torch.stack(states))
        # sum_i KL(p_j || p_i) = sum_i (r_j - r_i).mean_j + lse_i - lse_j, and over all pairs no lse is left
        apart_SPD = (K + 1) * r_SPD - r_SPD.sum(0)
        of = pick(r_SPD.new_ones(K + 1, P), draw=self.config.draw_step)
        readers_RD = apart_SPD[of.step_R, of.row_R] * of.scale_R[:, None]
        divergence = expectation(r_SPD[of.step_R, of.row_R], catalogue, readers_RD) / (K * (K + 1) * weight)
        total = named - self.config.divergence_weight * divergence
        return Losses(total, {"loss": total.detach(), "named": named.detach(), "divergence": divergence.detach()})

    def _contrast(self, noisy: list[Tensor], clean: list[Tensor], targets_P: Tensor, batch: Batch) -> Tensor:
        """-mean_k log exp(r~_k . r_k / tau) / sum_b' exp(r~_k . r_k^b' / tau) (eq. 7).

        Positions of one user or with one target are no negatives of each other: a row a prefix never met them.
        """
        assert batch.users_B is not None
        users_P = batch.users_B[:, None].expand_as(batch.items_BL)[batch.valid_BL()]
        alike = (users_P[:, None] == users_P) | (targets_P[:, None] == targets_P)
        steps = [
            info_nce(self.items.states(a), self.items.states(b), self.config.loss.temperature, alike)
            for a, b in zip(noisy, clean, strict=True)
        ]
        return torch.stack(steps).mean(0).sum() / batch.weight

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> DenseStates:
        halting = halting or Halting(rule="fixed")
        marks = self.marks[: halting.steps(self.config.steps)]
        roots = roots_at_end(self.backbone, self.items, History(batch.items_BL, batch.lengths_B, batch.times_BL))
        if self.config.learning == "erl":
            states_BSD = torch.stack([state[:, 0] for state in think(self.backbone, roots, marks)], dim=1)
            told = Trace.unread(states_BSD) if trace else None
            return DenseStates(
                torch.full_like(batch.lengths_B, len(marks)), self.items.states(states_BSD.mean(1)), told
            )
        catalogue = self.items.catalogue()
        judge = Judge(lambda r: look_at(catalogue.scaled(r), catalogue), catalogue)
        states_BD, steps_B, told = think_until(self.backbone, roots, marks, judge, halting, trace=trace)
        return DenseStates(steps_B, states_BD, told)

    def catalogue(self) -> Catalogue:
        return self.items.catalogue()
