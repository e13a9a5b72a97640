"""What one hyperparameter may be: a range of numbers on the scale that fits, integers, or a choice of values."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float64, Int, Num, Shaped

from vtune.defaults import FLOAT32_MIN, check_value, did_you_mean, is_number
from vtune.precision import float_precision

Number: TypeAlias = int | float
Bound: TypeAlias = Any
"""A ``Number``, checked by hand: the message about anything else quotes the whole call."""

_NARROWEST_BIN = 2.0**-22
"""Float32 points of the unit cube are up to 2**-24 apart: a bin this wide holds several, its centre among them."""

_LEAST_SPAN = 0.99
"""How much of a scale must remain once its bounds are rounded inwards to float32, or its ends would hold the rest."""


class _Scale(NamedTuple):
    """Where a parameter is uniform: in ``warp(value)``; ``unwarp(xp, warped)`` inverts it; ``call`` constructs it.

    ``xp`` is numpy, or jax.numpy inside a program.
    """

    call: str
    warp: Any
    unwarp: Any

    def position(self, low: Number, high: Number, values: Any) -> Any:
        """Returns how far along the scale from low (0) to high (1) the values lie."""
        start, end = self.warp(low), self.warp(high)
        return (self.warp(values) - start) / (end - start)

    def at(self, xp: Any, low: Number, high: Number, units: Any) -> Any:
        """Returns the values that lie so far along the scale; inverts ``position``."""
        start, end = float(self.warp(low)), float(self.warp(high))
        return self.unwarp(xp, start + xp.asarray(units, dtype=np.float64) * (end - start))


_SCALES = {
    "linear": _Scale("uniform", np.positive, lambda xp, warped: warped),
    "log": _Scale("loguniform", np.log, lambda xp, warped: xp.exp(warped)),
    "reverse_log": _Scale("reverse_loguniform", lambda value: -np.log1p(-value), lambda xp, warped: -xp.expm1(-warped)),
}


@dataclass(frozen=True, repr=False)
class Continuous:
    """A real number between two bounds, uniform on its scale.

    Values are worked out in float64 and then rounded to float32 inside the bounds, so the number in the table is the
    number that trains: ``uniform(0, 0.1)`` ends just below 0.1, as ``float32(0.1) > 0.1``.

    Attributes:
        low: the lower bound.
        high: the upper bound.
        scale: uniform in the value ("linear"), in its logarithm ("log"), or in log(1 - value) ("reverse_log").

    Raises:
        TypeError: for a bound that is not a number.
        ValueError: for bounds that are not finite, in the wrong order, or off the scale.

    Example:
        >>> Continuous(0.0, 8.0, "linear").decode(np.array([0.0, 0.25])).tolist()
        [0.0, 2.0]
    """

    low: Bound
    high: Bound
    scale: Literal["linear", "log", "reverse_log"] = "linear"
    levels: ClassVar[None] = None
    values: ClassVar[None] = None
    is_ordered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _unwrap_bounds(self)
        if self.scale not in _SCALES:
            raise ValueError(f"scale={self.scale!r}: there is no such scale; {did_you_mean(str(self.scale), _SCALES)}")
        _check_bounds(self, self.low, self.high)
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"{self!r}: a log scale needs bounds above 0. Write for example loguniform(1e-4, 1.0).")
        if self.scale == "reverse_log" and not 0 <= self.low <= max(self.high, self.support[0]) < 1:
            raise ValueError(f"{self!r}: log(1 - value) needs bounds in [0, 1). Write reverse_loguniform(0.9, 0.999).")
        if np.diff(_SCALES[self.scale].position(self.low, self.high, np.array(self.support))) < _LEAST_SPAN:
            raise ValueError(f"{self!r}: float32 has too few numbers there. Write coarser bounds, or one plain value.")

    def __repr__(self) -> str:
        return f"{_SCALES[self.scale].call}({self.low!r}, {self.high!r})"

    def __contains__(self, value: Any) -> bool:
        return is_number(value) and self.low <= float(value) <= self.high

    @property
    def log_length(self) -> float | None:
        """The logarithm of the factor between the ends of a log scale; None on a linear one."""
        warp = _SCALES[self.scale].warp
        return None if self.scale == "linear" else float(warp(self.high) - warp(self.low))

    @property
    def support(self) -> tuple[float, float]:
        """The smallest and the largest float32 within the bounds."""
        low, high = np.float32(self.low), np.float32(self.high)
        low = np.nextafter(low, np.float32(np.inf)) if float(low) < self.low else low
        high = np.nextafter(high, np.float32(-np.inf)) if float(high) > self.high else high
        return float(low), float(high)

    def decode(self, units: Float[Array | np.ndarray, " trials"]) -> Float64[np.ndarray, " trials"]:
        """Returns the values at these points of the unit interval, each exactly a float32 number."""
        return self._values(np, units).astype(np.float64)

    def trace(self, units: Float[Array, " trials"], dtype: str) -> Num[Array, " trials"]:
        """Returns what ``decode`` does, inside a program: worked out in float64 there too, for the same bits."""
        with float_precision(np.dtype(np.float64)):
            return self._values(jnp, units).astype(dtype)

    def _values(self, xp: Any, units: Any) -> Any:
        values = xp.clip(_SCALES[self.scale].at(xp, *self.support, units), *self.support)
        values = xp.where(xp.abs(values) < FLOAT32_MIN, 0.0, values)  # which is what XLA makes of them
        return values.astype(np.float32)

    def encode(self, values: Iterable[Number]) -> Float64[np.ndarray, " trials"]:
        """Returns the points of the unit interval where values within the bounds lie."""
        return np.clip(_SCALES[self.scale].position(*self.support, np.fromiter(values, np.float64)), 0.0, 1.0)

    def nearest(self, value: Number) -> float:
        """Returns a value within the bounds as it is in trials: the nearest float32 within them."""
        return float(np.clip(np.float32(value), *self.support))

    def cdf(self, value: Number) -> float:
        """Returns the share of samples that are at most the value."""
        return float(self.encode([min(max(value, self.low), self.high)])[0])


@dataclass(frozen=True, repr=False)
class Integer:
    """An integer between two bounds, both included, each with its fair share of the scale.

    Integer k owns the stretch from k - 0.5 to k + 0.5: equal shares on the linear scale,
    ``log((k + 0.5) / (k - 0.5))`` on the log scale. Rounding a number drawn from ``[low, high]`` instead would give the
    two ends half of their share.

    Attributes:
        low: the smallest value.
        high: the largest value.
        log: whether it is uniform in its logarithm.

    Raises:
        TypeError: for a bound that is not an integer.
        ValueError: for bounds in the wrong order, off the scale, or further apart than float32 points can resolve.

    Example:
        >>> Integer(1, 4).decode(np.array([0.0, 0.25, 0.99])).tolist()
        [1, 2, 4]
    """

    low: Bound
    high: Bound
    log: bool = False
    is_ordered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _unwrap_bounds(self)
        _check_bounds(self, self.low, self.high)
        if not (isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.log, bool)):
            nearest = f"integers({math.floor(self.low)}, {math.ceil(self.high)}, log={bool(self.log)})"
            raise TypeError(f"{self!r}: the bounds must be integers, and log True or False. Write {nearest}.")
        if self.log and self.low < 1:
            raise ValueError(f"{self!r}: a log scale has integers from 1 up. Write integers({self.low}, {self.high}).")
        if 1.0 - self._scale.position(*self._edges, self.high - 0.5) < _NARROWEST_BIN:
            raise ValueError(f"{self!r}: more integers than float32 points can tell apart. Write a narrower range.")

    def __repr__(self) -> str:
        return f"integers({self.low!r}, {self.high!r}{f', log={self.log!r}' if self.log else ''})"

    def __contains__(self, value: Any) -> bool:
        """Returns whether the value is one of the integers, 64.0 as good as 64."""
        return is_number(value) and value in range(self.low, self.high + 1)

    @property
    def levels(self) -> int:
        """How many values there are."""
        return self.high - self.low + 1

    @property
    def log_length(self) -> float | None:
        """The logarithm of the factor between the ends of a log scale; None on a linear one."""
        start, end = self._edges
        return math.log(end / start) if self.log else None

    @property
    def values(self) -> tuple[int, ...]:
        """Every value, in order."""
        return tuple(range(self.low, self.high + 1))

    @property
    def support(self) -> tuple[int, int]:
        """The smallest and the largest value."""
        return self.low, self.high

    def decode(self, units: Float[Array | np.ndarray, " trials"]) -> Int[np.ndarray, " trials"]:
        """Returns the integers that own these points of the unit interval."""
        return self._values(np, units).astype(np.int64)

    def trace(self, units: Float[Array, " trials"], dtype: str) -> Num[Array, " trials"]:
        """Returns what ``decode`` does, inside a program."""
        with float_precision(np.dtype(np.float64)):
            return self._values(jnp, units).astype(dtype)

    def _values(self, xp: Any, units: Any) -> Any:
        return xp.clip(xp.floor(self._scale.at(xp, *self._edges, units) + 0.5), self.low, self.high)

    def encode(self, values: Iterable[Number]) -> Float64[np.ndarray, " trials"]:
        """Returns the middle of the stretch of the unit interval that each integer owns."""
        integers = np.fromiter(values, np.float64)
        ends = self._scale.position(*self._edges, np.stack([integers - 0.5, integers + 0.5]))
        return ends.mean(axis=0)

    def nearest(self, value: Number) -> int:
        """Returns a value as it is in trials: 64.0 as 64."""
        return int(value)

    def cdf(self, value: Number) -> float:
        """Returns the share of samples that are at most the value."""
        if value < self.low:
            return 0.0
        return float(self._scale.position(*self._edges, min(math.floor(value), self.high) + 0.5))

    @property
    def _scale(self) -> _Scale:
        return _SCALES["log" if self.log else "linear"]

    @property
    def _edges(self) -> tuple[float, float]:
        return self.low - 0.5, self.high + 0.5


@dataclass(frozen=True, repr=False)
class Choice:
    """One of several values, each with the same share.

    Attributes:
        values: numbers, strings, bools, None, or tuples of them.
        ordered: whether neighbours in the list are alike, as neighbouring numbers are; by default that is so where all
            values are numbers and rise.

    Raises:
        TypeError: for values that are not listed, or of another type.
        ValueError: for no values, a value given twice, or one that is not finite.

    Example:
        >>> Choice((32, 64, 128)).is_ordered, Choice(("relu", "tanh")).is_ordered
        (True, False)
    """

    values: Any
    ordered: bool | None = None
    log_length: ClassVar[None] = None

    def __post_init__(self) -> None:
        if isinstance(self.values, str | set | Mapping) or not isinstance(self.values, Iterable):
            raise TypeError(f"{self!r}: the values need an order. Write them as a list, choice([32, 64]).")
        object.__setattr__(self, "values", tuple(plain(value) for value in self.values))
        if not self.values:
            raise ValueError(f"{self!r}: there is nothing to choose from. Write at least two values, choice([32, 64]).")
        if self.ordered not in (None, True, False):
            raise TypeError(f"{self!r}: ordered={self.ordered!r} is no answer. Write ordered=True or ordered=False.")
        for value in self.values:
            for part in value if isinstance(value, tuple) else (value,):
                check_value(self, part)
        unique = list(dict.fromkeys(self.values))
        if len(unique) < self.levels:
            raise ValueError(f"{self!r}: a value is there twice. Write each of them once, choice({unique!r}).")

    def __repr__(self) -> str:
        values = list(self.values) if isinstance(self.values, tuple) else self.values
        return f"choice({values!r}{'' if self.ordered is None else f', ordered={self.ordered!r}'})"

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    @property
    def levels(self) -> int:
        """How many values there are."""
        return len(self.values)

    @property
    def is_ordered(self) -> bool:
        """Whether neighbouring points are neighbouring values."""
        rises = all(map(is_number, self.values)) and all(np.diff(self.values) > 0)
        return rises if self.ordered is None else self.ordered

    @property
    def support(self) -> tuple[Number, Number]:
        """The smallest and the largest value, where all are numbers."""
        return min(self._numbers), max(self._numbers)

    def decode(self, units: Float[Array | np.ndarray, " trials"]) -> Shaped[np.ndarray, " trials"]:
        """Returns the values that own these points of the unit interval; an object array unless all are of one type."""
        positions = (np.asarray(units, np.float64) * self.levels).astype(np.int64)
        return column(self.values)[np.minimum(positions, self.levels - 1)]

    def trace(self, units: Float[Array, " trials"], dtype: str) -> Num[Array, " trials"]:
        """Returns what ``decode`` does, inside a program, where all values are numbers."""
        with float_precision(np.dtype(np.float64)):
            positions = (units.astype(np.float64) * self.levels).astype(np.int32)
        return jnp.asarray(np.array(self._numbers, dtype))[jnp.minimum(positions, self.levels - 1)]

    def encode(self, values: Iterable[Any]) -> Float64[np.ndarray, " trials"]:
        """Returns the middle of the stretch of the unit interval that each value owns."""
        return np.array([(self.values.index(value) + 0.5) / self.levels for value in values], np.float64)

    def nearest(self, value: Any) -> Any:
        """Returns a value as it is in trials: as it was listed."""
        return self.values[self.values.index(value)]

    def cdf(self, value: Number) -> float:
        """Returns the share of samples that are at most the value, where all are numbers."""
        return sum(number <= value for number in self._numbers) / self.levels

    @property
    def _numbers(self) -> tuple[Number, ...]:
        if not all(map(is_number, self.values)):
            raise TypeError(f"{self!r} has no smallest value, as not all are numbers. Ask for its values instead.")
        return self.values


Parameter: TypeAlias = Continuous | Integer | Choice
Value: TypeAlias = float | int | str | bool | tuple[Any, ...] | None


def uniform(low: Bound, high: Bound) -> Continuous:
    """A real number, every value between the bounds as likely as any other.

    Args:
        low: the lower bound.
        high: the upper bound.

    Raises:
        TypeError: for a bound that is not a number.
        ValueError: for bounds that are not finite or in the wrong order.

    Example:
        >>> uniform(0.0, 0.5).cdf(0.25)
        0.5
    """
    return Continuous(low, high, "linear")


def loguniform(low: Bound, high: Bound) -> Continuous:
    """A positive real number, every order of magnitude as likely as any other: for learning rates.

    Args:
        low: the lower bound, above 0.
        high: the upper bound.

    Raises:
        TypeError: for a bound that is not a number.
        ValueError: for bounds that are not finite, not above 0, or in the wrong order.

    Example:
        >>> round(loguniform(1e-4, 1.0).cdf(1e-2), 6)
        0.5
    """
    return Continuous(low, high, "log")


def reverse_loguniform(low: Bound, high: Bound) -> Continuous:
    """A number below 1, uniform in log(1 - value): for momentum and Adam's betas.

    An average with beta remembers about 1 / (1 - beta) steps, so going from 0.999 to 0.9995 changes as much as going
    from 0.9 to 0.95. (The "reverse log" of Vizier and KerasTuner is another one: nearly linear on such a range.)

    Args:
        low: the lower bound, 0 or more.
        high: the upper bound, below 1.

    Raises:
        TypeError: for a bound that is not a number.
        ValueError: for bounds outside [0, 1) or in the wrong order.

    Example:
        >>> round(reverse_loguniform(0.9, 0.999).cdf(0.99), 4)
        0.5
    """
    return Continuous(low, high, "reverse_log")


def integers(low: Bound, high: Bound, log: bool = False) -> Integer:
    """An integer, both ends included and with their fair share.

    Args:
        low: the smallest value.
        high: the largest value.
        log: whether every order of magnitude is as likely as any other.

    Raises:
        TypeError: for a bound that is not an integer.
        ValueError: for bounds in the wrong order, or below 1 with ``log``.

    Example:
        >>> 256 in integers(16, 256, log=True)
        True
    """
    return Integer(low, high, log)


def choice(values: Any, ordered: bool | None = None) -> Choice:
    """One of the values listed, each as likely as any other.

    Args:
        values: numbers, strings, bools, None, or tuples of them.
        ordered: whether neighbours in the list are alike; by default that is so for numbers that rise.

    Raises:
        TypeError: for values that are not listed, or of another type.
        ValueError: for no values, a value given twice, or one that is not finite.

    Example:
        >>> choice(["adam", "momentum"]).levels
        2
    """
    return Choice(values, ordered)


def powers_of_two(low: Bound, high: Bound) -> Choice:
    """One of the powers of two from low to high, both included, in their order: for batch sizes.

    Args:
        low: the smallest value, itself a power of two.
        high: the largest value, itself a power of two.

    Raises:
        TypeError: for a bound that is not a number.
        ValueError: for bounds that are not powers of two or in the wrong order.

    Example:
        >>> powers_of_two(32, 256)
        choice([32, 64, 128, 256])
    """
    written = f"powers_of_two({low!r}, {high!r})"
    low, high = plain(low), plain(high)
    _check_bounds(written, low, high)
    powers = [2**exponent for exponent in range(31)]
    for bound in (low, high):
        if bound not in powers:
            raise ValueError(f"{written}: {bound!r} is not a power of two. Write one like 32, or integers(low, high).")
    return Choice(tuple(power for power in powers if low <= power <= high))


def plain(value: Any) -> Any:
    """Returns a scalar of NumPy or JAX as the Python number that it holds; anything else as it is."""
    return value.item() if isinstance(value, np.generic | np.ndarray | Array) and value.ndim == 0 else value


def point_of(parameter: Parameter, value: Any) -> float:
    """Returns where on its edge of the cube a value lies; the nearest bound for one beyond it, the middle for no value.

    Example:
        >>> point_of(uniform(0.0, 4.0), 1.0), point_of(uniform(0.0, 4.0), 9.0), point_of(choice(["relu", "tanh"]), None)
        (0.25, 1.0, 0.5)
    """
    if is_number(value) and not isinstance(parameter, Choice):
        low, high = parameter.support
        return float(parameter.encode([min(max(value, low), high)])[0])
    return float(parameter.encode([value])[0]) if value in parameter else 0.5


def _unwrap_bounds(parameter: Continuous | Integer) -> None:
    for bound in ("low", "high"):
        object.__setattr__(parameter, bound, plain(getattr(parameter, bound)))


def _check_bounds(written: object, low: Any, high: Any) -> None:
    for bound in (low, high):
        if not is_number(bound):
            raise TypeError(f"{written}: {bound!r} is not a number. Write two numbers, the lower bound first.")
        check_value(written, bound)
    if low == high:
        raise ValueError(f"{written}: nothing lies between equal bounds. Write {low!r} alone to keep it fixed.")
    if low > high:
        raise ValueError(f"{written}: the lower bound is above the upper one. Write them as {high!r}, {low!r}.")


def column(values: Sequence[Value]) -> Shaped[np.ndarray, " trials"]:
    """Returns the values as one array, of objects unless all are of one type of number."""
    if {type(value) for value in values} in ({bool}, {int}, {float}):
        return np.array(values)
    return np.fromiter(values, object, len(values))
