"""The README does what it says: its blocks run verbatim, one after the other, in an empty folder.

Each block is a fresh process. A block that cannot run here has `<!-- not run: why -->` on the line above it.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(r"(?P<skip><!-- not run: .+? -->\n)?^```(?P<language>python|bash)\n(?P<code>.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)[^)]*\)")
MADE_LATER = "benchmarks/results/"  # by `make bench`


@dataclass(frozen=True)
class Block:
    line: int
    language: str
    code: str
    run: bool

    @property
    def command(self) -> list[str]:
        if self.language == "python":
            return ["python", "-c", self.code]
        return ["bash", "-euo", "pipefail", "-c", self.code]


def blocks(text: str) -> list[Block]:
    return [
        Block(text.count("\n", 0, found.start()) + 1, found["language"], found["code"], not found["skip"])
        for found in BLOCK.finditer(text)
    ]


def test_readme_runs_verbatim(processes: dict[str, str], tmp_path: Path) -> None:
    chosen = [block for block in blocks(README.read_text(encoding="utf-8")) if block.run]
    assert {block.language for block in chosen} == {"python", "bash"}
    for block in chosen:
        done = subprocess.run(
            block.command, cwd=tmp_path, env=processes, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"README.md, line {block.line}:\n{block.code}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip(), f"README.md, line {block.line} shows nothing:\n{block.code}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = [(page.parent / link).resolve() for link in LINK.findall(page.read_text(encoding="utf-8"))]
    dead = [str(t) for t in targets if not t.exists() and MADE_LATER not in t.as_posix()]
    assert not dead


def test_file_tree_is_that_of_the_package() -> None:
    """Every room stands in the README's tree, and everything in the tree is there."""
    tree = re.search(r"^src/forethought/\n(.*?)^tests/", README.read_text(encoding="utf-8"), re.M | re.S)
    assert tree
    told = set(re.findall(r"^  (\w[\w.]*)/? +", tree[1], re.M))
    package = ROOT / "src" / "forethought"
    there = {path.name for path in package.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert told == there - {"__init__.py", "__main__.py", "__pycache__"}
