"""Single histories that come together: each row is answered as if it had come alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from forethought.backbones.sasrec import SASRec
from forethought.catalogue.ann import ANNIndex
from forethought.catalogue.ranking import FilteredItems
from forethought.data.batches import Batch
from forethought.data.interactions import DataSizes
from forethought.errors import ConfigError, DataError, HistoryError
from forethought.evaluation.ranking import among_negatives, rank_cases
from forethought.evaluation.sampled import Sample
from forethought.explaining.explain import ItemMetadata, explain
from forethought.methods.interface import Method, UserRepresentation
from forethought.methods.rearec import ReaRec
from forethought.recommender import Recommender, load
from forethought.row_ranking import RankingRequest, batch_of, rank_rows


def requests(n_items: int) -> list[RankingRequest]:
    some = torch.zeros(n_items, dtype=torch.bool)
    some[: n_items // 2] = True
    few = torch.zeros(n_items, dtype=torch.bool)
    few[[3, 5]] = True
    rows = [np.array(row) for row in ([1], [2, 3, 4], [5, 6], [7, 8, 9, 1, 2], [4, 4, 4])]
    return [
        RankingRequest(rows[0], 3),
        RankingRequest(rows[1], 7, excluded=rows[1], allowed_N=some),
        RankingRequest(rows[2], 40, excluded=np.array([0, 1, 1, 0])),
        RankingRequest(rows[3], 5, allowed_N=few),
        RankingRequest(rows[4], 2, excluded=rows[4], allowed_N=some),
    ]


def test_rows_of_all_kinds_are_answered_as_if_alone(trained: Recommender) -> None:
    asked = requests(len(trained.items))
    together = rank_rows(trained.method, asked)
    assert [len(each.items) for each in together] == [3, 7, 38, 2, 2]
    for request, found in zip(asked, together, strict=True):
        (alone,) = rank_rows(trained.method, [request])
        assert alone.items.tolist() == found.items.tolist()
        np.testing.assert_allclose(alone.scores, found.scores, rtol=1e-5, atol=1e-6)
        with torch.inference_mode():
            state = trained.method.user_states(batch_of([request], trained.method)).states_BD  # type: ignore[attr-defined]
            scores = trained.method.catalogue().scores(state)[0].double().cpu().numpy()
        if request.allowed_N is not None:
            scores[~request.allowed_N.numpy()] = -np.inf
        if request.excluded is not None:
            scores[request.excluded] = -np.inf
        best = np.argsort(-scores, kind="stable")[: request.k]
        assert found.items.tolist() == best[np.isfinite(scores[best])].tolist()


def test_nothing_asked_is_nothing_found(trained: Recommender) -> None:
    assert rank_rows(trained.method, []) == []


def test_an_index_serves_rows_of_all_kinds(trained: Recommender) -> None:
    asked = requests(len(trained.items))
    with torch.inference_mode():
        index = ANNIndex.build(trained.method.catalogue())
    exact, found = rank_rows(trained.method, asked), rank_rows(trained.method, asked, index=index)
    assert [each.items.tolist() for each in found] == [each.items.tolist() for each in exact]


def test_threads_ask_at_once(trained: Recommender) -> None:
    ids = trained.items.id_list(range(len(trained.items)))
    histories = [[ids[n % 40], ids[(n * 7) % 40]] for n in range(24)]
    wanted = [trained.recommend([history], 5)[0].items for history in histories]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda history: trained.recommend([history], 5)[0].items, histories))
    assert found == wanted


def test_an_error_says_which_history_by_a_number(trained: Recommender) -> None:
    ids = trained.items.id_list([0, 1])
    with pytest.raises(HistoryError, match="History 2 has items that the model does not know") as told:
        trained.recommend([ids, ids, ["x {} y"]])
    assert told.value.row == 2
    assert str(told.value.about("Row 7")).startswith("Row 7 has items that the model does not know: 'x {} y'")
    assert isinstance(told.value, DataError)


# ---- a method that comes to no vector a user


@dataclass
class Votes(UserRepresentation):
    """Scores of all items, made without a product."""

    scores_BN: Tensor


class Popularity(Method):
    """Recommends what stands often in the history, then by number: no state, no product."""

    window = 8

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.known = n_items

    def user_states(self, batch: Batch, halting: Any = None, *, trace: bool = False) -> Votes:
        counts = torch.zeros(len(batch.items_BL), self.known)
        counts.scatter_add_(1, batch.items_BL, batch.valid_BL().float())
        return Votes(torch.zeros_like(batch.lengths_B), counts - torch.arange(self.known) / 1000)

    def catalogue(self) -> Any:
        raise AssertionError("it has none")

    def rank_of(
        self, represented: UserRepresentation, targets_B: Tensor, excluded: FilteredItems | None = None
    ) -> Tensor:
        assert isinstance(represented, Votes)
        own = represented.scores_BN.gather(1, targets_B[:, None])
        return 1.0 + (represented.scores_BN > own).sum(1).double()

    def recommend(
        self,
        represented: UserRepresentation,
        k: int,
        excluded: FilteredItems | None = None,
        allowed_N: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        assert isinstance(represented, Votes)
        scores = represented.scores_BN.clone()
        if excluded is not None:
            scores[excluded.rows, excluded.items] = -torch.inf
        if allowed_N is not None:
            scores[:, ~allowed_N] = -torch.inf
        best = scores.topk(min(k, self.known))
        return best.indices.masked_fill(best.values == -torch.inf, -1), best.values

    def scores_of(self, represented: UserRepresentation, items_BM: Tensor) -> Tensor:
        assert isinstance(represented, Votes)
        return represented.scores_BN.gather(1, items_BM)


def test_a_method_without_a_state_ranks_and_recommends(trained: Recommender, split: Any) -> None:
    method = Popularity(len(trained.items))
    found = rank_rows(method, requests(len(trained.items)))
    assert found[0].items.tolist() == [1, 0, 2]
    assert found[3].items.tolist() == [3, 5]
    assert 4 not in found[4].items
    ranked = rank_cases(method, split.test, exclude_history=False, k=3)
    assert ranked.lists is not None
    few = among_negatives(
        method, split.test, split.train.item_counts(40), ranked, Sample(negatives=10), exclude_history=False
    )
    assert ((few.ranks >= 1) & (few.ranks <= 11)).all()


def test_what_needs_a_state_says_so(trained: Recommender) -> None:
    method, asked = Popularity(len(trained.items)), requests(len(trained.items))
    with torch.inference_mode():
        index = ANNIndex.build(trained.method.catalogue())
    with pytest.raises(ConfigError, match=r"Searching in an index needs a model that comes to one vector a user"):
        rank_rows(method, asked, index=index)
    with pytest.raises(ConfigError, match=r"Explaining step by step needs a model that comes to one vector a user"):
        explain(
            method,
            batch_of(asked[:1], method),
            ItemMetadata.read(trained.items, trained.item_table),
            history=np.array([1]),
            dropped=[],
            k=3,
        )


# ---- devices


def test_a_device_that_is_not_there_is_told(trained: Recommender) -> None:
    assert trained.folder is not None
    with pytest.raises(ConfigError, match=r"device is 'gpu', but must be one of auto, cpu, cuda"):
        load(trained.folder, device="gpu")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(Exception, match="shows no CUDA device"):
            load(trained.folder, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device at hand")
def test_a_gpu_gives_the_same_lists(trained: Recommender) -> None:
    assert trained.folder is not None
    ids = trained.items.id_list(range(6))
    on_gpu = load(trained.folder, device="cuda")
    assert on_gpu.device.type == "cuda"
    wanted, found = trained.recommend([ids[:3], ids[2:]]), on_gpu.recommend([ids[:3], ids[2:]])
    assert [one.items for one in found] == [one.items for one in wanted]
    on_gpu.explain(ids)


def test_a_list_says_how_many_steps_it_took() -> None:
    method = ReaRec(backbone=SASRec(width=16, layers=1, window=8), steps=2).build(DataSizes(20, 5)).eval()
    asked = [RankingRequest(np.array([3, 1]), 5), RankingRequest(np.array([2]), 5)]
    assert [ranked.steps for ranked in rank_rows(method, asked)] == [2, 2]
