"""What evaluations measure beyond the ordinary, as options: cut-offs, own metrics, groups, scores from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forethought.errors import ConfigError

if TYPE_CHECKING:
    from forethought.data.splits import Split
    from forethought.evaluation.report import Evaluation
    from forethought.evaluation.settings import EvaluationConfig


@dataclass(kw_only=True)
class Measuring:
    """What is measured."""

    cutoffs: str | None = None
    """Lengths of lists at which metrics are taken, with commas between; 5,10,20 if not given."""
    metric: tuple[str, ...] = ()
    """Metrics of your own beside the others, as my_module:my_function: of ranks, or of ranks and lists."""
    groups_by: tuple[str, ...] = ()
    """Columns of the items, or of the users, by whose values cases are shown in groups."""
    users: str | None = None
    """Table with one row a user, for --groups-by; its ids under the name that --users-id says."""
    users_id: str = "user_id"
    """Column of ids in the table of users."""

    def settings(self) -> dict[str, Any]:
        """What an `EvaluationConfig` is told of it.

        Raises:
            ConfigError: cut-offs that are no numbers, or a metric that cannot be imported.
        """
        from forethought.evaluation.metrics import metric_of
        from forethought.plugins import is_path

        if own := [name for name in self.metric if not is_path(name)]:
            raise ConfigError(
                f"--metric is {own[0]!r}, but must name a function of yours, such as my_module:my_metric; for other "
                "lengths than 5, 10 and 20 there is --cutoffs."
            )
        if self.users is not None and not self.groups_by:
            raise ConfigError("--users would change nothing without --groups-by COLUMN.")
        if self.users is None and self.users_id != "user_id":
            raise ConfigError("--users-id would change nothing without --users TABLE.")
        settings: dict[str, Any] = {"groups_by": self.groups_by}
        settings["metrics"] = tuple(metric_of(name, person=True) for name in self.metric)
        if self.cutoffs is not None:
            settings["cutoffs"] = lengths(self.cutoffs)
        return settings

    def user_table(self) -> Any:
        """The table of users with its ids as they are called elsewhere; None where there is none."""
        from forethought.data.sources import open_table

        if self.users is None or self.users_id == "user_id":
            return self.users
        frame = open_table(self.users).frame
        if self.users_id not in (names := frame.collect_schema().names()):
            raise ConfigError(f"{self.users!r} has no column {self.users_id!r} (--users-id), but {', '.join(names)}.")
        return frame.rename({self.users_id: "user_id"})


def lengths(text: str) -> tuple[int, ...]:
    """`1,5,10` as numbers."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        raise ConfigError(f"--cutoffs is {text!r}, but must be lengths with commas between, such as 1,5,10,50.")
    return tuple(map(int, words))


def named_table(argument: str) -> tuple[str, str]:
    """`NAME=FILE` of `--scores`, or a file that is called as its name is."""
    from pathlib import Path

    name, joined, file = argument.partition("=")
    return (name, file) if joined and name else (Path(argument).name.partition(".")[0], argument)


def scores_of(
    file: str, split: Split, config: EvaluationConfig, *, like: dict[str, Any] | None = None, users: Any = None
) -> Evaluation:
    """An evaluation of a table of scores, ranked as another evaluation was where its protocol is given.

    Raises:
        ConfigError: that one was ranked as scores alone cannot be.
    """
    from dataclasses import replace

    from forethought.evaluation.outside_scores import evaluate_scores

    if like is not None:
        if like.get("candidates") != "all" or like.get("noise"):
            raise ConfigError(
                "Scores of another program rank all items from clean histories, and what they are held against does "
                "not: evaluate that without --sampled and --noise."
            )
        config = replace(config, part=like["part"], exclude_history=like["history_excluded"])
    return evaluate_scores(file, split, config, users=users)
