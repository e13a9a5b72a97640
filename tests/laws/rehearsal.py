"""Searches whose trials train in no time, run as the Strategy protocol says; and what must hold of every one."""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from vtune.keys import IMPLEMENTATION
from vtune.protocols import FRESH, Plan, Strategy


class Step(NamedTuple):
    plan: Plan
    num_told: jax.Array
    """How many plans had been told when this one was asked for."""
    scores: jax.Array
    state: Any
    """After the scores were told."""


def key_of(seed: int) -> jax.Array:
    return jax.random.key(seed, impl=IMPLEMENTATION)


@jax.jit
def rugged(plan: Plan) -> jax.Array:
    """Scores with everything in them: ties, NaN and both infinities."""
    accidents = jnp.array([jnp.nan, jnp.inf, -jnp.inf], jnp.float32)[plan.trial_id % 3]
    return jnp.where(plan.trial_id % 5 == 1, accidents, jnp.round(4 * jnp.sum(plan.points, axis=1)))


def rehearse(
    strategy: Strategy,
    score: Callable[[Plan], jax.Array] = rugged,
    seed: int = 0,
    as_it_runs: Callable[[Plan], Plan] = lambda plan: plan,
) -> list[Step]:
    """Runs a search; ``as_it_runs`` makes the plan that is trained and told of the one that was asked for."""
    key, steps, open_plans = key_of(seed), [], deque()
    state = strategy.init(key)
    while not strategy.done(state):
        assert len(steps) < 1000, "it does not terminate"
        while len(open_plans) <= strategy.lag:
            plan = strategy.ask(key, state)
            if not np.any(plan.active):
                assert open_plans, "it asks for nothing, and is not done"
                break
            plan = as_it_runs(plan)
            state = strategy.opened(state, plan)
            open_plans.append((plan, jnp.int32(len(steps))))
        plan, num_told = open_plans.popleft()
        scores = score(plan)
        state = strategy.tell(state, plan, scores)
        steps.append(Step(plan, num_told, scores, state))
    assert not open_plans, "it is done while plans are open"
    return steps


def scanned(strategy: Strategy, num_steps: int) -> Callable[[jax.Array], Step]:
    """The same as one program: all steps, stacked; those after the end without active rows."""

    def search(key: jax.Array) -> Step:
        def advance(carry: tuple[Any, list], told: jax.Array) -> tuple[tuple[Any, list], Step]:
            state, queue = carry
            for _ in range(strategy.lag + 1):
                state, queue = asked(strategy, key, state, queue, told)
            plan, num_told = queue[0]
            step = Step(plan, num_told, rugged(plan), strategy.tell(state, plan, rugged(plan)))
            return (step.state, [*queue[1:], (emptied(plan), num_told)]), step

        state = strategy.init(key)
        queue = [(emptied(strategy.ask(key, state)), jnp.int32(0))] * (strategy.lag + 1)
        return jax.lax.scan(advance, (state, queue), jnp.arange(num_steps, dtype=jnp.int32))[1]

    return search


def asked(strategy: Strategy, key: jax.Array, state: Any, queue: list, told: jax.Array) -> tuple[Any, list]:
    """Puts one more plan at the end of the queue if there is room, and something to ask for."""
    plan = strategy.ask(key, state)
    is_open = [waiting.active.any() for waiting, _ in queue]
    is_asked = plan.active.any() & ~is_open[-1]
    takes = [is_asked & ~here & before for here, before in zip(is_open, [jnp.array(True), *is_open], strict=False)]
    longer = [chosen(takes_it, (plan, told), entry) for takes_it, entry in zip(takes, queue, strict=True)]
    return chosen(is_asked, strategy.opened(state, plan), state), longer


def chosen(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda left, right: jnp.where(condition, left, right), yes, no)


def emptied(plan: Plan) -> Plan:
    return plan._replace(active=jnp.zeros_like(plan.active))


def stacked(steps: list[Step]) -> Step:
    return jax.tree.map(lambda *columns: np.stack(columns), *jax.device_get(steps))


def active_rows(steps: list[Step]) -> Plan:
    """The active rows of all plans, in their order."""
    columns = zip(*[[np.asarray(column)[step.plan.active] for column in step.plan] for step in steps], strict=True)
    return Plan(*[np.concatenate(column) for column in columns])  # pyright: ignore[reportArgumentType]  (numpy's)


def num_new(rows: Plan) -> int:
    return int(np.sum(rows.parent != rows.trial_id))


def is_inside(points: jax.Array) -> bool:
    return bool(np.all((np.asarray(points) >= 0) & (np.asarray(points) < 1)))


def new_rows(plan: Plan) -> np.ndarray:
    return np.asarray(plan.active & (plan.parent != plan.trial_id))


def packed_share(steps: list[Step], lanes: int) -> float:
    """What share of all lane-epochs trains a trial, where the rows of a plan that train alike fill chunks of lanes."""
    had, taken, spent = {}, 0, 0
    for step in steps:
        rows = active_rows([step])
        spans = [(had.get(parent, 0), budget) for parent, budget in zip(rows.parent, rows.budget, strict=True)]
        for start, end in set(spans):
            count = spans.count((start, end))
            taken += count * (end - start)
            spent += -(-count // lanes) * lanes * (end - start)
        had |= dict(zip(rows.trial_id, rows.budget, strict=True))
    return taken / spent


# What must hold of a search that was run


def check_shapes(strategy: Strategy, steps: list[Step], num_axes: int) -> None:
    for step in steps:
        columns = [step.plan.trial_id, step.plan.parent, step.plan.budget, step.plan.active]
        chex.assert_shape(columns, (strategy.max_lanes,))
        chex.assert_shape(step.plan.points, (strategy.max_lanes, num_axes))
        chex.assert_type(list(step.plan), [jnp.int32, jnp.int32, jnp.float32, jnp.int32, jnp.bool_])
        assert np.any(step.plan.active)


def check_ids(steps: list[Step]) -> None:
    """Ids rise in every plan, and those of new trials from plan to plan."""
    rows = active_rows(steps)
    assert np.all(rows.trial_id >= 0)
    assert np.all(np.diff(rows.trial_id[rows.parent != rows.trial_id]) > 0)
    for step in steps:
        assert np.all(np.diff(active_rows([step]).trial_id) > 0)


def check_parents(strategy: Strategy, steps: list[Step]) -> None:
    """Who has a parent comes after that has been told (so no trial is open twice), and while its weights are kept."""
    last_plan = {FRESH: -1}
    for number, step in enumerate(steps):
        rows = active_rows([step])
        assert number - strategy.lag <= step.num_told <= number
        parents = set(rows.parent) - {FRESH}
        assert all(last_plan[parent] < step.num_told for parent in parents)
        if strategy.keeps != "all":
            assert all(last_plan[parent] == number - 1 for parent in parents)
        assert strategy.keeps != "none" or not parents
        last_plan |= dict.fromkeys(rows.trial_id, number)


def check_budgets(steps: list[Step], epochs: int) -> None:
    """Every row trains, and for no longer than it may."""
    had = {FRESH: 0}
    for step in steps:
        rows = active_rows([step])
        for parent, budget in zip(rows.parent, rows.budget, strict=True):
            assert had[parent] < budget <= epochs
        had |= dict(zip(rows.trial_id, rows.budget, strict=True))


def check_points(steps: list[Step]) -> None:
    """New trials lie in the cube, and a trial that goes on where it was told to lie."""
    told: dict[int, np.ndarray] = {}
    for step in steps:
        plan = step.plan
        assert is_inside(plan.points[new_rows(plan)])
        check_continued_points(plan, told)
        rows = active_rows([step])
        told |= dict(zip(rows.trial_id, rows.points, strict=True))


def check_continued_points(plan: Plan, told: dict[int, np.ndarray]) -> None:
    for lane in np.flatnonzero(np.asarray(plan.active) & ~new_rows(plan)):
        np.testing.assert_array_equal(plan.points[lane], told[int(plan.trial_id[lane])])


def check_count(steps: list[Step], trials: int, may_try_fewer: bool) -> None:
    count = num_new(active_rows(steps))
    assert 1 <= count <= trials
    assert count == trials or may_try_fewer
