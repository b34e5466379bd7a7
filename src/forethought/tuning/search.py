"""A search by Optuna (extra `tune`): which values are tried next, which trials are given up, and what all came to.

The one file that is about Optuna. Its journal lies in the folder of the search, so that several processes work on one
search, and one that was killed goes on.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from forethought.errors import MissingExtraError, RunError
from forethought.files import first_line
from forethought.settings import SearchChoices, SearchDomain, fits
from forethought.tuning.space import Space, Value

if TYPE_CHECKING:
    import optuna

JOURNAL, STUDY = "journal.log", "forethought"
End = Literal["complete", "given up", "out of time", "failed", "abandoned"]
"""given up: others were better after as many epochs; abandoned: its process was stopped, and it is tried again."""
FIRST_RUNG, HALVES = 4, 2  # the first comparison is after a quarter of the epochs; the better half goes on
WHOLE = 3  # trials that are never given up, so that there is something to be compared with
MOST_LISTED = 64  # combinations of a small space, which are all tried in turn
FEWEST_FOR_IMPORTANCE = 6  # complete trials
DIGITS = 3


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Attributes:
        valid: best validation NDCG@10; None: it came to none.
        epochs, seconds: how long it trained.
        said: why it failed.
    """

    number: int
    values: dict[str, Value]
    end: End | None
    valid: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    said: str = ""


class Search:
    """The trials of a folder.

    Args:
        first: the values that are tried first and never given up: those of the recipe itself.
        epochs: of a whole trial; 0: it has none, and nothing is given up.
        process: which one of several this is.

    Raises:
        MissingExtraError: Optuna is not installed.
        RunError: the journal is damaged.
    """

    def __init__(
        self, folder: Path, space: Space, first: Mapping[str, Value], *, epochs: int, seed: int, process: int = 0
    ) -> None:
        optuna = _optuna()
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        self.space, self.first = space, dict(first)
        rung = max(1, math.ceil(epochs / FIRST_RUNG))
        halving = optuna.pruners.SuccessiveHalvingPruner(min_resource=rung, reduction_factor=HALVES)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of options that are called experimental
                storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
                self.study: optuna.Study = optuna.create_study(
                    study_name=STUDY,
                    storage=storage,
                    direction="maximize",
                    load_if_exists=True,
                    pruner=halving if epochs else optuna.pruners.NopPruner(),
                )
                so_far = len(self.study.get_trials(deepcopy=False))  # who goes on does not draw the same again
                self.study.sampler = optuna.samplers.TPESampler(
                    seed=(seed + 7919 * process + 104_729 * so_far) % 2**32,
                    n_startup_trials=len(neighbours_of(self.first, space)),
                    multivariate=True,
                    constant_liar=True,
                )
        except (KeyError, ValueError, TypeError) as error:
            raise RunError(
                f"{folder / JOURNAL} is damaged ({first_line(error)}): begin the search anew in another folder."
            ) from error
        self._asked: dict[int, optuna.Trial] = {}

    def begin(self) -> None:
        """Of one process, before all others: put the first values in line, and those of trials that were stopped."""
        from optuna.trial import TrialState

        there = self.study.get_trials(deepcopy=False)
        if not there:
            listed = _combinations(self.space) or neighbours_of(self.first, self.space)
            for values in [self.first, *[each for each in listed if each != self.first]]:
                self.study.enqueue_trial(values)
        stopped = [each for each in there if each.state == TrialState.RUNNING]
        waiting = [each for each in there if each.state == TrialState.WAITING] if stopped else []
        for trial in [*stopped, *waiting]:  # those in line stand behind those that were stopped
            self.study._storage.set_trial_user_attr(trial._trial_id, "end", "abandoned")
            self.study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
            self.study.enqueue_trial(trial.params or trial.system_attrs.get("fixed_params", {}))

    def ask(self, most: int | None) -> tuple[int, dict[str, Value]] | None:
        """The number and the values of a new trial; None where there were `most` already, or all have been tried.

        The numbers are given out one by one, so that several processes make as many as one.
        """
        from optuna.trial import TrialState

        if most is not None and sum(each.end != "abandoned" for each in self.trials()) >= most:
            return None
        waiting = any(each.state == TrialState.WAITING for each in self.study.get_trials(deepcopy=False))
        if not waiting and _combinations(self.space):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self.study.ask()
            before = [each for each in self.trials() if each.number < trial.number and each.end != "abandoned"]
            if most is not None and len(before) >= most:  # another process was faster
                trial.set_user_attr("end", "abandoned")
                self.study.tell(trial, state=TrialState.FAIL)
                return None
            values = {name: self._suggested(trial, name, domain) for name, domain in self.space.items()}
        trial.set_user_attr("values", values)
        self._asked[trial.number] = trial
        return trial.number, values

    def _suggested(self, trial: optuna.Trial, name: str, domain: SearchDomain) -> Value:
        """A value of three digits, so that the recipe can be read and said again; the recipe's own stays as it is."""
        if isinstance(domain, SearchChoices):
            return trial.suggest_categorical(name, domain.values)
        if fits(domain.least, int) and fits(domain.most, int):
            return trial.suggest_int(name, int(domain.least), int(domain.most), log=domain.log)
        value = trial.suggest_float(name, domain.least, domain.most, log=domain.log)
        if value == self.first.get(name):
            return value
        return min(max(float(f"{value:.{DIGITS}g}"), domain.least), domain.most)

    def report(self, number: int, epoch: int, valid: float) -> bool:
        """Note the best figure after so many epochs; whether the trial is to be given up."""
        trial = self._asked[number]
        trial.report(valid, epoch)
        return number >= WHOLE and trial.user_attrs["values"] != self.first and trial.should_prune()

    def tell(self, outcome: Trial) -> None:
        """Note how a trial ended."""
        from optuna.trial import TrialState

        trial = self._asked.pop(outcome.number)
        for name in ("valid", "epochs", "seconds", "said", "end"):  # who sees the end sees all
            trial.set_user_attr(name, getattr(outcome, name))
        if outcome.end == "complete":
            self.study.tell(trial, outcome.valid)
        else:
            self.study.tell(trial, state=TrialState.FAIL if outcome.end == "failed" else TrialState.PRUNED)

    def trials(self) -> list[Trial]:
        """All that have begun, in their order."""
        from optuna.trial import TrialState

        found = []
        for each in self.study.get_trials(deepcopy=False):
            if each.state == TrialState.WAITING:
                continue
            attributes: dict[str, Any] = {name: value for name, value in each.user_attrs.items() if name != "values"}
            end = attributes.pop("end", None)
            found.append(Trial(each.number, each.user_attrs.get("values", {}), end, **attributes))
        return found

    def importances(self) -> dict[str, float]:
        """What share of the differences between complete trials each setting accounts for; empty where they are few."""
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances
        from optuna.trial import TrialState

        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(complete) < FEWEST_FOR_IMPORTANCE or len({each.value for each in complete}) == 1:
            return {}
        try:
            return get_param_importances(self.study, evaluator=FanovaImportanceEvaluator(seed=0))
        except (ImportError, ValueError, RuntimeError):  # no scikit-learn, or values that did not vary
            return {}


def mend_journal(folder: Path) -> None:
    """Cut off the line that a killed process did not finish, before anybody appends to it."""
    path = folder / JOURNAL
    if path.is_file() and not (text := path.read_bytes()).endswith(b"\n") and text:
        with path.open("r+b") as file:
            file.truncate(text.rfind(b"\n") + 1)


def check_installed() -> None:
    """Before any work.

    Raises:
        MissingExtraError: Optuna is not installed.
    """
    _optuna()


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "tune", "Tuning") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def neighbours_of(first: Mapping[str, Value], space: Space) -> list[dict[str, Value]]:
    """The recipe with one setting changed: half the way to either end of its range, or its next value in either way.

    They are tried before anything is drawn: a good recipe's neighbours are better than what is drawn from everywhere.
    Ranges come first, as choices such as layers cost time.
    """
    ordered = sorted(first, key=lambda name: isinstance(space[name], SearchChoices))
    return [{**first, name: value} for name in ordered for value in _beside(first[name], space[name])]


def _beside(value: Any, domain: SearchDomain) -> list[Value]:
    if isinstance(domain, SearchChoices):
        at = domain.values.index(value)
        return [domain.values[n] for n in (at + 1, at - 1) if 0 <= n < len(domain.values)]
    middles = [math.sqrt(value * end) if domain.log else (value + end) / 2 for end in (domain.most, domain.least)]
    if fits(domain.least, int) and fits(domain.most, int):
        rounded: list[float | int] = [round(middle) for middle in middles]
    else:
        rounded = [float(f"{middle:.{DIGITS}g}") for middle in middles]
    return [middle for middle in rounded if middle != value]


def _combinations(space: Space) -> list[dict[str, Value]]:
    """All values of a small space; none where it is large, or has ranges."""
    choices = [domain.values for domain in space.values() if isinstance(domain, SearchChoices)]
    if len(choices) < len(space) or math.prod(map(len, choices)) > MOST_LISTED:
        return []
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*choices)]
