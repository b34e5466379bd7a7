"""LightRec against codes chosen one by one in numpy, gradients of the plain formula, and codebooks gone wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from forethought.backbones.sasrec import SASRec
from forethought.catalogue import blocks
from forethought.data.batches import Batch, history_batch, training_batch, windows
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.evaluation.flops import counter
from forethought.evaluation.ranking import rank_cases
from forethought.methods.items import ItemLoss
from forethought.methods.lightrec import CodedTable, LightRec, LightRecModel

D = 12
BACKBONE = SASRec(width=D, layers=1, heads=2, window=8, ffn_width=16, dropout=0.0)


def table(n_items: int = 300, **settings: Any) -> CodedTable:
    torch.manual_seed(0)
    return CodedTable(LightRec(backbone=BACKBONE, **{"codebooks": 3, "codewords": 10} | settings), n_items).double()


def built(split: Split, **settings: Any) -> LightRecModel:
    torch.manual_seed(0)
    config = LightRec(backbone=BACKBONE, item_std=0.3, **{"codebooks": 3, "codewords": 10} | settings)
    return config.build(split.data.sizes).double()


def few(split: Split) -> Batch:
    return training_batch(windows(split.train, BACKBONE.window).take(np.arange(9)))


def by_hand(items: CodedTable) -> tuple[np.ndarray, np.ndarray]:
    """Items and codes, one item and one codebook at a time."""
    base, books = items.weight.detach().numpy(), items.words_MCD.detach().numpy()
    composed, codes = np.zeros_like(base), np.zeros((len(base), len(books)), int)
    for i, vector in enumerate(base):
        missing = vector.copy()
        for m, words in enumerate(books):
            cosines = [missing @ word / np.linalg.norm(missing) / np.linalg.norm(word) for word in words]
            codes[i, m] = int(np.argmax(cosines))
            missing -= words[codes[i, m]]
            composed[i] += words[codes[i, m]]
    return composed, codes


def test_an_item_is_the_sum_of_its_codewords() -> None:
    items = table()
    composed, codes = by_hand(items)
    got_ND, got_NM = items.compose()
    assert np.array_equal(got_NM.numpy(), codes)
    assert np.allclose(got_ND.detach().numpy(), composed, atol=1e-14)
    assert len(np.unique(codes, axis=0)) > 100
    items.eval()
    assert np.array_equal(items.codes_NM.numpy(), codes)
    assert torch.equal(items.vectors(), got_ND)  # to the bit: training and ranking see the same items
    asked = torch.tensor([[5, 0, 299], [7, 7, 1]])
    assert torch.equal(items(asked), got_ND[asked])


def plain(items: CodedTable) -> torch.Tensor:
    """The same with autograd alone: (onehot + p - sg(p)) @ words."""
    missing_ND, total_ND = items.weight, torch.zeros_like(items.weight)
    for words_CD in items.words_MCD:
        logits_NC = F.cosine_similarity(missing_ND[:, None], words_CD[None], dim=-1)
        p_NC = (logits_NC / items.temperature).softmax(-1)
        choice_NC = F.one_hot(logits_NC.argmax(-1), len(words_CD)) + p_NC - p_NC.detach()
        chosen_ND = choice_NC @ words_CD
        missing_ND, total_ND = missing_ND - chosen_ND, total_ND + chosen_ND
    return total_ND


@pytest.mark.parametrize("tau", [0.5, 0.05])
@pytest.mark.parametrize("block_bytes", [1, 10**9])
def test_gradients_are_straight_through(tau: float, block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "CPU_BLOCK_BYTES", block_bytes)
    items = table(selection_temperature=tau)
    pull_ND = torch.randn_like(items.weight)
    told = []
    for compose in (lambda: items.compose()[0], lambda: plain(items)):
        items.zero_grad()
        (compose() * pull_ND).sum().backward()
        assert items.weight.grad is not None
        assert items.words_MCD.grad is not None
        told.append((items.weight.grad.clone(), items.words_MCD.grad.clone()))
    assert all(gradient.abs().max() > 1e-3 for gradient in told[0])
    for got, wanted in zip(*told, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", [ItemLoss(), ItemLoss(cosine=False, temperature=1.0, bias=True)], ids=["cos", "dot"])
def test_cross_entropy_is_that_of_composed_items_on_both_sides(split: Split, loss: ItemLoss) -> None:
    model, batch = built(split, loss=loss), few(split)
    assert batch.targets_BL is not None
    q_ND, real_BL = plain(model.items), batch.valid_BL()
    states_PD = model.backbone.encode(q_ND[batch.items_BL], batch.lengths_B).states_BLD[real_BL]
    if loss.cosine:
        scores_PN = F.cosine_similarity(states_PD[:, None], q_ND[None], dim=-1)
    else:
        assert model.items.bias is not None
        scores_PN = states_PD @ q_ND.T + model.items.bias
    wanted = F.cross_entropy(scores_PN / loss.temperature, batch.targets_BL[real_BL])
    wanted.backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    got = model.loss(batch).total
    got.backward()
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-8, atol=1e-11)


def test_bce_trains_it_too(split: Split) -> None:
    model = built(split, loss=ItemLoss(kind="bce", negatives=5))
    model.loss(few(split)).total.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


# ---- codes


def test_codes_follow_training_and_then_stand(split: Split) -> None:
    """After training they are drawn up once; from there on base vectors are not read any more."""
    model, batch = built(split).train(), few(split)
    before = model.items.codes_NM.clone()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(20):
        model.loss(batch).total.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert torch.equal(model.items.codes_NM, before)
    with torch.inference_mode():
        model.eval()
    _, codes = by_hand(model.items)
    assert np.array_equal(model.items.codes_NM.numpy(), codes)
    assert (model.items.codes_NM != before).any()
    ranks = rank_cases(model, split.test, exclude_history=False).ranks
    model.items.weight.data.zero_()
    assert np.array_equal(rank_cases(model, split.test, exclude_history=False).ranks, ranks)
    model.train()
    model.loss(batch).total.backward()  # codes made in inference mode are no obstacle


def test_ranking_is_with_composed_vectors(split: Split) -> None:
    model = built(split, loss=ItemLoss(cosine=False, temperature=1.0)).eval()
    composed, _ = by_hand(model.items)
    batch = history_batch(split.test.history.take(np.arange(9)), model.window)
    states_BD = model.user_states(batch).states_BD.detach().numpy()
    targets = split.test.targets[:9].astype(np.int64)
    scores_BN = states_BD @ composed.T
    wanted = 1 + (scores_BN > scores_BN[np.arange(9), targets][:, None]).sum(1)
    assert model.rank_of(model.user_states(batch), torch.from_numpy(targets)).tolist() == wanted.tolist()


def test_a_codebook_has_no_more_words_than_there_are_items() -> None:
    small, large = table(7, codewords=256), table(300, codewords=257)
    assert small.words_MCD.shape == (3, 7, D)
    assert small.codes_NM.dtype == torch.uint8
    assert large.codes_NM.dtype == torch.int32
    assert LightRec().codebooks == 8
    assert LightRec().codewords == 256


def test_bits_of_an_item() -> None:
    """8 codebooks of 256 take 64 bits an item, and all items share 8 x 256 x 12 numbers."""
    items = table(300, codebooks=8, codewords=256)
    assert items.bits_per_item() == (64, 64 + 32 * 8 * 256 * 12 / 300)
    assert table(300, codebooks=2, codewords=10).bits_per_item() == (8, 8 + 32 * 2 * 10 * 12 / 300)
    biased = table(300, codebooks=2, codewords=2, loss=ItemLoss(bias=True))
    assert biased.bits_per_item() == (2, 2 + 32 * 2 * 2 * 12 / 300 + 32)
    told = items.diagnostics().figures
    assert (told["code_bits_per_item"], told["plain_bits_per_item"]) == (64, 32 * 12)


# ---- health


def test_perplexities_and_twins_by_hand() -> None:
    items = table()
    told, (_, codes) = items.diagnostics(), by_hand(items)
    shares = [np.bincount(book, minlength=10) / 300 for book in codes.T]
    perplexities = [np.exp(-sum(s * np.log(s) for s in share if s > 0)) for share in shares]
    assert told.figures["codewords_used_least"] == pytest.approx(min(perplexities))
    assert told.figures["codewords_used_mean"] == pytest.approx(np.mean(perplexities))
    _, which, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    assert told.figures["items_alike"] == pytest.approx((counts[which.ravel()] > 1).mean())


def test_a_collapsed_codebook_is_told_of() -> None:
    items = table(codewords=40)
    assert not any("collapsed" in sentence for sentence in items.diagnostics().warnings)
    items.weight.data += 1.0  # all in one direction, and one word there
    items.words_MCD.data[0, 7] = 1.0
    told = items.diagnostics()
    assert told.figures["codewords_used_least"] == pytest.approx(1.0)
    assert told.warnings[0].startswith("1 of 3 codebooks have collapsed (the items share 1.0 of 40 codewords")


def test_items_that_nothing_tells_apart_are_told_of() -> None:
    items = table(codebooks=6, codewords=64)
    assert items.diagnostics().warnings == []
    items.weight.data[:30] = items.weight.data[0]
    told = items.diagnostics()
    assert told.figures["items_alike"] == pytest.approx(0.1)
    assert told.warnings[0].startswith("10% of the items have the very code of another item")


def test_a_training_step_takes_the_products_it_says() -> None:
    """3 of (positions x items), as SASRec, and 5 of (items x all codewords)."""

    def flops(n_items: int) -> int:
        model = LightRec(backbone=BACKBONE, codebooks=3, codewords=50).build(DataSizes(n_items))
        rows = torch.randint(n_items, (16, 9))
        batch = Batch(rows[:, :-1], torch.full((16,), 8), rows[:, 1:], weight=128)
        with counter() as products:
            model.loss(batch).total.backward()
        return products.get_total_flops()

    assert flops(4000) - flops(2000) == 2 * 2000 * D * (3 * 128 + 5 * 3 * 50)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"codebooks": 0}, "codebooks is 0, but must be a whole number from 1 to 256"),
        ({"codewords": 1}, "codewords is 1, but must be a whole number from 2 to 65,536"),
        ({"selection_temperature": 0.0}, "selection_temperature is 0.0, but must be a number above 0"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(LightRec(), **settings)
