"""A trained run for the items of other data: read as tokens by what made its own, with no training there.

A method that knows items as tokens has no vector of any item, so that its weights say as much of the items of another
domain, as long as their tokens mean the same: they are of the same features, by the same tokenizer. What was learned of
who meets which items (collaborative vectors, evidence) is of the run's own items alone, and is refused.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch

from forethought.data.features import Feature, Features, read_features
from forethought.data.popularity import TRAIN_COUNT
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.folders import check_empty
from forethought.methods.item_tokens import TokenItems, TokenShape, reads_tokens, token_shape, with_tokens
from forethought.methods.take_over import take_over
from forethought.nn.budget import built
from forethought.recommender import Recommender, load
from forethought.run_folder import written
from forethought.semantic_ids.inputs import COLLABORATIVE
from forethought.settings import check_all
from forethought.starting import origin, scales_of, trained_on
from forethought.untrained import SEEN_UNTIL, data_about

ANEW = "train rpg, reg4rec or tiger with --tokenizer.collaborative none and features that both data sets have"


def transfer(run: Recommender | str | Path, split: Split, out: str | Path) -> Recommender:
    """A run for the items of other data, with its weights as they are, in a folder of its own.

    It ranks the items of `split` without having been trained there, and a training may begin with it (`train`'s
    `start`). Nothing is read of the split's interactions.

    Args:
        run: a recommender or a run folder, of a method over tokens; it stays as it is.
        split: of the other data, whose items have the features that the run reads.
        out: the folder to be made, absent or empty; it appears whole or not at all.

    Raises:
        ConfigError: the method knows items by more than tokens of features, or the data is the run's own.
        DataError: the items lack the features of the run or have them in another width, or the folder is not empty.
        RunError: there is no such run, or it is damaged.
    """
    check_all(run=(run, Recommender | str | Path), split=(split, Split), out=(out, str | Path))
    model = run if isinstance(run, Recommender) else load(run, device="cpu")
    out = Path(out)
    check_empty(out)
    _check(model, split)
    model.config.method.check(split)  # type: ignore[union-attr]
    moved = _moved(model, split, _features(model, split))
    return written(moved, out, device=str(model.device))


def _check(model: Recommender, split: Split) -> None:
    """Refuse a run that knows its items by more than features.

    Raises:
        ConfigError: it does.
    """
    name = type(model.config.method).__name__
    if model.about.get("members") or not reads_tokens(model.method):
        raise ConfigError(f"{name} knows its items one by one, and so no others: {ANEW}.")
    sources = model.about["tokens"]["made"]["inputs"]
    if not model.about.get("features") or any(each["kind"] == COLLABORATIVE for each in sources):
        raise ConfigError(
            "The run's tokens were made of what users meet together as well, which is not known of other items: "
            f"{ANEW}."
        )
    if model.about.get("evidence"):
        raise ConfigError(
            "The run has evidence beside its scores, which is of its own items: train one without, and transfer that."
        )
    if model.method.inputs.users:
        raise ConfigError(f"The run keeps a vector for each user of its data, and knows none of other data: {ANEW}.")
    if split.data.data_hash == model.about["data_hash"]:
        raise ConfigError("This is the data that the run was trained on, so that nothing is to be transferred.")


def _features(model: Recommender, split: Split) -> tuple[Feature, ...]:
    """What is known of the other items, made as the run's features were.

    Raises:
        DataError: it is not what the run reads.
        RunError: the run does not say what its features were made with.
    """
    assert model.config.features is not None
    scales = scales_of(model)
    auto = model.config.features.use == "auto"
    asked = Features(use=",".join(scales)) if auto else model.config.features
    try:
        return read_features(split.data, asked, scales)
    except DataError as error:
        raise DataError(
            f"The run reads {', '.join(scales)} of its items, and the data does not serve that. {error}"
        ) from error


def _moved(model: Recommender, split: Split, features: tuple[Feature, ...]) -> Recommender:
    """The same weights, with the items of the split."""
    tokens = token_shape(model.about["tokens"])
    plain = partial(model.config.method.build, split.data.sizes)
    method = built(lambda: with_tokens(plain(), tokens))
    take_over(method, model.method, torch.empty(0, dtype=torch.int64), trains=False)
    shape = _tokens(method, model.method, features)
    method.eval()
    table = split.data.item_table.drop("source_row", strict=False).with_columns(pl.lit(0).alias(TRAIN_COUNT))
    common = bool(split.data.items.ids.is_in(model.items.ids.implode()).any()) if _same_kind(model, split) else False
    behind = trained_on(model)
    same = [each for each in behind if each["data_hash"] == split.data.data_hash]
    about: dict[str, Any] = {
        **{name: model.about[name] for name in ("precision", "trained_on") if name in model.about},
        **data_about(model.config, split),
        SEEN_UNTIL: model.about.get(SEEN_UNTIL) if common or same else None,
        "features": [feature.to_json() for feature in features],
        "evidence": [],
        "tokens": shape.to_json(),
        "references": {"start": model.weights_sum, "tokens": shape.made["checksum"]},
        "started_from": origin(model, (same or behind)[0], may_have_seen=common or bool(same)),
        "transferred": True,
    }
    return Recommender(method, model.config, split.data.items, table, about)


def _same_kind(model: Recommender, split: Split) -> bool:
    return model.items.kind == split.data.items.kind


def _tokens(method: torch.nn.Module, trained: torch.nn.Module, features: tuple[Feature, ...]) -> TokenShape:
    """Give every part that knows tokens those of the other items."""
    pairs = [
        (mine, theirs)
        for mine, theirs in zip(method.modules(), trained.modules(), strict=True)
        if isinstance(mine, TokenItems) and isinstance(theirs, TokenItems)
    ]
    return [mine.take_from(theirs, features) for mine, theirs in pairs][-1]
