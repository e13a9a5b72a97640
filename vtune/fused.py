"""The whole search as one program: sample, train, rank, zoom, and again; a pure function of a key.

It is made of the same pieces as ``search``: the strategy's own functions, the engine's program, the scores. So its
first round is that of a search with the same key, bit for bit, and later ones part only where scores do.
"""

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Int, Key, Num, PyTree, UInt32

from vtune.arguments import check_chunk, check_count, check_model_fn
from vtune.data import Data
from vtune.keys import IMPLEMENTATION, Purpose, from_words, seed_words, split_key, study_key
from vtune.precision import float_precision, told_precision
from vtune.progress import Progress, make_progress
from vtune.protocols import LaneState, Plan, Rung, Strategy, StrategyFactory
from vtune.scaling import Units
from vtune.space import Space, sample_points
from vtune.strategies.names import factory_of
from vtune.strategies.zoom import coarse_to_fine
from vtune.training.devices import kind_of, local_devices
from vtune.training.engine import ChunkInputs, Engine, Rows
from vtune.training.losses import RowLoss
from vtune.training.networks import ModelFn
from vtune.training.objective import Objective, kind_needed, make_objective
from vtune.training.optimizers import Optimizer
from vtune.training.programs import data_orders, epochs_per_call
from vtune.training.setup import Parts, plan_one, take_apart

_DRAWS = 1024
"""Trials of which the cost of padding is told."""


class FusedResults(NamedTuple):
    """What a fused search came to: arrays of rounds by trials, and the best of them.

    Attributes:
        points: where in the unit cube the trials lie; NaN for a parameter that they do not use.
        hparams: the hyperparameters that vary, by name, as they trained.
        scores: as the user knows them, accuracy up and losses down; NaN for what diverged.
        told: scores as the strategy was told them: lower is better, equal accuracies told apart by their loss.
        curves: the columns of ``FusedSearch.columns`` after each epoch; NaN from where a trial diverged.
        diverged_step: the optimizer step, from 0, that was not finite; -1 where all were.
        active: False for rows that are no trials, as where a grid does not fill its round.
        best: round and place of the best trial; the first trial where all diverged.
        best_hparams: its hyperparameters.
        best_score: its score; NaN where all diverged.
    """

    points: Float[Array, "rounds trials axes"]
    hparams: dict[str, Num[Array, "rounds trials"]]
    scores: Float[Array, "rounds trials"]
    told: Float[Array, "rounds trials"]
    curves: Float[Array, "rounds trials epochs metrics"]
    diverged_step: Int[Array, "rounds trials"]
    active: Bool[Array, "rounds trials"]
    best: Int[Array, "2"]
    best_hparams: dict[str, Num[Array, ""]]
    best_score: Float[Array, ""]


class _Round(NamedTuple):
    """One round of ``FusedResults``."""

    points: Float[Array, "trials axes"]
    hparams: dict[str, Num[Array, " trials"]]
    scores: Float[Array, " trials"]
    told: Float[Array, " trials"]
    curves: Float[Array, "trials epochs metrics"]
    diverged_step: Int[Array, " trials"]
    active: Bool[Array, " trials"]


class _Shared(NamedTuple):
    """What all chunks of a search have in common."""

    root: UInt32[Array, "2"]
    orders: Int[Array, "windows epochs rows"]
    train: Rows
    valid: Rows
    units: Units | None


@dataclass(frozen=True, eq=False)
class FusedSearch:
    """A search as a pure function ``key -> FusedResults``; ``fused_search`` makes it.

    Called, it compiles once and is one program from then on. It goes with ``jax.vmap`` over keys, with ``jax.jit``, and
    inside other programs.

    Attributes:
        parts: model, optimizer, space and data.
        objective: what is minimised and ranked.
        strategy: what is tried.
        rung: sizes and lanes of the program that trains.
        rounds: how many.
        epochs: of each trial.
        padding: how many times the multiply-adds of the networks' true sizes it makes; NaN for a model that is not
            elastic, which is not padded.
    """

    parts: Parts
    objective: Objective
    strategy: Strategy
    rung: Rung
    rounds: int
    epochs: int
    padding: float

    @property
    def columns(self) -> tuple[str, ...]:
        """What the curves tell: train_loss, loss, and the metric."""
        return self.objective.columns

    def __call__(self, key: Any) -> FusedResults:
        """Runs the search.

        Args:
            key: a typed threefry key; ``jax.random.key(seed)`` gives the first round of ``vtune.search(seed=seed)``.

        Raises:
            TypeError: for another kind of key.
        """
        if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or str(jax.random.key_impl(key)) != IMPLEMENTATION:
            raise TypeError(f"key={key!r} is no typed threefry key. Write jax.random.key(0, impl={IMPLEMENTATION!r}).")
        with float_precision(self.parts.data.dtype):
            return self.program(key, *self._rows)

    @cached_property
    def program(self) -> Any:
        """The jitted program, of a key and the data."""
        return jax.jit(self._run)

    def describe(self) -> str:
        """Returns in one line what the program is, and what its padding costs."""
        lanes, sizes = self.rung.lanes, ", ".join(f"{name}={size}" for name, size in self.rung.sizes)
        padded = f", padded to {sizes}" if sizes else ""
        cost = f": {self.padding:.1f} times the multiply-adds of the true sizes" if math.isfinite(self.padding) else ""
        rows = f"micro-batches of {self.rung.rows} rows"
        return (
            f"fused: one program, {self.rounds} round{'s' * (self.rounds > 1)} of {self.strategy.max_lanes} trials in "
            f"chunks of {lanes}{padded}, {rows}{cost}"
        )

    def _run(self, key: Key[Array, ""], train: Rows, valid: Rows, units: Units | None) -> FusedResults:
        root = jax.random.key_data(key)
        sample_key, shared = study_key(from_words(root), Purpose.SAMPLE), self._shared(root, train, valid, units)

        def run_round(state: PyTree, _: None) -> tuple[PyTree, _Round]:
            plan = self.strategy.ask(sample_key, state)
            done = self._train(plan, shared)
            return self.strategy.tell(state, plan._replace(points=done.points), done.told), done

        _, rounds = lax.scan(run_round, self.strategy.init(sample_key), length=self.rounds)
        place = jnp.argmin(jnp.where(rounds.active & jnp.isfinite(rounds.told), rounds.told, jnp.inf).ravel())
        best_hparams = {name: column.ravel()[place] for name, column in rounds.hparams.items()}
        best = jnp.stack([place // self.strategy.max_lanes, place % self.strategy.max_lanes]).astype(jnp.int32)
        return FusedResults(*rounds, best, best_hparams, rounds.scores.ravel()[place])

    def _train(self, plan: Plan, shared: _Shared) -> _Round:
        """Trains the trials of a plan, chunk after chunk."""
        hparams, points = self._decode(plan.points)
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
        scores, told = self.objective.trace(curves, steps >= 0, shared.valid.x.shape[0])
        varying = {name: hparams[name] for name in self.parts.space.parameters}
        return _Round(points, varying, scores, told, curves, steps, plan.active)

    def _train_chunk(
        self, hparams: dict[str, Array], is_active: Bool[Array, " lanes"], shared: _Shared
    ) -> tuple[Float[Array, "lanes epochs metrics"], Int[Array, " lanes"]]:
        """Trains some lanes for all epochs; returns their curves, and where they diverged."""
        engine = Engine(self.parts.recipe.task(self.rung.sizes), self.rung)
        root, orders, train, valid, units = shared
        inputs = ChunkInputs(hparams, is_active, root, jnp.int32(0), orders[0], train, valid, units)
        window = orders.shape[1]

        def advance(states: LaneState, number: Int[Array, ""]) -> tuple[LaneState, Array]:
            first = number * window
            now = inputs._replace(orders=orders[number])
            return engine.advance(states, now, first, jnp.minimum(window, self.epochs - first))

        blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(engine.fresh, inputs))
        states, parts = lax.scan(advance, blank, jnp.arange(len(orders), dtype=jnp.int32))
        curves = jnp.moveaxis(parts, 0, 1).reshape(self.rung.lanes, -1, parts.shape[-1])[:, : self.epochs]
        return curves, states.diverged_step

    def _decode(self, points: Array) -> tuple[dict[str, Array], Array]:
        """Returns the traced hyperparameters, and the points with NaN for what trials do not use."""
        parts, constants = self.parts, dict(self.rung.structure)
        dtypes = {name: dtype for name, dtype in parts.findings.traced if name not in constants}
        hparams, lowest = parts.space.trace(points, dtypes), parts.usage.complete({})
        reads, has_layer = parts.findings.reads.names(lowest), parts.space.has_layer({**constants, **hparams})
        for name in hparams.keys() & has_layer.keys():
            hparams[name] = jnp.where(has_layer[name], hparams[name], np.array(lowest[name], dtypes[name]))
        is_used = [(name in reads) & jnp.asarray(has_layer.get(name, True)) for name in parts.space.parameters]
        mask = jnp.stack([jnp.broadcast_to(column, points.shape[:1]) for column in is_used], axis=1)
        return hparams, jnp.where(mask, points, jnp.nan)

    def _shared(self, root: UInt32[Array, "2"], train: Rows, valid: Rows, units: Units | None) -> _Shared:
        """Draws the orders of all epochs, in windows."""
        window = min(epochs_per_call(train.x.shape[0]), self.epochs)

        def orders(number: Int[Array, ""]) -> Array:
            first = number * window
            return data_orders(root, jnp.int32(0), first, num_rows=train.x.shape[0], num_epochs=window)

        count = -(-self.epochs // window)
        return _Shared(root, lax.map(orders, jnp.arange(count, dtype=jnp.int32)), train, valid, units)

    @cached_property
    def _rows(self) -> tuple[Any, ...]:
        train, valid = self.parts.data.scaled
        with jax.ensure_compile_time_eval():  # inside another program too, they are arrays and no part of it
            return jax.device_put((Rows(*train), Rows(*valid), self.parts.data.y_units))  # pyright: ignore[reportArgumentType]


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
        strategy: what to try instead, by name or such as ``vtune.strategies.random(round_size=64)``: fresh trials,
            ``rounds * trials`` of them in all.
        optimizer: as for ``search``.
        loss: as for ``search``.
        metric: as for ``search``.
        direction: as for ``search``.
        select: as for ``search``.
        seed: of the split of ``(x, y)``; all else is drawn from the key.
        chunk: trials that are trained at a time, or "auto": what the device is best at.
        matmul_precision: as for ``search``.
        progress: whether a line tells what the program is, or an object that shows it.

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
    check_model_fn(model_fn)
    for name, value, example in (("rounds", rounds, 4), ("trials", trials, 64), ("epochs", epochs, 20)):
        check_count(name, value, least=1, example=example)
    check_count("seed", seed, least=0, example=0)
    check_chunk(chunk)
    written, precision = Space.of(space), told_precision(matmul_precision)
    written.require_varying()
    factory = coarse_to_fine(rounds=rounds) if strategy is None else factory_of(strategy)
    made = factory(written.axes, trials=rounds * trials, epochs=epochs)
    _check_fresh(made, trials)
    kind = kind_of(local_devices(1)[0])
    held = Data.of(data, key=split_key(seed_words(seed)), kind=kind_needed(loss, metric))
    objective = make_objective(loss, metric, direction, select, held.kind)
    parts = take_apart(model_fn, written, held, objective=objective, optimizer=optimizer, matmul_precision=precision)
    held.warn_of_sizes(data, kind_needed(loss, metric))
    planner = parts.planner(trials=trials, epochs=epochs, kind=kind, chunk=chunk)
    rung, padding = plan_one(parts, planner), math.nan
    if parts.findings.elastic:
        padding = planner.padding(parts.findings.elastic, parts.findings.sizes, rung, _draws(parts))
    fused = FusedSearch(parts, objective, made, rung, rounds, epochs, padding)
    with closing(make_progress(progress)) as shown:
        shown.say(fused.describe())
    return fused


def _draws(parts: Parts) -> list[dict[str, Any]]:
    """Some trials of the space, complete."""
    key = jax.random.key(0, impl=IMPLEMENTATION)
    points = sample_points(key, jnp.arange(_DRAWS, dtype=jnp.int32), len(parts.space.axes))
    return [parts.usage.complete(parts.usage.used(row)) for row in parts.space.rows(np.asarray(points))]


def _check_fresh(strategy: Strategy, trials: int) -> None:
    if strategy.keeps != "none" or strategy.lag or strategy.max_lanes > trials:
        raise ValueError(
            f"strategy: it asks for {strategy.max_lanes} trials at once, has a lag of {strategy.lag} and keeps "
            f"{strategy.keeps}, but a fused search trains rounds of up to {trials} fresh ones. Write "
            "strategy=vtune.strategies.random()."
        )
