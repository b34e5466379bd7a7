"""Cut-offs, metrics of one's own, and groups by any column."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import forethought as ft
from forethought.data.histories import Cases, Histories, Spans
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.evaluation.compare import compare
from forethought.evaluation.groups import repeat_or_new
from forethought.evaluation.metrics import metric_of
from forethought.evaluation.own_groups import own_groups
from forethought.plugins import PluginError
from forethought.settings import check


def test_cut_offs_and_a_metric_of_ones_own_have_intervals(evaluate) -> None:
    top3 = ft.Metric("top3", lambda ranks: ranks <= 3)
    variety = ft.Metric("distinct", lambda ranks, lists: [len({*row}) for row in lists])
    made = evaluate(cuts=(1, 50), own=(top3, variety))
    assert list(made.metrics) == ["recall@1", "recall@50", "ndcg@1", "ndcg@50", "mrr@1", "mrr@50", "top3", "distinct"]
    assert made.metrics["top3"].mean == (made.cases["rank"] <= 3).mean()
    assert made.metrics["distinct"].mean == 20
    low, high = made.metrics["top3"].ci95
    assert low < made.metrics["top3"].mean < high
    assert "own metrics" in str(made)
    assert "recall@1 " in str(made)  # what groups are shown by


def test_compares_what_all_have_measured(evaluate) -> None:
    top3 = ft.Metric("top3", lambda ranks: ranks <= 3)
    pair = {"a": evaluate(cuts=(5, 50), own=(top3,)), "b": evaluate(seed=1, own=(top3,))}
    outcome = compare(pair, resamples=20, permutations=20)
    assert list(outcome.methods["a"].metrics) == ["recall@5", "ndcg@5", "mrr@5", "top3"]
    with pytest.raises(DataError, match="No metric was measured for all"):
        compare({"a": evaluate(cuts=(1,)), "b": evaluate(seed=1, cuts=(2,))})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda ranks: ranks[:3], "one finite number a case, but of 5 cases it made an array of shape"),
        (lambda ranks: np.full(len(ranks), np.nan), "values that are none"),
        (lambda ranks: 1 / 0, r"failed \(ZeroDivisionError"),
        (lambda ranks: ["a"] * len(ranks), r"failed \(ValueError"),
    ],
)
def test_a_metric_that_fails_gets_a_sentence(function, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ft.Metric("mine", function).values(np.arange(5.0))


@pytest.mark.parametrize("name", ["ndcg@7", "recall", "rank", "two words", "", "a@0"])
def test_names_that_are_taken_or_none(name: str) -> None:
    with pytest.raises(ConfigError, match=r"There is a|must be like top3"):
        ft.Metric(name, len)


def test_a_metric_by_import_path_is_imported_where_a_person_names_it(tmp_path, monkeypatch) -> None:
    (tmp_path / "metrics_apart.py").write_text("def top3(ranks):\n    return ranks <= 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match="--plugin metrics_apart"):
        metric_of("metrics_apart:top3")
    assert metric_of("metrics_apart:top3", person=True).name == "top3"
    assert metric_of("metrics_apart:top3").values(np.array([1.0, 9.0])).tolist() == [1, 0]
    assert metric_of("ndcg@7").values(np.array([1.0])).tolist() == [1]


def test_settings_are_checked() -> None:
    for wrong, said in (
        ({"cutoffs": ()}, "each named once"),
        ({"cutoffs": (5, 5)}, "each named once"),
        ({"cutoffs": (0,)}, "cutoffs"),
        ({"metrics": (ft.Metric("a", len), ft.Metric("a", len))}, "Two metrics have one name"),
        ({"metrics": (ft.Metric("a", lambda r, lists: r),), "sample": ft.Sample()}, "leave sample out"),
    ):
        with pytest.raises(ConfigError, match=said):
            ft.EvaluationConfig(**wrong)
    check(ft.EvaluationConfig().cutoffs, tuple[int, ...], "cutoffs")


def test_groups_by_columns_of_items_and_users(split: Split) -> None:
    n = split.data.n_items
    table = split.data.item_table.with_columns(
        brand=pl.Series([f"b{i % 3}" for i in range(n)]),
        price=pl.Series(np.arange(n) / 10),
        tags=pl.Series([["x"]] * n),
    )
    known = replace(split, data=replace(split.data, item_table=table))
    users = pl.DataFrame({"user_id": [f"user {u}" for u in range(100)], "country": ["A", "B"] * 50})
    groups = own_groups(("brand", "price", "country"), known.test, known, users)
    assert groups["brand"].tolist() == [f"b{i % 3}" for i in known.test.targets]
    assert len({*groups["price"]}) == 5
    assert all(" to " in each for each in groups["price"])
    assert {*groups["country"]} == {"A", "B", "(unknown)"}
    for names, given, said in (
        (("brnad",), None, "Did you mean 'brand'"),
        (("country",), None, "Columns of users need a table of users"),
        (("tags",), None, "holds lists"),
        (("country",), pl.concat([users, users]), "names a user twice"),
        (("country",), users.with_columns(user_id=pl.lit(7)).head(1), "none of the users"),
    ):
        with pytest.raises((ConfigError, DataError), match=said):
            own_groups(names, known.test, known, given)


def test_repeats_and_new_items_are_told_apart_where_histories_stay(evaluate) -> None:
    histories = Histories.from_lists([[0, 1, 0], [2, 3, 4]])
    spans = Spans(histories, np.arange(2), histories.starts, histories.ends - 1)
    cases = Cases(spans, histories.items[histories.ends - 1])
    assert repeat_or_new(cases, 5).tolist() == ["repeat", "new"]
    assert repeat_or_new(cases.take(np.array([1])), 5) is None
    assert "repeat" not in evaluate(history_excluded=False).groups


def test_groups_come_with_metrics(evaluate, split: Split) -> None:
    labels = np.array(["x", "y"])[np.arange(len(split.test)) % 2]
    made = evaluate(groups_by={"half": labels})
    assert list(made.groups["half"]) == ["x", "y"]
    assert (
        made.groups["half"]["x"].metrics["recall@10"].mean == made.cases["recall@10"].to_numpy()[labels == "x"].mean()
    )
    assert type(made).from_json(made.to_json(), made.cases).groups["half"].keys() == {"x", "y"}
