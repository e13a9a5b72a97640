"""Population based training: many networks side by side, the worst of which take over from the best, again and again.

A coordinate is moved in whole steps of 2**-24, as in ``vtune.strategies.boxes``: in floats, its last bit would depend
on what the compiler fuses.
"""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, Key

from vtune.arguments import check_count
from vtune.defaults import is_number
from vtune.protocols import FRESH, Axis, Plan, Strategy
from vtune.space import sample_points
from vtune.strategies.boxes import GRID
from vtune.strategies.compositions import joined
from vtune.strategies.factories import Factory
from vtune.strategies.leaders import worst_last

_POINT, _PARENT, _STEP, _COIN = range(4)
"""What a trial's draws are for."""


def population_based(generations: int = 8, quantile: float = 0.25, step: float = 0.1) -> Factory:
    """Trains a population together, and lets the worst take over from the best, with hyperparameters a bit changed.

    The epochs are cut into generations, and a plan is one of them: all members train on. After it the worst quarter
    gives way to new trials. The parent of each is one of the best quarter, drawn at random: the new trial goes on from
    its weights, optimizer and model state (``Plan.parent``), and with its hyperparameters, each moved by up to ``step``
    of its range, up or down, and reflected at the bounds; an unordered category is drawn anew with the probability
    ``step``, and what the parent did not use always. So a network changes its hyperparameters while it trains, and the
    lineage of the best is a schedule. Structure (layers, hidden units, batch size, optimizer) stays the parent's,
    whatever is asked for, so points are those of the plans told.

    The trials are those of the first generation and all that come later: the first has the most with which no more are
    needed than there are, and where some are left over, the earliest generations replace one more each. Equal scores
    rank by trial id. Trials that diverged rank last and are never parents; where all have, the new trials start from
    new weights, at points drawn from the whole cube. More of those that diverged than are replaced stay in, frozen. A
    search that is continued starts another population.

    Source: Jaderberg et al. (2017), "Population Based Training of Neural Networks", arXiv:1711.09846, with truncation
    selection. Departures: members are compared at the end of a generation, all at once; steps are taken in the unit
    cube of the scales instead of multiplying by 0.8 or 1.2, so that no value leaves its range.

    Args:
        generations: how many; fewer where there are fewer epochs. Their lengths differ by one epoch at most.
        quantile: the share of the population that is replaced, and of that which may be parents; rounded down, but
            there is one parent at least.
        step: the farthest that a coordinate moves, as a share of its edge.

    Returns:
        A factory ``(axes, trials, epochs) -> Strategy``.

    Raises:
        ValueError: for generations below 1, a quantile outside (0, 0.5), or a step outside (0, 1].

    Example:
        >>> population_based()([Axis("learning_rate", None, True)], trials=88, epochs=20).max_lanes
        32
    """
    check_count("generations", generations, least=1, example=8)
    if not (is_number(quantile) and 0 < quantile < 0.5):
        raise ValueError(
            f"quantile={quantile!r}: the share that is replaced must lie between 0 and 0.5, so that nobody is among "
            "both the best and the worst. Write for example quantile=0.25."
        )
    if not (is_number(step) and 0 < step <= 1):
        raise ValueError(
            f"step={step!r}: a coordinate moves by a share of its edge, above 0 and up to 1. Write for example "
            "step=0.1."
        )
    settings = {"generations": generations, "quantile": quantile, "step": step}
    return Factory("population_based", _population_based, settings)


@lru_cache
def _population_based(
    axes: tuple[Axis, ...], stages: tuple[int, ...], epochs: int, generations: int, quantile: float, step: float
) -> Strategy:
    news = [end - start for start, end in pairwise((0, *stages))]
    return joined(
        [(_population(Sizes.of(new, min(generations, epochs), quantile), axes, epochs, step), new) for new in news]
    )


class Sizes(NamedTuple):
    """How a population is made up.

    Attributes:
        members: how many train side by side.
        parents: how many of the best may be a parent.
        replaced: how many are replaced before each generation; none before the first.
    """

    members: int
    parents: int
    replaced: tuple[int, ...]

    @classmethod
    def of(cls, trials: int, generations: int, quantile: float) -> "Sizes":
        """Returns the sizes of the largest population that tries so many trials in all.

        Example:
            >>> Sizes.of(trials=30, generations=8, quantile=0.25)
            Sizes(members=11, parents=2, replaced=(0, 3, 3, 3, 3, 3, 2, 2))
        """
        later = generations - 1
        members = max(n for n in range(1, trials + 1) if n + later * int(n * quantile) <= trials)
        replaced = int(members * quantile)
        left_over = trials - members - later * replaced if later else 0
        more = [1] * left_over + [0] * (later - left_over)
        return cls(members, max(1, replaced), (0, *(replaced + one for one in more)))


class _State(NamedTuple):
    """The number of generations stands for "over". Points are as told, and tell nothing of those who are new.

    Attributes:
        generation: the one to ask for.
        trial_id: of the members, rising; the new ones are the last.
        points: where the members lie.
        parent_id: of the best, who may be a parent.
        parent_points: where they lie.
        num_parents: how many of these may, as the finite ones; none before the first generation.
    """

    generation: Int[Array, ""]
    trial_id: Int[Array, " members"]
    points: Float[Array, "members axes"]
    parent_id: Int[Array, " parents"]
    parent_points: Float[Array, "parents axes"]
    num_parents: Int[Array, ""]


def _population(sizes: Sizes, axes: tuple[Axis, ...], epochs: int, step: float) -> Strategy:
    generations, lane = len(sizes.replaced), np.arange(sizes.members, dtype=np.int32)
    budgets = [epochs * (generation + 1) // generations for generation in range(generations)]
    replaced = np.array([*sizes.replaced, 0], np.int32)
    first_child = np.array(sizes.members + np.cumsum(replaced) - replaced, np.int32)

    def init(key: Key[Array, ""]) -> _State:
        points = jnp.zeros((sizes.members, len(axes)), jnp.float32)
        nobody = jnp.full(sizes.members, jnp.inf, jnp.float32)
        return _best_of(sizes, jnp.int32(0), jnp.asarray(lane), points, nobody)

    def ask(key: Key[Array, ""], state: _State) -> Plan:
        is_first, is_over = state.generation == 0, state.generation >= generations
        is_new = is_first | (lane >= sizes.members - jnp.asarray(replaced)[state.generation])
        is_child = is_new & (state.num_parents > 0)
        drawn = sample_points(jax.random.fold_in(key, _POINT), state.trial_id, len(axes))
        place = _integers(key, _PARENT, state.trial_id, (), 0, jnp.maximum(state.num_parents, 1))
        moved = _explored(key, state.trial_id, state.parent_points[place], drawn, axes, step)
        parent = jnp.where(is_child, state.parent_id[place], jnp.where(is_new, FRESH, state.trial_id))
        return Plan(
            trial_id=jnp.where(is_over, FRESH, state.trial_id),
            parent=jnp.where(is_over, FRESH, parent),
            points=jnp.where(is_child[:, None], moved, jnp.where(is_new[:, None], drawn, state.points)),
            budget=jnp.full(sizes.members, jnp.asarray([*budgets, epochs], jnp.int32)[state.generation]),
            active=jnp.broadcast_to(~is_over, sizes.members),
        )

    def tell(state: _State, plan: Plan, scores: Float[Array, " members"]) -> _State:
        generation = jnp.minimum(state.generation + 1, generations)
        num_staying = sizes.members - jnp.asarray(replaced)[generation]
        told = _best_of(sizes, generation, plan.trial_id, plan.points, worst_last(scores, plan.active))
        ranks = jnp.argsort(jnp.lexsort((plan.trial_id, worst_last(scores, plan.active)))).astype(jnp.int32)
        staying = jnp.argsort(jnp.where(ranks < num_staying, lane, sizes.members + lane))
        children = jnp.asarray(first_child)[generation] + lane - num_staying
        trial_id = jnp.where(lane < num_staying, plan.trial_id[staying], children)
        return told._replace(trial_id=trial_id, points=plan.points[staying])

    return Strategy(
        init,
        ask,
        tell,
        done=lambda state: state.generation >= generations,
        max_lanes=sizes.members,
        keeps="round",
    )


def _best_of(
    sizes: Sizes,
    generation: Int[Array, ""],
    trial_id: Int[Array, " members"],
    points: Float[Array, "members axes"],
    scores: Float[Array, " members"],
) -> _State:
    """Returns the state in which these are the members, and the best of them, where finite, may be parents."""
    best = jnp.lexsort((trial_id, scores))[: sizes.parents]
    num_finite = jnp.sum(jnp.isfinite(scores[best]), dtype=jnp.int32)
    return _State(generation, trial_id, points, trial_id[best], points[best], num_finite)


def _explored(
    key: Key[Array, ""],
    trial_id: Int[Array, " members"],
    parents: Float[Array, "members axes"],
    drawn: Float[Array, "members axes"],
    axes: tuple[Axis, ...],
    step: float,
) -> Float[Array, "members axes"]:
    """Returns a point near each parent's; where that says nothing, and now and then on an unordered axis, the drawn."""
    farthest, shape = round(step * GRID), (len(axes),)
    steps = _integers(key, _STEP, trial_id, shape, -farthest, farthest + 1)
    is_unordered = np.array([axis.levels is not None and not axis.is_ordered for axis in axes])[None]
    is_redrawn = is_unordered & (_integers(key, _COIN, trial_id, shape, 0, GRID) < farthest)
    moved = jnp.where(is_unordered, reflected(parents, jnp.zeros_like(steps)), reflected(parents, steps))
    return jnp.where(is_redrawn | jnp.isnan(parents), drawn, moved)


def reflected(points: Float[Array, "*rows"], steps: Int[Array, "*rows"]) -> Float[Array, "*rows"]:
    """Returns coordinates so many cells away, reflected at 0 and 1; those outside the cube start at its last cell.

    Args:
        points: one number each; NaN gives any number of the cube.
        steps: up to ``GRID`` up or down.

    Example:
        >>> moved = reflected(jnp.array([0.5, 0.25, 0.75]), jnp.array([2**22, -(2**23), 2**23]))
        >>> [round(point, 3) for point in moved.tolist()]
        [0.75, 0.25, 0.75]
    """
    cell = jnp.clip((jnp.nan_to_num(points) * GRID).astype(jnp.int32), 0, GRID - 1) + steps
    cell = jnp.where(cell < 0, -1 - cell, cell)
    return jnp.where(cell >= GRID, 2 * GRID - 1 - cell, cell).astype(jnp.float32) / GRID


def _integers(
    key: Key[Array, ""],
    purpose: int,
    trial_id: Int[Array, " members"],
    shape: tuple[int, ...],
    low: int,
    end: Int[Array, ""] | int,
) -> Int[Array, "members ..."]:
    """Returns whole numbers from ``low`` up to, but not at, ``end``; a row depends on the key and its trial alone."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(key, purpose), trial_id)
    return jax.vmap(lambda key: jax.random.randint(key, shape, low, end, jnp.int32))(keys)
