"""Failure signatures of an alignment: each is seen where it is, and where it is not nothing is said."""

from __future__ import annotations

import pytest
import torch

from forethought.alignment.signatures import signatures
from forethought.decoding.paths import distinct

WEIGHTS = {"step_hit": 1.0, "path": 2.0}
FIRST = {"reward_step_hit": 0.1, "reward_path": 0.2, "valid_recall@5": 0.06, "valid_recall@10": 0.1}
FIRST |= {"distinct": 0.9, "entropy": 4.0}


def seen(epoch: int = 3, weights: dict[str, float] | None = None, **now: float) -> list[str]:
    figures = FIRST | {"reward_path": 0.25} | now | {f"first_{name}": was for name, was in FIRST.items()}
    return signatures(figures | {"epoch": epoch}, WEIGHTS if weights is None else weights)


def test_what_goes_well_is_passed_over() -> None:
    assert seen() == []
    assert signatures({"epoch": 5, "reward_path": 0.1}, {}) == []


def test_rewards_that_do_not_move() -> None:
    (said,) = seen(reward_path=0.2 + 0.009 * 0.5 / 2)  # less than a hundredth of .1 + 2 x .2
    assert said.startswith("Rollouts earn no more than at first (0.5045, 0.5000 then)")
    assert seen(reward_path=0.2 + 0.011 * 0.5 / 2) == []
    assert seen(reward_path=0.1, epoch=2) == []
    assert seen(reward_path=0.1, weights={}) == []


def test_advice_on_paths_is_for_paths_alone() -> None:
    fallen = {"first_valid_recall@5": 0.06, "first_valid_recall@10": 0.1}
    (said,) = signatures({"valid_recall@5": 0.06, "valid_recall@10": 0.098} | fallen, {})
    assert "path" not in said
    assert signatures({"entropy": 0.1, "first_entropy": 0.6}, {}) == [], "sure when to stop"
    assert "path_rewards.future" in seen(**{"valid_recall@5": 0.06, "valid_recall@10": 0.098})[0]


def test_a_tail_that_falls_more_than_the_head() -> None:
    (said,) = seen(**{"valid_recall@5": 0.06, "valid_recall@10": 0.098})
    assert said.startswith("On validation recall@10 has lost 2.0% and recall@5 0.0%")
    assert seen(**{"valid_recall@5": 0.0588, "valid_recall@10": 0.098}) == [], "both fall alike"
    assert seen(**{"valid_recall@5": 0.07, "valid_recall@10": 0.0995}) == [], "half a hundredth may be chance"


@pytest.mark.parametrize(("figure", "what"), [("distinct", "paths of a history differ"), ("entropy", "nats are left")])
def test_paths_that_collapse(figure: str, what: str) -> None:
    (said,) = seen(**{figure: 0.49 * FIRST[figure]})
    assert said.startswith(f"Paths collapse: {0.49 * FIRST[figure]:.2f} {what}")
    assert seen(**{figure: 0.51 * FIRST[figure]}) == []


def test_the_share_of_paths_that_are_not_anothers_in_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    books, tokens = (torch.randint(2, (20, 6, 2), generator=generator) for _ in range(2))
    for row, share in enumerate(distinct(books, tokens).tolist()):
        paths = {
            tuple(map(tuple, zip(b, t, strict=True)))
            for b, t in zip(books[row].tolist(), tokens[row].tolist(), strict=True)
        }
        assert share == pytest.approx(len(paths) / 6)
