"""Strategies made of strategies: ids, shares and lags of a chain, and what a tier keeps of those before it."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.laws.rehearsal import Step, active_rows, key_of, num_new, rehearse
from vtune import strategies
from vtune.protocols import FRESH, Axis, Plan
from vtune.strategies import (
    asha,
    chain,
    coarse_to_fine,
    grid,
    population_based,
    random,
    sobol,
    successive_halving,
    tiered,
)
from vtune.strategies.compositions import split, tiers_of

AXES = (
    Axis("batch_size", 4, True, 0.375),
    Axis("learning_rate", None, True, 0.25),
    Axis("beta2", None, True, 1.5),
    Axis("hidden_2", 241, True, 0.25),
    Axis("optimizer", 3, False),
)

Score = Callable[[Plan], jax.Array]


@jax.jit
def valley(plan: Plan) -> jax.Array:
    return jnp.sum((plan.points - 0.625) ** 2, axis=1)


def run(factory, trials: int, epochs: int = 9, score: Score = valley, axes=AXES, **search) -> list[Step]:
    return rehearse(factory(axes, trials=trials, epochs=epochs, **search), score)


def ids(steps: list[Step]) -> list[list[int]]:
    return [active_rows([step]).trial_id.tolist() for step in steps]


# One after another


@pytest.mark.long
def test_each_has_its_share_and_ids_are_numbered_through():
    assert ids(run(chain(random(3), sobol(), shares=(2, 1)), 9)) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert ids(run(chain(random(), sobol(), random()), 1)) == [[0]]


def test_shares_add_up():
    assert all(sum(split(trials, (1, 2.5, 0.1))) == trials for trials in range(50))


@pytest.mark.long
def test_a_part_runs_as_it_would_alone_with_its_own_key():
    steps = run(chain(random(), successive_halving(), coarse_to_fine(2)), 27)
    for turn, (factory, start, end) in enumerate([(successive_halving(), 1, 4), (coarse_to_fine(2), 4, 6)], start=1):
        alone = factory(AXES, trials=9, epochs=9)
        key, state = jax.random.fold_in(key_of(0), turn), alone.init(key_of(0))
        for step in steps[start:end]:
            plan, ours = alone.ask(key, state), active_rows([step])
            rows = np.asarray(plan.active)
            np.testing.assert_array_equal(np.asarray(plan.points)[rows], ours.points)
            np.testing.assert_array_equal(np.asarray(plan.trial_id)[rows] + 9 * turn, ours.trial_id)
            parents = np.asarray(plan.parent)[rows]
            np.testing.assert_array_equal(np.where(parents == FRESH, FRESH, parents + 9 * turn), ours.parent)
            state = alone.tell(state, plan, valley(plan))
        assert alone.done(state)


def test_a_strategy_that_tries_fewer_leaves_a_gap():
    assert ids(run(chain(grid(), random()), 14, axes=AXES[:2])) == [list(range(6)), list(range(7, 14))]


@pytest.mark.long
def test_a_part_without_a_lag_waits_in_a_chain_with_one():
    steps = run(chain(coarse_to_fine(2), asha(width=2, lag=2), random(2)), 24)
    lags = [number - int(step.num_told) for number, step in enumerate(steps)]
    part = [min(int(active_rows([step]).trial_id[0]) // 8, 2) for step in steps]
    by_part = [{lag for lag, of in zip(lags, part, strict=True) if of == turn} for turn in range(3)]
    assert by_part[0] == by_part[2] == {0}
    assert max(by_part[1]) == 2


def test_a_chain_keeps_and_lags_as_the_most_demanding():
    strategy = chain(random(), asha(lag=3), successive_halving())(AXES, trials=20, epochs=9)
    assert (strategy.keeps, strategy.lag, strategy.is_traceable) == ("all", 3, True)
    assert chain(random(), successive_halving())(AXES, trials=20, epochs=9).keeps == "round"


@pytest.mark.long
@pytest.mark.parametrize("factory", [chain(random(3), coarse_to_fine(2)), tiered(random())])
def test_a_continued_search_runs_all_of_it_again(factory):
    once, rows = active_rows(run(factory, 12)), active_rows(run(factory, 20, earlier=(12,)))
    for ours, theirs in zip(rows, once, strict=True):
        np.testing.assert_array_equal(ours[:12], theirs)
    assert num_new(rows) == 20


def test_what_calls_out_is_one_of_a_chain():
    optuna = pytest.importorskip("optuna")
    sampler = strategies.from_optuna(optuna.samplers.TPESampler, round_size=4)
    for factory in (chain(random(), sampler), tiered(sampler)):
        assert not factory(AXES, trials=16, epochs=9).is_traceable
        assert num_new(active_rows(run(factory, 16))) == 16


def test_they_print_as_their_calls():
    assert repr(chain(sobol(), grid(), shares=[2, 1])) == "chain(sobol(round_size=None), grid(), shares=(2, 1))"
    assert repr(tiered(grid())) == "tiered(inner=grid(), shares=None)"


@pytest.mark.parametrize(
    "shares", [(1,), (1, 0), (1, -1), (1, float("nan")), (1, float("inf")), (1, "2"), (1, True), 1, "12", {1, 2}]
)
@pytest.mark.usefixtures("as_users_call")
def test_shares_must_be_positive_and_as_many(shares):
    with pytest.raises(ValueError, match=r"shares=.*Write for example shares=\(2, 1\)"):
        chain(random(), grid(), shares=shares)
    with pytest.raises(ValueError, match=r"there are 4 tiers.*Write for example shares=\(2, 1, 1, 1\)"):
        tiered(shares=shares)


def test_parts_must_be_strategies():
    with pytest.raises(ValueError, match=r"chain\(\) got no strategies. Write chain\("):
        chain()
    with pytest.raises(TypeError, match=r"chain\(<function random.* is no strategy"):
        chain(random)  # pyright: ignore[reportArgumentType]  (the mistake)
    with pytest.raises(TypeError, match="inner=<class 'dict'> is no strategy .* Call what makes one, vtune"):
        tiered(dict)  # pyright: ignore[reportArgumentType]  (the mistake)


@pytest.mark.usefixtures("as_users_call")
def test_names_and_lists_are_no_parts():
    with pytest.raises(
        TypeError, match=r"chain\('random'\) is no strategy .*Write for example vtune.strategies.random"
    ):
        chain("random")  # pyright: ignore[reportArgumentType]  (the mistake)
    with pytest.raises(TypeError, match=r"inner='random' is no strategy .*Write for example vtune.strategies.random"):
        tiered("random")  # pyright: ignore[reportArgumentType]  (the mistake)
    with pytest.raises(TypeError, match=r"is no strategy .*Write chain\(\*\[random\(.*\), grid\(\)\]\)"):
        chain([random(), grid()])  # pyright: ignore[reportArgumentType]  (the mistake)


@dataclass  # which has no hash, as it compares by value
class OfOnesOwn:
    size: int

    def __call__(self, axes, *, trials, epochs, earlier=()):
        return random(self.size)(axes, trials=trials, epochs=epochs, earlier=earlier)


def test_a_part_without_a_hash_is_refused():
    for make in (chain, tiered):
        with pytest.raises(TypeError, match=r"OfOnesOwn\(size=3\).* cannot be hashed, .* Write a function"):
            make(OfOnesOwn(3))


# Tier after tier


def test_tiers_are_those_of_the_course():
    assert tiers_of(AXES) == {1: (1, 4), 2: (0, 3), 4: (2,)}
    assert tiers_of([Axis("width", None, True)]) == {1: (0,)}
    assert tiers_of([Axis("width_2", None, True), Axis("beta1", None, True)]) == {4: (0, 1)}


@jax.jit
def better_when_short(plan: Plan) -> jax.Array:
    """Every score of a short training beats those of the longer ones, which lie in another valley."""
    budget = plan.budget.astype(jnp.float32)
    return jnp.sum((plan.points - budget[:, None] / 9) ** 2, axis=1) + 10 * budget


@pytest.mark.long
@pytest.mark.parametrize(
    "inner", [random(), coarse_to_fine(2), successive_halving(), asha(width=2), population_based(3)]
)
def test_earlier_tiers_stay_at_the_best_and_later_ones_at_their_defaults(inner):
    steps = run(tiered(inner, shares=(2, 1, 3, 1)), 20, score=better_when_short)
    columns = [(1, 4), (0, 3), (2,)]
    defaults = np.array([0.375, 0.25, np.nextafter(np.float32(1), 0), 0.25, 0.5], np.float32)
    first_ids, tuned, best, seen = (0, 10, 15, 20), [], defaults, []
    for stage, own in enumerate(columns):
        mine = [step for step in steps if first_ids[stage] <= active_rows([step]).trial_id[0] < first_ids[stage + 1]]
        others = [column for column in range(len(AXES)) if column not in own]
        rows = active_rows(mine)
        np.testing.assert_array_equal(rows.points[:, others], np.tile(best[others], (len(rows.points), 1)))
        assert len(np.unique(rows.points[:, list(own)], axis=0)) > 1
        scores = np.concatenate([step.scores[step.plan.active] for step in mine])
        seen += zip((-rows.budget).tolist(), scores.tolist(), rows.trial_id.tolist(), rows.points, strict=True)
        tuned += own
        winner = min(seen, key=lambda entry: entry[:3])[3]  # of the longest trained the one with the best score
        best = np.where(np.isin(np.arange(len(AXES)), tuned), winner, defaults)
    assert sorted(tuned) == list(range(len(AXES)))


def test_what_the_best_does_not_use_has_its_default():
    def as_it_runs(plan: Plan) -> Plan:
        is_first = (plan.parent == FRESH)[:, None] & (plan.trial_id < 7)[:, None]
        unused = jnp.array([False, True, False, False, False])[None]
        return plan._replace(points=jnp.where(is_first & unused, jnp.nan, plan.points))

    def score(plan: Plan) -> jax.Array:
        return plan.trial_id.astype(jnp.float32)

    rows = active_rows(rehearse(tiered(random())(AXES, trials=21, epochs=9), score, as_it_runs=as_it_runs))
    assert set(rows.points[7:, 1].tolist()) == {0.25}
    assert set(rows.points[7:, 4].tolist()) == {float(rows.points[0, 4])}


def test_where_all_diverge_everything_else_is_at_its_default():
    rows = active_rows(run(tiered(random()), 21, score=lambda plan: jnp.full(plan.trial_id.shape, jnp.nan)))
    assert set(rows.points[7:, 1].tolist()) == {0.25}
    assert set(rows.points[7:, 4].tolist()) == {0.5}


def test_a_continued_search_goes_on_from_the_best():
    rows = active_rows(run(tiered(random()), 30, earlier=(15,)))
    scores = np.sum((rows.points[:15] - 0.625) ** 2, axis=1)
    best = rows.points[:15][np.argmin(scores)]
    np.testing.assert_array_equal(rows.points[15:20][:, [0, 2, 3]], np.tile(best[[0, 2, 3]], (5, 1)))


def test_tier_after_tier_improves():
    steps = run(tiered(), 60)
    bests = [float(jnp.min(jnp.where(step.plan.active, step.scores, jnp.inf))) for step in steps]
    assert bests[-1] < bests[0] / 4
