"""Parts of IGR-SR on their own: the projection, where gradients of ICR go, dropout, and what the defaults do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from igr_models import BACKBONE, BACKBONES, REASONER, model_of, training
from torch.nn import functional as F

import reference
from forethought.data.interactions import DataSizes
from forethought.methods import igr_sr
from forethought.methods.igr_sr import IGRSR, Consistency
from forethought.nn.dropout import Dropout
from forethought.reasoning.chain import History
from forethought.reasoning.intent_reasoner import Beside, CrossLayer, IntentReasoner, Reasoner


def test_the_projection_is_linear_gelu_linear_norm() -> None:
    """T_D = MLP(T_I) (eq. 3), in numpy."""
    model = model_of()
    weights = {name: tensor.detach().numpy() for name, tensor in model.projection.state_dict().items()}
    assert sorted(name for name in weights if name.endswith("weight")) == ["0.weight", "2.weight", "3.weight"]
    raw = torch.randn(5, 8, dtype=torch.float64)
    hidden = reference.gelu(reference.linear(raw.numpy(), weights["0.weight"], weights["0.bias"]))
    wanted = reference.layer_norm(
        reference.linear(hidden, weights["2.weight"], weights["2.bias"]), weights["3.weight"], weights["3.bias"]
    )
    np.testing.assert_allclose(model.projection(raw).detach().numpy(), wanted, rtol=1e-9)


@pytest.mark.parametrize("at", ["last", "all"])
@pytest.mark.parametrize("over", ["causal", "rows"])
def test_gradients_of_consistency_reach_all_that_made_the_views(
    over: Any, at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefix and slots, projection, deliberation and items; as many as finite differences say."""
    batch = training()
    kept: list[torch.Tensor] = []

    def keep(n: int, m: int, share: float, device: object) -> torch.Tensor:
        if not kept:
            kept.append(torch.rand(n, m) > 0.5)
            kept[0][:, 1] = True
        return kept[0]

    monkeypatch.setattr(igr_sr, "keep_some", keep)
    model = model_of(over=over, consistency=Consistency(weight=2.0, temperature=0.5, at=at))
    plain = model_of(over=over)
    plain.load_state_dict(model.state_dict())
    for each in (model, plain):
        each.loss(batch).total.backward()
    told = {
        name: p.grad - dict(plain.named_parameters())[name].grad  # type: ignore[operator]
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    for name, parameter in model.named_parameters():
        if name not in told:
            continue
        torch.manual_seed(1)
        way = torch.randn_like(parameter)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * 1e-6 * way)
                values.append(2.0 * model.loss(batch).parts["icr"].item())
                parameter.sub_(sign * 1e-6 * way)
        slope = (values[0] - values[1]) / 2e-6
        assert (told[name] * way).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-6), name
    for name in ("prefix", "slots", "projection.0.weight", "projection.3.weight", "items.weight"):
        assert told[name].norm() > 1e-6, name


def test_the_default_loss_is_the_rest_and_a_tenth_of_icr() -> None:
    model = model_of(consistency=IGRSR().consistency)
    parts = model.loss(training()).parts
    assert parts["icr"] > 0
    assert parts["loss"].item() == pytest.approx((parts["named"] + 0.1 * parts["icr"]).item(), rel=1e-12)


def test_a_view_drops_three_intents_in_ten_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its cosines are divided by a tenth."""
    shares, scales = [], []
    keep, contrast = igr_sr.keep_some, igr_sr.info_nce_both
    monkeypatch.setattr(igr_sr, "keep_some", lambda n, m, share, at: shares.append(share) or keep(n, m, share, at))
    monkeypatch.setattr(
        igr_sr, "info_nce_both", lambda a, b, tau, alike: scales.append(tau) or contrast(a, b, tau, alike)
    )
    IGRSR(backbone=BACKBONE, reasoner=REASONER).build(DataSizes(30)).loss(training())
    assert (shares, scales) == ([0.3], [0.1])
    kept = keep(20_000, 4, 0.3)
    assert kept.float().mean().item() == pytest.approx(0.7 + 0.3**4 / 4, abs=0.01)  # one of all four always stays
    assert kept.any(1).all()


def test_what_is_found_in_the_intents_is_dropped_like_any_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything dropped that the intents say, a layer is a plain Transformer block."""
    torch.manual_seed(0)
    (layer,) = IntentReasoner(Reasoner(width=8, ffn_width=12, layers=1, dropout=0.4)).double().train().layers
    assert isinstance(layer, CrossLayer)
    shares = {part.share for part in layer.modules() if isinstance(part, Dropout)}
    assert shares == {0.0, 0.4}, "attention weights are not dropped, unless that is asked for"
    x, intents, lengths = torch.randn(2, 5, 8).double(), torch.randn(2, 1, 3, 8).double(), torch.tensor([5, 3])
    for part in (layer.dropout, layer.ffn_dropout):
        monkeypatch.setattr(part, "share", 0.0)
    monkeypatch.setattr(layer.cross_dropout, "forward", torch.zeros_like)
    got, _, _ = layer.attend_intents(x, Beside(intents), lengths, False)
    torch.testing.assert_close(got, layer(x, None, True)[0])


def test_an_encoder_that_is_only_pretrained_is_no_candidate() -> None:
    """However well it ranks: what the run keeps is the whole method."""
    encoder, reasoner = model_of().stages()
    assert (encoder.name, encoder.candidate) == ("encoder", False)
    assert (reasoner.name, reasoner.candidate) == ("reasoner", True)


def test_texts_are_those_of_the_items() -> None:
    """Item by item: the profile of a history of one is the text of that item, and of no neighbour."""
    model = model_of(intents="texts", text_width=6)
    source: Any = model.intents_from
    vectors = np.random.default_rng(0).normal(size=(30, 6))
    source.set_features(torch.from_numpy(vectors))
    centred = reference.unit(vectors - vectors.mean(0)) * 6**0.5
    np.testing.assert_allclose(source.texts_NE.numpy(), centred, rtol=1e-6)
    history = igr_sr.History(torch.arange(30)[:, None], torch.ones(30, dtype=torch.int64))
    raw = source(history, everywhere=False).raw_BPMD
    for intent in range(4):
        np.testing.assert_allclose(raw[:, 0, intent].numpy(), centred, rtol=1e-6)
    assert F.cosine_similarity(raw[0, 0, 0], raw[1, 0, 0], dim=0) < 0.99


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("settings", [{}, {"over": "rows"}, {"intents": "learned"}, {"backbone": BACKBONES[2]}])
def test_histories_are_read_in_pieces_that_fit_the_memory(
    settings: dict[str, Any], trace: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text profiles of 1,024 long histories took a gigabyte; the pieces come to the same, row by row."""
    model, batch = model_of(**settings).eval(), training()
    model.begin_stage("reasoner")
    whole = model.user_states(batch, trace=trace)
    read: list[tuple[int, ...]] = []
    intents = type(model)._intents

    def noted(self: Any, history: History) -> Any:
        read.append(tuple(history.items_BL.shape))
        return intents(self, history)

    monkeypatch.setattr(type(model), "_intents", noted)
    monkeypatch.setattr(igr_sr, "INTENT_NUMBERS", 2 * batch.items_BL.shape[1] * model.config.slots * BACKBONE.width)
    pieces = model.user_states(batch, trace=trace)
    assert read == [(2, batch.items_BL.shape[1])] * 2
    for name in ("states_BD", "weights_BM", "alone_BMD", "steps_B"):
        wanted, got = getattr(whole, name), getattr(pieces, name)
        assert (wanted is None) == (got is None) == (name == "alone_BMD" and not trace)
        if wanted is not None:
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
