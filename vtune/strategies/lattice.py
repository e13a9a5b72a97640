"""Grid search: every combination of a few values of each parameter."""

import math
from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float32, Int, Key

from vtune.protocols import Axis, Strategy
from vtune.strategies.factories import Factory
from vtune.strategies.rounds import Rounds


def grid() -> Factory:
    """Tries every combination of evenly spaced values, as many a parameter as the trials allow.

    Here to compare with: trials grow as a power of the number of parameters. With fewer than ``2 ** axes`` trials, the
    last ones keep a single value, the middle of their range. All trials make one round, in the order of nested loops,
    the last axis innermost; their number is the product of the levels, at most ``trials`` and often less.

    An axis with n values has them at the centres of n equal parts of its scale; a discrete one at the levels that hold
    those centres (of integers on a log scale, whose levels are not equally wide, two may be the same).

    Returns:
        A factory ``(axes, trials, epochs) -> Strategy``.

    Example:
        >>> axes = [Axis("learning_rate", None, True), Axis("optimizer", 2, False)]
        >>> grid()(axes, trials=10, epochs=5).max_lanes
        10
    """
    return Factory("grid", _grid, {})


@lru_cache
def _grid(axes: tuple[Axis, ...], stages: tuple[int, ...], epochs: int) -> Strategy:
    trials, *more = stages
    if more:
        raise ValueError(
            f"trials={more[-1]}: a grid of {trials} trials is no part of a larger one, so it cannot be continued. "
            "Write another folder, or strategy='random'."
        )
    counts = values_per_axis(axes, trials)
    columns = [spread(axis, count) for axis, count in zip(axes, counts, strict=True)]

    def points_of(key: Key[Array, ""], trial_ids: Int[Array, " lanes"]) -> Float[Array, "lanes axes"]:
        positions = jnp.unravel_index(trial_ids, counts)
        cells = [jnp.asarray(column)[position] for column, position in zip(columns, positions, strict=True)]
        return jnp.stack(cells, axis=-1)

    return Rounds((math.prod(counts),), epochs).without_memory(points_of)


def values_per_axis(axes: tuple[Axis, ...], trials: int) -> tuple[int, ...]:
    """Returns how many values each axis has in the grid; their product is ``trials`` at most.

    Starting from one each, the axis with the fewest gets one more (the first of several), out of those that have a
    level left and for which the product stays within the trials, until there are none.

    Example:
        >>> values_per_axis((Axis("a", None, True), Axis("b", 2, True), Axis("c", None, True)), trials=20)
        (3, 2, 3)
    """
    counts = [1] * len(axes)
    while growable := [
        (count, position)
        for position, (axis, count) in enumerate(zip(axes, counts, strict=True))
        if count != axis.levels and math.prod(counts) // count * (count + 1) <= trials
    ]:
        _, position = min(growable)
        counts[position] += 1
    return tuple(counts)


def spread(axis: Axis, count: int) -> Float32[np.ndarray, " values"]:
    """Returns ``count`` points of an axis, evenly spaced; on a discrete one each the centre of a level.

    Example:
        >>> spread(Axis("a", None, True), 2).tolist(), spread(Axis("b", 4, True), 2).tolist()
        ([0.25, 0.75], [0.375, 0.875])
    """
    points = (np.arange(count) + 0.5) / count
    if axis.levels is not None:
        points = (np.floor(points * axis.levels) + 0.5) / axis.levels
    return points.astype(np.float32)
