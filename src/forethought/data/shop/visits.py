"""What the simulated shop's customers do: a block of users at a time, without a loop over users or over time.

A user has a few intents whose weights drift along their life. A session follows one of them. Each intent keeps, per
user, a *stage* (which kind of goods comes next) and a *taste* (a point on a circle; every kind is laid out on the
same circle, so that things at the same point go together). Taste moves a little from item to item, which makes
companions: the tent at 0.37 leads to the sleeping bags around 0.37. As taste stays uniform on the circle,
items keep exactly the popularity that their shelf gives them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forethought.data.shop.goods import Goods
from forethought.data.shop.settings import ShopSettings

DAY_S = 86_400


@dataclass(frozen=True)
class Visits:
    """Interactions of one block of users, sorted by user and time; n interactions, U users, M slots for intents.

    Attributes:
        user, item, intent, session, position: int [n]; `user` counts from the block's first user.
        timestamp: int64 [n], Unix seconds.
        noise: bool [n], True where the item came from the whole shop and not from the intent.
        intents_UM: int [U, M], the intents of each user in the order of their life; -1 behind the last one.
    """

    user: np.ndarray
    item: np.ndarray
    timestamp: np.ndarray
    position: np.ndarray
    intent: np.ndarray
    session: np.ndarray
    noise: np.ndarray
    intents_UM: np.ndarray


def visits(shop: ShopSettings, goods: Goods, n_users: int, rng: np.random.Generator) -> Visits:
    """Let `n_users` new customers live through the shop's whole period."""
    length_U = _lengths(shop, n_users, rng)
    first_U = np.cumsum(length_U) - length_U
    user = np.repeat(np.arange(n_users), length_U)
    n = len(user)
    step = np.arange(n) - first_U[user]

    slots_U = 1 + np.floor(rng.random(n_users) * shop.intents_per_user).astype(np.int64)
    intents_UM = _search(goods.intent_ends, rng.random((n_users, shop.intents_per_user)))
    intents_UM[np.arange(shop.intents_per_user) >= slots_U[:, None]] = -1

    begins = (step == 0) | (rng.random(n) * shop.session_length < 1)
    slot = _slots(shop, user, slots_U, step / length_U[user], begins, rng=rng)
    intent = intents_UM[user, slot]
    place = _walk(shop, goods, user * shop.intents_per_user + slot, intent, rng)
    aimless_U = rng.spawn(1)[0].random(n_users) < shop.aimless_users  # of a stream of its own: all else stays as it is
    noise = (rng.random(n) < shop.noise) | aimless_U[user]
    item = np.where(noise, _search(goods.item_ends, rng.random(n)), goods.shelf_items[place])
    kept = slice(None)
    if not shop.repeats:
        item = _without_repeats(goods, user, item, place, ~noise)
        kept = ~_repeated(user, item, shop.items)

    timestamp = _times(shop, begins, user, first_U, rng)
    session = np.cumsum(begins)
    session -= session[first_U][user]
    user, step = user[kept], _positions(user[kept], n_users)
    return Visits(user, item[kept], timestamp[kept], step, intent[kept], session[kept], noise[kept], intents_UM)


def _lengths(shop: ShopSettings, n_users: int, rng: np.random.Generator) -> np.ndarray:
    """Geometric above the minimum: most histories are short, a few are long."""
    extra = shop.interactions_per_user - shop.min_interactions
    u = rng.random(n_users)  # drawn in any case, so that later draws do not depend on the settings
    if extra <= 0:
        return np.full(n_users, shop.min_interactions, np.int64)
    return shop.min_interactions + np.floor(np.log1p(-u) / np.log1p(-1 / (1 + extra))).astype(np.int64)


def _slots(
    shop: ShopSettings,
    user: np.ndarray,
    slots_U: np.ndarray,
    life: np.ndarray,
    begins: np.ndarray,
    *,
    rng: np.random.Generator,
) -> np.ndarray:
    """Which of their intents every interaction follows: drawn anew when a session begins.

    Slot m of k has its day around (m + 1/2) / k of the user's life; `drift` says how sharply.
    """
    slots_S = slots_U[user[begins], None]
    centre_SM = (np.arange(shop.intents_per_user) + 0.5) / slots_S
    weight_SM = np.exp(-shop.drift * np.abs(life[begins, None] - centre_SM))
    weight_SM[centre_SM > 1] = 0.0
    ends_SM = np.cumsum(weight_SM, axis=1)
    drawn_S = (ends_SM <= rng.random(len(ends_SM))[:, None] * ends_SM[:, -1:]).sum(1)
    return np.minimum(drawn_S, slots_S[:, 0] - 1)[np.cumsum(begins) - 1]


def _walk(
    shop: ShopSettings, goods: Goods, stream: np.ndarray, intent: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The place on its shelf of every interaction's item, were there no noise; a stream is one user's one intent."""
    n = len(stream)
    order = np.argsort(stream, kind="stable")
    starts = np.diff(stream[order], prepend=-1) != 0
    of_start = np.maximum.accumulate(np.where(starts, np.arange(n), 0))

    advances = (rng.random(n) < shop.advance) & ~starts
    moved = np.cumsum(advances)
    begun_at = np.floor(rng.random(n) * shop.route_length).astype(np.int64)
    stage = (begun_at[of_start] + moved - moved[of_start]) % shop.route_length
    shelf = intent[order] * shop.route_length + stage

    fresh = starts | (rng.random(n) >= shop.coherence)
    of_fresh = np.maximum.accumulate(np.where(fresh, np.arange(n), 0))
    size = np.diff(goods.shelf_offsets)[shelf]
    drifted = np.cumsum((rng.random(n) - 0.5) * shop.companions / size)
    taste = (rng.random(n)[of_fresh] + drifted - drifted[of_fresh]) % 1.0

    place = np.empty(n, np.int64)
    place[order] = goods.choose(shelf, taste)
    return place


def _times(
    shop: ShopSettings, begins: np.ndarray, user: np.ndarray, first_U: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Minutes within a session, days between sessions, squeezed where a life would outlast the period."""
    mean_s = np.where(begins, shop.days_between_sessions * DAY_S, 120.0)
    gap = 1 + np.floor(-np.log1p(-rng.random(len(user))) * mean_s).astype(np.int64)
    gap[first_U] = 0
    passed = np.cumsum(gap)
    passed -= passed[first_U][user]
    period = shop.days * DAY_S
    last_U = passed[np.append(first_U[1:], len(user)) - 1]
    squeezed = np.where((last_U > period)[user], _scaled(passed, period, np.maximum(last_U, 1)[user]), passed)
    arrives_U = np.floor(rng.random(len(first_U)) * np.maximum(period - last_U, 0)).astype(np.int64)
    return shop.start + arrives_U[user] + squeezed


def _scaled(passed: np.ndarray, period: int, last: np.ndarray) -> np.ndarray:
    """passed * period // last; in float64 where the product would not fit into int64."""
    if int(passed.max(initial=0)) * period < 2**63:
        return passed * period // last
    return (passed / last * period).astype(np.int64)


def _without_repeats(
    goods: Goods, user: np.ndarray, item: np.ndarray, place: np.ndarray, movable: np.ndarray
) -> np.ndarray:
    """Who has had an item takes the one beside it on the shelf; a few rounds leave few repeats, which are dropped."""
    item, place = item.copy(), place.copy()
    for _ in range(4):
        again = np.flatnonzero(_repeated(user, item, len(goods.items)) & movable)
        place[again] = goods.neighbours(place[again])
        item[again] = goods.shelf_items[place[again]]
    return item


def _repeated(user: np.ndarray, item: np.ndarray, n_items: int) -> np.ndarray:
    """True where a user has met the item before."""
    repeated = np.ones(len(user), bool)
    repeated[np.unique(user * np.int64(n_items) + item, return_index=True)[1]] = False
    return repeated


def _positions(user: np.ndarray, n_users: int) -> np.ndarray:
    count_U = np.bincount(user, minlength=n_users)
    return np.arange(len(user)) - (np.cumsum(count_U) - count_U)[user]


def _search(ends: np.ndarray, shares: np.ndarray) -> np.ndarray:
    return np.minimum(np.searchsorted(ends, shares, side="right"), len(ends) - 1)
