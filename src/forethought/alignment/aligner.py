"""A method in alignment, as the one training loop sees it: rollouts come with a batch, and updates learn from them.

    L = -mean_bgt min(rho A, clip(rho) A) + beta KL(pi || pi_start) + anchor * L_own

One position of each training row is a case, or the end of each held-out one. Its rollouts are drawn once, by the
weights as they are then (on-policy), and replayed in each update. The weights it began with are the reference, and stay
what is kept unless the validation part says otherwise: rewards sharpen the head of a list, and the guard watches its
tail.

Shapes: B cases, G rollouts of each, T choices.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from forethought.alignment.cases import drawn_cases
from forethought.alignment.feedback import NOBODY, Feedback
from forethought.alignment.kinds import filled, policy_of, rewards_of
from forethought.alignment.learned_reward import LEARNED, LearnedReward
from forethought.alignment.learned_weights import LearnedWeights
from forethought.alignment.own_rewards import Rewards, earned, own_rewards
from forethought.alignment.rewards import ItemRanks, spread, to_go
from forethought.alignment.settings import Alignment
from forethought.alignment.signatures import WATCHED, signatures
from forethought.data.batches import Batch
from forethought.data.histories import Spans
from forethought.decoding.path_facts import PathFacts
from forethought.decoding.paths import distinct
from forethought.errors import ConfigError
from forethought.methods.interface import Losses, Method, Stage
from forethought.methods.path_policy import PathPolicy
from forethought.reasoning.diagnostics import Diagnostics
from forethought.reasoning.grpo import advantages, clipped_gain, estimated_kl, exact_kl, reward_of
from forethought.reasoning.policy import Policy, Replayed, Rollouts

ALIGN = "align"
AFTER = 1_000_000  # an epoch of the own loss in which every warm-up is over
FEEDBACK = "feedback"  # what the reward of it is called
IDLE = 0.95  # of groups without a difference
GAP, PROMISES = "learned_gap", 0.1  # of a learned reward: what it says less what it should, and how much is too much
STEADY_SHARE, RARE = 0.98, 0.05  # of the most that consistency can earn, and of choices


class _Drawn(NamedTuple):
    """What the updates of a batch share.

    Attributes:
        case: a prefix of each row.
        shares_B: what a case counts, as the positions of its row do; of all processes they sum to 1.
        reference: what the weights it began with say of the choices.
        figures: of the rewards, for the log.
    """

    case: Batch
    shares_B: Tensor
    rollouts: Rollouts
    advantages_BGT: Tensor
    reference: Replayed
    figures: dict[str, Tensor]


class Aligner(Method):
    """The method, and how it is aligned; its tensors have the method's own names."""

    def __init__(
        self,
        method: Method,
        settings: Alignment,
        items: ItemRanks,
        more: Rewards | None = None,
        held_out: Spans | None = None,
        feedback: Feedback | None = None,
        reward: LearnedReward | None = None,
    ) -> None:
        super().__init__()
        self.method, self.settings = method, settings
        self.window, self.inputs, self.reasoning = method.window, method.inputs, method.reasoning
        self.most_validated = method.most_validated
        self.policy = policy_of(method, settings)
        self.rewards = rewards_of(self.policy, settings, items, reward)
        self.rewards |= own_rewards(more, self.rewards)
        self.learned_reward = reward
        self.feedback = feedback
        _check_feedback(settings, feedback, self.rewards)
        if not any(weight for weight, _ in self.rewards.values()) and feedback is None:
            raise ConfigError("Every reward has the weight 0, so that there is nothing to align to: give one a weight.")
        self.learned = _learned(self.policy, settings, self.rewards, held_out)
        self.cases, self.anchor, self.kl_weight, self.rate = filled(self.policy.kind, settings)
        if not settings.policy_weight and not self.anchor:
            raise ConfigError(
                "policy_weight and anchor are both 0, so that nothing would be learned: give one a weight."
            )
        self.reference: tuple[Method, ...] = ()  # in a tuple it is no part of this one: it is not saved
        self.drawn: _Drawn | None = None

    # ---- as the loop asks it

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.method.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.method.load_state_dict(*args, **kwargs)

    def training_state(self) -> dict[str, float]:
        return {} if self.learned is None else self.learned.state()

    def load_training_state(self, state: dict[str, float]) -> None:
        if self.learned is not None:
            self.learned.load(state)

    def stages(self) -> tuple[Stage, ...]:
        settings = self.settings
        stage = Stage(
            name=ALIGN,
            epochs=settings.epochs,
            rate=self.rate,
            batch_positions=settings.batch_positions,
            batches=settings.batches,
            updates=settings.updates,
            patience=settings.patience,
            guard=settings.guard,
            watched=WATCHED,
            may_lose=None if self.feedback is None else settings.feedback_cost,
            step_price=settings.halting_rewards.step_price if self.policy.kind == "halting" else 0.0,
        )
        return (stage,)

    def begin_stage(self, name: str) -> None:
        if self.anchor or self.learned is not None:
            self.method.begin_epoch(AFTER)
        self.reference = (copy.deepcopy(self.method).eval().requires_grad_(False),)
        self.method.requires_grad_(False)
        for parameter in self.policy.trained():
            parameter.requires_grad_(True)

    def train(self, mode: bool = True) -> Self:
        """No unit is dropped in rollouts, nor where they are replayed; the run's own loss drops its own."""
        self.training = mode
        self.method.eval()
        return self

    def compile_encoder(self) -> None:
        self.method.compile_encoder()

    def represent(self, *args: Any, **kwargs: Any) -> Any:
        return self.method.represent(*args, **kwargs)

    def rank_of(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.method.rank_of(*args, **kwargs)

    # ---- training

    @torch.no_grad()
    def begin_batch(self, batch: Batch) -> None:
        """Draw a position of each row, its rollouts, and what they earned."""
        case, future, shares_B = drawn_cases(batch, self._horizon(), last=self.cases == "held_out")
        judged_B = None
        if self.feedback is not None:
            case, judged_B = self.feedback.mixed_in(case, self.settings.feedback_share)
        rollouts = self.policy.roll_out(case, self.settings.group, self.settings.temperature, future)
        facts = self.policy.facts(case, rollouts, future)
        like = rollouts.log_probs_BGT
        given = {name: earned(name, reward(facts), like) for name, (_, reward) in self.rewards.items()}
        parts = {name: spread(each, like.shape[-1]) for name, each in given.items()}
        figures = {} if self.learned_reward is None else {GAP: self._gap(facts, parts[LEARNED], shares_B, judged_B)}
        if self.feedback is not None and judged_B is not None:
            known_B11 = (judged_B == NOBODY)[:, None, None]  # what comes next
            parts = {name: part_BGT * known_B11 for name, part_BGT in parts.items()}
            parts[FEEDBACK] = self.feedback.earned(facts, judged_B).to(like)
        if self.learned is not None and self.learned.due():
            self._learn_weights(case, rollouts, shares_B, parts)
        weights = self.weights()
        total_BGT = torch.zeros_like(like)
        for name, part_BGT in parts.items():
            total_BGT += weights[name] * part_BGT
        earned_BGT = self._to_go(total_BGT)
        with_choices_B = rollouts.real_BGT.any(-1).any(-1)
        figures |= {
            f"reward_{name}": (part_BGT.mean(1).sum(-1) * shares_B).sum() / self._share(name)
            for name, part_BGT in parts.items()
        }
        if self.learned is not None:
            figures |= {f"weight_{name}": like.new_tensor(weight) for name, weight in self.learned.weights.items()}
        idle_B = (earned_BGT == earned_BGT[:, :1]).all(-1).all(-1) & with_choices_B
        figures["idle_groups"] = (idle_B * shares_B).sum()
        if isinstance(facts, PathFacts):
            figures["distinct"] = (distinct(facts.paths.books_BGT, facts.paths.tokens_BGT) * shares_B).sum()
        (reference,) = self.reference
        said = policy_of(reference, self.settings).replay(case, rollouts)
        self.drawn = _Drawn(case, shares_B, rollouts, self._advantages(earned_BGT), said, figures)

    def _gap(self, facts: PathFacts, said_BGT: Tensor, shares_B: Tensor, judged_B: Tensor | None) -> Tensor:
        """How much more the learned reward promises than the next items' ranks are worth, the mean."""
        assert self.learned_reward is not None
        worth_BG = reward_of(facts.ranks_BGH[..., 0], self.learned_reward.gain, self.learned_reward.top)
        known_B = shares_B if judged_B is None else shares_B * (judged_B == NOBODY)
        return ((said_BGT[..., -1] - worth_BG).mean(1) * known_B).sum() / self._share(LEARNED)

    def weights(self) -> dict[str, float]:
        """Of the rewards, as they are now."""
        weights = {name: weight for name, (weight, _) in self.rewards.items()}
        if self.feedback is not None:
            weights[FEEDBACK] = self.settings.feedback_weight
        return weights if self.learned is None else weights | self.learned.weights

    def _share(self, name: str) -> float:
        """Of the histories that can earn it, on average; 1 where none can, who then earn nothing."""
        share = 0.0 if self.feedback is None else self.settings.feedback_share
        return share if name == FEEDBACK else (1 - share) or 1.0

    def _to_go(self, rewards_BGT: Tensor) -> Tensor:
        """What each choice answers for."""
        earned_BGT = to_go(rewards_BGT)
        if self.policy.kind == "paths" and not self.settings.path_rewards.per_step:
            return earned_BGT[..., :1].expand_as(earned_BGT)
        return earned_BGT

    def _advantages(self, earned_BGT: Tensor) -> Tensor:
        settings = self.settings
        apart_GBT = advantages(earned_BGT.transpose(0, 1), settings.scale, leave_one_out=settings.leave_one_out)
        return apart_GBT.transpose(0, 1)

    def _learn_weights(self, case: Batch, rollouts: Rollouts, shares_B: Tensor, parts: dict[str, Tensor]) -> None:
        """Before the first update of a batch: the policy is still the one that drew, so no ratio and no clip."""
        assert self.learned is not None
        assert isinstance(self.policy, PathPolicy)
        with torch.enable_grad():
            weighed_BGT = _shared(rollouts, shares_B) * self.policy.replay(case, rollouts).log_probs_BGT
            objectives = {
                name: (weighed_BGT * self._advantages(self._to_go(parts[name]))).sum() for name in self.learned.weights
            }
            held_out = self.policy.loss_at_end(*self.learned.drawn(shares_B.device))
            self.learned.learn(objectives, held_out, self.policy.trained())

    def loss(self, batch: Batch) -> Losses:
        drawn = self.drawn
        assert drawn is not None, "begin_batch comes first"
        settings, rollouts = self.settings, drawn.rollouts
        now = self.policy.replay(drawn.case, rollouts)
        made = clipped_gain(
            now.log_probs_BGT, rollouts.log_probs_BGT, drawn.advantages_BGT, settings.clip_low, settings.clip_high
        )
        kl_BGT = self._kl(now, drawn.reference)
        weights_BGT = _shared(rollouts, drawn.shares_B)
        gain, kl = (weights_BGT * made.gain).sum(), (weights_BGT * kl_BGT).sum()
        total = self.kl_weight * kl - settings.policy_weight * gain
        figures = {"gain": gain, "kl": kl, "clipped": (weights_BGT * made.clipped).sum()}
        if now.all_BGTC is not None:
            entropy_BGT = -(now.all_BGTC.exp() * now.all_BGTC.masked_fill(now.all_BGTC == -torch.inf, 0.0)).sum(-1)
            figures["entropy"] = (weights_BGT * entropy_BGT).sum()
        if self.anchor:
            own = self._own_loss(batch)
            figures["own"] = own
            total = total + self.anchor * own
        figures = {name: value.detach() for name, value in figures.items()}
        return Losses(total, {"loss": total.detach(), **figures, **drawn.figures})

    def _kl(self, now: Replayed, reference: Replayed) -> Tensor:
        if self.settings.kl != "exact":
            return estimated_kl(now.log_probs_BGT, reference.log_probs_BGT, self.settings.kl)
        if now.items is not None and reference.items is not None:
            return now.items.kl(reference.items)
        assert now.all_BGTC is not None
        assert reference.all_BGTC is not None
        return exact_kl(now.all_BGTC, reference.all_BGTC)

    def _own_loss(self, batch: Batch) -> Tensor:
        self.method.train()
        try:
            return self.method.loss(batch).total
        finally:
            self.method.eval()

    def diagnostics(self, figures: Mapping[str, float]) -> Diagnostics:
        """Signs that rewards teach nothing, or the wrong thing."""
        told = Diagnostics()
        if figures["idle_groups"] > IDLE:
            told.warnings.append(
                f"In {figures['idle_groups']:.0%} of the groups all rollouts earned the same, which teaches nothing: "
                "train the run longer first, or give larger groups, or rewards that tell rollouts apart"
                + (", or begin where rows stop at unlike steps (delta)." if self.policy.kind == "halting" else ".")
            )
        if self.learned_reward is not None:
            told.figures |= {f"learned_{name}": value for name, value in self.learned_reward.figures.items()}
        if figures.get(GAP, 0.0) > PROMISES:
            told.warnings.append(
                f"The learned reward promises {figures[GAP]:.2f} more than paths are worth, because it does not know "
                "this data or because paths have learned to please it: give it less weight, or kl_weight more."
            )
        hits, steady = figures.get("reward_category_hit"), figures.get("reward_consistency")
        choices = 1 if self.drawn is None else self.drawn.rollouts.log_probs_BGT.shape[-1]
        if steady is not None and hits is not None and steady > STEADY_SHARE * choices and hits < RARE * choices:
            told.warnings.append(
                "The belief in categories hardly moves and is hardly ever right, so that consistency is earned by "
                "knowing nothing: leave it out, or train the head for categories longer."
            )
        told.warnings += signatures(figures, self.weights() if self.settings.policy_weight else {})
        return told

    def _horizon(self) -> int:
        return self.settings.path_rewards.future if self.policy.kind == "paths" else 1


def _shared(rollouts: Rollouts, shares_B: Tensor) -> Tensor:
    """What each choice counts, [B, G, T]."""
    weights_BGT = rollouts.real_BGT * shares_B[:, None, None]
    return weights_BGT / (rollouts.real_BGT.shape[1] * rollouts.real_BGT.shape[2])


def _check_feedback(settings: Alignment, feedback: Feedback | None, rewards: Rewards) -> None:
    """Refuse settings of feedback that nothing reads, and feedback that earns nothing.

    Raises:
        ConfigError: there are such.
    """
    plain = Alignment()
    names = ("feedback_weight", "feedback_share", "feedback_cost")
    asked = [name for name in names if getattr(settings, name) != getattr(plain, name)]
    if feedback is None and asked:
        raise ConfigError(
            f"There is no feedback, so that {' and '.join(asked)} would change nothing: give some, or leave that out."
        )
    if feedback is not None and not settings.feedback_weight * settings.policy_weight:
        zero = "policy_weight" if settings.feedback_weight else "feedback_weight"
        raise ConfigError(f"{zero} is 0, so that feedback would change nothing: give it a weight, or no feedback.")
    if feedback is not None and FEEDBACK in rewards:
        raise ConfigError("A reward of your own is called feedback, as what people say is: give it another name.")


def _learned(policy: Policy, settings: Alignment, rewards: Rewards, held_out: Spans | None) -> LearnedWeights | None:
    """Where weights that are learned begin; None where they are as they were set.

    Raises:
        ConfigError: there is nothing to choose between.
    """
    if not settings.learn_weights:
        return None
    if policy.kind != "paths":
        raise ConfigError(
            "learn_weights is of paths, and this method has none: what rewards weigh is yours to say; leave it out."
        )
    weights = {name: weight for name, (weight, _) in rewards.items() if weight}
    if len(weights) < 2:
        raise ConfigError(
            f"learn_weights needs two rewards or more to choose between, but only {next(iter(weights))} has a weight: "
            "give another one a weight, or leave learn_weights out."
        )
    if below := [name for name, weight in weights.items() if weight < 0]:
        raise ConfigError(
            f"Weights that are learned are positive, but {below[0]} has {weights[below[0]]:g}: turn the sign of what "
            "its function says."
        )
    assert held_out is not None
    return LearnedWeights(weights, held_out, settings.weight_rate, settings.learn_every)
