"""Evidence of a data set: which kinds there are, what each is made of, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from forethought.data.evidence import Evidence, EvidenceShape, EvidenceTable, evidence_shape, read_evidence
from forethought.data.neighbours import alike, co_occurrence
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, DataError, ForethoughtError

VECTORS = np.array([[3.0, 0.0], [2.0, 1.0], [0.0, 3.0], [-1.0, 2.0], [9.0, 9.0]], dtype=np.float32)
TABLE = {
    "item_id": ["a", "b", "c", "d", "unseen"],
    "categories": [["x", "y"], ["x"], None, ["y"], ["x"]],
    "price": [1.0, 2.0, 3.0, 5.0, 7.0],
    "image": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], None, [2.0, 2.0]],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    users = {"u": "abcd", "v": "bacd", "w": "dcab", "x": "cdba"}
    rows = [(user, item) for user, items in users.items() for item in items]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").with_row_index("timestamp")
    frame.write_parquet(tmp_path / "interactions.parquet")
    pl.DataFrame(TABLE).write_parquet(tmp_path / "items.parquet")
    np.save(tmp_path / "item_text_embeddings.npy", VECTORS)
    return tmp_path


@pytest.fixture
def split(folder: Path) -> Split:
    return leave_last_out(read(folder))


def names(tables: tuple[EvidenceTable, ...]) -> list[str]:
    return [each.shape.name for each in tables]


def test_auto_is_co_occurrence_texts_and_repeats_where_there_are_any(split: Split, folder: Path) -> None:
    assert names(read_evidence(split, Evidence())) == ["co_occurrence", "text"]
    bare = replace(split, data=replace(split.data, texts=None))
    assert names(read_evidence(bare, Evidence())) == ["co_occurrence"]
    again = pl.read_parquet(folder / "interactions.parquet")
    more = again.tail(1).with_columns(timestamp=pl.lit(99, pl.get_index_type()))
    pl.concat([again, more]).write_parquet(folder / "interactions.parquet")
    assert names(read_evidence(leave_last_out(read(folder)), Evidence())) == ["co_occurrence", "text", "repeat"]


def test_each_kind_is_what_it_says_in_the_order_asked_for(split: Split) -> None:
    config = Evidence(use="repeat, text,co_occurrence", neighbours=2, likenesses=3, window=1, directed=True)
    repeat, text, met = read_evidence(split, config)
    assert repeat.table.matrix().toarray().tolist() == np.eye(4).tolist()
    assert repeat.shape == EvidenceShape("repeat", "like", 1)
    centred = VECTORS[:4] - VECTORS[:4].mean(0)
    np.testing.assert_allclose(text.table.matrix().toarray(), alike(centred, most=3).matrix().toarray(), atol=1e-6)
    assert text.shape == EvidenceShape("text", "like", 3)
    wanted = co_occurrence(split.train, 4, most=2, window=1, directed=True)
    assert (met.table.items_NK == wanted.items_NK).all()
    assert met.shape == EvidenceShape("co_occurrence", "met", wanted.items_NK.shape[1])
    assert met.counts_N.tolist() == split.train.item_counts(4).tolist()


def test_only_the_training_part_is_counted(split: Split) -> None:
    """Of a b | c | d and b a | c | d nobody has met c or d."""
    (met,) = read_evidence(split, Evidence(use="co_occurrence"))
    assert met.table.pairs_NK is not None
    counted = met.table.matrix().toarray() > 0
    assert [(int(j), int(i)) for j, i in zip(*np.nonzero(counted), strict=True)] == [(0, 1), (1, 0), (2, 3), (3, 2)]
    assert met.table.pairs_NK.sum() == 8


def test_popular_is_of_the_last_weeks_where_there_are_times(split: Split) -> None:
    """Of the training part: b 4 times, c 3 times, a and d less."""
    (of_late,) = read_evidence(split, Evidence(use="popular", most_popular=2))
    assert of_late.shape == EvidenceShape("popular", "recent", 1)
    undated = replace(split.train, histories=replace(split.train.histories, times=None))
    (of_all,) = read_evidence(replace(split, train=undated), Evidence(use="popular", most_popular=2))
    assert of_all.shape == EvidenceShape("popular", "popular", 1)
    train = split.train.item_counts(split.data.n_items)
    assert of_all.table.pairs_NK is not None
    heard = of_all.table.values_NK[:, 0] > 0
    listed = of_all.table.items_NK[heard, 0]
    assert train[listed].tolist() == of_all.table.pairs_NK[heard, 0].tolist()
    assert len(listed) == (train > np.sort(train)[-3]).sum()


def test_a_column_or_a_file_of_vectors_may_speak(split: Split, tmp_path: Path) -> None:
    np.save(tmp_path / "shape.npy", VECTORS[::-1])
    tables = read_evidence(split, Evidence(use=f"image,{tmp_path / 'shape.npy'}"))
    assert names(tables) == ["image", "shape"]
    assert not tables[0].table.values_NK[3].any()  # an item without vectors has no neighbours
    assert not (tables[0].table.items_NK[tables[0].table.values_NK > 0] == 3).any()


@pytest.mark.parametrize(
    ("use", "error", "said"),
    [
        (
            "nothing",
            ConfigError,
            "There is no evidence 'nothing': choose co_occurrence, text, repeat, ease, popular, a column",
        ),
        ("cooccurrence", ConfigError, "Did you mean 'co_occurrence'?"),
        ("imgae", ConfigError, "Did you mean 'image'?"),
        ("categories", ConfigError, "is no vector of an item"),
        ("price", ConfigError, "is no vector of an item"),
        ("image:tags", ConfigError, "is read as tags, but only vectors are more or less alike"),
        ("auto,text", ConfigError, "says auto beside other names"),
        ("{folder}/repeat.npy", ConfigError, "would be called 'repeat', which is a kind of its own"),
        ("{folder}/popular.npy", ConfigError, "would be called 'popular', which is a kind of its own"),
        ("image,{folder}/image.npy", ConfigError, "has two kinds called 'image'"),
        ("{folder}/long.npy", DataError, "has 6 rows, but the item table 5"),
        ("{folder}/nan.npy", DataError, "hold NaN, infinity or numbers beyond float32"),
        ("{folder}/missing.npy", DataError, "cannot be read"),
        ("{folder}/zeros.npy", DataError, "all numbers are 0"),
    ],
)
def test_what_cannot_speak_is_told(
    split: Split, tmp_path: Path, use: str, error: type[ForethoughtError], said: str
) -> None:
    np.save(tmp_path / "image.npy", VECTORS)
    np.save(tmp_path / "long.npy", np.ones((6, 2), np.float32))
    np.save(tmp_path / "nan.npy", np.where(VECTORS == 2, np.nan, VECTORS))
    np.save(tmp_path / "zeros.npy", np.zeros_like(VECTORS))
    with pytest.raises(error) as told:
        read_evidence(split, Evidence(use=use.format(folder=tmp_path)))
    assert said in str(told.value)
    assert str(told.value).endswith((".", "?"))


def test_texts_that_are_not_there_or_of_another_data_set_are_told(folder: Path, split: Split) -> None:
    bare = replace(split, data=replace(split.data, texts=None))
    with pytest.raises(DataError, match=r"no text vectors .* whose likeness could be evidence: make them with"):
        read_evidence(bare, Evidence(use="text"))
    np.save(folder / "item_text_embeddings.npy", VECTORS[:3])
    with pytest.raises(DataError, match="has 3 rows, but the item table 5"):
        read_evidence(leave_last_out(read(folder)), Evidence(use="text"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use": ""}, "has an empty name"),
        ({"use": "text,,repeat"}, "has an empty name"),
        ({"use": "text,text"}, "names 'text' twice"),
        ({"gate": True}, "gate would do nothing"),
        ({"fit": "test"}, "fit is 'test', but must be one of"),
        ({"weeks": 2}, "weeks would change nothing, because evidence is auto: name popular too"),
        ({"use": "text", "window": 3, "directed": True}, "window and directed would change nothing"),
        ({"use": "co_occurrence,repeat", "likenesses": 3}, "likenesses would change nothing, because evidence is co_"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"recency": 1.5}, "recency is 1.5"),
        ({"last": True}, "last is True"),
    ],
)
def test_settings_are_held_to_their_range(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Evidence(**settings)


@pytest.mark.parametrize(
    "parts",
    [
        {"name": "text", "kind": "likes", "neighbours": 3},
        {"name": "text", "kind": "like", "neighbours": 0},
        {"name": "text", "kind": "like"},
        {"name": 3, "kind": "like", "neighbours": 3},
        [1],
    ],
)
def test_a_damaged_shape_is_told(parts: Any) -> None:
    good = EvidenceShape("text", "like", 3)
    assert evidence_shape(good._asdict()) == good
    with pytest.raises(ForethoughtError):
        evidence_shape(parts)
