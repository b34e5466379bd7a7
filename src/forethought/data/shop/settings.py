"""What can be chosen of a simulated shop, and in which ranges."""

from __future__ import annotations

from dataclasses import dataclass, fields

from forethought.errors import ConfigError

_RANGES: dict[str, tuple[float, float | None]] = {
    "users": (1, None),
    "items": (10, None),
    "min_interactions": (1, None),
    "seed": (0, None),
    "intents": (1, None),
    "intents_per_user": (1, None),
    "session_length": (1, None),
    "drift": (0, None),
    "advance": (0, 1),
    "coherence": (0, 1),
    "companions": (1e-6, None),
    "brand_loyalty": (1, None),
    "popularity": (0, None),
    "noise": (0, 1),
    "brands": (8, 480),
    "days": (1, None),
    "days_between_sessions": (1e-6, None),
}


@dataclass(frozen=True, kw_only=True)
class ShopSettings:
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
        session_length: mean number of interactions in a session, from 1; a session follows one intent.
        drift: how sharply a user's intents take turns along their life; 0 mixes them evenly, 10 keeps them apart.
        advance: probability that the next item of an intent is of the next kind and not of the same, 0 to 1.
        coherence: probability that the next item of an intent goes with the one before, 0 to 1.
        companions: about how many items of the next kind go with one item, above 0.
        brand_loyalty: how many times likelier an item is picked when its brand is the intent's, from 1.
        popularity: exponent of Zipf's law over the items, from 0 (all alike).
        noise: probability that an interaction has nothing to do with the intent, 0 to 1.
        repeats: whether a user may meet an item again; if not, only the first time is kept.
        brands: number of brands, 8 to 480.
        days: length of the period in days, from 1.
        days_between_sessions: mean pause between two sessions in days, above 0; shortened for long lives.
        start: first second of the period, Unix seconds.

    Raises:
        ConfigError: a setting is out of its range.
    """

    users: int = 2_000
    items: int = 1_000
    interactions_per_user: float = 20.0
    min_interactions: int = 5
    seed: int = 0
    intents: int = 64
    intents_per_user: int = 4
    session_length: float = 4.0
    drift: float = 4.0
    advance: float = 0.85
    coherence: float = 0.85
    companions: float = 1.5
    brand_loyalty: float = 6.0
    popularity: float = 0.8
    noise: float = 0.1
    repeats: bool = False
    brands: int = 64
    days: int = 730
    days_between_sessions: float = 14.0
    start: int = 1_672_531_200  # 1 January 2023

    def __post_init__(self) -> None:
        for field in fields(self):
            low, high = _RANGES.get(field.name, (None, None))
            value = getattr(self, field.name)
            if (low is not None and not value >= low) or (high is not None and not value <= high):
                wanted = f"between {low:,} and {high:,}" if high is not None else f"at least {low:,}"
                raise ConfigError(f"A shop's {field.name} must be {wanted}, but {value!r} was given.")
        if self.interactions_per_user < self.min_interactions:
            raise ConfigError(
                f"A shop's interactions_per_user ({self.interactions_per_user}) is a mean and cannot be smaller than "
                f"its min_interactions ({self.min_interactions}): raise the first or lower the second."
            )
