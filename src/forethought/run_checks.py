"""What a training refuses of a configuration and a data set, before anything is written."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from pathlib import Path

from forethought.backbones.interface import BackboneConfig
from forethought.config import Recipe, RunConfig, as_method
from forethought.data.batches import windows
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.evaluation.metrics import metric_of
from forethought.methods.configuration import MethodConfig
from forethought.methods.interface import Method
from forethought.nn.budget import built
from forethought.run_folder import check_unchanged
from forethought.settings import check
from forethought.training.settings import Training

NEED_THREE = {"crop": "cut", "later_targets": "name"}  # items in a row, and what they are for


def check_run(recipe: Recipe, split: Split, resumed: Path | None = None) -> None:
    """Refuse what `train` would refuse of a configuration on this data, without training or writing anything.

    What lies outside of both (a run to start from, features, texts) is read when training begins, and refused then.

    Args:
        resumed: a run folder that it would go on in.

    Raises:
        ForethoughtError: as of `train`.
    """
    config, _ = checked(recipe, split)
    check_inputs(built(lambda: config.method.build(split.data.sizes), copies=1), config.training, split)
    if resumed is not None:
        check_unchanged(resumed, config)


def checked(recipe: Recipe | MethodConfig | BackboneConfig, split: Split) -> tuple[RunConfig, Split]:
    """The configuration of a run, and the split with the noise that it trains on.

    Raises:
        ForethoughtError: they do not go together.
    """
    config = configured(recipe, split)
    check_options(config)
    seen = split.with_noise(config.noise)
    config.method.check(seen)
    check_trainable(seen)
    return config, seen


def configured(recipe: Recipe | MethodConfig | BackboneConfig, split: Split) -> RunConfig:
    """The configuration of a run: a recipe, or a method or backbone with all else as by default, and the split."""
    check(split, Split, "split")
    recipe = recipe if isinstance(recipe, Recipe) else Recipe(method=as_method(recipe))
    return RunConfig(split=split.config, **{each.name: getattr(recipe, each.name) for each in fields(Recipe)})


def check_options(recipe: Recipe) -> None:
    """Refuse what a method that is fitted in closed form would not read.

    Raises:
        ConfigError: an option of training that makes no difference, features or evidence.
    """
    if not recipe.method.closed_form:  # type: ignore[union-attr]
        return
    name, default = type(recipe.method).__name__, Training()
    unread = [f"training.{f.name}" for f in fields(Training) if f.name != "device"]
    unread = [each for each in unread if attrgetter(each)(recipe) != getattr(default, each.partition(".")[2])]
    unread += [name for name in ("features", "evidence") if getattr(recipe, name) is not None]
    if unread:
        raise ConfigError(
            f"{name} is fitted in closed form to what was met, so {', '.join(unread)} would change nothing: leave that "
            "out."
        )


def check_trainable(split: Split) -> None:
    """Refuse a split that nothing can be learnt from, or whose best epoch could not be chosen."""
    if not (split.train.lengths >= 2).any():
        raise DataError("No user has two interactions in the training part, so there is nothing to learn from.")
    if len(split.valid) == 0:
        raise DataError("The validation part is empty, so the best epoch cannot be chosen: choose another split.")


def check_inputs(model: Method, settings: Training, split: Split) -> None:
    """Refuse settings of training that do not fit the method or the histories."""
    for metric in (settings.choose_by, *(stage.metric for stage in model.stages())):
        metric_of(metric)  # raises where there is none
    if settings.input_noise and model.inputs.masked_items:
        raise ConfigError(
            "input_noise is for models that name what follows a history, and this one hides items of the history: "
            "leave it out."
        )
    if settings.later_targets and not model.inputs.later_targets:
        raise ConfigError(
            "later_targets share a softmax over all items with the next one, which this method, its loss or what "
            "stands beside it (a teacher, a prior) does not allow: leave it out, or choose the loss ce of sasrec, "
            "gru4rec, hstu, bsarec, rearec, dtrec, lares or igr-sr, or items of rpg or reg4rec."
        )
    if settings.later_targets and settings.split_catalogue:
        raise ConfigError(
            "later_targets need all item vectors in every process, so the catalogue cannot be split: leave one out."
        )
    longest = int((split.train.lengths - 1).max())
    if settings.earlier_windows and longest <= model.window:
        raise ConfigError(
            f"No history is longer than the window (the longest trains {longest:,} items, and the window has "
            f"{model.window:,}), so that there is no earlier one: leave earlier_windows out, or lower the window."
        )
    asked = [f"{name} to {does}" for name, does in NEED_THREE.items() if getattr(settings, name)]
    if asked and int(windows(split.train, model.window, every=settings.all_windows).lengths.max()) < 3:
        raise ConfigError(
            f"No row that is trained on has three items, so that there is nothing for {asked[0]}: leave it out."
        )
