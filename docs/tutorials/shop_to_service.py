# %% [markdown]
# # From shop data to a service
#
# A table of visits becomes a model, the model recommends what is in stock, and a service answers a request. Replace
# the simulated shop by your own table: the rest stays.

# %%
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import polars as pl

import forethought as ft

place = Path(tempfile.mkdtemp())
ft.Shop(users=200, items=60, interactions_per_user=10.0).write(place / "shop")
visits = pl.read_parquet(place / "shop" / "interactions.parquet")
visits.select(visitor="user_id", sku="item_id", seen="timestamp").write_csv(place / "visits.csv")

# %% [markdown]
# Columns may have any names. What was assumed about the table stands in its notes.

# %%
data = ft.read(place / "visits.csv", user="visitor", item="sku", time="seen", items=place / "shop" / "items.parquet")
print(data)
print(*data.notes, sep="\n")

# %% [markdown]
# The last visit of everybody is kept for the test, the last but one chooses the epoch. The numbers of this recipe are
# small, so that the notebook takes seconds; `ft.recipe("sasrec")` has tuned ones.

# %%
split = ft.leave_last_out(data)
small = ft.Recipe(method=ft.SASRec(width=16, layers=1), training=ft.Training(epochs=3, learning_rate=3e-3))
model = ft.train(small, split, out=place / "run")
print(ft.evaluate(model, split))

# %% [markdown]
# Recommendations are for histories. Half of the catalogue is in stock today.

# %%
stock = [item for item, _ in model.titles()][::2]
(answer,) = model.recommend([["i00002", "i00003"]], k=5, allow=stock)
assert set(answer.items) <= set(stock)
print(answer.items)

# %% [markdown]
# The service reads nothing but the run folder. It takes a port that is free, and writes it down.

# %%
command = [sys.executable, "-m", "forethought", "serve", place / "run", "--port", "0", "--state", place / "state"]
service = subprocess.Popen(list(map(str, command)))
address = place / "state" / "address.json"
while not address.exists():
    assert service.poll() is None, "the service ended"
    time.sleep(0.1)
url = f"http://127.0.0.1:{json.loads(address.read_text())['port']}"

# %%
body = json.dumps({"history": ["i00002", "i00003"], "k": 5}).encode()
request = urllib.request.Request(f"{url}/recommend", body, {"Content-Type": "application/json"})
for _ in range(50):  # it answers once the model is loaded
    try:
        with urllib.request.urlopen(request) as reply:
            print(json.load(reply)["results"][0]["items"])
        break
    except OSError:
        time.sleep(0.2)
else:
    raise RuntimeError("no answer")

# %%
service.terminate()
service.wait()
