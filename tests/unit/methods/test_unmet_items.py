"""Items that training never meets are what is known of them, learn nothing, and are held back as validation says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.features import Feature, Features, FeatureShape
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.evaluation.ranking import rank_cases
from forethought.evaluation.settings import EvaluationConfig
from forethought.methods.items import ItemLoss, ItemTable, hold_back, know_trained
from forethought.recommender import load
from forethought.runs import evaluate, train
from forethought.training.settings import Training
from forethought.unmet_items import BARRED, fit_unmet

N, D = 6, 3
COUNTS = torch.tensor([3, 0, 2, 1, 0, 5])
UNMET = COUNTS == 0
SHAPE = FeatureShape("text", "vectors", 4)


def made(bias: bool = False) -> ItemTable:
    torch.manual_seed(0)
    table = ItemTable(N, D, ItemLoss(bias=bias), 1.0)
    table.read_features([SHAPE])
    assert table.features is not None
    values = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
    table.features.take([Feature(SHAPE, values, np.ones(N, bool))])
    table.know_trained(COUNTS)
    if table.bias is not None:
        torch.nn.init.normal_(table.bias)
    return table


def test_an_unmet_item_is_its_features_alone() -> None:
    table = made().eval()
    assert table.features is not None
    features, wanted = table.features(), table.weight + table.features()
    wanted[UNMET] = features[UNMET]
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(table.vectors(), wanted)
            torch.testing.assert_close(table(torch.arange(N)), wanted)
            torch.testing.assert_close(table.train()(torch.arange(N)), wanted)  # met as noise, in training
            table.eval()


@pytest.mark.parametrize("bias", [False, True])
def test_in_training_it_is_no_rival_that_teaches_anything(bias: bool) -> None:
    table = made(bias).train()
    states, targets, weights = torch.randn(4, D), torch.tensor([0, 2, 5, 3]), torch.full((4,), 0.25)
    loss = table.loss_of(states, targets, weights)
    loss.backward()
    assert table.weight.grad is not None
    assert not table.weight.grad[UNMET].any()
    assert table.weight.grad[~UNMET].any(dim=1).all()
    assert table.bias is None or not table.bias.grad[UNMET].any()  # type: ignore[index]
    assert table.features is not None
    (text,) = table.features.maps
    gradient = text.weight.grad.clone()  # type: ignore[union-attr]
    table.zero_grad()
    text.values[UNMET] = 100.0  # whatever such items look like
    other = table.loss_of(states, targets, weights)
    other.backward()
    torch.testing.assert_close(other, loss)
    torch.testing.assert_close(text.weight.grad, gradient)


def test_where_all_are_met_or_none_has_features_nothing_changes() -> None:
    table = made()
    table.know_trained(COUNTS + 1)
    assert table.trained_N1 is None
    plain = ItemTable(N, D, ItemLoss(), 1.0)
    know_trained(plain, COUNTS)
    assert plain.trained_N1 is None
    assert plain.vectors() is plain.weight


@pytest.mark.parametrize("bias", [False, True])
def test_nats_come_off_the_logits_of_unmet_items_once_trained(bias: bool) -> None:
    table, states = made(bias).eval(), torch.randn(5, D)
    with torch.inference_mode():
        before = table.catalogue().scores(table.states(states)).clone()
        hold_back(table, 1.5)
        after = table.catalogue().scores(table.states(states))
        plain = table.catalogue(held_back=False).scores(table.states(states))
        table.train()
        training = table.catalogue()
    torch.testing.assert_close(after[:, ~UNMET], before[:, ~UNMET])
    torch.testing.assert_close(after[:, UNMET], before[:, UNMET] - 1.5 * table.loss.temperature)
    torch.testing.assert_close(plain, before)
    assert (training.bias_N is None) == (not bias)


def test_weights_that_know_of_no_nats_are_read() -> None:
    table = made()
    weights = {name: tensor for name, tensor in table.state_dict().items() if name != "unmet_nats"}
    hold_back(table, 1.0)
    table.load_state_dict(weights)
    assert float(table.unmet_nats) == 0.0


# ---- a whole run


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Split:
    shop = Shop(users=300, items=120, interactions_per_user=12.0, seed=2).write(tmp_path_factory.mktemp("shop") / "s")
    return leave_last_out(read(shop), hold_out_items=0.2)


@pytest.fixture(scope="module")
def folder(held: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    training = Training(epochs=12, batch_positions=256, learning_rate=5e-3, warmup_steps=5, checkpoint_every_s=0)
    recipe = Recipe(
        method=SASRec(width=16, layers=1, heads=2, window=16),
        training=training,
        features=Features(use="categories,brand,price"),
    )
    out = tmp_path_factory.mktemp("runs") / "run"
    train(recipe, held, out)
    return out


def test_cold_targets_are_found_far_more_often_than_by_chance(folder: Path, held: Split) -> None:
    model = load(folder)
    groups = evaluate(model, held, EvaluationConfig(resamples=100)).groups["target"]
    assert groups["cold"].chance is not None
    assert groups["cold"].metrics["recall@10"].mean > 1.5 * groups["cold"].chance
    counts = torch.from_numpy(held.train.item_counts(held.data.n_items))
    table = model.method.items
    with torch.inference_mode():
        torch.testing.assert_close(table.vectors()[counts == 0], table.features()[counts == 0])  # type: ignore[operator,index,union-attr]


def test_met_targets_lose_next_to_nothing_by_unmet_rivals(folder: Path, held: Split) -> None:
    model = load(folder)
    kept = float(model.method.items.unmet_nats)  # type: ignore[union-attr,arg-type]
    exclude = model.about["exclude_history"]
    assert fit_unmet(model.method, held, exclude_history=exclude) == kept
    warm = held.train.item_counts(held.data.n_items)[held.valid.targets] > 0
    recalls = {}
    for nats in (kept, BARRED, 0.0):
        hold_back(model.method, nats)
        recalls[nats] = (rank_cases(model.method, held.valid, exclude_history=exclude).ranks[warm] <= 10).mean()
    assert recalls[kept] >= 0.99 * recalls[BARRED]
    assert recalls[0.0] <= recalls[kept]


def test_without_items_held_out_some_stand_in_and_are_met_again(folder: Path, held: Split) -> None:
    model, whole = load(folder), leave_last_out(held.data)
    before = {name: tensor.clone() for name, tensor in model.method.state_dict().items()}
    nats = fit_unmet(model.method, whole, exclude_history=True)
    assert 0.0 <= nats <= 6.0
    met = torch.from_numpy(whole.train.item_counts(whole.data.n_items)) > 0
    trained_N1 = model.method.items.trained_N1  # type: ignore[union-attr]
    assert trained_N1 is None if met.all() else (trained_N1[:, 0].bool() == met).all()  # type: ignore[index]
    after = model.method.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if not name.endswith("unmet_nats"))


def test_a_method_that_looks_at_prototypes_halts_by_them_all_the_same(
    folder: Path, held: Split, tmp_path: Path
) -> None:
    from forethought.methods.dtrec import DTRec

    method = DTRec(
        backbone=SASRec(width=16, layers=1, heads=2, window=16),
        first_clusters=4,
        most_clusters=8,
        indicator_source="fine",
    )
    training = Training(epochs=1, batch_positions=512, checkpoint_every_s=0)
    run = train(Recipe(method=method, training=training, features=Features(use="brand")), held, tmp_path / "run")
    hold_back(run.method, 2.0)
    assert len(run.recommend([run.items.id_list([0, 1])], k=3)[0].items) == 3
    assert str(run.explain(run.items.id_list([0, 1])))
