"""DTRec: reasoning that goes from coarse to fine and stops when it has converged (arXiv 2512.14036).

On ReaRec's chain (r_t = f(history, ..., r_{t-1} + p_t), eq. 1) it sets
- HPS: step t is also trained towards the distribution of a prototype, the centre of the target's cluster among k_t,
  and k_t rises with t (eqs. 3 to 6);
- ARH: a small net reads entropy, consistency and change of each step and says whether to stop (eqs. 7 to 10).

What the paper leaves open is an option here. Defaults were chosen on validation where a trial told them apart, and are
otherwise the commonest reading of the paper (docs/results/tuning-reasoning.md). Equation numbers are those of the
paper's summary as we count them (docs/methods.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

import torch
from torch import Tensor, nn

from forethought.backbones.all import AnyBackbone
from forethought.backbones.sasrec import SASRec
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import weighted_lse
from forethought.data.batches import Batch
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError, RunError
from forethought.methods.configuration import MethodConfig, check_times
from forethought.methods.interface import Centroids, DenseStates, Inputs, Losses, Method, Reasoning
from forethought.methods.items import ItemLoss, ItemTable
from forethought.methods.later_targets import soft_targets
from forethought.nn.transformer import last_positions
from forethought.reasoning.chain import (
    History,
    InitialStates,
    initial_states_at_end,
    initial_states_everywhere,
    reason,
    reason_with_noise,
    running_means,
)
from forethought.reasoning.contrast import info_nce_of_steps, same_user_or_target
from forethought.reasoning.diagnostics import (
    Diagnostics,
    mean_cosine,
    of_halting,
    of_prototypes,
    of_trajectory,
    together,
)
from forethought.reasoning.halting import (
    Halting,
    HaltingPolicy,
    Rule,
    SoftmaxStats,
    Trace,
    halting_weights,
    reason_until,
)
from forethought.reasoning.halting_head import HaltingHead, ponder, soft_steps
from forethought.reasoning.halting_rollouts import ExitPolicy, check_exits
from forethought.reasoning.indicator_stats import IndicatorStats
from forethought.reasoning.prototype_targets import PrototypeChoice, prototype_targets
from forethought.reasoning.prototypes import Prototypes, cluster_counts
from forethought.reasoning.readouts import Readout
from forethought.reasoning.spread import Spread
from forethought.reasoning.step_sampling import sample_steps
from forethought.settings import Between, Epoch, Scale, SearchRange, Steps, Weight, Width, asked_among, without_unread

Supervision = Literal["dynamic", "fixed", "none"]
IndicatorSource = Literal["coarse", "refined", "fine", "exact"]
HaltingInputs = Literal["pooled", "per_step"]
Clusters = Annotated[int, Between(2, 1_000_000)]
OF_CONTRAST = "contrast_noise", "contrast_from"
OF_PROTOTYPES = "prototype_weight", "warmup_epochs", "prototype_temperature", "prototype_choice"
OF_CLUSTERS = "first_clusters", "most_clusters", "cluster_speed"


@dataclass(frozen=True, kw_only=True)
class DTRec(MethodConfig):
    """Configuration: a backbone that thinks T steps at most."""

    backbone: AnyBackbone = field(default_factory=lambda: SASRec(input_norm=True))
    """The encoder of histories, and of thoughts."""
    loss: ItemLoss = field(default_factory=ItemLoss)
    """Score and temperature tau; full cross-entropy only."""
    max_steps: Steps = 3
    """T, reasoning steps at most."""
    reasoning_dropout: bool = False
    """Drop units inside the reasoning tokens too, as ReaRec's authors do; each token then adds noise to the last."""
    readout: Readout = "mean"
    """What recommends after a step. last: its state, as equations 2, 6 and 7 have it. weighted: the scores of all
    steps taken, by when the halting net would have stopped (the paper's "weighted prediction"); trained as last. mean:
    the plain mean of all states so far, in training, supervision and indicators too."""
    supervision: Supervision = "dynamic"
    """HPS: k_t rises from step to step (dynamic), is the finest at every step (fixed), or there is none."""
    first_clusters: Clusters = 32
    """k_0, prototypes of the first step."""
    most_clusters: Clusters = 1024
    """k_upper, what the number of prototypes approaches."""
    cluster_speed: Scale = 1.0
    """alpha > 0, how fast it does so."""
    prototype_weight: Annotated[Weight, SearchRange(0.01, 1.0, log=True)] = 0.1
    """lambda_p, weight of the prototype loss once warm."""
    warmup_epochs: Epoch = 10
    """Epochs in which that weight rises from 0; 0: full from the start."""
    prototype_temperature: Scale = 1.0
    """tau_p in units of tau."""
    prototype_choice: PrototypeChoice = "target"
    """Which prototype a step is trained towards: that of the target's cluster (target), or the one whose centre is
    nearest to the state (nearest), which knows nothing of the target and confirms what the state says already."""
    temperature_scale: Scale = 1.0
    """alpha_T of ReaRec: step t predicts at temperature tau * alpha_T^(T - t), in losses and indicators; 1 is the same
    for all."""
    contrast_weight: Weight = 0.0
    """Weight of ReaRec's contrast of each step with its noisy twin (L_RCL); 0: none."""
    contrast_noise: Weight = 0.01
    """Standard deviation of the noise on a twin's input."""
    contrast_from: Epoch = 2
    """Epochs before the contrast sets in."""
    base_weight: Weight = 1.0
    """c_0, weight of the plain mean over steps 0..T, so that steps nobody stops at still learn."""
    draw_step: bool = True
    """Train one step of each position, drawn by its weight in the loss, in place of all: the same loss on average for
    3 products, not 3 (T + 1)."""
    indicator_source: IndicatorSource = "coarse"
    """What the indicators are of: the first step's prototypes (coarse; costs far less than a token), the same clusters,
    how items spread in them, and the history's last item (refined; close to exact, at twice that cost), the last step's
    prototypes (fine), or the whole catalogue (exact). Two products over them a step."""
    indicator_clusters: Clusters | None = None
    """Prototypes made for coarse or refined indicators alone, which then see the same however k_0 and k_upper are set;
    None: those of the first step."""
    halting: Halting = field(default_factory=lambda: Halting(threshold=0.3))
    """When a row stops; threshold is delta."""
    halting_width: Width = 16
    """Hidden units of the halting net."""
    halting_inputs: HaltingInputs = "pooled"
    """How the halting net's indicators are standardised: by the same means and variances at all steps (pooled), or by
    those of each step (per_step), so that it reads how a row stands among others at the same step."""
    ponder_weight: Weight = 0.0
    """beta, pull of the halting weights towards a geometric distribution; 0: none (the paper names none)."""
    ponder_rate: Annotated[float, Between(0, 1, above=True, below=True)] = 0.5
    """Stopping probability of that distribution, above 0 and below 1."""
    item_std: Scale = 0.02
    """Spread of the items' initial vectors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss.kind != "ce" or self.loss.smoothing:
            raise ConfigError("DTRec is trained with plain full cross-entropy: its loss must be ce without smoothing.")
        if self.indicator_clusters is not None and self.indicator_source not in ("coarse", "refined"):
            raise ConfigError(
                f"Indicators that are {self.indicator_source} look at no prototypes of their own: leave "
                "indicator_clusters out, or choose a coarse or refined indicator_source."
            )
        for without, give, names in _unread(self.__dict__):
            if asked := asked_among(self, names):
                raise ConfigError(
                    f"{without} {' and '.join(asked)} would change nothing: give {give}, or leave that out."
                )
        self.halting.steps(self.max_steps)
        if self.halting_inputs == "per_step" and self.max_steps == self.halting.min_steps:
            raise ConfigError(
                "With a single step there is nothing to decide, so halting_inputs would change nothing: give max_steps "
                "above 1, or leave that out."
            )

    @classmethod
    def upgraded(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return without_unread(cls, values, [name for *_, names in _unread(values) for name in names])

    def build(self, sizes: DataSizes) -> DTRecModel:
        return DTRecModel(self, sizes.n_items)

    def check(self, split: Split) -> None:
        check_times(self.backbone, split)


def _unread(values: Mapping[str, Any]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Settings that nothing reads with these values: without what, what would have them read, and their names."""

    def value(name: str) -> Any:
        return values.get(name, getattr(DTRec, name))

    unread: list[tuple[str, str, tuple[str, ...]]] = []
    if not value("contrast_weight"):
        unread.append(("Without a contrast", "contrast_weight", OF_CONTRAST))
    if not value("ponder_weight"):
        unread.append(("Without a pull of the halting weights", "ponder_weight", ("ponder_rate",)))
    if value("supervision") == "none":
        unread.append(("Without supervision by prototypes", "supervision dynamic or fixed", OF_PROTOTYPES))
        if value("indicator_source") == "exact":
            unread.append(("Without prototypes", "a coarse indicator_source, or supervision", OF_CLUSTERS))
    elif not value("prototype_weight"):
        unread.append(("Without a loss of prototypes", "prototype_weight", OF_PROTOTYPES[1:]))
    return unread


class DTRecModel(Method):
    def __init__(self, config: DTRec, n_items: int) -> None:
        super().__init__()
        self.config = config
        width, T = config.backbone.width, config.max_steps
        self.items = ItemTable(n_items, width, config.loss, config.item_std)
        self.backbone = config.backbone.build()
        self.step_embeddings = nn.Parameter(torch.randn(T, width) * 0.02)  # p_1 .. p_T
        self.head = HaltingHead(config.halting_width, T if config.halting_inputs == "per_step" else None)
        counts = cluster_counts(config.first_clusters, config.most_clusters, config.cluster_speed, T, n_items)
        if config.supervision == "fixed":
            counts = [max(counts)] * T
        if config.indicator_clusters is not None:
            counts.append(min(max(config.indicator_clusters, 2), n_items))
        vector = width + config.loss.bias
        self.prototypes = Prototypes(counts, n_items, vector, unit=config.loss.cosine and not config.loss.bias)
        # the level that indicators look at: behind those of the steps where it is made for them alone
        self.look = T if config.indicator_clusters is not None else T - 1 if config.indicator_source == "fine" else 0
        self.spread = Spread(counts[self.look], n_items, vector) if config.indicator_source == "refined" else None
        self.window = config.backbone.window
        self.inputs = Inputs(times=self.backbone.needs_times, later_targets=True)
        self.prototype_weight, self.contrasting = 0.0, False
        self.reasoning = Reasoning(T, config.halting, get_args(Rule))

    @property
    def uses_prototypes(self) -> bool:
        return self.config.supervision != "none" or self.config.indicator_source != "exact"

    @property
    def indicator_stats(self) -> IndicatorStats:
        return IndicatorStats(self.prototypes, self.look, self.spread, self.config.indicator_source == "exact")

    def begin_epoch(self, epoch: int) -> None:
        """Cluster the items anew, and warm the prototype loss up: lambda(e) = lambda_p min(1, e / 10) (eq. 11)."""
        warm = min(1.0, epoch / self.config.warmup_epochs) if self.config.warmup_epochs else 1.0
        self.prototype_weight = 0.0 if self.config.supervision == "none" else self.config.prototype_weight * warm
        self.contrasting = self.config.contrast_weight > 0 and epoch >= self.config.contrast_from
        if self.uses_prototypes:
            self.prototypes.make(self.catalogue(), epoch)
        if self.spread is not None:
            self.spread.make(self.catalogue(), self.prototypes.cluster_TN[self.look], epoch)

    # ---- training

    def loss(self, batch: Batch) -> Losses:
        """L = mean sum_t w_t CE_t + c_0 mean_t CE_t + lambda(e) mean_t softCE_t (eqs. 9 to 12), and L_RCL if asked for.

        Every cross-entropy is lse - r.m, so all of them share one walk over the items: 3 (T + 1) products, or 3 with
        `draw_step`. Looks take 2 (T + 1) of (positions x prototypes x width); exact ones 2 (T + 1) whole products,
        half of which serve the losses again where no step is drawn. HPS takes 4 of (clusters in the batch x items x
        width) a level.
        """
        assert batch.targets_BL is not None
        history = History(batch.items_BL, batch.lengths_B, batch.times_BL)
        initial_states = initial_states_everywhere(self.backbone, self.items, history)
        chains = reason(self.backbone, initial_states, self.step_embeddings, dropout=self.config.reasoning_dropout)
        thoughts = states = [state[initial_states.real_BP] for state in chains]
        alike = mean_cosine(states[1], states[-1]) / batch.weight
        if self.config.readout == "mean":
            states = running_means(states)
        targets_P = batch.targets_BL[batch.valid_BL()]
        catalogue = self.catalogue()
        r_SPD = torch.stack([self._scaled(state, t, catalogue) for t, state in enumerate(states)])
        last_P, gradients = batch.items_BL[batch.valid_BL()], not self.config.draw_step
        stats, lse_SP = self.indicator_stats.of_steps(r_SPD, last_P, catalogue, gradients=gradients)

        T, lambda_, first = self.config.max_steps, self.prototype_weight, self.config.halting.min_steps
        w_PT = halting_weights(self.head, stats, states, len(catalogue), first)
        hard_SP = (nn.functional.pad(w_PT.T, (0, 0, first, 0)) + self.config.base_weight / (T + 1)) / batch.weight
        soft_S = catalogue.vectors_ND.new_tensor([0.0] + [lambda_ / T / batch.weight] * T)
        of = sample_steps(hard_SP + soft_S[:, None], draw=self.config.draw_step)
        r_RD, hard_R, soft_R = r_SPD[of.step_R, of.row_R], hard_SP[of.step_R, of.row_R], soft_S[of.step_R]
        hard_R, soft_R = hard_R * of.scale_R, soft_R * of.scale_R
        target_RD = catalogue.scaled_of(targets_P[of.row_R])
        if (later := soft_targets(batch)) is not None:
            later = later.at(of.row_R)
            target_RD = later.mixed(target_RD, later.moment(catalogue))
        towards = (hard_R * (r_RD * target_RD).sum(-1)).sum()
        if lambda_:
            choice, temperature = self.config.prototype_choice, self.config.prototype_temperature
            m_RD = prototype_targets(
                self.prototypes, of, states, targets_P, catalogue, choice=choice, temperature=temperature
            )
            towards = towards + (soft_R * (r_RD * m_RD).sum(-1)).sum()
        if lse_SP is None or self.config.draw_step:
            lse, lse_R = weighted_lse(r_RD, catalogue, hard_R + soft_R)
        else:
            lse_R = lse_SP.flatten()
            lse = ((hard_R + soft_R) * lse_R).sum()
        total = lse - towards + self.config.ponder_weight * ponder(w_PT, self.config.ponder_rate) / batch.weight
        ce_R = (lse_R - (r_RD * target_RD).sum(-1)).detach() * of.scale_R / batch.weight
        figures = {
            "loss": total.detach(),
            "ce_first": ce_R[of.step_R == 0].sum(),
            "ce_last": ce_R[of.step_R == T].sum(),
        }
        figures |= soft_steps(w_PT, first, batch.weight) | {"mean_cosine": alike}
        if self.contrasting:
            contrast = self._contrast(initial_states, chains, thoughts, targets_P, batch)
            total = total + self.config.contrast_weight * contrast
            figures |= {"loss": total.detach(), "contrast": contrast.detach()}
        return Losses(total, figures)

    def diagnostics(self, figures: Mapping[str, float]) -> Diagnostics:
        """Flat trajectories, halting without a choice, prototypes that are one or do not sharpen."""
        diagnostics = of_halting(figures, self.config.halting, self.config.max_steps)
        warming = self.prototype_weight == 0 < self.config.prototype_weight and self.config.supervision != "none"
        if self.config.max_steps > 1 and not warming:  # what would make the steps differ is not switched on yet
            diagnostics = together(diagnostics, of_trajectory(figures["mean_cosine"]))
        if self.config.supervision == "none":
            return diagnostics
        scale, levels = self.config.prototype_temperature, self.config.max_steps
        of = of_prototypes(self.prototypes, self.catalogue(), scale, levels)
        if self.config.supervision == "fixed":
            of.warnings.clear()  # all levels are alike on purpose
        return together(diagnostics, of, Diagnostics({"prototype_weight": self.prototype_weight}))

    def _scaled(self, state: Tensor, step: int, catalogue: Catalogue) -> Tensor:
        """A step's state, scaled at its own temperature tau_t."""
        return catalogue.scaled(state, self.config.temperature_scale ** (self.config.max_steps - step))

    def _contrast(
        self, roots: InitialStates, chains: list[Tensor], thoughts: list[Tensor], targets_P: Tensor, batch: Batch
    ) -> Tensor:
        """L_RCL: a thought is told by its noisy twin from those of other users with other targets (ReaRec's eq. 7)."""
        assert batch.users_B is not None
        noise, dropout = self.config.contrast_noise, self.config.reasoning_dropout
        noisy = reason_with_noise(self.backbone, roots, chains, self.step_embeddings, noise, dropout=dropout)
        users_P = batch.users_B[:, None].expand_as(batch.items_BL)[batch.valid_BL()]
        twins, own = (
            [self.items.states(state) for state in each]
            for each in ([state[roots.real_BP] for state in noisy], thoughts[1:])
        )
        ignored_PP = same_user_or_target(users_P, targets_P)
        return info_nce_of_steps(twins, own, self.config.loss.temperature, ignored_PP).sum() / batch.weight

    # ---- inference

    def states_with_gradients(self, batch: Batch) -> Tensor:
        history = History(batch.items_BL, batch.lengths_B, batch.times_BL)
        initial_states = initial_states_at_end(self.backbone, self.items, history)
        states = reason(self.backbone, initial_states, self.step_embeddings)
        read = running_means(states) if self.config.readout == "mean" else states  # weights are no part of training
        return self.items.states(read[-1][:, 0])

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> DenseStates:
        halting = halting or self.config.halting
        step_embeddings = self.step_embeddings[: halting.steps(self.config.max_steps)]
        history, readout = History(batch.items_BL, batch.lengths_B, batch.times_BL), self.config.readout
        initial_states = initial_states_at_end(self.backbone, self.items, history)
        policy = self.policy(batch.items_BL.gather(1, last_positions(batch.lengths_B))[:, 0])
        states_BD, steps_B, traced = reason_until(
            self.backbone, initial_states, step_embeddings, policy, halting, readout=readout, trace=trace
        )
        return DenseStates(steps_B, states_BD, traced)

    def rl_policy(self) -> ExitPolicy:
        """When to stop, for `alignment/`: the halting net alone is trained.

        Raises:
            ConfigError: with a single step there is nothing to choose, or something else than the net decides.
        """
        check_exits(self.config.halting, self.config.max_steps, self.config.readout)

        def traced(batch: Batch) -> Trace:
            trace = self.user_states(batch, trace=True).trace
            assert trace is not None
            return trace

        return ExitPolicy(self.head, traced, self.catalogue)

    def policy(self, last_B: Tensor) -> HaltingPolicy:
        """How rows halt whose histories end with these items."""
        catalogue, exact = self.items.catalogue(held_back=False), self.config.indicator_source == "exact"

        def stats_of(states_PD: Tensor, step: int, rows_P: Tensor) -> SoftmaxStats:
            if not exact and not torch.compiler.is_exporting() and int(self.prototypes.made_in) < 0:
                raise RunError(
                    "This DTRec looks at prototypes to see when it may stop, and has none before its training begins: "
                    "train it, or load a run of it."
                )
            return self.indicator_stats(self._scaled(states_PD, step, catalogue), last_B[rows_P], catalogue)

        return HaltingPolicy(stats_of, catalogue, self.head)

    def centroids(self, step: int) -> Centroids | None:
        """The prototypes that step t >= 1 was trained towards, those of level t."""
        if step == 0 or int(self.prototypes.made_in) < 0:
            return None
        centres, sizes = self.prototypes.level(step - 1)
        width = self.items.weight.shape[1]  # a bias is one more column of a prototype
        return Centroids("prototype", centres[:, :width], sizes, self.prototypes.cluster_TN[step - 1])

    def catalogue(self) -> Catalogue:
        return self.items.catalogue()

    def join_items(self, first: int) -> None:
        self.prototypes.join(self.items.catalogue(held_back=False), first)
        if self.spread is not None:
            self.spread.join(self.prototypes.cluster_TN[self.look], first)
