"""What a service is told when it starts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from forethought.errors import ConfigError, shown
from forethought.settings import Between, Count, Like, Settings, Weight

Name = Annotated[str, Like(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "stock or sasrec-2")]
"""Of a model or a list: it stands in addresses, metrics and logs."""
Port = Annotated[int, Between(0, 65_535)]
Workers = Annotated[int, Between(1, 256)]
Milliseconds = Annotated[float, Between(1, 3_600_000)]
Seconds = Annotated[float, Between(0.05, 86_400)]
UserKind = Literal["text", "integer"]
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
OWN_PORT = re.compile(r"http://.*:80|https://.*:443")  # which browsers leave out


@dataclass(frozen=True, kw_only=True)
class ModelPlace(Settings):
    """A run that is served."""

    name: Name
    folder: str
    weight: Weight = 1.0
    """Share of the requests that name no model, relative to those of the others; 0: only when it is named."""
    shadow: bool = False
    """It is asked after the model that answers, and nobody sees its answer but the metrics."""


@dataclass(frozen=True, kw_only=True)
class Limits(Settings):
    """The most that is taken."""

    queue: Count = 512
    """Histories that may wait; requests beyond it are told to come again."""
    requests: Count = 32
    """That one process works on at once; those beyond it likewise, at once, before they are read."""
    batch: Count = 64
    """Histories that are ranked together."""
    deadline_ms: Milliseconds = 2_000.0
    """From the arrival of a request to its answer."""
    body_bytes: Count = 1_000_000
    histories: Count = 256
    """In one request."""
    history: Count = 1_000
    """Items in a history."""
    k: Count = 500
    list_ids: Count = 1_000_000
    """Items in a list that is registered."""
    list_bytes: Count = 64_000_000
    """Of the request that registers it."""
    lists: Count = 256
    explained: Count = 16
    """Histories that one request may have explained."""
    connections: Count = 1_000
    slow_client_s: Seconds = 10.0
    """Until a request's headers, and then its body, must have come."""


@dataclass(frozen=True, kw_only=True)
class Serving(Settings):
    """A service: which runs, where it listens, and what it keeps."""

    models: tuple[ModelPlace, ...]
    state: str
    """Folder for what the processes share: copies of the runs, lists, figures."""
    events: str | None = None
    """Folder for the tables of events; None: events are refused."""
    host: str = "127.0.0.1"
    port: Port = 8000
    workers: Workers = 1
    threads: Workers = 1
    """Of torch, in each process."""
    watch_s: Seconds = 2.0
    """How often run folders are looked at."""
    limits: Limits = Limits()
    api_key: str | None = None
    cors: tuple[str, ...] = ()
    """Origins whose pages may ask."""
    log_requests: bool = True
    event_users: UserKind = "text"
    """How ids of users are written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [place.name for place in self.models]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"Two models are called {doubled[0]!r}: name one of them otherwise, NAME=RUN.")
        if not any(place.weight for place in self.models if not place.shadow):
            raise ConfigError("No model is left to answer: give one of them a weight above 0 that is no shadow.")
        for origin in self.cors:
            if origin != "*" and (not ORIGIN.fullmatch(origin) or OWN_PORT.fullmatch(origin)):
                raise ConfigError(
                    f"cors is {shown(origin)}, which no browser sends: an origin is scheme://host[:port] in lower "
                    "case, such as https://shop.example, without a path and without the scheme's own port; * is any."
                )
        if self.events is None and self.event_users != "text":
            raise ConfigError(
                f"event_users is {self.event_users!r}, but no events are kept: give --events FOLDER, too, or leave "
                "--event-users out."
            )

    @property
    def state_folder(self) -> Path:
        return Path(self.state)

    def to_json(self) -> dict[str, Any]:
        """All but the key, which is not written down."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "api_key"}
        return own | {"models": [vars(place) for place in self.models], "limits": vars(self.limits)}

    @classmethod
    def from_json(cls, parts: dict[str, Any], api_key: str | None) -> Self:
        inner = {
            "models": tuple(ModelPlace(**place) for place in parts["models"]),
            "limits": Limits(**parts["limits"]),
            "cors": tuple(parts["cors"]),
        }
        return cls(**{**parts, **inner}, api_key=api_key)
