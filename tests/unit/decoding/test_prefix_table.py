"""The table of prefixes, held against plain sets of tuples."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from forethought.decoding.prefix_table import PrefixTable
from forethought.errors import ConfigError

M, C, N = 4, 5, 60


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
    places_MN = table.places(n)
    reached: dict[tuple[int, ...], int] = {(): 0}
    for step in range(books):
        longer = {}
        for prefix, number in reached.items():
            at_W, tokens_W, real_W = (each[0, 0] for each in table.ranges(torch.tensor([[number]]), step))
            after = [t[step] for t in sorted({t[: step + 1] for t in tuples if t[:step] == prefix})]
            assert tokens_W[real_W].tolist() == after
            longer |= {(*prefix, c): int(at) for c, at in zip(after, at_W[real_W], strict=True)}
            for item, code in enumerate(tuples):
                if code[:step] == prefix:
                    assert int(tokens_W[places_MN[step, item]]) == code[step]
        reached = longer
        assert sorted(reached.values()) == list(range(len(reached)))
        whole = table.tuples_of(step + 1)
        for prefix, number in reached.items():
            assert int(whole[number]) == len({t for t in tuples if t[: step + 1] == prefix})


def test_nothing_follows_what_is_no_prefix() -> None:
    table, nowhere = PrefixTable.of(some_codes(), C), torch.full((2, 3), -1)
    assert not any(bool(table.ranges(nowhere, step)[2].any()) for step in range(M))


def test_only_items_that_may_be_listed_are_in_it() -> None:
    codes, allowed = some_codes(), torch.arange(N) % 3 == 0
    table = PrefixTable.of(codes, C, allowed)
    assert sorted(table.items_N.tolist()) == allowed.nonzero()[:, 0].tolist()
    assert torch.equal((table.places(N) >= 0).all(0), allowed)
    with pytest.raises(ConfigError, match="No item is left to recommend"):
        PrefixTable.of(codes, C, torch.zeros(N, dtype=torch.bool))
