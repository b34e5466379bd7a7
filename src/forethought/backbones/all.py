"""Every backbone there is. A new one is one line here: methods, configurations and the command line read this list."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from forethought.backbones.interface import BackboneConfig

# The order in which they are listed to whoever may choose.
# isort: off
from forethought.backbones.sasrec import SASRec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.hstu import HSTU
from forethought.backbones.bsarec import BSARec
# isort: on

BACKBONES: dict[str, type[BackboneConfig]] = {
    cls.__module__.rpartition(".")[2]: cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, BackboneConfig) and cls is not BackboneConfig
}
"""By name, which is that of the file."""

# What a field of a method's configuration may hold. A type checker need not know the list.
if TYPE_CHECKING:
    AnyBackbone = CausalBackbone = BidirectionalBackbone = BackboneConfig
else:
    AnyBackbone = reduce(or_, BACKBONES.values())
    CausalBackbone = reduce(or_, (cls for cls in BACKBONES.values() if cls.causal))
    BidirectionalBackbone = reduce(or_, (cls for cls in BACKBONES.values() if not cls.causal))
