"""What the validation part says of a method while it trains."""

from __future__ import annotations

from collections.abc import Iterable

from forethought.data.histories import Cases
from forethought.evaluation.metrics import chosen_mean, metric_of, ndcg
from forethought.evaluation.ranking import rank_cases
from forethought.methods.interface import Method
from forethought.reasoning.diagnostics import steps_taken
from forethought.training.evidence_weights import some_cases


def validation_figures(
    method: Method, cases: Cases, asked: Iterable[str], n_items: int, *, exclude_history: bool, seed: int
) -> dict[str, float]:
    """NDCG@10 and other metrics, `valid_` before their names, and how many steps were taken where there are some.

    Of a method whose ranking takes long some of the cases, the same ones each time.

    Args:
        asked: names of metrics.
        seed: of the cases that are drawn.
    """
    if method.most_validated is not None:
        cases = some_cases(cases, seed, method.most_validated)
    metrics = [metric_of(name) for name in sorted(set(asked) - {"ndcg@10"})]
    k = min(20, n_items) if any(each.reads_lists for each in metrics) else None
    ranked = rank_cases(method, cases, exclude_history=exclude_history, k=k)
    figures = {"valid_ndcg@10": float(ndcg(ranked.ranks, 10).mean())}
    figures |= {f"valid_{each.name}": chosen_mean(each, ranked.ranks, ranked.lists) for each in metrics}
    return figures | steps_taken(method.reasoning and method.reasoning.halting, ranked.steps)
