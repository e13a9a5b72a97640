"""The whole search as one program: sample, train, rank, zoom, and again; a pure function of a key.

It is made of the same pieces as ``search``: the strategy's own functions, the engine's program, the scores. So its
first round is that of a search with the same seed, bit for bit, and later ones part only where scores do.
"""

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Int, Key, Num, PyTree, UInt32

from vtune.arguments import check_chunk, check_count
from vtune.keys import IMPLEMENTATION, Purpose, from_words, is_typed_threefry, study_key
from vtune.precision import float_precision
from vtune.progress import Progress, make_progress
from vtune.protocols import LaneState, Plan, Rung, Strategy, StrategyFactory
from vtune.scaling import Units
from vtune.space import Space, sample_points
from vtune.strategies.names import factory_of
from vtune.strategies.zoom import coarse_to_fine
from vtune.training.devices import device_bytes, kind_of, local_devices
from vtune.training.draws import SeedDraws, seed_draws
from vtune.training.engine import ChunkInputs, Engine, Rows
from vtune.training.job import Job
from vtune.training.losses import RowLoss
from vtune.training.networks import ModelFn
from vtune.training.optimizers import Optimizer
from vtune.training.planner import Planner
from vtune.training.setup import Parts, make_parts, plan_one

_DRAWS = 1024
"""Trials of which the cost of padding is told."""


class FusedData(NamedTuple):
    """The rows of a fused search, on the device."""

    train: Rows
    valid: Rows
    units: Units | None


class FusedResults(NamedTuple):
    """What a fused search came to: arrays of rounds by trials, and the best of them.

    Attributes:
        trial_id: counted from 0; -1 for rows that are no trials, as where a grid does not fill its round.
        points: where in the unit cube the trials lie; NaN for a parameter that they do not use.
        hparams: the hyperparameters that vary, by name, as they trained; the least value where a trial uses none.
        scores: as the user knows them, accuracy up and losses down; NaN for what diverged.
        told: scores as the strategy was told them: lower is better, equal accuracies told apart by their loss.
        curves: the columns of ``FusedSearch.columns`` after each epoch; NaN from where a trial diverged.
        diverged_step: the optimizer step, from 0, that was not finite; -1 where all were.
        best_trial: id of the best trial; that of the first where all diverged.
        best_hparams: its hyperparameters.
        best_score: its score; NaN where all diverged.
    """

    trial_id: Int[Array, "rounds trials"]
    points: Float[Array, "rounds trials axes"]
    hparams: dict[str, Num[Array, "rounds trials"]]
    scores: Float[Array, "rounds trials"]
    told: Float[Array, "rounds trials"]
    curves: Float[Array, "rounds trials epochs metrics"]
    diverged_step: Int[Array, "rounds trials"]
    best_trial: Int[Array, ""]
    best_hparams: dict[str, Num[Array, ""]]
    best_score: Float[Array, ""]


class _Round(NamedTuple):
    """One round of ``FusedResults``, and the losses that tell equal scores apart."""

    trial_id: Int[Array, " trials"]
    points: Float[Array, "trials axes"]
    hparams: dict[str, Num[Array, " trials"]]
    scores: Float[Array, " trials"]
    told: Float[Array, " trials"]
    curves: Float[Array, "trials epochs metrics"]
    diverged_step: Int[Array, " trials"]
    losses: Float[Array, " trials"]


class _Shared(NamedTuple):
    """What all chunks of a search have in common."""

    key_words: UInt32[Array, "2"]
    orders: Int[Array, "windows epochs rows"]
    data: FusedData


@dataclass(frozen=True, eq=False)
class FusedSearch:
    """A search as a pure function ``key -> FusedResults``; ``fused_search`` makes it.

    Called, it compiles once and is one program from then on, on one device. It goes with ``jax.vmap`` over keys, whose
    lanes are then those of a chunk times the keys, and whose optimizer runs after every micro-batch, as JAX makes a
    selection of a branch under ``vmap``. Inside a program of your own, hand its data in too, or they become
    constants of that: ``jax.jit(jax.vmap(fused, in_axes=(0, None)))(keys, fused.data)``.

    Attributes:
        parts: model, optimizer, space, rows, and what is ranked.
        job: what is trained, its ladder a single rung.
        strategy: what is tried.
        rounds: how many.
        epochs: of each trial.
        padding: how many times the multiply-adds it makes that trials need at their true sizes; NaN for a model that is
            not elastic, which is not padded.
    """

    parts: Parts
    job: Job
    strategy: Strategy
    rounds: int
    epochs: int
    padding: float

    @property
    def columns(self) -> tuple[str, ...]:
        """What the curves tell: train_loss, loss, and the metric."""
        return self.parts.objective.columns

    @cached_property
    def rung(self) -> Rung:
        """Sizes and lanes of the program that trains."""
        return self.job.ladder.rung(self.parts.large_trials()[0])

    @cached_property
    def data(self) -> FusedData:
        """The rows, on the device."""
        train, valid = (Rows(*part) for part in self.parts.data.scaled)  # pyright: ignore[reportArgumentType]
        with jax.ensure_compile_time_eval():  # they are kept, so they must be no tracers of whoever asked first
            return jax.device_put(FusedData(train, valid, self.parts.data.y_units))

    def __call__(self, key: Any, data: FusedData | None = None) -> FusedResults:
        """Runs the search.

        Args:
            key: a typed threefry key; ``jax.random.key(seed)`` gives the first round of ``vtune.search(seed=seed)``.
            data: ``self.data``, where it shall be an argument of a program around this.

        Raises:
            TypeError: for another kind of key.
        """
        if not is_typed_threefry(key):
            raise TypeError(f"key={key!r} is no typed threefry key. Write jax.random.key(0, impl={IMPLEMENTATION!r}).")
        with float_precision(self.parts.data.dtype):
            return self._program(key, self.data if data is None else data)

    def describe(self) -> str:
        """Returns in one line what the program is, and what its padding costs."""
        rung, trials = self.rung, self.strategy.max_lanes
        sizes = ", ".join(f"{name}={size}" for name, size in rung.sizes)
        padded = f", padded to {sizes}" if sizes else ""
        cost = f": {self.padding:.1f} times the multiply-adds that true sizes need" if self.padding >= 1.05 else ""
        return (
            f"fused: one program, {self.rounds} round{'s' * (self.rounds > 1)} of {trials} trials in chunks of "
            f"{rung.lanes}{padded}, micro-batches of {rung.rows} rows{cost}"
        )

    @cached_property
    def _program(self) -> Any:
        return jax.jit(self._run)

    def _run(self, key: Key[Array, ""], data: FusedData) -> FusedResults:
        root = jax.random.key_data(key)
        sample_key = study_key(from_words(root), Purpose.SAMPLE)
        draws = self._draws(root, data.train.x.shape[0])
        shared = _Shared(draws.key_words[0], draws.orders, data)

        def run_round(state: PyTree, _: None) -> tuple[PyTree, _Round]:
            plan = self.strategy.ask(sample_key, state)
            done = self._train(plan, shared)
            return self.strategy.tell(state, plan._replace(points=done.points), done.told), done

        _, rounds = lax.scan(run_round, self.strategy.init(sample_key), length=self.rounds)
        rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rounds)
        ranked = -rows.scores if self.parts.objective.is_maximized else rows.scores
        is_last = jnp.isnan(ranked) | (rows.trial_id < 0)
        best = jnp.lexsort((rows.trial_id, rows.losses, ranked, rows.trial_id < 0, is_last))[0]
        best_hparams = {name: column[best] for name, column in rows.hparams.items()}
        return FusedResults(*rounds[:-1], rows.trial_id[best], best_hparams, rows.scores[best])

    def _train(self, plan: Plan, shared: _Shared) -> _Round:
        """Trains the trials of a plan, chunk after chunk."""
        constants = dict(self.rung.structure)
        dtypes = {name: dtype for name, dtype in self.job.traced if name not in constants}
        hparams, points = self.parts.usage.trace(plan.points, dtypes, constants)
        trials, lanes = len(plan.active), self.rung.lanes
        missing = -trials % lanes

        def in_chunks(column: Array) -> Array:
            """Fills up the last chunk with the first trial."""
            filled = jnp.concatenate([column, jnp.broadcast_to(column[:1], (missing, *column.shape[1:]))])
            return filled.reshape(-1, lanes, *column.shape[1:])

        is_trial = jnp.concatenate([plan.active, jnp.zeros(missing, bool)]).reshape(-1, lanes)
        chunks = jax.tree.map(in_chunks, hparams), is_trial
        curves, steps = lax.map(lambda chunk: self._train_chunk(chunk[0], chunk[1], shared), chunks)
        curves, steps = (leaf.reshape(-1, *leaf.shape[2:])[:trials] for leaf in (curves, steps))
        scores, losses, told = self.parts.objective.trace(curves, steps >= 0, shared.data.valid.x.shape[0])
        varying = {name: hparams[name] for name in self.parts.space.parameters}
        trial_id = jnp.where(plan.active, plan.trial_id, -1)
        return _Round(trial_id, points, varying, scores, told, curves, steps, losses)

    def _train_chunk(
        self, hparams: dict[str, Array], is_active: Bool[Array, " lanes"], shared: _Shared
    ) -> tuple[Float[Array, "lanes epochs metrics"], Int[Array, " lanes"]]:
        """Trains some lanes for all epochs; returns their curves, and where they diverged."""
        engine = Engine(self.job.recipe.task(self.rung.sizes), self.rung)
        key_words, orders, data = shared
        inputs = ChunkInputs(hparams, is_active, key_words, orders[0], *data)
        window = orders.shape[1]

        def advance(states: LaneState, number: Int[Array, ""]) -> tuple[LaneState, Array]:
            first = number * window
            now = inputs._replace(orders=orders[number])
            return engine.advance(states, now, first, jnp.minimum(window, self.epochs - first))

        states = self.job.program(self.rung).states
        blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), states)
        states, parts = lax.scan(advance, blank, jnp.arange(len(orders), dtype=jnp.int32))
        curves = jnp.moveaxis(parts, 0, 1).reshape(self.rung.lanes, -1, parts.shape[-1])[:, : self.epochs]
        return curves, states.diverged_step

    def _draws(self, root: UInt32[Array, "2"], num_rows: int) -> SeedDraws:
        """Returns what all trials share, one entry a window of epochs."""
        window = min(self.job.signature.epochs_per_call, self.epochs)

        def draws(number: Int[Array, ""]) -> SeedDraws:
            return seed_draws(root, jnp.int32(0), number * window, num_rows=num_rows, num_epochs=window)

        return lax.map(draws, jnp.arange(-(-self.epochs // window), dtype=jnp.int32))


def fused_search(
    model_fn: ModelFn,
    space: Space | Mapping[str, Any],
    data: Any = None,
    *,
    rounds: int = 4,
    trials: int = 64,
    epochs: int = 20,
    strategy: str | StrategyFactory | None = None,
    optimizer: str | Optimizer = "adam",
    loss: str | RowLoss = "auto",
    metric: str | RowLoss = "auto",
    direction: str = "auto",
    select: str = "last",
    seed: int = 0,
    chunk: int | str = "auto",
    matmul_precision: str | None = None,
    progress: bool | Progress = True,
) -> FusedSearch:
    """Returns the whole coarse-to-fine search as one jitted program, a pure function of a key.

    All trials share one program, padded to the largest shape of the space, which costs more arithmetic than ``search``
    needs: a line says how much. In return there is no host between the rounds, and ``jax.vmap(fused)(keys)`` runs a
    search for each of many keys: to tell chance from merit, say.

    Args:
        model_fn: as for ``search``.
        space: as for ``search``, but what must be a constant of a program (the optimizer, an activation, sizes of a
            model that is not elastic) has one plain value.
        data: as for ``search``.
        rounds: how many; the first on the whole space, each later one zoomed in on the best so far.
        trials: of each round.
        epochs: of each trial.
        strategy: what to try instead, by name or such as ``vtune.strategies.random(round_size=64)``: one that asks for
            ``rounds`` times up to ``trials`` fresh trials.
        optimizer: as for ``search``.
        loss: as for ``search``.
        metric: as for ``search``.
        direction: as for ``search``.
        select: as for ``search``.
        seed: of the split of ``(x, y)``; all else is drawn from the key.
        chunk: trials that are trained at a time, or "auto": what the device is best at.
        matmul_precision: as for ``search``.
        progress: whether a line tells what the program is and what its padding costs, or an object that shows it.

    Raises:
        TypeError: for an argument of a wrong type.
        ValueError: for what cannot be searched or trained in one program; always before anything is compiled.

    Example:
        >>> import jax, vtune
        >>> space = {"learning_rate": vtune.loguniform(1e-4, 1.0), "hidden": 8}
        >>> fused = fused_search(vtune.MLP, space, rounds=2, trials=3, epochs=1, progress=False)
        >>> fused(jax.random.key(0, impl="threefry2x32")).scores.shape
        (2, 3)
    """
    for name, value, example in (("rounds", rounds, 4), ("trials", trials, 64), ("epochs", epochs, 20)):
        check_count(name, value, least=1, example=example)
    check_count("seed", seed, least=0, example=0)
    check_chunk(chunk)
    device = local_devices(1)[0]
    parts = make_parts(
        model_fn, Space.of(space), data, optimizer=optimizer, loss=loss, metric=metric, direction=direction,
        select=select, seed=int(seed), matmul_precision=matmul_precision,
    )  # fmt: skip
    factory = coarse_to_fine(rounds=rounds) if strategy is None else factory_of(strategy)
    made = factory(parts.written.axes, trials=int(rounds * trials), epochs=int(epochs))
    planner = parts.planner(trials=int(trials), epochs=int(epochs), kind=kind_of(device), chunk=chunk)
    job = parts.job(plan_one(parts, planner, made.max_lanes), np.zeros(2, np.uint32))
    _check_rounds(made, rounds, trials)
    fused = FusedSearch(parts, job, made, int(rounds), int(epochs), math.nan)
    job.refuse_beyond_memory([fused.rung], device_bytes(device))
    fused = replace(fused, padding=_padding(parts, planner, fused.rung, made.max_lanes))
    with closing(make_progress(progress)) as shown:
        shown.say(fused.describe())
    return fused


def _check_rounds(strategy: Strategy, rounds: int, trials: int) -> None:
    """Refuses a strategy that does not ask for as many plans of fresh trials: it is run with scores of no meaning."""
    if not strategy.is_traceable:
        raise ValueError(
            "strategy: it calls Python, so it cannot be part of a program. Write vtune.search(strategy=...) for it, or "
            f"strategy=vtune.strategies.random(round_size={trials}) here."
        )

    def step(carry: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
        state, count = carry
        plan = strategy.ask(key, state)
        return strategy.tell(state, plan, jnp.zeros(strategy.max_lanes, jnp.float32)), count + 1

    def goes_on(carry: tuple[PyTree, Array]) -> Array:
        return ~jnp.asarray(strategy.done(carry[0])) & (carry[1] <= rounds)

    key = jax.random.key(0, impl=IMPLEMENTATION)
    count = int(jax.jit(lambda: lax.while_loop(goes_on, step, (strategy.init(key), jnp.int32(0)))[1])())
    if (strategy.keeps, strategy.lag, count) != ("none", 0, rounds) or strategy.max_lanes > trials:
        more = "more than " if count > rounds else ""
        raise ValueError(
            f"strategy: it asks {more}{min(count, rounds)} times, for {strategy.max_lanes} trials at most, keeps "
            f"{strategy.keeps} and has a lag of {strategy.lag}; but this search has rounds={rounds} of up to "
            f"trials={trials} fresh ones. Write strategy=vtune.strategies.random(round_size={trials})."
        )


def _padding(parts: Parts, planner: Planner, rung: Rung, trials: int) -> float:
    """How many times the multiply-adds of true sizes a round makes: larger layers, rows of no weight, idle lanes."""
    elastic, names = parts.findings.elastic, parts.findings.sizes
    if elastic is None:
        return math.nan
    points = sample_points(jax.random.key(0, impl=IMPLEMENTATION), jnp.arange(_DRAWS), len(parts.space.axes))
    drawn = [parts.usage.complete(parts.usage.used(row)) for row in parts.space.rows(np.asarray(points))]
    sizes = [{name: trial[name] for name in names} for trial in drawn]
    trained = [planner.num_rows // trial["batch_size"] * trial["batch_size"] for trial in drawn]
    macs = [sum(elastic.row_macs(size, planner.shapes)) for size in sizes]
    turns = [planner.turns(trial["batch_size"], rung.rows) for trial in drawn]
    longest = [max(turns[first : first + rung.lanes]) for first in range(0, _DRAWS, rung.lanes)]
    padded = sum(elastic.row_macs({**sizes[0], **dict(rung.sizes)}, planner.shapes))
    lanes = -(-trials // rung.lanes) * rung.lanes
    return lanes / trials * padded * rung.rows * float(np.mean(longest)) / float(np.mean(np.multiply(macs, trained)))
