"""How a trained run is aligned: rollouts, rewards, and how far it may move."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from forethought.decoding.rollouts import Action
from forethought.errors import ConfigError
from forethought.reasoning.grpo import KL, Reward, Scale
from forethought.settings import Between, Count, Epochs, Settings, Share, ShareBelowOne, Weight
from forethought.settings import Scale as Positive

CasesOf = Literal["training", "held_out"]


@dataclass(frozen=True, kw_only=True)
class PathRewards(Settings):
    """What a path over tokens is rewarded for: a weight each, 0 for nothing. The first four are REG4Rec's PARS."""

    step_hit: Weight = 1.0
    """A token that the next item has."""
    category_hit: Weight = 0.5
    """After the token the category that is most believed in is the next item's."""
    consistency: Weight = 0.2
    """The belief in categories stays where it was: 1 - JS / ln 2."""
    path: Weight = 1.0
    """The whole path ranks the next item among the first `top`."""
    coverage: Weight = 0.0
    """The path's best item is a rare one: 1 - the share of items that were met less often."""
    freshness: Weight = 0.0
    """The path's best item came late: the share of items that were met first before it."""
    diversity: Weight = 0.0
    """The other paths of the group lead to other items: the share of those that do."""
    margin: Weight = 0.0
    """How far the next item lies above the best other one: sigmoid of the difference of their scores."""
    learned: Weight = 0.0
    """The path looks like one whose rank of the next item is worth much, as a model tells it that half of the
    validation users taught, who then choose nothing; or that was learned on other data (`--reward-from`)."""
    path_gain: Reward = "ndcg"
    """What a rank is worth: 1 / log2(rank + 1), or 1, within the first `top`."""
    top: Count = 10
    """How far down a list the reward of a path reaches."""
    future: Annotated[int, Between(1, 100)] = 3
    """h, items that follow which count, each less than the one before it (MSRA); 1: the next one alone."""
    decay: Annotated[float, Between(0, 1)] = 0.8
    """w, what a later item counts, as a share of the one before it."""
    per_step: bool = True
    """A choice answers for what comes of it (reward to go); otherwise for the sum over its path."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse(_changed(self, "decay") if self.future == 1 else [], "with future 1 a single item counts")
        unread = _changed(self, "path_gain", "top") if not self.path and not self.learned else []
        _refuse(unread, "the rewards path and learned have the weight 0")


@dataclass(frozen=True, kw_only=True)
class HaltingRewards(Settings):
    """What stopping is rewarded for."""

    gain: Reward = "ndcg"
    """What the rank of the next item is worth where a row stopped: 1 / log2(rank + 1), or 1, within the first `top`."""
    top: Count = 10
    """How far down a list it is worth something."""
    step_price: Weight = 0.001
    """What a reasoning step costs, in the same unit; it counts in what validation chooses by, too."""


@dataclass(frozen=True, kw_only=True)
class LatentRewards(Settings):
    """What a latent trajectory is rewarded for."""

    gain: Reward = "ndcg"
    """What the rank of the next item is worth by the trajectory's end: 1 / log2(rank + 1), or 1 (LARES), within the
    first `top`."""
    top: Count = 10
    """How far down a list it is worth something."""


@dataclass(frozen=True, kw_only=True)
class Alignment(Settings):
    """Configuration of group-relative policy optimisation (GRPO)."""

    path_rewards: PathRewards = field(default_factory=PathRewards)
    """Of methods whose paths are aligned."""
    halting_rewards: HaltingRewards = field(default_factory=HaltingRewards)
    """Of methods whose halting is aligned."""
    latent_rewards: LatentRewards = field(default_factory=LatentRewards)
    """Of methods whose latent trajectories are aligned."""
    cases: CasesOf | None = None
    """Whose choices are rewarded: training rows', at a random position each (training), or those of half of the
    validation users before their next item, who then choose nothing (held_out); None: held_out for halting, else
    training."""
    delta: Annotated[float, Between(0, 1, above=True, below=True)] | None = None
    """Of halting: it begins as if the run stopped at this threshold; None: where it does stop, or delta_within. A net
    that is sure draws rollouts that are all alike, and learns nothing."""
    delta_within: ShareBelowOne | None = None
    """Of halting, instead of delta: the threshold at which the validation part takes the fewest steps and loses at most
    this share of the NDCG@10 that all steps have, such as 0.01; it is told."""
    group: Annotated[int, Between(2, 1_024)] = 16
    """G, rollouts of each history."""
    temperature: Positive = 1.0
    """Of what is drawn; of latent trajectories it scales the state they begin with."""
    action: Action = "token"
    """Of paths: the token of the most confident book is drawn (token), or book and token together (joint)."""
    updates: Annotated[int, Between(1, 64)] = 2
    """mu, updates made of the same rollouts; with 1 the clip never acts."""
    clip_low: Annotated[float, Between(0, 1)] = 0.2
    """A choice that paid less than others is made rarer by this share at most, before the update counts no more."""
    clip_high: Annotated[float, Between(0, 10)] = 0.28
    """And one that paid more is made more frequent by this share at most."""
    kl_weight: Weight | None = None
    """beta, pull towards the run that it begins with; None: 0 for halting, else 0.05."""
    kl: KL = "exact"
    """Over all that could have been chosen, or estimated by what was (k1, k3). Latent trajectories choose the next
    item, which is no draw: LARES has k3 of it, and k1 would teach them not to name it."""
    scale: Scale = "none"
    """Advantages are divided by nothing, or by the standard deviation of their group or batch."""
    leave_one_out: bool = True
    """Hold each rollout against the others of its group, and not against a mean that it is part of."""
    policy_weight: Weight = 1.0
    """Of what was earned; 0: nothing is, and the run's own loss alone goes on for as many updates, as a control."""
    learn_weights: bool = False
    """Of paths: rewards weigh more the more following them helps half of the validation users, who then choose nothing;
    the weights that were set are where that begins, and their sum stays."""
    weight_rate: Annotated[float, Between(0, 10, above=True)] = 0.3
    """How fast those weights move."""
    learn_every: Count = 4
    """Batches between two looks at these users; each costs a backward a reward."""
    feedback_weight: Weight = 1.0
    """Of what people accepted or rejected, where there is feedback; it is never learned."""
    feedback_share: Annotated[float, Between(0, 1, above=True)] = 0.25
    """How many of the histories that rollouts are drawn for are such as have feedback."""
    feedback_cost: Share = 0.01
    """What listening to people may cost all: the share of NDCG@10 and of the guard that may be lost on validation. The
    last state that loses no more is kept, as validation does not know what they said."""
    anchor: Weight | None = None
    """Weight of the run's own loss beside the rewards'; None: 0 for halting, else 0.5."""
    rate: Positive | None = None
    """The learning rate, as a share of the run's own; it falls to zero over all epochs. None: 3 for halting, else
    0.3."""
    batch_positions: Annotated[int, Between(1, 2**24)] = 1024
    """Positions in a batch; one of each history is drawn."""
    batches: Count = 100
    """Between two validations."""
    epochs: Epochs = 15
    """Validations at most."""
    patience: Epochs = 15
    """Validations without a better one before it stops; while the rate is high, validation is lower than at first."""
    guard: str = "recall@50"
    """A metric that must not fall on validation, beside NDCG@10, else the weights it began with are kept; where steps
    have a price both may, by a hundredth of themselves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse(
            _changed(self, "clip_low", "clip_high") if self.updates == 1 else [], "the first update is never clipped"
        )
        learning = ("weight_rate", "learn_every")
        _refuse(_changed(self, *learning) if not self.learn_weights else [], "the weights of rewards are not learned")
        later = _changed(self.path_rewards, "future", "decay") if self.cases == "held_out" else []
        _refuse(later, "a held-out case has one item that follows")
        if self.learn_weights and self.cases == "held_out":
            raise ConfigError(
                "With learn_weights cases are those of training, but cases is held_out: the users set apart say what "
                "rewards should weigh, so they must not earn any; leave one of the two out."
            )
        learned = ["learn_weights"] if self.learn_weights else []
        _refuse(learned if not self.policy_weight else [], "policy_weight is 0, so that nothing is earned")
        fitted = ["path_rewards.learned"] if self.path_rewards.learned else []
        _refuse(fitted if not self.policy_weight else [], "policy_weight is 0, so that nothing is earned")
        if learned and self.scale != "none":
            raise ConfigError(
                f"With learn_weights scale is none, but it is {self.scale}: divided by deviations, what rewards do is "
                "no sum of what each does; leave one of them out."
            )
        if self.delta is not None and self.delta_within is not None:
            raise ConfigError("delta is a threshold, and delta_within has one chosen: give one of them.")


def _changed(settings: Settings, *names: str) -> list[str]:
    return [name for name in names if getattr(settings, name) != getattr(type(settings), name)]


def _refuse(unread: list[str], why: str) -> None:
    """An option that does nothing where it was asked for is refused.

    Raises:
        ConfigError: there is one.
    """
    if unread:
        raise ConfigError(f"{' and '.join(unread)} would change nothing, because {why}: leave that out.")
