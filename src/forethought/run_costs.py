"""What a run costs: what an answer takes, and what its training took."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from forethought.data.batches import plan, windows
from forethought.data.histories import Cases
from forethought.data.splits import Split
from forethought.evaluation.flops import flops_per_epoch, flops_per_history, look_ups_per_history
from forethought.evaluation.timing import ms_per_history
from forethought.methods.interface import Method
from forethought.reasoning.halting import Halting
from forethought.recommender import Recommender


def answering_cost(
    method: Method, cases: Cases, *, exclude_history: bool, halting: Halting | None, batch: int
) -> dict[str, Any]:
    """`flops_per_history`, `look_ups_per_history` where there are some, and `ms_per_history`.

    Args:
        batch: histories that are read together.
    """
    flops = flops_per_history(method, cases, halting=halting, batch=batch)  # first: it warms up what is timed
    look_ups = look_ups_per_history(method, cases, halting=halting)
    ms = ms_per_history(method, cases, exclude_history=exclude_history, halting=halting, batch=batch)
    looked = {"look_ups_per_history": look_ups} if look_ups else {}
    return {"flops_per_history": flops, **looked, "ms_per_history": ms}


def training_cost(model: Recommender, split: Split) -> dict[str, float] | None:
    """`epochs`, `trained_s` and `s_per_epoch` as they were, over all stages; `flops_per_epoch` counted anew, as in the
    best epoch; of an aligned run neither of the last two, because its epochs are some batches and no pass.

    None where no training state lies beside the model; of a method without stages there are no epochs to count. The
    model and the random generators stay as they are.
    """
    progress, seed = model.progress(), model.config.seed
    if progress and not model.method.stages():
        return {"epochs": 0, "trained_s": progress["trained_s"]}
    if progress and model.config.alignment is not None:
        return {"epochs": progress["epoch"], "trained_s": progress["trained_s"]}
    if not progress or progress["best_epoch"] < 0:
        return None
    settings, stages, starts = model.config.training, model.method.stages(), progress.get("stages", [0])
    rows = windows(split.with_noise(model.config.noise).train, model.method.window, every=settings.all_windows)
    last = settings.of(stages[len(starts) - 1]).batch_positions
    epochs = progress["epoch"] + progress["batch"] / len(plan(rows.lengths - 1, last, seed, progress["epoch"]))
    at = bisect_right(starts, progress["best_epoch"]) - 1
    return {
        "epochs": progress["epoch"],
        "trained_s": progress["trained_s"],
        "s_per_epoch": progress["trained_s"] / epochs,
        "flops_per_epoch": flops_per_epoch(
            model.method,
            rows,
            positions=settings.of(stages[at]).batch_positions,
            seed=seed,
            epoch=progress["best_epoch"] - starts[at],
            stage=stages[at].name,
            crop=settings.crop,
        ),
    }
