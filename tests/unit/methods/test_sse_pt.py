"""SSE-PT against joined vectors written out: scores, both losses, what is replaced, and whose vector is read."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from forethought.backbones.sasrec import SASRec
from forethought.catalogue.ranking import rank_of
from forethought.cli import main
from forethought.config import Recipe
from forethought.data.batches import Batch, history_batch, replace_randomly, training_batch, windows
from forethought.data.interactions import DataSizes
from forethought.data.noise import Noise
from forethought.data.splits import Split, leave_last_out, temporal
from forethought.errors import ConfigError, DataError
from forethought.evaluation.compare import compare
from forethought.evaluation.report import Evaluation
from forethought.evaluation.sampled import Sample
from forethought.evaluation.settings import EvaluationConfig
from forethought.methods.items import ItemLoss
from forethought.methods.sse_pt import SSEPT, SSEPTModel
from forethought.recommender import load
from forethought.runs import evaluate, train
from forethought.training.settings import Training

BACKBONE = SASRec(width=14, layers=1, heads=2, window=8, ffn_width=16, dropout=0.0)
DOT = ItemLoss(cosine=False, temperature=0.7)
PAPER = ItemLoss(kind="bce", negatives=3, cosine=False, temperature=1.0)


def built(split: Split, **settings: Any) -> SSEPTModel:
    """Items of width 8 and users of width 6, large enough that a wrong one shows."""
    torch.manual_seed(0)
    config = SSEPT(backbone=BACKBONE, user_width=6, **settings)
    model = config.build(split.data.sizes).double()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def few(split: Split, n: int = 9) -> Batch:
    return training_batch(windows(split.train, BACKBONE.window).take(np.arange(n)))


def joined_scores(model: SSEPTModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """x . [e_j ; e_u] for all items, [P, N], and the targets, [P]: no catalogue, no halves."""
    assert batch.users_B is not None
    assert batch.targets_BL is not None
    users_BD = model.users.common + model.users.own[batch.users_B]
    items_ND = model.items.weight
    L = batch.items_BL.shape[1]
    if model.config.scale_inputs:
        users_BD = users_BD * 6**0.5
    item_scale = 8**0.5 if model.config.scale_inputs else 1.0
    z_BLD = torch.cat([items_ND[batch.items_BL] * item_scale, users_BD[:, None].repeat(1, L, 1)], dim=-1)
    x_BLD = model.backbone.encode(z_BLD, batch.lengths_B).states_BLD
    rows_PN = []
    for b, length in enumerate(batch.lengths_B.tolist()):
        for t in range(length):
            x, user = x_BLD[b, t], users_BD[b]
            if model.config.loss.cosine:
                score_N = F.cosine_similarity(x[None, :8], items_ND) + F.cosine_similarity(x[8:], user, dim=0)
            else:
                score_N = torch.cat([items_ND, user.expand(len(items_ND), -1)], dim=1) @ x
            rows_PN.append(score_N / model.config.loss.temperature)
    return torch.stack(rows_PN), batch.targets_BL[batch.valid_BL()]


@pytest.mark.parametrize("loss", [DOT, ItemLoss()], ids=["dot", "cosine"])
def test_cross_entropy_over_joined_vectors_is_that_over_items_alone(split: Split, loss: ItemLoss) -> None:
    """With every gradient."""
    model, batch = built(split, loss=loss).eval(), few(split)
    scores_PN, targets_P = joined_scores(model, batch)
    wanted = F.cross_entropy(scores_PN, targets_P)
    wanted.backward()
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    got = model.loss(batch).total
    got.backward()
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("loss", [PAPER, replace(PAPER, cosine=True, temperature=0.3)], ids=["dot", "cosine"])
def test_bce_feels_the_users_term(split: Split, loss: ItemLoss, scaled: bool) -> None:
    """With vectors scaled by the roots of their widths, items as inputs alone and users everywhere."""
    model, batch = built(split, loss=loss, scale_inputs=scaled).eval(), few(split)
    scores_PN, targets_P = joined_scores(model, batch)
    torch.manual_seed(4)
    negatives_PM = torch.randint(split.data.n_items, (len(targets_P), 3))
    right_P = scores_PN.gather(1, targets_P[:, None])[:, 0].sigmoid().log()
    wrong_P = (1 - scores_PN.gather(1, negatives_PM).sigmoid()).log().sum(1)
    wanted = -(right_P + wrong_P).mean() / 4
    wanted.backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    torch.manual_seed(4)
    got = model.loss(batch).total
    got.backward()
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("loss", [DOT, ItemLoss()], ids=["dot", "cosine"])
def test_ranks_are_those_of_joined_vectors(split: Split, loss: ItemLoss) -> None:
    model, batch = built(split, loss=loss).eval(), few(split)
    scores_PN, targets_P = joined_scores(model, batch)
    last_B = batch.lengths_B.cumsum(0) - 1
    with torch.no_grad():
        thought = model.user_states(batch)
        ranks = rank_of(thought.states_BD, model.catalogue(), targets_P[last_B])
    own_B1 = scores_PN[last_B].gather(1, targets_P[last_B, None])
    assert ranks.tolist() == (1 + (scores_PN[last_B] > own_B1).sum(1)).tolist()


# ---- stochastic shared embeddings


def test_users_are_replaced_by_the_row_and_items_one_by_one(split: Split) -> None:
    model, batch = built(split, replace_user=0.9, replace_item=0.2).train(), few(split, 60)
    assert batch.users_B is not None
    torch.manual_seed(1)
    many = [model.shared(batch) for _ in range(200)]
    users = torch.stack([each.users_B for each in many])  # type: ignore[misc]
    items = torch.stack([each.items_BL for each in many])
    assert users.shape == (200, *batch.users_B.shape)
    n_users, n_items = split.data.n_users, split.data.n_items
    assert (users != batch.users_B).double().mean().item() == pytest.approx(0.9 * (1 - 1 / n_users), abs=0.01)
    assert (items != batch.items_BL).double().mean().item() == pytest.approx(0.2 * (1 - 1 / n_items), abs=0.01)
    assert all(each.targets_BL is batch.targets_BL for each in many)
    assert all(each.lengths_B is batch.lengths_B for each in many)


def test_nothing_is_replaced_where_it_recommends(split: Split) -> None:
    """Nor in training at chance 0; at chance 1 a row never speaks for its own user but by luck."""
    batch = few(split)
    sharing, keeping = built(split, replace_user=1.0, replace_item=1.0), built(split, replace_user=0, replace_item=0)
    wanted = keeping.eval().loss(batch).total
    torch.testing.assert_close(sharing.eval().loss(batch).total, wanted)
    torch.testing.assert_close(keeping.train().loss(batch).total, wanted)
    assert abs(sharing.train().loss(batch).total - wanted) > 0.01
    states = sharing.eval().user_states(batch).states_BD
    torch.testing.assert_close(sharing.user_states(batch).states_BD, states)
    torch.testing.assert_close(keeping.eval().user_states(batch).states_BD, states)


def test_labels_follow_replaced_items_only_when_asked(split: Split) -> None:
    """Of a replaced item the label is random; the position before it is to name what stands there now."""
    model, batch = built(split, replace_user=0.0, replace_item=0.3, labels_too=True).train(), few(split, 40)
    assert batch.targets_BL is not None
    torch.manual_seed(2)
    of = model.shared(batch)
    assert of.targets_BL is not None
    torch.manual_seed(2)  # the same draws, in the same order
    replace_randomly(torch.empty_like(batch.lengths_B), 0.0, split.data.n_users)
    replaced = replace_randomly(batch.items_BL, 0.3, split.data.n_items)[1].tolist()
    kept = followed = 0
    free = []
    for b, length in enumerate(batch.lengths_B.tolist()):
        for t in range(length):
            label, true = int(of.targets_BL[b, t]), int(batch.targets_BL[b, t])
            if replaced[b][t]:
                free.append(label == true)
            elif t + 1 < length and replaced[b][t + 1]:
                assert label == int(of.items_BL[b, t + 1])
                followed += label != true
            else:
                assert label == true
                kept += 1
    assert kept > 50
    assert followed > 10
    assert sum(free) < len(free) / 4


# ---- whose vector


def test_somebody_unknown_is_the_mean_of_all(split: Split) -> None:
    model, batch = built(split).eval(), replace(few(split), targets_BL=None)
    unknown = replace(batch, users_B=torch.full((9,), -1))
    with torch.no_grad():
        model.users.own[5] = torch.cat([model.users.own[:5], model.users.own[6:]]).mean(0)  # user 5 is the mean of all
    wanted = model.user_states(unknown).states_BD
    torch.testing.assert_close(model.user_states(replace(batch, users_B=None)).states_BD, wanted)
    fifth = model.user_states(replace(batch, users_B=torch.full((9,), 5))).states_BD
    torch.testing.assert_close(fifth, wanted)
    assert (model.user_states(batch).states_BD - wanted).abs().max() > 0.01
    mixed = model.user_states(replace(batch, users_B=torch.tensor([3, -1] * 4 + [-1]))).states_BD
    torch.testing.assert_close(mixed[1::2], wanted[1::2])
    assert (mixed[0] - wanted[0]).abs().max() > 0.001


def test_a_user_without_training_rows_begins_as_the_common_one(split: Split) -> None:
    torch.manual_seed(0)
    model = SSEPT(backbone=BACKBONE, user_width=6).build(split.data.sizes)
    vectors = model.users(torch.tensor([0, 3, -1]))
    assert torch.equal(vectors, model.users.common.expand(3, -1))


@pytest.mark.parametrize("kind", ["leave_last_out", "temporal"])
def test_cases_and_training_rows_agree_on_who_a_user_is(split: Split, kind: str) -> None:
    data = split.data
    both = leave_last_out(data) if kind == "leave_last_out" else temporal(data, valid_from=0.7, test_from=0.85)
    whole = {user: both.train.histories[user].tolist() for user in range(data.n_users)}
    for spans, batch in (
        (both.train, training_batch(windows(both.train, 50))),
        (both.test.history, history_batch(both.test.history, 50)),
    ):
        assert batch.users_B is not None
        assert len(spans) > 5
        for user, items, length in zip(batch.users_B.tolist(), batch.items_BL, batch.lengths_B.tolist(), strict=True):
            assert whole[user][:length] == items[:length].tolist()


@pytest.fixture(scope="module")
def run(split: Split, shop: Path, quick: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = SSEPT(backbone=BACKBONE, user_width=6, replace_user=0.3)
    folder = tmp_path_factory.mktemp("sse") / "run"
    train(Recipe(method=config, training=replace(quick, learning_rate=0.03)), split, folder)
    return folder


def test_a_fresh_process_knows_the_users_again(
    run: Path, split: Split, processes: dict[str, str], tmp_path: Path
) -> None:
    """Its ranks are ours to the digit, and not those of strangers."""
    command = ["forethought", "evaluate", str(run), "--out", str(tmp_path / "fresh")]
    subprocess.run(command, env=processes, check=True, capture_output=True)
    fresh = Evaluation.read(tmp_path / "fresh")
    model = load(run)
    assert np.array_equal(fresh.cases["rank"], evaluate(model, split).cases["rank"])
    cases = split.test.history
    batch = history_batch(cases, model.method.window).to(model.method.device)
    known, strangers = (model.method.user_states(each).states_BD for each in (batch, replace(batch, users_B=None)))
    assert (known - strangers).abs().max() > 0.01


def test_bare_histories_are_strangers_whatever_their_place(run: Path) -> None:
    """They were once taken for the first users of the training data."""
    model = load(run)
    one, two = model.items.id_list([1, 2, 3]), model.items.id_list([7, 5])
    first, second = model.recommend([one, two], k=5)
    second_again, first_again = model.recommend([two, one], k=5)
    assert first.items == first_again.items
    assert first.scores == pytest.approx(first_again.scores, abs=1e-6)
    assert second.scores == pytest.approx(second_again.scores, abs=1e-6)
    lonely = Batch(torch.tensor([[1, 2, 3]]), torch.tensor([3])).to(model.method.device)
    with torch.inference_mode():
        scores = model.method.catalogue().scores(model.method.user_states(lonely).states_BD)
    assert first.scores == pytest.approx([scores[0, i].item() for i in model.items.index_of(first.items)], abs=1e-5)


def test_other_data_of_the_same_items_is_refused(run: Path, split: Split) -> None:
    """Its user 3 is somebody else."""
    keep = np.ones(len(split.data.histories.items), bool)
    keep[: split.data.histories.offsets[1]] = False
    others = replace(split.data.where(keep), items=split.data.items)
    assert others.n_users == split.data.n_users - 1
    with pytest.raises(DataError, match=r"keeps a vector for each user .* evaluate it on the data it was trained on"):
        evaluate(run, replace(leave_last_out(split.data), data=others))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"user_width": 14}, "user_width is 14, but must be below the backbone's width of 14"),
        ({"user_width": 0}, "user_width is 0, but must be a whole number from 1 to 16,384"),
        ({"replace_user": 1.2}, "replace_user is 1.2, but must be a number from 0 to 1"),
        ({"replace_item": -0.1}, "replace_item is -0.1, but must be a number from 0 to 1"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SSEPT(backbone=BACKBONE, **{"user_width": 6} | settings)


def test_by_default_nearly_all_users_and_no_items_are_replaced(split: Split) -> None:
    """92 of 100 rows are read as somebody else's, in training and never afterwards."""
    torch.manual_seed(0)
    model = SSEPT(backbone=SASRec(width=16, ffn_width=24), user_width=8).build(DataSizes(split.data.n_items, 1000))
    rows = 4000
    batch = Batch(
        torch.ones(rows, 2, dtype=torch.int64),
        torch.full((rows,), 2),
        torch.ones(rows, 2, dtype=torch.int64),
        None,
        torch.full((rows,), 7),
        2 * rows,
    )
    shared = model.shared(batch)
    assert shared.users_B is not None
    assert (shared.users_B != 7).double().mean().item() == pytest.approx(0.92 * 0.999, abs=0.015)
    assert torch.equal(shared.items_BL, batch.items_BL)
    seen: list[Batch] = []
    model.shared = lambda given: seen.append(given) or given  # type: ignore[method-assign]
    model.eval()
    model.loss(batch)
    assert seen == []
    model.train()
    model.loss(batch)
    assert len(seen) == 1


def test_what_a_stranger_gets_is_measured(run: Path, split: Split, tmp_path: Path) -> None:
    """Every history with the mean user, case by case as `recommend` has it; held against the run's own."""
    model, few_draws = load(run), EvaluationConfig(resamples=20)
    known, strangers = (evaluate(model, split, replace(few_draws, unknown_users=asked)) for asked in (False, True))
    assert "unknown_users" not in known.protocol
    assert strangers.protocol["unknown_users"] is True
    assert "read as UNKNOWN users' histories" in str(strangers)
    assert strangers.cases["user_id"].equals(known.cases["user_id"])
    histories = [model.items.id_list(row) for row in map(split.test.history.__getitem__, range(len(split.test)))]
    lists = model.recommend(histories, k=split.data.n_items, exclude_history=model.about["exclude_history"])
    for rank, target, answer in zip(strangers.cases["rank"], strangers.cases["target_id"], lists, strict=True):
        assert answer.items.index(target) + 1 == rank
    assert (known.cases["rank"] != strangers.cases["rank"]).any()
    both = compare({"known": known, "strangers": strangers})
    assert "though vectors of users were trained: strangers." in str(both)
    with pytest.raises(DataError, match="The seeds of 'one' knew their users or did not"):
        compare({"one": [known, strangers], "other": evaluate(model, split, EvaluationConfig(resamples=21))})
    noisy = EvaluationConfig(resamples=20, noise=Noise(kind="replace", share=0.3), noise_seeds=1)
    ranks = [evaluate(model, split, replace(noisy, unknown_users=asked)).cases["rank"] for asked in (False, True)]
    assert (ranks[0] != ranks[1]).any()
    sampled = EvaluationConfig(resamples=20, sample=Sample(negatives=5))
    ranks = [evaluate(model, split, replace(sampled, unknown_users=asked)).cases["rank"] for asked in (False, True)]
    assert (ranks[0] != ranks[1]).any()


def test_others_have_nobody_to_forget(split: Split, quick: Training, sasrec: SASRec, tmp_path: Path) -> None:
    plain_one = train(Recipe(method=sasrec, training=replace(quick, epochs=1)), split, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"keeps no vectors of users, .* \(on the command line --unknown-users\)"):
        evaluate(plain_one, split, EvaluationConfig(unknown_users=True))


def test_the_command_line_forgets_users_and_keeps_the_runs_own(run: Path, tmp_path: Path, capsys: Any) -> None:
    main(["evaluate", str(run), "--unknown-users", "--resamples", "20", "--out", str(tmp_path / "strangers")])
    assert Evaluation.read(tmp_path / "strangers").protocol["unknown_users"] is True
    before = sorted(path.name for path in run.iterdir())
    main(["evaluate", str(run), "--unknown-users", "--resamples", "20"])
    assert "Not the run's own evaluation" in " ".join(capsys.readouterr().err.split())
    assert sorted(path.name for path in run.iterdir()) == before
