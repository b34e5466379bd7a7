"""Configurations: what is saved is read back, and whatever is wrong is said in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU
from forethought.backbones.sasrec import SASRec
from forethought.config import RunConfig, as_method, from_json, to_json
from forethought.data.splits import SplitConfig
from forethought.errors import ConfigError
from forethought.methods.items import ItemLoss
from forethought.methods.masked_item import MaskedItem
from forethought.methods.next_item import NextItem
from forethought.recipes import METHODS
from forethought.training.settings import Training

shares = st.floats(0, 0.99)
sizes = st.integers(1, 500)
backbones = st.one_of(
    st.builds(SASRec, width=sizes.map(lambda n: 2 * n), layers=sizes, window=sizes, dropout=shares),
    st.builds(GRU4Rec, width=sizes, layers=sizes, window=sizes, dropout=shares),
    st.builds(HSTU, width=sizes, head_width=sizes, use_times=st.booleans(), time_buckets=sizes),
)
losses = st.builds(
    ItemLoss, temperature=st.floats(1e-3, 10), cosine=st.booleans(), bias=st.booleans(), smoothing=shares
)
methods = st.one_of(
    st.builds(NextItem, backbone=backbones, loss=losses),
    st.builds(MaskedItem, backbone=st.builds(BERT4Rec, norm_first=st.booleans()), loss=losses, mask_share=shares),
)
moments = st.one_of(st.none(), st.floats(0.1, 0.9), st.integers(0, 2**40), st.just("2014-01-31"))
configs = st.builds(
    RunConfig,
    method=methods,
    split=st.builds(SplitConfig, ties=st.sampled_from(["file", "shuffle"]), valid_from=moments, test_from=moments),
    training=st.builds(Training, epochs=sizes, learning_rate=st.floats(1e-9, 1), compile=st.booleans()),
    seed=st.integers(0, 2**40),
    exclude_history=st.sampled_from([None, True, False]),
)


@given(configs)
def test_json_round_trip(config: RunConfig) -> None:
    assert from_json(RunConfig, json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize("name", METHODS)
def test_recipes_round_trip_and_name_their_parts(name: str) -> None:
    recipe = METHODS[name]()
    told = to_json(RunConfig(method=recipe.method, training=recipe.training))
    types = (told["method"]["type"], told["method"].get("backbone", {}).get("type"))
    assert any(kind and name.replace("-", "").startswith(kind.replace("_", "")) for kind in types)
    assert from_json(RunConfig, json.loads(json.dumps(told))).method == recipe.method


def changed(path: str, value: Any) -> dict[str, Any]:
    """A good configuration with one value put in, or taken out if it is `...`."""
    told = to_json(RunConfig(method=NextItem()))
    at, *rest = path.split(".")
    inner = told
    while rest:
        inner, at = inner[at], rest.pop(0)
    if value is ...:
        del inner[at]
    else:
        inner[at] = value
    return told


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("sead", 1, r"sead is not a setting of RunConfig\. Did you mean 'seed'\?"),
        ("method.backbone.witdh", 8, r"method\.backbone\.witdh is not a setting of SASRec\. Did you mean 'width'\?"),
        ("training.type", "fast", r"training\.type is not a setting of Training\."),
        ("method", ..., r"^method is missing\.$"),
        ("method", 3, r"method\.type is None, but must be one of next_item, masked_item, rearec, dtrec, lares, "),
        (
            "method.type",
            "dtrek",
            r"method\.type is 'dtrek', but must be one of next_item, masked_item, rearec, dtrec, lares, ",
        ),
        (
            "method.backbone.type",
            "bert4rec",
            r"method\.backbone\.type is 'bert4rec', but must be one of sasrec, gru4rec",
        ),
        ("seed", -1, r"^RunConfig's seed is -1, but must be a whole number from 0 to 9,223,372,036,854,775,807\.$"),
        ("training", [1], r"training must be an object with keys, but it is \[1\]\."),
        ("training.epochs", "many", r"Training's epochs is 'many', but must be a whole number from 1 to 1,000,000\."),
        ("training.epochs", 1.5, r"Training's epochs is 1\.5, but must be a whole number"),
        ("training.compile", 1, r"Training's compile is 1, but must be True or False\."),
        ("training.epochs", True, r"Training's epochs is True, but must be a whole number"),
        ("training.schedule", "linaer", r"must be one of constant, linear, cosine\. Did you mean 'linear'\?"),
        ("training.learning_rate", None, r"learning_rate is None, but must be a number above 0 and at most 1,000\."),
        ("training.learning_rate", float("nan"), r"learning_rate is nan, but must be a number above 0 and at"),
        ("training.beta2", 1, r"beta2 is 1, but must be a number from 0 to 1, but below 1\."),
        ("method.backbone.heads", 3, r"SASRec's width is 64, but must be a multiple of its 3 heads\."),
        ("method.backbone.dropout", 1, r"SASRec's dropout is 1, but must be a number from 0 to 1, but below 1\."),
        ("method.loss.temperature", 0.0, r"ItemLoss's temperature is 0\.0, but must be a number above 0 and at"),
    ],
)
def test_wrong_json_is_named(path: str, value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as told:
        from_json(RunConfig, changed(path, value))
    assert "\n" not in str(told.value)


def test_whole_numbers_are_numbers() -> None:
    assert from_json(RunConfig, changed("training.learning_rate", 1)).training.learning_rate == 1.0


COMMON: list[dict[str, Any]] = [
    {"width": 0},
    {"width": 7.5},
    {"width": "64"},
    {"window": 0},
    {"layers": -1},
    {"layers": True},
    {"dropout": 1.0},
    {"dropout": -0.1},
    {"dropout": "0.1"},
    {"dropout": float("nan")},
]


@pytest.mark.parametrize("cls", [SASRec, GRU4Rec, HSTU, BERT4Rec])
@pytest.mark.parametrize("settings", COMMON, ids=str)
def test_backbones_refuse_what_is_out_of_range(cls: type, settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=f"{cls.__name__}'s {name} is .*, but must be a"):
        cls(**settings)


@pytest.mark.parametrize(
    ("cls", "settings", "said"),
    [
        (SASRec, {"width": 10, "heads": 4}, "width is 10, but must be a multiple of its 4 heads"),
        (BERT4Rec, {"heads": 3}, "multiple of its 3 heads"),
        (SASRec, {"activation": "rely"}, "Did you mean 'relu'?"),
        (HSTU, {"head_width": 0}, "head_width"),
        (HSTU, {"time_buckets": 0}, "time_buckets"),
        (ItemLoss, {"kind": "sampled_sofmax"}, "Did you mean 'sampled_softmax'?"),
        (ItemLoss, {"smoothing": 1.5}, "smoothing"),
        (ItemLoss, {"negatives": 0}, "negatives"),
        (ItemLoss, {"kind": "bce", "smoothing": 0.1}, "knows no smoothing"),
        (ItemLoss, {"kind": "sampled_softmax", "proposal": "popular"}, "Did you mean 'popularity'?"),
        (ItemLoss, {"proposal": "popularity"}, "'ce' draws evenly and has no proposal 'popularity'"),
        (ItemLoss, {"kind": "gbce", "proposal": "in_batch"}, "or choose sampled_softmax"),
        (ItemLoss, {"kind": "bce", "cosine": False, "l2": 0.1}, "The loss 'bce' shrinks nothing, so l2 has no place"),
        (ItemLoss, {"kind": "bpr", "l2": 0.1}, "Directions have no length, so l2 has no place in it"),
        (NextItem, {"item_std": 0.0}, "item_std"),
        (MaskedItem, {"mask_share": 1.1}, "mask_share"),
        (Training, {"epochs": 0}, "epochs is 0, but must be a whole number from 1 to 1,000,000"),
        (Training, {"warmup_steps": -1}, "warmup_steps is -1, but must be a whole number from 0 to 1,000,000,000"),
    ],
)
def test_other_settings_out_of_range(cls: type, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as told:
        cls(**settings)
    assert said in str(told.value)


def test_a_backbone_alone_is_a_method() -> None:
    assert as_method(GRU4Rec(width=8)) == NextItem(backbone=GRU4Rec(width=8))
    assert as_method(BERT4Rec()) == MaskedItem()
    assert as_method(replace(NextItem(), item_std=0.1)).item_std == 0.1
    with pytest.raises(ConfigError, match=r"ft\.SASRec\(width=64\).* but dict was given"):
        as_method({"width": 64})  # type: ignore[arg-type]
