"""What a service answers, held against the library's own answers."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch.nn.functional as F

from forethought.data.reading import read
from forethought.errors import DataError
from forethought.recommender import Recommender, load
from forethought.row_ranking import RankedList
from forethought.serving.served_model import ServedModel
from forethought.serving.settings import ModelPlace


def ids(run: Recommender, *rows: int) -> list[Any]:
    return run.items.id_list(rows)


def good(reply: Any) -> Any:
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"
    return reply.json()


def wrong(reply: Any, status: int, words: str) -> None:
    assert reply.status_code == status, reply.text
    sentence = reply.json()["error"]
    assert words in sentence
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert sentence.endswith((".", "?"))


def items_of(answer: Any, place: int = 0) -> list[Any]:
    return [each["item"] for each in answer["results"][place]["items"]]


def test_lists_are_those_of_the_library(client: Any, trained: Recommender) -> None:
    histories = [ids(trained, 3, 1, 4), ids(trained, 2), ids(trained, 9, 8, 7, 6)]
    answer = good(client.post("/recommend", json={"histories": histories, "k": 7}))
    assert (answer["model"], len(answer["version"])) == ("first", 12)
    for result, wanted in zip(answer["results"], trained.recommend(histories, 7), strict=True):
        assert [each["item"] for each in result["items"]] == wanted.items
        assert [each["score"] for each in result["items"]] == pytest.approx(wanted.scores, abs=1e-5)
        assert (result["unknown"], result["fallback"]) == ([], None)
    titles = dict(trained.titles())
    assert all(each["title"] == titles[each["item"]] for each in answer["results"][0]["items"])


def test_one_history_and_its_choices(client: Any, trained: Recommender) -> None:
    history = ids(trained, 3, 1)
    allow, deny = ids(trained, 1, 5, 6, 7, 8), ids(trained, 6)
    body = {"history": history, "k": 9, "allow": [*allow, "unheard of"], "deny": deny, "exclude_history": False}
    answer = good(client.post("/recommend", json=body))
    with pytest.warns(UserWarning, match="not known"):
        (wanted,) = trained.recommend([history], 9, allow=[*allow, "x"], deny=deny, exclude_history=False)
    assert items_of(answer) == wanted.items
    assert answer["unknown_in_lists"] == 1


def test_categories_narrow_as_in_the_library(client: Any, trained: Recommender) -> None:
    history = ids(trained, 3, 1)
    category = client.service.models.named("first").categories(1)[0]["category"]
    for key in ("only_category", "never_category"):
        answer = good(client.post("/recommend", json={"history": history, key: category}))
        (wanted,) = trained.recommend([history], 10, **{key: category})
        assert items_of(answer) == wanted.items


def test_conditions_on_columns(client: Any, trained: Recommender) -> None:
    table = trained.item_table
    counts = table["train_count"].to_list()
    body = {"history": ids(trained, 3), "k": 30, "where": {"train_count": {"min": 10}}, "exclude_history": False}
    listed = items_of(good(client.post("/recommend", json=body)))
    fitting = {item for item, count in zip(ids(trained, *range(len(counts))), counts, strict=True) if count >= 10}
    assert set(listed) == fitting
    title = dict(trained.titles())[ids(trained, 5)[0]]
    body["where"] = {"title": [title]}
    assert set(items_of(good(client.post("/recommend", json=body)))) == {
        item for item, each in trained.titles() if each == title
    }
    for where, words in [
        ({"titel": "x"}, "Did you mean 'title'?"),
        ({"title": 3}, "holds text"),
        ({"train_count": "3"}, "whole numbers"),
        ({"train_count": {"least": 3}}, "min"),
        ({"title": {"min": 3}}, "no min and max"),
        ({"train_count": {"min": 10**400}}, "too large"),
        ({"train_count": -1}, "No item is left"),
    ]:
        wrong(client.post("/recommend", json={**body, "where": where}), 400, words)


def test_lists_are_registered_once_and_named(client: Any, trained: Recommender) -> None:
    history, stock = ids(trained, 3, 1), ids(trained, 5, 6, 7)
    wrong(client.post("/recommend", json={"history": history, "allow_list": "stock"}), 404, "no list 'stock'")
    assert good(client.put("/lists/stock", json={"items": stock})) == {"list": "stock", "items": 3}
    asked = {"history": history, "allow_list": "stock"}
    assert set(items_of(good(client.post("/recommend", json=asked)))) == set(stock)
    assert good(client.get("/lists")) == {"lists": ["stock"]}
    good(client.put("/lists/stock", json={"items": stock[:1]}))  # another content under the name
    assert items_of(good(client.post("/recommend", json=asked))) == stock[:1]
    without = {"history": history, "k": 30, "deny_list": "stock"}
    assert stock[0] not in items_of(good(client.post("/recommend", json=without)))
    good(client.delete("/lists/stock"))
    wrong(client.post("/recommend", json=asked), 404, "no list")
    wrong(client.put("/lists/..%2fevil", json={"items": []}), 404, "nothing under this address")
    wrong(client.put("/lists/.evil", json={"items": []}), 400, "no name of a list")


def test_named_lists_are_ranked_together(client: Any, trained: Recommender) -> None:
    good(client.put("/lists/stock", json={"items": ids(trained, 5, 6, 7)}))
    sets, lists = client.service.models.named("first").candidates, client.service.lists
    from forethought.serving.requests import Narrowing

    one, other = (sets.of(Narrowing(allow_list="stock"), lists) for _ in range(2))
    assert one.allowed_N is other.allowed_N


def test_unknown_ids_and_nobody(client: Any, trained: Recommender) -> None:
    history = [*ids(trained, 3), "unheard of"]
    answer = good(client.post("/recommend", json={"histories": [history, ["unheard of"], []], "k": 4}))
    first, second, third = answer["results"]
    assert (first["unknown"], first["fallback"]) == (["unheard of"], None)
    assert [each["item"] for each in first["items"]] == trained.recommend([ids(trained, 3)], 4)[0].items
    assert (second["unknown"], second["fallback"], third["fallback"]) == (["unheard of"], "popular", "popular")
    table = trained.item_table.with_columns(item=pl.Series(ids(trained, *range(40))))
    popular = table.sort("recent_count", "train_count", descending=True, maintain_order=True)["item"].to_list()[:4]
    assert [each["item"] for each in second["items"]] == popular
    recent = dict(zip(table["item"], table["recent_count"], strict=True))
    everyone = good(client.post("/recommend", json={"history": [], "k": 30}))["results"][0]["items"]
    assert [each["score"] for each in everyone] == [recent[each["item"]] for each in everyone]
    assert sorted(recent.values()) != sorted(table["train_count"])  # what else might have been listed
    wrong(client.post("/recommend", json={"history": history, "unknown": "error"}), 400, "does not know: 'unheard of'")
    category = client.service.models.named("first").categories(1)[0]["category"]
    narrowed = good(client.post("/recommend", json={"history": [], "only_category": category, "k": 30}))
    allowed = trained.recommend([ids(trained, 3)], 40, only_category=category, exclude_history=False)[0].items
    assert set(items_of(narrowed)) == set(allowed)


def test_a_list_without_any_item_says_why(client: Any, trained: Recommender) -> None:
    held, other = ids(trained, 3, 5)
    why = "The history holds all that may be recommended: allow other items, or ask with"
    body = {"histories": [[held], [other]], "allow": [held]}
    first, second = good(client.post("/recommend", json=body))["results"]
    assert (first["items"], first["fallback"]) == ([], None)
    assert first["note"].startswith(why)
    assert [each["item"] for each in second["items"]] == [held]
    assert "note" not in second
    (again,) = good(client.post("/recommend", json={"history": [held], "allow": [held], "exclude_history": False}))[
        "results"
    ]
    assert ([each["item"] for each in again["items"]], "note" in again) == ([held], False)
    assert good(client.post("/explain", json={"history": [held], "allow": [held]}))["note"].startswith(why)
    assert "note" not in good(client.post("/explain", json={"history": [held], "allow": [other]}))
    everything = good(
        client.post("/recommend", json={"history": [held], "deny": ids(trained, *range(4), *range(5, 40))})
    )
    assert items_of(everything) == ids(trained, 4)
    wrong(client.post("/similar", json={"item": held, "allow": [held]}), 400, f"No item is left but '{held}' itself")
    nothing = RankedList(np.zeros(0, np.int64), np.zeros(0))  # as beams may end, all of them in what is left out
    client.service.models.named("first").ranked = lambda asked, **_: [nothing for _ in asked]
    (result,) = good(client.post("/recommend", json={"history": [held]}))["results"]
    assert result["note"].startswith("The model came to none of the items")


def test_without_times_the_popular_are_those_of_all_training(trained: Recommender) -> None:
    undated = copy.copy(trained)
    undated.item_table = trained.item_table.drop("recent_count")
    listed = ServedModel("undated", undated, "1").popular(30, None)
    assert listed.scores.tolist() == sorted(trained.item_table["train_count"], reverse=True)[:30]
    assert listed.scores.tolist() == trained.item_table["train_count"].to_numpy()[listed.items].tolist()


def test_explanations_are_those_of_the_library(client: Any, trained: Recommender) -> None:
    history = ids(trained, 3, 1)
    body = {"history": history, "k": 4, "target": ids(trained, 7)[0]}
    answer = good(client.post("/explain", json=body))
    wanted = trained.explain(history, k=4, target=body["target"]).to_json()
    assert answer["explanation"] == json.loads(json.dumps(wanted))
    asked = {"history": history, "k": 4, "explain": True, "allow": ids(trained, 5, 6, 7)}
    (result,) = good(client.post("/recommend", json=asked))["results"]
    listed = [each["item"] for each in result["explanation"]["answer"]]
    assert listed == [each["item"] for each in result["items"]]
    assert set(listed) == set(asked["allow"])
    assert result["explanation"]["history_excluded"] is True
    wrong(client.post("/explain", json={"history": ["unheard of"]}), 400, "nothing to explain")
    wrong(client.post("/explain", json={"history": history, "target": "x"}), 400, "target")


def test_likeness_is_the_cosine_of_vectors(client: Any, trained: Recommender) -> None:
    item = ids(trained, 4)[0]
    answer = good(client.post("/similar", json={"item": item, "k": 5}))
    vectors = F.normalize(trained.method.catalogue().comparable_ND.detach(), dim=-1)
    cosines = (vectors @ vectors[4]).numpy()
    cosines[4] = -2
    best = np.argsort(-cosines)[:5]
    assert [each["item"] for each in answer["items"]] == ids(trained, *best)
    assert [each["score"] for each in answer["items"]] == pytest.approx(cosines[best], abs=1e-5)
    assert good(client.get("/similar", params={"item": item, "k": 5}))["items"] == answer["items"]
    wrong(client.get("/similar", params={"item": "unheard of"}), 404, "knows no item")
    wrong(client.post("/similar", json={"k": 3}), 400, "Name an item")


def test_likeness_is_asked_of_a_model_with_vectors(
    start: Any, place: ModelPlace, split: Any, trained: Recommender, tmp_path: Path
) -> None:
    from forethought.methods.item_knn import ItemKNN
    from forethought.runs import train

    knn = ModelPlace(name="knn", folder=str(train(ItemKNN(), split, tmp_path / "knn").folder), weight=1000.0)
    second = ModelPlace(name="second", folder=place.folder)
    item = ids(trained, 4)[0]
    client = start(models=(knn, place, second))
    for _ in range(5):
        assert good(client.get("/similar", params={"item": item}))["model"] == "first"
        assert good(client.post("/similar", json={"item": item}))["model"] == "first"
    assert good(client.get("/similar", params={"item": item, "model": "second"}))["model"] == "second"
    wrong(client.get("/similar", params={"item": item, "model": "knn"}), 400, "no vectors of items")
    client = start(models=(knn,))
    wrong(client.get("/similar", params={"item": item}), 400, "no vectors of items")


def test_items_are_found_by_words_of_their_title(client: Any, trained: Recommender) -> None:
    titles = trained.titles()
    word = str(titles[0][1]).split()[0]
    listed = good(client.get("/items", params={"q": word.upper(), "k": 30}))["items"]
    wanted = {item for item, title in titles if title and word.lower() in title.lower()}
    assert {each["item"] for each in listed} >= wanted
    assert [each["met"] for each in listed if each["item"] in wanted]
    by_id = good(client.get("/items", params={"q": titles[5][0]}))["items"]
    assert by_id[0]["item"] == titles[5][0]
    assert good(client.get("/items", params={"q": ".*("}))["items"] == []
    assert len(good(client.get("/items", params={"k": 7}))["items"]) == 7
    wrong(client.get("/items", params={"k": "0"}), 400, "whole number")
    wrong(client.get("/items", params={"words": "x"}), 400, "no parameter")


def test_events_are_kept_for_the_next_training(client: Any, trained: Recommender, tmp_path: Path) -> None:
    items = ids(trained, 5, 6)
    first = {"events": [{"user": "u1", "item": items[0], "time": 1_700_000_000, "kind": "purchase"}]}
    assert good(client.post("/events", json=first)) == {"kept": 1}
    assert good(client.post("/events", json={"events": [{"user": 7, "item": item} for item in items]})) == {"kept": 2}
    data = read(tmp_path / "events")
    assert (data.n_users, data.n_items, len(data)) == (2, 2, 3)
    table = pl.read_parquet(tmp_path / "events")
    assert table.row(0) == ("u1", items[0], 1_700_000_000, "purchase", None)
    assert abs(table["timestamp"][1] - time.time()) < 60
    wrong(client.post("/events", json={"events": []}), 400, "must be a list")
    wrong(client.post("/events", json={"events": [{"user": "u", "item": 5}]}), 400, "ids of items are text")
    half = b'{"events": [{"user": "u", "item": "\\ud800"}]}'
    wrong(client.post("/events", content=half, headers={"content-type": "application/json"}), 400, "UTF-8")
    assert len(pl.read_parquet(tmp_path / "events")) == 3


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (
            {"time": 1_700_000_000_000},
            "Event 1 has the time 1700000000000, which is no moment from 1990 to 2099: give Unix",
        ),
        ({"time": -1}, "has the time -1"),
        ({"time": 0}, "has the time 0"),
        ({"time": True}, "has the time"),
        ({"time": "2024-01-01"}, "give Unix seconds, such as 1700000000."),
        ({"user": ""}, "Event 1 has no user"),
        ({"item": ""}, "Event 1 has no item"),
        ({"kind": ""}, "Event 1 has an empty kind"),
        ({"model": "frist"}, "Event 1 names the model 'frist', but there are first"),
        ({"model": ""}, "names the model ''"),
    ],
)
def test_no_event_makes_the_folder_of_events_unreadable(
    client: Any, trained: Recommender, tmp_path: Path, odd: dict[str, Any], words: str
) -> None:
    plain = {"user": "u1", "item": ids(trained, 5)[0], "time": 1_700_000_000, "model": "first"}
    wrong(client.post("/events", json={"events": [plain, plain | odd]}), 400, words)
    assert good(client.post("/events", json={"events": [plain, {**plain, "time": 4_102_444_799}]})) == {"kept": 2}
    assert len(read(tmp_path / "events")) == 2


def test_events_of_another_kind_of_ids_are_not_added_to_a_folder(
    start: Any, trained: Recommender, tmp_path: Path
) -> None:
    event = {"user": "u1", "item": ids(trained, 5)[0]}
    good(start().post("/events", json={"events": [event]}))
    with pytest.raises(DataError, match="holds user_ids of type String, but this service writes Int64"):
        start(event_users="integer")
    good(start().post("/events", json={"events": [event]}))  # as before
    assert len(read(tmp_path / "events")) == 2


def test_who_answers_follows_from_weights_and_users(start: Any, place: ModelPlace, trained: Recommender) -> None:
    second = ModelPlace(name="second", folder=place.folder, weight=3.0)
    third = ModelPlace(name="third", folder=place.folder, weight=0.0)
    client = start(models=(place, second, third))
    names = {}
    for user in range(400):
        body = {"history": ids(trained, 3), "user": user}
        names[user] = good(client.post("/recommend", json=body))["model"]
    assert set(names.values()) == {"first", "second"}
    assert 0.68 < sum(name == "second" for name in names.values()) / 400 < 0.82
    for user in range(20):
        assert good(client.post("/recommend", json={"history": [], "user": user}))["model"] == names[user]
    assert good(client.post("/recommend", json={"history": [], "model": "third"}))["model"] == "third"
    wrong(client.post("/recommend", json={"history": [], "model": "thrid"}), 404, "Did you mean 'third'?")


def test_shadows_are_asked_and_not_seen(start: Any, place: ModelPlace, trained: Recommender) -> None:
    shadow = ModelPlace(name="shadow", folder=place.folder, shadow=True)
    client = start(models=(place, shadow))
    for _ in range(20):
        assert good(client.post("/recommend", json={"history": ids(trained, 3)}))["model"] == "first"
    for _ in range(100):
        text = client.get("/metrics").text
        if 'forethought_shadow_answers_total{model="shadow",outcome="answered"} 20.0' in text:
            break
        time.sleep(0.05)
    assert 'forethought_shadow_overlap_sum{model="shadow"} 20.0' in text  # the same run lists the same


def test_times_are_asked_for_where_they_are_read(start: Any, split: Any, quick: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    from forethought.backbones.hstu import HSTU
    from forethought.config import Recipe
    from forethought.runs import train

    backbone = HSTU(width=16, layers=1, head_width=8, window=8)
    run = train(Recipe(method=backbone, training=replace(quick, epochs=1)), split, tmp_path / "hstu")
    client = start(models=(ModelPlace(name="hstu", folder=str(run.folder)),))
    history, times = ids(run, 3, 1), [1_700_000_000, 1_700_050_000]
    answer = good(client.post("/recommend", json={"history": history, "times": times}))
    assert items_of(answer) == run.recommend([history], times=[times])[0].items
    wrong(client.post("/recommend", json={"history": history}), 400, "reads the time")
    wrong(client.post("/recommend", json={"history": history, "times": [1]}), 400, "2 Unix seconds")
    wrong(client.post("/recommend", json={"histories": [[], history]}), 400, 'give "times", Unix seconds')
    for nobody in ({"history": []}, {"histories": [[], []]}, {"history": [], "times": []}):  # no item, no time
        results = good(client.post("/recommend", json=nobody))["results"]
        assert {result["fallback"] for result in results} == {"popular"}
    wrong(client.post("/explain", json={"history": []}), 400, "nothing to explain")


def test_metrics_count_what_happened(client: Any, trained: Recommender) -> None:
    good(client.post("/recommend", json={"histories": [[*ids(trained, 3), "x", "y"], []]}))
    client.post("/recommend", json={"histories": 3})
    text = client.get("/metrics").text
    for line in (
        'forethought_requests_total{endpoint="/recommend",status="200"} 1.0',
        'forethought_requests_total{endpoint="/recommend",status="400"} 1.0',
        'forethought_fallbacks_total{model="first"} 1.0',
        'forethought_unknown_ids_total{model="first"} 2.0',
        'forethought_answers_total{model="first"} 2.0',
        "forethought_batch_histories_sum 1.0",
        'forethought_latency_seconds_count{stage="total"} 2.0',
    ):
        assert line in text


def test_openapi_has_every_path_with_examples_that_work(client: Any, trained: Recommender) -> None:
    paths = good(client.get("/openapi.json"))["paths"]
    assert {"/recommend", "/similar", "/explain", "/items", "/events", "/health", "/ready", "/metrics"} <= set(paths)
    good(client.put("/lists/stock", json={"items": ids(trained, 5)}))
    known = ids(trained, *range(10))
    tried = 0
    for path, methods in paths.items():
        for method, about in methods.items():
            body = about.get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in body.get("examples", {}).values():
                text = json.dumps(example["value"])
                for place, name in enumerate(("i00002", "i00003", "i00004", "i00007")):
                    text = text.replace(name, known[place])
                if "price" in text:
                    continue  # a column that this shop has not
                good(client.request(method, path.replace("{name}", "shelf"), json=json.loads(text)))
                tried += 1
    assert tried >= 5


def test_what_is_known_of_a_model(client: Any, trained: Recommender) -> None:
    (model,) = good(client.get("/models"))["models"]
    assert (model["name"], model["items"], model["method"]) == ("first", 40, "SASRec")
    about = good(client.get("/models/first"))
    assert about["catalogue"]["items"] == 40
    assert about["evaluation"] is None
    assert "evaluate the run" in about["evaluation_note"]
    assert about["health"]
    wrong(client.get("/models/other"), 404, "no model")


def test_weights_are_mapped_from_one_copy(client: Any, place: ModelPlace, tmp_path: Path) -> None:
    copies = list((tmp_path / "state" / "models").iterdir())
    assert len(copies) == 1
    run = client.service.models.named("first").run
    assert run.folder == Path(place.folder)
    (weights,) = copies[0].glob("*.safetensors")
    lines = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else str(weights)
    assert str(weights) in lines
    assert load(place.folder).weights_sum == run.weights_sum
