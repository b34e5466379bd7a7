"""Items as methods over tokens know them: M tokens each, one of every codebook, and no vector of their own.

As a codebook has C vectors where a catalogue has N, items may be added without a parameter more. What a state says of
tokens is a method's own: `token_heads.py` has what those share that name all tokens at once.

Shapes: N items, M codebooks, C codes a book, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.catalogue.ranking import Scorer
from forethought.data.batches import Batch
from forethought.data.features import Feature
from forethought.decoding.constraints import Constraints
from forethought.decoding.item_paths import ItemPaths
from forethought.decoding.paths import Paths
from forethought.decoding.token_scores import TokenScorer
from forethought.methods.configuration import MethodConfig
from forethought.methods.interface import Method, UserRepresentation
from forethought.methods.outside import References, SideInformation, TokensAndCategories
from forethought.reasoning.halting import Halting
from forethought.semantic_ids.all import AnyTokenizer
from forethought.semantic_ids.item_tokens import ItemTokens, encode_new, rebuild
from forethought.semantic_ids.mpq import MPQ
from forethought.semantic_ids.token_table import TokenTable
from forethought.settings import Scale, check_keys

Model = TypeVar("Model", bound=nn.Module)
Tokens = TypeVar("Tokens", bound="TokenItems")
TokenLoss = Literal["items", "tokens"]
NEW_TOGETHER = 64  # new items that are held against all known ones


@dataclass(frozen=True, kw_only=True)
class TokenMethodConfig(MethodConfig):
    """What methods over tokens share: which tokens they are."""

    tokenizer: AnyTokenizer = field(default_factory=MPQ)
    """What makes tokens of the items when training begins, unless `tokens` says where there are some."""
    tokens: str | None = None
    """A folder that `forethought tokenize` made of the same data and split; None: made when training begins."""
    token_std: Scale = 0.02
    """Spread of the tokens' initial vectors."""

    def references(self) -> References:
        return References(tokens=self.tokens, tokenizer=self.tokenizer)


def token_shape_of(known: TokensAndCategories | None) -> TokenShape | None:
    """The shape of tokens that were made."""
    return None if known is None else TokenShape(known.tokens.to_json(), known.categories)


class TokenShape(NamedTuple):
    """What a method must know of tokens before it has read them.

    Attributes:
        made: the tokenizer, its inputs and a checksum, as `ItemTokens.to_json` has them.
        categories: labels of the categories of items, where there are any.
    """

    made: Mapping[str, Any]
    categories: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a run folder says it."""
        return {"made": dict(self.made), "categories": list(self.categories)}


def token_shape(parts: Any) -> TokenShape:
    """As a run folder has it.

    Raises:
        ConfigError: something in it is damaged.
    """
    known = check_keys(parts, {"made": dict, "categories": list[str]}, "tokens")
    return TokenShape(known["made"], tuple(known["categories"]))


class TokenItems(nn.Module):
    """The tokens of all items with their vectors, and what made them.

    It is empty until `know`, because what it holds goes with the tokens and not with the configuration alone.

    An item that training never meets (`know_trained`) is scored by its tokens as any other. Once the method is trained,
    `unmet_nats` are taken off its score; below 0 they lift it.
    """

    item_dims: ClassVar[Mapping[str, int]] = {"codes_NM": 0, "category_N": 0}
    codes_NM: Tensor
    category_N: Tensor
    met_N: Tensor | None
    unmet_nats: Tensor

    def __init__(self, n_items: int, width: int, config: TokenMethodConfig) -> None:
        super().__init__()
        self.n_items, self.width = n_items, width
        self.std = config.token_std
        self.shape: TokenShape | None = None
        self.register_buffer("met_N", None, persistent=False)  # a run's table of items has the counts

    def know(self, shape: TokenShape) -> None:
        """Make room for tokens of this shape: of the tables and the tokenizer itself.

        Raises:
            ConfigError: the description is damaged.
        """
        self.shape = shape
        self.made = rebuild(shape.made, self.n_items)
        self.tokenizer, table = self.made.tokenizer, self.made.table
        self.codebooks, self.size, self.ordered = table.codebooks, table.size, table.ordered
        self.register_buffer("codes_NM", table.codes_NM)
        self.register_buffer("category_N", torch.zeros(self.n_items, dtype=torch.int64))
        self.register_buffer("unmet_nats", torch.zeros(()))
        self.register_load_state_dict_pre_hook(know_no_nats)
        self.weight = nn.Parameter(torch.randn(self.codebooks * self.size, self.width) * self.std)

    def know_trained(self, train_counts_N: Tensor) -> None:
        """Which items training meets: a loss over all items leaves the others out, and `unmet_nats` are theirs."""
        met_N = train_counts_N > 0
        self.met_N = None if met_N.all() or not met_N.any() else met_N.to(self.codes_NM.device)

    def met_alone(self, targets: Tensor) -> Tensor | None:
        """The items that training meets, [N], where it leaves some out and all of these targets are among them."""
        return self.met_N if self.met_N is not None and bool(self.met_N[targets].all()) else None

    def offsets(self) -> Tensor | None:
        """What is added to the scores of the items, [N], 0 for those that training meets; None where it is nothing."""
        if self.met_N is None or self.training or not self.unmet_nats.item():
            return None
        return torch.where(self.met_N, 0.0, -self.unmet_nats)

    def take(self, known: TokensAndCategories) -> None:
        """The tokens as they were made, before training."""
        self.codes_NM.copy_(known.tokens.table.codes_NM)
        self.category_N.copy_(known.category_N)
        self.tokenizer.load(known.tokens.tokenizer.state_dict())

    def take_new(self, features: Sequence[Feature], first: int) -> None:
        """Tokens of items that joined from row `first` on, of what is known of them.

        Raises:
            DataError: the tokens were made of other features, or of none.
        """
        codes_FM, category_F = self.read_new(features, first)
        self.codes_NM[first:], self.category_N[first:] = codes_FM.to(self.codes_NM), category_F.to(self.category_N)

    def read_new(self, features: Sequence[Feature], known: int, *, beside: bool = True) -> tuple[Tensor, Tensor]:
        """Tokens and categories of new items beside the first `known` ones; a new item has the category of the item
        that it shares most tokens with.

        Args:
            beside: as `encode_new` has it.

        Raises:
            DataError: the tokens were made of other features, or of none.
        """
        codes_NM = self.codes_NM[:known].cpu()
        table = TokenTable(codes_NM, self.size, self.ordered)
        made = ItemTokens(table, self.tokenizer, self.made.config, self.made.inputs, "")
        codes_FM = encode_new(made, features, beside=beside)
        alike = [(some_FM[:, None] == codes_NM).sum(-1).argmax(1) for some_FM in codes_FM.split(NEW_TOGETHER)]
        return codes_FM, self.category_N[:known].cpu()[torch.cat(alike)]

    def take_from(self, trained: TokenItems, features: Sequence[Feature]) -> TokenShape:
        """Tokens of the items of other data, read by what made those of a trained method; what is then known of them.

        Raises:
            DataError: the tokens were made of other features, or of none.
        """
        assert trained.shape is not None
        codes_NM, category_N = trained.read_new(features, trained.n_items, beside=False)
        self.codes_NM.copy_(codes_NM)
        self.category_N.copy_(category_N)
        table = TokenTable(codes_NM, self.size, self.ordered)
        tokens = ItemTokens.of(table, self.tokenizer, self.made.config, self.made.inputs)
        self.shape = trained.shape._replace(made=tokens.to_json())
        return self.shape

    def constraints(
        self, forbidden: Sequence[tuple[int, int]], wanted: Sequence[tuple[int, int]], allowed_N: Tensor | None
    ) -> Constraints:
        """Of tokens that must not be, those that must, and items that alone may be."""
        return Constraints.of(
            self.codes_NM, self.size, forbidden_tokens=forbidden, only_tokens=wanted, allowed_N=allowed_N
        )

    def places(self, items: Tensor) -> Tensor:
        """Rows of `weight` of the tokens of some items, [..., M]."""
        books_M = torch.arange(self.codebooks, device=self.codes_NM.device) * self.size
        return self.codes_NM[items] + books_M

    @property
    def sharpness(self) -> float:
        """A token adds this times its log-probability to the score of an item."""
        return 1.0

    def vectors(self, books: Tensor, tokens: Tensor) -> Tensor:
        """e_m(c) of some tokens, [..., D]."""
        return F.embedding(books * self.size + tokens, self.weight)


@dataclass
class TokenStates(UserRepresentation):
    """What histories came to: of each of P paths, how likely each token is.

    Attributes:
        table_BPMC: what each token of each book adds to the score of an item.
        weights_BP: log-weights of the paths.
        paths: how they came about, if it was asked for and there is more than one step.
    """

    table_BPMC: Tensor
    weights_BP: Tensor
    paths: Paths | None = None

    @property
    def look_ups(self) -> int:
        """P x M: a number of the tables for each path and codebook, where a vector takes a product."""
        return self.table_BPMC.shape[1] * self.table_BPMC.shape[2]


class TokenMethod(Method, Generic[Tokens]):
    """A method that knows items as `tokens` and no vectors of them, and can be told which tokens must not be."""

    tokens: Tokens

    @property
    def n_items(self) -> int:
        return self.tokens.n_items

    @property
    def state_width(self) -> None:
        return None

    def fit_side_information(self, side: SideInformation) -> None:
        super().fit_side_information(side)
        assert side.tokens is not None
        self.check_tokens(side.tokens)
        self.tokens.take(side.tokens)

    def check_tokens(self, known: TokensAndCategories) -> None:
        """Refuse tokens that do not serve, and what asks for more than there is.

        Raises:
            ConfigError: in a sentence.
        """

    def constraints(
        self, forbidden: Sequence[tuple[int, int]], wanted: Sequence[tuple[int, int]], allowed_N: Tensor | None
    ) -> Constraints:
        return self.tokens.constraints(forbidden, wanted, allowed_N)

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> UserRepresentation:
        return self.constrained_states(batch, None, halting, trace=trace)

    def constrained_states(
        self, batch: Batch, constraints: Constraints | None, halting: Halting | None = None, *, trace: bool = False
    ) -> UserRepresentation:
        """As `Method.constrained_states`; without constraints nothing is forbidden."""
        raise NotImplementedError


class PathMethod(TokenMethod[Tokens]):
    """One that comes to `TokenStates`: paths over unordered tokens, by which all items are ranked."""

    def user_states(self, batch: Batch, halting: Halting | None = None, *, trace: bool = False) -> TokenStates:
        made = super().user_states(batch, halting, trace=trace)
        assert isinstance(made, TokenStates)
        return made

    def scorer(self, represented: UserRepresentation, purpose: str) -> Scorer:
        assert isinstance(represented, TokenStates)
        return token_scorer(self.tokens, represented)

    def token_paths(self, represented: UserRepresentation) -> ItemPaths:
        assert isinstance(represented, TokenStates)
        return item_paths(self.tokens, represented)


def token_scorer(tokens: TokenItems, states: TokenStates) -> TokenScorer:
    """All items, scored by the tokens they are made of."""
    return TokenScorer(
        states.table_BPMC, states.weights_BP, tokens.codes_NM, added=states.added, offsets_N=tokens.offsets()
    )


def item_paths(tokens: TokenItems, states: TokenStates) -> ItemPaths:
    """The paths of states, where there is none all that is said at once, beside the items."""
    paths = Paths.unstepped(states.table_BPMC) if states.paths is None else states.paths
    categories = () if tokens.shape is None else tokens.shape.categories
    return ItemPaths(paths, states.table_BPMC, tokens.codes_NM, categories, tokens.sharpness, tokens.offsets())


def know_no_nats(part: nn.Module, weights: dict[str, Any], prefix: str, *_: Any) -> None:
    """Weights of before `unmet_nats` have none."""
    weights.setdefault(f"{prefix}unmet_nats", torch.zeros(()))


def with_tokens(method: Model, shape: TokenShape | None) -> Model:
    """The same method, with room for tokens of this shape."""
    for part in list(method.modules()):
        if isinstance(part, TokenItems) and shape is not None:
            part.know(shape)
    return method


def kept_tokens(
    trained: nn.Module, rows: Tensor, n_items: int, features: Sequence[Feature]
) -> TokensAndCategories | None:
    """The tokens of a trained method for data that holds its items and others; None where it knows no tokens.

    Vectors of tokens mean something with these very tokens alone: known items keep theirs, and the others are read by
    the tokenizer that made them.

    Args:
        rows: where its items stand in the data.
        features: of all items of the data, made as the trained method's were.

    Raises:
        DataError: there are new items, and the tokens were made of nothing that is known of them.
    """
    part = next((part for part in trained.modules() if isinstance(part, TokenItems)), None)
    if part is None:
        return None
    assert part.shape is not None
    codes_NM = torch.zeros(n_items, part.codebooks, dtype=torch.int64)
    category_N = torch.zeros(n_items, dtype=torch.int64)
    codes_NM[rows], category_N[rows] = part.codes_NM.cpu(), part.category_N.cpu()
    new_N = torch.ones(n_items, dtype=torch.bool)
    new_N[rows] = False
    if new_N.any():
        at = new_N.numpy()
        new = [each._replace(values=each.values[at], known_N=each.known_N[at]) for each in features]
        codes_NM[new_N], category_N[new_N] = part.read_new(new, len(rows))
    table = TokenTable(codes_NM, part.size, part.ordered)
    tokens = ItemTokens.of(table, part.tokenizer, part.made.config, part.made.inputs)
    return TokensAndCategories(tokens=tokens, categories=part.shape.categories, category_N=category_N)


def reads_tokens(method: nn.Module) -> bool:
    """Whether the method knows items as tokens."""
    return any(isinstance(part, TokenItems) for part in method.modules())


def idle_books(method: nn.Module) -> str | None:
    """What is said where some of the items' tokens tell nothing; a counter has nothing to tell where none are equal."""
    for part in method.modules():
        if not isinstance(part, TokenItems):
            continue
        books = part.made.config.codebooks
        if idle := TokenTable(part.codes_NM[:, :books], part.size, part.ordered).idle_books():
            return (
                f"{idle} of the tokenizer's {books} tokens {'is' if idle == 1 else 'are'} the same for all items and "
                f"{'says' if idle == 1 else 'say'} nothing of them, as the others tell all that is known: give it "
                "fewer codes a book (tokenizer.size) or fewer codebooks, or know more of the items (forethought "
                "tokenize measures what tokens are worth)."
            )
    return None
