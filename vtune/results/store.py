"""The folder that a study is kept in: plain files that a spreadsheet, or the next version, can read."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from vtune.results.tables import Table

_FORMAT = "vtune study 1"
_STUDY, _TRIALS, _CURVES = "study.json", "trials.csv", "curves.csv"


class Folder:
    """A place for one study, checked when it is made: nobody should train for an hour and then fail to write.

    It holds ``study.json`` (what was searched, and how), ``trials.csv`` (one row a trial, best first) and
    ``curves.csv`` (one row an epoch of a trial).

    Attributes:
        path: where it is.

    Raises:
        OSError: for a path that cannot be made a folder or written to, or that holds a study already.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     Folder(f"{parent}/digits/first").path.name
        'first'
    """

    def __init__(self, path: str | PathLike[str]):
        self.path = _absolute(path)
        _make(self.path)
        _check_writable(self.path)
        _check_unused(self.path)

    def write(self, record: Mapping[str, Any], table: Table) -> None:
        """Writes the study as it stands; each file changes at once or not at all, and ``study.json`` comes last.

        Args:
            record: what ``study.json`` tells: anything that JSON can hold. ``vtune show`` prints ``data`` (one line),
                ``metric`` (the name of the score) and ``seconds`` (of the search so far).
            table: the trials.

        Raises:
            OSError: where the folder cannot be written any more.
            TypeError: for a record that JSON cannot hold.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as path:
            ...     Folder(path).write({"seed": 0}, Table(["layers"], ["loss"], is_maximized=False))
            ...     read_folder(path)[0]
            {'seed': 0}
        """
        text = json.dumps({"format": _FORMAT, **record}, indent=2)
        _replace(self.path / _CURVES, table.curves.to_csv)
        _replace(self.path / _TRIALS, table.top(len(table)).to_csv)
        _replace(self.path / _STUDY, lambda path: path.write_text(text + "\n", encoding="utf-8"))


def read_folder(path: str | PathLike[str]) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Reads what a search left in its folder.

    Args:
        path: the ``folder=`` of the search.

    Returns:
        The record, the trials (best first) and the curves. Types of hyperparameters are inferred from what is
        written, so the string "64" comes back as a number.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: for a folder that holds no study, or one that this version cannot read.
    """
    folder = _absolute(path)
    if not folder.is_dir():
        raise FileNotFoundError(
            f'folder "{path}" is not there, or no folder; write the one that a search was given, as in '
            f"vtune search --folder {path}"
        )
    record = _read_record(folder)
    trials = _read_table(folder / _TRIALS, index="trial_id", dtype={"parent": "Int64"}, parse_dates=["finished_at"])
    curves = _read_table(folder / _CURVES, index=["trial_id", "epoch"])
    return record, trials, curves


def _absolute(path: str | PathLike[str]) -> Path:
    if not str(path):
        raise FileNotFoundError('folder "" has no name, and would be the one you are in; write one such as "study"')
    return Path(path).expanduser().absolute()  # a program may change its directory while it searches


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(
            f'folder "{folder}" cannot be made ({error.strerror}); write one whose parents are folders that you may '
            'write to, such as "~/studies/first"'
        ) from error


def _check_writable(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"vtune")
    except OSError as error:
        raise type(error)(
            f'folder "{folder}" cannot be written to ({error.strerror}); write one that you own, such as '
            '"~/studies/first"'
        ) from error


def _check_unused(folder: Path) -> None:
    held = [name for name in (_STUDY, _TRIALS, _CURVES) if (folder / name).exists()]
    if held:
        raise FileExistsError(
            f'folder "{folder}" holds the {held[0]} of another study, which a search does not overwrite; write a new '
            f'name, such as "{_unused_name(folder)}", or delete it first'
        )


def _unused_name(folder: Path) -> Path:
    number = 2
    while (candidate := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return candidate


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes beside the file and then takes its place, so that a reader never sees half of it."""
    beside = path.with_name(f".{path.name}.new")
    write(beside)
    os.replace(beside, path)


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / _STUDY
    if not path.is_file():
        raise ValueError(
            f'folder "{folder}" holds no {_STUDY}, so no search has finished a round in it; write the folder that a '
            "search was given"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); restore it, or search again in a new folder") from error
    if not (isinstance(record, dict) and record.pop("format", None) == _FORMAT):
        raise ValueError(
            f'{path} is not in the format "{_FORMAT}" that this version reads; write the folder of a vtune search, or '
            "use the version that wrote it"
        )
    return record


def _read_table(path: Path, index: str | list[str], **options: Any) -> pd.DataFrame:
    try:
        # "None" and "NA" may be choices; a missing number is an empty cell.
        return pd.read_csv(path, keep_default_na=False, na_values=[""], **options).set_index(index)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} cannot be read as a table ({error}); restore it, or search again in a new folder"
        ) from error
