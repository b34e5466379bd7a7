"""People of a simulated shop, asked about a model: what its paths decide for them, what they say and would click.

Shapes: U users, G paths drawn for each, T tokens on a path, F figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from forethought.data.batches import history_batch
from forethought.data.histories import Cases, Spans
from forethought.data.shop import ShopPeople
from forethought.data.sources import folder_of
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.evaluation.metrics import ndcg, recall
from forethought.evaluation.ranking import rank_cases
from forethought.methods.interface import Method
from forethought.methods.path_policy import PathPolicy
from forethought.methods.reg4rec import REG4RecModel
from forethought.recommender import Recommender

KINDS = ("token", "path", "category")
FIGURES = (*(f"{kind} accepted" for kind in KINDS), "clicks", "clicks later", "clicks by paths", "ndcg@10", "recall@50")
GROUP, ROWS, LIST, TAIL = 16, 256, 10, 50
OF = ["user_id", "kind", "value"]


@dataclass(frozen=True, eq=False)
class Panel:
    """Users who can be asked: each has a history in the training part and a case in the test part.

    Attributes:
        now: what they want at the end of their training history, when they are asked.
        later: what they want at the end of the test case's history.
        rows: their training histories, in the order of `cases`.
        user_ids: likewise.
    """

    split: Split
    now: ShopPeople
    later: ShopPeople
    rows: Spans
    cases: Cases
    user_ids: list[Any]

    @classmethod
    def of(cls, model: Recommender, split: Split) -> Panel:
        """All of them.

        Raises:
            ConfigError: the data is no simulated shop with its truth.
        """
        folder = folder_of(model.about["data_path"])
        if folder is None or not (folder / "truth").is_dir():
            raise ConfigError("Only the people of a simulated shop can be asked: this data has no truth beside it.")
        at = {int(user): row for row, user in enumerate(split.train.users) if split.train.lengths[row]}
        kept = np.array([n for n, user in enumerate(split.test.history.users) if int(user) in at])
        cases = split.test.take(kept)
        users = cases.history.users
        rows = split.train.take(np.array([at[int(user)] for user in users]))
        ids = split.data.users.id_list(users)
        return cls(split, ShopPeople.of(folder), ShopPeople.of(folder, held_back=1), rows, cases, ids)

    def judge(self, asked: pl.DataFrame, method: Method) -> pl.DataFrame:
        """With what they say of it, as `ShopPeople.judge`."""
        codes_NM = _policy(method).tokens.codes_NM.cpu().numpy()
        return self.now.judge(asked, self.split.data.items.ids, codes_NM)

    def measured(self, model: Recommender, seed: int) -> np.ndarray:
        """What a model is to each user, [U, F]; the same seed draws paths by the same random numbers.

        Accepted is the share of drawn tokens (paths, beliefs) that the user would accept, whether asked or not. Clicks
        are the share of the ten recommended items that fit what the user wants; by paths: when asked, where lists are
        those of the paths alone, whatever share of the ranking validation gave them.
        """
        said = self.judge(decided(model.method, self.rows, self.user_ids, seed), model.method)
        exclude = model.about["exclude_history"]
        ranks = rank_cases(model.method, self.cases, exclude_history=exclude).ranks
        clicks = [self._clicked(model, rows, who) for rows, who in self._asked()]
        with paths_alone(model.method):
            clicks.append(self._clicked(model, self.rows, self.now))
        return np.column_stack([accepted_shares(said, self.user_ids), *clicks, ndcg(ranks, LIST), recall(ranks, TAIL)])

    def _asked(self) -> list[tuple[Spans, ShopPeople]]:
        return [(self.rows, self.now), (self.cases.history, self.later)]

    def _clicked(self, model: Recommender, rows: Spans, people: ShopPeople) -> np.ndarray:
        histories = [self.split.data.items.id_list(rows[row]) for row in range(len(rows))]
        lists = [each.items for each in model.recommend(histories, k=LIST)]
        return np.array([people.clicks([who], [items]) for who, items in zip(self.user_ids, lists, strict=True)])


@contextmanager
def paths_alone(method: Method) -> Iterator[None]:
    """Inside, items are ranked by paths alone."""
    assert isinstance(method, REG4RecModel)
    share = float(method.path_share)
    method.path_share.fill_(1.0)
    try:
        yield
    finally:
        method.path_share.fill_(share)


def _policy(method: Method) -> PathPolicy:
    policy = method.rl_policy()
    if not isinstance(policy, PathPolicy) or policy.tokens.categories is None:
        raise ConfigError("People are asked about paths over tokens and beliefs in categories; this model lacks them.")
    return policy


@torch.inference_mode()
def decided(method: Method, rows: Spans, user_ids: list[Any], seed: int, group: int = GROUP) -> pl.DataFrame:
    """What drawn paths decide for each history: user_id, kind, value (as feedback has them), and how many times.

    Args:
        rows: a history of each user.
        group: paths drawn for each.

    Raises:
        ConfigError: the method has no paths, or names no categories.
    """
    policy, found = _policy(method), list[tuple[Any, str, str]]()
    assert policy.tokens.shape is not None
    labels = policy.tokens.shape.categories
    method.eval()
    with torch.random.fork_rng(devices=[method.device] if method.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for first in range(0, len(rows), ROWS):
            at = np.arange(first, min(first + ROWS, len(rows)))
            batch = history_batch(rows.take(at), method.window).to(method.device)
            paths = policy.roll_out(batch, group, 1.0).made
            decisions = torch.stack([paths.books_BGT, paths.tokens_BGT], dim=-1).tolist()
            beliefs = paths.categories_BGTQ[:, :, 1:].argmax(-1).flatten(1).tolist()
            for n, row in enumerate(at.tolist()):
                who = user_ids[row]
                for path in decisions[n]:
                    found += [(who, "token", f"{book}:{token}") for book, token in path]
                    found.append((who, "path", " ".join(f"{book}:{token}" for book, token in sorted(path))))
                found += [(who, "category", labels[each]) for each in beliefs[n]]
    return pl.DataFrame(found, OF, orient="row").group_by(OF, maintain_order=True).agg(times=pl.len())


def accepted_shares(said: pl.DataFrame, user_ids: list[Any]) -> np.ndarray:
    """Of what was decided for each user, how much is accepted, as often as it was decided: [U, kinds]."""
    right = (pl.col("accepted") * pl.col("times")).sum() / pl.col("times").sum()
    of = said.group_by("user_id", "kind").agg(right.alias("share"))
    shares = {(who, kind): share for who, kind, share in of.select("user_id", "kind", "share").iter_rows()}
    return np.array([[shares.get((who, kind), np.nan) for kind in KINDS] for who in user_ids])
