"""What evidence adds to logits, history by history and pair by pair; and that training does not hear itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from forethought.data.batches import Batch
from forethought.data.evidence import Evidence, EvidenceShape, EvidenceTable
from forethought.data.histories import Histories
from forethought.data.neighbours import Neighbours, alike, co_occurrence
from forethought.data.popularity import popular
from forethought.methods.item_evidence import LEAST, ItemEvidence

N = 12
CONFIG = Evidence(last=3, recency=0.7, window=4, fit="training")


def _lists(seed: int, users: int = 9) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, N, random.integers(2, 8)).tolist() for _ in range(users)]


def _tables(lists: list[list[int]], config: Evidence = CONFIG, most: int = N) -> tuple[EvidenceTable, ...]:
    train = Histories.from_lists(lists).all()
    met = co_occurrence(train, N, most=most, window=config.window, directed=config.directed)
    like = alike(np.random.default_rng(1).normal(size=(N, 3)).astype(np.float32), most=4)
    counts = train.item_counts(N)
    return tuple(
        EvidenceTable(EvidenceShape(name, kind, table.items_NK.shape[1]), table, counts)
        for name, kind, table in (("text", "like", like), ("co_occurrence", "met", met))
    )


def _evidence(tables: tuple[EvidenceTable, ...], config: Evidence = CONFIG, width: int = 2) -> ItemEvidence:
    evidence = ItemEvidence(config, [each.shape for each in tables], N, width)
    evidence.take(tables)
    return evidence


def _said(table: Neighbours, history: list[int], config: Evidence) -> np.ndarray:
    """By the textbook: the last items' rows, the nearest counting most."""
    matrix, total = table.matrix().toarray(), np.zeros(N)
    for age, item in enumerate(reversed(history[-config.last :])):
        total += config.recency**age * matrix[item]
    return total


def _heard(total: np.ndarray) -> np.ndarray:
    """Beside the largest, and nothing of what is too small."""
    beside = total / max(total.max(), 1e-12)
    return np.where(beside >= LEAST, beside, 0.0)


def _dense(scores: object, n_rows: int) -> np.ndarray:
    whole = torch.zeros(n_rows, N).index_put((scores.rows_T, scores.items_T), scores.values_T, accumulate=True)  # type: ignore[attr-defined]
    return whole.detach().numpy()


def _batch(lists: list[list[int]]) -> Batch:
    """All but the last item of each, and its targets."""
    length = max(map(len, lists)) - 1
    items, targets = torch.zeros(len(lists), length, dtype=torch.int64), torch.zeros(len(lists), length).long()
    for b, row in enumerate(lists):
        items[b], targets[b] = row[0], row[1]  # padding repeats the first
        items[b, : len(row) - 1], targets[b, : len(row) - 1] = torch.tensor(row[:-1]), torch.tensor(row[1:])
    return Batch(items, torch.tensor([len(row) - 1 for row in lists]), targets, weight=1)


def test_after_a_history_its_last_items_speak() -> None:
    lists = _lists(0)
    tables = _tables(lists)
    evidence = _evidence(tables)
    evidence.weights_E.data = torch.tensor([0.5, 2.0])
    batch = _batch(lists)
    scores = evidence.after(batch)
    for rows, items in zip(scores.rows_T.split(scores.sizes), scores.items_T.split(scores.sizes), strict=True):
        assert (rows.diff() >= 0).all()
        assert len({*zip(rows.tolist(), items.tolist(), strict=True)}) == len(rows)
    assert sum(scores.sizes) == len(scores.rows_T)
    for b, row in enumerate(lists):
        text, met = (_said(each.table, row[:-1], CONFIG) for each in tables)
        expected = 0.5 * _heard(text) + 2.0 * _heard(met)
        np.testing.assert_allclose(_dense(scores, len(lists))[b], expected, atol=1e-6)


@pytest.mark.parametrize("directed", [False, True])
def test_in_training_a_history_does_not_hear_itself(directed: bool) -> None:
    """The same as with a table that was counted without this history; how often items occur at all stays."""
    config = Evidence(last=3, recency=0.7, window=4, fit="training", directed=directed)
    lists = _lists(2)
    tables = _tables(lists, config)
    evidence = _evidence(tables, config)
    evidence.weights_E.data = torch.tensor([0.0, 1.0])
    batch = _batch(lists)
    scores = _dense(evidence.in_training(batch, torch.zeros(int(batch.lengths_B.sum()), 2)), int(batch.lengths_B.sum()))
    counts = np.maximum(tables[0].counts_N, 1).astype(float)
    row_at = 0
    for b, row in enumerate(lists):
        others = Histories.from_lists([other for at, other in enumerate(lists) if at != b]).all()
        table = co_occurrence(others, N, most=N, window=4, directed=directed)
        theirs = np.maximum(others.item_counts(N), 1).astype(float)
        matrix = table.matrix().toarray() * np.outer(theirs**0.5, theirs**0.1) / np.outer(counts**0.5, counts**0.1)
        for position in range(len(row) - 1):
            total = np.zeros(N)
            for age, item in enumerate(reversed(row[max(0, position - 2) : position + 1])):
                total += 0.7**age * matrix[item]
            np.testing.assert_allclose(scores[row_at], _heard(total), atol=1e-5)
            row_at += 1


@pytest.mark.parametrize("most", [1, 2])
def test_own_pairs_are_taken_off_kept_neighbours_alone(most: int) -> None:
    """Of the table that is cut to the best neighbours, what others say is left, and no less than nothing."""
    lists = _lists(4, users=12)
    full, tables = _tables(lists), _tables(lists, most=most)
    evidence = _evidence(tables)
    evidence.weights_E.data = torch.tensor([0.0, 1.0])
    kept = tables[1].table.matrix().toarray() > 0
    assert 0 < kept.sum() < (full[1].table.matrix().toarray() > 0).sum()
    batch = _batch(lists)
    n_rows = int(batch.lengths_B.sum())
    scores = _dense(evidence.in_training(batch, torch.zeros(n_rows, 2)), n_rows)
    counts = np.maximum(tables[0].counts_N, 1).astype(float)
    row_at = 0
    for b, row in enumerate(lists):
        others = Histories.from_lists([other for at, other in enumerate(lists) if at != b]).all()
        theirs = np.maximum(others.item_counts(N), 1).astype(float)
        matrix = co_occurrence(others, N, most=N, window=4).matrix().toarray()
        matrix = kept * matrix * np.outer(theirs**0.5, theirs**0.1) / np.outer(counts**0.5, counts**0.1)
        for position in range(len(row) - 1):
            said = sum(0.7**age * matrix[j] for age, j in enumerate(reversed(row[max(0, position - 2) : position + 1])))
            np.testing.assert_allclose(scores[row_at], _heard(said), atol=1e-5)  # type: ignore[arg-type]
            row_at += 1


def test_a_pair_that_only_the_history_itself_holds_is_not_heard() -> None:
    lists = [[0, 1, 2], [3, 4], [5, 4]]
    evidence = _evidence(_tables(lists))
    evidence.weights_E.data = torch.tensor([0.0, 1.0])
    heard = _dense(evidence.in_training(_batch(lists), torch.zeros(4, 2)), 4)
    assert not heard.any()


@pytest.mark.parametrize("seed", range(8))
def test_of_one_history_alone_nothing_is_heard(seed: int) -> None:
    """Of all that is counted its own part is taken off, which leaves what rounding leaves."""
    lists = [np.random.default_rng(seed).integers(0, N, 30).tolist()]
    evidence = _evidence(_tables(lists))
    evidence.weights_E.data = torch.tensor([0.0, 1.0])
    assert not _dense(evidence.in_training(_batch(lists), torch.zeros(29, 2)), 29).any()


def test_a_gate_multiplies_the_weights_and_both_are_trained() -> None:
    lists = _lists(3)
    config = Evidence(last=3, recency=0.7, window=4, fit="training", gate=True)
    evidence = _evidence(_tables(lists), config)
    assert evidence.gate_ED is not None
    evidence.gate_ED.data = torch.tensor([[0.3, -0.2], [0.1, 0.4]])
    batch = _batch(lists)
    states = torch.randn(len(lists), 2, generator=torch.Generator().manual_seed(0))
    support = evidence.support(batch.items_BL, torch.arange(len(lists)), batch.lengths_B - 1)
    gated = evidence.after(batch, states)
    weights = evidence.weights_E * (states @ evidence.gate_ED.T).exp()
    kinds = torch.arange(2).repeat_interleave(torch.tensor(support.sizes))
    torch.testing.assert_close(gated.values_T, support.values_T * weights[support.rows_T, kinds])
    gated.values_T.sum().backward()
    assert evidence.weights_E.grad is not None
    assert evidence.gate_ED.grad is not None
    assert evidence.gate_ED.grad.abs().min() > 0


def test_weights_that_are_fitted_afterwards_begin_at_nothing_and_are_not_trained() -> None:
    evidence = ItemEvidence(Evidence(), [EvidenceShape("text", "like", 3)], N, 2)
    assert evidence.silent()
    assert not [p for p in evidence.parameters() if p.requires_grad]


@pytest.mark.parametrize("gate", [False, True])
def test_what_is_popular_has_the_same_added_behind_every_history(gate: bool) -> None:
    """Beside another kind; a gate hears the history, and nothing is taken off in training."""
    lists = _lists(5)
    train = Histories.from_lists(lists).all()
    table = popular(train, N, most=4, weeks=1.0)
    text = _tables(lists)[0]
    listed = EvidenceTable(EvidenceShape("popular", "popular", 1), table, train.item_counts(N))
    evidence = _evidence((listed, text), replace(CONFIG, gate=gate))
    evidence.weights_E.data = torch.tensor([1.5, 0.0])
    batch = _batch(lists)
    states = torch.randn(int(batch.lengths_B.sum()), 2)
    factors = np.ones(len(states))
    if evidence.gate_ED is not None:
        evidence.gate_ED.data = torch.tensor([[0.3, -0.2], [0.0, 0.0]])
        factors = np.exp(states.numpy() @ [0.3, -0.2])
    of_each = np.zeros(N)
    np.add.at(of_each, table.items_NK[:, 0], table.values_NK[:, 0])
    in_training = _dense(evidence.in_training(batch, states), len(states))
    np.testing.assert_allclose(in_training, 1.5 * factors[:, None] * of_each, atol=1e-6)
    after = _dense(evidence.after(batch), len(lists))
    np.testing.assert_allclose(after, 1.5 * np.tile(of_each, (len(lists), 1)), atol=1e-6)
    asked = torch.tensor([int(table.items_NK[1, 0]), int(np.flatnonzero(of_each == 0)[0])])
    said, _ = evidence.spoken(batch, asked)
    assert said.items_A.tolist() == asked.tolist()
    np.testing.assert_allclose(said.added_KA.detach().numpy(), np.diag(1.5 * of_each[asked.numpy()]), rtol=1e-6)
    assert table.pairs_NK is not None
    assert said.counts_A.tolist() == [table.pairs_NK[1, 0], 0]


def test_weights_of_what_is_popular_are_trained() -> None:
    lists = _lists(6)
    train = Histories.from_lists(lists).all()
    listed = EvidenceTable(
        EvidenceShape("popular", "popular", 1), popular(train, N, most=4, weeks=1.0), train.item_counts(N)
    )
    evidence, batch = _evidence((listed,)), _batch(lists)
    evidence.in_training(batch, torch.zeros(int(batch.lengths_B.sum()), 2)).sums().sum().backward()
    assert evidence.weights_E.grad is not None
    assert float(evidence.weights_E.grad) > 0
