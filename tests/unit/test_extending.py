"""A run with features takes items that it never saw, and says in a sentence which it does not take."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.evidence import Evidence
from forethought.data.features import Features, read_features
from forethought.data.reading import read
from forethought.data.splits import leave_last_out
from forethought.errors import ConfigError, DataError, ForethoughtError, RunError
from forethought.evaluation.report import Evaluation
from forethought.extending import extend
from forethought.methods.igr_sr import IGRSR
from forethought.reasoning.intent_reasoner import Reasoner
from forethought.recommender import Recommender, load
from forethought.reporting import report
from forethought.runs import evaluate, train
from forethought.training.settings import Training

WIDTH = 6


@pytest.fixture(scope="module")
def rich(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop with text vectors beside it; the last item has none."""
    folder = Path(shutil.copytree(shop, tmp_path_factory.mktemp("rich") / "shop"))
    vectors = np.random.default_rng(0).normal(size=(pl.read_parquet(folder / "items.parquet").height, WIDTH)) + 1
    vectors[-1] = 0
    np.save(folder / "item_text_embeddings.npy", vectors.astype(np.float16))
    return folder


@pytest.fixture(scope="module")
def run(rich: Path, sasrec: SASRec, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    recipe = Recipe(method=sasrec, training=quick, features=Features(use="text,categories,brand,price"))
    return train(recipe, leave_last_out(read(rich)), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def new(run: Recommender) -> pl.DataFrame:
    """Twins of the first three items under other names."""
    known = ["categories", "brand", "price"]
    return run.item_table.head(3).select(pl.Series("item_id", ["n1", "n2", "n3"]), *known)


@pytest.fixture
def texts(rich: Path, run: Recommender, tmp_path: Path) -> Path:
    """The vectors of the first three items."""
    data = read(rich)
    vectors = np.load(rich / "item_text_embeddings.npy")[data.item_table["source_row"].head(3).to_numpy()]
    np.save(tmp_path / "texts.npy", vectors)
    return tmp_path / "texts.npy"


def test_features_of_new_items_are_made_as_those_of_the_others_were(
    run: Recommender, new: pl.DataFrame, texts: Path, rich: Path, tmp_path: Path
) -> None:
    extended, n = extend(run, new, tmp_path / "out", texts=texts), len(run.items)
    assert run.config.features is not None
    for each, feature in zip(
        extended.method.items.features.maps,
        read_features(read(rich), run.config.features),
        strict=True,  # type: ignore[union-attr]
    ):
        assert each.shape.name == feature.shape.name
        np.testing.assert_array_equal(each.values[:n].numpy(), feature.values)
        np.testing.assert_array_equal(each.values[n:].numpy(), feature.values[:3])
        np.testing.assert_array_equal(each.missing_N1[n:, 0].numpy(), ~feature.known_N[:3])
    again = load(tmp_path / "out")
    assert again.items.id_list([n, n + 1, n + 2]) == ["n1", "n2", "n3"]
    assert len(again.about["extended"]) == 1
    assert again.about["extended"][0] == {"items": 3, "weights": run.weights_sum}
    assert (tmp_path / "out" / "README.md").is_file()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "items.parquet",
        "model.safetensors",
    ]


def test_what_is_not_known_of_a_new_item_is_told_apart_from_zero(run: Recommender, tmp_path: Path) -> None:
    new = pl.DataFrame(
        {"item_id": ["bare", "odd"], "categories": [None, ["of no other", ""]], "brand": [None, "nobody"]},
        schema_overrides={"categories": pl.List(pl.String)},
    ).with_columns(price=pl.lit(None), text=pl.Series([None, [0.0] * WIDTH], dtype=pl.List(pl.Float64)))
    extended, n = extend(run, new, tmp_path / "out"), len(run.items)
    maps = extended.method.items.features.maps  # type: ignore[union-attr]
    assert all(each.missing_N1[n:].all() for each in maps)
    with torch.inference_mode():
        wanted = sum(each.missing for each in maps).expand(2, -1)
        torch.testing.assert_close(extended.method.items.vectors()[n:], wanted)  # type: ignore[operator,union-attr]


def test_more_known_tags_than_any_item_had_are_all_read(
    run: Recommender, new: pl.DataFrame, texts: Path, tmp_path: Path
) -> None:
    (tags,) = (each for each in run.about["features"] if each["name"] == "categories")
    everything = new.with_columns(categories=pl.Series([tags["scale"]["labels"]] * 3))
    extended = extend(run, everything, tmp_path / "out", texts=texts)
    (each,) = (m for m in extended.method.items.features.maps if m.shape.name == "categories")  # type: ignore[union-attr]
    assert each.shape.width == min(len(tags["scale"]["labels"]), 64) > tags["width"]
    n = len(run.items)
    assert (each.values[n] < each.shape.tags).all()
    before = next(m for m in run.method.items.features.maps if m.shape.name == "categories")  # type: ignore[union-attr]
    with torch.inference_mode():
        torch.testing.assert_close(each(torch.arange(n)), before(torch.arange(n)))
    assert load(tmp_path / "out").recommend([["n1"]], k=3)[0].items


def without(name: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda new: new.drop(name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("brand"), "no column 'brand', which the run reads"),
        (lambda new: new.rename({"categories": "categorie"}), r"no column 'categories', .* Did you mean 'categorie'"),
        (lambda new: new.with_columns(stock=1), r"a column 'stock' that the run does not know"),
        (lambda new: new.with_columns(train_count=9), r"a column 'train_count' that the run does not know"),
        (lambda new: new.with_columns(item_id=pl.lit("n1")), r"lists some ids more than once \('n1'\)"),
        (
            lambda new: new.with_columns(item_id=pl.Series([1, 2, 3])),
            "of kind integer, but those of the run of kind string",
        ),
        (lambda new: new.with_columns(item_id=pl.Series(["n1", None, "n3"])), "1 empty ids"),
        (lambda new: new.with_columns(item_id=pl.Series([1.0, 2.0, 3.0])), "holds floats"),
        (
            lambda new: new.with_columns(item_id=pl.Series(["i00000", "n2", "i00001"])),
            r"knows 2 of the 3 new items already",
        ),
        (lambda new: new.clear(), "has no rows"),
        (without("item_id"), r"no column 'item_id' of ids; it has .*: say which it is with item=... .* --item"),
        (lambda new: new.with_columns(price=pl.lit(float("inf"))), "'price' holds NaN, infinity"),
        (lambda new: new.with_columns(price=pl.lit(1e38)), r"'price' holds 1e\+38, more than 1,000,000 standard"),
        (
            lambda new: new.with_columns(price=pl.lit("dear")),
            "'price' of the new items .* cannot be read as that of the run",
        ),
    ],
)
def test_items_that_are_not_taken(
    run: Recommender,
    new: pl.DataFrame,
    texts: Path,
    tmp_path: Path,
    change: Callable[[pl.DataFrame], pl.DataFrame],
    said: str,
) -> None:
    with pytest.raises(DataError, match=said) as error:
        extend(run, change(new), tmp_path / "out", texts=texts)
    assert str(error.value).count(". ") <= 1
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.npy"]


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (np.ones((3, WIDTH + 1)), f"have {WIDTH + 1} numbers, but those that the run was trained with {WIDTH}"),
        (np.ones((2, WIDTH)), "has 2 rows, but the item table 3"),
        (np.full((3, WIDTH), np.nan), "hold NaN"),
        (np.ones((3, WIDTH), int), "int64"),
        (None, "no column 'text', which the run reads: give it .on the command line --texts FILE."),
        ("missing.npy", "cannot be read"),
    ],
)
def test_texts_that_are_not_taken(run: Recommender, new: pl.DataFrame, tmp_path: Path, vectors: Any, said: str) -> None:
    if isinstance(vectors, np.ndarray):
        np.save(tmp_path / "texts.npy", vectors)
        vectors = tmp_path / "texts.npy"
    with pytest.raises(DataError, match=said):
        extend(run, new, tmp_path / "out", texts=vectors)
    assert not (tmp_path / "out").exists()


def test_runs_and_folders_that_are_not_taken(
    trained: Recommender,
    run: Recommender,
    new: pl.DataFrame,
    texts: Path,
    tmp_path: Path,
    rich: Path,
    sasrec: SASRec,
    quick: Training,
) -> None:
    with pytest.raises(ConfigError, match=r"reads no features of its items, so that .* train one with --features"):
        extend(trained, new, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="already there and not empty"):
        extend(run, new, tmp_path / "full", texts=texts)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match="already there and not empty"):
        extend(run, new, tmp_path / "loop", texts=texts)
    for choices in ({"run": 7}, {"out": 7}, {"texts": 7}, {"item": 7}):
        with pytest.raises(ConfigError, match="is 7, but must be"):
            extend(**{"run": run, "items": new, "out": tmp_path / "out", **choices})  # type: ignore[arg-type]
    plain = train(
        Recipe(method=sasrec, training=quick, features=Features(use="brand")),
        leave_last_out(read(rich)),
        tmp_path / "p",
    )
    with pytest.raises(ConfigError, match="reads no text vectors"):
        extend(plain, new, tmp_path / "out", texts=texts)
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match=r"was extended to .*: evaluate the run that it was extended from"):
        evaluate(extend(run, new, tmp_path / "out", texts=texts), leave_last_out(read(rich)))
    # nor are comparisons and reports told to evaluate it
    with pytest.raises(RunError, match=r"no metrics.json, for it was extended .*: take the run that it was extended"):
        Evaluation.read(tmp_path / "out")
    (note,) = [note for note in report([tmp_path / "out"], examples=0).notes if "never evaluated" in note]
    assert "name the run that it was extended from" in note


def test_ids_stand_under_the_name_that_the_runs_own_data_had_or_under_the_one_that_is_given(
    rich: Path, sasrec: SASRec, quick: Training, tmp_path: Path
) -> None:
    visits = pl.read_parquet(rich / "interactions.parquet").rename({"item_id": "Waren Nr"})
    goods = pl.read_parquet(rich / "items.parquet").rename({"item_id": "Waren Nr"})
    visits.write_parquet(tmp_path / "visits.parquet")
    goods.write_parquet(tmp_path / "goods.parquet")
    data = read(tmp_path / "visits.parquet", item="Waren Nr", items=tmp_path / "goods.parquet")
    recipe = Recipe(method=sasrec, training=quick, features=Features(use="brand"))
    run = train(recipe, leave_last_out(data), tmp_path / "run")
    new = pl.DataFrame({"Waren Nr": ["n1"], "brand": ["x"]})
    assert extend(run, new, tmp_path / "own").items.id_list([-1]) == ["n1"]
    assert extend(run, new.rename({"Waren Nr": "item_id"}), tmp_path / "plain").items.id_list([-1]) == ["n1"]
    other = new.rename({"Waren Nr": "sku"})
    assert extend(run, other, tmp_path / "named", item="sku").items.id_list([-1]) == ["n1"]
    with pytest.raises(DataError, match=r"no column 'Waren Nr' of ids; it has 'sku', 'brand': say which"):
        extend(run, other, tmp_path / "out")
    # a name that is given is not exchanged for another
    with pytest.raises(DataError, match=r"no column 'skus' of ids.* Did you mean 'sku'"):
        extend(run, other, tmp_path / "out", item="skus")
    with pytest.raises(DataError, match="no column 'sku' of ids; it has 'item_id'"):
        extend(run, new.rename({"Waren Nr": "item_id"}), tmp_path / "out", item="sku")
    twice = pl.DataFrame({"Waren Nr": ["n1", "n1"], "brand": ["x", "y"]})
    with pytest.raises(DataError, match="'Waren Nr' of the new items lists some ids more than once"):
        extend(run, twice, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["integer", "uuid"])
def test_ids_of_any_kind(kind: str, rich: Path, sasrec: SASRec, quick: Training, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(rich, tmp_path / "shop"))
    of = {"integer": lambda i: int(i[1:]), "uuid": lambda i: uuid.uuid5(uuid.NAMESPACE_URL, i).bytes}[kind]
    for name in ("interactions", "items"):
        table = pl.read_parquet(folder / f"{name}.parquet")
        ids = pl.Series("item_id", [of(i) for i in table["item_id"]])
        table.with_columns(ids).write_parquet(folder / f"{name}.parquet")
    recipe = Recipe(method=sasrec, training=quick, features=Features(use="brand"))
    run = train(recipe, leave_last_out(read(folder)), tmp_path / "run")
    ids = [of("i90001"), of("i90002")]
    new = pl.DataFrame({"item_id": ids, "brand": ["x", None]})
    new = new.with_columns(pl.col("item_id").cast(pl.Int32)) if kind == "integer" else new
    extended = extend(run, new, tmp_path / "out")
    wanted = ids if kind == "integer" else [uuid.UUID(bytes=i) for i in ids]
    assert extended.items.id_list([-2, -1]) == wanted
    assert set(extended.recommend([run.items.id_list([0])], allow=wanted)[0].items) == set(wanted)


def test_profiles_of_texts_are_made_of_the_same_vectors_or_refused(
    rich: Path, quick: Training, new: pl.DataFrame, texts: Path, tmp_path: Path
) -> None:
    method = IGRSR(
        backbone=SASRec(width=16, layers=1, heads=2, window=8),
        reasoner=Reasoner(width=16, heads=2),
        intents="texts",
        text_width=WIDTH,
    )
    split = leave_last_out(read(rich))
    run = train(Recipe(method=method, training=quick, features=Features(use="text")), split, tmp_path / "run")
    only = new.select("item_id")
    extended, n = extend(run, only, tmp_path / "out", texts=texts), len(run.items)
    profiles = extended.method.intents_from.texts_NE  # type: ignore[union-attr]
    torch.testing.assert_close(profiles[:n], run.method.intents_from.texts_NE)  # type: ignore[union-attr]
    torch.testing.assert_close(profiles[n:], profiles[:3], atol=1e-3, rtol=1e-3)  # type: ignore[index]
    other = train(Recipe(method=method, training=quick, features=Features(use="brand")), split, tmp_path / "other")
    with pytest.raises(ForethoughtError, match="train it with --features text"):
        extend(other, new.select("item_id", "brand"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_new_items_have_no_evidence_and_what_others_have_stays(
    rich: Path, sasrec: SASRec, quick: Training, new: pl.DataFrame, tmp_path: Path
) -> None:
    recipe = Recipe(
        method=sasrec, training=quick, features=Features(use="brand"), evidence=Evidence(use="co_occurrence")
    )
    split = leave_last_out(read(rich))
    run = train(recipe, split, tmp_path / "run")
    with torch.no_grad():
        run.method.evidence.weights_E.fill_(2.0)  # type: ignore[union-attr]
    extended, n = extend(run, new.select("item_id", "brand"), tmp_path / "out"), len(run.items)
    mine, theirs = extended.method.evidence, run.method.evidence
    assert mine is not None
    assert theirs is not None
    assert not mine.values_NK[n:].any()
    assert torch.equal(mine.values_NK[:n], theirs.values_NK)
    history = run.items.id_list([0, 5, 7])
    (old,), (wide,) = run.recommend([history], k=5), extended.recommend([history], k=5, deny=["n1", "n2", "n3"])
    assert wide.items == old.items
    assert wide.scores == pytest.approx(old.scores, abs=1e-5)
    assert extended.recommend([[*history, "n1"]], k=n, allow=["n1", "n2"], exclude_history=False)[0].items
    again = train(recipe, split, tmp_path / "again", start=tmp_path / "run")
    assert torch.equal(again.method.evidence.values_NK, theirs.values_NK)  # type: ignore[union-attr]
