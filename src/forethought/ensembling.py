"""Several runs averaged: a run folder of its own, which holds its members' weights and configurations.

Members were trained on the same part of the same data, so that what they are tested on is new to all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from forethought.config import RunConfig, to_json
from forethought.data.batches import case_batches
from forethought.data.histories import Cases
from forethought.data.splits import Split
from forethought.devices import Device, resolve_device
from forethought.errors import ConfigError, DataError
from forethought.evaluation.metrics import ndcg
from forethought.evaluation.ranking import filtered_items
from forethought.folders import check_empty
from forethought.methods.ensemble import MOST, Ensemble, EnsembleModel
from forethought.recommender import Recommender, load
from forethought.references import check_same_split
from forethought.run_folder import written
from forethought.settings import check, check_all
from forethought.untrained import SEEN_UNTIL

FACTORS = (0.0, 0.5, 0.75, 1.5, 2.0)  # that a member's weight is tried at
ROUNDS = 2
MOST_CASES = 10_000
BATCH = 1024
CUT = 10
SHARED = (
    *("data", "data_hash", "data_path", "columns", "users", "items", "interactions", "protocol"),
    *("exclude_history", "extended", SEEN_UNTIL),
)
"""What is the same of all members."""


def ensemble(
    runs: Sequence[Recommender | str | Path], out: str | Path, *, split: Split | None = None, device: Device = "auto"
) -> Recommender:
    """The average of several runs, in a folder that needs theirs no more.

    Args:
        runs: recommenders or run folders, of the same items, data and split; they stay as they are.
        out: the folder to be made, absent or empty; it appears whole or not at all.
        split: the one they were trained on, to fit their weights on its validation part; None: all count alike.
        device: where weights are fitted, and where the ensemble computes.

    Raises:
        ConfigError: there are too few runs, or one whose scores are no log-probabilities.
        DataError: they do not belong together, or the folder is not empty.
        RunError: there is no such run, or it is damaged.
    """
    check_all(out=(out, str | Path), split=(split, Split | None))
    if isinstance(runs, str | bytes | Path | Recommender):
        raise ConfigError("An ensemble is made of several runs: give a list of them.")
    out, listed = Path(out), list(runs)
    check(listed, list[Recommender | str | Path], "runs")
    if not 2 <= len(listed) <= MOST:
        raise ConfigError(f"An ensemble has from 2 to {MOST} members, but {len(listed)} was given: name other runs.")
    check_empty(out)
    there = resolve_device(device)
    members = [run if isinstance(run, Recommender) else load(run, device="cpu") for run in listed]
    names = [_name(member, at) for at, member in enumerate(members, start=1)]
    for name, member in zip(names, members, strict=True):
        _check_member(name, member, names[0], members[0])
    _check_different(names, members)
    if split is not None:
        check_same_split(members[0], split)
    method = EnsembleModel([copy.deepcopy(member.method) for member in members]).to(there).eval()
    if split is not None:
        fit_members(method, split.valid, exclude_history=members[0].about["exclude_history"])
    return written(_made(names, members, method, fitted=split is not None), out, device=device)


def _name(member: Recommender, at: int) -> str:
    """What a member is called in sentences and in the folder."""
    return f"member {at}" if member.folder is None else member.folder.name


def _check_member(name: str, member: Recommender, first_name: str, first: Recommender) -> None:
    """Whether a run may be a member beside the first one.

    Raises:
        ConfigError: its scores are no log-probabilities, or its users' histories are other candidates.
        DataError: it was trained on other items, data or another split.
    """
    if isinstance(member.method, EnsembleModel):
        raise ConfigError(f"{name!r} is an ensemble itself, whose scores are an average already: name its members.")
    if member.config.method.closed_form:
        raise ConfigError(
            f"{name!r} is one of {type(member.config.method).__name__}, whose scores are no log-probabilities and "
            "cannot be averaged with any: leave it out (co-occurrence can stand beside a model as --evidence)."
        )
    if member.method.state_width is None:
        raise ConfigError(
            f"{name!r} is one of {type(member.config.method).__name__}, which knows items as tokens and no vectors of "
            "them that could stand side by side with others: leave it out."
        )
    mine, theirs = member.items.ids, first.items.ids
    if len(mine) != len(theirs) or member.items.kind != first.items.kind or bool((mine != theirs).any()):
        extended = [of for of, run in ((name, member), (first_name, first)) if run.about.get("extended")]
        mend = "average runs of the same data"
        if extended:
            mend = f"{extended[0]!r} was extended by new items, so extend all by the same, or take what it was made of"
        raise DataError(
            f"{name!r} knows {len(mine):,} items and {first_name!r} {len(theirs):,}, not the same ones: {mend}."
        )
    if member.about["data_hash"] != first.about["data_hash"]:
        raise DataError(
            f"{name!r} was trained on other interactions ({member.about['data']!r}) than {first_name!r}, and may have "
            "seen what is tested here: average runs of the same data."
        )
    mine, theirs = member.about["protocol"], first.about["protocol"]
    other = [
        f"{key} {mine.get(key)!r}, not {theirs.get(key)!r}"
        for key in {**theirs, **mine}
        if mine.get(key) != theirs.get(key)
    ]
    if other:
        raise DataError(
            f"{name!r} was trained on another split than {first_name!r} ({', '.join(other)}), and may have seen what "
            "is tested here: average runs of the same split."
        )
    if member.about["exclude_history"] != first.about["exclude_history"]:
        raise ConfigError(
            f"{name!r} and {first_name!r} differ in whether a user's history is left out of the candidates: average "
            "runs that agree."
        )


def _check_different(names: list[str], members: list[Recommender]) -> None:
    seen: dict[str, str] = {}
    for name, member in zip(names, members, strict=True):
        if member.weights_sum is not None and member.weights_sum in seen:
            raise ConfigError(
                f"{seen[member.weights_sum]!r} and {name!r} are one run, which would count twice: name it once."
            )
        seen[str(member.weights_sum)] = name


def _made(names: list[str], members: list[Recommender], method: EnsembleModel, *, fitted: bool) -> Recommender:
    """The ensemble's run, which keeps of each member what its weights are read with."""
    first = members[0]
    config = RunConfig(
        method=Ensemble(size=len(members), weights="validation" if fitted else "equal"),
        split=first.config.split,
        exclude_history=first.config.exclude_history,
    )
    parts = [
        {
            "run": name,
            "config": to_json(member.config),
            "features": member.about.get("features", []),
            "evidence": member.about.get("evidence", []),
            "weights": member.weights_sum,
        }
        for name, member in zip(names, members, strict=True)
    ]
    about = {key: first.about[key] for key in SHARED if key in first.about} | {"members": parts}
    started = [start for member in members if (start := member.about.get("started_from") or {}).get("may_have_seen")]
    about |= {"started_from": started[0]} if started else {}
    return Recommender(method, config, first.items, first.item_table, about)


# ---- weights


@torch.inference_mode()
def fit_members(method: EnsembleModel, cases: Cases, *, exclude_history: bool, seed: int = 0) -> None:
    """Set the weights to those of a grid around equal ones that rank the cases best; they sum to 1.

    One member after the other is tried at some multiples of its weight. Of equally good ones the first stays, so that
    where weights do not help all count alike.

    Args:
        method: on the device where it is to compute; its weights are changed.
        cases: of the validation part.
        exclude_history: whether items of the histories are no candidates.
        seed: of the draw of cases, where there are many.
    """
    if len(cases) > MOST_CASES:
        cases = cases.take(np.sort(np.random.default_rng(seed).choice(len(cases), MOST_CASES, replace=False)))
    weights = method.weights_K.tolist()
    best = _quality(method, cases, [weights], exclude_history)[0]
    for _ in range(ROUNDS):
        for k in range(len(weights)):
            tried = [_scaled(weights, k, factor) for factor in FACTORS]
            qualities = _quality(method, cases, tried, exclude_history)
            at = int(np.argmax(qualities))
            if qualities[at] > best:
                weights, best = tried[at], qualities[at]
    method.weights_K.copy_(torch.tensor(weights))


def _scaled(weights: list[float], k: int, factor: float) -> list[float]:
    """One weight times a factor, and then all of them to a sum of 1; never all zero."""
    changed = [*weights[:k], weights[k] * factor, *weights[k + 1 :]]
    total = sum(changed)
    return [each / total for each in changed] if total else weights


def _quality(method: EnsembleModel, cases: Cases, tried: list[list[float]], exclude_history: bool) -> list[float]:
    """NDCG@10 with each of some weights; histories are read once for all of them."""
    totals = np.zeros(len(tried))
    for rows, histories in case_batches(cases, method.window, BATCH):
        of = method.read(histories.to(method.device))
        excluded = filtered_items(cases.met.take(rows), method.device) if exclude_history else None
        targets = torch.from_numpy(cases.targets[rows].astype(np.int64)).to(method.device)
        for at, weights in enumerate(tried):
            method.weights_K.copy_(torch.tensor(weights))
            totals[at] += ndcg(method.rank_of(method.weighed(of), targets, excluded).cpu().numpy(), CUT).sum()
    return (totals / len(cases)).tolist()
