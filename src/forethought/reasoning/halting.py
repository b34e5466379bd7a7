"""When to stop thinking: indicators of convergence, the rules that read them, and the loop that obeys.

Adaptive Reasoning Halting is DTRec's (arXiv 2512.14036, section 3.2): a small net reads how sure a state is, how far
its prediction moved and how far the state itself moved. Other rules are here to be compared with it. Rows that have
halted leave the batch, keys and values included.

Shapes: P rows, D width, T steps, N items (or prototypes that stand for them).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor

from forethought.backbones.interface import Backbone
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import moments
from forethought.errors import ConfigError
from forethought.reasoning.chain import InitialStates
from forethought.reasoning.halting_head import INDICATORS, HaltingHead, soft_weights
from forethought.reasoning.indicator_noise import IndicatorNoise
from forethought.reasoning.readouts import OwnStates, Readout, WeightedStates
from forethought.settings import Between, Number, Settings

Rule = Literal["arh", "soft", "fixed", "change", "entropy", "doubt", "consistency", "random"]
READS: dict[str, str] = {"change": "change", "entropy": "entropy", "doubt": "entropy", "consistency": "consistency"}
"""The indicator that a rule compares with its threshold."""
ABOVE = ("arh", "doubt")
"""Rules that stop a row above their threshold; others do below."""
KL_CAP = 5.0  # nats; consistency is cut there and divided by it


@dataclass(frozen=True, kw_only=True)
class Halting(Settings):
    """When a row stops; can be chosen anew for a trained model."""

    rule: Rule = "arh"
    """arh: the halting net is over the threshold; soft: all steps, weighted as in training; fixed: all steps;
    change, entropy, consistency (how far the prediction moved): that indicator is below the threshold; doubt: the
    entropy is above it, as of rows that no step is expected to help; random: with the threshold as probability."""
    threshold: Number = 0.5
    """delta, at each step from the first on; the last step always ends."""
    min_steps: Annotated[int, Between(0, 1)] = 1
    """Steps at least: 1, or 0, so that a row may stop before it takes any. What compares a step with the one before is
    then unknown: rules that read it go on, and the halting net reads its running mean."""
    max_steps: Annotated[int, Between(0, 100)] | None = None
    """Steps at most; None: as many as were trained."""
    noise: IndicatorNoise = field(default_factory=IndicatorNoise)
    """How wrongly the indicators are read, to see what a rule can bear."""

    @classmethod
    def upgraded(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stored settings as they are called now: noise was once a number, in each indicator's raw unit.

        Raises:
            ConfigError: that number is not 0; what it comes to in deviations nobody knows.
        """
        old = values.get("noise")
        if isinstance(old, bool) or not isinstance(old, int | float):
            return values
        if old:
            raise ConfigError(
                f"Halting's noise is {old:g}, in raw units as it was once told; now it is an object with std, bias and "
                "scale in standard deviations: set it to 0, and measure noise anew."
            )
        return {name: value for name, value in values.items() if name != "noise"}

    def as_told(self) -> dict[str, Any]:
        """What an evaluation says of it; what is as it always was is left out."""
        usual = {"min_steps": 1, "noise": asdict(IndicatorNoise())}
        return {name: value for name, value in asdict(self).items() if name not in usual or value != usual[name]}

    def steps(self, trained: int) -> int:
        """How many steps to take at most, of those that were trained.

        Raises:
            ConfigError: more than were trained.
        """
        if self.max_steps is not None and self.max_steps > trained:
            raise ConfigError(
                f"The model was trained to think {trained} steps and cannot take {self.max_steps}: choose fewer."
            )
        return trained if self.max_steps is None else self.max_steps


class SoftmaxStats(NamedTuple):
    """States held against the catalogue: their scaled form, and the two moments of its softmax."""

    states_PD: Tensor
    lse_P: Tensor
    mean_PD: Tensor

    def select(self, rows: Tensor) -> SoftmaxStats:
        return SoftmaxStats(self.states_PD[rows], self.lse_P[rows], self.mean_PD[rows])


@torch.no_grad()
def softmax_stats(states_PD: Tensor, catalogue: Catalogue, sizes_N: Tensor | None = None) -> SoftmaxStats:
    """Two products, over all items or over prototypes.

    Args:
        states_PD: scaled.
        catalogue: of items, or of prototypes that stand for them.
        sizes_N: how many items each prototype stands for. A multiplicity is log n more in the lse, and no part
            of the score, so entropy stays that of a distribution over items.
    """
    if sizes_N is None:
        return SoftmaxStats(states_PD, *moments(states_PD, catalogue))
    vectors_ND = catalogue.whole("Counting items by prototypes").scaled_ND
    if not torch.compiler.is_exporting():  # which holds those alone that stand for some
        vectors_ND, sizes_N = vectors_ND[sizes_N > 0], sizes_N[sizes_N > 0]
    counted = Catalogue(vectors_ND, bias_N=sizes_N.to(vectors_ND.dtype).log())
    of = moments(counted.scaled(states_PD), counted)
    return SoftmaxStats(states_PD, of.lse_P, of.mean_PD[:, :-1])


@torch.no_grad()
def indicators(before: SoftmaxStats, now: SoftmaxStats, change_P: Tensor, n_items: int, width: int) -> Tensor:
    """[Ent_t / ln N, min(Cons_t, 5) / 5, Delta_t / sqrt(d)], [P, 3] (eq. 7; scales: the spec's section 3).

    Ent = lse - r.mean; Cons = KL(before || now) = (r' - r).mean' - lse' + lse; Delta = ||r_t - r_{t-1}||.
    No product beyond those of the looks.
    """
    entropy = now.lse_P - (now.states_PD * now.mean_PD).sum(-1)
    kl = ((before.states_PD - now.states_PD) * before.mean_PD).sum(-1) - before.lse_P + now.lse_P
    scaled = (entropy / math.log(max(n_items, 2)), kl.clamp(0.0, KL_CAP) / KL_CAP, change_P / math.sqrt(width))
    return torch.stack(scaled, dim=-1).to(change_P.dtype)


def halting_weights(
    head: HaltingHead, stats: Sequence[SoftmaxStats], states: Sequence[Tensor], n_items: int, first: int
) -> Tensor:
    """w_t in training, from p_halt of each step's indicators, which carry no gradient into the states (eqs. 7 to 9).

    Args:
        stats: of r_0 .. r_T, without gradients.
        states: r_0 .. r_T, [P, D] each.
        first: the step after which a row may first stop, 0 or 1.

    Returns:
        [P, T], or [P, T + 1] where `first` is 0.
    """
    states, width = [state.detach() for state in states], states[0].shape[-1]
    features = [
        indicators(stats[t - 1], stats[t], (states[t] - states[t - 1]).norm(dim=-1), n_items, width)
        for t in range(1, len(states))
    ]
    halts_PT = head(torch.stack(features, dim=1))
    if first and not head.per_step:
        return soft_weights(halts_PT)
    start_P = head.at_start(HaltingPolicy.at_start(stats[0], states[0], n_items))  # seen, lest it be asked there later
    return soft_weights(halts_PT if first else torch.cat([start_P[:, None], halts_PT], dim=1))


class Trace(NamedTuple):
    """Every step of every row, those after its exit included.

    Attributes:
        states_PSD: r_0 .. r_T, [P, T + 1, D].
        indicators_PT3: as the halting net reads them, of the steps from `first` on; NaN where the rule reads none.
        halts_PT: p_halt of the same steps, NaN where there is no net.
    """

    states_PSD: Tensor
    indicators_PT3: Tensor
    halts_PT: Tensor

    @property
    def first(self) -> int:
        """The first step after which a row could stop: 1, or 0 where it may stop before it takes any."""
        return self.states_PSD.shape[1] - self.indicators_PT3.shape[1]

    @classmethod
    def unread(cls, states_PSD: Tensor) -> Trace:
        """Of a method of fixed depth: of the indicators only the change is known, and there is no halting net."""
        change_PT = states_PSD.diff(dim=1).norm(dim=-1) / math.sqrt(states_PSD.shape[-1])
        none_PT = torch.full_like(change_PT, torch.nan)
        return cls(states_PSD, torch.stack([none_PT, none_PT, change_PT], dim=-1), none_PT)


@dataclass
class HaltingPolicy:
    """What a method gives the loop to decide with.

    Attributes:
        stats_of: raw states [P, D], their step, and which rows of the batch they are of, int64 [P] -> their softmax
            statistics; costs two products over what is looked at.
        catalogue: the items, looked at or stood for.
        head: p_halt from indicators.
    """

    stats_of: Callable[[Tensor, int, Tensor], SoftmaxStats]
    catalogue: Catalogue
    head: HaltingHead | None = None

    def needs_stats(self, halting: Halting) -> bool:
        return halting.rule in ("arh", "soft", "entropy", "doubt", "consistency")

    def read(
        self,
        before: Tensor,
        now: Tensor,
        stats_before: SoftmaxStats | None,
        stats: SoftmaxStats | None,
        noise: IndicatorNoise,
        step: int,
    ) -> Tensor:
        """Indicators [P, 3] of one step."""
        change = (now - before).norm(dim=-1)
        if stats_before is None or stats is None:
            none = torch.full_like(change, torch.nan)
            features = torch.stack([none, none, change / math.sqrt(now.shape[-1])], dim=-1)
        else:
            features = indicators(stats_before, stats, change, len(self.catalogue), now.shape[-1])
        return self._misread(features, noise, step)

    def read_start(self, now: Tensor, stats: SoftmaxStats | None, noise: IndicatorNoise) -> Tensor:
        """Indicators [P, 3] before the first step: nothing is known but the entropy."""
        return self._misread(self.at_start(stats, now, len(self.catalogue)), noise, 0)

    @staticmethod
    def at_start(stats: SoftmaxStats | None, now: Tensor, n_items: int) -> Tensor:
        """Indicators [P, 3] of states that no step led to: the entropy, the others unknown (NaN)."""
        none = torch.full_like(now[:, 0], torch.nan)
        known = none if stats is None else indicators(stats, stats, none, n_items, now.shape[-1])[:, 0]
        return torch.stack([known, none, none], dim=-1)

    def _misread(self, features: Tensor, noise: IndicatorNoise, step: int) -> Tensor:
        if self.head is None or noise.silent:
            return features
        return noise.applied(features, *self.head.usual(step))

    def halt(self, halting: Halting, features: Tensor, looked: bool, step: int) -> tuple[Tensor, Tensor]:
        """p_halt (NaN without a net, or where nobody looked), and which rows stop after this step."""
        rule, none = halting.rule, torch.full_like(features[:, 0], torch.nan)
        if self.head is None or not looked:
            halts = none
        else:
            halts = self.head(features[:, None], step)[:, 0] if step else self.head.at_start(features)
        if rule == "arh":
            return halts, halts > halting.threshold
        if rule == "random":
            return halts, torch.rand_like(none) < halting.threshold
        if rule in READS:
            value = features[:, INDICATORS.index(READS[rule])]
            return halts, value > halting.threshold if rule in ABOVE else value < halting.threshold
        return halts, torch.zeros_like(none, dtype=torch.bool)


def _kept(of_all: Tensor, now: Tensor, live: Tensor, going: Tensor) -> Tensor:
    """What all rows have, renewed for those that still go on; in place, except in a program that is exported."""
    if torch.compiler.is_exporting():
        return torch.where(going.view(-1, *(1 for _ in now.shape[1:])), now, of_all)
    of_all[live[going]] = now[going]
    return of_all


@torch.no_grad()
def reason_until(
    backbone: Backbone,
    initial_states: InitialStates,
    step_embeddings_TD: Tensor,
    policy: HaltingPolicy,
    halting: Halting,
    *,
    readout: Readout = "last",
    trace: bool = False,
) -> tuple[Tensor, Tensor, Trace | None]:
    """Think behind one position a row until each row halts.

    Rows that halted leave the batch; with `trace` they stay, so that one sees what they would have thought. In a
    program that is exported they stay too, as its shapes cannot depend on numbers, and keep what they halted with.
    With `rule="soft"` the final state is the mean of the steps' states under `soft_weights`: their scores mixed.

    Args:
        readout: what is returned: the last state; the mean of all states so far, which is judged too; or the mean of
            the scores of all steps taken, weighted by when the halting net would have stopped.

    Returns:
        Final states [B, D] as ranking wants them, steps used int64 [B], and the trace, of raw states.
    """
    mean, weighted = readout == "mean", readout == "weighted"
    _check_head(policy, halting, weighted)
    state, chain = initial_states.states_BPD[:, 0], initial_states.chain
    T, before, read, total = len(step_embeddings_TD), state, state, state
    answers = WeightedStates(policy.catalogue, T) if weighted else OwnStates(policy.catalogue)
    final, steps = answers.begin(read), torch.zeros(read.shape[0], dtype=torch.int64, device=read.device)
    live, going = torch.arange(read.shape[0], device=read.device), torch.ones_like(steps, dtype=torch.bool)
    judged = T if trace or halting.rule == "soft" else T - 1  # the last step always ends
    first = halting.min_steps if T else 1
    looking = judged >= first and (policy.needs_stats(halting) or weighted or (trace and policy.head is not None))
    stats_before = policy.stats_of(read, 0, live) if looking else None
    kept: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([read] * first, [], [])
    for t in range(first, T + 1):
        if t:
            states, chain = backbone.reason((state + step_embeddings_TD[t - 1])[:, None], chain)
            before, state = read, states[:, 0]
            total = total + state
            read = total / (t + 1) if mean else state
            steps = _kept(steps, torch.full_like(going, t, dtype=steps.dtype), live, going)
        if t > judged:
            final = _kept(final, answers.after(t, read, None), live, going)
            break
        if t:
            stats = policy.stats_of(read, t, live) if looking else None
            features = policy.read(before, read, stats_before, stats, halting.noise, t)
        else:
            stats = stats_before
            features = policy.read_start(read, stats, halting.noise)
        halts, stop = policy.halt(halting, features, looking, t)
        final = _kept(final, answers.after(t, read, halts), live, going)
        stats_before, going = stats, going & ~stop
        for part, value in zip(kept, (read, features, halts), strict=True):
            part.append(value)
        if torch.compiler.is_exporting() or trace or halting.rule == "soft":
            continue
        rows = going.nonzero()[:, 0]
        if len(rows) == 0:
            break
        if len(rows) < len(going):
            state, total, read = state[rows], total[rows], read[rows]
            chain, live, going = chain.select(rows), live[rows], going[rows]
            stats_before = None if stats_before is None else stats_before.select(rows)
            answers.keep(rows)
    if halting.rule == "soft" and T:
        weights_PT = soft_weights(torch.stack(kept[2], dim=1))
        final = (weights_PT[..., None] * policy.catalogue.comparable(torch.stack(kept[0][first:], dim=1))).sum(1)
    else:
        final = answers.comparable(final)
    traced = Trace(*(torch.stack(part, dim=1) for part in kept)) if trace and T else None
    return final, steps, traced


def _check_head(policy: HaltingPolicy, halting: Halting, weighted: bool) -> None:
    """Refuse what only a halting net can do where there is none."""
    if policy.head is not None:
        return
    if halting.rule in ("arh", "soft") or weighted:
        raise ConfigError(f"This model has no halting net, so it cannot stop by {halting.rule!r}: choose another rule.")
    if not halting.noise.silent:
        raise ConfigError(
            "This model has no halting net, which alone knows the standard deviations that noise on indicators is told "
            "in: leave the halting's noise out."
        )
