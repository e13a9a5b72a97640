"""Babysitting: one network, day after day, its learning rate nudged as its scores call for; Ng's panda."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Key

from vtune.arguments import check_count
from vtune.defaults import is_number
from vtune.protocols import FRESH, Axis, Plan, Strategy
from vtune.strategies import panda
from vtune.strategies.boxes import GRID
from vtune.strategies.factories import Factory
from vtune.strategies.leaders import worst_last
from vtune.strategies.panda import Rules, Watch

_MOMENTA = ("momentum", "beta1")
"""The names of what is moved as momentum."""


def babysit(day: int = 1, up: float | int = 1.25, down: float | int = 0.5, look_ahead: int = 1) -> Factory:
    """Looks after one network from day to day, as a panda raises its single cub, instead of spawning many.

    A day is a few epochs, and a trial: it starts from the weights and the optimizer's state that another day ended
    with, its ``parent``, and changes the learning rate or the momentum at most. The first day starts fresh, where
    ``start=[{"learning_rate": ...}]`` says, or at defaults. The second tries it again at ``down ** 3`` of the rate, by
    default an eighth, and so on, ever lower, while that is better. After good days the learning rate goes up, each time
    that this helps by a factor whose logarithm is twice as large; on a plateau it goes down, and momentum up; a change
    that does not help is undone, and after a day that went wrong the best one is returned to. When nothing helps any
    more, a network is begun from the first weights again, near the learning rate that served best. The rule is
    ``vtune.strategies.panda.decide``.

    The search ends when its ``trials``, the days, are spent, or when a day would pass ``epochs``, which leaves at most
    ``trials - epochs // day`` of them unspent. It ranks trials of equal budgets alone, so the last days go to training
    the best network for as long as any other. A search that is continued goes on from before those days. Use it with
    ``select="best_epoch"``: the curves of a day begin with those of the days that led to it, so that day is then ranked
    first, and its best epoch is the best of them all.

    Source: A. Ng, "Improving Deep Neural Networks" (deeplearning.ai), week 3, "Hyperparameters tuning in practice:
    pandas vs. caviar". Departures: the course gives no rule; restarts, undone days and several networks one after the
    other are ours.

    Args:
        day: how many epochs a day has.
        up: times the learning rate, after good days.
        down: times the learning rate, on a plateau.
        look_ahead: in how many ways a day is tried, side by side: as the rule says, and with a larger and a smaller
            learning rate; the best is gone on from. Each is a trial.

    Returns:
        A factory ``(axes, trials, epochs) -> Strategy``.

    Raises:
        ValueError: for counts below 1, an ``up`` that is not above 1, a ``down`` outside (0, 1), and by the factory for
            a ``day`` longer than ``epochs``, or a learning rate that does not vary on a log scale.

    Example:
        >>> from math import log
        >>> rate = Axis("learning_rate", None, True, log_length=log(1e4))
        >>> babysit(look_ahead=3)([rate], trials=100, epochs=50).max_lanes
        3
    """
    check_count("day", day, least=1, example=1)
    check_count("look_ahead", look_ahead, least=1, example=3)
    for name, factor, low, high, example in (("up", up, 1, np.inf, 1.25), ("down", down, 0, 1, 0.5)):
        if not (is_number(factor) and low < factor < high):
            raise ValueError(
                f"{name}={factor!r}: the learning rate would not go {name} by that factor. Write {name}={example}."
            )
    return Factory("babysit", _babysit, {"day": day, "up": up, "down": down, "look_ahead": look_ahead})


class _State(NamedTuple):
    """What is known of the days so far.

    Attributes:
        watch: what the rule knows.
        points: of each day, as told.
        budgets: epochs at the end of each day.
        scores: of each day.
        num_days: how many were told.
        closing: the last of the closing days; ``FRESH`` before them.
        stage: the search before it was continued, or how many times it has been.
    """

    watch: Watch
    points: Float[Array, "days axes"]
    budgets: Int[Array, " days"]
    scores: Float[Array, " days"]
    num_days: Int[Array, ""]
    closing: Int[Array, ""]
    stage: Int[Array, ""]

    def best(self) -> Int[Array, ""]:
        """Returns the day with the best score, of several the longest trained one."""
        return jnp.lexsort((-self.budgets, self.scores))[0].astype(jnp.int32)

    def budget(self, day: Int[Array, ""]) -> Int[Array, ""]:
        """Returns the epochs at the end of a day."""
        return jnp.where(day == FRESH, 0, self.budgets[jnp.maximum(day, 0)])


class _Offer(NamedTuple):
    """The days to be trained next, a row each.

    Attributes:
        watch: what the rule has done before them.
        is_closing: whether the best network is trained on till the end, so that none was trained for longer.
        is_open: whether there is anything left to train.
    """

    watch: Watch
    is_closing: Bool[Array, ""]
    is_open: Bool[Array, ""]


@lru_cache
def _babysit(
    axes: tuple[Axis, ...],
    stages: tuple[int, ...],
    epochs: int,
    day: int,
    up: float | int,
    down: float | int,
    look_ahead: int,
) -> Strategy:
    _check_search(axes, epochs, day)
    moves, trials = Moves.of(axes), stages[-1]
    rules = Rules(float(up), float(down), has_momentum=bool(np.any(moves.momentum)))
    lane = np.arange(look_ahead, dtype=np.int32)

    def init(key: Key[Array, ""]) -> _State:
        points, nobody = jnp.tile(jnp.asarray(moves.defaults)[None], (trials, 1)), jnp.int32(FRESH)
        unknown = jnp.full(trials, jnp.inf, jnp.float32)
        return _State(panda.start(), points, jnp.zeros(trials, jnp.int32), unknown, jnp.int32(0), nobody, jnp.int32(0))

    def offer(state: _State) -> _Offer:
        best = jnp.where(state.closing == FRESH, state.best(), state.closing)
        left, longest = jnp.asarray(stages, jnp.int32)[state.stage] - state.num_days, jnp.max(state.budgets)
        lacking, following = longest - state.budget(best), state.budget(state.watch.origin) + day
        is_too_long, spare = following > epochs, left - jnp.minimum(left, look_ahead)
        is_late = jnp.maximum(lacking, longest - following) > spare * day
        is_closing = (state.num_days > 0) & (is_late | is_too_long | (state.closing != FRESH))
        watches = panda.offers(state.watch, look_ahead, rules)
        going_on = panda.going_on(watches, best)
        return _Offer(
            watch=jax.tree.map(lambda on, own: jnp.where(is_closing, on, own), going_on, watches),
            is_closing=is_closing,
            is_open=(left > 0) & ((state.budget(best) + day <= epochs) | ~is_closing),
        )

    def continued(state: _State) -> _State:
        """Returns the state in the first stage in which a day is left."""
        for _ in stages[1:]:
            is_over = ~offer(state).is_open & (state.stage < len(stages) - 1)
            state = state._replace(
                stage=state.stage + is_over.astype(jnp.int32), closing=jnp.where(is_over, FRESH, state.closing)
            )
        return state

    def ask(key: Key[Array, ""], state: _State) -> Plan:
        watch, is_closing, is_open = offer(state)
        trial_id, is_alone = state.num_days + lane, is_closing | (state.num_days == 0)
        end = jnp.asarray(stages, jnp.int32)[state.stage]
        active = is_open & (trial_id < end) & ((lane == 0) | ~is_alone)
        nobody = jnp.full(look_ahead, FRESH, jnp.int32)
        return Plan(
            trial_id=jnp.where(active, trial_id, nobody),
            parent=jnp.where(active, watch.origin, nobody),
            points=moves.moved(state.points[jnp.maximum(watch.like, 0)], watch.rate, watch.momentum),
            budget=jnp.full(look_ahead, state.budget(watch.origin[0]) + day),
            active=active,
        )

    def tell(state: _State, plan: Plan, scores: Float[Array, " lanes"]) -> _State:
        (watch, is_closing, _), ranked = offer(state), worst_last(scores, plan.active)
        best = jnp.argmin(ranked).astype(jnp.int32)
        ours = jax.tree.map(lambda column: column[best], watch)._replace(day=state.num_days + best)
        _, decided = panda.decide(ours, ranked[best], rules)
        following = jax.tree.map(lambda old, new: jnp.where(is_closing, old, new), state.watch, decided)
        place = jnp.where(plan.active, plan.trial_id, trials)
        num_days = state.num_days + jnp.sum(plan.active, dtype=jnp.int32)
        told = _State(
            watch=following._replace(day=num_days),
            points=state.points.at[place].set(plan.points, mode="drop"),
            budgets=state.budgets.at[place].set(plan.budget, mode="drop"),
            scores=state.scores.at[place].set(ranked, mode="drop"),
            num_days=num_days,
            closing=jnp.where(is_closing, state.num_days, FRESH),
            stage=state.stage,
        )
        return jax.tree.map(lambda new, old: jnp.where(jnp.any(plan.active), new, old), continued(told), state)

    return Strategy(init, ask, tell, done=lambda state: ~offer(state).is_open, max_lanes=look_ahead, keeps="all")


def has_rate(axes: Sequence[Axis]) -> bool:
    """Returns whether there is what babysitting moves: a learning rate that varies on a log scale.

    Example:
        >>> has_rate([Axis("learning_rate", None, True)]), has_rate([Axis("learning_rate", None, True, log_length=9.2)])
        (False, True)
    """
    return any(axis.name == "learning_rate" and axis.log_length for axis in axes)


def _check_search(axes: Sequence[Axis], epochs: int, day: int) -> None:
    if day > epochs:
        raise ValueError(f"day={day}: no day ends in a search with epochs={epochs}. Write day=1, or epochs={50 * day}.")
    if not has_rate(axes):
        raise ValueError(
            f"babysit() multiplies the learning rate, and the axes {[axis.name for axis in axes]} have none on a log "
            'scale. Write "learning_rate": loguniform(1e-6, 10.0) into the space.'
        )


class Moves(NamedTuple):
    """How points move for a factor, in the integers of ``GRID``.

    Attributes:
        defaults: the point to start at.
        rate: for each axis by how much it moves for a learning rate that is larger by e; 0 on others.
        momentum: likewise for 1 - momentum.
    """

    defaults: np.ndarray
    rate: np.ndarray
    momentum: np.ndarray

    @classmethod
    def of(cls, axes: Sequence[Axis]) -> "Moves":
        """Returns how points of a cube with these axes move."""
        rate = [GRID / axis.log_length if axis.name == "learning_rate" and axis.log_length else 0.0 for axis in axes]
        momentum = [-GRID / axis.log_length if axis.name in _MOMENTA and axis.log_length else 0.0 for axis in axes]
        defaults = np.clip(np.round(np.array([axis.default for axis in axes]) * GRID), 0, GRID - 1) / GRID
        return cls(*(np.array(column, np.float32) for column in (defaults, rate, momentum)))

    def moved(
        self, points: Float[Array, "lanes axes"], rate: Float[Array, " lanes"], momentum: Float[Array, " lanes"]
    ) -> Float[Array, "lanes axes"]:
        """Returns the points with learning rate and momentum changed, inside the cube; what was not used at defaults.

        Args:
            points: as told, NaN for a hyperparameter that was not used.
            rate: logarithms of factors.
            momentum: likewise, of 1 - momentum.
        """
        points = jnp.where(jnp.isnan(points), self.defaults, points)
        steps = [jnp.round(change[:, None] * of[None]) for change, of in ((rate, self.rate), (momentum, self.momentum))]
        whole = sum(jnp.clip(step, -GRID, GRID).astype(jnp.int32) for step in steps)
        places = jnp.clip(jnp.round(points * GRID).astype(jnp.int32) + whole, 0, GRID - 1)
        return jnp.where(whole == 0, jnp.minimum(points, 1 - 1 / GRID), places.astype(jnp.float32) / GRID)
