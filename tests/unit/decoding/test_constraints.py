"""Forbidden tokens, and items that alone may be listed."""

from __future__ import annotations

import pytest
import torch
from toy_decoders import ToyDecoder

from forethought.catalogue.ranking import best
from forethought.decoding.beam import BeamSettings, search
from forethought.decoding.constraints import Constraints, items_of
from forethought.errors import ConfigError

ROWS, M, C, N = 5, 3, 4, 40
CODES = torch.randint(C, (N, M), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
DECODER = ToyDecoder(ROWS, M, C, 3)


@pytest.mark.parametrize("order", ["confident", "fixed", "random", "joint"])
@pytest.mark.parametrize("theta", [0.0, 0.7])
@pytest.mark.parametrize("k", [1, 10, N + 3])
def test_no_path_and_no_item_has_a_forbidden_token_and_lists_are_full(order: str, theta: float, k: int) -> None:
    forbidden = [(0, 1), (0, 2), (2, 3)]
    constraints = Constraints.of(CODES, C, forbidden_tokens=forbidden)
    settings = BeamSettings(beams=4, order=order, theta=theta)  # type: ignore[arg-type]
    paths = search(DECODER, ROWS, settings, M, constraints)
    alive = paths.log_probs_BP > -torch.inf
    assert bool(alive.any(1).all())
    for book, token in forbidden:
        hit = (paths.books_BPT == book) & (paths.tokens_BPT == token)
        assert not bool(hit[alive].any())
    left = [i for i, code in enumerate(CODES.tolist()) if not any(code[book] == token for book, token in forbidden)]
    chosen, scores = best(paths.scorer(CODES), k, allowed_N=constraints.allowed_N)
    n = min(k, len(left))
    for row in chosen.tolist():
        assert len(set(row[:n])) == n
        assert set(row[:n]) <= set(left)
        assert row[n:] == [-1] * (k - n)
    assert bool((scores[:, :n] > -torch.inf).all())


def test_of_tokens_asked_for_one_of_each_book_is_had() -> None:
    wanted, forbidden = [(0, 1), (0, 3), (2, 0)], [(0, 3)]
    constraints = Constraints.of(CODES, C, only_tokens=wanted)
    left = [i for i, (a, _, c) in enumerate(CODES.tolist()) if a in (1, 3) and c == 0]
    assert 1 < len(left) < N
    assert constraints.allowed_N.nonzero()[:, 0].tolist() == left
    paths = search(DECODER, ROWS, BeamSettings(beams=4), M, constraints)
    alive = paths.log_probs_BP > -torch.inf
    assert bool(alive.any(1).all())
    books, tokens = (each[alive].flatten().tolist() for each in (paths.books_BPT, paths.tokens_BPT))
    followed = {*zip(books, tokens, strict=True)}
    assert {token for book, token in followed if book == 0} <= {1, 3}
    assert {token for book, token in followed if book == 2} <= {0}
    both = Constraints.of(CODES, C, only_tokens=wanted, forbidden_tokens=forbidden)
    assert both.allowed_N.nonzero()[:, 0].tolist() == [i for i in left if CODES[i, 0] == 1]


def test_items_that_may_be_listed_decide_which_tokens_are_worth_following() -> None:
    allowed = torch.zeros(N, dtype=torch.bool)
    allowed[11] = True
    constraints = Constraints.of(CODES, C, allowed_N=allowed)
    assert (~constraints.forbidden_MC).nonzero().tolist() == [[m, int(CODES[11, m])] for m in range(M)]
    paths = search(DECODER, ROWS, BeamSettings(beams=4, corp=False), M, constraints)
    assert (paths.log_probs_BP > -torch.inf).sum(1).tolist() == [1] * ROWS
    chosen, _ = best(paths.scorer(CODES), 2, allowed_N=constraints.allowed_N)
    assert chosen.tolist() == [[11, -1]] * ROWS


def test_what_may_be_keeps_its_probability() -> None:
    constraints = Constraints.of(CODES, C, forbidden_tokens=[(1, 0)])
    said = DECODER.log_probs(DECODER.begin(ROWS))
    kept = constraints.applied(said)
    assert bool((kept[:, :, 1, 0] == -torch.inf).all())
    assert torch.equal(kept[:, :, 1, 1:], said[:, :, 1, 1:])


def test_a_catalogue_of_one_item_is_a_list_of_one() -> None:
    paths = search(DECODER, ROWS, BeamSettings(theta=0.0), M, Constraints.of(CODES[:1], C))
    assert best(paths.scorer(CODES[:1]), 3)[0].tolist() == [[0, -1, -1]] * ROWS


@pytest.mark.parametrize("token", [(3, 0), (0, 4), (-1, 0), (0, -1)])
def test_a_token_that_does_not_exist_is_refused(token: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="books are 0 to 2 and tokens 0 to 3"):
        Constraints.of(CODES, C, forbidden_tokens=[token])
    with pytest.raises(ConfigError, match="is asked for, but books are 0 to 2 and tokens 0 to 3"):
        Constraints.of(CODES, C, only_tokens=[token])


def test_constraints_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="No item is left"):
        Constraints.of(CODES, C, forbidden_tokens=[(0, token) for token in range(C)])
    with pytest.raises(ConfigError, match="No item is left"):
        Constraints.of(CODES, C, allowed_N=torch.zeros(N, dtype=torch.bool))


def test_items_of_categories() -> None:
    categories = torch.tensor([0, 1, 2, 1, 0])
    assert items_of(categories).tolist() == [True] * 5
    assert items_of(categories, only=[1, 2]).tolist() == [False, True, True, True, False]
    assert items_of(categories, never=[0]).tolist() == [False, True, True, True, False]
    assert items_of(categories, only=[0, 1], never=[1]).tolist() == [True, False, False, False, True]


def test_dead_paths_read_no_memory_that_nobody_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some decide one book twice and another never: what lay there before came into scores, now and then as NaN."""

    def poisoned(tensor: torch.Tensor, *shape: int) -> torch.Tensor:
        return torch.full(shape, torch.nan, dtype=tensor.dtype)

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    constraints = Constraints.of(CODES, C, forbidden_tokens=[(0, 1), (0, 2), (2, 3)])
    paths = search(DECODER, ROWS, BeamSettings(beams=4, order="joint", theta=0.0), M, constraints)
    assert not bool(paths.table_BPMC.isnan().any())
