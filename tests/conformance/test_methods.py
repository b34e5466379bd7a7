"""One battery for every method the command line knows: what training, evaluation and the recommender rely on."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_methods import built, small

from forethought.config import Recipe
from forethought.data.batches import Batch, history_batch, training_batch, windows
from forethought.data.evidence import Evidence
from forethought.data.features import Features
from forethought.data.histories import Cases, Histories, Spans
from forethought.data.neighbours import co_occurrence
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.evaluation.metrics import per_case
from forethought.evaluation.ranking import rank_cases
from forethought.methods.interface import DenseStates, Method, UserRepresentation
from forethought.methods.item_tokens import TokenItems, TokenMethodConfig
from forethought.methods.items import ItemTable
from forethought.reasoning.halting import Halting, Rule
from forethought.recipes import METHODS
from forethought.recommender import load
from forethought.runs import train
from forethought.training.interrupt import Interrupted
from forethought.training.progress import Quiet
from forethought.training.settings import Training

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
STEPS = {"rearec-erl": (2, 2), "rearec-prl": (2, 2), "dtrec": (1, 3), "lares": (3, 3), "reg4rec": (3, 3)}
STEPS |= {f"{name}-authors": STEPS[name] for name in ("rearec-erl", "rearec-prl", "lares")}


def training_of(name: str, quick: Training, **changed: Any) -> Training:
    """A quick one; of a method that is fitted in closed form all that can be said is where."""
    if METHODS[name]().method.closed_form:
        return Training(device=changed["device"])
    return replace(quick, **changed)


@dataclass
class Given:
    """A method with weights large enough that mistakes show, on the shop."""

    method: Method
    split: Split
    device: torch.device

    def batch(self, rows: np.ndarray | None = None) -> Batch:
        """The histories of these test cases, of the first twenty if not said."""
        histories = self.split.test.history.take(np.arange(20) if rows is None else rows)
        return history_batch(histories, self.method.window).to(self.device)

    def states(self, batch: Batch, halting: Halting | None = None) -> torch.Tensor:
        """What histories come to: where that is no state, the scores of all items."""
        with torch.inference_mode():
            represented = self.method.user_states(batch, halting)
            if isinstance(represented, DenseStates):
                return represented.states_BD
            return scores_of_all(self.method, represented)

    def metrics(self, cases: Cases, batch: int = 1024) -> np.ndarray:
        return metrics(self.method, cases, self.device, batch)


def scores_of_all(method: Method, represented: UserRepresentation) -> torch.Tensor:
    every_BN = torch.arange(method.n_items, device=method.device).expand(len(represented), -1)
    return method.scores_of(represented, every_BN)


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[each for each in METHODS if not METHODS[each]().method.closed_form])
def stepped(request: pytest.FixtureRequest) -> str:
    """The name of a method that is trained step by step."""
    return request.param


@pytest.fixture(params=TOLERANCE, ids=str)
def given(request: pytest.FixtureRequest, name: str, split: Split, device: torch.device) -> Given:
    torch.manual_seed(0)
    method = built(name, split).to(request.param).eval()
    if not method.stages():
        method.fit_closed_form(split.train)
    for parameter in method.parameters() if method.stages() else ():
        parameter.data += torch.randn_like(parameter) * 0.1
    method.to(device).begin_epoch(0)
    return Given(method, split, device)


def close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    tolerance = TOLERANCE[got.dtype]
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


# ---- reading


def test_one_row_equals_many(given: Given) -> None:
    many = given.states(given.batch())
    for row in range(len(many)):
        close(given.states(given.batch(np.array([row])))[0], many[row])


def test_padding_changes_nothing(given: Given) -> None:
    batch = given.batch()
    wanted = given.states(batch)
    n_more = 0 if batch.items_BL.shape[1] == given.method.window else 1
    padding = torch.nn.functional.pad(~batch.valid_BL(), (0, n_more), value=True)

    def padded(values: torch.Tensor, by: int) -> torch.Tensor:
        return torch.nn.functional.pad(values, (0, n_more)).masked_fill(padding, by)

    assert batch.times_BL is not None
    for item, time in ((0, 0), (39, 10**10)):
        changed = replace(batch, items_BL=padded(batch.items_BL, item), times_BL=padded(batch.times_BL, time))
        close(given.states(changed), wanted)


def test_only_the_window_is_read(given: Given) -> None:
    """A longer history leads where its last items lead."""
    spans = given.split.test.history
    long = np.flatnonzero(spans.lengths > given.method.window)
    if not len(long):
        pytest.skip("no history is longer than the window")
    whole, cut = spans.take(long), spans.take(long).last(given.method.window)
    window = given.method.window
    both = (given.states(history_batch(rows, window).to(given.device)) for rows in (whole, cut))
    close(*both)


def test_steps_are_told(given: Given, name: str) -> None:
    thought = given.method.user_states(given.batch())
    least, most = STEPS.get(name, (0, 0))
    assert ((thought.steps_B >= least) & (thought.steps_B <= most)).all()
    if isinstance(thought, DenseStates):
        assert thought.states_BD.dtype == given.method.catalogue().vectors_ND.dtype
    else:
        with pytest.raises(ConfigError, match="no vectors of items"):
            given.method.catalogue()


def test_every_rule_it_names_is_obeyed(given: Given, name: str) -> None:
    method, batch = given.method, given.batch()
    own = method.resolve_halting(None)
    assert (own is None) == (method.reasoning is None)
    if own is None:
        with pytest.raises(ConfigError, match="does not reason"):
            method.resolve_halting(Halting())
        return
    assert own.max_steps is not None
    assert method.reasoning is not None
    assert own.rule in method.reasoning.rules
    close(given.states(batch, own), given.states(batch))
    for rule in get_args(Rule):
        asked = Halting(rule=rule, max_steps=1)
        if rule in method.reasoning.rules:
            assert method.user_states(batch, method.resolve_halting(asked)).steps_B.tolist() == [1] * 20
        else:
            with pytest.raises(ConfigError, match=f"cannot halt by '{rule}'"):
                method.resolve_halting(asked)
    assert method.reasoning is not None
    deeper = replace(own, max_steps=method.reasoning.depth + 1)
    if name.startswith("lares"):  # its steps are all the same
        assert method.user_states(batch, method.resolve_halting(deeper)).steps_B.tolist() == [deeper.max_steps] * 20
        return
    with pytest.raises(ConfigError, match="cannot take"):
        method.resolve_halting(deeper)


# ---- training


def test_an_empty_share_adds_nothing_and_reaches_all_parameters(given: Given) -> None:
    """As a process gets it when a batch has fewer rows than there are processes."""
    if not given.method.stages():
        pytest.skip("it is fitted in closed form")
    given.method.train()
    rows = windows(given.split.train, given.method.window).take(np.arange(1))
    losses = given.method.loss(training_batch(rows, rank=1, world=2).to(given.device))
    losses.total.backward()
    assert losses.total.item() == 0.0
    trained = [(name, p.grad) for name, p in given.method.named_parameters() if p.requires_grad]
    assert [name for name, gradient in trained if gradient is None or gradient.abs().sum() != 0] == []


def test_shares_of_a_batch_add_up(stepped: str, split: Split, device: torch.device) -> None:
    """Losses and gradients of two processes sum to those of one; of random masks or beginnings, only the weights."""
    torch.manual_seed(0)
    method = built(stepped, split).double().to(device)
    method.begin_epoch(9)
    rows = windows(split.train, method.window).take(np.arange(9))

    def gradients(world: int) -> list[torch.Tensor]:
        method.zero_grad()
        for rank in range(world):
            method.loss(training_batch(rows, rank=rank, world=world).to(device)).total.backward()
        return [p.grad.clone() for p in method.parameters() if p.grad is not None]

    one, two = gradients(1), gradients(2)
    assert len(one) == len(two) == sum(p.requires_grad for p in method.parameters())
    if stepped in ("sasrec", "gru4rec", "hstu", "lightrec"):
        for got, wanted in zip(two, one, strict=True):
            close(got, wanted)


def test_bfloat16_products_leave_loss_and_gradients_nearly_as_they_were(
    stepped: str, split: Split, device: torch.device
) -> None:
    """Under autocast, as all of a training is on a GPU."""
    torch.manual_seed(0)
    method = built(stepped, split).to(device)
    method.begin_epoch(9)
    batch = training_batch(windows(split.train, method.window).take(np.arange(40))).to(device)

    def made(narrow: bool) -> tuple[float, torch.Tensor]:
        torch.manual_seed(1)
        method.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=narrow):
            total = method.loss(batch).total
        total.backward()
        return total.item(), torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])

    (wide, wanted), (narrow, got) = made(narrow=False), made(narrow=True)
    assert narrow != wide
    assert narrow == pytest.approx(wide, rel=0.02)
    assert torch.nn.functional.cosine_similarity(got, wanted, dim=0) > 0.95


class Stop(Quiet):
    """Ctrl-C in the fourth step."""

    left = 3

    def step(self, losses: dict[str, float], positions: int) -> None:
        if self.left == 0:
            raise Interrupted
        self.left -= 1


def test_features_of_items_are_read_trained_kept_and_resumed(
    stepped: str, split: Split, quick: Training, tmp_path: Path
) -> None:
    """Both tables of a method with two; a run that stopped goes on to the same weights; one loaded ranks alike."""
    training = replace(quick, epochs=1, checkpoint_every_s=1e-9, device="cpu")
    recipe = Recipe(method=small(stepped), training=training, features=Features(use="categories,price"))
    run = train(recipe, split, tmp_path / "run")
    with pytest.raises(Interrupted):
        train(recipe, split, tmp_path / "stopped", observer=Stop())
    resumed = train(recipe, split, tmp_path / "stopped", resume=True).method.state_dict()
    for key, tensor in run.method.state_dict().items():
        assert torch.equal(resumed[key], tensor), key
    tables = [part for part in run.method.modules() if isinstance(part, ItemTable)]
    tokens = [part for part in run.method.modules() if isinstance(part, TokenItems)]
    assert len(tables) == (0 if tokens else 2 if stepped == "igr-sr" else 1)
    for part in tokens:  # items are nothing else than what was made of their features
        assert [each.get("name") for each in part.made.inputs][:2] == ["categories", "price"]
    for table in tables:
        assert table.features is not None
        assert [each.shape.name for each in table.features.maps] == ["categories", "price"]
        assert table.features.maps[0].values.min() >= 0
        ids = table.all_ids()
        assert (table.vectors() - ids).abs().mean() > 0.01 * ids.abs().mean()
    loaded = load(tmp_path / "run", device=run.method.device.type)
    first, again = (rank_cases(each.method, split.test, exclude_history=False).ranks for each in (run, loaded))
    assert np.array_equal(first, again)
    with pytest.raises(ConfigError, match=r"configured otherwise .*features"):
        train(replace(recipe, features=None), split, tmp_path / "run", resume=True)


def test_evidence_speaks_beside_it(
    stepped: str, split: Split, quick: Training, tmp_path: Path, device: torch.device
) -> None:
    """Fitted on the validation part, saved, loaded; ranks and lists are those of whole matrices."""
    training = replace(quick, epochs=1, device=device.type, precision="32")
    run = train(Recipe(method=small(stepped), training=training, evidence=Evidence()), split, tmp_path / "run")
    evidence = run.method.evidence
    assert evidence is not None
    assert [shape.name for shape in evidence.shapes] == ["co_occurrence"]
    with torch.no_grad():
        evidence.weights_E.fill_(1.5)
    again, cases = load(run.save(tmp_path / "copy"), device=device.type), split.test
    first, second = (rank_cases(m.method, cases, exclude_history=True, k=10) for m in (run, again))
    assert np.array_equal(first.ranks, second.ranks)
    assert first.lists is not None
    assert second.lists is not None
    assert np.array_equal(first.lists, second.lists)
    scores_BN = _with_evidence(run.method, split, cases)
    for row, (target, rank, items) in enumerate(zip(cases.targets, first.ranks, first.lists, strict=True)):
        met = cases.met.take(np.array([row]))
        scores_BN[row, met.histories.items[met.starts[0] : met.ends[0]]] = -np.inf
        scores = scores_BN[row]
        assert 1 + (scores > scores[target] + 1e-5).sum() <= rank <= (scores > scores[target] - 1e-5).sum()
        assert (np.diff(scores[items]) <= 1e-5).all()
        assert scores[items].min() >= np.delete(scores, items).max() - 1e-5
    run.method.evidence = None
    assert not np.array_equal(rank_cases(run.method, cases, exclude_history=True).ranks, first.ranks)


def _with_evidence(method: Method, split: Split, cases: Cases) -> np.ndarray:
    """The model's scores of all items, and 1.5 times what the last ten items were met with in training."""
    batch, temperature = history_batch(cases.history, method.window).to(method.device), 1.0
    with torch.inference_mode():
        represented = method.user_states(batch)
        scores_BN = scores_of_all(method, represented).double().cpu().numpy()
        if isinstance(represented, DenseStates):
            temperature = method.catalogue().temperature
    table_NN = co_occurrence(split.train, split.data.n_items).matrix().toarray()
    for row, (items_L, length) in enumerate(zip(batch.items_BL.tolist(), batch.lengths_B.tolist(), strict=True)):
        said_N = sum(0.8**age * table_NN[item] for age, item in enumerate(items_L[:length][::-1][:10]))
        share_N = said_N / np.maximum(np.max(said_N), 1e-12)
        scores_BN[row] += 1.5 * temperature * np.where(share_N >= 0.2, share_N, 0.0)
    return scores_BN


def test_overfits_twenty_histories(stepped: str, split: Split, device: torch.device) -> None:
    if stepped == "lares-authors":
        pytest.skip("half a minute: LARES learns them above, and test_authors.py holds its losses against the paper's")
    torch.manual_seed(0)
    method = built(stepped, split, width=32).to(device)
    spans = split.test.history.take(np.arange(20)).last(6)
    rows = windows(Spans(spans.histories, spans.users, spans.starts, spans.ends + 1), method.window)
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-2)
    batch = training_batch(rows).to(device)
    method.begin_epoch(0)
    for _ in range(8):  # at most: whoever has learned them needs no more steps
        for _ in range(50):
            method.loss(batch).total.backward()
            optimiser.step()
            optimiser.zero_grad()
        ranks = rank_cases(method, Cases(spans, split.test.targets[:20]), exclude_history=False).ranks
        if (ranks == 1).mean() >= 0.9:
            return
    pytest.fail(f"after 400 steps the ranks are {ranks}")


def test_resume_equals_uninterrupted(
    stepped: str, split: Split, quick: Training, tmp_path: Path, device: torch.device
) -> None:
    settings = replace(quick, checkpoint_every_s=1e-9, device=device.type, precision="32")
    config = small(stepped, dropout=0.3)
    whole = train(Recipe(method=config, training=settings), split, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(Recipe(method=config, training=settings), split, tmp_path / "run", observer=Stop())
    resumed = train(Recipe(method=config, training=settings), split, tmp_path / "run", resume=True)
    for name_, tensor in whole.method.state_dict().items():
        assert torch.equal(resumed.method.state_dict()[name_], tensor), name_


def test_save_and_load(name: str, split: Split, quick: Training, tmp_path: Path, device: torch.device) -> None:
    config = small(name)
    model = train(
        Recipe(method=config, training=training_of(name, quick, epochs=1, device=device.type, precision="32")),
        split,
        tmp_path / "run",
    )
    again = load(model.save(tmp_path / "copy"))
    assert again.config.method == config
    assert load_file(tmp_path / "copy/model.safetensors").keys() == model.method.state_dict().keys()
    first, second = (rank_cases(m.method, split.test, exclude_history=True, k=10) for m in (model, again))
    assert np.array_equal(first.ranks, second.ranks)
    assert first.lists is not None
    assert second.lists is not None
    assert np.array_equal(first.lists, second.lists)


def test_explains_itself(name: str, split: Split, quick: Training, tmp_path: Path, device: torch.device) -> None:
    """Every step is told of, and the answer is what is recommended."""
    if isinstance(small(name), TokenMethodConfig):
        pytest.skip("what is told of tokens has tests of its own")
    settings = training_of(name, quick, epochs=1, device=device.type, precision="32")
    model = train(Recipe(method=small(name), training=settings), split, tmp_path / "run")
    history, (target,) = model.items.id_list([3, 1, 4]), model.items.id_list([9])
    told = model.explain(history, k=4, target=target, times=[1, 2, 3])
    (found,) = model.recommend([history], k=4, times=[[1, 2, 3]])
    assert [one.item for one in told.answer] == found.items
    if model.method.stages():
        assert len(told.steps) == 1 + STEPS.get(name, (0, 0))[1]
        assert [step.stopped for step in told.steps].count(True) == 1
    else:  # it takes no step, and says what adds up to each score
        assert told.steps == []
        assert told.contributions is not None
        assert len(told.contributions) == len(told.movements)
    assert all(movement.rank is not None for movement in told.movements)
    json.dumps(told.to_json(), allow_nan=False)


# ---- metrics


def metrics(method: Method, cases: Cases, device: torch.device, batch: int = 1024) -> np.ndarray:
    ranks = rank_cases(method, cases, exclude_history=True, batch=batch).ranks
    return np.array([values.mean() for values in per_case(ranks).values()])


def test_metrics_do_not_depend_on_the_batch(given: Given) -> None:
    tolerance = TOLERANCE[next(given.method.parameters()).dtype]
    wanted = given.metrics(given.split.test, 4096)
    for batch in (1, 7, 64):
        assert given.metrics(given.split.test, batch) == pytest.approx(wanted, abs=tolerance)


def test_metrics_do_not_depend_on_the_order_of_items(given: Given) -> None:
    """Item rows renamed at random, in the data and in every tensor that has one row an item, or by fitting anew."""
    n_items, cases = given.split.data.n_items, given.split.test
    row_of = np.random.default_rng(0).permutation(n_items)  # old row -> new row
    old_rows = torch.from_numpy(np.argsort(row_of)).to(given.device)
    shuffled = copy.deepcopy(given.method)
    for table in (part for part in shuffled.modules() if isinstance(part, ItemTable)):
        for name, tensor in table.state_dict(keep_vars=True).items():
            assert len(tensor) == n_items or name in ("words_MCD", "maps_MDD")  # shared by all items
            tensor.data = tensor.data[old_rows] if len(tensor) == n_items else tensor.data
    for tokens in (part for part in shuffled.modules() if isinstance(part, TokenItems)):
        tokens.codes_NM, tokens.category_N = tokens.codes_NM[old_rows], tokens.category_N[old_rows]
    histories = cases.history.histories
    renamed = Histories(row_of[histories.items].astype(np.int32), histories.offsets, histories.times)
    others = Cases(replace(cases.history, histories=renamed), row_of[cases.targets])
    if not shuffled.stages():
        shuffled.fit_closed_form(replace(given.split.train, histories=renamed))
    tolerance = TOLERANCE[next(given.method.parameters()).dtype]
    assert metrics(shuffled, others, given.device) == pytest.approx(given.metrics(cases), abs=tolerance)


def test_lists_agree_with_ranks(given: Given) -> None:
    """Where scores are equal, the rank is the middle of their places."""
    cases, n_items = given.split.test, given.split.data.n_items
    ranked = rank_cases(given.method, cases, exclude_history=True, k=n_items)
    assert ranked.lists is not None
    every_BN = torch.arange(n_items, device=given.device).expand(len(cases), -1)
    with torch.inference_mode():
        represented = given.method.user_states(given.batch(np.arange(len(cases))))
        scores_BN = given.method.scores_of(represented, every_BN).cpu().numpy()
    for rank, target, items, scores in zip(ranked.ranks, cases.targets, ranked.lists, scores_BN, strict=True):
        place, listed = items.tolist().index(target), scores[items[items >= 0]]
        if given.method.stages():
            assert place + 1 == rank
        else:
            assert np.flatnonzero(listed == scores[target]).mean() + 1 == rank
