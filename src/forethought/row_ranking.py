"""Ranking for single histories that come together: each row with its own length of list, exclusions and filter.

What `recommend`, the scoring of whole tables and a service have in common. It knows rows of items and no ids; nothing
in it is kept between calls, so any number of threads may call it at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from forethought.catalogue.ann import Index
from forethought.catalogue.ranking import FilteredItems
from forethought.data.batches import Batch, history_batch
from forethought.data.histories import Histories
from forethought.decoding.constraints import Constraints
from forethought.methods.interface import Method, UserRepresentation, dense_states
from forethought.reasoning.halting import Halting


@dataclass(frozen=True)
class RankingRequest:
    """What is asked for one history.

    Attributes:
        history: int64 item rows, oldest first, at least one.
        k: length of the list.
        times: Unix seconds of each item, where the method reads them.
        excluded: item rows that are no candidates.
        allowed_N: True for the items that alone are candidates; requests that share a tensor are ranked together.
    """

    history: np.ndarray
    k: int
    times: np.ndarray | None = None
    excluded: np.ndarray | None = None
    allowed_N: Tensor | None = None


class RankedList(NamedTuple):
    """The answer to one request: item rows and their scores, best first; fewer than k where candidates run out.

    Attributes:
        steps: of reasoning that it took, 0 where the method does not reason.
    """

    items: np.ndarray
    scores: np.ndarray
    steps: int = 0


@torch.inference_mode()
def rank_rows(
    method: Method,
    requests: Sequence[RankingRequest],
    *,
    halting: Halting | None = None,
    index: Index | None = None,
    constraints: Constraints | None = None,
) -> list[RankedList]:
    """The lists of all requests, in their order; histories are encoded together.

    Args:
        halting: when to stop reasoning; None: as the method is configured.
        index: searched instead of ranking all items.
        constraints: what paths over tokens obey, beside the filters of the requests.

    Raises:
        ConfigError: an index is given and the method comes to no vector a user.
    """
    if not requests:
        return []
    represented = method.represent(batch_of(requests, method), halting, constraints=constraints)
    lists: list[RankedList | None] = [None] * len(requests)
    for rows in _same_filter(requests):
        alike = [requests[row] for row in rows]
        part = represented if len(rows) == len(requests) else represented.select(torch.tensor(rows).to(method.device))
        for row, ranked in zip(rows, _ranked(method, part, alike, index), strict=True):
            lists[row] = ranked
    return [each for each in lists if each is not None]


def batch_of(requests: Sequence[RankingRequest], method: Method) -> Batch:
    """The histories as the method reads them, of nobody in particular: a history does not say whose it is."""
    flat = Histories.from_lists([request.history for request in requests])
    if method.inputs.times:
        times = [request.times for request in requests if request.times is not None]
        flat = Histories(flat.items, flat.offsets, np.concatenate(times))
    batch = history_batch(flat.all(), method.window)
    return replace(batch, users_B=torch.full((len(requests),), -1)).to(method.device)


def _same_filter(requests: Sequence[RankingRequest]) -> list[list[int]]:
    """Rows that share a filter, in the order in which filters come."""
    alike: dict[int, list[int]] = {}
    for row, request in enumerate(requests):
        alike.setdefault(id(request.allowed_N), []).append(row)
    return list(alike.values())


def _ranked(
    method: Method, represented: UserRepresentation, requests: Sequence[RankingRequest], index: Index | None
) -> list[RankedList]:
    allowed_N = requests[0].allowed_N
    allowed_N = None if allowed_N is None else allowed_N.to(method.device)
    excluded, k = _excluded(requests, method.device), max(request.k for request in requests)
    if index is None:
        items_BK, scores_BK = method.recommend(represented, k, excluded, allowed_N)
    else:
        states_BD = dense_states(represented, "Searching in an index").states_BD
        items_BK, scores_BK = index.search(states_BD, k, excluded, allowed_N)
    items, scores = items_BK.cpu().numpy(), scores_BK.double().cpu().numpy()
    lists, steps = [], represented.steps_B.tolist()
    for row, request in enumerate(requests):
        real = items[row, : request.k] >= 0
        lists.append(RankedList(items[row, : request.k][real], scores[row, : request.k][real], int(steps[row])))
    return lists


def _excluded(requests: Sequence[RankingRequest], device: torch.device) -> FilteredItems | None:
    if all(request.excluded is None for request in requests):
        return None
    once = [np.zeros(0, np.int64) if r.excluded is None else np.unique(r.excluded).astype(np.int64) for r in requests]
    owner = np.repeat(np.arange(len(once)), [len(items) for items in once])
    return FilteredItems(torch.from_numpy(owner).to(device), torch.from_numpy(np.concatenate(once)).to(device))
