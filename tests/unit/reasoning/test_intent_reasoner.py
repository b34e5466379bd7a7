"""Layers of deliberation against the same formulas in numpy, a row and a position at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import reference
from forethought.nn.cross_attention import CrossAttention
from forethought.reasoning.intent_reasoner import CrossLayer, IntentReasoner, Reasoner
from reference import attend

B, L, M, D, H, F = 2, 5, 3, 8, 2, 12
LENGTHS = torch.tensor([5, 3])


def made(fusion: str, layers: int = 2) -> IntentReasoner:
    torch.manual_seed(0)
    shape = {"width": D, "layers": layers, "heads": H, "ffn_width": F}
    net = IntentReasoner(Reasoner(**shape, dropout=0.4, fusion=fusion))  # type: ignore[arg-type]
    net.double().eval()
    for parameter in net.parameters():
        parameter.data += 0.4 * torch.randn_like(parameter)
    return net


def inputs(places: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(B, L, D).double(), torch.randn(B, places, M, D).double()


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def linear(layer: Any, x: np.ndarray) -> np.ndarray:
    return reference.linear(x, array(layer.weight), array(layer.bias))


def norm(layer: Any, x: np.ndarray) -> np.ndarray:
    return reference.layer_norm(x, array(layer.weight), array(layer.bias), layer.eps)


def feed_forward(block: Any, x: np.ndarray) -> np.ndarray:
    return x + linear(block.down, reference.gelu(linear(block.up, norm(block.ffn_norm, x))))


def cross_layer(layer: CrossLayer, x: np.ndarray, intents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Y, Z, X' of one row, X [L, D]; intents [L, n, D], those that each item sees (eq. 4)."""
    y, weights = x.copy(), []
    for j in range(L):
        k, v = np.split(linear(layer.cross.keys_values, intents[j]), 2, axis=-1)
        found, weight = attend(linear(layer.cross.query, norm(layer.cross_norm, x[j])), k, v, H)
        y[j] += linear(layer.cross.out, found)
        weights.append(weight)
    q, k, v = np.split(linear(layer.qkv, norm(layer.attention_norm, y)), 3, axis=-1)
    z = np.stack([y[j] + linear(layer.out, attend(q[j], k[: j + 1], v[: j + 1], H)[0]) for j in range(L)])
    return feed_forward(layer, z), np.stack(weights)


@pytest.mark.parametrize("places", [1, L])
def test_cross_attention_then_self_attention_then_feed_forward(places: int) -> None:
    net, (x, intents) = made("cross"), inputs(places)
    states, weights = net(x, LENGTHS, intents)
    last, last_weights = net(x, LENGTHS, intents, last_only=True)
    for row in range(B):
        now = array(x[row])
        for number, layer in enumerate(net.layers):
            assert isinstance(layer, CrossLayer)
            now, wanted = cross_layer(layer, now, np.broadcast_to(array(intents[row]), (L, M, D)))
            np.testing.assert_allclose(weights[row, :, number], wanted, rtol=1e-9, atol=1e-9)
        now = norm(net.norm, now)
        np.testing.assert_allclose(array(states[row]), now, rtol=1e-9, atol=1e-9)
        end = int(LENGTHS[row]) - 1
        np.testing.assert_allclose(array(last[row, 0]), now[end], rtol=1e-9, atol=1e-9)
        assert torch.equal(last_weights[row, 0], weights[row, end])
    assert not weights.requires_grad


def concat_row(net: IntentReasoner, x: np.ndarray, intents: np.ndarray) -> np.ndarray:
    """One row as a plain causal Transformer reads it, tokens in front; tokens do not see items anyway."""
    now = np.concatenate([intents, x])
    for layer in net.layers:
        q, k, v = np.split(linear(layer.qkv, norm(layer.attention_norm, now)), 3, axis=-1)
        mixed = [attend(q[i], k[: i + 1], v[: i + 1], H)[0] for i in range(len(now))]
        now = feed_forward(layer, now + linear(layer.out, np.stack(mixed)))
    return norm(net.norm, now)[len(intents) :]


def test_concatenation_is_a_causal_transformer_with_the_intents_in_front() -> None:
    net, (x, intents) = made("concat"), inputs(1)
    states, weights = net(x, LENGTHS, intents)
    for row in range(B):
        wanted = concat_row(net, array(x[row]), array(intents[row, 0]))
        np.testing.assert_allclose(array(states[row]), wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, L, 2, H).double())
    last, _ = net(x, LENGTHS, intents, last_only=True)
    torch.testing.assert_close(last[1, 0], states[1, 2])


def test_in_one_layer_each_position_may_have_tokens_of_its_own() -> None:
    """Items see each other's first states, which do not depend on intents: position j is that of a row with its own."""
    net, (x, intents) = made("concat", layers=1), inputs(L)
    states, _ = net(x, LENGTHS, intents)
    for row in range(B):
        for j in range(L):
            wanted = concat_row(net, array(x[row]), array(intents[row, j]))[j]
            np.testing.assert_allclose(array(states[row, j]), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fusion", ["cross", "concat"])
@pytest.mark.parametrize("places", [1, L])
def test_a_masked_intent_might_as_well_not_be_there(fusion: str, places: int) -> None:
    net, (x, intents) = made(fusion), inputs(places)
    kept = torch.tensor([[True, False, True], [False, True, False]])
    states, weights = net(x, LENGTHS, intents, kept)
    for row in range(B):
        alone, _ = net(x[row : row + 1], LENGTHS[row : row + 1], intents[row : row + 1, :, kept[row]])
        torch.testing.assert_close(states[row], alone[0], rtol=1e-9, atol=1e-9)
    assert (weights.movedim(-1, 1)[~kept] == 0).all()
    changed = torch.where(kept[:, None, :, None], intents, torch.randn_like(intents))
    torch.testing.assert_close(net(x, LENGTHS, changed, kept)[0], states, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fusion", ["cross", "concat"])
def test_later_items_and_their_intents_change_nothing(fusion: str) -> None:
    net, (x, intents) = made(fusion), inputs(L)
    states, _ = net(x, LENGTHS, intents)
    x[:, 3:], intents[:, 3:] = 7.0, -3.0
    torch.testing.assert_close(net(x, LENGTHS, intents)[0][:, :3], states[:, :3], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fusion", ["cross", "concat"])
@pytest.mark.parametrize("places", [1, L])
def test_views_share_the_keys_and_values_of_their_rows(
    fusion: str, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made once for a pass and the two views after it, they come to what each view makes of a copy of its own."""
    net, (x, intents) = made(fusion), inputs(places)
    kept = torch.tensor([[True, False, True], [False, True, False], [True, True, True], [False, False, True]])
    both, lengths = torch.cat([x, torch.randn_like(x)]), LENGTHS.repeat(2)
    wanted, wanted_weights = net(both, lengths, intents.repeat(2, 1, 1, 1), kept)
    made_of: list[int] = []
    project = CrossAttention.project
    monkeypatch.setattr(CrossAttention, "project", lambda *given: made_of.append(len(given[1])) or project(*given))
    beside = net.beside(intents)
    once = net(x, LENGTHS, beside)[0]
    states, weights = net(both, lengths, beside, kept)
    torch.testing.assert_close(states, wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(weights, wanted_weights, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(once, net(x, LENGTHS, beside)[0], rtol=0, atol=0)
    assert made_of == ([B] * len(net.layers) if fusion == "cross" else [])
    second = beside.select(torch.tensor([1]))
    torch.testing.assert_close(net(x[1:], LENGTHS[1:], second, kept[1:2])[0][0], states[1], rtol=1e-9, atol=1e-9)
