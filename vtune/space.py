"""The hyperparameters of a search by name, and the unit cube that they span."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float32, Int, Key, Num, Shaped

from vtune.defaults import DEFAULTS, NINE, check_fixed, check_known, did_you_mean, is_missing, names_of
from vtune.keys import is_typed_threefry
from vtune.parameters import (
    Choice,
    Continuous,
    Integer,
    Number,
    Parameter,
    Value,
    column,
    integers,
    loguniform,
    plain,
    point_of,
    powers_of_two,
    reverse_loguniform,
)
from vtune.protocols import Axis


@dataclass(frozen=True, repr=False)
class PerLayer:
    """One parameter for each layer of a network; ``per_layer`` makes it.

    Attributes:
        parameter: what each of them may be.
        layers: the name whose value says how many layers a trial has.
    """

    parameter: Any
    layers: Any = "layers"

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameter", _from_optuna(self.parameter))
        if not isinstance(self.parameter, Parameter):
            raise TypeError(
                f"per_layer({self.parameter!r}): it takes what one layer may be. Write per_layer(integers(16, 256)), "
                "or leave per_layer out for one value that all layers share."
            )
        if not isinstance(self.layers, str):
            raise TypeError(f"{self!r}: layers={self.layers!r} is no name. Write per_layer(..., layers='layers').")

    def __repr__(self) -> str:
        return f"per_layer({self.parameter!r}{'' if self.layers == 'layers' else f', layers={self.layers!r}'})"


def per_layer(parameter: Any, layers: Any = "layers") -> PerLayer:
    """One parameter for each layer, such as a width of its own for each hidden layer.

    In a space ``"hidden": per_layer(integers(16, 256))`` stands for ``hidden_1``, ``hidden_2`` and so on, as many as
    ``layers`` can be at most. A trial with fewer layers does not use the last ones: they are NaN in its row.

    Args:
        parameter: what each layer may be, such as ``integers(16, 256, log=True)``.
        layers: the name whose value says how many layers a trial has.

    Raises:
        TypeError: for anything but a parameter and a name.

    Example:
        >>> list(Space.of({"hidden": per_layer(integers(16, 256)), "layers": integers(1, 3)}).entries)
        ['hidden_1', 'hidden_2', 'hidden_3', 'layers']
    """
    return PerLayer(parameter, layers)


class Layer(NamedTuple):
    """The layer that a parameter belongs to: a trial uses it where the value of ``layers`` is at least ``number``."""

    layers: str
    number: int


@dataclass(frozen=True, repr=False)
class Space:
    """The hyperparameters of a search by name: those that vary, which span a unit cube, and those that stay fixed.

    A choice of one value stays fixed too. Distributions of Optuna may stand in for parameters.

    Attributes:
        written: what the user wrote for each name.

    Raises:
        TypeError: for anything but a dict, a name that is not a string, or a value of a wrong type.
        ValueError: for a name that is not an identifier, or a value that makes no sense for its name.

    Example:
        >>> space = Space.of({"hidden": integers(1, 4), "decay": 0.01})
        >>> space.rows(np.array([[0.0], [0.99]]))
        [{'hidden': 1, 'decay': 0.01}, {'hidden': 4, 'decay': 0.01}]
    """

    written: Any

    @classmethod
    def of(cls, mapping: Any) -> "Space":
        """Returns the space that the mapping describes; a space is returned as it is."""
        return mapping if isinstance(mapping, Space) else cls(mapping)

    def __post_init__(self) -> None:
        if not isinstance(self.written, Mapping):
            raise TypeError(f"{self.written!r} is not a dict. Write {{'learning_rate': loguniform(1e-4, 1.0)}}.")
        object.__setattr__(self, "written", {name: _entry(name, written) for name, written in self.written.items()})
        for name in self.layer_of:
            if name in self.written:
                raise ValueError(f"{name!r} is in the space, and per_layer makes one too. Write one of the two.")

    @cached_property
    def entries(self) -> dict[str, Parameter | Value]:
        """What each name stands for, in the order written; what is there per layer has a name for each."""
        return {
            member: entry.parameter if isinstance(entry, PerLayer) else entry
            for name, entry in self.written.items()
            for member in self.members(name)
        }

    @cached_property
    def layer_of(self) -> dict[str, Layer]:
        """The layer that each name belongs to, of those that are there per layer."""
        return {
            member: Layer(entry.layers, number)
            for name, entry in self.written.items()
            if isinstance(entry, PerLayer)
            for number, member in enumerate(self.members(name), start=1)
        }

    def members(self, name: str) -> tuple[str, ...]:
        """Returns the names that stand for one that is there per layer; of any other name itself alone.

        Example:
            >>> Space.of({"hidden": per_layer(integers(16, 256)), "layers": 2}).members("hidden")
            ('hidden_1', 'hidden_2')
        """
        entry = self.written.get(name)
        if not isinstance(entry, PerLayer):
            return (name,)
        return tuple(f"{name}_{number}" for number in range(1, self._most_layers(name, entry) + 1))

    def has_layer(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns whether a trial has the layer that a name belongs to, for each name in ``layer_of``.

        Args:
            values: a number, or an array with one a trial, for each name that tells how many layers there are.
        """
        return {name: values[layer.layers] >= layer.number for name, layer in self.layer_of.items()}

    def _most_layers(self, name: str, entry: PerLayer) -> int:
        depth = self.written.get(entry.layers, DEFAULTS.get(entry.layers))
        levels = depth.values if isinstance(depth, Parameter) else (depth,)
        if not (levels and all(isinstance(level, int) and level >= 1 for level in levels)):
            problem = "is not in the space" if depth is None else f"is {depth!r}"
            raise ValueError(
                f"{{{name!r}: {entry!r}}}: {entry.layers!r} tells how many layers there are, and {problem}. "
                f"Write {entry.layers!r}: integers(1, 4)."
            )
        return max(levels)

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """What varies, in the order written."""
        return {name: entry for name, entry in self.entries.items() if isinstance(entry, Parameter)}

    @cached_property
    def fixed(self) -> dict[str, Value]:
        """What stays the same in every trial, in the order written."""
        return {name: entry for name, entry in self.entries.items() if not isinstance(entry, Parameter)}

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The edges of the unit cube: one a varying parameter, in the order written."""
        defaults = {member: DEFAULTS.get(name) for name in self.written for member in self.members(name)}
        return tuple(
            Axis(name, entry.levels, entry.is_ordered, point_of(entry, defaults[name]), entry.log_length)
            for name, entry in self.parameters.items()
        )

    def require_varying(self) -> None:
        """Refuses a space in which a search would have nothing to try.

        Raises:
            ValueError: where every value is fixed.
        """
        if not self.parameters:
            raise ValueError(f"{self.fixed!r}: nothing varies. Write a range, 'learning_rate': loguniform(1e-4, 1.0).")

    def decode(self, points: Float[Array | np.ndarray, "trials axes"]) -> dict[str, Shaped[np.ndarray, " trials"]]:
        """Returns the hyperparameters at points of the unit cube, as columns, fixed ones included.

        Args:
            points: numbers in [0, 1], one column an axis.

        Returns:
            One array a name, in the order written: float64, int64 or bool where all its values are of that type,
            object otherwise. Continuous values are float32 numbers; those of a choice are as written.

        Raises:
            ValueError: for points of another shape or outside the cube.

        Example:
            >>> Space.of({"decay": 0.0, "layers": integers(1, 4)}).decode(np.array([[0.0], [1.0]]))
            {'decay': array([0., 0.]), 'layers': array([1, 4])}
        """
        if points.ndim != 2 or points.shape[1] != len(self.parameters):
            raise ValueError(
                f"points of shape {points.shape} do not fit. Give a column each for {list(self.parameters)}."
            )
        if not np.all((points >= 0) & (points <= 1)):
            raise ValueError("some points lie outside the unit cube. Give numbers from 0 to 1 alone.")
        columns = dict(zip(self.parameters, np.asarray(points).T, strict=True))
        return {
            name: entry.decode(columns[name]) if isinstance(entry, Parameter) else column([entry] * len(points))
            for name, entry in self.entries.items()
        }

    def rows(self, points: Float[Array | np.ndarray, "trials axes"]) -> list[dict[str, Value]]:
        """Returns the hyperparameters at points of the unit cube, as one dict of plain Python values a trial.

        Args:
            points: numbers in [0, 1], one column an axis.

        Raises:
            ValueError: for points of another shape or outside the cube.
        """
        columns = {name: column.tolist() for name, column in self.decode(points).items()}
        return [{name: column[row] for name, column in columns.items()} for row in range(len(points))]

    def trace(self, points: Float[Array, "trials axes"], dtypes: Mapping[str, str]) -> dict[str, Num[Array, " trials"]]:
        """Returns what ``decode`` does, inside a program, for names that are numbers: the same bits on a CPU.

        Args:
            points: numbers in [0, 1], one column an axis.
            dtypes: the names to return, each with the type that it shall have.

        Raises:
            TypeError: for a choice that is not of numbers.
        """
        units = dict(zip(self.parameters, points.T, strict=True))
        return {
            name: self.parameters[name].trace(units[name], dtype)
            if name in units
            else jnp.full(points.shape[0], np.array(self.fixed[name], dtype))
            for name, dtype in dtypes.items()
        }

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> Float32[np.ndarray, "trials axes"]:
        """Returns the points of the unit cube where the trials lie; rows of this space come back from them unchanged.

        Args:
            rows: one dict a trial. A name that is left out, or NaN, is NaN in the point: a parameter that the trial
                does not use. The float32 points resolve about 7 digits, so a number that was not sampled may come
                back changed in the last.

        Raises:
            ValueError: for a name that is unknown, or a value that the space cannot give.

        Example:
            >>> Space.of({"layers": integers(1, 4)}).encode([{"layers": 1}, {"layers": 4}]).tolist()
            [[0.125], [0.875]]
        """
        for row in rows:
            self._check_row(row)
        points = np.full((len(rows), len(self.parameters)), np.nan, np.float32)
        for position, (name, parameter) in enumerate(self.parameters.items()):
            used = [number for number, row in enumerate(rows) if self._has(row, name)]
            points[used, position] = parameter.encode([rows[number][name] for number in used])
        return points

    def nearest(self, row: Mapping[str, Any]) -> dict[str, Value]:
        """Returns what a trial has of the names that vary, with each value as trials of this space have it.

        Args:
            row: values by name; one that is left out, or NaN, is left out.

        Raises:
            ValueError: for a name that is unknown, or a value that the space cannot give.

        Example:
            >>> Space.of({"layers": integers(1, 4), "decay": 0.0}).nearest({"layers": 2.0, "decay": 0.0})
            {'layers': 2}
        """
        row = {name: plain(value) for name, value in row.items()}
        self._check_row(row)
        given = {name: row[name] for name in self.parameters if self._has(row, name)}
        return {name: self.parameters[name].nearest(value) for name, value in given.items()}

    def support(self, name: str) -> tuple[Number, Number]:
        """Returns the smallest and the largest number that the name can take, both the same where it is fixed.

        Raises:
            ValueError: for a name that is not in the space.
            TypeError: where values are not numbers.
        """
        return self._parameter(name).support

    def levels_of(self, name: str) -> list[Value] | None:
        """Returns the values that the name can take, in the order of its axis; None for a continuous one.

        Raises:
            ValueError: for a name that is not in the space.
        """
        values = self._parameter(name).values
        return None if values is None else list(values)

    def cdf(self, name: str, value: Number) -> float:
        """Returns the share of samples in which the name is at most the value.

        Raises:
            ValueError: for a name that is not in the space.
            TypeError: where values are not numbers.

        Example:
            >>> Space.of({"layers": integers(1, 4)}).cdf("layers", 2)
            0.5
        """
        return self._parameter(name).cdf(value)

    def describe(self) -> str:
        """Returns one line a name: the range it varies in, or the value it keeps.

        Example:
            >>> print(Space.of({"layers": integers(1, 4), "decay": 0.01}).describe())
            layers  integers(1, 4)
            decay   0.01, fixed
        """
        width = max(map(len, self.entries), default=0)
        kept = {name: f"{value!r}, fixed" for name, value in self.fixed.items()}
        where = {name: f", if {layer.layers} >= {layer.number}" for name, layer in self.layer_of.items()}
        return "\n".join(
            f"{name:{width}}  {kept.get(name, entry)}{where.get(name, '')}" for name, entry in self.entries.items()
        )

    __repr__ = describe

    def _parameter(self, name: str) -> Parameter:
        if name not in self.entries:
            raise ValueError(f"{name!r} is not in this space; {did_you_mean(name, self.entries)}")
        return self.parameters[name] if name in self.parameters else Choice((self.fixed[name],))

    def _has(self, row: Mapping[str, Any], name: str) -> bool:
        """Whether a row has a value of a name that varies; None counts as one where it is among the choices."""
        if name not in row:
            return False
        value = row[name]
        return value in self.parameters[name] if value is None else not is_missing(value)

    def _check_row(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            is_unused = name in self.parameters and not self._has(row, name)
            if not is_unused and value not in self._parameter(name):
                raise ValueError(f"{{{name!r}: {value!r}}} is outside the space. Write one of {self.entries[name]!r}.")


def sample_points(key: Key[Array, ""], trial_ids: Int[Array, " trials"], num_axes: int) -> Float[Array, "trials axes"]:
    """Returns points drawn uniformly from the unit cube; row i depends on the key and on ``trial_ids[i]`` alone.

    Args:
        key: a typed threefry key. (Under vmap, rbg keys would draw all rows from the first of them.)
        trial_ids: one integer a row.
        num_axes: how many numbers a row has.

    Raises:
        TypeError: for another kind of key.

    Example:
        >>> sample_points(jax.random.key(0, impl="threefry2x32"), jnp.arange(3), num_axes=2).shape
        (3, 2)
    """
    if not is_typed_threefry(key):
        raise TypeError(f"{key!r} is not a typed threefry key. Write jax.random.key(seed, impl='threefry2x32').")
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, trial_ids)
    return jax.vmap(lambda key: jax.random.uniform(key, (num_axes,), jnp.float32))(keys)


def default_space(optimizer: str | Sequence[str] = "adam", tiers: Iterable[int] = (1, 2, 3)) -> dict[str, Parameter]:
    """Returns a sensible first space, as a dict to search or to change.

    Args:
        optimizer: "adam", "momentum", "rmsprop" or "sgd", or several of them to choose from; names that none of them
            reads are left out.
        tiers: which of the nine to vary, by how much they matter: 1 (most) to 4.

    Raises:
        ValueError: for an optimizer or a tier that does not exist.

    Example:
        >>> default_space("momentum", tiers=(1, 2))["momentum"]
        reverse_loguniform(0.5, 0.999)
        >>> default_space(["momentum", "adam"])["optimizer"]
        choice(['momentum', 'adam'])
    """
    calls = {call.__name__: call for call in (integers, loguniform, powers_of_two, reverse_loguniform)}
    several, tiers = [optimizer] if isinstance(optimizer, str) else list(optimizer), tuple(tiers)
    read = set().union(*(names_of(one, tiers) for one in several))
    chosen = {"optimizer": Choice(tuple(several))} if len(several) > 1 else {}
    return {**chosen, **{name: calls[NINE[name].call](*NINE[name].search) for name in NINE if name in read}}


def _entry(name: Any, written: Any) -> Parameter | PerLayer | Value:
    if not (isinstance(name, str) and name.isidentifier()):
        error = ValueError if isinstance(name, str) else TypeError
        raise error(f"{{{name!r}: {written!r}}}: a name is an identifier in quotes. Write one like 'learning_rate'.")
    entry = _from_optuna(plain(written))
    if isinstance(entry, PerLayer):
        check_known(name, written, entry.parameter.values or entry.parameter.support)
        return entry
    if not isinstance(entry, Parameter):
        check_fixed(f"{{{name!r}: {written!r}}}", entry)
        entry = Choice((entry,))
    check_known(name, written, entry.values if isinstance(entry, Choice) else entry.support)
    return entry.values[0] if isinstance(entry, Choice) and entry.levels == 1 else entry


def _from_optuna(written: Any) -> Any:
    """Returns the parameter that a distribution of Optuna describes; anything else as it is."""
    optuna = sys.modules.get("optuna.distributions")  # whoever holds a distribution has imported it
    if optuna is None or not isinstance(written, optuna.BaseDistribution):
        return written
    if isinstance(written, optuna.CategoricalDistribution):
        return Choice(written.choices)
    low, high, step, log = written.low, written.high, written.step, written.log
    if low == high:
        return low
    if isinstance(written, optuna.FloatDistribution) and step is None:
        return Continuous(low, high, "log" if log else "linear")
    return Integer(low, high, log) if step == 1 and isinstance(low, int) else Choice(_stepped(low, high, step))


def _stepped(low: Number, high: Number, step: Number) -> tuple[Number, ...]:
    start, end, stride = (Decimal(str(number)) for number in (low, high, step))  # 0.3, not 0.30000000000000004
    return tuple(type(low)(start + stride * position) for position in range(int((end - start) / stride) + 1))
