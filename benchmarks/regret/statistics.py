"""Means and medians over seeds, and how sure they are."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

RESAMPLES = 10_000


class Interval(NamedTuple):
    """A mean over the seeds, and where it lies with 95 % confidence: percentiles of a bootstrap over the seeds."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Float[np.ndarray, " seeds"]) -> "Interval":
        """Returns the interval of the mean of these values; of paired differences, say.

        Example:
            >>> Interval.of(np.array([1.0, 1.0]))
            Interval(mean=1.0, low=1.0, high=1.0)
        """
        low, high = np.percentile(_resampled(values).mean(axis=1), [2.5, 97.5])
        return cls(float(values.mean()), float(low), float(high))

    def told(self, factor: float = 1.0, sign: str = "") -> str:
        """Returns it as text, multiplied; ``sign="+"`` writes the sign of what is positive too."""
        mean, low, high = (f"{factor * value:{sign}.3g}" for value in self)
        return f"{mean} ({low} to {high})"


def median_interval(values: Float[np.ndarray, " seeds"]) -> tuple[float, float, float]:
    """Returns the median, and where it lies with 95 % confidence, likewise; values may be infinite.

    Of an even number of values it is the lower one of the two in the middle.

    Example:
        >>> median_interval(np.array([-np.inf, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]))
        (2.0, 2.0, 2.0)
    """
    middles = np.percentile(_resampled(values), 50, axis=1, method="inverted_cdf")
    low, high = np.percentile(middles, [2.5, 97.5], method="inverted_cdf")
    return float(np.percentile(values, 50, method="inverted_cdf")), float(low), float(high)


def _resampled(values: Float[np.ndarray, " seeds"]) -> Float[np.ndarray, "resamples seeds"]:
    return values[np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))]
