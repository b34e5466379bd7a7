"""What do intents mean? How well they tell what comes next, held against the states of the encoder they come from.

Kinds of labels are the next item's category, brand and price, whether its category and brand are new to the history
(exploration) or met there, and, in a simulated shop, the intent that is really followed. `probing.py` has what is asked
of vectors and of groups, such as the intent that a history leans on most or k-means clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from forethought.data.batches import case_batches
from forethought.data.histories import Cases
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.igr_sr import IGRSRModel, IntentStates
from forethought.reasoning.intents import attention_entropy
from forethought.recommender import Recommender
from forethought.studies.page import Page
from forethought.studies.probing import LABELS, accuracy_rows, even, information_rows, labels_of, probed
from forethought.studies.results import Result, run_name
from forethought.studies.study import Study

BATCH = 512
CASES = 20_000  # looked at, at most
STATE, INTENTS = "encoder's state", "intents"


def probe(model: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """Everything about one model, on its test cases."""
    if not isinstance(model.method, IGRSRModel):
        raise ConfigError("Only IGR-SR has intents to ask about.")
    rows = np.random.default_rng(seed).permutation(len(split.test))[:CASES]
    cases = split.test.take(np.sort(rows))
    vectors, intent_weights = read(model.method, cases)
    groups = _groups(vectors, intent_weights, seed)
    probes = probed(labels_of(model, split, cases), vectors, groups, cases.history.users, seed, INTENTS)
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


def _groups(vectors: Mapping[str, np.ndarray], intent_weights: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The cases in as many groups as there are intents, made in several ways."""
    from sklearn.cluster import KMeans

    M = intent_weights.shape[1]
    groups = {"strongest intent": intent_weights.argmax(1)}
    for k in dict.fromkeys(min(wanted, len(intent_weights)) for wanted in (M, LABELS)):
        for what in (INTENTS, STATE) if STATE in vectors else (INTENTS,):
            groups[f"{k} clusters of {what}"] = KMeans(k, random_state=seed).fit_predict(even(vectors[what]))
    return groups


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
                page.say("This data has no categories, brands or prices to ask for.")
                continue
            page.say(
                "How often the label is named for users that nothing was taught of, with the 95% interval over users "
                f"and, in brackets, of how much that is behind `{INTENTS}`."
            )
            kinds = [f"{one['label']} ({one['labels']} labels, {one['cases']:,} cases)" for one in figures["probes"]]
            page.table(["from", *kinds], accuracy_rows(figures["probes"], INTENTS))
            page.say("Adjusted mutual information of groups and labels:")
            page.table(
                ["groups", *(one["label"] for one in figures["probes"])],
                information_rows(figures["probes"]),
            )


STUDY = Study(
    name="intent-probing",
    title="What intents mean",
    question=(
        "Do intents tell what a user is after: the category, brand and price of what comes next, whether the user "
        "turns to a category or brand that is new to the history, and, in a simulated shop, the intent that is really "
        "followed? More so than the encoder's own state, or as many clusters of such states? And do intents of other "
        "encoders, or profiles of item texts in an encoder's place (`igr-sr-texts`)?"
    ),
    variants=("igr-sr", "igr-sr-gru4rec", "igr-sr-hstu", "igr-sr-bert4rec", "igr-sr-texts"),
    write=write,
    probe=probe,
    needs=("sklearn", "scikit-learn", "report"),
)
