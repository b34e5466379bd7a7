"""CORP by hand: what is pruned, what takes its place, and that everybody keeps a path."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from toy_decoders import ToyDecoder

from forethought.catalogue.ranking import best
from forethought.decoding.beam import BeamSettings, search
from forethought.decoding.corp import jensen_shannon
from forethought.decoding.paths import Paths

ROWS, M, C, G = 6, 3, 4, 5


def decoder(rows: int = ROWS) -> ToyDecoder:
    return ToyDecoder(rows, M, C, G)


def settings(theta: float, rollbacks: int = 3, beams: int = 3, steps: int = M) -> tuple[BeamSettings, int]:
    """What `search` is asked for."""
    return BeamSettings(beams=beams, corp=True, theta=theta, rollbacks=rollbacks), steps


def test_jensen_shannon_is_scipys() -> None:
    p, q = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(-1)
    q[0, 1] = -torch.inf
    wanted = jensenshannon(p.exp().numpy(), q.exp().numpy(), axis=1) ** 2
    # a row that sums to less than one is normalised there
    q = q.log_softmax(-1)
    np.testing.assert_allclose(jensen_shannon(p, q), wanted, rtol=1e-9)
    apart = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]])
    assert jensen_shannon(apart[0], apart[1]).item() == pytest.approx(math.log(2))
    assert jensen_shannon(apart[0], apart[0]).item() == 0


def by_hand(toy: ToyDecoder, row: int, theta: float, rollbacks: int, beams: int) -> list[tuple[float, list]]:
    """One row, one path after the other, in plain lists."""
    paths: list[tuple[float, list[tuple[int, int]]]] = [(0.0, [])]
    for _ in range(M):
        ways = {}  # parent -> its children, best first
        for number, (log_p, path) in enumerate(paths):
            rows, _ = toy.after(row, path)
            book = max((b for b in range(M) if b not in dict(path)), key=lambda b: (rows[b].max().item(), -b))
            tokens = sorted(range(C), key=lambda j: -rows[book, j].item())
            ways[number] = [(log_p + rows[book, j].item(), [*path, (book, j)]) for j in tokens]
        every = sorted(((way[0], n, k) for n, those in ways.items() for k, way in enumerate(those)), reverse=True)
        slots = [(n, k) for _, n, k in every[:beams]]
        first, tried = slots[0], set(slots)

        def fails(slot: tuple[int, int]) -> bool:
            before = toy.after(row, paths[slot[0]][1])[1]  # noqa: B023
            after = toy.after(row, ways[slot[0]][slot[1]][1])[1]  # noqa: B023
            assert before is not None
            assert after is not None
            return jensen_shannon(before, after).item() > theta

        alive = dict(enumerate(slots))
        failing = [place for place, slot in alive.items() if fails(slot)]
        for _try in range(rollbacks):
            again = []
            for place in failing:
                parent = alive.pop(place)[0]
                left = [k for k in range(C) if (parent, k) not in tried]
                if left:
                    alive[place] = (parent, left[0])
                    tried.add((parent, left[0]))
                    again.append(place)
            failing = [place for place in again if fails(alive[place])]
        for place in failing:
            del alive[place]
        kept = list(alive.values()) or [first]
        paths = [ways[n][k] for n, k in kept]
    return sorted(paths, key=lambda each: -each[0])


@pytest.mark.parametrize("theta", [0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.69])
@pytest.mark.parametrize("rollbacks", [0, 1, 3])
@pytest.mark.parametrize("beams", [1, 3, 9])
def test_what_is_left_is_what_comes_out_by_hand(theta: float, rollbacks: int, beams: int) -> None:
    toy = decoder()
    paths = search(toy, ROWS, *settings(theta, rollbacks, beams))
    for row in range(ROWS):
        wanted = by_hand(toy, row, theta, rollbacks, beams)
        alive = paths.log_probs_BP[row] > -torch.inf
        got = [
            list(zip(books, tokens, strict=True))
            for books, tokens in zip(
                paths.books_BPT[row, alive].tolist(), paths.tokens_BPT[row, alive].tolist(), strict=True
            )
        ]
        assert got == [path for _, path in wanted]
        np.testing.assert_allclose(paths.log_probs_BP[row, alive], [log_p for log_p, _ in wanted])


def _alive(paths: Paths) -> torch.Tensor:
    return paths.log_probs_BP > -torch.inf


def test_no_divergence_is_beyond_log_two_so_nothing_is_pruned() -> None:
    paths, plain = (search(decoder(), ROWS, *each) for each in (settings(0.7), (BeamSettings(beams=3, corp=False), M)))
    assert torch.equal(paths.tokens_BPT, plain.tokens_BPT)
    assert torch.equal(paths.table_BPMC, plain.table_BPMC)
    assert paths.pruned is not None
    assert len(paths.pruned.rows_E) == 0
    assert plain.pruned is None


@pytest.mark.parametrize("rollbacks", [0, 2])
def test_at_theta_zero_everybody_has_the_greedy_path_and_all_items(rollbacks: int) -> None:
    toy = decoder()
    paths = search(toy, ROWS, *settings(0.0, rollbacks))
    assert _alive(paths).sum(1).tolist() == [1] * ROWS
    greedy = search(toy, ROWS, BeamSettings(beams=1, corp=False), M)
    assert torch.equal(paths.tokens_BPT[:, 0], greedy.tokens_BPT[:, 0])
    codes = torch.randint(C, (25, M), generator=torch.Generator().manual_seed(0))
    chosen, scores = best(paths.scorer(codes), 30)
    assert all(sorted(row) == [*[-1] * 5, *range(25)] for row in chosen.tolist())
    assert bool((scores[:, :25] > -torch.inf).all())


def test_what_is_pruned_is_told_with_its_reason() -> None:
    toy, theta = decoder(), 0.05
    paths = search(toy, ROWS, *settings(theta, rollbacks=1))
    pruned = paths.pruned
    assert pruned is not None
    assert len(pruned.rows_E) > 10
    assert bool((pruned.jensen_shannon_E > theta).all())
    assert bool(pruned.kept_E.any())
    assert not bool(pruned.kept_E.all())
    for n in (pruned.steps_E == 0).nonzero()[:, 0].tolist():  # after nothing: the beliefs are easily made again
        row, decided = int(pruned.rows_E[n]), (int(pruned.books_E[n]), int(pruned.tokens_E[n]))
        before, after = toy.after(row, [])[1], toy.after(row, [decided])[1]
        assert before is not None
        assert after is not None
        assert int(pruned.before_E[n]) == int(before.argmax())
        assert int(pruned.after_E[n]) == int(after.argmax())
        assert pruned.jensen_shannon_E[n].item() == pytest.approx(jensen_shannon(before, after).item())


def test_beliefs_are_those_before_each_token_and_divergences_those_it_brought() -> None:
    toy = decoder()
    paths = search(toy, ROWS, *settings(0.7))
    assert paths.categories_BTPG is not None
    assert paths.categories_BTPG.shape == (ROWS, M, 3, G)
    for row, n, step in np.ndindex(ROWS, 3, M):
        path = list(zip(paths.books_BPT[row, n].tolist(), paths.tokens_BPT[row, n].tolist(), strict=True))
        before, after = toy.after(row, path[:step])[1], toy.after(row, path[: step + 1])[1]
        assert before is not None
        assert after is not None
        torch.testing.assert_close(paths.categories_BTPG[row, step, n], before)
        torch.testing.assert_close(paths.jensen_shannon_BPT[row, n, step], jensen_shannon(before, after))


def test_without_categories_there_is_nothing_to_prune() -> None:
    paths = search(ToyDecoder(ROWS, M, C), ROWS, *settings(0.0))
    assert paths.pruned is None
    assert paths.categories_BTPG is None
    assert int(_alive(paths).sum()) == ROWS * 3
