"""ReaRec: a few latent steps before the next item is named (Tang et al., 2025, arXiv 2503.22675).

    r_0 = f(history)        r_k = f(history, ..., r_{k-1} + p_k),  k = 1..K          (eq. 2)

ERL averages all states and keeps them apart; PRL sharpens step after step and steadies each against noise.
Every position of a history is supervised, each with a chain of its own (`reasoning/chain.py`), in one pass. Weights of
the steps and the direction of ERL's gradient follow the authors' code, which differs from the text.

That is the authors' row a prefix, number by number, where positions count from the start: counted from the end, as they
are by default, a state tells how long its whole history is. The recipes `rearec-erl-authors` and `rearec-prl-authors`
have all of the authors' settings (`tests/conformance/test_authors.py` recomputes states, losses and gradients). What
else differs by default, each an option:
- scores and the contrast compare directions (`loss.cosine`), and one layer norms before its branches;
- PRL's contrast is off, and no two positions of a user or with one target are negatives (`contrast_negatives`);
- its noisy branch stands on the clean one's encoding, and so on its dropout (`contrast_rereads`);
- one step of each position is trained (`draw_step`), at one temperature, and no unit of a thought is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

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
from forethought.methods.configuration import MethodConfig, check_times
from forethought.methods.interface import DenseStates, Inputs, Losses, Method, Reasoning
from forethought.methods.items import ItemLoss, ItemTable
from forethought.methods.later_targets import soft_targets
from forethought.methods.outside import References, SideInformation
from forethought.reasoning.chain import (
    History,
    InitialStates,
    initial_states_at_end,
    initial_states_everywhere,
    reason,
    reason_with_noise,
)
from forethought.reasoning.contrast import info_nce_of_steps, same_user_or_target
from forethought.reasoning.diagnostics import Diagnostics, mean_cosine, of_trajectory
from forethought.reasoning.halting import Halting, HaltingPolicy, Rule, Trace, reason_until, softmax_stats
from forethought.reasoning.neighbour_prior import NeighbourPrior, PriorTargets
from forethought.reasoning.step_sampling import sample_steps
from forethought.settings import Epoch, Scale, SearchRange, Steps, Weight, asked_among, without_unread

Learning = Literal["erl", "prl"]
StepWeights = Literal["mean", "sum"]
Negatives = Literal["others", "all"]
OF_CONTRAST = "contrast_noise", "contrast_from", "contrast_steps", "contrast_negatives", "contrast_rereads"
OF_PRL = "step_weights", "progressive_weight", "temperature_scale", "contrast_weight", *OF_CONTRAST
OF_ERL = ("divergence_weight",)


def _unread(learning: object, contrast_weight: object) -> tuple[str, ...]:
    """Settings that would change nothing."""
    return OF_PRL if learning == "erl" else OF_ERL if contrast_weight else (*OF_ERL, *OF_CONTRAST)


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
    step_positions: bool = True
    """Each step's input has a learned vector added, p_k, which tells thoughts from items; without, a thought is fed in
    as it is (the paper's naive loop)."""
    reasoning_dropout: bool = False
    """Drop units inside reasoning tokens too, as ReaRec's authors do; each token then adds noise to the last."""
    draw_step: bool = True
    """Train one step of each position, drawn by its weight, in place of all: the same loss on average for a share of
    the products. ERL draws the step whose divergence counts."""
    step_weights: StepWeights = "mean"
    """PRL: the steps before the last weigh 1 together (mean, the authors' code) or 1 each (sum, the text)."""
    progressive_weight: Weight = 1.0
    """PRL: factor on the weights of the steps before the last (the authors' pl_weight)."""
    temperature_scale: Scale = 1.0
    """PRL's alpha: step k is trained at temperature tau * alpha^(K - k); 1 is the same for all."""
    divergence_weight: Annotated[Weight, SearchRange(0.005, 0.5, log=True)] = 0.05
    """ERL's lambda: how strongly the steps' predictions are pushed apart."""
    contrast_weight: Weight = 0.0
    """PRL: weight of the contrast of each step with its noisy twin (the authors' code: 1)."""
    contrast_noise: Weight = 0.01
    """gamma, standard deviation of the noise on a step's input."""
    contrast_from: Epoch = 2
    """Epochs before the contrast sets in."""
    contrast_steps: StepWeights = "mean"
    """The contrast is the mean over steps (the authors' code) or their sum (the text)."""
    contrast_negatives: Negatives = "others"
    """Of a position: those of other users with other targets (others), or all of the batch (all, the authors' code)."""
    contrast_rereads: bool = False
    """The noisy branch reads the history once more, with dropout of its own, as the authors' code does at twice the
    cost; otherwise it shares the encoding."""
    prior: NeighbourPrior = field(default_factory=NeighbourPrior)
    """PRL: draws what each step predicts to the neighbours of the history's last item (ManCAR)."""
    item_std: Scale = 0.02
    """Spread of the items' initial vectors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior.weight and self.learning != "prl":
            raise ConfigError(
                "The prior of neighbours speaks of what each step predicts, and ERL predicts with the mean of all: "
                "choose learning prl, or leave the prior out."
            )
        self._check_read()
        if self.loss.kind != "ce":
            raise ConfigError(f"ReaRec is trained with full cross-entropy, so its loss cannot be {self.loss.kind!r}.")

    def _check_read(self) -> None:
        asked = asked_among(self, _unread(self.learning, self.contrast_weight))
        if of_learning := [name for name in asked if self.learning == "erl" or name in OF_ERL]:
            other = "prl" if self.learning == "erl" else "erl"
            raise ConfigError(
                f"With learning {self.learning} {' and '.join(of_learning)} would change nothing: choose learning "
                f"{other}, or leave that out."
            )
        if asked:
            raise ConfigError(
                f"Without a contrast {' and '.join(asked)} would change nothing: give contrast_weight, or leave that "
                "out."
            )

    @classmethod
    def upgraded(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        weights = [values.get(name, getattr(cls, name)) for name in ("learning", "contrast_weight")]
        return without_unread(cls, values, _unread(*weights))

    def references(self) -> References:
        return References(neighbours=self.prior.neighbours if self.prior.weight else 0)

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
        self.step_embeddings = self._new_step_embeddings()
        self.window = config.backbone.window
        self.inputs = Inputs(times=self.backbone.needs_times, later_targets=config.prior.weight == 0)
        self.contrasting = False
        self.prior: PriorTargets | None = None  # while forethought.train trains it
        rules: tuple[Rule, ...] = ("fixed",)
        if config.learning == "prl":
            rules = ("fixed", "change", "entropy", "doubt", "consistency", "random")
        self.reasoning = Reasoning(config.steps, Halting(rule="fixed"), rules)

    def _new_step_embeddings(self) -> Tensor:
        """p_1 .. p_K, [K, D]; zeros that nothing trains where steps have no positions."""
        if self.config.step_positions:
            return nn.Parameter(torch.randn(self.config.steps, self.config.backbone.width) * 0.02)
        return nn.Buffer(torch.zeros(self.config.steps, self.config.backbone.width), persistent=False)

    def fit_side_information(self, side: SideInformation) -> None:
        super().fit_side_information(side)
        if side.near is not None:
            near = [torch.from_numpy(each).to(self.device) for each in (side.near.items_NK, side.near.values_NK)]
            self.prior = PriorTargets(self.config.prior, *near, steps=self.config.steps)

    def begin_epoch(self, epoch: int) -> None:
        self.contrasting = self.config.contrast_weight > 0 and epoch >= self.config.contrast_from

    def loss(self, batch: Batch) -> Losses:
        assert batch.targets_BL is not None
        initial_states = self._read(batch)
        chains = reason(self.backbone, initial_states, self.step_embeddings, dropout=self.config.reasoning_dropout)
        states = [state[initial_states.real_BP] for state in chains]  # K + 1 of [P, D], all positions of the batch
        targets_P = batch.targets_BL[batch.valid_BL()]
        losses = self._losses(initial_states, chains, states, targets_P, batch)
        return Losses(losses.total, losses.parts | {"mean_cosine": mean_cosine(states[0], states[-1]) / batch.weight})

    def diagnostics(self, figures: Mapping[str, float]) -> Diagnostics:
        return of_trajectory(figures["mean_cosine"])

    def _read(self, batch: Batch) -> InitialStates:
        """r_0 behind every position."""
        return initial_states_everywhere(
            self.backbone, self.items, History(batch.items_BL, batch.lengths_B, batch.times_BL)
        )

    def _losses(
        self, initial_states: InitialStates, chains: list[Tensor], states: list[Tensor], targets_P: Tensor, batch: Batch
    ) -> Losses:
        if self.config.learning == "erl":
            return self._erl(states, targets_P, batch)
        named = self._prl(states, targets_P, batch)
        if not self.contrasting:
            return Losses(named, {"loss": named.detach()})
        noise, dropout = self.config.contrast_noise, self.config.reasoning_dropout
        roots = self._read(batch) if self.config.contrast_rereads else initial_states
        noisy = reason_with_noise(self.backbone, roots, chains, self.step_embeddings, noise, dropout=dropout)
        contrast = self._contrast([n[roots.real_BP] for n in noisy], states[1:], targets_P, batch)
        total = named + self.config.contrast_weight * contrast
        return Losses(total, {"loss": total.detach(), "named": named.detach(), "contrast": contrast.detach()})

    def _prl(self, states: list[Tensor], targets_P: Tensor, batch: Batch) -> Tensor:
        """-sum_k w_k log yhat^(k)[v+], tau_k = tau alpha^(K - k) (eq. 5): 3 (K + 1) products, or 3 with `draw_step`.

        A prior adds -sum_k v_k sum_c q_k(c) log yhat^(k)[c] in the same products, v_k its weight over K + 1.
        """
        K, P, catalogue, weight = self.config.steps, len(targets_P), self.items.catalogue(), batch.weight
        early = self.config.progressive_weight * (1.0 if self.config.step_weights == "sum" else 1.0 / K)
        r_SPD = torch.stack(
            [catalogue.scaled(r, self.config.temperature_scale ** (K - k)) for k, r in enumerate(states)]
        )
        guided = 0.0 if self.prior is None else self.config.prior.weight / (K + 1)
        weights_S = r_SPD.new_tensor([early] * K + [1.0]) + guided
        weights_SP = weights_S[:, None].expand(-1, P) / weight
        of = sample_steps(weights_SP, draw=self.config.draw_step)
        soft = None
        if self.prior is not None:
            mixed_R1 = (guided / weights_S)[of.step_R, None]
            last_P = batch.items_BL[batch.valid_BL()]
            soft = self.prior.of(of.step_R, last_P[of.row_R], targets_P[of.row_R], mixed_R1)
        elif (later := soft_targets(batch)) is not None:
            soft = later.at(of.row_R)
        return losses.cross_entropy(
            r_SPD[of.step_R, of.row_R],
            catalogue,
            targets_P[of.row_R],
            weights_SP[of.step_R, of.row_R] * of.scale_R,
            smoothing=self.config.loss.smoothing,
            soft=soft,
        ) + 0 * sum(r.sum() for r in states)  # an empty share of a batch reaches every parameter

    def _erl(self, states: list[Tensor], targets_P: Tensor, batch: Batch) -> Losses:
        """CE of the mean state - lambda mean_{i != j} KL(p_j || p_i), p_i held still (eq. 4).

        3 products for the mean state, and 4 for each step j or, with `draw_step`, for one drawn.
        """
        K, P, catalogue, weight = self.config.steps, len(targets_P), self.items.catalogue(), batch.weight
        rows = torch.full((P,), 1.0 / weight, dtype=self.step_embeddings.dtype, device=self.step_embeddings.device)
        ensemble = catalogue.scaled(torch.stack(states).mean(0))
        smoothing, soft = self.config.loss.smoothing, soft_targets(batch)
        named = losses.cross_entropy(ensemble, catalogue, targets_P, rows, smoothing=smoothing, soft=soft)
        named = named + 0 * sum(r.sum() for r in states)  # an empty share of a batch reaches every parameter
        if not self.config.divergence_weight:
            return Losses(named, {"loss": named.detach()})
        r_SPD = catalogue.scaled(torch.stack(states))
        # sum_i KL(p_j || p_i) = sum_i (r_j - r_i).mean_j + lse_i - lse_j, and over all pairs no lse is left
        apart_SPD = (K + 1) * r_SPD - r_SPD.sum(0)
        of = sample_steps(r_SPD.new_ones(K + 1, P), draw=self.config.draw_step)
        readers_RD = apart_SPD[of.step_R, of.row_R] * of.scale_R[:, None]
        divergence = expectation(r_SPD[of.step_R, of.row_R], catalogue, readers_RD) / (K * (K + 1) * weight)
        total = named - self.config.divergence_weight * divergence
        return Losses(total, {"loss": total.detach(), "named": named.detach(), "divergence": divergence.detach()})

    def _contrast(self, noisy: list[Tensor], clean: list[Tensor], targets_P: Tensor, batch: Batch) -> Tensor:
        """-mean_k log exp(r~_k . r_k / tau) / sum_b' exp(r~_k . r_k^b' / tau) (eq. 7), or -sum_k.

        Positions of one user or with one target are no negatives of each other, unless all are.
        """
        alike = None
        if self.config.contrast_negatives == "others":
            assert batch.users_B is not None
            users_P = batch.users_B[:, None].expand_as(batch.items_BL)[batch.valid_BL()]
            alike = same_user_or_target(users_P, targets_P)
        twins, own = ([self.items.states(state) for state in states] for states in (noisy, clean))
        times = len(clean) if self.config.contrast_steps == "sum" else 1
        return times * info_nce_of_steps(twins, own, self.config.loss.temperature, alike).sum() / batch.weight

    def states_with_gradients(self, batch: Batch) -> Tensor:
        if self.config.learning == "erl":
            return self.user_states(batch).states_BD
        history = History(batch.items_BL, batch.lengths_B, batch.times_BL)
        initial_states = initial_states_at_end(self.backbone, self.items, history)
        return self.items.states(reason(self.backbone, initial_states, self.step_embeddings)[-1][:, 0])

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> DenseStates:
        halting = halting or Halting(rule="fixed")
        step_embeddings = self.step_embeddings[: halting.steps(self.config.steps)]
        initial_states = initial_states_at_end(
            self.backbone, self.items, History(batch.items_BL, batch.lengths_B, batch.times_BL)
        )
        if self.config.learning == "erl":
            states_BSD = torch.stack(
                [state[:, 0] for state in reason(self.backbone, initial_states, step_embeddings)], dim=1
            )
            traced = Trace.unread(states_BSD) if trace else None
            return DenseStates(
                torch.full_like(batch.lengths_B, len(step_embeddings)), self.items.states(states_BSD.mean(1)), traced
            )
        catalogue = self.items.catalogue()
        policy = HaltingPolicy(lambda r, *_: softmax_stats(catalogue.scaled(r), catalogue), catalogue)
        states_BD, steps_B, traced = reason_until(
            self.backbone, initial_states, step_embeddings, policy, halting, trace=trace
        )
        return DenseStates(steps_B, states_BD, traced)

    def catalogue(self) -> Catalogue:
        return self.items.catalogue()
