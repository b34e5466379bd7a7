"""What the tests of training share."""

from __future__ import annotations

import pytest

from forethought.data.batches import Batch
from forethought.methods.interface import Losses
from forethought.methods.next_item import NextItemModel


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The batches that a backbone is trained on from here on, as it is given them."""
    batches: list[Batch] = []
    loss = NextItemModel.loss

    def losing(self: NextItemModel, batch: Batch) -> Losses:
        batches.append(batch)
        return loss(self, batch)

    monkeypatch.setattr(NextItemModel, "loss", losing)
    return batches
