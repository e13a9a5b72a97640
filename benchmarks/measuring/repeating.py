"""How long something takes that is too short to be timed by itself."""

from collections.abc import Callable
from statistics import median

_LEAST_SECONDS = 0.05
"""A measurement takes at least so long: what a call takes by itself is not to count."""

_REPEATS = 3


def seconds_a_turn(measured: Callable[[int], float]) -> float:
    """Returns the seconds of one turn, the median of some measurements of many.

    Args:
        measured: returns the seconds of so many turns; the first call of it may compile.
    """
    turns = 1
    measured(turns)
    while measured(turns) < _LEAST_SECONDS:
        turns *= 2
    return median(measured(turns) for _ in range(_REPEATS)) / turns
