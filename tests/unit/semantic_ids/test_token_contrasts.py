"""LETTER's terms in loops of float64, what their gradients reach, and what they do to tokens."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from token_toys import CONFIGS, met_vectors, points, toy_features, toy_split
from torch import Tensor
from torch.nn import functional as F

from forethought import memory
from forethought.data.features import Features, read_features
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import leave_last_out
from forethought.errors import ConfigError, DataError
from forethought.semantic_ids.all import tokenizer_config
from forethought.semantic_ids.ema_codebooks import EMACodebooks
from forethought.semantic_ids.inputs import collaborative_vectors
from forethought.semantic_ids.item_tokens import fit_tokens
from forethought.semantic_ids.kmeans import nearest
from forethought.semantic_ids.quality import following_pairs, shared_tokens
from forethought.semantic_ids.rq_vae import RQVAE, ResidualAutoencoder
from forethought.semantic_ids.token_contrasts import collaborative_contrast, diversity_contrast, even_groups

PLAIN = CONFIGS["rq_vae"]
LETTER = CONFIGS["rq_vae-letter"]
BEFORE = "700302706450060171711330256716077136730342500414056111707314"
"""Codes of the first 20 points by the plain tokenizer, as they were before it had other terms."""


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def product(a: Tensor, b: Tensor) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def mean_square(vectors: Tensor) -> float:
    return sum(product(each, each) for each in vectors) / len(vectors)


class TestCollaborative:
    @pytest.mark.parametrize("length", [0.3, 1.5])
    def test_in_loops(self, length: float) -> None:
        said, met = length * drawn(7, 3), 5 * drawn(7, 3, seed=1)
        met[[2, 5]] = 0.0  # nobody met them: neither points anywhere nor is held against others
        known = [row for row in range(7) if row not in (2, 5)]
        losses, unit = [], 0.3 * math.sqrt(max(1.0, mean_square(said[known])))
        assert (unit > 0.3) == (length > 1)
        for i in known:
            scores = {k: math.exp(product(said[i], met[k]) / unit) for k in known}
            losses.append(-math.log(scores[i] / sum(scores.values())))
        assert float(collaborative_contrast(said, met, 0.3)) == pytest.approx(sum(losses) / 5, rel=1e-12)

    def test_longer_vectors_gain_nothing(self) -> None:
        said, met = (5 * drawn(7, 3)).requires_grad_(), drawn(7, 3, seed=1)
        collaborative_contrast(said, met, 0.3).backward()
        assert said.grad is not None
        assert float((said.grad * said.detach()).sum()) == pytest.approx(0, abs=1e-12)

    def test_its_gradient_turns_vectors_to_their_own(self) -> None:
        said, met = drawn(7, 3).requires_grad_(), drawn(7, 3, seed=1)
        met[2] = 0.0
        before = collaborative_contrast(said, met, 0.3)
        (gradient,) = torch.autograd.grad(before, said)
        assert bool((gradient.abs().sum(1) > 0).eq(torch.tensor([True] * 2 + [False] + [True] * 4)).all())
        assert collaborative_contrast(said - 0.1 * gradient, met, 0.3) < before

    def test_alone_there_is_nothing_to_be_told_apart_from(self) -> None:
        met = torch.zeros(4, 3, dtype=torch.float64)
        met[1] = 1.0
        assert float(collaborative_contrast(drawn(4, 3), met, 0.1)) == 0.0


class TestDiversity:
    def test_in_loops_over_every_word_that_might_be_drawn(self) -> None:
        words, groups, codes = drawn(6, 3), [0, 1, 0, 1, 0, 1], [0, 0, 3, 5, 0]
        unit = mean_square(words) * 0.7
        losses = []
        for c in codes:
            against = sum(math.exp(product(words[c], words[j]) / unit) for j in range(6) if j != c)
            friends = [j for j in range(6) if groups[j] == groups[c] and j != c]
            drawn_ones = [-math.log(math.exp(product(words[c], words[j]) / unit) / against) for j in friends]
            losses.append(sum(drawn_ones) / len(drawn_ones))
        shares = torch.bincount(torch.tensor(codes), minlength=6) / 5
        made = diversity_contrast(words, torch.tensor(groups), shares.double(), 0.7)
        assert float(made) == pytest.approx(sum(losses) / 5, rel=1e-6)

    def test_its_gradient_crowds_groups(self) -> None:
        words, groups = drawn(8, 3).requires_grad_(), torch.arange(8) % 2
        shares = torch.full((8,), 1 / 8, dtype=torch.float64)
        before = diversity_contrast(words, groups, shares, 0.5)
        (gradient,) = torch.autograd.grad(before, words)
        assert bool((gradient.abs().sum(1) > 0).all())
        assert diversity_contrast(words - 0.1 * gradient, groups, shares, 0.5) < before


class TestGroups:
    @pytest.mark.parametrize(("size", "groups"), [(12, 3), (13, 3), (8, 4), (21, 10)])
    def test_sizes_differ_by_one_at_most(self, size: int, groups: int) -> None:
        counts = torch.bincount(even_groups(drawn(size, 4).float(), groups, seed=0), minlength=groups)
        assert int(counts.sum()) == size
        assert int(counts.min()) == size // groups
        assert int(counts.max()) <= size // groups + 1

    def test_crowds_of_one_size_are_the_groups(self) -> None:
        words = 10 * torch.eye(4)[torch.arange(20) % 4] + 0.1 * drawn(20, 4).float()
        groups = even_groups(words, 4, seed=0)
        assert all((groups[a] == groups[b]) == (a % 4 == b % 4) for a, b in combinations(range(20), 2))

    def test_a_crowd_too_large_gives_its_farthest_away(self) -> None:
        words = torch.tensor([[0.0], [0.1], [0.2], [1.0], [9.0], [9.1]])  # k-means: four and two
        assert sorted(even_groups(words, 2, seed=0).bincount().tolist()) == [3, 3]
        assert even_groups(words, 2, seed=0)[3] == even_groups(words, 2, seed=0)[4]


class TestDescent:
    def test_following_is_descent_on_the_squared_error(self) -> None:
        """Where the share of each word in the batch is that of before."""
        x = drawn(40, 1, 3).float()
        one, two = EMACodebooks(1, 4, 3), EMACodebooks(1, 4, 3)
        one.begin(x, seed=0)
        codes, moved = nearest(x, one.words_MCD), one.words_MCD + 0.3
        for books in (one, two):
            books.words_MCD.copy_(moved)
            books.counts_MC.copy_(F.one_hot(codes, 4).sum(0))
            books.sums_MCD.copy_(books.words_MCD * books.counts_MC[..., None])
        words = two.words_MCD.clone().requires_grad_()
        (x[:, 0] - words[0, codes[:, 0]]).square().sum(-1).mean().backward()
        assert words.grad is not None
        one.follow(x, codes, of=40, decay=0.9)
        two.descend(words.grad, of=40, decay=0.9)
        torch.testing.assert_close(one.words_MCD, two.words_MCD, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(two.sums_MCD, two.words_MCD * two.counts_MC[..., None])

    def test_a_word_of_no_points_stays_near(self) -> None:
        books = EMACodebooks(1, 4, 3)
        books.descend(torch.ones(1, 4, 3), of=100)
        assert bool(books.words_MCD.isfinite().all())
        assert float(books.words_MCD.abs().max()) < 10


class TestRQVAE:
    def made(self, **settings: object) -> tuple[ResidualAutoencoder, Tensor]:
        """Fitted, and then in training again."""
        values = points()
        tokenizer = replace(LETTER, **settings).build(values.shape[1])
        tokenizer.fit(values, seed=0, collaborative_NE=met_vectors(len(values)))
        assert isinstance(tokenizer, ResidualAutoencoder)
        tokenizer.zero_grad()
        return tokenizer.train().requires_grad_(), tokenizer.project(values)

    def test_weights_of_zero_are_the_tokens_of_before(self) -> None:
        """As they were before there were such terms, whatever is handed over."""
        values = points()
        tokenizer = PLAIN.build(values.shape[1])
        tokenizer.fit(values, seed=0, collaborative_NE=met_vectors(len(values)))
        assert "".join(str(code) for code in tokenizer.encode(values)[:20].flatten().tolist()) == BEFORE

    def test_the_collaborative_gradient_goes_straight_through_the_words(self) -> None:
        tokenizer, y = self.made()
        _, said = tokenizer.loss(y, of=len(y), quantised=True)
        words = tokenizer.books.chosen(tokenizer.assign(y)).sum(1)
        assert said.shape == words.shape
        collaborative_contrast(said, met_vectors(len(y)), 0.1).backward()
        first, last = tokenizer.encoder[0].weight, tokenizer.decoder[0].weight
        assert float(first.grad.abs().sum()) > 0  # type: ignore[union-attr,operator]
        assert last.grad is None

    def test_quantised_vectors_are_what_points(self) -> None:
        tokenizer, y = self.made(diversity_weight=0.0, diversity_groups=10)
        words = tokenizer.books.chosen(tokenizer.assign(y)).sum(1)
        _, said = tokenizer.loss(y, of=len(y), quantised=True)
        torch.testing.assert_close(said, words)

    def test_words_descend_along_the_diversity_term(self) -> None:
        """One step of training with it and one without differ by its gradient, in the step of the averages."""
        (tokenizer, y), (other, _) = self.made(), self.made()
        for each in (tokenizer, other):
            begin(each.books, y, each)
        assert torch.equal(tokenizer.books.words_MCD, other.books.words_MCD)
        codes = other.assign(y)
        other.config = replace(other.config, diversity_weight=0.0, diversity_groups=10)
        for each in (tokenizer, other):
            each.loss(y, of=len(y), quantised=True)
        words = other.books.words_MCD.double().requires_grad_()
        total = words.new_zeros(())
        for book in range(3):
            taken = codes[:, book]
            shares = torch.bincount(taken, minlength=8).double() / len(y)
            unit = mean_square(words[book][taken].detach())
            contrast = diversity_contrast(words[book], tokenizer.groups_MC[book], shares, 0.1)  # type: ignore[index]
            total = total + LETTER.diversity_weight * unit * contrast  # type: ignore[attr-defined]
        (gradient,) = torch.autograd.grad(total, words)
        step = (1 - 0.99) * len(y) / (2 * other.books.counts_MC.double().clamp_min(0.03 * len(y) / 8))
        wanted = words.detach() - step[..., None] * gradient
        torch.testing.assert_close(tokenizer.books.words_MCD.double(), wanted, rtol=1e-4, atol=1e-5)
        assert float((tokenizer.books.words_MCD - other.books.words_MCD).abs().max()) > 1e-3

    @pytest.mark.parametrize("latent", [2, 4, 6])
    def test_vectors_are_as_wide_as_latent_ones_and_of_length_1(self, latent: int) -> None:
        met = met_vectors(5)
        tokenizer = replace(LETTER, latent=latent).build(10)
        assert isinstance(tokenizer, ResidualAutoencoder)
        tokenizer.collaborative_NE = met
        unit = math.sqrt(mean_square(met[1:, :latent]))
        wanted = torch.zeros(5, latent)
        wanted[:, :4] = met[:, :latent] / unit
        torch.testing.assert_close(tokenizer._met(), wanted)

    def test_a_fit_hands_over_who_is_met_with_whom(self, monkeypatch: pytest.MonkeyPatch) -> None:
        split, seen = toy_split(), []
        monkeypatch.setattr(
            ResidualAutoencoder, "learn", lambda self, y, seed, observer: seen.append(self.collaborative_NE)
        )
        fit_tokens(split, toy_features(split), replace(LETTER, collisions="keep"), seed=0)
        assert torch.equal(seen[0], collaborative_vectors(split, 64))

    def test_it_survives_json(self) -> None:
        assert tokenizer_config(LETTER.to_json()) == LETTER

    def test_settings_from_before_there_were_such_terms(self) -> None:
        news = ("collaborative_weight", "diversity_weight", "diversity_groups", "contrast_temperature")
        assert tokenizer_config({n: v for n, v in PLAIN.to_json().items() if n not in news}) == PLAIN


def begin(books: EMACodebooks, y: Tensor, tokenizer: ResidualAutoencoder) -> None:
    """Averages of the words as they stand: a folder keeps the words alone."""
    codes = tokenizer.assign(y)
    books.counts_MC.copy_(F.one_hot(codes, 8).sum(0).float())
    books.sums_MCD.copy_(books.words_MCD * books.counts_MC[..., None])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"diversity_groups": 3}, "Without the diversity term diversity_groups would change nothing: give diversity_"),
        ({"contrast_temperature": 0.2}, "give collaborative_weight or diversity_weight, or leave that out"),
        ({"collaborative_weight": 0.1, "diversity_groups": 3}, "diversity_groups would change nothing"),
        ({"collaborative_weight": 0.1, "collaborative": "none"}, "Without collaborative vectors the coll"),
        ({"diversity_weight": 0.1, "size": 16}, "diversity_groups is 10, but must be at most 8"),
        ({"diversity_weight": -1.0}, "diversity_weight is -1.0, but must be a number from 0"),
        ({"contrast_temperature": 0.0, "diversity_weight": 0.1}, "contrast_temperature is 0.0, but must be"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RQVAE(**settings)  # type: ignore[arg-type]


def test_words_that_no_memory_holds_against_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: 10**10)
    RQVAE(size=65_536).build(4)
    with pytest.raises(memory.ShortOfMemoryError, match="The diversity term of 65,536 codes a book needs about 68"):
        RQVAE(size=65_536, diversity_weight=0.1).build(4)


def test_nobody_met() -> None:
    for met in (None, torch.zeros(120, 4)):
        with pytest.raises(DataError, match="leave collaborative_weight out"):
            LETTER.build(10).fit(points(), seed=0, collaborative_NE=met)


@pytest.mark.parametrize("seed", range(3))
def test_a_collapsed_book_is_taken_more_evenly(seed: int) -> None:
    """Moving averages leave words without points where they are; here four of 32 have them all."""
    draw = torch.Generator().manual_seed(seed)
    away = torch.tensor([1.5, 0.0, 0.0, 0.0])
    x = (F.normalize(torch.randn(600, 4, generator=draw), dim=-1) + away)[:, None]
    far = 0.3 * torch.randn(28, 4, generator=draw) - away
    worth = []
    for weight in (0.0, 0.1):
        books = EMACodebooks(1, 32, 4)
        books.words_MCD[0] = torch.cat([x[:4, 0], far])
        codes = nearest(x, books.words_MCD)
        books.counts_MC.copy_(F.one_hot(codes, 32).sum(0))
        books.sums_MCD.copy_(books.words_MCD * books.counts_MC[..., None])
        groups = even_groups(books.words_MCD[0], 4, seed=0)
        for _ in range(200):
            codes = nearest(x, books.words_MCD)
            books.follow(x, codes, 600)
            words = books.words_MCD.clone().requires_grad_()
            shares = torch.bincount(codes[:, 0], minlength=32) / 600
            (weight * diversity_contrast(words[0], groups, shares, 0.5)).backward()
            assert words.grad is not None
            books.descend(words.grad, 600)
        share = torch.bincount(nearest(x, books.words_MCD)[:, 0], minlength=32) / 600
        worth.append(math.exp(float(torch.special.entr(share).sum())))
    assert worth[0] <= 4.001
    assert worth[1] > 1.5 * worth[0]


def test_items_that_follow_each_other_share_more_tokens(tmp_path: Path) -> None:
    """In a simulated shop, of the validation part, which tokenizers never see."""
    split = leave_last_out(
        read(Shop(users=600, items=400, interactions_per_user=12.0, seed=3).write(tmp_path / "shop"))
    )
    known, pairs = read_features(split.data, Features()), following_pairs(split)
    sizes = {"size": 16, "hidden": 64, "latent": 16, "epochs": 60, "continuous": 5, "batch": 128}
    shared: list[list[float]] = []
    for weight in (0.0, 0.1):
        config = RQVAE(**sizes, collaborative_weight=weight)  # type: ignore[arg-type]
        made = [fit_tokens(split, known, config, seed).table.codes_NM[:, :3].numpy() for seed in range(2)]
        shared.append([shared_tokens(codes, pairs, 16)[0] for codes in made])
    assert min(shared[1]) > 1.1 * max(shared[0])
