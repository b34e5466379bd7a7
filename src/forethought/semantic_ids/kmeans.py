"""k-means, by faiss: centres of points, the same for the same seed."""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS = 25


@torch.no_grad()
def centres_of(points_ND: Tensor, k: int, seed: int, *, start_KD: Tensor | None = None, rounds: int = ITERATIONS):
    """k centres of points, [K, D]; where there are fewer distinct points than centres, the last ones repeat the first.

    Args:
        start_KD: centres to go on from; None: k-means++.
        rounds: of assignment and averaging.
    """
    import faiss

    points = points_ND.detach().float().cpu().contiguous()
    distinct = torch.unique(points, dim=0)
    if len(distinct) <= k:  # each is its own centre
        return torch.cat([distinct, distinct[:1].expand(k - len(distinct), -1)]).to(points_ND.device)
    settings = {"niter": rounds, "seed": seed % 2**31, "min_points_per_centroid": 1}
    settings["init_method"] = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
    means = faiss.Kmeans(points.shape[1], k, max_points_per_centroid=len(points) // k + 1, **settings)
    means.train(
        points.numpy(), init_centroids=None if start_KD is None else start_KD.float().cpu().contiguous().numpy()
    )
    return torch.from_numpy(means.centroids).to(points_ND.device)


def squared_distances(points_BMD: Tensor, words_MCD: Tensor) -> Tensor:
    """||point - word||^2 of each point to all words of its book, [B, M, C]."""
    products_BMC = torch.einsum("bmd,mcd->bmc", points_BMD, words_MCD)
    return (words_MCD.square().sum(-1) - 2 * products_BMC + points_BMD.square().sum(-1, keepdim=True)).clamp_min(0)


def nearest(points_BMD: Tensor, words_MCD: Tensor) -> Tensor:
    """The nearest word of each book, of equally near ones the first, int64 [B, M]."""
    products_BMC = torch.einsum("bmd,mcd->bmc", points_BMD, words_MCD)
    return (words_MCD.square().sum(-1) - 2 * products_BMC).argmin(dim=-1)


def chosen(codes_BM: Tensor, words_MCD: Tensor) -> Tensor:
    """The words of these codes, [B, M, D]."""
    books_M = torch.arange(words_MCD.shape[0], device=codes_BM.device)
    return words_MCD[books_M, codes_BM]
