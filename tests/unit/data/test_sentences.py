"""Text vectors: what is read of an item, and a small sentence encoder made here."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from forethought.data.sentences import embed, sentences
from forethought.errors import ConfigError, DataError, MissingExtraError

WORDS = ["[UNK]", "red", "blue", "pen", "ink", "brand", "acme", "categories", "office", "pens", ">", ".", ":"]
TABLE = pl.DataFrame(
    {
        "item_id": [1, 2, 3, 4],
        "title": ["Red  pen", None, " ", None],
        "brand": ["Acme", "Acme", "", None],
        "categories": [["Office", "Pens"], ["Office", None], [], None],
        "price": [1.5, 2.0, None, None],
    }
)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mean of one vector a word, saved as sentence-transformers saves its encoders."""
    st = pytest.importorskip("sentence_transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    words.normalizer = tokenizers.normalizers.Lowercase()
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(0).normal(size=(len(WORDS), 8)).astype(np.float32)
    folder = tmp_path_factory.mktemp("encoder")
    static = st.sentence_transformer.modules.StaticEmbedding(words, embedding_weights=vectors)
    st.SentenceTransformer(modules=[static], device="cpu").save(str(folder))
    np.save(folder / "vectors.npy", vectors)
    return folder


def test_what_is_read() -> None:
    assert sentences(TABLE) == [
        "Red pen. Brand: Acme. Categories: Office > Pens",
        "Brand: Acme. Categories: Office",
        "",
        "",
    ]
    assert sentences(TABLE, ["price", "title"]) == ["Price: 1.5. Red pen", "Price: 2.0", "", ""]


@pytest.mark.parametrize(
    ("table", "columns", "said"),
    [
        (TABLE.select("item_id", "price"), None, "There is no column 'title'"),
        (TABLE, ["titel"], "Did you mean 'title'"),
        (TABLE.with_columns(title=pl.struct("brand")), None, r"type Struct.* which is no text"),
        (
            TABLE.with_columns(title=pl.col("categories").implode().over("item_id")),
            None,
            r"type List\(List.* is no text",
        ),
    ],
)
def test_what_cannot_be_read(table: pl.DataFrame, columns: list[str] | None, said: str) -> None:
    with pytest.raises(DataError, match=said):
        sentences(table, columns)


def test_empty_words_of_a_list_are_nothing() -> None:
    cells = [["", " "], [" a ", ""], [], None, ["b", "c"]]
    wanted = ["", "Tags: a", "", "", "Tags: b > c"]
    assert sentences(pl.DataFrame({"tags": cells}), ["tags"]) == wanted
    assert (
        sentences(pl.DataFrame({"tags": cells[-1:]}, schema={"tags": pl.Array(pl.String, 2)}), ["tags"]) == wanted[-1:]
    )
    assert sentences(pl.DataFrame({"tags": [[1, 2], [3]]}), ["tags"]) == ["Tags: 1 > 2", "Tags: 3"]


@pytest.mark.parametrize("columns", [[], "title", [1]])
def test_columns_are_a_list_of_names(columns: Any) -> None:
    with pytest.raises(ConfigError, match="must be a list of names"):
        sentences(TABLE, columns)


def test_a_data_folder_stands_for_its_items(tmp_path: Path) -> None:
    TABLE.select("item_id", user_id="item_id").write_parquet(tmp_path / "interactions.parquet")
    with pytest.raises(DataError, match=r"has no items\.parquet"):
        sentences(tmp_path)
    TABLE.write_parquet(tmp_path / "items.parquet")
    assert sentences(tmp_path) == sentences(str(tmp_path)) == sentences(TABLE)


def test_vectors(encoder: Path) -> None:
    told = []
    found = embed(TABLE, model=str(encoder), report=lambda *what: told.append(what))
    assert found.dtype == np.float16
    assert told == [("items", 0, 2), ("items", 2, 2)]
    vectors = np.load(encoder / "vectors.npy")
    for row, text in enumerate(
        ["red pen . brand : acme . categories : office > pens", "brand : acme . categories : office"]
    ):
        mean = vectors[[WORDS.index(word) for word in text.split()]].mean(0)
        np.testing.assert_allclose(found[row], mean / np.linalg.norm(mean), atol=1e-3)
    assert not found[2:].any()


def test_what_cannot_be_made(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="Of no item is anything said"):
        embed(TABLE[2:], model=str(encoder))
    with pytest.raises(ConfigError, match="cannot be loaded"):
        embed(TABLE, model=str(tmp_path))
    with pytest.raises(ConfigError, match="batch is 0"):
        embed(TABLE, model=str(encoder), batch=0)
    shutil.copytree(encoder, tmp_path / "pickled")
    (weights,) = (tmp_path / "pickled").rglob("*.safetensors")
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(ConfigError, match=r"holds '.*pytorch_model.bin', which would have to be unpickled"):
        embed(TABLE, model=tmp_path / "pickled")

    def fails(texts: list[str], **_: object) -> np.ndarray:
        raise ValueError("Asking to pad\nbut cannot.")

    for encode, said in (
        (fails, r"fails \(Asking to pad\): choose"),
        (lambda *_, **__: np.full((2, 8), np.nan), "NaN"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr("forethought.data.sentences.load_encoder", lambda *_, how=encode: SimpleNamespace(encode=how))
            with pytest.raises(ConfigError, match=said):
                embed(TABLE, model="mine")
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"forethought\[text\]"):
        embed(TABLE, model=str(encoder))
