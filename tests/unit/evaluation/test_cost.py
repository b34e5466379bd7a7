"""Steps, FLOPs and wall clock: what an evaluation keeps of them, and what a comparison says of steps saved."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from forethought.errors import DataError
from forethought.evaluation import cost, cost_tables
from forethought.evaluation.compare import Comparison, compare
from forethought.evaluation.report import Evaluation, summarise
from forethought.reports import html
from forethought.tables.formats import count, number, si

QUICK = {"resamples": 100, "permutations": 99, "metrics": ["ndcg@10"]}
ARH = {"rule": "arh", "threshold": 0.25, "max_steps": 3}
FIXED = {"rule": "fixed", "threshold": 0.5, "max_steps": 3}


def spent(evaluation: Evaluation, flops: float, ms: float, steps: float, **more: Any) -> Evaluation:
    """The same evaluation at another price."""
    known = {"flops_per_history": {"encode": flops, "rank": 5e4}, "ms_per_history": {"encode": ms, "rank": 0.5}}
    training = {"epochs": 4, "trained_s": 10.0, "s_per_epoch": 2.5, "flops_per_epoch": 3e12}
    price = evaluation.cost | known | {"steps": steps, "parameters": 1234, "training": training} | more
    return replace(evaluation, cost=price)


def savings(comparison: Comparison) -> list[str]:
    return cost_tables.savings(comparison.methods, comparison.baseline)


def test_of_ranking():
    steps = np.array([1, 1, 2, 3, 3, 3, 3, 3, 3, 3])
    told = cost.of_ranking(steps, {"encode": 0.2, "rank": 0.3, "lists": 5.0}, 4)
    assert told["steps"] == 2.5
    assert told["steps_quantiles"] == {"p10": 1.0, "p50": 3.0, "p90": 3.0}
    assert told["steps_saved"] == 1 - 2.5 / 4
    assert told["ms_per_history"] == pytest.approx({"encode": 20.0, "rank": 30.0, "lists": 500.0})
    assert told["states_per_second"] == pytest.approx(10 / 0.5)
    assert "steps_saved" not in cost.of_ranking(steps, {}, None)
    assert "steps_saved" not in cost.of_ranking(np.zeros(3), {}, 0)  # asked to take no step: nothing was saved


def test_seeds_are_averaged_over_those_that_know():
    some = {"steps": 1.0, "flops_per_history": {"encode": 10.0}, "training": None, "states_per_second": math.nan}
    more = {"steps": 2.0, "flops_per_history": {"encode": 30.0}, "training": {"s_per_epoch": 7.0}}
    assert cost.averaged([some, more]) == {"steps": 1.5, "flops": 20.0, "train_s_per_epoch": 7.0}
    assert cost.averaged([{}]) == {}


def test_each_group_has_its_own_steps(split, make_ranking):
    ranked = make_ranking(split)
    evaluation = summarise(ranked, split.test, split, window=5, history_excluded=False, halting=ARH, resamples=20)
    lengths, cases = split.test.history.lengths, evaluation.cases
    for group in evaluation.groups["history_length"].values():
        within = (lengths >= group.range[0]) & (lengths <= group.range[1])
        assert group.steps == pytest.approx(ranked.steps[within].mean())
    for name, group in evaluation.groups["target_popularity"].items():
        within = (cases["popularity_group"] == name).to_numpy()
        assert group.steps == pytest.approx(ranked.steps[within].mean())
    header = next(line for line in str(evaluation).splitlines() if line.startswith("group"))
    assert header.split()[-1] == "steps"


def test_a_model_that_does_not_reason_has_no_steps_to_show(split, make_ranking):
    still = SimpleNamespace(**vars(make_ranking(split)) | {"steps": np.zeros(200, np.float32)})
    text = str(summarise(still, split.test, split, window=5, history_excluded=False, resamples=20))
    assert "steps" not in text
    assert "Thinking" not in text


def test_halting_is_kept_and_read_again(evaluate, tmp_path):
    evaluation = evaluate(halting=ARH)
    evaluation.write(tmp_path)
    assert Evaluation.read(tmp_path).halting == ARH
    assert Evaluation.read(tmp_path).groups == evaluation.groups
    assert json.loads((tmp_path / "metrics.json").read_text())["halting"] == ARH
    parts = evaluation.to_json()
    del parts["halting"]  # as it was written before models could halt
    for groups in parts["groups"].values():
        for group in groups.values():
            del group["steps"]
    old = Evaluation.from_json(parts, evaluation.cases)
    assert old.halting is None
    parts["halting"] = ARH | {"noise": 0.0}  # as it was written when noise was a number
    assert Evaluation.from_json(parts, evaluation.cases).halting == ARH
    assert old.groups["history_length"]["G1"].steps is None
    assert "by history length" in str(old)


def test_an_evaluation_says_how_indicators_were_misread_and_that_steps_may_be_none(evaluate):
    halting = ARH | {"min_steps": 0, "noise": {"std": 0.5, "bias": 0.0, "scale": -0.25}}
    text = " ".join(str(spent(evaluate(halting=halting), 1.5e6, 0.25, 1.5)).split())
    assert "more than 0.25, perhaps before the first step, after 3 steps at most" in text
    assert "(arh, indicators misread by std 0.5, scale -0.25 of their deviations)" in text
    assert "(arh, indicators with noise of 0.1)" in str(spent(evaluate(halting=ARH | {"noise": 0.1}), 1.0, 1.0, 1.0))


def test_an_evaluation_says_what_it_cost(evaluate):
    machine = {"device": "cpu", "threads": 1, "batch": 1024}
    text = " ".join(str(spent(evaluate(halting=ARH), 1.5e6, 0.25, 1.5, machine=machine)).split())
    assert "read and think 1.5 M 0.2500" in text
    assert "rank all items 50 k 0.5000" in text
    assert "when the halting net says more than 0.25, after 3 steps at most (arh): 1.50 steps a history (p10" in text
    assert "in batches of 1,024 on cpu with 1 thread." in text
    assert "4 epochs in 10.0 s; an epoch takes 2.50 s and 3 T FLOPs" in text
    plain = str(evaluate(halting=FIXED))
    assert "Thinking takes 3 steps (fixed)." in plain
    assert "Training" not in plain  # it was not counted, so nothing is said


@pytest.mark.parametrize(
    ("halting", "words"),
    [
        (None, "–"),
        (ARH, "arh 0.25, 3 steps at most"),
        (FIXED | {"max_steps": 1}, "fixed, 1 step"),
        (FIXED | {"rule": "soft"}, "soft, 3 steps"),
    ],
)
def test_halting_in_words(halting, words):
    assert cost_tables.halting_words(halting) == words


def test_the_same_weights_are_compared_under_several_rules(evaluate):
    both = {"fixed": spent(evaluate(halting=FIXED), 4e6, 2.0, 3.0), "arh": spent(evaluate(halting=ARH), 3e6, 2.1, 1.5)}
    comparison = compare(both, **QUICK)
    assert comparison.methods["arh"].halting == ARH
    assert comparison.methods["arh"].cost["flops"] == 3e6
    assert "halting" not in comparison.protocol
    assert comparison.to_json()["methods"]["fixed"]["halting"] == FIXED
    verdict = (
        "arh against fixed, reading and thinking: 50% fewer steps, 25% fewer FLOPs, 5% more time: "
        "the steps saved save no time."
    )
    assert savings(comparison) == [verdict]
    for text in (comparison.document().markdown(), html.comparison_page(comparison)):
        assert verdict in text
        for cell in ("arh 0.25, 3 steps at most", "1,234", "1.50", "3 M", "2.1000", "50 k", "2.50", "3 T"):
            assert cell in text


def test_cells_stand_below_their_columns(evaluate):
    both = {"a": spent(evaluate(halting=FIXED), 4e6, 2.0, 3.0), "b": spent(evaluate(halting=ARH), 3e6, 2.1, 1.5)}
    _, case, training = compare(both, **QUICK).document().tables
    assert dict(zip(case.columns, case.rows[1], strict=True)) == {
        "method": "b",
        "halting": "arh 0.25, 3 steps at most",
        "parameters": "1,234",
        "steps": "1.50",
        "FLOPs/history": "3 M",
        "ms/history": "2.1000",
        "ranking FLOPs": "50 k",
        "ranking ms": "0.5000",
    }
    assert dict(zip(training.columns, training.rows[1], strict=True)) == {
        "method": "b",
        "seeds": "1",
        "window": "50",
        "epochs": "4",
        "s/epoch": "2.50",
        "FLOPs/epoch": "3 T",
    }


@pytest.mark.parametrize(
    ("flops", "ms", "end"),
    [
        (2e6, 1.0, "50% fewer FLOPs, 50% less time."),
        (5e6, 3.0, "25% more FLOPs, 50% more time: the steps saved save no FLOPs and no time."),
        (5e6, 1.0, "25% more FLOPs, 50% less time: the steps saved save no FLOPs."),
        (3e6, 1.9, "25% fewer FLOPs, 5% less time: the steps saved save no time."),  # no more than chance
    ],
)
def test_what_saved_steps_saved(evaluate, flops, ms, end):
    both = {"fixed": spent(evaluate(halting=FIXED), 4e6, 2.0, 3.0), "arh": spent(evaluate(halting=ARH), flops, ms, 1.5)}
    [verdict] = savings(compare(both, **QUICK))
    assert verdict.endswith(end)


def test_nothing_is_said_of_savings_where_no_step_was_saved(evaluate):
    same = {"fixed": spent(evaluate(halting=FIXED), 4e6, 2.0, 3.0), "arh": spent(evaluate(halting=ARH), 5e6, 2.0, 3.0)}
    assert savings(compare(same, **QUICK)) == []
    still = {"dtrec": spent(evaluate(halting=ARH), 4e6, 2.0, 2.0), "sasrec": spent(evaluate(), 1e6, 1.0, 0.0)}
    assert savings(compare(still, **QUICK)) == []
    assert savings(compare(dict(reversed(still.items())), **QUICK)) == []


def test_seeds_of_one_method_think_alike(evaluate):
    mixed = {"dtrec": [evaluate(halting=ARH), evaluate(halting=FIXED)], "sasrec": evaluate()}
    with pytest.raises(DataError, match=r"'dtrec' stopped thinking by different rules: give each rule a name\.$"):
        compare(mixed)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, "–"),
        (math.inf, "–"),
        (0.0, "0"),
        (12.345, "12.3"),
        (999.4, "999"),
        (999.6, "1 k"),
        (128_000, "128 k"),
        (1.234e6, "1.23 M"),
        (9.996e11, "1 T"),
        (1e22, "1e+04 E"),
    ],
)
def test_prefixes(value, cell):
    assert si(value) == cell


def test_a_dash_where_there_is_no_number():
    assert [number(math.nan, ".2f"), number(1.005, ".1f"), count(None), count(12345.6)] == ["–", "1.0", "–", "12,346"]
