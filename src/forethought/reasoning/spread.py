"""How items spread around the means of their clusters: a look at few clusters that sees nearly what all items say.

Prototypes stand for their members as if all of them lay in one place. But scaled states are long, and the scores of one
cluster's members differ by nats: the softmax lies on those that point a state's way. And one item as a rule outdoes
all others: the one that the history ends with, beside which the chain begins. Here

- the members of cluster c are Gaussian around their mean m_c with covariance a_c W, one shape W for all clusters, as
  wide as each is; so for a scaled state r all is known in closed form, p = softmax(z) being over clusters:

      z_c     = ln n_c + r.m_c + a_c r'Wr / 2
      lse(r)  = ln sum_c exp(z_c)
      mean(r) = sum_c p_c (m_c + a_c W r)             the gradient of lse

- the last item of the history is taken out of its cluster, and counts by its own vector.

On Amazon Beauty (DTRec's defaults: 32 clusters of 12,101 items) the entropies and divergences that follow correlate
above .9 with exact ones, from the second epoch to the last, where prototypes come to .3 to .7; docs/methods.md has the
figures. What stays unseen is a few items that stand out of a cluster and are not the last of the history: more
clusters see them.

Shapes: P rows, N items, D width, K clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from forethought.catalogue.blocks import accumulator
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import moments
from forethought.reasoning.halting import SoftmaxStats

EMPTY = 1e-30  # items of a cluster without any: nothing beside one item, and has a logarithm


class Spread(nn.Module):
    """Means, sizes and widths of clusters and the shape that they have in common, and which item is in which.

    All of it are buffers, as prototypes are, and stand beside them as of the same epoch.
    """

    item_dims: ClassVar[Mapping[str, int]] = {"cluster_N": 0}
    of_its_training: ClassVar[tuple[str, ...]] = (
        *("means_KD", "sizes_K", "widths_K", "shape_DD", "cluster_N"),
        "made_in",
    )
    means_KD: Tensor
    sizes_K: Tensor
    widths_K: Tensor
    shape_DD: Tensor
    cluster_N: Tensor
    made_in: Tensor

    def __init__(self, clusters: int, n_items: int, width: int) -> None:
        super().__init__()
        self.register_buffer("means_KD", torch.zeros(clusters, width))
        self.register_buffer("sizes_K", torch.zeros(clusters, dtype=torch.int64))
        self.register_buffer("widths_K", torch.zeros(clusters))
        self.register_buffer("shape_DD", torch.zeros(width, width))
        self.register_buffer("cluster_N", torch.zeros(n_items, dtype=torch.int64))
        self.register_buffer("made_in", torch.tensor(-1))

    @torch.no_grad()
    def make(self, catalogue: Catalogue, cluster_N: Tensor, epoch: int) -> None:
        """Measure the clusters of the scaled items; once an epoch.

        W is the mean of (e - m)(e - m)' over all items, and a_c a cluster's mean squared distance from its mean in
        units of W's trace: 1 on average over items, 0 for a single item. One product of (items x D x D).

        Raises:
            ConfigError: the items are split over processes.
        """
        items_ND = catalogue.whole("Measuring how items spread in their clusters").scaled_ND
        if int(self.made_in) == epoch:
            return
        items_ND = items_ND.to(accumulator(items_ND.dtype))
        sizes_K = torch.bincount(cluster_N, minlength=len(self.sizes_K))
        some_K = sizes_K.clamp_min(1)
        sums_KD = torch.zeros_like(self.means_KD, dtype=items_ND.dtype).index_add_(0, cluster_N, items_ND)
        means_KD = sums_KD / some_K[:, None]
        off_ND = items_ND - means_KD[cluster_N]
        squares_K = items_ND.new_zeros(len(sizes_K)).index_add_(0, cluster_N, off_ND.square().sum(-1)) / some_K
        shape_DD = off_ND.T @ off_ND / len(items_ND)
        self.means_KD.copy_(means_KD)
        self.sizes_K.copy_(sizes_K)
        self.widths_K.copy_(squares_K / shape_DD.trace().clamp_min(torch.finfo(shape_DD.dtype).tiny))
        self.shape_DD.copy_(shape_DD)
        self.cluster_N.copy_(cluster_N)
        self.made_in.fill_(epoch)

    @torch.no_grad()
    def join(self, cluster_N: Tensor, first: int) -> None:
        """Items from row `first` on came later, and were put into these clusters; what was measured stays."""
        self.cluster_N[first:] = cluster_N[first:]

    @torch.no_grad()
    def stats(self, states_PD: Tensor, last_P: Tensor, catalogue: Catalogue) -> SoftmaxStats:
        """The softmax over all items, guessed, for scaled states.

        A product of (rows x D x D) and two of (rows x clusters x D + 2). The state's r'Wr / 2 is a coordinate that
        stands against a cluster's width, so that the sum over clusters is one over a catalogue.

        Args:
            last_P: the last item of each state's history.
            catalogue: the items as they are now.
        """
        wide = accumulator(states_PD.dtype)
        # twice, not around all: torch.export does not read back a program with one such region inside another
        with torch.autocast(states_PD.device.type, enabled=False):
            r_PD, last_PD = states_PD.to(wide), catalogue.scaled_of(last_P).to(wide)
            turned_PD = r_PD @ self.shape_DD.to(wide)
            half_P1 = (r_PD * turned_PD).sum(-1, keepdim=True) / 2
            counted = torch.cat([half_P1, torch.ones_like(half_P1), r_PD], dim=-1)
        of = moments(counted, Catalogue(self._clusters(wide)))
        with torch.autocast(states_PD.device.type, enabled=False):
            lse_P1, width_P1, mean_PD = of.lse_P[:, None], of.mean_PD[:, :1], of.mean_PD[:, 2:]

            at_P = self.cluster_N[last_P]  # the last item as one of its cluster, and as it is, both relative to all
            its_width_P1, middle_PD = self.widths_K[at_P].to(wide)[:, None], self.means_KD[at_P].to(wide)
            guessed_P1 = (r_PD * middle_PD).sum(-1, keepdim=True) + its_width_P1 * half_P1 - lse_P1
            own_P1 = (r_PD * last_PD).sum(-1, keepdim=True) - lse_P1
            top_P1 = own_P1.clamp_min(0)
            all_P1, off_P1, own_P1 = (-top_P1).exp(), (guessed_P1 - top_P1).exp(), (own_P1 - top_P1).exp()
            total_P1 = (all_P1 - off_P1 + own_P1).clamp_min(torch.finfo(wide).tiny)
            all_P1, off_P1, own_P1 = all_P1 / total_P1, off_P1 / total_P1, own_P1 / total_P1
            mean_PD = (mean_PD * all_P1).addcmul_(turned_PD, all_P1 * width_P1 - off_P1 * its_width_P1)
            mean_PD.addcmul_(middle_PD, off_P1, value=-1).addcmul_(last_PD, own_P1)
            return SoftmaxStats(states_PD, (lse_P1 + top_P1 + total_P1.log())[:, 0], mean_PD)

    def _clusters(self, dtype: torch.dtype) -> Tensor:
        """Each cluster's width, the logarithm of its size and its mean, [K, D + 2]."""
        sizes_K = self.sizes_K.to(dtype).clamp_min(EMPTY)
        return torch.cat([self.widths_K[:, None].to(dtype), sizes_K.log()[:, None], self.means_KD.to(dtype)], dim=-1)
