"""Rewards of paths and of halting against loops over one choice."""

from __future__ import annotations

import math

import pytest
import torch

from forethought.alignment.rewards import (
    ItemRanks,
    Window,
    category_hit,
    consistency,
    diversity,
    halting_rewards,
    path_rewards,
    spread,
    step_hit,
    to_go,
)
from forethought.alignment.settings import HaltingRewards, PathRewards
from forethought.decoding.path_facts import PathFacts
from forethought.decoding.rollouts import DrawnPaths
from forethought.reasoning.halting_rollouts import HaltingFacts
from forethought.reasoning.policy import Future

B, G, T, M, C, N, H, Q = 2, 3, 2, 3, 4, 20, 3, 5


def facts_of(horizon: int = H, *, last_missing: bool = True) -> PathFacts:
    generator = torch.Generator().manual_seed(0)
    codes_NM = torch.randint(C, (N, M), generator=generator)
    table_BGMC = torch.randn(B, G, M, C, generator=generator, dtype=torch.float64)
    books_BGT = torch.stack([torch.randperm(M, generator=generator)[:T] for _ in range(B * G)]).view(B, G, T)
    tokens_BGT = torch.randint(C, (B, G, T), generator=generator)
    beliefs = torch.randn(B, G, T + 1, Q, generator=generator, dtype=torch.float64).log_softmax(-1)
    real_BH = torch.ones(B, horizon, dtype=torch.bool)
    real_BH[1, -1] = not last_missing or horizon == 1
    future = Future(torch.randint(N, (B, horizon), generator=generator), real_BH)
    drawn = DrawnPaths(books_BGT, tokens_BGT, torch.zeros(B, G, T), table_BGMC, beliefs)
    return PathFacts(drawn, future, codes_NM, torch.randint(Q, (N,), generator=generator), table_BGMC)


def plain_window(values: list[float], real: list[bool], decay: float) -> float:
    pairs = [(decay**j, value) for j, (value, there) in enumerate(zip(values, real, strict=True)) if there]
    return sum(w * v for w, v in pairs) / sum(w for w, _ in pairs)


def test_hits_count_later_items_less_and_missing_ones_not_at_all() -> None:
    facts, window = facts_of(), Window(0.8)
    steps, categories = step_hit(facts, window), category_hit(facts, window)
    beliefs = facts.paths.categories_BGTQ
    assert beliefs is not None
    for b in range(B):
        real = facts.future.real_BH[b].tolist()
        for g in range(G):
            for t in range(T):
                hits = facts.hits_BGTH[b, g, t].double().tolist()
                assert float(steps[b, g, t]) == pytest.approx(plain_window(hits, real, 0.8))
                believed = int(beliefs[b, g, t + 1].argmax())  # after the token
                right = [float(facts.category_N[i] == believed) for i in facts.future.items_BH[b].tolist()]
                assert float(categories[b, g, t]) == pytest.approx(plain_window(right, real, 0.8))


def test_a_window_of_one_item_is_the_plain_reward() -> None:
    facts = facts_of(1)
    torch.testing.assert_close(step_hit(facts, Window(0.8)), facts.hits_BGTH[..., 0].double())


def test_consistency() -> None:
    facts = facts_of()
    beliefs, got = facts.paths.categories_BGTQ, consistency(facts)
    assert beliefs is not None
    for b, g, t in [(0, 0, 0), (1, 2, 1)]:
        p, q = beliefs[b, g, t].exp().tolist(), beliefs[b, g, t + 1].exp().tolist()
        m = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
        js = sum(x * math.log(x / z) / 2 + y * math.log(y / z) / 2 for x, y, z in zip(p, q, m, strict=True))
        assert float(got[b, g, t]) == pytest.approx(1 - js / math.log(2))


def test_the_reward_of_a_path_is_what_its_rank_is_worth() -> None:
    facts = facts_of()
    items = ItemRanks(torch.zeros(N), None)
    for gain in ("ndcg", "recall"):
        settings = PathRewards(path_gain=gain, top=6, decay=0.5)  # type: ignore[arg-type]
        got = path_rewards(settings, items)["path"](facts)
        for b in range(B):
            for g in range(G):
                ranks = facts.ranks_BGH[b, g].tolist()
                worth = [(1 / math.log2(r + 1) if gain == "ndcg" else 1.0) if r <= 6 else 0.0 for r in ranks]
                assert float(got[b, g]) == pytest.approx(plain_window(worth, facts.future.real_BH[b].tolist(), 0.5))


def test_rewards_beyond_the_paper_look_at_the_best_item() -> None:
    facts = facts_of()
    items = ItemRanks(torch.arange(N) / N, torch.arange(N).flip(0) / N)
    settings = PathRewards(coverage=1.0, freshness=1.0, margin=1.0, diversity=1.0, step_hit=0.0)
    made = path_rewards(settings, items)
    assert "step_hit" not in made  # what has no weight is not computed
    torch.testing.assert_close(made["coverage"](facts), facts.best_BG / N)
    torch.testing.assert_close(made["freshness"](facts), (N - 1 - facts.best_BG) / N)
    assert ((made["margin"](facts) > 0.5) == (facts.ranks_BGH[..., 0] < 1.5)).all()
    for b in range(B):
        best = facts.best_BG[b].tolist()
        for g in range(G):
            apart = sum(best[other] != best[g] for other in range(G)) / (G - 1)
            assert float(diversity(facts)[b, g]) == pytest.approx(apart)


def test_what_is_to_come() -> None:
    rewards = torch.tensor([[[1.0, 2.0, 4.0]]])
    assert to_go(rewards).tolist() == [[[7.0, 6.0, 4.0]]]
    assert spread(torch.tensor([[3.0]]), 3).tolist() == [[[0.0, 0.0, 3.0]]]
    assert spread(rewards, 3) is rewards


def test_halting_earns_what_the_rank_is_worth_less_its_steps() -> None:
    facts = HaltingFacts(torch.tensor([[1, 3]]), 3, torch.tensor([[3.0, 1.0]]))
    made = halting_rewards(HaltingRewards(step_price=0.1))
    assert made["gain"](facts).tolist() == [[0.5, 1.0]]
    torch.testing.assert_close(made["price"](facts), torch.tensor([[-0.1, -0.3]]))
