"""Strategies made of strategies: one after another, and tier after tier."""

import math
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import Bool, Float, Int, Key, PyTree

from vtune.defaults import TIERS, is_number
from vtune.protocols import FRESH, Axis, Plan, Strategy, StrategyFactory
from vtune.strategies.boxes import LAST
from vtune.strategies.factories import CALL, Factory, checked_factory
from vtune.strategies.leaders import Leaders
from vtune.strategies.zoom import coarse_to_fine

_KEEPS = ("none", "round", "all")
"""From the least that is kept to the most."""


# One after another


def chain(*factories: StrategyFactory, shares: Sequence[int | float] | None = None) -> Factory:
    """Runs strategies one after another, each with its share of the trials.

    Each sees the same axes and epochs and what its own trials scored, and draws from a key of its own. Trials are
    numbered through; a strategy that tries fewer than its share, as ``grid`` may, leaves a gap in the ids. With few
    trials a strategy may be left with none. A search that is continued runs all of them again on its new trials.

    Args:
        *factories: the strategies, as ``vtune.strategies.random()`` returns one.
        shares: how much of the trials each has, as weights above 0; the same for all by default.

    Returns:
        A factory ``(axes, trials, epochs) -> Strategy``.

    Raises:
        TypeError: for what is no strategy, or cannot be hashed.
        ValueError: for no strategies, or shares that are not one positive number a strategy.

    Example:
        >>> from vtune.strategies import random, sobol
        >>> chain(sobol(), random(), shares=(3, 1))([Axis("layers", 4, True)], trials=64, epochs=20).max_lanes
        48
    """
    if not factories:
        raise ValueError("chain() got no strategies. Write chain(vtune.strategies.sobol(), ...).")
    for factory in factories:
        is_list = isinstance(factory, list | tuple)
        _check_part(f"chain({factory!r})", factory, advice=f"Write chain(*{factory!r})" if is_list else CALL)
    return Factory("chain", _chain, {"shares": _checked_shares(shares, len(factories), "strategies")}, factories)


@lru_cache
def _chain(
    axes: tuple[Axis, ...],
    stages: tuple[int, ...],
    epochs: int,
    *factories: StrategyFactory,
    shares: tuple[int | float, ...] | None,
) -> Strategy:
    counts = [count for new in _new_of(stages) for count in split(new, shares or (1,) * len(factories))]
    turns = zip(factories * len(stages), counts, strict=True)
    return joined([(factory(axes, trials=count, epochs=epochs), count) for factory, count in turns if count])


class _State(NamedTuple):
    """Whose turn it is, where the number of strategies stands for "over"; its open plans; and the states of all."""

    turn: Int[Array, ""]
    num_open: Int[Array, ""]
    states: tuple[PyTree, ...]


def joined(turns: Sequence[tuple[Strategy, int]]) -> Strategy:
    """Returns the strategy that runs these one after another.

    Args:
        turns: the strategies, each with the trials that it has ids for.
    """
    strategies, counts = zip(*turns, strict=True)
    starts, lanes = (0, *accumulate(counts)), max(strategy.max_lanes for strategy in strategies)

    def init(key: Key[Array, ""]) -> _State:
        states = [strategy.init(jax.random.fold_in(key, turn)) for turn, strategy in enumerate(strategies)]
        return _State(jnp.int32(0), jnp.int32(0), tuple(states))

    def ask(key: Key[Array, ""], state: _State) -> Plan:
        def asked(turn: int) -> Plan:
            plan = strategies[turn].ask(jax.random.fold_in(key, turn), state.states[turn])
            has_room = state.num_open <= strategies[turn].lag
            return _padded(_renumbered(plan._replace(active=plan.active & has_room), starts[turn]), lanes)

        return _in_turn(asked, state.turn, len(strategies))

    def opened(state: _State, plan: Plan) -> _State:
        def announced(turn: int) -> tuple[PyTree, ...]:
            ours = strategies[turn].opened(state.states[turn], _cut(plan, turn))
            return (*state.states[:turn], ours, *state.states[turn + 1 :])

        return _State(state.turn, state.num_open + 1, _in_turn(announced, state.turn, len(strategies)))

    def tell(state: _State, plan: Plan, scores: Float[Array, " lanes"]) -> _State:
        def told(turn: int) -> _State:
            strategy = strategies[turn]
            ours = strategy.tell(state.states[turn], _cut(plan, turn), scores[: strategy.max_lanes])
            following = jnp.int32(turn) + jnp.asarray(strategy.done(ours)).astype(jnp.int32)
            states = (*state.states[:turn], ours, *state.states[turn + 1 :])
            return _State(following, jnp.maximum(state.num_open - 1, 0), states)

        return _in_turn(told, state.turn, len(strategies))

    def _cut(plan: Plan, turn: int) -> Plan:
        rows = jax.tree.map(lambda column: column[: strategies[turn].max_lanes], plan)
        return _renumbered(rows, -starts[turn])

    return Strategy(
        init,
        ask,
        tell,
        done=lambda state: state.turn >= len(strategies),
        max_lanes=lanes,
        keeps=max((strategy.keeps for strategy in strategies), key=_KEEPS.index),
        lag=max(strategy.lag for strategy in strategies),
        opened=opened,
        is_traceable=all(strategy.is_traceable for strategy in strategies),
    )


def _in_turn(function: Callable[[int], Any], turn: Int[Array, ""], num_turns: int) -> Any:
    """Returns what the function makes of the turn, the last one for "over"; of all of them where that is traced."""
    turn = jnp.minimum(turn, num_turns - 1)
    if isinstance(turn, Tracer):
        return jax.lax.switch(turn, [partial(function, number) for number in range(num_turns)])
    return function(int(turn))


def _renumbered(plan: Plan, shift: int) -> Plan:
    """Returns the plan with other ids; nobody's stay nobody's."""
    trial_id, parent = (jnp.where(ids == FRESH, FRESH, ids + shift) for ids in (plan.trial_id, plan.parent))
    return plan._replace(trial_id=trial_id, parent=parent)


def _padded(plan: Plan, lanes: int) -> Plan:
    """Returns the plan with inactive rows at its end, so that it has this many."""
    missing = lanes - len(plan.active)
    nobody, nothing = jnp.full(missing, FRESH, jnp.int32), jnp.zeros(missing, jnp.int32)
    points = jnp.zeros((missing, plan.points.shape[1]), jnp.float32)
    rows = Plan(nobody, nobody, points, nothing, nothing.astype(bool))
    return jax.tree.map(lambda column, more: jnp.concatenate([column, more]), plan, rows)


def _new_of(stages: tuple[int, ...]) -> list[int]:
    """Returns how many trials each stage adds."""
    return [end - start for start, end in pairwise((0, *stages))]


def split(trials: int, shares: Sequence[int | float]) -> list[int]:
    """Returns how many trials each has; together they have all.

    Example:
        >>> split(10, (1, 1, 1)), split(10, (3, 1)), split(1, (1, 1))
        ([3, 4, 3], [8, 2], [1, 0])
    """
    *_, total = parts = list(accumulate(shares))
    ends = [int(trials * part / total + 0.5) for part in parts]
    return [end - start for start, end in pairwise((0, *ends))]


def _check_part(written: str, factory: Any, advice: str = CALL) -> None:
    """Refuses what is no strategy, or not to be kept by.

    Raises:
        TypeError: for such a one.
    """
    if isinstance(factory, str):
        advice = "A name alone is taken by search(). Write for example vtune.strategies.random()"
    checked_factory(written, factory, advice)
    if not isinstance(factory, Hashable):
        raise TypeError(f"{written} cannot be hashed, and strategies are remembered by it. Write a function.")


def _checked_shares(shares: Sequence[int | float] | None, count: int, of_what: str) -> tuple[int | float, ...] | None:
    if shares is None:
        return None
    written = shares if isinstance(shares, Sequence) else ()
    if len(written) != count or not all(is_number(share) and 0 < share < math.inf for share in written):
        example = (2,) + (1,) * (count - 1)
        raise ValueError(
            f"shares={shares!r}: there are {count} {of_what}, and each needs a number above 0, which are weighed "
            f"against one another. Write for example shares={example}."
        )
    return tuple(written)


# Tier after tier


def tiered(inner: StrategyFactory | None = None, shares: Sequence[int | float] | None = None) -> Factory:
    """Searches what matters most first, then what matters less with the best of that.

    First the parameters of tier 1 vary (the learning rate; an optimizer to choose counts too), then those of tier 2
    (momentum, batch size, hidden units), of tier 3 (layers, decay) and of tier 4 (the rest of Adam's). Meanwhile those
    of earlier tiers have the values of the best trial so far, and those of later ones their defaults, or the middle of
    their range without one. A name of one's own belongs to the last tier that there is. Tiers without a parameter are
    left out. A search that is continued goes through the tiers again, with everything else at the best.

    What a trial of the best does not use has its default too. Where that lies outside the range, its nearest end.

    Source: A. Ng, "Improving Deep Neural Networks" (deeplearning.ai), week 3, "Tuning process", for the order.
    Departure: the course searches all at once; here to compare with it, on the same number of trials.

    Args:
        inner: the strategy within a tier; by default ``coarse_to_fine()``.
        shares: how much of the trials each of the four tiers has, as weights above 0; the same by default.

    Returns:
        A factory ``(axes, trials, epochs) -> Strategy``.

    Raises:
        TypeError: for an ``inner`` that is no strategy, or cannot be hashed.
        ValueError: for shares that are not four positive numbers.

    Example:
        >>> axes = [Axis("learning_rate", None, True), Axis("hidden", 241, True), Axis("layers", 4, True)]
        >>> tiered(shares=(4, 2, 1, 1))(axes, trials=70, epochs=20).max_lanes
        10
    """
    if inner is not None:
        _check_part(f"inner={inner!r}", inner)
    return Factory("tiered", _tiered, {"inner": inner, "shares": _checked_shares(shares, len(_ALL_TIERS), "tiers")})


_ALL_TIERS = tuple(sorted(set(TIERS.values())))


@lru_cache
def _tiered(
    axes: tuple[Axis, ...],
    stages: tuple[int, ...],
    epochs: int,
    inner: StrategyFactory | None,
    shares: tuple[int | float, ...] | None,
) -> Strategy:
    columns_of, factory = tiers_of(axes), inner or coarse_to_fine()
    weights = [1 if shares is None else shares[_ALL_TIERS.index(tier)] for tier in columns_of]
    counts = [count for new in _new_of(stages) for count in split(new, weights)]
    turns, elsewhere = [], np.array([axis.default for axis in axes], np.float32).clip(0, LAST)
    for columns, count in zip([*columns_of.values()] * len(stages), counts, strict=True):
        if count:
            strategy = factory([axes[column] for column in columns], trials=count, epochs=epochs)
            turns.append((inside(strategy, columns, elsewhere.copy()), count))
            elsewhere[list(columns)] = np.nan
    return from_the_best(joined(turns), axes, stages[-1])


def tiers_of(axes: Sequence[Axis]) -> dict[int, tuple[int, ...]]:
    """Returns the columns of each tier that has any, what matters most first.

    Example:
        >>> names = ["width", "hidden_2", "optimizer", "layers", "learning_rate"]
        >>> tiers_of([Axis(name, None, True) for name in names])
        {1: (2, 4), 2: (1,), 3: (0, 3)}
    """
    tiers = [_tier_of(axis.name) for axis in axes]
    last = max((tier for tier in tiers if tier is not None), default=_ALL_TIERS[0])
    by_tier = {tier: [c for c, of in enumerate(tiers) if (last if of is None else of) == tier] for tier in _ALL_TIERS}
    return {tier: tuple(columns) for tier, columns in by_tier.items() if columns}


def _tier_of(name: str) -> int | None:
    """Returns the tier of a known name, that of a layer included: ``hidden_3`` is ``hidden``."""
    whole, _, layer = name.rpartition("_")
    return (TIERS | {"optimizer": 1}).get(whole if layer.isdigit() else name)


def inside(strategy: Strategy, columns: Sequence[int], elsewhere: Float[np.ndarray, " axes"]) -> Strategy:
    """Returns a strategy of some columns as one of a whole cube: it puts its points there, and sees no others.

    Args:
        strategy: the one to wrap.
        columns: where its axes are in the cube, in their order.
        elsewhere: what its plans have in the other columns.
    """
    own = np.array(columns, np.int32)

    def ask(key: Key[Array, ""], state: PyTree) -> Plan:
        plan = strategy.ask(key, state)
        rows = jnp.tile(jnp.asarray(elsewhere)[None], (strategy.max_lanes, 1))
        return plan._replace(points=rows.at[:, own].set(plan.points))

    def cut(plan: Plan) -> Plan:
        return plan._replace(points=plan.points[:, own])

    return strategy._replace(
        ask=ask,
        tell=lambda state, plan, scores: strategy.tell(state, cut(plan), scores),
        opened=lambda state, plan: strategy.opened(state, cut(plan)),
    )


class _Filled(NamedTuple):
    """The state of the strategy that is filled in for, the best trial, and where every trial was told to lie."""

    inner: PyTree
    best: Leaders
    points: Float[Array, "trials axes"]


def from_the_best(strategy: Strategy, axes: Sequence[Axis], trials: int) -> Strategy:
    """Returns the strategy with the best trial's coordinates in its new trials wherever theirs are NaN.

    Args:
        strategy: the one to wrap.
        axes: of the cube, for their defaults where no trial is finite, or the best does not use a parameter.
        trials: how many trials it has ids for.
    """
    defaults = np.array([axis.default for axis in axes], np.float32)

    def init(key: Key[Array, ""]) -> _Filled:
        nowhere = jnp.zeros((trials, len(axes)), jnp.float32)
        return _Filled(strategy.init(key), Leaders.nobody(1, len(axes)), nowhere)

    def ask(key: Key[Array, ""], state: _Filled) -> Plan:
        plan = strategy.ask(key, state.inner)
        best = jnp.where(state.best.known(), state.best.points, defaults[None]).clip(0, LAST)
        points = jnp.where(jnp.isnan(plan.points), best, plan.points)
        return plan._replace(points=jnp.where(_goes_on(plan)[:, None], state.points[plan.trial_id], points))

    def tell(state: _Filled, plan: Plan, scores: Float[Array, " lanes"]) -> _Filled:
        place = jnp.where(plan.active, plan.trial_id, trials)
        return _Filled(
            inner=strategy.tell(state.inner, plan, scores),
            best=state.best.after(plan, scores),
            points=state.points.at[place].set(plan.points, mode="drop"),
        )

    def opened(state: _Filled, plan: Plan) -> _Filled:
        return state._replace(inner=strategy.opened(state.inner, plan))

    return strategy._replace(
        init=init, ask=ask, tell=tell, opened=opened, done=lambda state: strategy.done(state.inner)
    )


def _goes_on(plan: Plan) -> Bool[Array, " lanes"]:
    return plan.active & (plan.parent == plan.trial_id)
