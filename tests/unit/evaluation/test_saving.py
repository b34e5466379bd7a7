"""Results as files: every ending, whole or not at all, and nothing of another's is replaced."""

from __future__ import annotations

import csv
import json
from xml.dom.minidom import parse

import pytest

from forethought.errors import ConfigError, RunError
from forethought.evaluation.compare import compare
from forethought.reports.saving import FORMS, save_results

QUICK = {"resamples": 50, "permutations": 99}


@pytest.fixture
def results(evaluate):
    one, other = evaluate(seed=1), evaluate(seed=2, better=3.0)
    return {"evaluation": one, "comparison": compare({"plain": one, "=cmd()": other}, **QUICK)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["evaluation", "comparison"])
def test_every_ending_is_written_and_may_be_written_again(results, kind, form, tmp_path):
    path = tmp_path / f"result{form}"
    assert save_results(results[kind], path) == path
    first = path.read_bytes()
    save_results(results[kind], path)
    assert path.read_bytes() == first, "the same result makes the same file"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_somebody_else_stays(results, form, tmp_path):
    path = tmp_path / f"precious{form}"
    path.write_text("user_id,item_id\n1,2\n")
    with pytest.raises(RunError, match="was not written by Forethought"):
        save_results(results["evaluation"], path)
    assert path.read_text() == "user_id,item_id\n1,2\n"


def test_numbers_come_back_from_csv_and_json(results, tmp_path):
    comparison = results["comparison"]
    save_results(comparison, tmp_path / "c.csv")
    with (tmp_path / "c.csv").open() as file:
        rows = list(csv.DictReader(file))
    (row,) = [row for row in rows if row["metric"] == "ndcg@10" and row["against"]]
    assert row["method"] == "'=cmd()", "no formula for a spreadsheet"
    (gain,) = [gain for gain in comparison.differences if gain.metric == "ndcg@10"]
    assert float(row["relative_high"]) == gain.relative.ci95[1]
    save_results(comparison, tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["baseline"] == "plain"


def test_a_figure_draws_an_interval_for_each_group(results, tmp_path):
    from forethought.reports.figures import figure_of

    evaluation = results["evaluation"]
    rows = 1 + sum(len(groups) for groups in evaluation.groups.values())
    figure = figure_of(evaluation)
    for axes, metric in zip(figure.axes, ("recall@10", "ndcg@10"), strict=True):
        drawn = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
        assert evaluation.metrics[metric].ci95 in drawn
        assert len([line for line in axes.lines if line.get_marker() == "o"]) == rows
    save_results(evaluation, tmp_path / "f.svg")
    parse(str(tmp_path / "f.svg"))


def test_an_unknown_ending_and_another_object_are_refused(results, tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.xlsx"):
        save_results(results["evaluation"], tmp_path / "a.xlsx")
    with pytest.raises(ConfigError, match="can be saved"):
        save_results({"ndcg@10": 1.0}, tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())
