"""The models of a service by name, which of them answers, and how another version takes the place of one."""

from __future__ import annotations

import gc
import hashlib
import random
import time
from dataclasses import dataclass
from pathlib import Path

from forethought.errors import ForethoughtError, nearest, shown
from forethought.serving.failures import UnknownNameError
from forethought.serving.metrics import Metrics
from forethought.serving.requests import Id
from forethought.serving.run_copies import Signature, drop_old_copies, read_version, signature
from forethought.serving.served_model import ServedModel
from forethought.serving.service_log import ServiceLog
from forethought.serving.settings import ModelPlace, Serving


@dataclass
class _Slot:
    place: ModelPlace
    model: ServedModel
    seen: Signature | None


class Models:
    """All models that are served. Reading is free of locks: a version is replaced by one assignment."""

    def __init__(self, settings: Serving, metrics: Metrics, log: ServiceLog) -> None:
        self.state, self.metrics, self.log = settings.state_folder, metrics, log
        self._slots: dict[str, _Slot] = {}
        for place in settings.models:
            seen = signature(Path(place.folder))
            self._slots[place.name] = _Slot(place, read_version(place, self.state), seen)
        answering = [place for place in settings.models if place.weight and not place.shadow]
        self._names = [place.name for place in answering]
        self._weights = [place.weight for place in answering]
        self.shadows = [place.name for place in settings.models if place.shadow]

    def named(self, name: str) -> ServedModel:
        """The current version of a model.

        Raises:
            UnknownNameError: there is none of this name.
        """
        if name not in self._slots:
            raise UnknownNameError(
                f"There is no model {shown(name)}; there are {', '.join(self._slots)}.{nearest(name, self._slots)}"
            )
        return self._slots[name].model

    def chosen(self, name: str | None, user: Id | None) -> ServedModel:
        """The model that answers: the one that is named, else one by the weights, always the same for a user.

        Raises:
            UnknownNameError: there is none of this name.
        """
        if name is not None:
            return self.named(name)
        if len(self._names) == 1:
            return self._slots[self._names[0]].model
        share = random.random() if user is None else _share_of(user)
        place = share * sum(self._weights)
        for each, weight in zip(self._names, self._weights, strict=True):
            place -= weight
            if place < 0:
                return self._slots[each].model
        return self._slots[self._names[-1]].model

    def alike(self, name: str | None) -> ServedModel:
        """The model that says which items are alike: the one that is named, else the first that can.

        Raises:
            UnknownNameError: there is none of this name.
        """
        if name is not None:
            return self.named(name)
        answering = [self._slots[each].model for each in self._names]
        return next((model for model in answering if model.has_vectors), answering[0])

    def all(self) -> list[ServedModel]:
        return [slot.model for slot in self._slots.values()]

    def place(self, name: str) -> ModelPlace:
        return self._slots[name].place

    def look(self) -> None:
        """Take over every run folder that was replaced and passes its test; the old version serves until then."""
        for slot in self._slots.values():
            now = signature(Path(slot.place.folder))
            if now is None or now == slot.seen:  # a folder that is gone, or half replaced, is waited for
                continue
            begin = time.monotonic()
            try:
                model = read_version(slot.place, self.state)
            except ForethoughtError as error:
                if signature(Path(slot.place.folder)) == now:  # else it is being written, and looked at again
                    slot.seen = now
                    self.metrics.reloads.labels(slot.place.name, "refused").inc()
                    self.log.warning("reload refused", model=slot.place.name, why=str(error))
                continue
            slot.seen, slot.model = now, model
            drop_old_copies(slot.place.name, self.state)
            settle_garbage()
            self.metrics.reloads.labels(slot.place.name, "done").inc()
            took = round(1000 * (time.monotonic() - begin))
            self.log.info("reloaded", model=slot.place.name, version=model.version, ms=took)


def settle_garbage() -> None:
    """Look no more for garbage among what is loaded: that would hold up requests for a tenth of a second at a time."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _share_of(user: Id) -> float:
    """From 0 to 1, the same for a user in every process and at any time."""
    return int.from_bytes(hashlib.sha256(repr(user).encode(errors="surrogatepass")).digest()[:7]) / 256**7
