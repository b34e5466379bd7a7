"""Beam search over toy decoders, held against the enumeration of all that could be decided."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from toy_decoders import ToyDecoder

from forethought.catalogue.ranking import best
from forethought.config import from_json
from forethought.decoding.beam import BeamSettings, search
from forethought.decoding.crss import Order
from forethought.decoding.paths import Paths
from forethought.errors import ConfigError

ROWS, M, C = 5, 3, 4
ALL = 10_000  # more paths than there are, within what a setting allows
Path = tuple[tuple[int, int], ...]


def settings(order: Order = "confident", beams: int = 8, steps: int = M, **more: object) -> tuple[BeamSettings, int]:
    """What `search` is asked for."""
    return BeamSettings(beams=min(beams, 1_024), order=order, **more), steps  # type: ignore[arg-type]


def open_books(path: Path) -> list[int]:
    return [book for book in range(M) if book not in dict(path)]


def every_path(decoder: ToyDecoder, row: int, order: Order, steps: int) -> dict[Path, float]:
    """Log-probabilities of all sequences of tokens that an order can come to."""
    paths: dict[Path, float] = {(): 0.0}
    for _ in range(steps):
        longer: dict[Path, float] = {}
        for path, log_p in paths.items():
            rows, _ = decoder.after(row, list(path))
            books = open_books(path)
            if order == "confident":
                books = [max(books, key=lambda book: (rows[book].max().item(), -book))]
            elif order == "fixed":
                books = books[:1]
            for book, token in itertools.product(books, range(C)):
                longer[(*path, (book, token))] = log_p + rows[book, token].item() - math.log(len(books))
        paths = longer
    return paths


def found(paths: Paths, row: int) -> dict[Path, float]:
    books, tokens = paths.books_BPT[row].tolist(), paths.tokens_BPT[row].tolist()
    return {
        tuple(zip(books[n], tokens[n], strict=True)): log_p
        for n, log_p in enumerate(paths.log_probs_BP[row].tolist())
        if log_p > -math.inf
    }


@pytest.mark.parametrize("order", ["confident", "fixed"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_with_room_for_all_every_path_is_there(order: Order, steps: int) -> None:
    decoder = ToyDecoder(ROWS)
    paths = search(decoder, ROWS, *settings(order, ALL, steps))
    for row in range(ROWS):
        wanted, got = every_path(decoder, row, order, steps), found(paths, row)
        assert got.keys() == wanted.keys()
        np.testing.assert_allclose([got[path] for path in wanted], list(wanted.values()), rtol=1e-9)
        assert sum(map(math.exp, got.values())) == pytest.approx(1)


@pytest.mark.parametrize("order", ["confident", "fixed"])
@pytest.mark.parametrize("beams", [1, 3])
def test_few_beams_are_the_best_of_each_length(order: Order, beams: int) -> None:
    """A beam search by hand: sort, cut, go on."""
    decoder = ToyDecoder(ROWS)
    paths = search(decoder, ROWS, *settings(order, beams))
    for row in range(ROWS):
        kept: list[Path] = [()]
        for step in range(1, M + 1):
            every = every_path(decoder, row, order, step)
            longer = [path for path in every if path[:-1] in kept]
            kept = sorted(longer, key=lambda path: -every[path])[:beams]
        assert list(found(paths, row)) == kept


def sets_of(paths: dict[Path, float]) -> dict[frozenset[tuple[int, int]], float]:
    mass: dict[frozenset[tuple[int, int]], float] = defaultdict(float)
    for path, log_p in paths.items():
        mass[frozenset(path)] += math.exp(log_p)
    return mass


@pytest.mark.parametrize("steps", [1, 2])
def test_joint_paths_of_the_same_set_count_as_one(steps: int) -> None:
    decoder = ToyDecoder(ROWS)
    paths = search(decoder, ROWS, *settings("joint", ALL, steps))
    apart = search(decoder, ROWS, *settings("joint", ALL, steps, merge_sets=False))
    for row in range(ROWS):
        every = every_path(decoder, row, "joint", steps)
        assert found(apart, row).keys() == every.keys()
        wanted, got = sets_of(every), found(paths, row)
        assert len(got) == len(wanted) == math.comb(M, steps) * C**steps
        for path, log_p in got.items():
            assert math.exp(log_p) == pytest.approx(wanted[frozenset(path)])
            alike = [other for other in every if frozenset(other) == frozenset(path)]
            assert path == max(alike, key=every.__getitem__)  # the most probable order speaks for the set


def test_a_few_joint_beams_hold_no_set_twice() -> None:
    paths = search(ToyDecoder(ROWS), ROWS, *settings("joint", 6))
    apart = search(ToyDecoder(ROWS), ROWS, *settings("joint", 6, merge_sets=False))
    sets, doubled = ([[frozenset(path) for path in found(each, row)] for row in range(ROWS)] for each in (paths, apart))
    assert all(len(set(row)) == len(row) == 6 for row in sets)
    assert any(len(set(row)) < len(row) for row in doubled)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("order", ["confident", "fixed", "random", "joint"])
def test_the_table_keeps_each_row_as_it_stood_when_its_book_was_decided(order: Order, steps: int) -> None:
    decoder = ToyDecoder(ROWS)
    paths = search(decoder, ROWS, *settings(order, 4, steps, merge_sets=False))
    for row, n in itertools.product(range(ROWS), range(4)):
        path = list(zip(paths.books_BPT[row, n].tolist(), paths.tokens_BPT[row, n].tolist(), strict=True))
        wanted, _ = decoder.after(row, path)
        wanted, total = wanted.clone(), 0.0
        for length, (book, token) in enumerate(path):
            rows, _ = decoder.after(row, path[:length])
            wanted[book] = rows[book]
            total += rows[book, token].item() - (math.log(M - length) if order == "joint" else 0)
            assert paths.confidence_BPT[row, n, length].item() == pytest.approx(rows[book].max().exp().item())
        torch.testing.assert_close(paths.table_BPMC[row, n], wanted)
        assert paths.log_probs_BP[row, n].item() == pytest.approx(total)
        assert len(dict(path)) == steps


@pytest.mark.parametrize("order", ["confident", "fixed", "random", "joint"])
def test_a_decoder_that_hears_nothing_gives_the_plain_sum(order: Order) -> None:
    """All heads at once, as in RPG: whatever was decided, an item's score is the sum over its books."""
    decoder = ToyDecoder(ROWS, blind=True)
    codes = torch.tensor(list(itertools.product(range(C), repeat=M)), dtype=torch.uint8)
    scores = search(decoder, ROWS, *settings(order)).scorer(codes).scores_of(torch.arange(len(codes)).expand(ROWS, -1))
    for row in range(ROWS):
        rows, _ = decoder.after(row, [])
        torch.testing.assert_close(scores[row], rows[torch.arange(M), codes.long()].sum(-1))


def test_a_random_order_hangs_on_seed_and_row_alone() -> None:
    decoder = ToyDecoder(64, codebooks=5)
    orders = [search(decoder, 64, *settings("random", 1, 5, seed=seed)).books_BPT[:, 0] for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert all(sorted(order) == list(range(5)) for order in orders[0].tolist())
    first = torch.bincount(orders[0][:, 0], minlength=5)
    assert int(first.min()) >= 4  # of 64, about 13 each
    decoder.first_BD = decoder.first_BD[7:9]
    assert torch.equal(search(decoder, 2, *settings("random", 1, 5)).books_BPT[:, 0], orders[0][7:9])


@pytest.mark.parametrize("order", ["confident", "joint"])
def test_a_row_alone_finds_what_it_finds_among_others(order: Order) -> None:
    decoder = ToyDecoder(ROWS)
    together = search(decoder, ROWS, *settings(order, 4))
    decoder.first_BD = decoder.first_BD[2:3]
    alone = search(decoder, 1, *settings(order, 4))
    assert torch.equal(alone.tokens_BPT[0], together.tokens_BPT[2])
    torch.testing.assert_close(alone.table_BPMC[0], together.table_BPMC[2])


def test_the_decoder_is_asked_once_a_step_and_once_for_what_is_left() -> None:
    for steps, asked in ((1, 2), (2, 3), (3, 3), (9, 3)):
        decoder = ToyDecoder(ROWS)
        assert search(decoder, ROWS, *settings(steps=steps)).books_BPT.shape[2] == min(steps, M)
        assert decoder.asked == asked


def test_rollbacks_ask_the_decoder_for_no_more_tokens() -> None:
    """All books of all paths are most of a search, and a token is taken back by what it does to categories."""
    decoder = ToyDecoder(ROWS, categories=3)
    paths = search(decoder, ROWS, *settings(steps=2, theta=0.001, rollbacks=3))
    assert paths.pruned is not None
    assert len(paths.pruned.rows_E) > ROWS
    assert decoder.asked == 3


def test_no_rows_are_no_paths() -> None:
    for order in ("confident", "joint", "random"):
        assert search(ToyDecoder(0, categories=2), 0, *settings(order)).log_probs_BP.shape[0] == 0


def test_weights_sum_to_one_and_the_best_path_comes_first() -> None:
    paths = search(ToyDecoder(ROWS), ROWS, *settings())
    torch.testing.assert_close(paths.weights_BP.exp().sum(1), torch.ones(ROWS, dtype=torch.float64))
    assert bool((paths.log_probs_BP.diff(dim=1) <= 0).all())


def test_all_items_are_listed_whatever_was_decided() -> None:
    codes = torch.randint(C, (30, M), generator=torch.Generator().manual_seed(0))
    chosen, _ = best(search(ToyDecoder(ROWS), ROWS, *settings(beams=1)).scorer(codes), 40)
    assert all(sorted(row) == [*[-1] * 10, *range(30)] for row in chosen.tolist())


def test_settings_out_of_their_range_are_refused() -> None:
    for wrong in ({"beams": 0}, {"order": "best"}, {"theta": -0.1}, {"rollbacks": -1}):
        with pytest.raises(ConfigError):
            BeamSettings(**wrong)  # type: ignore[arg-type]


def test_settings_of_before_theta_was_chosen_are_read() -> None:
    assert from_json(BeamSettings, {"theta": 0.06, "corp": False}) == BeamSettings(corp=False)
    assert from_json(BeamSettings, {"theta": 0.06}) == BeamSettings()
    assert from_json(BeamSettings, {"theta": 0.03}) == BeamSettings(theta=0.03)
