"""Weights of evidence that are chosen on cases: the best of a grid, and 0 for what does not help."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from forethought.data.batches import history_batch
from forethought.data.evidence import Evidence, EvidenceTable, read_evidence
from forethought.data.histories import Cases
from forethought.data.neighbours import Neighbours
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.evaluation.metrics import ndcg
from forethought.evaluation.ranking import rank_cases
from forethought.methods.interface import Method
from forethought.methods.items import with_evidence
from forethought.methods.next_item import NextItem
from forethought.methods.reg4rec import REG4Rec
from forethought.methods.rpg import RPG
from forethought.training import evidence_weights
from forethought.training.evidence_weights import COARSE, FINE, fit_weights
from support.small_tokens import TOKENIZER, token_model


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """A shop large enough for its evidence to mean something."""
    folder = tmp_path_factory.mktemp("data") / "shop"
    return leave_last_out(read(Shop(users=700, items=150, interactions_per_user=12.0, seed=3).write(folder)))


def untrained(split: Split, tables: tuple[EvidenceTable, ...], config: Evidence, sasrec: Any) -> Method:
    torch.manual_seed(0)
    method = NextItem(backbone=sasrec).build(split.data.sizes)
    method = with_evidence(method, config, [each.shape for each in tables])
    assert method.evidence is not None
    method.evidence.take(tables)
    return method.eval()


def permuted(table: EvidenceTable, seed: int) -> EvidenceTable:
    """The same numbers, about other items, as a second kind."""
    row_of = np.random.default_rng(seed).permutation(len(table.table))
    items = np.where(table.table.values_NK > 0, row_of[table.table.items_NK], 0).astype(np.int32)
    shape = table.shape._replace(name="text", kind="like")
    return table._replace(shape=shape, table=Neighbours(items, table.table.values_NK))


def weighted_ndcg(method: Method, cases: Cases, weights: Any, *, exclude: bool) -> float:
    """NDCG@10 of whole matrices, with weights of evidence."""
    with torch.inference_mode():
        batch = history_batch(cases.history, method.window)
        scores = method.catalogue().scores(method.user_states(batch).states_BD).double().numpy()  # type: ignore[attr-defined]
        assert method.evidence is not None
        support = method.evidence.support(batch.items_BL, torch.arange(len(cases)), batch.lengths_B - 1)
    kinds = np.repeat(np.arange(len(weights)), support.sizes)
    added = np.zeros_like(scores)
    np.add.at(added, (support.rows_T, support.items_T), np.array(weights)[kinds] * support.values_T.double().numpy())
    scores += method.catalogue().temperature * added
    total = 0.0
    for row, target in enumerate(cases.targets):
        if exclude:
            met = cases.met.take(np.array([row]))
            scores[row, met.histories.items[met.starts[0] : met.ends[0]]] = -np.inf
        own = scores[row, target]
        rank = 1 + (scores[row] > own).sum() + ((scores[row] == own).sum() - 1) / 2
        total += 1 / np.log2(rank + 1) if rank <= 10 else 0.0
    return total / len(cases)


@pytest.mark.parametrize("exclude", [True, False])
def test_what_is_chosen_is_the_best_of_the_grid(big: Split, sasrec: Any, exclude: bool) -> None:
    """Of one kind, by brute force: the best coarse weight, then the best of those around it."""
    config = Evidence(use="co_occurrence")
    method = untrained(big, read_evidence(big, config), config, sasrec)
    fitted = fit_weights(method, big.valid, exclude_history=exclude)
    quality = {weight: weighted_ndcg(method, big.valid, [weight], exclude=exclude) for weight in COARSE}
    coarse = max(quality, key=lambda weight: (round(quality[weight], 9), -weight))
    quality |= {
        coarse * factor: weighted_ndcg(method, big.valid, [coarse * factor], exclude=exclude) for factor in FINE
    }
    assert coarse > 0
    assert fitted.best == pytest.approx(max(quality.values()), abs=1e-6)
    assert quality[fitted.weights[0]] == pytest.approx(fitted.best, abs=1e-6)
    assert fitted.without == pytest.approx(quality[0.0], abs=1e-6)
    assert fitted.best > 1.5 * fitted.without
    assert method.evidence is not None
    assert method.evidence.weights_E.tolist() == pytest.approx(fitted.weights)


def test_two_kinds_are_as_good_as_all_pairs_of_the_coarse_grid(big: Split, sasrec: Any) -> None:
    """One after the other, and then nearer, is no worse here than looking at all of them."""
    (met,) = read_evidence(big, Evidence(use="co_occurrence"))
    (repeat,) = read_evidence(big, Evidence(use="repeat"))
    config = Evidence(use="co_occurrence,repeat")
    method = untrained(big, (met, repeat), config, sasrec)
    fitted = fit_weights(method, big.valid, exclude_history=False)
    best = max(weighted_ndcg(method, big.valid, pair, exclude=False) for pair in product(COARSE, repeat=2))
    assert fitted.best >= best - 1e-6


@pytest.mark.parametrize("seed", range(8))
def test_evidence_of_permuted_items_comes_to_nothing(big: Split, sasrec: Any, seed: int) -> None:
    """Beside one that helps, whose weight it leaves as it is; with four of these, some weight is better by chance."""
    config = Evidence(use="co_occurrence,text")
    (met,) = read_evidence(big, Evidence(use="co_occurrence"))
    method = untrained(big, (met, permuted(met, seed)), config, sasrec)
    fitted = fit_weights(method, big.valid, exclude_history=True)
    assert fitted.weights[0] >= 1.0
    assert fitted.weights[1] == 0.0


def test_of_equally_good_weights_the_smaller_is_taken(big: Split, sasrec: Any) -> None:
    """An empty table changes nothing at any weight."""
    (met,) = read_evidence(big, Evidence(use="co_occurrence"))
    empty = met._replace(table=replace(met.table, values_NK=np.zeros_like(met.table.values_NK)))
    config = Evidence(use="co_occurrence")
    fitted = fit_weights(untrained(big, (empty,), config, sasrec), big.valid, exclude_history=True)
    assert fitted.weights == [0.0]
    assert fitted.best == fitted.without


def test_many_cases_are_drawn_from(big: Split, sasrec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are looked at, the same ones for the same seed."""
    looked = []
    quality = evidence_weights._quality

    def counted(method: Method, cases: Cases, *rest: Any) -> np.ndarray:
        looked.append(cases.targets.tolist())
        return quality(method, cases, *rest)

    monkeypatch.setattr(evidence_weights, "_quality", counted)
    monkeypatch.setattr(evidence_weights, "MOST_CASES", 50)
    config = Evidence(use="co_occurrence")
    method = untrained(big, read_evidence(big, config), config, sasrec)
    first = [fit_weights(method, big.valid, exclude_history=True, seed=seed) for seed in (0, 0, 1)]
    assert {len(each) for each in looked} == {50}
    assert first[0] == first[1]
    assert looked[0] != looked[-1]


def test_what_was_trained_or_fitted_before_changes_nothing(big: Split, sasrec: Any) -> None:
    """A finished run that is resumed comes to the same weights again."""
    config = Evidence(use="co_occurrence", fit="both")
    method = untrained(big, read_evidence(big, config), config, sasrec)
    first = fit_weights(method, big.valid, exclude_history=False)
    again = fit_weights(method, big.valid, exclude_history=False)
    assert first == again
    assert first.weights[0] > 0


def test_a_gate_is_heard_where_weights_are_chosen(big: Split, sasrec: Any) -> None:
    """The quality that is told is that of the ranks which the fitted method gives."""
    config = Evidence(use="co_occurrence", fit="both", gate=True)
    method = untrained(big, read_evidence(big, config), config, sasrec)
    assert method.evidence is not None
    assert method.evidence.gate_ED is not None
    method.evidence.gate_ED.data.normal_(0, 3.0)
    fitted = fit_weights(method, big.valid, exclude_history=False)
    ranks = rank_cases(method, big.valid, exclude_history=False).ranks
    assert fitted.best == pytest.approx(float(ndcg(ranks, 10).mean()))


@pytest.mark.parametrize("name", ["reg4rec", "rpg"])
def test_scores_that_are_looked_up_once_rank_as_those_looked_up_each_time(
    name: str, big: Split, sasrec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = {
        "reg4rec": REG4Rec(backbone=replace(sasrec, input_norm=True), tokenizer=TOKENIZER, steps=2),
        "rpg": RPG(backbone=replace(sasrec, input_norm=True), tokenizer=TOKENIZER),
    }
    config, kinds = configs[name], Evidence(use="co_occurrence")
    tables = read_evidence(big, kinds)
    method = with_evidence(token_model(config, big), kinds, [each.shape for each in tables]).eval()
    assert method.evidence is not None
    method.evidence.take(tables)
    tried = [[0.0], [0.5], [4.0]]
    asked: list[int] = []
    scorer = type(method).scorer
    monkeypatch.setattr(type(method), "scorer", lambda *args: asked.append(1) or scorer(*args))
    with torch.inference_mode():
        once = evidence_weights._quality(method, big.valid, tried, True)
        n_once = len(asked)
        monkeypatch.setattr(evidence_weights, "HELD", 0)
        each = evidence_weights._quality(method, big.valid, tried, True)
    assert (once == each).all()
    assert len({tuple(row) for row in once.tolist()}) == len(tried)  # evidence moves ranks
    assert n_once == 1  # cases are one batch
    assert len(asked) == n_once + 1 + len(tried)
