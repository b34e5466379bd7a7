"""What an explanation says as JSON and as text: keys that programs rely on, and sentences."""

from __future__ import annotations

import json
import math
import uuid
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from explained import HISTORY, TARGET, ids, told

from forethought.explaining.explanation import Explanation
from forethought.explaining.parts import (
    Candidate,
    Category,
    Centroid,
    Certainty,
    Contribution,
    EvidenceUse,
    Intent,
    ItemRef,
    ItemSum,
    Plane,
    PlanePoint,
    RankChange,
    Steering,
    Step,
)
from forethought.explaining.token_parts import (
    Belief,
    PrunedToken,
    Token,
    TokenPath,
    TokenShare,
    TokenStep,
    TokenSum,
)
from forethought.reasoning.halting import Halting
from forethought.recommender import Recommender

KEYS = {
    Explanation: [
        *("history", "dropped", "read", "history_excluded", "halting", "centroid", "answer", "answer_step"),
        *("steps", "movements", "target", "plane", "intents", "contributions"),
        *("evidence", "sums", "certainty", "paths", "pruned", "token_sums", "steering"),
    ],
    Steering: ["only", "never", "forbidden", "wanted", "candidates"],
    TokenPath: ["weight", "carries", "steps", "items"],
    TokenStep: ["step", "token", "probability", "confidence", "belief", "moved"],
    Token: ["codebook", "token", "size", "items", "category", "brand"],
    Belief: ["category", "probability"],
    PrunedToken: ["step", "token", "before", "after", "moved", "kept"],
    TokenSum: ["item", "title", "score", "tokens", "paths", "carried_by", "unmet"],
    TokenShare: ["codebook", "token", "score", "probability", "overall"],
    Contribution: ["item", "title", "score", "by", "met", "near", "cosine"],
    EvidenceUse: ["name", "weight", "gate", "most", "read", "window", "directed", "weeks"],
    ItemSum: ["item", "title", "score", "model", "model_rank", "added"],
    Certainty: ["entropy_nats", "entropy", "on_history"],
    Intent: ["number", "weight", "items", "category"],
    Step: [
        *("step", "taken", "stopped", "items", "entropy_nats", "entropy", "on_history", "consistency", "change"),
        *("halt", "read", "centroids", "n_centroids"),
    ],
    Candidate: ["item", "title", "score", "probability"],
    RankChange: ["item", "title", "ranks", "rank"],
    Centroid: ["number", "similarity", "probability", "size", "central", "category"],
    Category: ["label", "path", "share", "overall"],
    Plane: ["share", "points"],
    PlanePoint: ["kind", "label", "x", "y", "step"],
}
"""What programs rely on: a key is added, never renamed or taken away."""


def test_json_is_complete_and_has_no_nan(model: Recommender) -> None:
    said = told(model)
    plain = json.loads(json.dumps(said.to_json(), allow_nan=False))
    assert list(plain) == KEYS[Explanation]
    assert all(list(step) == KEYS[Step] for step in plain["steps"])
    assert plain == said.to_json()
    assert plain["steps"][0]["halt"] is None
    assert [point["kind"] for point in plain["plane"]["points"]].count("target") == 1


def test_keys_stay_and_are_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "explain.md").read_text(encoding="utf-8")
    for cls, keys in KEYS.items():
        assert [field.name for field in fields(cls)] == keys
        assert [key for key in keys if f"`{key}`" not in page] == []


def test_json_of_other_values() -> None:
    """UUIDs as text, what is no number as null; whole numbers stay."""
    key = uuid.UUID(int=5)
    empty: Any = Explanation([ItemRef(key, None), ItemRef(7, "x")], [], 2, False, None, None, [], 0, [], [], None, None)  # type: ignore[arg-type]
    plain = replace(empty, read=math.nan).to_json()
    assert plain["history"] == [{"item": str(key), "title": None}, {"item": 7, "title": "x"}]
    assert plain["read"] is None


def test_text_says_the_same(model: Recommender) -> None:
    said = told(model)
    text = str(said)
    for named in (*said.history, *said.answer):
        assert str(named.item) in text
        assert str(named.title)[:30] in text
    assert f"> {ids(model, [TARGET])[0]}" in text
    assert all(f"{step.entropy_nats:.2f} nats" in text for step in said.steps)
    assert ("Nearest prototypes" in text) == (said.centroid is not None)
    assert ("p(halt)" in text) == (said.steps[-1].halt is not None)
    assert ("stops here" in text) == (len(said.steps) > 1 and said.answer_step is not None)
    assert max(map(len, text.splitlines())) <= 100


def test_text_of_an_early_exit(dtrec: Recommender) -> None:
    text = str(told(dtrec, halting=Halting(threshold=0.0)))
    assert "It stopped after step 1 of 3, where the halting net said 0." in text
    assert text.count("not taken") == 2


def test_a_target_in_the_history_has_no_rank(dtrec: Recommender) -> None:
    said = dtrec.explain(ids(dtrec, HISTORY), target=ids(dtrec, [17])[0])
    (moved,) = [m for m in said.movements if m.item == ids(dtrec, [17])[0]]
    assert (moved.ranks, moved.rank) == ([None] * 4, None)
    assert "It is in the history, so it is no candidate and has no rank." in str(said)
    kept = dtrec.explain(ids(dtrec, HISTORY), target=ids(dtrec, [17])[0], exclude_history=False)
    assert all(m.rank is not None for m in kept.movements)


def test_only_the_window_is_read(dtrec: Recommender) -> None:
    said = dtrec.explain(ids(dtrec, [*range(20), *HISTORY]))
    assert (len(said.history), said.read) == (25, 8)
    assert "The model reads the last 8 of 25 items." in str(said)


def test_a_shop_without_titles_and_categories(dtrec: Recommender) -> None:
    bare = replace(dtrec, item_table=dtrec.item_table.select("item_id"))
    said = told(bare)
    assert said.history[0] == ItemRef(ids(dtrec, [3])[0], None)
    assert all(each.category is None for step in said.steps for each in step.centroids)
    assert str(said)
    assert [m.ranks for m in said.movements] == [m.ranks for m in told(dtrec).movements]
