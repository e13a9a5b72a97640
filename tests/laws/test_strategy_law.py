"""The laws of the Strategy protocol, over every strategy that vtune exports."""

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.rehearsal import (
    Step,
    active_rows,
    check_budgets,
    check_continued_points,
    check_count,
    check_ids,
    check_parents,
    check_points,
    check_shapes,
    is_inside,
    key_of,
    new_rows,
    rehearse,
    rugged,
    scanned,
    stacked,
)
from vtune import strategies
from vtune.precision import float_precision
from vtune.protocols import FRESH, Axis, Plan, Strategy, same_state
from vtune.strategies.factories import Factory
from vtune.strategies.names import STRATEGIES

MIXED = (
    Axis("learning_rate", None, True, log_length=math.log(1e4)),
    Axis("batch_size", 4, True),
    Axis("optimizer", 3, False),
    Axis("hidden", 241, True),
    Axis("seed", 100_000, True),
)


class Search(NamedTuple):
    axes: tuple[Axis, ...]
    trials: int
    epochs: int


SEARCHES = {
    "one trial": Search(MIXED, 1, 5),
    "nothing ordered": Search((Axis("activation", 4, False),), 10, 5),
    "mixed": Search(MIXED, 30, 27),
}
ALL = tuple(SEARCHES)


class Held(NamedTuple):
    """What the suite holds a strategy to: the searches in which its settings make a difference."""

    name: str
    settings: dict[str, Any]
    searches: tuple[str, ...]
    parts: Sequence[Factory] = ()

    def factory(self) -> Factory:
        return MAKERS[self.name](*self.parts, **self.settings)


MAKERS = STRATEGIES | {"chain": strategies.chain}  # which needs to be told of what, so it has no name for users


HELD = {
    "asha()": Held("asha", {}, ("mixed",)),
    "asha(2, 2, 3, 2)": Held("asha", {"eta": 2, "least": 2, "width": 3, "lag": 2}, ("nothing ordered",)),
    "babysit()": Held("babysit", {}, ("one trial", "mixed")),
    "babysit(2, look_ahead=3)": Held("babysit", {"day": 2, "look_ahead": 3}, ("mixed",)),
    "babysit(look_ahead=3)": Held("babysit", {"look_ahead": 3}, ("mixed",)),
    "chain(random(), asha(2), grid(), population_based(3))": Held(
        "chain",
        {"shares": (3, 2, 1, 3)},
        ("mixed",),
        (strategies.random(), strategies.asha(lag=2), strategies.grid(), strategies.population_based(3)),
    ),
    "chain(successive_halving())": Held("chain", {}, ("one trial",), (strategies.successive_halving(),)),
    "coarse_to_fine()": Held("coarse_to_fine", {}, ALL),
    "coarse_to_fine(3, 2, 0.3)": Held("coarse_to_fine", {"rounds": 3, "keep": 2, "exploration": 0.3}, ("mixed",)),
    "grid()": Held("grid", {}, ALL),
    "hyperband()": Held("hyperband", {}, ("mixed",)),
    "population_based()": Held("population_based", {}, ALL),
    "population_based(3, 0.4, 0.5)": Held(
        "population_based", {"generations": 3, "quantile": 0.4, "step": 0.5}, ("mixed",)
    ),
    "random()": Held("random", {}, ("mixed",)),
    "random(7)": Held("random", {"round_size": 7}, ("mixed",)),
    "sobol(7)": Held("sobol", {"round_size": 7}, ("mixed",)),
    "successive_halving(2, 2)": Held("successive_halving", {"eta": 2, "least": 2}, ("nothing ordered",)),
    "tiered()": Held("tiered", {}, ALL),
    "tiered(chain(hyperband(), asha()), (4, 3, 2, 1))": Held(
        "tiered",
        {"inner": strategies.chain(strategies.hyperband(), strategies.asha()), "shares": (4, 3, 2, 1)},
        ("mixed",),
    ),
    "tiered(population_based(2))": Held("tiered", {"inner": strategies.population_based(2)}, ("mixed",)),
}
LONG = {  # others of their kind are tried in a shorter time
    "babysit(2, look_ahead=3)",
    "chain(random(), asha(2), grid(), population_based(3))",
    "population_based(3, 0.4, 0.5)",
    "tiered(chain(hyperband(), asha()), (4, 3, 2, 1))",
}
SAME_FOR_EVERY_KEY = {"babysit", "grid"}


def may_try_fewer(factory: Factory, steps: list[Step], epochs: int) -> bool:
    if factory.name == "babysit":  # only where another day would pass the epochs
        return int(np.max(active_rows(steps).budget)) + factory.settings["day"] > epochs
    return any(name in repr(factory) for name in ("grid()", "babysit("))


class Case(NamedTuple):
    name: str
    factory: Factory
    search: Search

    def strategy(self) -> Strategy:
        return self.factory(self.search.axes, trials=self.search.trials, epochs=self.search.epochs)


class Rehearsal(NamedTuple):
    """A strategy as a study runs it, each function compiled and traced once for all that is asked of it."""

    case: Case
    strategy: Strategy
    steps: list[Step]


def compiled_once(strategy: Strategy) -> Strategy:
    functions = {name: getattr(strategy, name) for name in ("init", "ask", "opened", "tell", "done")}
    return strategy._replace(
        **{name: jax.jit(chex.assert_max_traces(function, n=1)) for name, function in functions.items()}
    )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((held, SEARCHES[what]), id=f"{call}, {what}", marks=[pytest.mark.long] * (call in LONG))
        for call, held in HELD.items()
        for what in held.searches
    ],
)
def rehearsal(request):
    chex.clear_trace_counter()  # chex knows a function by its line, and these are made anew for every case
    held, search = request.param
    case = Case(held.name, held.factory(), search)
    strategy = compiled_once(case.strategy())
    return Rehearsal(case, strategy, rehearse(strategy))


def test_the_suite_covers_every_exported_strategy():
    exported = {name for name in strategies.__all__ if name in STRATEGIES}
    others = {name for name in strategies.__all__ if name not in STRATEGIES}
    assert exported == set(STRATEGIES) == {held.name for held in HELD.values()} - {"chain"} == set(SETTINGS)
    assert all(STRATEGIES[name] is getattr(strategies, name) for name in exported)
    assert not any(is_strategy(getattr(strategies, name)) for name in others)


def is_strategy(function: Callable[..., Any]) -> bool:
    """Whether it makes a factory from settings alone, as every setting has a default."""
    signature = inspect.signature(function)
    optional = all(setting.default is not inspect.Parameter.empty for setting in signature.parameters.values())
    return optional and "Factory" in str(signature.return_annotation)


# What a plan holds


def test_every_plan_has_the_lanes_declared_and_asks_for_something(rehearsal):
    check_shapes(rehearsal.strategy, rehearsal.steps, len(rehearsal.case.search.axes))


def test_every_row_trains_within_the_epochs(rehearsal):
    check_budgets(rehearsal.steps, rehearsal.case.search.epochs)


def test_new_trials_lie_in_the_cube_and_others_where_they_were(rehearsal):
    check_points(rehearsal.steps)


def test_ids_rise_and_are_never_reused(rehearsal):
    check_ids(rehearsal.steps)


def test_parents_have_been_told_and_the_first_plan_is_fresh(rehearsal):
    check_parents(rehearsal.strategy, rehearsal.steps)
    assert np.all(active_rows(rehearsal.steps[:1]).parent == FRESH)


@pytest.mark.parametrize("score", [None, np.nan, np.inf, -np.inf, 0.0])
def test_it_spends_its_trials_whatever_the_scores(rehearsal, score):
    alike = None if score is None else lambda plan: jnp.full(plan.trial_id.shape, score, jnp.float32)
    steps = rehearse(rehearsal.strategy, alike) if alike else rehearsal.steps
    check_points(steps)
    _, trials, epochs = rehearsal.case.search
    check_count(steps, trials, may_try_fewer(rehearsal.case.factory, steps, epochs))


def test_done_stays_done_and_asks_for_nothing(rehearsal):
    _, strategy, steps = rehearsal
    state = steps[-1].state
    for _ in range(3):
        assert strategy.done(state)
        plan = strategy.ask(key_of(0), state)
        assert not plan.active.any()
        state = strategy.tell(state, plan, rugged(plan))
    assert strategy.done(state)


# What decides it: the key and what was told


@pytest.mark.long
def test_compiled_and_eager_agree_bit_for_bit(rehearsal):
    chex.assert_trees_all_equal(rehearse(rehearsal.case.strategy()), rehearsal.steps)


def test_replaying_what_was_told_gives_the_state_and_the_next_plan(rehearsal):
    _, strategy, steps = rehearsal
    recorded = iter([step.scores for step in steps])
    chex.assert_trees_all_equal(rehearse(strategy, lambda plan: next(recorded)), steps)


def test_without_a_lag_nothing_need_be_announced(rehearsal):
    if rehearsal.strategy.lag == 0:
        chex.assert_trees_all_equal(rehearse(rehearsal.strategy._replace(opened=same_state)), rehearsal.steps)


@pytest.mark.parametrize("point", [1.0, np.nan])
def test_the_recorded_plan_is_authoritative(rehearsal, point):
    # A study may put a start of its own, a bound included, in the place of a point, and NaN for an unused parameter.
    told = {}

    def as_it_runs(plan: Plan) -> Plan:
        assert is_inside(plan.points[new_rows(plan)])
        check_continued_points(plan, told)
        plan = plan._replace(points=jnp.where(new_rows(plan)[:, None], jnp.float32(point), plan.points))
        told.update(zip(np.asarray(plan.trial_id).tolist(), np.asarray(plan.points), strict=True))
        return plan

    def score(plan: Plan) -> jax.Array:
        return plan.trial_id.astype(jnp.float32)

    rehearse(rehearsal.strategy, score, as_it_runs=as_it_runs)


def test_padding_has_no_say(rehearsal):
    def score(plan: Plan) -> jax.Array:
        return jnp.where(plan.active, rugged(plan), -1e6)

    states = [[step.state for step in steps] for steps in (rehearse(rehearsal.strategy, score), rehearsal.steps)]
    chex.assert_trees_all_equal(*states)


def test_another_key_gives_other_points(rehearsal):
    _, strategy, steps = rehearsal
    others = active_rows(rehearse(strategy, seed=1)).points
    assert np.array_equal(others, active_rows(steps).points) == (rehearsal.case.name in SAME_FOR_EVERY_KEY)


# How it runs


@pytest.mark.long
def test_a_scan_of_several_keys_at_once_under_x64_equals_each_alone_without(rehearsal):
    alone = [rehearse(rehearsal.strategy, seed=seed) for seed in range(3)]
    search = scanned(rehearsal.case.strategy(), max(map(len, alone)))
    keys = jnp.stack([key_of(seed) for seed in range(len(alone))])
    with float_precision(np.dtype(np.float64)):
        together = jax.device_get(jax.jit(jax.vmap(search))(keys))
    for seed, steps in enumerate(alone):  # searches with other keys may have fewer plans
        ours = jax.tree.map(lambda column, seed=seed: column[seed], together)
        head = jax.tree.map(lambda column, steps=steps: column[: len(steps)], ours)
        chex.assert_trees_all_equal(head, stacked(steps))
        assert not ours.plan.active[len(steps) :].any()


def test_equal_arguments_give_the_same_functions(rehearsal):
    # jit knows a program by its function: this is what keeps a second search from compiling.
    case, strategy = rehearsal.case, rehearsal.case.strategy()
    axes, trials, epochs = case.search
    assert all(ours is theirs for ours, theirs in zip(case.strategy(), strategy, strict=True))
    listed = MAKERS[case.name](*case.factory.parts, **case.factory.settings)(list(axes), trials=trials, epochs=epochs)
    assert listed is strategy


# Any settings


WIDTHS = st.sampled_from([None, 1, 3])  # few shapes, so that few operations compile
ETAS, LEASTS = st.integers(2, 4), st.sampled_from([None, 1, 3])
SETTINGS = {
    "asha": {"eta": ETAS, "least": LEASTS, "width": WIDTHS, "lag": st.integers(0, 3)},
    "babysit": {"day": st.integers(1, 3), "look_ahead": st.integers(1, 3)},
    "coarse_to_fine": {
        "rounds": st.sampled_from([1, 3]),
        "keep": st.sampled_from([None, 2]),
        "exploration": st.sampled_from([0.0, 0.2, 0.9]),
    },
    "grid": {},
    "hyperband": {"eta": ETAS},
    "population_based": {
        "generations": st.integers(1, 5),
        "quantile": st.sampled_from([0.1, 0.25, 0.49]),
        "step": st.sampled_from([0.01, 1.0]),
    },
    "random": {"round_size": WIDTHS},
    "sobol": {"round_size": WIDTHS},
    "successive_halving": {"eta": ETAS, "least": LEASTS},
    "tiered": {},
}
FACTORIES = st.one_of([st.builds(STRATEGIES[name], **settings) for name, settings in SETTINGS.items()])


def tiered_of(inner: Factory | partial[Factory], shares: tuple[int, ...] | None) -> Factory:
    return strategies.tiered(inner() if isinstance(inner, partial) else inner, shares)


WITHOUT_PANDA = FACTORIES.filter(lambda factory: factory.name != "babysit")  # which needs a learning rate in every tier

# Put together in the test itself: beartype looks at a random item of a sequence, which hypothesis takes amiss.
PAIRS = st.builds(partial, st.just(strategies.chain), FACTORIES, FACTORIES, shares=st.sampled_from([None, (1, 3)]))
TIERED = st.builds(partial, st.just(tiered_of), WITHOUT_PANDA, shares=st.sampled_from([None, (1, 3, 1, 1)]))
SEARCHED = st.builds(
    Search,
    axes=st.sampled_from([MIXED, MIXED[:1]]),
    trials=st.sampled_from([1, 4, 20]),
    epochs=st.integers(3, 30),
)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # beartype does, where it checks a container
@settings(max_examples=25)
@given(factory=FACTORIES, search=SEARCHED, more=st.sampled_from([0, 4]), seed=st.integers(0, 99))
def test_the_laws_hold_whatever_the_settings(factory, search, more, seed):
    check_laws(factory, search, more, seed)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@settings(max_examples=5)
@given(compose=PAIRS | TIERED, search=SEARCHED, more=st.sampled_from([0, 4]), seed=st.integers(0, 99))
def test_the_laws_hold_whatever_is_composed(compose, search, more, seed):
    check_laws(compose(), search, more, seed)


def check_laws(factory: Factory, search: Search, more: int, seed: int):
    axes, trials, epochs = search
    if factory.name == "grid" or not more:
        strategy = factory(axes, trials=trials, epochs=epochs)
    else:
        trials += more
        strategy = factory(axes, trials=trials, epochs=epochs, earlier=(search.trials,))
    steps = rehearse(strategy, seed=seed)
    check_shapes(strategy, steps, len(axes))
    check_ids(steps)
    check_parents(strategy, steps)
    check_budgets(steps, epochs)
    check_points(steps)
    check_count(steps, trials, may_try_fewer(factory, steps, epochs))
    if trials > search.trials:
        before = rehearse(factory(axes, trials=search.trials, epochs=epochs), seed=seed)
        chex.assert_trees_all_equal(active_rows(steps[: len(before)]), active_rows(before))
