"""Signs of a path that do not know what comes next: features of a learned reward.

Each is a share, a probability or the logarithm of a number of events, so that none depends on how many items, tokens,
steps or categories a data set has, and what was learned of them on one can be read on another.

Shapes: B histories, G paths of each, T steps, M codebooks, C codes, L positions, F signs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from forethought.alignment.rewards import diversity
from forethought.decoding.corp import jensen_shannon
from forethought.decoding.path_facts import PathFacts

LAST = 3  # items of a history that the best one is held against


class PathSigns(NamedTuple):
    """What paths say of themselves.

    Attributes:
        names: of the signs, in order.
        values_BGF: float64.
    """

    names: tuple[str, ...]
    values_BGF: Tensor


def path_signs(facts: PathFacts, rare_N: Tensor) -> PathSigns:
    """All signs of each path.

    Args:
        rare_N: of each item the share of those met more often in training, `ItemRanks.rare_N`.

    likelihood, least_likely: p(token) / max p of its book, the mean and the least over the steps. log_prob: the mean
    of ln p / ln C, -1 where nothing is known. entropy: the mean of H / ln C. best: as log_prob, over all tokens of the
    best item as the finished path has them. lead: 1 - exp(-d), the best item's score d nats above the second's.
    agreement: the share of the group's other paths with the same best item. known: how few items are better known than
    the best one. met: 1 if it stands in the history. shared: the share of its tokens that an item has, the mean of the
    last three. length: ln(1 + positions).

    Of a run that names categories also shift: the mean Jensen-Shannon divergence of the belief with a step, / ln 2;
    peak: its largest probability at the end; fits: its probability at the end of the best item's category.
    """
    signs = _of_choices(facts) | _of_best(facts, rare_N) | _of_history(facts)
    if facts.paths.categories_BGTQ is not None:
        signs |= _of_belief(facts, facts.paths.categories_BGTQ.double())
    B, G, _ = facts.shape
    return PathSigns(tuple(signs), torch.stack([sign.double().expand(B, G) for sign in signs.values()], dim=-1))


def _of_choices(facts: PathFacts) -> dict[str, Tensor]:
    paths = facts.paths
    C = paths.table_BGMC.shape[-1]
    at_BGTC = paths.books_BGT[..., None].expand(*facts.shape, C)
    rows_BGTC = paths.table_BGMC.gather(2, at_BGTC).double()
    chosen_BGT = rows_BGTC.gather(3, paths.tokens_BGT[..., None])[..., 0]
    shares_BGT = (chosen_BGT - rows_BGTC.amax(-1)).exp()
    entropy_BGT = -(rows_BGTC.exp() * rows_BGTC.masked_fill(rows_BGTC == -torch.inf, 0.0)).sum(-1)
    unit = _nothing_known(paths.table_BGMC)
    return {
        "likelihood": shares_BGT.mean(-1),
        "least_likely": shares_BGT.amin(-1),
        "log_prob": chosen_BGT.mean(-1) / unit,
        "entropy": entropy_BGT.mean(-1) / unit,
    }


def _of_best(facts: PathFacts, rare_N: Tensor) -> dict[str, Tensor]:
    best_BG, table_BGMC = facts.best_BG, facts.paths.table_BGMC
    own_BGM = table_BGMC.gather(3, facts.codes_NM[best_BG][..., None])[..., 0].double()
    return {
        "best": own_BGM.mean(-1) / _nothing_known(table_BGMC),
        "lead": 1 - (-facts.leads_BG.double()).exp(),
        "agreement": 1 - diversity(facts),
        "known": 1 - rare_N.to(best_BG.device)[best_BG],
    }


def _of_history(facts: PathFacts) -> dict[str, Tensor]:
    items_BL, lengths_B, best_BG = facts.items_BL, facts.lengths_B, facts.best_BG
    assert items_BL is not None
    assert lengths_B is not None
    real_BL = torch.arange(items_BL.shape[1], device=items_BL.device) < lengths_B[:, None]
    met_BG = ((best_BG[..., None] == items_BL[:, None]) & real_BL[:, None]).any(-1)
    back_BK = lengths_B[:, None] - 1 - torch.arange(LAST, device=items_BL.device)
    last_BKM = facts.codes_NM[items_BL.gather(1, back_BK.clamp_min(0))]
    same_BGK = (facts.codes_NM[best_BG][:, :, None] == last_BKM[:, None]).double().mean(-1)
    there_BK = (back_BK >= 0).double()
    shared_BG = (same_BGK * there_BK[:, None]).sum(-1) / there_BK.sum(-1)[:, None]
    return {"met": met_BG, "shared": shared_BG, "length": lengths_B[:, None].double().log1p()}


def _of_belief(facts: PathFacts, beliefs_BGTQ: Tensor) -> dict[str, Tensor]:
    last_BGQ = beliefs_BGTQ[:, :, -1].exp()
    of_best_BG = facts.category_N[facts.best_BG]
    moved_BGT = jensen_shannon(beliefs_BGTQ[:, :, :-1], beliefs_BGTQ[:, :, 1:])
    return {
        "shift": moved_BGT.mean(-1) / math.log(2),
        "peak": last_BGQ.amax(-1),
        "fits": last_BGQ.gather(2, of_best_BG[..., None])[..., 0],
    }


def _nothing_known(table_BGMC: Tensor) -> float:
    """ln C, the entropy of a book of which nothing is known; ln 2 where it has one code."""
    return math.log(max(table_BGMC.shape[-1], 2))
