"""Mutants of `training/`: the loop, its stages, the state it goes on from."""

from __future__ import annotations

from mutants import Mutant

LOOP, RESUME, STAGES = "unit/training/test_loop.py", "unit/training/test_resume.py", "unit/training/test_stages.py"
SETTINGS, OWN = "unit/training/test_settings.py", "unit/training/test_stage_settings.py"
CROP, SPLIT = "unit/training/test_crop.py", "unit/training/test_split_training.py"

MUTANTS = [
    Mutant(
        "the optimiser's moments are lost on resume",
        "training/state.py",
        '_load_optimiser(optimiser, _below(tensors, "optimiser/"))',
        "pass",
        f"{RESUME}::test_interrupted_and_resumed",
    ),
    Mutant(
        "random generators are lost on resume",
        "training/state.py",
        '_set_generators(_below(tensors, f"random/{rank}/"))',
        "pass",
        f"{RESUME}::test_interrupted_and_resumed",
    ),
    Mutant(
        "every process gets the first one's generators",
        "training/state.py",
        'f"random/{rank}/"))',
        '"random/0/"))',
        f"{RESUME}::test_each_process_has_its_generators",
    ),
    Mutant(
        "a resumed epoch begins with its first batch",
        "training/loop.py",
        "enumerate(batches[progress.batch :], start=progress.batch + 1)",
        "enumerate(batches, start=progress.batch + 1)",
        f"{RESUME}::test_interrupted_and_resumed",
    ),
    Mutant(
        "old states are kept",
        "training/state.py",
        "old.unlink(missing_ok=True)",
        "pass",
        f"{RESUME}::test_only_one_state_stays",
    ),
    Mutant(
        "the last epoch is kept, not the best",
        "training/selection.py",
        "best = improved and self.stage.candidate and (",
        "best = True or (",
        f"{LOOP}::test_early_stopping_keeps_the_best_epoch",
    ),
    Mutant(
        "a stage that is no candidate is one",
        "training/selection.py",
        "best = improved and self.stage.candidate and (",
        "best = improved and (",
        f"{STAGES}::test_a_stage_may_be_no_candidate",
    ),
    Mutant(
        "an earlier window is never a history's first",
        "data/batches.py",
        "before - np.floor(places * before).astype(np.int64), 0)",
        "np.floor(places * before).astype(np.int64), 0)",
        "unit/training/test_earlier_windows.py::test_a_long_history_begins_anywhere_before_its_last_window",
    ),
    Mutant(
        "a crop may end behind its row",
        "data/batches.py",
        "rng.random(len(rows)) * (lengths - kept + 1)",
        "rng.random(len(rows)) * lengths",
        f"{CROP}::test_crops_are_stretches_of_every_length_and_place",
    ),
    Mutant(
        "crops leave single items",
        "data/batches.py",
        "2 + np.floor(rng.random(len(rows)) * (lengths - 2))",
        "1 + np.floor(rng.random(len(rows)) * (lengths - 1))",
        f"{CROP}::test_crops_are_stretches_of_every_length_and_place",
    ),
    Mutant(
        "patience is never lost",
        "training/selection.py",
        "progress.stale += 1",
        "pass",
        f"{LOOP}::test_early_stopping_keeps_the_best_epoch",
    ),
    Mutant(
        "a stage begins with the last weights of the one before",
        "training/loop.py",
        'state.load_weights(self.folder / "state", stages[progress.stage - 1].name, self.method, cut)',
        "pass",
        f"{STAGES}::test_a_stage_begins_with_the_best_of_the_one_before",
    ),
    Mutant(
        "a stage's learning rate goes on where the last one's ended",
        "training/loop.py",
        "self.progress.step + ahead - self.progress.stage_step, ",
        "self.progress.step + ahead, ",
        f"{STAGES}::test_optimiser_and_schedule_begin_anew",
    ),
    Mutant(
        "input noise draws for methods that hide items",
        "training/loop.py",
        "if not self.method.inputs.masked_items:  #",
        "if True:  #",
        "unit/training/test_input_noise.py::test_an_encoder_that_hides_items_reads_clean_histories",
    ),
    Mutant(
        "the last target of a row is followed by the next row's",
        "data/batches.py",
        "(at_LK < lengths_B[:, None, None])",
        "(at_LK < lengths_B.max())",
        "unit/training/test_later_targets.py::test_a_target_holds_what_follows_in_falling_shares",
    ),
    Mutant(
        "later items of tokens are named without their part of the target",
        "methods/token_heads.py",
        "own_P = soft.mixed_scores(",
        "soft.mixed_scores(",
        "unit/training/test_later_targets.py::test_a_loss_is_the_mixture_of_those_of_each_target",
    ),
    Mutant(
        "of losses that are read together the first stands for all",
        "training/step_losses.py",
        "for each in unread]).double()",
        "for _ in unread for each in unread[:1]]).double()",
        f"{LOOP}::test_losses_that_are_read_rarely_are_the_same",
    ),
    Mutant(
        "a loss that is no number goes on",
        "training/loop.py",
        "if leapt or not all(map(math.isfinite, losses.values())):",
        "if leapt:",
        f"{LOOP}::test_a_diverging_loss_ends_in_a_sentence",
    ),
    Mutant(
        "biases decay",
        "training/optimiser.py",
        '[p for p in trained if p.ndim < 2], "weight_decay": 0.0',
        '[p for p in trained if p.ndim < 2], "weight_decay": settings.weight_decay',
        f"{SETTINGS}::test_biases_and_norms_do_not_decay",
    ),
    Mutant(
        "there is no warm-up",
        "training/optimiser.py",
        "min(1.0, (step + 1) / settings.warmup_steps)",
        "1.0",
        f"{SETTINGS}::test_learning_rate",
    ),
    # ---- what a stage sets for itself
    Mutant(
        "a stage's batches are the training's",
        "training/loop.py",
        "self.settings.of(self._stage).batch_positions",
        "self.settings.batch_positions",
        f"{OWN}::test_a_stage_has_batches_of_its_own",
    ),
    Mutant(
        "a stage's schedule counts the steps of the training's batches",
        "training/loop.py",
        "self._steps_an_epoch = len(self._plan(rows))",
        "self._steps_an_epoch = len(plan(rows.lengths - 1, self.settings.batch_positions, self.seed, 0))",
        f"{OWN}::test_a_stage_has_batches_of_its_own",
    ),
    Mutant(
        "a stage's precision is the training's",
        "training/precision.py",
        "choose(settings.of(stage), device",
        "choose(settings, device",
        f"{OWN}::test_a_stage_has_a_precision_of_its_own",
    ),
    Mutant(
        "NDCG@10 selects whatever a stage says",
        "training/selection.py",
        "figures[self.quality], figures[self.selects]",
        "figures[self.quality], figures[self.quality]",
        f"{OWN}::test_the_metric_of_a_stage_selects_and_stops_in_it",
    ),
    Mutant(
        "a later stage replaces a better one by its own metric",
        "training/state.py",
        "self.best_before = self.best",
        "pass",
        f"{OWN}::test_between_stages_ndcg_decides",
    ),
    # ---- items split over processes
    Mutant(
        "split items have the gradients of as many losses as processes",
        "training/split_items.py",
        "gradient.div_(len(self.bounds) - 1)",
        "pass",
        f"{SPLIT}::test_three_processes_come_to_what_one_comes_to",
    ),
    Mutant(
        "each process clips by the norm of its own items",
        "training/split_items.py",
        "self.shard.total_(ours) + ",
        "ours + ",
        f"{SPLIT}::test_three_processes_come_to_what_one_comes_to",
    ),
    Mutant(
        "of split items one moment of two is gathered",
        "training/split_items.py",
        "for number in numbers for name in MOMENTS}",
        "for number in numbers for name in MOMENTS[:1]}",
        f"{SPLIT}::test_three_processes_come_to_what_one_comes_to",
    ),
    Mutant(
        "a run is bound to the processes that held its items",
        "run_folder.py",
        "if not each.startswith(WHEREABOUTS)]",
        "]",
        f"{SPLIT}::test_one_process_goes_on_where_three_stopped",
    ),
    Mutant(
        "an alignment is told by the epochs of its training",
        "training/settings.py",
        "epochs=own or self.epochs",
        "epochs=self.epochs",
        f"{STAGES}::test_epochs_of_a_stage_alone_are_those_that_are_told",
    ),
]
