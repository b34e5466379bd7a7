"""The simulated shop as a whole: its settings, what comes out, and how it is written.

The same settings give the same shop everywhere, whether it is held in memory or written in blocks: every block of
users has a generator of its own, seeded by the block's number.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from forethought.data.progress import Report, silent
from forethought.data.shop.goods import Goods, ids, stock
from forethought.data.shop.settings import ShopSettings
from forethought.data.shop.visits import Visits, visits
from forethought.errors import DataError
from forethought.files import check_ordinary
from forethought.folders import check_own, replace_folder
from forethought.memory import check_room
from forethought.settings import check

USERS_A_BLOCK = 16_384  # part of what a seed means: another size of block is another shop
SETTINGS_FILE = "shop.json"
WRITTEN = (
    *("interactions.parquet", "items.parquet", "README.md", SETTINGS_FILE),
    *(f"truth/{name}.parquet" for name in ("interactions", "items", "intents", "users")),
)
SEEN = ("user_id", "item_id", "timestamp", "position")
TRUTH = ("user_id", "item_id", "position", "intent_id", "session", "noise")


@dataclass(frozen=True)
class SimulatedShop:
    """A shop held in memory.

    Attributes:
        interactions: user_id, item_id, timestamp (Unix seconds), position (0, 1, ... within a user).
        items: item_id, title, brand, categories (department, category, kind), price (euros).
        truth: row for row beside `interactions`: intent_id (of noise: the intent it interrupted), session (0, 1, ...
            within a user), noise (True where the item was drawn from the whole shop by popularity).
        item_truth: item_id, department, category, kind, brand, popularity (share).
        intents: intent_id, name, department, category, kinds (the route it walks), brands, popularity (share).
        users: user_id, intents (their ids in the order of the user's life; the same one may return).
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    truth: pl.DataFrame
    item_truth: pl.DataFrame
    intents: pl.DataFrame
    users: pl.DataFrame


@dataclass(frozen=True, kw_only=True)
class Shop(ShopSettings):
    """A simulated shop by its `ShopSettings`; `generate` holds it in memory, `write` streams it to a folder.

    People come with a few intents each. An intent walks along a route of kinds of goods (after a tent comes a
    sleeping bag), prefers some brands, and picks companions: what goes with the item before. So the past tells
    the next item, and the order of the past matters.

    Raises:
        ConfigError: a setting is out of its range.

    Example:
        >>> shop = Shop(users=100, items=200, seed=1).generate()
        >>> shop.interactions.columns
        ['user_id', 'item_id', 'timestamp', 'position']
    """

    def generate(self, report: Report = silent) -> SimulatedShop:
        """The whole shop in memory: about 200 bytes an interaction; use `write` beyond some ten million."""
        check_room(
            200.0 * self.users * self.interactions_per_user,
            f"A shop of {self.users:,} users held in memory",
            "write it to a folder instead",
        )
        goods = self._stock()
        blocks = list(self._blocks(goods, report))
        table = pl.concat([block for block, _ in blocks])
        users = pl.concat([block for _, block in blocks])
        return SimulatedShop(
            table.select(SEEN), goods.items, table.select(TRUTH), goods.item_truth, goods.intents, users
        )

    def write(self, folder: str | Path, *, overwrite: bool = False, report: Report = silent) -> Path:
        """Write the shop in the uniform layout, block by block: the memory needed does not grow with the users.

        The folder gets `interactions.parquet`, `items.parquet`, `README.md`, `shop.json` (these settings) and
        `truth/` with interactions, items, intents and users; it appears when all of it is there.

        Args:
            folder: where to write.
            overwrite: replace a folder that holds a shop written earlier.
            report: told of users done.

        Raises:
            DataError: the folder is in use, or cannot be written.
        """
        folder = Path(folder)
        check(overwrite, bool, "overwrite")
        check_own(folder, WRITTEN, _is_shop, "a simulated shop", overwrite=True)
        if not overwrite and folder.is_dir() and any(folder.iterdir()):
            raise DataError(
                f"{str(folder)!r} already holds a simulated shop: choose another folder or say overwrite=True (on the "
                "command line --overwrite)."
            )
        with replace_folder(folder, overwrite=overwrite) as new:
            self._write_into(new, report)
        return folder

    def _stock(self) -> Goods:
        check_room(
            min(self.users, USERS_A_BLOCK) * self.interactions_per_user * 8.0 * (25 + 3 * self.intents_per_user),
            f"A shop with {self.interactions_per_user:g} interactions and {self.intents_per_user} intents a user",
            "lower one of them",
        )
        return stock(self, _generator(self.seed, 0))

    def _blocks(self, goods: Goods, report: Report) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Interactions with their truth, and users, for one block of users after the other."""
        for number, first in enumerate(range(0, self.users, USERS_A_BLOCK)):
            n_users = min(USERS_A_BLOCK, self.users - first)
            seen = visits(self, goods, n_users, _generator(self.seed, 1, number))
            users = ids("u", np.arange(first, first + n_users), self.users, least=6)
            yield _interactions(seen, users, goods), _users(seen, users)
            report("simulating users", first + n_users, self.users)

    def _write_into(self, folder: Path, report: Report) -> None:
        goods = self._stock()
        truth, parts = folder / "truth", folder / "parts"
        truth.mkdir()
        parts.mkdir()
        users = []
        for number, (block, block_users) in enumerate(self._blocks(goods, report)):
            block.write_parquet(parts / f"{number:06d}.parquet", compression="lz4")
            users.append(block_users)
        table = pl.scan_parquet(sorted(parts.absolute().glob("*.parquet")), glob=False)
        table.select(SEEN).sink_parquet(folder / "interactions.parquet")
        table.select(TRUTH).sink_parquet(truth / "interactions.parquet")
        shutil.rmtree(parts)
        goods.items.write_parquet(folder / "items.parquet")
        goods.item_truth.write_parquet(truth / "items.parquet")
        goods.intents.write_parquet(truth / "intents.parquet")
        pl.concat(users).write_parquet(truth / "users.parquet")
        (folder / SETTINGS_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(_README, encoding="utf-8")


def _is_shop(folder: Path) -> bool:
    """Whether `write` wrote it, settings of other versions included."""
    try:
        check_ordinary(folder / SETTINGS_FILE)
        told = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(told, dict) and {"users", "items", "seed"} <= told.keys()


def _generator(seed: int, *key: int) -> np.random.Generator:
    # PCG64 by name: numpy promises its stream, but not that the default generator stays the same
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _interactions(seen: Visits, users: pl.Series, goods: Goods) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": users.gather(seen.user),
            "item_id": goods.items["item_id"].gather(seen.item),
            "timestamp": seen.timestamp,
            "position": seen.position.astype(np.int32),
            "intent_id": seen.intent.astype(np.int32),
            "session": seen.session.astype(np.int32),
            "noise": seen.noise,
        }
    )


def _users(seen: Visits, users: pl.Series) -> pl.DataFrame:
    slots = pl.Series(seen.intents_UM.astype(np.int32)).arr.to_list()
    return pl.DataFrame({"user_id": users, "intents": slots.list.eval(pl.element().filter(pl.element() >= 0))})


_README = """# A simulated shop

Made by `forethought.data.shop.Shop` with the settings in `shop.json`; nobody in it exists.

- `interactions.parquet`: user_id, item_id, timestamp (Unix seconds), position; sorted by user and position
- `items.parquet`: item_id, title, brand, categories (department, category, kind), price (euros)
- `truth/interactions.parquet`: row for row beside the interactions: intent_id, session, noise
- `truth/items.parquet`: item_id, department, category, kind, brand, popularity
- `truth/intents.parquet`: intent_id, name, department, category, kinds, brands, popularity
- `truth/users.parquet`: user_id, intents

The truth is for checking what a model has found. Do not train on it.
"""
