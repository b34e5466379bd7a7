"""Mutants of `evaluation/` and of what people hold: metrics, intervals, tests, comparisons, recommendations."""

from __future__ import annotations

from mutants import Mutant

METRICS, STATISTICS = "unit/evaluation/test_metrics.py", "unit/evaluation/test_statistics.py"
COMPARE, LISTS = "unit/evaluation/test_compare.py", "unit/evaluation/test_lists.py"
RECOMMENDER = "unit/test_recommender.py"

MUTANTS = [
    Mutant(
        "FLOPs of an epoch are those of the first stage",
        "run_costs.py",
        "stage=stages[at].name",
        "stage=stages[0].name",
        "unit/test_evaluate.py::test_training_cost_is_that_of_the_stage_the_weights_come_from",
    ),
    Mutant(
        "unknown users are known",
        "runs.py",
        "return [each.of_unknown_users() for each in read] if config.unknown_users else read",
        "return read",
        "unit/methods/test_sse_pt.py::test_what_a_stranger_gets_is_measured",
    ),
    Mutant(
        "NDCG is counted from rank 0",
        "evaluation/metrics.py",
        "1.0 / np.log2(ranks + 1.0)",
        "1.0 / np.log2(ranks + 2.0)",
        f"{METRICS}::test_metrics_equal_brute_force",
    ),
    Mutant(
        "MRR knows no cut",
        "evaluation/metrics.py",
        "np.where(ranks <= k, 1.0 / ranks, 0.0)",
        "1.0 / ranks",
        f"{METRICS}::test_metrics_equal_brute_force",
    ),
    Mutant(
        "recall ends one before k",
        "evaluation/metrics.py",
        "(ranks <= k).astype(np.float64)",
        "(ranks < k).astype(np.float64)",
        f"{METRICS}::test_metrics_equal_brute_force",
    ),
    Mutant(
        "users are drawn without replacement",
        "evaluation/statistics.py",
        "random.integers(0, n_users, n_users)",
        "random.permutation(n_users)",
        f"{STATISTICS}::test_interval_of_a_mean_equals_scipys_bootstrap",
    ),
    Mutant(
        "cases are drawn, not users",
        "evaluation/statistics.py",
        "np.column_stack([*columns, members]), clusters)",
        "np.column_stack([*columns, members]), np.arange(len(clusters)))",
        f"{STATISTICS}::test_interval_over_clustered_cases_equals_resampling_users_one_by_one",
    ),
    Mutant(
        "an interval of 95% is one of 90%",
        "evaluation/statistics.py",
        "tails = [(1 - level) / 2, (1 + level) / 2]",
        "tails = [1 - level, level]",
        f"{STATISTICS}::test_interval_of_a_mean_equals_scipys_bootstrap",
    ),
    Mutant(
        "the sign test is one-sided",
        "evaluation/statistics.py",
        "np.abs(flipping.sum(axis=0) - 2 * flipped) >= threshold",
        "flipping.sum(axis=0) - 2 * flipped >= threshold",
        f"{STATISTICS}::test_sign_flips_equal_all_labellings",
    ),
    Mutant(
        "a p-value may be nought",
        "evaluation/statistics.py",
        "(extreme + 1) / (resamples + 1)",
        "extreme / resamples",
        f"{STATISTICS}::test_equal_methods_have_p_1_and_no_p_is_0",
    ),
    Mutant(
        "Holm is Bonferroni",
        "evaluation/statistics.py",
        "np.arange(len(p_values), 0, -1)",
        "len(p_values)",
        f"{STATISTICS}::test_holm_equals_its_definition",
    ),
    Mutant(
        "Holm's p-values may fall",
        "evaluation/statistics.py",
        "np.maximum.accumulate(steps)",
        "steps",
        f"{STATISTICS}::test_holm_equals_its_definition",
    ),
    Mutant(
        "a comparison is not corrected",
        "evaluation/compare.py",
        "p_values, holm(p_values), strict=True)",
        "p_values, p_values, strict=True)",
        f"{COMPARE}::test_holm_counts_every_difference",
    ),
    Mutant(
        "cases of another order are compared as they stand",
        "evaluation/compare.py",
        "if not cases.select(keys).equals(first.cases.select(keys)):",
        "if False:",
        f"{COMPARE}::test_the_order_of_cases_does_not_matter",
    ),
    Mutant(
        "the spread of seeds is that of a whole population",
        "evaluation/compare.py",
        "by_seed.std(axis=0, ddof=1)",
        "by_seed.std(axis=0)",
        f"{COMPARE}::test_seeds_and_their_spread_are_reported",
    ),
    Mutant(
        "Gini leaves out what was never shown",
        "evaluation/lists.py",
        "n, total = len(shown), shown.sum()",
        "shown = shown[shown > 0]\n    n, total = len(shown), shown.sum()",
        f"{LISTS}::test_gini_equals_the_double_sum",
    ),
    Mutant(
        "sampled ties count as lost",
        "evaluation/sampled.py",
        "(others == target).sum(axis=1) / 2",
        "(others == target).sum(axis=1)",
        "unit/evaluation/test_sampled.py::test_ranks_equal_a_loop_and_ties_count_half",
    ),
    Mutant(
        "negatives may be drawn twice",
        "evaluation/sampled.py",
        "return repeated | (forbidden[at] == keys)",
        "return forbidden[at] == keys",
        "unit/evaluation/test_sampled.py::test_negatives_differ_and_are_neither_target_nor_history",
    ),
    Mutant(
        "recommendations forget to leave out the history",
        "recommender.py",
        "known if exclude else None, allowed_N)",
        "None, allowed_N)",
        f"{RECOMMENDER}::test_allow_deny_and_history",
    ),
    Mutant(
        "every target counts as warm",
        "evaluation/groups.py",
        "return np.where(popularity > 0, WARM, COLD)",
        "return np.where(popularity >= 0, WARM, COLD)",
        "unit/evaluation/test_report.py::test_warm_and_cold_cases_stand_apart_with_what_chance_would_do",
    ),
    Mutant(
        "a pair is subtracted the wrong way round",
        "evaluation/compare.py",
        "table[:, first] - table[:, second]",
        "table[:, second] - table[:, first]",
        "unit/evaluation/test_frames.py::test_all_pairs_are_each_compared_once_under_one_correction",
    ),
    Mutant(
        "shares of the other pairs are of the baseline",
        "evaluation/compare.py",
        "list(runs).index(other) for _, other in pairs",
        "list(runs).index(baseline) for _, other in pairs",
        "unit/evaluation/test_frames.py::test_all_pairs_are_each_compared_once_under_one_correction",
    ),
    Mutant(
        "groups have the numbers of all cases",
        "evaluation/frames.py",
        "in group.metrics.items()",
        "in metrics.items()",
        "unit/evaluation/test_frames.py::test_an_evaluation_lists_all_cases_and_every_group",
    ),
    Mutant(
        "any CSV file is taken for one of ours",
        "reports/saving.py",
        'if form != ".csv" or not _is_our_csv(path):',
        'if form != ".csv":',
        "unit/evaluation/test_saving.py::test_a_file_of_somebody_else_stays",
    ),
    Mutant(
        "names draw what they like in a report",
        "reports/run_report.py",
        "<summary>{escape(example.title)}</summary>",
        "<summary>{example.title}</summary>",
        "end_to_end/test_report_verb.py::test_names_of_data_are_words_and_nothing_else",
    ),
]
