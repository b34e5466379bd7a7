"""What the one training loop gets where a run is aligned: the method as an `Aligner`, and the data it learns from."""

from __future__ import annotations

from dataclasses import replace

from forethought.alignment.aligner import Aligner, Rewards
from forethought.alignment.feedback import Feedback
from forethought.alignment.held_out import halves, shared_out
from forethought.alignment.items import item_ranks
from forethought.alignment.settings import Alignment
from forethought.data.splits import Split
from forethought.methods.interface import Method


def to_align(
    method: Method,
    settings: Alignment,
    split: Split,
    seed: int,
    rewards: Rewards | None = None,
    feedback: Feedback | None = None,
) -> tuple[Method, Split]:
    """The method as it is aligned, and the split without the validation users that it learns from.

    Raises:
        ConfigError: it cannot be aligned so.
        DataError: there are too few validation cases.
    """
    if settings.learn_weights:
        rows, chosen_by = halves(split, method.window, seed)
        aligner = Aligner(method, settings, item_ranks(split), rewards, held_out=rows, feedback=feedback)
        return aligner, replace(split, valid=chosen_by)
    aligner = Aligner(method, settings, item_ranks(split), rewards, feedback=feedback)
    return aligner, shared_out(split, method.window, seed) if aligner.cases == "held_out" else split
