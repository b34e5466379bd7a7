"""A tokens folder: read back as it was written, with every check; damage and other data are told in a sentence."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from token_toys import CONFIGS, toy_features, toy_split

from forethought.data.noise import Noise
from forethought.data.splits import Split, leave_last_out
from forethought.data.vocabulary import Vocabulary
from forethought.errors import DataError, RunError
from forethought.files import checked, write_json
from forethought.semantic_ids.item_tokens import ItemTokens, fit_tokens
from forethought.semantic_ids.storage import ABOUT_FILE, ITEMS_FILE, TENSORS_FILE, read_tokens, write_tokens
from forethought.tensor_files import load_tensors, save_tensors


@pytest.fixture(scope="module")
def split() -> Split:
    return toy_split()


@pytest.fixture(scope="module")
def tokens(split: Split) -> ItemTokens:
    return fit_tokens(split, toy_features(split), CONFIGS["mpq"], seed=3)


@pytest.fixture
def folder(split: Split, tokens: ItemTokens, tmp_path: Path) -> Path:
    write_tokens(tmp_path / "tokens", tokens, split, seed=3, quality={"error": 0.5}, text="# Tokens")
    return tmp_path / "tokens"


def rewritten(folder: Path, change: Callable[[dict], object]) -> None:
    about = json.loads((folder / ABOUT_FILE).read_text())
    about.pop("sha256")
    change(about)
    write_json(folder / ABOUT_FILE, checked(about))


def with_tensors(folder: Path, change: Callable[[dict], object]) -> None:
    """Whole files that fit their checksums, of other content."""
    tensors, _ = load_tensors(folder / TENSORS_FILE)
    change(tensors)
    total = save_tensors(folder / TENSORS_FILE, tensors)
    rewritten(folder, lambda about: about["tokens"].update(checksum=total))


@pytest.mark.parametrize("name", CONFIGS)
def test_read_as_written(split: Split, name: str, tmp_path: Path) -> None:
    tokens = fit_tokens(split, toy_features(split), CONFIGS[name], seed=0)
    write_tokens(tmp_path / "tokens", tokens, split, seed=0)
    again = read_tokens(tmp_path / "tokens", split)
    assert torch.equal(again.table.codes_NM, tokens.table.codes_NM)
    assert (again.table.size, again.table.ordered) == (tokens.table.size, tokens.table.ordered)
    assert (again.config, again.inputs, again.checksum) == (tokens.config, tokens.inputs, tokens.checksum)
    for key, tensor in tokens.tokenizer.state_dict().items():
        assert torch.equal(again.tokenizer.state_dict()[key], tensor)


def test_the_same_tokens_are_the_same_bytes(split: Split, tokens: ItemTokens, folder: Path, tmp_path: Path) -> None:
    write_tokens(tmp_path / "again", tokens, split, seed=3, quality={"error": 0.5}, text="# Tokens")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


@pytest.mark.parametrize("name", [ABOUT_FILE, ITEMS_FILE, TENSORS_FILE])
def test_a_file_that_is_gone_or_cut_or_flipped(split: Split, folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=f"{re.escape(name)}.* make it again with forethought tokenize"):
        read_tokens(folder, split)
    middle = len(whole) * 2 // 3
    (folder / name).write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(RunError):
        read_tokens(folder, split)
    (folder / name).unlink()
    with pytest.raises(RunError, match=re.escape(name)):
        read_tokens(folder, split)


def test_files_of_two_folders(split: Split, folder: Path, tmp_path: Path) -> None:
    other = fit_tokens(split, toy_features(split), CONFIGS["mpq"], seed=4)
    write_tokens(tmp_path / "other", other, split, seed=4)
    shutil.copy(tmp_path / "other" / TENSORS_FILE, folder / TENSORS_FILE)
    with pytest.raises(RunError, match=r"tokens.safetensors is not the file that tokens.json was written with"):
        read_tokens(folder, split)


def _beyond(tensors: dict) -> None:
    tensors["codes"][3, 1] = 8


def _below(tensors: dict) -> None:
    tensors["codes"][3, 1] = -1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_beyond, "Codes are out of the range from 0 to 7"),
        (_below, "Codes are out of the range from 0 to 7"),
        (lambda tensors: tensors.update(codes=tensors["codes"][:, :2].clone()), r"are not \[40, 3\] whole numbers"),
        (lambda tensors: tensors.update(codes=tensors["codes"].float()), r"are not \[40, 3\] whole numbers"),
        (lambda tensors: tensors.pop("codes"), "The codes are missing"),
        (lambda tensors: tensors.update(more=torch.zeros(1)), "'more' is unknown"),
        (lambda tensors: tensors["tokenizer.mean_F"].fill_(torch.nan), "hold NaN or infinity"),
        (lambda tensors: tensors.pop("tokenizer.mean_F"), "'mean_F' is missing"),
    ],
)
def test_tensors_that_are_whole_and_wrong(split: Split, folder: Path, change: Callable, said: str) -> None:
    with_tensors(folder, change)
    with pytest.raises(RunError, match=said):
        read_tokens(folder, split)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda about: about.pop("items"), "tokens has no 'items'"),
        (lambda about: about.update(protocol=[]), "tokens.protocol is"),
        (lambda about: about.update(tokens={}), "is not the file that tokens.json was written with"),
        (lambda about: about["tokens"]["config"].update(size=1), "MPQ's size is 1"),
    ],
)
def test_a_description_that_is_whole_and_wrong(split: Split, folder: Path, change: Callable, said: str) -> None:
    rewritten(folder, change)
    with pytest.raises(RunError, match=said):
        read_tokens(folder, split)


def test_no_folder(split: Split, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no tokens folder"):
        read_tokens(tmp_path / "none", split)
    with pytest.raises(RunError, match=r"has no tokens.json"):
        read_tokens(tmp_path, split)


def test_other_items(split: Split, folder: Path) -> None:
    ids = pl.Series("item_id", [f"j{row:03d}" for row in range(40)])
    other = replace(split, data=replace(split.data, items=Vocabulary(ids, "string")))
    with pytest.raises(DataError, match="are of 40 items and the data has 40, not the same ones"):
        read_tokens(folder, other)


def test_other_interactions(split: Split, folder: Path) -> None:
    with pytest.raises(DataError, match=r"made of other interactions \('toy'\) of the same items"):
        read_tokens(folder, toy_split(seed=1))


def test_another_split(split: Split, folder: Path) -> None:
    other = leave_last_out(split.data, hold_out_items=0.1)
    with pytest.raises(DataError, match=r"made of another split \(hold_out_items None, not 0.1"):
        read_tokens(folder, other)


def test_other_noise(split: Split, folder: Path) -> None:
    with pytest.raises(DataError, match="a training part with other noise"):
        read_tokens(folder, split.with_noise(Noise(kind="delete", share=0.2, seed=0)))


def test_what_lies_there_is_replaced_only_if_it_is_ours(
    split: Split, tokens: ItemTokens, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="already there and not empty"):
        write_tokens(folder, tokens, split, seed=3)
    write_tokens(folder, tokens, split, seed=3, overwrite=True)
    read_tokens(folder, split)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"also holds 'notes\.txt'"):
        write_tokens(folder, tokens, split, seed=3, overwrite=True)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "a").write_text("b")
    with pytest.raises(DataError, match="is not a tokens folder"):
        write_tokens(tmp_path / "else", tokens, split, seed=3, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["else", "tokens"]
