"""Settings of DTRec that cannot be, or that nothing would read."""

from __future__ import annotations

from typing import Any

import pytest

from forethought.config import from_json, to_json
from forethought.errors import ConfigError
from forethought.methods.dtrec import DTRec
from forethought.methods.items import ItemLoss
from forethought.reasoning.halting import Halting


def test_means_of_steps_are_refused_where_there_is_but_one() -> None:
    with pytest.raises(ConfigError, match="With a single step there is nothing to decide, so halting_inputs"):
        DTRec(max_steps=1, halting_inputs="per_step")
    DTRec(max_steps=1, halting_inputs="per_step", halting=Halting(min_steps=0))
    stored = to_json(DTRec())
    del stored["halting_inputs"]
    assert from_json(DTRec, stored).halting_inputs == "pooled"


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="max_steps is 0"):
        DTRec(max_steps=0)
    with pytest.raises(ConfigError, match="trained to think 2 steps and cannot take 3"):
        DTRec(max_steps=2, halting=Halting(max_steps=3))
    with pytest.raises(ConfigError, match="ponder_rate is 1"):
        DTRec(ponder_rate=1)
    with pytest.raises(ConfigError, match="min_steps is 2, but must be a whole number from 0 to 1"):
        DTRec(halting=Halting(min_steps=2))
    with pytest.raises(ConfigError, match="Indicators that are exact look at no prototypes of their own"):
        DTRec(indicator_source="exact", indicator_clusters=8)
    assert DTRec(indicator_source="refined", indicator_clusters=8).indicator_clusters == 8
    with pytest.raises(ConfigError, match="prototype_choice is 'near', but must be one of target, nearest"):
        DTRec(prototype_choice="near")  # type: ignore[arg-type]
    for name, value in {"contrast_noise": 0.1, "contrast_from": 0}.items():
        with pytest.raises(ConfigError, match=f"Without a contrast {name} would change nothing: give contrast_weight"):
            DTRec(**{name: value})
        assert from_json(DTRec, to_json(DTRec()) | {name: value}) == DTRec()  # of a run from before
        contrasting = DTRec(contrast_weight=1.0, **{name: value})
        assert from_json(DTRec, to_json(contrasting)) == contrasting
    with pytest.raises(ConfigError, match="must be ce without smoothing"):
        DTRec(loss=ItemLoss(smoothing=0.1))


@pytest.mark.parametrize(
    ("values", "unread", "give"),
    [
        ({}, {"ponder_rate": 0.2}, "ponder_weight"),
        ({"supervision": "none"}, {"prototype_weight": 0.2}, "supervision dynamic or fixed"),
        ({"supervision": "none"}, {"warmup_epochs": 0}, "supervision dynamic or fixed"),
        ({"supervision": "none"}, {"prototype_temperature": 0.5}, "supervision dynamic or fixed"),
        ({"supervision": "none"}, {"prototype_choice": "nearest"}, "supervision dynamic or fixed"),
        ({"supervision": "none", "indicator_source": "exact"}, {"cluster_speed": 0.5}, "a coarse indicator_source"),
        ({"prototype_weight": 0.0}, {"warmup_epochs": 0}, "prototype_weight"),
        ({"prototype_weight": 0.0}, {"prototype_temperature": 0.5}, "prototype_weight"),
        ({"prototype_weight": 0.0}, {"prototype_choice": "nearest"}, "prototype_weight"),
    ],
)
def test_settings_that_nothing_reads_are_refused(values: dict[str, Any], unread: dict[str, Any], give: str) -> None:
    (name,) = unread
    with pytest.raises(ConfigError, match=f"{name} would change nothing: give {give}"):
        DTRec(**values, **unread)
    plain = DTRec(**values)
    assert from_json(DTRec, to_json(plain) | unread) == plain  # of a run from before
    read = {"ponder_weight": 0.1} if name == "ponder_rate" else {}
    asked = DTRec(**read, **unread)
    assert from_json(DTRec, to_json(asked)) == asked
