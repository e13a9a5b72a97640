"""Where a search starts: trials that the user names, the best of an older study, or the folder that it goes on in."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from vtune.results.store import Held, read_folder, unused_name
from vtune.space import Space
from vtune.study import Study

_NUM_TAKEN = 8
"""How many of the best trials of an older study are tried again."""

_MAY_DIFFER = ("trials", "finalists", "target_score", "time_budget")
"""The settings that may differ where a search is continued."""


def first_trials(start: Any, space: Space, trials: int, kept: Held | None = None) -> list[dict[str, Any]]:
    """Returns what the first trials of a search are fixed to; names that are left out are drawn like any other's.

    Args:
        start: trials as dicts by name; a study, or the folder of one, whose best trials are taken, as far as they lie
            in the space; or None.
        space: as the user wrote it.
        trials: of the search in all.
        kept: what the folder holds in which the search goes on: from the best trials that the older study had then.

    Raises:
        TypeError: for anything else.
        ValueError: for names or values that the space does not have, for more trials than there will be, and for a
            study of which no trial lies in the space.
    """
    if start is None:
        return []
    if kept and (source := source_of(start)) and source == kept.record.get("start_from"):
        recorded = kept.record["start"]
        return [{name: _level_of(space, name, trial[name], json.dumps) for name in trial} for trial in recorded]
    if isinstance(start, Study):
        return _best(start.top(len(start.table)), space, trials)
    if isinstance(start, str | PathLike):
        return _best(read_folder(start).trials, space, trials)
    if isinstance(start, Mapping) or not (
        isinstance(start, Sequence) and all(isinstance(trial, Mapping) for trial in start)
    ):
        raise TypeError(
            f"start={start!r} is neither a list of trials nor a study. Write start=[{{'learning_rate': 0.01}}], or "
            "start=old_study for the best trials of that one."
        )
    if len(start) > trials:
        raise ValueError(
            f"start has {len(start)} trials, more than the trials={trials} of the search. Write a shorter start, or "
            f"trials={4 * len(start)}."
        )
    return [_fixed(f"start[{number}]", trial, space) for number, trial in enumerate(start)]


def _fixed(where: str, trial: Mapping[str, Any], space: Space) -> dict[str, Any]:
    try:
        return space.nearest(trial)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _best(ranked: pd.DataFrame, space: Space, trials: int) -> list[dict[str, Any]]:
    """Takes the best trials that lie in the space, as far as it varies their names."""
    taken: list[dict[str, Any]] = []
    for _, row in ranked[np.isfinite(ranked["score"])].iterrows():
        try:
            taken.append(params_in(space, row))
        except ValueError:  # a value beyond the bounds of this space
            continue
        if len(taken) == min(_NUM_TAKEN, trials):
            break
    if not any(taken):
        raise ValueError(
            "start: no trial of that study lies in this space. Widen the space, or write the trials to start with, "
            "start=[{'learning_rate': 0.01}]."
        )
    return taken


def params_in(space: Space, row: pd.Series) -> dict[str, Any]:
    """Returns what a trial has of the names that vary, with the types of the space, where a file may have changed them.

    Args:
        space: that the trial is taken into.
        row: of ``study.trials``, or of the trials in a folder.

    Raises:
        ValueError: for a value that the space cannot give.
    """
    names = [name for name in space.parameters if name in row.index]
    return space.nearest({name: _level_of(space, name, row[name], str) for name in names})


def _level_of(space: Space, name: str, value: Any, written: Callable[[Any], str]) -> Any:
    """Returns the choice that a value was, of which a file may have made another type; ``written`` is how that does."""
    levels = space.levels_of(name) if name in space.parameters else None
    return {written(level): level for level in levels or ()}.get(written(value), value)


def source_of(start: Any) -> str | None:
    """Returns a digest of the search that an older study is of, however far it has come; None for trials by hand."""
    if isinstance(start, Study):
        record = start.settings
    elif isinstance(start, str | PathLike):
        record = read_folder(start).record
    else:
        return None
    told = [record[name] for name in ("model_fn", "space", "data_digest", "strategy", "seed")]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


# Going on in a folder


def check_same(kept: Held, settings: Mapping[str, Any]) -> None:
    """Refuses to go on with another search than the one that the folder holds.

    Args:
        kept: what the folder holds.
        settings: of the search that is asked for: all that JSON can hold and that decides its trials.

    Raises:
        ValueError: for a setting that differs, with both values.
    """
    asked = json.loads(json.dumps(settings))
    for name, value in asked.items():
        before = kept.record.get(name)
        if name not in _MAY_DIFFER and before != value:
            raise ValueError(
                f'folder "{kept.path}" holds a search with {_told(name, before)}, and this one has '
                f"{_told(name, value)}. "
                f'Write the same to continue that search, or a new folder, such as "{unused_name(kept.path)}".'
            )


def stages(kept: Held | None, trials: int) -> tuple[int, ...]:
    """Returns how many trials there were to be each time the search was asked for, ``trials`` the last.

    Raises:
        ValueError: where there are to be fewer than before.
    """
    before = tuple(kept.record["stages"]) if kept else ()
    if before and trials < before[-1]:
        raise ValueError(
            f"trials={trials}: the folder holds a search of {before[-1]}. Write trials={before[-1]} to see it through, "
            "or more to continue it."
        )
    return before if before and trials == before[-1] else (*before, trials)


def ladder_of(kept: Held, ladder: str) -> str:
    """Returns the ladder that the kept search has, as JSON.

    Raises:
        ValueError: where another one is asked for.
    """
    recorded = json.dumps(kept.record["ladder"], sort_keys=True)
    if ladder not in ("auto", recorded):
        raise ValueError(
            f'ladder: the search in folder "{kept.path}" has a ladder of its own. Write ladder="auto" to continue it, '
            f'or a new folder, such as "{unused_name(kept.path)}".'
        )
    return recorded


def _told(name: str, value: Any) -> str:
    if name == "data_digest":
        return f"data whose values have the digest {value}"
    if name == "start_from" and value:
        return f"start= an older study (digest {value})"
    if name == "code_digest":
        return f"model, optimizer, loss and metric (as this version of JAX sees them) of the digest {value}"
    return f"another {name}" if isinstance(value, str) and len(value) > 60 else f"{name}={value!r}"
