"""One battery for every backbone: what `backbones/interface.py` promises, against computations that know no chain.

The reference reads one row token by token in dense algebra: prefix, items, and links as so many more inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.bsarec import BSARec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU, HSTUEncoder, time_bucket
from forethought.backbones.interface import Backbone, Chain, Encoding
from forethought.backbones.sasrec import SASRec
from forethought.errors import ConfigError
from forethought.nn.transformer import at_positions, last_positions
from reference_backbones import ALPHA, KEPT, READERS, Row

WIDTH, WINDOW, LINKS = 8, 7, 3
LENGTHS = torch.tensor([3, 1, WINDOW, 5])

CONFIGS = {
    "sasrec": SASRec(width=WIDTH, window=WINDOW, ffn_width=12, count_from="start"),
    "sasrec-post-norm": SASRec(
        width=WIDTH, window=WINDOW, ffn_width=12, norm_first=False, activation="relu", count_from="start"
    ),
    "bert4rec": BERT4Rec(width=WIDTH, window=WINDOW, ffn_width=12),
    "sasrec-from-end": SASRec(width=WIDTH, window=WINDOW, ffn_width=12),
    "bert4rec-pre-norm": BERT4Rec(width=WIDTH, window=WINDOW, ffn_width=12, norm_first=True),
    "bsarec": BSARec(width=WIDTH, window=WINDOW, ffn_width=12, alpha=ALPHA, frequencies=KEPT, count_from="start"),
    "bsarec-2-post-norm": BSARec(
        width=WIDTH, window=WINDOW, ffn_width=12, alpha=ALPHA, frequencies=KEPT, layers=2, norm_first=False
    ),
    "gru4rec": GRU4Rec(width=WIDTH, window=WINDOW),
    "gru4rec-2-layers": GRU4Rec(width=WIDTH, window=WINDOW, layers=2),
    "hstu": HSTU(width=WIDTH, window=WINDOW, head_width=5),
    "hstu-without-times": HSTU(width=WIDTH, window=WINDOW, head_width=5, use_times=False),
}
PREFIXES = pytest.mark.parametrize("prefix", [0, 2], ids=["bare", "prefix"])


# ---- a small batch, and how to read it


@dataclass
class Given:
    """Random inputs in float64; every position carries a chain, or the last one where the model looks both ways."""

    model: Backbone
    x_BLD: Tensor
    times_BL: Tensor
    prefix_BKD: Tensor | None
    tokens: list[Tensor]  # [B, P, D] each
    at_BP: Tensor

    @property
    def device(self) -> torch.device:
        return self.x_BLD.device

    @property
    def lengths_B(self) -> Tensor:
        return LENGTHS.to(self.device)

    @property
    def everywhere(self) -> Tensor:
        return torch.arange(WINDOW, device=self.device).expand(len(LENGTHS), -1)

    def encode(self, rows: Tensor | None = None, **changed: Tensor) -> Encoding:
        rows = torch.arange(len(LENGTHS), device=self.device) if rows is None else rows
        prefix = None if self.prefix_BKD is None else self.prefix_BKD[rows]
        x, times = changed.get("x", self.x_BLD)[rows], changed.get("times", self.times_BL)[rows]
        return self.model.encode(x, self.lengths_B[rows], positions=self.at_BP[rows], times=times, prefix=prefix)

    def reason(self, encoding: Encoding, rows: Tensor | None = None) -> list[Tensor]:
        """States of the chain; each link is fed what was given and what was thought before."""
        states, chain, thought = [], chain_of(encoding), torch.zeros(())
        for token in self.tokens:
            thought, chain = self.model.reason((token if rows is None else token[rows]) + thought / 2, chain)
            states.append(thought)
        return states

    def reference(self, b: int, p: int) -> list[Tensor]:
        """The same for the chain behind one position, each state from scratch."""
        end = p + 1
        prefix = self.x_BLD.new_zeros(0, WIDTH) if self.prefix_BKD is None else self.prefix_BKD[b]
        column = int((self.at_BP[b] == p).nonzero()[0])
        inputs, states = self.x_BLD.new_zeros(0, WIDTH), [self.x_BLD.new_zeros(WIDTH)]
        for token in self.tokens:
            inputs = torch.cat([inputs, (token[b, column] + states[-1] / 2)[None]])
            row = Row(prefix, self.x_BLD[b, :end], inputs, self.times_BL[b, :end], int(LENGTHS[b]))
            states.append(self.read(row)[-1])
        return states[1:]

    def read(self, row: Row) -> Tensor:
        """What the formula says of one row; only here do tensors come to the device by themselves."""
        with self.device:
            return READERS[type(self.model)](self.model, row)

    def real(self) -> list[tuple[int, int]]:
        return [(b, p) for b, row in enumerate(self.at_BP.tolist()) for p in row if p < LENGTHS[b]]


Make = Callable[..., Given]


@pytest.fixture
def given(device: torch.device) -> Make:
    """(name of a backbone, length of a prefix) -> a model and a batch on the device."""

    def make(name: str, prefix: int = 0) -> Given:
        torch.manual_seed(0)
        model = CONFIGS[name].build().double().eval()
        for parameter in model.parameters():  # biases too: what is zero at the start hides mistakes
            parameter.data += torch.randn_like(parameter) * 0.3
        B, P = len(LENGTHS), WINDOW if model.causal else 1

        def drawn(*shape: int) -> Tensor:
            return torch.randn(shape, dtype=torch.float64).to(device).requires_grad_()

        return Given(
            model=model.to(device),
            x_BLD=drawn(B, WINDOW, WIDTH),
            times_BL=torch.randint(0, 10**8, (B, WINDOW)).sort(dim=1).values.to(device),
            prefix_BKD=drawn(B, prefix, WIDTH) if prefix else None,
            tokens=[drawn(B, P, WIDTH) for _ in range(LINKS)],
            at_BP=(torch.arange(WINDOW).expand(B, -1) if model.causal else LENGTHS[:, None] - 1).to(device),
        )

    return make


def chain_of(encoding: Encoding) -> Chain:
    assert encoding.chain is not None
    return encoding.chain


def close(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def close_where_real(got: list[Tensor], wanted: list[Tensor], at_BP: Tensor, before: int = WINDOW) -> None:
    real = (at_BP < LENGTHS.to(at_BP.device)[:, None]) & (at_BP < before)
    for g, w in zip(got, wanted, strict=True):
        close(g[real], w[real])


backbones = pytest.mark.parametrize("name", CONFIGS)


@backbones
@PREFIXES
def test_encoding_is_the_formula(name: str, prefix: int, given: Make) -> None:
    g = given(name, prefix)
    states = g.encode().states_BLD
    assert states.shape == g.x_BLD.shape
    for b, length in enumerate(LENGTHS.tolist()):
        before = g.x_BLD.new_zeros(0, WIDTH) if g.prefix_BKD is None else g.prefix_BKD[b]
        row = Row(before, g.x_BLD[b, :length], g.x_BLD.new_zeros(0, WIDTH), g.times_BL[b, :length], length)
        close(states[b, :length], g.read(row)[prefix:])


@backbones
@PREFIXES
def test_chains_equal_one_row_a_prefix(name: str, prefix: int, given: Make) -> None:
    """States and every gradient, links behind all positions at once against each of them from scratch."""
    g = given(name, prefix)
    thought, real = g.reason(g.encode()), g.real()
    columns = [int((g.at_BP[b] == p).nonzero()[0]) for b, p in real]
    got = torch.stack([torch.stack([s[b, c] for s in thought]) for (b, _), c in zip(real, columns, strict=True)])
    wanted = torch.stack([torch.stack(g.reference(b, p)) for b, p in real])
    close(got, wanted)

    inputs = [g.x_BLD, *g.tokens, *g.model.parameters(), *([] if g.prefix_BKD is None else [g.prefix_BKD])]
    weights = torch.randn_like(got)
    gradients = [
        torch.autograd.grad((states * weights).sum(), inputs, allow_unused=True, materialize_grads=True)
        for states in (got, wanted)
    ]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-9)
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0][: 1 + LINKS])


@backbones
def test_one_row_equals_many(name: str, given: Make) -> None:
    g = given(name)
    many = g.encode()
    thought = g.reason(many)
    for b, length in enumerate(LENGTHS.tolist()):
        at = g.at_BP[b : b + 1, :length]
        one = g.model.encode(
            g.x_BLD[b : b + 1, :length], g.lengths_B[b : b + 1], positions=at, times=g.times_BL[b : b + 1, :length]
        )
        close(one.states_BLD[0], many.states_BLD[b, :length])
        chain, state = chain_of(one), torch.zeros(())
        for token, wanted in zip(g.tokens, thought, strict=True):
            state, chain = g.model.reason(token[b : b + 1, :length] + state / 2, chain)
            close(state[0], wanted[b, : at.shape[1]])


@backbones
@PREFIXES
def test_padding_changes_nothing(name: str, prefix: int, given: Make) -> None:
    g = given(name, prefix)
    padding = g.everywhere >= g.lengths_B[:, None]
    x = torch.where(padding[..., None], 100.0, g.x_BLD)
    changed = g.encode(x=x, times=torch.where(padding, -5, g.times_BL))
    close_where_real([changed.states_BLD], [g.encode().states_BLD], g.everywhere)
    close_where_real(g.reason(changed), g.reason(g.encode()), g.at_BP)


@pytest.mark.parametrize("name", [name for name in CONFIGS if "bert" not in name])
@PREFIXES
def test_future_changes_nothing(name: str, prefix: int, given: Make) -> None:
    g = given(name, prefix)
    later = g.everywhere >= 3
    x = torch.where(later[..., None], -g.x_BLD, g.x_BLD)
    changed = g.encode(x=x, times=torch.where(later, g.times_BL + 1000, g.times_BL))
    close_where_real([changed.states_BLD], [g.encode().states_BLD], g.everywhere, before=3)
    close_where_real(g.reason(changed), g.reason(g.encode()), g.at_BP, before=3)


def test_bert4rec_looks_both_ways(given: Make) -> None:
    g = given("bert4rec")
    x = g.x_BLD.detach().clone()
    x[2, -1, 0] += 1  # one channel: a norm would not see all of them shift alike
    assert (g.encode(x=x).states_BLD - g.encode().states_BLD)[2, 0].abs().max() > 1e-3


@backbones
@PREFIXES
def test_select_takes_rows_and_beams(name: str, prefix: int, given: Make) -> None:
    """Rows that go on, in any order and as often as wanted, before the first link and after it."""
    g = given(name, prefix)
    rows, whole = torch.tensor([2, 0, 0], device=g.device), g.encode()
    wanted, some = g.reason(whole), Encoding(whole.states_BLD, chain_of(whole).select(rows))
    for got, want in zip(g.reason(some, rows), wanted, strict=True):
        close(got, want[rows])
    first, chain = g.model.reason(g.tokens[0], chain_of(whole))
    second, _ = g.model.reason(g.tokens[1][rows] + first[rows] / 2, chain.select(rows))
    close(second, wanted[1][rows])


@backbones
def test_branches_share_a_past_and_do_not_meet(name: str, given: Make) -> None:
    g = given(name)
    _, chain = g.model.reason(g.tokens[0], chain_of(g.encode()))
    alone, alone_chain = g.model.reason(g.tokens[1], chain)
    last, _ = g.model.reason(g.tokens[2], alone_chain)

    _, left = g.model.reason(g.tokens[1], chain)
    other, right = g.model.reason(-g.tokens[1], chain)
    assert (other - alone).abs().max() > 1e-3
    g.model.reason(g.tokens[0], right)
    close(g.model.reason(g.tokens[2], left)[0], last)


@backbones
@PREFIXES
def test_empty_rows_stay_finite(name: str, prefix: int, given: Make) -> None:
    g = given(name, prefix)
    lengths = torch.tensor([0, 2, 0, 1], device=g.device)
    at = torch.zeros(4, 1, dtype=torch.int64, device=g.device)
    encoding = g.model.encode(g.x_BLD, lengths, positions=at, times=g.times_BL, prefix=g.prefix_BKD)
    thought, _ = g.model.reason(g.tokens[0][:, :1], chain_of(encoding))
    (encoding.states_BLD.sum() + thought.sum()).backward()
    assert torch.isfinite(encoding.states_BLD).all()
    assert torch.isfinite(thought).all()
    assert all(torch.isfinite(p.grad).all() for p in g.model.parameters() if p.grad is not None)


@backbones
@PREFIXES
def test_last_only_is_the_last_of_all(name: str, prefix: int, given: Make) -> None:
    """The same state and the same chains, an empty row included, and the same gradients."""
    g = given(name, prefix)
    lengths = torch.tensor([*LENGTHS[:-1].tolist(), 0], device=g.device)
    keep = {"positions": g.at_BP, "times": g.times_BL}
    whole = g.model.encode(g.x_BLD, lengths, prefix=g.prefix_BKD, **keep)
    last = g.model.encode(g.x_BLD, lengths, prefix=g.prefix_BKD, last_only=True, **keep)
    wanted = at_positions(whole.states_BLD, last_positions(lengths))
    assert last.states_BLD.shape == wanted.shape == (len(lengths), 1, WIDTH)
    close(last.states_BLD, wanted)
    gradients = [torch.autograd.grad(s.square().sum(), g.x_BLD)[0] for s in (last.states_BLD, wanted)]
    close(*gradients)
    for got, want in zip(g.reason(last), g.reason(whole), strict=True):
        close(got[:-1], want[:-1])


@backbones
def test_dropout_is_at_work_in_training(name: str, given: Make) -> None:
    g = given(name)
    g.model.train()
    assert (g.encode().states_BLD - g.encode().states_BLD).abs().max() > 1e-3
    chain = chain_of(g.encode())
    assert (g.model.reason(g.tokens[0], chain)[0] - g.model.reason(g.tokens[0], chain)[0]).abs().max() > 1e-3


def test_hstu_says_that_it_needs_times(given: Make) -> None:
    g = given("hstu")
    with pytest.raises(ConfigError, match="use_times=False"):
        g.model.encode(g.x_BLD, g.lengths_B)


def test_time_buckets() -> None:
    seconds = np.array([0, 1, 2, -3, 59, 3600, 86400, 7 * 86400, 10**9, 2**62])
    wanted = np.minimum(np.floor(np.log(np.maximum(np.abs(seconds), 1)) / 0.301), 128)
    np.testing.assert_array_equal(time_bucket(torch.from_numpy(seconds), 128).numpy(), wanted)
    assert time_bucket(torch.tensor([2**62]), 9).item() == 9


def test_hstu_layer_in_numpy(given: Make) -> None:
    """Pair by pair, as the paper writes it."""
    g = given("hstu")
    model = g.model
    assert isinstance(model, HSTUEncoder)
    layer, x, times = model.layers[0], g.x_BLD[2].detach().cpu().numpy(), g.times_BL[2].cpu().numpy()
    assert layer.time_bias is not None
    parts = layer.uvqk.weight, layer.out.weight, layer.out.bias, layer.position_bias, layer.time_bias
    weight, out, bias, by_step, by_time = (p.detach().cpu().numpy() for p in parts)

    def silu(z: np.ndarray) -> np.ndarray:
        return z / (1 + np.exp(-z))

    def norm(z: np.ndarray) -> np.ndarray:
        return (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-6)

    u, v, q, k = np.split(silu(norm(x) @ weight.T), 4, axis=1)
    mixed = np.zeros_like(v)
    for i in range(WINDOW):
        for j in range(i + 1):
            bucket = int(np.log(max(abs(times[i] - times[j]), 1)) / 0.301)
            for head in (slice(0, 5), slice(5, 10)):
                score = q[i, head] @ k[j, head] + by_step[i - j] + by_time[bucket]
                mixed[i, head] += silu(score) / WINDOW * v[j, head]
    wanted = x + (u * norm(mixed)) @ out.T + bias
    gaps = model._gaps(g.everywhere[:1], g.everywhere[0], g.times_BL[2:3], g.times_BL[2:3])
    got = layer(g.x_BLD[2:3], gaps)[0][0].detach().cpu().numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-10)
