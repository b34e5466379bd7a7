"""Mutants of `tuning/`: what is tried, what is given up, and what becomes the run."""

from __future__ import annotations

from mutants import Mutant

SPACE, TUNER, AUTO, RESUMED = (f"unit/tuning/test_{name}.py" for name in ("space", "tuner", "auto", "auto_resumed"))
VERB = "end_to_end/test_tune_verb.py"

MUTANTS = [
    Mutant(
        "a recipe's own value is not among what is tried",
        "tuning/space.py",
        "    if contains(domain, value):\n        return domain\n    if isinstance",
        "    if domain is not None:\n        return domain\n    if isinstance",
        f"{SPACE}::test_the_recipes_own_value_widens_what_is_declared",
    ),
    Mutant(
        "what others do not allow is tuned",
        "tuning/space.py",
        "if _allowed(recipe, name, domain)}",
        "if domain}",
        f"{SPACE}::test_a_setting_that_others_do_not_allow_is_not_tuned",
    ),
    Mutant(
        "nothing is given up",
        "tuning/search.py",
        "and trial.should_prune()",
        "and trial.should_prune() is None",
        f"{TUNER}::test_a_trial_is_given_up_where_others_were_better",
    ),
    Mutant(
        "a trial that was stopped is not tried again",
        "tuning/search.py",
        "[*stopped, *waiting]:",
        "waiting:",
        f"{TUNER}::test_a_search_that_was_stopped_goes_on",
    ),
    Mutant(
        "a torn line of the journal stays",
        "tuning/search.py",
        'file.truncate(text.rfind(b"\\n") + 1)',
        "file.truncate(len(text))",
        f"{TUNER}::test_a_search_that_was_stopped_goes_on",
    ),
    Mutant(
        "a trial goes on after its time",
        "tuning/trials.py",
        'raise _EndedEarly("out of time")',
        "return",
        f"{TUNER}::test_the_time_ends_a_search_and_the_best_is_kept",
    ),
    Mutant(
        "another search is gone on with",
        "tuning/tuner.py",
        "        if changed:",
        "        if changed is None:",
        f"{TUNER}::test_another_search_in_the_same_folder_is_refused",
    ),
    Mutant(
        "the worst becomes the run",
        "tuning/auto.py",
        "max(sound, key",
        "min(sound, key",
        f"{AUTO}::test_the_best_on_validation_becomes_an_ordinary_run",
    ),
    Mutant(
        "how a rung was left is forgotten",
        "tuning/auto.py",
        "        if each.name in rung:",
        "        if each.name is rung:",
        f"{RESUMED}::test_what_is_known_is_not_trained_again",
    ),
    Mutant(
        "minutes begin anew with each sitting",
        "tuning/tried.py",
        "self._began = time.time() - self.spent_s",
        "self._began = time.time()",
        f"{RESUMED}::test_the_time_of_all_sittings_counts",
    ),
    Mutant(
        "what was tried with other data is gone on with",
        "tuning/tried.py",
        "    if changed := differences(",
        "    if changed := not differences(",
        f"{RESUMED}::test_another_command_is_refused",
    ),
    Mutant(
        "Ctrl-C is lost where a candidate pauses",
        "training/interrupt.py",
        "if self.asked and kind is not None",
        "if kind is None",
        f"{RESUMED}::test_ctrl_c_while_an_epoch_is_validated_is_not_lost",
    ),
    Mutant(
        "a grid trains all with one seed",
        "tuning/grid.py",
        "replace(tuned, seed=seed)",
        "tuned",
        f"{VERB}::test_seeds_make_a_mean_and_go_on",
    ),
    Mutant(
        "a recipe's evidence is forgotten",
        "cli/train.py",
        "own = own or Evidence()",
        "own = Evidence()",
        f"{VERB}::test_options_override_a_recipe_file",
    ),
    Mutant(
        "a search goes on though nothing can be trained",
        "tuning/trials.py",
        'set(ends) == {"failed"}',
        'set(ends) == {"complete"}',
        f"{TUNER}::test_a_small_number_of_failures_ends_a_search",
    ),
]
