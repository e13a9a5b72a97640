"""The laws of the Strategy protocol, over every strategy that vtune exports."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vtune import strategies
from vtune.keys import IMPLEMENTATION
from vtune.protocols import FRESH, Axis, Plan, Strategy
from vtune.strategies.names import STRATEGIES

MIXED = (
    Axis("learning_rate", None, True),
    Axis("batch_size", 4, True),
    Axis("optimizer", 3, False),
    Axis("hidden", 241, True),
    Axis("seed", 100_000, True),
)
EPOCHS = 5

SEARCHES = {  # axes and trials
    "one trial": (MIXED, 1),
    "nothing ordered": ((Axis("activation", 4, False),), 10),
    "mixed": (MIXED, 30),
}
STRATEGIES_HELD: dict[str, tuple[str, dict[str, Any]]] = {
    "coarse_to_fine()": ("coarse_to_fine", {}),
    "coarse_to_fine(3, 2, 0.3)": ("coarse_to_fine", {"rounds": 3, "keep": 2, "exploration": 0.3}),
    "grid()": ("grid", {}),
    "random()": ("random", {}),
    "random(7)": ("random", {"round_size": 7}),
}
MAY_TRY_FEWER = {"grid"}
SAME_FOR_EVERY_KEY = {"grid"}


class Step(NamedTuple):
    plan: Plan
    scores: jax.Array
    state: Any
    """After the scores were told."""


class Case(NamedTuple):
    name: str
    settings: dict[str, Any]
    axes: tuple[Axis, ...]
    trials: int

    def strategy(self) -> Strategy:
        return STRATEGIES[self.name](**self.settings)(self.axes, trials=self.trials, epochs=EPOCHS)


class Rehearsal(NamedTuple):
    """A strategy as a study runs it, each function compiled and traced once for all that is asked of it."""

    case: Case
    strategy: Strategy
    steps: list[Step]


def key_of(seed: int) -> jax.Array:
    return jax.random.key(seed, impl=IMPLEMENTATION)


def rugged(plan: Plan) -> jax.Array:
    """Scores with everything in them: ties, NaN and both infinities."""
    accidents = jnp.array([jnp.nan, jnp.inf, -jnp.inf], jnp.float32)[plan.trial_id % 3]
    return jnp.where(plan.trial_id % 5 == 1, accidents, jnp.round(4 * jnp.sum(plan.points, axis=1)))


def compiled_once(strategy: Strategy) -> Strategy:
    functions = {name: getattr(strategy, name) for name in ("init", "ask", "tell", "done")}
    return strategy._replace(
        **{name: jax.jit(chex.assert_max_traces(function, n=1)) for name, function in functions.items()}
    )


def rehearse(strategy: Strategy, score: Callable[[Plan], jax.Array] = rugged, seed: int = 0) -> list[Step]:
    """Runs a search whose trials train in no time."""
    steps = []
    state = strategy.init(key_of(seed))
    while not strategy.done(state):
        assert len(steps) < 100, "it does not terminate"
        plan = strategy.ask(key_of(seed), state)
        scores = score(plan)
        state = strategy.tell(state, plan, scores)
        steps.append(Step(plan, scores, state))
    return steps


def active_rows(steps: list[Step]) -> Plan:
    """The active rows of all plans, in their order."""
    columns = zip(*[[np.asarray(column)[step.plan.active] for column in step.plan] for step in steps], strict=True)
    return Plan(*[np.concatenate(column) for column in columns])  # pyright: ignore[reportArgumentType]  (numpy's)


def num_new(rows: Plan) -> int:
    return int(np.sum(rows.parent != rows.trial_id))


def is_inside(points: jax.Array) -> bool:
    return bool(np.all((np.asarray(points) >= 0) & (np.asarray(points) < 1)))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(Case(*held, *search), id=f"{call}, {what}")
        for call, held in STRATEGIES_HELD.items()
        for what, search in SEARCHES.items()
    ],
)
def rehearsal(request):
    chex.clear_trace_counter()  # chex knows a function by its line, and these are made anew for every case
    strategy = compiled_once(request.param.strategy())
    return Rehearsal(request.param, strategy, rehearse(strategy))


@pytest.fixture
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def test_the_suite_covers_every_exported_strategy():
    exported = {name for name in strategies.__all__ if name in STRATEGIES}
    others = {name for name in strategies.__all__ if name not in STRATEGIES}
    assert exported == set(STRATEGIES) == {name for name, _ in STRATEGIES_HELD.values()}
    assert all(STRATEGIES[name] is getattr(strategies, name) for name in exported)
    assert not any(is_strategy(getattr(strategies, name)) for name in others)


def is_strategy(function: Callable[..., Any]) -> bool:
    """Whether it makes a factory from settings alone, as every setting has a default."""
    signature = inspect.signature(function)
    optional = all(setting.default is not inspect.Parameter.empty for setting in signature.parameters.values())
    return optional and "Factory" in str(signature.return_annotation)


# What a plan holds


def test_every_plan_has_the_lanes_declared_and_one_budget(rehearsal):
    lanes = rehearsal.strategy.max_lanes
    for step in rehearsal.steps:
        chex.assert_shape([step.plan.trial_id, step.plan.parent, step.plan.budget, step.plan.active], (lanes,))
        chex.assert_shape(step.plan.points, (lanes, len(rehearsal.case.axes)))
        chex.assert_type(list(step.plan), [jnp.int32, jnp.int32, jnp.float32, jnp.int32, jnp.bool_])
        budgets = np.unique(np.asarray(step.plan.budget)[step.plan.active])
        assert len(budgets) == 1
        assert 1 <= budgets[0] <= EPOCHS


def test_every_plan_asks_for_something_inside_the_cube(rehearsal):
    for step in rehearsal.steps:
        assert step.plan.active.any()
        assert is_inside(step.plan.points[step.plan.active])


def test_ids_rise_and_are_never_reused(rehearsal):
    rows = active_rows(rehearsal.steps)
    assert np.all(rows.trial_id >= 0)
    assert np.all(np.diff(rows.trial_id[rows.parent != rows.trial_id]) > 0)
    for step in rehearsal.steps:
        assert np.all(np.diff(active_rows([step]).trial_id) > 0)


def test_parents_exist_and_the_first_plan_is_fresh(rehearsal):
    told = {FRESH}
    for step in rehearsal.steps:
        rows = active_rows([step])
        assert set(rows.parent) <= told
        told |= set(rows.trial_id)
    assert np.all(active_rows(rehearsal.steps[:1]).parent == FRESH)


@pytest.mark.parametrize("score", [None, np.nan, np.inf, -np.inf, 0.0])
def test_it_spends_its_trials_whatever_the_scores(rehearsal, score):
    alike = None if score is None else lambda plan: jnp.full(plan.trial_id.shape, score, jnp.float32)
    rows = active_rows(rehearse(rehearsal.strategy, alike) if alike else rehearsal.steps)
    assert is_inside(rows.points)
    assert 1 <= num_new(rows) <= rehearsal.case.trials
    assert num_new(rows) == rehearsal.case.trials or rehearsal.case.name in MAY_TRY_FEWER


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


def test_compiled_and_eager_agree_bit_for_bit(rehearsal):
    chex.assert_trees_all_equal(rehearse(rehearsal.case.strategy()), rehearsal.steps)


def test_replaying_what_was_told_gives_the_state_and_the_next_plan(rehearsal):
    _, strategy, steps = rehearsal
    state = strategy.init(key_of(0))
    for step in steps:
        chex.assert_trees_all_equal(strategy.ask(key_of(0), state), step.plan)
        state = strategy.tell(state, step.plan, step.scores)
        chex.assert_trees_all_equal(state, step.state)


def test_the_recorded_plan_is_authoritative(rehearsal):
    # A study may put a start of its own, a bound included, in the place of a point, and NaN for an unused parameter.
    _, strategy, steps = rehearsal
    plan = steps[0].plan
    for recorded in (plan.points.at[0].set(1.0), jnp.full_like(plan.points, jnp.nan)):
        state = strategy.tell(strategy.init(key_of(0)), plan._replace(points=recorded), steps[0].scores)
        assert is_inside(strategy.ask(key_of(0), state).points)


def test_padding_has_no_say(rehearsal):
    _, strategy, steps = rehearsal
    state = strategy.init(key_of(0))
    for step in steps:
        chex.assert_trees_all_equal(
            strategy.tell(state, step.plan, jnp.where(step.plan.active, step.scores, -1e6)), step.state
        )
        state = step.state


def test_another_key_gives_other_points(rehearsal):
    _, strategy, steps = rehearsal
    others = active_rows(rehearse(strategy, seed=1)).points
    assert np.array_equal(others, active_rows(steps).points) == (rehearsal.case.name in SAME_FOR_EVERY_KEY)


def test_x64_changes_nothing(rehearsal, x64):
    chex.assert_trees_all_equal(jax.jit(scanned(rehearsal))(key_of(0)), stacked(rehearsal.steps))


# How it runs


def test_a_scan_of_several_keys_at_once_equals_each_alone(rehearsal):
    together = jax.jit(jax.vmap(scanned(rehearsal)))(jnp.stack([key_of(seed) for seed in range(4)]))
    for seed in range(4):
        alone = stacked(rehearse(rehearsal.strategy, seed=seed))
        chex.assert_trees_all_equal(jax.tree.map(lambda column, seed=seed: column[seed], together), alone)


def scanned(rehearsal: Rehearsal) -> Callable[[jax.Array], Step]:
    """The search as one program: all steps, stacked."""
    strategy = rehearsal.case.strategy()

    def search(key: jax.Array) -> Step:
        def advance(state: Any, _: None) -> tuple[Any, Step]:
            plan = strategy.ask(key, state)
            step = Step(plan, rugged(plan), strategy.tell(state, plan, rugged(plan)))
            return step.state, step

        return jax.lax.scan(advance, strategy.init(key), length=len(rehearsal.steps))[1]

    return search


def stacked(steps: list[Step]) -> Step:
    return jax.tree.map(lambda *columns: jnp.stack(columns), *steps)


def test_equal_arguments_give_the_same_functions(rehearsal):
    # jit knows a program by its function: this is what keeps a second search from compiling.
    case, strategy = rehearsal.case, rehearsal.case.strategy()
    assert all(ours is theirs for ours, theirs in zip(case.strategy(), strategy, strict=True))
    listed = STRATEGIES[case.name](**case.settings)(list(case.axes), trials=case.trials, epochs=EPOCHS)
    assert listed is strategy
