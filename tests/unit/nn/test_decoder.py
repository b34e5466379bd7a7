"""The decoder against plain attention written out, one sequence at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.nn.attention import AttentionChain, Memory
from forethought.nn.decoder import Decoder, DecoderBlock
from forethought.nn.gru import RecurrentChain

D, HEADS = 8, 2


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(width=D, layers=2, heads=HEADS, ffn_width=16, dropout=0.0).double()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return decoder.eval()


def attend(q_QD: Tensor, k_KD: Tensor, v_KD: Tensor, sees_QK: Tensor) -> Tensor:
    """Softmax attention, head by head."""
    C = D // HEADS
    heads = []
    for h in range(HEADS):
        part = slice(h * C, (h + 1) * C)
        scores = q_QD[:, part] @ k_KD[:, part].T / math.sqrt(C)
        heads.append(F.softmax(scores.masked_fill(~sees_QK, -torch.inf), dim=-1) @ v_KD[:, part])
    return torch.cat(heads, dim=-1)


def plain_block(block: DecoderBlock, x_TD: Tensor, history_LD: Tensor) -> Tensor:
    T = len(x_TD)
    q, k, v = block.qkv(block.self_norm(x_TD)).chunk(3, dim=-1)
    x_TD = x_TD + block.self_out(attend(q, k, v, torch.ones(T, T).tril().bool()))
    k, v = block.keys_values(history_LD).chunk(2, dim=-1)
    q = block.query(block.cross_norm(x_TD))
    x_TD = x_TD + block.cross_out(attend(q, k, v, torch.ones(T, len(history_LD)).bool()))
    return x_TD + block.down(F.gelu(block.up(block.ffn_norm(x_TD))))


def test_a_token_sees_those_before_it_and_its_own_part_of_the_history(decoder: Decoder) -> None:
    states_BLD, tokens_BPTD = torch.randn(2, 4, D).double(), torch.randn(2, 3, 5, D).double()
    sees_BPL = torch.tensor([1, 2, 4])[None, :, None] > torch.arange(4)
    chain, made = decoder.begin(states_BLD, sees_BPL.expand(2, -1, -1)), []
    for t in range(5):
        states, chain = decoder(tokens_BPTD[:, :, t], chain)
        made.append(states)
    for b in range(2):
        for p, seen in enumerate((1, 2, 4)):
            x_TD = tokens_BPTD[b, p]
            for block in decoder.blocks:
                x_TD = plain_block(block, x_TD, states_BLD[b, :seen])
            own = torch.stack([states[b, p] for states in made])
            assert torch.allclose(own, decoder.norm(x_TD), atol=1e-12)


def test_a_branch_goes_on_from_the_sequence_that_it_left(decoder: Decoder) -> None:
    states_BLD, first_B2D, then_B3D = torch.randn(2, 4, D), torch.randn(2, 2, D), torch.randn(2, 3, D)
    states_BLD, first_B2D, then_B3D = states_BLD.double(), first_B2D.double(), then_B3D.double()
    sees = torch.ones(2, 2, 4, dtype=torch.bool)
    _, chain = decoder(first_B2D, decoder.begin(states_BLD, sees))
    from_BP = torch.tensor([[1, 0, 1], [0, 0, 1]])
    branched, _ = decoder(then_B3D, chain.branch(from_BP))
    for b in range(2):
        for p in range(3):
            alone = decoder.begin(states_BLD[b : b + 1], sees[:1, :1])
            _, alone = decoder(first_B2D[b : b + 1, from_BP[b, p]][:, None], alone)
            expected, _ = decoder(then_B3D[b : b + 1, p : p + 1], alone)
            assert torch.allclose(branched[b, p], expected[0, 0], atol=1e-12)
    selected = chain.select(torch.tensor([1]))
    assert torch.equal(selected.layers[0].token_keys[0], chain.layers[0].token_keys[0][1:])
    assert torch.equal(selected.sees_BPL, sees[1:])


def test_chains_of_reasoning_branch_too() -> None:
    keys = torch.randn(2, HEADS, 3, 4)
    tokens = torch.randn(2, HEADS, 2, 4)
    chain = AttentionChain((Memory(keys, keys, (tokens,), (2 * tokens,)),), torch.tensor([[1, 2], [0, 2]]))
    branched = chain.branch(torch.tensor([[1, 1, 0], [0, 1, 0]]))
    assert torch.equal(branched.layers[0].token_keys[0][0], tokens[0][:, [1, 1, 0]])
    assert torch.equal(branched.layers[0].token_values[0][1], 2 * tokens[1][:, [0, 1, 0]])
    assert branched.layers[0].keys_BHLC is keys
    assert branched.at_BP.tolist() == [[2, 2, 1], [0, 2, 0]]
    hidden = torch.randn(2, 2, 5)
    assert torch.equal(RecurrentChain((hidden,)).branch(torch.tensor([[1, 0], [0, 0]])).hidden[0][0], hidden[0][[1, 0]])
