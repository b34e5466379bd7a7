"""Features of items: which there are, how they are scaled, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from forethought.data.features import Feature, Features, FeatureShape, feature_shape, of_column, read_features
from forethought.data.interactions import Interactions
from forethought.data.reading import read
from forethought.errors import ConfigError, DataError, ForethoughtError

TABLE = {
    "item_id": ["a", "b", "c", "d", "unseen"],
    "categories": [["x", "y"], ["x"], None, ["y", "y", "rare"], ["x"]],
    "brand": ["one", "one", None, "two", "two"],
    "price": [1.0, None, 3.0, 5.0, 7.0],
    "code": [1, 1, 2, 2, 3],
    "image": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], None, [2.0, 2.0]],
}


@pytest.fixture
def data(tmp_path: Path) -> Interactions:
    rows = [(user, item) for user in "uvw" for item in "dcba"]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").with_row_index("timestamp")
    frame.write_parquet(tmp_path / "interactions.parquet")
    pl.DataFrame(TABLE).write_parquet(tmp_path / "items.parquet")
    np.save(tmp_path / "item_text_embeddings.npy", np.arange(15.0).reshape(5, 3).astype(np.float16) ** 2)
    return read(tmp_path)


def one(data: Interactions, use: str) -> Feature:
    (feature,) = read_features(data, Features(use=use))
    return feature


def test_tags_are_rows_of_those_that_two_items_share(data: Interactions) -> None:
    assert data.items.ids.to_list() == ["a", "b", "c", "d"]
    feature = one(data, "categories")
    assert feature.shape == FeatureShape("categories", "tags", width=2, tags=2)
    assert feature.scale.labels == ("x", "y")
    assert feature.values.tolist() == [[0, 1], [0, 2], [2, 2], [1, 2]]
    assert feature.known_N.tolist() == [True, True, False, True]


def test_a_word_is_a_tag_and_a_number_too_if_it_is_said(data: Interactions) -> None:
    assert one(data, "brand").values.tolist() == [[0], [0], [1], [1]]  # two's other item is not in the data
    assert one(data, "code:tags").scale.labels == ("1", "2")
    assert one(data, "code").shape == FeatureShape("code", "vectors", 1)


def test_numbers_are_standardised_and_missing_ones_are_zeros_that_are_told(data: Interactions) -> None:
    feature = one(data, "price")
    assert feature.known_N.tolist() == [True, False, True, True]
    np.testing.assert_allclose(feature.values[:, 0], [-(1.5**0.5), 0.0, 0.0, 1.5**0.5], rtol=1e-6)


@pytest.mark.parametrize("use", ["text", "image"])
def test_vectors_are_centred_and_of_unit_length(data: Interactions, use: str) -> None:
    raw = np.arange(12.0).reshape(4, 3) ** 2 if use == "text" else np.array([[1.0, 0], [0, 1], [1, 1], [0, 0]])
    known = raw.any(axis=1)
    centred = (raw - raw[known].mean(axis=0)) * known[:, None]
    feature = one(data, use)
    assert feature.known_N.tolist() == known.tolist()
    wanted = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(feature.values, wanted, atol=1e-6)


def test_auto_is_text_and_what_shops_call_categories(data: Interactions) -> None:
    assert [f.shape.name for f in read_features(data, Features())] == ["text", "categories", "brand"]
    bare = replace(data, texts=None, item_table=data.item_table.select("item_id", "price"))
    assert read_features(bare, Features()) == ()
    alone = data.item_table.with_columns(brand=pl.Series([f"b{n}" for n in range(data.item_table.height)]))
    assert "brand" not in [f.shape.name for f in read_features(replace(data, item_table=alone), Features())]


def test_auto_does_not_pass_over_text_vectors_that_do_not_fit(data: Interactions, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.eye(2, dtype=np.float32))
    with pytest.raises(DataError, match="rows, but the item table"):
        read_features(replace(data, texts=tmp_path / "few.npy"), Features())


def test_a_file_of_vectors_is_named(data: Interactions, tmp_path: Path) -> None:
    np.save(tmp_path / "pictures.npy", np.eye(5, dtype=np.float32))
    assert one(data, str(tmp_path / "pictures.npy")).shape == FeatureShape("pictures", "vectors", 5)


@pytest.mark.parametrize(
    ("use", "error", "said"),
    [
        ("colour", DataError, "no column 'colour' to be a feature; it has categories, brand, price, code, image"),
        ("categorie", DataError, "did you mean 'categories'|Did you mean 'categories'"),
        ("price:tag", ConfigError, "a kind is one of vectors, tags, numbers"),
        ("", ConfigError, "has an empty name"),
        ("brand,", ConfigError, "has an empty name"),
        ("brand,brand", ConfigError, "names 'brand' twice"),
        ("brand:numbers", DataError, "cannot be read as numbers"),
        ("categories:vectors", DataError, "cannot be read as vectors"),
        ("image:numbers", DataError, "cannot be read as numbers"),
        ("missing.npy", DataError, "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told(data: Interactions, use: str, error: type[ForethoughtError], said: str) -> None:
    with pytest.raises(error, match=said):
        read_features(data, Features(use=use))


def test_a_feature_without_a_table_of_items_is_told_where_it_comes_from(data: Interactions) -> None:
    bare = replace(data, item_table=data.item_table.select("item_id"))
    with pytest.raises(DataError, match=r"no column 'brand' to be a feature: name a table of them .* --items FILE"):
        read_features(bare, Features(use="brand"))


def test_without_vectors_beside_the_data_another_file_can_be_named(data: Interactions) -> None:
    """The option that verbs with features have, and not that of intents."""
    with pytest.raises(
        DataError, match=r"make them with forethought embed, or name an \.npy file in the place of text"
    ):
        read_features(replace(data, texts=None), Features(use="text"))


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("price", [1.0, float("inf"), 2.0, 3.0], "holds NaN, infinity"),
        ("price", [2.0] * 4, "the same number for all items"),
        ("price", [float("nan"), None, None, None], "has no number for any item"),
        ("brand", ["a", "b", "c", "d"], "no tag that two items share: leave it out, or, .* forethought embed"),
        ("image", [[1.0], [1.0, 2.0], [3.0], [4.0]], "several lengths"),
        ("image", [[1.0], [float("inf")], [3.0], [4.0]], "holds NaN, infinity"),
        ("image", [[0.0], None, [0.0], [0.0]], "No item has a vector"),
    ],
)
def test_columns_that_tell_nothing_are_refused(data: Interactions, column: str, values: list[Any], said: str) -> None:
    table = data.item_table.with_columns(pl.Series(column, values, strict=False))
    with pytest.raises(DataError, match=said):
        read_features(replace(data, item_table=table), Features(use=column))


def test_numbers_that_nobody_knows_may_be_nan_and_none_lies_beyond_reason() -> None:
    """A price of 1e38 among new items, say, whose square no float32 holds: every score would be NaN."""
    price = pl.Series("price", [1.0, float("nan"), 3.0, None])
    feature = of_column("price", price, "numbers")
    assert feature.known_N.tolist() == [True, False, True, False]
    assert feature.values[:, 0].tolist() == [-1, 0, 1, 0]
    joined = of_column("price", pl.Series("price", [1e5]), "numbers", feature.scale)
    assert joined.values.tolist() == [[1e5 - 2]]
    with pytest.raises(DataError, match=r"holds 1e\+38, more than 1,000,000 standard deviations from 2, the mean"):
        of_column("price", pl.Series("price", [2.0, 1e38]), "numbers", feature.scale)


def test_vectors_of_other_items_are_refused(data: Interactions, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.eye(4, dtype=np.float32))
    with pytest.raises(DataError, match="has 4 rows, but the item table 5"):
        read_features(data, Features(use=str(tmp_path / "other.npy")))


def test_a_damaged_shape_is_told() -> None:
    assert feature_shape({"name": "x", "kind": "tags", "width": 2, "tags": 3}) == FeatureShape("x", "tags", 2, 3)
    for parts in ({"name": "x"}, [], {"name": "x", "kind": "other", "width": 1, "tags": 0}):
        with pytest.raises(ConfigError, match="a feature"):
            feature_shape(parts)
