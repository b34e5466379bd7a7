"""Do paths over tokens mean intents? What tokens and paths tell of what comes next, and how many lead to an item.

Labels are the intent that is really followed (in a simulated shop), the next item's category and its brand. Vectors and
groups of REG4Rec are held against the state of the very same history, a model that names all tokens at once (RPG) over
the same tokens, the tokens of the next item itself, which no model can know, and groups of chance. Then the paths
themselves: by how many orders of codebooks one item is reached, what they tell of the intent among users who take the
same item, and whether the paths of one user agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.reg4rec import REG4RecModel
from forethought.methods.rpg import RPGModel
from forethought.recommender import Recommender
from forethought.studies.page import Page, number
from forethought.studies.path_diversity import agreement, as_groups, information_within, ways_by_item
from forethought.studies.path_reading import PathsRead, read_paths
from forethought.studies.probing import (
    INTENT,
    LABELS,
    Vectors,
    accuracy_rows,
    even,
    information_rows,
    labels_of,
    probed,
)
from forethought.studies.results import Result, run_name
from forethought.studies.shops import FEW_CUSTOMERS
from forethought.studies.study import Study
from forethought.training.evidence_weights import some_cases

MOST_CASES = 5_000
COMPONENTS = 128  # of beliefs in all tokens, which have thousands of columns
STATE, DECIDED = "history's state", "first decided token"
OF_TARGET = "next item's token of the book decided first"


def probe(model: Recommender, split: Split, seed: int) -> dict[str, Any]:
    """Everything about one model, on its test cases.

    Raises:
        ConfigError: the model names no tokens.
    """
    method = model.method
    if not isinstance(method, REG4RecModel | RPGModel):
        raise ConfigError("Only REG4Rec and RPG have tokens to ask about.")
    cases = some_cases(split.test, seed, MOST_CASES)
    read = read_paths(method, cases, exclude_history=model.about["exclude_history"])
    codes_nM = method.tokens.codes_NM.cpu().numpy()[cases.targets]
    groups, users = groups_of(read, codes_nM, seed), cases.history.users
    labels, size = labels_of(model, split, cases), method.tokens.size
    told = {
        "cases": len(cases),
        "codebooks": codes_nM.shape[1],
        "size": size,
        "steps": read.books_nPT.shape[2],
        "probes": probed(labels, vectors_of(read, codes_nM, seed), groups, users, seed, STATE),
    }
    if INTENT in labels:
        told["within"] = information_within(labels[INTENT], groups, cases.targets)
    if read.has_paths:
        told["ways"] = {what: ways_by_item(read.top_n, of, seed) for what, of in _lead_ways(read).items()}
        told["agreement"] = agreement(read.best_nP, read.weights_nP, users, seed)
    return told


def vectors_of(read: PathsRead, codes_nM: np.ndarray, seed: int) -> dict[str, Vectors]:
    """What a linear classifier reads, a row a case.

    Args:
        codes_nM: tokens of the item that came next.
    """
    n, M, C = read.first_nMC.shape
    vectors: dict[str, Vectors] = {STATE: read.states_nD, "beliefs before the first token": _pca(read.first_nMC, seed)}
    if read.has_paths:
        at_nPT = read.books_nPT * C + read.tokens_nPT
        vectors |= {
            "beliefs on the paths": _pca(read.merged_nMC, seed),
            "tokens of the best path": bags(at_nPT[:, 0], np.ones(at_nPT[:, 0].shape), M * C),
            "tokens of all paths": bags(
                at_nPT.reshape(n, -1), np.repeat(read.weights_nP, at_nPT.shape[2], axis=1), M * C
            ),
        }
    at_nM = np.arange(M) * C + codes_nM
    return vectors | {"tokens of the next item itself": bags(at_nM, np.ones(at_nM.shape), M * C)}


def bags(at_nK: np.ndarray, weights_nK: np.ndarray, width: int) -> csr_matrix:
    """Tokens of each case as a bag, [n, width]: what falls on the same place adds up."""
    rows = np.repeat(np.arange(len(at_nK)), at_nK.shape[1])
    return csr_matrix((weights_nK.reshape(-1), (rows, at_nK.reshape(-1))), shape=(len(at_nK), width))


def _pca(log_probs_nMC: np.ndarray, seed: int) -> np.ndarray:
    """The first principal components of all log-probabilities."""
    from sklearn.decomposition import PCA

    flat = log_probs_nMC.reshape(len(log_probs_nMC), -1)
    return PCA(min(COMPONENTS, *flat.shape), random_state=seed, svd_solver="randomized").fit_transform(flat)


def groups_of(read: PathsRead, codes_nM: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The cases in groups, whole numbers from 0; without paths the token that is believed in most stands for one.

    Args:
        codes_nM: tokens of the item that came next.
    """
    from sklearn.cluster import KMeans

    n, _, C = read.first_nMC.shape
    surest_n = read.first_nMC.reshape(n, -1).argmax(1)
    groups = {}
    if read.has_paths:
        books_nT, tokens_nT = read.books_nPT[:, 0], read.tokens_nPT[:, 0]
        book_n, first_n = books_nT[:, 0], as_groups(books_nT[:, 0], tokens_nT[:, 0])
        groups[DECIDED] = first_n
        groups["book decided first"] = as_groups(book_n)
        groups["order of codebooks"] = as_groups(books_nT)
        groups["whole path"] = as_groups(books_nT, tokens_nT)
    else:
        book_n, first_n = surest_n // C, as_groups(surest_n)
        groups["token believed in most"] = first_n
    groups[f"{LABELS} clusters of the state"] = KMeans(min(LABELS, n), random_state=seed).fit_predict(
        even(read.states_nD)
    )
    groups[OF_TARGET] = as_groups(book_n, codes_nM[np.arange(n), book_n])
    return groups | {"the first tokens, dealt out by chance": np.random.default_rng(seed).permutation(first_n)}


def _lead_ways(read: PathsRead) -> dict[str, np.ndarray]:
    """How the path that has most share in the top item's score came there."""
    at = np.arange(len(read.lead_n)), read.lead_n
    books_nT, tokens_nT = read.books_nPT[at], read.tokens_nPT[at]
    by_book = np.argsort(books_nT, axis=1)
    sets = (np.take_along_axis(each, by_book, 1) for each in (books_nT, tokens_nT))
    return {
        "order of codebooks": as_groups(books_nT),
        "set of tokens": as_groups(*sets),
        "whole path": as_groups(books_nT, tokens_nT),
    }


def write(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    """Each run's tables, one after the other."""
    page.say(
        "Accuracy is how often the label is named for users that nothing was taught of: by a linear classifier of "
        f"vectors, or as the commonest label of a group. In brackets the 95% interval over users, then how far it lies "
        f"behind the {STATE}, paired; what is ahead has a negative number. Beliefs in all tokens are read by their "
        f"first {COMPONENTS} principal components. No model can know the tokens of the next item: they are the bound."
    )
    for runs in runs_of.values():
        for run in runs:
            if run.probe:
                _of_run(page, run_name(run.variant, run.dataset, run.seed), run, run.probe)


def _of_run(page: Page, name: str, run: Result, figures: Mapping[str, Any]) -> None:
    page.heading(name)
    steps = f"paths of {figures['steps']}" if figures["steps"] else "all named at once"
    page.say(
        f"{figures['cases']:,} test cases; {figures['codebooks']} tokens an item of {figures['size']} codes each, "
        f"{steps}; NDCG@10 {run.mean('ndcg@10'):.4f}."
    )
    if figures["probes"]:
        kinds = [f"{one['label']} ({one['labels']} labels, {one['cases']:,} cases)" for one in figures["probes"]]
        page.table(["from", *kinds], accuracy_rows(figures["probes"], STATE))
        page.say("Adjusted mutual information of groups and labels, 0 by chance:")
        page.table(["groups", *(one["label"] for one in figures["probes"])], information_rows(figures["probes"]))
    else:
        page.say("This data has neither categories nor brands to ask for.")
    if "within" in figures:
        _within(page, figures["within"])
    if "ways" in figures:
        _ways(page, figures)


def _within(page: Page, within: Mapping[str, Any]) -> None:
    if not within["items"]:
        page.say("No item was taken next by enough users with different intents to look within it.")
        return
    page.say(
        f"Among users who take one and the same item next ({within['items']:,} items of several intents, "
        f"{within['cases']:,} cases), how much groups tell of the intent that is really followed:"
    )
    page.table(["groups", "adjusted mutual information"], list(within["information"].items()))


def _ways(page: Page, figures: Mapping[str, Any]) -> None:
    counted = next(iter(figures["ways"].values()))
    if counted["items"]:
        page.say(
            f"Ways to one item: of {counted['items']:,} items that top the lists of ten cases or more "
            f"({counted['cases']:,} cases), the path with the largest share in the item's score. The effective number "
            "is exp of the entropy; by chance: the same ways dealt out among these cases, with 95% intervals of deals."
        )
        head = ["way", "distinct", "by chance", "effective number", "by chance", "items with several"]
        page.table(head, _way_rows(figures["ways"]))
    else:
        page.say("No item tops the lists of ten cases.")
    agreed = figures["agreement"]
    (low, high), (least, most) = agreed["share"]["ci95"], agreed["unanimous"]["ci95"]
    page.say(
        f"Paths of one case ({agreed['paths']:.1f} on average): {agreed['share']['mean']:.1%} [{low:.1%}, {high:.1%}] "
        f"of them lead to their commonest item, {agreed['by_chance']:.1%} of as many paths of different cases; all to "
        f"one item in {agreed['unanimous']['mean']:.1%} [{least:.1%}, {most:.1%}] of the cases."
    )


def _way_rows(ways: Mapping[str, Mapping[str, Any]]) -> Iterator[Sequence[object]]:
    for what, of in ways.items():
        chances = []
        for by_chance in (of["distinct_by_chance"], of["effective_by_chance"]):
            low, high = by_chance["ci95"]
            chances.append(f"{by_chance['mean']:.2f} [{low:.2f}, {high:.2f}]")
        distinct, effective = (number(of[key], 2) for key in ("distinct", "effective"))
        yield [what, distinct, chances[0], effective, chances[1], f"{of['several']:.1%}"]


STUDY = Study(
    name="path-meaning",
    title="What paths over tokens mean",
    question="Do the tokens that REG4Rec decides, and the order in which it decides them, tell what a user is after? "
    "Is one item reached in several ways, by users with different intents, and do the paths of one user agree?",
    variants=("reg4rec", "reg4rec-steps-8", "rpg-m-8"),
    write=write,
    probe=probe,
    shops=FEW_CUSTOMERS,
    anywhere=True,
    needs=("sklearn", "scikit-learn", "report"),
)
