"""Beam search over ordered tokens (TIGER): step r decides book r, and only what leads to an item is followed.

Each path that is kept leads to an item, so that as many tuples are reached as there are beams, or all. Where that is
too few for a list, because much of it was excluded, the best of the prefixes that were given up fill it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forethought.catalogue.ranking import FilteredItems
from forethought.decoding.decoder import TokenDecoder
from forethought.decoding.prefix_table import PrefixTable

LEAST = -1e30  # what leads to an item is more than what leads nowhere, however unlikely


@dataclass(frozen=True, eq=False)
class ItemLists:
    """K items of each row, the best first; rows that run out end in -1, -inf.

    Attributes:
        log_probs_BK: of the tokens of an item; those that fill a list count no more than the last item reached.
        reached_BK: False for what fills a list.
    """

    items_BK: Tensor
    log_probs_BK: Tensor
    reached_BK: Tensor


@torch.no_grad()
def search_items(
    decoder: TokenDecoder,
    rows: int,
    table: PrefixTable,
    k: int,
    beams: int,
    excluded: FilteredItems | None = None,
) -> ItemLists:
    """The k best items of each row: as many distinct ones as there are candidates, if not k.

    Args:
        decoder: may give the log-probabilities of the next book alone, [B, P, 1, C].
    """
    state = decoder.begin(rows)
    log_probs_BPMC, _ = decoder.log_probs(state)
    paths_BP = log_probs_BPMC.new_zeros(rows, 1)
    prefixes_BP = torch.zeros(rows, 1, dtype=torch.int64, device=paths_BP.device)
    most = 0 if excluded is None or not len(excluded.rows) else int(torch.bincount(excluded.rows).max())
    wanted = k + most  # prefixes that are given up, one item in each at least
    pool: list[tuple[Tensor, Tensor, Tensor]] = []  # log-probability per token, first and last item
    for step in range(table.codebooks):
        rows_BPC = log_probs_BPMC[:, :, step if log_probs_BPMC.shape[2] > 1 else 0]
        may_BPC = table.continuations(prefixes_BP, step)
        flat_BQ = (paths_BP[..., None] + rows_BPC.clamp(min=LEAST)).masked_fill(~may_BPC, -torch.inf).flatten(1)
        best_BQ, at_BQ = flat_BQ.topk(min(beams + wanted, flat_BQ.shape[1]), dim=1)
        parents_BQ, tokens_BQ = at_BQ // table.size, at_BQ % table.size
        longer_BQ = table.follow(prefixes_BP.gather(1, parents_BQ), tokens_BQ, step)
        pool.append((best_BQ[:, beams:] / (step + 1), *table.span(longer_BQ[:, beams:], step + 1)))
        paths_BP, prefixes_BP, tokens_BP = (each[:, :beams] for each in (best_BQ, longer_BQ, tokens_BQ))
        if step + 1 < table.codebooks:
            state = decoder.advance(state.select(parents_BQ[:, :beams]), torch.full_like(tokens_BP, step), tokens_BP)
            log_probs_BPMC, _ = decoder.log_probs(state)
    begin_BP, end_BP = table.span(prefixes_BP, table.codebooks)
    worth_BX, begin_BX, end_BX = (torch.cat(parts, dim=1) for parts in zip(*pool, strict=True))
    worth_BX, order_BX = worth_BX.sort(dim=1, descending=True, stable=True)
    last_B1 = paths_BP.masked_fill(prefixes_BP < 0, torch.inf).amin(1, keepdim=True)
    log_probs_BX = torch.cat([paths_BP, torch.minimum(worth_BX, last_B1)], dim=1)
    begin_BX = torch.cat([begin_BP, begin_BX.gather(1, order_BX)], dim=1)
    end_BX = torch.cat([end_BP, end_BX.gather(1, order_BX)], dim=1)
    items_BF, from_BF = _listed(table.items_N, begin_BX, end_BX, wanted)
    return _lists(items_BF, log_probs_BX.gather(1, from_BF), from_BF < paths_BP.shape[1], k, excluded)


def _listed(items_N: Tensor, begin_BX: Tensor, end_BX: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The first n items of ranges that come one after the other, -1 for none, and which range each is from."""
    through_BX = (end_BX - begin_BX).cumsum(1)
    place_BF = torch.arange(n, device=begin_BX.device).expand(len(begin_BX), n).contiguous()
    from_BF = torch.searchsorted(through_BX, place_BF, right=True)
    there_BF = from_BF < through_BX.shape[1]
    from_BF = from_BF.clamp(max=through_BX.shape[1] - 1)
    at_BF = end_BX.gather(1, from_BF) - through_BX.gather(1, from_BF) + place_BF
    return torch.where(there_BF, items_N[at_BF.clamp(0, len(items_N) - 1)], -1), from_BF


def _lists(
    items_BF: Tensor, log_probs_BF: Tensor, reached_BF: Tensor, k: int, excluded: FilteredItems | None
) -> ItemLists:
    """The first k that are not excluded."""
    gone_BF = items_BF < 0
    if excluded is not None and len(excluded.rows):
        n_items = 1 + max(int(items_BF.max()) if items_BF.numel() else 0, int(excluded.items.max()))
        keys_BF = torch.arange(len(items_BF), device=items_BF.device)[:, None] * n_items + items_BF
        gone_BF = gone_BF | torch.isin(keys_BF, excluded.rows * n_items + excluded.items)
    order_BK = gone_BF.byte().argsort(dim=1, stable=True)[:, :k]
    gone_BK = gone_BF.gather(1, order_BK)
    return ItemLists(
        items_BF.gather(1, order_BK).masked_fill(gone_BK, -1),
        log_probs_BF.gather(1, order_BK).masked_fill(gone_BK, -torch.inf),
        reached_BF.gather(1, order_BK) & ~gone_BK,
    )


def ranks_in(lists: ItemLists, targets_B: Tensor) -> Tensor:
    """Mid-rank of each target in its list, float64 [B]; infinity where it is not in it or only fills it.

    A group of items that share their tokens counts as far as it is listed: ask for longer lists than metrics read.
    """
    here_BK = (lists.items_BK == targets_B[:, None]) & lists.reached_BK
    own_B1 = torch.where(here_BK, lists.log_probs_BK, -torch.inf).amax(1, keepdim=True)
    better_B = (lists.log_probs_BK > own_B1).sum(1)
    equal_B = ((lists.log_probs_BK == own_B1) & lists.reached_BK).sum(1)
    return torch.where(here_BK.any(1), better_B + (equal_B + 1) / 2, torch.inf).double()
