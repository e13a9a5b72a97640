"""Runs a strategy for many keys at a time, as a study would, on trials that train in no time."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, Key

from vtune.protocols import FRESH, Axis, Plan, Strategy, StrategyFactory

RATE = Axis("learning_rate", None, True, log_length=math.log(1e4))
"""An axis that every strategy can do something with."""

_ATTEMPTS = 6
"""How often a number of trials is tried out, to spend a given number of epochs."""

Scores = Callable[[Key[Array, " seeds"], Plan], tuple[Array, Array]]
"""What the trials of a plan score, and their regrets."""


class Outcome(NamedTuple):
    """What a strategy came to, one entry a seed.

    Attributes:
        regret: of the point that it ranked best: the lowest score among the trials of the largest budget that there is.
        best_regret: of the best point that it tried, at whatever budget.
        trainings: epochs spent, in whole trainings; one that goes on from another trial pays for the rest alone.
    """

    regret: Float[np.ndarray, " seeds"]
    best_regret: Float[np.ndarray, " seeds"]
    trainings: Float[np.ndarray, " seeds"]


class Told(NamedTuple):
    """A plan with what came of it, stacked over the seeds."""

    plan: Plan
    scores: Float[np.ndarray, "seeds lanes"]
    regrets: Float[np.ndarray, "seeds lanes"]


def run(strategy: Strategy, keys: Key[Array, " seeds"], scores: Scores, epochs: int) -> Outcome:
    """Searches once a key."""
    rounds = list(search(strategy, keys, scores))
    columns = [
        np.concatenate([np.asarray(column) for column in columns], axis=1)
        for columns in zip(*[(*told.plan, told.scores, told.regrets) for told in rounds], strict=True)
    ]
    trial_id, parent, _, budget, active, score, regret = columns
    score = np.where(active & np.isfinite(score), score, np.inf)
    largest = np.max(np.where(active, budget, 0), axis=1, keepdims=True)
    chosen = np.argmin(np.where(active & (budget == largest), score, np.inf), axis=1)
    spent = [
        epochs_spent(*(column[active[seed]] for column in rows))
        for seed, rows in enumerate(zip(trial_id, parent, budget, strict=True))
    ]
    return Outcome(
        regret[np.arange(len(chosen)), chosen],
        np.min(np.where(active, regret, np.inf), axis=1),
        np.array(spent) / epochs,
    )


def search(strategy: Strategy, keys: Key[Array, " seeds"], scores: Scores) -> Iterator[Told]:
    """Asks and tells until all seeds are done, with as many plans open as the strategy allows."""
    many = for_many(strategy)
    states, waiting = many.init(keys), deque()
    while not np.all(many.done(states)):
        while len(waiting) <= strategy.lag:
            waiting.append(many.ask(keys, states))
            states = many.opened(states, waiting[-1])
        plan = waiting.popleft()
        found = scores(keys, plan)
        yield Told(plan, *map(np.asarray, found))
        states = many.tell(states, plan, found[0])


@lru_cache
def for_many(strategy: Strategy) -> Strategy:
    """Returns the strategy as functions of many keys: one program each, or a loop where JAX cannot trace it."""
    if strategy.is_traceable:
        made = {"init": strategy.init, "ask": strategy.ask, "done": strategy.done}
        made |= {name: where_active(getattr(strategy, name)) for name in ("opened", "tell")}
        return strategy._replace(**{name: jax.jit(jax.vmap(function)) for name, function in made.items()})

    def ask(keys: Any, states: list[Any]) -> Plan:
        plans = [strategy.ask(key, state) for key, state in zip(keys, states, strict=True)]
        return jax.tree.map(lambda *rows: np.stack([np.asarray(row) for row in rows]), *plans)

    def tell(states: list[Any], plan: Plan, scores: Array) -> list[Any]:
        plans = [Plan(*rows) for rows in zip(*plan, strict=True)]
        return [strategy.tell(*row) for row in zip(states, plans, np.asarray(scores), strict=True)]

    return strategy._replace(
        init=lambda keys: [strategy.init(key) for key in keys],
        ask=ask,
        tell=tell,
        opened=lambda states, plan: states,
        done=lambda states: np.array([bool(strategy.done(state)) for state in states]),
    )


def where_active(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function of a state and a plan so that it does nothing for a plan that asks for nothing.

    Of several seeds one may have to wait, or be done, while others go on.
    """

    def guarded(state: Any, plan: Plan, *scores: Array) -> Any:
        return jax.tree.map(
            lambda new, old: jnp.where(plan.active.any(), new, old), function(state, plan, *scores), state
        )

    return guarded


def epochs_spent(
    trial_ids: Int[np.ndarray, " rows"], parents: Int[np.ndarray, " rows"], budgets: Int[np.ndarray, " rows"]
) -> int:
    """Returns the epochs that plans train, one row a trial in their order; budgets include the parent's epochs.

    Example:
        >>> epochs_spent(np.array([0, 1, 0]), np.array([-1, -1, 0]), np.array([1, 1, 3]))
        4
        >>> epochs_spent(np.array([0, 0, 1]), np.array([-1, 0, 0]), np.array([1, 3, 3]))
        5
    """
    trained, before, spent = {FRESH: 0}, {}, 0
    for trial_id, parent, budget in zip(trial_ids.tolist(), parents.tolist(), budgets.tolist(), strict=True):
        goes_on_too = trained[parent] >= budget  # in this plan, and its child starts from what it was before
        spent += budget - (before[parent] if goes_on_too else trained[parent])
        before[trial_id], trained[trial_id] = trained.get(trial_id, 0), budget
    return spent


def fitted_trials(factory: StrategyFactory, trainings: int, epochs: int) -> int:
    """Returns how many trials to ask a strategy for, so that it spends as many epochs as so many whole trainings.

    Those that stop trials early are given more of them, as close below the total as a few attempts come; one that
    spends no more when it is given more trials keeps the number of trainings.
    """
    key = jax.random.split(jax.random.key(0, impl="threefry2x32"), 1)

    def scores(keys: Any, plan: Plan) -> tuple[Array, Array]:
        noise = np.random.default_rng(0).normal(size=np.shape(plan.active)).astype(np.float32)
        return noise, noise  # pyright: ignore[reportReturnType]  (NumPy's will do)

    trials, best = trainings, None
    for _ in range(_ATTEMPTS):
        made = factory([RATE], trials=trials, epochs=epochs)
        if not made.is_traceable:
            return trainings
        spent = float(run(made, key, scores, epochs).trainings[0])
        if spent <= trainings and (best is None or spent > best[0]):
            best = spent, trials
        if 0.98 * trainings <= spent <= trainings:
            break
        aim = trainings if spent < trainings else 0.99 * trainings  # a step back must not end too far again
        trials = max(1, int(trials * aim / spent))
    return best[1] if best else trials
