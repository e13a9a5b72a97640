"""Standardizing, and telling which numbers are far from the size of 1 that networks learn best from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import Array
from jaxtyping import Float

_SMALL, _LARGE = 0.01, 10.0
"""Columns of a typical size above the latter are far from 1, and all of them where none reaches the former."""

_MAX_NAMED = 3


class SizeWarning(UserWarning):
    """Numbers are far from the size of 1 that networks learn best from, and are not standardized.

    For a model that scales by itself: ``warnings.simplefilter("ignore", vtune.scaling.SizeWarning)``.
    """


class Units(NamedTuple):
    """How numbers are standardized: ``(raw - mean) / scale``.

    Both are of the type that networks train in. So the host, before training, and the best network, on new rows, do the
    same operations on the same numbers, and come to the same bits.

    Attributes:
        mean: of each column, or one for an array of more axes.
        scale: the standard deviation, likewise; 1 where it is 0.
    """

    mean: Float[Array | np.ndarray, "*columns"]
    scale: Float[Array | np.ndarray, "*columns"]

    @classmethod
    def of(cls, rows: Float[np.ndarray, "rows ..."]) -> "Units":
        """Returns the statistics of these rows: of each column of a table, of all numbers of an array of more axes.

        Example:
            >>> Units.of(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32))
            Units(mean=array([2., 5.], dtype=float32), scale=array([1., 1.], dtype=float32))
        """
        axis = 0 if rows.ndim == 2 else None
        mean, deviation = rows.mean(axis, dtype=np.float64), rows.std(axis, dtype=np.float64)
        # In float64 the deviation of equal numbers may come out as a rounding error; XLA takes subnormals for 0.
        is_zero = (rows.max(axis) == rows.min(axis)) | (deviation < np.finfo(rows.dtype).tiny)
        return cls(np.asarray(mean, rows.dtype), np.asarray(np.where(is_zero, 1, deviation), rows.dtype))

    def standardize(self, raw: Any) -> Any:
        """Returns ``(raw - mean) / scale``: a NumPy array for a NumPy array, a JAX array for a JAX array."""
        mean, scale = self._beside(raw)
        inverse = 1 / scale  # XLA makes this of a division, but not always, and the host never does
        return (raw.astype(mean.dtype, copy=False) - mean) * inverse

    def restore(self, standardized: Any) -> Any:
        """Returns standardized rows in their own units."""
        mean, scale = self._beside(standardized)
        return standardized.astype(mean.dtype, copy=False) * scale + mean

    def _beside(self, rows: Any) -> Sequence[Any]:
        """Mean and scale with as many axes as the rows have: no rank is promoted in silence."""
        return [number.reshape((1,) * (rows.ndim - number.ndim) + number.shape) for number in self]


def far_from_one(rows: Float[np.ndarray, "rows ..."]) -> dict[int, float]:
    """Returns the columns whose numbers are far from 1, worst first, each with its typical size.

    The typical size is the root mean square of the numbers that are not 0, so that a rare flag has size 1. Above 10 it
    is far from 1. A small column among others may be a pixel that is nearly always dark, and is fine; where all are
    below 0.01 they are far from 1. Constant columns tell nothing apart and are left out. An array of more axes is one
    column.

    Example:
        >>> far_from_one(np.array([[2000.0, 1.0], [2000.0, -1.0], [0.0, 1.0]]))
        {0: 2000.0}
    """
    table = rows if rows.ndim == 2 else rows.reshape(-1, 1)
    squares = np.einsum("rc,rc->c", table, table, dtype=np.float64, casting="safe")
    sizes = np.sqrt(squares / np.maximum(1, np.count_nonzero(table, axis=0)))
    varying = np.flatnonzero(table.max(axis=0) > table.min(axis=0)).tolist()
    are_small = max((sizes[column] for column in varying), default=1.0) < _SMALL
    far = {column: float(sizes[column]) for column in varying if are_small or sizes[column] > _LARGE}
    return dict(sorted(far.items(), key=lambda item: -abs(np.log(item[1]))))


def tell_sizes(name: str, rows: Float[np.ndarray, "rows ..."], columns: Sequence[str] | None = None) -> str:
    """Returns a clause that names the columns whose numbers are far from 1, or "" where there are none.

    Args:
        name: what the rows are called.
        rows: to look at.
        columns: their names; numbers otherwise.

    Example:
        >>> tell_sizes("x", np.array([[2019.0, 0.3], [2024.0, 1.2]]), ["year", "price"])
        '1 of 2 columns of x is far from 1 in size (year: about 2000)'
    """
    far, num_columns = far_from_one(rows), rows.shape[1] if rows.ndim == 2 else 1
    if not far:
        return ""
    if num_columns == 1:
        return f"{name} is about {_rounded(far[0])} in size"
    names = columns or [f"column {number}" for number in range(num_columns)]
    named = [f"{names[column]}: about {_rounded(size)}" for column, size in list(far.items())[:_MAX_NAMED]]
    more = [] if len(far) <= _MAX_NAMED else ["..."]
    verb = "is" if len(far) == 1 else "are"
    return f"{len(far)} of {num_columns} columns of {name} {verb} far from 1 in size ({', '.join(named + more)})"


def _rounded(size: float) -> str:
    return f"{float(f'{size:.2g}'):g}"
