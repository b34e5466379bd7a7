"""TIGER: the tokens of the next item, one after the other, by an encoder and a decoder (arXiv 2305.05065).

    p(i | history) = prod_m p(c_im | c_i1 .. c_i(m-1), history)          L = -sum_m ln p(c_m | c_1 .. c_(m-1), history)

The encoder reads the M tokens of each item of the history, and the decoder writes those of the next one, with a softmax
over the C codes of each book. Tokens are ordered (RQ-VAE, with a counter that makes tuples unique), so that a prefix is
a group of items that are alike.

Ranking is a beam search along the tokens that lead to items (`decoding/prefix_scores.py`): the best `beams` tuples have
their exact log-probability, all other items an estimate below. So ranks within the beam are those of the model as far
as a beam finds the best tuples, ranks beyond it are estimates, and evaluations name the beam in their protocol. Where
few items may be listed, the search is among those alone. A beam should be longer than a list and what is excluded.

With `loss="items"` (beyond the paper) each softmax is over the codes with which an item goes on, and p(i) sums to one
over the items; in training these are the items that it meets, so that nothing speaks against those that join later.
Otherwise most of the last books' work is to learn which tuples there are.

Variants: `causal_encoder` lets tokens see what came before alone, so that one pass trains all positions of a history,
each with a decoder's sequence behind the last token of its item; the paper's encoder looks both ways, and each prefix
of a history is a row of its own.

Deviations: pre-norm blocks with GELU, normed inputs and learned positions of items instead of T5's; a token's place in
its item is told by its own vector, which belongs to its book; positions count from a row's end (`count_from`); no token
of the user unless `users` is set (the paper hashes users onto 2,000), and somebody unknown has the mean of these.

Shapes: B rows, L items of a history, M tokens an item, C codes a book, P decoded sequences, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forethought.catalogue import ranking
from forethought.data.batches import Batch
from forethought.data.interactions import DataSizes
from forethought.decoding.constraints import Constraints
from forethought.decoding.decoder import ChainState
from forethought.decoding.drawing import drawn_path_loss
from forethought.decoding.prefix_scores import PrefixScorer, joined, search_prefixes
from forethought.decoding.prefix_table import PrefixTable
from forethought.decoding.tuple_paths import TuplePaths
from forethought.errors import ConfigError
from forethought.methods.interface import Inputs, Losses, UserRepresentation
from forethought.methods.item_tokens import TokenItems, TokenLoss, TokenMethod, TokenMethodConfig, TokenShape
from forethought.nn.decoder import Decoder, DecoderChain
from forethought.nn.dropout import Dropout
from forethought.nn.positions import CountFrom, Positions
from forethought.nn.transformer import Transformer, initialise
from forethought.reasoning.chain import History
from forethought.reasoning.halting import Halting
from forethought.semantic_ids.all import AnyTokenizer
from forethought.semantic_ids.rq_vae import RQVAE
from forethought.settings import Between, Heads, Layers, SearchRange, ShareBelowOne, Width, Window

OUT = -1e9  # logit of a code with which no item goes on: finite, so that a prefix of no item is no NaN
SEARCHED_TOGETHER = 8192  # prefixes: their states stay in the cache of a core


@dataclass(frozen=True, kw_only=True)
class TIGER(TokenMethodConfig):
    """Configuration: an encoder of tokens, and a decoder of the next item's."""

    tokenizer: AnyTokenizer = field(default_factory=lambda: RQVAE(codebooks=3, collisions="counter"))
    """What makes tokens of the items when training begins, unless `tokens` says where there are some; books are
    decoded from the first to the last, so ordered tokens fit best."""
    width: Width = 64
    """State width d, a multiple of `heads` (the paper: 128)."""
    window: Window = 20
    """Items of a history that are read; older ones are cut."""
    encoder_layers: Layers = 2
    """Blocks that read the history (the paper: 4)."""
    decoder_layers: Layers = 2
    """Blocks that write the next item (the paper: 4)."""
    heads: Heads = 2
    """Attention heads of both (the paper: 6)."""
    ffn_width: Width = 256
    """Width inside the feed-forward nets (the paper: 1,024)."""
    dropout: Annotated[ShareBelowOne, SearchRange(0.0, 0.7)] = 0.2
    """Share of embedding and branch units dropped in training, 0 to 1 (the paper: .1)."""
    causal_encoder: bool = True
    """Tokens see what came before alone: one pass trains all positions; else they look both ways, as in the paper."""
    count_from: CountFrom = "end"
    """Positions tell how recent an item is (end), or how many came before it (start); see `nn/positions.py`."""
    users: Annotated[int, Between(0, 10_000_000)] = 0
    """Vectors that users are spread over, one of which stands in front of a history (the paper: 2,000); 0: none."""
    loss: TokenLoss = "tokens"
    """tokens: each token among all codes of its book, as in the paper; items: among those with which an item goes on,
    so that nothing is spent on tuples that no item has, and the items' probabilities sum to one."""
    beams: Annotated[int, Between(1, 10_000)] = 100
    """Prefixes that are followed at each level, and tuples whose scores are exact (W)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(f"TIGER's width is {self.width}, but must be a multiple of its {self.heads} heads.")

    def build(self, sizes: DataSizes) -> TIGERModel:
        return TIGERModel(self, sizes.n_items)


def _same(before_NM: Tensor, codes_NM: Tensor) -> bool:
    return before_NM.device == codes_NM.device and torch.equal(before_NM, codes_NM)


class DecodedItems(TokenItems):
    """The tokens of all items, with a softmax over the codes of each book; empty until `know`."""

    def know(self, shape: TokenShape) -> None:
        super().know(shape)
        self.heads_MCD = nn.Parameter(torch.randn(self.codebooks, self.size, self.width) * self.std)
        self.bias_MC = nn.Parameter(torch.zeros(self.codebooks, self.size))
        self._table: PrefixTable | None = None
        self._table_codes_NM, self._places_MN = self.codes_NM, self.codes_NM
        self._met_table: tuple[Tensor, PrefixTable] | None = None

    def know_trained(self, train_counts_N: Tensor) -> None:
        super().know_trained(train_counts_N)
        self._met_table = None

    def forward(self, items_BL: Tensor) -> Tensor:
        """The tokens' vectors, [B, L, M, D]."""
        return F.embedding(self.places(items_BL), self.weight)

    def logits(self, states: Tensor, book: int) -> Tensor:
        """Of the codes of one book, [..., C]."""
        return F.linear(states, self.heads_MCD[book], self.bias_MC[book])

    def prefixes(self) -> tuple[PrefixTable, Tensor]:
        """The table of all items' prefixes and their places in it, made again when tokens have changed."""
        codes_NM = self.codes_NM
        if self._table is None or not _same(self._table_codes_NM, codes_NM):
            self._table = PrefixTable.of(codes_NM, self.size)
            self._table_codes_NM, self._places_MN = codes_NM.clone(), self._table.places(len(codes_NM))
        return self._table, self._places_MN

    def met_prefixes(self, targets: Tensor) -> PrefixTable:
        """The table of the items that training meets, where these targets are among them; else of all."""
        met_N = self.met_alone(targets)
        if met_N is None:
            return self.prefixes()[0]
        codes_NM = self.codes_NM
        if self._met_table is None or not _same(self._met_table[0], codes_NM):
            self._met_table = codes_NM.clone(), PrefixTable.of(codes_NM, self.size, met_N)
        return self._met_table[1]


class HashedUsers(nn.Module):
    """A few vectors that all users share, each user always the same one; somebody unknown has the mean of all."""

    of_its_training: ClassVar[tuple[str, ...]] = ("weight",)  # a run folder does not say whose they are

    def __init__(self, n: int, width: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n, width) * std)

    def forward(self, users_B: Tensor) -> Tensor:
        vectors_BD = F.embedding(users_B % len(self.weight), self.weight)
        return torch.where((users_B < 0)[:, None], self.weight.mean(0), vectors_BD)


@dataclass(frozen=True, eq=False)
class SequenceState:
    """Where decoded sequences stand, a `DecoderState`: their states and chains, and the tokens that were written."""

    at: ChainState[DecoderChain]
    tokens_BPT: Tensor

    def select(self, paths_BP: Tensor) -> SequenceState:
        at_BPT = paths_BP[..., None].expand(-1, -1, self.tokens_BPT.shape[-1])
        return SequenceState(self.at.select(paths_BP), self.tokens_BPT.gather(1, at_BPT))


@dataclass
class SearchedStates(UserRepresentation):
    """What histories came to: encoded, and searched for the items that follow.

    Attributes:
        all_items: the scores that the search came to, of items that training never met as of the others.
        chain: the encoded histories, for another search among fewer items.
    """

    all_items: PrefixScorer
    chain: DecoderChain

    def select(self, rows: Tensor) -> SearchedStates:
        chosen = super().select(rows)
        return replace(chosen, all_items=self.all_items.take(rows), chain=self.chain.select(rows))


class TIGERModel(TokenMethod[DecodedItems]):
    most_validated = 5_000  # beams take time

    def __init__(self, config: TIGER, n_items: int) -> None:
        super().__init__()
        self.config, self.window = config, config.window
        self.inputs = Inputs(users=config.users > 0)
        sizes = {"width": config.width, "heads": config.heads, "ffn_width": config.ffn_width, "dropout": config.dropout}
        self.tokens = DecodedItems(n_items, config.width, config)
        self.positions = Positions(config.window, config.width, config.count_from)
        self.users = HashedUsers(config.users, config.width, config.token_std) if config.users else None
        self.dropout = Dropout(config.dropout)
        self.encoder = Transformer(
            **sizes, layers=config.encoder_layers, activation="gelu", norm_first=True, causal=config.causal_encoder
        )
        self.decoder = Decoder(**sizes, layers=config.decoder_layers)
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)  # of inputs
        self.first_D = nn.Parameter(torch.randn(config.width) * config.token_std)  # BOS
        initialise(self.encoder)
        initialise(self.decoder)

    @property
    def search(self) -> str:
        return f"beam of {self.config.beams}, estimates below"

    def compile_encoder(self) -> None:
        self.encoder.compile(dynamic=True)

    # ---- training

    def loss(self, batch: Batch) -> Losses:
        """All positions at once, token by token: M products of (positions x codes x width)."""
        assert batch.targets_BL is not None
        real_BL = batch.valid_BL()
        codes_BPM = self.tokens.codes_NM[batch.targets_BL]
        table = None if self.config.loss == "tokens" else self.tokens.met_prefixes(batch.targets_BL[real_BL])
        chain = self._everywhere(batch)
        if not self.config.causal_encoder:  # a row for each real position
            codes_BPM, real_BP = codes_BPM[real_BL][:, None], torch.ones_like(real_BL[real_BL])[:, None]
        else:
            real_BP = real_BL
        x_BPD = self.first_D.expand(*real_BP.shape, -1)
        losses = []
        codes_PM = codes_BPM[real_BP]
        for book, codes_BP in enumerate(codes_BPM.unbind(-1)):
            states_BPD, chain = self.written(x_BPD, chain)
            logits_PC = self.token_logits(states_BPD[real_BP], codes_PM[:, :book], table)
            losses.append(F.cross_entropy(logits_PC, codes_PM[:, book], reduction="sum") / batch.weight)
            x_BPD = self.tokens.vectors(torch.full_like(codes_BP, book), codes_BP)
        total = torch.stack(losses).sum()
        parts = {"loss": total, "first": losses[0], "last": losses[-1]}
        return Losses(total, {name: part.detach() for name, part in parts.items()})

    def _everywhere(self, batch: Batch) -> DecoderChain:
        """A sequence behind every position, which sees the tokens of the items up to there."""
        history, users_B = History(batch.items_BL, batch.lengths_B), batch.users_B
        if not self.config.causal_encoder:
            row_R = batch.valid_BL().nonzero()[:, 0]
            return self._at_end(history.prefixes(), None if users_B is None else users_B[row_R])
        states_BXD = self._encoded(history, users_B)
        at_L = torch.arange(history.items_BL.shape[1], device=states_BXD.device)
        seen_LX = self._token_seen(at_L <= at_L[:, None])
        return self.decoder.begin(states_BXD, seen_LX.expand(len(states_BXD), -1, -1))

    # ---- both

    def _encoded(self, history: History, users_B: Tensor | None) -> Tensor:
        """States of the user's token, if there is one, and of the items' tokens, [B, X, D]."""
        items_BL, lengths_B, _ = history
        slots = self.positions(lengths_B, items_BL.shape[1])
        x_BXD = (self.tokens(items_BL) + slots[..., None, :]).flatten(1, 2)
        lengths_B = lengths_B * self.tokens.codebooks
        if self.users is not None:
            users_B = torch.full_like(lengths_B, -1) if users_B is None else users_B
            x_BXD, lengths_B = torch.cat([self.users(users_B)[:, None], x_BXD], dim=1), lengths_B + 1
        return self.encoder(self.dropout(self.encoder_norm(x_BXD)), lengths_B)[0]

    def written(self, x_BPD: Tensor, chain: DecoderChain) -> tuple[Tensor, DecoderChain]:
        """States of one more token on each sequence, [B, P, D]."""
        return self.decoder(self.decoder_norm(x_BPD), chain)

    def token_logits(self, states: Tensor, before: Tensor, table: PrefixTable | None = None) -> Tensor:
        """Of the codes of the next book, [..., C], behind some tokens, [..., T]; those with which an item of the table
        goes on, or any item."""
        logits = self.tokens.logits(states, before.shape[-1])
        if self.config.loss == "tokens":
            return logits
        table = self.tokens.prefixes()[0] if table is None else table
        open_XC = table.following(before.flatten(0, -2))
        return logits.masked_fill(~open_XC.view(logits.shape), OUT)

    def _token_seen(self, seen: Tensor) -> Tensor:
        """The same of tokens as of items, the user's in front, which all see: [..., L] becomes [..., X]."""
        seen = seen.repeat_interleave(self.tokens.codebooks, dim=-1)
        return seen if self.users is None else F.pad(seen, (1, 0), value=True)

    def _at_end(self, history: History, users_B: Tensor | None) -> DecoderChain:
        """One sequence a row, behind all of its history."""
        at_L = torch.arange(history.items_BL.shape[1], device=history.items_BL.device)
        seen_BL = at_L < history.lengths_B.clamp_min(1)[:, None]
        return self.decoder.begin(self._encoded(history, users_B), self._token_seen(seen_BL)[:, None])

    # ---- inference

    def drawn_loss(self, batch: Batch) -> Tensor:
        """Of an item's tokens one after the other, as `Method.drawn_loss`; tuples that no item has are drawn too."""
        chain = self._at_end(History(batch.items_BL, batch.lengths_B), batch.users_B)
        return drawn_path_loss(SequenceDecoder(self, chain), len(batch.lengths_B), self.tokens.codebooks)

    def constrained_states(
        self, batch: Batch, constraints: Constraints | None, halting: Halting | None = None, *, trace: bool = False
    ) -> SearchedStates:
        chain = self._at_end(History(batch.items_BL, batch.lengths_B), batch.users_B)
        table, places_MN = self.tokens.prefixes()
        if constraints is not None:
            table = PrefixTable.of(self.tokens.codes_NM, self.tokens.size, constraints.allowed_N)
            places_MN = table.places(self.n_items)
        all_items = self._searched(chain, table, places_MN)
        return SearchedStates(torch.zeros_like(batch.lengths_B), all_items, chain)

    def _searched(self, chain: DecoderChain, table: PrefixTable, places_MN: Tensor) -> PrefixScorer:
        """A few rows at a time; results depend on how many by rounding alone."""
        rows = torch.arange(len(chain.sees_BPL), device=places_MN.device)
        parts = []
        for some in rows.split(max(1, SEARCHED_TOGETHER // self.config.beams)):
            decoder = SequenceDecoder(self, chain.select(some))
            parts.append(search_prefixes(decoder, len(some), table, places_MN, self.config.beams))
        return joined(parts)

    def scorer(self, represented: UserRepresentation, purpose: str) -> ranking.Scorer:
        assert isinstance(represented, SearchedStates)
        return replace(represented.all_items, added=represented.added, offsets_N=self.tokens.offsets())

    def token_paths(self, represented: UserRepresentation) -> TuplePaths:
        """The tuples of the first row's best items, as many as are followed."""
        assert isinstance(represented, SearchedStates)
        searched, offsets_N = represented.all_items, self.tokens.offsets()
        some = min(self.n_items, self.config.beams)
        first = searched.take(torch.zeros(1, dtype=torch.int64, device=self.device))
        items_1K, _ = ranking.best(replace(first, offsets_N=offsets_N), some)
        items_K, said = items_1K[items_1K >= 0], partial(self._said, represented.chain)
        return TuplePaths.of(searched, said, self.tokens.codes_NM, items_K, offsets_N)

    def _said(self, chain: DecoderChain, codes_KM: Tensor) -> Tensor:
        """ln p of every code behind the first row's history and along some tuples, [K, M, C]."""
        first_1 = torch.zeros(1, dtype=torch.int64, device=codes_KM.device)
        decoder, rows = SequenceDecoder(self, chain.select(first_1)), []
        state = decoder.begin(1).select(first_1.expand(1, len(codes_KM)))
        for book, codes_K in enumerate(codes_KM.T):
            rows.append(decoder.log_probs(state)[0, :, 0])
            if book + 1 < self.tokens.codebooks:
                state = decoder.advance(state, torch.full_like(codes_K, book)[None], codes_K[None])
        return torch.stack(rows, dim=1)

    def recommend(
        self,
        represented: UserRepresentation,
        k: int,
        excluded: ranking.FilteredItems | None = None,
        allowed_N: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `Method.recommend`; where some items alone may be listed, they are searched by themselves."""
        assert isinstance(represented, SearchedStates)
        if allowed_N is None or not bool(allowed_N.any()) or bool(allowed_N.all()):
            return super().recommend(represented, k, excluded, allowed_N)
        table = PrefixTable.of(self.tokens.codes_NM, self.tokens.size, allowed_N)
        searched = self._searched(represented.chain, table, table.places(self.n_items))
        scorer = replace(searched, added=represented.added, offsets_N=self.tokens.offsets())
        return ranking.best(scorer, k, excluded, allowed_N)


@dataclass(frozen=True, eq=False)
class SequenceDecoder:
    """A batch of encoded histories as `search_prefixes` asks it: the next book alone."""

    model: TIGERModel
    chain: DecoderChain

    @property
    def codebooks(self) -> int:
        return self.model.tokens.codebooks

    @property
    def size(self) -> int:
        return self.model.tokens.size

    def begin(self, rows: int) -> SequenceState:
        at = ChainState(*self.model.written(self.model.first_D.expand(rows, 1, -1), self.chain))
        return SequenceState(at, at.states_BPD.new_empty(rows, 1, 0, dtype=torch.int64))

    def log_probs(self, state: SequenceState) -> Tensor:
        logits_BPC = self.model.token_logits(state.at.states_BPD, state.tokens_BPT)
        return F.log_softmax(logits_BPC, dim=-1)[:, :, None]

    def category_log_probs(self, state: SequenceState) -> None:
        """Tuples name items, and no category."""

    def advance(self, state: SequenceState, books_BP: Tensor, tokens_BP: Tensor) -> SequenceState:
        vectors_BPD = self.model.tokens.vectors(books_BP, tokens_BP)
        at = ChainState(*self.model.written(vectors_BPD, state.at.chain))
        return SequenceState(at, torch.cat([state.tokens_BPT, tokens_BP[..., None]], dim=-1))
