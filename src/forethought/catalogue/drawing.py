"""Items drawn from the softmax over the catalogue, a block of scores at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from forethought.catalogue.blocks import product, row_blocks
from forethought.catalogue.catalogue import Catalogue


@torch.no_grad()
def draw_items(states_PD: Tensor, catalogue: Catalogue) -> Tensor:
    """One item for each scaled state, [P]: the largest of logits with Gumbel noise. One product."""
    items_ND, drawn = catalogue.whole("Drawing items").scaled_ND, []
    for rows in row_blocks(states_PD, len(items_ND)):
        logits_BN = product(states_PD[rows], items_ND.T)
        noise_BN = torch.empty_like(logits_BN).exponential_()
        drawn.append((logits_BN - noise_BN.log()).argmax(1))
    return torch.cat(drawn) if drawn else states_PD.new_zeros(0, dtype=torch.int64)
