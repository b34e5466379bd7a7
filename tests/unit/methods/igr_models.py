"""Small IGR-SR models and rows to train them on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU
from forethought.backbones.sasrec import SASRec
from forethought.data.batches import Batch, training_batch
from forethought.data.histories import Histories
from forethought.data.interactions import DataSizes
from forethought.methods.igr_sr import IGRSR, Consistency, IGRSRModel
from forethought.methods.items import ItemLoss
from forethought.reasoning.intent_reasoner import Reasoner

N_ITEMS, TAU = 30, 0.2
ROWS = [[3, 1, 4, 1, 5, 9], [2, 6], [7, 8, 9, 10, 11, 12, 13, 14], [20, 21, 22]]
TIMES = [[1000 * (i + 1) * (row + 1) for i in range(len(items))] for row, items in enumerate(ROWS)]
BACKBONE = SASRec(width=8, window=8, ffn_width=16, dropout=0.0, count_from="start")
REASONER = Reasoner(width=12, ffn_width=24, dropout=0.0, count_from="start")
NO_ICR = Consistency(weight=0.0)
BACKBONES = [
    BACKBONE,
    GRU4Rec(width=8, window=8, dropout=0.0),
    HSTU(width=8, head_width=4, window=8, dropout=0.0),
    BERT4Rec(width=8, window=9, ffn_width=16, dropout=0.0, count_from="start"),
]
every_backbone = pytest.mark.parametrize("backbone", BACKBONES, ids=lambda config: type(config).__name__)


def model_of(**settings: Any) -> IGRSRModel:
    torch.manual_seed(0)
    given: dict[str, Any] = {"backbone": BACKBONE, "reasoner": REASONER, "consistency": NO_ICR}
    config = IGRSR(**{**given, "loss": ItemLoss(temperature=TAU), "item_std": 0.5, **settings})
    model = config.build(DataSizes(N_ITEMS)).double()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.3
    return model


def training(rows: list[list[int]] = ROWS) -> Batch:
    flat, times = Histories.from_lists(rows), np.concatenate(TIMES)[: sum(map(len, rows))]
    return training_batch(Histories(flat.items, flat.offsets, times).all())


def step(model: IGRSRModel) -> dict[str, Tensor]:
    """Gradients of one step, which is made."""
    model.train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.loss(training()).total.backward()
    optimiser.step()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
