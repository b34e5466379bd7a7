"""An answer with evidence: the one that `recommend` gives, as a sum that another computation comes to as well."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.sasrec import SASRec
from forethought.config import MethodConfig, Recipe
from forethought.data.batches import lists_batch
from forethought.data.evidence import Evidence
from forethought.data.splits import Split
from forethought.ensembling import ensemble
from forethought.explaining.explanation import Explanation
from forethought.explaining.parts import Contribution, ItemSum
from forethought.methods.dtrec import DTRec
from forethought.methods.igr_sr import IGRSR
from forethought.methods.items import ItemLoss
from forethought.methods.lares import LARES, Reinforcement
from forethought.methods.lightrec import LightRec
from forethought.methods.masked_item import MaskedItem
from forethought.methods.next_item import NextItem
from forethought.methods.rearec import ReaRec
from forethought.methods.sse_pt import SSEPT
from forethought.reasoning.halting import Halting
from forethought.reasoning.intent_reasoner import Reasoner
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.training.settings import Training

BACKBONE = SASRec(width=16, layers=1, window=8, ffn_width=32)
FEW: dict[str, Any] = {"first_clusters": 4, "most_clusters": 12}
DOT = ItemLoss(cosine=False, temperature=1.0, bias=True)
METHODS: dict[str, MethodConfig] = {
    "plain": NextItem(backbone=BACKBONE),
    "dot products": NextItem(backbone=BACKBONE, loss=DOT),
    "masked": MaskedItem(backbone=BERT4Rec(width=16, layers=1, window=9, ffn_width=32)),
    "prl": ReaRec(backbone=BACKBONE, learning="prl"),
    "erl": ReaRec(backbone=BACKBONE, learning="erl"),
    "dtrec": DTRec(backbone=BACKBONE, **FEW),
    "lares": LARES(width=16, window=8, ffn_width=32, reinforcement=Reinforcement(epochs=1)),
    "igr-sr": IGRSR(backbone=BACKBONE, reasoner=Reasoner(width=16, ffn_width=32)),
    "sse-pt": SSEPT(backbone=replace(BACKBONE, width=32), user_width=16),
    "lightrec": LightRec(backbone=BACKBONE),
}
WEIGHTS = (2.0, 1.5, 0.5)
HISTORY = [3, 17, 5, 3, 30, 8, 30, 12]
TARGET = 11


@pytest.fixture(scope="module")
def models(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recommender]:
    """One of each kind, with three kinds of evidence, which speak loudly."""
    folder, made = tmp_path_factory.mktemp("summed"), {}
    vectors = np.random.default_rng(0).normal(size=(len(split.data.item_table), 6)).astype(np.float32)
    np.save(folder / "shape.npy", vectors)
    evidence = Evidence(
        use=f"co_occurrence,{folder / 'shape.npy'},repeat", likenesses=10, last=6, recency=0.7, window=4
    )
    for name, config in METHODS.items():
        recipe = Recipe(method=config, training=replace(quick, epochs=1), evidence=evidence)
        made[name] = train(recipe, split, folder / name)
        spoken: Any = made[name].method.evidence
        spoken.weights_E.data = torch.tensor(WEIGHTS)
        made[name].method.begin_epoch(5)
    return made


@pytest.fixture(params=METHODS)
def model(request: pytest.FixtureRequest, models: dict[str, Recommender]) -> Recommender:
    return models[request.param]


def ids(model: Recommender, rows: list[int]) -> list[Any]:
    return model.items.id_list(rows)


def row(model: Recommender, item: Any) -> int:
    return int(model.items.index_of([item])[0])


def told(model: Recommender, history: list[int] = HISTORY, **choices: Any) -> Explanation:
    return model.explain(ids(model, history), target=ids(model, [TARGET])[0], **choices)


def states(model: Recommender, halting: Halting | None = None) -> torch.Tensor:
    with torch.inference_mode():
        represented: Any = model.method.user_states(lists_batch([np.array(HISTORY)], model.method.window), halting)
    return represented.states_BD


def alone(model: Recommender, halting: Halting | None = None) -> np.ndarray:
    """The model's own scores, of whole matrices in float64."""
    with torch.inference_mode():
        catalogue = model.method.catalogue()
        items, state = catalogue.vectors_ND.double(), states(model, halting)[0].double()
        if catalogue.cosine:
            items = torch.nn.functional.normalize(items, dim=-1)
        bias = 0.0 if catalogue.bias_N is None else catalogue.bias_N.double() * catalogue.temperature
        return (items @ state + bias).numpy()


def speaks(model: Recommender, history: list[int], gates: np.ndarray | None = None) -> list[np.ndarray]:
    """By the textbook, what each place of a history adds to the scores of all items, [L, N], kind after kind."""
    evidence: Any = model.method.evidence
    temperature, n = model.method.catalogue().temperature, evidence.n_items
    read, at, found = history[-evidence.last :], 0, []
    for e, shape in enumerate(evidence.shapes):
        columns = slice(at, at + shape.neighbours)
        table, at = np.zeros((n, n)), at + shape.neighbours
        for j in range(n):
            items = zip(evidence.items_NK[j, columns].tolist(), evidence.values_NK[j, columns].tolist(), strict=True)
            for i, value in items:
                table[j, i] += value
        parts = np.array([evidence.recency ** (len(read) - 1 - at) * table[j] for at, j in enumerate(read)])
        total = parts.sum(0)
        parts[:, total < 0.2 * total.max()] = 0.0
        weight = evidence.weights_E[e].item() * (1.0 if gates is None else gates[e])
        found.append(weight * temperature * parts / max(total.max(), 1e-12))
    return found


def read_by(model: Recommender) -> list[int]:
    """The history as the method reads it."""
    return HISTORY[-model.method.window :]


def near(value: Any) -> Any:
    return pytest.approx(value, rel=2e-4, abs=2e-5)


# ---- the answer


@pytest.mark.parametrize("exclude", [True, False])
def test_the_answer_is_what_is_recommended(model: Recommender, exclude: bool) -> None:
    """Items, scores and ranks; with the whole catalogue the ranks are the places."""
    k = len(model.items)
    for halting in (None, Halting(rule="fixed", max_steps=1)) if len(told(model).steps) > 1 else (None,):
        (found,) = model.recommend([ids(model, HISTORY)], k=k, exclude_history=exclude, halting=halting)
        said = told(model, k=k, exclude_history=exclude, halting=halting)
        assert [each.item for each in said.answer] == found.items
        assert [each.score for each in said.answer] == pytest.approx(found.scores, abs=1e-6)
        ranks = {moved.item: moved.rank for moved in said.movements}
        listed = np.array(found.scores)
        for item, score in zip(found.items, found.scores, strict=True):
            assert ranks[item] == 1 + (listed > score).sum() + ((listed == score).sum() - 1) / 2


def test_probabilities_and_certainty_are_those_of_the_sum(model: Recommender) -> None:
    said, temperature = told(model), model.method.catalogue().temperature
    logits = (alone(model) + sum(each.sum(0) for each in speaks(model, read_by(model)))) / temperature
    p = np.exp(logits - logits.max())
    p /= p.sum()
    for each in said.answer:
        assert each.probability == near(p[row(model, each.item)])
    entropy = -(p * np.log(p)).sum()
    assert said.certainty is not None
    assert said.certainty.entropy_nats == near(entropy)
    assert said.certainty.entropy == near(entropy / math.log(len(p)))
    assert said.certainty.on_history == near(p[sorted(set(HISTORY))].sum())


def test_steps_are_the_models_own(model: Recommender) -> None:
    """As of the same weights without evidence, and so is each item's rank by the model alone."""
    evidence, model.method.evidence = model.method.evidence, None
    try:
        without = told(model, k=9)
    finally:
        model.method.evidence = evidence
    said = told(model, k=9)
    assert said.steps == without.steps
    assert (said.answer_step, said.intents) == (without.answer_step, without.intents)
    assert (without.evidence, without.sums, without.contributions, without.certainty) == ([], None, None, None)
    of = {moved.item: moved for moved in without.movements}
    both = [moved for moved in said.movements if moved.item in of]
    assert len(both) > 8
    assert [moved.ranks for moved in both] == [of[moved.item].ranks for moved in both]
    assert said.sums is not None
    assert [each.model_rank for each in said.sums if each.item in of] == [of[moved.item].rank for moved in both]


# ---- the sum


def test_a_score_is_the_sum_of_the_model_and_all_that_speaks(model: Recommender) -> None:
    said = told(model, exclude_history=False)
    scores, speaking = alone(model), speaks(model, read_by(model))
    assert said.sums is not None
    assert said.contributions is not None
    assert len(said.sums) == len(said.contributions) == len(said.movements)
    assert any(each.by == kind.name for row in said.contributions for each in row for kind in said.evidence)
    score_of = {each.item: each.score for each in said.answer}
    for whole, contributions, moved in zip(said.sums, said.contributions, said.movements, strict=True):
        item = row(model, whole.item)
        assert whole.item == moved.item
        assert whole.model == near(scores[item])
        assert whole.score == near(whole.model + sum(each.score for each in contributions))
        assert whole.score == near(score_of.get(whole.item, whole.score))
        for kind, parts in zip(said.evidence, speaking, strict=True):
            _check_kind(model, kind.name, whole, parts[:, item], contributions)
        assert contributions == sorted(contributions, key=lambda each: -each.score)


def _check_kind(
    model: Recommender, kind: str, whole: ItemSum, parts_L: np.ndarray, contributions: list[Contribution]
) -> None:
    """An item that stands there twice speaks once, with all that it adds."""
    evidence: Any = model.method.evidence
    wanted: dict[Any, float] = {}
    for item, score in zip(ids(model, read_by(model)[-evidence.last :]), parts_L.tolist(), strict=True):
        wanted[item] = wanted.get(item, 0.0) + score
    assert whole.added[kind] == near(parts_L.sum())
    told_of = {each.item: each.score for each in contributions if each.by == kind}
    assert told_of == near({item: score for item, score in wanted.items() if score})


def test_what_is_counted_is_what_stands_in_the_training_part(models: dict[str, Recommender], split: Split) -> None:
    """Pair by pair: places of both items in one history, at most four apart."""
    model = models["plain"]
    said = told(model, k=len(model.items), exclude_history=False)
    rows = [
        split.train.histories.items[a:b].tolist() for a, b in zip(split.train.starts, split.train.ends, strict=True)
    ]
    assert said.contributions is not None
    counted = 0
    for whole, contributions in zip(said.movements, said.contributions, strict=True):
        i = row(model, whole.item)
        for each in contributions:
            j = row(model, each.item)
            if each.by != "co_occurrence":
                assert (each.met, each.near) == (None, None)
                assert (each.cosine is None) == (each.by == "repeat")
                continue
            assert each.cosine is None
            assert each.met == sum(history.count(j) for history in rows)
            pairs = [
                abs(a - b) <= 4
                for history in rows
                for a, x in enumerate(history)
                for b, y in enumerate(history)
                if (x, y) == (j, i)
            ]
            assert each.near == sum(pairs)
            counted += 1
    assert counted > 20


def test_cosines_are_those_of_the_vectors(models: dict[str, Recommender], split: Split) -> None:
    model = models["plain"]
    vectors = np.random.default_rng(0).normal(size=(len(split.data.item_table), 6)).astype(np.float32)
    if "source_row" in split.data.item_table.columns:
        vectors = vectors[split.data.item_table["source_row"].to_numpy()]
    vectors -= vectors.mean(0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    said = told(model, k=len(model.items), exclude_history=False)
    assert said.contributions is not None
    found = [
        (each.cosine, unit[row(model, each.item)] @ unit[row(model, whole.item)])
        for whole, contributions in zip(said.movements, said.contributions, strict=True)
        for each in contributions
        if each.by == "shape"
    ]
    assert len(found) > 20
    for got, wanted in found:
        assert got == near(wanted)


def test_a_gate_is_part_of_the_weight(split: Split, quick: Training, tmp_path: Path) -> None:
    evidence = Evidence(use="co_occurrence,repeat", fit="training", gate=True)
    model = train(Recipe(method=METHODS["plain"], training=quick, evidence=evidence), split, tmp_path / "run")
    spoken: Any = model.method.evidence
    spoken.weights_E.data = torch.tensor([2.0, 0.5])
    spoken.gate_ED.data = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    gates = np.exp(spoken.gate_ED.detach().double().numpy() @ states(model)[0].double().numpy())
    said, temperature = told(model), model.method.catalogue().temperature
    assert [kind.gate for kind in said.evidence] == near(gates.tolist())
    assert [kind.weight for kind in said.evidence] == [2.0, 0.5]
    assert [kind.most for kind in said.evidence] == near((np.array([2.0, 0.5]) * gates * temperature).tolist())
    total = sum(parts.sum(0) for parts in speaks(model, read_by(model), gates))
    (found,) = model.recommend([ids(model, HISTORY)], k=5)
    assert [each.item for each in said.answer] == found.items
    assert said.sums is not None
    for whole in said.sums:
        assert whole.score - whole.model == near(total[row(model, whole.item)])
        assert sum(whole.added.values()) == near(total[row(model, whole.item)])
    assert f"x gate {gates[0]:.2f}" in " ".join(str(said).split())


def test_an_ensemble_is_explained_by_what_speaks_with_its_members(
    models: dict[str, Recommender], split: Split, quick: Training, tmp_path: Path
) -> None:
    """Two that read as much, one that reads less, one that hears nothing; kinds of one name are one."""
    evidence = Evidence(use="co_occurrence", fit="training", gate=True, last=6, recency=0.7, window=4)
    short = NextItem(backbone=replace(BACKBONE, window=3), loss=DOT)
    gated = train(Recipe(method=short, training=quick, evidence=evidence), split, tmp_path / "gated")
    spoken: Any = gated.method.evidence
    spoken.gate_ED.data = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    deaf = train(Recipe(method=BACKBONE, training=quick, seed=1), split, tmp_path / "deaf")
    members = [models["plain"], models["prl"], gated, deaf]
    model = ensemble(members, tmp_path / "four")
    said = told(model)
    (found,) = model.recommend([ids(model, HISTORY)], k=5)
    assert [each.item for each in said.answer] == found.items
    assert [each.score for each in said.answer] == pytest.approx(found.scores, abs=1e-5)
    assert [kind.name for kind in said.evidence] == ["co_occurrence", "shape", "repeat"]
    total = np.zeros(len(model.items))
    for member in members[:3]:
        state = states(member)[0].double().numpy()
        gates = None if member is not gated else np.exp(spoken.gate_ED.detach().double().numpy() @ state)
        parts = speaks(member, read_by(member), gates)
        total += sum(each.sum(0) for each in parts) / member.method.catalogue().temperature / len(members)
    assert said.sums is not None
    assert said.contributions is not None
    for whole, contributions in zip(said.sums, said.contributions, strict=True):
        assert whole.score - whole.model == pytest.approx(total[row(model, whole.item)], abs=1e-4)
        assert sum(whole.added.values()) == pytest.approx(total[row(model, whole.item)], abs=1e-4)
        assert len({(each.item, each.by) for each in contributions}) == len(contributions)
    assert max(total) > 0.1
    assert "co-occurrence" in str(said)


def test_ease_speaks_without_a_cosine(split: Split, quick: Training, tmp_path: Path) -> None:
    evidence = Evidence(use="ease")
    model = train(Recipe(method=METHODS["plain"], training=quick, evidence=evidence), split, tmp_path / "run")
    spoken: Any = model.method.evidence
    spoken.weights_E.data = torch.tensor([3.0])
    said = told(model)
    assert said.contributions is not None
    of_ease = [each for contributions in said.contributions for each in contributions]
    assert len(of_ease) > 3
    assert {(each.by, each.met, each.near, each.cosine) for each in of_ease} == {("ease", None, None, None)}


def test_what_is_popular_speaks_for_itself(split: Split, quick: Training, tmp_path: Path) -> None:
    evidence = Evidence(use="popular,co_occurrence", most_popular=10, weeks=2.0)
    recipe = Recipe(method=METHODS["plain"], training=replace(quick, epochs=1), evidence=evidence)
    model = train(recipe, split, tmp_path / "run")
    spoken: Any = model.method.evidence
    spoken.weights_E.data = torch.tensor([3.0, 0.5])
    said = told(model, k=12, exclude_history=False)
    assert [(kind.name, kind.read, kind.weeks) for kind in said.evidence] == [
        ("popular", 0, 2.0),
        ("co_occurrence", 8, None),
    ]
    times = split.train.histories.times
    assert times is not None
    inside = split.train.inside()
    late = inside & (times > times[inside].max() - 14 * 86_400)
    counts = np.bincount(split.train.histories.items[late], minlength=len(model.items))
    assert said.contributions is not None
    assert said.sums is not None
    of_itself = 0
    for whole, contributions in zip(said.sums, said.contributions, strict=True):
        assert whole.score == near(whole.model + sum(each.score for each in contributions))
        for each in contributions:
            if each.by == "popular":
                assert (each.item, each.met) == (whole.item, counts[row(model, whole.item)])
                assert (each.near, each.cosine) == (None, None)
                of_itself += 1
    assert of_itself > 3
    text = " ".join(str(said).split())
    best = next(each for row_of in said.contributions for each in row_of if each.by == "popular")
    assert f"popular: {best.score:+.3f} met {best.met}" in text
    assert "Popular: met so many times in the last 2 weeks of training." in text
    assert "The last 8 items speak" in text


# ---- its form


def test_a_frame_adds_up_and_shows_the_answer_in_order(model: Recommender) -> None:
    explanation = told(model, k=4)
    frame = explanation.to_frame()
    assert frame["item_id"].to_list() == [each.item for each in explanation.answer]
    assert frame["place"].to_list() == [1, 2, 3, 4]
    added = [sum(row) for row in frame.select("model", "^added_.*$").rows()]
    assert added == pytest.approx(frame["score"].to_list(), abs=1e-5)
    assert frame[f"rank_{len(explanation.steps) - 1}"].null_count() == 0
    assert "<pre" in explanation._repr_html_()


def test_text_and_json_have_all_of_it(model: Recommender) -> None:
    said = told(model)
    text, plain = str(said), json.loads(json.dumps(said.to_json(), allow_nan=False))
    assert plain == said.to_json()
    assert [kind["name"] for kind in plain["evidence"]] == ["co_occurrence", "shape", "repeat"]
    assert [kind["weight"] for kind in plain["evidence"]] == list(WEIGHTS)
    assert plain["evidence"][0]["window"] == 4
    assert plain["evidence"][1]["window"] is None
    assert max(map(len, text.splitlines())) <= 100
    text = " ".join(text.split())
    assert "Sums" in text
    assert "What speaks for them" in text
    assert "at most 4 places from it" in text
    assert "Evidence is added to it" in text
    assert ("steps are the model's own" in text) == (len(said.steps) > 1)
    assert "answer*" in text
    assert said.certainty is not None
    assert f"{said.certainty.entropy_nats:.2f} nats" in text
    for whole in (said.sums or [])[:5]:
        assert f"{whole.score:.3f}" in text
        assert f"{whole.model:.3f}" in text


def test_evidence_of_no_weight_says_so(models: dict[str, Recommender]) -> None:
    spoken: Any = models["plain"].method.evidence
    spoken.weights_E.data = torch.zeros(3)
    try:
        said = told(models["plain"])
    finally:
        spoken.weights_E.data = torch.tensor(WEIGHTS)
    assert (said.sums, said.contributions, said.certainty) == (None, None, None)
    assert [kind.most for kind in said.evidence] == [0.0, 0.0, 0.0]
    assert said.answer == said.steps[0].items
    assert "Evidence adds nothing: all its weights are 0." in " ".join(str(said).split())


def test_nobody_speaks_for_anything(split: Split, quick: Training, tmp_path: Path) -> None:
    """Of a history whose items have no neighbours the answer is the model's."""
    recipe = Recipe(method=METHODS["plain"], training=quick, evidence=Evidence(use="co_occurrence"))
    model = train(recipe, split, tmp_path / "run")
    spoken: Any = model.method.evidence
    spoken.weights_E.data = torch.ones(1)
    spoken.values_NK.zero_()
    said = told(model)
    assert [each.item for each in said.answer] == [each.item for each in said.steps[0].items]
    assert said.sums is not None
    assert [each.added for each in said.sums] == [{"co_occurrence": 0.0}] * len(said.sums)
    assert "the model alone" in str(said)
