"""When pruning by the belief in categories (CORP) helps: how far beliefs move, and whom it serves.

The paper's thetas may prune nothing at all where beliefs hardly move from token to token, so that a trial at these says
nothing of pruning. Here theta is also set by how far beliefs do move on paths that nobody pruned, such that a given
share of all tokens lies beyond it. What is lost or won stands by whether the head names the target's category before
the last token, and by the length of the history.

Shapes: n cases, B of them in a batch, P paths, T tokens on a path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from forethought.data.batches import case_batches
from forethought.data.histories import Cases
from forethought.evaluation.groups import quantile_groups
from forethought.evaluation.metrics import ndcg
from forethought.evaluation.ranking import rank_cases
from forethought.evaluation.statistics import bootstrap_sums, cluster_sums, interval
from forethought.methods.reg4rec import REG4RecModel
from forethought.studies import results
from forethought.studies.page import Page, number
from forethought.studies.results import Result

FEW = 256  # cases in a batch: paths take memory
SHARES = (0.1, 0.25, 0.5)
"""Of all tokens on unpruned paths: so many move the belief further than theta."""
QUANTILES = (0.5, 0.9, 0.99, 1.0)
RIGHT, WRONG = "category named", "category missed"


@dataclass(frozen=True, eq=False)
class Beliefs:
    """What the category head says along paths that nobody pruned.

    Attributes:
        right_nT: whether the category believed in most is the target's, before each token of the best path.
        moves_K: by how much each token of each path moved the belief, in nats.
    """

    right_nT: np.ndarray
    moves_K: np.ndarray


@torch.inference_mode()
def beliefs(method: REG4RecModel, cases: Cases) -> Beliefs | None:
    """Of a model as it is set to decode; None where no head names categories."""
    tokens, right, moves, order = method.tokens, [], [], []
    if tokens.categories is None:
        return None
    method.eval()
    for rows, histories in case_batches(cases, method.window, FEW):
        paths = method.user_states(histories.to(method.device), trace=True).paths
        if paths is None or paths.categories_BTPG is None:
            return None
        best_BT = paths.categories_BTPG[:, :, 0].argmax(-1)
        targets_B = torch.from_numpy(cases.targets[rows].astype(np.int64)).to(best_BT.device)
        right.append((best_BT == tokens.category_N[targets_B][:, None]).cpu().numpy())
        moved_BPT = paths.jensen_shannon_BPT[paths.log_probs_BP > -torch.inf]
        moves.append(moved_BPT[~moved_BPT.isnan()].double().cpu().numpy())
        order.append(rows)
    return Beliefs(np.concatenate(right)[np.argsort(np.concatenate(order))], np.concatenate(moves))


def pruning(method: REG4RecModel, cases: Cases, *, exclude_history: bool) -> dict[str, Any] | None:
    """Pruning at several strengths against none, by paths alone; the model is left as it was.

    Returns:
        The head's accuracy before each token, quantiles of the moves, and a row for each strength; None where no head
        names categories.
    """
    own, share = method.config, float(method.path_share)
    plain = replace(own, decoding=replace(own.decoding, corp=False).plain())
    try:
        method.config = plain
        method.path_share.fill_(1.0)
        found = beliefs(method, cases)
        if found is None or not len(found.moves_K):
            return None
        groups = groups_of(found.right_nT[:, -1], cases)
        unpruned = ndcg(rank_cases(method, cases, exclude_history=exclude_history, batch=FEW).ranks, 10)
        rows = []
        for beyond in SHARES:
            theta = float(np.quantile(found.moves_K, 1 - beyond))
            method.config = replace(own, decoding=replace(own.decoding, corp=True, theta=theta))
            pruned = ndcg(rank_cases(method, cases, exclude_history=exclude_history, batch=FEW).ranks, 10)
            by = {name: relative(pruned, unpruned, cases.history.users, which) for name, which in groups.items()}
            rows.append({"beyond": beyond, "theta": theta, "by": by})
    finally:
        method.config = own
        method.path_share.fill_(share)
    return {
        "accuracy": found.right_nT.mean(0).tolist(),
        "accuracy_by": {name: float(found.right_nT[which, -1].mean()) for name, which in groups.items()},
        "moves": {f"{q:g}": float(np.quantile(found.moves_K, q)) for q in QUANTILES},
        "rows": rows,
    }


def groups_of(right_n: np.ndarray, cases: Cases) -> dict[str, np.ndarray]:
    """Which cases are in each group, bool [n]: all, by what the head says, and by fifths of the history's length."""
    fifths_n = quantile_groups(cases.history.lengths)
    groups = {"all": np.ones(len(cases), dtype=bool), RIGHT: right_n, WRONG: ~right_n}
    groups |= {str(name): fifths_n == name for name in np.unique(fifths_n)}
    return {name: which for name, which in groups.items() if which.any()}


def relative(own_n: np.ndarray, base_n: np.ndarray, users_n: np.ndarray, which_n: np.ndarray | None = None) -> dict:
    """The mean of a metric over another's, minus one, with its interval over users; None where the other's is 0."""
    which_n = np.ones(len(own_n), dtype=bool) if which_n is None else which_n
    own_n, base_n, users_n = own_n[which_n], base_n[which_n], users_n[which_n]
    if not base_n.any():
        return {"mean": None, "ci95": None}
    draws = bootstrap_sums(cluster_sums(np.column_stack([own_n, base_n]), users_n))
    with np.errstate(divide="ignore", invalid="ignore"):  # nobody of a small group was right: passed over
        ratios = np.where(draws[:, 1] > 0, draws[:, 0] / draws[:, 1] - 1, np.nan)
    return {"mean": float(own_n.mean() / base_n.mean() - 1), "ci95": interval(ratios).tolist()}


def words(difference: Mapping[str, Any] | None) -> str:
    """As tables have it."""
    if difference is None or difference["mean"] is None:
        return "–"
    low, high = difference["ci95"]
    return f"{difference['mean']:+.1%} [{low:+.1%}, {high:+.1%}]"


def trust_table(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    """The head's accuracy beside what pruning does, a row a run: by how long it was trained."""
    rows: list[list[object]] = []
    for dataset in results.places(runs_of):
        for variant, runs in results.at(runs_of, dataset).items():
            for run in runs:
                told = (run.probe or {}).get("pruning")
                if told is None:
                    continue
                epochs = run.parts["training"]["epochs"]
                changes = [words(row["by"]["all"]) for row in told["rows"]]
                rows.append([variant, dataset, run.seed, epochs, f"{told['accuracy'][-1]:.1%}", *changes])
    if rows:
        page.heading("Accuracy of the category head against the usefulness of pruning")
        page.say(
            "Theta is set so that the share of tokens in the head of a column moves the belief further; differences "
            "of NDCG@10 to no pruning at all, by paths alone, paired over users."
        )
        shares = [f"{share:.0%} beyond theta" for share in SHARES]
        page.table(["variant", "data", "seed", "epochs", "category named before the last token", *shares], rows)


def write_pruning(page: Page, figures: Mapping[str, Any]) -> None:
    """How far beliefs move, and what pruning at each strength does to whom."""
    moves = ", ".join(f"{value:.2g} ({_share(float(q))})" for q, value in figures["moves"].items())
    page.say(
        "On paths that nobody prunes the category of the target is the one most believed in, before each token: "
        + ", ".join(f"{share:.1%}" for share in figures["accuracy"])
        + f". A token moves the belief by so many nats: {moves}. Pruning at its full strength sets theta by these:"
    )
    names = list(figures["accuracy_by"])
    head = ["tokens beyond theta", "theta", *(_said(name) for name in names)]
    rows: list[list[object]] = [["accuracy before the last token", "", *(_percent(figures, name) for name in names)]]
    for row in figures["rows"]:
        changes = [words(row["by"].get(name)) for name in names]
        rows.append([f"{row['beyond']:.0%}", number(row["theta"], 4), *changes])
    page.table(head, rows)


def _said(name: str) -> str:
    return {"G1": "G1, shortest histories", "G5": "G5, longest"}.get(name, name)


def _percent(figures: Mapping[str, Any], name: str) -> str:
    return f"{figures['accuracy_by'][name]:.1%}"


def _share(quantile: float) -> str:
    return "at most" if quantile == 1 else f"{quantile:.0%} move less"
