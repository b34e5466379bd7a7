"""What rewards do to a trained run: what its paths earn on the test part, and how they differ, before and after.

Rewards are read off paths that are drawn as in alignment, and look at the next item alone. A group is of one history.
Where validation did not gain, a run keeps the weights that it began with; the page then shows how aligning went.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from forethought.alignment.items import item_ranks
from forethought.alignment.rewards import OF_CATEGORIES, PARS, path_rewards, spread
from forethought.alignment.settings import PathRewards
from forethought.data.batches import case_batches
from forethought.data.splits import Split
from forethought.decoding.paths import distinct
from forethought.evaluation.metrics import recall
from forethought.evaluation.ranking import rank_cases
from forethought.methods.path_policy import PathPolicy
from forethought.reasoning.policy import Future
from forethought.recommender import Recommender
from forethought.run_files import LOG_FILE
from forethought.studies import results
from forethought.studies.aligned_variants import ALIGNED
from forethought.studies.page import Page, number
from forethought.studies.results import DatasetKey, Result
from forethought.studies.shops import FEW_CUSTOMERS
from forethought.studies.study import Study
from forethought.studies.tables import results_table
from forethought.training.evidence_weights import some_cases

MOST_CASES, FEW, GROUP = 5_000, 64, 16
EARNED, VALIDATED = "reward_", ("valid_ndcg@10", "valid_recall@50")


@torch.inference_mode()
def probe(model: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """Of drawn paths on test cases: what each reward comes to, how many differ, how sure choices are; and the tail."""
    policy = model.method.rl_policy()
    if not isinstance(policy, PathPolicy):
        return {}
    rewards = path_rewards(replace(PathRewards(), future=1), item_ranks(split))
    if policy.tokens.categories is None:
        rewards = {name: reward for name, reward in rewards.items() if name not in OF_CATEGORIES}
    cases, sums, rows_seen = some_cases(split.test, seed, MOST_CASES), dict[str, float](), 0
    torch.manual_seed(seed)
    for rows, histories in case_batches(cases, model.method.window, FEW):
        batch = histories.to(model.device)
        targets_B1 = torch.from_numpy(cases.targets[rows].astype(np.int64)).to(model.device)[:, None]
        rollouts = policy.roll_out(batch, GROUP, 1.0)
        facts = policy.facts(batch, rollouts, Future(targets_B1, torch.ones_like(targets_B1, dtype=torch.bool)))
        T = rollouts.log_probs_BGT.shape[-1]
        figures = {name: spread(reward(facts), T).sum(-1).mean(1) for name, reward in rewards.items()}
        figures["distinct"] = distinct(facts.paths.books_BGT, facts.paths.tokens_BGT)
        every_BGTC = policy.replay(batch, rollouts).all_BGTC
        assert every_BGTC is not None
        figures["entropy"] = -(every_BGTC.exp() * every_BGTC).sum(-1).mean((1, 2))
        for name, values_B in figures.items():
            sums[name] = sums.get(name, 0.0) + float(values_B.double().sum())
        rows_seen += len(rows)
    ranked = rank_cases(model.method, cases, exclude_history=model.about["exclude_history"], batch=256)
    tail = float(recall(ranked.ranks, 50).mean())
    means = {name: total / rows_seen for name, total in sums.items()}
    return {"cases": rows_seen, "recall@50": tail, "epochs": epochs_of(model), **means}


def epochs_of(model: Recommender) -> list[dict[str, float]]:
    """What each epoch of aligning came to: what the rollouts earned, the KL, and the metrics of validation; empty for a
    run that was not aligned."""
    assert model.folder is not None
    lines = (model.folder / LOG_FILE).read_text(encoding="utf-8").splitlines()
    logged = [figures for figures in map(json.loads, lines) if any(key.startswith(EARNED) for key in figures)]
    told = (*(f"{EARNED}{name}" for name in PARS), "kl", *VALIDATED)
    return [{name: figures[name] for name in told if name in figures} for figures in logged]


def write(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    results_table(page, runs_of, STUDY.name)
    for dataset in results.places(runs_of):
        here = {
            variant: probed
            for variant, runs in results.at(runs_of, dataset).items()
            if (probed := [run for run in runs if run.probe])
        }
        if not here:
            continue
        page.heading(f"What paths earn on {dataset}")
        page.say(
            f"Means over {GROUP} drawn paths of each of at most {MOST_CASES:,} test cases, by the weights of the run: "
            "what a path earns of each reward, the share of a history's paths that differ, and the entropy of a choice "
            "in nats. Recall@50 is that of the ranking of the same cases."
        )
        page.table(
            ["variant", "seeds", *PARS, "distinct paths", "entropy", "recall@50"],
            [(variant, len(runs), *_row(runs)) for variant, runs in here.items()],
        )
        _how_it_went(page, dataset, [run for runs in here.values() for run in runs])


def _how_it_went(page: Page, dataset: DatasetKey, runs: Sequence[Result]) -> None:
    """Rewards and validation metrics of the first and the last epoch of each aligned run."""
    rows = []
    for run in runs:
        if run.probe and (epochs := run.probe.get("epochs")):
            kept = run.parts["training"]["best_epoch"]
            earned = [f"{EARNED}{name}" for name in PARS]
            told = [_first_and_last(epochs, name) for name in (*earned, "kl", *VALIDATED)]
            rows.append([run.variant, run.seed, len(epochs), kept or "none: the weights it began with", *told])
    if rows:
        page.heading(f"How aligning went on {dataset}")
        page.say(
            "In the first and in the last epoch: what a drawn path earns of each reward, on the training rows at hand, "
            "with later items (MSRA); the KL from the run that it began with; and validation by the weights of that "
            "epoch. Rewards that rise while NDCG@10 falls were learned, and are no ranking."
        )
        page.table(["variant", "seed", "epochs", "kept", *PARS, "KL", "NDCG@10", "Recall@50"], rows)


def _first_and_last(epochs: Sequence[Mapping[str, float]], name: str) -> str:
    if name not in epochs[0]:
        return ""
    first, last = (number(epochs[at][name]) for at in (0, -1))
    return f"{first} to {last}" if len(epochs) > 1 else first


def _row(runs: Sequence[Result]) -> list[object]:
    def mean(name: str) -> float:
        values = [run.probe[name] for run in runs if run.probe and name in run.probe]
        return sum(values) / len(values) if values else float("nan")

    return [number(mean(name)) for name in (*PARS, "distinct", "entropy", "recall@50")]


STUDY = Study(
    name="alignment",
    title="Aligning paths with rewards",
    question="What do rewards of paths (PARS, with later items: MSRA) add to a trained REG4Rec, each alone and all but "
    "one, and does as much plain training do the same? Rows named `-long` align as by default, for 15 validations 100 "
    "batches apart, with a rate that falls from three tenths of that of training; all others for at most six "
    "validations 50 batches apart, at a tenth of that rate (`-fast`: at the same).",
    variants=("reg4rec", *(name for name, (of, _) in ALIGNED.items() if of == "reg4rec")),
    write=write,
    probe=probe,
    shops=FEW_CUSTOMERS,
    anywhere=True,
)
