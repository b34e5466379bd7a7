"""Every method there is. A new one is one line here, and one in `recipes.py` for what the command line calls it."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from forethought.methods.configuration import MethodConfig

# The order in which they are listed to whoever may choose.
# isort: off
from forethought.methods.next_item import NextItem
from forethought.methods.masked_item import MaskedItem
from forethought.methods.rearec import ReaRec
from forethought.methods.dtrec import DTRec
from forethought.methods.lares import LARES
from forethought.methods.sse_pt import SSEPT
from forethought.methods.lightrec import LightRec
from forethought.methods.igr_sr import IGRSR
from forethought.methods.tiger import TIGER
from forethought.methods.rpg import RPG
from forethought.methods.reg4rec import REG4Rec
from forethought.methods.popular import Popular
from forethought.methods.item_knn import ItemKNN
from forethought.methods.ease import EASE
from forethought.methods.ensemble import Ensemble
# isort: on

METHODS: dict[str, type[MethodConfig]] = {
    cls.__module__.rpartition(".")[2]: cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, MethodConfig) and cls is not MethodConfig
}
"""By name, which is that of the file."""

# What a run may train. A type checker need not know the list.
if TYPE_CHECKING:
    AnyMethod = MethodConfig
else:
    AnyMethod = reduce(or_, METHODS.values())
