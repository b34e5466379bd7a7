"""Every setting of every configuration has a type and a range, and is held to both as soon as it is given."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest

import forethought as ft
from forethought.config import Recipe, RunConfig
from forethought.data.columns import Columns
from forethought.data.noise import Noise, NoiseKind
from forethought.data.prepare import Filters, PrepareConfig
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.evaluation.sampled import Sample
from forethought.evaluation.settings import EvaluationConfig
from forethought.noise_curves import robustness
from forethought.recommender import Recommender
from forethought.settings import Between, Settings, check, described, fits
from forethought.training.settings import Training


def configurations(cls: type, found: dict[type, None]) -> dict[type, None]:
    """A configuration and all that its fields may hold."""
    found[cls] = None
    for hint in get_type_hints(cls).values():
        for inner in [hint, *get_args(hint)]:
            if isinstance(inner, type) and is_dataclass(inner) and inner not in found:
                configurations(inner, found)
    return found


ALL = [*configurations(RunConfig, {}), ft.Recipe, ft.Shop, Sample, Columns, PrepareConfig, Filters, EvaluationConfig]
SETTINGS = [(cls, f.name, get_type_hints(cls, include_extras=True)[f.name]) for cls in ALL for f in fields(cls)]


def leaves(hint: Any) -> Iterator[Any]:
    """The single types of an annotation, each with its ranges."""
    if get_origin(hint) in (Annotated, Literal) or not get_args(hint):
        yield hint
    else:
        for inner in get_args(hint):
            yield from leaves(inner)


def test_all_configurations_are_found() -> None:
    names = {cls.__name__ for cls in ALL}
    assert {"SASRec", "HSTU", "DTRec", "Consistency", "Reinforcement", "Reasoner", "ItemLoss", "Halting"} <= names
    assert {"Training", "Noise", "SplitConfig", "RunConfig"} <= names
    assert all(issubclass(cls, Settings) for cls in ALL)


@pytest.mark.parametrize(("cls", "name", "hint"), SETTINGS, ids=[f"{c.__name__}.{n}" for c, n, _ in SETTINGS])
def test_python_is_checked_as_json_is(cls: type, name: str, hint: Any) -> None:
    """A wrong type, infinity, or a number beyond reason does not train to the end and lose the run: it is refused."""
    given: dict[str, Any] = {"method": ft.NextItem()} if issubclass(cls, Recipe) else {}
    assert cls(**given) == cls(**given)  # defaults hold
    wrong: list[Any] = [object(), [1], b"x", {}, 1j, np.zeros(2)]
    kinds = {each if get_origin(each) is None else get_args(each)[0] for each in leaves(hint)}
    wrong += [] if str in kinds else ["x", ""]
    wrong += [] if bool in kinds else [True, False]
    wrong += [] if float in kinds else [1.5, 1.0]
    wrong += [math.nan, math.inf, -math.inf, 1e308, -1e308, 2**63, -(2**63) - 1, 10**30, 10**5000]
    wrong += [] if type(None) in kinds else [None]
    for value in wrong:
        with pytest.raises(ConfigError) as told:
            cls(**{**given, name: value})
        said = str(told.value)
        assert said.startswith(f"{cls.__name__}'s {name} is ")
        assert ", but must be " in said
        assert "\n" not in said
        assert len(said) < 400


@pytest.mark.parametrize(("cls", "name", "hint"), SETTINGS, ids=[f"{c.__name__}.{n}" for c, n, _ in SETTINGS])
def test_every_number_has_a_range(cls: type, name: str, hint: Any) -> None:
    for each in leaves(hint):
        assert each not in (int, float)
        if get_origin(each) is Annotated and get_args(each)[0] in (int, float):
            (range_,) = (part for part in get_args(each)[1:] if isinstance(part, Between))
            assert math.isfinite(range_.least)
            assert range_.least < range_.most < 1e12 or range_.most in (2**63 - 1, 2**53)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 1.5},
        {"epochs": True},
        {"patience": 1.5},
        {"warmup_steps": 1.5},
        {"precision": "x"},
        {"precision": "fp8"},
        {"all_windows": "x"},
        {"schedule": "cosin"},
        {"device": "tpu"},
        {"compile": 1},
        {"learning_rate": math.inf},
        {"clip_norm": math.inf},
        {"weight_decay": math.inf},
        {"checkpoint_every_s": math.inf},
    ],
    ids=str,
)
def test_a_training_that_cannot_be_is_refused_before_it_trains(settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(ConfigError, match=f"Training's {name} is {value!r}, but must be"):
        Training(**settings)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Annotated[int, Between(1, 512)], "a whole number from 1 to 512"),
        (Annotated[float, Between(0, 1)], "a number from 0 to 1"),
        (Annotated[float, Between(0, 1, below=True)], "a number from 0 to 1, but below 1"),
        (Annotated[float, Between(0, 1_000, above=True)], "a number above 0 and at most 1,000"),
        (Annotated[float, Between(0, 1, above=True, below=True)], "a number above 0 and below 1"),
        (bool, "True or False"),
        (str | None, "text or None"),
        (Literal["a", "b"], "one of a, b"),
        (tuple[Annotated[int, Between(1, 9)], bool], "2 values, a whole number from 1 to 9 and True or False"),
        (Training, "Training(...)"),
        (ft.SASRec | ft.GRU4Rec | ft.HSTU, "SASRec(...), GRU4Rec(...) or HSTU(...)"),
    ],
)
def test_what_was_expected_is_said_in_words(hint: Any, words: str) -> None:
    assert described(hint) == words
    with pytest.raises(ConfigError) as told:
        check(1j, hint, "x")
    assert str(told.value) == f"x is 1j, but must be {words}."


def test_the_ends_of_a_range() -> None:
    closed, open_ = Annotated[float, Between(0, 1)], Annotated[float, Between(0, 1, above=True, below=True)]
    assert [fits(x, closed) for x in (0, 1, 0.5, -1e-9, 1 + 1e-9, math.nan)] == [True] * 3 + [False] * 3
    assert [fits(x, open_) for x in (0, 1, 0.5)] == [False, False, True]
    assert fits((5, 5), tuple[int, int])
    assert not fits((5,), tuple[int, int])
    assert not fits([5, 5], tuple[int, int])


def test_words_have_a_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"one of constant, linear, cosine\. Did you mean 'cosine'\?$"):
        Training(schedule=typing.cast("Any", "cosin"))


# ---- what is no configuration


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"exclude_history": "no"}, "exclude_history is 'no', but must be True or False or None"),
        ({"exclude_history": 0}, "exclude_history is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"resume": "no"}, "resume is 'no', but must be True or False"),
        ({"overwrite": "no"}, "overwrite is 'no'"),
        ({"training": {}}, r"Recipe's training is \{\}, but must be Training\(\.\.\.\)"),
        ({"noise": "replace"}, "Recipe's noise is 'replace', but must be Noise"),
    ],
)
def test_a_no_in_words_does_not_mean_yes_in_train(
    sasrec: ft.SASRec, split: Split, tmp_path: Any, given: dict[str, Any], said: str
) -> None:
    switches = {name: value for name, value in given.items() if name in ("resume", "overwrite")}
    settings = {name: value for name, value in given.items() if name not in switches}
    with pytest.raises(ConfigError, match=said):
        ft.train(ft.Recipe(method=sasrec, **settings), split, tmp_path / "run", **switches)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "given",
    [
        {"exclude_history": "no"},
        {"halting": "fixed"},
        {"noise": "replace"},
        {"sample": 100},
        {"batch": 0},
        {"batch": 2**31},
        {"resamples": 1},
        {"resamples": 2**31 - 1},
        {"seed": 2**64},
        {"part": "tset"},
    ],
    ids=str,
)
def test_an_evaluation_is_checked_when_it_is_configured(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(ConfigError, match=f"^EvaluationConfig's {name} is "):
        ft.EvaluationConfig(**given)


def test_what_is_no_configuration_is_refused_before_anything_is_ranked(
    trained: Recommender, split: Split, shop: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("runs", "noise_curves"):
        monkeypatch.setattr(f"forethought.{module}.rank_cases", lambda *_, **__: pytest.fail("it began"))
    for call, kind in (
        (lambda: ft.evaluate(trained, split, typing.cast("Any", {"part": "valid"})), "EvaluationConfig"),
        (lambda: robustness(trained, split, typing.cast("Any", ft.EvaluationConfig())), "RobustnessConfig"),
        (lambda: ft.prepare(str(shop), tmp_path / "data", typing.cast("Any", "x")), "PrepareConfig"),
    ):
        with pytest.raises(ConfigError, match=rf"^config is .*, but must be {kind}\(\.\.\.\)"):
            call()
    with pytest.raises(ConfigError, match="Noise is measured by ranking all items"):
        ft.EvaluationConfig(noise=Noise(), sample=ft.Sample())


def test_a_setting_may_hold_as_many_values_as_one_likes() -> None:
    for kinds in ((), ("swap",), ("swap", "delete", "swap")):
        assert fits(kinds, tuple[NoiseKind, ...])
    for kinds in (["swap"], ("swap", "x"), "swap", ("swap", None)):
        assert not fits(kinds, tuple[NoiseKind, ...])
    assert not fits((1, 2, 3), tuple[int, int])


@pytest.mark.parametrize("given", [{"exclude_history": "no"}, {"halting": "fixed"}, {"k": 2**64}], ids=str)
def test_a_no_in_words_does_not_mean_yes_in_recommend(trained: Recommender, given: dict[str, Any]) -> None:
    (name,), history = given, ["i00001"]
    with pytest.raises(ConfigError, match=f"^{name} is "):
        trained.recommend([history], **given)
    with pytest.raises(ConfigError, match=f"^{name} is "):
        trained.explain(history, **given)


def test_noise_seeds_do_not_run_out_of_numbers() -> None:
    assert [noise.seed for noise in Noise(seed=2**63 - 2).seeds(2)] == [2**63 - 2, 2**63 - 1]
    with pytest.raises(ConfigError, match="Noise's seed is 9223372036854775808"):
        Noise(seed=2**63 - 1).seeds(2)


def test_a_no_in_words_overwrites_nothing(tmp_path: Any, split: Split, shop: Any) -> None:
    ft.Shop(users=5, items=20).write(tmp_path / "shop")
    for call in (
        lambda: ft.Shop(users=5, items=20).write(tmp_path / "shop", overwrite=typing.cast("Any", "no")),
        lambda: ft.prepare(str(shop), tmp_path / "data", overwrite=typing.cast("Any", "no")),
    ):
        with pytest.raises(ConfigError, match="overwrite is 'no', but must be True or False"):
            call()
    with pytest.raises(ConfigError, match=r"PrepareConfig's keep is \{\}, but must be Filters\(\.\.\.\)"):
        ft.prepare(str(shop), tmp_path / "data", ft.PrepareConfig(keep=typing.cast("Any", {})))


def test_a_path_is_no_split(trained: Recommender, sasrec: ft.SASRec, tmp_path: Any, shop: Any) -> None:
    for call in (
        lambda: ft.train(sasrec, typing.cast("Any", str(shop)), tmp_path / "run"),
        lambda: ft.evaluate(trained, typing.cast("Any", str(shop))),
        lambda: robustness(trained, typing.cast("Any", str(shop))),
    ):
        with pytest.raises(ConfigError, match=r"^split is .*, but must be Split\(\.\.\.\)"):
            call()
