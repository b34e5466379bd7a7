"""Checksums written anew: an attacker knows how to compute them, and what reads a file must not rest on them alone."""

from __future__ import annotations

import hashlib
import re
from functools import partial
from pathlib import Path

HASHES = ("sha256", "sha1", "md5", "sha512", "sha3_256", "blake2b", "blake2s")
TOKEN = re.compile(rb"\b[0-9a-f]{8,128}\b")
ROUNDS = 4  # a file with checksums may have one of its own elsewhere


def hashes(raw: bytes) -> dict[str, str]:
    """All digests that may be meant."""
    found = {name: hashlib.new(name, raw).hexdigest() for name in HASHES}
    return found | {f"blake2b-{size}": hashlib.blake2b(raw, digest_size=size).hexdigest() for size in (8, 16, 20, 32)}


def reseal(folder: Path, changed: dict[Path, bytes]) -> None:
    """Wherever a text file in the folder names the digest of a file as it was, let it name that of what is there now.

    Args:
        changed: files, and what was in them.
    """
    texts = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size < 1 << 20]
    for _ in range(ROUNDS):
        pairs = [
            (old, new)
            for path, raw in changed.items()
            if path.is_file()
            for old, new in zip(hashes(raw).values(), hashes(path.read_bytes()).values(), strict=True)
            if old != new
        ]
        changed = {}
        for text in texts:
            raw = text.read_bytes()
            sealed = TOKEN.sub(partial(_renewed, pairs), raw) if pairs else raw
            if sealed != raw:
                changed[text] = raw
                text.write_bytes(sealed)
        if not changed:
            return


def _renewed(pairs: list[tuple[str, str]], token: re.Match[bytes]) -> bytes:
    word = token.group().decode()
    return next((new[: len(word)].encode() for old, new in pairs if old.startswith(word)), token.group())
