"""The trials of a study and their learning curves, as pandas tables."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from vtune.defaults import is_missing

OUTCOMES = {
    "score": "float64",
    "status": "object",
    "round": "int64",
    "parent": "Int64",  # pandas' integers that may be missing: a fresh trial has no parent
    "rung": "int64",
    "budget": "int64",
    "epochs": "int64",
    "best_epoch": "int64",
    "diverged_step": "Int64",
    "finished_at": "datetime64[us, UTC]",
    "seconds": "float64",
}
"""What ``Table.trials`` tells of a trial beside its hyperparameters: the columns and their types."""

Rank = tuple[bool, int, float, float, int]
"""What trials are sorted by, best first: only those of one budget are compared by their scores."""


class TrialResult(NamedTuple):
    """What is known of a trial once it is trained.

    Attributes:
        trial_id: never reused.
        params: its hyperparameters as plain Python values; an inactive one is left out, or NaN.
        score: as the user knows it, accuracy up and losses down; NaN where the trial diverged.
        loss: validation loss at the epoch that is ranked; the lower one wins among equal scores.
        status: how its training ended.
        round: the round of the strategy that asked for it.
        parent: the trial whose weights it started from; None where it started fresh.
        rung: number of its rung, in the order in which trials first needed them.
        budget: how many epochs it was offered.
        epochs: how many its network was trained, by the trials that it descends from too.
        best_epoch: the epoch of its best score, counted from 1.
        finished_at: when, in UTC.
        seconds: wall time of the chunk that it trained in.
        curves: one row an epoch, one column a metric: the mean over seed indices. The epochs of the trials that it
            descends from come first.
        diverged_step: the optimizer step, from 0, that was not finite and not taken; None where all were finite.
        seed_curves: the curves under each seed index.
    """

    trial_id: int
    params: Mapping[str, Any]
    score: float
    loss: float
    status: Literal["complete", "pruned", "diverged", "failed"]
    round: int
    parent: int | None
    rung: int
    budget: int
    epochs: int
    best_epoch: int
    finished_at: datetime
    seconds: float
    curves: Float[np.ndarray, "epochs metrics"]
    diverged_step: int | None = None
    seed_curves: tuple[Float[np.ndarray, "_epochs metrics"], ...] = ()


class Table:
    """All results of a study so far.

    Adding is cheap and so is asking for the best; the tables are built when they are asked for, once between two
    calls of ``add``. They are yours: changing one changes no other, and nothing in here.

    Attributes:
        names: the hyperparameters, in the order of their columns.
        metrics: the columns of the curves.
        is_maximized: whether a higher score is better.

    Raises:
        ValueError: for a hyperparameter that bears the name of another column of ``trials``.

    Example:
        >>> from datetime import UTC
        >>> table = Table(["layers"], ["loss"], is_maximized=False)
        >>> outcome = (0.5, 0.5, "complete", 0, None, 0, 1, 1, 1, datetime.now(UTC), 2.0, np.array([[0.5]]))
        >>> table.add([TrialResult(7, {"layers": 2}, *outcome)])
        >>> table.best.params, table.trials.loc[7, "score"]
        ({'layers': 2}, np.float64(0.5))
    """

    def __init__(self, names: Sequence[str], metrics: Sequence[str], is_maximized: bool):
        self.names = tuple(names)
        self.metrics = tuple(metrics)
        self.is_maximized = is_maximized
        self._results: dict[int, TrialResult] = {}
        self._ranks: dict[int, Rank] = {}
        self._first: Rank | None = None  # a study asks for its best after every chunk
        self._sorted: list[Rank] = []  # but for what was added since it was asked for
        self._added: set[int] = set()

    def __len__(self) -> int:
        """The number of trials."""
        return len(self._results)

    def add(self, results: Iterable[TrialResult]) -> None:
        """Adds results; that of a trial which was trained further replaces its former one."""
        for result in results:
            self._results[result.trial_id] = result
            self._added.add(result.trial_id)
            self._ranks[result.trial_id] = rank = self._rank(result)
            if self._first is None or rank < self._first:
                self._first = rank
            elif self._first[-1] == result.trial_id:  # it was the best, and is no longer as good
                self._first = min(self._ranks.values())
        for view in ("_trials", "_curves"):
            self.__dict__.pop(view, None)

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial: hyperparameters under their own names, then ``OUTCOMES``, indexed by ``trial_id``."""
        return self._trials.copy(deep=False)

    @property
    def curves(self) -> pd.DataFrame:
        """One row an epoch of a trial, one column a metric, indexed by ``trial_id`` and ``epoch``, counted from 1."""
        return self._curves.copy(deep=False)

    @property
    def seed_curves(self) -> pd.DataFrame:
        """The curves under each seed index, indexed by ``trial_id``, ``seed`` and ``epoch``."""
        results = [
            (result.trial_id, seed, curve) for result in self._sorted_results() for seed, curve in _by_seed(result)
        ]
        frames = _stacked([curve for *_, curve in results], len(self.metrics))
        lengths = [len(curve) for *_, curve in results]
        keys = [np.repeat(np.array([row[i] for row in results], np.int64), lengths) for i in range(2)]
        index = pd.MultiIndex.from_arrays([*keys, _epochs(lengths)], names=["trial_id", "seed", "epoch"])
        return pd.DataFrame(frames, index, list(self.metrics))

    @property
    def best(self) -> TrialResult:
        """The best trial so far.

        Raises:
            ValueError: where there is none, as no trial has finished or all of them diverged.
        """
        if self._first is None:
            raise ValueError("no trial has finished yet, so none is the best; search first, then ask for it")
        best = self._results[self._first[-1]]
        if not math.isfinite(best.score):
            raise ValueError(self._why_none_is_best())
        return best

    @property
    def best_score(self) -> float | None:
        """The best score so far; None while there is none."""
        return None if self._first is None or self._first[0] else self.best.score

    def comparable(self) -> list[int]:
        """Returns the ids of the trials that may be compared with the best: finite ones of its budget, best first."""
        finite = [rank for rank in self._sorted_ranks() if not rank[0]]
        return [rank[-1] for rank in finite if rank[1] == finite[0][1]]

    def ranking(self) -> list[int]:
        """Returns the ids of all trials, best first; diverged ones last, by id.

        Those with the largest budget come first, as scores after unlike numbers of epochs tell nothing; then it is by
        score, loss and id.
        """
        return [rank[-1] for rank in self._sorted_ranks()]

    def result(self, trial_id: int) -> TrialResult:
        """Returns what is known of a trial.

        Args:
            trial_id: an index of ``trials``.

        Raises:
            ValueError: for a trial that is not there.
        """
        if trial_id not in self._results:
            held = f"{min(self._results)} to {max(self._results)}" if self._results else "none yet"
            raise ValueError(f"there is no trial {trial_id} here; write one of trials.index ({held})")
        return self._results[trial_id]

    def top(self, n: int) -> pd.DataFrame:
        """Returns the rows of the n best trials, best first.

        Args:
            n: how many; all of them where there are fewer.
        """
        return self._trials.loc[self.ranking()[: max(n, 0)]]

    def _sorted_ranks(self) -> list[Rank]:
        """Merges what was added into what is sorted already: a time budget has this asked for after every chunk."""
        if self._added:
            known = [rank for rank in self._sorted if rank[-1] not in self._added]
            self._sorted = sorted(known + [self._ranks[trial_id] for trial_id in self._added])
            self._added.clear()
        return self._sorted

    @cached_property
    def _trials(self) -> pd.DataFrame:
        results = self._sorted_results()
        index = pd.Index([result.trial_id for result in results], dtype="int64", name="trial_id")
        params = {name: typed_column([result.params.get(name, math.nan) for result in results]) for name in self.names}
        outcomes = {
            name: pd.Series([getattr(result, name) for result in results], dtype=dtype)
            for name, dtype in OUTCOMES.items()
        }
        return pd.DataFrame(params | outcomes).set_index(index)

    @cached_property
    def _curves(self) -> pd.DataFrame:
        results = self._sorted_results()
        lengths = [len(result.curves) for result in results]
        trial_ids = np.repeat(np.array([result.trial_id for result in results], np.int64), lengths)
        index = pd.MultiIndex.from_arrays([trial_ids, _epochs(lengths)], names=["trial_id", "epoch"])
        return pd.DataFrame(
            _stacked([result.curves for result in results], len(self.metrics)), index, list(self.metrics)
        )

    def _sorted_results(self) -> list[TrialResult]:
        return [self._results[trial_id] for trial_id in sorted(self._results)]

    def _rank(self, result: TrialResult) -> Rank:
        """Sorts where the score is not finite last; one place maps non-finite to worst."""
        if not math.isfinite(result.score):
            return (True, 0, 0.0, 0.0, result.trial_id)
        score = -result.score if self.is_maximized else result.score
        loss = float(result.loss) if math.isfinite(result.loss) else math.inf
        return (False, -result.budget, float(score), loss, result.trial_id)

    def _why_none_is_best(self) -> str:
        statuses = Counter(result.status for result in self._results.values())
        counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
        return (
            f"none of {len(self)} trials has a finite score ({counts}), so none is the best; lower the upper bound of "
            'the learning rate, as in "learning_rate": loguniform(1e-5, 1e-2), and look for columns of x with large '
            "values"
        )


def check_column_names(names: Iterable[str]) -> None:
    """Refuses hyperparameters that have the name of a column of ``study.trials``.

    Raises:
        ValueError: for the first of them.
    """
    taken = [name for name in names if name in OUTCOMES or name == "trial_id"]
    if taken:
        raise ValueError(
            f'the space has a hyperparameter named "{taken[0]}", which is a column of study.trials already; '
            f'write another name, such as "my_{taken[0]}"'
        )


def _by_seed(result: TrialResult) -> Iterable[tuple[int, Float[np.ndarray, "_epochs metrics"]]]:
    return enumerate(result.seed_curves or (result.curves,))


def _epochs(lengths: Sequence[int]) -> Int[np.ndarray, " rows"]:
    return np.concatenate([np.arange(0), *(np.arange(1, length + 1) for length in lengths)])


def _stacked(
    curves: Sequence[Float[np.ndarray, "_epochs metrics"]], num_metrics: int
) -> Float[np.ndarray, "rows metrics"]:
    return np.concatenate([np.empty((0, num_metrics)), *curves])


def typed_column(values: Sequence[Any]) -> pd.Series:
    """Returns int64, float64 or bool where all values are so, Int64 or boolean where some are missing, else object."""
    types = {type(value) for value in values if not is_missing(value)}
    if types <= {float}:
        return pd.Series(values, dtype="float64")
    if types not in ({int}, {bool}):
        return pd.Series(values, dtype="object")
    if not any(map(is_missing, values)):
        return pd.Series(np.array(values))
    return pd.Series(values, dtype="Int64" if types == {int} else "boolean")
