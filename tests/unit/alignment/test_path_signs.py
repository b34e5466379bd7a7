"""Signs of a path against loops over one path, and that they know nothing of what comes next."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from forethought.alignment.path_signs import path_signs
from forethought.decoding.path_facts import PathFacts
from forethought.decoding.rollouts import DrawnPaths
from forethought.reasoning.policy import Future

B, G, T, M, C, N, Q, L = 2, 3, 2, 3, 4, 20, 5, 6
LENGTHS = (2, 6)  # one history is shorter than the items that are looked back at


def facts_of(items_B1: list[int], *, categories: bool = True) -> PathFacts:
    """Paths whose tables are log-probabilities; the padded slots repeat the first item."""
    generator = torch.Generator().manual_seed(2)
    codes_NM = torch.randint(C, (N, M), generator=generator)
    table_BGMC = torch.randn(B, G, M, C, generator=generator, dtype=torch.float64).mul(2).log_softmax(-1)
    table_BGMC[0, 1, 0] = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64).log()  # codes that nobody has
    table_BGMC[1, 2] = table_BGMC[1, 0]  # two paths of one opinion
    books_BGT = torch.stack([torch.randperm(M, generator=generator)[:T] for _ in range(B * G)]).view(B, G, T)
    tokens_BGT = torch.randint(2, (B, G, T), generator=generator)
    beliefs = torch.randn(B, G, T + 1, Q, generator=generator, dtype=torch.float64).log_softmax(-1)
    items_BL = torch.randint(N, (B, L), generator=generator)
    items_BL[0, LENGTHS[0] :] = items_BL[0, 0]
    future = Future(torch.tensor(items_B1)[:, None], torch.ones(B, 1, dtype=torch.bool))
    drawn = DrawnPaths(books_BGT, tokens_BGT, torch.zeros(B, G, T), table_BGMC, beliefs if categories else None)
    category_N = torch.randint(Q, (N,), generator=generator)
    return PathFacts(drawn, future, codes_NM, category_N, table_BGMC, items_BL, torch.tensor(LENGTHS))


def scores(facts: PathFacts, b: int, g: int) -> list[float]:
    table = facts.table_BGMC[b, g].tolist()
    return [sum(table[m][int(facts.codes_NM[i, m])] for m in range(M)) for i in range(N)]


def test_signs_one_path_after_the_other() -> None:
    facts, rare_N = facts_of([3, 4]), torch.arange(N) / N
    assert facts.items_BL is not None
    signs = path_signs(facts, rare_N)
    beliefs = facts.paths.categories_BGTQ
    assert beliefs is not None
    best_of = [[max(range(N), key=scores(facts, b, g).__getitem__) for g in range(G)] for b in range(B)]
    seen = facts.items_BL[1].tolist()
    seen[-1] = best_of[1][0]  # one that was met, at the end of its history
    facts = replace(facts, items_BL=torch.stack([facts.items_BL[0], torch.tensor(seen)]))
    assert facts.items_BL is not None
    signs = path_signs(facts, rare_N)
    for b in range(B):
        history = facts.items_BL[b, : LENGTHS[b]].tolist()
        for g in range(G):
            got = dict(zip(signs.names, signs.values_BGF[b, g].tolist(), strict=True))
            books, tokens = facts.paths.books_BGT[b, g].tolist(), facts.paths.tokens_BGT[b, g].tolist()
            rows = [facts.paths.table_BGMC[b, g, m].exp().tolist() for m in books]
            shares = [row[j] / max(row) for row, j in zip(rows, tokens, strict=True)]
            entropies = [-sum(p * math.log(p) for p in row if p > 0) / math.log(C) for row in rows]
            each, best = sorted(scores(facts, b, g)), best_of[b][g]
            believed = beliefs[b, g].exp().tolist()
            of_best = [facts.paths.table_BGMC[b, g, m, int(facts.codes_NM[best, m])].item() for m in range(M)]
            same = [
                sum(int(facts.codes_NM[best, m] == facts.codes_NM[i, m]) for m in range(M)) / M for i in history[-3:]
            ]
            moved = []
            for p, q in itertools.pairwise(believed):
                middle = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
                kl = [sum(x * math.log(x / z) for x, z in zip(one, middle, strict=True)) for one in (p, q)]
                moved.append(sum(kl) / 2 / math.log(2))
            expected = {
                "likelihood": sum(shares) / T,
                "least_likely": min(shares),
                "log_prob": sum(math.log(row[j]) for row, j in zip(rows, tokens, strict=True)) / T / math.log(C),
                "entropy": sum(entropies) / T,
                "best": sum(of_best) / M / math.log(C),
                "lead": 1 - math.exp(each[-2] - each[-1]),
                "agreement": sum(best_of[b][other] == best for other in range(G) if other != g) / (G - 1),
                "known": 1 - best / N,
                "met": float(best in history),
                "shared": sum(same) / len(same),
                "length": math.log(1 + LENGTHS[b]),
                "shift": sum(moved) / T,
                "peak": max(believed[-1]),
                "fits": believed[-1][int(facts.category_N[best])],
            }
            assert got == pytest.approx(expected, abs=1e-6)
    met = signs.values_BGF[..., signs.names.index("met")]
    agreement = signs.values_BGF[..., signs.names.index("agreement")]
    assert met[1, 0] == 1
    assert not met.all()
    assert agreement.max() > 0


def test_nothing_is_known_of_what_comes_next() -> None:
    """Whatever the next items are, the best ones and the worst."""
    rare_N, best = torch.zeros(N), facts_of([0, 0]).best_BG[:, 0].tolist()
    nexts = ([0, 0], [N - 1, 3], best)
    signs = [path_signs(facts_of(items), rare_N).values_BGF for items in nexts]
    assert len({float(facts_of(items).margins_BG.sum()) for items in nexts}) == 3  # which other rewards read
    for other in signs[1:]:
        torch.testing.assert_close(other, signs[0], rtol=0, atol=0)


def test_a_run_without_categories_has_the_other_signs() -> None:
    with_them = path_signs(facts_of([0, 0]), torch.zeros(N))
    without = path_signs(facts_of([0, 0], categories=False), torch.zeros(N))
    assert set(with_them.names) - set(without.names) == {"shift", "peak", "fits"}
    torch.testing.assert_close(without.values_BGF, with_them.values_BGF[..., : len(without.names)])
