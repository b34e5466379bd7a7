"""A soft index in loops of float64, what its gradient reaches, and MPQ's second stage."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from token_toys import CONFIGS, follows, points, toy_features, toy_split
from torch import Tensor

from forethought.errors import ConfigError, DataError
from forethought.semantic_ids.all import tokenizer_config
from forethought.semantic_ids.inputs import followers
from forethought.semantic_ids.item_tokens import fit_tokens
from forethought.semantic_ids.kmeans import chosen, nearest
from forethought.semantic_ids.mpq import MPQ, ParallelTokenizer
from forethought.semantic_ids.soft_index import next_contrast, soft_words

PLAIN, SOFT = CONFIGS["mpq"], CONFIGS["mpq-soft"]
BEFORE = "005320134353037542403626164655061752473620114353037712405620"
"""Codes of the first 20 points by the plain tokenizer, as they were before it had a second stage."""


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_soft_words_in_loops() -> None:
    e, words = drawn(5, 2, 3), drawn(2, 4, 3, seed=1)
    distance = [
        [[sum((a - b) ** 2 for a, b in zip(e[i, r].tolist(), words[r, j].tolist(), strict=True)) for j in range(4)]
         for r in range(2)] for i in range(5)]  # fmt: skip
    wanted = torch.zeros_like(e)
    for r in range(2):
        unit = sum(min(distance[i][r]) for i in range(5)) / 5
        for i in range(5):
            weights = [math.exp(-distance[i][r][j] / (0.7 * unit)) for j in range(4)]
            for j in range(4):
                wanted[i, r] += weights[j] / sum(weights) * words[r, j]
    torch.testing.assert_close(soft_words(e, words, 0.7), wanted, rtol=1e-10, atol=1e-10)


def test_near_zero_it_is_the_hard_index() -> None:
    e, words = drawn(5, 2, 3), drawn(2, 4, 3, seed=1)
    torch.testing.assert_close(soft_words(e, words, 1e-4), chosen(nearest(e, words), words))


def test_its_gradient_reaches_points_and_words() -> None:
    e, words = drawn(5, 2, 3).requires_grad_(), drawn(2, 4, 3, seed=1).requires_grad_()
    soft_words(e, words, 0.7).square().sum().backward()
    assert e.grad is not None
    assert words.grad is not None
    assert bool((e.grad.abs().sum(-1) > 0).all())
    assert bool((words.grad.abs().sum(-1) > 0).all())


def test_naming_the_next_in_loops() -> None:
    first, after, maps = drawn(5, 3), drawn(5, 3, seed=1), drawn(3, 3, seed=2)
    items = [4, 7, 4, 1, 0]
    after[2] = after[0]
    unit = 0.1 * sum(float(each @ each) for each in after) / 5
    losses = []
    for i in range(5):
        against = [k for k in range(5) if k == i or items[k] != items[i]]
        scores = {k: math.exp(float(first[i] @ maps @ after[k]) / unit) for k in against}
        losses.append(-math.log(scores[i] / sum(scores.values())))
    made = next_contrast(first, after, maps, torch.tensor(items))
    assert float(made) == pytest.approx(sum(losses) / 5, rel=1e-10)


def test_followers_are_of_the_training_part() -> None:
    split = toy_split()
    train = split.train
    wanted = []
    for start, end in zip(train.starts, train.ends, strict=True):
        row = train.histories.items[start:end].tolist()
        wanted += [[a, b] for a, b in pairwise(row) if a != b]
    assert followers(split).tolist() == wanted
    assert wanted


class TestSecondStage:
    def fitted(self, config: MPQ, follows_P2: Tensor | None) -> tuple[ParallelTokenizer, Tensor]:
        values = points()
        tokenizer = config.build(values.shape[1])
        tokenizer.fit(values, seed=0, follows_P2=follows_P2)
        assert isinstance(tokenizer, ParallelTokenizer)
        return tokenizer, tokenizer.encode(values)

    def test_a_weight_of_zero_is_the_tokens_of_before(self) -> None:
        """As they were before there was such a stage, whatever is handed over."""
        _, codes = self.fitted(PLAIN, follows(120))
        assert "".join(str(code) for code in codes[:20].flatten().tolist()) == BEFORE

    def test_it_moves_experts_and_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the words have a gradient of is L_next alone; what experts have, both."""
        moved: list[Tensor] = []
        descend = "forethought.semantic_ids.ema_codebooks.EMACodebooks.descend"
        monkeypatch.setattr(descend, lambda books, gradient, of: moved.append(gradient))
        self.fitted(SOFT, follows(120))
        assert len(moved) == SOFT.behaviour_epochs * 2
        assert all(float(each.abs().sum()) > 0 for each in moved)

    def test_it_names_the_next_better(self) -> None:
        """Of groups of points that follow each other in a ring, by a map fitted to what each tokenizer says."""
        values, ring = points(), follows(120)
        losses = []
        for weight in (1e-6, 1.0):
            config = replace(SOFT, behaviour_weight=weight, behaviour_epochs=30)
            tokenizer, _ = self.fitted(config, ring)
            e = tokenizer.experts(tokenizer.project(values))
            soft = soft_words(e, tokenizer.books.words_MCD, 0.5).flatten(1)
            first, after = soft[ring[:, 0]], soft[ring[:, 1]]
            maps = torch.linalg.lstsq(first, after).solution
            losses.append(float(next_contrast(first, after, maps, ring[:, 1])))
        assert losses[1] < losses[0]

    def test_nothing_follows_anything(self) -> None:
        for none in (None, torch.zeros(0, 2, dtype=torch.int64)):
            with pytest.raises(DataError, match="leave behaviour_weight out"):
                self.fitted(SOFT, none)

    def test_a_fit_hands_over_what_follows_what(self, monkeypatch: pytest.MonkeyPatch) -> None:
        split, seen = toy_split(), []
        monkeypatch.setattr(ParallelTokenizer, "learn", lambda self, y, seed, observer: seen.append(self.follows_P2))
        fit_tokens(split, toy_features(split), replace(SOFT, collisions="keep"), seed=0)
        fit_tokens(split, toy_features(split), replace(PLAIN, collisions="keep"), seed=0)
        assert torch.equal(seen[0], followers(split))
        assert seen[1] is None

    def test_settings_that_nothing_reads(self) -> None:
        with pytest.raises(ConfigError, match="Without a second stage behaviour_epochs and soft_temperature would"):
            MPQ(behaviour_epochs=3, soft_temperature=0.3)

    def test_it_survives_json(self) -> None:
        assert tokenizer_config(SOFT.to_json()) == SOFT
