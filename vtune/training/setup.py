"""Puts together all that trains, and checks it, before anything compiles."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt32

from vtune.data import Data
from vtune.defaults import DEFAULTS, did_you_mean
from vtune.protocols import Hparams, Shapes
from vtune.space import Space
from vtune.training.devices import Device, kind_of
from vtune.training.inspection import inspect, refuse_unread, warn_of_many_programs
from vtune.training.job import Job
from vtune.training.ladder import Ladder
from vtune.training.mesh import TrialsMesh
from vtune.training.networks import ModelFn
from vtune.training.objective import Objective
from vtune.training.optimizers import OPTIMIZERS, Optimizer, named
from vtune.training.planner import Planner
from vtune.training.probes import Probe
from vtune.training.queue import ChunkQueue
from vtune.training.task import Recipe
from vtune.training.usage import Usage

EXECUTORS = {"queue": ChunkQueue, "mesh": TrialsMesh}
"""By name."""

_MAX_LEVELS = 32
"""How many values of a constant are looked at to find the largest model."""


class Setup(NamedTuple):
    """What trains the trials of a study, and what tells which hyperparameters a trial uses."""

    executor: ChunkQueue | TrialsMesh
    usage: Usage


def complete(space: Space, optimizer: str = DEFAULTS["optimizer"]) -> Space:
    """Returns the space with the default of every name that it leaves out, and the optimizer by its name.

    What varies keeps its order, so that a point of the one is a point of the other.
    """
    defaults = {**DEFAULTS, "optimizer": optimizer}
    return Space.of({**space.written, **{name: defaults[name] for name in defaults if name not in space.written}})


def set_up(
    model_fn: ModelFn,
    space: Space,
    data: Data,
    *,
    objective: Objective,
    optimizer: str | Optimizer,
    root: UInt32[np.ndarray, "2"],
    trials: int,
    epochs: int,
    chunk: int | str,
    devices: Sequence[Device],
    ladder: str = "auto",
    executor: str = "queue",
    matmul_precision: str | None = None,
) -> Setup:
    """Returns the executor of a study, its ladder planned, and what tells which hyperparameters a trial uses.

    Args:
        model_fn: returns a Flax module.
        space: as the user wrote it.
        data: rows to train and to measure on.
        objective: what is minimised and measured.
        optimizer: by name, or a function from a trial's hyperparameters to an Optax transformation.
        root: words of the study's root key.
        trials: declared, in all.
        epochs: of one trial at most.
        chunk: lanes of every chunk, or "auto".
        devices: to train on.
        ladder: JSON of one that was planned before, or "auto".
        executor: "queue" or "mesh".
        matmul_precision: of the networks; None for what JAX takes by itself.

    Raises:
        TypeError: the model function returns no Flax module, or the optimizer no Optax transformation.
        ValueError: for whatever cannot be trained: see ``inspect`` and ``refuse_unread``.
    """
    _check_optimizer(optimizer, space)
    whole = complete(space, optimizer if isinstance(optimizer, str) else DEFAULTS["optimizer"])
    _check_batch_size(whole, data, is_default="batch_size" not in space.entries)
    step = named if isinstance(optimizer, str) else optimizer
    parts = objective.loss, objective.metrics, data.inputs, data.outputs
    recipe = Recipe(model_fn, step, *parts, matmul_precision)
    y = data.train[1]
    findings = inspect(Probe(recipe, jax.ShapeDtypeStruct(y.shape[1:], y.dtype)), whole)
    refuse_unread(space, findings)
    warn_of_many_programs(whole, findings)
    usage = Usage(whole, findings.reads)
    shapes, kind = Shapes(data.inputs, data.outputs), kind_of(devices[0])
    declared = data.num_train, trials, epochs, kind, data.dtype.name, chunk, matmul_precision
    planner = Planner(whole, findings.structural, shapes, *declared)

    def job(ladder: Ladder) -> Job:
        return Job(recipe, ladder, findings.traced, data, root)

    large = [usage.complete(usage.used(row)) for row in _large_rows(whole, findings.structural)]
    if ladder != "auto":
        planned = Ladder.from_json(ladder)
        planner.check(planned, large)
    elif findings.elastic:
        planned = planner.plan_elastic(findings.elastic, findings.sizes)
    else:
        alone = job(planner.plan_opaque(1, 1))
        sizes = [_size(alone, row) for row in large]
        planned = planner.plan_opaque(*(max(numbers) for numbers in zip(*sizes, strict=True)))
    return Setup(EXECUTORS[executor](job(planned), devices), usage)


def _check_optimizer(optimizer: Any, space: Space) -> None:
    if callable(optimizer):
        return
    values = space.levels_of("optimizer") if "optimizer" in space.entries else None
    if values is not None and optimizer != DEFAULTS["optimizer"]:
        raise ValueError(
            f"optimizer={optimizer!r}, and the space has an 'optimizer' as well. Leave one of the two out: the space's "
            "varies from trial to trial."
        )
    for name in values or [optimizer]:
        if not isinstance(name, str) or name not in OPTIMIZERS:
            raise ValueError(
                f"optimizer={name!r} is not known; {did_you_mean(str(name), OPTIMIZERS)} A function of hparams that "
                "returns an Optax transformation may stand for one: optimizer=lambda hparams: optax.adamw(...)."
            )


def _check_batch_size(space: Space, data: Data, is_default: bool) -> None:
    largest = int(space.support("batch_size")[1])
    if largest > data.num_train:
        raise ValueError(
            f"batch_size={largest}{', the default,' if is_default else ''} is more than the {data.num_train} rows to "
            "train on, so an epoch would hold no step. "
            f'Write a smaller one into the space, "batch_size": {data.num_train} at most.'
        )


def _large_rows(space: Space, structural: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The trial at the upper end of the space, and, around it, one for each value of what decides a model's size."""
    upper = np.ones(len(space.axes))
    yield from space.rows(upper[None])
    for column, axis in enumerate(space.axes):
        if axis.name in structural and axis.levels is not None and axis.levels <= _MAX_LEVELS:
            for level in range(axis.levels - 1):
                place = np.arange(len(upper)) == column
                yield from space.rows(np.where(place, (level + 0.5) / axis.levels, upper)[None])


def _size(job: Job, row: Hparams) -> tuple[int, int]:
    """Weights of a trial's network, and about how many bytes a chunk takes for each of its lanes."""
    program = job.program(job.ladder.rung(row)._replace(lanes=1))
    num_weights = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(program.states.params))
    return max(1, num_weights), program.estimated_bytes
