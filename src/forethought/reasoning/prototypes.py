"""Prototypes: centres of clusters of item vectors, few and coarse at first, many and fine later.

Hierarchical Process Supervision is DTRec's (arXiv 2512.14036, section 3.1). k-means is faiss's.

Shapes: N items, D width, T levels (one a step), K centres of all levels together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.catalogue.blocks import accumulator
from forethought.catalogue.catalogue import Catalogue

ITERATIONS = 20


def cluster_counts(first: int, most: int, speed: float, steps: int, n_items: int) -> list[int]:
    """k_t = k_upper - (k_upper - k_0) exp(-alpha (t - 1)) for t = 1 .. T, whole and within [2, N] (eq. 3)."""
    exact = [most - (most - first) * math.exp(-speed * t) for t in range(steps)]
    return [min(max(round(k), 2), n_items) for k in exact]


class Prototypes(nn.Module):
    """Centres of every level, which items they stand for, and the epoch they were made in.

    All of it are buffers: a resumed training finds the centres of its epoch, a loaded model those it was saved with.
    """

    item_dims: ClassVar[Mapping[str, int]] = {"cluster_TN": 1}
    of_its_training: ClassVar[tuple[str, ...]] = ("centres_KD", "sizes_K", "cluster_TN", "made_in")
    centres_KD: Tensor
    sizes_K: Tensor
    cluster_TN: Tensor
    made_in: Tensor

    def __init__(self, counts: list[int], n_items: int, width: int, *, unit: bool) -> None:
        super().__init__()
        self.counts, self.unit = counts, unit
        self.register_buffer("centres_KD", torch.zeros(sum(counts), width))
        self.register_buffer("sizes_K", torch.zeros(sum(counts), dtype=torch.int64))
        self.register_buffer("cluster_TN", torch.zeros(len(counts), n_items, dtype=torch.int64))
        self.register_buffer("made_in", torch.tensor(-1))

    def level(self, t: int) -> tuple[Tensor, Tensor]:
        """Centres [k_t, D] and sizes [k_t] of level t, counted from 0."""
        first = sum(self.counts[:t])
        rows = slice(first, first + self.counts[t])
        return self.centres_KD[rows], self.sizes_K[rows]

    def as_states(self, t: int, catalogue: Catalogue, temperature_scale: float) -> Tensor:
        """Centres of level t, made of scaled items, as scaled states that predict items, [k_t, D].

        Args:
            temperature_scale: temperature of their predictions, in units of the catalogue's.
        """
        states_KD = self.level(t)[0] / (catalogue.temperature * temperature_scale)
        if catalogue.bias_N is not None:  # the last coordinate stands against biases, which count in full
            states_KD[:, -1] = 1.0
        return states_KD.to(catalogue.vectors_ND.dtype)

    def clusters_of(self, t: int, items: Tensor) -> Tensor:
        """The cluster of each item at level t."""
        return self.cluster_TN[t][items]

    @torch.no_grad()
    def nearest(self, t: int, vectors_PD: Tensor) -> Tensor:
        """The cluster of level t whose centre is nearest to each vector, [P]: by angle with `unit`.

        Args:
            vectors_PD: comparable, a bias left out; clusters without items are nobody's.
        """
        centres_KD, sizes_K = self.level(t)
        vectors_PD, centres_KD = vectors_PD.to(centres_KD), centres_KD[:, : vectors_PD.shape[-1]]
        if self.unit:
            vectors_PD, centres_KD = F.normalize(vectors_PD, dim=-1), F.normalize(centres_KD, dim=-1)
        return torch.cdist(vectors_PD, centres_KD).masked_fill(sizes_K == 0, torch.inf).argmin(dim=1)

    @torch.no_grad()
    def join(self, catalogue: Catalogue, first: int) -> None:
        """Put the items from row `first` on, which came later, into the clusters whose centres are nearest."""
        items_MD = catalogue.scaled_ND[first:]
        items_MD = F.normalize(items_MD, dim=-1) if self.unit else items_MD
        for t in range(len(self.counts) if int(self.made_in) >= 0 else 0):
            centres_KD = self.level(t)[0].to(items_MD)
            centres_KD = F.normalize(centres_KD, dim=-1) if self.unit else centres_KD
            self.cluster_TN[t, first:] = torch.cdist(items_MD, centres_KD).argmin(dim=1)

    @torch.no_grad()
    def make(self, catalogue: Catalogue, epoch: int, seed: int = 0) -> None:
        """Cluster the scaled items at every level, from the last centres where there are any; once an epoch.

        Centres are scaled to the mean norm of their members (8.3): a mean of vectors is shorter than they are, and a
        short prototype says little. With `unit`, items and centres have length 1 and clusters are by angle.

        Raises:
            ConfigError: the items are split over processes.
        """
        catalogue = catalogue.whole("Clustering items into prototypes")
        if int(self.made_in) == epoch:
            return
        items_ND = catalogue.scaled_ND
        vectors = items_ND.to(accumulator(items_ND.dtype))
        vectors = F.normalize(vectors, dim=-1) if self.unit else vectors
        for t, k in enumerate(self.counts):
            first = sum(self.counts[:t])
            old = self.centres_KD[first : first + k] if int(self.made_in) >= 0 else None
            cluster_N = _kmeans(vectors, k, old, self.unit, seed + t)
            sizes = torch.bincount(cluster_N, minlength=k)
            sums = vectors.new_zeros(k, vectors.shape[1]).index_add_(0, cluster_N, vectors)
            norms = vectors.new_zeros(k).index_add_(0, cluster_N, vectors.norm(dim=-1))
            norms = norms / sizes.clamp_min(1)
            self.centres_KD[first : first + k] = F.normalize(sums, dim=-1) * norms[:, None]
            self.sizes_K[first : first + k], self.cluster_TN[t] = sizes, cluster_N
        self.made_in.fill_(epoch)


def _kmeans(vectors_ND: Tensor, k: int, start_KD: Tensor | None, unit: bool, seed: int) -> Tensor:
    """The cluster of each vector; deterministic for a seed. faiss looks for them in float32."""
    import faiss

    points = vectors_ND.float().cpu().contiguous().numpy()
    settings = {"niter": ITERATIONS, "spherical": unit, "seed": seed, "min_points_per_centroid": 1}
    settings["init_method"] = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
    means = faiss.Kmeans(points.shape[1], k, max_points_per_centroid=len(points) // k + 1, **settings)
    means.train(points, init_centroids=None if start_KD is None else start_KD.float().cpu().contiguous().numpy())
    return torch.from_numpy(means.index.search(points, 1)[1][:, 0]).to(vectors_ND.device)
