"""Tokens made of the item vectors of a trained run, in the place of co-occurrence."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from stopping import StopsAt

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.features import Features
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, DataError, ForethoughtError
from forethought.extending import extend
from forethought.methods.popular import Popular
from forethought.methods.rpg import RPG
from forethought.recommender import Recommender, load
from forethought.run_vectors import collaborative_of
from forethought.runs import evaluate, train
from forethought.semantic_ids.opq import OPQ
from forethought.semantic_ids.storage import read_tokens
from forethought.tokenizing import tokenize
from forethought.training.interrupt import Interrupted
from forethought.training.settings import Training

TOKENIZER = OPQ(codebooks=3, size=8, turns=1)
FEATURES = Features(use="categories,brand")


def rpg(sasrec: SASRec, quick: Training) -> Recipe:
    return Recipe(method=RPG(backbone=sasrec, tokenizer=TOKENIZER), training=quick, features=FEATURES)


def test_vectors_by_hand(trained: Recommender, split: Split) -> None:
    """Each known item's own, less their mean; of items that training never met the mean itself, which is zero."""
    made = collaborative_of(trained.folder, split, TOKENIZER)  # type: ignore[arg-type]
    with torch.inference_mode():
        theirs = trained.method.catalogue().comparable_ND.double().numpy()
    ids, counts = trained.items.ids.to_list(), trained.item_table["train_count"].to_list()
    met = [row for row, count in enumerate(counts) if count > 0]
    mean = [sum(theirs[row][d] for row in met) / len(met) for d in range(theirs.shape[1])]
    for at, item in enumerate(split.data.items.ids.to_list()):
        row = ids.index(item)
        wanted = theirs[row] - mean if row in met else np.zeros(len(mean))
        np.testing.assert_allclose(made.vectors_NE[at], wanted, atol=1e-6)
    assert made.of["items"] == len(met)
    assert made.of["weights"] == trained.weights_sum
    assert made.of["may_have_seen"] is False


def test_items_are_matched_by_their_ids_and_strangers_have_the_mean(
    trained: Recommender, shop: Path, tmp_path: Path
) -> None:
    """Other data, its items in another order: the last ids are unknown to the run."""
    folder = Path(shutil.copytree(shop, tmp_path / "other"))
    rows = pl.read_parquet(folder / "interactions.parquet")
    renamed = pl.col("item_id").replace({"i00001": "zz1", "i00002": "a2"})
    rows.with_columns(renamed).write_parquet(folder / "interactions.parquet")
    items = pl.read_parquet(folder / "items.parquet").with_columns(renamed)
    items.reverse().write_parquet(folder / "items.parquet")
    other = leave_last_out(read(folder))
    made = collaborative_of(trained.folder, other, TOKENIZER)  # type: ignore[arg-type]
    assert made.of["may_have_seen"] is True
    ids = other.data.items.ids.to_list()
    with torch.inference_mode():
        theirs = trained.method.catalogue().comparable_ND
    for item in ("zz1", "a2"):
        assert not made.vectors_NE[ids.index(item)].any()
    first, second = ids.index("i00003"), ids.index("i00007")
    own = [trained.items.index_of(pl.Series([item]))[0] for item in ("i00003", "i00007")]
    torch.testing.assert_close(made.vectors_NE[first] - made.vectors_NE[second], theirs[own[0]] - theirs[own[1]])


def test_tokens_are_made_of_them_and_a_run_needs_nothing_else(
    trained: Recommender, split: Split, sasrec: SASRec, quick: Training, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(trained.folder, tmp_path / "source"))  # type: ignore[arg-type]
    made = tokenize(split, tmp_path / "tokens", TOKENIZER, features=FEATURES, collaborative_from=source)
    plain = tokenize(split, None, TOKENIZER, features=FEATURES)
    assert not torch.equal(made.tokens.table.codes_NM, plain.tokens.table.codes_NM)
    (told,) = (each for each in made.tokens.inputs if each["kind"] == "collaborative")
    assert (told["width"], told["of"]["method"]) == (16, "NextItem")
    run = train(rpg(sasrec, quick), split, tmp_path / "run", collaborative_from=source)
    assert torch.equal(run.method.tokens.codes_NM, made.tokens.table.codes_NM)  # type: ignore[union-attr,arg-type]
    assert run.about["references"]["collaborative_from"] == trained.weights_sum
    shutil.rmtree(source)
    for folder in ("run", "tokens"):
        assert not any(str(tmp_path).encode() in path.read_bytes() for path in (tmp_path / folder).rglob("*.json"))
    again = load(tmp_path / "run")
    assert evaluate(again, split).protocol.get("tokens_from") is None
    assert torch.equal(read_tokens(tmp_path / "tokens", split).table.codes_NM, made.tokens.table.codes_NM)
    twin = run.item_table.select(pl.lit("twin").alias("item_id"), "categories", "brand").head(1)
    extended = extend(run, twin, tmp_path / "more")
    tokens = run.method.tokens  # type: ignore[union-attr]
    new_M = extended.method.tokens.codes_NM[-1:]  # type: ignore[union-attr]
    codes_FM, _ = tokens.read_new(_of_twin(run, twin), len(run.items))  # type: ignore[operator]
    assert torch.equal(new_M, codes_FM)
    assert extended.recommend([["twin"]], k=3)[0].items


def _of_twin(run: Recommender, twin: pl.DataFrame) -> tuple:
    from forethought.data.features import feature_scale, feature_shape
    from forethought.data.new_items import read_new_items

    read_as = [(feature_shape(each), feature_scale(each["scale"])) for each in run.about["features"]]
    return read_new_items(twin, run.items, run.item_table, read_as).features


def test_other_data_may_have_seen_what_is_tested(
    trained: Recommender, shop: Path, sasrec: SASRec, quick: Training, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(shop, tmp_path / "fewer"))
    rows = pl.read_parquet(folder / "interactions.parquet")
    rows.head(len(rows) - 1).write_parquet(folder / "interactions.parquet")
    fewer = leave_last_out(read(folder))
    with pytest.warns(UserWarning, match="made of item vectors of shop .*may have held what is tested here"):
        tokenize(fewer, None, TOKENIZER, features=FEATURES, collaborative_from=trained.folder)
    with pytest.warns(UserWarning, match="made of item vectors of shop .*may have held what is tested here"):
        run = train(rpg(sasrec, quick), fewer, tmp_path / "run", collaborative_from=trained.folder)
    assert "may have held what is tested" in evaluate(run, fewer).protocol["tokens_from"]


def test_a_training_is_resumed_with_the_same_vectors_alone(
    trained: Recommender, split: Split, sasrec: SASRec, quick: Training, tmp_path: Path
) -> None:
    recipe, source = rpg(sasrec, quick), trained.folder
    with pytest.raises(Interrupted):
        train(recipe, split, tmp_path / "run", collaborative_from=source, observer=StopsAt(6))
    with pytest.raises(ConfigError, match="made of item vectors of another run: resume it with that"):
        train(recipe, split, tmp_path / "run", resume=True)
    run = train(recipe, split, tmp_path / "run", collaborative_from=source, resume=True)
    whole = train(recipe, split, tmp_path / "whole", collaborative_from=source)
    assert run.weights_sum == whole.weights_sum


def test_what_is_refused_in_a_sentence(
    trained: Recommender, split: Split, shop: Path, sasrec: SASRec, quick: Training, tmp_path: Path
) -> None:
    source, recipe = trained.folder, rpg(sasrec, quick)

    def refused(error: type[ForethoughtError], said: str, config: OPQ = TOKENIZER, of: Split = split, **more: object):
        with pytest.raises(error, match=said):
            tokenize(of, tmp_path / "x", config, **{"collaborative_from": source, **more})  # type: ignore[arg-type]
        assert not (tmp_path / "x").exists()

    refused(ConfigError, "reads no collaborative vectors", replace(TOKENIZER, collaborative="none"))
    refused(ConfigError, "collaborative_width 32 would change nothing", replace(TOKENIZER, collaborative_width=32))
    refused(
        DataError,
        "another split of this data .ties 'file', not 'shuffle'",
        of=leave_last_out(split.data, ties="shuffle"),
    )
    refused(DataError, "hold_out_items", of=leave_last_out(split.data, hold_out_items=0.1))
    strangers = Path(shutil.copytree(shop, tmp_path / "strangers"))
    for name in ("interactions", "items"):
        table = pl.read_parquet(strangers / f"{name}.parquet")
        table.with_columns(item_id="s" + pl.col("item_id")).write_parquet(strangers / f"{name}.parquet")
    refused(DataError, "met none of the items of 'strangers'", of=leave_last_out(read(strangers)))
    train(recipe, split, tmp_path / "tokens-run")
    refused(ConfigError, "one of RPG, which knows items by tokens", collaborative_from=tmp_path / "tokens-run")
    train(Popular(), split, tmp_path / "popular")
    refused(ConfigError, "one of Popular, which knows items by no vectors", collaborative_from=tmp_path / "popular")
    tokenize(split, tmp_path / "made", TOKENIZER, features=FEATURES)
    with pytest.raises(ConfigError, match="have a tokenizer that is fitted already"):
        tokenize(split, tmp_path / "x", like=tmp_path / "made", collaborative_from=source)
    for other, said, more in (
        (Recipe(method=sasrec, training=quick), "The method reads no tokens", {}),
        (replace(recipe, method=replace(recipe.method, tokens=str(tmp_path / "made"))), "in a folder of tokens", {}),  # type: ignore[type-var]
        (recipe, "by the run that it begins with", {"start": tmp_path / "tokens-run"}),
    ):
        with pytest.raises(ConfigError, match=said):
            train(other, split, tmp_path / "x", collaborative_from=source, **more)  # type: ignore[arg-type]
        assert not (tmp_path / "x").exists()
