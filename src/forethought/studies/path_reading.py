"""What a model over tokens makes of each case: its state, its beliefs in tokens, its paths, and where these lead.

Shapes: n cases, B of them in a batch, P paths, T tokens on a path, M codebooks, C codes, N items, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from forethought.catalogue.blocks import accumulator
from forethought.data.batches import Batch, case_batches
from forethought.data.histories import Cases
from forethought.decoding.paths import Paths
from forethought.decoding.token_scores import TokenScorer
from forethought.methods.reg4rec import REG4RecModel
from forethought.methods.rpg import RPGModel

BATCH = 64  # cases whose paths score all items together
Model = REG4RecModel | RPGModel


@dataclass(frozen=True, eq=False)
class PathsRead:
    """What was read of n cases; without paths P and T are 1 and 0.

    Attributes:
        states_nD: the history's state, before any token.
        first_nMC: log-probabilities of all tokens, before any token.
        merged_nMC: the same of the paths, mixed by their weights.
        books_nPT, tokens_nPT: what was decided, in this order; the most probable path of a case first.
        weights_nP: of the paths of a case, sum to one; 0 where there is none.
        best_nP: the item that each path alone thinks most of, among those that may be recommended.
        top_n: the item that all paths together think most of.
        lead_n: the path with the largest share in the score of that item.
    """

    states_nD: np.ndarray
    first_nMC: np.ndarray
    merged_nMC: np.ndarray
    books_nPT: np.ndarray
    tokens_nPT: np.ndarray
    weights_nP: np.ndarray
    best_nP: np.ndarray
    top_n: np.ndarray
    lead_n: np.ndarray

    @property
    def has_paths(self) -> bool:
        return self.books_nPT.shape[2] > 0


@torch.inference_mode()
def read_paths(method: Model, cases: Cases, *, exclude_history: bool) -> PathsRead:
    """All of it, in the order of the cases; items are ranked by paths alone, without evidence."""
    method.eval()
    parts, order = [], []
    for rows, on_cpu in case_batches(cases, method.window, BATCH):
        met = [cases.met[int(row)] for row in rows] if exclude_history else []
        parts.append([part.cpu().numpy() for part in _read(method, on_cpu.to(method.device), met)])
        order.append(rows)
    back = np.argsort(np.concatenate(order))
    return PathsRead(*(np.concatenate(each)[back] for each in zip(*parts, strict=True)))


def _read(method: Model, batch: Batch, met: list[np.ndarray]) -> Iterator[Tensor]:
    states_BD = _states(method, batch)
    first_BMC = method.tokens.log_probs(states_BD)
    paths = method.user_states(batch, trace=True).paths
    assert paths is not None
    weights_BP = paths.weights_BP
    merged_BMC = (paths.table_BPMC + weights_BP[..., None, None]).logsumexp(1)
    yield from (states_BD.float(), first_BMC.float(), merged_BMC.float())
    yield from (paths.books_BPT, paths.tokens_BPT, weights_BP.exp())
    yield from leads(method.tokens.table(paths.table_BPMC), paths, method.tokens.codes_NM, met)


def _states(method: Model, batch: Batch) -> Tensor:
    """The history's states, before any token."""
    if isinstance(method, REG4RecModel):
        first = method.rl_policy().decoder(batch).begin(len(batch.lengths_B))
        return first.states_BPD[:, 0]
    x_BLD = method.tokens(batch.items_BL)
    encoded = method.backbone.encode(x_BLD, batch.lengths_B, times=batch.times_BL, last_only=True)
    return encoded.states_BLD[:, -1]


def leads(table_BPMC: Tensor, paths: Paths, codes_NM: Tensor, met: list[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
    """Where paths lead: `best_BP`, `top_B` and `lead_B`, as `PathsRead` has them.

    The score of an item is ln sum_p w_p exp(s_p), so that path p has the share w_p exp(s_p) in it.

    Args:
        table_BPMC: what each token adds to the score of an item.
        met: items of each row that are not to be recommended; of no row if empty.
    """
    B, P = table_BPMC.shape[:2]
    each_R1MC = table_BPMC.flatten(0, 1)[:, None]
    scorer = TokenScorer(each_R1MC, each_R1MC.new_zeros(B * P, 1), codes_NM)
    room = each_R1MC.new_empty(B * P * scorer.n_items, dtype=accumulator(each_R1MC.dtype))
    scores_BPN = scorer.scores(slice(0, B * P), slice(0, scorer.n_items), room).view(B, P, -1)
    for row, items in enumerate(met):
        scores_BPN[row, :, torch.from_numpy(items.astype(np.int64)).to(scores_BPN.device)] = -torch.inf
    best_BP = scores_BPN.argmax(-1)
    shares_BPN = scores_BPN.add_(paths.weights_BP[..., None])
    top_B = shares_BPN.logsumexp(1).argmax(-1)
    lead_B = shares_BPN.gather(2, top_B[:, None, None].expand(-1, P, -1))[..., 0].argmax(1)
    return best_BP, top_B, lead_B
