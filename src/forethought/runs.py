"""A run from beginning to end: train into a folder, evaluate what lies there."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from forethought import machine
from forethought.alignment.feedback import Feedback
from forethought.alignment.own_rewards import Rewards
from forethought.alignment.parts import GivenReward, to_align
from forethought.alignment.reward_file import write_reward
from forethought.backbones.interface import BackboneConfig
from forethought.config import Recipe, RunConfig, to_json
from forethought.data.histories import Cases
from forethought.data.later import is_later
from forethought.data.popularity import TRAIN_COUNT, training_counts, with_counts
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.evaluation import protocol as protocols
from forethought.evaluation.own_groups import own_groups
from forethought.evaluation.ranking import Ranked, among_negatives, in_turn, rank_cases
from forethought.evaluation.report import Evaluation, summarise
from forethought.evaluation.settings import EvaluationConfig, RankingConfig
from forethought.files import read_json, replace_file
from forethought.learned_rewards import learned_reward, sentence
from forethought.methods.configuration import MethodConfig
from forethought.methods.interface import Method
from forethought.methods.item_tokens import idle_books, token_shape_of, with_tokens
from forethought.methods.items import know_trained, walks_items, with_evidence, with_features
from forethought.methods.outside import SideInformation
from forethought.nn.budget import built
from forethought.precision.inference import formats_of
from forethought.reasoning.halting import Halting
from forethought.recommender import Recommender, load
from forethought.references import check_same_split, features_of_auto, resolve
from forethought.reports.model_card import model_card
from forethought.run_checks import check_inputs, checked
from forethought.run_costs import answering_cost, training_cost
from forethought.run_files import CARD_FILE, CONFIG_FILE, Sums, write_model
from forethought.run_folder import begun
from forethought.run_vectors import check_makes_tokens, collaborative_of
from forethought.settings import check, check_all
from forethought.starting import begin_with, begins_at, scales_of, start_from
from forethought.training.launch import launch
from forethought.training.layer_precision import layer_precision
from forethought.training.loop import Fit
from forethought.training.observer import Observer
from forethought.training.precision import Precision, choose_for_stages
from forethought.training.progress import Quiet
from forethought.training.split_items import SplitItems
from forethought.training.tracking import TrackerName, Trackers
from forethought.untrained import SEEN_UNTIL, data_about
from forethought.validation_fits import fit_on_validation

LIST_LENGTH = 20


def train(
    recipe: Recipe | MethodConfig | BackboneConfig,
    split: Split,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    start: str | Path | None = None,
    observer: Observer | None = None,
    track: Sequence[TrackerName] = (),
    track_model: bool = False,
    rewards: Rewards | None = None,
    feedback: Feedback | None = None,
    reward_from: str | Path | None = None,
    collaborative_from: str | Path | None = None,
) -> Recommender:
    """Train a method into a run folder and return it at its best validation epoch.

    Args:
        recipe: a method and how to train it, such as `ft.Recipe(method=..., training=..., seed=1)`; or only the method,
            or a backbone such as `ft.SASRec(width=64)`, and all else as by default.
        split: such as `ft.leave_last_out(data)`; the run notes where its data came from, for `forethought evaluate`.
        out: the run folder; it must be empty or absent unless `resume` or `overwrite`.
        resume: go on with the training that lies in `out`.
        overwrite: remove what lies in `out` first.
        start: a run folder whose weights it begins with; of the same configuration, and its items all in the data.
        observer: somebody to tell of progress.
        track: further trackers beside `log.jsonl`.
        track_model: those of them that keep files (mlflow, wandb) also get the run folder's at the end.
        rewards, feedback, reward_from: of a run that is aligned, beside its configuration; as `ft.align` reads them.
        collaborative_from: a run folder whose item vectors tokens are made of; read again only where one resumes.

    Raises:
        ForethoughtError: one sentence on what is wrong; nothing half-written is left.
        Interrupted: Ctrl-C; `resume=True` goes on exactly where it stopped.
    """
    check_all(resume=(resume, bool), overwrite=(overwrite, bool), track_model=(track_model, bool))
    config, seen = checked(recipe, split)
    folder, begun_with = Path(out), _begun_with(start, Path(out), config, split)
    fabric = launch(config.training)
    trackers = Trackers(track, keep_model=track_model) if fabric.is_global_zero else Trackers()
    recommender = _untrained(config, split, _side(config, seen, begun_with, collaborative_from), folder, begun_with)
    reward = learned_reward(recommender, seen, reward_from, fabric, resume=resume)
    trained, parts = _as_trained(recommender, seen, fabric.world_size, rewards, feedback, reward)
    shares = SplitItems.over(fabric, trained, split.data.n_items) if config.training.split_catalogue else None
    precisions = _precisions(recommender, trained, fabric.device)
    going_on = folder if resume else None
    layers = layer_precision(recommender.method, config.training, config.seed, fabric, resume=going_on)
    watcher = observer if observer is not None and fabric.is_global_zero else Quiet()
    with ExitStack() as held:
        sums: Sums = {}
        if fabric.is_global_zero:
            sums = held.enter_context(begun(recommender, resume=resume, overwrite=overwrite))
            _before_its_first_step(recommender, None if resume else reward, sums, observer)
        fabric.barrier()
        torch.manual_seed(config.seed + fabric.global_rank)  # each process drops units of its own
        trackers.start(folder, to_json(config))
        held.callback(trackers.finish)
        Fit(
            method=trained,
            split=parts,
            settings=config.training,
            seed=config.seed,
            folder=folder,
            exclude_history=recommender.about["exclude_history"],
            observer=watcher,
            trackers=trackers,
            keep_best=lambda best: write_model(folder, best, sums),
            sums=sums,
            precisions=precisions,
            shares=shares,
            layers=layers,
        ).run(fabric)
        if fabric.is_global_zero:
            fit_on_validation(recommender, split, parts, sums, watcher)
            write_card(recommender)
            trackers.keep(folder)
        fabric.barrier()
    del recommender  # it is not held twice
    return load(folder, device=config.training.device)


def _begun_with(start: str | Path | None, out: Path, config: RunConfig, split: Split) -> Recommender | None:
    check(start, str | Path | None, "start")
    if start is not None:
        return start_from(start, out, config, split)
    if config.alignment is not None:
        raise ConfigError("An alignment needs a run to start from: give start, or call ft.align.")
    return None


def _side(
    config: RunConfig, split: Split, start: Recommender | None, collaborative_from: str | Path | None
) -> SideInformation:
    """What the method takes from outside of the histories."""
    outside, met = (config.features, config.evidence), None
    if collaborative_from is not None:
        met = collaborative_of(collaborative_from, split, check_makes_tokens(config, start))
    known = {"scales": None if start is None else scales_of(start), "start": start, "collaborative": met}
    return resolve(config.method, split, *outside, **known, device=config.training.device)


def _as_trained(
    run: Recommender,
    split: Split,
    processes: int,
    rewards: Rewards | None,
    feedback: Feedback | None,
    learned: GivenReward | None = None,
) -> tuple[Method, Split]:
    """What the loop trains, the method or how it is aligned, and on what."""
    alignment = run.config.alignment
    if alignment is None:
        return run.method, split
    if feedback is not None:
        run.about["references"]["feedback"] = feedback.checksum
    if alignment.learn_weights and processes > 1:
        raise ConfigError(
            f"Weights of rewards are learned in one process, but there are {processes}: leave learn_weights out, or "
            "align without torchrun."
        )
    return to_align(run.method, alignment, split, run.config.seed, rewards, feedback, learned)


def _untrained(
    config: RunConfig, split: Split, side: SideInformation, folder: Path, start: Recommender | None
) -> Recommender:
    """A run before its first step."""
    about = data_about(config, split)
    torch.manual_seed(config.seed)
    shapes = [feature.shape for feature in side.features]
    copies = 2 if config.training.split_catalogue else 4  # all once and a half more, or a half, its gradients, moments
    copies = 1 if config.method.closed_form else copies  # what fitting takes beside them, it says by itself
    speaking = [each.shape for each in side.evidence]
    tokens = token_shape_of(side.tokens)
    plain_method = lambda: with_features(with_tokens(config.method.build(split.data.sizes), tokens), shapes)  # noqa: E731
    method = built(lambda: with_evidence(plain_method(), config.evidence, speaking), copies=copies)
    check_inputs(method, config.training, split)
    if start is not None:
        about["started_from"] = begin_with(method, start, split, config.alignment)
        ours, theirs = about[SEEN_UNTIL], start.about.get(SEEN_UNTIL)
        about[SEEN_UNTIL] = max(ours, theirs) if ours and theirs else None
    method.fit_side_information(side)
    table = with_counts(split.data.item_table, split.train)
    know_trained(method, table[TRAIN_COUNT].to_torch())
    hashes = {} if start is None else {"start": start.weights_sum}
    about["references"], about["features"] = {**side.hashes, **hashes}, [feature.to_json() for feature in side.features]
    about["evidence"] = [shape._asdict() for shape in speaking]
    if tokens is not None:
        about["tokens"] = tokens.to_json()
    return Recommender(method, config, split.data.items, table, about, folder)


def _precisions(run: Recommender, trained: Method, device: torch.device) -> dict[str, Precision]:
    """What products are made in, stage by stage, noted in the run."""
    stages, walks = trained.stages(), walks_items(run.method)
    chosen = choose_for_stages(run.config.training, stages, device.type, len(run.items), walks=walks)
    names = {precision.name for precision in chosen.values()} or {Precision().name}
    each = ", ".join(f"{stage} {precision.name}" for stage, precision in chosen.items())
    run.about["precision"] = each if len(names) > 1 else names.pop()
    run.about["trained_on"] = machine.described(device) | {"precision": run.about["precision"]}
    return chosen


def _moved(run: Recommender) -> str | None:
    """A run that goes on elsewhere does not come to the same bits, and says so."""
    assert run.folder is not None
    before = read_json(run.folder / CONFIG_FILE, "train it anew")["about"].get("trained_on", {})
    return machine.differences(before, run.about["trained_on"])


def _began_with(run: Recommender) -> str | None:
    """A run that began with weights which may have seen what is tested says so."""
    of, tokens = protocols.started_from(run.about), protocols.tokens_from(run.about)
    if tokens:
        return f"The tokens are made of item vectors of {tokens['tokens_from']}."
    return f"The weights it began with are of {of['started_from']}." if of else None


def _before_its_first_step(run: Recommender, reward: GivenReward | None, sums: Sums, observer: Observer | None) -> None:
    """What is to be known by then is said, and a reward that was learned is kept."""
    assert run.folder is not None
    _tell(observer, _moved(run), _began_with(run), idle_books(run.method))
    _note(features_of_auto(run), observer)
    _note(begins_at(run.about, run.config.alignment), observer)
    if reward is not None:
        _note(sentence(reward), observer)
        write_reward(run.folder, reward.reward, sums)


def _note(said: str | None, observer: Observer | None) -> None:
    if said is not None and observer is not None:
        observer.note(said)


def _tell(observer: Observer | None, *sentences: str | None) -> None:
    for said in filter(None, sentences):
        if observer is not None:
            observer.warn(said)
        else:
            warnings.warn(said, stacklevel=4)


def write_card(run: Recommender, evaluation: Evaluation | None = None) -> None:
    """`README.md` of the run folder; with an evaluation its metrics stand in it."""
    assert run.folder is not None
    table = None if evaluation is None else evaluation.document().markdown()
    text = model_card(run.folder.name, to_json(run.config), run.about, table)
    replace_file(run.folder / CARD_FILE, lambda part: part.write_text(text, encoding="utf-8"))


def evaluate(
    run: Recommender | str | Path,
    split: Split,
    config: EvaluationConfig | None = None,
    *,
    users: Any = None,
    report: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Rank every case of a part of the split among all items; metrics come with 95% intervals.

    Args:
        run: a recommender, which computes on the device it was loaded to, or a run folder, which is loaded to `auto`.
        split: the one the run was trained on, or what came later (`later_split`).
        config: which cases, candidates and histories, and how the model halts; by default the test part, and all else
            as the run was trained.
        users: a table with a row a user (`user_id`), by whose columns `groups_by` may group.
        report: told how many cases are ranked, of how many.

    Raises:
        ConfigError: a halting that the model cannot obey, or unknown users where it keeps no vectors of users.
        DataError: the split is not the one the run was trained on.
    """
    config = EvaluationConfig() if config is None else config
    check_all(config=(config, EvaluationConfig), split=(split, Split))
    model = run if isinstance(run, Recommender) else load(run)
    if is_later(split) and model.method.inputs.users:
        config = replace(config, unknown_users=True)
    if config.unknown_users and not model.method.inputs.users:
        raise ConfigError(
            "This model keeps no vectors of users, so that all are unknown to it: leave unknown_users out (on the "
            "command line --unknown-users)."
        )
    cases, exclude, halting = to_rank(model, split, config)
    read, batch = _histories(cases, split, config), config.batch
    cost = answering_cost(model.method, read[0], exclude_history=exclude, halting=halting, batch=batch)
    groups = own_groups(config.groups_by, cases, split, users)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed % 2**63)
        begin = time.perf_counter()
        ranked = _ranked(model.method, read, split, config, exclude, halting, report)
    evaluation = summarise(
        ranked,
        cases,
        split,
        window=model.method.window,
        history_excluded=exclude,
        part=config.part,
        sample=None if config.sample is None else config.sample.protocol(),
        halting=None if halting is None else halting.as_told(),
        extras=config.noted() | protocols.begun_with(model.about) | protocols.searched(model.method.search),
        cuts=config.cutoffs,
        own=config.metrics,
        groups_by=groups,
        resamples=config.resamples,
        seed=config.seed,
    )
    cost |= {
        "ms_per_history": evaluation.cost["ms_per_history"] | cost["ms_per_history"],
        "parameters": model.n_parameters,
        "wall_s": time.perf_counter() - begin,
        "machine": {"device": model.device.type, "threads": torch.get_num_threads(), "batch": batch}
        | ({"layers": narrow} if (narrow := formats_of(model.method)) else {}),
        "training": None if is_later(split) else training_cost(model, split),
    }
    return replace(evaluation, cost=evaluation.cost | cost, weights=model.weights_sum)


def _ranked(
    method: Method,
    read: list[Cases],
    split: Split,
    config: EvaluationConfig,
    exclude: bool,
    halting: Halting | None,
    report: Callable[[int, int], None] | None,
) -> list[Ranked]:
    """Each draw of the histories ranked among all items, or the one there is among sampled negatives."""
    lists = config.lists or any(each.reads_lists for each in config.metrics)
    k = min(max(LIST_LENGTH, *config.cutoffs), split.data.n_items) if lists and config.sample is None else None
    how: dict[str, Any] = {"exclude_history": exclude, "halting": halting}
    ask = partial(rank_cases, method, k=k, batch=config.batch, **how)
    ranked = [ask(each, report=in_turn(report, at, len(read))) for at, each in enumerate(read)]
    if config.sample is None:
        return ranked
    popularity = training_counts(split)
    return [among_negatives(method, read[0], popularity, ranked[0], config.sample, **how)]


def split_of(model: Recommender, source: Any = None, items: Any = None) -> Split:
    """The split a run was trained on, read again from where the data lay, or from where it lies now.

    Args:
        source: where the data lies now; asked for where the run names no file or folder, but SQL, an address or a
            pattern: what stands in a run folder is neither executed nor fetched.
        items: the same for the table of items, if the run was trained with one.

    Raises:
        DataError: the data is not there, or not the same any more.
    """
    from forethought.data.stored import open_again

    return open_again(model.about, model.config.split, source, items)


def to_rank(model: Recommender, split: Split, config: RankingConfig) -> tuple[Cases, bool, Halting | None]:
    """The cases that are asked for, whether histories are excluded from their candidates, and how the model halts.

    Raises:
        ConfigError: a halting that the model cannot obey.
        DataError: the split is not the one the run was trained on.
    """
    check_same_split(model, split, or_later=True)
    if is_later(split) and config.part == "valid":
        raise ConfigError("What came later has no validation part: leave part (on the command line --part) out.")
    exclude = model.about["exclude_history"] if config.exclude_history is None else config.exclude_history
    return (split.test if config.part == "test" else split.valid), exclude, model.method.resolve_halting(config.halting)


def _histories(cases: Cases, split: Split, config: EvaluationConfig) -> list[Cases]:
    """The cases with the histories that are read: the clean ones, or a draw of noise each; by known users or not."""
    read = [cases]
    if config.noise is not None:
        read = [noise.on_cases(cases, split.data.n_items) for noise in config.noise.seeds(config.noise_seeds)]
    return [each.of_unknown_users() for each in read] if config.unknown_users else read
