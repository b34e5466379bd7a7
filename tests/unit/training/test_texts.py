"""IGR-SR whose intents are profiles of texts: what it reads beside the data, keeps, and refuses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.interactions import DataSizes
from forethought.data.prepare import Filters, PrepareConfig, open_prepared, prepare
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out
from forethought.data.texts import VECTORS, item_texts
from forethought.errors import ConfigError, DataError
from forethought.methods.igr_sr import IGRSR, IGRSRModel
from forethought.reasoning.intent_reasoner import Reasoner
from forethought.reasoning.profiles import TextProfiles
from forethought.recommender import load
from forethought.references import resolve
from forethought.runs import evaluate, train
from forethought.training.settings import Training

WIDTH = 6


@pytest.fixture
def told(shop: Path, tmp_path: Path) -> Path:
    """The shop with text vectors."""
    folder = shutil.copytree(shop, tmp_path / "shop")
    rows = pl.read_parquet(folder / "items.parquet").height
    np.save(folder / VECTORS, np.random.default_rng(0).normal(size=(rows, WIDTH)).astype(np.float16))
    return folder


@pytest.fixture
def config(sasrec: SASRec) -> IGRSR:
    return IGRSR(backbone=sasrec, reasoner=Reasoner(width=16, ffn_width=32), intents="texts", text_width=WIDTH)


def test_texts_are_kept_with_the_run(told: Path, config: IGRSR, quick: Training, tmp_path: Path) -> None:
    split = leave_last_out(read(told))
    trained = train(Recipe(method=config, training=quick), split, tmp_path / "run")
    (told / VECTORS).unlink()
    again = load(tmp_path / "run")
    assert isinstance(again.method, IGRSRModel)
    assert isinstance(again.method.intents_from, TextProfiles)
    norms = again.method.intents_from.texts_NE.norm(dim=1)
    assert torch.allclose(norms, torch.full_like(norms, WIDTH**0.5), atol=1e-3)
    assert evaluate(trained, split).metrics == evaluate(again, split).metrics


def test_no_encoder_is_trained_for_nothing(told: Path, config: IGRSR) -> None:
    items = leave_last_out(read(told)).data.n_items
    assert [stage.name for stage in config.build(DataSizes(items)).stages()] == ["encoder", "reasoner"]
    alone = replace(config, reasoner=replace(config.reasoner, items="random"))
    assert [stage.name for stage in alone.build(DataSizes(items)).stages()] == ["reasoner"]
    wider = replace(config, reasoner=replace(config.reasoner, width=32))  # its items cannot start from the encoder's
    assert [stage.name for stage in wider.build(DataSizes(items)).stages()] == ["reasoner"]
    assert [stage.name for stage in replace(wider, intents="distilled").build(DataSizes(items)).stages()] == [
        *("encoder", "reasoner")
    ]


def test_texts_follow_the_items(told: Path, tmp_path: Path) -> None:
    vectors = np.load(told / VECTORS)
    prepare(told, tmp_path / "core", PrepareConfig(keep=Filters(k_core=(3, 12))))
    core = open_prepared(tmp_path / "core").data
    assert core.n_items < len(vectors)
    ids = pl.read_parquet(told / "items.parquet")["item_id"].to_list()
    assert np.array_equal(item_texts(core), vectors[[ids.index(each) for each in core.item_table["item_id"]]])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("gone", "no text vectors of items beside"),
        ("short", "has 2 rows, but the item table 40"),
        ("long", "has 41 rows, but the item table 40"),
        ("several", "holds several arrays"),
        ("nothing", "No item has a text"),
        ("huge", "numbers beyond float32"),
        ("flat", r"are float64 \[3\]"),
        ("pickled", "cannot be read"),
        ("nan", "NaN, infinity or"),
    ],
)
def test_files_that_do_not_fit(told: Path, config: IGRSR, wrong: str, said: str) -> None:
    path = told / VECTORS
    vectors = {
        "short": np.zeros((2, WIDTH)),
        "flat": np.zeros(3),
        "pickled": np.array([{}, {}], dtype=object),
        "long": np.ones((41, WIDTH)),
        "nothing": np.zeros((40, WIDTH)),
        "huge": np.full((40, WIDTH), 1e300),
        "nan": np.full((40, WIDTH), np.nan),
    }
    path.unlink()
    if wrong == "several":
        with path.open("wb") as file:
            np.savez(file, one=np.ones((40, WIDTH)))
    if wrong in vectors:
        np.save(path, vectors[wrong], allow_pickle=True)
    split = leave_last_out(read(told))
    with pytest.raises(DataError, match=said):
        resolve(config, split)


def test_settings_that_do_not_fit(told: Path, config: IGRSR, split: Split, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="have 6 numbers, not 384"):
        resolve(replace(config, text_width=384), leave_last_out(read(told)))
    with pytest.raises(ConfigError, match="texts only with"):
        replace(config, intents="distilled", texts="some.npy")
    with pytest.raises(DataError, match="cannot be read"):
        resolve(replace(config, texts=str(tmp_path / "none.npy")), split)
    np.save(tmp_path / "other.npy", np.ones((split.data.n_items, WIDTH)))
    resolve(replace(config, texts=tmp_path / "other.npy"), split)  # type: ignore[arg-type]


def test_rows_of_no_item_table_are_refused(told: Path) -> None:
    """Or they would be taken for those of sorted ids."""
    alone = read(pl.read_parquet(told / "interactions.parquet"))
    with pytest.raises(DataError, match="was read without one: name it with items"):
        item_texts(alone, told / VECTORS)
    beside = read(pl.read_parquet(told / "interactions.parquet"), items=told / "items.parquet")
    assert len(item_texts(beside, told / VECTORS)) == beside.n_items


@pytest.mark.parametrize(
    "header", ["{'descr': '<f4', (", "{" * 40, "{'descr': 3, 'fortran_order': 0, 'shape': 'x'}", "\0"]
)
def test_a_header_that_is_no_python_is_told(told: Path, config: IGRSR, header: str) -> None:
    text = header.encode()
    (told / VECTORS).write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(40))
    with pytest.raises(DataError, match="cannot be read"):
        resolve(config, leave_last_out(read(told)))
