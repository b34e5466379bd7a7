"""What OpenAPI says of each path: bodies, parameters, and examples that can be sent as they stand."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Schema = dict[str, Any]

ID: Schema = {"oneOf": [{"type": "string"}, {"type": "integer"}]}
IDS: Schema = {"type": "array", "items": ID}
LABELS: Schema = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
ERROR: Schema = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}


def _said(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


TOKENS: Schema = {
    "type": "array",
    "items": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
}
NARROWING: Schema = {
    "allow": _said(IDS, "Recommend only these items."),
    "deny": _said(IDS, "Never recommend these items."),
    "allow_list": _said({"type": "string"}, "The name of a registered list; only its items are recommended."),
    "deny_list": _said({"type": "string"}, "The name of a registered list; its items never are."),
    "only_category": _said(LABELS, "Only items of one of these categories."),
    "never_category": _said(LABELS, "No items of these categories."),
    "where": _said(
        {"type": "object"},
        'Conditions on columns of the items: a value, a list of values, or {"min": 5, "max": 20}.',
    ),
    "forbid_tokens": _said(TOKENS, "Pairs of a codebook and a token that no item may have; for models over tokens."),
    "only_tokens": _said(TOKENS, "Such pairs, one of which an item must have of each codebook that is named."),
}
ASKING: Schema = {
    "k": _said({"type": "integer", "minimum": 1, "default": 10}, "Items in a list."),
    "exclude_history": _said(
        {"type": "boolean"}, "Leave out the items of the history; by default as the run was evaluated."
    ),
    "unknown": _said(
        {"enum": ["drop", "error"], "default": "drop"}, "What to do with ids of histories that the model does not know."
    ),
    "model": _said({"type": "string"}, "Which model answers; by default one by the weights of the split."),
    "user": _said(ID, "Who asks: the same user always gets the same model."),
    "deadline_ms": _said({"type": "number"}, "When an answer comes too late."),
}


class PathDoc(NamedTuple):
    """A path for OpenAPI."""

    summary: str
    properties: Schema | None = None
    required: tuple[str, ...] = ()
    examples: Mapping[str, Any] = MappingProxyType({})
    parameters: tuple[tuple[str, str, Schema], ...] = ()
    answer: Any = None

    def extra(self) -> dict[str, Any]:
        """What FastAPI adds to what it knows."""
        extra: dict[str, Any] = {"responses": {"200": {"description": "The answer."}, "4XX": _error(), "503": _error()}}
        if self.answer is not None:
            extra["responses"]["200"]["content"] = {"application/json": {"example": self.answer}}
        if self.properties is not None:
            schema = {"type": "object", "properties": self.properties, "additionalProperties": False}
            schema |= {"required": list(self.required)} if self.required else {}
            examples = {name: {"value": value} for name, value in self.examples.items()}
            content = {"application/json": {"schema": schema, "examples": examples}}
            extra["requestBody"] = {"required": True, "content": content}
        if self.parameters:
            extra["parameters"] = [
                {"name": name, "in": place, "required": place == "path", "schema": schema}
                for name, place, schema in self.parameters
            ]
        return extra


def _error() -> dict[str, Any]:
    return {
        "description": "Why there is no answer, in one sentence.",
        "content": {"application/json": {"schema": ERROR}},
    }


RESULT = {
    "model": "sasrec",
    "version": "0b5c2f1de8aa",
    "results": [{"items": [{"item": "i00007", "score": 7.31, "title": "A lamp"}], "unknown": [], "fallback": None}],
}
HISTORY: Schema = {"history": _said(IDS, "Item ids of one user, oldest first; may be empty.")}
TIMES: Schema = {
    "times": {"type": "array", "description": "Unix seconds beside each item, for models that read times."}
}
QUERY_K: tuple[str, str, Schema] = ("k", "query", {"type": "integer", "minimum": 1})
QUERY_MODEL: tuple[str, str, Schema] = ("model", "query", {"type": "string"})
LIST_NAME: tuple[str, str, Schema] = ("name", "path", {"type": "string"})

DOCS: dict[str, PathDoc] = {
    "recommend": PathDoc(
        "The best next items for one or many histories",
        {
            **HISTORY,
            "histories": {"type": "array", "items": IDS, "description": "Several users at once."},
            **ASKING,
            **TIMES,
            **NARROWING,
            "explain": _said({"type": "boolean", "default": False}, "Add how the model came to each list."),
        },
        examples={
            "one history": {"history": ["i00002", "i00003"], "k": 5},
            "several, in stock alone": {"histories": [["i00002"], ["i00003", "i00004"]], "allow_list": "stock"},
            "with conditions": {"history": ["i00002"], "where": {"price": {"max": 20}}, "never_category": "toys"},
        },
        answer=RESULT,
    ),
    "explain": PathDoc(
        "How a model comes to its list, step by step",
        {**HISTORY, **ASKING, **TIMES, **NARROWING, "target": _said(ID, "An item whose rank is followed.")},
        ("history",),
        {"a target": {"history": ["i00002", "i00003"], "k": 3, "target": "i00007"}},
    ),
    "similar": PathDoc(
        "The items most like an item",
        {"item": ID, "k": ASKING["k"], "model": ASKING["model"], **NARROWING},
        ("item",),
        {"one item": {"item": "i00002", "k": 5}},
    ),
    "similar_query": PathDoc(
        "The items most like an item",
        parameters=(("item", "query", {"type": "string"}), QUERY_K, QUERY_MODEL),
    ),
    "items": PathDoc(
        "Items by words of their title", parameters=(("q", "query", {"type": "string"}), QUERY_K, QUERY_MODEL)
    ),
    "models": PathDoc("The models, and what they know"),
    "model": PathDoc("A model's figures and its data", parameters=(LIST_NAME,)),
    "lists": PathDoc("The registered lists"),
    "put_list": PathDoc(
        "Register a list of items under a name",
        {"items": IDS},
        ("items",),
        {"in stock": {"items": ["i00002", "i00003"]}},
        (LIST_NAME,),
        {"list": "stock", "items": 2},
    ),
    "delete_list": PathDoc("Forget a list", parameters=(LIST_NAME,)),
    "events": PathDoc(
        "Keep what users did, for the next training",
        {
            "events": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "user": ID,
                        "item": ID,
                        "time": _said({"type": "integer"}, "Unix seconds, from 1990 to 2099; now by default."),
                        "kind": _said({"type": "string"}, "Such as click or purchase."),
                        "model": _said({"type": "string"}, "Whose recommendation it was: a model that is served."),
                    },
                    "required": ["user", "item"],
                },
            }
        },
        ("events",),
        {"a click": {"events": [{"user": "u7", "item": "i00002", "kind": "click"}]}},
        answer={"kept": 1},
    ),
    "health": PathDoc("Whether the process lives"),
    "ready": PathDoc("Whether it answers"),
    "metrics": PathDoc("Figures for Prometheus"),
}
