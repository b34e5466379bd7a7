"""What clusters as Gaussians say of all items, against sums over every item."""

from __future__ import annotations

import math

import pytest
import torch

from forethought.catalogue.catalogue import Catalogue
from forethought.reasoning.halting import SoftmaxStats, indicators, softmax_stats
from forethought.reasoning.prototypes import Prototypes
from forethought.reasoning.spread import Spread

N, D, P = 60, 5, 40


@pytest.fixture(autouse=True)
def drawn() -> None:
    torch.manual_seed(0)


def measured(items: Catalogue, cluster_N: torch.Tensor, clusters: int) -> Spread:
    spread = Spread(clusters, len(items), items.scaled_ND.shape[1]).double()
    spread.make(items, cluster_N, epoch=0)
    return spread


def drawn_items(*, bias: bool = False) -> Catalogue:
    vectors = torch.randn(N, D, dtype=torch.float64)
    return Catalogue(vectors, bias_N=torch.randn(N, dtype=torch.float64) if bias else None, temperature=0.7)


def states_of(items: Catalogue, rows: int = P) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled states, and the item that each history ends with."""
    return items.scaled(torch.randn(rows, D, dtype=torch.float64)), torch.randint(0, N, (rows,))


def same(got: SoftmaxStats, wanted: SoftmaxStats) -> None:
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("bias", [False, True])
def test_a_look_is_a_sum_over_items_as_their_clusters_tell_them(bias: bool) -> None:
    """Each item scores what its cluster's Gaussian comes to, but the last one of the history, which scores its own."""
    items, cluster_N = drawn_items(bias=bias), torch.arange(N) % 7
    r, last = states_of(items)
    e = items.scaled_ND
    around = torch.stack([e[i] - e[cluster_N == c].mean(0) for i, c in enumerate(cluster_N)])
    W = torch.einsum("nd,ne->de", around, around) / N
    scores, slopes = torch.empty(P, N, dtype=torch.float64), torch.empty(P, N, e.shape[1], dtype=torch.float64)
    for i, c in enumerate(cluster_N):
        members = cluster_N == c
        a = around[members].square().sum(1).mean() / torch.diagonal(W).sum()
        middle = e[members].mean(0)
        scores[:, i] = r @ middle + a / 2 * torch.einsum("pd,de,pe->p", r, W, r)
        slopes[:, i] = middle + a * r @ W
    rows = torch.arange(P)
    scores[rows, last], slopes[rows, last] = (r * e[last]).sum(1), e[last]
    mean = torch.einsum("pn,pnd->pd", scores.softmax(1), slopes)
    same(measured(items, cluster_N, 7).stats(r, last, items), SoftmaxStats(r, scores.logsumexp(1), mean))


def test_clusters_of_one_item_each_see_all() -> None:
    items = drawn_items(bias=True)
    r, last = states_of(items)
    same(measured(items, torch.randperm(N), N).stats(r, last, items), softmax_stats(r, items))


def test_items_that_do_not_spread_are_seen_as_by_prototypes() -> None:
    items = Catalogue(torch.randn(6, D, dtype=torch.float64)[torch.arange(N) % 6], temperature=0.7)
    made = Prototypes([6], N, D, unit=False).double()
    made.make(items, epoch=0)
    centres, sizes = made.level(0)
    r, last = states_of(items)
    spread = measured(items, made.cluster_TN[0], 6)
    same(spread.stats(r, last, items), softmax_stats(r, Catalogue(centres), sizes))
    assert spread.shape_DD.abs().max() < 1e-12


def test_clusters_without_items_count_for_nothing() -> None:
    items, cluster_N = drawn_items(), torch.arange(N) % 3
    r, last = states_of(items)
    more = measured(items, cluster_N + 2, 9)
    same(more.stats(r, last, items), measured(items, cluster_N, 3).stats(r, last, items))


def test_entropies_and_divergences_are_nearer_to_exact_ones_than_those_of_prototypes() -> None:
    """Chains that begin near one item and lead away from it, among items that lie in loose clusters."""
    middles = torch.randn(8, 16, dtype=torch.float64)
    vectors = middles[torch.arange(800) % 8] + 0.8 * torch.randn(800, 16, dtype=torch.float64)
    items = Catalogue(vectors, temperature=0.2, cosine=True)
    made = Prototypes([8], 800, 16, unit=True).double()
    made.make(items, epoch=0)
    spread = Spread(8, 800, 16).double()
    spread.make(items, made.cluster_TN[0], epoch=0)
    centres, sizes = made.level(0)
    last = torch.randint(0, 800, (300,))
    pull = torch.rand(300, 1, dtype=torch.float64)
    towards = middles[torch.randint(0, 8, (300,))] + 0.5 * torch.randn(300, 16, dtype=torch.float64)
    before, now = (items.scaled((1 - share) * vectors[last] + share * towards) for share in (pull, 0.5 + 0.5 * pull))
    looks = {
        "exact": lambda r: softmax_stats(r, items),
        "coarse": lambda r: softmax_stats(r, Catalogue(centres), sizes),
        "refined": lambda r: spread.stats(r, last, items),
    }
    told = {name: indicators(look(before), look(now), pull[:, 0], 800, 16) for name, look in looks.items()}
    for which in (0, 1):
        coarse, refined = (
            float(torch.corrcoef(torch.stack([told[name][:, which], told["exact"][:, which]]))[0, 1])
            for name in ("coarse", "refined")
        )
        assert refined > 0.95
        assert 1 - refined < (1 - coarse) / 2
    assert told["refined"][:, 1].min() >= 0


def test_the_longest_scores_stay_finite_in_single_precision() -> None:
    items = Catalogue(torch.randn(N, D))
    spread = Spread(4, N, D)
    spread.make(items, torch.arange(N) % 4, epoch=0)
    r, last = 300 * torch.randn(P, D), torch.randint(0, N, (P,))
    of = spread.stats(r, last, items)
    wide = Spread(4, N, D).double()
    wide.make(Catalogue(items.vectors_ND.double()), torch.arange(N) % 4, epoch=0)
    wanted = wide.stats(r.double(), last, Catalogue(items.vectors_ND.double()))
    torch.testing.assert_close(of.lse_P.double(), wanted.lse_P, rtol=1e-4, atol=1e-2)
    assert of.mean_PD.isfinite().all()


def test_measured_once_an_epoch_and_saved_with_the_weights() -> None:
    items, cluster_N = drawn_items(), torch.arange(N) % 7
    spread = measured(items, cluster_N, 7)
    kept = {name: tensor.clone() for name, tensor in spread.state_dict().items()}
    spread.make(Catalogue(2 * items.vectors_ND), cluster_N, epoch=0)
    again = Spread(7, N, D).double()
    again.load_state_dict(spread.state_dict())
    again.make(Catalogue(2 * items.vectors_ND), cluster_N, epoch=0)
    for name, tensor in kept.items():
        assert torch.equal(spread.state_dict()[name], tensor)
        assert torch.equal(again.state_dict()[name], tensor)
    again.make(Catalogue(2 * items.vectors_ND), cluster_N, epoch=1)
    torch.testing.assert_close(again.shape_DD, 4 * kept["shape_DD"])


def test_items_that_came_later_are_of_the_cluster_they_were_put_into() -> None:
    """They change nothing that was measured, and one that ends a history stands in for a member of its cluster."""
    items, cluster_N = drawn_items(), torch.arange(N) % 7
    spread = measured(items, cluster_N, 7)
    longer = Spread(7, N + 2, D).double()
    longer.load_state_dict(spread.state_dict() | {"cluster_N": torch.cat([cluster_N, torch.zeros(2).long()])})
    longer.join(torch.cat([cluster_N, torch.tensor([3, 5])]), N)
    assert longer.cluster_N.tolist() == [*cluster_N.tolist(), 3, 5]
    grown = Catalogue(torch.cat([items.vectors_ND, items.vectors_ND[[3, 5]]]), temperature=0.7)
    r, _ = states_of(items, 2)
    same(longer.stats(r, torch.tensor([N, N + 1]), grown), spread.stats(r, torch.tensor([3, 5]), items))
    assert math.isfinite(float(longer.stats(r, torch.tensor([N, N + 1]), grown).lse_P.sum()))
