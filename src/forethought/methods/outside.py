"""What a method takes from outside of the histories it is trained on: what it asks for, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from forethought.backbones.interface import BackboneConfig
from forethought.catalogue.losses import FewTargets
from forethought.data.batches import Batch
from forethought.data.evidence import EvidenceTable
from forethought.data.features import Feature
from forethought.data.neighbours import Neighbours
from forethought.semantic_ids.item_tokens import ItemTokens
from forethought.semantic_ids.tokenizer import TokenizerConfig


class SoftTargets(NamedTuple):
    """The items that a teacher thinks follow each interaction, and their shares.

    Attributes:
        items_TK: int32, by the place of the interaction in the flat array of training histories.
        shares_TK: float16, summing to 1 but for rounding; zeros where nothing is trained.
    """

    items_TK: Tensor
    shares_TK: Tensor

    def after(self, batch: Batch, weight: float) -> FewTargets:
        """Of the real positions of a training batch, in the order of `batch.valid_BL()`."""
        assert batch.starts_B is not None
        device = batch.items_BL.device
        places_BL = batch.starts_B[:, None] + torch.arange(batch.items_BL.shape[1], device=device)
        places_P = places_BL[batch.valid_BL()].to(self.items_TK.device)
        return FewTargets(self.items_TK[places_P].long().to(device), self.shares_TK[places_P].to(device), weight)


@dataclass(frozen=True, kw_only=True)
class References:
    """What a method's configuration refers to outside of it; `forethought.references` makes tensors of it.

    Attributes:
        encoder_run: a run folder whose encoder is taken over.
        backbone: configuration that this encoder must have.
        texts: whether text vectors of the items are read: from `texts_file`, or those beside the data.
        text_width: numbers that each of them must have.
        teacher_run: a run folder whose best items are soft targets.
        teacher_items: how many of them.
        tokenizer: what makes tokens of the items, where the method reads tokens.
        tokens: a folder with such tokens; None: they are made.
        neighbours: how many items that users met near each one are asked for.
    """

    encoder_run: str | None = None
    backbone: BackboneConfig | None = None
    texts: bool = False
    texts_file: str | None = None
    text_width: int = 0
    teacher_run: str | None = None
    teacher_items: int = 0
    tokenizer: TokenizerConfig | None = None
    tokens: str | None = None
    neighbours: int = 0


@dataclass(frozen=True, kw_only=True)
class TokensAndCategories:
    """What items are made of, for methods that read tokens.

    Attributes:
        tokens: with what made them.
        categories: names of the categories; none where the data tells of none.
        category_N: that of each item.
    """

    tokens: ItemTokens
    categories: tuple[str, ...]
    category_N: Tensor


@dataclass(frozen=True, kw_only=True)
class SideInformation:
    """What methods may take from outside the histories they are trained on, as tensors.

    Attributes:
        target_counts_N: how often each item is to be named in training.
        encoder: weights of another run's encoder by name, items among them.
        item_texts_NE: text vectors, zeros where an item has none.
        features: of the items, for their tables.
        evidence: beside the method's own scores.
        taught: what a teacher says follows each interaction of the training part.
        tokens: of the items, with their categories.
        near: the items that users of the training part met near each one.
        hashes: checksum of each of these but the first, for the record.
    """

    target_counts_N: Tensor
    encoder: Mapping[str, Tensor] | None = None
    item_texts_NE: Tensor | None = None
    features: tuple[Feature, ...] = ()
    evidence: tuple[EvidenceTable, ...] = ()
    taught: SoftTargets | None = None
    tokens: TokensAndCategories | None = None
    near: Neighbours | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
