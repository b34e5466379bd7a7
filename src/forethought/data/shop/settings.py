"""What can be chosen of a simulated shop, and in which ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from forethought.errors import ConfigError
from forethought.settings import Between, Seed, Settings, Share


@dataclass(frozen=True, kw_only=True)
class ShopSettings(Settings):
    """Settings of a simulated shop.

    Attributes:
        users: number of users, from 1.
        items: number of items, from 10; small shops carry fewer categories.
        interactions_per_user: mean number drawn for a user, at least `min_interactions`. Without repeats some of
            them are dropped (a few per cent at the defaults).
        min_interactions: fewest drawn for a user, from 1.
        seed: of everything, from 0.
        intents: number of distinct intents in the shop, from 1.
        intents_per_user: most intents a user has in a life, from 1; one to this many are equally likely.
        route_length: kinds of goods on an intent's route, 1 to 20; behind the last comes the first again. The first 5
            are of the intent's own category, the next of neighbouring ones.
        session_length: mean number of interactions in a session, from 1; a session follows one intent.
        drift: how sharply a user's intents take turns along their life; 0 mixes them evenly, 10 keeps them apart.
        advance: probability that the next item of an intent is of the next kind and not of the same, 0 to 1.
        coherence: probability that the next item of an intent goes with the one before, 0 to 1.
        companions: about how many items of the next kind go with one item, above 0.
        brand_loyalty: how many times likelier an item is picked when its brand is the intent's, from 1.
        popularity: exponent of Zipf's law over the items, from 0 (all alike).
        noise: probability that an interaction has nothing to do with the intent, 0 to 1.
        aimless_users: probability that a user never follows an intent, so that all interactions are noise, 0 to 1.
        repeats: whether a user may meet an item again; if not, only the first time is kept.
        brands: number of brands, 8 to 480.
        days: length of the period in days, from 1.
        days_between_sessions: mean pause between two sessions in days, above 0; shortened for long lives.
        start: first second of the period, Unix seconds.

    Raises:
        ConfigError: a setting is out of its range.
    """

    users: Annotated[int, Between(1, 100_000_000)] = 2_000
    items: Annotated[int, Between(10, 5_000_000)] = 1_000
    interactions_per_user: Annotated[float, Between(1, 1_000)] = 20.0
    min_interactions: Annotated[int, Between(1, 1_000)] = 5
    seed: Seed = 0
    intents: Annotated[int, Between(1, 1_000)] = 64
    intents_per_user: Annotated[int, Between(1, 256)] = 4
    route_length: Annotated[int, Between(1, 20)] = 7
    session_length: Annotated[float, Between(1, 1_000)] = 4.0
    drift: Annotated[float, Between(0, 100)] = 4.0
    advance: Share = 0.85
    coherence: Share = 0.85
    companions: Annotated[float, Between(0, 1_000, above=True)] = 1.5
    brand_loyalty: Annotated[float, Between(1, 1_000_000)] = 6.0
    popularity: Annotated[float, Between(0, 10)] = 0.8
    noise: Share = 0.1
    aimless_users: Share = 0.0
    repeats: bool = False
    brands: Annotated[int, Between(8, 480)] = 64
    days: Annotated[int, Between(1, 36_500)] = 730
    days_between_sessions: Annotated[float, Between(0, 36_500, above=True)] = 14.0
    start: Annotated[int, Between(-(10**10), 10**10)] = 1_672_531_200  # 1 January 2023

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interactions_per_user < self.min_interactions:
            raise ConfigError(
                f"A shop's interactions_per_user ({self.interactions_per_user}) is a mean and cannot be smaller than "
                f"its min_interactions ({self.min_interactions}): raise the first or lower the second."
            )
