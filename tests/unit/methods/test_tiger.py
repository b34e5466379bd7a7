"""TIGER's loss and search, recomputed by plain loops, prefix by prefix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_methods import SMALL_TIGER_TOKENS, built, small
from torch import Tensor

from forethought.catalogue.ranking import FilteredItems
from forethought.config import Recipe
from forethought.data.batches import Batch, history_batch, lists_batch, training_batch, windows
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.evaluation.protocol import conflicts, in_words
from forethought.methods.tiger import TIGER, TIGERModel
from forethought.nn.attention import key_mask
from forethought.runs import evaluate, train
from forethought.training.settings import Training


@pytest.fixture
def model(split: Split) -> TIGERModel:
    return spread(split)


def spread(split: Split, **changed: Any) -> TIGERModel:
    """In float64, with weights large enough that mistakes show."""
    torch.manual_seed(0)
    model = built("tiger", split, **changed).double().eval()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    assert isinstance(model, TIGERModel)
    return model


def rows_of(split: Split, n: int = 6) -> Batch:
    return training_batch(windows(split.train, 12).take(np.arange(n)))


def said(model: TIGERModel, items: list[int], user: int, prefix: list[int], rivals: list[int] | None = None) -> Tensor:
    """ln p of the next token of one history after some tokens, by one dense pass over each of both sequences."""
    tokens, M, tuples = model.tokens, model.tokens.codebooks, model.tokens.codes_NM.tolist()
    rows = [tokens.weight[m * tokens.size + int(tokens.codes_NM[i, m])] for i in items for m in range(M)]
    window, at = model.config.window, len(items)
    first = 0 if model.config.count_from == "start" else window - at
    rows = [row + model.positions.weight[first + place // M] for place, row in enumerate(rows)]
    if model.users is not None:
        rows.insert(0, model.users.weight[user % len(model.users.weight)])
    x_1XD = model.encoder_norm(torch.stack(rows)[None])
    causal, X = model.encoder.causal, x_1XD.shape[1]
    for block in model.encoder.blocks:
        x_1XD, _ = block(x_1XD, None if causal else key_mask(torch.tensor([X]), X), causal)
    chain = model.decoder.begin(model.encoder.norm(x_1XD), torch.ones(1, 1, X, dtype=torch.bool))
    written = [model.first_D] + [tokens.weight[m * tokens.size + c] for m, c in enumerate(prefix)]
    for vector_D in written:
        states_11D, chain = model.decoder(model.decoder_norm(vector_D)[None, None], chain)
    book = len(prefix)
    logits_C = states_11D[0, 0] @ tokens.heads_MCD[book].T + tokens.bias_MC[book]
    if model.config.loss == "items":
        going_on = {tuples[i][book] for i in rivals or range(model.n_items) if tuples[i][:book] == prefix}
        logits_C = torch.stack([z if c in going_on else torch.tensor(-torch.inf) for c, z in enumerate(logits_C)])
    return logits_C.log_softmax(-1)


@pytest.mark.parametrize(
    "changed",
    [
        {"count_from": "start"},
        {"count_from": "start", "users": 7},
        {"causal_encoder": False, "users": 7},
        {"count_from": "start", "loss": "items"},
        {"causal_encoder": False, "loss": "items"},
    ],
    ids=["causal", "causal-users", "both-ways", "items", "both-ways-items"],
)
def test_the_loss_is_teacher_forcing_over_each_prefix_by_itself(split: Split, changed: dict[str, Any]) -> None:
    model, batch = spread(split, **changed), rows_of(split)
    assert batch.targets_BL is not None
    assert batch.users_B is not None
    total, n = torch.zeros(()), 0
    for row, length in enumerate(batch.lengths_B.tolist()):
        for at in range(length):
            items = batch.items_BL[row, : at + 1].tolist()
            codes = model.tokens.codes_NM[batch.targets_BL[row, at]].tolist()
            for book, code in enumerate(codes):
                total = total - said(model, items, int(batch.users_B[row]), codes[:book])[code]
            n += 1
    assert n == batch.weight
    losses = model.loss(batch)
    torch.testing.assert_close(losses.total, total / n)
    parameters = [each for each in model.parameters() if each.requires_grad]
    for mine, wanted in zip(
        torch.autograd.grad(losses.total, parameters), torch.autograd.grad(total / n, parameters), strict=True
    ):
        torch.testing.assert_close(mine, wanted, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("named", ["met", "unmet"])
def test_unmet_items_are_no_rivals_of_those_it_names(split: Split, named: str) -> None:
    """Of an item that is named though none met it all are rivals; in a ranking they always are."""
    model, batch = spread(split, loss="items", count_from="start"), rows_of(split, 3)
    assert batch.targets_BL is not None
    targets = set(batch.targets_BL[batch.valid_BL()].tolist())
    met = [item for item in range(model.n_items) if item in targets or item % 3]
    if named == "unmet":
        met.remove(min(targets))
    model.tokens.know_trained(torch.ones(model.n_items))
    model.loss(batch)  # which items are met may be told anew
    model.tokens.know_trained(torch.tensor([int(item in met) for item in range(model.n_items)]))
    total = 0.0
    for row, length in enumerate(batch.lengths_B.tolist()):
        for at in range(length):
            items, codes = (of.tolist() for of in (batch.items_BL[row, : at + 1], batch.targets_BL[row, at]))
            codes = model.tokens.codes_NM[codes].tolist()
            rivals = met if named == "met" else None
            total -= sum(said(model, items, 0, codes[:m], rivals)[code].item() for m, code in enumerate(codes))
    with torch.no_grad():
        assert model.loss(batch).total.item() == pytest.approx(total / batch.weight)


@pytest.mark.parametrize(
    "changed",
    [{}, {"users": 3}, {"causal_encoder": False}, {"loss": "items"}],
    ids=["causal", "users", "both-ways", "items"],
)
def test_scores_are_the_log_probabilities_of_tuples(split: Split, changed: dict[str, Any]) -> None:
    model = spread(split, **changed)
    batch = history_batch(split.test.history.take(np.arange(3)), 12)
    with torch.no_grad():
        every_BN = torch.arange(model.n_items).expand(3, -1)
        scores_BN = model.scores_of(model.represent(batch), every_BN)
        for row, length in enumerate(batch.lengths_B.tolist()):
            items = batch.items_BL[row, :length].tolist()
            for item, codes in enumerate(model.tokens.codes_NM.tolist()):
                log_p = [said(model, items, row, codes[:m])[code].item() for m, code in enumerate(codes)]
                assert scores_BN[row, item].item() == pytest.approx(sum(log_p), abs=1e-9)
            if model.config.loss == "items":
                assert scores_BN[row].exp().sum().item() == pytest.approx(1)


def test_a_counter_makes_every_tuple_one_item(model: TIGERModel) -> None:
    codes_NM = model.tokens.codes_NM
    assert codes_NM.shape[1] == SMALL_TIGER_TOKENS.codebooks + 1
    assert len(codes_NM.unique(dim=0)) == model.n_items


def test_a_short_beam_still_lists_everybody_once(split: Split) -> None:
    model = spread(split, beams=2)
    batch = history_batch(split.test.history.take(np.arange(9)), 12)
    with torch.inference_mode():
        represented = model.represent(batch)
        items_BK, scores_BK = model.recommend(represented, model.n_items)
        assert all(sorted(row) == list(range(model.n_items)) for row in items_BK.tolist())
        assert bool((scores_BK.diff() <= 0).all())
        exact = spread(split).scores_of(spread(split).represent(batch), items_BK[:, :2])
        torch.testing.assert_close(scores_BK[:, :2], exact)
        at = model.rank_of(represented, items_BK[:, 0])
        assert bool((at == 1).all())
        excluded = FilteredItems.from_histories(items_BK[:, :5], torch.full((9,), 5))
        rest_BK, _ = model.recommend(represented, model.n_items, excluded)
        assert torch.equal(rest_BK[:, :-5], items_BK[:, 5:])
        assert bool((rest_BK[:, -5:] == -1).all())


def test_items_that_alone_may_be_listed_are_searched_by_themselves(split: Split) -> None:
    """A beam of one among four items finds what is exact, where the beam among all would miss them."""
    model, whole = spread(split, beams=1), spread(split)
    batch = history_batch(split.test.history.take(np.arange(30)), 12)
    allowed_N = torch.zeros(model.n_items, dtype=torch.bool)
    allowed_N[[1, 30]] = True
    with torch.inference_mode():
        represented = model.represent(batch)
        items_BK, scores_BK = model.recommend(represented, 3, None, allowed_N)
        every = whole.recommend(whole.represent(batch), 3, None, allowed_N)
        best_scores = whole.scores_of(whole.represent(batch), items_BK[:, :1])[:, 0]
        torch.testing.assert_close(scores_BK[:, 0], best_scores)
        assert bool((items_BK[:, 2] == -1).all())
        assert (items_BK[:, 0] == every[0][:, 0]).float().mean() > 0.7
        nothing, _ = model.recommend(represented, 3, None, torch.zeros_like(allowed_N))
        assert bool((nothing == -1).all())
        some = represented.select(torch.tensor([4, 2]))
        assert torch.equal(model.recommend(some, 3, None, allowed_N)[0], items_BK[[4, 2]])


def test_tokens_that_are_forbidden_are_on_no_list(split: Split) -> None:
    """A beam of one goes elsewhere, and what is left has the score that it had."""
    model, whole = spread(split, beams=1), spread(split)
    batch = history_batch(split.test.history.take(np.arange(20)), 12)
    with torch.inference_mode():
        first_B = model.recommend(model.represent(batch), 1)[0][:, 0]
        token = int(model.tokens.codes_NM[first_B[0], 0])
        constraints = model.constraints([(0, token)], [], None)
        items_BK, scores_BK = model.recommend(model.constrained_states(batch, constraints), model.n_items)
        assert bool((items_BK[:, 0] != first_B[0]).all())
        left_N = model.tokens.codes_NM[:, 0] != token
        assert all(sorted(row)[-int(left_N.sum()) :] == left_N.nonzero()[:, 0].tolist() for row in items_BK.tolist())
        assert bool((items_BK[:, int(left_N.sum()) :] == -1).all())
        exact = whole.scores_of(whole.represent(batch), items_BK[:, :1])
        torch.testing.assert_close(scores_BK[:, :1], exact)
    with pytest.raises(ConfigError, match="is to be forbidden"):
        model.constraints([(9, 0)], [], None)


def test_somebody_unknown_has_the_mean_of_all_users(split: Split) -> None:
    model = spread(split, users=5)
    assert model.inputs.users
    assert model.users is not None
    known = model.users(torch.arange(12))
    assert torch.equal(known[:5], known[5:10])
    torch.testing.assert_close(model.users(torch.tensor([-1]))[0], model.users.weight.mean(0))
    lists = lists_batch([np.array([3, 4]), np.array([3, 4])], 12)
    one, other = (replace(lists, users_B=torch.tensor(users)) for users in ([0, 1], [-1, 5]))
    with torch.inference_mode():
        scores = [model.scores_of(model.represent(each), torch.arange(8).expand(2, -1)) for each in (one, other)]
    torch.testing.assert_close(scores[0][0], scores[1][1])
    assert (scores[0][0] - scores[0][1]).abs().max() > 1e-3


def test_tokens_that_change_are_searched_anew(split: Split, model: TIGERModel) -> None:
    batch = history_batch(split.test.history.take(np.arange(4)), 12)
    with torch.inference_mode():
        before = model.scores_of(model.represent(batch), torch.tensor([[0, 1]] * 4))
        model.tokens.codes_NM[[0, 1]] = model.tokens.codes_NM[[1, 0]]
        history_free = (batch.items_BL > 1).all()
        after = model.scores_of(model.represent(batch), torch.tensor([[1, 0]] * 4))
    if history_free:
        torch.testing.assert_close(after, before)
    assert not torch.equal(model.tokens.prefixes()[1][:, 0], model.tokens.prefixes()[1][:, 1])


def test_the_protocol_names_the_beam_and_still_compares(split: Split, quick: Training, tmp_path: Any) -> None:
    run = train(Recipe(method=small("tiger", beams=7), training=replace(quick, epochs=1)), split, tmp_path / "run")
    report = evaluate(run, split)
    assert report.protocol["search"] == "beam of 7, estimates below"
    assert "search beam of 7, estimates below" in in_words(report.protocol)
    other = train(Recipe(method=small("sasrec"), training=replace(quick, epochs=1)), split, tmp_path / "other")
    assert "search" not in (exact := evaluate(other, split)).protocol
    assert conflicts(report.protocol, exact.protocol) == {}


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of its 3 heads"):
        TIGER(width=64, heads=3)
    with pytest.raises(ConfigError, match="TIGER's beams is 0"):
        TIGER(beams=0)
