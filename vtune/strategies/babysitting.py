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
from vtune.strategies.factories import Factory
from vtune.strategies.panda import Act, Rules, Watch

GRID = 1 << 24
"""Moved points are multiples of one over this, so that they come out the same however they are worked out."""


class _State(NamedTuple):
    """What is known of the days so far.

    Attributes:
        watch: what the rule knows.
        points: of each day, as told.
        budgets: epochs at the end of each day.
        num_days: how many days were asked for and told.
    """

    watch: Watch
    points: Float[Array, "days axes"]
    budgets: Int[Array, " days"]
    num_days: Int[Array, ""]


def babysit(day: int = 1, up: float = 1.25, down: float = 0.5, look_ahead: int = 1) -> Factory:
    """TODO."""
    return Factory("babysit", _babysit, {"day": day, "up": up, "down": down, "look_ahead": look_ahead})


@lru_cache
def _babysit(
    axes: tuple[Axis, ...],
    stages: tuple[int, ...],
    epochs: int,
    day: int,
    up: float,
    down: float,
    look_ahead: int,
) -> Strategy:
    moves = Moves.of(axes)
    rules = Rules(up, down, has_momentum=bool(np.any(moves.momentum)))
    trials = stages[-1]
    lane = np.arange(look_ahead, dtype=np.int32)

    def init(key: Key[Array, ""]) -> _State:
        points = jnp.broadcast_to(jnp.asarray(moves.defaults), (trials, len(axes)))
        return _State(panda.start(), points, jnp.zeros(trials, jnp.int32), jnp.int32(0))

    def offers(state: _State) -> Watch:
        """The rule's own act, and beside it what else could be done from the same day."""
        return panda.offers(state.watch, look_ahead, rules)

    def ask(key: Key[Array, ""], state: _State) -> Plan:
        watches = offers(state)
        trial_id, origin = state.num_days + lane, watches.origin
        is_fresh = origin == FRESH
        budget = day + jnp.where(is_fresh, 0, state.budgets[jnp.maximum(origin, 0)])
        active = (trial_id < trials) & (budget <= epochs) & ((state.num_days > 0) | (lane == 0))
        nobody = jnp.full(look_ahead, FRESH, jnp.int32)
        return Plan(
            trial_id=jnp.where(active, trial_id, nobody),
            parent=jnp.where(active, origin, nobody),
            points=moves.moved(state.points[jnp.maximum(watches.like, 0)], watches.rate, watches.momentum),
            budget=budget,
            active=active,
        )

    def tell(state: _State, plan: Plan, scores: Float[Array, " lanes"]) -> _State:
        best = jnp.argmin(jnp.where(plan.active & jnp.isfinite(scores), scores, jnp.inf))
        watch = jax.tree.map(lambda column: column[best], offers(state))
        place = jnp.where(plan.active, plan.trial_id, trials)
        num_days = state.num_days + jnp.sum(plan.active, dtype=jnp.int32)
        _, watch = panda.decide(watch._replace(day=state.num_days + best.astype(jnp.int32)), scores[best], rules)
        told = _State(
            watch._replace(day=num_days),
            state.points.at[place].set(plan.points, mode="drop"),
            state.budgets.at[place].set(plan.budget, mode="drop"),
            num_days,
        )
        return jax.tree.map(lambda new, old: jnp.where(jnp.any(plan.active), new, old), told, state)

    def done(state: _State) -> Bool[Array, ""]:
        return ~jnp.any(ask(None, state).active)

    return Strategy(init, ask, tell, done=done, max_lanes=look_ahead, keeps="all")


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
        momentum = [
            -GRID / axis.log_length if axis.name in ("momentum", "beta1") and axis.log_length else 0.0 for axis in axes
        ]
        defaults = np.clip(np.round(np.array([axis.default for axis in axes]) * GRID), 0, GRID - 1) / GRID
        return cls(*(np.array(column, np.float32) for column in (defaults, rate, momentum)))

    def moved(
        self, points: Float[Array, "lanes axes"], rate: Float[Array, " lanes"], momentum: Float[Array, " lanes"]
    ) -> Float[Array, "lanes axes"]:
        """Returns the points with learning rate and momentum changed, inside the cube; a coordinate that was not used
        at its default."""
        points = jnp.where(jnp.isnan(points), self.defaults, points)
        steps = [jnp.round(change[:, None] * of[None]) for change, of in ((rate, self.rate), (momentum, self.momentum))]
        whole = sum(jnp.clip(step, -GRID, GRID).astype(jnp.int32) for step in steps)
        places = jnp.clip(jnp.round(points * GRID).astype(jnp.int32) + whole, 0, GRID - 1)
        return jnp.where(whole == 0, jnp.minimum(points, 1 - 1 / GRID), places.astype(jnp.float32) / GRID)
