"""The table of prefixes and ordered beam search, held against plain sets of tuples and the scores of all items."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from toy_decoders import ToyDecoder, scores_of_all

from forethought.catalogue.ranking import FilteredItems
from forethought.decoding import prefix_table
from forethought.decoding.ordered import ItemLists, ranks_in, search_items
from forethought.decoding.prefix_table import PrefixTable
from forethought.errors import ConfigError

ROWS, M, C, N = 4, 4, 5, 60


@pytest.fixture(autouse=True, params=["dense", "ranges"])
def _dense(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "ranges":
        monkeypatch.setattr(prefix_table, "DENSE_ENTRIES", 0)


def some_codes(n: int = N, books: int = M) -> Tensor:
    """Some tuples stand there twice."""
    codes = torch.randint(C, (n, books), generator=torch.Generator().manual_seed(n))
    codes[n - n // 4 :] = codes[: n // 4]
    return codes.to(torch.int16)


@pytest.mark.parametrize("books", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 7, 60])
def test_every_prefix_leads_where_it_does_among_the_tuples(n: int, books: int) -> None:
    codes = some_codes(n, books)
    table, tuples = PrefixTable.of(codes, C), [tuple(code) for code in codes.tolist()]
    reached: dict[tuple[int, ...], int] = {(): 0}
    for step in range(books):
        longer = {}
        for prefix, number in reached.items():
            may = table.continuations(torch.tensor([[number]]), step)[0, 0]
            assert may.tolist() == [any(t[: step + 1] == (*prefix, c) for t in tuples) for c in range(C)]
            after = table.follow(torch.full((1, C), number), torch.arange(C)[None], step)[0].tolist()
            assert [number >= 0 for number in after] == may.tolist()
            longer |= {(*prefix, c): number for c, number in enumerate(after) if number >= 0}
        reached = longer
        assert sorted(reached.values()) == list(range(len(reached)))
        for prefix, number in reached.items():
            begin, end = (int(x) for x in table.span(torch.tensor([[number]]), step + 1))
            wanted = {i for i, t in enumerate(tuples) if t[: step + 1] == prefix}
            assert set(table.items_N[begin:end].tolist()) == wanted
            if step + 1 == books:
                assert table.items_N[begin:end].tolist() == sorted(wanted)


def test_nothing_follows_what_is_no_prefix() -> None:
    table, nowhere = PrefixTable.of(some_codes(), C), torch.full((2, 3), -1)
    for step in range(M):
        assert not bool(table.continuations(nowhere, step).any())
        assert bool((table.follow(nowhere, torch.zeros_like(nowhere), step) == -1).all())
        assert all(bool((each == 0).all()) for each in table.span(nowhere, step + 1))


@pytest.mark.parametrize("k", [1, 10, 80])
def test_with_beams_for_all_the_lists_are_those_of_all_items_scored(k: int) -> None:
    decoder, codes = ToyDecoder(ROWS, M, C), some_codes()
    lists = search_items(decoder, ROWS, PrefixTable.of(codes, C), k, beams=N)
    for row in range(ROWS):
        scores = torch.tensor(scores_of_all(decoder, row, codes), dtype=torch.float64)
        wanted = sorted(range(N), key=lambda i: (-round(scores[i].item(), 9), i))[:k]
        assert lists.items_BK[row, : len(wanted)].tolist() == wanted
        torch.testing.assert_close(lists.log_probs_BK[row, : len(wanted)], scores[wanted])
        assert bool(lists.reached_BK[row, : len(wanted)].all())


def excluded_items(per_row: int) -> FilteredItems:
    generator = torch.Generator().manual_seed(1)
    items = torch.stack([torch.randperm(N, generator=generator)[:per_row] for _ in range(ROWS)])
    return FilteredItems.from_histories(items, torch.arange(per_row, per_row - ROWS, -1))


@pytest.mark.parametrize("beams", [1, 3, 10, 60])
@pytest.mark.parametrize("k", [1, 10, 60, 100])
@pytest.mark.parametrize("per_row", [0, 20, 58])
def test_every_list_is_as_many_distinct_candidates_as_there_are(beams: int, k: int, per_row: int) -> None:
    excluded = excluded_items(per_row) if per_row else None
    lists = search_items(ToyDecoder(ROWS, M, C), ROWS, PrefixTable.of(some_codes(), C), k, beams, excluded)
    for row in range(ROWS):
        gone = set() if excluded is None else set(excluded.items[excluded.rows == row].tolist())
        n = min(k, N - len(gone))
        items = lists.items_BK[row, :n].tolist()
        assert len(set(items)) == n
        assert not set(items) & (gone | {-1})
        assert bool((lists.items_BK[row, n:] == -1).all())
        reached = lists.reached_BK[row]
        assert bool((reached.byte().diff() != 1).all())  # what fills a list stands at its end
        assert bool((lists.log_probs_BK[row, :n].diff() <= 0).all())


def test_few_beams_are_a_beam_search_by_hand_over_what_exists() -> None:
    decoder, codes = ToyDecoder(ROWS, M, C), some_codes()
    tuples = {tuple(code) for code in codes.tolist()}
    lists = search_items(decoder, ROWS, PrefixTable.of(codes, C), 3, beams=3)
    for row in range(ROWS):
        kept: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        for step in range(M):
            longer = []
            for prefix, log_p in kept:
                said = decoder.after(row, list(enumerate(prefix)))[0][step]
                longer += [
                    ((*prefix, c), log_p + said[c].item())
                    for c in range(C)
                    if any(t[: step + 1] == (*prefix, c) for t in tuples)
                ]
            kept = sorted(longer, key=lambda each: -each[1])[:3]
        items = [i for t, _ in kept for i, code in enumerate(codes.tolist()) if tuple(code) == t]
        assert lists.items_BK[row].tolist() == items[:3]


def test_allowed_items_alone_are_reached_and_one_is_enough() -> None:
    codes, allowed = some_codes(), torch.zeros(N, dtype=torch.bool)
    allowed[7] = True
    lists = search_items(ToyDecoder(ROWS, M, C), ROWS, PrefixTable.of(codes, C, allowed), 3, beams=4)
    assert lists.items_BK.tolist() == [[7, -1, -1]] * ROWS
    with pytest.raises(ConfigError, match="No item is left"):
        PrefixTable.of(codes, C, torch.zeros(N, dtype=torch.bool))


def test_a_token_of_no_probability_is_still_more_than_no_item() -> None:
    """Few of many tokens lead anywhere, and the decoder believes in none at all."""
    decoder, codes = ToyDecoder(ROWS, M, 50), some_codes() + 45
    said = decoder.log_probs
    decoder.log_probs = lambda state: (torch.full_like(said(state)[0], -torch.inf), None)  # type: ignore[method-assign]
    lists = search_items(decoder, ROWS, PrefixTable.of(codes, 50), 3, beams=2)
    assert all(len(set(row)) == 3 and min(row) >= 0 for row in lists.items_BK.tolist())


def test_no_rows_are_no_lists() -> None:
    lists = search_items(ToyDecoder(0, M, C), 0, PrefixTable.of(some_codes(), C), 3, beams=4)
    assert lists.items_BK.shape == (0, 3)


def test_ranks_in_lists_are_mid_ranks() -> None:
    items = torch.tensor([[4, 2, 0, 1]] * 5)
    log_probs = torch.tensor([[-1.0, -2.0, -2.0, -2.0]] * 5)
    reached = torch.tensor([[True, True, True, False]] * 5)
    ranks = ranks_in(ItemLists(items, log_probs, reached), torch.tensor([4, 2, 0, 1, 3]))
    assert ranks.tolist() == [1, 2.5, 2.5, torch.inf, torch.inf]


def test_a_decoder_may_give_the_next_book_alone() -> None:
    whole, codes = ToyDecoder(ROWS, M, C), some_codes()

    class OneBook(ToyDecoder):
        steps = itertools.count()

        def log_probs(self, state):  # type: ignore[no-untyped-def]
            step = next(self.steps)
            return super().log_probs(state)[0][:, :, step : step + 1], None

    table = PrefixTable.of(codes, C)
    alone, all_books = (search_items(each, ROWS, table, 10, 5) for each in (OneBook(ROWS, M, C), whole))
    assert torch.equal(alone.items_BK, all_books.items_BK)
