"""The part of the unit cube that a search looks at: how it closes in on the best trials, and draws from it.

All in integers. A box is kept in cells of 1/256 of an edge and a draw takes one of 2**16 steps along its side, so
that a point is a multiple of 2**-24, which float32 holds exactly. With ``low + side * u`` in floats instead, the last
bit depends on whether the compiler fuses the two operations: points would differ between eager, jit, vmap and scan.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Num

from vtune.protocols import Axis
from vtune.strategies.leaders import Leaders

CELLS = 256
"""Cells of an edge."""

NARROWEST = 13
"""The shortest side in cells: 5 % of an edge, rounded up. A range by chance narrower would freeze the search."""

LAST = float(np.nextafter(np.float32(1), np.float32(0)))
"""The last point of the unit cube, which does not hold its upper bound."""

_STEPS = 2**16

GRID = CELLS * _STEPS
"""Points are multiples of one over this: as fine as float32 is below 1, and the same however they are worked out."""


class Box(NamedTuple):
    """A box in the unit cube, in cells: from ``low`` on for ``side`` of them along each axis."""

    low: Int[Array, " axes"]
    side: Int[Array, " axes"]

    @classmethod
    def whole(cls, num_axes: int) -> "Box":
        """Returns the whole unit cube."""
        return cls(jnp.zeros(num_axes, jnp.int32), jnp.full(num_axes, CELLS, jnp.int32))

    def around(self, leaders: Leaders, axes: tuple[Axis, ...]) -> "Box":
        """Returns the next box: the range of the leaders, but at least half of this one and ``NARROWEST`` cells.

        It is centred on that range and shifted inside the cube where it sticks out; the leaders are always in it. The
        side of an axis on which fewer than two of them are known stays.
        """
        start, end = _range_of(leaders, axes)
        side = jnp.maximum(jnp.maximum(end - start, NARROWEST), (self.side + 1) // 2)
        low = jnp.clip((start + end - side) // 2, 0, CELLS - side)
        can_tell = jnp.sum(leaders.known(), axis=0) >= 2
        return Box(jnp.where(can_tell, low, self.low), jnp.where(can_tell, side, self.side))

    def draw(self, uniforms: Float[Array, "lanes axes"]) -> Float[Array, "lanes axes"]:
        """Returns the points that lie in this box where the uniform ones lie in the unit cube."""
        steps = (uniforms * _STEPS).astype(jnp.int32)
        return (self.low[None] * _STEPS + self.side[None] * steps).astype(jnp.float32) / GRID


def _range_of(leaders: Leaders, axes: tuple[Axis, ...]) -> tuple[Int[Array, " axes"], Int[Array, " axes"]]:
    """Returns the first cell of the leaders and the one after their last; levels of a discrete axis count whole.

    Those of integers on a log scale are not equally wide, so there the range may hold a part of a level; the leaders
    themselves are always in it.
    """
    levels = np.array([min(axis.levels or CELLS, CELLS) for axis in axes], np.int32)[None]
    position, is_known = level_of(leaders.points, levels), leaders.known()
    start = position * CELLS // levels
    end = -(-(position + 1) * CELLS // levels)
    return jnp.min(jnp.where(is_known, start, CELLS), axis=0), jnp.max(jnp.where(is_known, end, 0), axis=0)


def level_of(points: Float[Array, "*rows"], levels: Int[np.ndarray, "*axes"] | int) -> Int[Array, "*rows"]:
    """Returns in which of ``levels`` equal parts of its edge each coordinate lies; 0 for NaN."""
    positions = jnp.floor(jnp.nan_to_num(points) * np.float32(levels)).astype(jnp.int32)
    return jnp.clip(positions, 0, levels - 1)


def draw_categories(
    uniforms: Float[Array, " lanes"], leaders: Float[Array, " places"], is_known: Bool[Array, " places"], levels: int
) -> Float[Array, " lanes"]:
    """Returns points on an unordered axis: a lottery in which each level has one ticket, and one more a leader.

    Args:
        uniforms: numbers in [0, 1), one a draw.
        leaders: where on the axis the best trials lie.
        is_known: which of them count.
        levels: how many categories there are.

    Returns:
        The centre of the category drawn.
    """
    votes = (level_of(leaders, levels)[:, None] == jnp.arange(levels, dtype=jnp.int32)[None]) & is_known[:, None]
    sold = jnp.cumsum(1 + jnp.sum(votes, axis=0, dtype=jnp.int32))
    ticket = jnp.floor(uniforms * sold[-1].astype(jnp.float32)).astype(jnp.int32)
    centres = jnp.asarray((np.arange(levels) + 0.5) / levels, jnp.float32)
    return centres[jnp.searchsorted(sold, ticket, side="right")]


def near_bounds(
    point: Num[np.ndarray, " axes"] | Num[Array, " axes"], axes: Sequence[Axis], margin: float = 0.02
) -> dict[str, Literal["lower", "upper"]]:
    """Says on which axes a point lies so close to a bound that the best may be beyond it.

    Axes whose levels are wider than the margin are left out, as a good trial often has their first or last one, and
    unordered ones, which have no bounds.

    Args:
        point: the best trial as a point of the unit cube; NaN for a parameter that it does not use.
        axes: the axes of the search.
        margin: how close, as a share of the edge.

    Returns:
        The names of those axes, each with the bound.

    Example:
        >>> axes = (Axis("learning_rate", None, True), Axis("layers", 4, True))
        >>> near_bounds(np.array([0.99, 0.99]), axes)
        {'learning_rate': 'upper'}
    """
    fine = {
        axis.name: float(value)
        for axis, value in zip(axes, point, strict=True)
        if axis.is_ordered and (axis.levels is None or axis.levels * margin >= 1)
    }
    return {
        name: "lower" if value < 0.5 else "upper" for name, value in fine.items() if min(value, 1 - value) <= margin
    }
