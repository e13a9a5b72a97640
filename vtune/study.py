"""The loop of a search (ask, train, record, tell), and the study that it returns."""

import json
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from inspect import signature
from os import PathLike
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from jax import Array
from jaxtyping import Bool, Float32, Key, PyTree, UInt32

from vtune.data import Data
from vtune.defaults import DEFAULTS
from vtune.keys import Purpose, from_words, seed_words, split_key, study_key
from vtune.progress import Progress, make_progress
from vtune.protocols import ChunkResult, Hparams, Plan, Rung, Strategy, StrategyFactory
from vtune.results.store import Folder
from vtune.results.summary import summary, to_html
from vtune.results.tables import Table, TrialResult
from vtune.space import Space
from vtune.strategies.boxes import near_bounds
from vtune.strategies.factories import check_count
from vtune.strategies.names import by_name
from vtune.training.devices import Device, local_devices
from vtune.training.losses import RowLoss
from vtune.training.networks import ModelFn
from vtune.training.objective import Objective, kind_needed, make_objective
from vtune.training.queue import ChunkQueue
from vtune.training.setup import set_up
from vtune.training.trained import mean_of_rows, trained_module


def search(
    model_fn: ModelFn,
    space: Space | Mapping[str, Any],
    data: Any = None,
    *,
    strategy: str | StrategyFactory = "coarse_to_fine",
    trials: int = 256,
    epochs: int = 20,
    optimizer: str = "adam",
    loss: str | RowLoss = "auto",
    metric: str | RowLoss = "auto",
    direction: str = "auto",
    select: str = "last",
    finalists: int = 0,
    seed: int = 0,
    folder: str | PathLike[str] | None = None,
    chunk: int | str = "auto",
    devices: int | Sequence[Device] | None = None,
    progress: bool | Progress = True,
) -> "Study":
    """Tries hyperparameters at random, zooms in on the best, and trains many networks at a time.

    Every trial is the experiment it would be alone: its result depends on the seed and on its own hyperparameters,
    and not on which trials are trained beside it, in which order, or on how many devices.

    Args:
        model_fn: ``model_fn(hparams, rngs, shapes)`` returns a Flax module (nnx or linen); it is called with those of
            the three arguments that it names. ``vtune.MLP`` is one.
        space: names to parameter types (``vtune.loguniform(1e-4, 1.0)``), distributions of Optuna, or plain values.
            Of the nine that vtune knows by name, one left out takes its default.
        data: ``(x, y)``, of which 20 % are held out to score trials; a ``vtune.Data``; or None for the digits of
            scikit-learn, 60 % to train, 20 % to score trials and 20 % to test the winner. Nothing is scaled but what
            ``vtune.Data`` is told to standardize; one warning names columns that are far from 1 in size.
        strategy: what to try next: a name in ``vtune.strategies``, or one of its objects.
        trials: how many to try in all.
        epochs: how long each trains. An epoch is ``rows // batch_size`` mini-batches of a fresh permutation.
        optimizer: "adam", "momentum", "rmsprop" or "sgd", as in Optax.
        loss: "cross_entropy", "mse", or a function of (outputs, y) that returns one number a row. "auto" goes by y:
            integers are classes, floats are targets. Standardized targets are given to it as such.
        metric: what ranks trials: "accuracy", "mse", "loss" (the validation loss), or a function as for ``loss``,
            which is given outputs and y in the targets' own units, also where they are standardized.
        direction: "minimize" or "maximize", for a metric that is a function.
        select: "last" ranks the last epoch of a trial, "best_epoch" its best one.
        finalists: 0: the winner is the trial with the best score.
        seed: of the split, the sampled hyperparameters, the initial weights and the data order.
        folder: where to keep the trials; new, or empty. None keeps them in memory.
        chunk: trials that one call trains at a time, or "auto": what the device is best at.
        devices: to train on; how many; or None for all. A CPU counts as one device a core.
        progress: whether to show a bar, or an object that shows it your way.

    Returns:
        The study: all trials, their curves, the best hyperparameters and the trained network.

    Raises:
        TypeError: for an argument of a wrong type.
        ValueError: for what cannot be searched or trained; always before anything is compiled.
        OSError: for a folder that cannot be written.

    Example:
        >>> import vtune
        >>> space = {"learning_rate": vtune.loguniform(1e-4, 1.0), "hidden": vtune.integers(16, 32)}
        >>> study = vtune.search(vtune.MLP, space, trials=4, epochs=2, progress=False)
        >>> len(study.trials)
        4
    """
    _check_arguments(model_fn, trials, epochs, finalists, seed, folder, chunk)
    trials, epochs, seed = int(trials), int(epochs), int(seed)
    chunk = chunk if chunk == "auto" else int(chunk)
    written = Space.of(space)
    written.require_varying()
    factory = _factory(strategy)
    steps = _steps(factory(written.axes, trials=trials, epochs=epochs))
    used = local_devices(devices)
    root = seed_words(seed)
    held = Data.of(data, key=split_key(root), kind=kind_needed(loss, metric))
    objective = make_objective(loss, metric, direction, select, held.kind)
    table = Table(list(written.entries), objective.columns, objective.is_maximized)
    executor = set_up(
        model_fn, written, held, objective=objective, optimizer=optimizer, root=root, trials=trials, epochs=epochs,
        chunk=chunk, devices=used,
    )  # fmt: skip
    held.warn_of_sizes(data, kind_needed(loss, metric))
    settings = {
        "model_fn": _name(model_fn), "strategy": repr(factory), "trials": trials,
        "epochs": epochs, "optimizer": optimizer, "loss": _name(loss), "select": select, "seed": seed, "chunk": chunk,
    }  # fmt: skip
    study = Study(written, held, objective, executor, table, settings, None if folder is None else Folder(folder))
    with closing(make_progress(progress)) as shown:
        shown.say(executor.describe())
        shown.begin(trials)
        _Loop(study, shown).run(steps, root)
    return study


@dataclass
class Study:
    """A search and its results.

    Attributes:
        space: what was searched.
        data: the rows, split.
        objective: what was minimised and ranked.
        executor: what trained the trials, and can train one again.
        table: the results; most of this class reads from it.
        settings: what else was asked for.
        folder: where the trials are kept, or None.
        seconds: how long the search took.
    """

    space: Space
    data: Data
    objective: Objective
    executor: ChunkQueue
    table: Table
    settings: dict[str, Any]
    folder: Folder | None = None
    seconds: float = 0.0

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
        """The hyperparameters of the best trial, as ``space`` names them.

        Raises:
            ValueError: where every trial diverged.
        """
        return dict(self.table.best.params)

    @property
    def best_score(self) -> float:
        """The best trial's score on the validation rows. As the best of many noisy scores it is somewhat too good."""
        return self.table.best.score

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
        return self.objective.name

    @property
    def ladder(self) -> str:
        """The ladder as JSON: results are comparable bit for bit where it is the same."""
        return self.executor.ladder.to_json()

    def trial(self, trial_id: int) -> TrialResult:
        """Returns all that is known of a trial; its ``params`` are a dict by name.

        Raises:
            ValueError: for an id that is not in ``trials``.
        """
        return self.table.result(trial_id)

    def top(self, n: int = 10) -> pd.DataFrame:
        """Returns the rows of the n best trials, best first."""
        return self.table.top(n)

    @cached_property
    def best_model(self) -> Callable[[Any], Array]:
        """The winner's network at its true size, in evaluation mode: ``best_model(x)`` gives outputs.

        It is a Flax module; one whose call must be told whether it trains comes as a ``functools.partial`` of it.
        Of standardized data it takes x as it is, and puts targets out in their own units: it is an nnx module that
        holds the trained one as ``network``, and mean and scale.

        It is trained again, to the same bits, when it is first asked for: keeping the best weights of every trial
        would double the memory of the search.
        """
        best = self.table.best
        epochs = self.objective.ranked_epoch(best.curves)
        return trained_module(self.executor, {**DEFAULTS, **best.params}, epochs)

    @cached_property
    def test_score(self) -> float | None:
        """The winner's score on rows that no trial has seen; None where the data hold none."""
        if self.data.test is None:
            return None
        return mean_of_rows(self.best_model, self.objective.of_rows(self.data.y_units), *self.data.test)

    def summary(self) -> str:
        """Returns the study in a few lines: data, trials, the best of them, the top ten, and ranges to widen."""
        ranked = self.top(len(self.table))
        told = summary(ranked, data=repr(self.data), metric=self.metric, seconds=self.seconds)
        return "\n".join([told, *self._near_bounds()])

    def _near_bounds(self) -> Iterator[str]:
        if self.table.best_score is None:
            return
        (point,) = self.space.encode([self.table.best.params])
        for name, bound in near_bounds(point, self.space.axes).items():
            yield f"the best {name} lies within 2 % of the {bound} bound of {self.space.parameters[name]}; widen it"

    def __repr__(self) -> str:
        """The summary."""
        return self.summary()

    def _repr_html_(self) -> str:
        return to_html(self.top(len(self.table)), data=repr(self.data), metric=self.metric, seconds=self.seconds)

    def save(self) -> None:
        """Writes the trials as they stand to the folder, if there is one."""
        if self.folder is not None:
            facts = {"data": repr(self.data), "metric": self.metric, "seconds": self.seconds}
            plan = {"space": self.space.describe(), "ladder": json.loads(self.ladder)}
            self.folder.write({**self.settings, **facts, **plan}, self.table)


class _Steps(NamedTuple):
    """A strategy as two programs, each from one plan to the next."""

    first: Callable[[UInt32[np.ndarray, "2"]], tuple[PyTree, Plan, Bool[Array, ""]]]
    following: Callable[..., tuple[PyTree, Plan, Bool[Array, ""]]]


@lru_cache(maxsize=64)
def _steps(strategy: Strategy) -> _Steps:
    """Compiles a strategy; a later search with the same one compiles nothing."""

    def sample_key(root: UInt32[Array, "2"]) -> Key[Array, ""]:
        return study_key(from_words(root), Purpose.SAMPLE)

    def first(root: UInt32[Array, "2"]) -> tuple[PyTree, Plan, Any]:
        state = strategy.init(sample_key(root))
        return state, strategy.ask(sample_key(root), state), strategy.done(state)

    def following(root: UInt32[Array, "2"], state: PyTree, plan: Plan, scores: Array) -> tuple[PyTree, Plan, Any]:
        state = strategy.tell(state, plan, scores)
        return state, strategy.ask(sample_key(root), state), strategy.done(state)

    return _Steps(jax.jit(first), jax.jit(following))


@dataclass
class _Loop:
    """Fills a study: asks the strategy, trains its plan, records what comes out, tells the strategy."""

    study: Study
    progress: Progress
    _rungs: dict[Rung, int] = field(default_factory=dict)

    def run(self, steps: _Steps, root: UInt32[np.ndarray, "2"]) -> None:
        started, round = time.perf_counter(), 0
        state, plan, is_done = steps.first(root)
        while not is_done:
            try:
                scores = self._train(jax.device_get(plan), round)
            finally:  # what is trained is in the folder, also when Ctrl-C or an error ends the search here
                self.study.seconds = time.perf_counter() - started
                self.study.save()
            self.progress.round_done(round, None)
            state, plan, is_done = steps.following(root, state, plan, scores)
            round += 1

    def _train(self, plan: Plan, round: int) -> Float32[np.ndarray, " lanes"]:
        """Returns one score a lane as strategies know them: lower is better, NaN for what diverged."""
        study = self.study
        rows = study.space.rows(plan.points)
        whole = [{**DEFAULTS, **row} for row in rows]
        lanes = {int(plan.trial_id[lane]): int(lane) for lane in np.flatnonzero(plan.active)}
        for lane in lanes.values():
            self._rungs.setdefault(study.executor.ladder.rung(whole[lane]), len(self._rungs))
        scores = np.full(len(rows), np.nan, np.float32)

        def record(done: ChunkResult) -> None:
            results = [
                self._result(done, place, rows[lanes[trial_id]], round)
                for place, trial_id in enumerate(done.chunk.trial_ids)
            ]
            study.table.add(results)
            for result in results:
                scores[lanes[result.trial_id]] = study.objective.to_strategy(
                    result.score, result.loss, len(study.data.valid[0])
                )
            num_diverged = sum(result.status == "diverged" for result in results)
            self.progress.trials_done(len(results), num_diverged, study.table.best_score)

        study.executor.train(plan, whole, record)
        return scores

    def _result(self, done: ChunkResult, place: int, params: Hparams, round: int) -> TrialResult:
        """What one trial of a finished chunk came to. Only fresh trials are trained so far, so there is no parent."""
        is_diverged = bool(done.diverged_step[place] >= 0)
        curves = done.curves[place].astype(np.float64)
        curves = curves[np.isfinite(curves[:, 1])] if is_diverged else curves
        score, loss = (np.nan, np.nan) if is_diverged else self.study.objective.outcome(curves)
        return TrialResult(
            trial_id=done.chunk.trial_ids[place],
            params=params,
            score=score,
            loss=loss,
            status="diverged" if is_diverged else "complete",
            round=round,
            parent=None,
            rung=self._rungs[done.chunk.rung],
            epochs=len(curves),
            best_epoch=self.study.objective.best_epoch(curves),
            finished_at=datetime.now(UTC),
            seconds=done.seconds,
            curves=curves,
            diverged_step=int(done.diverged_step[place]) if is_diverged else None,
        )


def _name(function: Any) -> str:
    return function if isinstance(function, str) else getattr(function, "__name__", repr(function))


def _factory(strategy: Any) -> StrategyFactory:
    factory = by_name(strategy) if isinstance(strategy, str) else strategy
    try:
        signature(factory).bind((), trials=1, epochs=1)
    except (TypeError, ValueError) as error:  # vtune.strategies.random, say, which is not a strategy but makes one
        raise TypeError(
            f"strategy={strategy!r} is not one ({error}). Write a name, 'coarse_to_fine', or call what makes it, "
            "vtune.strategies.coarse_to_fine(rounds=4)."
        ) from error
    return factory


def _check_arguments(
    model_fn: Any, trials: Any, epochs: Any, finalists: Any, seed: Any, folder: Any, chunk: Any
) -> None:
    if not callable(model_fn):
        raise TypeError(
            f"model_fn={model_fn!r} cannot be called. Write a function that returns a Flax module, or vtune.MLP."
        )
    if not isinstance(model_fn, Hashable):
        raise TypeError(f"model_fn={model_fn!r} has no hash, by which programs are kept. Write a function.")
    check_count("trials", trials, least=1, example=256)
    check_count("epochs", epochs, least=1, example=20)
    check_count("seed", seed, least=0, example=0)
    if chunk != "auto":
        check_count("chunk", chunk, least=1, example=64)
    if not isinstance(folder, str | PathLike | None):
        raise TypeError(f'folder={folder!r} is no path. Write one as a string, such as "studies/first".')
    if finalists != 0:
        raise ValueError(
            f"finalists={finalists!r}: the winner is not trained again on other seeds yet. Write finalists=0."
        )
