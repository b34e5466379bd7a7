"""LightRec against codes chosen one by one in numpy, gradients of the plain formula, and codebooks gone wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from forethought.backbones.sasrec import SASRec
from forethought.catalogue import blocks
from forethought.catalogue.score_distance import score_distance
from forethought.config import Recipe
from forethought.data.batches import Batch, history_batch, training_batch, windows
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.evaluation.flops import counter
from forethought.evaluation.ranking import rank_cases
from forethought.methods.items import ItemLoss
from forethought.methods.lightrec import CodedTable, LightRec, LightRecModel
from forethought.methods.next_item import NextItem
from forethought.runs import train
from forethought.training.settings import Training

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


# ---- as its authors have it


AUTHORS: dict[str, Any] = {"selection": "bilinear", "selection_temperature": 0.9, "pretrained": True}
BPR = ItemLoss(kind="bpr", negatives=5, cosine=False, temperature=1.0, l2=1e-3)


def test_the_bilinear_choice_one_by_one() -> None:
    """argmax_w r W c_w, a matrix for each codebook."""
    items = table(item_std=1.0, **AUTHORS)
    assert items.maps_MDD is not None
    base, books, maps = (each.detach().numpy() for each in (items.weight, items.words_MCD, items.maps_MDD))
    got_ND, got_NM = items.compose()
    for i in range(0, 300, 7):
        missing = base[i].copy()
        for m in range(3):
            forms = [sum(missing[a] * maps[m][a, b] * word[b] for a in range(D) for b in range(D)) for word in books[m]]
            assert got_NM[i, m] == int(np.argmax(forms))
            missing -= books[m][got_NM[i, m]]
        assert np.allclose(got_ND[i].detach().numpy(), base[i] - missing, atol=1e-14)
    assert len(got_NM.unique(dim=0)) > 50
    assert not np.array_equal(got_NM.numpy(), by_hand(items)[1])


def test_matrices_and_codebooks_begin_as_glorots_normal() -> None:
    torch.manual_seed(0)
    wide = SASRec(width=64, layers=1, heads=2, window=8, ffn_width=16)
    items = CodedTable(LightRec(backbone=wide, **AUTHORS), 300)
    assert items.maps_MDD is not None
    assert items.maps_MDD.shape == (8, 64, 64)
    assert items.maps_MDD.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.02)
    assert items.words_MCD.std().item() == pytest.approx((2 / (256 + 64)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("block_bytes", [1, 10**9])
def test_gradients_of_the_bilinear_choice(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of (onehot + p - sg(p)) @ words with autograd alone, in v, c and W."""
    monkeypatch.setattr(blocks, "CPU_BLOCK_BYTES", block_bytes)
    items = table(item_std=1.0, **AUTHORS)
    assert items.maps_MDD is not None
    pull_ND = torch.randn_like(items.weight)

    def wanted() -> torch.Tensor:
        missing_ND, total_ND = items.weight, torch.zeros_like(items.weight)
        assert items.maps_MDD is not None
        for words_CD, map_DD in zip(items.words_MCD, items.maps_MDD, strict=True):
            logits_NC = torch.einsum("nd,de,ce->nc", missing_ND, map_DD, words_CD)
            p_NC = (logits_NC / 0.9).softmax(-1)
            chosen_ND = (F.one_hot(logits_NC.argmax(-1), 10) + p_NC - p_NC.detach()) @ words_CD
            missing_ND, total_ND = missing_ND - chosen_ND, total_ND + chosen_ND
        return total_ND

    parameters = [items.weight, items.words_MCD, items.maps_MDD]
    told = [torch.autograd.grad((made * pull_ND).sum(), parameters) for made in (items.compose()[0], wanted())]
    assert all(gradient.abs().max() > 1e-3 for gradient in told[0])
    for got, gradient in zip(*told, strict=True):
        torch.testing.assert_close(got, gradient, rtol=1e-9, atol=1e-12)


def in_second_stage(split: Split, **settings: Any) -> LightRecModel:
    """Its encoder and codebooks have moved on from what they began with, its base vectors have not."""
    model = built(split, **AUTHORS | settings)
    model.begin_stage("codebooks")
    for parameter in (*model.backbone.parameters(), model.items.words_MCD):
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("loss", [BPR, ItemLoss(bias=True)], ids=["bpr", "ce"])
def test_what_is_distilled_is_the_distance_of_all_scores(split: Split, loss: ItemLoss) -> None:
    """Half the mean over items of (s . q_i - t . v_i)^2, logit by logit, with all gradients."""
    torch.manual_seed(0)
    model = built(split, loss=loss, distillation=0.7, **AUTHORS)
    if model.items.bias is not None:
        model.items.bias.data.normal_()
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.begin_stage("codebooks")
    for parameter in (*model.backbone.parameters(), model.items.words_MCD):
        parameter.data += 0.1 * torch.randn_like(parameter)
    teacher = LightRec(backbone=BACKBONE).build(split.data.sizes).double()
    teacher.backbone.load_state_dict({n.removeprefix("backbone."): x for n, x in first.items() if "backbone." in n})
    batch = few(split)
    real_BL, v_ND = batch.valid_BL(), first["items.weight"]
    with torch.no_grad():
        t_PD = teacher.backbone.eval().encode(v_ND[batch.items_BL], batch.lengths_B).states_BLD[real_BL]
    q_ND, _ = model.items.compose()
    s_PD = model.backbone.encode(q_ND[batch.items_BL], batch.lengths_B).states_BLD[real_BL]

    def logits(states: torch.Tensor, items: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if loss.cosine:
            states, items = F.normalize(states, dim=-1), F.normalize(items, dim=-1)
        return states @ items.T / loss.temperature + (0 if bias is None else bias)

    apart_PN = logits(s_PD, q_ND, model.items.bias) - logits(t_PD, v_ND, first.get("items.bias"))
    wanted = 0.5 * apart_PN.square().mean(1).mean()
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(wanted, trained, allow_unused=True, materialize_grads=True)
    torch.manual_seed(3)
    both = model.loss(batch)
    torch.testing.assert_close(both.parts["distilled"], wanted.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(both.total.detach(), both.parts["named"] + 0.7 * wanted.detach(), rtol=1e-9, atol=0)
    model.teacher = None
    torch.manual_seed(3)
    named = torch.autograd.grad(model.loss(batch).total, trained, allow_unused=True, materialize_grads=True)
    got = torch.autograd.grad(both.total, trained, allow_unused=True, materialize_grads=True)
    for one, alone, distilled in zip(got, named, gradients, strict=True):
        torch.testing.assert_close(one, alone + 0.7 * distilled, rtol=1e-7, atol=1e-10)
    assert any(gradient.abs().max() > 1e-4 for gradient in gradients)


def test_a_distance_in_half_precision_is_taken_in_float32() -> None:
    torch.manual_seed(0)
    s, t, q, v = torch.randn(5, 4), torch.randn(5, 3), torch.randn(40, 4), torch.randn(40, 3)
    weights = torch.rand(5)
    wanted = (0.5 * ((s @ q.T - t @ v.T) ** 2).mean(1) * weights).sum()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = score_distance(s, q, t, v, weights)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
    assert score_distance(s, q, s, q, weights).abs() < 1e-5


def test_bpr_with_l2_of_composed_items(split: Split) -> None:
    """State, target and 5 negatives; position by position."""
    model, batch = in_second_stage(split, loss=BPR), few(split)
    assert batch.targets_BL is not None
    q_ND, real_BL = model.items.compose()[0], batch.valid_BL()
    s_PD = model.backbone.encode(q_ND[batch.items_BL], batch.lengths_B).states_BLD[real_BL]
    targets_P = batch.targets_BL[real_BL]
    torch.manual_seed(3)
    negatives_PM = torch.randint(split.data.n_items, (len(targets_P), 5))
    wanted = torch.zeros((), dtype=torch.float64)
    for s_D, target, negatives in zip(s_PD, targets_P, negatives_PM, strict=True):
        above = [torch.sigmoid(s_D @ q_ND[target] - s_D @ q_ND[n]).log() for n in negatives]
        held = [s_D, q_ND[target], *(q_ND[n] for n in negatives)]
        wanted = wanted - sum(above) / 5 + 1e-3 * sum((x @ x) / 2 for x in held)
    wanted = wanted / len(targets_P)
    torch.manual_seed(3)
    torch.testing.assert_close(model.loss(batch).total, wanted, rtol=1e-10, atol=1e-12)


def test_the_first_stage_is_a_plain_sasrec(split: Split) -> None:
    """Loss, gradients and ranks are those of its base vectors; codebooks are left alone."""
    model, batch = built(split, **AUTHORS), few(split)
    model.begin_stage("vectors")
    plain_one = NextItem(backbone=BACKBONE).build(split.data.sizes).double()
    plain_one.backbone.load_state_dict(model.backbone.state_dict())
    plain_one.items.weight.data.copy_(model.items.weight.data)
    for each in (model, plain_one):
        each.loss(batch).total.backward()
    torch.testing.assert_close(model.items.weight.grad, plain_one.items.weight.grad)
    assert model.items.words_MCD.grad is None
    assert model.items.maps_MDD is not None
    assert not model.items.maps_MDD.requires_grad
    ranks = [rank_cases(each, split.test, exclude_history=False).ranks for each in (model, plain_one)]
    assert np.array_equal(*ranks)
    assert model.diagnostics({}).figures == {}
    model.begin_stage("codebooks")
    assert not np.array_equal(rank_cases(model, split.test, exclude_history=False).ranks, ranks[0])
    model.zero_grad()
    model.loss(batch).total.backward()
    assert model.items.weight.grad is None
    assert all(p.grad is not None for p in model.parameters() if p is not model.items.weight)
    assert "items_alike" in model.diagnostics({}).figures


def test_base_vectors_stand_still_in_the_second_stage(split: Split, quick: Training, tmp_path: Path) -> None:
    """The run's own are those of the first stage's best epoch."""
    config = LightRec(backbone=BACKBONE, codebooks=3, codewords=10, loss=BPR, distillation=0.5, **AUTHORS)
    run = train(Recipe(method=config, training=replace(quick, epochs=2)), split, tmp_path / "run")
    first = load_file(tmp_path / "run" / "state" / "vectors.safetensors")
    assert torch.equal(run.method.state_dict()["items.weight"].cpu(), first["items.weight"])
    assert not torch.equal(run.method.state_dict()["items.words_MCD"].cpu(), first["items.words_MCD"])
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    assert [line["stage"] for line in log if "stage" in line] == [1, 1, 2, 2]
    assert [("distilled" in line) for line in log if "stage" in line] == [False, False, True, True]


def test_there_is_nothing_to_distil_without_a_first_stage() -> None:
    with pytest.raises(
        ConfigError, match="distillation is from the stage that trains plain vectors, and there is none"
    ):
        LightRec(distillation=0.1)
