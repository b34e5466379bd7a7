"""What an explanation says of tokens, recomputed item by item; and users who want a category, or a token not."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from forethought import references
from forethought.backbones.sasrec import SASRec
from forethought.config import MethodConfig, Recipe
from forethought.data.batches import lists_batch
from forethought.data.evidence import Evidence
from forethought.data.features import Features
from forethought.data.splits import Split
from forethought.decoding.beam import BeamSettings
from forethought.errors import ConfigError
from forethought.explaining.explanation import Explanation
from forethought.methods.reg4rec import REG4Rec, REG4RecModel
from forethought.methods.rpg import RPG
from forethought.methods.tiger import TIGER
from forethought.reasoning.halting import Halting
from forethought.recommender import Recommender, load
from forethought.reports.trajectory import write_trajectory
from forethought.runs import train
from forethought.semantic_ids.mpq import MPQ
from forethought.semantic_ids.rq_vae import RQVAE
from forethought.training.settings import Training

BACKBONE = SASRec(width=16, layers=1, window=8, ffn_width=32, input_norm=True)
TOKENS = {"tokenizer": MPQ(codebooks=4, size=8, hidden=8, epochs=2, continuous=1, batch=64, components=6)}
UNPRUNED = BeamSettings(beams=3, corp=False)
METHODS: dict[str, MethodConfig] = {
    "rpg": RPG(backbone=BACKBONE, **TOKENS),
    "reg4rec": REG4Rec(backbone=BACKBONE, steps=2, decoding=BeamSettings(beams=5, theta=0.0005), **TOKENS),
    "decoder": REG4Rec(backbone=BACKBONE, steps=4, decoder_layers=1, decoding=UNPRUNED, **TOKENS),
}
TIGER_TOKENS = RQVAE(codebooks=3, size=8, hidden=8, latent=8, epochs=2, batch=64, continuous=1, collisions="greedy")
SEARCHED = TIGER(width=16, window=8, encoder_layers=1, decoder_layers=1, ffn_width=32, beams=8, tokenizer=TIGER_TOKENS)
HISTORY, TARGET, WEIGHT = [3, 17, 5, 3, 30], 11, 2.0


@pytest.fixture(scope="module")
def models(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recommender]:
    """One of each kind, and one with evidence; weights made larger, so that mistakes show."""
    folder, made = tmp_path_factory.mktemp("tokens"), {}
    short = replace(quick, epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(references, "LEAST_OF_A_CATEGORY", 3)  # of 40 items
        for name, config in (METHODS | {"tiger": SEARCHED}).items():
            made[name] = train(Recipe(method=config, training=short, features=Features()), split, folder / name)
    said = {"evidence": Evidence(use="co_occurrence", fit="validation"), "features": Features()}
    made["with evidence"] = train(
        Recipe(method=METHODS["reg4rec"], training=short, **said), split, folder / "with evidence"
    )
    for name, model in made.items():
        torch.manual_seed(0)
        for parameter in model.method.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
        if isinstance(model.method, REG4RecModel):
            model.method.path_share.fill_(1.0)  # paths that differ
        if name == "with evidence":
            assert model.method.evidence is not None
            for weight in model.method.evidence.parameters():
                weight.data.fill_(WEIGHT)
    return made


@pytest.fixture(params=[*METHODS, "with evidence", "tiger"])
def model(request: pytest.FixtureRequest, models: dict[str, Recommender]) -> Recommender:
    return models[request.param]


@pytest.fixture(params=[*METHODS, "with evidence"])
def mixture(request: pytest.FixtureRequest, models: dict[str, Recommender]) -> Recommender:
    """Whose scores are sums over paths."""
    return models[request.param]


@pytest.fixture
def reg4rec(models: dict[str, Recommender]) -> Recommender:
    return models["reg4rec"]


def ids(model: Recommender, rows: list[int]) -> list[Any]:
    return model.items.id_list(rows)


def told(model: Recommender, **choices: Any) -> Explanation:
    return model.explain(ids(model, HISTORY), **choices)


def states(model: Recommender, **choices: Any) -> Any:
    method = model.method
    with torch.inference_mode():
        return method.represent(lists_batch([np.array(HISTORY)], method.window), trace=True, **choices)


def row(model: Recommender, item: Any) -> int:
    return int(model.items.index_of([item])[0])


# ---- the answer


@pytest.mark.parametrize("exclude", [True, False])
def test_the_answer_is_what_is_recommended(model: Recommender, exclude: bool) -> None:
    explained = told(model, k=7, exclude_history=exclude)
    (wanted,) = model.recommend([ids(model, HISTORY)], 7, exclude_history=exclude)
    assert [each.item for each in explained.answer] == wanted.items
    assert [each.score for each in explained.answer] == pytest.approx(wanted.scores, abs=1e-5)
    assert explained.history_excluded is exclude
    assert [move.rank for move in explained.movements] == list(range(1, 8))


def test_probabilities_are_those_of_the_candidates(model: Recommender) -> None:
    explained = told(model, k=len(model.items), exclude_history=True)
    logits = np.array([each.score for each in explained.answer])
    assert len(logits) == len(model.items) - len(set(HISTORY))
    p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert [each.probability for each in explained.answer] == pytest.approx(p, abs=1e-5)
    assert explained.certainty is not None
    assert explained.certainty.entropy_nats == pytest.approx(-(p * np.log(p)).sum(), abs=1e-4)
    (whole,) = model.recommend([ids(model, HISTORY)], len(model.items), exclude_history=False)
    every = dict(zip(whole.items, np.exp(np.array(whole.scores) - max(whole.scores)), strict=True))
    share = sum(every[item] for item in set(ids(model, HISTORY))) / sum(every.values())
    assert explained.certainty.on_history == pytest.approx(share, abs=1e-5)


def test_a_score_is_the_sum_of_its_tokens_and_paths(mixture: Recommender) -> None:
    model = mixture
    explained, made = told(model, k=7, target=ids(model, [TARGET])[0]), states(model)
    table_PMC, w_P = made.table_BPMC[0].double().numpy(), made.weights_BP[0].double().numpy()
    codes_NM = model.method.tokens.codes_NM.numpy()  # type: ignore[attr-defined, union-attr]
    assert explained.token_sums is not None
    assert explained.paths is not None
    assert len(explained.token_sums) == len(explained.movements)
    alone = {each.item: each.model for each in explained.sums or []}
    for each in explained.token_sums:
        codes = codes_NM[row(model, each.item)]
        s_P = w_P + np.array([sum(path[m, c] for m, c in enumerate(codes)) for path in table_PMC])
        score = np.logaddexp.reduce(s_P)
        r_P = np.exp(s_P - score)
        assert each.score == pytest.approx(score, abs=1e-5)
        assert each.score == pytest.approx(alone.get(each.item, each.score), abs=1e-4)
        assert sum(token.score for token in each.tokens) + each.paths == pytest.approx(each.score)
        assert each.paths <= 1e-9
        assert [(token.codebook, token.token) for token in each.tokens] == list(enumerate(codes.tolist()))
        for token in each.tokens:
            mean = sum(r * path[token.codebook, token.token] for r, path in zip(r_P, table_PMC, strict=True))
            assert token.score == pytest.approx(mean, abs=1e-4)
            assert token.probability == pytest.approx(math.exp(mean / model.method.tokens.sharpness), abs=1e-4)  # type: ignore[union-attr]
            assert token.overall == pytest.approx((codes_NM[:, token.codebook] == token.token).mean())
        assert set(np.round(each.carried_by, 4)) <= set(np.round(r_P, 4))
        assert len(each.carried_by) == len(explained.paths)


# ---- the paths


def test_paths_say_what_was_decided_and_believed(models: dict[str, Recommender]) -> None:
    for name in ("reg4rec", "decoder"):
        model = models[name]
        explained, paths = told(model), states(model).paths
        method: Any = model.method
        names = method.tokens.shape.categories
        assert explained.paths
        assert len(explained.paths) <= 3
        weights = paths.weights_BP[0].exp().tolist()
        carried = [path.carries for path in explained.paths]
        assert carried == sorted(carried, reverse=True)
        for path in explained.paths:
            at = min(range(len(weights)), key=lambda p, path=path: abs(weights[p] - path.weight))
            assert path.weight == pytest.approx(weights[at])
            decided = list(zip(paths.books_BPT[0, at].tolist(), paths.tokens_BPT[0, at].tolist(), strict=True))
            assert [(step.token.codebook, step.token.token) for step in path.steps] == decided
            assert [step.step for step in path.steps] == list(range(1, len(decided) + 1))
            assert math.exp(paths.log_probs_BP[0, at]) == pytest.approx(
                math.prod(step.probability for step in path.steps), rel=1e-3
            )
            for t, step in enumerate(path.steps):
                believed = paths.categories_BTPG[0, t, at].exp()
                most = believed.topk(min(3, len(names)))
                assert [each.category for each in step.belief] == [names[g] for g in most.indices.tolist()]
                assert [each.probability for each in step.belief] == pytest.approx(most.values.tolist())
                nats = float(paths.jensen_shannon_BPT[0, at, t])
                assert (math.nan if step.moved is None else step.moved) == pytest.approx(
                    nats / math.log(2), nan_ok=True
                )
                assert step.probability <= step.confidence + 1e-6


def test_a_token_is_described_by_the_items_that_share_it(reg4rec: Recommender) -> None:
    explained, codes_NM = told(reg4rec), reg4rec.method.tokens.codes_NM.numpy()  # type: ignore[attr-defined, union-attr]
    table = reg4rec.item_table
    assert explained.paths
    for step in explained.paths[0].steps:
        token = step.token
        member_N = codes_NM[:, token.codebook] == token.token
        assert token.size == member_N.sum() > 0
        met = table["train_count"].to_numpy()
        shown = [row(reg4rec, each.item) for each in token.items]
        assert len(shown) == min(3, token.size)
        assert all(member_N[shown])
        assert sorted(met[member_N], reverse=True)[: len(shown)] == met[shown].tolist()
        assert token.brand is not None
        share = np.mean([table["brand"][int(n)] == token.brand.label for n in np.flatnonzero(member_N)])
        assert token.brand.share == pytest.approx(share)
        assert token.category is not None
        carrying = [token.category.label in table["categories"][int(n)].to_list() for n in np.flatnonzero(member_N)]
        assert token.category.share == pytest.approx(np.mean(carrying))


def test_what_was_pruned_is_told_once_with_its_reason(reg4rec: Recommender) -> None:
    explained, gone = told(reg4rec), states(reg4rec).paths.pruned
    names = reg4rec.method.tokens.shape.categories  # type: ignore[attr-defined, union-attr]
    wanted = {(int(s) + 1, int(b), int(t)) for s, b, t in zip(gone.steps_E, gone.books_E, gone.tokens_E, strict=True)}
    assert len(wanted) > 2, "theta is small enough for something to be pruned"
    assert sorted((each.step, each.token.codebook, each.token.token) for each in explained.pruned) == sorted(wanted)
    for each in explained.pruned:
        assert each.moved * math.log(2) > 0.0005 or each.kept
        assert {each.before, each.after} <= set(names)
    assert [each.step for each in explained.pruned] == sorted(each.step for each in explained.pruned)
    assert "Taken back" in str(explained)


def test_an_ordered_path_is_the_tuple_of_an_item(models: dict[str, Recommender]) -> None:
    """Of an item that the search followed to its end the score is the sum of its tokens; beyond it, an estimate."""
    model = models["tiger"]
    method: Any = model.method
    codes_NM, M = method.tokens.codes_NM, method.tokens.codebooks
    explained, made = told(model, k=len(model.items), exclude_history=False), states(model)
    assert explained.token_sums is not None
    assert explained.paths
    inside = 0
    for each in explained.token_sums:
        codes = codes_NM[row(model, each.item)].tolist()
        assert [(token.codebook, token.token) for token in each.tokens] == list(enumerate(codes))
        assert [token.score for token in each.tokens] == pytest.approx(written(method, made, codes), abs=1e-4)
        assert sum(token.score for token in each.tokens) + each.paths == pytest.approx(each.score)
        inside += abs(each.paths) < 1e-4
    assert len(explained.token_sums) > inside >= SEARCHED.beams
    assert len(explained.paths) == 3
    first, best = explained.paths[0], explained.answer[0]
    tuple_of_best = codes_NM[row(model, best.item)].tolist()
    assert [(step.token.codebook, step.token.token) for step in first.steps] == list(enumerate(tuple_of_best))
    assert [each.item for each in first.items] == [
        item
        for item in model.items.id_list(range(len(model.items)))
        if codes_NM[row(model, item)].tolist() == tuple_of_best
    ]
    assert math.exp(sum(written(method, made, tuple_of_best))) == pytest.approx(
        math.prod(step.probability for step in first.steps), rel=1e-3
    )
    assert all(step.probability <= step.confidence + 1e-6 for path in explained.paths for step in path.steps)
    assert f"with {M} of them decided on each path" in " ".join(str(explained).split())


def written(method: Any, made: Any, codes: list[int]) -> list[float]:
    """ln p of each token of a tuple, given the tokens before it, one sequence by itself."""
    chain = made.chain.select(torch.tensor([0]))
    x_11D, said = method.first_D.expand(1, 1, -1), []
    with torch.inference_mode():
        for book, code in enumerate(codes):
            states_11D, chain = method.written(x_11D, chain)
            said.append(float(method.tokens.logits(states_11D[0, 0], book).log_softmax(-1)[code]))
            x_11D = method.tokens.vectors(torch.tensor([[book]]), torch.tensor([[code]]))
    return said


def test_rpg_names_all_tokens_at_once(models: dict[str, Recommender]) -> None:
    explained = told(models["rpg"])
    assert explained.paths is not None
    assert [(path.weight, path.carries, path.steps) for path in explained.paths] == [(1.0, pytest.approx(1.0), [])]
    text = str(explained)
    assert "all named at once from the history" in text
    assert "Token by token" in text
    assert "Path 1" not in text


def test_fewer_steps_may_be_asked_for_and_none(reg4rec: Recommender) -> None:
    """None is what RPG does: all tokens are read off the history."""
    label, carrying = label_of(reg4rec)
    for steps in (0, 1):
        halting = Halting(rule="fixed", max_steps=steps)
        explained = told(reg4rec, halting=halting, only_category=label, exclude_history=False)
        (wanted,) = reg4rec.recommend(
            [ids(reg4rec, HISTORY)], 5, halting=halting, only_category=label, exclude_history=False
        )
        assert [each.item for each in explained.answer] == wanted.items
        assert set(wanted.items) <= set(carrying)
        assert explained.paths
        assert {len(path.steps) for path in explained.paths} == {steps}
        assert ("all named at once" in str(explained)) == (steps == 0)


# ---- the target, evidence, pictures, JSON


def test_a_target_has_its_rank(model: Recommender) -> None:
    (whole,) = model.recommend([ids(model, HISTORY)], len(model.items), exclude_history=True)
    last = whole.items[-1]
    explained = told(model, k=2, target=last, exclude_history=True)
    assert explained.movements[-1].item == last
    better = sum(score > whole.scores[-1] for score in whole.scores)
    equal = sum(score == whole.scores[-1] for score in whole.scores)
    assert explained.movements[-1].rank == better + (equal + 1) / 2
    met = told(model, target=ids(model, [17])[0], exclude_history=True)
    assert met.movements[-1].rank is None
    assert "it is no candidate and has no rank" in str(met)


def test_evidence_stands_beside_the_tokens(models: dict[str, Recommender]) -> None:
    explained = told(models["with evidence"], k=5)
    assert [kind.name for kind in explained.evidence] == ["co_occurrence"]
    assert explained.evidence[0].most == pytest.approx(WEIGHT)
    assert explained.sums is not None
    assert explained.contributions is not None
    assert any(each.added["co_occurrence"] for each in explained.sums)
    for each, contributions, candidate in zip(explained.sums, explained.contributions, explained.answer, strict=True):
        assert each.score == pytest.approx(candidate.score, abs=1e-4)
        assert each.score == pytest.approx(each.model + sum(each.added.values()), abs=1e-4)
        assert sum(c.score for c in contributions) == pytest.approx(each.added["co_occurrence"], abs=1e-4)
    assert "Evidence is added to it." in str(explained)


def test_json_says_all_of_it_and_a_picture_nothing(model: Recommender, tmp_path: Any) -> None:
    explained = told(model, target=ids(model, [TARGET])[0])
    parts = json.loads(json.dumps(explained.to_json(), allow_nan=False))
    assert set(parts) == {each.name for each in fields(Explanation)}
    assert parts["plane"] is None
    assert parts["paths"][0]["weight"] > 0
    with pytest.raises(ConfigError, match="shows the way of a state, and this model comes to scores without one"):
        write_trajectory(explained, tmp_path / "way.png")


# ---- what the user wants


def label_of(model: Recommender, least: int = 3) -> tuple[str, list[Any]]:
    """A label that some items carry, and these items."""
    carried: dict[str, list[Any]] = {}
    for item, labels in zip(model.items.id_list(range(len(model.items))), model.item_table["categories"], strict=True):
        for label in labels:
            carried.setdefault(label, []).append(item)
    label = min((name for name in carried if len(carried[name]) >= least), key=lambda name: len(carried[name]))
    return label, carried[label]


def test_categories_and_tokens_are_obeyed_by_lists_and_paths(model: Recommender) -> None:
    n, history = len(model.items), [ids(model, HISTORY)]
    label, carrying = label_of(model)
    (only,) = model.recommend(history, n, exclude_history=False, only_category=label)
    assert set(only.items) == set(carrying)
    assert len(only.items) == len(carrying)
    (never,) = model.recommend(history, n, exclude_history=False, never_category=[label])
    assert set(never.items) == set(ids(model, list(range(n)))) - set(carrying)
    codes_NM = model.method.tokens.codes_NM.numpy()  # type: ignore[attr-defined, union-attr]
    book, token = 1, int(codes_NM[row(model, never.items[0]), 1])
    (forbidden,) = model.recommend(history, n, exclude_history=False, forbid_tokens=[(book, token)])
    assert sorted(row(model, each) for each in forbidden.items) == np.flatnonzero(codes_NM[:, book] != token).tolist()
    (asked,) = model.recommend(history, n, exclude_history=False, only_tokens=[(book, token)])
    assert sorted(row(model, each) for each in asked.items) == np.flatnonzero(codes_NM[:, book] == token).tolist()
    for choices, wanted in (
        ({"only_tokens": [(book, token)]}, asked),
        ({"only_category": [label]}, only),
        ({"never_category": label}, never),
        ({"forbid_tokens": [(book, token)]}, forbidden),
    ):
        explained = told(model, k=n, exclude_history=False, **choices)
        assert [each.item for each in explained.answer] == wanted.items
        assert [each.score for each in explained.answer] == pytest.approx(wanted.scores, abs=1e-5)
        assert explained.steering is not None
        assert explained.steering.candidates == len(wanted.items)
        assert math.fsum(each.probability or 0 for each in explained.answer) == pytest.approx(1, abs=1e-5)
        assert all(
            any(codes_NM[row(model, item), step.token.codebook] == step.token.token for item in wanted.items)
            for path in explained.paths or []
            for step in path.steps
        ), "a path decides only what a candidate has"


def test_a_target_that_is_not_wanted_has_no_rank(model: Recommender) -> None:
    label, carrying = label_of(model)
    explained = told(model, never_category=label, target=carrying[0])
    assert explained.movements[-1].item == carrying[0]
    assert explained.movements[-1].rank is None
    json.dumps(explained.to_json(), allow_nan=False)
    assert f"none of {label}." in " ".join(str(explained).split())


def test_steering_is_no_matter_of_the_batch(reg4rec: Recommender) -> None:
    label, _ = label_of(reg4rec)
    histories = [ids(reg4rec, HISTORY), ids(reg4rec, [1]), ids(reg4rec, [7, 8, 9])]
    together = reg4rec.recommend(histories, 5, never_category=label)
    alone = [reg4rec.recommend([history], 5, never_category=label)[0] for history in histories]
    assert [each.items for each in together] == [each.items for each in alone]


def test_a_run_that_was_read_again_says_the_same(reg4rec: Recommender) -> None:
    again = load(reg4rec.folder)  # type: ignore[arg-type]
    fresh = load(reg4rec.folder)  # type: ignore[arg-type]
    assert str(told(again)) == str(told(fresh))


def test_paths_that_count_for_nothing_have_no_part_in_the_answer(models: dict[str, Recommender]) -> None:
    """The weights of paths are not passed off for shares in scores that no path has touched."""
    model = models["decoder"]
    assert isinstance(model.method, REG4RecModel)
    items = model.items.id_list(HISTORY)
    among = model.explain(items, k=3)
    assert sum(path.carries for path in among.paths) > 0.1
    assert "of the answer" in str(among)
    before = model.method.path_share.clone()
    try:
        model.method.path_share.fill_(0.0)
        alone = model.explain(items, k=3)
        named = model.recommend([items], k=3)[0]
    finally:
        model.method.path_share.copy_(before)
    assert [each.item for each in alone.answer] == named.items
    assert [path.carries for path in alone.paths] == [0.0] * len(alone.paths)
    assert alone.paths[0].steps
    weights = [path.weight for path in alone.paths]
    assert weights == sorted(weights, reverse=True)
    assert all(each.carried_by == [] for each in alone.token_sums or [])
    text = str(alone)
    assert "count for nothing" in " ".join(text.split())
    assert "of the answer" not in text
    assert "of it by path" not in text
    assert "It leads to" not in text
