"""The documentation is a site: it builds without a warning, needs no other host, and what it says to do can be done."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from test_readme import ROOT, blocks

import forethought as ft
from forethought.cli import VERBS

DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.py"))
RUN = ["getting-started.md", "migration.md"]
MADE = shutil.ignore_patterns("verbs", "api.md", "*.ipynb", *(f"{lesson.stem}.md" for lesson in TUTORIALS))
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)[^>]* src=[\"']?(?:https?:)?//|<link[^>]* href=[\"']?(?:https?:)?//"
)


@pytest.fixture(scope="module")
def site(processes: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it, from a copy, so that nothing is left in the checkout."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, folder / "docs", ignore=MADE)
    options = ["-b", "html", "-q", "--fail-on-warning", "--keep-going"]
    assert " ".join(options) in (ROOT / "Makefile").read_text(encoding="utf-8")
    command = ["python", "-m", "sphinx", *options, "docs", "site"]
    done = subprocess.run(command, cwd=folder, env=processes, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.mark.slow
def test_the_site_has_every_verb_and_every_public_name(site: Path) -> None:
    for verb in VERBS:
        page = (site / "verbs" / f"{verb}.html").read_text(encoding="utf-8")
        assert f"usage: forethought {verb}" in page
    reference = (site / "api.html").read_text(encoding="utf-8")
    named = [name for name in dir(ft) if not name.startswith("_")]
    assert [name for name in named if f'id="forethought.{name}"' not in reference] == []


@pytest.mark.slow
def test_the_site_is_legible_without_a_network(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 50
    assert [str(page) for page in pages if FETCHED.search(page.read_text(encoding="utf-8"))] == []
    styles = [sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css")]
    assert not [sheet for sheet in styles if re.search(r"url\([\"']?(?:https?:)?//|@import [\"']?https?:", sheet)]


def test_a_link_that_leads_nowhere_fails_the_build(processes: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    (tmp_path / "docs").mkdir()
    for name in ("conf.py", "made_pages.py"):
        text = (DOCS / name).read_text(encoding="utf-8").replace("made_pages.write(HERE)", "")
        (tmp_path / "docs" / name).write_text(text, encoding="utf-8")
    (tmp_path / "docs" / "index.md").write_text(
        "# A page\n\n[gone](gone.md) and [part](#not-there)\n", encoding="utf-8"
    )
    command = ["python", "-m", "sphinx", "-q", "--fail-on-warning", "--keep-going", "docs", "site"]
    done = subprocess.run(command, cwd=tmp_path, env=processes, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "gone.md" in done.stderr
    assert "not-there" in done.stderr


@pytest.mark.parametrize("page", RUN)
def test_commands_of_a_page_run_one_after_the_other(page: str, processes: dict[str, str], tmp_path: Path) -> None:
    chosen = [block for block in blocks((DOCS / page).read_text(encoding="utf-8")) if block.run]
    assert chosen
    for block in chosen:
        done = subprocess.run(block.command, cwd=tmp_path, env=processes, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{page}, line {block.line}:\n{block.code}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("lesson", TUTORIALS, ids=lambda lesson: lesson.stem)
def test_tutorials_run_from_top_to_bottom(lesson: Path, processes: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        ["python", lesson],
        cwd=tmp_path,
        env={**processes, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    assert "Warning" not in done.stderr


def test_every_page_has_its_place_in_the_contents() -> None:
    contents = (DOCS / "index.md").read_text(encoding="utf-8") + (DOCS / "tutorials/index.md").read_text(
        encoding="utf-8"
    )
    pages = {page.stem for page in DOCS.glob("*.md")} - {"index"} | {lesson.stem for lesson in TUTORIALS}
    assert [page for page in pages if not re.search(rf"^{page}$", contents, re.M)] == []


def test_the_picture_is_that_of_its_script() -> None:
    """It is drawn in light and dark, and needs no script or font from elsewhere."""
    script, drawn = DOCS / "pictures" / "overview.py", (DOCS / "pictures" / "overview.svg").read_text(encoding="utf-8")
    assert runpy.run_path(str(script))["picture"]() == drawn
    assert "prefers-color-scheme: dark" in drawn
    assert re.findall(r"https?://[^\" ]+", drawn) == ["http://www.w3.org/2000/svg"]
    root = ElementTree.fromstring(drawn)
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
