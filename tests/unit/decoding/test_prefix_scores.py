"""Scores out of a search over ordered tokens, against every tuple scored by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toy_decoders import ToyDecoder, scores_of_all

from forethought.catalogue.ranking import FilteredItems, best, ranks
from forethought.catalogue.sparse_scores import SparseScores
from forethought.decoding.prefix_scores import GAP, PrefixScorer, joined, search_prefixes
from forethought.decoding.prefix_table import PrefixTable

N, M, C, ROWS = 60, 3, 5, 4


def some_codes() -> Tensor:
    """Tokens of which the last quarter of the items has those of the first."""
    codes_NM = torch.randint(C, (N, M), generator=torch.Generator().manual_seed(0))
    codes_NM[N - N // 4 :] = codes_NM[: N // 4]
    return codes_NM.to(torch.int16)


def searched(beams: int, codes: Tensor | None = None, rows: int = ROWS) -> PrefixScorer:
    table = PrefixTable.of(some_codes() if codes is None else codes, C)
    return search_prefixes(ToyDecoder(rows, M, C), rows, table, table.places(N), beams)


def all_scores(scorer: PrefixScorer) -> Tensor:
    return scorer.scores(slice(0, len(scorer.like_BX)), slice(0, scorer.n_items), scorer.like_BX)


def test_with_beams_for_all_every_score_is_the_log_probability() -> None:
    scores_BN = all_scores(searched(N))
    for row in range(ROWS):
        wanted = torch.tensor(scores_of_all(ToyDecoder(ROWS, M, C), row, some_codes()), dtype=torch.float64)
        torch.testing.assert_close(scores_BN[row], wanted)


@pytest.mark.parametrize("beams", [1, 3, 10, 25])
def test_a_short_beam_is_exact_inside_and_shares_the_longest_scored_prefix_outside(beams: int) -> None:
    """The search by hand, prefix by prefix, with dictionaries."""
    decoder, codes = ToyDecoder(ROWS, M, C), some_codes()
    scores_BN = all_scores(searched(beams))
    tuples = [tuple(code) for code in codes.tolist()]
    for row in range(ROWS):
        scored: dict[tuple[int, ...], float] = {}
        kept: dict[tuple[int, ...], float] = {(): 0.0}
        for step in range(M):
            longer = {}
            for prefix, log_p in kept.items():
                said_C = decoder.after(row, list(enumerate(prefix)))[0][step]
                for longer_prefix in {t[: step + 1] for t in tuples if t[:step] == prefix}:
                    longer[longer_prefix] = log_p + said_C[longer_prefix[-1]].item()
            scored |= longer
            kept = dict(sorted(longer.items(), key=lambda each: -each[1])[:beams])
        outside = {}
        for t in set(tuples) - set(kept):
            longest = next(t[:length] for length in range(M, 0, -1) if t[:length] in scored)
            below = {other for other in tuples if other[: len(longest)] == longest}
            outside[t] = scored[longest] - torch.tensor(float(len(below))).log().item()
        lowered = max(0.0, max(outside.values(), default=-torch.inf) + GAP - min(kept.values()))
        wanted = [kept[t] if t in kept else outside[t] - lowered for t in tuples]
        torch.testing.assert_close(scores_BN[row], torch.tensor(wanted, dtype=torch.float64), atol=1e-6, rtol=0)
        inside = torch.tensor([t in kept for t in tuples])
        assert scores_BN[row][inside].min() > scores_BN[row][~inside].max()


@pytest.mark.parametrize("beams", [1, 4, 100])
def test_items_of_one_tuple_tie_and_every_list_has_all_items(beams: int) -> None:
    scorer = searched(beams)
    scores_BN = all_scores(scorer)
    assert torch.equal(scores_BN[:, N - N // 4 :], scores_BN[:, : N // 4])  # as `some_codes` repeats them
    items_BK, _ = best(scorer, N)
    assert all(sorted(row) == list(range(N)) for row in items_BK.tolist())
    at_B = ranks(scorer, torch.full((ROWS,), N - 1))
    better = (scores_BN > scores_BN[:, -1:]).sum(1)
    equal = (scores_BN == scores_BN[:, -1:]).sum(1)
    assert torch.equal(at_B, better + (equal + 1) / 2)


def test_parts_of_rows_and_items_have_the_same_numbers() -> None:
    scorer = searched(5)
    whole_BN = all_scores(scorer)
    assert torch.equal(scorer.scores(slice(1, 3), slice(7, 31), scorer.like_BX), whole_BN[1:3, 7:31])
    items_BM = torch.randint(N, (ROWS, 9), generator=torch.Generator().manual_seed(0))
    assert torch.equal(scorer.scores_of(items_BM), whole_BN.gather(1, items_BM))
    order = torch.tensor([2, 0])
    assert torch.equal(all_scores(scorer.take(order)), whole_BN[order])
    again = joined([scorer.take(torch.tensor([0])), scorer.take(torch.arange(1, ROWS))])
    assert torch.equal(all_scores(again), whole_BN)


def test_evidence_is_added_and_lifts_what_is_outside() -> None:
    plain = searched(2)
    added = SparseScores(torch.tensor([0, 1]), torch.tensor([4, 9]), torch.tensor([50.0, 50.0]), ROWS)
    scorer = PrefixScorer(plain.levels, plain.places_MN, added)
    wanted_BN = all_scores(plain)
    wanted_BN[0, 4] += 50
    wanted_BN[1, 9] += 50
    assert torch.equal(all_scores(scorer), wanted_BN)
    assert best(scorer, 1)[0][:2].tolist() == [[4], [9]]
    assert torch.equal(scorer.scores_of(torch.tensor([[9, 4]] * ROWS)), wanted_BN[:, [9, 4]])
    swapped = scorer.take(torch.tensor([1, 0]))
    assert torch.equal(all_scores(swapped), wanted_BN[[1, 0]])


@pytest.mark.parametrize("beams", [2, N])
def test_offsets_are_added_inside_the_beam_and_outside(beams: int) -> None:
    plain, offsets_N = searched(beams), torch.linspace(-3, 3, N)
    moved = replace(plain, offsets_N=offsets_N)
    scores_BN = all_scores(moved)
    torch.testing.assert_close(scores_BN, all_scores(plain) + offsets_N)
    items_BM = torch.tensor([[9, 4, 0]] * ROWS)
    assert torch.equal(moved.scores_of(items_BM), scores_BN.gather(1, items_BM))
    assert torch.equal(all_scores(moved.take(torch.tensor([1, 0]))), scores_BN[[1, 0]])


def test_items_that_are_not_in_the_table_are_no_candidates() -> None:
    codes, allowed_N = some_codes(), torch.zeros(N, dtype=torch.bool)
    allowed_N[[3, 20, 41]] = True
    table = PrefixTable.of(codes, C, allowed_N)
    scorer = search_prefixes(ToyDecoder(ROWS, M, C), ROWS, table, table.places(N), 2)
    scores_BN, exact = all_scores(scorer), all_scores(searched(N))
    assert torch.equal(scores_BN > -torch.inf, allowed_N.expand(ROWS, -1))
    best_B = best(scorer, 1)[0][:, 0]
    assert torch.equal(best_B, torch.where(allowed_N, exact, -torch.inf).argmax(1))
    excluded = FilteredItems.from_histories(best_B[:, None], torch.ones(ROWS, dtype=torch.int64))
    assert not bool((best(scorer, 2, excluded)[0] == best_B[:, None]).any())


def test_no_rows_have_no_scores() -> None:
    assert all_scores(searched(3, rows=0)).shape == (0, N)
