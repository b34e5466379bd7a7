"""What a notebook shows of an object that is the last line of a cell: one line, and not all of its arrays."""

from __future__ import annotations

from forethought.data.noise import Noise
from forethought.data.splits import Split
from forethought.evaluation.settings import EvaluationConfig
from forethought.recommender import Recommender
from forethought.runs import evaluate


def test_objects_are_told_in_a_line(trained: Recommender, split: Split) -> None:
    evaluation = evaluate(trained, split, EvaluationConfig(resamples=20))
    lines = [repr(each) for each in (trained, split, split.data, split.with_noise(Noise(kind="delete")), evaluation)]
    assert all("\n" not in line and len(line) < 250 for line in lines)
    assert "SASRec" in lines[0]
    assert f"{len(trained.items)} items" in lines[0]
    assert str(trained.folder) in lines[0]
    assert lines[1] == "<Split leave_last_out of shop: 80 training rows, 80 validation and 80 test cases>"
    assert lines[2] == f"<Interactions shop: 80 users, 40 items, {len(split.data):,} interactions>"
    assert lines[3].endswith("cases, noise delete>")
    assert "ndcg@10 0." in lines[4]
