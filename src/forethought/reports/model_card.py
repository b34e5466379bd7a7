"""The `README.md` of a run folder: what the model is, what it was trained on, how good it is, how to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from forethought.escaping import markdown
from forethought.evaluation.protocol import noisy, started_from, tokens_from

BARE = ("next_item", "masked_item")  # methods that are called by their backbone


def model_card(name: str, config: Mapping[str, Any], about: Mapping[str, Any], evaluated: str | None = None) -> str:
    """Markdown, from the run's configuration and what it says of its data; `evaluated` is a table of metrics."""
    method = config["method"]
    backbone = method["backbone"]["type"] if "backbone" in method else None
    kind = f"{method['type']}** around a **{backbone}" if backbone is not None else method["type"]
    kind = str(backbone) if method["type"] in BARE else kind
    excluded = "left out of" if about["exclude_history"] else "kept among"
    return f"""# {markdown(name)}

{"An" if kind[0] in "aeiou" else "A"} **{kind}** that recommends the next item of a history,
{_made(config)} by Forethought.

- **Data:** {markdown(about["data"])}: {about["users"]:,} users, {about["items"]:,} items,
  {about["interactions"]:,} interactions (hash {markdown(about["data_hash"])}).
- **Split:** {_plain(about["protocol"])}; a user's history is {excluded} the candidates.{_seen(about)}
- **Seed:** {config["seed"]}.{_noise(config.get("noise"))}{_more(about)}

## How good it is

{evaluated or "Not evaluated on the test part yet: `forethought evaluate` on this folder fills this in."}

## Use

```python
import forethought as ft

model = ft.load("path/to/this/folder")  # it is all that is needed
model.recommend([["an item id", "another"]], k=10)
```

It knows the items of `items.parquet` and no others. It has learned what followed what in this data, with all the data's
habits and biases: look at the groups by history length and popularity (`forethought evaluate`) before you rely on it.

## Configuration

```json
{json.dumps(config, indent=2)}
```
"""


def _made(config: Mapping[str, Any]) -> str:
    return "trained" if config.get("alignment") is None else "trained, then aligned with rewards (GRPO),"


def _seen(about: Mapping[str, Any]) -> str:
    """Until when, where that is known, and so from when on it can be held against what happened."""
    until = about.get("seen_until")
    return "" if until is None else f"\n- **Seen** until {markdown(until)}, in training or validation."


def _noise(noise: Mapping[str, Any] | None) -> str:
    return "" if noise is None else f"\n- **Noise:** it was trained on disturbed histories: {markdown(noisy(noise))}."


def _more(about: Mapping[str, Any]) -> str:
    """What came before its training, and after it."""
    lines = [f"- **Began with** weights of {markdown(each)}." for each in started_from(about).values()]
    lines += [f"- **Tokens** are made of item vectors of {markdown(each)}." for each in tokens_from(about).values()]
    names = [str(each["run"]) for each in about.get("members", [])]
    lines += [f"- **Members:** {markdown(', '.join(names))}."] if names else []
    added = sum(each["items"] for each in about.get("extended", []))
    lines += [f"- **New items:** {added:,} that no training met, known by their features alone."] if added else []
    return "".join(f"\n{line}" for line in lines)


def _plain(protocol: Mapping[str, Any]) -> str:
    return ", ".join(markdown(f"{key} {value}") for key, value in protocol.items() if value is not None)
