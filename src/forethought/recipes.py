"""(method, data) -> a complete run. The only place with numbers that were found by trying; each says how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU
from forethought.backbones.sasrec import SASRec
from forethought.config import MethodConfig
from forethought.methods.items import ItemLoss
from forethought.methods.masked_item import MaskedItem
from forethought.methods.next_item import NextItem
from forethought.training.settings import Training


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A method and how to train it."""

    method: MethodConfig
    training: Training = field(default_factory=Training)


COSINE = ItemLoss(cosine=True, temperature=0.07)
"""Unit vectors and a temperature learn in a third of the epochs that plain dot products take, and rank better."""
FAST = Training(epochs=14, batch_positions=1024, learning_rate=3e-3, schedule="linear", patience=4)


def sasrec() -> Recipe:
    """Tuned on Beauty's validation part (leave-last-out, ties shuffled): docs/results/tuning.md."""
    backbone = SASRec(layers=1, heads=2, dropout=0.35, count_from="end")
    return Recipe(method=NextItem(backbone=backbone, loss=COSINE), training=FAST)


def gru4rec() -> Recipe:
    """Loss and training as found for SASRec; dropout tried at 0.2 and 0.4 on the same validation part."""
    return Recipe(method=NextItem(backbone=GRU4Rec(dropout=0.4), loss=COSINE), training=FAST)


def bert4rec() -> Recipe:
    """Loss as found for SASRec; a masked epoch supervises fewer positions, so it gets more of them."""
    method = MaskedItem(
        backbone=BERT4Rec(dropout=0.2, norm_first=True, count_from="end"),
        loss=COSINE,
        mask_share=0.4,
        last_item_share=0.2,
        projection=False,
    )
    return Recipe(method=method, training=replace(FAST, epochs=40, patience=8))


def hstu() -> Recipe:
    """Loss and training as found for SASRec; not tuned further."""
    return Recipe(method=NextItem(backbone=HSTU(dropout=0.3), loss=COSINE), training=FAST)


METHODS: dict[str, Callable[[], Recipe]] = {"sasrec": sasrec, "gru4rec": gru4rec, "bert4rec": bert4rec, "hstu": hstu}
"""What the command line calls the methods."""
