"""forethought align"""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from forethought.cli.shared import console, parse, print_json

if TYPE_CHECKING:
    from forethought.recommender import Recommender


@dataclass(kw_only=True)
class Options:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder of reg4rec, whose paths are aligned, of dtrec, whose halting is, or of lares, whose latent
    trajectories are; it stays as it is."""
    out: Path
    """Run folder to be made."""
    data: str | None = None
    """Data folder or table; by default where the run says that its data lies."""
    items: str | None = None
    """Item table, where it lies beside the data."""
    feedback: str | None = None
    """What people accepted and rejected: a table with user_id or history, kind (token, path or category), value (3:17,
    "3:17 0:5", or a category) and accepted (true or false)."""
    reward_from: Path | None = None
    """A run that was aligned with --path-rewards.learned, perhaps on other data: its reward is taken as it is, and none
    is learned here."""
    seed: int | None = None
    """Of what is drawn; by default the run's."""
    device: str = "auto"
    """Where to compute: auto (the first CUDA device if there is one, else the CPU), cpu, cuda or cuda:N."""
    resume: bool = False
    """Go on with the stopped alignment in OUT."""
    overwrite: bool = False
    """Remove the run in OUT first."""
    quiet: bool = False
    """No progress."""
    json: bool = False
    """Print the outcome as JSON."""


def run(arguments: list[str]) -> None:
    from forethought.alignment.settings import Alignment

    parts: list[Any] = [
        ("options", Annotated[Options, tyro.conf.arg(name=""), tyro.conf.FlagCreatePairsOff]),
        ("alignment", Annotated[Alignment, tyro.conf.arg(name="")], field(default=Alignment())),
    ]
    Align: Any = make_dataclass("Align", parts, kw_only=True)
    about = (
        "Align a trained run with rewards (GRPO): paths over tokens, when to stop, or latent trajectories.\n\n"
        "Example: forethought align runs/reg4rec --out runs/reg4rec-aligned --group 16 --path-rewards.path 2"
    )
    args = parse(Align, arguments, "align", about, pairs=True)
    from forethought.aligning import align
    from forethought.recommender import load
    from forethought.runs import split_of
    from forethought.training.interrupt import Interrupted
    from forethought.training.progress import Quiet, Watch

    options, view = args.options, console()
    trained = load(options.run, device="cpu")
    split = split_of(trained, options.data, options.items)
    try:
        model = align(
            trained,
            split,
            options.out,
            args.alignment,
            feedback=options.feedback,
            reward_from=options.reward_from,
            seed=options.seed,
            resume=options.resume,
            overwrite=options.overwrite,
            device=options.device,
            observer=Quiet() if options.quiet else Watch(view),
        )
    except Interrupted:
        raise Interrupted(
            f"Everything is saved: the same command with --resume goes on from here ({options.out})."
        ) from None
    outcome = model.outcome()
    if options.json:
        print_json({"run": str(options.out), **outcome})
    elif not options.quiet:
        kept = outcome["best_epoch"] == 0
        if weights := outcome.get("reward_weights"):
            each = ", ".join(f"{name.removeprefix('weight_')} {weight:.3g}" for name, weight in weights.items())
            view.print(f"Weights of rewards at the end: {each}.")
        wanted = f"was better without a loss of {args.alignment.guard}"
        if args.alignment.halting_rewards.step_price and model.method.rl_policy().kind == "halting":
            wanted = f"was better, steps priced, and lost at most 1% of NDCG@10 and {args.alignment.guard}"
        if options.feedback is not None:
            wanted = f"kept NDCG@10 and {args.alignment.guard} within --feedback-cost"
        said = (
            f"No validation {wanted}, so it holds the weights it began with. {_stops(trained, model)}" if kept else ""
        )
        view.print(f"{said}The run lies in {options.out}; next: forethought evaluate {options.out}")


def _stops(trained: Recommender, aligned: Recommender) -> str:
    """Where the weights that it began with stop thinking elsewhere than the run: their answers are not the same.

    Between 0 and 1 the halting net is moved with the threshold, and they are.
    """
    from forethought.evaluation.thresholds import never

    delta = aligned.about["started_from"].get("delta")
    if delta is not None and delta != never("arh"):
        return f"They stop where that run does with --delta {delta:g}. "
    halting = (getattr(each.config.method, "halting", None) for each in (trained, aligned))
    before, now = (getattr(each, "threshold", None) for each in halting)
    if before == now or before is None or 0 < before < 1:
        return ""
    return (
        f"But it stops at the threshold {now:g} and that run at {before:g}: keep that run, or align it with --delta. "
    )
