"""The picture that tells of a history, the steps, and what was chosen."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from forethought.errors import ConfigError
from forethought.evaluation.statistics import Estimate
from forethought.explaining.explanation import Explanation
from forethought.explaining.parts import Candidate, ItemRef, RankChange, Step
from forethought.recommender import Recommender
from forethought.reports import story

SCRIPT = Path(__file__).parents[3] / "docs" / "quickstart.py"


def thought(ranks: dict[str, list[float | None]], *, taken: int, answer_step: int | None) -> Explanation:
    """An explanation of one step more than are taken."""
    steps = [
        Step(n, n <= taken, n == taken, [], 1.0, 0.5, 0.0, None, None, None, None, [], 0) for n in range(taken + 2)
    ]
    return Explanation(
        history=[ItemRef(n, f"met {n}") for n in range(12)],
        dropped=[],
        read=50,
        history_excluded=True,
        halting=None,
        centroid=None,
        answer=[Candidate(item, f"title of {item}", 1.0, 0.25) for item in ranks],
        answer_step=answer_step,
        steps=steps,
        movements=[RankChange(item, None, each, float(n + 1)) for n, (item, each) in enumerate(ranks.items())],
        target=None,
        plane=None,
    )


def words_in(path: Path) -> str:
    """matplotlib draws letters as shapes, and says in a comment which words they are."""
    return path.read_text(encoding="utf-8")


def test_it_tells_of_the_history_the_steps_taken_and_the_items_chosen(tmp_path: Path) -> None:
    told = thought({"a": [1, 2, 40], "b": [400, 1, 2]}, taken=1, answer_step=1)
    drawn = words_in(story.write_story(told, tmp_path / "story.svg"))
    for words in ("met so far", "met 11", "4 earlier", "step 0", "step 1", "title of a", "25%", "400", "step 1 of 2"):
        assert f"{words}" in drawn
    assert "met 3 " not in drawn
    assert "step 2 -->" not in drawn  # it was not taken
    assert "the answer -->" not in drawn  # it is that of the last step taken
    blended = replace(told, answer_step=None)
    assert "the answer -->" in words_in(story.write_story(blended, tmp_path / "blended.svg"))
    assert [each.ranks for each in story._columns(blended)] == [[1, 400], [2, 1], [1.0, 2.0]]


def test_ranks_far_off_stay_on_the_page_in_their_order() -> None:
    ranks: list[float | None] = [900.0, 3.0, None, 7.0, 4000.0]
    heights = story._heights(ranks)
    assert heights[1] > heights[3] > heights[0] > heights[4] > heights[2] > 0.02
    assert min(a - b for a, b in zip(sorted(heights)[1:], sorted(heights), strict=False)) > 0.06


def test_a_model_without_steps_has_a_story_too(trained: Recommender, tmp_path: Path) -> None:
    told = trained.explain(trained.items.id_list([3, 1]), k=2)
    png, svg = (story.write_story(told, tmp_path / f"a.{ending}") for ending in ("png", "svg"))
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    before = svg.read_bytes()
    assert story.write_story(told, svg).read_bytes() == before
    with pytest.raises(ConfigError, match="a picture is written as"):
        story.write_story(told, tmp_path / "a.gif")


@pytest.mark.parametrize(
    ("interval", "said"), [((0.01, 0.03), "better too"), ((-0.03, -0.01), "WORSE"), ((-0.01, 0.03), "decides nothing")]
)
def test_the_quickstart_says_what_the_test_part_says_of_its_choice(interval: tuple[float, float], said: str) -> None:
    tell: Any = runpy.run_path(str(SCRIPT))["verdict"]
    difference = SimpleNamespace(absolute=Estimate(sum(interval) / 2, interval))
    told = tell("sasrec", "dtrec", {"sasrec": 0.4, "dtrec": 0.3}, difference)
    assert said in told
    assert "sasrec (NDCG@10 0.4000, dtrec 0.3000)" in told
