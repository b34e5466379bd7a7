"""The simulated shop: interactions of any size whose intents, noise and categories are known."""

from __future__ import annotations

from forethought.data.shop.people import ShopPeople
from forethought.data.shop.shop import Shop, SimulatedShop

__all__ = ["Shop", "ShopPeople", "SimulatedShop"]
