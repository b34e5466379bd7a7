"""What an evaluation holds, how it is written and read, and what is said when it is damaged."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from forethought.data.histories import Cases, Histories, Spans
from forethought.data.interactions import Interactions
from forethought.data.splits import Split, leave_last_out
from forethought.data.vocabulary import Vocabulary
from forethought.errors import DataError, RunError
from forethought.evaluation.metrics import per_case
from forethought.evaluation.protocol import excludes_history
from forethought.evaluation.report import Evaluation, summarise

SETTINGS = {"window": 50, "history_excluded": True, "resamples": 50}


def test_json_has_the_promised_shape(evaluate):
    parts = json.loads(json.dumps(evaluate().to_json(), allow_nan=False))
    assert list(parts) == ["protocol", "metrics", "lists", "groups", "cost", "halting", "weights"]
    assert set(parts["metrics"]) == {f"{m}@{k}" for m in ("recall", "ndcg", "mrr") for k in (5, 10, 20)}
    for estimate in parts["metrics"].values():
        low, high = estimate["ci95"]
        assert list(estimate) == ["mean", "ci95"]
        assert low <= estimate["mean"] <= high
    assert (
        {"history_length", "target_popularity"}
        <= set(parts["groups"])
        <= {"history_length", "target_popularity", "target"}
    )
    assert parts["cost"]["seconds"] == {"encode": 0.5, "rank": 1.5, "lists": 3.0}
    assert parts["cost"]["states_per_second"] == parts["protocol"]["n_cases"] / 2  # lists are timed apart


def test_protocol_says_what_was_measured(split, evaluate):
    assert evaluate().protocol == {
        "data": "small",
        "data_hash": split.data.data_hash,
        "split": "leave_last_out",
        "ties": "file",
        "tie_seed": None,
        "part": "test",
        "candidates": "all",
        "history_excluded": True,
        "window": 50,
        "n_cases": 200,
        "n_items": 400,
    }


def test_history_is_excluded_by_default_only_where_nobody_repeats(make_data):
    data = make_data()
    assert excludes_history(data)
    histories = Histories.from_lists([[1, 2, 1], [3]])
    users = Vocabulary.from_series(pl.Series([1, 2]))
    assert not excludes_history(Interactions(histories, users, data.items, data.item_table))


def test_every_case_is_kept(split, make_ranking):
    ranked = make_ranking(split)
    cases = summarise(ranked, split.test, split, **SETTINGS).cases
    popularity = np.bincount(np.concatenate([split.train[u] for u in range(len(split.train))]), minlength=400)
    assert cases["user_id"].to_list() == split.data.users.id_list(split.test.history.users)
    assert cases["target_id"].to_list() == split.data.items.id_list(split.test.targets)
    assert cases["case"].to_list() == [0] * 200
    assert cases["history_length"].to_list() == split.test.history.lengths.tolist()
    assert cases["target_popularity"].to_list() == popularity[split.test.targets].tolist()
    assert cases["steps"].to_list() == ranked.steps.tolist()
    for name, values in per_case(ranked.ranks).items():
        assert cases[name].to_list() == values.tolist()


def test_groups_hold_all_cases_and_their_means(evaluate):
    evaluation = evaluate()
    for by, column in (("history_length", "length_group"), ("target_popularity", "popularity_group")):
        assert sum(group.cases for group in evaluation.groups[by].values()) == evaluation.cases.height
        for name, group in evaluation.groups[by].items():
            mine = evaluation.cases.filter(pl.col(column) == name)
            assert group.cases == mine.height
            assert group.range == (mine[by].min(), mine[by].max())
            for metric, estimate in group.metrics.items():
                assert estimate.mean == pytest.approx(mine[metric].mean(), abs=1e-12)


def test_a_group_that_nobody_is_in_is_told_of(split, make_ranking):
    evaluation = summarise(make_ranking(split), split.test, split, **SETTINGS)
    assert not [remark for remark in evaluation.document().remarks if "there is no G" in remark]
    fewer = {name: group for name, group in evaluation.groups["history_length"].items() if name not in ("G1", "G3")}
    told = replace(evaluation, groups=evaluation.groups | {"history_length": fewer}).document().remarks
    assert told[0].startswith("By history length there is no G1 and no G3: cases of equal value share a group")


def test_several_cases_of_a_user_are_counted_and_resampled_together(split):
    n = 40
    users = np.repeat(np.arange(n), 3)
    history = Spans(split.train.histories, users, split.train.starts[users], split.train.ends[users])
    cases = Cases(history, np.tile(split.test.targets[:n], 3))
    ranks = np.where(users < 10, 1.0, np.inf)
    ranked = SimpleNamespace(ranks=ranks, lists=None, steps=np.zeros(len(ranks)), seconds={"rank": 1.0})
    evaluation = summarise(ranked, cases, split, window=5, history_excluded=False)
    assert evaluation.cases["case"].to_list() == [0, 1, 2] * n
    low, high = evaluation.metrics["recall@5"].ci95
    assert high - low == pytest.approx(4 * math.sqrt(0.25 * 0.75 / n), rel=0.15)  # of 40 users, not of 120 cases
    assert evaluation.lists == {}


def test_what_is_written_is_read_again(evaluate, tmp_path):
    evaluation = evaluate()
    evaluation.write(tmp_path / "run")
    again = Evaluation.read(tmp_path / "run")
    assert again.to_json() == evaluation.to_json()
    assert again.cases.equals(evaluation.cases)
    assert again.groups == evaluation.groups
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["metrics.json", "per_user.parquet"]


def test_numbers_that_do_not_exist_survive_as_null(make_data, tmp_path):
    split = leave_last_out(make_data())
    nowhere = Split(split.data, split.train.take(np.arange(0)), split.valid, split.test, split.protocol)
    ranked = SimpleNamespace(
        ranks=np.full(200, np.inf), lists=np.zeros((200, 10), np.int32), steps=np.zeros(200), seconds={}
    )
    evaluation = summarise(ranked, split.test, nowhere, **SETTINGS)
    assert math.isnan(evaluation.lists["popularity_lift@10"])  # training saw nothing, so nothing is popular
    assert evaluation.to_json()["lists"]["popularity_lift@10"] is None
    evaluation.write(tmp_path)
    assert math.isnan(Evaluation.read(tmp_path).lists["popularity_lift@10"])
    assert "–" in str(Evaluation.read(tmp_path))


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("metrics.json", None, "has no metrics.json"),
        ("per_user.parquet", None, "has no per_user.parquet"),
        ("metrics.json", b'{"protocol": {"spl', "is damaged"),
        ("metrics.json", b"\xff\xfe\x00", "is damaged"),
        ("metrics.json", b"[1, 2]", "damaged"),
        ("metrics.json", b'{"protocol": {}}', "damaged"),
        ("per_user.parquet", b"PAR1 and then nothing", "per_user.parquet is damaged"),
        ("per_user.parquet", b"", "per_user.parquet is damaged"),
    ],
)
def test_a_damaged_evaluation_is_told_in_one_sentence(evaluate, tmp_path, file, damage, said):
    evaluate().write(tmp_path)
    (tmp_path / file).unlink() if damage is None else (tmp_path / file).write_bytes(damage)
    with pytest.raises(RunError, match=said) as caught:
        Evaluation.read(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((" first.", " again."))


def test_files_of_two_evaluations_do_not_mix(evaluate, tmp_path):
    evaluate(seed=1).write(tmp_path / "a")
    evaluate(seed=2).write(tmp_path / "b")
    (tmp_path / "a/per_user.parquet").replace(tmp_path / "b/per_user.parquet")
    with pytest.raises(RunError, match="from another evaluation"):
        Evaluation.read(tmp_path / "b")


def test_a_failed_write_leaves_the_old_evaluation(evaluate, tmp_path, monkeypatch):
    old = evaluate(seed=1)
    old.write(tmp_path)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(RunError, match="No space left"):
        evaluate(seed=2).write(tmp_path)
    assert Evaluation.read(tmp_path).to_json() == old.to_json()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_where_the_folder_should_be_is_told(evaluate, tmp_path):
    (tmp_path / "run").write_text("not a folder")
    with pytest.raises(RunError, match="could not be written"):
        evaluate().write(tmp_path / "run")


@pytest.mark.parametrize(
    ("ranks", "said"),
    [(np.ones(3), "3 ranks for 200 cases"), (np.full(200, np.nan), "200 of 200 ranks are not numbers")],
)
def test_ranks_that_cannot_be_are_refused(split, ranks, said):
    ranked = SimpleNamespace(ranks=ranks, lists=None, steps=np.zeros(len(ranks)), seconds={})
    with pytest.raises(DataError, match=said):
        summarise(ranked, split.test, split, **SETTINGS)


def test_no_cases_are_refused(split):
    ranked = SimpleNamespace(ranks=np.zeros(0), lists=None, steps=np.zeros(0), seconds={})
    with pytest.raises(DataError, match="no cases"):
        summarise(ranked, split.test.take(np.arange(0)), split, **SETTINGS)


def test_the_protocol_stands_above_the_numbers(evaluate):
    text = str(evaluate())
    assert text.index("history excluded · full ranking of 400 items") < text.index("ndcg")
    assert "ties file" in text
    assert "G1" in text
    biased = str(evaluate(sample={"negatives": 99, "negatives_by": "uniform", "negatives_seed": 0}))
    assert "SAMPLED (biased): 99 uniform negatives" in biased
    assert "sampled99:ndcg" in biased


def test_reading_and_comparing_need_no_torch():
    code = "import sys, forethought.evaluation.compare, forethought.reports.html; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- targets that training never met


@pytest.fixture(scope="module")
def held(make_data: Callable[..., Interactions]) -> Split:
    return leave_last_out(make_data(), hold_out_items=0.3)


@pytest.mark.parametrize("excluded", [True, False])
def test_warm_and_cold_cases_stand_apart_with_what_chance_would_do(
    held: Split, make_ranking: Callable[..., SimpleNamespace], excluded: bool
) -> None:
    evaluation = summarise(make_ranking(held), held.test, held, window=50, history_excluded=excluded, resamples=100)
    cold = held.train.item_counts(held.data.n_items)[held.test.targets] == 0
    groups, ranks = evaluation.groups["target"], evaluation.cases["rank"].to_numpy()
    assert {name: group.cases for name, group in groups.items()} == {"cold": cold.sum(), "warm": (~cold).sum()}
    assert groups["cold"].range == (0, 0)
    assert groups["warm"].range[0] >= 1
    free = np.array(
        [
            held.data.n_items - (len(set(held.test.history[n].tolist())) if excluded else 0)
            for n in range(len(held.test))
        ]
    )
    for name, members in (("cold", cold), ("warm", ~cold)):
        assert groups[name].metrics["recall@10"].mean == pytest.approx((ranks[members] <= 10).mean())
        low, high = groups[name].metrics["recall@10"].ci95
        assert low <= groups[name].metrics["recall@10"].mean <= high
        assert groups[name].chance == pytest.approx((10 / free[members]).mean())
    text = str(evaluation)
    assert "by whether training met the target" in text
    assert "recall@10 by chance" in text
    again = Evaluation.from_json(json.loads(json.dumps(evaluation.to_json())), evaluation.cases)
    assert again.groups == evaluation.groups


def test_chance_among_sampled_negatives(held: Split, make_ranking: Callable[..., SimpleNamespace]) -> None:
    sample = {"negatives": 99, "negatives_by": "uniform", "negatives_seed": 0}
    ranked = make_ranking(held, lists=False)
    evaluation = summarise(ranked, held.test, held, window=50, history_excluded=True, sample=sample, resamples=100)
    assert evaluation.groups["target"]["cold"].chance == pytest.approx(0.1)


def test_where_training_met_every_target_nobody_is_cold(
    split: Split, make_ranking: Callable[..., SimpleNamespace]
) -> None:
    met = split.train.item_counts(split.data.n_items)[split.test.targets] > 0
    warm, ranked = split.test.take(np.flatnonzero(met)), make_ranking(split)
    few = SimpleNamespace(
        ranks=ranked.ranks[met], lists=ranked.lists[met], steps=ranked.steps[met], seconds=ranked.seconds
    )
    evaluation = summarise(few, warm, split, window=50, history_excluded=True, resamples=100)
    assert "target" not in evaluation.groups
    assert "target_group" not in evaluation.cases.columns
