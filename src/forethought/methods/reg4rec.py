"""REG4Rec: an item is a set of tokens, and reasoning is to decide one after the other (arXiv 2508.15308).

    s_t = f(history; (r_1, j_1), .., (r_{t-1}, j_{t-1}))          the state with t - 1 tokens decided
    p_t^r(j) = softmax_j( cos(g_r(s_t), e_r(j)) / tau )            a head per codebook
    p_t^cat = softmax(W_c s_t)                                     the belief in categories
    L_tok = -mean_t mean_{r open} ln p_t^r(c_r)                    L_cat = -mean_t ln p_t^cat(cat)
    L = L_tok + lambda L_cat                                                                as we read the paper
    L = -ln p_1(i) - ln p_t(i | r_<t, j_<t) + mu L_tok + lambda L_cat, one t > 1 drawn      as by default

Tokens are unordered, so a path may decide the codebooks in any order: the one it is surest of comes first (CRSS). In
training orders are random at first, then those the model would choose. All codebooks that are still open are supervised
at every step, which teaches each step to name whole items. Beyond the paper (`loss="items"`) is the cross-entropy of
the item among all items that have the tokens decided so far, by what its other tokens say (`token_heads.py`): the chain
rule. Where a later step had to name the item among all, it took a tenth from the first one's NDCG@10 on Beauty.

Items are ranked by what is said on the paths and by what was said before the first token, in shares that the validation
part chooses (`path_share`): where the next token is hard to guess, a path that has decided a wrong one misleads.

Where a token goes is a choice. In a single stack (`decoder_layers=0`) it is one more token behind the history, in the
very layers that read it: all positions of a history train at once. With `decoder_layers` it enters a decoder that
attends to the encoded history, as the paper has it.

The paper's body and code are not public: heads, losses and the order of training are our reading of its summary
(specs: "REG4Rec-style").

Shapes: B rows, L history, P paths (in training: chains, one a position), T steps, M codebooks, C codes, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from forethought.backbones.all import AnyBackbone
from forethought.backbones.sasrec import SASRec
from forethought.catalogue.losses import FewTargets
from forethought.data.batches import Batch
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.decoding.beam import PAPERS_THETA, BeamSettings, search
from forethought.decoding.calibration import calibrate_theta
from forethought.decoding.constraints import Constraints
from forethought.decoding.drawing import drawn_path_loss
from forethought.decoding.paths import Paths
from forethought.errors import ConfigError
from forethought.methods.configuration import check_times
from forethought.methods.interface import Inputs, Losses, Reasoning
from forethought.methods.item_tokens import PathMethod, TokenStates
from forethought.methods.later_targets import soft_targets
from forethought.methods.outside import TokensAndCategories
from forethought.methods.path_decoder import PathDecoder, PathState
from forethought.methods.path_policy import PathPolicy
from forethought.methods.token_heads import TokenHeads, TokenHeadsConfig
from forethought.nn.decoder import Decoder, DecoderChain
from forethought.reasoning.chain import History, initial_states_at_end, initial_states_everywhere
from forethought.reasoning.diagnostics import Diagnostics, of_categories, of_tokens
from forethought.reasoning.halting import Halting
from forethought.settings import Between, Epoch, Heads, SearchRange, Share, ShareBelowOne, Steps, Weight

UNREAD = "decoder_heads", "decoder_dropout", "token_weight"  # unless other settings read them
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of paths, that are tried on the validation part


@dataclass(frozen=True, kw_only=True)
class REG4Rec(TokenHeadsConfig):
    """Configuration: a backbone that decides the tokens of the next item one after the other."""

    backbone: AnyBackbone = field(default_factory=lambda: SASRec(input_norm=True))
    """The encoder of histories; in a single stack it reads the tokens of a path too."""
    decoder_layers: Annotated[int, Between(0, 64)] = 0
    """Blocks of a decoder that attends to the encoded history (the paper's encoder-decoder); 0: a single stack."""
    decoder_heads: Heads = 2
    """Attention heads of the decoder."""
    decoder_dropout: ShareBelowOne = 0.2
    """Share of units dropped in the decoder."""
    carries_state: bool = False
    """A token is read with the state that named it added, as a step of ReaRec's is; without, as its vector alone, so
    that a single stack of one layer must read the whole history anew behind each token."""
    steps: Steps = 8
    """Tokens that a path decides (T), at most one of each codebook; the books that are left are read from the last
    state."""
    token_weight: Annotated[Weight, SearchRange(0.02, 1.0, log=True)] = 0.2
    """mu, of the tokens beside the item; with the loss of tokens alone their weight is 1."""
    category_weight: Weight = 0.1
    """lambda, of the category of the next item; with 0 none is named, and nothing is pruned by it (CORP)."""
    confident_from: Epoch = 8
    """Epochs with random orders, before those are trained that the model would choose."""
    path_share: Share = 0.1
    """How far items are ranked by what paths say, and not by what is said before the first token, until the validation
    part chooses when training is over. Epochs are chosen so; where paths weighed more, their luck chose (results)."""
    decoding: BeamSettings = field(default_factory=BeamSettings)
    """How paths are sought."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens is None and self.steps > self.tokenizer.table_codebooks:
            raise ConfigError(
                f"A path cannot decide {self.steps} tokens where an item has {self.tokenizer.table_codebooks}: choose "
                "fewer steps, or more codebooks of the tokenizer."
            )
        self._check_read()
        if self.decoder_layers and self.backbone.width % self.decoder_heads:
            raise ConfigError(
                f"The width is {self.backbone.width}, but must be a multiple of the decoder's {self.decoder_heads} "
                "heads."
            )

    def _check_read(self) -> None:
        """Refuse what would change nothing.

        Raises:
            ConfigError: a setting that nothing reads.
        """
        asked = {name for name in UNREAD if getattr(self, name) != getattr(type(self), name)}
        decoder = sorted(asked & {"decoder_heads", "decoder_dropout"})
        if decoder and not self.decoder_layers:
            raise ConfigError(
                f"A single stack has no decoder, so that {' and '.join(decoder)} would change nothing: give "
                "decoder_layers, or leave that out."
            )
        if self.loss == "tokens" and "token_weight" in asked:
            raise ConfigError(
                "With the loss of tokens alone their weight is 1, so that token_weight would change nothing: leave it "
                "out, or train with the loss of items."
            )
        if unread := self.decoding.unread():
            raise ConfigError(
                f"Of decoding, {' and '.join(unread)} would change nothing: seed is of order random, merge_sets of "
                "order joint, theta and rollbacks are of corp; leave that out, or choose what reads it."
            )

    def build(self, sizes: DataSizes) -> REG4RecModel:
        return REG4RecModel(self, sizes.n_items)

    def check(self, split: Split) -> None:
        check_times(self.backbone, split)


class REG4RecModel(PathMethod[TokenHeads]):
    path_share: Tensor
    theta: Tensor
    most_validated = 5_000  # paths take time
    logit_layers = ("tokens.categories",)

    def __init__(self, config: REG4Rec, n_items: int) -> None:
        super().__init__()
        width = config.backbone.width
        self.config = config
        # a head that nothing trains would believe in anything, and prune by it
        self.tokens = TokenHeads(n_items, width, config, names_categories=config.category_weight > 0)
        self.backbone = config.backbone.build()
        self.decoder = None
        if config.decoder_layers:
            self.decoder = Decoder(
                width=width,
                layers=config.decoder_layers,
                heads=config.decoder_heads,
                ffn_width=4 * width,
                dropout=config.decoder_dropout,
            )
            self.first_D = nn.Parameter(torch.randn(width) * config.token_std)  # BOS
        self.window = config.backbone.window
        self.inputs = Inputs(times=self.backbone.needs_times, later_targets=config.loss == "items")
        self.reasoning = Reasoning(config.steps, Halting(rule="fixed"), ("fixed",))
        self.confident = False
        self.register_buffer("path_share", torch.tensor(config.path_share))
        self.register_buffer("theta", torch.tensor(PAPERS_THETA))  # read where the configuration leaves it open
        self.register_load_state_dict_pre_hook(_know_no_theta)

    def check_tokens(self, known: TokensAndCategories) -> None:
        """Refuse what items' tokens and categories have no use for.

        Raises:
            ConfigError: longer paths than an item has tokens, or categories are to weigh where there are none.
        """
        config, plain = self.config, BeamSettings()
        if config.steps > self.tokens.codebooks:
            raise ConfigError(
                f"A path cannot decide {config.steps} tokens where an item has {self.tokens.codebooks}: choose fewer "
                "steps, or other tokens."
            )
        asked = [] if config.category_weight in (0.0, REG4Rec.category_weight) else ["category_weight"]
        pruning = ("theta", "rollbacks")
        asked += [f"decoding.{name}" for name in pruning if getattr(config.decoding, name) != getattr(plain, name)]
        if asked and not known.categories:
            raise ConfigError(
                f"The items have no categories, so that {', '.join(asked)} would change nothing: leave that out, or "
                "give a table of items with categories."
            )

    def begin_epoch(self, epoch: int) -> None:
        self.confident = epoch >= self.config.confident_from

    # ---- training

    def loss(self, batch: Batch) -> Losses:
        """All positions at once: M + (M - 1) + .. products of (positions x codes x width) over the steps."""
        assert batch.targets_BL is not None
        soft = soft_targets(batch)
        return self._loss(*self._everywhere(batch), batch.targets_BL[batch.valid_BL()], batch.weight, soft)

    def _loss_at_end(self, batch: Batch, targets_B: Tensor) -> Tensor:
        """Of naming one item behind each row, the mean."""
        state = self._at_end(batch)
        real_B1 = torch.ones_like(state.states_BPD[..., 0], dtype=torch.bool)
        return self._loss(state, real_B1, targets_B, len(targets_B)).total

    def _loss(
        self, state: PathState, real_BP: Tensor, targets_P: Tensor, weight: int, soft: FewTargets | None = None
    ) -> Losses:
        """With later items as targets these are named before the first token alone: a path is the next one's."""
        codes_PM = self.tokens.codes_NM[targets_P]
        open_PM = torch.ones_like(codes_PM, dtype=torch.bool)
        drawn_PM = torch.rand(codes_PM.shape, device=codes_PM.device)
        items, tokens, categories, steps = [], [], [], min(self.config.steps, codes_PM.shape[1] - 1)
        # one for all of those that have decided something; of a single codebook there is none
        named_at = (0, int(torch.randint(steps, ())) + 1) if steps else (0,)
        for step in range(steps + 1):
            states_PD = state.states_BPD[real_BP]
            opened_PM = open_PM if step else None
            logits_PMC = None
            if self.tokens.names_items and step in named_at:
                # of decided books too: cheaper than to make those of the others twice
                logits_PMC = self.tokens.logits(states_PD)
                later = None if step else soft
                items.append(self.tokens.item_losses(logits_PMC, targets_P, opened_PM, soft=later).sum() / weight)
            by_surest = self.confident and step < steps
            named = self.tokens.named(states_PD, codes_PM, opened_PM, logits_PMC=logits_PMC, surest=by_surest)
            tokens.append((named.losses_PM.sum(1) / open_PM.sum(1)).sum() / weight)
            category_P = self.tokens.category_losses(states_PD, targets_P)
            categories += [] if category_P is None else [category_P.sum() / weight]
            if step == steps:
                break
            book_P = _next(drawn_PM if named.surest_PM is None else named.surest_PM, open_PM)
            open_PM = open_PM.scatter(1, book_P[:, None], value=False)
            state = self._decided(state, real_BP, book_P, codes_PM.gather(1, book_P[:, None])[:, 0])
        total = torch.stack(tokens).mean()
        parts = {"tokens": total, "first": tokens[0], "last": tokens[-1]}
        if items:
            parts["items"] = items[0]
            total = torch.stack(items).sum() + self.config.token_weight * total
        if categories:
            parts["category"] = torch.stack(categories).mean()
            total = total + self.config.category_weight * parts["category"]
        return Losses(total, {"loss": total.detach()} | {name: part.detach() for name, part in parts.items()})

    def diagnostics(self, figures: Mapping[str, float]) -> Diagnostics:
        # beside the softmax over items tokens are sharper than they are sure
        told = Diagnostics() if self.tokens.names_items else of_tokens(figures["first"], self.tokens.size)
        if "category" in figures and self.config.decoding.corp:
            counts_G = torch.bincount(self.tokens.category_N).double()
            share_G = counts_G[counts_G > 0] / counts_G.sum()
            told.warnings += of_categories(figures["category"], float(-(share_G * share_G.log()).sum())).warnings
        return told

    def _decided(self, state: PathState, real_BP: Tensor, book_P: Tensor, token_P: Tensor) -> PathState:
        """With one more token behind each real position."""
        vectors_PD = self.tokens.vectors(book_P, token_P)
        x_BPD = vectors_PD.new_zeros(state.states_BPD.shape).masked_scatter(real_BP[..., None], vectors_PD)
        return self._advanced(state, x_BPD)

    def _everywhere(self, batch: Batch) -> tuple[PathState, Tensor]:
        """A path behind every position, and which of them are real."""
        history = History(batch.items_BL, batch.lengths_B, batch.times_BL)
        if self.decoder is None:
            states_BPD, chain, real_BP = initial_states_everywhere(self.backbone, self.tokens, history)
            return PathState(states_BPD, chain), real_BP
        if self.backbone.causal:
            real_BP = batch.valid_BL()
            at_L = torch.arange(real_BP.shape[1], device=real_BP.device)
            return self._decoding(history, (at_L <= at_L[:, None]).expand(len(real_BP), -1, -1)), real_BP
        prefixes = history.prefixes()
        state = self._decoding(prefixes, _seen(prefixes))
        return state, torch.ones_like(state.states_BPD[..., 0], dtype=torch.bool)

    # ---- both

    def _at_end(self, batch: Batch) -> PathState:
        """A path behind each row's last position."""
        history = History(batch.items_BL, batch.lengths_B, batch.times_BL)
        if self.decoder is not None:
            return self._decoding(history, _seen(history))
        states_B1D, chain, _ = initial_states_at_end(self.backbone, self.tokens, history)
        return PathState(states_B1D, chain)

    def _decoding(self, history: History, sees_BPL: Tensor) -> PathState:
        """The decoder's first token, behind the encoded history."""
        assert self.decoder is not None
        x_BLD = self.tokens(history.items_BL)
        encoded_BLD = self.backbone.encode(x_BLD, history.lengths_B, times=history.times_BL).states_BLD
        chain = self.decoder.begin(encoded_BLD, sees_BPL)
        states_BPD, chain = self.decoder(self.first_D.expand(*sees_BPL.shape[:2], -1), chain)
        return PathState(states_BPD, chain)

    def _advanced(self, state: PathState, x_BPD: Tensor) -> PathState:
        """One more token on each path."""
        if self.config.carries_state:
            x_BPD = x_BPD + state.states_BPD
        if self.decoder is not None:
            assert isinstance(state.chain, DecoderChain)
            return PathState(*self.decoder(x_BPD, state.chain))
        assert not isinstance(state.chain, DecoderChain)
        return PathState(*self.backbone.reason(x_BPD, state.chain))

    # ---- inference

    def path_decoder(self, batch: Batch) -> PathDecoder:
        """What searches and draws paths behind each row's last position."""
        return PathDecoder(self.tokens, self._advanced, self._at_end(batch))

    def drawn_loss(self, batch: Batch) -> Tensor:
        """Of a path, as `Method.drawn_loss`: one token after the other, the books in a random order."""
        decoder = self.path_decoder(batch)
        return drawn_path_loss(decoder, len(batch.lengths_B), self.config.steps)

    def constrained_states(
        self, batch: Batch, constraints: Constraints | None, halting: Halting | None = None, *, trace: bool = False
    ) -> TokenStates:
        steps = self.config.steps if halting is None else halting.steps(self.config.steps)
        decoder, share = self.path_decoder(batch), float(self.path_share) if steps else 0.0
        table_BPMC = decoder.log_probs(decoder.first)
        paths = Paths.unstepped(table_BPMC if constraints is None else constraints.applied(table_BPMC))
        table_BPMC = first_B1MC = paths.table_BPMC
        if steps and (share or trace):
            paths = search(decoder, len(batch.lengths_B), self._search_settings(), steps, constraints)
            table_BPMC = _blended(first_B1MC, paths.table_BPMC, share)
        steps_B = torch.full_like(batch.lengths_B, paths.books_BPT.shape[2])
        table_BPMC = self.tokens.table(table_BPMC)
        return TokenStates(steps_B, table_BPMC, paths.weights_BP, paths if trace else None)

    def rl_policy(self) -> PathPolicy:
        return PathPolicy(
            tokens=self.tokens,
            method=self,
            decoder=self.path_decoder,
            steps=self.config.steps,
            loss_at_end=self._loss_at_end,
        )

    def _search_settings(self) -> BeamSettings:
        """As paths are sought now."""
        decoding = self.config.decoding
        if not decoding.corp or decoding.theta is not None:
            return decoding
        return replace(decoding, theta=float(self.theta))

    def fit_on_validation(self, quality: Callable[[], float]) -> str:
        """Choose how strictly paths are pruned, by paths alone, and then how far paths count."""
        said = self._fit_theta(quality)
        tried = {}
        for share in SHARES:
            self.path_share.fill_(share)
            tried[share] = quality()
        best = max(SHARES, key=lambda share: (tried[share], share))
        self.path_share.fill_(best)
        return (
            f"{said}Paths count for {best:g} of what items are ranked by, chosen on the validation part: NDCG@10 "
            f"{tried[0.0]:.4f} without, {tried[best]:.4f} so, {tried[1.0]:.4f} by paths alone."
        )

    def _fit_theta(self, quality: Callable[[], float]) -> str:
        decoding = self.config.decoding
        if not decoding.corp or decoding.theta is not None or self.tokens.categories is None:
            return ""
        self.path_share.fill_(1.0)

        def of(theta: float) -> float:
            self.theta.fill_(theta)
            return quality()

        chosen = calibrate_theta(of)
        self.theta.fill_(chosen.theta)
        return f"{chosen.described()} "


def _know_no_theta(model: nn.Module, weights: dict[str, Any], prefix: str, *_: Any) -> None:
    """Weights of before it was chosen have none."""
    weights.setdefault(f"{prefix}theta", torch.tensor(PAPERS_THETA))


def _next(order_PM: Tensor, open_PM: Tensor) -> Tensor:
    """The codebook that is decided next, by an order that is random, or that in which codebooks are decided when items
    are ranked: first the one of whose token the state is surest (CRSS). To choose by the true token would tell which
    one it is.
    """
    return order_PM.masked_fill(~open_PM, -torch.inf).argmax(1)


def _blended(first_B1MC: Tensor, paths_BPMC: Tensor, share: float) -> Tensor:
    """What is said before the first token and on the paths, in shares; what must not be is -inf in both."""
    if share in (0.0, 1.0):
        return paths_BPMC if share else first_B1MC.expand_as(paths_BPMC)
    return share * paths_BPMC + (1 - share) * first_B1MC


def _seen(history: History) -> Tensor:
    """What the one path of each row sees, [B, 1, L]."""
    at_L = torch.arange(history.items_BL.shape[1], device=history.items_BL.device)
    return (at_L < history.lengths_B.clamp_min(1)[:, None])[:, None]
