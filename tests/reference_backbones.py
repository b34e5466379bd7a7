"""What each backbone does to one row, [N, D] -> [N, D], without its code: token by token, in dense algebra."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.backbones.gru4rec import GRU4RecEncoder
from forethought.backbones.hstu import HSTUEncoder
from forethought.backbones.transformer import TransformerEncoder
from forethought.nn.frequency import FilteredBlock

ALPHA, KEPT = 0.4, 2  # what BSARec's reader is configured with


class Row(NamedTuple):
    prefix_KD: Tensor
    items_LD: Tensor
    tokens_TD: Tensor
    times_L: Tensor
    whole: int  # items of the row this is the beginning of: counted from the end, a prefix keeps its slots


def read_transformer(model: TransformerEncoder, row: Row) -> Tensor:
    first = model.window - row.whole if model.positions.count_from == "end" else 0
    items = row.items_LD + model.positions.weight[first : first + len(row.items_LD)]
    x = torch.cat([row.prefix_KD, items, row.tokens_TD])
    sees = torch.ones(len(x), len(x)).tril().bool()
    if not model.causal:
        history = len(row.prefix_KD) + len(items)
        sees[:history, :history] = True
    for block in model.transformer.blocks:
        y = block.attention_norm(x) if block.norm_first else x
        queries, keys, values = block.qkv(y).chunk(3, dim=-1)
        C = model.width // block.heads
        mixed = []
        for h in range(block.heads):
            q, k, v = (part[:, h * C : (h + 1) * C] for part in (queries, keys, values))
            scores = torch.where(sees, q @ k.T / math.sqrt(C), -math.inf)
            mixed.append((scores.exp() / scores.exp().sum(1, keepdim=True)) @ v)
        branch = block.out(torch.cat(mixed, dim=1))
        if isinstance(block, FilteredBlock):
            slow = torch.stack([lowest(y[: t + 1], model.window, KEPT) for t in range(len(y))])
            fast = block.sqrt_beta_D**2 * (y - slow)
            branch = ALPHA * (slow + fast) + (1 - ALPHA) * branch
        x = x + branch
        x = x if block.norm_first else block.attention_norm(x)
        y = block.ffn_norm(x) if block.norm_first else x
        x = x + block.down(block.activation(block.up(y)))
        x = x if block.norm_first else block.ffn_norm(x)
    return model.transformer.norm(x)


def lowest(x_LD: Tensor, window: int, kept: int) -> Tensor:
    """The last of a window's vectors, made of its lowest frequencies alone; zeros stand before the first."""
    padded = torch.cat([x_LD.new_zeros(window, x_LD.shape[1]), x_LD])[-window:]
    bins = torch.fft.rfft(padded, dim=0, norm="ortho")
    bins = torch.cat([bins[:kept], torch.zeros_like(bins[kept:])])
    return torch.fft.irfft(bins, n=window, dim=0, norm="ortho")[-1]


def read_gru(model: GRU4RecEncoder, row: Row) -> Tensor:
    D = model.width
    x = F.layer_norm(torch.cat([row.prefix_KD, row.items_LD, row.tokens_TD]), (D,), model.norm.weight, model.norm.bias)
    for layer in model.stack.layers:
        w_input, w_hidden, b_input, b_hidden = layer.parameters()
        h, states = torch.zeros(D, dtype=x.dtype), []
        for token in x:
            a, b = w_input @ token + b_input, w_hidden @ h + b_hidden
            reset = torch.sigmoid(a[:D] + b[:D])
            update = torch.sigmoid(a[D : 2 * D] + b[D : 2 * D])
            new = torch.tanh(a[2 * D :] + reset * b[2 * D :])
            h = (1 - update) * new + update * h
            states.append(h)
        x = torch.stack(states)
    return x


def read_hstu(model: HSTUEncoder, row: Row) -> Tensor:
    x = torch.cat([row.prefix_KD, row.items_LD, row.tokens_TD])
    K, n = len(row.prefix_KD), len(x)
    at = torch.arange(n - K)
    times = torch.cat([row.times_L, row.times_L[-1:].expand(len(row.tokens_TD))])
    steps = (at[:, None] - at).clamp(0, model.window - 1)
    buckets = torch.log((times[:, None] - times).abs().clamp_min(1).double()).div(0.301).floor().long().clamp_max(128)
    for layer in model.layers:
        bias = torch.zeros(n, n, dtype=x.dtype)
        bias[K:, K:] = layer.position_bias[steps]
        if layer.time_bias is not None:
            bias[K:, K:] += layer.time_bias[buckets]
        normed = F.layer_norm(x, (model.width,), eps=1e-6)
        gates, values, queries, keys = F.silu(normed @ layer.uvqk.weight.T).chunk(4, dim=1)
        mixed = []
        for q, k, v in zip(queries.chunk(2, 1), keys.chunk(2, 1), values.chunk(2, 1), strict=True):
            weights = F.silu(q @ k.T + bias) / model.window
            mixed.append(torch.where(torch.ones(n, n).tril().bool(), weights, 0.0) @ v)
        inner = torch.cat(mixed, dim=1)
        x = x + layer.out(gates * F.layer_norm(inner, (inner.shape[1],), eps=1e-6))
    return model.norm(x)


READERS: dict[type, Callable[..., Tensor]] = {
    TransformerEncoder: read_transformer,
    GRU4RecEncoder: read_gru,
    HSTUEncoder: read_hstu,
}
