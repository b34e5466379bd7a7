"""How far what two models say of all items lies apart, as KL divergence, from moments of the softmax.

    KL(p || q) = sum_i p_i (z_i - y_i) - lse(z) + lse(y) = r . mean_p(e) - s . mean_p(f) - lse(z) + lse(y)

with logits z_i = r . e_i of the one model and y_i = s . f_i of the other. Both means are of the first one's softmax:
items of both models stand side by side, against a state that is 0 where the other's are. So it is exact, and no tensor
of [rows, N] outlives a block.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import moments


def divergence(states_PD: Tensor, catalogue: Catalogue, other_PD: Tensor, other: Catalogue) -> Tensor:
    """KL(p || q) of each row in nats, [P], with gradients in all that asks for some.

    2 products of twice the width and 2 of the other model; backward 5 of twice the width.

    Args:
        states_PD, catalogue: of p; states are scaled (`Catalogue.scaled`).
        other_PD, other: of q, whose items are the same ones in the same order; widths may differ.
    """
    D, more = catalogue.scaled_ND.shape[1], other.scaled_ND.shape[1]
    both = Catalogue(torch.cat([catalogue.scaled_ND, other.scaled_ND], dim=1), shard=catalogue.shard)
    lse_P, means_P2D = moments(F.pad(states_PD, (0, more)), both)
    own_P = (states_PD * means_P2D[:, :D]).sum(-1)
    across_P = (other_PD * means_P2D[:, D:]).sum(-1)
    return own_P - across_P - lse_P + moments(other_PD, other).lse_P
