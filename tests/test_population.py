"""Population based training: who is replaced, by whom, and where a child lies."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.rehearsal import Step, active_rows, num_new, rehearse
from vtune.protocols import FRESH, Axis, Plan
from vtune.strategies import population_based
from vtune.strategies.boxes import GRID
from vtune.strategies.population import Sizes, reflected

AXES = (Axis("learning_rate", None, True), Axis("layers", 4, True), Axis("activation", 3, False))

Score = Callable[[Plan], jax.Array]


@jax.jit
def shuffled(plan: Plan) -> jax.Array:
    """Scores that differ from generation to generation, with ties, and trials that diverge."""
    scores = jnp.float32(plan.trial_id * 7919 % 97 + plan.trial_id * plan.budget % 31)
    return jnp.where(plan.trial_id % 11 == 3, jnp.nan, scores)


@jax.jit
def valley(plan: Plan) -> jax.Array:
    """The lower, the closer to a corner of the box."""
    return jnp.sum((plan.points - 0.125) ** 2, axis=1)


def run(trials: int, epochs: int = 8, score: Score = shuffled, axes=AXES, **options) -> list[Step]:
    return rehearse(population_based(**options)(axes, trials=trials, epochs=epochs), score)


# How many


@settings(max_examples=200)
@given(
    trials=st.integers(1, 300), generations=st.integers(1, 12), quantile=st.floats(0, 0.5, exclude_min=True, width=32)
)
def test_sizes_use_every_trial_and_nobody_is_best_and_worst(trials, generations, quantile):
    if quantile == 0.5:
        return
    sizes = Sizes.of(trials, generations, quantile)
    assert sizes.members + sum(sizes.replaced) == trials
    assert len(sizes.replaced) == generations
    assert sizes.replaced[0] == 0
    assert all(few in (0, 1) for few in np.array(sizes.replaced[1:]) - int(sizes.members * quantile))
    assert not sum(sizes.replaced) or sizes.parents + max(sizes.replaced) <= sizes.members


def test_a_plan_is_a_generation():
    steps = run(88, epochs=20)
    assert [num_new(step.plan) for step in steps] == [32, 8, 8, 8, 8, 8, 8, 8]
    assert [int(step.plan.budget[0]) for step in steps] == [2, 5, 7, 10, 12, 15, 17, 20]


@pytest.mark.long
def test_there_are_no_more_generations_than_epochs():
    assert [int(step.plan.budget[0]) for step in run(20, epochs=3)] == [1, 2, 3]
    assert [num_new(step.plan) for step in run(20, epochs=1)] == [20]


@pytest.mark.long
def test_a_continued_search_starts_another_population():
    once = active_rows(run(20))
    strategy = population_based()(AXES, trials=50, epochs=8, earlier=(20,))
    rows = active_rows(rehearse(strategy, shuffled))
    count = len(once.trial_id)
    for ours, theirs in zip(rows, once, strict=True):
        np.testing.assert_array_equal(ours[:count], theirs)
    later = rows.trial_id[count:]
    assert later.min() == 20
    assert rows.parent[count] == FRESH
    assert num_new(rows) == 50
    assert not np.any((rows.parent[count:] >= 0) & (rows.parent[count:] < 20))


# Who follows whom


def ranked(step: Step) -> list[int]:
    scores = np.where(np.isfinite(step.scores), step.scores, np.inf)
    return np.asarray(step.plan.trial_id)[np.lexsort((step.plan.trial_id, scores))].tolist()


def test_the_worst_are_replaced_by_children_of_the_best():
    sizes, steps = Sizes.of(60, 8, 0.25), run(60)
    for before, after, replaced in zip(steps, steps[1:], sizes.replaced[1:], strict=False):
        ranks, plan = ranked(before), after.plan
        children = np.asarray(plan.parent != plan.trial_id)
        assert sorted(np.asarray(plan.trial_id)[~children].tolist()) == sorted(ranks[: sizes.members - replaced])
        assert set(np.asarray(plan.parent)[children].tolist()) <= set(ranks[: sizes.parents])
        assert np.sum(children) == replaced


def test_parents_are_drawn_from_all_of_the_best():
    plan = run(88, score=lambda plan: plan.trial_id.astype(jnp.float32))[1].plan
    parents = np.asarray(plan.parent)[-8:].tolist()
    assert set(parents) <= set(range(8))
    assert len(set(parents)) > 2


@pytest.mark.parametrize("num_finite", [1, 3])
def test_who_diverged_is_no_parent(num_finite):
    _, second, *_ = run(88, score=lambda plan: jnp.where(plan.trial_id < num_finite, 1.0, jnp.nan))
    parents = np.asarray(second.plan.parent)[-8:]
    assert set(parents.tolist()) <= set(range(num_finite))


def test_where_all_diverged_new_trials_start_afresh_until_one_is_finite():
    first_finite = 41  # the second of the third generation

    def score(plan: Plan) -> jax.Array:
        return jnp.where(plan.trial_id >= first_finite, 1.0, jnp.nan)

    first, second, third, fourth, *_ = (step.plan for step in run(88, score=score))
    assert np.all(np.asarray(first.parent) == FRESH)
    for plan, budget in ((second, 2), (third, 3)):
        assert np.asarray(plan.parent)[-8:].tolist() == [FRESH] * 8
        assert np.asarray(plan.budget)[-8:].tolist() == [budget] * 8
        points = np.asarray(plan.points)[-8:]
        assert np.ptp(points[:, 0]) > 0.4  # all over the range, where children would lie near one another
        assert len(np.unique(points[:, 0])) == 8
    assert FRESH not in fourth.parent
    assert set(np.asarray(fourth.parent)[-8:].tolist()) <= set(range(first_finite, 48))


# Where a child lies


@settings(max_examples=200)
@given(point=st.integers(0, GRID - 1), steps=st.integers(-GRID, GRID))
def test_steps_are_reflected_at_the_bounds(point, steps):
    moved = float(reflected(jnp.float32(point / GRID), jnp.int32(steps)))
    free = (point + steps) / GRID
    assert 0 <= moved < 1
    assert moved == free or abs(moved + free - (0 if free < 0 else 2)) <= 1 / GRID


@pytest.mark.parametrize(("step", "redrawn"), [(0.02, (0, 0.2)), (0.5, (0.1, 0.9))])
def test_a_child_lies_near_its_parent(step, redrawn):
    steps = run(88, axes=AXES, step=step)
    places = {}
    changes = []
    for trial_id, parent, point in zip(*active_rows(steps)[:3], strict=True):
        if parent not in (FRESH, trial_id):
            changes.append(np.abs(point - places[int(parent)]))
        places[int(trial_id)] = point
    moves, categories = np.array(changes)[:, :2], np.array(changes)[:, 2]
    assert 0 < moves.max() <= step + 1 / GRID
    assert (moves > step / 2).mean() > 0.2
    assert redrawn[0] <= np.mean(categories > 0) <= redrawn[1]


@pytest.mark.long
def test_what_a_parent_does_not_use_is_drawn_anew():
    steps, told = [], jnp.array([0.5, jnp.nan, 0.5], jnp.float32)

    def as_it_runs(plan: Plan) -> Plan:
        steps.append(plan)
        return plan._replace(points=jnp.broadcast_to(told[None], plan.points.shape))

    rehearse(population_based(2)(AXES, trials=20, epochs=8), shuffled, as_it_runs=as_it_runs)
    drawn = np.asarray(steps[1].points[steps[1].parent != steps[1].trial_id])
    assert len(drawn) == 4
    assert len(set(drawn[:, 1].tolist())) == 4
    assert np.all(np.abs(drawn[:, 0] - 0.5) <= 0.1)


def test_it_comes_closer_to_the_best():
    bests = [float(jnp.min(step.scores)) for step in run(88, score=valley, axes=AXES[:2])]
    medians = [float(jnp.median(step.scores)) for step in run(88, score=valley, axes=AXES[:2])]
    assert bests[-1] < bests[0] / 2
    assert medians[-1] < medians[0] / 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"generations": 0},
        {"quantile": 0.5},
        {"quantile": 0.0},
        {"quantile": "0.25"},
        {"step": 0.0},
        {"step": 1.5},
        {"step": None},
        {"step": True},
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_wrong_settings_are_refused_with_one_that_works(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"{name}=.*Write for example {name}="):
        population_based(**wrong)
