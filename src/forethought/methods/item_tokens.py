"""Items as methods over tokens know them: M tokens each, one of every codebook, and no vector of their own.

    x_i = MLP(e_1(c_i1) | .. | e_M(c_iM)) + sum_m e_m(c_im)                           what an encoder reads
    p_m(c | s) = softmax_c( cos(g_m(s), e_m(c)) / tau ),  g_m(s) = s + SiLU(W_m s)    what a state says of book m

The heads are those of RPG (arXiv 2506.05781, section 3.2), tied to the vectors that are read. As a head has C rows
where a catalogue has N, an epoch costs less than with ids, and items may be added without a parameter more.

Shapes: N items, M codebooks, C codes a book, G categories, D width, P positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.data.features import Feature
from forethought.decoding.constraints import Constraints
from forethought.decoding.item_paths import ItemPaths
from forethought.decoding.paths import Paths
from forethought.decoding.token_scores import Merge, TokenScorer
from forethought.methods.interface import MethodConfig, UserRepresentation
from forethought.methods.outside import References, TokensAndCategories
from forethought.semantic_ids.all import AnyTokenizer
from forethought.semantic_ids.item_tokens import ItemTokens, encode_new, rebuild
from forethought.semantic_ids.mpq import MPQ
from forethought.semantic_ids.token_table import TokenTable
from forethought.settings import Between, Scale, check_keys

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class TokenMethodConfig(MethodConfig):
    """What methods over tokens share: which tokens, and how a state is held against them."""

    tokenizer: AnyTokenizer = field(default_factory=MPQ)
    """What makes tokens of the items when training begins, unless `tokens` says where there are some."""
    tokens: str | None = None
    """A folder that `forethought tokenize` made of the same data and split; None: they are made as training begins."""
    temperature: Annotated[Scale, Between(0.001, 100)] = 0.1
    """Cosines between states and tokens are divided by it (tau)."""
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
    """The tokens of all items with their vectors, the heads that name them, and what made them.

    It is empty until `know`, because what it holds goes with the tokens and not with the configuration alone.
    """

    item_dims: ClassVar[Mapping[str, int]] = {"codes_NM": 0, "category_N": 0}
    codes_NM: Tensor
    category_N: Tensor

    def __init__(self, n_items: int, width: int, config: TokenMethodConfig) -> None:
        super().__init__()
        self.n_items, self.width = n_items, width
        self.temperature, self.std = config.temperature, config.token_std
        self.shape: TokenShape | None = None

    def know(self, shape: TokenShape) -> None:
        """Make room for tokens of this shape: of the tables, the heads and the tokenizer itself.

        Raises:
            ConfigError: the description is damaged.
        """
        self.shape = shape
        self.made = rebuild(shape.made, self.n_items)
        self.tokenizer, table, D = self.made.tokenizer, self.made.table, self.width
        self.codebooks, self.size, self.ordered = table.codebooks, table.size, table.ordered
        self.register_buffer("codes_NM", table.codes_NM)
        self.register_buffer("category_N", torch.zeros(self.n_items, dtype=torch.int64))
        self.weight = nn.Parameter(torch.randn(self.codebooks * self.size, D) * self.std)
        self.heads_MDD = nn.Parameter(torch.zeros(self.codebooks, D, D))
        self.mix = nn.Sequential(nn.Linear(self.codebooks * D, 2 * D), nn.GELU(), nn.Linear(2 * D, D))
        self.categories = nn.Linear(D, len(shape.categories)) if shape.categories else None

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
        assert self.shape is not None
        known = TokenTable(self.codes_NM[:first].cpu(), self.size, self.ordered)
        made = ItemTokens(known, self.tokenizer, self.made.config, self.made.inputs, "")
        self.codes_NM[first:] = encode_new(made, features).to(self.codes_NM.device)
        # category of a new item: that of the items it shares most tokens with
        shared_nF = (self.codes_NM[first:, None] == self.codes_NM[None, :first]).sum(-1)
        self.category_N[first:] = self.category_N[shared_nF.argmax(1)]

    def constraints(self, forbidden: Sequence[tuple[int, int]], allowed_N: Tensor | None) -> Constraints:
        """Of tokens that must not be and items that alone may be."""
        return Constraints.of(self.codes_NM, self.size, forbidden_tokens=forbidden, allowed_N=allowed_N)

    def places(self, items: Tensor) -> Tensor:
        """Rows of `weight` of the tokens of some items, [..., M]."""
        books_M = torch.arange(self.codebooks, device=self.codes_NM.device) * self.size
        return self.codes_NM[items] + books_M

    def forward(self, items: Tensor) -> Tensor:
        """x_i of some items, [..., D]."""
        tokens = F.embedding(self.places(items), self.weight)
        return self.mix(tokens.flatten(-2)) + tokens.sum(-2)

    def vectors(self, books: Tensor, tokens: Tensor) -> Tensor:
        """e_m(c) of some tokens, [..., D]."""
        return F.embedding(books * self.size + tokens, self.weight)

    def codes_MCD(self) -> Tensor:
        """All tokens as heads compare them: directions alone."""
        return F.normalize(self.weight.view(self.codebooks, self.size, self.width), dim=-1)

    def logits(self, states_PD: Tensor) -> Tensor:
        """cos(g_m(s), e_m(c)) / tau, [P, M, C]."""
        hidden_MPD = F.silu(torch.matmul(states_PD, self.heads_MDD)) + states_PD
        return (F.normalize(hidden_MPD, dim=-1) / self.temperature @ self.codes_MCD().mT).transpose(0, 1)

    def log_probs(self, states: Tensor) -> Tensor:
        """ln p_m(c | s), [..., M, C]."""
        flat = self.logits(states.reshape(-1, self.width))
        return F.log_softmax(flat, dim=-1).view(*states.shape[:-1], self.codebooks, self.size)

    def category_log_probs(self, states: Tensor) -> Tensor | None:
        """ln p(category | s), [..., G]; None where items have none."""
        return None if self.categories is None else F.log_softmax(self.categories(states), dim=-1)

    def losses(self, states_PD: Tensor, codes_PM: Tensor, open_PM: Tensor | None = None) -> Tensor:
        """-ln p_m(c_m | s) of the books that are open, 0 of the others, [P, M]."""
        if open_PM is None:
            logits_PMC = self.logits(states_PD)
            return F.cross_entropy(logits_PMC.flatten(0, 1), codes_PM.flatten(), reduction="none").view_as(codes_PM)
        codes_MCD, losses = self.codes_MCD(), []
        for book, open_P in enumerate(open_PM.T):  # a decided book costs nothing
            rows = open_P.nonzero()[:, 0]
            states = states_PD[rows]
            hidden = F.silu(states @ self.heads_MDD[book]) + states
            logits = F.normalize(hidden, dim=-1) / self.temperature @ codes_MCD[book].T
            named = F.cross_entropy(logits, codes_PM[rows, book], reduction="none")
            losses.append(states_PD.new_zeros(len(states_PD)).index_put((rows,), named))
        return torch.stack(losses, dim=1)

    def category_losses(self, states_PD: Tensor, items_P: Tensor) -> Tensor | None:
        """-ln p(category of the item | s), [P]; None where items have none."""
        if self.categories is None:
            return None
        return F.cross_entropy(self.categories(states_PD), self.category_N[items_P], reduction="none")


@dataclass
class TokenStates(UserRepresentation):
    """What histories came to: of each of P paths, how likely each token is.

    Attributes:
        table_BPMC: log-probabilities of the tokens of each book.
        weights_BP: log-weights of the paths.
        paths: how they came about, if it was asked for and there is more than one step.
    """

    table_BPMC: Tensor
    weights_BP: Tensor
    paths: Paths | None = None


def token_scorer(tokens: TokenItems, states: TokenStates, merge: Merge = "mixture") -> TokenScorer:
    """All items, scored by the tokens they are made of."""
    return TokenScorer(states.table_BPMC, states.weights_BP, tokens.codes_NM, merge, states.added)


def item_paths(tokens: TokenItems, states: TokenStates) -> ItemPaths:
    """The paths of states, where there is none all that is said at once, beside the items."""
    paths = Paths.unstepped(states.table_BPMC) if states.paths is None else states.paths
    return ItemPaths(paths, tokens.codes_NM, () if tokens.shape is None else tokens.shape.categories)


def with_tokens(method: Model, shape: TokenShape | None) -> Model:
    """The same method, with room for tokens of this shape."""
    for part in list(method.modules()):
        if isinstance(part, TokenItems) and shape is not None:
            part.know(shape)
    return method


def reads_tokens(method: nn.Module) -> bool:
    """Whether the method knows items as tokens."""
    return any(isinstance(part, TokenItems) for part in method.modules())
