"""What the configuration of every method answers to, and what some of them ask of the data and of their backbone."""

from __future__ import annotations

from dataclasses import dataclass

from forethought.backbones.interface import BackboneConfig
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.methods.interface import Method
from forethought.methods.outside import References
from forethought.plugins import is_own
from forethought.settings import Settings


@dataclass(frozen=True, kw_only=True)
class MethodConfig(Settings):
    """A frozen dataclass that builds its method, and says what that needs.

    A subclass whose method is fitted in closed form says `closed_form = True`.
    """

    closed_form = False
    """The method is fitted at once (`Method.fit_closed_form`): it has no stages, and reads no setting of training but
    the device."""

    @classmethod
    def stands_for(cls, kind: type) -> bool:
        """Of somebody's own: for any."""
        return is_own(cls) > is_own(kind) and issubclass(kind, MethodConfig)

    def build(self, sizes: DataSizes) -> Method:
        """The untrained method for so many items and users."""
        raise NotImplementedError

    def check(self, split: Split) -> None:
        """Raise a `ForethoughtError` where the data cannot serve this method (times it needs, say)."""

    def references(self) -> References:
        """What it refers to outside of itself; most refer to nothing."""
        return References()


def check_times(backbone: BackboneConfig, split: Split) -> None:
    """For `MethodConfig.check`.

    Raises:
        DataError: the backbone reads times and the data has none.
    """
    if backbone.needs_times and split.train.histories.times is None:
        raise DataError(
            f"{type(backbone).__name__} as configured needs the time of each interaction, but this data has only an "
            "order: choose use_times=False where the backbone has it (on the command line --no-use-times), or another "
            "backbone."
        )


def check_mask(backbone: BackboneConfig) -> None:
    """For `MethodConfig.check`, where a [MASK] is put behind a history.

    Raises:
        ConfigError: the window has no slot for anything else, or the backbone reads times, and a [MASK] has none.
    """
    if not backbone.causal and backbone.needs_times:
        raise ConfigError(
            f"{type(backbone).__name__} as configured needs the time of each interaction, and a [MASK] has none: "
            "choose another backbone."
        )
    if not backbone.causal and backbone.window < 2:
        raise ConfigError(
            f"{type(backbone).__name__}'s window counts the [MASK] too and must be 2 at least, not {backbone.window}."
        )
