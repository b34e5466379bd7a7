"""A trained run takes items that it never saw: what is known of them takes the place of what training tells.

An item of a run that reads features is its id and what is known of it. A new one stands behind the others as its
features alone, read as those of the others were; its id, which no training met, says nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import torch

from forethought.config import to_json
from forethought.data.evidence import evidence_shape
from forethought.data.features import Feature, feature_shape
from forethought.data.interactions import DataSizes
from forethought.data.new_items import NewItems, read_new_items
from forethought.data.popularity import TRAIN_COUNT
from forethought.data.stored import recorded_columns
from forethought.data.vocabulary import Vocabulary
from forethought.errors import ConfigError
from forethought.folders import check_empty
from forethought.methods.interface import Method
from forethought.methods.item_features import ItemFeatures
from forethought.methods.item_tokens import TokenItems, token_shape, with_tokens
from forethought.methods.items import held_back, hold_back, know_trained, with_evidence, with_features
from forethought.methods.take_over import take_over
from forethought.nn.budget import built
from forethought.recommender import Recommender, load
from forethought.run_folder import differences, written
from forethought.semantic_ids.token_table import TokenTable
from forethought.settings import Between, check_all
from forethought.starting import scales_of

Lift = Annotated[float, Between(-100, 100)]


def extend(
    run: Recommender | str | Path,
    items: Any,
    out: str | Path,
    *,
    texts: str | Path | None = None,
    item: str | None = None,
    lift: float | None = None,
    lift_from: Recommender | str | Path | None = None,
) -> Recommender:
    """A run with further items behind those that it knows, in a folder of its own.

    Args:
        run: a recommender or a run folder; it was trained with features of the items and stays as it is.
        items: whatever `read` takes as a table, one row a new item, with the columns that the run reads.
        out: the folder to be made, absent or empty; it appears whole or not at all.
        texts: an .npy with a text vector for each row of `items`, where the run reads texts.
        item: name of the column of ids. None: what ids of items were called in the run's own data, else item_id.
        lift: nats that are added to the scores of all items that training never met, these among them; below 0 they are
            held back. None: as the run has it, which was fitted on the validation part.
        lift_from: a run of the same method that was trained without some of its items (`hold_out_items`): new items are
            lifted or held back as those were. Of methods over tokens nothing else tells how far.

    Raises:
        ConfigError: the run reads no features, or its method keeps what cannot be made for new items; or a lift is
            given twice, or by a run that has none.
        DataError: the items are not what they should be, or the folder is not empty.
        RunError: there is no such run, or it is damaged.
    """
    check_all(run=(run, Recommender | str | Path), out=(out, str | Path))
    check_all(texts=(texts, str | Path | None), item=(item, str | None), lift=(lift, Lift | None))
    check_all(lift_from=(lift_from, Recommender | str | Path | None))
    model = run if isinstance(run, Recommender) else load(run, device="cpu")
    out = Path(out)
    check_empty(out)
    shapes = model.about.get("features", [])
    if model.about.get("members"):
        raise ConfigError("An ensemble is not extended itself: extend its members one by one, and average those.")
    if not shapes:
        raise ConfigError(
            "The run reads no features of its items, so that nothing it has learned tells of items that no training "
            "met: train one with --features (text, or columns of the item table), and extend that."
        )
    if lift_from is not None:
        if lift is not None:
            raise ConfigError(
                "There are both lift and lift_from, and each says how far new items are lifted: give one."
            )
        lift = _fitted_lift(lift_from, model)
    read = list(zip(map(feature_shape, shapes), scales_of(model).values(), strict=True))
    usual = recorded_columns(model.about).get("item", "item_id")
    new = read_new_items(items, model.items, model.item_table, read, item=item, usual=usual, texts=texts)
    return written(_extended(model, new, lift), out, device=str(model.device))


def _extended(model: Recommender, new: NewItems, lift: float | None) -> Recommender:
    """The same run with the new items."""
    known, count = len(model.items), len(new.table)
    ids = pl.concat([model.items.ids, new.table["item_id"].alias(model.items.ids.name)])
    table = pl.concat([model.item_table, new.table], how="diagonal")
    counts = table[TRAIN_COUNT].fill_null(0)
    features = [
        _wide_enough(feature, before) for feature, before in zip(new.features, model.about["features"], strict=True)
    ]
    about = model.about | {
        "items": known + count,
        "features": [feature.to_json() for feature in features],
    }
    method = _grown(model, features, known + count)
    added: dict[str, Any] = {"items": count, "weights": model.weights_sum} | _tied(method, known)
    about["extended"] = [*model.about.get("extended", []), added]
    know_trained(method, counts.cast(pl.Int64).to_torch())
    if lift is not None:
        hold_back(method, -lift)
        added["lift"] = lift
    method.eval()
    with torch.inference_mode():
        method.join_items(known)
    items = Vocabulary.from_series(ids, model.items.kind)
    table = table.with_columns(counts.alias(TRAIN_COUNT))
    return replace(model, method=method, items=items, item_table=table, about=about, folder=None, index=None)


def _fitted_lift(run: Recommender | str | Path, extended: Recommender) -> float:
    """How far the validation part of another run of the same method lifted items that its training never met.

    Raises:
        ConfigError: it is of another method, trained with all of its items, or was told how far.
        RunError: there is no such run, or it is damaged.
    """
    other = run if isinstance(run, Recommender) else load(run, device="cpu")
    mine, theirs = (to_json(each.config) for each in (extended, other))
    unlike = [key for part in ("method", "features") for key in differences(mine[part], theirs[part], part)]
    if unlike:
        raise ConfigError(
            f"lift_from is configured otherwise than the run ({', '.join(unlike)}), and what lifts in one may hold "
            "back in the other: give a run of the same method with the same settings."
        )
    if not other.about["protocol"].get("hold_out_items"):
        raise ConfigError(
            "lift_from was trained with all of its items, so that nothing was found out of new ones: give a run that "
            "was trained with --hold-out-items (hold_out_items of the split), or say how far with --lift."
        )
    if any("lift" in each for each in other.about.get("extended", [])):
        raise ConfigError("lift_from is an extended run that was told how far to lift: give the run it was made of.")
    return 0.0 - held_back(other.method)  # no -0


def _tied(method: Method, known: int) -> dict[str, int]:
    """How many items behind the known ones share all their tokens with another, so that every ranking ties them."""
    for part in method.modules():
        if isinstance(part, TokenItems):
            table = TokenTable(part.codes_NM.cpu(), part.size, part.ordered)
            return {"tied": int((table.group_sizes()[table.groups_N()[known:]] > 1).sum())}
    return {}


def _wide_enough(feature: Feature, before: dict[str, Any]) -> Feature:
    """Its shape holds the tags of known items as well."""
    return feature._replace(shape=feature.shape._replace(width=max(feature.shape.width, before["width"])))


def _grown(model: Recommender, features: list[Feature], n_items: int) -> Method:
    """The method with rows for so many items; those behind the known ones are the features alone.

    Of evidence they have none: nobody met them, and no neighbour of theirs was looked for.
    """
    known, sizes = len(model.items), DataSizes(n_items, model.about["users"])
    shapes = [feature.shape for feature in features]
    speaking = [evidence_shape(shape) for shape in model.about.get("evidence", [])]
    plain = partial(model.config.method.build, sizes)
    tokens = token_shape(model.about["tokens"]) if model.about.get("tokens") else None
    method = built(
        lambda: with_evidence(with_features(with_tokens(plain(), tokens), shapes), model.config.evidence, speaking)
    )
    take_over(method, model.method, torch.arange(known), trains=False)
    for part in method.modules():
        if isinstance(part, ItemFeatures):
            part.take(features, first=known)
        if isinstance(part, TokenItems):
            part.take_new(features, first=known)
    return method
