"""The Dockerfile names real files, extras and options, and what it installs serves a run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from service_process import started

from forethought.recommender import Recommender

ROOT = Path(__file__).parents[2]
LINES = [
    line.split(maxsplit=1)
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    if re.match(r"[A-Z]+ ", line)
]


def lines(instruction: str) -> list[str]:
    return [rest for name, rest in LINES if name == instruction]


def test_what_is_copied_is_there_and_gets_into_the_build() -> None:
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    names = [name for line in lines("COPY") for name in line.split()[:-1]]
    assert {"pyproject.toml", "src"} <= set(names)
    assert all((ROOT / name).exists() and f"!{name}" in sent for name in names)


def test_the_package_is_installed_with_extras_that_it_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', " ".join(lines("RUN")))
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    (image,) = lines("FROM")
    version = tuple(map(int, image.removeprefix("python:").removesuffix("-slim").split(".")))
    assert version >= tuple(map(int, project["requires-python"].removeprefix(">=").split(".")))


def test_it_serves_as_somebody_with_options_that_there_are() -> None:
    order = [name for name, _ in LINES]
    assert lines("USER") == ["forethought"]
    assert order.index("USER") < order.index("ENTRYPOINT")
    assert "useradd" in lines("RUN")[-1]
    program, verb, *options = json.loads(lines("ENTRYPOINT")[0])
    assert (program, verb) == ("forethought", "serve")
    help_text = subprocess.run(
        [sys.executable, "-m", "forethought", verb, "--help"], capture_output=True, text=True, check=True
    ).stdout
    named = [option for option in options if option.startswith("--")]
    assert set(named) <= set(re.findall(r"--[a-z][a-z-]+", help_text))
    assert options[options.index("--port") + 1] == lines("EXPOSE")[0]
    assert f"127.0.0.1:{lines('EXPOSE')[0]}/ready" in lines("HEALTHCHECK")[0]


def test_its_entry_point_serves_a_run(trained: Recommender, tmp_path: Path) -> None:
    """As the container calls it, but on an address of this machine alone."""
    _, verb, *options = json.loads(lines("ENTRYPOINT")[0])
    options[options.index("--host") + 1], options[options.index("--port") + 1] = "127.0.0.1", "0"
    options[options.index("--state") + 1] = str(tmp_path / "state")
    with started(["-m", "forethought", verb, *options, trained.folder], tmp_path / "state") as server:
        answer = server.ask("/recommend", {"history": ["i00001"], "k": 3})
    assert len(answer["results"][0]["items"]) == 3


@pytest.mark.slow
def test_what_it_installs_is_all_that_a_service_needs(trained: Recommender, tmp_path: Path) -> None:
    """Its installation, carried out in a fresh environment."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    (step,) = [line for line in lines("RUN") if line.startswith("pip install")]
    here = {**os.environ, "PATH": f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    here.pop("PYTHONPATH", None)
    for name in ("pyproject.toml", "README.md", "LICENSE", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    subprocess.run(["bash", "-c", step], cwd=tmp_path, env=here, check=True, timeout=1800)
    code = (
        f"import forethought as ft, fastapi, uvicorn; m = ft.load({str(trained.folder)!r}); "
        "print(len(m.recommend([['i00001']], k=3)[0].items))"
    )
    done = subprocess.run(["python", "-c", code], env=here, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"
