"""How paths over tokens are best sought: orders, pruning, beams and lengths of one trained model.

Nothing is trained: the same weights decode the same test cases in several ways, and items are ranked by paths alone, as
in the paper, so that each way is seen at its full strength; beside them stand what is said before the first token, and
the shares that the run's validation part chose. Each is held against paths sought as the run seeks them, by paired
differences over users. Pruning needs a head for categories that can be trusted, so its accuracy is told of too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from forethought.data.histories import Cases
from forethought.data.splits import Split
from forethought.decoding.beam import BeamSettings
from forethought.decoding.calibration import THETAS, calibrate_theta
from forethought.evaluation.lists import coverage
from forethought.evaluation.metrics import ndcg, recall
from forethought.evaluation.ranking import Ranked, rank_cases
from forethought.methods.reg4rec import REG4Rec, REG4RecModel
from forethought.recommender import Recommender
from forethought.studies import results
from forethought.studies.page import Page, number
from forethought.studies.pruning import FEW, pruning, relative, trust_table, words, write_pruning
from forethought.studies.results import Result
from forethought.studies.shops import FEW_CUSTOMERS
from forethought.studies.study import Study
from forethought.studies.tables import results_table
from forethought.training.evidence_weights import some_cases

MOST_CASES = 5_000
BEAMS = (1, 2, 4, 8, 16)
STEPS = (1, 2, 4, 8)


def ways(trained: REG4Rec, codebooks: int) -> Iterator[tuple[str, REG4Rec]]:
    """Each with its name; the first is that of the run."""
    for name, decoding in _searches(trained.decoding):
        yield name, replace(trained, decoding=decoding)
    for steps in STEPS:
        if steps != trained.steps and steps <= codebooks:
            yield f"{steps} step{'s' * (steps > 1)}", replace(trained, steps=steps)


def _searches(own: BeamSettings) -> Iterator[tuple[str, BeamSettings]]:
    yield "paths alone", own
    for order in ("confident", "fixed", "random", "joint"):
        if order != own.order:
            yield f"order {order}", replace(own, order=order).plain()
    other = replace(own, corp=not own.corp).plain()
    yield ("with CORP" if other.corp else "without pruning (CORP)"), other
    for theta in THETAS:
        yield f"CORP, theta {theta:g}", replace(own, corp=True, theta=theta)
    for beams in BEAMS:
        if beams != own.beams:
            yield f"{beams} beam{'s' * (beams > 1)}", replace(own, beams=beams)


def probe(model: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """All ways of one model; none where it seeks no paths."""
    method, exclude = model.method, model.about["exclude_history"]
    if not isinstance(method, REG4RecModel):
        return {}
    test, valid = (some_cases(part, seed, MOST_CASES) for part in (split.test, split.valid))
    own, share, base, rows = method.config, float(method.path_share), None, []
    category_N = None if method.tokens.categories is None else method.tokens.category_N.cpu().numpy()
    tried = [(name, way, 1.0) for name, way in ways(own, method.tokens.codebooks)]
    tried[1:1] = [
        (f"shares as validation chose, paths {share:g}", own, share),
        ("before the first token alone", own, 0.0),
    ]
    try:
        for name, way, counts in tried:
            method.config = way
            method.path_share.fill_(counts)
            begin = time.perf_counter()
            ranked = rank_cases(method, test, exclude_history=exclude, k=10, batch=FEW)
            ms = 1000 * (time.perf_counter() - begin) / len(test)
            base = ranked if base is None else base
            rows.append(
                {
                    "way": name,
                    "settings": asdict(way.decoding) | {"steps": way.steps, "path_share": counts},
                    "ms": ms,
                    **_figures(ranked, base, test, split, category_N),
                }
            )

        def quality(theta: float) -> float:
            method.config = replace(own, decoding=replace(own.decoding, corp=True, theta=theta))
            method.path_share.fill_(1.0)
            return float(ndcg(rank_cases(method, valid, exclude_history=exclude, batch=FEW).ranks, 10).mean())

        calibrated = calibrate_theta(quality) if method.tokens.categories is not None else None
    finally:
        method.config = own
        method.path_share.fill_(share)
    return {
        "cases": len(test),
        "ways": rows,
        "pruning": pruning(method, test, exclude_history=exclude),
        "theta": None if calibrated is None else calibrated.theta,
        "valid_ndcg_of_theta": None if calibrated is None else {f"{t:g}": v for t, v in calibrated.ndcgs.items()},
    }


def _figures(ranked: Ranked, base: Ranked, cases: Cases, split: Split, category_N: np.ndarray | None) -> dict[str, Any]:
    assert ranked.lists is not None
    shown = np.bincount(ranked.lists[ranked.lists >= 0], minlength=split.data.n_items)
    own, other = ndcg(ranked.ranks, 10), ndcg(base.ranks, 10)
    return {
        "recall@5": float(recall(ranked.ranks, 5).mean()),
        "recall@10": float(recall(ranked.ranks, 10).mean()),
        "ndcg@10": float(own.mean()),
        "relative": relative(own, other, cases.history.users),
        "coverage@10": coverage(shown),
        "categories@10": None if category_N is None else distinct(category_N[ranked.lists], ranked.lists >= 0),
        "short": int((ranked.lists < 0).any(1).sum()),
    }


def distinct(labels_nK: np.ndarray, there_nK: np.ndarray) -> float:
    """How many labels a list has, on average; items that are not there have none."""
    sorted_nK = np.sort(np.where(there_nK, labels_nK, -1), axis=1)
    new_nK = np.diff(sorted_nK, axis=1, prepend=-1) > 0
    return float(new_nK.sum(1).mean())


def write(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    results_table(page, runs_of, STUDY.name)
    trust_table(page, runs_of)
    for dataset in results.places(runs_of):
        for variant, runs in results.at(runs_of, dataset).items():
            for run in (each for each in runs if each.probe):
                _ways_of(page, f"{variant} on {dataset}, seed {run.seed}", run.probe or {})


def _ways_of(page: Page, name: str, figures: Mapping[str, Any]) -> None:
    page.heading(f"Ways of decoding: {name}")
    page.say(
        f"The same weights on the same {figures['cases']:,} test cases, ranked by paths alone unless said otherwise. "
        "Differences of NDCG@10 are relative to paths sought as the run seeks them, paired over users, with 95% "
        f"intervals. Milliseconds are those of ranking and lists, in batches of {FEW}. A list is short that has fewer "
        "than 10 items; precision@10 is a tenth of recall@10, since each case has one target. Categories are how many "
        "a list has: its diversity."
    )
    head = ["way", "recall@5", "recall@10", "ndcg@10", "difference", "coverage@10", "categories@10", "ms a history"]
    rows = []
    for way in figures["ways"]:
        quality = [number(way[metric], 4) for metric in ("recall@5", "recall@10", "ndcg@10")]
        lists = number(way["coverage@10"], 3), number(way["categories@10"], 2)
        rows.append([way["way"], *quality, words(way["relative"]), *lists, number(way["ms"], 2), way["short"]])
    page.table([*head, "short lists"], rows)
    if figures["pruning"] is not None:
        write_pruning(page, figures["pruning"])
    if figures["theta"] is not None:
        page.say(f"On the validation part theta {figures['theta']:.3g} ranks best; log 2 = 0.693 prunes nothing.")


STUDY = Study(
    name="token-decoding",
    title="Decoding paths over tokens",
    question="Does the order in which codebooks are decided matter (CRSS), does pruning help (CORP), and how many beams"
    " and steps are worth their time? Does pruning hang on how well the head names categories: by how long the model"
    " was trained, and of whom it is asked?",
    variants=("reg4rec", "reg4rec-epochs-2", "reg4rec-epochs-5"),
    write=write,
    probe=probe,
    shops=FEW_CUSTOMERS,
    anywhere=True,
)
