"""Model selection: which epoch of a stage is its best so far, and whose weights may become the run's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from forethought.evaluation.metrics import metric_of
from forethought.methods.interface import Stage
from forethought.training.state import Progress

MAY_LOSE = 0.01  # of the metric that compares stages, and of the guard, where steps have a price


class Verdict(NamedTuple):
    """What an epoch is.

    Attributes:
        improved: the best of its stage so far.
        best: the best of the run so far, whose weights are kept.
    """

    improved: bool
    best: bool


@dataclass(frozen=True)
class Selection:
    """How the epochs of a stage are compared, by what the validation part says of them.

    Attributes:
        stage: with the metric that selects in it.
        choose_by: the metric that stages are compared by.
    """

    stage: Stage
    choose_by: str

    @property
    def selects(self) -> str:
        """The figure that epochs of the stage are compared by."""
        return f"valid_{metric_of(self.stage.metric).name}" + " less steps" * (self.stage.step_price > 0)

    @property
    def quality(self) -> str:
        """The figure that stages are compared by."""
        return f"valid_{metric_of(self.choose_by).name}"

    @property
    def may_lose(self) -> float | None:
        """The share of that, and of the guard, that an epoch may lose; None: it must be better."""
        return MAY_LOSE if self.stage.step_price else self.stage.may_lose

    def asked(self) -> Iterator[str]:
        """Names of the metrics that validation is asked for."""
        return filter(None, (self.stage.metric, self.stage.guard, self.choose_by, *self.stage.watched))

    def priced(self, figures: Mapping[str, float]) -> dict[str, float]:
        """What validation said, and what is left of it where steps have a price."""
        if not (price := self.stage.step_price):
            return dict(figures)
        left = figures[f"valid_{metric_of(self.stage.metric).name}"] - price * figures["valid_steps"]
        return {**figures, self.selects: left}

    def begin(self, figures: Mapping[str, float], progress: Progress) -> bool:
        """Note what a guarded stage begins with; whether that is the best of the run so far."""
        progress.begun = dict(figures)
        progress.floor, progress.stage_best = figures[f"valid_{self.stage.guard}"], figures[self.selects]
        progress.floor *= 1 - (self.may_lose or 0.0)
        best = self.stage.candidate and figures[self.quality] > progress.best
        if best:
            progress.best = progress.best_before = figures[self.quality]
        return best

    def told(self, figures: Mapping[str, float]) -> str:
        """What a guarded stage begins with, and what of it an epoch must keep."""
        guard, selects = self.stage.guard, self.selects.removeprefix("valid_")
        apart = "" if self.may_lose is None else f" by more than {self.may_lose:.0%} of it"
        keeps = f"what falls below either{apart} is not kept"
        if self.stage.step_price:
            keeps = (
                f"what has more of the first, and loses at most {MAY_LOSE:.0%} of {self.choose_by} and {guard}, is kept"
            )
        return (
            f"It begins with {selects} {figures[self.selects]:.4f} and {guard} {figures[f'valid_{guard}']:.4f} on "
            f"validation; {keeps}."
        )

    def judge(self, figures: Mapping[str, float], progress: Progress) -> Verdict:
        """What the epoch that has just ended is, which `progress` is told."""
        quality, selects = figures[self.quality], figures[self.selects]
        kept = self.stage.guard is None or figures[f"valid_{self.stage.guard}"] >= progress.floor
        if self.may_lose is not None:
            kept = kept and quality >= (1 - self.may_lose) * progress.best_before
        improved = kept and (self.stage.may_lose is not None or selects > progress.stage_best)
        best = improved and self.stage.candidate and (self.may_lose is not None or quality > progress.best_before)
        if improved:
            progress.stage_best, progress.stale = selects, 0
        else:
            progress.stale += 1
        if best:
            progress.best, progress.best_epoch = quality, progress.epoch
        return Verdict(improved, best)
