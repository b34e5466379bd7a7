"""docs/extending.md does what it says: its blocks run verbatim, one after the other, in one folder."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?^```(?P<language>python|bash)\n(?P<code>.*?)^```$", re.M | re.S)
LONGEST = 40


def blocks() -> list[re.Match[str]]:
    return list(BLOCK.finditer(PAGE.read_text(encoding="utf-8")))


def test_every_example_is_short() -> None:
    lengths = [block["code"].count("\n") for block in blocks()]
    assert max(lengths) <= LONGEST
    assert {block["file"] for block in blocks() if block["file"]} == {"my_metrics.py", "my_backbone.py", "my_loss.py"}


@pytest.mark.filterwarnings("ignore")
def test_the_page_runs_verbatim(processes: dict[str, str], tmp_path: Path) -> None:
    for block in blocks():
        if block["file"]:
            (tmp_path / block["file"]).write_text(block["code"], encoding="utf-8")
            continue
        words = ["python", "-c"] if block["language"] == "python" else ["bash", "-euo", "pipefail", "-c"]
        done = subprocess.run(
            [*words, block["code"]],
            cwd=tmp_path,
            env=processes,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{block['code']}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
