"""Checks all that trains, and puts it together, before anything compiles."""

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt32

from vtune.data import Data
from vtune.defaults import DEFAULTS, did_you_mean
from vtune.protocols import Hparams, Rung, Shapes
from vtune.space import Space
from vtune.training.devices import Device, DeviceKind, kind_of
from vtune.training.inspection import Findings, inspect, refuse_unread, warn_of_many_programs
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


class Parts(NamedTuple):
    """What a study is made of, checked, before anything is planned.

    Attributes:
        recipe: what all trials have in common.
        space: defaults included.
        findings: which hyperparameters are structure and which are data.
        usage: which of them a trial uses.
        data: rows to train and to measure on.
    """

    recipe: Recipe
    space: Space
    findings: Findings
    usage: Usage
    data: Data

    def planner(self, *, trials: int, epochs: int, kind: DeviceKind, chunk: int | str) -> Planner:
        """Returns what plans ladders.

        Args:
            trials: declared, in all.
            epochs: of one trial at most.
            kind: of the devices to train on.
            chunk: lanes of every chunk, or "auto".
        """
        shapes, dtype = Shapes(self.data.inputs, self.data.outputs), self.data.dtype.name
        declared = self.data.num_train, trials, epochs, kind, dtype, chunk, self.recipe.matmul_precision
        return Planner(self.space, self.findings.structural, shapes, *declared)

    def job(self, ladder: Ladder, root: UInt32[np.ndarray, "2"]) -> Job:
        """Returns what an executor needs; ``root`` are the words of the study's root key."""
        return Job(self.recipe, ladder, self.findings.traced, self.data, root)


def complete(space: Space, optimizer: str = DEFAULTS["optimizer"]) -> Space:
    """Returns the space with the default of every name that it leaves out, and the optimizer by its name.

    What varies keeps its order, so that a point of the one is a point of the other.
    """
    defaults = {**DEFAULTS, "optimizer": optimizer}
    return Space.of({**space.written, **{name: defaults[name] for name in defaults if name not in space.written}})


def take_apart(
    model_fn: ModelFn,
    space: Space,
    data: Data,
    *,
    objective: Objective,
    optimizer: str | Optimizer,
    matmul_precision: str | None = None,
) -> Parts:
    """Checks what a user gives, and finds out what it reads.

    Args:
        model_fn: returns a Flax module.
        space: as the user wrote it.
        data: rows to train and to measure on.
        objective: what is minimised and measured.
        optimizer: by name, or a function from a trial's hyperparameters to an Optax transformation.
        matmul_precision: of the networks; None for what JAX takes by itself.

    Raises:
        TypeError: the model function returns no Flax module, or the optimizer no Optax transformation.
        ValueError: for whatever cannot be trained: see ``inspect`` and ``refuse_unread``.
    """
    _check_optimizer(optimizer, space)
    whole = complete(space, optimizer if isinstance(optimizer, str) else DEFAULTS["optimizer"])
    _check_batch_size(whole, data, is_default="batch_size" not in space.entries)
    step = named if isinstance(optimizer, str) else optimizer
    of_data = objective.loss, objective.metrics, data.inputs, data.outputs
    recipe = Recipe(model_fn, step, *of_data, matmul_precision)
    y = data.train[1]
    findings = inspect(Probe(recipe, jax.ShapeDtypeStruct(y.shape[1:], y.dtype)), whole)
    refuse_unread(space, findings)
    return Parts(recipe, whole, findings, Usage(whole, findings.reads), data)


def set_up(
    parts: Parts,
    *,
    root: UInt32[np.ndarray, "2"],
    trials: int,
    epochs: int,
    devices: Sequence[Device],
    chunk: int | str = "auto",
    ladder: str = "auto",
    executor: str = "queue",
) -> ChunkQueue | TrialsMesh:
    """Returns the executor of a study, its ladder planned.

    Args:
        parts: what the study is made of.
        root: words of its root key.
        trials: declared, in all.
        epochs: of one trial at most.
        devices: to train on.
        chunk: lanes of every chunk, or "auto".
        ladder: JSON of one that was planned before, or "auto".
        executor: "queue" or "mesh".

    Raises:
        ValueError: for a ladder that does not fit.
    """
    warn_of_many_programs(parts.space, parts.findings)
    planner = parts.planner(trials=trials, epochs=epochs, kind=kind_of(devices[0]), chunk=chunk)
    if ladder == "auto":
        planned = plan(parts, planner)
    else:
        planned = Ladder.from_json(ladder)
        planner.check(planned, _large_trials(parts))
    return EXECUTORS[executor](parts.job(planned, root), devices)


def plan(parts: Parts, planner: Planner) -> Ladder:
    """Returns the cheapest ladder."""
    if parts.findings.elastic:
        return planner.plan_elastic(parts.findings.elastic, parts.findings.sizes)
    alone = parts.job(planner.plan_opaque(1, 1), np.zeros(2, np.uint32))
    sizes = [_size(alone, trial) for trial in _large_trials(parts)]
    return planner.plan_opaque(*(max(numbers) for numbers in zip(*sizes, strict=True)))


def plan_one(parts: Parts, planner: Planner) -> Rung:
    """Returns the one program that trains every trial of a space: its largest shape.

    Raises:
        ValueError: where hyperparameters vary that must be constants of a program.
    """
    varying = [name for name in parts.findings.structural if name in parts.space.parameters]
    if varying:
        raise ValueError(
            f"{varying[0]!r} varies, and it must be a constant of a program, but this search is a single program. "
            f"Write one plain value for {', '.join(map(repr, varying))}, or use vtune.search."
        )
    (trial, *_) = _large_trials(parts)
    if parts.findings.elastic:
        return planner.largest_rung(parts.findings.elastic, parts.findings.sizes, trial)
    return plan(parts, planner).rung(trial)


def _check_optimizer(optimizer: Any, space: Space) -> None:
    if callable(optimizer):
        if not isinstance(optimizer, Hashable):
            raise TypeError(f"optimizer={optimizer!r} has no hash, by which programs are kept. Write a function.")
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


def _large_trials(parts: Parts) -> list[dict[str, Any]]:
    rows = _large_rows(parts.space, parts.findings.structural)
    return [parts.usage.complete(parts.usage.used(row)) for row in rows]


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
