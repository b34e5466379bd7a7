"""HSTU: attention without softmax, gated, with biases for distance and time (Zhai et al., ICML 2024, arXiv 2402.17152).

A layer, with n the window:

    U, V, Q, K = SiLU(LN(X) W)                                    eq. 1
    A = SiLU(Q K^T + b_position(i - j) + b_time(t_i - t_j)) / n   eq. 2, causal
    Y = X + U * LN(A V) W_o                                       eq. 3

Deviations: n is constant, so that a history and the reasoning tokens behind it weigh alike; the time of a position is
its own (the public code takes the next item's, which is not known when one recommends); order lives in the bias alone;
a last norm closes the stack, and unit length is the loss's business (`cosine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.backbones.interface import Backbone, BackboneConfig, Chain, Encoding
from forethought.errors import ConfigError
from forethought.nn.attention import AttentionChain, Memory, join_heads, split_heads, token_scores, token_values
from forethought.nn.dropout import Dropout
from forethought.nn.transformer import at_positions, last_positions
from forethought.settings import Between, Heads, Layers, SearchRange, ShareBelowOne, Width, Window

LOG_SECONDS_A_BUCKET = 0.301  # of the natural logarithm: a bucket ends where 1.35 times its seconds begin
EPSILON = 1e-6  # of the norms inside a layer, as in the public code


@dataclass(frozen=True, kw_only=True)
class HSTU(BackboneConfig):
    """Configuration of an HSTU encoder."""

    layers: Layers = 2
    """Layers b."""
    heads: Heads = 2
    """Attention heads h."""
    head_width: Width = 32
    """Width of queries, keys, values and gates a head (d_qk = d_v)."""
    window: Window = 50
    """Longest history n that is read; older items are cut. Also the divisor of the attention weights."""
    dropout: Annotated[ShareBelowOne, SearchRange(0.0, 0.7)] = 0.2
    """Share of embedding and branch units dropped in training, 0 to 1."""
    use_times: bool = True
    """Whether attention knows how long ago each item was; the data must have times."""
    time_buckets: Annotated[int, Between(1, 10_000)] = 128
    """The last of the buckets that a time difference falls into, each 35% wider than the one before."""

    @property
    def needs_times(self) -> bool:
        return self.use_times

    def build(self) -> HSTUEncoder:
        return HSTUEncoder(self)


class Gaps(NamedTuple):
    """How far queries (Q: positions or chains) are from keys, shared by all layers."""

    positions_BQL: Tensor  # B is 1 where all rows agree
    buckets_BQL: Tensor | None


class HSTULayer(nn.Module):
    def __init__(self, config: HSTU) -> None:
        super().__init__()
        inner = config.heads * config.head_width
        self.heads, self.divisor = config.heads, config.window
        self.norm = nn.LayerNorm(config.width, eps=EPSILON, elementwise_affine=False)
        self.mixed_norm = nn.LayerNorm(inner, eps=EPSILON, elementwise_affine=False)
        self.uvqk = nn.Linear(config.width, 4 * inner, bias=False)
        self.out = nn.Linear(inner, config.width)
        self.dropout = Dropout(config.dropout)
        self.position_bias = nn.Parameter(torch.randn(config.window) * 0.02)
        self.time_bias = nn.Parameter(torch.randn(config.time_buckets + 1) * 0.02) if config.use_times else None
        nn.init.normal_(self.uvqk.weight, std=0.02)
        nn.init.xavier_uniform_(self.out.weight)

    def forward(self, x_BLD: Tensor, gaps: Gaps) -> tuple[Tensor, Tensor, Tensor]:
        """States, and the keys and values that tokens will look back at."""
        u, v, q, k = self._project(x_BLD)
        weights = F.silu(self._biased(q @ k.transpose(-1, -2), gaps)).tril()
        return self._finish(x_BLD, u, weights @ v), k, v

    def reason(self, x_BPD: Tensor, memory: Memory, past: Gaps, own: Gaps, sees_BPL: Tensor) -> tuple[Tensor, Memory]:
        u, v, q, k = self._project(x_BPD)
        memory = memory.with_token(k, v)
        past_BHPL, own_BHPT = token_scores(q, memory)
        past_BHPL = F.silu(self._biased(past_BHPL, past)).masked_fill(~sees_BPL[:, None], 0.0)
        own_BHPT = F.silu(self._biased(own_BHPT, own))
        return self._finish(x_BPD, u, token_values(past_BHPL, own_BHPT, memory)), memory

    def _project(self, x_BLD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        u, v, q, k = F.silu(self.uvqk(self.norm(x_BLD))).chunk(4, dim=-1)  # eq. 1
        return u, split_heads(v, self.heads), split_heads(q, self.heads), split_heads(k, self.heads)

    def _biased(self, scores_BHQL: Tensor, gaps: Gaps) -> Tensor:
        """Scores and biases; a prefix in front has neither position nor time, and so no bias."""
        bias_BQL = look_up(self.position_bias, gaps.positions_BQL)
        if self.time_bias is not None and gaps.buckets_BQL is not None:
            bias_BQL = bias_BQL + look_up(self.time_bias, gaps.buckets_BQL)
        (queries, keys), (all_queries, all_keys) = bias_BQL.shape[1:], scores_BHQL.shape[2:]
        return scores_BHQL + F.pad(bias_BQL, (all_keys - keys, 0, all_queries - queries, 0))[:, None]

    def _finish(self, x: Tensor, u: Tensor, mixed_BHLC: Tensor) -> Tensor:
        mixed = self.mixed_norm(join_heads(mixed_BHLC) / self.divisor)
        return x + self.out(self.dropout(u * mixed))  # eq. 3


class HSTUEncoder(Backbone):
    def __init__(self, config: HSTU) -> None:
        super().__init__(config)
        self.use_times, self.last_bucket = config.use_times, config.time_buckets
        self.dropout = Dropout(config.dropout)
        self.layers = cast("Sequence[HSTULayer]", nn.ModuleList(HSTULayer(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width)

    def encode(
        self,
        x_BLD: Tensor,
        lengths_B: Tensor,
        *,
        positions: Tensor | None = None,
        times: Tensor | None = None,
        prefix: Tensor | None = None,
        last_only: bool = False,
    ) -> Encoding:
        if self.use_times and times is None:
            raise ConfigError(
                "HSTU with use_times=True needs the time of each interaction, and none were given: "
                "give times, or build it with use_times=False."
            )
        times = times if self.use_times else None
        at_L = torch.arange(x_BLD.shape[1], device=x_BLD.device)
        gaps = self._gaps(at_L[None], at_L, times, times)
        x, memories = self.dropout(x_BLD), []
        x = x if prefix is None else torch.cat([prefix, x], dim=1)
        for layer in self.layers:
            x, k, v = layer(x, gaps)
            if positions is not None:
                memories.append(Memory(k, v))
        K = 0 if prefix is None else prefix.shape[1]
        chain = None if positions is None else AttentionChain(tuple(memories), positions, K, times)
        x = x[:, K:]
        return Encoding(self.norm(at_positions(x, last_positions(lengths_B)) if last_only else x), chain)

    def reason(self, x_BPD: Tensor, chain: Chain) -> tuple[Tensor, Chain]:
        """Link t of a chain at position i stands at i + t, at the time of i."""
        assert isinstance(chain, AttentionChain)
        past, own = self._gaps_of_token(chain)
        x, sees_BPL, memories = self.dropout(x_BPD), chain.sees_BPL(), []
        for layer, memory in zip(self.layers, chain.layers, strict=True):
            x, memory = layer.reason(x, memory, past, own, sees_BPL)  # noqa: PLW2901
            memories.append(memory)
        return self.norm(x), replace(chain, layers=tuple(memories))

    def _gaps_of_token(self, chain: AttentionChain) -> tuple[Gaps, Gaps]:
        """From the next token of each chain to the history, and to the tokens up to itself."""
        token, at_BP, chains = chain.tokens + 1, chain.at_BP, chain.at_BP.shape[1]
        times_BP = None if chain.times_BL is None else chain.times_BL.gather(1, at_BP)
        at_L = torch.arange(chain.layers[0].keys_BHLC.shape[2] - chain.prefix, device=at_BP.device)
        past = self._gaps(at_BP + token, at_L, times_BP, chain.times_BL)
        tokens_T = torch.arange(1, token + 1, device=at_BP.device)
        same = None if times_BP is None else tokens_T.new_zeros(1, chains)  # all tokens of a chain share one moment
        return past, self._gaps(tokens_T[None, -1:].expand(1, chains), tokens_T, same, tokens_T.new_zeros(1, token))

    def _gaps(self, at_BQ: Tensor, at_L: Tensor, times_BQ: Tensor | None, times_BL: Tensor | None) -> Gaps:
        steps_BQL = (at_BQ[..., None] - at_L).clamp(0, self.window - 1)
        if times_BQ is None or times_BL is None:
            return Gaps(steps_BQL, None)
        return Gaps(steps_BQL, time_bucket(times_BQ[..., None] - times_BL[:, None], self.last_bucket))


def time_bucket(seconds: Tensor, last: int) -> Tensor:
    """floor(ln(max(|dt|, 1)) / 0.301), at most `last`: int32 of the same shape."""
    return (seconds.abs().clamp_min(1).float().log() / LOG_SECONDS_A_BUCKET).int().clamp_max(last)


def look_up(table_N: Tensor, index: Tensor) -> Tensor:
    """table_N[index]; the gradient of `index_select` is a plain sum, where indexing and embeddings sort or scatter."""
    return table_N.index_select(0, index.reshape(-1)).view(index.shape)
