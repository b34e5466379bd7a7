"""A soft index: an item as a mixture of each book's words, so that a loss of behaviour reaches experts and words.

    p_rj = softmax_j( -|| e^r - z_rj ||^2 / (tau u_r) ),   s = (sum_j p_1j z_1j, .., sum_j p_Mj z_Mj)
    L_next = -mean log exp(s_i A s_k / T) / sum_(k' in batch) exp(s_i A s_k' / T)       k: what users took next after i

MMQ (arXiv 2508.15281), of which only summaries could be read: in its second stage codes are chosen softly and the loss
of the recommender reaches the codebooks, while a loss of reconstruction holds what they mean. Its recommender is the
one that is deployed; ours is the smallest there is, a bilinear map A of one item, and is thrown away. Units u_r (the
mean squared error of a book), softmax, T and the negatives are ours.

Shapes: B items of a batch, M books, C codes a book, D width of a book's words.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.semantic_ids.kmeans import squared_distances

TEMPERATURE = 0.1  # T, for vectors of mean square length 1
LEAST = 1e-12


def soft_words(points_BMD: Tensor, words_MCD: Tensor, temperature: float) -> Tensor:
    """Each book's words, mixed by how near they are, [B, M, D]; the gradient reaches points and words.

    Args:
        temperature: tau, in units of the mean squared distance of these points to their nearest words.
    """
    distances_BMC = squared_distances(points_BMD, words_MCD)
    unit_M = distances_BMC.detach().amin(-1).mean(0).clamp_min(LEAST)
    shares_BMC = (-distances_BMC / (temperature * unit_M[:, None])).softmax(-1)
    return torch.einsum("bmc,mcd->bmd", shares_BMC, words_MCD)


def next_contrast(first_BX: Tensor, next_BX: Tensor, map_XX: Tensor, next_B: Tensor) -> Tensor:
    """L_next, in nats; a row of the same next item is no negative.

    Args:
        first_BX: s of items.
        next_BX: s of what came after each.
        map_XX: A.
        next_B: which item that is.
    """
    unit = next_BX.square().sum(-1).mean().clamp_min(LEAST)
    logits_BB = first_BX @ map_XX @ next_BX.T / (TEMPERATURE * unit)
    own_BB = torch.eye(len(next_B), dtype=torch.bool, device=next_B.device)
    again_BB = (next_B[:, None] == next_B) & ~own_BB
    return F.cross_entropy(logits_BB.masked_fill(again_BB, -torch.inf), torch.arange(len(next_B), device=next_B.device))
