"""When to think, on tiny shops: what is made, what is gained over each bar, and what the page says is decided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.shop import Shop
from forethought.errors import DataError
from forethought.methods.dtrec import DTRec
from forethought.methods.next_item import NextItem
from forethought.studies import difficulty, gains, runner, variants, verdicts
from forethought.studies.difficulty import DIALS, STUDY, Dial
from forethought.studies.gains import Gain
from forethought.studies.runner import StudyContext, carry_out_all
from forethought.studies.shops import shop_split
from forethought.training.progress import Quiet
from forethought.training.settings import Training

BASE = Shop(users=40, items=40, interactions_per_user=8.0, seed=3)
NOISE = Dial("noise", "noise", "noise", 0.0, 0.4)
SMALL = SASRec(width=16, heads=2, window=8, ffn_width=32)
QUICK = Training(epochs=1, batch_positions=128, learning_rate=5e-3, warmup_steps=5)
TINY = {
    "sasrec": Recipe(method=NextItem(backbone=SMALL), training=QUICK),
    "deep": Recipe(method=NextItem(backbone=replace(SMALL, layers=2)), training=QUICK),
    "long": Recipe(method=NextItem(backbone=SMALL), training=replace(QUICK, epochs=2)),
    "dtrec": Recipe(
        method=DTRec(backbone=replace(SMALL, input_norm=True), first_clusters=4, most_clusters=12), training=QUICK
    ),
}


def test_shops_differ_in_one_dial_each() -> None:
    shops = difficulty.shops(Shop(), DIALS)
    assert STUDY.shops == shops
    assert len(shops) == 1 + 2 * len(DIALS)
    for name, shop in shops.items():
        changed = {d.setting for d in DIALS if getattr(shop, d.setting) != getattr(Shop(), d.setting)}
        assert len(changed) == (name != difficulty.DEFAULT)
        assert replace(shop, **{s: getattr(Shop(), s) for s in changed}) == Shop()


def test_variants_train_alike_but_for_what_their_name_says() -> None:
    recipes = {name: variants.VARIANTS[name]() for name in STUDY.variants}
    for name, recipe in recipes.items():
        assert recipe.training.epochs == recipe.training.patience == (48 if "long" in name else 12)
        width = getattr(recipe.method, "width", None) or recipe.method.backbone.width  # type: ignore[attr-defined]
        assert width == 32
        assert replace(recipe.training, epochs=12, patience=12) == recipes["sasrec-level"].training


def test_a_shop_is_made_once_and_keeps_its_whole_name(tmp_path: Path) -> None:
    shop = replace(BASE, noise=0.4)
    split = shop_split("shop-noise-0.4", shop, tmp_path)
    assert split.data.name == "shop-noise-0.4"  # up to its dot it would be that of another shop
    written = (tmp_path / "shop-noise-0.4" / "shop.json").stat().st_mtime_ns
    assert shop_split("shop-noise-0.4", shop, tmp_path).data.data_hash == split.data.data_hash
    assert (tmp_path / "shop-noise-0.4" / "shop.json").stat().st_mtime_ns == written
    assert shop_split("shop-noise-0.4", BASE, tmp_path).data.data_hash != split.data.data_hash
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_text("me")
    with pytest.raises(DataError, match="not a simulated shop"):
        shop_split("photos", BASE, tmp_path)


def test_a_study_on_shops_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: (lambda recipe=recipe: recipe) for name, recipe in TINY.items()}
    for module in (variants, runner):
        monkeypatch.setattr(module, "VARIANTS", few)
    study = difficulty.study(BASE, (NOISE,), ("sasrec", "deep", "long"), ("dtrec",))
    contexts = [
        StudyContext(
            shop_split(name, shop, tmp_path / "shops"), tmp_path / "r", tmp_path / "runs", lambda _: None, Quiet, "x"
        )
        for name, shop in study.shops.items()
    ]
    page = carry_out_all(study, contexts, seeds=[0], only=["sasrec"])
    assert "## Every shop" in page.read_text()  # with nothing to hold against it there is a page too
    assert not list((tmp_path / "r").glob("*.svg"))
    page = carry_out_all(study, contexts, seeds=[0])
    text = page.read_text()
    assert len(list((tmp_path / "r" / "runs").glob("*.json"))) == 3 * 4
    assert (tmp_path / "r" / "when-to-think-gain.svg").read_text().startswith("<?xml")
    for row in ("| shop-default | dtrec |", "| shop-noise-0 | long |", "| shop-noise-0.4 | deep |"):
        assert row in text
    kept = json.loads((tmp_path / "r" / "when-to-think" / "related-shop-default-file.json").read_text())
    assert set(kept["against"]) == {"deep", "long"}
    assert [each["method"] for each in kept["against"]["deep"]["differences"]] == ["dtrec", "dtrec"]
    assert "Thinking pays" in text


def gain(mean: float, half: float = 0.01, p: float = 0.001) -> Gain:
    return Gain(mean, mean - half, mean + half, p, 3)


def test_thinking_pays_only_ahead_of_every_bar() -> None:
    over = {
        "one": {("a", "think"): gain(0.05), ("a", "long"): gain(0.04), ("b", "think"): gain(0.05)},
        "long": {("a", "think"): gain(0.02, p=0.2), ("b", "think"): gain(-0.03)},
    }
    told = verdicts.where_it_pays(over, ["think"], str, str)
    assert "in none of these 2 shops" in told
    assert "long, without thinking, is ahead of one in 1 of 2 shops (a)" in told
    over["long"]["b", "think"] = gain(0.03)
    assert "think in 1 of 2 shops (b)" in verdicts.where_it_pays(over, ["think"], str, str)
    rows = verdicts.counted(over, str)
    assert ("think", "long", 1, 0, 1) in rows
    assert ("think", "one", 2, 0, 0) in rows


def test_a_move_between_shops_has_the_doubt_of_both() -> None:
    move = gains.change(gain(0.01, 0.03), gain(0.06, 0.04))
    assert move.mean == pytest.approx(0.05)
    assert move.high - move.mean == pytest.approx(0.05, rel=1e-4)  # 3, 4 and 5
    assert move.p == pytest.approx(0.05, abs=1e-3)
    assert gains.change(gain(0.01), gain(0.01)).p == 1.0


def test_a_move_is_told_where_every_bar_sees_it() -> None:
    turned = {"noise": ("a", "b"), "length": ("a", "c")}
    first = {("a", "t"): gain(0.0), ("b", "t"): gain(0.2), ("c", "t"): gain(0.2)}
    other = {("a", "t"): gain(0.0), ("b", "t"): gain(0.2), ("c", "t"): gain(-0.2)}
    moved = {bar: verdicts.moves(of, ["t"], turned) for bar, of in (("one", first), ("long", other))}
    told = verdicts.what_moves(moved, str)
    assert "the gain of t rises with noise" in told
    assert "length" not in told
    assert "not decided" in verdicts.what_moves({"one": moved["one"], "long": {}}, str)


def test_gains_alike_are_told_by_ranks() -> None:
    rng = np.random.default_rng(0)
    of = {(name, v): gain(float(x)) for name, x in zip("abcdef", rng.random(6), strict=True) for v in ("t", "long")}
    assert "t 1.00" in verdicts.alike(of, ["t"], "long", str)
    assert verdicts.alike({}, ["t"], "long", str) == ""
