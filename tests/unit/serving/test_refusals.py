"""Whatever comes in, what goes out is one sentence and never a traceback."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from forethought.recommender import Recommender
from forethought.serving.endpoints import typed_id
from forethought.serving.settings import Limits


def sentence_of(reply: Any) -> str:
    """The one sentence of a refusal."""
    assert 400 <= reply.status_code < 500, (reply.status_code, reply.text)
    body = reply.json()
    assert set(body) == {"error"}
    assert body["error"].endswith((".", "?"))
    assert "\n" not in body["error"]
    assert "Traceback" not in reply.text
    assert 'File "' not in reply.text
    assert len(body["error"]) < 600
    return body["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "Give either history"),
        ({"history": ["a"], "histories": [["a"]]}, "Give either history"),
        ({"history": "a"}, "history is text"),
        ({"history": {"a": 1}}, "history is an object"),
        ({"history": [1.5]}, "ids are text or whole numbers"),
        ({"history": [True]}, "ids are text or whole numbers"),
        ({"history": [None]}, "ids are text or whole numbers"),
        ({"history": [[1]]}, "ids are text or whole numbers"),
        ({"histories": []}, "list of lists"),
        ({"histories": ["a"]}, "history 0 is text"),
        ({"history": ["a"], "k": 0}, "k is 0"),
        ({"history": ["a"], "k": True}, "k is true, but must be a whole number from 1 to 30."),
        ({"history": ["a"], "k": None}, "k is null"),
        ({"history": ["a"], "k": [None]}, "k is [null]"),
        ({"history": ["a"], "exclude_history": 3}, "exclude_history is 3, but must be true or false or null."),
        ({"history": [["a", None]]}, 'history has ["a", null] in it'),
        ({"history": ["a"], "model": [False]}, "model is [false], but must be text or null."),
        ({"history": ["a"], "user": True}, "user is true, but must be an id"),
        ({"history": ["a"], "where": {"title": None}}, "where.title is null, but the column holds text."),
        ({"history": ["a"], "where": {"title": [None]}}, "where.title is [null], but the column holds text."),
        ({"history": ["a"], "where": {"train_count": {"min": None}}}, 'where.train_count is {"min": null}, but'),
        (
            {"histories": [[], ["a"]], "unknown": "error"},
            "History 1 has items that the model does not know: 'a'; ids look",
        ),
        ({"history": ["a"], "unknown": "error"}, '(and 7 is not "7"): correct them, or ask with "unknown": "drop".'),
        (
            {"history": ["a"], "allow": ["zz"]},
            "allow has no item that the model knows, so none is left to recommend: it has",
        ),
        ({"history": ["a"], "allow": []}, "allow is empty, so no item is left to recommend: put ids into it"),
        ({"history": ["a"], "k": 2.0}, "k is 2.0"),
        ({"history": ["a"], "k": -(10**30)}, "k is -1000"),
        ({"histroy": ["a"]}, "Did you mean 'history'?"),
        ({"history": ["a"], "unknown": "guess"}, "drop, error"),
        ({"history": ["a"], "explain": "yes"}, "explain is 'yes'"),
        ({"history": ["a"], "times": 3}, "Unix seconds"),
        ({"history": ["a"], "times": ["x"]}, "not all whole numbers"),
        ({"history": ["a"], "allow": "i1"}, "allow is text"),
        ({"history": ["a"], "where": []}, "where must be an object"),
        ({"history": ["a"], "only_category": 3}, "name of a category"),
        ({"history": ["a"], "only_category": "toyz"}, "There is no category"),
        ({"history": ["a"], "forbid_tokens": [[1]]}, "pairs"),
        ({"history": ["a"], "forbid_tokens": [[1, 2]]}, "does not know items by tokens"),
        ({"history": ["a"], "deadline_ms": 0}, "deadline_ms is 0"),
        ({"history": ["a"], "deadline_ms": "soon"}, "deadline_ms is 'soon'"),
        ({"history": ["a"], "model": 3}, "model is 3"),
        ({"history": ["a"], "allow_list": 7}, "allow_list is 7"),
        ({"history": ["a"], "allow_list": "../x"}, "no name of a list"),
    ],
)
def test_what_is_wrong_is_said(client: Any, body: dict[str, Any], words: str) -> None:
    assert words in sentence_of(client.post("/recommend", json=body))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b'{"history": [NaN]}', "no JSON"),
        (b"[" * 15_000, "nested too deeply"),
        (b'{"history": [' + b"1" * 10_000 + b"]}", "no JSON"),
        (
            b'{"history": [], "k": 3, "history": ["a"]}',
            "The body has the key 'history' twice in one object: give it once",
        ),
        (b'{"history": [], "where": {"price": {"max": 1, "max": 2}}}', "the key 'max' twice"),
        (b"null", "The body is null"),
        (b'"text"', "The body is text"),
        (b"3", "The body is a number"),
    ],
)
def test_bodies_that_are_no_object(client: Any, text: bytes, words: str) -> None:
    reply = client.post("/recommend", content=text, headers={"content-type": "application/json"})
    assert words in sentence_of(reply)


@pytest.mark.parametrize("depth", [100, 500, 900, 990, 2_000, 5_000, 9_000])
def test_whatever_is_nested_is_refused_in_a_sentence(client: Any, depth: int) -> None:
    text = b'{"history": [' + b"[" * depth + b"]" * depth + b"]}"
    reply = client.post("/recommend", content=text, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    sentence_of(reply)


def test_too_much_is_refused(client: Any) -> None:
    for body, words in [
        ({"histories": [["a"]] * 9}, "At most 8 histories"),
        ({"history": ["a"] * 21}, "at most 20 are taken"),
        ({"history": ["a"], "k": 31}, "at most 30 items"),
        ({"history": ["a"], "k": 10**30}, "at most 30 items"),
        ({"history": ["a" * 30_000]}, "20,000 bytes"),
    ]:
        reply = client.post("/recommend", json=body)
        assert reply.status_code == 413
        assert words in sentence_of(reply)

    def stream() -> Any:
        for _ in range(100):
            yield b" " * 1000

    reply = client.post("/recommend", content=stream(), headers={"content-type": "application/json"})
    assert reply.status_code == 413


def test_kinds_of_content_and_ways_of_asking(client: Any) -> None:
    reply = client.post("/recommend", content=b'{"history": []}', headers={"content-type": "text/plain"})
    assert reply.status_code == 415
    sentence_of(reply)
    assert client.get("/recommend").status_code == 405
    sentence_of(client.get("/recommend"))
    assert client.get("/page/../settings.py").status_code == 404
    assert client.get("/page/..%2f__init__.py").status_code == 404
    sentence_of(client.get("/docs"))


def test_who_asks_for_the_head_gets_that_of_the_answer(start: Any) -> None:
    client = start(api_key="sesame-sesame")
    key = {"x-api-key": "sesame-sesame"}
    for path in ("/health", "/ready", "/models", "/metrics", "/items?q=x&k=0", "/models/none", "/", "/openapi.json"):
        asked, head = client.get(path, headers=key), client.head(path, headers=key)
        assert (head.status_code, head.content) == (asked.status_code, b"")
        assert head.headers["content-type"] == asked.headers["content-type"]
    assert client.head("/health").status_code == 200
    assert client.head("/models").status_code == 401
    assert client.head("/recommend", headers=key).status_code == 405
    assert not any("head" in methods for methods in client.get("/openapi.json", headers=key).json()["paths"].values())


def test_a_key_is_asked_for(start: Any) -> None:
    client = start(api_key="sesame-sesame")
    assert client.get("/health").status_code == 200
    assert client.get("/ready").status_code == 200
    for path in ("/models", "/metrics", "/openapi.json", "/nothing"):
        reply = client.get(path)
        assert reply.status_code == 401
        assert "asks for a key" in sentence_of(reply)
        assert client.get(path, headers={"x-api-key": "sesame"}).status_code == 401
        assert client.get(path, headers={"authorization": "Bearer sesame-sesame"}).status_code in (200, 404)
    assert client.get("/models", headers={"x-api-key": "sesame-sesame"}).status_code == 200
    assert "sesame" not in json.dumps(client.service.settings.to_json())


def test_other_sites_may_ask_only_where_they_are_named(start: Any) -> None:
    asked = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    reply = start().options("/recommend", headers=asked)
    assert "access-control-allow-origin" not in reply.headers
    reply = start(cors=("https://shop.example",)).options("/recommend", headers=asked)
    assert reply.headers["access-control-allow-origin"] == "https://shop.example"
    client = start(cors=("https://shop.example",), api_key="sesame-sesame")
    assert client.options("/recommend", headers=asked).status_code == 200
    assert client.post("/recommend", json={"history": []}, headers={"origin": asked["origin"]}).status_code == 401
    other = start(cors=("https://shop.example",)).options("/recommend", headers={**asked, "origin": "https://evil"})
    assert "access-control-allow-origin" not in other.headers


def test_a_fault_of_ours_says_nothing_of_how_we_are_made(client: Any, capfd: pytest.CaptureFixture[str]) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a secret path /etc/x")

    client.service.models.named("first").ranked = broken
    item = client.service.models.named("first").plain_id(3)
    reply = client.post("/recommend", json={"history": [item]}, headers={"x-request-id": "abc"})
    assert reply.status_code == 500
    assert reply.json() == {"error": "The service failed over this request; its log says more, under abc."}
    log = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    (fault,) = [line for line in log if line["event"] == "failed"]
    assert fault["id"] == "abc"
    assert "ZeroDivisionError" in "".join(fault["traceback"])


def test_titles_and_ids_leave_as_text_alone(client: Any) -> None:
    reply = client.post("/recommend", json={"history": ["<script>alert(1)</script>\u202e"]})
    assert reply.status_code == 200
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "\u202e".encode() not in reply.content
    assert reply.json()["results"][0]["unknown"] == ["<script>alert(1)</script>\u202e"]


def test_too_late_is_said(start: Any, trained: Recommender) -> None:
    import time

    client = start()
    model = client.service.models.named("first")
    ranked = model.ranked

    def slow(*arguments: Any, **choices: Any) -> Any:
        time.sleep(0.3)
        return ranked(*arguments, **choices)

    model.ranked = slow
    reply = client.post("/recommend", json={"history": trained.items.id_list([3]), "deadline_ms": 50})
    assert reply.status_code == 504
    assert "within 50 ms" in reply.json()["error"]


def test_more_than_can_wait_is_told_to_come_again(start: Any, trained: Recommender) -> None:
    import threading
    from concurrent.futures import ThreadPoolExecutor

    client = start(limits=Limits(queue=2, batch=1, histories=8))
    model, go = client.service.models.named("first"), threading.Event()
    ranked = model.ranked

    def held(*arguments: Any, **choices: Any) -> Any:
        go.wait(20)
        return ranked(*arguments, **choices)

    model.ranked = held
    body = {"history": trained.items.id_list([3])}
    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(client.post, "/recommend", json=body) for _ in range(12)]
        while sum(each.done() for each in waiting) < 9:  # one is ranked, two wait
            pass
        go.set()
        replies = [each.result() for each in waiting]
    refused = [reply for reply in replies if reply.status_code == 503]
    assert len(refused) == 9
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
    assert "try again" in refused[0].json()["error"]
    wanted = trained.recommend([body["history"]])[0].items
    for reply in replies:
        if reply.status_code == 200:
            assert [each["item"] for each in reply.json()["results"][0]["items"]] == wanted


# ---- a thousand malformed requests

ATOMS: list[Any] = [
    *(None, True, 0, -1, 1.5, 10**40, 1e308, "", "i00001", "\x00", "\ud800", "a" * 300, "../..", "<b>", [], {}, [[]]),
    *([None], {"a": {}}, [1, "1"], {"min": "x"}, {"max": None}, [[1, 2]], [["i00001"]], ["i00001"], -(2**70)),
]
KEYS = ["history", "histories", "k", "times", "allow", "deny", "allow_list", "deny_list", "only_category"]
KEYS += [
    "never_category",
    "where",
    "forbid_tokens",
    "only_tokens",
    "exclude_history",
    "unknown",
    "explain",
    "target",
    "model",
]
KEYS += ["user", "deadline_ms", "events", "items", "item", "", "\u202e", "__class__"]
PATHS = [("POST", "/recommend"), ("POST", "/explain"), ("POST", "/similar"), ("POST", "/events"), ("PUT", "/lists/x")]


def malformed(draw: random.Random, depth: int = 0) -> Any:
    if depth < 3 and draw.random() < 0.3:
        return [malformed(draw, depth + 1) for _ in range(draw.randrange(4))]
    if depth < 3 and draw.random() < 0.2:
        return {draw.choice(KEYS): malformed(draw, depth + 1) for _ in range(draw.randrange(3))}
    return draw.choice(ATOMS)


def test_a_thousand_malformed_requests(client: Any, capfd: pytest.CaptureFixture[str]) -> None:
    draw, refused = random.Random(7), 0
    for _ in range(1000):
        method, path = draw.choice(PATHS)
        body: Any = {draw.choice(KEYS): malformed(draw) for _ in range(draw.randrange(5))}
        text = json.dumps(body if draw.random() < 0.9 else malformed(draw)).encode()
        if draw.random() < 0.2:  # cut, or with a byte changed
            text = text[: draw.randrange(len(text) + 1)]
        if draw.random() < 0.1 and text:
            place = draw.randrange(len(text))
            text = text[:place] + bytes([draw.randrange(256)]) + text[place + 1 :]
        reply = client.request(method, path, content=text, headers={"content-type": "application/json"})
        if reply.status_code != 200:
            sentence_of(reply)
            refused += 1
    assert refused > 800
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert '"failed"' not in said


def test_malformed_queries_are_refused_in_a_sentence(client: Any) -> None:
    draw, refused = random.Random(8), 0
    for _ in range(300):
        path = draw.choice(["/items", "/similar", "/models/x", "/lists/y", "/page/z", "/page/%00", "/%ff", "/items/x"])
        query = {draw.choice(["q", "k", "model", "item", "x"]): str(draw.choice(ATOMS)).replace("\ud800", "?")}
        reply = client.get(path, params=query)
        if reply.status_code != 200:
            sentence_of(reply)
            refused += 1
    assert refused > 200


@pytest.mark.parametrize("word", ["--5", "5-", "\u00b2", "\u0663", "1" * 25, ""])
def test_what_is_no_number_in_a_query_is_taken_for_text(word: str) -> None:
    assert typed_id(word, "integer") == word
    assert (typed_id("-5", "integer"), typed_id("5", "string")) == (-5, "5")
