"""``retest``: whether the best that a search found is still the best on new data, and where the best lies now."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from os import PathLike
from typing import Any, NamedTuple
from warnings import catch_warnings, simplefilter

import jax
import numpy as np
import pandas as pd
from jax import Array
from jaxtyping import Float, Int, UInt32

from vtune.arguments import check_chunk, check_count, check_folder
from vtune.data import split_data
from vtune.finals import seeds_taken
from vtune.keys import Purpose, from_words, seed_words, split_bits, study_key
from vtune.original import Original
from vtune.progress import Progress, make_progress
from vtune.protocols import Axis, ChunkResult, Executor, Leg, Training
from vtune.results.evidence import Evidence, challenger_of, weigh
from vtune.results.finalists import ranking
from vtune.results.moves import moves
from vtune.results.store import Folder
from vtune.results.summary import format_value
from vtune.results.tables import typed_column
from vtune.scaling import SizeWarning
from vtune.searching import check_goes_on, search
from vtune.space import sample_points
from vtune.strategies.zoom import coarse_to_fine
from vtune.study import Study
from vtune.training.devices import Device, kind_of, own, queue_devices
from vtune.training.losses import RowLoss
from vtune.training.networks import ModelFn
from vtune.training.optimizers import Optimizer
from vtune.training.queue import ChunkQueue
from vtune.training.setup import Parts, make_job, make_parts

_REACH = 0.1
"""How far a neighbour lies at most from the old best along an axis of the unit cube; a level where those are wider."""

_SWITCHES = 0.25
"""In this share of the neighbours an unordered choice is drawn anew."""

_FEWEST = 7
"""Challengers: with fewer there is no telling what moved."""

_NUM_STARTS = 8
"""How many configurations of a retest the refined search begins with."""

_SURE = 0.05
"""Moves that are more likely than this by chance are not told of."""

OLD, NEIGHBOUR, NEW = "old best", "neighbour", "fresh"
"""The roles in a retest."""


@dataclass(frozen=True, eq=False, repr=False)
class Retest:
    """Whether old hyperparameters are still good on new data, and what is.

    Attributes:
        evidence: the verdict, the difference of the best challenger to the old best with its interval, and all else
            that the paired trainings tell.
        moved: where the best value of each hyperparameter went, the surest first: ``from`` (that of the old best),
            ``to`` (where the good ones lie on the new data), and by what ``chance`` such a move would be seen where
            scores have nothing to do with it. Unordered choices are left out.
        trials: what was trained: the hyperparameters, the ``role`` ("old best", "neighbour", "fresh"), the mean
            ``score`` on the seeds that chose the challenger, the mean on those that judged it, ``judged``, of the old
            best and the challenger, both NaN where a training diverged, and how many of them all ``diverged``.
        params: the hyperparameters of each of these trials.
        metric: what the score is.
        seeds: how many seeds there were of each kind.
        refined: the search on the new data, where the verdict is "stale" and one was asked for.
    """

    evidence: Evidence
    moved: pd.DataFrame
    trials: pd.DataFrame
    params: tuple[dict[str, Any], ...]
    metric: str
    seeds: int
    refined: Study | None = None

    @property
    def verdict(self) -> str:
        """What holds for the old best on the new data: "fresh", "stale", or "not enough evidence"."""
        return self.evidence.verdict

    @property
    def more_seeds(self) -> int | None:
        """How many more seeds would decide: 0 where the verdict is clear, None where it would take more than 1000."""
        return self.evidence.more_seeds

    @property
    def best_params(self) -> dict[str, Any]:
        """What to use now: those of the refined search, else of the challenger if "stale", else the old ones."""
        if self.refined is not None:
            return self.refined.best_params
        return dict(self.params[self.evidence.challenger if self.verdict == "stale" else 0])

    def summary(self) -> str:
        """Returns the verdict, the evidence, what moved, and what the refined search found, in a few lines."""
        return "\n".join([self._verdict(), *self._evidence(), *self._moves(), *self._refined()])

    def __repr__(self) -> str:
        """The summary."""
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.summary())}</pre>"

    def _verdict(self) -> str:
        by = f"by more than {format_value(self.evidence.tolerance)} of {self.metric}"
        if self.verdict == "stale":
            return f"stale: on the new data another configuration is better than the old best {by}"
        if self.verdict == "fresh":
            return f"fresh: none of {len(self.trials) - 1} configurations is better than the old best {by}"
        more = self.more_seeds
        told = f"{more} more seeds would decide, seeds={self.seeds + more}" if more else "no 1000 seeds would decide"
        return f"not enough evidence of whether a configuration is better than the old best {by}: {told}"

    def _evidence(self) -> Iterator[str]:
        found, sides = self.evidence, self.trials.iloc[[0, self.evidence.challenger]]
        difference, low, high = map(format_value, (found.difference, *found.interval))
        counted = f"{difference} of {self.metric}, {low} to {high} (each bound at 95 %)"
        if sides["judged"].isna().any():  # a difference to what a failure counts as is no number to show
            counted = "a training diverged, which counts as worse than the worst"
        yield f"best challenger over old best, on {self.seeds} paired seeds that did not choose it: {counted}"
        for name, row in sides.iterrows():
            who = row["role"] if name == 0 else f"challenger ({row['role']})"
            failed = f", diverged {row['diverged']} of {2 * self.seeds} times" if row["diverged"] else ""
            yield f"  {who}: {self.metric} {format_value(row['judged'])}{failed}, {_told(self.params[name])}"

    def _moves(self) -> Iterator[str]:
        if self.verdict != "fresh":
            for name, (start, end, chance) in self.moved[self.moved["chance"] <= _SURE].iterrows():
                yield f"{name} moved: {format_value(start)} -> {format_value(end)} (by chance: {chance:.3f})"

    def _refined(self) -> Iterator[str]:
        if self.refined is not None:
            score = format_value(self.refined.best_score)
            found = f"{self.metric} {score}, {_told(self.refined.best_params)}"
            yield f"refined search of {len(self.refined.trials)} trials on the new data: {found}"


def retest(
    study: Study | str | PathLike[str],
    data: Any,
    *,
    model_fn: ModelFn | None = None,
    optimizer: str | Optimizer | None = None,
    loss: str | RowLoss | None = None,
    metric: str | RowLoss | None = None,
    seeds: int = 8,
    neighbours: int = 8,
    fresh: int = 16,
    epochs: int | None = None,
    tolerance: float | int | None = None,
    refine: bool = True,
    trials: int = 64,
    seed: int = 0,
    folder: str | PathLike[str] | None = None,
    chunk: int | str = "auto",
    devices: int | Sequence[Device] | None = None,
    progress: bool | Progress = True,
) -> Retest:
    """Says whether the best that a search found is still good on new data, and searches on from there if it is not.

    Good hyperparameters go stale: data drift, rows are added. On the new data, a retest trains the old best,
    neighbours of it, and fresh samples of the space, all under the same fresh seeds. The best challenger is chosen on
    these, and judged against the old best on as many further ones; see ``vtune.results.evidence.weigh``, also for how
    often that is wrong. With the defaults it trains as much as a search of 216 trials, 16 of them for the judging.

    Each configuration starts from new weights and trains with one set of hyperparameters throughout, whatever strategy
    found the old best: of one whose hyperparameters changed on its way, the last ones are taken.

    Args:
        study: what ``vtune.search`` returned, or its folder.
        data: new rows, as for ``vtune.search``, with the columns and the classes of the old ones. They are split as
            there, and standardized, by their own statistics, if the old ones were.
        model_fn: the model function, where a folder cannot tell it: any but ``vtune.MLP``.
        optimizer: the optimizer of the study, where it was a function, and it is given as a folder.
        loss: the loss, likewise.
        metric: the metric, likewise.
        seeds: how many choose the challenger, and how many further ones judge it.
        neighbours: how many configurations close to the old best to try.
        fresh: how many samples of the space to try.
        epochs: of each training; None for those of the study.
        tolerance: a difference of scores that does not matter; None for the noise of one training.
        refine: whether to search the new data where the old best is stale: coarse to fine, from the old best, the
            challenger and the best of the retest on.
        trials: of that search.
        seed: of the split, the samples, initial weights and data order.
        folder: where to keep the trials of that search; None keeps them in memory. What it holds of another search is
            refused before anything is trained.
        chunk: trials that one call trains at a time, or "auto".
        devices: to train on; how many; or None for all.
        progress: whether to show a bar, or an object that shows it your way.

    Returns:
        The verdict, the evidence, what moved, and the refined search.

    Raises:
        TypeError: for an argument of a wrong type.
        ValueError: for what cannot be retested, always before anything is compiled; and where every training on the new
            data diverged.
        OSError: for a folder that is not there, or cannot be written.

    Example:
        >>> import vtune
        >>> space = {"learning_rate": vtune.loguniform(1e-4, 1.0), "hidden": vtune.integers(16, 32), "layers": 1}
        >>> study = vtune.search(vtune.MLP, space, trials=4, epochs=2, progress=False)
        >>> retest = vtune.retest(study, None, seeds=2, neighbours=3, fresh=4, refine=False, progress=False)
        >>> retest.verdict in ("fresh", "stale", "not enough evidence"), len(retest.trials)
        (True, 8)
    """
    _check_arguments(seeds, neighbours, fresh, epochs, tolerance, trials, seed, folder, chunk)
    original = Original.of(study, model_fn=model_fn, optimizer=optimizer, loss=loss, metric=metric)
    used, root = queue_devices(devices), seed_words(int(seed))
    layout, epochs = original.layout, original.epochs if epochs is None else int(epochs)
    held = split_data(data, partial(split_bits, root), kind=layout.kind, standardize=layout.standardize)
    layout.check(held)
    asked = {
        "model_fn": original.model_fn, "space": original.space, "data": held, "optimizer": original.optimizer,
        "loss": original.loss, "metric": original.metric, "direction": original.direction, "select": original.select,
        "patience": original.patience, "seed": int(seed), "matmul_precision": original.matmul_precision,
    }  # fmt: skip
    further = {
        "strategy": coarse_to_fine(), "trials": int(trials), "epochs": epochs, "executor": "queue",
        "seeds_per_trial": original.seeds_per_trial, "chunk": chunk if chunk == "auto" else int(chunk),
    }  # fmt: skip
    parts = make_parts(**asked)
    tried = _configurations(parts, original.best_params, root, neighbours, fresh)
    num, kind = len(tried.roles), kind_of(own(used))
    job = make_job(parts, root=root, trials=num, epochs=epochs, kind=kind, chunk=chunk)
    trainer = ChunkQueue(job, used)
    if folder is not None:  # before an hour of training
        Folder(folder)
        if refine:
            check_goes_on(folder, parts, asked | further)
    first, is_maximized = seeds_taken(original.seeds_per_trial), parts.objective.is_maximized
    with closing(make_progress(progress)) as shown:
        shown.say(
            f"retest: {num} configurations on {seeds} seeds, then the old best and its challenger on {seeds} more"
        )
        shown.say(trainer.describe())
        shown.begin((num + 2) * seeds)
        scores = partial(_scores, trainer, parts, tried, epochs, shown)
        choosing = scores(range(num), range(first, first + seeds))
        challenger = challenger_of(choosing, is_maximized=is_maximized)
        judging = scores([0, challenger], range(first + seeds, first + 2 * seeds))
        evidence = weigh(choosing, judging, is_maximized=is_maximized, tolerance=tolerance, seed=int(seed))
        params = tuple({name: row[name] for name in parts.written.entries if name in row} for row in tried.used)
        moved = _moved(parts, tried.points, choosing, original.best_params, int(seed))
        table = _table(parts, params, tried.roles, choosing, {0: judging[0], challenger: judging[1]})
        found = Retest(evidence, moved, table, params, parts.objective.name, seeds)
        if is_refined := refine and found.verdict == "stale":
            for line in found.summary().splitlines():  # whatever becomes of the search that follows
                shown.say(line)
    if is_refined:
        start = _starts(params, [0, challenger, *ranking(choosing, is_maximized=is_maximized).tolist()])
        with catch_warnings():
            simplefilter("ignore", SizeWarning)  # it is told once
            refined = search(
                **asked, **further, start=start[:trials], folder=folder, devices=devices, progress=progress
            )
        return replace(found, refined=refined)
    return found


class _Tried(NamedTuple):
    """The configurations of a retest, the old best first: what each uses, its point (NaN for all else), its role."""

    used: list[dict[str, Any]]
    points: Float[np.ndarray, "configurations axes"]
    roles: list[str]


def _configurations(
    parts: Parts, best: Mapping[str, Any], root: UInt32[np.ndarray, "2"], neighbours: int, fresh: int
) -> _Tried:
    """Draws by number, so that more of a kind begin with the same ones; decodes as a search does."""
    axes = parts.written.axes
    numbers = np.concatenate([2 * np.arange(neighbours), 2 * np.arange(fresh) + 1]).astype(np.int32)
    draws = np.asarray(_draws(root, numbers, len(axes)), np.float64)
    (old,) = parts.written.encode([best])
    points = np.concatenate([old[None], _neighbours(old, draws[:neighbours], axes), draws[neighbours:]])
    points = points.astype(np.float32)
    rows = parts.usage.space.rows(np.nan_to_num(points))
    rows[0].update(best)  # exactly, where its point only comes close
    used = [parts.usage.used(row) for row in rows]
    points = np.where(parts.usage.mask(used), points, np.float32(np.nan))
    return _Tried(used, points, [OLD, *[NEIGHBOUR] * neighbours, *[NEW] * fresh])


@partial(jax.jit, static_argnames="num_axes")
def _draws(
    root: UInt32[Array, "2"], numbers: Int[Array, " configurations"], num_axes: int
) -> Float[Array, "configurations axes"]:
    return sample_points(study_key(from_words(root), Purpose.RETEST), numbers, num_axes)


def _neighbours(
    old: Float[np.ndarray, " axes"], draws: Float[np.ndarray, "neighbours axes"], axes: Sequence[Axis]
) -> Float[np.ndarray, "neighbours axes"]:
    """Points around the old one, from uniform ones; what the old best does not use is drawn from its whole edge."""
    points = draws.copy()
    for column, axis in enumerate(axes):
        place, drawn = float(old[column]), draws[:, column]
        if math.isnan(place):
            continue
        if axis.levels is not None and not axis.is_ordered:
            points[:, column] = np.where(drawn < _SWITCHES, drawn / _SWITCHES, place)
        else:
            moved = np.abs(place + max(_REACH, 1 / (axis.levels or math.inf)) * (2 * drawn - 1))
            points[:, column] = 1 - np.abs(1 - moved)  # reflected at both ends
    return np.clip(points, 0, 1)


def _scores(
    trainer: Executor,
    parts: Parts,
    tried: _Tried,
    epochs: int,
    shown: Progress,
    numbers: Iterable[int],
    seeds: Iterable[int],
) -> Float[np.ndarray, "configurations seeds"]:
    """Trains configurations and returns a score for each and each seed, NaN where it diverged."""
    scores: dict[tuple[int, int], float] = {}
    wanted = [(number, seed) for number in numbers for seed in seeds]

    def note(done: ChunkResult) -> None:
        for training, curves in zip(done.chunk.trainings, done.curves, strict=True):
            scores[training.trial_id, training.seed_index], _ = parts.objective.outcome(curves.astype(np.float64))
        shown.trials_done(len(done.chunk.trainings), int(np.sum(done.diverged_step >= 0)), None)

    legs = {number: Leg(number, parts.usage.complete(tried.used[number]), epochs) for number, _ in wanted}
    trainer.train([Training((legs[number],), seed, is_brief=True) for number, seed in wanted], note)
    return np.array([scores[of] for of in wanted]).reshape(len(legs), -1)


def _starts(params: Sequence[dict[str, Any]], numbers: Sequence[int]) -> list[dict[str, Any]]:
    """The configurations with these numbers, each once, for a search to start with."""
    starts: list[dict[str, Any]] = []
    for number in numbers:
        if params[number] not in starts and len(starts) < _NUM_STARTS:
            starts.append(params[number])
    return starts


def _moved(parts: Parts, points: np.ndarray, scores: np.ndarray, best: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """What ``moves`` finds, in the units of the hyperparameters, of the axes that the old best uses."""
    axes = parts.written.axes
    is_told = [axis.is_ordered and math.isfinite(point) for axis, point in zip(axes, points[0], strict=True)]
    names = [axis.name for axis, is_one in zip(axes, is_told, strict=True) if is_one]
    is_maximized = parts.objective.is_maximized
    found = moves(names, points[:, is_told].astype(np.float64), scores, is_maximized=is_maximized, seed=seed)
    ends = {move.name: parts.written.parameters[move.name].decode(np.array([move.end])).tolist()[0] for move in found}
    columns = {
        "from": [best[move.name] for move in found],
        "to": list(ends.values()),
        "chance": [move.chance for move in found],
    }
    index = pd.Index([move.name for move in found], dtype="object", name="hyperparameter")
    return pd.DataFrame(columns, index)


def _table(
    parts: Parts,
    params: Sequence[Mapping[str, Any]],
    roles: Sequence[str],
    choosing: np.ndarray,
    judging: Mapping[int, np.ndarray],
) -> pd.DataFrame:
    names = [name for name in parts.written.entries if any(name in row for row in params)]
    values = {name: typed_column([row.get(name, math.nan) for row in params]) for name in names}
    judged = [judging.get(number, np.empty(0)) for number in range(len(roles))]
    outcomes = {
        "role": roles,
        "score": choosing.mean(axis=1),
        "judged": [float(scores.mean()) if scores.size else math.nan for scores in judged],
        "diverged": [
            int(np.sum(~np.isfinite(chose)) + np.sum(~np.isfinite(scores)))
            for chose, scores in zip(choosing, judged, strict=True)
        ],
    }
    table = pd.concat([pd.DataFrame(values), pd.DataFrame(outcomes)], axis=1)
    return table.rename_axis("trial_id")


def _told(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={format_value(value)}" for name, value in params.items())


def _check_arguments(
    seeds: Any,
    neighbours: Any,
    fresh: Any,
    epochs: Any,
    tolerance: Any,
    trials: Any,
    seed: Any,
    folder: Any,
    chunk: Any,
) -> None:
    check_count("seeds", seeds, least=2, example=8)
    check_count("neighbours", neighbours, least=0, example=8)
    check_count("fresh", fresh, least=0, example=16)
    check_count("trials", trials, least=1, example=64)
    check_count("seed", seed, least=0, example=0)
    check_chunk(chunk)
    check_folder(folder)
    if epochs is not None:
        check_count("epochs", epochs, least=1, example=20)
    if neighbours + fresh < _FEWEST:
        raise ValueError(
            f"neighbours={neighbours} and fresh={fresh} make {neighbours + fresh} challengers, too few to tell what "
            f"moved. Write {_FEWEST} or more in all, such as neighbours=8, fresh=16."
        )
    if tolerance is not None and not (isinstance(tolerance, int | float) and 0 <= tolerance < math.inf):
        raise ValueError(
            f"tolerance={tolerance!r} is no difference of scores. Write one that does not matter to you, such as "
            "0.005, or leave it out for the noise of one training."
        )
