"""Items for tests of tokenizers: groups of points with some noise, a split of few users, features of its items."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from torch import Tensor

from forethought.data.features import Feature, of_column, of_vectors
from forethought.data.histories import Histories
from forethought.data.interactions import Interactions
from forethought.data.splits import Split, leave_last_out
from forethought.data.vocabulary import Vocabulary
from forethought.semantic_ids.mpq import MPQ
from forethought.semantic_ids.opq import OPQ
from forethought.semantic_ids.random_tokens import RandomTokens
from forethought.semantic_ids.rq_kmeans import RQKMeans
from forethought.semantic_ids.rq_vae import RQVAE
from forethought.semantic_ids.tokenizer import TokenizerConfig

SMALL = {"codebooks": 3, "size": 8, "components": 6}
CONFIGS: dict[str, TokenizerConfig] = {
    "mpq": MPQ(**SMALL, hidden=8, epochs=6, continuous=2, batch=64),
    "mpq-xcov": MPQ(**SMALL, hidden=8, epochs=3, continuous=1, batch=64, decorrelate="xcov"),
    "mpq-cosine": MPQ(**SMALL, hidden=8, epochs=3, continuous=1, batch=64, decorrelate="cosine", gate=False),
    "mpq-untrained": MPQ(**SMALL, hidden=8, epochs=0),
    "mpq-soft": MPQ(**SMALL, hidden=8, epochs=6, continuous=2, batch=64, behaviour_weight=1.0, behaviour_epochs=4),
    "rq_vae": RQVAE(**SMALL, hidden=16, latent=4, epochs=6, continuous=2, batch=64),
    "rq_vae-letter": RQVAE(
        **SMALL,
        **{"hidden": 16, "latent": 4, "epochs": 6, "continuous": 2, "batch": 64},
        **{"collaborative_weight": 0.01, "diversity_weight": 0.1, "diversity_groups": 3},
    ),
    "rq_kmeans": RQKMeans(**SMALL),
    "opq": OPQ(**SMALL, turns=3),
    "random": RandomTokens(**SMALL),
}


def points(n: int = 120, width: int = 10, seed: int = 0) -> Tensor:
    """Points in 6 groups, of several scales and means a dimension."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(6, width, generator=draw)
    values = centres[torch.arange(n) % 6] + 0.3 * torch.randn(n, width, generator=draw)
    return values * (1 + torch.arange(width)) + 5


def met_vectors(n: int, width: int = 4) -> Tensor:
    """Collaborative vectors of points, of which nobody met every seventh."""
    vectors = torch.randn(n, width, generator=torch.Generator().manual_seed(9))
    vectors[::7] = 0.0
    return vectors


def follows(n: int) -> Tensor:
    """Pairs of points that follow each other: each point's group is followed by the next group."""
    return torch.stack([torch.arange(n - 1), torch.arange(1, n)], 1)


def behaviour(n: int) -> dict[str, Tensor]:
    """What a fit is told of who meets points."""
    return {"collaborative_NE": met_vectors(n), "follows_P2": follows(n)}


def toy_split(n_items: int = 40, n_users: int = 30, seed: int = 0) -> Split:
    """Users who walk along the items; the last two items are met in no training part."""
    draw = np.random.default_rng(seed)
    rows = [[int(first + step) % (n_items - 2) for step in range(6)] for first in draw.integers(0, n_items, n_users)]
    rows[0][-2:] = [n_items - 2, n_items - 1]
    ids = pl.Series("item_id", [f"i{row:03d}" for row in range(n_items)])
    table = pl.DataFrame(
        {
            "item_id": ids,
            "categories": [["all", f"c{row % 5}"] for row in range(n_items)],
            "size": [float(row) for row in range(n_items)],
        }
    )
    users = Vocabulary(pl.Series("user_id", [f"u{row}" for row in range(n_users)]), "string")
    data = Interactions(Histories.from_lists(rows), users, Vocabulary(ids, "string"), table, name="toy")
    return leave_last_out(data)


def toy_features(split: Split) -> tuple[Feature, ...]:
    """Vectors, tags and a number of the toy's items."""
    table = split.data.item_table
    vectors = of_vectors("look", points(len(table), 7).numpy().astype(np.float32))
    return (
        vectors,
        of_column("categories", table["categories"], "tags"),
        of_column("size", table["size"], "numbers"),
    )
