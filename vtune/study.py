"""A search and its results."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import pandas as pd
from jax import Array

from vtune.data import Data
from vtune.protocols import Executor, Leg, Moment, Training
from vtune.results.plans import Plans
from vtune.results.store import Folder
from vtune.results.summary import summary, to_html
from vtune.results.tables import Table, TrialResult
from vtune.space import Space
from vtune.strategies.boxes import near_bounds
from vtune.training.job import Job
from vtune.training.setup import Parts
from vtune.training.trained import mean_of_rows, trained_module


@dataclass
class Study:
    """A search and its results.

    Attributes:
        parts: what was searched, and with what.
        job: what was trained.
        executor: what trained the trials, and can train one again.
        table: the results; most of this class reads from it.
        plans: what the strategy asked for.
        settings: what else was asked for.
        folder: where the trials are kept, or None.
        seconds: how long the search took.
        lineages: how the network of each trial came about.
        final_scores: what finalists came to, by trial, seed index and the epochs that they were trained.
        finalists: the best trials once more, on seeds that chose nothing before, best first: ``mean``,
            ``standard_error`` and ``probability_best`` over the seeds that the winner is chosen by, then its ``score``
            over further ones, with ``score_error``. Empty for a search without finalists.
    """

    parts: Parts
    job: Job
    executor: Executor
    table: Table
    plans: Plans
    settings: dict[str, Any]
    folder: Folder | None = None
    seconds: float = 0.0
    lineages: dict[int, tuple[Leg, ...]] = field(default_factory=dict)
    final_scores: dict[Moment, float] = field(default_factory=dict)
    finalists: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def num_seeds(self) -> int:
        """Under how many seed indices each trial is trained."""
        return self.settings["seeds_per_trial"]

    @property
    def space(self) -> Space:
        """What was searched, as it was written."""
        return self.parts.written

    @property
    def data(self) -> Data:
        """The rows, split, as they were given."""
        return self.parts.data

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial: its hyperparameters, then score, status, round, parent, rung, epochs, best_epoch, ..."""
        return self.table.trials

    @property
    def curves(self) -> pd.DataFrame:
        """The learning curves, indexed by (trial_id, epoch): train_loss, loss, and the metric.

        The losses are what is minimised, so those of standardized targets where the data are standardized. The metric
        is in the targets' own units.
        """
        return self.table.curves

    @property
    def best_params(self) -> dict[str, Any]:
        """The hyperparameters of the winner, as ``space`` names them.

        Raises:
            ValueError: where every trial diverged.
        """
        return dict(self.best_trial.params)

    @property
    def best_trial(self) -> TrialResult:
        """The winner: of the finalists, or, without any, the trial with the best score.

        Raises:
            ValueError: where every trial diverged.
        """
        return self.table.result(int(self.finalists.index[0])) if len(self.finalists) else self.table.best

    @property
    def best_score(self) -> float:
        """The winner's mean score over seeds that it was not chosen by: unbiased over seeds, on these validation rows.

        All trials were ranked on the same rows; ``test_score`` is the number for new ones. Without finalists it is
        ``search_score``, and as the best of many noisy scores somewhat too good.
        """
        return float(self.finalists["score"].iloc[0]) if len(self.finalists) else self.search_score

    @property
    def search_score(self) -> float:
        """The winner's score in the search, by which it was chosen among all trials."""
        return self.best_trial.score

    @property
    def best_value(self) -> float:
        """``best_score``, by the name that Optuna gives it."""
        return self.best_score

    def trials_dataframe(self) -> pd.DataFrame:
        """``trials``, by the name that Optuna gives it."""
        return self.trials

    @property
    def metric(self) -> str:
        """What is ranked."""
        return self.parts.objective.name

    @property
    def ladder(self) -> str:
        """The ladder as JSON: results are comparable bit for bit where it is the same."""
        return self.job.ladder.to_json()

    def trial(self, trial_id: int) -> TrialResult:
        """Returns all that is known of a trial; its ``params`` are a dict by name.

        Raises:
            ValueError: for an id that is not in ``trials``.
        """
        return self.table.result(trial_id)

    def top(self, n: int = 10) -> pd.DataFrame:
        """Returns the rows of the n best trials, best first."""
        return self.table.top(n)

    def training(self, trial_id: int) -> Training:
        """Returns how the network of a trial is had again: from new weights on, as far as the epoch that is ranked."""
        return Training(self.lineages[trial_id]).cut(self.parts.objective.ranked_epoch(self.trial(trial_id).curves))

    @cached_property
    def best_model(self) -> Callable[[Any], Array]:
        """The winner's network at its true size, in evaluation mode: ``best_model(x)`` gives outputs.

        It is a Flax module; one whose call must be told whether it trains comes as a ``functools.partial`` of it.
        Of standardized data it takes x as it is, and puts targets out in their own units: it is an nnx module that
        holds the trained one as ``network``, and mean and scale.

        It is trained again, to the same bits, when it is first asked for, and by all processes that trained it:
        keeping the best weights of every trial would double the memory of the search.
        """
        return trained_module(self.executor, self.job, self.training(self.best_trial.trial_id))

    @cached_property
    def test_score(self) -> float | None:
        """The winner's score on rows that no trial has seen; None where the data hold none."""
        if self.data.test is None:
            return None
        return mean_of_rows(
            self.best_model,
            self.parts.objective.of_rows(self.data.y_units),
            *self.data.test,
            self.parts.recipe.matmul_precision,
        )

    def summary(self) -> str:
        """Returns the study in a few lines: data, trials, the best of them, the top ten, and ranges to widen."""
        ranked = self.top(len(self.table))
        told = summary(ranked, self.finalists, data=repr(self.data), metric=self.metric, seconds=self.seconds)
        return "\n".join([told, *self._near_bounds()])

    def _near_bounds(self) -> Iterator[str]:
        if self.table.best_score is None:
            return
        (point,) = self.space.encode([self.best_params])
        for name, bound in near_bounds(point, self.space.axes).items():
            yield f"the best {name} lies within 2 % of the {bound} bound of {self.space.parameters[name]}; widen it"

    def __repr__(self) -> str:
        """The summary."""
        return self.summary()

    def _repr_html_(self) -> str:
        return to_html(
            self.top(len(self.table)), self.finalists, data=repr(self.data), metric=self.metric, seconds=self.seconds
        )

    def save(self) -> None:
        """Writes the trials as they stand to the folder, if there is one; of several processes the first one does."""
        if self.folder is not None and jax.process_index() == 0:
            told = {"seconds": self.seconds, "ladder": json.loads(self.ladder)}
            told["finals"] = self.finalists.reset_index().to_dict("records")
            self.folder.write({**self.settings, **told}, self.table, self.plans.table, self.final_scores)
