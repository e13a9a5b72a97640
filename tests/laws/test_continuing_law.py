"""Laws Company, Segments, Replay and Budget for trials that go on: from where they stood, or from another's weights."""

import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import vtune
from tests.laws.population import complete, digits, make_queue
from vtune.progress import Silent
from vtune.protocols import FRESH, Leg, Plan, Strategy, Training
from vtune.results.store import read_folder
from vtune.space import sample_points
from vtune.training.dealer import Dealer
from vtune.training.trained import trained_module
from vtune.training.weights import Weights
from vtune.training.worker import Stopped, Worker

SPACE = {
    "optimizer": vtune.choice(["momentum", "adam"]),
    "learning_rate": vtune.loguniform(1e-3, 1e25),  # some diverge
    "momentum": vtune.reverse_loguniform(0.5, 0.99),
    "batch_size": vtune.choice([32, 64]),
    "hidden": vtune.choice([4, 8]),
    "layers": 1,
}
EPOCHS = 6
NUM_TRIALS = 16

Row = tuple[int, int, int]
"""Trial id, parent, budget."""

HALVING: list[list[Row]] = [
    [(trial, FRESH, 1) for trial in range(12)],
    [(trial, trial, 3) for trial in (0, 1, 4, 5, 7, 10)],
    [(trial, trial, 6) for trial in (1, 7, 10)],
]
FAMILY: list[list[Row]] = [  # some go on, some start from another's weights, and a child has children
    [(trial, FRESH, 2) for trial in range(8)],
    [(0, 0, 4), (1, 1, 4), (8, 0, 4), (9, 5, 4), (10, 0, 3)],
    [(0, 0, 6), (8, 8, 6), (11, 8, 6), (12, 9, 5)],
]


@cache
def scripted(
    script: tuple[tuple[Row, ...], ...], keeps: Any = "round", points: tuple[tuple[int, int], ...] = ()
) -> Any:
    """A strategy whose plans are fixed; ``points`` gives a trial the point of another."""
    lanes = max(map(len, script))
    padded = np.array([[*plan, *[(-1, -1, 1)] * (lanes - len(plan))] for plan in (*script, ())], np.int32)
    drawn_as = np.array([dict(points).get(trial, trial) for trial in range(NUM_TRIALS)], np.int32)

    @cache
    def factory(axes: Any, *, trials: int, epochs: int, earlier: Sequence[int] = ()) -> Strategy:
        def ask(key: Any, current: Any) -> Plan:
            trial_id, parent, budget = jnp.asarray(padded)[current].T
            drawn = sample_points(key, jnp.asarray(drawn_as)[trial_id], len(axes))
            return Plan(trial_id, parent, drawn, budget, trial_id >= 0)

        return Strategy(
            init=lambda key: jnp.zeros((), jnp.int32),
            ask=ask,
            tell=lambda current, plan, scores: current + 1,
            done=lambda current: current >= len(script),
            max_lanes=lanes,
            keeps=keeps,
        )

    return factory


def search(script: Sequence[Sequence[Row]] = HALVING, **changes: Any) -> vtune.Study:
    strategy = scripted(
        tuple(map(tuple, script)), **{name: changes.pop(name) for name in ("keeps", "points") if name in changes}
    )
    plain = {"trials": NUM_TRIALS, "epochs": EPOCHS, "chunk": 2, "devices": 1, "progress": False}
    arguments = {"model_fn": vtune.MLP, "space": SPACE, "data": digits(96, 50), "strategy": strategy} | plain
    return vtune.search(**(arguments | changes))


def told(study: vtune.Study) -> pd.DataFrame:
    return study.trials.drop(columns=["finished_at", "seconds"])


def assert_same(study: vtune.Study, truth: vtune.Study) -> None:
    pd.testing.assert_frame_equal(study.table.seed_curves, truth.table.seed_curves, check_exact=True)
    pd.testing.assert_frame_equal(told(study), told(truth), check_exact=True)
    assert study.lineages == truth.lineages


@pytest.fixture(scope="module")
def twice(case):
    return search(case[0], seeds_per_trial=2)


@pytest.fixture(scope="module", params=["halving", "family"])
def case(request):
    script = {"halving": HALVING, "family": FAMILY}[request.param]
    study = search(script)
    assert {"complete", "pruned", "diverged"} == set(study.trials["status"])
    return script, study


def test_a_trial_that_waited_is_the_trial_that_was_trained_at_once(case):
    # Law Segments, over plans: the survivors were repacked into other chunks.
    script, study = case
    whole = search([[(trial, FRESH, EPOCHS) for trial in range(NUM_TRIALS)]])
    fresh = study.trials.index[study.trials["parent"].isna()]
    assert study.trials.loc[fresh, "epochs"].nunique() > 1
    for trial in fresh:
        epochs = study.trials.loc[trial, "epochs"]
        np.testing.assert_array_equal(study.trial(trial).curves, whole.trial(trial).curves[:epochs])


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.usefixtures("workers_on")
def test_devices_do_not_matter(case, devices):
    script, study = case
    assert_same(search(script, devices=devices), study)


@pytest.mark.parametrize("keeps", ["all", "none"])
def test_what_is_kept_does_not_matter(case, keeps):
    script, study = case  # of what is not kept, all legs are trained again
    assert_same(search(script, keeps=keeps), study)


def test_weights_that_do_not_fit_in_memory_are_trained_again(case, monkeypatch):
    script, study = case
    kept = []
    put = Weights.put
    monkeypatch.setattr(Weights, "put", lambda self, *held: (setattr(self, "most_bytes", 0), put(self, *held)))
    monkeypatch.setattr(Weights, "get", lambda self, training: kept.append(self._lanes.get(training.end)))
    assert_same(search(script), study)
    assert kept
    assert not any(kept)


def test_lost_legs_are_trained_again_before_what_goes_on_from_them():
    queue = make_queue({**SPACE, "optimizer": "momentum"}, digits(96, 50), epochs=EPOCHS)
    row = {"optimizer": "momentum", "learning_rate": 1e-3, "hidden": 8, "layers": 1}
    small, large = complete([{**row, "batch_size": size} for size in (32, 64)])
    ends = [(large, (2, 3, 4)), (small, (1, 2, 3, 4))]  # the smaller batch has a leg more, and comes later in a chunk
    trainings = [
        Training(tuple(Leg(trial, row, until) for until in untils)) for trial, (row, untils) in enumerate(ends)
    ]
    (chunk,) = queue.job.chunks(trainings)
    again = queue.workers[0].train(chunk).curves
    for curve, (row, untils) in zip(again, ends, strict=True):
        (alone,) = queue.job.chunks([Training((Leg(9, row, untils[-1]),))])
        np.testing.assert_array_equal(curve, queue.workers[0].train(alone).curves[0, untils[-2] :])


DEEP = 300


@pytest.fixture(scope="module")
def deep():
    """A lineage of one epoch a leg, deeper than Python's stack, of which nothing is known any more."""
    queue = make_queue({**SPACE, "optimizer": "momentum"}, digits(96, 50), epochs=DEEP)
    (row,) = complete([{"optimizer": "momentum", "learning_rate": 1e-3, "batch_size": 32, "hidden": 8, "layers": 1}])
    return queue, row, Training(tuple(Leg(trial, row, trial + 1) for trial in range(DEEP)))


def test_a_deep_lineage_is_trained_again(deep):
    queue, row, training = deep
    _, lane = queue.replay(training)
    _, at_once = queue.replay(Training((Leg(0, row, DEEP),)))
    jax.tree.map(np.testing.assert_array_equal, lane, at_once)


def test_what_is_trained_again_can_be_broken_off(deep):
    queue, row, training = deep
    queue.keep_only(())
    (chunk,) = queue.job.chunks([training])
    calls = iter([False] * 4 + [True])  # when it is compiled, and after each leg
    with pytest.raises(Stopped):
        queue.workers[0].train(chunk, lambda: next(calls))
    assert {until for _, _, until in queue.weights._lanes} == {1, 2, 3}


def test_who_is_told_to_stop_while_a_program_compiles_does_not_train_it(deep, monkeypatch):
    queue, row, _ = deep
    (chunk,) = queue.job.chunks([Training((Leg(0, row, 1),))])
    monkeypatch.setattr(Worker, "_begin", lambda *_: pytest.fail("it trains"))
    with pytest.raises(Stopped):
        queue.workers[0].train(chunk, lambda: True)


class Stops(Silent):
    """Interrupts a search after so many results."""

    def __init__(self, after: int):
        self._left = after

    def trials_done(self, count, num_diverged, best_score):
        self._left -= 1
        if self._left <= 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 5, 7, 10])
def test_stopped_and_started_again_it_is_the_search_that_was_never_stopped(tmp_path, case, after):
    script, truth = case
    with pytest.raises(KeyboardInterrupt):
        search(script, folder=tmp_path, progress=Stops(after))
    assert_same(search(script, folder=tmp_path, devices=2), truth)


def test_what_the_folder_knows_is_not_lost_while_it_is_told_again(tmp_path, case, monkeypatch):
    script, _ = case
    search(script, folder=tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("vtune.training.worker.Worker.train", lambda *_: pytest.fail("it trains"))
    assert_same(search(script, folder=tmp_path), case[1])
    assert {path: path.read_bytes() for path in files} == files


# From another's weights


def test_a_child_with_its_parents_hyperparameters_is_its_parent():
    study = search([[(0, FRESH, 2), (1, FRESH, 2)], [(1, 1, 6), (2, 1, 6)]], points=((2, 1),))
    np.testing.assert_array_equal(study.trial(2).curves, study.trial(1).curves)
    assert len(study.trial(2).curves) == EPOCHS
    assert study.trials["parent"].tolist() == [pd.NA, pd.NA, 1]


def test_a_child_takes_over_the_structure_of_its_parent_and_no_more(case):
    script, study = case
    children = study.trials[study.trials["parent"].notna()]
    parents = study.trials.loc[children["parent"].astype(int)]
    for name in ("hidden", "batch_size", "optimizer"):
        assert children[name].tolist() == parents[name].tolist()
    assert all(children["learning_rate"].to_numpy() != parents["learning_rate"].to_numpy())
    points = study.plans.table.reset_index().drop_duplicates("trial_id").set_index("trial_id")
    for trial, row in children.iterrows():
        assert points.loc[trial, "point.hidden"] == points.loc[row["parent"], "point.hidden"]


def test_a_childs_curves_begin_with_its_parents():
    study = search(FAMILY)
    for child, parent, forked in ((8, 0, 2), (10, 0, 2), (11, 8, 4)):
        np.testing.assert_array_equal(study.trial(child).curves[:forked], study.trial(parent).curves[:forked])
    assert [leg.trial_id for leg in study.lineages[11]] == [0, 8, 11]


@pytest.mark.long
def test_the_network_of_any_trial_comes_back_with_its_score(case):
    _, study = case
    x, y = study.data.valid
    for trial in study.trials.index[np.isfinite(study.trials["score"])]:
        model = trained_module(
            study.executor, study.job, Training(study.lineages[trial]).cut(study.trial(trial).epochs)
        )
        assert float(jnp.mean(jnp.argmax(model(x), axis=-1) == y)) == pytest.approx(study.trials["score"][trial])


# What is ranked together


def test_scores_of_unlike_budgets_are_not_compared(case):
    _, study = case
    ranked = study.top(NUM_TRIALS)
    finite = ranked[np.isfinite(ranked["score"])]
    assert finite["budget"].is_monotonic_decreasing
    assert set(finite.loc[finite["status"] == "complete", "budget"]) == {EPOCHS}
    for _, group in finite.groupby("budget"):
        assert group["score"].is_monotonic_decreasing


def test_weights_that_nobody_may_ask_for_are_let_go():
    weights = search(FAMILY).executor.weights
    assert {trial for trial, *_ in weights._lanes} <= {trial for trial, *_ in FAMILY[-1]}


# Seeds


def test_each_trial_is_trained_under_each_seed_index_and_ranked_by_the_mean(case, twice):
    _, study = case
    curves = twice.table.seed_curves
    pd.testing.assert_frame_equal(curves.xs(0, level="seed"), study.curves, check_exact=True)
    for trial in twice.trials.index[np.isfinite(twice.trials["score"])]:
        first, second = (curves.loc[trial, seed].to_numpy() for seed in (0, 1))
        assert not np.array_equal(first, second)
        np.testing.assert_array_equal(twice.trial(trial).curves, (first + second) / 2)
        assert twice.trials["score"][trial] == (first[-1, -1] + second[-1, -1]) / 2


def test_what_diverges_under_one_seed_index_has_diverged(case, twice):
    _, study = case
    assert set(study.trials.index[study.trials["status"] == "diverged"]) <= set(
        twice.trials.index[twice.trials["status"] == "diverged"]
    )
    held = twice.trials[twice.trials["status"] == "diverged"]
    assert held["score"].isna().all()


@pytest.mark.parametrize("after", [3, 8])
def test_a_search_with_seeds_may_be_stopped_too(tmp_path, case, twice, after):
    with pytest.raises(KeyboardInterrupt):
        search(case[0], folder=tmp_path, progress=Stops(after), seeds_per_trial=2)
    assert_same(search(case[0], folder=tmp_path, seeds_per_trial=2), twice)


def test_seeds_are_part_of_what_a_folder_is_asked_for(tmp_path):
    search(folder=tmp_path, seeds_per_trial=2)
    with pytest.raises(ValueError, match=r"seeds_per_trial=2, and this one has seeds_per_trial=3"):
        search(folder=tmp_path, seeds_per_trial=3)
    assert set(read_folder(tmp_path).curves.index.get_level_values("seed")) == {0, 1}


@pytest.mark.long
@pytest.mark.parametrize("select", ["last", "best_epoch"])
def test_a_strategy_is_told_of_the_epochs_that_a_trial_trained_itself(select):
    heard: dict[tuple[int, int], float] = {}

    def factory(axes: Any, *, trials: int, epochs: int) -> Strategy:
        strategy = scripted(tuple(map(tuple, FAMILY)))(axes, trials=trials, epochs=epochs)

        def tell(current: Any, plan: Plan, scores: Any) -> Any:
            ids, budgets = (column[plan.active].tolist() for column in (plan.trial_id, plan.budget))
            heard.update(zip(zip(ids, budgets, strict=True), np.asarray(scores)[plan.active].tolist(), strict=True))
            return strategy.tell(current, plan, scores)

        return strategy._replace(tell=tell, is_traceable=False)

    study = search(strategy=factory, select=select, metric="loss")
    born = {8: 2, 9: 2, 10: 2, 11: 4, 12: 4}  # a child's curve begins with its ancestors' epochs
    is_worse = []
    for (trial_id, budget), score in heard.items():
        losses = study.trial(trial_id).curves[:budget, 1]
        own = losses[born.get(trial_id, 0) :]
        if np.isfinite(score):
            assert score == np.float32(own[-1] if select == "last" else own.min())
            is_worse.append(own.min() > losses.min())
    assert any(is_worse)


@pytest.fixture(scope="module")
def asha_on_one():
    return real("asha", devices=1)


def real(strategy: str, devices: int) -> vtune.Study:
    space = {"learning_rate": vtune.loguniform(1e-3, 1e25), "batch_size": 32, "hidden": 4, "layers": 1}
    plain = {"trials": 24, "epochs": 9, "finalists": 0, "chunk": 2, "progress": False}
    return vtune.search(vtune.MLP, space, digits(96, 50), strategy=strategy, devices=devices, **plain)


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.usefixtures("workers_on")
def test_asha_gives_the_same_table_on_any_number_of_devices(asha_on_one, devices):
    assert {1, 3, 9} <= set(asha_on_one.trials["budget"])
    assert "diverged" in set(asha_on_one.trials["status"])
    assert_same(real("asha", devices), asha_on_one)


@pytest.mark.parametrize("seed", range(4))
def test_nor_does_it_matter_which_of_its_chunks_are_done_first(asha_on_one, monkeypatch, seed):
    numbers = random.Random(seed)

    def any_one(self, place):
        with self._lock:
            waiting = [chunks for chunks in self._waiting.values() if chunks]
            if not waiting:
                return None
            chunks = numbers.choice(waiting)
            chunks.rotate(numbers.randrange(len(chunks)))
            return chunks.popleft()

    monkeypatch.setattr(Dealer, "take", any_one)
    assert_same(real("asha", devices=1), asha_on_one)


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["successive_halving", "hyperband", "population_based", "babysit"])
@pytest.mark.usefixtures("workers_on")
def test_so_do_the_others_that_continue_trials(strategy):
    assert_same(real(strategy, devices=4), real(strategy, devices=1))
