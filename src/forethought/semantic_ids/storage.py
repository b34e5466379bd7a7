"""A tokens folder: the tokens of a data set's items, their tokenizer, and what they were made of.

`tokens.safetensors` (codes and the tokenizer's state) and `items.parquet` (ids, in order of the rows) are written
first; `tokens.json` names the checksums of both and says the rest: settings, inputs, data, split, quality. `tokens.md`
is for people, and nothing reads it. A folder appears whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from safetensors import SafetensorError
from torch import Tensor

from forethought.data.sources import read_parquet
from forethought.data.splits import DIVIDES, Split
from forethought.errors import ConfigError, DataError, RunError
from forethought.files import checked, first_line, read_json, sha256_of, verified, write_json
from forethought.folders import check_own, replace_folder
from forethought.semantic_ids.item_tokens import ItemTokens, rebuild, token_tensors
from forethought.semantic_ids.token_table import TokenTable
from forethought.settings import Seed, Whole, check, check_keys
from forethought.tensor_files import CHECKSUM, load_tensors, save_tensors

ABOUT_FILE, TENSORS_FILE, ITEMS_FILE, TEXT_FILE = "tokens.json", "tokens.safetensors", "items.parquet", "tokens.md"
WRITTEN = (ABOUT_FILE, TENSORS_FILE, ITEMS_FILE, TEXT_FILE)
MEND = "make it again with forethought tokenize"
_ABOUT = {
    **{"tokens": dict, "data": str, "data_hash": str, "protocol": dict, "noise": dict | None, "items": Whole},
    **{"seed": Seed, "items_sha256": str, "quality": dict | None},
}


def write_tokens(
    out: Path,
    tokens: ItemTokens,
    split: Split,
    *,
    seed: int,
    quality: Mapping[str, Any] | None = None,
    text: str = "",
    overwrite: bool = False,
) -> None:
    """Write the tokens of a split's items as a folder that `read_tokens` reads.

    Args:
        seed: of the fit.
        quality: what was measured of them, as JSON.
        text: the same for people, in Markdown.
        overwrite: replace a tokens folder that is already there.

    Raises:
        DataError: the folder is there already and not empty (with `overwrite`: is no tokens folder, or holds other
            files too), or cannot be written; nothing is then left behind.
    """
    check_free(out, overwrite=overwrite)
    with replace_folder(out, overwrite=overwrite) as folder:
        total = save_tensors(folder / TENSORS_FILE, token_tensors(tokens.table, tokens.tokenizer))
        pl.DataFrame({"item_id": split.data.items.ids}).write_parquet(folder / ITEMS_FILE)
        if text:
            (folder / TEXT_FILE).write_text(text, encoding="utf-8")
        about = {
            "tokens": {**tokens.to_json(), "checksum": total},
            "data": split.data.name,
            "data_hash": split.data.data_hash,
            "protocol": split.protocol,
            "noise": None if split.noise is None else asdict(split.noise),
            "items": split.data.n_items,
            "seed": seed,
            "items_sha256": sha256_of(folder / ITEMS_FILE),
            "quality": None if quality is None else dict(quality),
        }
        write_json(folder / ABOUT_FILE, checked(about))


def check_free(out: Path, *, overwrite: bool) -> None:
    """Whether a tokens folder may be written there; cheap, so ask before the work.

    Raises:
        DataError: it is there already and not empty; with `overwrite`: it is no tokens folder, or holds other files.
    """
    check_own(out, WRITTEN, is_tokens_folder, "a tokens folder", overwrite=overwrite)


def is_tokens_folder(folder: Path) -> bool:
    """Whether `tokenize` wrote it."""
    try:
        about = read_json(folder / ABOUT_FILE, MEND)
    except RunError:
        return False
    return isinstance(about, Mapping) and {"tokens", "data_hash", "items_sha256"} <= about.keys()


def read_tokens(folder: str | Path, split: Split) -> ItemTokens:
    """The tokens in a folder, which must be of this very split's items.

    Raises:
        RunError: there is no such folder, or something in it is missing or damaged.
        DataError: the tokens are of other items, other interactions, another split or other noise.
    """
    folder = Path(folder)
    about = read_about(folder)
    _check_items(folder, about, split)
    _check_data(folder, about, split)
    return _read(folder, about)


def read_tokenizer(folder: str | Path) -> ItemTokens:
    """The tokens in a folder, of whatever data, for the sake of the tokenizer that made them.

    Raises:
        RunError: there is no such folder, or something in it is missing or damaged.
    """
    return _read(Path(folder), read_about(Path(folder)))


def _read(folder: Path, about: Mapping[str, Any]) -> ItemTokens:
    try:
        tensors, stated = load_tensors(folder / TENSORS_FILE)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{folder / TENSORS_FILE} is damaged ({first_line(error)}): {MEND}.") from error
    if stated[CHECKSUM] != about["tokens"].get("checksum"):
        raise RunError(f"{folder / TENSORS_FILE} is not the file that {ABOUT_FILE} was written with: {MEND}.")
    try:
        return loaded(rebuild(about["tokens"], about["items"]), tensors)
    except ConfigError as error:
        raise RunError(f"{folder} is damaged ({str(error).rstrip('.')}): {MEND}.") from error


def read_about(folder: Path) -> dict[str, Any]:
    """What a tokens folder says of itself.

    Raises:
        RunError: there is no such folder, or its description is damaged.
    """
    if not folder.is_dir():
        raise RunError(f"There is no tokens folder {str(folder)!r}: {MEND}.")
    path = folder / ABOUT_FILE
    about = verified(read_json(path, MEND), path, MEND)
    try:
        return check_keys(about, _ABOUT, "tokens")
    except ConfigError as error:
        raise RunError(f"{path} is damaged ({str(error).rstrip('.')}): {MEND}.") from error


def loaded(tokens: ItemTokens, tensors: Mapping[str, Tensor]) -> ItemTokens:
    """Untrained tokens with these tensors in them.

    Raises:
        ConfigError: tensors are missing, unknown, of another shape or hold NaN, or codes are out of range.
    """
    codes = tensors.get("codes")
    shape = tokens.table.codes_NM.shape
    if codes is None or codes.shape != shape or codes.dtype != tokens.table.codes_NM.dtype:
        raise ConfigError(f"The codes are missing or are not [{shape[0]:,}, {shape[1]}] whole numbers.")
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < tokens.table.size:
        raise ConfigError(f"Codes are out of the range from 0 to {tokens.table.size - 1:,}.")
    own = {name: tensor for name, tensor in tensors.items() if name != "codes"}
    if foreign := [name for name in own if not name.startswith("tokenizer.")]:
        raise ConfigError(f"The tensor {foreign[0]!r} is unknown.")
    tokens.tokenizer.load({name.removeprefix("tokenizer."): tensor for name, tensor in own.items()})
    table = TokenTable(codes, tokens.table.size, tokens.table.ordered)
    return ItemTokens(table, tokens.tokenizer, tokens.config, tokens.inputs, tokens.checksum)


def _check_items(folder: Path, about: Mapping[str, Any], split: Split) -> None:
    path = folder / ITEMS_FILE
    try:
        if sha256_of(path) != about["items_sha256"]:
            raise RunError(f"{path} is not the file that {ABOUT_FILE} was written with: {MEND}.")
        ids = read_parquet(path, ["item_id"])["item_id"]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{path} cannot be read ({first_line(error)}): {MEND}.") from error
    own = split.data.items.ids
    if len(ids) != len(own) or ids.dtype.is_integer() != own.dtype.is_integer() or bool((ids != own).any()):
        raise DataError(
            f"The tokens in {str(folder)!r} are of {len(ids):,} items and the data has {len(own):,}, not the same "
            "ones: make tokens of this data with forethought tokenize."
        )


def _check_data(folder: Path, about: Mapping[str, Any], split: Split) -> None:
    """Tokens of the same items may have seen what is tested here."""
    if about["data_hash"] != split.data.data_hash:
        raise DataError(
            f"The tokens in {str(folder)!r} were made of other interactions ({about['data']!r}) of the same items, and "
            "may have seen what is tested here: make tokens of this data with forethought tokenize."
        )
    theirs = about["protocol"]
    other = [key for key in DIVIDES if theirs.get(key) != split.protocol.get(key)]
    if other:
        raise DataError(
            f"The tokens in {str(folder)!r} were made of another split "
            f"({', '.join(f'{key} {theirs.get(key)!r}, not {split.protocol.get(key)!r}' for key in other)}), and may "
            "have seen what is tested here: make tokens of this split with forethought tokenize."
        )
    noise = None if split.noise is None else asdict(split.noise)
    check(about["noise"], dict | None, "noise")
    if about["noise"] != noise:
        raise DataError(
            f"The tokens in {str(folder)!r} were made of a training part with other noise than this one has: make "
            "tokens of this very split."
        )
