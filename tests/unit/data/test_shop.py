"""The simulated shop: the same everywhere, true to its settings, and worth learning from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.cluster.vq import kmeans2

from forethought.data.shop import Shop, SimulatedShop, shop
from forethought.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def default() -> SimulatedShop:
    return Shop().generate()


def item_rows(simulated: SimulatedShop) -> list[np.ndarray]:
    rows = {item_id: row for row, item_id in enumerate(simulated.items["item_id"])}
    histories = simulated.interactions.group_by("user_id", maintain_order=True).agg("item_id")["item_id"]
    return [np.array([rows[i] for i in history]) for history in histories.to_list()]


def hit_rate(histories: list[np.ndarray], score: Callable[[np.ndarray], np.ndarray], k: int = 10) -> float:
    """How often the last item is among the k best scored ones that the user has not met."""
    hits = 0
    for history in histories:
        scores = score(history[:-1]).astype(float)
        scores[history[:-1]] = -np.inf
        hits += history[-1] in np.argsort(-scores, kind="stable")[:k]
    return hits / len(histories)


def test_the_same_settings_give_the_same_shop() -> None:
    settings = Shop(users=50, items=60, seed=3)
    one, two, other = settings.generate(), settings.generate(), Shop(users=50, items=60, seed=4).generate()
    assert one.interactions.equals(two.interactions)
    assert one.items.equals(two.items)
    assert one.truth.equals(two.truth)
    assert not one.interactions.equals(other.interactions)


def test_a_shop_of_this_seed_looks_like_this_on_every_machine() -> None:
    simulated = Shop(users=20, items=40, seed=7).generate()
    title = "Pellemark compact tripod, refurbished"
    assert simulated.interactions.row(0) == ("u000000", "i00030", 1686995213, 0)
    assert simulated.interactions.row(-1) == ("u000019", "i00008", 1696124028, 4)
    categories = ["Electronics", "Photography", "tripod"]
    assert simulated.items.row(0) == ("i00000", title, "Pellemark", categories, 108.99)


def test_dials_at_their_defaults_change_nothing() -> None:
    """Taken before a route's length could be set: runs and pages stand on these shops."""
    simulated, digest = Shop(users=300, items=300, seed=5).generate(), hashlib.sha256()
    for table in (simulated.interactions, simulated.items, simulated.truth, simulated.intents, simulated.users):
        digest.update(table.write_json().encode())
    assert digest.hexdigest()[:16] == "351d39b662142384"


@pytest.mark.parametrize("length", [1, 3, 5, 7, 12, 20])
def test_a_route_is_as_long_as_asked_and_walked_to_its_end(length: int) -> None:
    simulated = Shop(users=400, items=800, intents=40, route_length=length, noise=0.0, seed=2).generate()
    own_kinds = simulated.item_truth.group_by("category").agg(pl.col("kind").unique())
    own = {category: set(kinds) for category, kinds in own_kinds.iter_rows()}
    routes = {}
    for intent, category, kinds in simulated.intents.select("intent_id", "category", "kinds").iter_rows():
        assert len(kinds) == len(set(kinds)) == length
        assert all((kind in own[category]) == (at < 5) for at, kind in enumerate(kinds))
        routes[intent] = kinds
    kind_of = dict(simulated.item_truth.select("item_id", "kind").iter_rows())
    walked: dict[int, set[str]] = {}
    for item, intent in zip(simulated.interactions["item_id"], simulated.truth["intent_id"], strict=True):
        walked.setdefault(intent, set()).add(kind_of[item])
    assert all(kinds <= set(routes[intent]) for intent, kinds in walked.items())
    assert max(map(len, walked.values())) == length


def test_aimless_users_follow_nothing_and_leave_the_others_as_they_are() -> None:
    some, none, all_of_them = (Shop(users=400, items=300, aimless_users=p, seed=3).generate() for p in (0.4, 0.0, 1.0))
    seen = some.interactions.with_columns(some.truth["noise"])
    aimless = seen.group_by("user_id", maintain_order=True).agg(pl.col("noise").all())
    assert 0.3 < aimless["noise"].mean() < 0.5  # type: ignore[operator]
    as_before = none.interactions.with_columns(none.truth["noise"])
    others = aimless.filter(~pl.col("noise"))["user_id"].implode()
    mine = [table.filter(pl.col("user_id").is_in(others)) for table in (seen, as_before)]
    assert mine[0].equals(mine[1])
    assert all_of_them.truth["noise"].all()
    popular = all_of_them.interactions.join(some.item_truth, on="item_id")["popularity"].mean()
    assert popular > 1.5 / 300  # type: ignore[operator]  # of the whole shop, by popularity


def test_tables_have_the_uniform_layout(default: SimulatedShop) -> None:
    assert dict(default.interactions.schema) == {
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": pl.Int64,
        "position": pl.Int32,
    }
    assert default.items.columns == ["item_id", "title", "brand", "categories", "price"]
    assert default.interactions["user_id"][0] == "u000000"
    assert default.items["item_id"][42] == "i00042"
    assert default.items["title"].n_unique() == 1_000
    assert default.items["categories"].list.len().unique().to_list() == [3]
    assert default.items["price"].to_numpy().min() > 0


def test_histories_are_in_order_without_repeats_and_inside_the_period(default: SimulatedShop) -> None:
    table, settings = default.interactions, Shop()
    assert table.equals(table.sort("user_id", "position"))
    assert table["user_id"].n_unique() == 2_000
    assert table.select("user_id", "item_id").is_duplicated().sum() == 0
    steps = table.with_columns(
        step=pl.int_range(pl.len(), dtype=pl.Int32).over("user_id"),
        passed=pl.col("timestamp").diff().over("user_id"),
    )
    assert steps["step"].equals(steps["position"], check_names=False)
    assert steps["passed"].drop_nulls().to_numpy().min() > 0
    times = table["timestamp"].to_numpy()
    assert settings.start <= times.min() <= times.max() <= settings.start + 730 * 86_400
    assert 18 < len(table) / 2_000 < 21


def test_truth_lies_beside_every_interaction(default: SimulatedShop) -> None:
    keys = ["user_id", "item_id", "position"]
    assert default.truth.select(keys).equals(default.interactions.select(keys))
    assert 0.08 < default.truth["noise"].to_numpy().mean() < 0.13
    sessions = default.truth.group_by("user_id", "session").agg(pl.col("intent_id").n_unique())
    assert sessions["intent_id"].max() == 1
    own = default.truth.join(default.users, on="user_id")
    assert own.select(pl.col("intents").list.contains(pl.col("intent_id")).all()).item()
    assert default.item_truth["popularity"].sum() == pytest.approx(1)


def test_what_is_no_noise_lies_on_the_route_of_its_intent(default: SimulatedShop) -> None:
    table = (
        default.truth.filter(~pl.col("noise"))
        .join(default.item_truth, on="item_id")
        .join(default.intents.select("intent_id", "kinds", "brands"), on="intent_id")
    )
    assert table.select(pl.col("kinds").list.contains(pl.col("kind")).all()).item()
    assert table.select(pl.col("brands").list.contains(pl.col("brand")).mean()).item() > 0.6


def test_intents_drift_along_a_life() -> None:
    simulated = Shop(users=500, drift=8.0, intents_per_user=2).generate()
    two = simulated.users.filter(pl.col("intents").list.n_unique() == 2)
    table = simulated.truth.join(two, on="user_id").with_columns(
        late=pl.col("position") * 2 > pl.col("position").max().over("user_id"),
        second=pl.col("intent_id") == pl.col("intents").list.last(),
    )
    share = dict(table.group_by("late").agg(pl.col("second").mean()).iter_rows())
    assert share[True] > 0.65
    assert share[False] < 0.35


def test_popularity_has_a_head_and_a_tail(default: SimulatedShop) -> None:
    counts = default.interactions["item_id"].value_counts(sort=True)["count"].to_numpy()
    assert counts[:100].sum() > 0.25 * counts.sum()


def test_counting_transitions_beats_popularity_by_far_and_order_matters(default: SimulatedShop) -> None:
    histories, n_items = item_rows(default), len(default.items)
    popularity, follows, together = np.zeros(n_items), np.zeros((n_items, n_items)), np.zeros((n_items, n_items))
    for history in histories:
        train = history[:-1]
        np.add.at(popularity, train, 1)
        np.add.at(follows, (train[:-1], train[1:]), 1)
        together[np.ix_(train, train)] += 1
    norm = np.sqrt(np.diag(together) + 1)

    by_popularity = hit_rate(histories, lambda _: popularity)
    by_last_item = hit_rate(histories, lambda history: follows[history[-1]] + 1e-6 * popularity)
    by_unordered = hit_rate(histories, lambda history: (together[history] / norm[history, None]).sum(0) / norm)
    assert by_last_item > 5 * by_popularity
    assert by_last_item > 1.3 * by_unordered


def test_intents_can_be_recovered_from_who_met_what(default: SimulatedShop) -> None:
    """Items met in the same sessions, embedded and clustered: clusters agree with intents far above chance."""
    truth = default.truth.join(default.items.with_row_index("row"), on="item_id", maintain_order="left")
    session = truth.select(pl.struct("user_id", "session").rank("dense")).to_series().to_numpy() - 1
    visits = np.zeros((session.max() + 1, len(default.items)), np.float32)
    visits[session, truth["row"].to_numpy()] = 1
    together = visits.T @ visits
    together /= np.sqrt(np.outer(np.diag(together), np.diag(together)))
    _, vectors = np.linalg.eigh(together)
    _, cluster = kmeans2(vectors[:, -64:], vectors[::15, -64:][:64], minit="matrix")
    votes = np.zeros((64, 64))
    np.add.at(votes, (cluster[truth["row"].to_numpy()], truth["intent_id"].to_numpy()), 1)
    assert votes.max(1).sum() / votes.sum() > 5 * votes.sum(0).max() / votes.sum()


def test_writing_in_blocks_gives_what_generate_gives(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shop, "USERS_A_BLOCK", 16)
    settings, told = Shop(users=50, items=60, seed=3), []
    folder = settings.write(tmp_path / "shop", report=lambda *progress: told.append(progress))
    whole = settings.generate()
    assert pl.read_parquet(folder / "interactions.parquet").equals(whole.interactions)
    assert pl.read_parquet(folder / "items.parquet").equals(whole.items)
    assert pl.read_parquet(folder / "truth" / "interactions.parquet").equals(whole.truth)
    assert pl.read_parquet(folder / "truth" / "items.parquet").equals(whole.item_truth)
    assert pl.read_parquet(folder / "truth" / "intents.parquet").equals(whole.intents)
    assert pl.read_parquet(folder / "truth" / "users.parquet").equals(whole.users)
    assert Shop(**json.loads((folder / "shop.json").read_text())) == settings
    assert told[-1] == ("simulating users", 50, 50)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop"]


def test_writing_destroys_nothing_it_was_not_told_to(tmp_path) -> None:
    settings = Shop(users=5, items=20)
    folder = settings.write(tmp_path / "shop")
    with pytest.raises(DataError, match="already holds a simulated shop"):
        settings.write(folder)
    assert settings.write(folder, overwrite=True) == folder
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="is not a simulated shop"):
        settings.write(mine, overwrite=True)
    assert (mine / "thesis.txt").exists()
    with pytest.raises(DataError, match="could not be written"):
        settings.write(mine / "thesis.txt" / "shop")


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full_disk)
    with pytest.raises(DataError, match="No space left"):
        Shop(users=5, items=20).write(tmp_path / "shop")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"users": 1, "items": 10, "intents": 1, "intents_per_user": 1, "brands": 8},
        {"users": 30, "items": 5_000, "intents": 200, "brands": 480},
        {"users": 30, "items": 50, "interactions_per_user": 5, "noise": 1.0},
        {"users": 30, "items": 50, "noise": 0.0, "popularity": 0.0, "drift": 0.0, "repeats": True},
        {"users": 30, "items": 12, "interactions_per_user": 60, "days": 1},
    ],
)
def test_shops_of_odd_sizes_are_whole(settings: dict) -> None:
    simulated = Shop(**settings).generate()
    assert simulated.interactions["user_id"].n_unique() == settings["users"]
    assert len(simulated.items) == settings["items"]
    assert simulated.interactions.null_count().sum_horizontal().item() == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"users": 0}, "users is 0, but must be a whole number from 1 to 100,000,000"),
        ({"items": 9}, "items is 9, but must be a whole number from 10 to"),
        ({"noise": 1.5}, "noise is 1.5, but must be a number from 0 to 1"),
        ({"noise": float("nan")}, "noise is nan, but must be a number from 0 to 1"),
        ({"aimless_users": -0.1}, "aimless_users is -0.1, but must be a number from 0 to 1"),
        ({"route_length": 0}, "route_length is 0, but must be a whole number from 1 to 20"),
        ({"route_length": 21}, "route_length is 21, but must be a whole number from 1 to 20"),
        ({"interactions_per_user": 3}, "cannot be smaller"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Shop(**settings)


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"users": 3}'])
def test_a_folder_is_not_taken_for_a_shop_by_the_name_of_a_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "shop.json").write_text(text)
    with pytest.raises(DataError, match="is not a simulated shop, so it is not overwritten"):
        Shop(users=10, items=12).write(tmp_path / "there", overwrite=True)
    assert (tmp_path / "there" / "shop.json").read_text() == text
