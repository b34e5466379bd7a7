# %% [markdown]
# # Comparing methods for a paper
#
# Two methods, two seeds each, one protocol, a paired test, and a table for LaTeX. (A real comparison has at least
# three seeds, real data, and a tuned baseline.)

# %%
import tempfile
from pathlib import Path

import forethought as ft

place = Path(tempfile.mkdtemp())
shop = ft.Shop(users=200, items=60, interactions_per_user=10.0, seed=1).write(place / "shop")
split = ft.leave_last_out(ft.read(shop), ties="shuffle")

# %% [markdown]
# The same width, the same epochs, the same split. What differs is what is compared.

# %%
methods = {
    "SASRec": ft.SASRec(width=16, layers=1),
    "GRU4Rec": ft.GRU4Rec(width=16),
}
training = ft.Training(epochs=3, learning_rate=5e-3, batch_positions=512)
measured = {name: [] for name in methods}
for name, method in methods.items():
    for seed in (0, 1):
        recipe = ft.Recipe(method=method, training=training, seed=seed)
        model = ft.train(recipe, split, out=place / f"{name}-{seed}")
        measured[name].append(ft.evaluate(model, split))

# %% [markdown]
# The test is paired over users, and its p values are corrected for how many metrics are looked at: so name those that
# the paper is about. The interval knows other users; other seeds it knows only through the ones you trained.

# %%
comparison = ft.compare(measured, baseline="SASRec", metrics=["recall@10", "ndcg@10"])
print(comparison)

# %%
print(comparison.document().latex())

# %% [markdown]
# What was measured, for the appendix: it is kept with every evaluation, and two that differ are not compared.

# %%
for word, value in comparison.protocol.items():
    print(f"{word}: {value}")
