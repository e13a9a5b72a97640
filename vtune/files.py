"""Data for the command line: by name, or from a file."""

import warnings
import zipfile
from os import PathLike
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from jaxtyping import Shaped

from vtune.data import Data

_PARTS = ("train", "valid", "test")


def load_data(name: str | PathLike[str]) -> Data | tuple[np.ndarray, np.ndarray] | None:
    """Loads what the command line names, as ``Data.of`` and ``vtune.search`` take it.

    A ``.npz`` file holds arrays x and y, or a split: x_train, y_train, x_valid, y_valid and perhaps x_test, y_test;
    other arrays are left alone. A ``.csv`` file begins with a line of column names; all columns are numbers, the last
    one is y: labels if it holds integers only, targets otherwise.

    Args:
        name: "digits", or the path of a ``.npz`` or ``.csv`` file.

    Returns:
        None for the digits, (x, y), or the ``Data`` of a file that comes split.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for other endings, missing arrays, columns that are not numbers, and unreadable files.

    Example:
        >>> Data.of(load_data("digits"), key=jax.random.key(0)).num_train
        1078
    """
    if name == "digits":
        return None
    path = Path(name)
    loaders = {".npz": _load_npz, ".csv": _load_csv}
    if path.suffix.lower() not in loaders:
        raise ValueError(f'data "{name}" is no name or file that vtune reads; write digits, or a .npz or .csv file')
    if not path.is_file():
        raise FileNotFoundError(f'data "{name}": there is no such file in {path.absolute().parent}; check the path')
    return loaders[path.suffix.lower()](path)


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


def _load_csv(path: Path) -> tuple[Shaped[np.ndarray, "rows columns"], Shaped[np.ndarray, " rows"]]:
    table = _read_table(path)
    _check_names(path, [str(name) for name in table.columns])
    for name, column in table.items():
        if column.dtype.kind not in "biuf":
            raise ValueError(
                f'column "{name}" of {path} holds values such as {column.iloc[0]!r}, but networks take numbers; '
                f'encode it with np.unique(table["{name}"], return_inverse=True)[1], or leave it out'
            )
    # A file of text never asked for float64: nothing to warn of when it becomes float32.
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    x, y = table.iloc[:, :-1].to_numpy(dtype), table.iloc[:, -1].to_numpy()
    return x, y.astype(dtype) if y.dtype.kind == "f" else y


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
