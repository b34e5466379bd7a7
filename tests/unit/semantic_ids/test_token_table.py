"""Tokens of all items: keys, groups, collisions."""

from __future__ import annotations

import numpy as np
import torch

from forethought.semantic_ids.token_table import TokenTable

CODES = torch.tensor([[0, 1], [1, 0], [0, 1], [2, 2], [1, 0], [0, 1]])


def test_keys_have_the_first_book_in_front() -> None:
    keys_N = TokenTable(CODES, 3, ordered=True).keys_N()
    assert keys_N.tolist() == [0 * 3 + 1, 3, 1, 8, 3, 1]


def test_keys_of_many_books_are_bytes_in_the_same_order() -> None:
    draw = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 256, (50, 8), generator=draw)
    codes[7] = codes[3]
    keys_N = TokenTable(codes, 256, ordered=False).keys_N()
    assert keys_N.dtype.kind == "V"
    assert keys_N[7] == keys_N[3]
    assert len(np.unique(keys_N)) == 49


def test_groups_are_of_equal_tuples() -> None:
    table = TokenTable(CODES, 3, ordered=False)
    group_N = table.groups_N()
    assert [group_N[0] == group_N[i] for i in range(6)] == [True, False, True, False, False, True]
    assert table.group_sizes()[group_N].tolist() == [3, 2, 3, 1, 2, 3]
    assert table.collisions() == 5 / 6
    assert (table.n_items, table.codebooks) == (6, 2)


def test_a_book_with_one_token_for_all_items_is_idle() -> None:
    assert TokenTable(CODES, 3, ordered=False).idle_books() == 0
    same = torch.full((6, 2), 2)
    assert TokenTable(torch.cat([same[:, :1], CODES, same], 1), 3, ordered=True).idle_books() == 3
    assert TokenTable(CODES[:1], 3, ordered=False).idle_books() == 0  # of a single item nothing is to be told


def test_many_books_have_the_same_groups_as_their_rows() -> None:
    codes = torch.randint(0, 3, (200, 40), generator=torch.Generator().manual_seed(1))[:, :1].repeat(1, 40)
    assert TokenTable(codes, 256, ordered=False).group_sizes().sum() == 200
    assert len(TokenTable(codes, 256, ordered=False).group_sizes()) == 3
