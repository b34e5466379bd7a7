"""What an explanation says, recomputed from the trace with whole matrices in numpy."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explained import HISTORY, TARGET, ids, rows, told

from forethought.backbones.hstu import HSTU
from forethought.config import Recipe
from forethought.data.batches import lists_batch
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.explaining.parts import (
    ItemRef,
)
from forethought.methods.dtrec import DTRec
from forethought.methods.lares import LARES, Reinforcement
from forethought.reasoning.halting import Halting, Rule
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.training.settings import Training


class Whole:
    """The states of a chain and the softmax over all items, as matrices in float64."""

    def __init__(self, model: Recommender) -> None:
        method: Any = model.method
        with torch.inference_mode():
            thought = method.user_states(lists_batch([np.array(HISTORY)], method.window), trace=True)
        final = thought.states_BD[0].double().numpy()
        self.steps = int(thought.steps_B[0])
        self.trace = thought.trace
        self.raw = final[None] if self.trace is None else self.trace.states_PSD[0].double().numpy()
        self.items = method.items.weight.detach().double().numpy()
        loss = method.items.loss
        states = np.vstack([self.raw, final])
        if loss.cosine:
            states = states / np.linalg.norm(states, axis=1, keepdims=True)
            self.items = self.items / np.linalg.norm(self.items, axis=1, keepdims=True)
        logits = states @ self.items.T / loss.temperature
        if method.items.bias is not None:
            logits += method.items.bias.detach().double().numpy()
        self.scores, self.states = logits * loss.temperature, states
        self.p = np.exp(logits - logits.max(1, keepdims=True))
        self.p /= self.p.sum(1, keepdims=True)

    def best(self, state: int, k: int, left_out: list[int]) -> list[int]:
        scores = self.scores[state].copy()
        scores[left_out] = -np.inf
        return np.argsort(-scores)[:k].tolist()


def near(value: Any) -> Any:
    return pytest.approx(value, rel=2e-4, abs=2e-5)


# ---- figures


def test_certainty_and_movement(model: Recommender) -> None:
    whole, said = Whole(model), told(model)
    assert [step.step for step in said.steps] == list(range(len(whole.raw)))
    for t, step in enumerate(said.steps):
        p = whole.p[t]
        entropy = -(p * np.log(p)).sum()
        assert step.entropy_nats == near(entropy)
        assert step.entropy == near(entropy / math.log(len(p)))
        assert step.on_history == near(p[sorted(set(HISTORY))].sum())
        if t == 0:
            assert (step.consistency, step.change, step.halt, step.read) == (None, None, None, None)
            continue
        before = whole.p[t - 1]
        assert step.consistency == near((before * np.log(before / p)).sum())
        assert step.change == near(np.linalg.norm(whole.raw[t] - whole.raw[t - 1]))


@pytest.mark.parametrize("exclude", [True, False])
def test_best_items_scores_and_ranks(model: Recommender, exclude: bool) -> None:
    whole, said = Whole(model), told(model, k=4, exclude_history=exclude)
    left_out = HISTORY if exclude else []
    union = {TARGET}
    for t, items in enumerate([*(step.items for step in said.steps), said.answer]):
        best = whole.best(t, 4, left_out)
        assert rows(model, items) == best
        assert [each.score for each in items] == near(whole.scores[t, best].tolist())
        assert [each.probability for each in items] == near(whole.p[t, best].tolist())
        union |= set(best)
    moved = rows(model, said.movements)
    assert set(moved) == union
    scores = whole.scores.copy()
    scores[:, left_out] = -np.inf
    for item, movement in zip(moved, said.movements, strict=True):
        ranks = (1 + (scores > scores[:, [item]]).sum(1)).tolist()
        assert [*movement.ranks, movement.rank] == ranks
    assert [m.rank for m in said.movements] == sorted(m.rank for m in said.movements if m.rank is not None)
    assert said.target == ItemRef(ids(model, [TARGET])[0], said.movements[moved.index(TARGET)].title)


def test_the_answer_is_what_is_recommended(model: Recommender) -> None:
    for halting in (None, Halting(rule="fixed", max_steps=1)) if len(told(model).steps) > 1 else (None,):
        said, batch = told(model, halting=halting), lists_batch([np.array(HISTORY)], model.method.window)
        with torch.inference_mode():
            state = model.method.user_states(batch, halting).states_BD
        scores = state.double().numpy() @ Whole(model).items.T
        method: Any = model.method
        if method.items.bias is not None:
            scores = scores + method.items.bias.detach().double().numpy()
        scores[:, HISTORY] = -np.inf
        assert rows(model, said.answer) == np.argsort(-scores[0])[:5].tolist()
    (found,) = model.recommend([ids(model, HISTORY)], k=5)
    assert [each.item for each in told(model).answer] == found.items
    assert [each.score for each in told(model).answer] == pytest.approx(found.scores, abs=1e-6)


def test_a_step_answers_or_several_do(models: dict[str, Recommender]) -> None:
    assert told(models["plain"]).answer_step == 0
    assert told(models["prl"]).answer_step == 2
    assert told(models["erl"]).answer_step is None
    assert told(models["dtrec"], halting=Halting(rule="fixed")).answer_step == 3
    assert told(models["dtrec"], halting=Halting(rule="soft")).answer_step is None


def test_a_state_of_nothing_has_no_best_items(split: Split, quick: Training, tmp_path: Path) -> None:
    config = LARES(width=16, window=8, ffn_width=32, reinforcement=Reinforcement(epochs=1))
    model = train(Recipe(method=config, training=replace(quick, epochs=1)), split, tmp_path / "run")
    said = told(model)
    assert [len(step.items) for step in said.steps] == [0, 5, 5, 5]
    assert said.steps[0].entropy == pytest.approx(1.0)
    assert {movement.ranks[0] for movement in said.movements} == {(1 + 40 - len(set(HISTORY))) / 2}


# ---- halting


@pytest.mark.parametrize(
    ("rule", "thresholds"),
    [
        ("arh", (0.0, 0.3, 0.5, 0.7, 1.0)),
        ("change", (0.0, 0.2, 0.5, 9.0)),
        ("entropy", (0.5, 0.9, 1.0)),
        ("doubt", (0.5, 0.9, 1.0)),
    ],
)
@pytest.mark.parametrize("name", ["dtrec", "dtrec of dot products"])
def test_the_exit_is_the_hard_exit(
    models: dict[str, Recommender], name: str, rule: Rule, thresholds: tuple[float, ...]
) -> None:
    """Without the trace, rows that halt leave the batch; with it, all steps are seen and the exit is marked."""
    model, depths = models[name], set()
    histories = [[3, 17, 5], [1], [30, 2, 9, 11, 8], [20, 21], [39, 0, 7]]
    for threshold in thresholds:
        halting = Halting(rule=rule, threshold=threshold)
        with torch.inference_mode():
            batch = lists_batch([np.array(h) for h in histories], model.method.window)
            hard = model.method.user_states(batch, halting).steps_B.tolist()
        for history, steps in zip(histories, hard, strict=True):
            said = model.explain(ids(model, history), halting=halting)
            assert said.halting == replace(halting, max_steps=3)
            assert [step.stopped for step in said.steps] == [t == steps for t in range(4)]
            assert [step.taken for step in said.steps] == [t <= steps for t in range(4)]
            assert said.answer_step == steps
            assert said.answer == said.steps[steps].items
        depths |= set(hard)
    assert {1, 3} <= depths


def test_what_the_net_read_and_said(dtrec: Recommender) -> None:
    trace = Whole(dtrec).trace
    for t, step in enumerate(told(dtrec).steps[1:]):
        assert step.halt == pytest.approx(float(trace.halts_PT[0, t]))
        assert step.read is not None
        assert list(step.read.values()) == pytest.approx(trace.indicators_PT3[0, t].tolist())
        assert list(step.read) == ["entropy", "consistency", "change"]


def test_fewer_steps_and_none(dtrec: Recommender) -> None:
    assert len(told(dtrec, halting=Halting(max_steps=2)).steps) == 3
    said = told(dtrec, halting=Halting(max_steps=0))
    assert len(said.steps) == 1
    assert said.answer == said.steps[0].items


# ---- centroids


def test_prototypes_and_what_typifies_them(models: dict[str, Recommender]) -> None:
    for name in ("dtrec", "dtrec of dot products"):
        model = models[name]
        whole, said, method = Whole(model), told(model), model.method
        assert isinstance(model.config.method, DTRec)
        categories = model.item_table["categories"].to_list()
        assert said.steps[0].centroids == []
        for t, step in enumerate(said.steps[1:]):
            prototypes: Any = method.get_submodule("prototypes")
            centres, sizes = (each.double().numpy() for each in prototypes.level(t))
            centres, cluster = centres[:, :16], prototypes.cluster_TN[t].numpy()
            state = whole.states[t + 1]
            cosines = centres @ state / np.linalg.norm(centres, axis=1) / np.linalg.norm(state)
            order = [k for k in np.argsort(-cosines).tolist() if sizes[k]][:3]
            assert [each.number for each in step.centroids] == order
            assert step.n_centroids == (sizes > 0).sum()
            for each in step.centroids:
                members = np.flatnonzero(cluster == each.number)
                assert each.size == len(members)
                assert each.similarity == near(cosines[each.number])
                assert each.probability == near(whole.p[t + 1, members].sum())
                unit = whole.items[members] / np.linalg.norm(whole.items[members], axis=1, keepdims=True)
                assert rows(model, each.central) == members[np.argsort(-(unit @ centres[each.number]))[:3]].tolist()
                assert each.category is not None
                inside = sum(each.category.label in categories[m] for m in members) / len(members)
                overall = sum(each.category.label in labels for labels in categories) / len(categories)
                assert (each.category.share, each.category.overall) == (near(inside), near(overall))


def test_methods_without_landmarks_have_none(models: dict[str, Recommender]) -> None:
    for name in ("plain", "prl", "erl"):
        said = told(models[name])
        assert said.centroid is None
        assert [step.centroids for step in said.steps] == [[]] * len(said.steps)


def test_intents_lead_to_what_the_model_would_recommend_by_them_alone(models: dict[str, Recommender]) -> None:
    model = models["igr-sr"]
    said, method = told(model, exclude_history=True), model.method
    with torch.inference_mode():
        thought = method.user_states(lists_batch([np.array(HISTORY)], method.window), trace=True)
    intents = method.intent_weights(thought)
    assert intents is not None
    items: Any = method.items
    unit = torch.nn.functional.normalize(items.weight.detach(), dim=-1)
    assert [intent.number for intent in said.intents] == [0, 1, 2, 3]
    assert sum(intent.weight for intent in said.intents) == near(1.0)
    categories = model.item_table["categories"].to_list()
    for intent, leaning, state in zip(said.intents, intents.weights_BM[0], intents.alone_BMD[0], strict=True):
        assert intent.weight == near(leaning.item())
        p = (unit @ state / items.loss.temperature).double().softmax(0).numpy()
        order = [i for i in np.argsort(-p).tolist() if i not in HISTORY]
        assert rows(model, intent.items) == order[:3]
        assert [item.probability for item in intent.items] == [near(p[i]) for i in order[:3]]
        if intent.category is not None:
            inside = sum(intent.category.label in categories[i] for i in order[:20]) / 20
            assert intent.category.share == near(inside)
    text = str(said)
    assert "Intents" in text
    assert f"{max(intent.weight for intent in said.intents):.0%}" in text
    assert all(told(models[name]).intents == [] for name in ("plain", "dtrec"))


# ---- wrong input


def test_wrong_input(models: dict[str, Recommender]) -> None:
    model, known = models["dtrec"], ids(models["dtrec"], HISTORY)
    for history, sentence in (
        ([], "^The history is empty: give at least one item.$"),
        ([*known, "nobody"], "^The history has items that the model does not know: 'nobody'; ids look like"),
        ("i00003", "^A history is a list of item ids"),
        (7, "^A history is a list of item ids"),
    ):
        with pytest.raises(DataError, match=sentence):
            model.explain(history)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no item that the model knows, so there is nothing to explain"):
        model.explain(["nobody"], unknown="drop")
    assert model.explain([*known, "nobody"], unknown="drop").dropped == ["nobody"]
    with pytest.raises(DataError, match="The target 'nobody' is no item that the model knows; ids look like 'i"):
        model.explain(known, target="nobody")
    for k in (0, 2.5, True):
        with pytest.raises(ConfigError, match="must be a whole number from 1 to"):
            model.explain(known, k=k)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="was trained to think 3 steps"):
        model.explain(known, halting=Halting(max_steps=4))
    with pytest.raises(ConfigError, match="does not reason, so there is nothing to halt"):
        models["plain"].explain(known, halting=Halting())
    assert len(model.explain(known, k=1000).answer) == 40 - len(set(HISTORY))


def test_models_that_read_times(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> None:
    backbone = HSTU(width=16, layers=1, head_width=8, window=8)
    model = train(
        Recipe(method=backbone, training=replace(quick, epochs=1)), split, tmp_path_factory.mktemp("hstu") / "run"
    )
    known = ids(model, HISTORY)
    with pytest.raises(DataError, match=r"reads the time of each interaction: .* times=\.\.\. "):
        model.explain(known)
    with pytest.raises(DataError, match=r"^The history has 5 items but 2 times: give one time an item\.$"):
        model.explain(known, times=[1, 2])
    (found,) = model.recommend([known], k=5, times=[[1, 2, 3, 4, 50]])
    assert [each.item for each in model.explain(known, times=[1, 2, 3, 4, 50]).answer] == found.items
