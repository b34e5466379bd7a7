"""LETTER's two terms beside the loss of RQ-VAE: what is quantised shall speak of behaviour, and codes be taken evenly.

    L_CF  = -mean_i log exp(<zhat_i, h_i>) / sum_(k in batch) exp(<zhat_i, h_k>)
    L_div = -mean_i log exp(<w_c, w_+>) / sum_(j != c) exp(<w_c, w_j>)      c = c_i, w_+ another word of c's group

LETTER (arXiv 2405.07314), collaborative and diversity regularisation; h_i is an item's collaborative vector. Ours: both
softmaxes have a temperature, since lengths of latent vectors have no unit, and L_div takes the words in units of their
mean square length; it is the mean over all words of a group, which is what the paper's drawn one comes to on average;
items that nobody met have no h_i, and no part in L_CF.

Shapes: B items of a batch, D width, C codes a book.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.semantic_ids.kmeans import centres_of

ROUNDS = 3  # of dealing out and averaging, from where k-means ends
LEAST = 1e-12  # of a mean square length


def collaborative_contrast(said_BD: Tensor, met_BD: Tensor, temperature: float) -> Tensor:
    """L_CF, in nats; its gradient reaches `said_BD`. 0 for a batch in which fewer than two items were met.

    Vectors longer than 1 are taken as long as 1 on average: else they would grow, as longer ones say the same louder.

    Args:
        said_BD: quantised vectors of items.
        met_BD: their collaborative vectors; zeros for items that nobody met.
    """
    known_B = met_BD.any(1)
    if int(known_B.sum()) < 2:  # nothing to be told apart from
        return said_BD.new_zeros(())
    said_KD, met_KD = said_BD[known_B], met_BD[known_B]
    unit = said_KD.square().sum(-1).mean().clamp_min(1.0).sqrt()
    logits_KK = said_KD @ met_KD.T / (temperature * unit)
    return F.cross_entropy(logits_KK, torch.arange(len(logits_KK), device=logits_KK.device))


def diversity_contrast(words_CD: Tensor, groups_C: Tensor, shares_C: Tensor, temperature: float) -> Tensor:
    """L_div of one book, in nats; its gradient reaches words that are taken and those held against them.

    Args:
        groups_C: the group of each word; none has a single word.
        shares_C: which share of the batch takes each word.
    """
    unit = words_CD.detach().square().sum(-1).mean().clamp_min(LEAST)
    logits_CC = words_CD @ words_CD.T / (temperature * unit)
    own_CC = torch.eye(len(words_CD), dtype=torch.bool, device=words_CD.device)
    log_probs_CC = logits_CC.masked_fill(own_CC, -torch.inf).log_softmax(1)
    together_CC = (groups_C[:, None] == groups_C) & ~own_CC
    mean_C = log_probs_CC.masked_fill(~together_CC, 0.0).sum(1) / together_CC.sum(1)
    return -(shares_C * mean_C).sum()


@torch.no_grad()
def even_groups(words_CD: Tensor, groups: int, seed: int) -> Tensor:
    """Groups of near words whose sizes differ by one at most, int64 [C]: k-means under a constraint.

    Each round deals words out to the nearest centres with room, from the nearest pair on, and centres become means.
    """
    centres_KD = centres_of(words_CD, groups, seed)
    groups_C = _dealt(words_CD, centres_KD)
    for _ in range(ROUNDS):
        for group in range(groups):
            centres_KD[group] = words_CD[groups_C == group].mean(0)
        groups_C = _dealt(words_CD, centres_KD)
    return groups_C


def _dealt(words_CD: Tensor, centres_KD: Tensor) -> Tensor:
    C, K = len(words_CD), len(centres_KD)
    room, larger = divmod(C, K)  # so many groups hold one word more
    dealt, sizes = [-1] * C, [0] * K
    distances_CK = (centres_KD.square().sum(1) - 2 * words_CD @ centres_KD.T) + words_CD.square().sum(1, keepdim=True)
    for pair in distances_CK.flatten().argsort(stable=True).tolist():
        word, group = divmod(pair, K)
        if dealt[word] < 0 and sizes[group] < room + (larger > 0):
            dealt[word] = group
            sizes[group] += 1
            larger -= sizes[group] > room
    return torch.tensor(dealt, device=words_CD.device)
