"""Samplers of Optuna as strategies: they learn, and a study that is resumed asks for the same trials."""

import functools
import sys

import jax
import numpy as np
import optuna
import pytest

import vtune
from tests.laws.population import digits
from tests.laws.rehearsal import (
    active_rows,
    check_budgets,
    check_count,
    check_ids,
    check_parents,
    check_points,
    check_shapes,
    key_of,
    rehearse,
)
from tests.laws.test_resume_law import Stops, assert_same
from vtune.loop import compiled
from vtune.protocols import Axis
from vtune.strategies import from_optuna
from vtune.strategies.rounds import Rounds

TPE = optuna.samplers.TPESampler
CMA_ES = functools.partial(optuna.samplers.CmaEsSampler, popsize=16)
SAMPLERS = pytest.mark.parametrize("sampler", [TPE, CMA_ES], ids=["TPE", "CMA-ES"])
NUMBERS = tuple(Axis(name, None, True) for name in "abcd")
MIXED = (
    Axis("learning_rate", None, True),
    Axis("batch_size", 4, True),
    Axis("optimizer", 3, False),
    Axis("hidden", 241, True),
    Axis("layers", 3, True, log_length=1.5),
)
AXES = pytest.mark.parametrize("axes", [NUMBERS, MIXED], ids=["numbers", "mixed"])


def bowl(plan):
    """Stands in for training: the score is the distance to a point."""
    return np.sum((np.asarray(plan.points) - 0.3) ** 2, axis=1).astype(np.float32)


def rugged(plan):
    """The same, but every fifth trial diverges."""
    return np.where(np.asarray(plan.trial_id) % 5 == 3, np.float32(np.nan), bowl(plan))


def run(strategy, score=bowl, seed=0, recorded=()):
    """Runs a search as a study does: the plans and scores that are recorded take the place of what it would have."""
    plans, scores = (iter(column) for column in zip(*recorded, strict=True)) if recorded else (iter(()), iter(()))

    def as_it_runs(plan):
        return next(plans, None) or jax.device_get(plan)

    def scored(plan):
        told = next(scores, None)
        return score(plan) if told is None else told

    return rehearse(strategy, scored, seed, as_it_runs)


def told(steps):
    return [(step.plan, step.scores) for step in steps]


def points_of(steps):
    return active_rows(steps).points


def started_anew(*arguments, **options):
    """The strategy as another process has it, which remembers nothing."""
    vtune.strategies.outside._from_optuna.cache_clear()
    return from_optuna(*arguments)(**options)


# It learns, and it can be resumed


@SAMPLERS
@AXES
def test_it_keeps_the_laws_of_the_protocol(sampler, axes):
    strategy = from_optuna(sampler, round_size=7)(axes, trials=30, epochs=27)
    steps = run(strategy, rugged)
    check_shapes(strategy, steps, len(axes))
    check_ids(steps)
    check_parents(strategy, steps)
    check_budgets(steps, epochs=27)
    check_points(steps)
    check_count(steps, trials=30, may_try_fewer=False)


@SAMPLERS
@AXES
@pytest.mark.parametrize("trials", [64, pytest.param(256, marks=pytest.mark.long)])
def test_the_second_half_is_asked_for_again_after_a_resume(sampler, axes, trials):
    options = {"axes": axes, "trials": trials, "epochs": 1}
    truth = run(started_anew(sampler, **options), rugged)
    resumed = run(started_anew(sampler, **options), rugged, recorded=told(truth)[: len(truth) // 2])
    np.testing.assert_array_equal(points_of(resumed), points_of(truth))
    assert [step.plan.trial_id.tolist() for step in truth] == np.arange(trials).reshape(-1, 16).tolist()


@SAMPLERS
@pytest.mark.parametrize(("trials", "times"), [(96, 2), pytest.param(256, 5, marks=pytest.mark.long)])
def test_it_learns(sampler, trials, times):
    means = [step.scores.mean() for step in run(from_optuna(sampler)(NUMBERS, trials=trials, epochs=1))]
    assert np.mean(means[-3:]) < means[0] / times


def test_tpe_leaves_where_trials_diverge():
    def diverges_above(plan):
        return np.where(np.asarray(plan.points)[:, 0] > 0.2, np.float32(np.nan), bowl(plan))

    steps = run(from_optuna(TPE)(NUMBERS, trials=96, epochs=1), diverges_above)
    diverged = [np.isnan(step.scores).mean() for step in steps]
    assert diverged[0] > 0.7
    assert np.mean(diverged[1:]) < 0.4


def test_what_is_told_of_a_round_decides_the_next_and_not_what_was_asked_for():
    strategy = from_optuna(CMA_ES)(NUMBERS, trials=128, epochs=1)
    steps = run(strategy)
    moved = [(plan._replace(points=1 - plan.points), scores) for plan, scores in told(steps[:4])]
    near, far = (points_of(run(strategy, recorded=recorded)[4:5]) for recorded in ([], moved))
    assert np.linalg.norm(near.mean(axis=0) - 0.3) < np.linalg.norm(far.mean(axis=0) - 0.3)
    assert np.linalg.norm(far.mean(axis=0) - 0.7) < np.linalg.norm(near.mean(axis=0) - 0.7)


@SAMPLERS
@pytest.mark.parametrize(("trials", "times"), [(96, 1.5), pytest.param(256, 3, marks=pytest.mark.long)])
def test_a_parameter_that_a_trial_does_not_use_is_none_the_worse(sampler, trials, times):
    def without_last(plan):
        return np.sum((np.asarray(plan.points)[:, :-1] - 0.3) ** 2, axis=1).astype(np.float32)

    strategy = from_optuna(sampler)(NUMBERS, trials=trials, epochs=1)
    state, means = strategy.init(key_of(0)), []
    while not strategy.done(state):
        plan = jax.device_get(strategy.ask(key_of(0), state))
        points = np.array(plan.points)
        points[::2, -1] = np.nan
        means.append(without_last(plan).mean())
        state = strategy.tell(state, plan._replace(points=points), without_last(plan))
    assert np.mean(means[-3:]) < means[0] / times


@SAMPLERS
def test_where_all_diverge_it_goes_on(sampler):
    steps = run(from_optuna(sampler)(MIXED, trials=40, epochs=1), lambda plan: np.full(14, np.nan, np.float32))
    assert len(points_of(steps)) == 40


@SAMPLERS
def test_a_search_that_is_stopped_goes_on_as_if_it_never_was(tmp_path, sampler):
    def search(**changes):
        vtune.strategies.outside._from_optuna.cache_clear()
        compiled.cache_clear()
        space = {"learning_rate": vtune.loguniform(1e-3, 1e25), "hidden": vtune.integers(4, 8)}  # some diverge
        options = {"trials": 20, "epochs": 1, "devices": 1, "chunk": 4, "progress": False, **changes}
        return vtune.search(vtune.MLP, space, digits(96, 50), strategy=from_optuna(sampler, 4), **options)

    truth = search()
    for after in (6, 15):
        with pytest.raises(KeyboardInterrupt):
            search(folder=tmp_path, progress=Stops(after))
    assert_same(search(folder=tmp_path), truth)


def test_more_trials_follow_on_those_there_were():
    first = run(from_optuna(TPE)(NUMBERS, trials=40, epochs=1))
    longer = run(from_optuna(TPE)(NUMBERS, trials=60, epochs=1, earlier=(40,)))
    np.testing.assert_array_equal(points_of(longer)[:40], points_of(first))
    assert len(points_of(longer)) == 60


# What decides it


def test_the_seed_follows_from_the_key_unless_the_sampler_has_its_own():
    made, with_seed = (from_optuna(each)(NUMBERS, trials=40, epochs=1) for each in (TPE, TPE(seed=3)))
    assert not np.array_equal(points_of(run(made, seed=0)), points_of(run(made, seed=1)))
    np.testing.assert_array_equal(points_of(run(with_seed)), points_of(run(with_seed, seed=1)))
    by_hand = from_optuna(lambda seed: TPE(seed=3))(NUMBERS, trials=40, epochs=1)
    np.testing.assert_array_equal(points_of(run(with_seed)), points_of(run(by_hand)))


def test_a_sampler_that_is_given_stays_as_it_is():
    sampler = TPE(seed=3)
    first = run(started_anew(sampler, axes=NUMBERS, trials=40, epochs=1))
    again = run(started_anew(sampler, axes=NUMBERS, trials=40, epochs=1))
    np.testing.assert_array_equal(points_of(first), points_of(again))


def test_points_are_centres_of_levels_and_lie_inside_the_cube():
    steps = run(from_optuna(TPE)(MIXED, trials=64, epochs=1), lambda plan: -np.asarray(plan.points).sum(axis=1))
    points = points_of(steps)
    assert points.dtype == np.float32
    assert points.min() >= 0
    assert points.max() < 1
    np.testing.assert_array_equal(np.unique(points[:, 1]), np.float32([0.125, 0.375, 0.625, 0.875]))
    np.testing.assert_allclose(np.unique(points[:, 2]), [1 / 6, 1 / 2, 5 / 6], rtol=1e-6)
    assert len(np.unique(points[:, 4])) > 3  # levels of a log scale are not equally wide


def test_its_last_plan_is_empty_and_equal_arguments_give_the_same_strategy():
    factory = from_optuna(TPE, round_size=3)
    strategy = factory(NUMBERS, trials=4, epochs=7)
    assert factory(list(NUMBERS), trials=4, epochs=7) is strategy
    assert strategy.max_lanes == 2
    state = strategy.init(key_of(0))
    for _ in range(3):
        plan = strategy.ask(key_of(0), state)
        state = strategy.tell(state, plan, bowl(plan))
    assert strategy.done(state)
    assert not plan.active.any()
    assert plan.budget.tolist() == [7, 7]


# At its edges


def test_optuna_is_as_talkative_afterwards_as_it_was(capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    run(from_optuna(CMA_ES)(MIXED, trials=40, epochs=1))
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("sampler", "error", "message"),
    [
        ("tpe", TypeError, "sampler='tpe' is no sampler, and none is made by calling it with seed=0"),
        (lambda number: TPE(seed=number), TypeError, r"Write .*lambda seed: optuna.samplers.TPESampler\(seed=seed\)"),
        (lambda seed: seed, TypeError, "makes 0, which is no sampler"),
        (optuna.samplers.QMCSampler, ValueError, "would begin anew in every round"),
    ],
)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_what_cannot_be_asked_is_refused(sampler, error, message):
    with pytest.raises(error, match=message):
        from_optuna(sampler)


def test_rounds_are_whole_numbers():
    with pytest.raises(ValueError, match=r"round_size=0: .*Write for example round_size=16"):
        from_optuna(TPE, round_size=0)


@pytest.mark.parametrize("missing", ["optuna", "cmaes"])
def test_what_is_not_installed_is_named_with_the_line_that_installs_it(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"needs .*Write pip install 'vtune\[optuna\]'"):
        from_optuna(CMA_ES)


def test_a_fused_search_refuses_it():
    with pytest.raises(ValueError, match=r"it calls Python, so .*Write vtune.search"):
        vtune.fused_search(
            vtune.MLP,
            {"learning_rate": vtune.loguniform(1e-3, 1e-1), "hidden": 4},
            digits(96, 50),
            rounds=2,
            trials=4,
            epochs=1,
            strategy=from_optuna(TPE, round_size=4),
            progress=False,
        )


def test_a_strategy_of_ones_own_may_call_out_too():
    calls = []

    def plain(axes, *, trials, epochs):
        strategy = Rounds.even(trials, 2, epochs).without_memory(
            lambda key, ids: jax.random.uniform(key, (2, len(axes)))
        )

        def tell(state, plan, scores):
            calls.append(scores.tolist())  # a tracer has no list
            return strategy.tell(state, plan, scores)

        return strategy._replace(tell=tell, is_traceable=False)

    space = {"learning_rate": vtune.loguniform(1e-3, 1e-1), "hidden": 4}
    vtune.search(vtune.MLP, space, digits(96, 50), strategy=plain, trials=4, epochs=1, progress=False)
    assert len(calls) == 2
