"""Broken lines of alignment: rollouts, rewards, advantages, and what is kept."""

from __future__ import annotations

from mutants import Mutant

GRPO, ALIGN = "unit/reasoning/test_grpo.py", "unit/test_aligning.py"
LEARNED = "unit/alignment/test_learned_weights.py"
ROLL, REWARDS = "unit/decoding/test_rollouts.py", "unit/alignment/test_rewards.py"

MUTANTS = (
    Mutant(
        "a rollout is held against a mean that it is part of",
        "reasoning/grpo.py",
        "apart_GB = apart_GB * (G / (G - 1))",
        "pass",
        f"{GRPO}::test_the_group_mean_shortens_the_gradient_and_leaving_oneself_out_does_not",
    ),
    Mutant(
        "the clip knows one bound",
        "reasoning/grpo.py",
        "ratio.clamp(1 - low, 1 + high) * advantage",
        "ratio.clamp(1 - low, 1 + low) * advantage",
        f"{GRPO}::test_the_clip_takes_the_gradient_beyond_its_bounds_and_nowhere_else",
    ),
    Mutant(
        "what is clipped is the larger of both",
        "reasoning/grpo.py",
        "torch.minimum(free, bound)",
        "torch.maximum(free, bound)",
        f"{GRPO}::test_the_clip_takes_the_gradient_beyond_its_bounds_and_nowhere_else",
    ),
    Mutant(
        "KL is that of the reference",
        "reasoning/grpo.py",
        "return (log_probs_XC.exp() * apart_XC).sum(-1)",
        "return -(reference_XC.exp() * apart_XC).sum(-1)",
        f"{GRPO}::test_estimates_of_kl_are_right_on_average_and_k3_pulls_elsewhere",
    ),
    Mutant(
        "a book may be decided twice",
        "decoding/rollouts.py",
        "open_BGM = open_BGM.scatter(2, book_BG[..., None], value=False)\n        state = decoder",
        "state = decoder",
        f"{ROLL}::test_what_is_replayed_is_what_was_drawn",
    ),
    Mutant(
        "what was drawn is told with the temperature",
        "decoding/rollouts.py",
        "return book_BG, token_BG, row_BGC.gather(2, token_BG[..., None])[..., 0]",
        "return book_BG, token_BG, (row_BGC / temperature).log_softmax(-1).gather(2, token_BG[..., None])[..., 0]",
        f"{ROLL}::test_tokens_are_drawn_by_their_probability",
    ),
    Mutant(
        "all books are read behind the last token",
        "decoding/rollouts.py",
        "table_BGMC = table_BGMC.scatter(2, books_BGT[..., None].expand_as(rows_BGTC), rows_BGTC)",
        "pass",
        f"{ROLL}::test_one_path_step_by_step",
    ),
    Mutant(
        "ties of a path's items count whole",
        "decoding/path_facts.py",
        "((scores_RN == each[:, None]).sum(1) + 1) / 2",
        "(scores_RN == each[:, None]).sum(1)",
        f"{ROLL}::test_facts_are_those_of_all_items_scored_one_by_one",
    ),
    Mutant(
        "the belief before a token is rewarded",
        "alignment/rewards.py",
        "beliefs[:, :, 1:].argmax(-1)",
        "beliefs[:, :, :-1].argmax(-1)",
        f"{REWARDS}::test_hits_count_later_items_less_and_missing_ones_not_at_all",
    ),
    Mutant(
        "items that are not there count in the window",
        "alignment/rewards.py",
        "weights_BH = real_BH * self.decay",
        "weights_BH = torch.ones_like(real_BH) * self.decay",
        f"{REWARDS}::test_hits_count_later_items_less_and_missing_ones_not_at_all",
    ),
    Mutant(
        "a choice is paid for what came before it",
        "alignment/rewards.py",
        "return rewards_BGT.flip(-1).cumsum(-1).flip(-1)",
        "return rewards_BGT.cumsum(-1)",
        f"{REWARDS}::test_what_is_to_come",
    ),
    Mutant(
        "choices after the end of a rollout count",
        "alignment/aligner.py",
        "weights_BGT = rollouts.real_BGT * drawn.shares_B[:, None, None]",
        "weights_BGT = torch.ones_like(rollouts.log_probs_BGT) * drawn.shares_B[:, None, None]",
        f"{ALIGN}::test_the_loss_is_that_of_one_choice_after_the_other",
    ),
    Mutant(
        "rollouts are drawn anew for each update",
        "training/loop.py",
        "made = [self._update(fabric, model, optimiser, batch) for _ in range(self._stage.updates)]",
        "made = [self._update(fabric, model, optimiser, batch)]",
        f"{ALIGN}::test_a_batch_has_as_many_updates_as_were_asked_for",
    ),
    Mutant(
        "more than the halting net is trained",
        "alignment/aligner.py",
        "self.method.requires_grad_(False)",
        "pass",
        f"{ALIGN}::test_the_halting_net_alone_learns",
    ),
    Mutant(
        "what a run began with is no candidate",
        "training/loop.py",
        "progress.best = progress.best_before = figures",
        "progress.best_before = figures",
        f"{ALIGN}::test_the_run_holds_the_better_of_what_it_was_and_what_it_became",
    ),
    Mutant(
        "the guard sleeps",
        "training/loop.py",
        'valid[f"valid_{self._stage.guard}"] >= progress.floor',
        "True",
        f"{ALIGN}::test_what_loses_its_tail_is_not_kept",
    ),
    Mutant(
        "steps have no price where validation chooses",
        "training/loop.py",
        '- price * figures["valid_steps"]',
        "",
        f"{ALIGN}::test_steps_count_in_what_is_kept_as_they_do_in_what_is_earned",
    ),
    Mutant(
        "halting is learned from what thoughts were trained on",
        "alignment/held_out.py",
        "cases.ends + 1).last(window + 1)",
        "cases.ends).last(window + 1)",
        f"{ALIGN}::test_halting_is_learned_from_half_of_the_validation_users_and_chosen_by_the_other",
    ),
    Mutant(
        "what raises the held-out loss comes to weigh more",
        "alignment/learned_weights.py",
        "inner[name] = -_dot(h, g)",
        "inner[name] = _dot(h, g)",
        f"{LEARNED}::test_what_helps_others_comes_to_weigh_more_than_its_opposite",
    ),
    Mutant(
        "usefulness has another scale",
        "alignment/learned_weights.py",
        "_dot(h, h) ** 0.5 * max(norms)",
        "_dot(h, h) ** 0.5 * min(norms)",
        f"{LEARNED}::test_a_reward_is_as_useful_as_the_held_out_loss_falls_when_it_is_followed",
    ),
    Mutant(
        "the sum of weights drifts",
        "alignment/learned_weights.py",
        "kept = sum(weights.values()) / sum(moved.values())",
        "kept = 1.0",
        f"{LEARNED}::test_a_step_keeps_the_sum_and_no_weight_is_lost",
    ),
    Mutant(
        "weights are learned from every batch",
        "alignment/learned_weights.py",
        "(self.batches - 1) % self.every == 0",
        "True",
        f"{LEARNED}::test_a_look_is_taken_every_few_batches",
    ),
    Mutant(
        "weights that were learned are not what is earned by",
        "alignment/aligner.py",
        "weights[name] * part_BGT",
        "self.rewards[name][0] * part_BGT",
        f"{LEARNED}::test_what_helps_others_comes_to_weigh_more_than_its_opposite",
    ),
    Mutant(
        "those who tell weights choose too",
        "alignment/parts.py",
        "replace(split, valid=chosen_by)",
        "split",
        f"{LEARNED}::test_those_who_tell_weights_choose_nothing",
    ),
    Mutant(
        "weights begin anew after a stop",
        "training/loop.py",
        "self.method.load_training_state(self.progress.of_method)",
        "pass",
        f"{LEARNED}::test_a_run_tells_the_weights_it_learned_and_comes_to_the_same_after_a_stop",
    ),
    Mutant(
        "the held-out loss is a sum over histories",
        "methods/reg4rec.py",
        "real_B1, targets_B, len(targets_B)",
        "real_B1, targets_B, 1",
        f"{LEARNED}::test_the_loss_behind_a_history_is_that_of_its_last_position",
    ),
)
