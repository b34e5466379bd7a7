"""What paths over tokens mean: where they lead, how many lead to one item, and what the page says of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_mutual_info_score

from forethought.backbones.sasrec import SASRec
from forethought.cli import study as verb
from forethought.config import Recipe
from forethought.data.batches import lists_batch
from forethought.data.features import Features
from forethought.data.splits import Split
from forethought.decoding.paths import Paths
from forethought.errors import ConfigError
from forethought.methods.reg4rec import REG4Rec
from forethought.methods.rpg import RPG
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.studies import path_meaning, probing, runner
from forethought.studies.page import Page
from forethought.studies.path_diversity import agreement, as_groups, information_within, ways_by_item
from forethought.studies.path_reading import leads, read_paths
from forethought.studies.results import DatasetKey, Result
from forethought.training.settings import Training
from support.small_tokens import TOKENIZER, token_model

SMALL = SASRec(width=16, heads=2, window=8, ffn_width=32)
CONFIGS = {
    "reg4rec": REG4Rec(backbone=replace(SMALL, input_norm=True), tokenizer=TOKENIZER, steps=2),
    "rpg": RPG(backbone=replace(SMALL, input_norm=True), tokenizer=TOKENIZER),
}


def test_where_paths_lead_by_loops() -> None:
    """The best item of each path, the best of all together, and who has most share in it; items met are left out."""
    torch.manual_seed(0)
    B, P, M, C, N = 5, 3, 2, 4, 9
    table_BPMC = torch.randn(B, P, M, C, dtype=torch.float64) * 2
    log_w_BP = torch.randn(B, P, dtype=torch.float64)
    log_w_BP[1, 2] = -torch.inf  # a row of fewer paths
    none_BPT = torch.zeros(B, P, 0)
    paths = Paths(none_BPT.long(), none_BPT.long(), log_w_BP, table_BPMC, none_BPT, None, none_BPT, None)
    codes_NM = torch.randint(0, C, (N, M))
    met = [np.array([n, 8 - n]) for n in range(B)]
    best_BP, top_B, lead_B = leads(table_BPMC, paths, codes_NM, met)
    for b in range(B):
        w = [math.exp(x) for x in log_w_BP[b].tolist()]
        allowed = [i for i in range(N) if i not in met[b]]
        s = {
            (p, i): sum(float(table_BPMC[b, p, m, codes_NM[i, m]]) for m in range(M)) for p in range(P) for i in allowed
        }
        assert best_BP[b].tolist() == [max(allowed, key=lambda i, p=p: s[p, i]) for p in range(P)]  # type: ignore[misc]
        top = max(allowed, key=lambda i: sum(w[p] * math.exp(s[p, i]) for p in range(P)))
        assert int(top_B[b]) == top
        assert int(lead_B[b]) == max(range(P), key=lambda p: w[p] * math.exp(s[p, top]))


def test_effective_numbers_by_hand() -> None:
    items = np.array([3] * 4 + [5] * 4 + [7])
    ways = np.array([0, 0, 1, 1, 2, 2, 2, 2, 9])
    told = ways_by_item(items, ways, seed=0, least=4)
    assert (told["items"], told["cases"]) == (2, 8)  # item 7 tops one list alone
    assert told["distinct"] == 1.5
    assert told["effective"] == pytest.approx((2 + 1) / 2)  # exp(ln 2) and exp(0)
    assert told["several"] == 0.5
    assert ways_by_item(items, ways, seed=0, least=5) == {"items": 0, "cases": 0}
    uneven = ways_by_item(np.zeros(4, int), np.array([0, 0, 0, 1]), seed=0, least=4)
    assert uneven["effective"] == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))


def test_chance_deals_the_same_ways_out_anew() -> None:
    """Two items of two cases each, and two ways twice: they are alike in one of three deals."""
    told = ways_by_item(np.array([0, 0, 1, 1]), np.array([4, 4, 6, 6]), seed=0, least=2)
    assert told["distinct"] == told["effective"] == 1
    assert told["distinct_by_chance"]["mean"] == pytest.approx(5 / 3, abs=0.1)
    assert told["effective_by_chance"]["mean"] == pytest.approx(5 / 3, abs=0.1)
    assert told["effective_by_chance"]["ci95"] == [1, 2]
    alone = ways_by_item(np.zeros(6, int), np.arange(6) % 3, seed=0, least=2)
    assert alone["effective_by_chance"]["ci95"] == pytest.approx([3, 3])  # one item has all of them, dealt as it will


def test_agreement_of_the_paths_of_a_case() -> None:
    best_nP = np.array([[1, 1, 2], [4, 5, 5], [7, 7, 7], [3, 8, 9]])
    weights_nP = np.array([[0.5, 0.3, 0.2], [0.5, 0.5, 0.0], [0.4, 0.3, 0.3], [1.0, 0.0, 0.0]])
    told = agreement(best_nP, weights_nP, np.arange(4), seed=0)
    shares = []
    for row, weights in zip(best_nP.tolist(), weights_nP.tolist(), strict=True):
        alive = [item for item, weight in zip(row, weights, strict=True) if weight > 0]
        shares.append(max(Counter(alive).values()) / len(alive))
    assert shares == [2 / 3, 1 / 2, 1, 1]
    assert told["paths"] == 9 / 4
    assert told["share"]["mean"] == pytest.approx(np.mean(shares))
    assert told["unanimous"]["mean"] == 0.5
    random = np.random.default_rng(1).integers(0, 1000, (300, 4))
    same = np.repeat(random[:, :1], 4, axis=1)
    told = agreement(same, np.ones((300, 4)), np.arange(300), seed=0)
    assert told["share"]["mean"] == told["unanimous"]["mean"] == 1
    assert told["by_chance"] < 0.3


def test_information_within_items_is_the_mean_by_cases() -> None:
    rng = np.random.default_rng(0)
    items = np.repeat([0, 1, 2, 3], [20, 30, 12, 4])
    labels = rng.integers(0, 3, len(items)).astype(str)
    labels[items == 2] = "one"  # tells nothing of what they want
    labels[:3] = ""  # noise has no label
    group = np.where(rng.random(len(items)) < 0.6, np.char.str_len(labels) + (labels == "1"), 5)
    told = information_within(labels, {"g": group, "alike": np.zeros(len(items), int)}, items, least=10)
    assert (told["items"], told["cases"]) == (2, 47)
    parts = [(labels != "") & (items == item) for item in (0, 1)]
    wanted = sum(at.sum() * adjusted_mutual_info_score(labels[at], group[at]) for at in parts) / 47
    assert told["information"]["g"] == pytest.approx(wanted)
    assert told["information"]["alike"] == 0
    assert information_within(labels, {"g": group}, items, least=99)["information"] == {}


def test_sparse_vectors_are_read_as_dense_ones() -> None:
    rng = np.random.default_rng(0)
    of, taught = rng.integers(0, 3, 300).astype(str), rng.random(300) < 0.5
    x = np.eye(4)[of.astype(int)] * (rng.random((300, 1)) < 0.8) + (rng.random((300, 4)) < 0.2)
    dense, sparse = (probing.named_by_line(each, of, taught) for each in (x, csr_matrix(x)))
    assert (dense == sparse).mean() > 0.98
    assert (sparse == of[~taught]).mean() > 0.7


def test_bags_and_groups() -> None:
    bag = path_meaning.bags(np.array([[0, 2], [1, 1]]), np.array([[1.0, 0.5], [0.25, 0.25]]), 4)
    assert bag.toarray().tolist() == [[1, 0, 0.5, 0], [0, 0.5, 0, 0]]
    groups = as_groups(np.array([1, 1, 0, 1]), np.array([2, 3, 2, 2]))
    assert groups[0] == groups[3]
    assert len(set(groups.tolist())) == 3


@pytest.mark.parametrize("name", CONFIGS)
def test_every_case_is_read_as_if_it_were_alone(name: str, split: Split) -> None:
    """Cases are read sorted by length, and come back in their own order; the top item is what the method recommends."""
    method = token_model(CONFIGS[name], split)
    if name == "reg4rec":
        method.path_share.fill_(1.0)
    cases = split.test
    read = read_paths(method, cases, exclude_history=False)
    assert read.has_paths == (name == "reg4rec")
    for row in (0, 7, len(cases) - 1):
        batch = lists_batch([cases.history[row]], method.window)
        with torch.inference_mode():
            made = method.user_states(batch, trace=True)
            best, _ = method.recommend(made, 1)
            first_MC = method.tokens.log_probs(torch.from_numpy(read.states_nD[row]).double())
        np.testing.assert_allclose(read.first_nMC[row], first_MC, atol=1e-5)
        assert read.top_n[row] == int(best[0, 0])
        np.testing.assert_allclose(read.weights_nP[row], made.paths.weights_BP[0].exp(), atol=1e-6)
        assert read.tokens_nPT[row].tolist() == made.paths.tokens_BPT[0].tolist()
        mixed_MC = sum(w * each.exp() for w, each in zip(read.weights_nP[row], made.paths.table_BPMC[0], strict=True))
        np.testing.assert_allclose(np.exp(read.merged_nMC[row]), mixed_MC, atol=1e-5)
    without = read_paths(method, cases, exclude_history=True)
    assert not any(top in cases.history[row] for row, top in enumerate(without.top_n))
    assert any(top in cases.history[row] for row, top in enumerate(read.top_n))


@pytest.fixture(scope="module")
def runs(split: Split, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recommender]:
    place, features = tmp_path_factory.mktemp("runs"), Features(use="categories,brand")
    return {
        name: train(Recipe(method=config, training=quick, features=features), split, place / name)
        for name, config in CONFIGS.items()
    }


def test_probe_and_page(
    runs: dict[str, Recommender], split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "LEAST", 6)
    told = {name: path_meaning.probe(run, split, 0) for name, run in runs.items()}
    one = next(one for one in told["reg4rec"]["probes"] if one["label"] == "next item's category, level 1")
    assert {"history's state", "tokens of the best path", "beliefs on the paths"} <= set(one["accuracy"])
    assert one["accuracy"]["history's state"]["behind"] == (0, 0)
    assert one["accuracy"]["tokens of the next item itself"]["mean"] > one["accuracy"]["commonest label"]["mean"]
    assert set(one["information"]) >= {"first decided token", "order of codebooks", "whole path"}
    assert abs(one["information"]["the first tokens, dealt out by chance"]) < 0.2
    assert told["reg4rec"]["steps"] == 2
    assert "ways" not in told["rpg"]
    assert "token believed in most" in told["rpg"]["probes"][0]["information"]
    assert set(told["reg4rec"]["ways"]) == {"order of codebooks", "set of tokens", "whole path"}
    key = DatasetKey("shop", "file")
    results = {
        name: [Result(name, key, 0, {"metrics": {"ndcg@10": {"mean": 0.1}}}, each)] for name, each in told.items()
    }
    page = Page(tmp_path, "path-meaning", "t", "q")
    path_meaning.write(page, results)
    text = page.write().read_text()
    assert "## reg4rec-shop-file-0" in text
    mean = one["accuracy"]["first decided token"]["mean"]
    assert any(line.startswith("| first decided token | ") and f"{mean:.1%} [" in line for line in text.splitlines())
    assert f"{told['reg4rec']['agreement']['by_chance']:.1%} of as many paths of different cases" in text


def test_who_names_no_tokens_is_not_asked(trained: Recommender, split: Split) -> None:
    with pytest.raises(ConfigError, match="Only REG4Rec and RPG have tokens"):
        path_meaning.probe(trained, split, 0)


def test_the_study_has_shops_of_its_own_and_takes_other_data(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def carry_out_all(study: Any, contexts: Any, *_: Any) -> Path:
        seen.append([context.split.data.name for context in contexts])
        return tmp_path / "page.md"

    monkeypatch.setattr(runner, "carry_out_all", carry_out_all)
    small = {"shop-paths": replace(path_meaning.STUDY.shops["shop-paths"], users=30, items=40)}
    monkeypatch.setitem(verb.run.__globals__, "_results", lambda: tmp_path)
    monkeypatch.setattr(
        "forethought.studies.catalogue.STUDIES", {"path-meaning": replace(path_meaning.STUDY, shops=small)}
    )
    verb.run(["path-meaning", "--runs", str(tmp_path / "runs")])
    verb.run(["path-meaning", "--data", str(shop), "--runs", str(tmp_path / "runs")])
    assert seen == [["shop-paths"], [shop.name]]
    with pytest.raises(ConfigError, match=r"own shops, and --item, --ties would change nothing: give --data"):
        verb.run(["path-meaning", "--ties", "shuffle", "--item", "i", "--runs", str(tmp_path / "runs")])
