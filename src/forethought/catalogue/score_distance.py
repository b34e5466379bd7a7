"""How far two models' scores of all items lie apart, without making the scores.

    d_p = 1/2 mean_i (s_p . q_i - t_p . v_i)^2 = 1/2 (s_p' A s_p - 2 s_p' B t_p + t_p' C t_p)

with A = Q'Q / N, B = Q'V / N and C = V'V / N. So all positions meet all items in 3 N D^2 + 3 P D^2 products, where the
scores themselves would take 2 P N D and as much memory. As a difference of squares it is exact, in float32, to about
1e-6 of the scores' own squares.
"""

from __future__ import annotations

import torch
from torch import Tensor


def score_distance(
    states_PD: Tensor, items_ND: Tensor, other_PD: Tensor, other_ND: Tensor, weights_P: Tensor
) -> Tensor:
    """sum_p w_p d_p, with gradients in all vectors that ask for some; in float32 or wider, whatever autocast says.

    Args:
        states_PD, items_ND: scaled, as `Catalogue` has them: a plain product is the logit.
        other_PD, other_ND: the other model's, of a width of their own.
    """
    with torch.autocast(states_PD.device.type, enabled=False):
        wide = torch.promote_types(states_PD.dtype, torch.float32)
        s_PD, t_PD, q_ND, v_ND = (each.to(wide) for each in (states_PD, other_PD, items_ND, other_ND))
        n = len(q_ND)
        own_P = ((s_PD @ (q_ND.T @ q_ND / n)) * s_PD).sum(-1)
        across_P = ((s_PD @ (q_ND.T @ v_ND / n)) * t_PD).sum(-1)
        others_P = ((t_PD @ (v_ND.T @ v_ND / n)) * t_PD).sum(-1)
        return 0.5 * ((own_P - 2 * across_P + others_P) * weights_P).sum()
