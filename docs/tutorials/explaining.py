# %% [markdown]
# # Explaining a recommendation
#
# Why this item? What the model believed after each step of its reasoning, and which items of the history spoke for
# the answer.

# %%
import tempfile
from pathlib import Path

import forethought as ft

place = Path(tempfile.mkdtemp())
shop = ft.Shop(users=200, items=60, interactions_per_user=10.0, seed=2).write(place / "shop")
split = ft.leave_last_out(ft.read(shop))

# %% [markdown]
# DTRec thinks in steps from coarse to fine. With evidence, what users met near each other is added to its scores.

# %%
dtrec = ft.DTRec(backbone=ft.SASRec(width=16, layers=1), most_clusters=20)
training = ft.Training(epochs=2, learning_rate=3e-3, batch_positions=512)
recipe = ft.Recipe(method=dtrec, training=training, evidence=ft.Evidence(use="auto"))
model = ft.train(recipe, split, out=place / "run")

# %%
explanation = model.explain(["i00002", "i00003"], k=5)
print(explanation)

# %% [markdown]
# The same as values, for a page of your own:

# %%
for step in explanation.to_json()["steps"]:
    print({name: value for name, value in step.items() if isinstance(value, int | float)})

# %% [markdown]
# Every number is the model's own: a step is a state in the space of the items, so that each can be asked what it
# would have recommended. Nothing was fitted to make it look plausible, and so it may look odd.
