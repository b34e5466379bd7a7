"""Equal tokens are told apart: by one code, by two, by a counter; and what it costs."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from token_toys import CONFIGS, behaviour, points

from forethought.errors import ConfigError
from forethought.semantic_ids.collisions import resolve
from forethought.semantic_ids.opq import OPQ
from forethought.semantic_ids.token_table import TokenTable
from forethought.semantic_ids.tokenizer import Tokenizer


def fitted(name: str, values: torch.Tensor) -> Tokenizer:
    tokenizer = CONFIGS[name].build(values.shape[1])
    tokenizer.fit(values, seed=0, **behaviour(len(values)))
    return tokenizer


@pytest.mark.parametrize("name", CONFIGS)
def test_none_is_left_at_a_small_distortion(name: str) -> None:
    values = points(300)
    tokenizer = fitted(name, values)
    codes = tokenizer.encode(values)
    before = TokenTable(codes, 8, ordered=False)
    told_apart = resolve(codes, tokenizer, values, torch.ones(300), "greedy")
    assert before.collisions() > 0.1
    assert TokenTable(told_apart, 8, ordered=False).collisions() == 0
    errors = [float((tokenizer.standardised(values) - tokenizer.decode(c)).square().sum()) for c in (codes, told_apart)]
    shuffled = tokenizer.decode(told_apart[torch.randperm(300)])
    worst = float((tokenizer.standardised(values) - shuffled).square().sum())
    assert errors[1] - errors[0] <= 0.5 * (worst - errors[0]) + 1e-6


def test_the_popular_one_keeps_its_tokens_and_others_take_the_cheapest_free_ones() -> None:
    """Against all tuples that are one code away, in order of cost."""
    values = points(60)
    tokenizer = fitted("opq", values)
    values = values[[0, 1, 0, 0, 8]]
    codes = tokenizer.encode(values)
    popularity = torch.tensor([3, 1, 9, 3, 5])
    made = resolve(codes, tokenizer, values, popularity, "greedy")
    used = {tuple(row) for row in codes.tolist()}
    assert made[2].tolist() == codes[2].tolist()  # the most popular of 0, 2, 3
    costs = tokenizer.costs(values, codes)
    for item in (0, 3):  # of equally popular ones the lower row first
        ways = sorted((float(costs[item, b, c]), b, c) for b, c in product(range(3), range(8)) if c != codes[item, b])
        for _, book, code in ways:
            other = codes[item].tolist()
            other[book] = code
            if tuple(other) not in used:
                break
        assert made[item].tolist() == other
        used.add(tuple(other))
    assert torch.equal(made[[1, 4]], codes[[1, 4]])


def test_two_codes_change_where_one_leads_nowhere() -> None:
    """Two codes a book: four tuples, of which three are one code away or none."""
    values = points(40)
    config = OPQ(codebooks=2, size=2, components=4, collisions="greedy")
    tokenizer = config.build(10)
    tokenizer.fit(values, seed=0, **behaviour(len(values)))
    alike = values[[0, 0, 0, 0, 0]]
    codes = tokenizer.encode(alike)
    made = resolve(codes, tokenizer, alike, torch.ones(5), "greedy")
    assert len(made[:4].unique(dim=0)) == 4
    assert made[0].tolist() == codes[0].tolist()
    assert made[3].tolist() == (1 - codes[0]).tolist()  # both codes are other ones
    assert made[4].tolist() == codes[0].tolist()  # nothing is free any more


def test_a_counter_numbers_the_items_of_a_group() -> None:
    values = points(60)
    tokenizer = fitted("rq_kmeans", values)
    values = values[[0, 1, 0, 0]]
    codes = tokenizer.encode(values)
    made = resolve(codes, tokenizer, values, torch.tensor([1, 5, 9, 1]), "counter")
    assert torch.equal(made[:, :3], codes)
    assert made[:, 3].tolist() == [1, 0, 0, 2]


def test_more_items_than_a_counter_has_codes() -> None:
    values = points(60)
    tokenizer = fitted("rq_kmeans", values)
    alike = values[:1].expand(9, -1)
    with pytest.raises(ConfigError, match="9 items have the same tokens, but a counter of 8 codes"):
        resolve(tokenizer.encode(alike), tokenizer, alike, torch.ones(9), "counter")


def test_kept_as_they_are() -> None:
    values = points(60)
    tokenizer = fitted("opq", values)
    codes = tokenizer.encode(values)
    assert torch.equal(resolve(codes, tokenizer, values, torch.ones(60), "keep"), codes)


@pytest.mark.parametrize("how", ["greedy", "counter"])
def test_items_that_come_later_give_way(how: str) -> None:
    values = points(60)
    tokenizer = fitted("opq", values)
    codes = tokenizer.encode(values)
    known = TokenTable(resolve(codes, tokenizer, values, torch.ones(60), how), 8, ordered=False)  # type: ignore[arg-type]
    new = values[[4, 4, 9]]
    made = resolve(tokenizer.encode(new), tokenizer, new, torch.zeros(3), how, taken=known)  # type: ignore[arg-type]
    both = TokenTable(torch.cat([known.codes_NM, made]), 60, ordered=False)
    assert both.collisions() == 0
