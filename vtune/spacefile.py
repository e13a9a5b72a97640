"""A space written down: in a TOML file of the user's, one line a hyperparameter, or in the record of a study."""

import tomllib
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from vtune.defaults import did_you_mean
from vtune.parameters import (
    Choice,
    Continuous,
    Integer,
    Parameter,
    Value,
    choice,
    integers,
    loguniform,
    powers_of_two,
    reverse_loguniform,
    uniform,
)
from vtune.space import PerLayer, Space, per_layer

_RANGES: dict[str, Callable[..., Any]] = {
    call.__name__: call for call in (uniform, loguniform, reverse_loguniform, integers, powers_of_two)
}
_OPTIONS = {"integers": ("log",), "choice": ("ordered",)}
_CALLS = (*_RANGES, "choice")
_BY_SCALE = {"linear": "uniform", "log": "loguniform", "reverse_log": "reverse_loguniform"}


def read_space(path: str | PathLike[str]) -> dict[str, Any]:
    """Reads a space from a TOML file whose lines look like the constructors of vtune.

    ```toml
    learning_rate = { loguniform = [1e-4, 1.0] }
    beta1 = { reverse_loguniform = [0.9, 0.999] }
    hidden = { integers = [16, 256], log = true }   # and per_layer = true for a width of its own in every layer
    batch_size = { powers_of_two = [32, 256] }
    activation = { choice = ["relu", "tanh"] }
    decay = 0.01                                    # a plain value stays fixed
    ```

    Args:
        path: the file.

    Returns:
        Parameters and plain values by name, as ``vtune.search`` takes them.

    Raises:
        FileNotFoundError: if there is no such file.
        TypeError: for a value of a wrong type.
        ValueError: for what is no TOML, and for a line that makes no parameter.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "space.toml")
        ...     _ = file.write_text("hidden = { integers = [16, 256], log = true }")
        ...     read_space(file)
        {'hidden': integers(16, 256, log=True)}
    """
    entries = _parse(Path(path))
    return {name: _read_entry(f"{path}, {name}", name, written) for name, written in entries.items()}


def write_space(space: Space) -> dict[str, Any]:
    """Returns a space as what JSON can hold, and ``space_of`` makes the same space of again: as in a TOML file.

    Args:
        space: any.

    Example:
        >>> write_space(Space.of({"hidden": integers(16, 256, log=True), "decay": 0.01}))
        {'hidden': {'integers': [16, 256], 'log': True}, 'decay': 0.01}
    """
    return {name: _written(entry) for name, entry in space.written.items()}


def space_of(written: Mapping[str, Any]) -> Space:
    """Returns the space that ``write_space`` wrote; values keep their types, which JSON has all of but tuples.

    Args:
        written: by name, as it comes from JSON.

    Raises:
        TypeError: for a value of a wrong type.
        ValueError: for what makes no parameter.

    Example:
        >>> space_of({"hidden": {"choice": [[32, 16], [64, 32]]}, "decay": 0.01})
        hidden  choice([(32, 16), (64, 32)])
        decay   0.01, fixed
    """
    entries = {name: _parameter(entry) if isinstance(entry, Mapping) else entry for name, entry in written.items()}
    return Space.of(entries)


def _written(entry: Parameter | PerLayer | Value) -> Any:
    if isinstance(entry, PerLayer):
        return {**_written(entry.parameter), "per_layer": True if entry.layers == "layers" else entry.layers}
    if isinstance(entry, Continuous):
        return {_BY_SCALE[entry.scale]: [entry.low, entry.high]}
    if isinstance(entry, Choice):
        return {"choice": list(entry.values)} | ({} if entry.ordered is None else {"ordered": bool(entry.ordered)})
    if isinstance(entry, Integer):
        return {"integers": [entry.low, entry.high]} | ({"log": True} if entry.log else {})
    return {"choice": [entry]} if isinstance(entry, tuple) else entry


def _parse(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f'space "{path}": there is no such file in {path.absolute().parent}; check the path')
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is no TOML ({error}); write lines such as learning_rate = {{ loguniform = [1e-4, 1.0] }}"
        ) from error


def _read_entry(where: str, name: str, written: Any) -> Any:
    try:
        entry = _parameter(written) if isinstance(written, Mapping) else written
        Space.of({name: entry.parameter if isinstance(entry, PerLayer) else entry})  # one line by itself
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{where}: {error} In this file, loguniform(1e-4, 1.0) is written {{ loguniform = [1e-4, 1.0] }}."
        ) from error
    return entry


def _parameter(table: Mapping[str, Any]) -> Any:
    calls = [key for key in table if key in _CALLS]
    if not calls:
        raise ValueError(f"{dict(table)!r} names no range; {did_you_mean(next(iter(table), ''), _CALLS)}")
    if len(calls) > 1:
        raise ValueError(f"{' and '.join(calls)} cannot both hold for one name; keep one of them.")
    call = calls[0]
    options = {key: value for key, value in table.items() if key not in (call, "per_layer")}
    _check_options(call, options)
    _check_list(call, table[call])
    values = [tuple(value) if isinstance(value, list) else value for value in table[call]]
    parameter = choice(values, **options) if call == "choice" else _RANGES[call](*values, **options)
    layers = table.get("per_layer", False)
    if layers is False:
        return parameter
    return per_layer(parameter) if layers is True else per_layer(parameter, layers)


def _check_options(call: str, options: Mapping[str, Any]) -> None:
    known = _OPTIONS.get(call, ())
    for option in options:
        if option not in known:
            instead = f"write {known[0]} = true" if known else "leave it out"
            raise ValueError(f"{call} has no option {option!r}; {instead}.")


def _check_list(call: str, values: Any) -> None:
    is_bounds = call != "choice"
    if not isinstance(values, list) or (is_bounds and len(values) != 2):
        what, example = ("two bounds", "[low, high]") if is_bounds else ("values", "[32, 64]")
        raise ValueError(f"{call} = {values!r} is no list of {what}; write {call} = {example}.")
