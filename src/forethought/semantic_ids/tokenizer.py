"""What every tokenizer answers to: inputs of items become codes, and codes become a reconstruction.

A tokenizer standardises its inputs itself, dimension by dimension, because raw vectors of unit length lead quantisers
to a single code; and it looks at them along their principal axes, the first `components` of them.

Shapes: N items, F inputs, P principal components, M codebooks, C codes a book.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor, nn

from forethought.data.progress import Report, silent
from forethought.errors import ConfigError, DataError
from forethought.memory import check_room
from forethought.settings import Between, Count, Settings, Width, asked_among

AT_ONCE = 1024  # rows encoded together, always so many: a code must not depend on who else is encoded
Collisions = Literal["keep", "greedy", "counter"]
Codebooks = Annotated[int, Between(1, 128)]
Unread = tuple[str, str, tuple[str, ...]]  # without what, what would have them read, and settings by name
CodebookSize = Annotated[int, Between(2, 65_536)]


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(Settings):
    """What makes tokens of items, and of what."""

    ordered = False
    """Whether a prefix of an item's tokens says more than what follows it."""

    codebooks: Codebooks = 8
    """Tokens an item (M)."""
    size: CodebookSize = 256
    """Codes a codebook (C)."""
    collisions: Collisions = "greedy"
    """Items with equal tokens: stay so (keep), the less popular take the free tokens that lie nearest (greedy), or one
    more token numbers them (counter)."""
    collaborative: Literal["co_occurrence", "none"] = "co_occurrence"
    """Vectors of which items are met together in training, beside the features."""
    collaborative_width: Width = 64
    """Numbers of such a vector."""
    components: Count = 128
    """Principal components of the inputs that are looked at, at most (P)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for reads, give, names in self.unread(vars(self)):
            if asked := asked_among(self, names):
                raise ConfigError(
                    f"Without {reads} {' and '.join(asked)} would change nothing: give {give}, or leave that out."
                )

    @classmethod
    def unread(cls, values: Mapping[str, Any]) -> list[Unread]:
        """What nothing reads beside the other values."""
        if values.get("collaborative", cls.collaborative) != "none":
            return []
        return [("collaborative vectors", "collaborative co_occurrence", ("collaborative_width",))]

    def build(self, width: int) -> Tokenizer:
        """An untrained tokenizer of inputs of this width (F), its tensors of the right shapes."""
        raise NotImplementedError

    @property
    def table_codebooks(self) -> int:
        """Tokens an item has in the end, a counter included."""
        return self.codebooks + (self.collisions == "counter")

    @property
    def follows(self) -> bool:
        """Whether it learns of what follows what in the training part."""
        return False

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the name of the tokenizer, which is that of the file."""
        return {"type": type(self).__module__.rpartition(".")[2], **asdict(self)}


class Tokenizer(nn.Module, ABC):
    """Inputs of items become codes.

    All that it knows are tensors in its state, so that a run keeps it among its weights.
    """

    mean_F: Tensor
    scale_F: Tensor
    axes_FP: Tensor
    collaborative_NE: Tensor | None = None
    """Of the items that it is learning from, while it does."""
    follows_P2: Tensor | None = None
    """Rows of items that followed each other, while it learns."""

    def __init__(self, config: TokenizerConfig, width: int) -> None:
        super().__init__()
        distances = AT_ONCE * config.codebooks * config.size
        check_room(
            8 * distances, f"{config.codebooks} codebooks of {config.size:,} codes", "give fewer or smaller ones"
        )
        self.codebooks, self.size, self.ordered = config.codebooks, config.size, config.ordered
        self.width, self.components = width, min(config.components, width)
        self.register_buffer("mean_F", torch.zeros(width))
        self.register_buffer("scale_F", torch.ones(width))
        self.register_buffer("axes_FP", torch.eye(width)[:, : self.components].contiguous())

    def fit(
        self,
        values_NF: Tensor,
        *,
        seed: int,
        observer: Report = silent,
        weights_F: Tensor | None = None,
        collaborative_NE: Tensor | None = None,
        follows_P2: Tensor | None = None,
    ) -> None:
        """Learn from all items.

        Args:
            values_NF: raw inputs; they are standardised here.
            seed: of all that is drawn.
            observer: told how far it is.
            weights_F: how much a deviation in each input counts; None: all the same.
            collaborative_NE: for a loss that speaks of who is met with whom; zeros for items that nobody met.
            follows_P2: for one that speaks of what follows what: rows of two items each.

        Raises:
            DataError: no items, inputs of another width, NaN or infinity, or all items alike; a loss speaks of
                behaviour and none is known.
        """
        self._check(values_NF)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._standardise(values_NF, weights_F)
            with torch.no_grad():
                y_NP = self.project(values_NF)
            self.train()
            self.collaborative_NE, self.follows_P2 = collaborative_NE, follows_P2
            self.learn(y_NP, seed, observer)
            self.collaborative_NE = self.follows_P2 = None
        self.eval()
        self.requires_grad_(False)

    @torch.no_grad()
    def encode(self, values_NF: Tensor) -> Tensor:
        """Codes of raw inputs, int64 [N, M]; those of a row depend on that row alone."""
        self._check(values_NF)
        parts = [self.assign(self.project(block))[:rows] for block, rows in equal_blocks(values_NF)]
        return torch.cat(parts)

    @torch.no_grad()
    def decode(self, codes_NM: Tensor) -> Tensor:
        """What the codes say of the standardised inputs, [N, F]."""
        return self.reconstruct(codes_NM) @ self.axes_FP.T

    @torch.no_grad()
    def standardised(self, values_NF: Tensor) -> Tensor:
        """Inputs with mean 0 and spread 1 in every dimension, times the weights of the fit, [N, F]."""
        return (values_NF.to(self.mean_F) - self.mean_F) * self.scale_F

    def project(self, values_NF: Tensor) -> Tensor:
        """Principal components of the standardised inputs, [N, P]."""
        return self.standardised(values_NF) @ self.axes_FP

    @torch.no_grad()
    def costs(self, values_NF: Tensor, codes_NM: Tensor) -> Tensor:
        """What putting each code of each book in the place of the item's own adds to its squared error, [N, M, C]."""
        return self.added_errors(self.project(values_NF), codes_NM)

    @abstractmethod
    def learn(self, y_NP: Tensor, seed: int, observer: Report) -> None:
        """Fit to principal components."""

    @abstractmethod
    def assign(self, y_NP: Tensor) -> Tensor:
        """Codes of principal components, int64 [N, M]."""

    @abstractmethod
    def reconstruct(self, codes_NM: Tensor) -> Tensor:
        """Principal components of codes, [N, P]."""

    @abstractmethod
    def added_errors(self, y_NP: Tensor, codes_NM: Tensor) -> Tensor:
        """As `costs`, of principal components."""

    @torch.no_grad()
    def _standardise(self, values_NF: Tensor, weights_F: Tensor | None) -> None:
        values = values_NF.double()
        mean_F, std_F = values.mean(0), values.std(0, correction=0)
        floor = 1e-9 * mean_F.abs().clamp_min(1e-9)  # below it a spread is rounding
        scale_F = torch.where(std_F > floor, 1 / std_F.clamp_min(1e-30), 0.0)
        if not scale_F.any():
            raise DataError("All items have the same inputs, so that no tokenizer can tell them apart: give features.")
        scale_F = scale_F if weights_F is None else scale_F * weights_F.double()
        centred = (values - mean_F) * scale_F
        _, axes_FF = torch.linalg.eigh(centred.T @ centred)
        axes_FP = axes_FF.flip(1)[:, : self.components]
        largest = axes_FP.gather(0, axes_FP.abs().argmax(0, keepdim=True))
        self.axes_FP.copy_(axes_FP * largest.sign())  # else an axis and its opposite are the same to the solver
        self.mean_F.copy_(mean_F)
        self.scale_F.copy_(scale_F)

    def _check(self, values_NF: Tensor) -> None:
        if values_NF.ndim != 2 or values_NF.shape[1] != self.width:
            raise DataError(
                f"The inputs have the shape {list(values_NF.shape)}, but the tokenizer is made for {self.width} "
                "numbers an item."
            )
        if not len(values_NF):
            raise DataError("There are no items to be tokenised.")
        if not values_NF.isfinite().all():
            raise DataError("The inputs of the items hold NaN or infinity: mend the features.")

    def load(self, state: dict[str, Tensor]) -> Self:
        """Take a state as it was saved.

        Raises:
            ConfigError: names or shapes are not this tokenizer's, or a tensor holds NaN or infinity.
        """
        own = self.state_dict()
        wrong = [
            name
            for name in {**own, **state}
            if name not in own
            or name not in state
            or own[name].shape != state[name].shape
            or own[name].dtype != state[name].dtype
        ]
        if wrong:
            raise ConfigError(f"The tokenizer's tensor {wrong[0]!r} is missing, unknown or of another shape.")
        if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
            raise ConfigError("The tokenizer's tensors hold NaN or infinity.")
        self.load_state_dict(state)
        self.eval()
        self.requires_grad_(False)
        return self


def equal_blocks(values_NF: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Blocks of `AT_ONCE` rows, the last one filled up with its first row, and how many of each are real."""
    for start in range(0, len(values_NF), AT_ONCE):
        block = values_NF[start : start + AT_ONCE]
        rows = len(block)
        yield torch.cat([block, block[:1].expand(AT_ONCE - rows, -1)]) if rows < AT_ONCE else block, rows
