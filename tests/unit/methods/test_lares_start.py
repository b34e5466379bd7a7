"""How LARES begins: the spread of its weights, and units dropped where a history is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from forethought.data.batches import lists_batch
from forethought.data.interactions import DataSizes
from forethought.methods.lares import LARES


@pytest.mark.parametrize("combine", ["add", "concat"])
def test_weights_begin_small_and_biases_at_zero(combine: str) -> None:
    torch.manual_seed(0)
    model = LARES(combine=combine).build(DataSizes(50))  # type: ignore[arg-type]
    linear = [part for part in model.modules() if isinstance(part, nn.Linear)]
    assert len(linear) == 2 * 4 + (combine == "concat")
    for part in linear:
        assert part.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not part.bias.any()


def test_units_of_the_embedding_are_dropped_in_training() -> None:
    """At the default share, and what is kept is scaled up, so that the mean stays."""
    torch.manual_seed(0)
    model, seen = LARES(width=64, window=20).build(DataSizes(50)), []
    assert model.config.dropout == 0.35
    model.items.weight.data.fill_(1.0)
    model.positions.weight.data.zero_()
    model.pre.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    batch = lists_batch([np.arange(20)] * 20, 20)
    model.train()
    model.user_states(batch)
    model.eval()
    model.user_states(batch)
    dropped, whole = seen
    assert (dropped == 0).float().mean().item() == pytest.approx(0.35, abs=0.02)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)
    assert torch.equal(whole, torch.ones_like(whole))
