"""What do intents mean? How well they tell what comes next, held against the states of the encoder they come from.

Two questions to each kind of label (the next item's category and brand; in a simulated shop, the intent that is really
followed). Of vectors: how often does a linear classifier, trained on one half of the users, name the label for the
other half? Of groups, such as the intent a history leans on most or k-means clusters: how much do they tell about the
label (adjusted mutual information), and how often is their commonest label right?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from forethought.data.batches import case_batches
from forethought.data.histories import Cases
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.evaluation.statistics import estimate_means
from forethought.methods.igr_sr import IGRSRModel, IntentStates
from forethought.reasoning.intents import attention_entropy
from forethought.recommender import Recommender
from forethought.studies.labels import NONE, brands, category_levels, information, true_intents
from forethought.studies.page import Page
from forethought.studies.results import Result, run_name
from forethought.studies.study import Study

BATCH = 512
CASES = 20_000  # looked at, at most
LABELS, LEAST = 30, 50  # the commonest labels are told apart, if so many cases have them
STATE, INTENTS = "encoder's state", "intents"


def probe(model: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """Everything about one model, on its test cases."""
    if not isinstance(model.method, IGRSRModel):
        raise ConfigError("Only IGR-SR has intents to ask about.")
    rows = np.random.default_rng(seed).permutation(len(split.test))[:CASES]
    cases = split.test.take(np.sort(rows))
    vectors, intent_weights = read(model.method, cases)
    groups = _groups(vectors, intent_weights, seed)
    users, half = cases.history.users, to_teach(cases.history.users, seed)
    probes = []
    for name, of in _labels(model, split, cases).items():
        kept = np.isin(of, _commonest(of))
        if len(set(of[kept & half])) < 2 or not (kept & ~half).any():
            continue  # nothing to tell apart, or nobody to ask
        one = {"label": name, "labels": len(set(of[kept])), "cases": int(kept.sum())}
        held = (of[kept], half[kept], users[kept])
        guesses = {what: _named_by_line(x[kept], *held[:2]) for what, x in vectors.items()}
        guesses |= {what: _named_by_group(g[kept], *held[:2]) for what, g in groups.items()}
        guesses["commonest label"] = _named_by_group(np.zeros(int(kept.sum()), int), *held[:2])
        one["accuracy"] = _accuracies(guesses, *held)
        one["information"] = {what: information(of[kept], g[kept]) for what, g in groups.items()}
        probes.append(one)
    return {
        "intents": intent_weights.shape[1],
        "intent_weights": intent_weights.mean(0).tolist(),
        "attention_entropy": float(attention_entropy(torch.from_numpy(intent_weights)).mean()),
        "probes": probes,
    }


@torch.inference_mode()
def read(method: IGRSRModel, cases: Cases) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the model makes of each case: vectors of several kinds, float32 [n, D], and weights on intents, [n, M]."""
    method.eval()
    kinds: dict[str, list[np.ndarray]] = {}
    order = []
    for rows, on_cpu in case_batches(cases, method.window, BATCH):
        batch = on_cpu.to(method.device)
        represented, intents_BMD = method.user_states(batch), method.intents(batch)
        assert isinstance(represented, IntentStates)
        vectors = {
            INTENTS: intents_BMD.flatten(1),
            **{f"intent {m + 1} alone": intents_BMD[:, m] for m in range(intents_BMD.shape[1])},
            **({STATE: method.encoder.user_states(batch).states_BD} if method.reads_encoder else {}),
            "last state": represented.states_BD,
            "intent_weights": represented.weights_BM,
        }
        order.append(rows)
        for name, of in vectors.items():
            kinds.setdefault(name, []).append(of.float().cpu().numpy())
    back = np.argsort(np.concatenate(order))
    whole = {name: np.concatenate(parts)[back] for name, parts in kinds.items()}
    return whole, whole["intent_weights"]


def to_teach(users: np.ndarray, seed: int) -> np.ndarray:
    """True for the cases of every second user or so: what is learned of a user is asked of others."""
    _, which = np.unique(users, return_inverse=True)
    return (np.random.default_rng(seed + 1).random(which.max() + 1) < 0.5)[which]


def _groups(vectors: Mapping[str, np.ndarray], intent_weights: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The cases in as many groups as there are intents, made in several ways."""
    from sklearn.cluster import KMeans

    M = intent_weights.shape[1]
    groups = {"strongest intent": intent_weights.argmax(1)}
    for k in dict.fromkeys(min(wanted, len(intent_weights)) for wanted in (M, LABELS)):
        for what in (INTENTS, STATE) if STATE in vectors else (INTENTS,):
            groups[f"{k} clusters of {what}"] = KMeans(k, random_state=seed).fit_predict(_even(vectors[what]))
    return groups


def _labels(model: Recommender, split: Split, cases: Cases) -> dict[str, np.ndarray]:
    """The label of each case, by kind of label; "" where it has none."""
    truth = true_intents(model.about["data_path"], split, cases)
    labels = {} if truth is None else {"intent really followed": truth}
    levels = category_levels(split.data.item_table)
    labels |= {f"next item's category, {name}": of[cases.targets] for name, of in levels.items()}
    brand = brands(split.data.item_table)
    return labels | ({} if brand is None else {"next item's brand": brand[cases.targets]})


def _commonest(of: np.ndarray) -> np.ndarray:
    names, counts = np.unique(of[of != NONE], return_counts=True)
    return names[np.argsort(-counts, kind="stable")][:LABELS][np.sort(-counts)[:LABELS] <= -LEAST]


def _named_by_line(x: np.ndarray, of: np.ndarray, taught: np.ndarray) -> np.ndarray:
    """What a linear classifier that is taught on half of the cases says of the other."""
    from sklearn.linear_model import LogisticRegression

    x = _even(x, taught)
    return LogisticRegression(C=0.1, max_iter=300).fit(x[taught], of[taught]).predict(x[~taught])


def _named_by_group(group: np.ndarray, of: np.ndarray, taught: np.ndarray) -> np.ndarray:
    """Each group's commonest label in one half, said of its members in the other."""
    names, label = np.unique(of, return_inverse=True)
    counts = np.zeros((group.max() + 1, len(names)), int)
    np.add.at(counts, (group[taught], label[taught]), 1)
    counts[counts.sum(1) == 0] = counts.sum(0)  # a group that nobody was taught of
    return names[counts.argmax(1)[group[~taught]]]


def _accuracies(guesses: Mapping[str, np.ndarray], of: np.ndarray, taught: np.ndarray, users: np.ndarray) -> dict:
    """Of each, how often it is right, and by how much less often than the intents; intervals over users, paired."""
    right = np.column_stack([guess == of[~taught] for guess in guesses.values()]).astype(float)
    lead = right[:, [list(guesses).index(INTENTS)]] - right
    means = estimate_means(np.column_stack([right, lead]), users[~taught])[0]
    return {
        what: {"mean": means[n].mean, "ci95": means[n].ci95, "behind": means[n + len(guesses)].ci95}
        for n, what in enumerate(guesses)
    }


def _even(x: np.ndarray, by: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Columns of mean 0 and spread 1."""
    return (x - x[by].mean(0)) / (x[by].std(0) + 1e-6)


def write(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    for _, runs in runs_of.items():
        for run in (r for r in runs if r.probe is not None):
            name, figures = run_name(run.variant, run.dataset, run.seed), run.probe or {}
            page.heading(name)
            shares = ", ".join(f"{share:.0%}" for share in figures["intent_weights"])
            page.say(
                f"Histories lean on the {figures['intents']} intents by {shares} on average; the weights of one "
                f"history have {figures['attention_entropy']:.1%} of the entropy of even ones."
            )
            if not figures["probes"]:
                page.say("This data has neither categories nor brands to ask for.")
                continue
            page.say(
                "How often the label is named for users that nothing was taught of, with the 95% interval over users "
                f"and, in brackets, of how much that is behind `{INTENTS}`."
            )
            kinds = [f"{one['label']} ({one['labels']} labels, {one['cases']:,} cases)" for one in figures["probes"]]
            page.table(["from", *kinds], _rows(figures["probes"]))
            page.say("Adjusted mutual information of groups and labels:")
            page.table(
                ["groups", *(one["label"] for one in figures["probes"])],
                [
                    (what, *(one["information"][what] for one in figures["probes"]))
                    for what in figures["probes"][0]["information"]
                ],
            )


def _rows(probes: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[object]]:
    for what in probes[0]["accuracy"]:
        cells = []
        for one in probes:
            got = one["accuracy"][what]
            behind = "" if what == INTENTS else f" ({got['behind'][0]:+.1%} to {got['behind'][1]:+.1%})"
            cells.append(f"{got['mean']:.1%} [{got['ci95'][0]:.1%}, {got['ci95'][1]:.1%}]{behind}")
        yield [what, *cells]


STUDY = Study(
    name="intent-probing",
    title="What intents mean",
    question=(
        "Do intents tell what a user is after: the category and brand of what comes next, and, in a simulated shop, "
        "the intent that is really followed? More so than the encoder's own state, or as many clusters of such states?"
    ),
    variants=("igr-sr",),
    write=write,
    probe=probe,
    needs=("sklearn", "scikit-learn", "report"),
)
