"""Mutants of `catalogue/`: moments, losses, ranks, lists."""

from __future__ import annotations

from mutants import Mutant

MOMENTS, LOSSES = "unit/catalogue/test_moments.py", "unit/catalogue/test_losses.py"
CATALOGUE, RANKING, SAMPLED, SPLIT = (
    f"unit/catalogue/test_{name}.py" for name in ("catalogue", "ranking", "sampled", "split")
)

MUTANTS = [
    Mutant(
        "several shards are merged by their mean",
        "catalogue/moments.py",
        "share_SP = torch.exp(lse_SP - lse_P)",
        "share_SP = torch.full_like(lse_SP, 1 / len(shards))",
        f"{MOMENTS}::TestInAnyCut::test_values_are_numpys",
    ),
    Mutant(
        "the mean's gradient is not a covariance",
        "catalogue/moments.py",
        "(g_P[rows] - (h * mean_PD[rows]).sum(-1))[:, None]",
        "g_P[rows][:, None]",
        f"{MOMENTS}::TestInAnyCut::test_moments_have_the_gradients_of_the_whole",
    ),
    Mutant(
        "items get no gradient of the weights",
        "catalogue/moments.py",
        "(w * r).to(p.dtype)",
        "r.to(p.dtype)",
        f"{MOMENTS}::TestInAnyCut::test_weighted_lse_has_the_gradients_of_the_whole",
    ),
    Mutant(
        "a bias is divided by the temperature",
        "catalogue/catalogue.py",
        "torch.cat([self.comparable_ND, self.bias_N[:, None]], dim=-1)",
        "torch.cat([self.comparable_ND, self.bias_N[:, None] / self.temperature], dim=-1)",
        f"{LOSSES}::test_cross_entropy_has_torchs_gradients_with_temperature_bias_and_cosine",
    ),
    Mutant(
        "cosine leaves items as long as they are",
        "catalogue/catalogue.py",
        "return comparable(self.vectors_ND, cosine=self.cosine)",
        "return self.vectors_ND",
        f"{LOSSES}::test_cross_entropy_has_torchs_gradients_with_temperature_bias_and_cosine",
    ),
    Mutant(
        "smoothing takes no mass from the target",
        "catalogue/losses.py",
        "(1 - smoothing) * target_PD",
        "target_PD",
        f"{LOSSES}::test_label_smoothing_spreads_its_share_over_all_items",
    ),
    Mutant(
        "entropy has the wrong sign",
        "catalogue/losses.py",
        "return of.lse_P - (states_PD * of.mean_PD).sum(-1)",
        "return (states_PD * of.mean_PD).sum(-1) - of.lse_P",
        f"{LOSSES}::test_entropy",
    ),
    Mutant(
        "KL is taken under the second distribution",
        "catalogue/losses.py",
        "(second_PD * first.mean_PD).sum(-1) + second.lse_P",
        "(second_PD * second.mean_PD).sum(-1) + second.lse_P",
        f"{LOSSES}::test_kl",
    ),
    Mutant(
        "soft targets give items no gradient",
        "catalogue/soft_targets.py",
        "d_items.addmm_(q.T, grads[0][rows])",
        "pass",
        "unit/catalogue/test_soft_targets.py::test_cross_entropy_with_soft_targets_is_that_of_whole_matrices",
    ),
    Mutant(
        "an expectation forgets to take off its mean",
        "catalogue/expectation.py",
        "p.mul_(s.sub_(expected_P[:, None]))",
        "p.mul_(s)",
        "unit/catalogue/test_expectation.py::test_value_and_gradients",
    ),
    Mutant(
        "equal scores count in full",
        "catalogue/ranking.py",
        "(len(catalogue) + 1 + balance) / 2",
        "(len(catalogue) + 1 + balance) // 2",
        f"{RANKING}::test_ranks",
    ),
    Mutant(
        "what a user has met is a candidate",
        "catalogue/ranking.py",
        "scores[excluded.within(rows, shard)] = -torch.inf",
        "pass",
        f"{RANKING}::test_lists",
    ),
    Mutant(
        "a history's padding is excluded too",
        "catalogue/ranking.py",
        "device=items_BL.device) < lengths_B[:, None]",
        "device=items_BL.device) < lengths_B[:, None] + 1",
        f"{RANKING}::test_ranks",
    ),
    Mutant(
        "an excluded target has a rank",
        "catalogue/ranking.py",
        "torch.where(own[:, 0] > -torch.inf, (len(catalogue) + 1 + balance) / 2, torch.inf)",
        "(len(catalogue) + 1 + balance) / 2",
        f"{RANKING}::test_an_excluded_target_has_no_rank_and_others_do_not_move",
    ),
    Mutant(
        "allowed items do not narrow a list",
        "catalogue/ranking.py",
        "scores.masked_fill_(~allowed_N[first + items.start : first + items.stop], -torch.inf)",
        "pass",
        f"{RANKING}::test_lists",
    ),
    Mutant(
        "later shards are numbered from nought",
        "catalogue/ranking.py",
        "at + first + items.start], dim=1)",
        "at + first], dim=1)",
        f"{RANKING}::test_lists",
    ),
    Mutant(
        "a bias is left out of ranking",
        "catalogue/catalogue.py",
        "return scores_BN if self.offsets_N is None else scores_BN.add_(self.offsets_N[shard])",
        "return scores_BN",
        f"{RANKING}::test_ranks",
    ),
    Mutant(
        "a score's bias is that of the logit",
        "catalogue/catalogue.py",
        "else self.bias_N * self.temperature",
        "else self.bias_N",
        f"{CATALOGUE}::test_scores_are_logits_times_the_temperature",
    ),
    Mutant(
        "items of unit length get no gradients",
        "catalogue/catalogue.py",
        "            return comparable(self.vectors_ND, cosine=self.cosine)",
        "            return comparable(self.vectors_ND, cosine=self.cosine).detach()",
        f"{CATALOGUE}::test_who_asks_first_does_not_decide_on_gradients",
    ),
    Mutant(
        "of a split catalogue states get the gradients of one process",
        "catalogue/split.py",
        "return ctx.shard.total_(grads[0].clone(memory_format=torch.contiguous_format)), None",
        "return grads[0], None",
        f"{SPLIT}::test_three_processes_equal_the_whole",
    ),
    Mutant(
        "in a split catalogue each process walks a softmax of its own",
        "catalogue/moments.py",
        "weights_P.detach() * share_P)",
        "weights_P.detach())",
        f"{SPLIT}::test_three_processes_equal_the_whole",
    ),
    Mutant(
        "a split catalogue excludes by the whole's rows",
        "catalogue/ranking.py",
        "excluded.items - catalogue.shard.start",
        "excluded.items",
        f"{SPLIT}::test_three_processes_equal_the_whole",
    ),
    Mutant(
        "an expectation over a split catalogue moves within shards alone",
        "catalogue/expectation.py",
        "moved = within + between",
        "moved = within",
        f"{SPLIT}::test_three_processes_equal_the_whole",
    ),
    Mutant(
        "sampled softmax is not corrected",
        "catalogue/sampled.py",
        "scaled_of(negatives_M).T - log_q_N[negatives_M]",
        "scaled_of(negatives_M).T",
        f"{SAMPLED}::test_sampled_softmax_with_log_q_and_an_accidental_hit",
    ),
    Mutant(
        "accidental hits are rivals",
        "catalogue/sampled.py",
        "negatives_M[None, :] == targets_P[:, None]",
        "negatives_M[None, :] == -1",
        f"{SAMPLED}::test_sampled_softmax_with_log_q_and_an_accidental_hit",
    ),
    Mutant(
        "gBCE is not calibrated",
        "catalogue/sampled.py",
        "loss_P = -beta * F.logsigmoid",
        "loss_P = -F.logsigmoid",
        f"{SAMPLED}::test_gbce",
    ),
]
