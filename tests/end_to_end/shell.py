"""Verbs run in the process of a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from forethought.cli import main

TINY = ["--width", "16", "--layers", "1", "--window", "8", "--epochs", "1", "--batch-positions", "128"]


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Shell:
    """Runs verbs in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def run(self, *words: Any) -> Said:
        self.capsys.readouterr()
        code: Any = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code or 0
        return Said(code, *self.capsys.readouterr())

    def ok(self, *words: Any) -> str:
        said = self.run(*words)
        assert said.code == 0, said.err
        assert "Traceback" not in said.err
        return said.out

    def json(self, *words: Any) -> Any:
        return json.loads(self.ok(*words, "--json"))

    def wrong(self, *words: Any) -> str:
        """The one sentence of a command that must fail; progress may stand before it."""
        said = self.run(*words)
        assert said.code == 2, said
        assert said.out == ""
        assert "Traceback" not in said.err
        sentence = said.err.splitlines()[-1]
        assert sentence.startswith("forethought: ")
        assert sentence.endswith((".", "?"))
        assert "\n" not in said.err.partition("forethought: ")[2].rstrip("\n")
        return sentence


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
