"""Which hyperparameter moved: from where the old best lies to where the good configurations of new data lie."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vtune.results.finalists import ranking

_SHUFFLES = 1000
"""How often scores are dealt out at random: a chance of 0.05 is then right to 0.007."""

_RIDGE = 0.1
"""Added to correlations of 1, so that few configurations can tell many axes apart."""

_FEWEST = 8
"""A quarter of them has to be more than one."""


class Move(NamedTuple):
    """Where the optimum of one axis went.

    Attributes:
        name: of the axis.
        start: the old best's coordinate in the unit cube.
        end: the coordinate of the good configurations on the new data.
        chance: how often scores that have nothing to do with the configurations would show such a move. Small where
            the move is sure.
    """

    name: str
    start: float
    end: float
    chance: float


def moves(
    names: Sequence[str],
    points: Float[np.ndarray, "configurations axes"],
    scores: Float[np.ndarray, "configurations seeds"],
    *,
    is_maximized: bool,
    seed: int = 0,
) -> list[Move]:
    """Returns where each axis went, the surest move first.

    An axis ends at the mean of the better quarter of the configurations, weighed by their ranks as in CMA-ES (Hansen
    2016, equation 49): no model is fitted, and one outlier moves nothing. But the old best may lie far from the
    middle of an axis that nothing depends on, and the mean of any quarter is near it. So a move counts for as much as
    it explains: its length, times the coefficient of a ridge regression of the configurations' ranks on how much
    nearer each lies to the end than to the start, on all axes at once, since those that are near the old best are so on
    every axis. What that comes to by chance is known from scores dealt out at random, ends and all (a permutation
    test, of each axis for itself: of 20 that did not move, expect one to have a chance of 0.05).

    An end is drawn towards where most configurations lie. Of 4 axes, a move by half a side was off by a fifth of it
    with 24 fresh samples (root mean square, quadratic losses), by a third with 8.

    Args:
        names: of the axes. Leave out those of choices without an order, where a mean is nowhere.
        points: in the unit cube, the old best in row 0; NaN where a configuration does not use an axis.
        scores: on the new data, one column a seed; not finite where a training diverged.
        is_maximized: whether a higher score is better.
        seed: of the shuffles.

    Raises:
        ValueError: for less than 8 configurations.

    Example:
        >>> points = np.random.default_rng(0).uniform(size=(24, 2))
        >>> points[0] = 0.2, 0.9
        >>> losses = np.square(points[:, :1] - 0.7)
        >>> [found.name for found in moves(["learning_rate", "decay"], points, losses, is_maximized=False)]
        ['learning_rate', 'decay']
    """
    _check(points)
    ranks = np.argsort(ranking(scores, is_maximized=is_maximized))
    dealt = np.concatenate([ranks[None], _shuffled(ranks, seed)])
    ends = _ends(points, dealt)
    strengths = np.abs(ends - points[0]) * _slopes(points, ends, dealt)
    is_as_strong = np.nan_to_num(strengths[1:]) >= np.nan_to_num(strengths[0])
    chances = (1 + np.sum(is_as_strong, axis=0)) / len(dealt)
    order = np.lexsort((-np.nan_to_num(strengths[0]), chances))
    columns = zip(names, points[0].tolist(), ends[0].tolist(), chances.tolist(), strict=True)
    found = [Move(*column) for column in columns]
    return [found[int(axis)] for axis in order]


def _check(points: np.ndarray) -> None:
    if len(points) < _FEWEST:
        raise ValueError(
            f"points has {len(points)} row(s), too few to tell where the good ones lie; write at least {_FEWEST} "
            "configurations, the old best first"
        )


def _shuffled(ranks: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permuted(np.tile(ranks, (_SHUFFLES, 1)), axis=1)


def _ends(points: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Where each axis ends, for each row of ranks; NaN where no good configuration uses it."""
    num_good = math.ceil(points.shape[0] / 4)
    weights = np.maximum(math.log(num_good + 0.5) - np.log(1 + ranks), 0)
    is_used = np.isfinite(points)
    total = weights @ is_used
    return np.where(total > 0, weights @ np.where(is_used, points, 0), np.nan) / np.where(total > 0, total, 1)


def _slopes(points: np.ndarray, ends: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """How much better in rank it makes to lie nearer to the end than to the start, all else equal; at least 0."""
    nearer = np.abs(points - points[0]) - np.abs(points - ends[:, None])
    is_used = np.isfinite(nearer)
    means = np.sum(nearer, axis=1, keepdims=True, where=is_used) / np.maximum(np.sum(is_used, axis=1, keepdims=True), 1)
    nearer = np.where(is_used, nearer - means, 0)
    nearer = _scaled(nearer)
    better = _scaled((np.mean(ranks[0]) - ranks)[:, :, None])
    transposed = np.swapaxes(nearer, 1, 2)
    penalty = _RIDGE * np.eye(points.shape[1])
    return np.maximum(np.linalg.solve(transposed @ nearer + penalty, transposed @ better)[:, :, 0], 0)


def _scaled(columns: np.ndarray) -> np.ndarray:
    """Columns of length 1; those that are 0 stay so."""
    sizes = np.sqrt(np.sum(np.square(columns), axis=1, keepdims=True))
    return columns / np.where(sizes > 0, sizes, 1)
