"""Scores of items out of token tables, held against brute force; and the ranks and lists that follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import reference
from forethought.catalogue import blocks, ranking
from forethought.catalogue.ranking import FilteredItems, best, ranks
from forethought.catalogue.sparse_scores import SparseScores
from forethought.decoding import token_scores
from forethought.decoding.token_scores import Merge, TokenScorer

N, M, C = 120, 4, 4
DTYPES = [torch.float32, torch.float64]
CODE_TYPES = [torch.uint8, torch.int16, torch.int32, torch.int64]


@pytest.fixture(autouse=True, params=["whole", "cut"])
def _cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one block, and in small ones of every kind: of ranking, and of the scorer's own rows and items."""
    if request.param == "cut":
        monkeypatch.setattr(blocks, "CPU_BLOCK_BYTES", 1)
        monkeypatch.setattr(blocks, "MIN_ROWS", 5)
        monkeypatch.setattr(ranking, "SHARD", 64)
        monkeypatch.setattr(token_scores, "CPU_COLUMNS", 7)
        monkeypatch.setattr(token_scores, "CPU_BLOCK", 100)


def scorer(
    paths: int = 3, rows: int = 9, dtype: torch.dtype = torch.float64, merge: Merge = "mixture", books: int = M
) -> TokenScorer:
    """Few codes, so that every tuple is shared by some items."""
    generator = torch.Generator().manual_seed(paths * 100 + rows)
    log_probs = torch.randn(rows, paths, books, C, generator=generator, dtype=dtype).mul_(3).log_softmax(-1)
    weights = torch.randn(rows, paths, generator=generator, dtype=dtype).log_softmax(-1)
    codes = torch.randint(C, (N, books), generator=generator).to(torch.uint8)
    codes[N // 2 :] = codes[: N - N // 2]
    return TokenScorer(log_probs, weights, codes, merge)


def brute_force(of: TokenScorer) -> np.ndarray:
    """In float64, row by row, path by path, item by item."""
    log_probs, weights, codes = of.log_probs_BPMC.double().numpy(), of.weights_BP.double().numpy(), of.codes_NM.numpy()
    books = np.arange(codes.shape[1])
    scores = np.empty((len(weights), len(codes)))
    for row in range(len(weights)):
        for item in range(len(codes)):
            paths = np.array(
                [w + table[books, codes[item]].sum() for w, table in zip(weights[row], log_probs[row], strict=True)]
            )
            with np.errstate(divide="ignore"):
                scores[row, item] = paths.max() if of.merge == "max" else _log_sum_exp(paths)
    if of.added is not None:
        np.add.at(scores, (of.added.rows_T.numpy(), of.added.items_T.numpy()), of.added.values_T.double().numpy())
    return scores


def _log_sum_exp(x: np.ndarray) -> float:
    return -np.inf if np.isneginf(x).all() else x.max() + np.log(np.exp(x - x.max()).sum())


def all_scores(of: TokenScorer) -> Tensor:
    """As ranking walks over them."""
    rows, room = slice(0, len(of.like_BX)), of.like_BX.new_empty(len(of.like_BX) * ranking.SHARD)
    parts = [of.scores(rows, items, room).clone() for items in blocks.item_shards(of.n_items, ranking.SHARD)]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("merge", ["mixture", "max"])
@pytest.mark.parametrize("paths", [1, 2, 5, 70])
@pytest.mark.parametrize("rows", [1, 2, 19])
def test_scores_are_brute_forces(paths: int, rows: int, merge: Merge, dtype: torch.dtype) -> None:
    of = scorer(paths, rows, dtype, merge)
    within = 1e-4 if dtype == torch.float32 else 1e-11
    np.testing.assert_allclose(all_scores(of).numpy(), brute_force(of), rtol=within, atol=within)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("paths", [1, 3, 8])
@pytest.mark.parametrize("rows", [1, 2, 19])
def test_items_of_the_same_tokens_have_the_same_bits_wherever_they_stand(
    paths: int, rows: int, dtype: torch.dtype
) -> None:
    of = scorer(paths, rows, dtype)
    scores = all_scores(of)
    assert torch.equal(scores[:, : N // 2], scores[:, N // 2 :])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("merge", ["mixture", "max"])
@pytest.mark.parametrize("paths", [1, 3, 8])
@pytest.mark.parametrize("rows", [1, 2, 19])
@pytest.mark.parametrize("evidence", [False, True])
def test_scores_of_some_items_have_the_bits_of_all(
    paths: int, rows: int, merge: Merge, dtype: torch.dtype, evidence: bool
) -> None:
    of = scorer(paths, rows, dtype, merge)
    of = with_evidence(of) if evidence else of
    items = torch.randint(N, (rows, 40), generator=torch.Generator().manual_seed(1))
    assert torch.equal(of.scores_of(items), all_scores(of).gather(1, items))


@pytest.mark.parametrize("rows", [1, 19])
def test_a_row_alone_has_the_bits_it_has_among_others(rows: int) -> None:
    of = scorer(3, rows, torch.float32)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
    assert torch.equal(all_scores(of.take(order)), all_scores(of)[order])
    assert torch.equal(all_scores(of.take(order[:1])), all_scores(of)[order[:1]])


def with_evidence(of: TokenScorer) -> TokenScorer:
    """In two parts, some of whose pairs are the same."""
    generator = torch.Generator().manual_seed(2)
    n_rows = len(of.like_BX)
    pairs = [(torch.rand(n_rows, N, generator=generator) < 0.2).nonzero() for _ in range(2)]
    rows, items = torch.cat(pairs).T
    values = torch.randn(len(rows), generator=generator, dtype=of.like_BX.dtype)
    added = SparseScores(rows, items, values, n_rows, tuple(map(len, pairs)))
    return TokenScorer(of.log_probs_BPMC, of.weights_BP, of.codes_NM, of.merge, added)


def test_evidence_is_added_behind_the_mixture() -> None:
    of = with_evidence(scorer())
    np.testing.assert_allclose(all_scores(of).numpy(), brute_force(of), rtol=1e-11)
    rows = torch.tensor([4, 0, 7])
    np.testing.assert_allclose(all_scores(of.take(rows)).numpy(), brute_force(of)[rows], rtol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("evidence", [False, True])
def test_offsets_are_added_to_items_behind_the_mixture(dtype: torch.dtype, evidence: bool) -> None:
    of = with_evidence(scorer(dtype=dtype)) if evidence else scorer(dtype=dtype)
    offsets_N = torch.randn(N, generator=torch.Generator().manual_seed(3))
    moved, within = replace(of, offsets_N=offsets_N), 1e-4 if dtype == torch.float32 else 1e-11
    wanted = brute_force(of) + offsets_N.double().numpy()
    np.testing.assert_allclose(all_scores(moved).numpy(), wanted, rtol=within, atol=within)
    items = torch.randint(N, (9, 40), generator=torch.Generator().manual_seed(1))
    assert torch.equal(moved.scores_of(items), all_scores(moved).gather(1, items))
    rows = torch.tensor([4, 0, 7])
    assert torch.equal(all_scores(moved.take(rows)), all_scores(moved)[rows])


@pytest.mark.parametrize("kind", CODE_TYPES, ids=str)
def test_any_integers_are_codes(kind: torch.dtype) -> None:
    of = scorer()
    other = TokenScorer(of.log_probs_BPMC, of.weights_BP, of.codes_NM.to(kind))
    items = torch.arange(10).expand(9, 10)
    assert torch.equal(all_scores(other), all_scores(of))
    assert torch.equal(other.scores_of(items), of.scores_of(items))


@pytest.mark.parametrize("books", [1, 2, 3, 8])
def test_the_order_of_books_does_not_matter(books: int) -> None:
    of = scorer(books=books)
    order = torch.randperm(books, generator=torch.Generator().manual_seed(3))
    other = TokenScorer(of.log_probs_BPMC[:, :, order], of.weights_BP, of.codes_NM[:, order])
    torch.testing.assert_close(all_scores(other), all_scores(of))


def test_certain_rows_look_items_up() -> None:
    """One path whose rows are each of one token: its items come first, all others are at -inf."""
    of = scorer(1)
    wanted = torch.arange(9)
    rows = torch.full((9, 1, M, C), -torch.inf, dtype=torch.float64)
    rows.scatter_(3, of.codes_NM[wanted].long()[:, None, :, None], 0.0)
    scores = all_scores(TokenScorer(rows, torch.zeros(9, 1, dtype=torch.float64), of.codes_NM))
    same = (of.codes_NM[wanted][:, None] == of.codes_NM).all(-1)
    assert torch.equal(scores == 0, same)
    assert torch.equal(scores == -torch.inf, ~same)


def test_forbidden_tokens_and_paths_left_out_leave_the_rest() -> None:
    of = scorer(3)
    of.log_probs_BPMC[:, :, 1, 2] = -torch.inf
    of.weights_BP[:, 0] = -torch.inf
    scores = all_scores(of)
    np.testing.assert_allclose(scores.numpy(), brute_force(of), rtol=1e-11)
    assert torch.equal((scores == -torch.inf).all(0), of.codes_NM[:, 1] == 2)
    of.weights_BP[:] = -torch.inf
    assert bool((all_scores(of) == -torch.inf).all())


@pytest.mark.parametrize("merge", ["mixture", "max"])
def test_scores_far_below_zero_do_not_vanish(merge: Merge) -> None:
    of = scorer(3, dtype=torch.float32, merge=merge)
    of.weights_BP.sub_(500)
    np.testing.assert_allclose(all_scores(of).numpy(), brute_force(of), rtol=1e-4)


def test_ranks_are_mid_ranks_of_brute_forces_groups() -> None:
    """Items that share their tokens share their rank."""
    of = with_evidence(scorer(3, 9, torch.float32))
    for each in (of, scorer(3, 9, torch.float32)):
        targets = torch.randint(N, (9,), generator=torch.Generator().manual_seed(5))
        excluded = FilteredItems.from_histories(torch.arange(45).view(9, 5), torch.tensor([5, 4, 3, 2, 1, 0, 5, 5, 5]))
        scores = all_scores(each)
        for row, rank in enumerate(ranks(each, targets, excluded).tolist()):
            gone = set(excluded.items[excluded.rows == row].tolist())
            assert rank == reference.mid_rank(scores[row].tolist(), int(targets[row]), set(range(N)) - gone)


@pytest.mark.parametrize("k", [1, 10, N, N + 7])
def test_lists_are_distinct_items_and_of_equals_the_lower_row_first(k: int) -> None:
    of = scorer(3, 4, torch.float32)
    allowed = torch.arange(N) % 3 > 0
    excluded = FilteredItems.from_histories(torch.arange(20).view(4, 5), torch.tensor([5, 0, 2, 5]))
    chosen, scores = best(of, k, excluded, allowed)
    every = all_scores(of)
    for row in range(4):
        gone = set(excluded.items[excluded.rows == row].tolist())
        candidates = [i for i in range(N) if i not in gone and allowed[i]]
        wanted = sorted(candidates, key=lambda i: (-every[row, i].item(), i))[:k]
        assert chosen[row, : len(wanted)].tolist() == wanted
        assert scores[row, : len(wanted)].tolist() == every[row, wanted].tolist()
        assert chosen[row, len(wanted) :].tolist() == [-1] * (k - len(wanted))


def test_contributions_add_up_to_the_score_of_a_path() -> None:
    of = scorer(1)
    items = torch.arange(20).expand(9, 20)
    said = of.contributions(items)
    assert said.shape == (9, 1, 20, M)
    torch.testing.assert_close(said.sum(-1)[:, 0] + of.weights_BP, of.scores_of(items))


def test_no_rows_and_one_item() -> None:
    of = scorer(3, 2)
    chosen, _ = best(TokenScorer(of.log_probs_BPMC[:0], of.weights_BP[:0], of.codes_NM), 3)
    assert chosen.shape == (0, 3)
    chosen, _ = best(TokenScorer(of.log_probs_BPMC, of.weights_BP, of.codes_NM[:1]), 3)
    assert chosen.tolist() == [[0, -1, -1]] * 2
