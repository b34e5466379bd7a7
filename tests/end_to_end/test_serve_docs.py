"""The four commands from a table to an answer, as docs/serve.md has them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import polars as pl
import pytest
from service_process import started
from shell import Shell

ROOT = Path(__file__).parents[2]
pytest.importorskip("fastapi")


@pytest.mark.parametrize("page", ["README.md", "docs/serve.md"])
def test_four_commands_from_a_table_to_an_answer(
    page: str, processes: dict[str, str], shop: Path, tmp_path: Path
) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    block = next(each for each in re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S) if "forethought serve" in each)
    install, train, serve, curl = block.splitlines()
    assert install == 'pip install ".[serve]"'
    table = pl.read_parquet(shop / "interactions.parquet")
    table.select(visitor="user_id", sku="item_id", timestamp="timestamp").write_csv(tmp_path / "visits.csv")
    words = [*shlex.split(train), "--epochs", "1"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, env=processes)
    asked = shlex.split(curl)
    body = json.loads(asked[asked.index("-d") + 1])
    assert asked[asked.index("-H") + 1] == "Content-Type: application/json"
    run = tmp_path / shlex.split(serve)[2]
    with started(
        ["-m", "forethought", "serve", run, "--port", "0", "--state", tmp_path / "s"], tmp_path / "s"
    ) as server:
        assert asked[1].startswith("localhost:8000/")
        answer = server.ask(asked[1].removeprefix("localhost:8000"), body)
        assert len(answer["results"][0]["items"]) == body["k"]


def test_the_options_named_on_the_page_are_there(shell: Shell) -> None:
    text = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    elsewhere = {"--resume", "--user", "--data", "--out", "--item", "--rm"}  # of the training, and of docker
    assert set(re.findall(r"--[a-z][a-z-]+", text)) - elsewhere <= set(
        re.findall(r"--[a-z][a-z-]+", shell.ok("serve", "--help"))
    )
