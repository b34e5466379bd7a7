"""Decoding along a graph of items, held against the exact lists and plain loops."""

from __future__ import annotations

import pytest
import torch

from forethought.catalogue.ranking import FilteredItems, best
from forethought.decoding.graph import GraphLists, GraphSettings, ItemGraph, search_graph
from forethought.decoding.token_scores import TokenScorer
from forethought.errors import ConfigError

ROWS, N, M, C, D = 5, 1200, 3, 8, 4
GENERATOR = torch.Generator().manual_seed(0)
CODES = torch.randint(C, (N, M), generator=GENERATOR).to(torch.uint8)
EMBEDDINGS = torch.randn(M, C, D, generator=GENERATOR, dtype=torch.float64)


def scorer(rows: int = ROWS) -> TokenScorer:
    """Like tokens are alike in probability, as in a model whose heads are made of such embeddings."""
    states = torch.randn(rows, 2, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    log_probs = torch.einsum("bpd,mcd->bpmc", states, EMBEDDINGS).log_softmax(-1)
    return TokenScorer(log_probs, torch.full((rows, 2), 0.5, dtype=torch.float64).log(), CODES)


def test_neighbours_are_the_likest_items_but_not_oneself() -> None:
    graph = ItemGraph.of(CODES, EMBEDDINGS, 7)
    unit = EMBEDDINGS / EMBEDDINGS.norm(dim=-1, keepdim=True)
    vectors = torch.stack([unit[m, CODES[:, m].long()] for m in range(M)], dim=1).flatten(1)
    likeness = vectors @ vectors.T
    likeness.fill_diagonal_(-torch.inf)
    for item in range(N):
        assert item not in graph.neighbours_NE[item].tolist()
        torch.testing.assert_close(likeness[item, graph.neighbours_NE[item]], likeness[item].topk(7).values)
    assert ItemGraph.of(CODES[:3], EMBEDDINGS, 7).neighbours_NE[0, 2:].tolist() == [-1] * 5


@pytest.mark.parametrize("start", ["random", "best"])
def test_with_beams_for_all_items_the_lists_are_exact(start: str) -> None:
    settings = GraphSettings(beams=N, edges=5, rounds=1, start=start)  # type: ignore[arg-type]
    lists = search_graph(scorer(), ItemGraph.of(CODES, EMBEDDINGS, 5), 10, settings)
    items, scores = best(scorer(), 10)
    assert torch.equal(lists.items_BK, items)
    assert torch.equal(lists.scores_BK, scores)


@pytest.mark.parametrize("start", ["random", "best"])
def test_a_short_search_finds_most_of_the_best_and_looks_at_a_part(start: str) -> None:
    settings = GraphSettings(beams=30, edges=20, rounds=4, start=start)  # type: ignore[arg-type]
    lists = search_graph(scorer(), ItemGraph.of(CODES, EMBEDDINGS, 20), 10, settings)
    _, scores = best(scorer(), 10)
    missed = (lists.scores_BK < scores[:, -1:]).float().mean()
    assert float(missed) < 0.3
    assert bool((lists.scored_B < N).all())
    assert all(len(set(row)) == 10 for row in lists.items_BK.tolist())
    torch.testing.assert_close(lists.scores_BK, scorer().scores_of(lists.items_BK))


@pytest.mark.parametrize("k", [1, 10, N + 5])
@pytest.mark.parametrize("beams", [1, 20])
def test_every_list_is_as_many_distinct_candidates_as_there_are(k: int, beams: int) -> None:
    histories = torch.arange(ROWS * 20).view(ROWS, 20)
    excluded = FilteredItems.from_histories(histories, torch.tensor([20, 0, 5, 20, 1]))
    allowed = torch.arange(N) % 4 == 0
    graph = ItemGraph.of(CODES, EMBEDDINGS, 4)
    for may in (None, allowed):
        lists = search_graph(scorer(), graph, k, GraphSettings(beams=beams, edges=4, rounds=2), excluded, may)
        for row in range(ROWS):
            candidates = set(range(N)) if may is None else set(allowed.nonzero()[:, 0].tolist())
            candidates -= set(excluded.items[excluded.rows == row].tolist())
            items = [item for item in lists.items_BK[row].tolist() if item >= 0]
            assert len(items) == len(set(items)) == min(k, len(candidates))
            assert set(items) <= candidates
            assert lists.items_BK.shape == (ROWS, k)


def test_settings_out_of_their_range_are_refused() -> None:
    for wrong in ({"edges": 0}, {"beams": 0}, {"rounds": 0}, {"start": "worst"}):
        with pytest.raises(ConfigError):
            GraphSettings(**wrong)  # type: ignore[arg-type]


def test_ranks_in_lists_are_mid_ranks() -> None:
    items = torch.tensor([[4, 2, 0, 1], [4, 2, 0, -1]]).repeat_interleave(torch.tensor([4, 1]), 0)
    scores = torch.tensor([[-1.0, -2.0, -2.0, -3.0]] * 4 + [[-1.0, -2.0, -2.0, -torch.inf]])
    lists = GraphLists(items, scores, torch.zeros(5))
    assert lists.ranks_of(torch.tensor([4, 2, 0, 1, 1])).tolist() == [1, 2.5, 2.5, 4, torch.inf]
