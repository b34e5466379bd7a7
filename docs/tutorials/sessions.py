# %% [markdown]
# # Sessions without users
#
# Many sites know no users, only sessions of a few clicks. A session is a history like any other: give its id for the
# user. Here shoppers come several times, and every visit is a session of its own.

# %%
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

import forethought as ft

place = Path(tempfile.mkdtemp())
random = np.random.default_rng(0)

rows = []
for session in range(400):
    shelf = int(random.integers(5))  # what this visit is about
    length = int(random.integers(3, 8))
    clicks = shelf * 10 + (random.integers(10) + np.arange(length)) % 10  # along the shelf
    clicks = np.where(random.random(length) < 0.3, random.integers(50, size=length), clicks)  # or anywhere
    rows += [(f"s{session}", f"item{click}", session * 60 + at) for at, click in enumerate(clicks)]
clicks = pl.DataFrame(rows, schema=["session", "item", "second"], orient="row")
clicks = clicks.with_columns(time=pl.from_epoch(pl.col("second") * 60 + 1_700_000_000))
print(clicks.head())

# %% [markdown]
# Sessions are split by time: whoever came last is the test. That is how a model will be used, and a random split
# would let it see the future.

# %%
data = ft.read(clicks, user="session", item="item", time="time")
split = ft.temporal(data, valid_from=0.7, test_from=0.85, targets="last")
print(split)

# %% [markdown]
# A table of neighbours first: what is clicked near what. It is fitted at once, and is what a model has to beat.

# %%
neighbours = ft.train(ft.ItemKNN(), split, out=place / "knn")
training = ft.Training(epochs=12, learning_rate=1e-2, batch_positions=256)
sequence = ft.train(ft.Recipe(method=ft.SASRec(width=16, layers=1), training=training), split, out=place / "sasrec")
for name, model in (("itemknn", neighbours), ("sasrec", sequence)):
    measured = ft.evaluate(model, split)
    print(name, measured.metrics["ndcg@10"])

# %% [markdown]
# A session that is still going on is all that a recommendation needs.

# %%
(answer,) = sequence.recommend([["item12", "item13", "item14"]], k=3)
print(answer.items)
