"""Text vectors by the command line; what a sentence encoder makes of a text is the unit test's."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from shell import TINY, Shell, tree

from forethought.data.texts import VECTORS


def test_embed(shell: Shell, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors lie beside the data, where training finds them; the sentence encoder is another test's."""
    shop = Path(shutil.copytree(shop, tmp_path / "shop"))
    read: list[list[str]] = []

    def loaded(model: str, device: str) -> Any:
        assert (model, device) == ("mine", "auto")
        return SimpleNamespace(encode=lambda texts, **_: read.append(texts) or np.ones((len(texts), 4)) / 2)

    monkeypatch.setattr("forethought.data.sentences.load_encoder", loaded)
    told = shell.json("embed", shop, "--model", "mine")
    n = pl.read_parquet(shop / "items.parquet").height
    assert told == {"file": str(shop / VECTORS), "items": n, "width": 4, "without_text": 0}
    assert len(read[0]) == n
    assert re.match(r"\S.*\. Brand: .*\. Categories: .* > ", read[0][0])
    options = ["--intents", "texts", "--text-width", 4, "--encoder-epochs", 1]
    shell.ok("train", "igr-sr", "--data", shop, "--out", tmp_path / "run", *TINY, *options)
    shell.ok("embed", shop, "--model", "mine", "--overwrite", "--columns", "brand")
    assert read[1][0].startswith("Brand: ")

    said = shell.run("embed", shop / "items.parquet", "--model", "mine", "--out", tmp_path / "texts.npy").err
    assert f"--data ... --items {shop / 'items.parquet'} --intents texts --texts {tmp_path / 'texts.npy'}" in said
    assert "--text-width 4" in said

    (tmp_path / "run.npy").mkdir()
    before = tree(tmp_path)
    for wrong, sentence in (
        ([shop], "is there already: choose another --out, or --overwrite it"),
        ([shop, "--out", tmp_path / "run.npy", "--overwrite"], "is a folder, but vectors are written as one file"),
        ([shop / "items.parquet"], "say with --out which .npy is to be written"),
        ([shop, "--out", tmp_path / "texts.txt"], "ends in '.txt', but vectors are written as .npy"),
        ([tmp_path / "run", "--out", tmp_path / "x.npy", "--columns", "titel"], "Did you mean 'title'?"),
        ([tmp_path, "--out", tmp_path / "x.npy"], "has no items.parquet: give the table that tells of items"),
        ([tmp_path / "no.csv", "--out", tmp_path / "x.npy"], "There is no file or folder"),
        ([shop, "--out", shop / "items.parquet" / "x.npy"], "is a file, but a folder is to be written to"),
    ):
        assert sentence in shell.wrong("embed", *wrong)
    assert tree(tmp_path) == before
