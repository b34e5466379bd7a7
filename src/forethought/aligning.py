"""A trained run is aligned with rewards, into a run folder of its own."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from forethought.alignment.feedback_table import read_feedback
from forethought.alignment.own_rewards import Rewards
from forethought.alignment.settings import Alignment
from forethought.config import Recipe
from forethought.data.splits import Split
from forethought.precision.settings import LADQ
from forethought.recommender import Recommender, load
from forethought.runs import train
from forethought.settings import check, check_all
from forethought.training.observer import Observer

EVEN = 0.5  # whoever would rather stop than go on stops


def aligned(recipe: Recipe, alignment: Alignment) -> Recipe:
    """The recipe by which a run of another recipe is aligned: it reads histories as they are, and halts where stopping
    is the likelier choice, which is where the run stopped (`starting.begin_with` moves its halting net)."""
    parts: dict[str, Any] = {each.name: getattr(recipe, each.name) for each in fields(Recipe)}
    plain = {"crop": 0.0, "earlier_windows": 0.0, "input_noise": 0.0, "later_targets": 0.0}
    training = replace(recipe.training, warmup_steps=0, ladq=LADQ(), **plain)
    method = recipe.method
    if is_dataclass(halting := getattr(method, "halting", None)):
        method = replace(method, halting=replace(halting, threshold=EVEN))  # type: ignore[call-arg, type-var]
    return Recipe(**parts | {"method": method, "training": training, "alignment": alignment})


def align(
    run: str | Path | Recommender,
    split: Split,
    out: str | Path,
    alignment: Alignment | None = None,
    *,
    rewards: Rewards | None = None,
    feedback: Any = None,
    reward_from: str | Path | None = None,
    seed: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    observer: Observer | None = None,
) -> Recommender:
    """Align a trained run with rewards (GRPO), and keep the better one of what it was and what it became.

    Args:
        run: of `reg4rec`, whose paths are aligned, of `dtrec`, whose halting is, or of `lares`, whose latent
            trajectories are.
        split: the data it was trained on.
        out: the run folder to be made.
        alignment: rollouts, rewards, updates; None: by default.
        rewards: functions of `PathFacts` (`HaltingFacts`, `LatentFacts`) beside those, each with its weight, by name;
            not saved with the run.
        feedback: what people accepted and rejected: a table (a file, or in memory) with the columns `user_id` or
            `history`, `kind` (token, path or category), `value` (3:17, 3:17 0:5, or a category) and `accepted`.
        reward_from: a run that was aligned with a learned reward, perhaps on other data: that reward is taken as it is,
            and none is learned here.
        seed: of what is drawn; None: the run's.
        resume: go on with the alignment that lies in `out`.
        overwrite: remove what lies in `out` first.
        device: where to compute.
        observer: somebody to tell of progress.

    Raises:
        ForethoughtError: one sentence on what is wrong; nothing half-written is left.
        Interrupted: Ctrl-C; `resume=True` goes on exactly where it stopped.
    """
    check_all(split=(split, Split), alignment=(alignment, Alignment | None), seed=(seed, int | None))
    check(reward_from, str | Path | None, "reward_from")
    trained = run if isinstance(run, Recommender) else load(run, device="cpu")
    check(trained.folder, Path, "run.folder")
    judged = None if feedback is None else read_feedback(feedback, trained.method, split)
    recipe = aligned(trained.config, alignment or Alignment())
    recipe = replace(recipe, training=replace(recipe.training, device=device))
    recipe = recipe if seed is None else replace(recipe, seed=seed)
    return train(
        recipe,
        split,
        out,
        resume=resume,
        overwrite=overwrite,
        start=trained.folder,
        observer=observer,
        rewards=rewards,
        feedback=judged,
        reward_from=reward_from,
    )
