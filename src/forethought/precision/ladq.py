"""Layer-adaptive precision: sensitivities are sampled while a model trains, and each layer's format follows them.

The controller knows layers, what their formats cost here, and traces; batches and the model's own labels come from
whoever trains. Its state is plain JSON, from which a training goes on as if it had never stopped: costs are measured
once, when the training begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, cast

from torch import Tensor

from forethought.errors import ConfigError
from forethought.precision import assignment as assignments
from forethought.precision import cost
from forethought.precision.assignment import Assignment
from forethought.precision.formats import BITS, TRAINED, Format
from forethought.precision.linear import PrecisionLinear, set_formats
from forethought.precision.sensitivity import Damage, Traces, collect, damages
from forethought.precision.settings import LADQ

LEAVE = "leave it off, or force it to study what it does to quality (on the command line --ladq.force)"


class Controller:
    """Which format each layer has, and when that is thought over.

    Attributes:
        layers: by name.
        costs: seconds of each layer in each format, as measured.
        assignment: the formats that layers have now.
        pinned: layers that stay in float32, because a training diverged by them.
        history: of each sampling the step, the damage of each layer and format, and the assignment that followed.
    """

    def __init__(
        self,
        layers: Mapping[str, PrecisionLinear],
        settings: LADQ,
        costs: cost.Costs,
        *,
        exact: Iterable[str] = (),
    ) -> None:
        """Begin with float32, or with the one format that is asked for.

        Args:
            exact: layers that logits come from, which are never fp8.

        """
        self.layers, self.settings, self.costs, self.exact = dict(layers), settings, costs, frozenset(exact)
        self.pinned: list[str] = []
        self.history: list[dict[str, Any]] = []
        self.traces: dict[str, Traces] = {}
        self.assignment: Assignment = dict.fromkeys(layers, "fp32")
        if not settings.adapts:
            self._assign({})
        set_formats(self.layers, self.assignment)

    # ---- what may be

    @property
    def allowed(self) -> cost.Costs:
        """The formats that each layer may have, with their costs: as measured, or by bits where they are forced."""
        allowed = cost.ideal(self.layers) if self.settings.force else cost.paying(self.costs)
        for name, formats in allowed.items():
            if name in self.exact:
                formats.pop("fp8", None)
            if name in self.pinned:
                allowed[name] = {"fp32": formats["fp32"]}
        return allowed

    @property
    def most(self) -> float:
        """What all layers together may cost."""
        return self.settings.budget * sum(costs["fp32"] for costs in self.allowed.values())

    def check(self) -> None:
        """Whether there is something to choose.

        Raises:
            ConfigError: in a sentence.
        """
        if not self.layers:
            raise ConfigError("This model has no linear layers whose precision ladq could choose: leave it off.")
        wanted: set[Format] = set(TRAINED[1:]) if self.settings.adapts else {self._uniform()}
        if self.settings.assign != "fp32" and not any(wanted & set(each) for each in self.allowed.values()):
            reasons = []
            for each in sorted(wanted):
                ratios = [costs[each] / costs["fp32"] for costs in self.costs.values() if each in costs]
                reasons.append(
                    f"{each} takes {min(ratios):.2f} of its time at best" if ratios else f"{each} is emulated"
                )
            raise ConfigError(
                f"Beside float32 nothing pays for the layers of this model on this machine ({', '.join(reasons)}), so "
                f"that ladq would change nothing: {LEAVE}."
            )
        least = assignments.total(self.allowed, assignments.cheapest(self.allowed))
        if self.settings.assign == "budget" and least > self.most:
            whole = self.most / self.settings.budget
            raise ConfigError(
                f"The budget of ladq is {self.settings.budget:g} of float32's time, but the cheapest formats of all "
                f"layers take {least / whole:.2f} of it: allow that much at least."
            )

    # ---- how it goes on

    def due(self, step: int) -> bool:
        """Whether sensitivities are to be sampled before this step."""
        sampled = self.history[-1]["step"] if self.history else -1
        return self.settings.adapts and step % self.settings.every == 0 and step != sampled

    def sample(self, step: int, losses: Iterable[Callable[[], Tensor]], histories: int, *, anew: bool = False) -> str:
        """Sample sensitivities, assign, and say in a sentence what changed; empty where nothing did.

        Args:
            losses: as `sensitivity.collect` takes them.
            anew: earlier samplings do not count any more.
        """
        sampled = collect(self.layers, losses, histories)
        if anew:
            self.traces = {}
        share = self.settings.kept_after(step - self.history[-1]["step"]) if self.history else 0.0
        for name, traces in sampled.items():
            earlier = self.traces.get(name)
            self.traces[name] = traces if earlier is None else traces.mixed(earlier, share)
        known, before = damages(self.layers, self.traces), dict(self.assignment)
        self._assign(known)
        set_formats(self.layers, self.assignment)
        self.history.append({"step": step, "damage": known, "assignment": dict(self.assignment)})
        return "" if before == self.assignment else f"From step {step} on the layers multiply in {self.counted()}."

    def pin(self, name: str) -> None:
        """A layer stays in float32 from here on; where all layers share a format, it alone does not."""
        self.pinned.append(name)
        if not self.settings.adapts:
            self._assign({})
        self.assignment[name] = "fp32"
        set_formats(self.layers, self.assignment)

    def most_sensitive(self) -> str | None:
        """The layer that its format damages most, of those that are not in float32."""
        narrow = [name for name, each in self.assignment.items() if each != "fp32"]
        known: Damage = damages(self.layers, {n: self.traces[n] for n in narrow if n in self.traces})
        return max(narrow, key=lambda n: known.get(n, {}).get(self.assignment[n], 0.0), default=None)

    def _assign(self, known: Damage) -> None:
        settings, allowed = self.settings, self.allowed
        if settings.assign == "tolerance":
            self.assignment = assignments.by_tolerance(
                known, allowed, settings.tolerance, self.assignment, settings.hysteresis
            )
        elif settings.assign == "budget":
            best = assignments.within_budget(known, allowed, self.most) or assignments.cheapest(allowed)
            fits = assignments.total(allowed, self.assignment) <= self.most and all(
                each in allowed[name] for name, each in self.assignment.items()
            )
            less = assignments.total(known, best) * settings.hysteresis < assignments.total(known, self.assignment)
            self.assignment = best if less or not fits else self.assignment
        else:
            asked = self._uniform()
            self.assignment = {name: asked if asked in costs else "fp32" for name, costs in allowed.items()}

    def _uniform(self) -> Format:
        """The one format that is asked for."""
        return cast("Format", self.settings.assign)

    # ---- what is told and kept

    def described(self) -> str:
        """What is done from here on, in a sentence."""
        n, settings = len(self.layers), self.settings
        if not settings.adapts:
            return f"Of {n} linear layers {self.counted()}."
        pays = {each: sum(each in costs for costs in self.allowed.values()) for each in TRAINED[1:]}
        rule = (
            f"each the narrowest format within {settings.tolerance:g} nats"
            if settings.assign == "tolerance"
            else f"in {settings.budget:g} of float32's time"
        )
        choice = " and ".join(f"{each} for {count}" for each, count in pays.items() if count)
        return (
            f"LADQ assigns precision to {n} linear layers, {rule}, anew every {settings.every} steps; beside float32 "
            f"there is {choice}."
        )

    def counted(self) -> str:
        """How many layers have which format."""
        counts = Counter(self.assignment.values())
        return ", ".join(f"{each} ({counts[each]})" for each in sorted(counts, key=lambda each: -BITS[each]))

    def state(self) -> dict[str, Any]:
        return {
            "costs": self.costs,
            "assignment": self.assignment,
            "pinned": self.pinned,
            "traces": {name: asdict(traces) for name, traces in self.traces.items()},
            "history": self.history,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, with its costs.

        Raises:
            ValueError: it is of other layers.
        """
        if set(state["assignment"]) != set(self.layers):
            raise ValueError("its layers are not those of this model")
        self.costs = {name: dict(costs) for name, costs in state["costs"].items()}
        self.pinned, self.history = list(state["pinned"]), list(state["history"])
        self.traces = {name: Traces(**traces) for name, traces in state["traces"].items()}
        self.assignment = dict(state["assignment"])
        set_formats(self.layers, self.assignment)
