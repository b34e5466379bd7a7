"""Mutants of `data/`: splits, ties, windows, batches, noise, leakage, filters, texts."""

from __future__ import annotations

from mutants import Mutant

SPLITS, BATCHES, NOISE = "unit/data/test_splits.py", "unit/data/test_batches.py", "unit/data/test_noise.py"
LEAKAGE, FILTERS = "unit/data/test_leakage.py", "unit/data/test_filters.py"

MUTANTS = [
    Mutant(
        "training sees the validation item",
        "data/splits.py",
        "ends[long_enough] -= 2",
        "ends[long_enough] -= 1",
        f"{SPLITS}::test_leave_last_out_partitions_each_history",
    ),
    Mutant(
        "test histories lack the validation item",
        "data/splits.py",
        "histories.starts[long_enough], at), histories.items[at])",
        "histories.starts[long_enough], histories.ends[long_enough] - 2), histories.items[at])",
        f"{SPLITS}::test_leave_last_out_partitions_each_history",
    ),
    Mutant(
        "a temporal history holds the target's own second",
        "data/splits.py",
        "starts, ends = histories.starts[owner], _starts_of_ties(histories)[at]",
        "starts, ends = histories.starts[owner], at",
        f"{SPLITS}::test_temporal_is_its_definition",
    ),
    Mutant(
        "training reaches into the first second of validation",
        "data/splits.py",
        "np.cumsum(histories.dated() < begin)",
        "np.cumsum(histories.dated() <= begin)",
        f"{SPLITS}::test_temporal_is_its_definition",
    ),
    Mutant(
        "cold items are kept where they are to be dropped",
        "data/splits.py",
        "& ~(cold_item & drop_items)",
        "",
        f"{SPLITS}::test_temporal_is_its_definition",
    ),
    Mutant(
        "ties are shuffled from the order of the file",
        "data/splits.py",
        "items[part] = histories.items[part][plain][order]",
        "items[part] = histories.items[part][order]",
        f"{SPLITS}::test_shuffling_moves_items_within_ties_only_and_once",
    ),
    Mutant(
        "ties are not shuffled",
        "data/splits.py",
        'data.histories if ties == "file" else shuffle_ties(data.histories, seed)',
        "data.histories",
        f"{SPLITS}::test_shuffled_ties_decide_what_is_to_be_found",
    ),
    Mutant(
        "a transition between two windows is supervised twice",
        "data/batches.py",
        "ends - window - 1)",
        "ends - window - 2)",
        f"{BATCHES}::test_each_transition_is_supervised_exactly_once",
    ),
    Mutant(
        "windows overlap",
        "data/batches.py",
        "ends = train.ends[owner] - back * window",
        "ends = train.ends[owner] - back * (window - 1)",
        f"{BATCHES}::test_each_transition_is_supervised_exactly_once",
    ),
    Mutant(
        "the plan is the same in every epoch",
        "data/batches.py",
        "np.random.default_rng((seed, epoch))",
        "np.random.default_rng((seed, 0))",
        f"{BATCHES}::test_plans_differ_by_seed_and_epoch",
    ),
    Mutant(
        "batches are trained from short to long",
        "data/batches.py",
        "return [batches[i] for i in rng.permutation(len(batches))]",
        "return batches",
        f"{BATCHES}::test_short_and_long_rows_come_mixed",
    ),
    Mutant(
        "a batch may be one row over its budget",
        "data/batches.py",
        'max(1, int(np.searchsorted(sizes, positions, side="right")))\n        cuts',
        '1 + int(np.searchsorted(sizes, positions, side="right"))\n        cuts',
        f"{BATCHES}::test_a_plan_holds_every_row_once_within_the_budget",
    ),
    Mutant(
        "several processes train on the same rows",
        "data/batches.py",
        "rows.take(np.arange(rank, len(rows), world))",
        "rows.take(np.arange(0, len(rows), world))",
        f"{BATCHES}::test_shares_of_a_batch_partition_it",
    ),
    Mutant(
        "targets are the inputs",
        "data/batches.py",
        "targets_BL=_gather(histories.items, index_BL + 1)",
        "targets_BL=_gather(histories.items, index_BL)",
        f"{BATCHES}::test_training_batch_by_hand",
    ),
    Mutant(
        "a chance is that of being kept",
        "data/batches.py",
        "torch.rand(rows.shape, device=rows.device) < chance",
        "torch.rand(rows.shape, device=rows.device) >= chance",
        f"{BATCHES}::test_a_chance_is_that_of_being_replaced",
    ),
    Mutant(
        "noise depends on the place alone",
        "data/noise.py",
        "for word in (np.array([stream]), users, places):",
        "for word in (np.array([stream]), users * 0, places):",
        f"{NOISE}::test_the_mixer_against_whole_numbers",
    ),
    Mutant(
        "noise draws items that were met",
        "data/noise.py",
        "return (nth + skipped).astype(np.int32)",
        "return nth.astype(np.int32)",
        f"{NOISE}::test_items_are_drawn_evenly_from_what_is_free",
    ),
    Mutant(
        "a half rounds down",
        "data/noise.py",
        "lengths + 0.5 + 1e-9)",
        "lengths + 0.5 - 1e-9)",
        f"{NOISE}::test_a_half_rounds_up_and_short_histories_may_go_free",
    ),
    Mutant(
        "training noise is that of the test",
        "data/noise.py",
        "replace(self, seed=int(own[0] * 2**53))._applied",
        "self._applied",
        f"{NOISE}::test_nobody_is_trained_on_the_noise_of_the_test",
    ),
    Mutant(
        "noise of training may draw what is held out",
        "data/noise.py",
        "whole.starts[users], whole.ends[users])",
        "train.starts, train.ends)",
        f"{NOISE}::test_training_noise_leaves_held_out_items_alone",
    ),
    Mutant(
        "what happens in the same second counts as the future",
        "data/leakage.py",
        'np.searchsorted(train_times, moments, side="right")',
        'np.searchsorted(train_times, moments, side="left")',
        f"{LEAKAGE}::test_leave_last_out_is_counted_right",
    ),
    Mutant(
        "a target counts as its own repeat",
        "data/leakage.py",
        "first[np.searchsorted(pairs, wanted)] < history.ends[mine]",
        "first[np.searchsorted(pairs, wanted)] <= history.ends[mine]",
        f"{LEAKAGE}::test_leave_last_out_is_counted_right",
    ),
    Mutant(
        "a core is taken in one pass",
        "data/filters.py",
        "        keep = stay\n",
        "        keep = stay\n        break\n",
        f"{FILTERS}::test_k_core_is_that_of_a_naive_loop",
    ),
    Mutant(
        "text vectors are those of the next row of the table",
        "data/texts.py",
        "vectors[row], 0)",
        "vectors[row - 1], 0)",
        "unit/training/test_texts.py::test_texts_follow_the_items",
    ),
]
