"""What every tokenizer answers, and the formulas of each in numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from token_toys import CONFIGS, behaviour, points

from forethought.errors import ConfigError, DataError
from forethought.semantic_ids.all import TOKENIZERS, tokenizer_config
from forethought.semantic_ids.balanced import balanced_blocks
from forethought.semantic_ids.kmeans import centres_of, chosen, nearest, squared_distances
from forethought.semantic_ids.mpq import MPQ, ParallelTokenizer, cross_covariance, mean_cosine
from forethought.semantic_ids.opq import OPQ
from forethought.semantic_ids.rq_kmeans import RQKMeans
from forethought.semantic_ids.tokenizer import AT_ONCE, Tokenizer, TokenizerConfig

every = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def fitted(config: TokenizerConfig, values_NF: torch.Tensor, seed: int = 0) -> Tokenizer:
    tokenizer = config.build(values_NF.shape[1])
    tokenizer.fit(values_NF, seed=seed, **behaviour(len(values_NF)))
    return tokenizer


class TestEvery:
    @every
    def test_codes_are_whole_and_in_range(self, config: TokenizerConfig) -> None:
        values = points()
        tokenizer = fitted(config, values)
        codes = tokenizer.encode(values)
        assert (codes.dtype, codes.shape) == (torch.int64, (len(values), config.codebooks))
        assert 0 <= int(codes.min()) <= int(codes.max()) < config.size
        said = tokenizer.decode(codes)
        assert said.shape == values.shape
        assert bool(said.isfinite().all())

    @every
    def test_a_code_depends_on_no_other_row(self, config: TokenizerConfig) -> None:
        values = points(AT_ONCE + 30)
        tokenizer = fitted(config, values)
        codes = tokenizer.encode(values)
        assert torch.equal(codes, tokenizer.encode(values))
        for rows in (torch.tensor([3]), torch.tensor([AT_ONCE + 7, 5, 5]), torch.arange(40, AT_ONCE + 20)):
            assert torch.equal(tokenizer.encode(values[rows]), codes[rows])

    @every
    def test_a_seed_says_all_that_is_drawn(self, config: TokenizerConfig) -> None:
        """And nothing of the caller's generator is used up."""
        values = points()
        before = torch.random.get_rng_state()
        states = []
        for chance in (1, 2):
            torch.manual_seed(chance)
            tokenizer = config.build(values.shape[1])
            drawn_from = torch.random.get_rng_state()
            tokenizer.fit(values, seed=5, **behaviour(len(values)))
            assert torch.equal(torch.random.get_rng_state(), drawn_from)
            states.append(tokenizer.state_dict())
        torch.random.set_rng_state(before)
        for name, tensor in states[0].items():
            assert torch.equal(tensor, states[1][name]), name

    @every
    def test_a_state_makes_the_same_tokenizer(self, config: TokenizerConfig) -> None:
        values = points()
        tokenizer = fitted(config, values)
        other = config.build(values.shape[1]).load(tokenizer.state_dict())
        assert torch.equal(other.encode(values), tokenizer.encode(values))
        assert not any(parameter.requires_grad for parameter in other.parameters())

    @every
    def test_every_code_is_in_use(self, config: TokenizerConfig) -> None:
        values = points(600)
        codes = fitted(config, values).encode(values)
        assert [len(codes[:, book].unique()) for book in range(config.codebooks)] == [config.size] * config.codebooks

    @every
    def test_fewer_items_than_codes(self, config: TokenizerConfig) -> None:
        values = points(5)
        tokenizer = fitted(replace(config, size=64), values)
        assert len(tokenizer.encode(values).unique(dim=0)) > 1

    @every
    def test_a_dimension_that_says_nothing_and_a_huge_one(self, config: TokenizerConfig) -> None:
        """Standardised, a scale does not matter, and a constant counts for nothing."""
        values = points()
        values[:, 2] = 7.0
        codes = fitted(config, values).encode(values)
        values[:, 3] *= 2**20
        again = fitted(config, values).encode(values)
        same = (codes == again).float().mean()
        assert float(same) > 0.9

    @every
    def test_a_configuration_survives_json(self, config: TokenizerConfig) -> None:
        assert tokenizer_config(config.to_json()) == config

    @every
    def test_what_cannot_be_read_is_refused(self, config: TokenizerConfig) -> None:
        values = points()
        tokenizer = fitted(config, values)
        with pytest.raises(DataError, match=r"have the shape \[120, 9\], but the tokenizer is made for 10 numbers"):
            tokenizer.encode(values[:, :9])
        broken = values.clone()
        broken[3, 3] = torch.nan
        with pytest.raises(DataError, match="hold NaN or infinity"):
            tokenizer.encode(broken)
        with pytest.raises(DataError, match="hold NaN or infinity"):
            fitted(config, broken)
        with pytest.raises(DataError, match="no items to be tokenised"):
            tokenizer.encode(values[:0])
        with pytest.raises(DataError, match="All items have the same inputs"):
            fitted(config, torch.ones(20, 4))


def test_standardised_in_numpy() -> None:
    values, weights = points(), torch.linspace(0.5, 2, 10)
    tokenizer = OPQ(components=4, codebooks=2, size=4).build(10)
    tokenizer.fit(values, seed=0, weights_F=weights)
    x = values.double().numpy()
    wanted = (x - x.mean(0)) / x.std(0) * weights.numpy()
    np.testing.assert_allclose(tokenizer.standardised(values).numpy(), wanted, rtol=1e-4, atol=1e-4)
    _, _, Vh = np.linalg.svd(wanted)
    axes = tokenizer.axes_FP.numpy()
    np.testing.assert_allclose(np.abs(axes.T @ Vh[:4].T), np.eye(4), atol=1e-4)
    assert (axes[np.abs(axes).argmax(0), np.arange(4)] > 0).all()


class TestKMeans:
    def test_distances_and_nearest_in_numpy(self) -> None:
        draw = torch.Generator().manual_seed(0)
        x, words = torch.randn(9, 3, 4, generator=draw), torch.randn(3, 5, 4, generator=draw)
        wanted = ((x.numpy()[:, :, None] - words.numpy()[None]) ** 2).sum(-1)
        np.testing.assert_allclose(squared_distances(x, words).numpy(), wanted, rtol=1e-4, atol=1e-5)
        assert np.array_equal(nearest(x, words).numpy(), wanted.argmin(-1))
        codes = nearest(x, words)
        assert torch.equal(chosen(codes, words)[2, 1], words[1, codes[2, 1]])

    def test_centres_are_means_of_their_points(self) -> None:
        x = points(600)
        centres = centres_of(x, 6, 0, rounds=50)
        codes = nearest(x[:, None], centres[None])[:, 0]
        means = torch.stack([x[codes == k].mean(0) for k in range(6)])
        torch.testing.assert_close(centres, means, rtol=1e-3, atol=1e-2)

    def test_few_distinct_points(self) -> None:
        x = torch.tensor([[0.0], [1.0], [1.0], [2.0]])
        assert sorted(centres_of(x, 5, 0)[:, 0].tolist()) == [0.0, 0.0, 0.0, 1.0, 2.0]


def test_blocks_hold_about_the_same_variance() -> None:
    variances = torch.tensor([8.0, 4.0, 2.0, 1.0])
    blocks = balanced_blocks(variances, 2)
    products = variances[blocks].prod(1)
    assert sorted(blocks.flatten().tolist()) == [0, 1, 2, 3]
    assert products[0] == products[1] == 8
    padded = balanced_blocks(torch.ones(3), 2)
    assert sorted(padded.flatten().tolist()) == [-1, 0, 1, 2]


class TestResidual:
    def test_codes_and_reconstruction_in_numpy(self) -> None:
        values = points()
        tokenizer = fitted(RQKMeans(codebooks=3, size=8, components=6), values)
        left = tokenizer.project(values).numpy().astype(np.float64)
        total, codes = np.zeros_like(left), []
        for words in tokenizer.words_MCD.numpy():  # type: ignore[union-attr]
            codes.append(((left[:, None] - words[None]) ** 2).sum(-1).argmin(1))
            total += words[codes[-1]]
            left -= words[codes[-1]]
        assert np.array_equal(tokenizer.encode(values).numpy(), np.stack(codes, 1))
        wanted = total @ tokenizer.axes_FP.numpy().T
        np.testing.assert_allclose(tokenizer.decode(torch.tensor(np.stack(codes, 1))).numpy(), wanted, atol=1e-4)

    def test_each_book_leaves_less(self) -> None:
        values = points(600)
        errors = []
        for books in (1, 2, 3):
            tokenizer = fitted(RQKMeans(codebooks=books, size=8), values)
            missed = tokenizer.standardised(values) - tokenizer.decode(tokenizer.encode(values))
            errors.append(float(missed.square().sum()))
        assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("name", ["rq_kmeans", "opq"])
def test_costs_are_what_another_code_adds(name: str) -> None:
    """Where codes are chosen in the space of the inputs: all changes of one code, decoded one by one."""
    values = points(8, seed=3)
    tokenizer = fitted(CONFIGS[name], points())
    codes = tokenizer.encode(values)
    costs = tokenizer.costs(values, codes)
    wanted = torch.zeros_like(costs)
    y = tokenizer.project(values)
    own = (y - tokenizer.reconstruct(codes)).square().sum(-1)
    for book in range(3):
        for code in range(8):
            other = codes.clone()
            other[:, book] = code
            wanted[:, book, code] = (y - tokenizer.reconstruct(other)).square().sum(-1) - own
    torch.testing.assert_close(costs, wanted, rtol=1e-3, atol=1e-3)


class TestOPQ:
    def test_the_rotation_stays_one(self) -> None:
        rotation = fitted(CONFIGS["opq"], points()).rotation_PMD.flatten(1)  # type: ignore[union-attr,operator]
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(6), rtol=1e-4, atol=1e-4)

    def test_a_fitted_rotation_leaves_less(self) -> None:
        values = points(600)
        errors = []
        for turns in (0, 12):
            tokenizer = fitted(OPQ(codebooks=3, size=8, components=6, turns=turns), values)
            missed = tokenizer.project(values) - tokenizer.reconstruct(tokenizer.encode(values))
            errors.append(float(missed.square().sum()))
        assert errors[1] < errors[0]


class TestMPQ:
    def made(self, **choices: object) -> tuple[ParallelTokenizer, torch.Tensor]:
        values = points()
        config = replace(CONFIGS["mpq"], **choices)
        tokenizer = fitted(config, values)
        assert isinstance(tokenizer, ParallelTokenizer)
        return tokenizer, tokenizer.project(values)

    def test_it_begins_as_product_quantisation(self) -> None:
        """Untrained, with the experts' corrections left out: blocks of components, put back in their places."""
        tokenizer, y = self.made(epochs=0, continuous=MPQ.continuous, batch=MPQ.batch, initial_scale=1e-6)
        product = fitted(OPQ(codebooks=3, size=8, components=6, turns=0), points())
        assert torch.equal(tokenizer.assign(y), product.assign(y))
        torch.testing.assert_close(
            tokenizer.reconstruct(tokenizer.assign(y)), product.reconstruct(product.assign(y)), rtol=1e-3, atol=1e-3
        )

    def test_training_leaves_less(self) -> None:
        errors = []
        for epochs in (0, 40):
            choices = {"orthogonality": 0.0} if epochs else {"continuous": MPQ.continuous, "batch": MPQ.batch}
            tokenizer, y = self.made(epochs=epochs, **choices)
            errors.append(float((y - tokenizer.reconstruct(tokenizer.assign(y))).square().sum()))
        assert errors[1] < errors[0]

    def test_each_expert_sees_its_own_block(self) -> None:
        tokenizer, y = self.made()
        other = y.clone()
        other[:, tokenizer.input_MI[1]] += 1.0
        moved = (tokenizer.experts(other) - tokenizer.experts(y)).abs().sum((0, 2))
        assert moved[1] > 0
        assert float(moved[[0, 2]].sum()) == 0
        whole, y = self.made(decorrelate="xcov")
        other = y.clone()
        other[:, 0] += 1.0
        assert bool(((whole.experts(other) - whole.experts(y)).abs().sum((0, 2)) > 0).all())

    def test_what_nothing_reads_is_refused(self) -> None:
        for choices, said in [
            ({"decorrelate": "split", "orthogonality": 0.5}, "decorrelates orthogonality would change nothing"),
            ({"decorrelate": "none", "orthogonality": 0.5}, "decorrelates orthogonality would change nothing"),
            ({"soft_temperature": 0.1}, "Without a second stage soft_temperature would change nothing"),
        ]:
            with pytest.raises(ConfigError, match=said):
                MPQ(**choices)
            told = MPQ().to_json() | choices  # as runs have it that were made before it was refused
            assert tokenizer_config(told) == MPQ(decorrelate=told["decorrelate"])
        assert MPQ(decorrelate="cosine", orthogonality=0.5).orthogonality == 0.5

    def test_without_passes_over_the_items_nothing_reads_what_they_are_trained_by(self) -> None:
        for choices in ({"learning_rate": 0.1}, {"batch": 8}, {"gate": False}, {"commitment": 1.0}, {"continuous": 2}):
            with pytest.raises(ConfigError, match=f"passes over the items {next(iter(choices))} would change nothing"):
                MPQ(epochs=0, **choices)
            assert tokenizer_config(MPQ().to_json() | choices | {"epochs": 0}) == MPQ(epochs=0)
        assert MPQ(epochs=0, behaviour_weight=1.0, learning_rate=0.1).learning_rate == 0.1  # the second stage reads it

    def test_gates_average_one(self) -> None:
        tokenizer, y = self.made()
        gates = tokenizer.gates(y)
        torch.testing.assert_close(gates.mean(1), torch.ones(len(y)))
        assert float(gates.std()) > 0
        torch.testing.assert_close(tokenizer.mean_gate_M, gates.mean(0))
        plain, y = self.made(gate=False)
        assert torch.equal(plain.gates(y), torch.ones(len(y), 3))

    def test_the_loss_in_numpy(self) -> None:
        tokenizer, y = self.made(orthogonality=0.7, commitment=0.4)
        words = tokenizer.books.words_MCD.clone()
        e = tokenizer.experts(y)
        codes = nearest(e, words)
        z = chosen(codes, words)
        said = tokenizer.say(z, tokenizer.gates(y))
        wanted = ((y - said) ** 2).sum(1).mean() + 0.4 * ((e - z) ** 2).sum((1, 2)).mean()
        wanted = wanted + 0.7 * (e**2).sum((1, 2)).mean() * cross_covariance(e)
        torch.testing.assert_close(tokenizer.loss(y, of=len(y), quantised=True), wanted)

    def test_gradients_go_straight_through_the_words(self) -> None:
        tokenizer, y = self.made(orthogonality=0.0, commitment=0.0)
        tokenizer.requires_grad_(True)
        tokenizer.loss(y, of=len(y), quantised=True).backward()
        assert tokenizer.skip_MID.grad is not None
        assert float(tokenizer.skip_MID.grad.abs().sum()) > 0

    def test_cross_covariance_in_numpy(self) -> None:
        e = torch.randn(50, 3, 2, generator=torch.Generator().manual_seed(0)).double()
        x = e.numpy() - e.numpy().mean(0)
        across = within = 0.0
        for a in range(3):
            for b in range(3):
                square = ((x[:, a].T @ x[:, b] / 50) ** 2).sum()
                across, within = (across, within + square) if a == b else (across + square, within)
        assert float(cross_covariance(e)) == pytest.approx(across / within)

    def test_mean_cosine_in_numpy(self) -> None:
        e = torch.randn(20, 3, 4, generator=torch.Generator().manual_seed(0)).double()
        x = e.numpy() / np.linalg.norm(e.numpy(), axis=-1, keepdims=True)
        squares = [((x[:, a] * x[:, b]).sum(-1) ** 2).mean() for a in range(3) for b in range(3) if a != b]
        assert float(mean_cosine(e)) == pytest.approx(np.mean(squares))

    def test_fewer_components_than_codebooks(self) -> None:
        """A book without a component of its own looks at the largest ones."""
        values = points(200)
        codes = fitted(MPQ(codebooks=5, size=4, components=3, epochs=0), values).encode(values)
        assert [len(codes[:, book].unique()) for book in range(5)] == [4] * 5


@pytest.mark.parametrize("cls", TOKENIZERS.values())
def test_a_width_of_vectors_that_are_not_read(cls: type[TokenizerConfig]) -> None:
    with pytest.raises(ConfigError, match="Without collaborative vectors collaborative_width would change nothing"):
        cls(collaborative="none", collaborative_width=32)
    stored = cls().to_json() | {"collaborative": "none", "collaborative_width": 32}
    assert tokenizer_config(stored) == cls(collaborative="none")
    assert tokenizer_config(stored | {"collaborative": "co_occurrence"}).collaborative_width == 32


class TestRandom:
    def test_codes_are_as_likely_as_each_other_and_independent(self) -> None:
        codes = fitted(CONFIGS["random"], values := points(4000)).encode(values).numpy()
        counts = np.stack([np.bincount(codes[:, book], minlength=8) for book in range(3)])
        assert (abs(counts - 500) < 5 * 500**0.5).all()
        both = np.bincount(codes[:, 0] * 8 + codes[:, 1], minlength=64)
        assert (abs(both - 62.5) < 5 * 62.5**0.5).all()

    def test_another_seed_is_another_draw(self) -> None:
        values = points()
        one, two = (fitted(CONFIGS["random"], values, seed).encode(values) for seed in (0, 1))
        assert float((one == two).float().mean()) < 0.3

    def test_rounding_does_not_reach_them(self) -> None:
        values = points(200)
        tokenizer = fitted(CONFIGS["random"], values)
        same = tokenizer.encode(values) == tokenizer.encode(values * (1 + 1e-7))
        assert float(same.float().mean()) > 0.98


def test_a_state_that_does_not_fit() -> None:
    tokenizer = fitted(CONFIGS["opq"], points())
    state = tokenizer.state_dict()
    for damaged, said in [
        ({**state, "other": torch.zeros(1)}, "'other' is missing, unknown or of another shape"),
        ({name: tensor for name, tensor in state.items() if name != "mean_F"}, "'mean_F' is missing"),
        ({**state, "mean_F": torch.zeros(3)}, "'mean_F' is missing, unknown or of another shape"),
        ({**state, "mean_F": state["mean_F"] * torch.nan}, "hold NaN or infinity"),
    ]:
        with pytest.raises(ConfigError, match=said):
            CONFIGS["opq"].build(10).load(damaged)


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match="MPQ's codebooks is 0, but must be a whole number from 1 to 128"):
        MPQ(codebooks=0)
    with pytest.raises(ConfigError, match="A tokenizer's type is 'mpqq', but must be one of mpq, rq_vae"):
        tokenizer_config({"type": "mpqq"})
    with pytest.raises(ConfigError, match=r"epoch is not a setting of MPQ\. Did you mean 'epochs'\?"):
        tokenizer_config({"type": "mpq", "epoch": 3})
    with pytest.raises(ConfigError, match="A tokenizer's type is 3"):
        tokenizer_config(3)
    assert set(TOKENIZERS) == {"mpq", "rq_vae", "rq_kmeans", "opq", "random_tokens"}


def test_books_that_no_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    from forethought import memory

    monkeypatch.setattr(memory, "machine_memory", lambda: 10**9)
    with pytest.raises(memory.ShortOfMemoryError, match="128 codebooks of 65,536 codes needs about 68"):
        OPQ(codebooks=128, size=65_536).build(4)
