"""Data for the command line: by name, or from a file."""

import warnings
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int, Shaped

from vtune.arrays import Kind
from vtune.data import Data
from vtune.defaults import did_you_mean
from vtune.precision import float_dtype

_PARTS = ("train", "valid", "test")
_MAX_NAMED = 10
"""Up to how many classes are all told by name."""


class Loaded(NamedTuple):
    """What the command line named.

    Attributes:
        data: as ``Data.of`` and ``vtune.search`` take it: None for the digits, (x, y), or the ``Data`` of a file that
            comes split.
        target: the column of a table that is y; "" for what is no table.
        meaning: what the target holds, for people: "a quantity", "3 classes", "0: cat, 1: dog".
    """

    data: Data | tuple[Any, np.ndarray] | None
    target: str = ""
    meaning: str = ""


def load_data(name: str | PathLike[str], target: str | None = None, kind: Literal["auto"] | Kind = "auto") -> Loaded:
    """Loads what the command line names.

    A ``.npz`` file holds arrays x and y, or a split: x_train, y_train, x_valid, y_valid and perhaps x_test, y_test;
    other arrays are left alone. A ``.csv`` file begins with a line of column names. One column is y: labels if it holds
    strings, numbered in their order, or integers that look like labels, which begin at 0 or 1, stay below the number of
    rows, and come twice on average; targets otherwise, or as ``kind`` tells. All others are numbers.

    Args:
        name: "digits", or the path of a ``.npz`` or ``.csv`` file.
        target: the column of a ``.csv`` file that is y; None for the last one.
        kind: what numbers in it are, "classes" or "targets"; "auto" goes by what they look like.

    Returns:
        The data, and what is known of a table's target.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for other endings, missing arrays or target, columns that are not numbers, and unreadable files.

    Example:
        >>> Data.of(load_data("digits").data).num_train
        1078
    """
    path = Path(name)
    ending = path.suffix.lower()
    if name != "digits" and ending not in (".npz", ".csv"):
        raise ValueError(f'data "{name}" is no name or file that vtune reads; write digits, or a .npz or .csv file')
    if target is not None and ending != ".csv":
        raise ValueError(
            f'target "{target}": data "{name}" has no columns with names, as a .csv file has; leave the target out'
        )
    if name == "digits":
        return Loaded(None)
    if not path.is_file():
        raise FileNotFoundError(f'data "{name}": there is no such file in {path.absolute().parent}; check the path')
    return _load_csv(path, target, kind) if ending == ".csv" else Loaded(_load_npz(path))


def _load_npz(path: Path) -> Data | tuple[np.ndarray, np.ndarray]:
    arrays = _read_npz(path)
    if {"x", "y"} <= arrays.keys():
        return arrays["x"], arrays["y"]
    has_test = not {"x_test", "y_test"}.isdisjoint(arrays)
    needed = [f"{axis}_{part}" for part in _PARTS[: 2 + has_test] for axis in "xy"]
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise ValueError(
            f"{path} holds {', '.join(sorted(arrays)) or 'no arrays'}, but neither x and y nor a whole split: "
            f"{', '.join(missing)} missing; write np.savez(path, x=x, y=y), or add them"
        )
    parts = [(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in _PARTS[: 2 + has_test]]
    return Data(train=parts[0], valid=parts[1], test=parts[2] if has_test else None)


def _read_npz(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (zipfile.BadZipFile, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as a .npz file of plain arrays ({error}); write it with np.savez(path, x=x, y=y)"
        ) from error


def _load_csv(path: Path, target: str | None, kind: Literal["auto"] | Kind) -> Loaded:
    table = _read_table(path)
    names = [str(name) for name in table.columns]
    _check_names(path, names)
    target = names[-1] if target is None else target
    if target not in names:
        raise ValueError(f'target "{target}": {path} has no such column; {did_you_mean(target, names)}')
    y_column = table.pop(target)
    for name, column in table.items():
        if not _holds_numbers(column):
            raise ValueError(
                f'column "{name}" of {path} holds values such as {column.iloc[0]!r}, but networks take numbers; '
                f'encode it with np.unique(table["{name}"], return_inverse=True)[1], or leave it out, or write '
                f"--target {name} if it is what to predict"
            )
    y, meaning = _read_target(path, y_column, kind)
    # A file of text never asked for float64: nothing to warn of when it becomes float32.
    return Loaded((table.astype(float_dtype()), y), target, meaning)


def _holds_numbers(column: pd.Series) -> bool:
    return column.dtype.kind in "biuf"


def _read_target(
    path: Path, column: pd.Series, kind: Literal["auto"] | Kind
) -> tuple[Shaped[np.ndarray, " rows"], str]:
    """Returns y, and what it holds, for people."""
    if not _holds_numbers(column):
        return _number_classes(path, column)
    y = column.to_numpy()
    if kind == "targets" or (kind == "auto" and not _look_like_labels(y)):
        return y.astype(float_dtype()), "a quantity"
    return y, f"{int(y.max()) + 1} classes"


def _look_like_labels(y: Shaped[np.ndarray, " rows"]) -> bool:
    """Ages, years, counts of many and prices do not, though they are integers."""
    return bool(y.dtype.kind != "f" and 0 <= y.min() <= 1 and y.max() < len(y) and 2 * len(np.unique(y)) <= len(y))


def _number_classes(path: Path, column: pd.Series) -> tuple[Int[np.ndarray, " rows"], str]:
    gaps = np.flatnonzero(column.isna())
    if len(gaps):
        raise ValueError(
            f'column "{column.name}" of {path} has no value in {len(gaps)} of {len(column)} rows, the first row '
            f"{gaps[0]}, but every row needs its class; leave those rows out, or write a name for what they are"
        )
    texts = [str(value) for value in column]
    numbers, others = ([text for text in texts if _is_number(text) == wanted] for wanted in (True, False))
    if numbers and others:
        raise ValueError(
            f'column "{column.name}" of {path} holds numbers such as {numbers[0]} and names such as {others[0]}, but a '
            "target is one or the other; write numbers alone, or names alone"
        )
    classes, y = np.unique(np.array(texts), return_inverse=True)
    named = [f"{number}: {name}" for number, name in enumerate(classes)]
    if len(named) <= _MAX_NAMED:
        return y, ", ".join(named)
    return y, f"{len(named)} classes, {named[0]}, {named[1]}, ..., {named[-1]}"


def _read_table(path: Path) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # it would drop the columns without a name
            table = pd.read_csv(path, index_col=False)
    except (ValueError, pd.errors.ParserWarning) as error:
        reason = str(error).strip()
        raise ValueError(f"{path} is no table ({reason}); write rows of numbers, separated by commas") from error
    if table.empty:
        raise ValueError(f"{path} has column names and no rows; write one line of numbers a row")
    return table


def _check_names(path: Path, names: list[str]) -> None:
    if len(names) < 2:
        raise ValueError(f"{path} has one column, {names[0]!r}; write at least one of x, then y, separated by commas")
    if names[0] == "Unnamed: 0":
        raise ValueError(
            f"the first column of {path} has no name, as the row numbers that pandas writes, which are no input to "
            "learn from; write table.to_csv(path, index=False)"
        )
    # Columns counted from 0 are how pandas names those of an array.
    if all(map(_is_number, names)) and names != [str(number) for number in range(len(names))]:
        raise ValueError(f"{path} begins with the numbers {', '.join(names[:3])} ...; put a line of column names first")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
