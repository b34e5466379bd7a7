"""Item vectors of a trained run as collaborative vectors: what its training learned of who meets which items.

Items are matched by their ids. Vectors are centred over the items that the run's training met; all others, those that
it never met or does not know, are zeros, and are tokenised with those of items like them, as new items are. Nothing of
the run but these numbers is kept: the tokenizer's own state has what new items need.

Shapes: N items of the data, D width of the run's vectors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from forethought.config import RunConfig
from forethought.data.popularity import TRAIN_COUNT
from forethought.data.splits import DIVIDES, Split
from forethought.data.vocabulary import UNKNOWN
from forethought.errors import ConfigError, DataError
from forethought.methods.item_tokens import TokenMethodConfig, reads_tokens
from forethought.recommender import Recommender, load
from forethought.semantic_ids.inputs import Collaborative
from forethought.semantic_ids.tokenizer import TokenizerConfig
from forethought.settings import check
from forethought.starting import noted

OPTION = "collaborative_from (on the command line --collaborative-from)"


def collaborative_of(run: str | Path, split: Split, config: TokenizerConfig) -> Collaborative:
    """The item vectors of a run, for the items of a split.

    Args:
        run: a run folder of a method with a vector for each item, of the same split of the same data or of other data.
        config: the tokenizer that is to read them.

    Raises:
        RunError: there is no such run, or it is damaged.
        ConfigError: it has no vectors of items, or the tokenizer reads no collaborative vectors of this kind.
        DataError: it was trained on another split of the same data, and so on what is tested here; its ids are of
            another kind; or its training met none of the items.
    """
    check(run, str | Path, "collaborative_from")
    _check_read(config)
    model = load(run, device="cpu")
    if model.method.state_width is None:
        kind = "tokens" if reads_tokens(model.method) else "no vectors"
        raise ConfigError(
            f"The run in {str(run)!r} is one of {type(model.config.method).__name__}, which knows items by {kind}, "
            "while collaborative vectors need a vector an item: give a run of sasrec or another method that has them."
        )
    _check_split(run, model, split)
    told = noted(model, split)
    vectors_ND, met = _matched(model, split)
    if not met:
        raise DataError(
            f"The run in {str(run)!r} ({model.about['data']!r}) met none of the items of {split.data.name!r} in its "
            "training, so that its vectors say nothing of them: give a run whose items have the same ids."
        )
    return Collaborative(vectors_ND, {**told, "method": type(model.config.method).__name__, "items": met})


def check_makes_tokens(config: RunConfig, start: object) -> TokenizerConfig:
    """The tokenizer that a training is about to fit, by which collaborative vectors of a run are read.

    Raises:
        ConfigError: it fits none, so that a run's vectors would change nothing.
    """
    method = config.method
    if not isinstance(method, TokenMethodConfig):
        raise ConfigError(f"The method reads no tokens, so that {OPTION} would change nothing: leave it out.")
    if method.tokens is not None or start is not None:
        whose = "in a folder of tokens" if method.tokens is not None else "by the run that it begins with"
        raise ConfigError(f"The tokens are made already, {whose}, so that {OPTION} would change nothing: leave it out.")
    return method.tokenizer


def _check_read(config: TokenizerConfig) -> None:
    if config.collaborative == "none":
        raise ConfigError(
            f"The tokenizer reads no collaborative vectors (collaborative none): leave that out, or {OPTION}."
        )
    if config.collaborative_width != TokenizerConfig.collaborative_width:
        raise ConfigError(
            f"Vectors of a run are as wide as it made them, so that collaborative_width {config.collaborative_width} "
            f"would change nothing: leave it out, or {OPTION}."
        )


def _check_split(run: str | Path, model: Recommender, split: Split) -> None:
    """Refuse what has certainly seen, in training, some of what is held out here."""
    if model.about["data_hash"] != split.data.data_hash:
        return
    theirs = model.about["protocol"]
    other = [key for key in DIVIDES if theirs.get(key) != split.protocol.get(key)]
    if other:
        said = ", ".join(f"{key} {theirs.get(key)!r}, not {split.protocol.get(key)!r}" for key in other)
        raise DataError(
            f"The run in {str(run)!r} was trained on another split of this data ({said}), whose training holds what is "
            "tested here: give one that was trained on this split."
        )


@torch.inference_mode()
def _matched(model: Recommender, split: Split) -> tuple[Tensor, int]:
    """Centred vectors of the items of the split, float32 [N, D], and how many of them the run's training met."""
    items = split.data.items
    if model.items.kind != items.kind:
        raise DataError(
            f"The ids of the run's items are of kind {model.items.kind}, but those of the data of kind {items.kind}: "
            "read the data as the run's was read."
        )
    rows = items.index_of(model.items.ids)
    common = np.asarray(rows != UNKNOWN) & (model.item_table[TRAIN_COUNT].fill_null(0).to_numpy() > 0)
    theirs_ND = model.method.catalogue().comparable_ND.double().cpu()[torch.from_numpy(common)]
    vectors_ND = torch.zeros(split.data.n_items, theirs_ND.shape[1])
    if len(theirs_ND):
        vectors_ND[torch.from_numpy(rows[common].copy())] = (theirs_ND - theirs_ND.mean(0)).float()
    return vectors_ND, len(theirs_ND)
