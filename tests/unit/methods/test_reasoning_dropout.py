"""Whether the links of a chain drop units is the configuration's choice, whatever the rest of the backbone does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from forethought.backbones.sasrec import SASRec
from forethought.data.batches import training_batch, windows
from forethought.data.splits import Split
from forethought.methods.dtrec import DTRec
from forethought.methods.rearec import ReaRec
from forethought.nn.dropout import Dropout

BACKBONE = SASRec(width=16, window=12, ffn_width=24, dropout=0.5, input_norm=True)
METHODS = {
    "prl": lambda **settings: ReaRec(backbone=BACKBONE, **settings),
    "erl": lambda **settings: ReaRec(backbone=BACKBONE, learning="erl", **settings),
    "prl-contrast": lambda **settings: ReaRec(backbone=BACKBONE, contrast_weight=1.0, contrast_from=0, **settings),
    "dtrec": lambda **settings: DTRec(backbone=BACKBONE, first_clusters=4, most_clusters=12, **settings),
}
LINKS = {"prl": 2, "erl": 2, "prl-contrast": 4, "dtrec": 3}


@pytest.mark.parametrize("settings", [{}, {"reasoning_dropout": False}, {"reasoning_dropout": True}], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_links_drop_units_where_they_are_told_to(
    name: str, settings: dict[str, Any], split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = METHODS[name](**settings).build(split.data.sizes).train()
    model.begin_epoch(0)
    parts = [part for part in model.backbone.modules() if isinstance(part, Dropout)]
    reason, told = model.backbone.reason, []

    def noted(*given: Any) -> Any:
        told.append({part.training for part in parts})
        return reason(*given)

    monkeypatch.setattr(model.backbone, "reason", noted)
    model.loss(training_batch(windows(split.train, 12).take(np.arange(6))))
    assert told == [{settings.get("reasoning_dropout", False)}] * LINKS[name]
    assert all(part.training for part in parts)  # and the history is read with dropout the next time
