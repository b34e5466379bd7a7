"""What items are tokenised by: their features, and in company of which items users meet them.

Shapes: N items, F inputs, E numbers of a collaborative vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor

from forethought.data.features import Feature, FeatureScale, feature_scale
from forethought.data.neighbours import met_near
from forethought.data.splits import Split
from forethought.errors import DataError

TAG_WIDTH = 64  # numbers that the tags of a feature are projected to
TAG_SEED = 20_230  # of the projection, the same for ever: new items are read by it too
TAG_SHARE = 0.25  # of what vectors count; docs/tokenize.md says what it changes
FULL_WIDTH = 64  # numbers of a vector that counts in full
WINDOW = 20  # places apart
CONTEXT_POWER = 0.75  # of an item's count as a neighbour (Levy et al. 2015), so that rare ones count less
COLLABORATIVE = "collaborative"


class Collaborative(NamedTuple):
    """Vectors of who meets which items that were made elsewhere, in the place of those of co-occurrence.

    Attributes:
        vectors_NE: zeros, which are the mean, for items of which nothing is known.
        of: where they come from, as JSON.
    """

    vectors_NE: Tensor
    of: Mapping[str, Any]


def tokenizer_inputs(features: Sequence[Feature], collaborative_NE: Tensor | None) -> Tensor:
    """Features side by side, then the collaborative vectors, [N, F], float32.

    Vectors and numbers stand as they are; tags are the sum of a fixed random direction each.

    Args:
        collaborative_NE: zeros for items that training never met; None: no such part.

    Raises:
        DataError: neither features nor collaborative vectors.
    """
    parts = [_tags(each) if each.shape.kind == "tags" else torch.from_numpy(each.values) for each in features]
    parts += [] if collaborative_NE is None else [collaborative_NE]
    if not parts:
        raise DataError(
            "Nothing is known that items could be tokenised by: give features (--features text, or columns of the item "
            "table), or collaborative vectors."
        )
    return torch.cat([part.float() for part in parts], dim=1)


def source_weights(features: Sequence[Feature], collaborative_width: int) -> Tensor:
    """How much a deviation counts in each standardised input, [F], 1 on average of the squares.

    A source counts as a whole, however many numbers it has: vectors fully, tags a quarter of it, as many items share
    all of theirs and would share all tokens, and less than 64 numbers in proportion.
    """
    shares = [(_width(each), TAG_SHARE if each.shape.kind == "tags" else _share(each.shape.width)) for each in features]
    shares += [(collaborative_width, 1.0)] if collaborative_width else []
    scale = sum(width for width, _ in shares) / sum(share for _, share in shares)
    return torch.cat([torch.full((width,), (share * scale / width) ** 0.5) for width, share in shares])


def _width(feature: Feature) -> int:
    return TAG_WIDTH if feature.shape.kind == "tags" else feature.shape.width


def _share(width: int) -> float:
    return min(width, FULL_WIDTH) / FULL_WIDTH


def input_json(
    features: Sequence[Feature], collaborative_width: int, of: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The sources as a run's description has them.

    Args:
        of: where collaborative vectors come from; None: the training part itself.
    """
    described = [each.to_json() for each in features]
    if collaborative_width:
        described.append({"name": COLLABORATIVE, "kind": COLLABORATIVE, "width": collaborative_width})
        described[-1] |= {} if of is None else {"of": dict(of)}
    return described


def input_scales(sources: Sequence[Mapping[str, Any]]) -> dict[str, FeatureScale]:
    """What the features among the sources were made with, by their names."""
    return {str(each["name"]): feature_scale(each["scale"]) for each in sources if each["kind"] != COLLABORATIVE}


def _tags(feature: Feature) -> Tensor:
    """Directions of an item's tags added up, over the root of their number, [N, W]."""
    draw = torch.Generator().manual_seed(TAG_SEED)
    directions = torch.randn(feature.shape.tags, TAG_WIDTH, generator=draw) / TAG_WIDTH**0.5
    directions = torch.cat([directions, torch.zeros(1, TAG_WIDTH)])  # what fills up a row
    values = torch.from_numpy(feature.values).long()
    counts_N1 = (values < feature.shape.tags).sum(1, keepdim=True).clamp_min(1)
    return torch.nn.functional.embedding_bag(values, directions, mode="sum") / counts_N1.sqrt()


def collaborative_vectors(split: Split, width: int) -> Tensor:
    """Vectors of which items users of the training part met near each other, float32 [N, E].

    U sqrt(S) of the singular values of the positive pointwise mutual information, centred over the items that have
    neighbours, so that 0 is the mean; 0 for those that have none.
    """
    information = positive_information(split)
    n_items = split.data.n_items
    vectors_NE = np.zeros((n_items, width))
    met_N = np.diff(information.indptr) > 0
    rank = min(width, int(met_N.sum()) - 1)
    if rank >= 1:
        start = np.random.default_rng(0).standard_normal(n_items)
        left, S_E, _ = svds(information, k=rank, v0=start, return_singular_vectors="u")  # type: ignore[arg-type]
        order = np.argsort(-S_E, kind="stable")
        U_NE, S_E = np.asarray(left)[:, order], S_E[order]
        largest = U_NE[np.abs(U_NE).argmax(0), np.arange(rank)]
        vectors_NE[:, :rank] = U_NE * np.sign(largest) * np.sqrt(S_E)
        vectors_NE[met_N] -= vectors_NE[met_N].mean(0)
        vectors_NE[~met_N] = 0.0
    return torch.from_numpy(vectors_NE.astype(np.float32))


def followers(split: Split) -> Tensor:
    """Items of the training part and what came right after each, rows of both, int64 [P, 2]; repeats left out."""
    train = split.train
    lengths = train.lengths
    owner = np.repeat(np.arange(len(train)), lengths)
    starts = np.repeat(train.starts - np.cumsum(lengths) + lengths, lengths)
    items = train.histories.items[np.arange(len(owner)) + starts].astype(np.int64)
    pairs_P2 = np.stack([items[:-1], items[1:]], axis=1)
    follows = (owner[1:] == owner[:-1]) & (pairs_P2[:, 0] != pairs_P2[:, 1])
    return torch.from_numpy(pairs_P2[follows])


def positive_information(split: Split) -> sparse.csr_array:
    """max(0, log p(j, i) / (p(j) q(i))) of pairs met near each other, [N, N]; q prefers rare items somewhat."""
    weighted, _ = met_near(split.train, split.data.n_items, WINDOW)
    pairs = sparse.coo_array(weighted + weighted.T)
    sums_N = np.asarray(pairs.sum(axis=1)).ravel()
    context_N = sums_N**CONTEXT_POWER
    context_N = context_N / max(context_N.sum(), 1e-30)
    rows, columns = pairs.coords
    values = np.log(np.maximum(pairs.data, 1e-30) / (sums_N[rows] * context_N[columns]))
    positive = values > 0
    at = rows[positive], columns[positive]
    return sparse.csr_array((values[positive], at), shape=pairs.shape)
