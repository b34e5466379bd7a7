"""What is published: wheel and sdist hold all that is needed and nothing of a machine, and what is installed runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from forethought.version import __version__

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/forethought"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is built from it and not from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    made = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


def test_the_wheel_holds_the_whole_package(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"forethought-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("forethought/")}
        metadata = archive.read(f"forethought-{__version__}.dist-info/METADATA").decode()
    tracked = {str(path.relative_to(ROOT / "src")) for path in PACKAGE.rglob("*") if path.is_file()}
    assert names == {name for name in tracked if "__pycache__" not in name}
    assert "forethought/py.typed" in names, "or nobody's type checker reads our types"
    assert {line[16:] for line in metadata.splitlines() if line.startswith("Provides-Extra: ")} == {
        *PROJECT["optional-dependencies"]
    }


def test_the_sdist_holds_what_the_tests_need_and_no_results(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CITATION.cff", "SECURITY.md", "pyproject.toml", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith("docs/results")]


def test_what_is_installed_runs(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60)
    python = environment / "bin/python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, timeout=60)
    site = next((environment / "lib").glob("python*/site-packages"))
    # dependencies are those of this environment; a plain path brings none of its editable installs with it
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    def said(*words: str) -> str:
        done = subprocess.run(
            [environment / "bin/forethought", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [python, "-I", "-c", "import forethought; print(forethought.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(environment)
    assert said("--version") == f"forethought {__version__}\n"
    said("simulate", "--out", "shop", "--users", "60", "--items", "40")
    said("train", "popular", "--data", "shop", "--out", "runs/popular")
    answer = json.loads(said("recommend", "runs/popular", "--history", "i00002", "--k", "3", "--json"))
    assert len(json.dumps(answer)) > 10


def test_what_is_missing_is_named_with_an_extra_that_there_is() -> None:
    named = re.compile(r'MissingExtraError\([^"]*"([\w.-]+)", (?:"(\w+)"|None)')
    extras = PROJECT["optional-dependencies"]
    seen = 0
    for path in PACKAGE.rglob("*.py"):
        for package, extra in named.findall(path.read_text(encoding="utf-8")):
            seen += 1
            if extra:
                assert any(re.split(r"[><=\[; ]", each)[0] == package for each in extras[extra]), (path, package, extra)
    assert seen >= 8


def test_the_version_stands_in_one_place() -> None:
    assert PROJECT["dynamic"] == ["version"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {__version__}\n" in citation
    assert re.search(rf"^## \[{re.escape(__version__)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
