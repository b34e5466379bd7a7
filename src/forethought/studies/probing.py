"""How well vectors and groups of cases name a label, taught on one half of the users and asked of the other.

Of vectors: a linear classifier. Of groups, such as clusters or the first token of a path: the commonest label of each,
and how much groups and labels tell of each other (adjusted mutual information).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, diags

from forethought.data.histories import Cases
from forethought.data.splits import Split
from forethought.evaluation.statistics import estimate_means
from forethought.recommender import Recommender
from forethought.studies.labels import (
    NONE,
    brands,
    category_levels,
    explored,
    information,
    price_fifths,
    true_intents,
)

LABELS, LEAST = 30, 50  # the commonest labels are told apart, if so many cases have them
INTENT = "intent really followed"
Vectors = np.ndarray | csr_matrix
"""[n, D], a row a case."""


def labels_of(model: Recommender, split: Split, cases: Cases) -> dict[str, np.ndarray]:
    """The label of each case, by kind of label; "" where it has none."""
    truth, items = true_intents(model.about["data_path"], split, cases), split.data.item_table
    levels = category_levels(items)
    known = {f"category, {name}": of for name, of in levels.items()}
    known |= {name: of for name, of in (("brand", brands(items)), ("price", price_fifths(items))) if of is not None}
    labels = {} if truth is None else {INTENT: truth}
    labels |= {f"next item's {name}": of[cases.targets] for name, of in known.items()}
    fine = [f"category, {name}" for name in [*levels][:2][-1:]]  # at the first level little is new, at the last all
    return labels | {f"{name}: new or met": explored(known[name], cases) for name in (*fine, "brand") if name in known}


def probed(
    labels: Mapping[str, np.ndarray],
    vectors: Mapping[str, Vectors],
    groups: Mapping[str, np.ndarray],
    users: np.ndarray,
    seed: int,
    base: str,
) -> list[dict[str, Any]]:
    """What vectors and groups say of each kind of label; kinds that too few cases have are left out.

    Args:
        labels: of each case, "" where it has none.
        groups: whole numbers from 0.
        users: of each case.
        base: the vectors or groups that all others are held against, paired.
    """
    half, probes = to_teach(users, seed), []
    for name, of in labels.items():
        kept = np.isin(of, commonest(of))
        if len(set(of[kept & half])) < 2 or not (kept & ~half).any():
            continue  # nothing to tell apart, or nobody to ask
        held = (of[kept], half[kept])
        guesses = {what: named_by_line(x[kept], *held) for what, x in vectors.items()}
        guesses |= {what: named_by_group(g[kept], *held) for what, g in groups.items()}
        guesses["commonest label"] = named_by_group(np.zeros(int(kept.sum()), int), *held)
        probes.append(
            {
                "label": name,
                "labels": len(set(of[kept])),
                "cases": int(kept.sum()),
                "accuracy": accuracies(guesses, *held, users[kept], base),
                "information": {what: information(of[kept], g[kept]) for what, g in groups.items()},
            }
        )
    return probes


def to_teach(users: np.ndarray, seed: int) -> np.ndarray:
    """True for the cases of every second user or so: what is learned of a user is asked of others."""
    _, which = np.unique(users, return_inverse=True)
    return (np.random.default_rng(seed + 1).random(which.max() + 1) < 0.5)[which]


def commonest(of: np.ndarray) -> np.ndarray:
    names, counts = np.unique(of[of != NONE], return_counts=True)
    return names[np.argsort(-counts, kind="stable")][:LABELS][np.sort(-counts)[:LABELS] <= -LEAST]


def named_by_line(x: Vectors, of: np.ndarray, taught: np.ndarray) -> np.ndarray:
    """What a linear classifier that is taught on half of the cases says of the other."""
    from sklearn.linear_model import LogisticRegression

    x = _spread(x, taught) if isinstance(x, csr_matrix) else even(x, taught)
    return LogisticRegression(C=0.1, max_iter=300).fit(x[taught], of[taught]).predict(x[~taught])


def named_by_group(group: np.ndarray, of: np.ndarray, taught: np.ndarray) -> np.ndarray:
    """Each group's commonest label in one half, said of its members in the other."""
    names, label = np.unique(of, return_inverse=True)
    counts = np.zeros((group.max() + 1, len(names)), int)
    np.add.at(counts, (group[taught], label[taught]), 1)
    counts[counts.sum(1) == 0] = counts.sum(0)  # a group that nobody was taught of
    return names[counts.argmax(1)[group[~taught]]]


def accuracies(
    guesses: Mapping[str, np.ndarray], of: np.ndarray, taught: np.ndarray, users: np.ndarray, base: str
) -> dict[str, Any]:
    """Of each, how often it is right, and by how much less often than the base; intervals over users, paired."""
    right = np.column_stack([guess == of[~taught] for guess in guesses.values()]).astype(float)
    lead = right[:, [list(guesses).index(base)]] - right
    means = estimate_means(np.column_stack([right, lead]), users[~taught])[0]
    return {
        what: {"mean": means[n].mean, "ci95": means[n].ci95, "behind": means[n + len(guesses)].ci95}
        for n, what in enumerate(guesses)
    }


def even(x: np.ndarray, by: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Columns of mean 0 and spread 1."""
    return (x - x[by].mean(0)) / (x[by].std(0) + 1e-6)


def _spread(x: csr_matrix, by: np.ndarray) -> csr_matrix:
    """Columns of spread 1; zeros stay, as a classifier has an intercept of its own."""
    seen = x[by]
    mean = np.asarray(seen.mean(0))[0]
    spread = np.sqrt(np.maximum(np.asarray(seen.multiply(seen).mean(0))[0] - mean**2, 0))
    return csr_matrix(x @ diags(1 / (spread + 1e-6)))


def accuracy_rows(probes: Sequence[Mapping[str, Any]], base: str) -> Iterator[Sequence[object]]:
    """A line of the page's table for each that was asked: every kind of label, and how far behind the base."""
    for what in probes[0]["accuracy"]:
        cells = []
        for one in probes:
            got = one["accuracy"][what]
            behind = "" if what == base else f" ({got['behind'][0]:+.1%} to {got['behind'][1]:+.1%})"
            cells.append(f"{got['mean']:.1%} [{got['ci95'][0]:.1%}, {got['ci95'][1]:.1%}]{behind}")
        yield [what, *cells]


def information_rows(probes: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[object]]:
    """A line of the page's table for each kind of groups: its information on every kind of label."""
    for what in probes[0]["information"]:
        yield [what, *(one["information"][what] for one in probes)]
