"""forethought simulate"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forethought.cli.shared import Bar, console, parse


@dataclass(kw_only=True)
class Simulate:
    out: Path
    """Folder to be made."""
    users: int = 2_000
    """How many users."""
    items: int = 1_000
    """How many items."""
    interactions_per_user: float = 20.0
    """Mean length of a history."""
    intents_per_user: int = 4
    """Most purposes that a user has in a life; one to this many are equally likely."""
    route_length: int = 7
    """Kinds of goods on the route of a purpose, 1 to 20."""
    noise: float = 0.1
    """Share of interactions that follow no intent."""
    aimless_users: float = 0.0
    """Share of users who never follow an intent."""
    seed: int = 0
    """The same seed makes the same shop everywhere."""
    overwrite: bool = False
    """Replace a shop that lies there."""


def run(arguments: list[str]) -> None:
    args = parse(
        Simulate, arguments, "simulate", "Make a shop.\n\nExample: forethought simulate --out shop --users 2000"
    )
    from forethought.data.shop import Shop

    shop = Shop(
        users=args.users,
        items=args.items,
        interactions_per_user=args.interactions_per_user,
        intents_per_user=args.intents_per_user,
        route_length=args.route_length,
        noise=args.noise,
        aimless_users=args.aimless_users,
        seed=args.seed,
    )
    with Bar() as bar:
        folder = shop.write(args.out, overwrite=args.overwrite, report=bar.named)
    console().print(f"{folder}: interactions.parquet, items.parquet, and the truth behind them in truth/.")
