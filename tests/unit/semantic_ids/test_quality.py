"""What is measured of tokens, recomputed; words, text and picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score
from token_toys import CONFIGS, points, toy_split

import forethought as ft
from forethought.errors import ConfigError, DataError, RunError
from forethought.semantic_ids.collisions import resolve
from forethought.semantic_ids.leaf_categories import leaf_categories
from forethought.semantic_ids.mutual_information import adjusted_mutual_information
from forethought.semantic_ids.quality import (
    FIGURES,
    Quality,
    following_pairs,
    purities,
    quality,
    redundancy,
    shared_tokens,
)
from forethought.semantic_ids.storage import read_about, read_tokens
from forethought.semantic_ids.token_table import TokenTable


@pytest.mark.parametrize(("a", "b", "n"), [(2, 3, 10), (8, 8, 60), (40, 7, 200), (50, 50, 50)])
def test_mutual_information_is_that_of_scikit_learn(a: int, b: int, n: int) -> None:
    draw = np.random.default_rng(a)
    one, two = draw.integers(0, a, n), draw.integers(0, b, n)
    two[: n // 2] = one[: n // 2] % b
    wanted = adjusted_mutual_info_score(one, two)
    assert adjusted_mutual_information(one, two) == pytest.approx(wanted, abs=1e-9)


def test_mutual_information_at_its_ends() -> None:
    codes = np.arange(100) % 7
    assert adjusted_mutual_information(codes, (codes + 3) % 7) == pytest.approx(1)
    assert adjusted_mutual_information(codes, np.zeros(100, np.int64)) == pytest.approx(0)
    assert adjusted_mutual_information(np.zeros(9, np.int64), np.zeros(9, np.int64)) == 1
    draw = np.random.default_rng(0)
    apart = [adjusted_mutual_information(draw.integers(0, 9, 80), draw.integers(0, 9, 80)) for _ in range(50)]
    assert abs(float(np.mean(apart))) < 0.02


def test_redundancy_is_the_mean_of_all_pairs() -> None:
    codes = np.random.default_rng(0).integers(0, 4, (80, 3))
    wanted = [adjusted_mutual_info_score(codes[:, a], codes[:, b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert redundancy(codes) == pytest.approx(np.mean(wanted))
    assert redundancy(codes[:, :1]) is None
    assert redundancy(np.repeat(codes[:, :1], 20, axis=1)) == pytest.approx(1)


def test_shared_tokens_and_chance_by_brute_force() -> None:
    draw = np.random.default_rng(0)
    codes, pairs = draw.integers(0, 3, (12, 2)), draw.integers(0, 12, (20, 2))
    shared, chance = shared_tokens(codes, pairs, 3)
    assert shared == pytest.approx(np.mean([codes[a] == codes[b] for a, b in pairs]))
    assert chance == pytest.approx(np.mean([codes[a] == codes[b] for a, _ in pairs for _, b in pairs]))


def test_purity_by_brute_force() -> None:
    draw = np.random.default_rng(0)
    codes, categories = draw.integers(0, 4, (50, 2)), draw.integers(-1, 3, 50)
    known = categories >= 0
    wanted = []
    for book in range(2):
        right = 0
        for code in range(4):
            members = categories[known & (codes[:, book] == code)]
            right += max(np.bincount(members)) if len(members) else 0
        wanted.append(right / known.sum())
    purity, largest = purities(codes, categories)
    assert purity == pytest.approx(np.mean(wanted))
    assert largest == pytest.approx(np.bincount(categories[known]).max() / known.sum())
    assert purities(codes, np.full(50, -1)) == (None, None)
    assert purities(codes, np.minimum(categories, 0)) == (None, None)  # one category, which every code keeps to


def test_figures_in_numpy() -> None:
    values = points(200)
    tokenizer = CONFIGS["opq"].build(10)
    tokenizer.fit(values, seed=0)
    codes = tokenizer.encode(values)
    made = resolve(codes, tokenizer, values, torch.ones(200), "greedy")
    told = quality(TokenTable(made, 8, ordered=False), tokenizer, values)
    x = tokenizer.standardised(values).numpy()
    spread = ((x - x.mean(0)) ** 2).sum()
    errors = [((x - tokenizer.decode(each).numpy()) ** 2).sum() / spread for each in (codes, made)]
    assert (told.error, told.error_after) == pytest.approx(tuple(errors), rel=1e-4)
    assert told.distortion == pytest.approx(errors[1] / errors[0] - 1, rel=1e-2)
    assert told.moved == pytest.approx(float((codes != made).any(1).float().mean()))
    _, sizes = np.unique(codes.numpy(), axis=0, return_counts=True)
    assert told.collisions == pytest.approx(sizes[sizes > 1].sum() / 200)
    assert (told.largest_group, told.largest_group_after, told.collisions_after) == (sizes.max(), 1, 0)
    share = np.bincount(codes[:, 0]) / 200
    assert told.perplexity[0] == pytest.approx(
        np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()) / 8, rel=0.2
    )
    assert told.active == [1.0, 1.0, 1.0]
    assert (told.shared, told.lift, told.purity) == (None, None, None)


def test_tokens_by_chance_say_nothing() -> None:
    values = points(400)
    tokenizer = CONFIGS["random"].build(10)
    tokenizer.fit(values, seed=0)
    pairs = np.stack([np.arange(394), np.arange(394) + 6], axis=1)  # of one group
    told = quality(TokenTable(tokenizer.encode(values), 8, ordered=False), tokenizer, values, pairs, np.arange(400) % 6)
    assert told.error == pytest.approx(1, rel=1e-3)
    assert told.lift == pytest.approx(1, abs=0.35)
    assert abs(told.redundancy or 0.0) < 0.05
    words = {each.name: each.word for each in told.verdicts()}
    assert words["reconstruction error"] == words["tokens shared with what follows, times chance"] == "bad"


def test_pairs_are_of_the_validation_part() -> None:
    split = toy_split()
    pairs = following_pairs(split)
    wanted = [
        (int(split.valid.history[row][-1]), int(split.valid.targets[row]))
        for row in range(len(split.valid))
        if split.valid.history[row][-1] != split.valid.targets[row]
    ]
    assert [tuple(pair) for pair in pairs.tolist()] == wanted


class TestLeafCategories:
    def test_the_last_label_that_is_common(self) -> None:
        paths = [["a", "b", "rare"], ["a", "b"], ["a"], [], None, ["a", "b", "rare"]]
        rows, names = leaf_categories(pl.DataFrame({"categories": paths}), least=3) or ([], [])
        assert names == ["a", "b"]
        assert list(rows) == [1, 1, 0, -1, -1, 1]

    def test_a_path_in_one_cell(self) -> None:
        table = pl.DataFrame({"Category": ["Home > Pens", "Home > Ink", "Home > Pens", None]})
        rows, names = leaf_categories(table, least=2) or ([], [])
        assert (names, list(rows)) == (["Home", "Pens"], [1, 0, 1, -1])

    def test_no_column_or_no_common_label(self) -> None:
        assert leaf_categories(pl.DataFrame({"title": ["a"]})) is None
        assert leaf_categories(pl.DataFrame({"categories": [1, 2]})) is None
        assert leaf_categories(pl.DataFrame({"categories": ["x", "y"]}), least=2) is None


def some(**choices: object) -> Quality:
    figures: dict = {"items": 100, "codebooks": 2, "size": 4, "error": 0.4, "error_after": 0.402}
    figures |= {"active": [1.0, 1.0], "perplexity": [0.9, 0.8], "collisions": 0.05, "collisions_after": 0.0}
    figures |= {"largest_group": 3, "largest_group_after": 1, "moved": 0.03, "redundancy": 0.1, "shared": 0.2}
    figures |= {"by_chance": 0.02, "pairs": 50, "purity": 0.5, "largest_category": 0.2}
    return Quality(**figures | choices)


@pytest.mark.parametrize(
    ("choices", "name", "word"),
    [
        ({}, "collisions", "good"),
        ({"collisions": 0.09}, "collisions", "good"),
        ({"collisions": 0.091}, "collisions", "watch"),
        ({"collisions": 0.3}, "collisions", "bad"),
        ({"active": [1.0, 0.9]}, "codes in use", "watch"),
        ({"active": [0.8, 0.9]}, "codes in use", "bad"),
        ({"error_after": 0.4039}, "added by telling apart", "good"),
        ({"error_after": 0.408}, "added by telling apart", "watch"),
        ({"collisions_after": 0.001}, "collisions left", "watch"),
        ({"shared": 0.05}, "tokens shared with what follows, times chance", "watch"),
        ({"shared": 0.021}, "tokens shared with what follows, times chance", "bad"),
    ],
)
def test_words_and_their_thresholds(choices: dict, name: str, word: str) -> None:
    told = some(**choices)
    assert {each.name: each.word for each in told.verdicts()}[name] == word
    remark = next(figure.remark for figure in FIGURES if figure.name == name)
    assert (remark in told.document("t").remarks) == (word != "good")


def test_no_remark_asks_for_what_was_done() -> None:
    poor = {"collisions_after": 0.5, "shared": 0.02, "purity": 0.2}
    asked = ["choose collisions greedy", "collaborative vectors bring", "read categories or texts"]
    told = " ".join(some(**poor).document("t").remarks)
    assert all(each in told for each in asked)
    for done, said in zip(["greedy", "met", "named"], asked, strict=True):
        told = some(**poor).document("t", [done])
        assert len(told.remarks) == 3
        assert [each for each in asked if each not in " ".join(told.remarks)] == [said]


def test_what_cannot_be_measured_is_left_out() -> None:
    names = [each.name for each in some(redundancy=None, shared=None, by_chance=None, purity=None).verdicts()]
    assert len(names) == len(FIGURES) - 3
    assert some(shared=None, by_chance=None).to_json()["lift"] is None
    json.dumps(some().to_json(), allow_nan=False)


class TestTokenize:
    def test_in_python(self, tmp_path: Path) -> None:
        split = toy_split()
        made = ft.tokenize(split, tmp_path / "tokens", CONFIGS["mpq"], features=ft.Features(use="size"), seed=2)
        tokens = read_tokens(tmp_path / "tokens", split)
        assert torch.equal(tokens.table.codes_NM, made.tokens.table.codes_NM)
        assert read_about(tmp_path / "tokens")["quality"] == json.loads(json.dumps(made.quality.to_json()))
        assert (tmp_path / "tokens" / "tokens.md").read_text().startswith("# Tokens of toy by MPQ\n")
        assert "collisions left" in made.document().text()

    def test_what_was_done_already_is_not_asked_for(self) -> None:
        split = toy_split()
        few = replace(CONFIGS["opq"], size=2, codebooks=1, collisions="greedy")  # there are no free tokens
        told = " ".join(ft.tokenize(split, config=few, features=None).document().remarks)
        assert "as no free ones lay one code away" in told
        assert "collaborative vectors bring" not in told
        kept = replace(few, collisions="keep", collaborative="none", collaborative_width=64)
        told = " ".join(ft.tokenize(split, config=kept, features=ft.Features(use="size")).document().remarks)
        assert "choose collisions greedy" in told

    def test_without_a_folder_and_without_features(self) -> None:
        made = ft.tokenize(toy_split(), config=CONFIGS["opq"], features=None)
        assert [each["kind"] for each in made.tokens.inputs] == ["collaborative"]

    @pytest.mark.parametrize("ending", [".svg", ".png"])
    def test_a_picture(self, tmp_path: Path, ending: str) -> None:
        made = ft.tokenize(toy_split(), config=CONFIGS["rq_kmeans"], features=None)
        made.draw(tmp_path / f"tokens{ending}")
        made.draw(tmp_path / f"again{ending}")
        assert (tmp_path / f"tokens{ending}").read_bytes() == (tmp_path / f"again{ending}").read_bytes()
        with pytest.raises(ConfigError, match="a picture is written as"):
            made.draw(tmp_path / "tokens.gif")

    def test_what_is_refused_before_the_work(self, tmp_path: Path) -> None:
        split = toy_split()
        for choices, said in [
            ({"config": ft.NextItem()}, "NextItem is a method, but a tokenizer such as"),
            ({"config": 3}, "config is 3"),
            ({"seed": -1}, "seed is -1"),
            ({"features": "text"}, "features is 'text'"),
            ({"out": 3}, "out is 3"),
        ]:
            with pytest.raises(ConfigError, match=said):
                ft.tokenize(split, **choices)  # type: ignore[arg-type]
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "a").write_text("b")
        with pytest.raises(DataError, match="already there and not empty"):
            ft.tokenize(split, tmp_path / "there")
        (tmp_path / "file").write_text("a")
        with pytest.raises(RunError, match="is a file, but a folder is to be written to"):
            ft.tokenize(split, tmp_path / "file" / "tokens")

    def test_nothing_is_left_of_what_fails(self, tmp_path: Path) -> None:
        config = replace(CONFIGS["rq_kmeans"], size=2, codebooks=1)
        with pytest.raises(ConfigError, match="items have the same tokens, but a counter of 2 codes"):
            ft.tokenize(toy_split(), tmp_path / "deep" / "tokens", config, features=None)
        assert not list(tmp_path.iterdir())
