"""Files of named tensors (safetensors) that know their own checksum, so that a flipped bit is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from forethought.files import check_ordinary, replace_file

if TYPE_CHECKING:  # a checksum is read without torch
    from torch import Tensor

CHECKSUM = "sha256"
ABOUT = "forethought"  # the one key of a file's metadata: of several, the library writes the order by chance


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> str:
    """Write tensors with what is to be known about them; the file appears whole or not at all.

    Returns:
        The checksum over names, types, shapes, values and `about`.

    Raises:
        RunError: the file cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    contents = dict(about or {})
    total = checksum(plain, contents)
    # The library's own way of writing a file goes through a temporary one of private mode that a kill would leave.
    replace_file(path, lambda part: part.write_bytes(_saved(plain, _written({**contents, CHECKSUM: total}))))
    return total


def _saved(tensors: dict[str, Tensor], about: str) -> bytes:
    """The bytes of a file.

    Raises:
        MemoryError: there is no room for them; safetensors then panics, which is no Exception and cannot be imported.
    """
    from safetensors.torch import save

    try:
        return save(tensors, {ABOUT: about})
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise MemoryError("no room for the bytes of a file of tensors") from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, and what is known about them with their checksum among it.

    Raises:
        SafetensorError: the file is damaged, or its content does not fit its checksum.
        OSError: it is missing or cannot be read.
    """
    check_ordinary(path)
    with safe_open(path, "pt") as file:
        about = _read((file.metadata() or {}).get(ABOUT, ""))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    if about.get(CHECKSUM) != checksum(tensors, {name: text for name, text in about.items() if name != CHECKSUM}):
        raise SafetensorError("its content does not fit its checksum")
    return tensors, about


def stated_checksum(path: Path) -> str:
    """The checksum that a file says it has, its content unread; empty where it says none.

    Raises:
        SafetensorError: the file is damaged.
        OSError: it is missing or cannot be read.
    """
    check_ordinary(path)
    with safe_open(path, "np") as file:
        return _read((file.metadata() or {}).get(ABOUT, "")).get(CHECKSUM, "")


def _written(about: Mapping[str, str]) -> str:
    return json.dumps(about, sort_keys=True)


def _read(text: str) -> dict[str, str]:
    try:
        about = json.loads(text)
        return {str(name): str(value) for name, value in about.items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


def checksum(tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> str:
    """Over names, types, shapes and values of tensors, and what is known about them."""
    import torch

    about = about or {}
    digest = hashlib.sha256()
    for name in sorted(about):
        _add(digest, name, about[name])
    for name in sorted(tensors):
        tensor = tensors[name]
        _add(digest, name, str(tensor.dtype), *map(str, tensor.shape))
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


def _add(digest: Any, *words: str) -> None:
    """Words of known length, so that no two lists of them read alike."""
    for word in (str(len(words)), *words):
        digest.update(f"{len(word)}:{word}".encode())
