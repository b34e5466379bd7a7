"""What was spent on the settings of a method before it was compared: trials on Beauty's validation part, by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# docs/results/tuning.md and tuning-reasoning.md list them; where none is listed, nothing was tried.
TRIALS = {
    "sasrec": 15,
    "gru4rec": 1,
    "bert4rec": 1,
    "hstu": 0,
    "rearec": 4,
    "dtrec": 11,
    "lares": 4,
    "igr_sr": 8,
    "sse_pt": 4,
    "lightrec": 3,
    "tiger": 1,
    "rpg": 2,
    "reg4rec": 2,
    "item_knn": 12,
    "popular": 0,
}


def trials(method: Mapping[str, Any]) -> int | None:
    """Of a method's stored settings; of a backbone alone, the backbone's; None where nobody counted."""
    kind = str(method.get("type"))
    return TRIALS.get(str(method["backbone"].get("type")) if kind == "next_item" else kind)
