"""Collaborative vectors of items that nobody met: those of the items that are most like them in all else.

    w_u = softmax_k( s cos(x_u, y_k) )  over the K known items with the largest cosine          v_u = sum_k w_uk v_k

x_u are the standardised features of an unmet item; y_k and v_k are what the tokens of a known item say of its features
and of its collaborative vector. So nothing is kept beside the tokens, and an item that joins a trained run is read as
one that was there before. With the mean in their place, which is that of an item of no company, new items have tokens
that hardly any history leads to.

Shapes: U unmet items, N known ones, F inputs, of which the last E are collaborative.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.semantic_ids.tokenizer import Tokenizer, equal_blocks

NEIGHBOURS = 10
SHARPNESS = 10.0  # of cosines
MOST_KNOWN = 50_000  # known items among which neighbours are looked for, evenly over all


@torch.no_grad()
def imputed(values_UF: Tensor, tokenizer: Tokenizer, codes_NM: Tensor, width: int) -> Tensor:
    """The same inputs, the last `width` of each item in the place of its collaborative vector, [U, F].

    Args:
        values_UF: raw inputs of items that nobody met, whatever the last ones are.
        tokenizer: fitted.
        codes_NM: of the known items, with any counters behind those of the codebooks; none: nothing changes.
        width: of collaborative vectors; 0: nothing changes.
    """
    if not width or not len(codes_NM) or not len(values_UF):
        return values_UF
    said_NF = tokenizer.decode(_evenly(codes_NM)[:, : tokenizer.codebooks].to(tokenizer.mean_F.device))
    looks_NF, met_NE = F.normalize(said_NF[:, :-width], dim=1), said_NF[:, -width:]
    looks_UF = F.normalize(tokenizer.standardised(values_UF)[:, :-width], dim=1)
    found = []
    for some_UF, rows in equal_blocks(looks_UF):  # a product's last bit goes with its shape
        cosines_UK, nearest_UK = (some_UF @ looks_NF.T).topk(min(NEIGHBOURS, len(looks_NF)), dim=1)
        weights_UK = torch.softmax(SHARPNESS * cosines_UK, dim=1)
        found.append((weights_UK[..., None] * met_NE[nearest_UK]).sum(1)[:rows])
    mean_E, scale_E = tokenizer.mean_F[-width:], tokenizer.scale_F[-width:]
    raw_UE = torch.where(scale_E > 0, torch.cat(found) / scale_E.clamp_min(1e-30), 0.0) + mean_E
    return torch.cat([values_UF[:, :-width].to(raw_UE), raw_UE], dim=1)


def with_imputed(values_NF: Tensor, tokenizer: Tokenizer, width: int) -> Tensor:
    """Inputs of all items of a split, those completed whose collaborative vector is zeros, which is nothing known.

    Args:
        values_NF: raw inputs that the tokenizer was fitted to.
        tokenizer, width: as in `imputed`.
    """
    met_N = values_NF[:, values_NF.shape[1] - width :].any(1) if width else torch.ones(len(values_NF), dtype=torch.bool)
    # of an item without features nothing is known to be like
    if met_N.all() or not met_N.any() or width == values_NF.shape[1]:
        return values_NF
    completed_NF = values_NF.clone()
    codes_NM = tokenizer.encode(values_NF[_evenly(met_N.nonzero()[:, 0])])
    completed_NF[~met_N] = imputed(values_NF[~met_N], tokenizer, codes_NM, width).to(values_NF)
    return completed_NF


def _evenly(known: Tensor) -> Tensor:
    """At most `MOST_KNOWN` rows, evenly over all; of so few all."""
    return known[:: max(1, -(-len(known) // MOST_KNOWN))]
