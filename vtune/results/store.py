"""The folder that a study is kept in: plain files that a spreadsheet, or the next version, can read."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from vtune.protocols import Moment
from vtune.results.tables import Table

_FORMAT = "vtune study 4"
_STUDY, _TRIALS, _CURVES, _PLANS = "study.json", "trials.csv", "curves.csv", "plans.csv"
_FINALS, _FINAL = "finalists.csv", ["trial_id", "seed", "epochs"]

_EXACT = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
"""How pandas is told to read the very numbers that were written; from 3.1 on it always does."""


@dataclass(frozen=True)
class Held:
    """What a folder holds.

    Attributes:
        path: of the folder.
        record: what ``study.json`` tells.
        trials: one row a trial, best first. Types of hyperparameters are inferred from what is written, so the string
            "64" comes back as a number.
        curves: one row an epoch of a trial under a seed index.
        plans: what the strategy asked for: one row a trial of a plan.
        finals: the scores of finalists: one row a trial under a seed index, for the epochs that it was trained.
    """

    path: Path
    record: dict[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame
    plans: pd.DataFrame
    finals: pd.DataFrame

    @property
    def finalists(self) -> pd.DataFrame:
        """What ``Study.finalists`` was; empty where there were none."""
        rows = self.record.get("finals", [])
        return pd.DataFrame(rows).set_index("trial_id") if rows else pd.DataFrame()

    @property
    def final_scores(self) -> dict[Moment, float]:
        """The scores of finalists by trial, seed index and epochs; NaN for what diverged."""
        scores = zip(self.finals.index, self.finals["score"], strict=True)
        return {(int(trial_id), int(seed), int(epochs)): float(score) for (trial_id, seed, epochs), score in scores}

    def curves_of(self, trial_id: int, num_seeds: int) -> list[Float[np.ndarray, "_epochs metrics"]]:
        """Returns the curves of a trial under each seed index; of one that diverged at once, none."""
        nothing = np.empty((0, self.curves.shape[1]))
        return [self._curves_by_seed.get((trial_id, seed), nothing) for seed in range(num_seeds)]

    @cached_property
    def _curves_by_seed(self) -> dict[Any, Float[np.ndarray, "_epochs metrics"]]:
        groups = self.curves.sort_index().groupby(["trial_id", "seed"])
        return {of: rows.to_numpy(np.float64) for of, rows in groups}

    def facts_of(self, trial_id: int) -> dict[str, Any]:
        """Returns what is known of a trial beside its hyperparameters and curves, as ``TrialResult`` names it."""
        row = self.trials.loc[trial_id]
        return {
            "trial_id": trial_id,
            "status": row["status"],
            "round": int(row["round"]),
            "parent": None if pd.isna(row["parent"]) else int(row["parent"]),
            "rung": int(row["rung"]),
            "budget": int(row["budget"]),
            "finished_at": row["finished_at"].to_pydatetime(),
            "seconds": float(row["seconds"]),
            "diverged_step": None if pd.isna(row["diverged_step"]) else int(row["diverged_step"]),
        }


class Folder:
    """A place for one study, checked when it is made: nobody should train for an hour and then fail to write.

    It holds ``study.json`` (what was searched, and how), ``trials.csv`` (one row a trial, best first), ``curves.csv``
    (one row an epoch of a trial under a seed index), ``plans.csv`` (what was asked for) and ``finalists.csv`` (one row
    a finalist under a fresh seed index).

    Attributes:
        path: where it is.

    Raises:
        OSError: for a path that cannot be made a folder or written to, or that holds tables of something else.

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
        _check_not_taken(self.path)

    def write(
        self, record: Mapping[str, Any], table: Table, plans: pd.DataFrame, finals: Mapping[Moment, float]
    ) -> None:
        """Writes the study as it stands; each file changes at once or not at all, and ``study.json`` comes last.

        Args:
            record: what ``study.json`` tells: anything that JSON can hold. ``vtune show`` prints ``data`` (one line),
                ``metric`` (the name of the score) and ``seconds`` (of the search so far).
            table: the trials.
            plans: what was asked for, as ``Plans.table`` has it.
            finals: the scores of finalists by trial, seed index and epochs.

        Raises:
            OSError: where the folder cannot be written any more.
            TypeError: for a record that JSON cannot hold.

        Example:
            >>> import tempfile
            >>> from vtune.results.plans import Plans
            >>> table = Table(["layers"], ["loss"], is_maximized=False)
            >>> with tempfile.TemporaryDirectory() as path:
            ...     Folder(path).write({"seed": 0}, table, Plans(["layers"]).table, {})
            ...     read_folder(path).record
            {'seed': 0}
        """
        text = json.dumps({"format": _FORMAT, **record}, indent=2)
        _beside(self.path / _STUDY).write_text(text + "\n", encoding="utf-8")
        frames = {_PLANS: plans, _CURVES: table.seed_curves, _FINALS: _frame_of(finals), _TRIALS: table.top(len(table))}
        for name, frame in frames.items():
            _with_none_written(frame).to_csv(_beside(self.path / name))
            os.replace(_beside(self.path / name), self.path / name)
        os.replace(_beside(self.path / _STUDY), self.path / _STUDY)


def read_if_there(path: str | PathLike[str]) -> Held | None:
    """Reads what a search left in its folder; returns None where there is none yet.

    Args:
        path: the ``folder=`` of the search.

    Raises:
        ValueError: for a study that this version cannot read.
        OSError: for tables of something else.
    """
    folder = _absolute(path)
    _check_not_taken(folder)
    return read_folder(folder) if (folder / _STUDY).exists() else None


def read_folder(path: str | PathLike[str]) -> Held:
    """Reads what a search left in its folder.

    Args:
        path: the ``folder=`` of the search.

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
    trials = _read_table(
        folder / _TRIALS,
        index="trial_id",
        dtype={"parent": "Int64", "diverged_step": "Int64"},
        parse_dates=["finished_at"],
    )
    curves = _read_table(folder / _CURVES, index=["trial_id", "seed", "epoch"])
    plans = _read_table(folder / _PLANS, index=["round", "trial_id"])
    return Held(folder, record, trials, curves, plans, _read_table(folder / _FINALS, index=_FINAL))


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


def _check_not_taken(folder: Path) -> None:
    """Refuses a folder with files of these names that no search has written.

    A search that was killed while it wrote for the first time has left a study.json beside its place.
    """
    held = [name for name in (_TRIALS, _CURVES, _PLANS, _FINALS) if (folder / name).exists()]
    if held and not ((folder / _STUDY).exists() or _beside(folder / _STUDY).exists()):
        raise FileExistsError(
            f'folder "{folder}" holds a {held[0]} but no {_STUDY}, so it is of something else, which a search does not '
            f'overwrite; write a new name, such as "{unused_name(folder)}", or delete it first'
        )


def unused_name(folder: Path) -> Path:
    """Returns a path beside this one where nothing is yet."""
    number = 2
    while (candidate := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return candidate


def _beside(path: Path) -> Path:
    """Where a file is written before it takes its place, so that a reader never sees half of it."""
    return path.with_name(f".{path.name}.new")


def _frame_of(finals: Mapping[Moment, float]) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(list(finals), names=_FINAL)
    return pd.DataFrame({"score": np.array(list(finals.values()), np.float64)}, index)


def _with_none_written(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns a table in which None, which may be a choice, is the word: an empty cell is a value that is not used."""
    may_hold_none = list(frame.select_dtypes("object").columns)
    words = frame[may_hold_none].map(lambda value: "None" if value is None else value)
    return frame.assign(**{str(name): words[name] for name in may_hold_none})


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / _STUDY
    if not path.is_file():
        raise ValueError(
            f'folder "{folder}" holds no {_STUDY}, so no search has kept anything in it yet; write the folder that a '
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
        return pd.read_csv(path, keep_default_na=False, na_values=[""], **_EXACT, **options).set_index(index)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} cannot be read as a table ({error}); restore it, or search again in a new folder"
        ) from error
