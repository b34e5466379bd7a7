"""What is fitted on the validation part once the best epoch is known, and kept with its weights."""

from __future__ import annotations

from functools import partial

import torch

from forethought.data.splits import Split
from forethought.evaluation.metrics import ndcg
from forethought.evaluation.ranking import rank_cases
from forethought.methods.interface import Method
from forethought.methods.item_tokens import reads_tokens
from forethought.methods.items import hold_back, reads_features
from forethought.recommender import Recommender, load
from forethought.run_files import Sums, write_model
from forethought.training.evidence_weights import fit_weights, some_cases
from forethought.training.observer import Observer
from forethought.unmet_items import fit_unmet

CUT = 10  # of the NDCG that chooses


def fit_on_validation(run: Recommender, split: Split, seen: Split, sums: Sums, watcher: Observer) -> None:
    """What is fitted on the validation part once the best epoch is known, and kept with its weights: what a method
    chooses there, how far items that training never met are held back, and the weights of evidence that are chosen.

    It begins from no evidence, and no nats of tokens, whatever the weights are, so that a finished run that goes on
    comes to the same again.
    """
    chosen = run.config.evidence is not None and run.config.evidence.fit != "training"
    chooses = type(run.method).fit_on_validation is not Method.fit_on_validation
    tokens = reads_tokens(run.method) and split.config.hold_out_items > 0  # of met items the tokens were trained on
    fits = (run.about["features"], chosen and run.about["evidence"], chooses, tokens)
    if run.folder is None or not any(fits):
        return
    exclude, seed = run.about["exclude_history"], run.config.seed
    method = load(run.folder, device=run.config.training.device).method
    if chosen and method.evidence is not None:
        torch.nn.init.zeros_(method.evidence.weights_E)
    if tokens:
        hold_back(method, 0.0)
    if chooses:
        ask = partial(rank_cases, method, some_cases(seen.valid, seed), exclude_history=exclude)
        said = method.fit_on_validation(lambda: float(ndcg(ask().ranks, CUT).mean()))
        watcher.note(str(said))
    if tokens or reads_features(method):
        nats = fit_unmet(method, split, exclude_history=exclude, seed=seed)
        done = f"{'lifted' if nats < 0 else 'held back'} by {abs(nats):g} nats"
        watcher.note(f"Items that training never met are {done}, fitted on the validation part.")
    if chosen and method.evidence is not None:
        fitted = fit_weights(method, seen.valid, exclude_history=exclude, seed=seed)
        kinds = zip(method.evidence.shapes, fitted.weights, strict=True)
        watcher.note(
            f"Evidence: {', '.join(f'{shape.name} {weight:g}' for shape, weight in kinds)}; NDCG@10 on validation "
            f"{fitted.without:.4f} without, {fitted.best:.4f} with."
        )
    write_model(run.folder, method.state_dict(), sums)
