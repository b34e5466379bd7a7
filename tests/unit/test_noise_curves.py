"""A run under noise: what is averaged, what the protocol says, what stays as it was, and what falls."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe, RunConfig, from_json, to_json
from forethought.data.batches import history_batch
from forethought.data.noise import KINDS, Noise
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, DataError
from forethought.evaluation.compare import compare
from forethought.evaluation.metrics import ndcg, recall
from forethought.evaluation.ranking import rank_cases
from forethought.evaluation.report import Evaluation
from forethought.evaluation.sampled import Sample
from forethought.evaluation.settings import EvaluationConfig
from forethought.evaluation.statistics import bootstrap_sums
from forethought.methods.next_item import NextItem
from forethought.noise_curves import RobustnessConfig, less_lost, robustness
from forethought.recommender import Recommender, load
from forethought.runs import evaluate, train, training_cost
from forethought.training.settings import Training

REPLACE = Noise(kind="replace", share=0.3)


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recommender, Split]:
    """A shop that can be learned, and a model that has."""
    folder = tmp_path_factory.mktemp("fit")
    shop = Shop(users=400, items=80, interactions_per_user=12.0, seed=1).write(folder / "shop")
    split = leave_last_out(read(shop))
    model = SASRec(width=32, layers=1, heads=2, window=20, ffn_width=64, dropout=0.2)
    training = Training(epochs=8, batch_positions=512, learning_rate=1e-2, warmup_steps=10)
    return train(Recipe(method=model, training=training), split, folder / "run"), split


def ask(model: Recommender, split: Split, noise: Noise | None = None, **more) -> Evaluation:
    return evaluate(model, split, EvaluationConfig(noise=noise, resamples=20, **more))


# ---- one evaluation


def test_a_case_is_the_mean_over_noise_seeds(trained: Recommender, split: Split) -> None:
    told = ask(trained, split, replace(REPLACE, seed=4), noise_seeds=3)
    by_hand, ranks = [], []
    for seed in (4, 5, 6):
        noisy = replace(REPLACE, seed=seed).on_cases(split.test, split.data.n_items)
        ranked = rank_cases(trained.method, noisy, exclude_history=trained.about["exclude_history"])
        by_hand.append(ndcg(ranked.ranks, 10))
        ranks.append(ranked.ranks)
    assert told.cases["ndcg@10"].to_numpy() == pytest.approx(np.mean(by_hand, axis=0))
    assert told.cases["rank"].to_numpy() == pytest.approx(np.mean(ranks, axis=0))
    assert told.metrics["ndcg@10"].mean == pytest.approx(np.mean(by_hand))
    ones = [ask(trained, split, replace(REPLACE, seed=s), noise_seeds=1).lists["coverage@5"] for s in (4, 5, 6)]
    assert told.lists["coverage@5"] == pytest.approx(np.mean(ones))
    assert told.cases["history_length"].to_list() == split.test.history.lengths.tolist()  # the clean ones


@pytest.mark.parametrize("exclude", [True, False])
def test_the_clean_history_is_excluded_and_the_noisy_one_is_read(
    trained: Recommender, split: Split, exclude: bool
) -> None:
    noisy = REPLACE.on_cases(split.test, split.data.n_items)
    got = rank_cases(trained.method, noisy, exclude_history=exclude).ranks
    with torch.inference_mode():
        states = trained.method.user_states(history_batch(noisy.history, trained.method.window)).states_BD.double()
        scores = (states @ trained.method.catalogue().comparable_ND.double().T).numpy()
    for row, target in enumerate(split.test.targets.tolist()):
        rivals = np.ones(split.data.n_items, bool)
        rivals[split.test.history[row] if exclude else []] = False
        rivals[target] = False
        better = (scores[row, rivals] > scores[row, target] + 1e-6).sum()
        known = exclude and target in split.test.history[row]
        assert got[row] == (np.inf if known else 1 + better)


def test_no_share_is_bit_for_bit_the_clean_evaluation(trained: Recommender, split: Split) -> None:
    clean, none = ask(trained, split), ask(trained, split, Noise(share=0.0), noise_seeds=1)
    assert none.cases.equals(clean.cases)
    assert none.metrics == clean.metrics
    assert none.lists == clean.lists
    assert none.groups == clean.groups


def test_the_protocol_names_the_noise(trained: Recommender, split: Split, tmp_path: Path) -> None:
    told = ask(trained, split, REPLACE, noise_seeds=2)
    assert told.protocol["noise"] == {"kind": "replace", "share": 0.3, "seed": 0, "seeds": 2}
    assert "NOISY histories: replace 30%, seeds 0 to 1" in " ".join(str(told).split())
    assert "noise" not in ask(trained, split).protocol
    assert "NOISY" not in str(ask(trained, split))
    told.write(tmp_path)
    assert Evaluation.read(tmp_path).protocol == told.protocol


def test_noise_and_clean_stand_side_by_side_only_if_asked_to(trained: Recommender, split: Split) -> None:
    clean, noisy = ask(trained, split), ask(trained, split, REPLACE, noise_seeds=2)
    with pytest.raises(DataError, match=r"noise \(None and .*'replace'.* compare across noise .*--across-noise"):
        compare({"clean": clean, "noisy": noisy})
    told = compare({"clean": clean, "noisy": noisy}, across_noise=True, resamples=50, permutations=19)
    assert told.methods["noisy"].noise == noisy.protocol["noise"]
    assert told.methods["clean"].noise is None
    assert "noise" not in told.protocol
    assert "Histories that were read: clean (clean); noisy (replace 30%, seeds 0 to 1)." in str(told)
    other = ask(trained, split, replace(REPLACE, seed=9), noise_seeds=2)
    with pytest.raises(DataError, match="different protocols: noise"):
        compare({"a": noisy, "b": other})
    with pytest.raises(DataError, match="seeds of 'b' read histories with different noise"):
        compare({"a": clean, "b": [noisy, other]}, across_noise=True)
    same = compare({"a": noisy, "b": noisy}, resamples=50, permutations=19)
    assert same.protocol["noise"] == noisy.protocol["noise"]
    assert "Histories that were read" not in str(same)
    whole = ask(trained, split, exclude_history=not trained.about["exclude_history"])
    with pytest.raises(DataError, match=r"history_excluded .* in the same way\.$"):
        compare({"a": noisy, "b": whole}, across_noise=True)


def test_noise_is_refused_among_negatives(trained: Recommender, split: Split) -> None:
    with pytest.raises(ConfigError, match="Noise is measured by ranking all items"):
        ask(trained, split, REPLACE, sample=Sample(negatives=5))
    with pytest.raises(ConfigError, match="noise_seeds is 0"):
        ask(trained, split, REPLACE, noise_seeds=0)


def test_progress_counts_all_draws_as_one(trained: Recommender, split: Split) -> None:
    told: list[tuple[int, int]] = []
    config = EvaluationConfig(noise=REPLACE, noise_seeds=3, batch=32)
    evaluate(trained, split, config, report=lambda *each: told.append(each))
    n = len(split.test)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {3 * n}
    assert told[-1] == (3 * n, 3 * n)


# ---- curves


def test_noise_lowers_what_was_learned(fit: tuple[Recommender, Split]) -> None:
    """And more of it more; deletion, which invents nothing, lowers it least."""
    told = robustness(*fit, RobustnessConfig(noise_seeds=2, resamples=200))
    assert [(p.kind, p.share) for p in told.points] == [(kind, share) for kind in KINDS for share in (0.1, 0.2, 0.3)]
    assert told.clean["recall@10"].mean > 0.4
    drops = {kind: [p.drops["recall@10"].mean for p in told.points if p.kind == kind] for kind in KINDS}
    assert drops["replace"] == sorted(drops["replace"])
    low, _ = told.points[1].drops["recall@10"].ci95
    assert low > 0.02
    assert drops["delete"][2] < drops["replace"][2]


def test_curves_by_hand(fit: tuple[Recommender, Split]) -> None:
    """Means, drops and their paired intervals, from ranks and a bootstrap of our own."""
    model, split = fit
    told = robustness(
        model,
        split,
        RobustnessConfig(
            kinds=("swap",),
            shares=(
                0.0,
                0.2,
            ),
            noise_seeds=2,
            noise_seed=3,
            seed=5,
            resamples=100,
        ),
    )
    exclude = model.about["exclude_history"]
    clean = recall(rank_cases(model.method, split.test, exclude_history=exclude).ranks, 10)
    draws = [Noise(kind="swap", share=0.2, seed=s).on_cases(split.test, split.data.n_items) for s in (3, 4)]
    noisy = np.mean([recall(rank_cases(model.method, d, exclude_history=exclude).ranks, 10) for d in draws], axis=0)
    none, some = told.points
    assert told.seeds == [3, 4]
    assert told.clean["recall@10"].mean == pytest.approx(clean.mean())
    assert some.metrics["recall@10"].mean == pytest.approx(noisy.mean())
    assert some.drops["recall@10"].mean == pytest.approx(1 - noisy.mean() / clean.mean())
    sums = bootstrap_sums(np.column_stack([noisy, clean]), resamples=100, seed=5)  # a case a user
    wanted = np.quantile(1 - sums[:, 0] / sums[:, 1], [0.025, 0.975])
    assert some.drops["recall@10"].ci95 == pytest.approx(tuple(wanted))
    lengths = split.test.history.lengths
    swapped = [0 if n < 2 else max(2, (20 * n + 50) // 100) if (20 * n + 50) // 100 else 0 for n in lengths.tolist()]
    assert some.positions == pytest.approx(sum(swapped) / lengths.sum())
    assert some.cases == pytest.approx(np.mean(np.array(swapped) > 0))
    assert none.metrics == told.clean
    assert none.drops["ndcg@10"].mean == 0
    assert none.drops["ndcg@10"].ci95 == (0, 0)
    assert (none.positions, none.cases) == (0, 0)
    text = str(told)
    assert "swap" in text
    assert f"{some.drops['recall@10'].mean:.1%}" in text
    assert json.loads(json.dumps(told.to_json()))["points"][1]["share"] == 0.2


def test_nothing_to_lose_is_no_number(trained: Recommender, split: Split) -> None:
    """Nobody's target is found where the target itself is excluded."""
    cases = split.test.take(np.arange(5))
    lost = replace(cases, targets=np.array([cases.history[row][0] for row in range(5)], np.int32))
    told = robustness(
        trained,
        replace(split, test=lost),
        RobustnessConfig(kinds=("delete",), shares=(0.2,), noise_seeds=1, resamples=10, exclude_history=True),
    )
    assert told.clean["recall@10"].mean == 0
    assert np.isnan(told.points[0].drops["recall@10"].mean)
    assert told.to_json()["points"][0]["drops"]["recall@10"]["mean"] is None
    assert "–" in str(told)


def test_curves_that_cannot_be(trained: Recommender, split: Split) -> None:
    for wrong, sentence in (
        ({"kinds": ("rplace",)}, "one of replace, insert, delete, swap"),
        ({"shares": (1.5,)}, r"shares is \(1.5,\), but must be a tuple, each value a number from 0 to 1"),
        ({"shares": ()}, "at least one kind"),
        ({"noise_seeds": 0}, "noise_seeds is 0"),
        ({"part": "train"}, "part is 'train'"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            RobustnessConfig(**wrong)
    with pytest.raises(DataError, match="no cases"):
        robustness(trained, replace(split, test=split.test.take(np.arange(0))))


# ---- training


def test_training_on_noise(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    noise = Noise(kind="insert", share=0.5, seed=2)
    model = train(Recipe(method=sasrec, training=quick, noise=noise), split, tmp_path / "noisy")
    assert load(tmp_path / "noisy").config.noise == noise
    told = json.loads((tmp_path / "noisy/config.json").read_text())
    assert told["config"]["noise"] == {"kind": "insert", "share": 0.5, "seed": 2}
    assert "disturbed histories: insert 50%, seed 2." in (tmp_path / "noisy/README.md").read_text()
    clean = train(Recipe(method=sasrec, training=quick), split, tmp_path / "clean")
    assert "disturbed" not in (tmp_path / "clean/README.md").read_text()
    assert model.item_table.equals(clean.item_table)  # popularity is the clean data's
    cost, of_clean = training_cost(model, split), training_cost(clean, split)
    assert cost is not None
    assert of_clean is not None
    assert cost["flops_per_epoch"] > 1.2 * of_clean["flops_per_epoch"]  # it read half as much again
    assert cost["s_per_epoch"] == pytest.approx(cost["trained_s"] / 2)
    both = compare({"clean": ask(clean, split), "noisy": ask(model, split)}, resamples=20, permutations=19)
    assert "noise" not in both.protocol  # it is part of how the method was trained
    with pytest.raises(ConfigError, match=r"configured otherwise \(noise: "):
        train(Recipe(method=sasrec, training=quick), split, tmp_path / "noisy", resume=True)


def test_a_configuration_with_and_without_noise() -> None:
    plain = RunConfig(method=NextItem())
    noisy = replace(plain, noise=Noise(kind="swap", share=0.1))
    for config in (plain, noisy):
        assert from_json(RunConfig, json.loads(json.dumps(to_json(config)))) == config
    older = to_json(plain)
    del older["noise"]
    assert from_json(RunConfig, older) == plain
    with pytest.raises(ConfigError, match=r"noise\.shape is not a setting of Noise\. Did you mean 'share'"):
        from_json(RunConfig, to_json(plain) | {"noise": {"shape": 0.2}})
    with pytest.raises(ConfigError, match="Noise's share is 2"):
        from_json(RunConfig, to_json(plain) | {"noise": {"share": 2.0}})
    with pytest.raises(ConfigError, match="noise must be an object"):
        from_json(RunConfig, to_json(plain) | {"noise": "swap"})


# ---- several runs


def test_less_lost_by_hand() -> None:
    """Two seeds of one method, one of the other, three cases of two users."""
    names = ["clean recall@10", "clean ndcg@10", "swap 0.2 recall@10", "swap 0.2 ndcg@10"]
    rng = np.random.default_rng(0)
    users, tables = np.array([4, 4, 9]), rng.random((3, 3, 4)) + 0.1
    frames = [pl.DataFrame({"user": users} | dict(zip(names, table.T, strict=True))) for table in tables]
    got = less_lost({"a": frames[:1], "b": frames[1:]}, "a", resamples=400)["b"]["swap 0.2 ndcg@10"]

    def drop(table: np.ndarray) -> float:
        return float(1 - table[:, 3].sum() / table[:, 1].sum())

    mean = tables[1:].mean(0)
    assert got.mean == pytest.approx(drop(tables[0]) - drop(mean))
    ways = [[0, 1], [2], [0, 1, 2]]  # users that can be drawn: twice the same, or both
    possible = [drop(tables[0][rows]) - drop(mean[rows]) for rows in ways]
    assert got.ci95 == pytest.approx((min(possible), max(possible)))
    with pytest.raises(DataError, match="same cases"):
        less_lost({"a": frames[:1], "b": [frames[1].with_columns(user=pl.lit(1))]}, "a")
    nothing = frames[1].with_columns(pl.lit(0.0).alias("clean ndcg@10"))
    assert np.isnan(less_lost({"a": frames[:1], "b": [nothing]}, "a")["b"]["swap 0.2 ndcg@10"].mean)


def test_cases_of_a_curve_average_to_its_points(trained: Recommender, split: Split) -> None:
    told = robustness(
        trained,
        split,
        RobustnessConfig(
            kinds=(
                "swap",
                "delete",
            ),
            shares=(0.2,),
            noise_seeds=2,
            resamples=10,
        ),
    )
    assert told.cases.columns[1:4] == ["clean recall@10", "clean ndcg@10", "swap 0.2 recall@10"]
    for point in told.points:
        assert told.cases[f"{point.kind} 0.2 ndcg@10"].mean() == pytest.approx(point.metrics["ndcg@10"].mean)
    assert "cases" not in told.to_json()
    assert "cases" in told.to_json()["points"][0]
