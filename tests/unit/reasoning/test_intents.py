from __future__ import annotations

import numpy as np
import pytest
import torch

from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU
from forethought.backbones.sasrec import SASRec
from forethought.reasoning.chain import History
from forethought.reasoning.intents import attention_entropy, extract_intents, intent_redundancy, keep_some

D, K, M, L = 8, 3, 4, 6
LENGTHS = [6, 1, 4]


def loud(module: torch.nn.Module) -> torch.nn.Module:
    """In double precision, with weights so large that mistakes show."""
    module.double().eval()
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return module


def given(seed: int = 0) -> tuple[torch.nn.Embedding, History, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    items = torch.nn.Embedding(30, D).double()
    history = History(torch.randint(30, (3, L)), torch.tensor(LENGTHS), torch.arange(3 * L).view(3, L) * 5000)
    return items, history, torch.randn(K, D).double(), torch.randn(M, D).double()


SASREC = SASRec(width=D, layers=2, window=8, ffn_width=16, dropout=0.5, count_from="start")


@pytest.mark.parametrize("input_norm", [False, True])
def test_intents_are_the_last_states_of_the_whole_row(input_norm: bool) -> None:
    """[P; e(S_u); I] of each prefix as one causal row (eqs. 1 and 2), without chains."""
    items, history, prefix_KD, slots_MD = given()
    backbone = loud(
        SASRec(width=D, layers=2, window=8, ffn_width=16, input_norm=input_norm, count_from="start").build()
    )
    raw, states = extract_intents(backbone, items, history, prefix_KD, slots_MD, everywhere=True)
    ends, _ = extract_intents(backbone, items, history, prefix_KD, slots_MD, everywhere=False)
    for row, length in enumerate(LENGTHS):
        for end in range(1, length + 1):
            x = backbone.input_norm(items(history.items_BL[row, :end]) + backbone.positions.weight[:end])
            whole = torch.cat([prefix_KD, x, backbone.input_norm(slots_MD)])[None]
            dense = backbone.transformer(whole, torch.tensor([whole.shape[1]]))[0][0]
            torch.testing.assert_close(raw[row, end - 1], dense[-M:], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(states[row, end - 1], dense[K + end - 1], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(ends[row, 0], raw[row, length - 1], rtol=1e-9, atol=1e-9)


def test_a_gru_reads_prefix_items_and_slots_in_one_row() -> None:
    items, history, prefix_KD, slots_MD = given()
    backbone = loud(GRU4Rec(width=D, layers=2, window=8).build())
    raw, _ = extract_intents(backbone, items, history, prefix_KD, slots_MD, everywhere=True)
    for row, length in enumerate(LENGTHS):
        x = backbone.norm(torch.cat([prefix_KD, items(history.items_BL[row, :length]), slots_MD]))
        for layer in backbone.stack.layers:
            x = layer(x[None])[0][0]
        torch.testing.assert_close(raw[row, length - 1], x[-M:], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "config",
    [
        SASREC,
        GRU4Rec(width=D, layers=2, window=8),
        HSTU(width=D, head_width=4, window=16),
        BERT4Rec(width=D, window=8, ffn_width=16, count_from="start"),
    ],
    ids=lambda config: type(config).__name__,
)
def test_everywhere_is_at_the_end_of_each_prefix(config: SASRec | GRU4Rec | HSTU | BERT4Rec) -> None:
    """For every backbone; what comes later changes nothing."""
    items, history, prefix_KD, slots_MD = given()
    backbone = loud(config.build())
    raw, states = extract_intents(backbone, items, history, prefix_KD, slots_MD, everywhere=True)
    assert raw.shape == (3, L, M, D)
    for row, length in enumerate(LENGTHS):
        for end in range(1, length + 1):
            alone = History(*(each[row : row + 1, :end] for each in (history.items_BL,)), torch.tensor([end]))
            alone = alone._replace(times_BL=history.times_BL[row : row + 1, :end])
            one, state = extract_intents(backbone, items, alone, prefix_KD, slots_MD, everywhere=False)
            torch.testing.assert_close(one[0, 0], raw[row, end - 1], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(state[0, 0], states[row, end - 1], rtol=1e-9, atol=1e-9)


def test_prefix_and_earlier_slots_matter_and_later_slots_do_not() -> None:
    items, history, prefix_KD, slots_MD = given()
    backbone = loud(SASREC.build())

    def raw(prefix: torch.Tensor | None, slots: torch.Tensor) -> torch.Tensor:
        return extract_intents(backbone, items, history, prefix, slots, everywhere=False).raw_BPMD

    whole = raw(prefix_KD, slots_MD)
    assert not torch.allclose(raw(None, slots_MD), whole)
    changed = slots_MD.clone()
    changed[2] = torch.randn(D)
    assert torch.equal(raw(prefix_KD, changed)[:, :, :2], whole[:, :, :2])
    assert not torch.allclose(raw(prefix_KD, changed)[:, :, 3], whole[:, :, 3])


def test_masks_drop_as_many_as_asked_for_and_never_all() -> None:
    torch.manual_seed(0)
    kept = keep_some(20_000, 4, 0.3)
    assert kept.any(dim=1).all()
    np.testing.assert_allclose(kept.double().mean(0), 0.7 + 0.3**4 / 4, atol=0.02)
    all_dropped = keep_some(20_000, 4, 1.0)  # the guard alone: one of four, any of them
    assert (all_dropped.sum(1) == 1).all()
    np.testing.assert_allclose(all_dropped.double().mean(0), 0.25, atol=0.02)
    assert keep_some(5, 1, 0.9).all()
    assert keep_some(5, 3, 0.0).all()


def test_sameness_is_of_what_tells_histories_apart() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3, 5))
    own = x - x.mean(0)
    own /= np.linalg.norm(own, axis=-1, keepdims=True)
    pairs = [(own[:, a] * own[:, b]).sum(-1) ** 2 for a in range(3) for b in range(3) if a != b]
    np.testing.assert_allclose(intent_redundancy(torch.from_numpy(x)), np.mean(pairs, axis=0), atol=1e-12)
    one = torch.randn(40, 1, 5)
    apart_by_constants = torch.cat([one, 3 * one + 1, 5 - one], dim=1)
    np.testing.assert_allclose(intent_redundancy(apart_by_constants), np.ones(40), atol=1e-5)
    assert not intent_redundancy(one).any()
    assert intent_redundancy(torch.randn(1, 3, 5).expand(40, 3, 5)).max() < 1e-6  # everybody's


def test_diffuseness_is_entropy_over_its_largest() -> None:
    weights = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    np.testing.assert_allclose(attention_entropy(weights), [1.0, 0.0, 0.5], atol=1e-6)
    assert attention_entropy(torch.ones(2, 1)).tolist() == [0.0, 0.0]
