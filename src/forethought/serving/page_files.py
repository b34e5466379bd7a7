"""The files of the explorer page, as they lie in the package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "page"
PAGE_FILES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(
        ("app.js", "api.js", "history.js", "answers.js", "reasons.js", "runs.js"), "text/javascript; charset=utf-8"
    ),
}


@cache
def page_file(name: str) -> bytes:
    """The bytes of one of them."""
    return (FOLDER / name).read_bytes()
