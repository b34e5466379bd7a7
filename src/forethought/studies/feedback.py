"""People's feedback on paths in rounds: ask, align with what was said, ask again; on a simulated shop.

A trained REG4Rec draws paths for some users, who accept or reject what these decide; the run is aligned with that and
with nothing else, and the same users are asked about what it has become. All users are looked at, those who were asked
and the others. Two controls: as many plain updates, and the same answers dealt out among users by chance.

Shapes: U users, F figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from forethought.aligning import align
from forethought.alignment.settings import Alignment, PathRewards
from forethought.data.shop import Shop
from forethought.data.splits import Split
from forethought.evaluation.statistics import Estimate, estimate_means
from forethought.methods.reg4rec import REG4RecModel
from forethought.recommender import Recommender
from forethought.studies.asking import FIGURES, KINDS, OF, Panel, decided
from forethought.studies.page import Page, number
from forethought.studies.results import Result, run_name
from forethought.studies.study import Study

ROUNDS = 2
SHOWN = 8  # paths that somebody who is asked is shown in a round
COST = 0.03  # of NDCG@10 on validation, and of its guard; a hundredth is within the noise of a thousand users
HEARD = Alignment(
    path_rewards=PathRewards(step_hit=0.0, category_hit=0.0, consistency=0.0, path=0.0),
    feedback_share=0.5,
    feedback_cost=COST,
    batch_positions=512,
    group=8,
    rate=0.03,  # as published: few and small updates
    batches=50,
    epochs=4,
    patience=4,
)
PLAIN = replace(
    HEARD, path_rewards=PathRewards(), feedback_share=0.25, feedback_cost=0.01, policy_weight=0.0, kl_weight=0.0
)


@dataclass(frozen=True)
class Arm:
    """A way to go on from the trained run.

    Attributes:
        share: of the users, who are asked; without `kinds` nobody is, and they are looked at beside those who are.
        kinds: what they are asked about; nothing: plain updates.
        by_chance: their answers are dealt out among all that was asked of the same kind.
    """

    name: str
    share: float
    kinds: tuple[str, ...] = KINDS
    by_chance: bool = False


CONTROL = Arm("plain updates", 0.3, ())
ARMS = (
    CONTROL,
    Arm("answers by chance", 0.3, by_chance=True),
    *(Arm(f"{kind} alone", 0.3, (kind,)) for kind in KINDS),
    Arm("all kinds", 0.3),
    Arm("all kinds, fewer asked", 0.1),
)


def probe(model: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """Every arm from the same trained model, round by round.

    Raises:
        ConfigError: the data is no simulated shop, or the model has no paths.
    """
    panel = Panel.of(model, split)
    before_UF = panel.measured(model, seed)
    order_U = np.random.default_rng([seed, 1]).random(len(panel.cases))  # who is asked of a tenth is of a third, too
    plain, told = list[np.ndarray](), list[dict[str, Any]]()
    with TemporaryDirectory() as folder:
        for arm in ARMS:
            asked_U = order_U < np.quantile(order_U, arm.share)
            rounds = _rounds(arm, model, panel, asked_U, seed, Path(folder))
            figures_of = [figures_UF for _, figures_UF in rounds]
            plain = figures_of if arm == CONTROL else plain
            for (said, after_UF), control_UF in zip(rounds, plain, strict=True):
                groups = held_against(after_UF, before_UF, control_UF, asked_U, seed)
                told.append({"arm": arm.name, "share": arm.share, **said, "groups": groups})
    return {"users": len(panel.cases), "rounds": ROUNDS, "arms": told}


def _rounds(
    arm: Arm, model: Recommender, panel: Panel, asked_U: np.ndarray, seed: int, folder: Path
) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Of each round what was said and done, and the figures of all users after it."""
    heard, rounds = pl.DataFrame(), []
    for at in range(1, ROUNDS + 1):
        said: dict[str, Any] = {"round": at}
        if arm.kinds:
            new = answers(arm, model, panel, asked_U, 1_000 * seed + at)
            heard = new if heard.is_empty() else pl.concat([heard, new]).unique(OF, keep="first", maintain_order=True)
            said |= {"answers": len(heard), "accepted": float(heard["accepted"].mean())}  # type: ignore[arg-type]
        feedback, settings = (heard, HEARD) if arm.kinds else (None, PLAIN)
        out = folder / f"{arm.name}-{at}"
        device = str(model.device)
        model = align(model, panel.split, out, settings, feedback=feedback, seed=seed + at, device=device)
        outcome = model.outcome()
        said |= {"kept": outcome["best_epoch"], "seconds": outcome["trained_s"]}
        assert isinstance(model.method, REG4RecModel)
        said["path_share"] = float(model.method.path_share)
        rounds.append((said, panel.measured(model, seed)))
    return rounds


def answers(arm: Arm, model: Recommender, panel: Panel, asked_U: np.ndarray, seed: int) -> pl.DataFrame:
    """What those who are asked say of what a few paths decide for each of them: a table of feedback."""
    rows = np.flatnonzero(asked_U)
    found = decided(model.method, panel.rows.take(rows), [panel.user_ids[row] for row in rows], seed, SHOWN)
    said = panel.judge(found.filter(pl.col("kind").is_in(arm.kinds)), model.method).drop("times")
    return dealt_out(said, seed) if arm.by_chance else said


def dealt_out(said: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The same questions with the same answers in another order, each kind's among themselves."""
    return said.with_columns(pl.col("accepted").shuffle(seed).over("kind"))


def held_against(
    after_UF: np.ndarray, before_UF: np.ndarray, control_UF: np.ndarray, asked_U: np.ndarray, seed: int
) -> dict[str, Any]:
    """Means of those who were asked and of the others, and how far they lie from before and the control, paired."""
    groups = {}
    for name, of_U in (("asked", asked_U), ("others", ~asked_U)):
        parts = [each_UF[of_U] for each_UF in (after_UF, after_UF - before_UF, after_UF - control_UF)]
        (estimates,) = estimate_means(np.column_stack(parts), np.arange(of_U.sum()), seed=seed)
        means, changes, over = np.split(np.array(estimates, dtype=object), 3)
        groups[name] = {"users": int(of_U.sum())} | {
            figure: {"mean": means[n].mean, "change": _told(changes[n]), "over_plain": _told(over[n])}
            for n, figure in enumerate(FIGURES)
        }
    return groups


def _told(estimate: Estimate) -> dict[str, Any]:
    return {"mean": estimate.mean, "ci95": list(estimate.ci95)}


# ---- the page


def write(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    """Each run's tables, one after the other."""
    page.say(
        f"Somebody who is asked is shown {SHOWN} drawn paths a round, and accepts a token, a path or a category where "
        "most of the items that it stands for are of a kind that he or she now looks for. What was said adds up over "
        "rounds. Nothing else is rewarded; all arms go on for as many batches at the same rate. Accepted is the share "
        "of what drawn paths decide that a user would accept, so that what is rejected becomes rarer by as much as "
        "that rises. Clicks are the share of the ten recommended items that fit what the user wants when asked; later: "
        "an interaction on, on the lists of the test part; by paths: when asked, on lists of the paths alone, while "
        "elsewhere they count as much as validation chose. Differences are paired over users, in points of a hundred, "
        "with 95% intervals over users, which know nothing of the luck of a seed; where an interval holds zero, it is "
        "not decided (?) whether there is one. Plain updates keep the best state on validation, feedback the last that "
        f"costs no more than {COST:.0%} there; answers by chance are chosen as the others."
    )
    for runs in runs_of.values():
        for run in runs:
            if run.probe:
                _of_run(page, run_name(run.variant, run.dataset, run.seed), run, run.probe)


def _of_run(page: Page, name: str, run: Result, figures: Mapping[str, Any]) -> None:
    arms, last = figures["arms"], figures["rounds"]
    page.heading(f"{name}: what was said")
    page.say(
        f"{figures['users']:,} users; NDCG@10 of the trained run {run.mean('ndcg@10'):.4f}. Answers of all rounds, "
        f"the share of them that accept, the validation of {HEARD.epochs} whose state was kept (0: as it began), and "
        "what paths count of the ranking, as validation chose."
    )
    rows = [
        (
            *(one["arm"], f"{one['share']:.0%}", one["round"], one.get("answers", ""), _share(one.get("accepted"))),
            *(one["kept"], number(one["path_share"], 2), f"{one['seconds']:.0f}"),
        )
        for one in arms
    ]
    page.table(["arm", "asked", "round", "answers", "accept", "kept", "paths count", "s"], rows)
    for group, called in (("asked", "Those who were asked"), ("others", "Those who were not")):
        page.heading(f"{name}: {called.lower()}, after {last} rounds")
        ends = [one for one in arms if one["round"] == last]
        page.say("Over plain updates:")
        _table(page, [(one["arm"], one["groups"][group]) for one in ends], "over_plain")
        page.say("Over the trained run:")
        _table(page, [(one["arm"], one["groups"][group]) for one in ends], "change")
    page.heading(f"{name}: round by round")
    page.say(f"{ARMS[-2].name}, over plain updates of as many rounds.")
    of = [one for one in arms if one["arm"] == ARMS[-2].name]
    rows_of = [(f"{one['round']}, {group}", one["groups"][group]) for group in ("asked", "others") for one in of]
    _table(page, rows_of, "over_plain")


def _table(page: Page, rows: Sequence[tuple[str, Mapping[str, Any]]], difference: str) -> None:
    shown = [figure for figure in FIGURES if all(figure in of for _, of in rows)]
    page.table(
        ["arm", "users", *shown],
        [(name, of["users"], *(_cell(of[figure], difference) for figure in shown)) for name, of in rows],
    )


def _cell(of: Mapping[str, Any], difference: str) -> str:
    mean, (low, high) = of[difference]["mean"], of[difference]["ci95"]
    open_question = " ?" if low <= 0 <= high else ""
    if low == high == 0:
        return f"{of['mean']:.1%}"
    return f"{of['mean']:.1%} ({100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]{open_question})"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


SHOP = "shop-feedback"
STUDY = Study(
    name="feedback",
    title="People's feedback on paths",
    question="If people accept or reject what paths decide for them, and a trained REG4Rec is aligned with that, does "
    "it decide more of what they accept, for them and for those who were not asked, and are its lists the better for "
    "it? Feedback on tokens, paths and categories, each alone and together, from a tenth and three tenths of the users "
    "of a simulated shop, in rounds. Width 32, one layer, four tokens of 64 codes, nothing tuned.",
    variants=("reg4rec-narrow",),
    write=write,
    probe=probe,
    shops={SHOP: Shop(users=1_000, items=400, intents=24, interactions_per_user=10.0)},
)
