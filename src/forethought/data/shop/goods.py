"""The simulated shop's shelves: its category tree, brands, items, and the intents that walk along them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from forethought.data.shop import words
from forethought.data.shop.settings import ShopSettings

KINDS_A_CATEGORY = 5


@dataclass(frozen=True)
class Goods:
    """What the shop sells and what people come for; N items, J intents, R stages of a route.

    A *shelf* is one stage of one intent: the items of that stage's kind, with the shares at which this intent picks
    them. All shelves lie behind each other in one array, shelf s between s and s+1, so that drawing an item
    for many visitors at once is one binary search for `s + share`.

    Attributes:
        items: what a customer sees: item_id, title, brand, categories (three levels), price in euros.
        item_truth: item_id, department, category, kind, brand, popularity (share of all noise visits).
        intents: intent_id, name, department, category, kinds (the route), brands, popularity.
        shelf_items: int32 [S], item rows, shelf after shelf.
        shelf_ends: float64 [S], shelf number plus the cumulative share of the item; increasing.
        shelf_offsets: int64 [J*R+1]; shelf s owns shelf_items[shelf_offsets[s]:shelf_offsets[s+1]].
        item_ends: float64 [N], cumulative popularity of all items.
        intent_ends: float64 [J], cumulative popularity of all intents.
    """

    items: pl.DataFrame
    item_truth: pl.DataFrame
    intents: pl.DataFrame
    shelf_items: np.ndarray
    shelf_ends: np.ndarray
    shelf_offsets: np.ndarray
    item_ends: np.ndarray
    intent_ends: np.ndarray

    def choose(self, shelves: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Places (rows of `shelf_items`) at the given shares, in [0, 1), of the given shelves."""
        places = np.searchsorted(self.shelf_ends, shelves + shares, side="right")
        return np.clip(places, self.shelf_offsets[shelves], self.shelf_offsets[shelves + 1] - 1)

    def neighbours(self, places: np.ndarray) -> np.ndarray:
        """The places next to the given ones; behind the end of a shelf comes its beginning."""
        shelves = np.searchsorted(self.shelf_offsets, places, side="right") - 1
        at_end = places + 1 == self.shelf_offsets[shelves + 1]
        return np.where(at_end, self.shelf_offsets[shelves], places + 1)


@dataclass(frozen=True)
class _Tree:
    """The part of the category tree that this shop carries; kind k belongs to category k // KINDS_A_CATEGORY."""

    departments: list[str]  # of each category
    categories: list[str]
    kinds: list[str]
    prices: np.ndarray  # typical price of each kind, euros

    @classmethod
    def of_size(cls, n_items: int) -> _Tree:
        """As many categories as leave two items a kind, at least one; departments take turns."""
        ordered = [(dept, list(words.TREE[dept])[i]) for i in range(4) for dept in words.TREE]
        chosen = ordered[: max(1, n_items // (2 * KINDS_A_CATEGORY))]
        kinds = [(kind, price) for dept, category in chosen for kind, price in words.TREE[dept][category].items()]
        departments, categories = [d for d, _ in chosen], [c for _, c in chosen]
        return cls(departments, categories, [kind for kind, _ in kinds], np.array([price for _, price in kinds]))


def stock(shop: ShopSettings, rng: np.random.Generator) -> Goods:
    """Fill the shelves of a shop of these settings."""
    tree = _Tree.of_size(shop.items)
    brands, department_of_brand = _brands(shop.brands, tree, rng)
    kind_N = rng.permutation(shop.items) % len(tree.kinds)
    brand_N = _brand_of_items(kind_N, department_of_brand, tree, rng)
    popularity_N = _zipf(rng.permutation(shop.items), shop.popularity)
    items = _describe(tree, kind_N, brands, brand_N, rng)
    routes_JR, liked_JB, popularity_J, intents = _intents(shop, tree, brands, department_of_brand, rng)

    by_kind = np.lexsort((rng.random(shop.items), kind_N)).astype(np.int32)  # a kind's order is its order of taste
    kind_offsets = np.searchsorted(kind_N[by_kind], np.arange(len(tree.kinds) + 1))
    shelf_items, shelf_ends, sizes = [], [], []
    for route_R, liked_B in zip(routes_JR, liked_JB, strict=True):
        for kind in route_R:
            rows = by_kind[kind_offsets[kind] : kind_offsets[kind + 1]]
            share = popularity_N[rows] * np.where(liked_B[brand_N[rows]], shop.brand_loyalty, 1.0)
            ends = np.cumsum(share) / share.sum()
            ends[-1] = 1.0
            shelf_items.append(rows)
            shelf_ends.append(len(sizes) + ends)
            sizes.append(len(rows))

    category_N = kind_N // KINDS_A_CATEGORY
    item_truth = items.select(
        "item_id",
        department=pl.Series(np.array(tree.departments)[category_N]),
        category=pl.Series(np.array(tree.categories)[category_N]),
        kind=pl.Series(np.array(tree.kinds)[kind_N]),
        brand=pl.col("brand"),
        popularity=pl.Series(popularity_N),
    )
    return Goods(
        items,
        item_truth,
        intents,
        np.concatenate(shelf_items),
        np.concatenate(shelf_ends),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.cumsum(popularity_N),
        np.cumsum(popularity_J),
    )


def _zipf(ranks: np.ndarray, exponent: float) -> np.ndarray:
    weights = (ranks + 1.0) ** -exponent
    return weights / weights.sum()


def _brands(n_brands: int, tree: _Tree, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Names [Br], and the department [Br] (as a row of the distinct departments) that each brand supplies."""
    names = np.array([a + b for a in words.BRAND_BEGINNINGS for b in words.BRAND_ENDS])
    chosen = rng.permutation(len(names))[:n_brands]
    return names[chosen], np.arange(n_brands) % len(dict.fromkeys(tree.departments))


def _brand_of_items(
    kind_N: np.ndarray, department_of_brand: np.ndarray, tree: _Tree, rng: np.random.Generator
) -> np.ndarray:
    """A brand for every item out of those of its department; early brands of a department are the larger ones."""
    distinct = list(dict.fromkeys(tree.departments))
    department_N = np.array([distinct.index(d) for d in tree.departments])[kind_N // KINDS_A_CATEGORY]
    draw_N = rng.random(len(kind_N))
    brand_N = np.zeros(len(kind_N), np.int64)
    for row in range(len(distinct)):
        brands, in_department = np.flatnonzero(department_of_brand == row), department_N == row
        ends = np.cumsum(_zipf(np.arange(len(brands)), 0.5))
        brand_N[in_department] = brands[
            np.minimum(np.searchsorted(ends, draw_N[in_department], side="right"), len(brands) - 1)
        ]
    return brand_N


def _describe(
    tree: _Tree, kind_N: np.ndarray, brands: np.ndarray, brand_N: np.ndarray, rng: np.random.Generator
) -> pl.DataFrame:
    """Titles, categories and prices: dear brands ask up to three times what cheap ones do."""
    department_N = np.array(tree.departments)[kind_N // KINDS_A_CATEGORY]
    level_N = (0.6 + 1.2 * rng.random(len(brands)))[brand_N] * (0.8 + 0.4 * rng.random(len(kind_N)))
    draws = rng.random((2, len(kind_N)))
    styles, variants = (
        np.array([table[d][int(u * len(table[d]))] for d, u in zip(department_N, draw, strict=True)])
        for table, draw in ((words.STYLES, draws[0]), (words.VARIANTS, draws[1]))
    )
    table = pl.DataFrame(
        {
            "brand": brands[brand_N],
            "department": department_N,
            "category": np.array(tree.categories)[kind_N // KINDS_A_CATEGORY],
            "kind": np.array(tree.kinds)[kind_N],
            "style": styles,
            "variant": variants,
            "price": np.round(np.maximum(np.round(tree.prices[kind_N] * level_N), 1.0) - 0.01, 2),
        }
    )
    model = pl.int_range(1, pl.len() + 1).over("brand", "kind", "style", "variant")
    title = pl.format("{} {} {}, {}", "brand", "style", "kind", "variant")
    return table.select(
        item_id=ids("i", np.arange(len(kind_N)), len(kind_N), least=5),
        title=pl.when(model == 1).then(title).otherwise(pl.format("{}, model {}", title, model)),
        brand="brand",
        categories=pl.concat_list("department", "category", "kind"),
        price="price",
    )


def _intents(
    shop: ShopSettings, tree: _Tree, brands: np.ndarray, department_of_brand: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, pl.DataFrame]:
    """Routes [J, R] of kinds, liked brands [J, Br], popularity [J], and the table that describes them.

    Intents of the same category share its kinds and differ by their brands and by the neighbouring category
    they lead to, so that telling them apart takes more than the last item.
    """
    distinct, n_categories = list(dict.fromkeys(tree.departments)), len(tree.categories)
    per_category = -(-shop.intents // n_categories)
    routes, liked, rows = [], [], []
    popularity_J = _zipf(rng.permutation(shop.intents), 0.5)
    for j in range(shop.intents):
        own, turn = j % n_categories, j // n_categories
        department = tree.departments[own]
        neighbours = [c for c, d in enumerate(tree.departments) if d == department and c != own] or [own]
        routes.append(_route(shop.route_length, own, neighbours, turn))
        candidates = np.flatnonzero(department_of_brand == distinct.index(department))
        liked.append(np.isin(np.arange(len(brands)), candidates[turn % per_category :: per_category]))
        names = brands[liked[-1]].tolist()
        rows.append(
            {
                "intent_id": j,
                "name": f"{tree.categories[own]} by {', '.join(names[:3]) or 'anyone'}",
                "department": department,
                "category": tree.categories[own],
                "kinds": [tree.kinds[k] for k in routes[-1]],
                "brands": names,
                "popularity": popularity_J[j],
            }
        )
    schema = {"intent_id": pl.Int32, "brands": pl.List(pl.String)}
    return np.array(routes), np.array(liked), popularity_J, pl.DataFrame(rows, schema_overrides=schema)


def _route(length: int, own: int, neighbours: list[int], turn: int) -> list[int]:
    """The kinds of a category's intent number `turn`: its own category's, then those of its neighbours in turn."""
    kinds = list(range(KINDS_A_CATEGORY * own, KINDS_A_CATEGORY * (own + 1)))
    while len(kinds) < length:
        neighbour = neighbours[(turn + own + len(kinds) // KINDS_A_CATEGORY - 1) % len(neighbours)]
        # no intent enters at the last kind, so that the two of the default route follow each other on the shelves
        entered = turn % (KINDS_A_CATEGORY - 1)
        kinds += [KINDS_A_CATEGORY * neighbour + (entered + k) % KINDS_A_CATEGORY for k in range(KINDS_A_CATEGORY)]
    return kinds[:length]


def ids(letter: str, rows: np.ndarray, total: int, *, least: int) -> pl.Series:
    """Ids that look like a shop's, such as u000123: a letter and as many digits as `total` needs, `least` or more."""
    digits = max(least, len(str(total - 1)))
    return pl.select(pl.lit(letter) + pl.Series(rows).cast(pl.String).str.zfill(digits)).to_series()
