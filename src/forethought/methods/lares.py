"""LARES: a block of layers refines the states of all tokens, again and again (Liu et al., 2025, arXiv 2505.16865).

    H = A(E_u + P)        T_0 = omega z        T_i = C(LN(f(T_{i-1}, H))),  i = 1..k          (eqs. 1, 2)

Two stages. Supervised: cross-entropy of the last step, next to two alignments: of trajectories that lead to the same
item (TLA), and of a trajectory's end with one of its steps (SLA). Reinforcement: several thoughts about a history,
from other beginnings and of other depths, are rewarded by the rank they give to the target (GRPO).

Equation numbers are those of our summary of the paper and of its authors' code. Where we differ from both:
- Both blocks are causal, so every position is supervised at once, where they train on the last position of a row a
  prefix. With `count_from="start"` that is the same, number by number; counted from the end, as by default, a state
  tells how long its whole history is.
- The depth k is drawn once a batch (by each process for its share), and cross-entropy and both alignments look at one
  trajectory, so both sides of a TLA pair have the same k. The code thinks three times about a batch
  (`align_views="three"`): for the cross-entropy, for the one side of the pairs and for the other, each time with its
  own dropout, T_0 and k.
- A TLA pair is two positions of a batch (theirs: of the whole training part, paired once for all); a position whose
  target nobody shares is its own twin and is only told apart from the others. Positions of one user, or with one
  target, are no negatives (`align_negatives`).
- The step of SLA is drawn for each position among those before the last (`align_step`).
- The code has a norm behind item + position and none behind A and C (`embedding_norm`, `closing_norms`).
The recipe `lares-authors` has all of these as the code has them (`tests/conformance/test_authors.py` recomputes them).
In the reinforcement stage we differ with either:
- The reinforcement stage takes one position a history, at random, as a row of its own, without dropout: rollouts
  differ by T_0 and k alone, and with the same T_0 the reference agrees at the start to the last bit. A history
  weighs as much as it has positions, so the sum stands for a mean over all of them and over all processes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Self

import torch
from torch import Tensor, nn

from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import moments
from forethought.catalogue.ranking import rank_of
from forethought.data.batches import Batch
from forethought.data.interactions import DataSizes
from forethought.errors import ConfigError
from forethought.methods.configuration import MethodConfig
from forethought.methods.interface import DenseStates, Inputs, Losses, Method, Reasoning, Stage
from forethought.methods.items import ItemLoss, ItemTable
from forethought.methods.later_targets import soft_targets
from forethought.nn.dropout import Dropout
from forethought.nn.positions import CountFrom, Positions
from forethought.nn.transformer import NORM_EPSILON, Activation, Transformer, at_positions, initialise, last_positions
from forethought.reasoning.contrast import info_nce_both, positives
from forethought.reasoning.grpo import Reward, advantages, grpo, reward_of
from forethought.reasoning.halting import Halting, Trace
from forethought.reasoning.latent_rollouts import LatentPolicy
from forethought.reasoning.recurrence import Combine, Recurrence, StateInit, draw_depth, draw_start
from forethought.settings import (
    Between,
    Count,
    Epoch,
    Heads,
    Layers,
    Scale,
    SearchRange,
    Settings,
    ShareBelowOne,
    Steps,
    Weight,
    Width,
    Window,
)

AlignViews = Literal["one", "three"]
AlignStep = Literal["position", "batch"]
Negatives = Literal["others", "all"]

SUPERVISED, REINFORCED = "supervised", "reinforced"


@dataclass(frozen=True, kw_only=True)
class Reinforcement(Settings):
    """Configuration of the second stage."""

    epochs: Epoch = 5
    """At most; 0: there is no such stage."""
    rate: Scale = 0.1
    """Its learning rate, as a share of the training's (the authors' code: 1)."""
    rollouts: Annotated[int, Between(2, 1_000)] = 4
    """G, thoughts about each history, 2 at least."""
    kl_weight: Weight = 1.0
    """beta, pull towards the supervised model."""
    reward: Reward = "recall"
    """recall: 1 for a target within the first `top`; ndcg: 1 / log2(rank + 1) there."""
    top: Count = 10
    """How far down a list the reward reaches."""
    filter_top: Annotated[int, Between(0, 1_000_000_000)] = 100
    """Histories whose target the supervised model ranks below are dropped, the paper's filter; 0: none is."""


@dataclass(frozen=True, kw_only=True)
class LARES(MethodConfig):
    """Configuration: its own layers, of which the core is applied k times."""

    width: Width = 64
    """State width d, a multiple of `heads`."""
    pre_layers: Layers = 1
    """Layers of the pre-block A (the authors' code: 2)."""
    core_layers: Layers = 1
    """Layers of the core C (the authors' code: 2)."""
    heads: Heads = 2
    """Attention heads."""
    window: Window = 50
    """Longest history that is read; older items are cut."""
    ffn_width: Width = 256
    """Width inside the feed-forward nets."""
    dropout: Annotated[ShareBelowOne, SearchRange(0.0, 0.7)] = 0.35
    """Share of embedding and branch units dropped in supervised training, 0 to 1 (the authors' code: 0.5)."""
    attention_dropout: ShareBelowOne = 0.0
    """Share of attention weights dropped there (the authors' code: 0.5)."""
    activation: Activation = "gelu"
    """Of the feed-forward nets."""
    embedding_norm: bool = False
    """Norm the sum of item and position (the authors' code)."""
    closing_norms: bool = True
    """Norm what A and C come to (the authors' code does not)."""
    norm_epsilon: Scale = NORM_EPSILON
    """What every norm adds to the variance (the authors' code: 1e-12)."""
    count_from: CountFrom = "end"
    """Positions tell how recent an item is (end), or how many came before it (start); see `nn/positions.py`."""
    loss: ItemLoss = field(default_factory=ItemLoss)
    """Score and temperature of the items; full cross-entropy only."""
    combine: Combine = "add"
    """f: add, (T + H) / 2; concat, W [T; H] + b; linear, g T + (1 - g) H with one learned g."""
    state_scale: Scale = 0.3
    """omega, scale of the state that thinking begins with (the authors' code: 3)."""
    sigma: Scale = 1.0
    """Standard deviation of z, which is cut at three times that."""
    state_init: StateInit = "normal_zero"
    """T_0 is drawn in training and zero afterwards (normal_zero), or drawn always, so that results vary (normal)."""
    mean_recurrence: Steps = 3
    """m, steps of a trained model; in training k is 1 + m on average and 3 m at most."""
    trajectory_weight: Annotated[Weight, SearchRange(0.02, 1.0, log=True)] = 0.2
    """alpha, weight of TLA."""
    step_weight: Annotated[Weight, SearchRange(0.01, 1.0, log=True)] = 0.1
    """gamma, weight of SLA."""
    align_temperature: Scale = 0.1
    """Of both alignments, between states as they are held against items (the authors' code: plain dot products, 1)."""
    align_views: AlignViews = "one"
    """Trajectories of a batch: one for cross-entropy and alignments (one), or one for cross-entropy and one for each
    side of TLA's pairs, at three times the cost (three, the authors' code)."""
    align_step: AlignStep = "position"
    """SLA's step: one of those before the last for each position (position), or one of all for the batch, none if k is
    1 (batch, the authors' code)."""
    align_negatives: Negatives = "others"
    """In both alignments: positions of other users with other targets (others), or all (all, the authors' code)."""
    reinforcement: Reinforcement = field(default_factory=Reinforcement)
    """The second stage."""
    item_std: Scale = 0.02
    """Spread of the items' initial vectors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(f"LARES's width is {self.width}, but must be a multiple of its {self.heads} heads.")
        if self.loss.kind != "ce":
            raise ConfigError(f"LARES is trained with full cross-entropy, so its loss cannot be {self.loss.kind!r}.")

    def build(self, sizes: DataSizes) -> LARESModel:
        return LARESModel(self, sizes.n_items)


class LARESModel(Method):
    def __init__(self, config: LARES, n_items: int) -> None:
        super().__init__()
        self.config, self.window = config, config.window
        self.inputs = Inputs(later_targets=True)
        self.reasoning = Reasoning(config.mean_recurrence, Halting(rule="fixed"), ("fixed",))
        self.items = ItemTable(n_items, config.width, config.loss, config.item_std)
        self.positions = Positions(config.window, config.width, config.count_from)
        normed = config.embedding_norm
        self.embedding_norm = nn.LayerNorm(config.width, eps=config.norm_epsilon) if normed else nn.Identity()
        self.dropout = Dropout(config.dropout)
        self.pre = self._layers(config.pre_layers)
        core = self._layers(config.core_layers)
        self.recurrence = Recurrence(core, config.width, config.combine, norm_epsilon=config.norm_epsilon)
        for part in (self.pre, self.recurrence):
            initialise(part)
        self.stage = SUPERVISED
        self.reference: tuple[LARESModel, ...] = ()  # in a tuple, a model is no part of this one: it is not saved

    def _layers(self, layers: int) -> Transformer:
        config = self.config
        return Transformer(
            width=config.width,
            layers=layers,
            heads=config.heads,
            ffn_width=config.ffn_width,
            dropout=config.dropout,
            activation=config.activation,
            norm_first=True,
            causal=True,
            attention_dropout=config.attention_dropout,
            norm_epsilon=config.norm_epsilon,
            closing_norm=config.closing_norms,
        )

    def resolve_halting(self, asked: Halting | None) -> Halting | None:
        """Any depth will do: the core is the same at every step, and in training k is drawn."""
        if asked is None or asked.max_steps is None:
            return super().resolve_halting(asked)
        super().resolve_halting(replace(asked, max_steps=None))
        return asked

    def compile_encoder(self) -> None:
        for module in (self.pre, self.recurrence):
            module.compile(dynamic=True)

    # ---- stages

    def stages(self) -> tuple[Stage, ...]:
        settings = self.config.reinforcement
        supervised = Stage(name=SUPERVISED)
        if not settings.epochs:
            return (supervised,)
        return supervised, Stage(name=REINFORCED, epochs=settings.epochs, rate=settings.rate)

    def begin_stage(self, name: str) -> None:
        self.stage, self.reference = name, ()
        if name == REINFORCED:
            self.reference = (copy.deepcopy(self).eval().requires_grad_(False),)

    def train(self, mode: bool = True) -> Self:
        """No unit is dropped in the reinforcement stage."""
        return super().train(mode and self.stage != REINFORCED)

    def loss(self, batch: Batch) -> Losses:
        return self._reinforced(batch) if self.stage == REINFORCED else self._supervised(batch)

    # ---- supervised

    def _supervised(self, batch: Batch) -> Losses:
        """L_rec + alpha L_TLA + gamma L_SLA (eqs. 3 to 6): 3 products, and 6 of (positions x positions x width)."""
        assert batch.targets_BL is not None
        steps, targets_P = self._steps(batch), batch.targets_BL[batch.valid_BL()]
        weights_P = torch.full_like(targets_P, 1.0 / batch.weight, dtype=self.items.weight.dtype)
        named = self.items.loss_of(steps[-1], targets_P, weights_P, soft=soft_targets(batch))
        total, figures = named, {"named": named.detach()}
        for part, (weight, aligned) in self._aligned(batch, steps, targets_P).items():
            total, figures[part] = total + weight * aligned / batch.weight, aligned.detach() / batch.weight
        return Losses(total, {"loss": total.detach(), **figures})

    def _steps(self, batch: Batch) -> list[Tensor]:
        """T_1 .. T_k at all real positions, [P, D] each, with k, dropout and T_0 as they are drawn."""
        real_BL, k = batch.valid_BL(), draw_depth(self.config.mean_recurrence)
        H_BLD = self._read(batch)
        states = self.recurrence.trajectory(self._start(H_BLD), H_BLD, batch.lengths_B, k)
        return [state[real_BL] for state in states[1:]]

    def _aligned(self, batch: Batch, steps: list[Tensor], targets_P: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Weight and sum over positions of each alignment that counts."""
        alpha, gamma = self.config.trajectory_weight, self.config.step_weight
        aligned, users_P = {}, self._users(batch)
        own = self.config.align_views == "three" and bool(alpha or gamma)
        view = self._steps(batch) if own else steps
        if alpha:
            other_PD = self._steps(batch)[-1] if own else steps[-1]
            aligned["tla"] = alpha, self._align_trajectories(view, other_PD, targets_P, users_P)
        if gamma:
            aligned["sla"] = gamma, self._align_steps(view, targets_P, users_P)
        return aligned

    @staticmethod
    def _users(batch: Batch) -> Tensor:
        """Whose each real position is."""
        assert batch.users_B is not None
        return batch.users_B[:, None].expand_as(batch.items_BL)[batch.valid_BL()]

    def _alike(self, targets_P: Tensor, users_P: Tensor, others_P: Tensor) -> Tensor | None:
        """True for pairs that are no negatives of each other, [P, P], of positions and users of the other side."""
        if self.config.align_negatives == "all":
            return None
        return (targets_P[:, None] == targets_P) | (users_P[:, None] == others_P)

    def _align_trajectories(self, steps: list[Tensor], other_PD: Tensor, targets_P: Tensor, users_P: Tensor) -> Tensor:
        """TLA: the sum over positions of InfoNCE between T_k and that of another one with the same target (eq. 4)."""
        last_PD, other_PD = self.items.states(steps[-1]), self.items.states(other_PD)
        twin_P = positives(targets_P)
        alike_PP = self._alike(targets_P, users_P, users_P[twin_P])
        return info_nce_both(last_PD, other_PD[twin_P], self.config.align_temperature, alike_PP).sum()

    def _align_steps(self, steps: list[Tensor], targets_P: Tensor, users_P: Tensor) -> Tensor:
        """SLA: the same between T_k and one of the steps before it, drawn for each position (eq. 5); T_1 if k is 1.

        Or one of all steps, the same for all; then it is no loss if k is 1.
        """
        P, device = targets_P.shape, targets_P.device
        if self.config.align_step == "batch":
            if len(steps) == 1:
                return steps[-1].sum() * 0
            drawn_P = torch.randint(len(steps), (1,), device=device).expand(P)
        else:
            drawn_P = torch.randint(max(len(steps) - 1, 1), P, device=device)
        step_PD = torch.stack(steps)[drawn_P, torch.arange(len(drawn_P), device=drawn_P.device)]
        last_PD, step_PD = self.items.states(steps[-1]), self.items.states(step_PD)
        alike_PP = self._alike(targets_P, users_P, users_P)
        return info_nce_both(last_PD, step_PD, self.config.align_temperature, alike_PP).sum()

    # ---- reinforced

    def _reinforced(self, batch: Batch) -> Losses:
        """GRPO over G rollouts of one case a history (eqs. 8, 9).

        About 6 products of (cases x items x width) for each step of each rollout, one for each reward, one to filter.
        """
        settings, (reference,) = self.config.reinforcement, self.reference
        case, targets_B, weights_B = self._draw_cases(batch)
        if settings.filter_top:
            with torch.no_grad():
                kept_B = reference.rank_of(reference.user_states(case), targets_B) <= settings.filter_top
            case = Batch(case.items_BL[kept_B], case.lengths_B[kept_B])
            targets_B, weights_B = targets_B[kept_B], weights_B[kept_B]
        H_BLD, catalogue = self._read(case), self.catalogue()
        with torch.no_grad():
            H_ref_BLD, reference_catalogue = reference._read(case), reference.catalogue()
        thoughts, rewards = [], []
        for _ in range(settings.rollouts):
            k, start_BLD = draw_depth(self.config.mean_recurrence), self._start(H_BLD)
            states_TBD = self._last_steps(start_BLD, H_BLD, case.lengths_B, k)
            with torch.no_grad():  # the same T_0: at the start there is no divergence
                ref_TBD = reference._last_steps(start_BLD, H_ref_BLD, case.lengths_B, k)
                ref_TB = reference._log_p(ref_TBD, targets_B, reference_catalogue)
            thoughts.append((self._log_p(states_TBD, targets_B, catalogue), ref_TB))
            ranks_B = rank_of(catalogue.comparable(states_TBD[-1]), catalogue, targets_B)
            rewards.append(reward_of(ranks_B, settings.reward, settings.top).to(catalogue.vectors_ND.dtype))
        rewards_GB = torch.stack(rewards)
        each = [
            grpo(logp_TB, ref_TB, advantage_B, settings.kl_weight)
            for (logp_TB, ref_TB), advantage_B in zip(thoughts, advantages(rewards_GB), strict=True)
        ]
        loss_B, kl_B = (torch.stack(part).mean(0) for part in zip(*each, strict=True))
        total = (weights_B * loss_B).sum()
        parts = {"reward": rewards_GB.mean(0), "kl": kl_B, "kept": torch.ones_like(kl_B)}
        figures = {name: (weights_B * value).sum().detach() for name, value in parts.items()}
        return Losses(total, {"loss": total.detach(), **figures})

    def _draw_cases(self, batch: Batch) -> tuple[Batch, Tensor, Tensor]:
        """A random prefix of each row, the item that follows it, and the row's share of all positions."""
        assert batch.targets_BL is not None
        drawn_B = torch.rand(len(batch.lengths_B), device=batch.lengths_B.device)
        last_B = (drawn_B * batch.lengths_B).long().clamp_max(batch.lengths_B - 1)
        targets_B = batch.targets_BL.gather(1, last_B[:, None])[:, 0]
        shares_B = (batch.lengths_B / batch.weight).to(self.items.weight.dtype)
        return Batch(batch.items_BL, last_B + 1), targets_B, shares_B

    def _last_steps(self, start_BLD: Tensor, H_BLD: Tensor, lengths_B: Tensor, k: int) -> Tensor:
        """T_1 .. T_k behind each row's last position, [k, B, D]."""
        states = self.recurrence.trajectory(start_BLD, H_BLD, lengths_B, k)
        return torch.stack([at_positions(state, last_positions(lengths_B))[:, 0] for state in states[1:]])

    def _log_p(self, states_TBD: Tensor, targets_B: Tensor, catalogue: Catalogue) -> Tensor:
        """log p(target) after each step, [T, B]: 4 products, 2 without gradient."""
        r_TBD = catalogue.scaled(states_TBD)
        logits_TB = (r_TBD * catalogue.scaled_of(targets_B)).sum(-1)
        return logits_TB - moments(r_TBD.flatten(0, 1), catalogue).lse_P.view_as(logits_TB)

    def rl_policy(self) -> LatentPolicy:
        """The same trajectories for `alignment/`, beside this stage or in its place."""
        m = self.config.mean_recurrence
        return LatentPolicy(self, self._read, self._start, self.recurrence, m, self.catalogue)

    # ---- both, and inference

    def _read(self, batch: Batch) -> Tensor:
        """H = A(E_u + P), [B, L, D] (eq. 1)."""
        x_BLD = self.items(batch.items_BL) + self.positions(batch.lengths_B, batch.items_BL.shape[1])
        return self.pre(self.dropout(self.embedding_norm(x_BLD)), batch.lengths_B)[0]

    def _start(self, H_BLD: Tensor) -> Tensor:
        return draw_start(H_BLD, self.config.state_scale, self.config.sigma)

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> DenseStates:
        """k = m steps, or `halting.max_steps`, which may be more than were trained; the rule is always fixed depth."""
        k = self.config.mean_recurrence if halting is None or halting.max_steps is None else halting.max_steps
        if k < 1:
            raise ConfigError(f"LARES thinks one step at least, so max_steps cannot be {k}.")
        H_BLD, lengths_B = self._read(batch), batch.lengths_B
        now_BLD = torch.zeros_like(H_BLD) if self.config.state_init == "normal_zero" else self._start(H_BLD)
        kept = [at_positions(now_BLD, last_positions(lengths_B))]
        for step in range(1, k + 1):
            now_BLD = self.recurrence(now_BLD, H_BLD, lengths_B, last_only=step == k)
            kept.append(now_BLD if step == k else at_positions(now_BLD, last_positions(lengths_B)))
        traced = Trace.unread(torch.cat(kept, dim=1)) if trace else None
        return DenseStates(torch.full_like(lengths_B, k), self.items.states(kept[-1][:, 0]), traced)

    def catalogue(self) -> Catalogue:
        return self.items.catalogue()
