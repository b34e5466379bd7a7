"""What a run of a verb leaves, without what no two runs have in common: times, places, digests of files with times."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

VOLATILE = re.compile(
    r"(_s|_ms)$|^ms_|^s_per_|second(s|$)|^bytes$|^(machine|date|commit|wall_s|ms|trained|cost_measured|created|written)$"
)
DIGEST = re.compile(r"\b[0-9a-f]{32,128}\b")
NUMBER = re.compile(r"\d[\d.,]*")
PICTURES = {".png": (b"\x89PNG", b"IEND\xaeB`\x82"), ".svg": (b"<?xml", b"</svg>\n")}


def contents(folder: Path, outputs: Iterable[str]) -> dict[str, str]:
    """Path below the folder -> what stands there, as a short digest; for the outputs and all that lies in them."""
    found = {}
    for name in outputs:
        top = folder / name
        for path in (top, *sorted(top.rglob("*"))) if top.is_dir() else (top,):
            if path.is_dir():
                found[str(path.relative_to(folder))] = "folder"
            elif path.exists() or path.is_symlink():
                found[str(path.relative_to(folder))] = told(path, folder)
    return found


def told(path: Path, folder: Path) -> str:
    """A digest of what a file says, times and places aside; exact for weights and tables."""
    if not path.is_file():
        return "special"
    raw = path.read_bytes()
    if path.suffix in PICTURES:
        begin, end = PICTURES[path.suffix]
        return "a picture" if raw.startswith(begin) and raw.endswith(end) else "a broken picture"
    if path.suffix == ".safetensors":
        return _tensors(path)
    if path.suffix in (".json", ".jsonl", ".md", ".html"):
        raw = _plain(raw.decode("utf-8", "replace"), path.suffix, _places(folder)).encode()
    return hashlib.sha256(raw).hexdigest()[:16]


def _tensors(path: Path) -> str:
    """A digest of all tensors, bit for bit; beside them such a file names checksums of files that hold times."""
    from safetensors.numpy import load_file

    tensors = load_file(path)
    whole = b"".join(f"{n} {t.dtype} {t.shape}".encode() + t.tobytes() for n, t in sorted(tensors.items()))
    return hashlib.sha256(whole).hexdigest()[:16]


def _places(folder: Path) -> tuple[str, ...]:
    """The case's folder, and what it was copied from: a run that was begun there names its data by that place."""
    case = folder.resolve()
    return str(case), str(case.parent.parent / "master")


def _plain(text: str, suffix: str, places: tuple[str, ...]) -> str:
    for place in places:
        text = text.replace(place, "PLACE")
    if suffix in (".md", ".html"):
        return NUMBER.sub("N", DIGEST.sub("DIGEST", text))
    lines = [text] if suffix == ".json" else text.splitlines()
    return "\n".join(json.dumps(lasting(_loads(line))) for line in lines)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return f"no JSON: {text}"


def lasting(value: Any) -> Any:
    """A JSON value without its times, and with all digests alike."""
    if isinstance(value, dict):
        return {key: lasting(inner) for key, inner in value.items() if not VOLATILE.search(key)}
    if isinstance(value, list):
        return [lasting(inner) for inner in value]
    return DIGEST.sub("DIGEST", value) if isinstance(value, str) else value


def differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Headlines: what is missing, what is left over, what is other."""
    said = []
    for path in sorted({*found, *wanted}):
        if path not in found:
            said.append(f"missing: {nameless(path)}")
        elif path not in wanted:
            said.append(f"left over: {nameless(path)}")
        elif found[path] != wanted[path]:
            kind = "weights differ" if path.endswith(".safetensors") else "differs"
            said.append(f"{kind} from the undisturbed run's: {nameless(path)}")
    return said


def nameless(path: str) -> str:
    """A path without what was drawn for it."""
    path = re.sub(r"(\.tmp|-)[A-Za-z0-9_]{6,}", r"\1*", path)
    return re.sub(r"\d+", "N", re.sub(r"lane\d+", "lane", path))
