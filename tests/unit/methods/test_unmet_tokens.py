"""Items that training never meets are held back or lifted in methods over tokens, in all that they are ranked by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from small_methods import small
from torch import Tensor

from forethought import validation_fits
from forethought.config import MethodConfig, Recipe
from forethought.data.batches import Batch, history_batch, lists_batch
from forethought.data.evidence import Evidence
from forethought.data.features import Features
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.decoding.graph import GraphSettings
from forethought.exporting.check import library_scores
from forethought.exporting.program import ScoringProgram
from forethought.extending import extend
from forethought.methods.item_tokens import TokenItems, TokenMethod
from forethought.methods.items import hold_back
from forethought.methods.reg4rec import REG4RecModel
from forethought.methods.rpg import RPG
from forethought.methods.tiger import TIGER
from forethought.recommender import Recommender, load
from forethought.runs import train
from forethought.training.observer import Observer
from forethought.training.settings import Training
from forethought.unmet_items import MOST_LOST, fit_unmet

LIFT = 1.75  # nats
BACK = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0)  # as many may be lifted
FEATURES = Features(use="categories,brand,price")
TRAINING = Training(epochs=2, batch_positions=256, learning_rate=5e-3, warmup_steps=5, checkpoint_every_s=0)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Split:
    shop = Shop(users=200, items=60, interactions_per_user=9.0, seed=2).write(tmp_path_factory.mktemp("shop") / "s")
    return leave_last_out(read(shop), hold_out_items=0.2)


def configured(name: str) -> MethodConfig:
    if name == "tiger":
        method = small("tiger")
        assert isinstance(method, TIGER)
        return replace(method, beams=60)  # all items, so that all scores are exact
    if name == "graph":
        method = small("rpg")
        assert isinstance(method, RPG)
        return replace(method, decoding="graph", graph=GraphSettings(edges=60, beams=60, rounds=1))
    return small(name.removesuffix("-evidence"))


def recipe(name: str) -> Recipe:
    return Recipe(method=configured(name), training=TRAINING, features=FEATURES)


@pytest.fixture(scope="module")
def folders(held: Split, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in ("rpg", "graph", "reg4rec", "tiger", "reg4rec-evidence"):
        evidence = Evidence(use="co_occurrence", fit="validation") if name.endswith("evidence") else None
        made[name] = tmp_path_factory.mktemp("runs") / name
        train(replace(recipe(name), evidence=evidence), held, made[name])
    return made


@pytest.fixture(params=["rpg", "graph", "reg4rec", "tiger", "reg4rec-evidence"])
def model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Recommender:
    """As it was trained, but for nats that show, and paths and evidence that say something."""
    run = load(folders[request.param], device="cpu")
    if hasattr(run.method, "path_share"):
        run.method.path_share.fill_(0.5)  # type: ignore[operator, union-attr]
    if run.method.evidence is not None:
        run.method.evidence.weights_E.data.fill_(1.5)
    hold_back(run.method, -LIFT)
    return run


def unmet_of(split: Split) -> np.ndarray:
    return split.train.item_counts(split.data.n_items) == 0


def all_scores(model: Recommender, batch: Batch) -> Tensor:
    """Of every item in the order of the rows, as lists of all have them."""
    with torch.inference_mode():
        items_BN, scores_BN = model.method.recommend(model.method.represent(batch), len(model.items))
    return torch.empty_like(scores_BN).scatter_(1, items_BN, scores_BN)


def rows_of(split: Split, model: Recommender, n: int = 12) -> Batch:
    return history_batch(split.test.history.take(np.arange(n)), model.method.window)


# ---- all ways of ranking


def test_the_scores_of_unmet_items_alone_move_by_the_nats(model: Recommender, held: Split) -> None:
    unmet, batch = unmet_of(held), rows_of(held, model)
    assert 0 < unmet.sum() < len(unmet)
    lifted = all_scores(model, batch).numpy()
    hold_back(model.method, 0.0)
    plain = all_scores(model, batch).numpy()
    wanted = np.array([[score + LIFT * gone for score, gone in zip(row, unmet, strict=True)] for row in plain])
    np.testing.assert_array_equal(lifted[:, ~unmet], plain[:, ~unmet])
    np.testing.assert_allclose(lifted, wanted, atol=1e-4)
    hold_back(model.method, 3.0)
    back = all_scores(model, batch).numpy()
    np.testing.assert_allclose(back[:, unmet], plain[:, unmet] - 3.0, atol=1e-4)


def test_ranks_lists_and_single_scores_are_of_the_same_numbers(model: Recommender, held: Split) -> None:
    batch, n_items = rows_of(held, model), held.data.n_items
    scores = all_scores(model, batch)
    allowed_N = torch.arange(n_items) % 3 == 0
    with torch.inference_mode():
        represented = model.method.represent(batch)
        some_BK = torch.arange(n_items).expand(len(scores), -1)
        assert torch.equal(model.method.scores_of(represented, some_BK), scores)
        for target in [*np.flatnonzero(unmet_of(held))[:4].tolist(), 0, 1]:
            ranks_B = model.method.rank_of(represented, torch.full((len(scores),), target))
            for row, of in enumerate(scores.tolist()):
                better = sum(score > of[target] for score in of)
                equal = sum(score == of[target] for score in of) - 1
                assert float(ranks_B[row]) == 1 + better + equal / 2
        items_BK, scores_BK = model.method.recommend(represented, 5, None, allowed_N)
    wanted = torch.where(allowed_N, scores, -torch.inf).sort(dim=1, descending=True, stable=True)
    assert torch.equal(items_BK, wanted.indices[:, :5])
    torch.testing.assert_close(scores_BK, wanted.values[:, :5])


def test_an_explanation_has_them_as_a_summand(model: Recommender, held: Split) -> None:
    history, unmet = [3, 17, 5, 30], unmet_of(held)
    ids, k = model.items.id_list(history), len(unmet)
    explained = model.explain(ids, k=k, exclude_history=False)
    (recommended,) = model.recommend([ids], k, exclude_history=False)
    (allowed,) = model.recommend([ids], 5, allow=recommended.items[::2], exclude_history=False)
    (denied,) = model.recommend([ids], 5, deny=recommended.items[1::2], exclude_history=False)
    assert [each.item for each in explained.answer] == recommended.items
    assert [each.score for each in explained.answer] == pytest.approx(recommended.scores, abs=1e-4)
    assert allowed.items == denied.items == recommended.items[::2][:5]
    row = lists_batch([np.array(history)], model.method.window)
    scores = all_scores(model, row)[0].tolist()
    without = {each.item: each.model for each in explained.sums or []}
    assert explained.token_sums is not None
    seen = set()
    for each in explained.token_sums:
        item = int(model.items.index_of([each.item])[0])
        seen.add(item)
        assert each.unmet == (LIFT if unmet[item] else 0.0)
        assert each.score == pytest.approx(without.get(each.item, scores[item]), abs=1e-4)
        assert sum(token.score for token in each.tokens) + each.paths + each.unmet == pytest.approx(each.score)
    assert seen == set(range(k))
    said = " ".join(
        str(model.explain(ids, k=k, target=model.items.id_list([int(np.flatnonzero(unmet)[0])])[0])).split()
    )
    assert "lifted by 1.75 nats" in said


def test_a_path_alone_lists_them_likewise(folders: dict[str, Path]) -> None:
    model = load(folders["reg4rec"], device="cpu")
    hold_back(model.method, -100.0)
    explained = model.explain(model.items.id_list([3, 17, 5]), k=3, exclude_history=False)
    unmet = model.item_table["train_count"] == 0
    lifted = set(model.items.id_list(np.flatnonzero(unmet.to_numpy()).tolist()))
    assert explained.paths
    assert all(each.item in lifted for path in explained.paths for each in path.items)


def test_a_program_has_them(folders: dict[str, Path], held: Split) -> None:
    model = load(folders["rpg"], device="cpu")
    hold_back(model.method, -LIFT)
    batch = rows_of(held, model)
    program = ScoringProgram(model.method).eval()
    hold_back(model.method, 0.0)
    plain = library_scores(model.method, batch)
    with torch.inference_mode():
        scores = program(batch.items_BL, batch.lengths_B)
    torch.testing.assert_close(scores, plain + LIFT * torch.from_numpy(unmet_of(held)), atol=1e-4, rtol=0)  # type: ignore[operator]


# ---- what they are fitted by


@pytest.mark.parametrize("name", ["rpg", "reg4rec", "tiger"])
@pytest.mark.parametrize(("exclude", "further"), [(True, 0.0), (False, 0.0), (True, 3.0)])
def test_they_are_fitted_by_the_validation_part(
    name: str,
    exclude: bool,
    further: float,
    folders: dict[str, Path],
    held: Split,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scores of all items, held against each other case by case, with each number of nats; and those of a method that
    thinks so little of such items (`further` nats less) that they are to be lifted."""
    own = TokenItems.offsets

    def offsets(tokens: TokenItems) -> Tensor:
        assert tokens.met_N is not None
        said = own(tokens)
        return torch.where(tokens.met_N, 0.0, -further) + (0.0 if said is None else said)

    monkeypatch.setattr(TokenItems, "offsets", offsets)
    model, unmet = load(folders[name], device="cpu"), unmet_of(held)
    hold_back(model.method, 0.0)
    plain, targets = (
        all_scores(model, history_batch(held.valid.history, model.method.window)).numpy(),
        held.valid.targets,
    )
    scores = plain.astype(np.float64)
    met = held.valid.met
    for case in range(len(targets)) if exclude else ():
        scores[case, met.histories.items[met.starts[case] : met.ends[case]]] = -np.inf

    def judged(nats: float) -> tuple[float, float]:
        """NDCG@10 of all, recall@10 of met targets."""
        gains, hits = [], []
        for row, target in zip(scores, targets, strict=True):
            moved = np.where(unmet, row - nats, row)
            rank = 1 + (moved > moved[target]).sum() + ((moved == moved[target]).sum() - 1) / 2
            inside = rank <= 10 and np.isfinite(row[target])
            gains.append(1 / np.log2(rank + 1) if inside else 0.0)
            hits += [] if unmet[target] else [inside]
        return float(np.mean(gains)), float(np.mean(hits))

    least = (1 - MOST_LOST) * judged(1e6)[1]
    told = {nats: judged(nats) for nats in (*BACK, *(-nats for nats in BACK))}
    fair = {nats: gain for nats, (gain, hits) in told.items() if hits >= least}
    chosen = fit_unmet(model.method, held, exclude_history=exclude)
    assert chosen in fair or (not fair and chosen == BACK[-1])
    assert not fair or fair[chosen] == pytest.approx(max(fair.values()), abs=1e-3)
    assert nats_of(model) == chosen
    assert chosen < 0 or not further or name == "tiger"  # whose few epochs tell next to nothing


def nats_of(model: Recommender) -> float:
    assert isinstance(model.method, TokenMethod)
    return float(model.method.tokens.unmet_nats)


@pytest.mark.parametrize("name", ["rpg", "reg4rec", "tiger"])
def test_a_run_keeps_what_was_fitted(name: str, folders: dict[str, Path], held: Split) -> None:
    model = load(folders[name], device="cpu")
    kept = nats_of(model)
    hold_back(model.method, 0.0)
    assert fit_unmet(model.method, held, exclude_history=model.about["exclude_history"], seed=0) == kept


def test_a_share_of_paths_is_chosen_without_them(
    folders: dict[str, Path], held: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a finished run that goes on comes to the same again, and says it."""
    run, seen = load(folders["reg4rec"], device="cpu"), list[float]()
    kept = nats_of(run)
    hold_back(run.method, 3.0)
    monkeypatch.setattr(validation_fits, "load", lambda *_, **__: run)
    monkeypatch.setattr(validation_fits, "write_model", lambda *_: None)
    monkeypatch.setattr(REG4RecModel, "fit_on_validation", lambda *_: seen.append(nats_of(run)))
    watcher = Notes()
    validation_fits.fit_on_validation(run, held, held, {}, watcher)
    assert seen == [0.0]
    assert nats_of(run) == kept
    done = "lifted" if kept < 0 else "held back"
    assert watcher.said[-1].startswith(f"Items that training never met are {done} by {abs(kept):g} nats")


class Notes(Observer):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, sentence: str) -> None:
        self.said.append(sentence)


def test_without_items_held_out_nothing_stands_in(folders: dict[str, Path], held: Split, tmp_path: Path) -> None:
    model, whole = load(folders["rpg"], device="cpu"), leave_last_out(held.data)
    hold_back(model.method, 2.0)
    before = {name: tensor.clone() for name, tensor in model.method.state_dict().items()}
    assert fit_unmet(model.method, whole, exclude_history=True) == 0.0
    after = model.method.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if not name.endswith("unmet_nats"))
    assert nats_of(model) == 0.0
    assert nats_of(train(recipe("rpg"), whole, tmp_path / "run")) == 0.0


def test_a_training_scores_without_them(folders: dict[str, Path]) -> None:
    model = load(folders["rpg"], device="cpu")
    hold_back(model.method, -LIFT)
    tokens: Any = model.method.tokens
    assert tokens.offsets() is not None
    model.method.train()
    assert tokens.offsets() is None


# ---- runs of before and after


def test_weights_that_know_of_no_nats_are_read(folders: dict[str, Path]) -> None:
    model = load(folders["rpg"], device="cpu")
    weights = model.method.state_dict()
    hold_back(model.method, 1.0)
    model.method.load_state_dict({name: tensor for name, tensor in weights.items() if "unmet_nats" not in name})
    assert nats_of(model) == 0.0


@pytest.mark.parametrize("name", ["rpg", "reg4rec", "tiger"])
def test_items_that_join_have_them_too(name: str, folders: dict[str, Path], held: Split, tmp_path: Path) -> None:
    model, unmet = load(folders[name], device="cpu"), unmet_of(held)
    hold_back(model.method, -LIFT)
    known = model.item_table.select("item_id", "categories", "brand", "price")[3:5]
    new = known.with_columns(pl.Series("item_id", ["new one", "new two"]))
    more = extend(model, new, tmp_path / "more")
    assert nats_of(more) == -LIFT
    offsets_N = more.method.tokens.offsets()  # type: ignore[union-attr, operator]
    assert offsets_N.tolist() == [LIFT if gone else 0.0 for gone in [*unmet.tolist(), True, True]]


def test_a_training_from_such_a_run_begins_without_them(folders: dict[str, Path], held: Split, tmp_path: Path) -> None:
    """And ends so, as none of its items is held out."""
    run = train(recipe("rpg"), leave_last_out(held.data), tmp_path / "run", start=folders["rpg"])
    assert nats_of(run) == 0.0
