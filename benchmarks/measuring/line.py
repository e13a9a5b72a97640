"""Seconds as a line: what a search takes by itself, and what each trial adds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Line(NamedTuple):
    """``seconds = t0 + t1 * trials``.

    Attributes:
        t0: seconds of a search without trials.
        t1: seconds of a trial.
    """

    t0: float
    t1: float


def fit(trials: Sequence[int], seconds: Sequence[float]) -> Line:
    """Returns the line with the least squares of relative errors, as the times differ by orders of magnitude.

    Example:
        >>> line = fit([100, 1_000, 10_000], [1.1, 2.0, 11.0])
        >>> round(line.t0, 6), round(line.t1, 6)
        (1.0, 0.001)
    """
    counts, times = np.asarray(trials, float), np.asarray(seconds, float)
    (t0, t1), *_ = np.linalg.lstsq(np.stack([1 / times, counts / times], axis=1), np.ones(len(times)))
    return Line(float(t0), float(t1))


def slopes(trials: Sequence[int], seconds: Float[np.ndarray, "*turns sizes"]) -> Float[np.ndarray, "*turns pairs"]:
    """Returns the seconds of a trial between neighbouring sizes.

    Example:
        >>> slopes([10, 20, 40], np.array([1.0, 2.0, 6.0])).tolist()
        [0.1, 0.2]
    """
    return np.diff(seconds) / np.diff(trials)
