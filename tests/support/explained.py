"""Small models whose explanations are looked at, and how they are asked."""

from __future__ import annotations

from typing import Any

from forethought.backbones.sasrec import SASRec
from forethought.explaining.explanation import Explanation
from forethought.methods.configuration import MethodConfig
from forethought.methods.dtrec import DTRec
from forethought.methods.igr_sr import IGRSR
from forethought.methods.items import ItemLoss
from forethought.methods.next_item import NextItem
from forethought.methods.rearec import ReaRec
from forethought.reasoning.intent_reasoner import Reasoner
from forethought.recommender import Recommender

BACKBONE = SASRec(width=16, layers=1, window=8, ffn_width=32, input_norm=True)
FEW = {"first_clusters": 4, "most_clusters": 12}
DOT = ItemLoss(cosine=False, temperature=1.0, bias=True)
METHODS: dict[str, MethodConfig] = {
    "plain": NextItem(backbone=BACKBONE),
    "prl": ReaRec(backbone=BACKBONE, learning="prl"),
    "erl": ReaRec(backbone=BACKBONE, learning="erl"),
    "dtrec": DTRec(backbone=BACKBONE, **FEW),
    "igr-sr": IGRSR(backbone=BACKBONE, reasoner=Reasoner(width=16, ffn_width=32)),
    "dtrec of dot products": DTRec(backbone=BACKBONE, loss=DOT, readout="last", indicator_source="exact", **FEW),
}
HISTORY = [3, 17, 5, 3, 30]
TARGET = 11


def ids(model: Recommender, rows: list[int]) -> list[Any]:
    return model.items.id_list(rows)


def rows(model: Recommender, named: list[Any]) -> list[int]:
    return model.items.index_of([each.item for each in named]).tolist()


def told(model: Recommender, **choices: Any) -> Explanation:
    return model.explain(ids(model, HISTORY), target=ids(model, [TARGET])[0], **choices)
