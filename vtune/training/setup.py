"""Checks all that trains, and puts it together, before anything compiles."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import UInt32

from vtune.arguments import check_chunk, check_count, check_model_fn
from vtune.data import Data, split_data
from vtune.defaults import DEFAULTS, did_you_mean
from vtune.keys import seed_words, split_bits
from vtune.precision import told_precision
from vtune.protocols import Executor, Hparams, Shapes
from vtune.space import Space
from vtune.training.devices import Device, DeviceKind, mesh_devices, queue_devices, worker_devices
from vtune.training.inspection import Findings, inspect, refuse_unread, warn_of_many_programs
from vtune.training.job import Job
from vtune.training.ladder import Ladder
from vtune.training.losses import RowLoss
from vtune.training.measured import MeasuredTable
from vtune.training.mesh import Lockstep
from vtune.training.networks import ModelFn
from vtune.training.objective import Objective, kind_needed, make_objective
from vtune.training.optimizers import OPTIMIZERS, Optimizer, named
from vtune.training.places import DeviceMesh, OneDevice, Place
from vtune.training.planner import Planner
from vtune.training.probes import Probe
from vtune.training.queue import ChunkQueue
from vtune.training.task import Recipe
from vtune.training.usage import Usage

EXECUTORS: dict[str, tuple[Callable[[Job, Sequence[Device]], Executor], Callable[..., list[Device]]]] = {
    "queue": (ChunkQueue, queue_devices),
    "mesh": (Lockstep, mesh_devices),
}
"""By name: what trains, and what finds the devices that it trains on."""

_MAX_LEVELS = 32
"""How many values of a constant are looked at to find the largest model."""


def worker_places(used: Sequence[Device], executor: str) -> list[Place]:
    """Returns where each worker of an executor is, an entry each."""
    if executor == "mesh":
        return [DeviceMesh(tuple(used))]
    return [OneDevice(device) for device in worker_devices(used)]


class Parts(NamedTuple):
    """What a search is made of, checked, before anything is planned.

    Attributes:
        written: the space as the user wrote it.
        space: with the default of every name that it leaves out.
        data: the rows, split.
        objective: what is minimised and ranked.
        recipe: what all trials have in common.
        findings: which hyperparameters are structure and which are data.
        usage: which of them a trial uses.
    """

    written: Space
    space: Space
    data: Data
    objective: Objective
    recipe: Recipe
    findings: Findings
    usage: Usage

    @property
    def inherited(self) -> frozenset[str]:
        """What a trial takes over from its parent: the sizes and constants that its weights, and its program, have."""
        return frozenset({*self.findings.structural, *self.findings.sizes, "batch_size"})

    def planner(
        self,
        *,
        trials: int,
        epochs: int,
        kind: DeviceKind,
        chunk: int | str,
        measured: MeasuredTable | None = None,
    ) -> Planner:
        """Returns what plans ladders.

        Args:
            trials: declared, in all.
            epochs: of one trial at most.
            kind: of the devices to train on.
            chunk: lanes of every chunk, or "auto".
            measured: what is known of them, where it is not what vtune knows of their kind.
        """
        shapes, dtype = Shapes(self.data.inputs, self.data.outputs), self.data.dtype.name
        declared = self.data.num_train, trials, epochs, kind, dtype, chunk, self.recipe.matmul_precision
        return Planner(self.space, self.findings.structural, shapes, *declared, measured)

    def job(self, ladder: Ladder, root: UInt32[np.ndarray, "2"]) -> Job:
        """Returns what an executor needs; ``root`` are the words of the study's root key."""
        return Job(self.recipe, ladder, self.findings.traced, self.data, root, self.objective)

    def large_trials(self) -> list[dict[str, Any]]:
        """Returns complete trials, the largest model of the space among them; the first is that of its upper end."""
        rows = _large_rows(self.space, self.findings.structural)
        return [self.usage.complete(self.usage.used(row)) for row in rows]


def complete(space: Space, optimizer: str = DEFAULTS["optimizer"]) -> Space:
    """Returns the space with the default of every name that it leaves out, and the optimizer by its name.

    What varies keeps its order, so that a point of the one is a point of the other.
    """
    defaults = {**DEFAULTS, "optimizer": optimizer}
    return Space.of({**space.written, **{name: defaults[name] for name in defaults if name not in space.written}})


def check_amounts(trials: Any, epochs: Any, chunk: Any, executor: Any) -> None:
    """Refuses what no ladder is planned for; see ``search`` for the arguments.

    Raises:
        ValueError: for the first of them that makes no sense.
    """
    check_count("trials", trials, least=1, example=256)
    check_count("epochs", epochs, least=1, example=20)
    check_chunk(chunk)
    if not isinstance(executor, str) or executor not in EXECUTORS:
        raise ValueError(f"executor={executor!r} is not known; {did_you_mean(str(executor), EXECUTORS)}")


def make_parts(
    model_fn: ModelFn,
    space: Space | Mapping[str, Any],
    data: Any,
    *,
    optimizer: str | Optimizer = "adam",
    loss: str | RowLoss = "auto",
    metric: str | RowLoss = "auto",
    direction: str = "auto",
    select: str = "last",
    patience: int | None = None,
    seed: int = 0,
    matmul_precision: str | None = None,
) -> Parts:
    """Checks what a user gives, and finds out what model and optimizer read; see ``search`` for the arguments.

    Nothing is compiled.

    Raises:
        TypeError: the model function returns no Flax module, or the optimizer no Optax transformation.
        ValueError: for whatever cannot be searched or trained.
    """
    check_model_fn(model_fn)
    precision, written = told_precision(matmul_precision), Space.of(space)
    written.require_varying()
    _check_optimizer(optimizer, written)
    kind = kind_needed(loss, metric)
    held = split_data(data, partial(split_bits, seed_words(seed)), kind=kind)
    objective = make_objective(loss, metric, direction, select, held.kind, patience)
    whole = complete(written, optimizer if isinstance(optimizer, str) else DEFAULTS["optimizer"])
    _check_batch_size(whole, held, is_default="batch_size" not in written.entries)
    step = named if isinstance(optimizer, str) else optimizer
    recipe = Recipe(model_fn, step, objective.loss, objective.metrics, held.inputs, held.outputs, precision)
    y = held.train[1]
    findings = inspect(Probe(recipe, jax.ShapeDtypeStruct(y.shape[1:], y.dtype)), whole)
    refuse_unread(written, findings)
    held.warn_of_sizes(data, kind)
    return Parts(written, whole, held, objective, recipe, findings, Usage(whole, findings.reads))


def make_job(
    parts: Parts,
    *,
    root: UInt32[np.ndarray, "2"],
    trials: int,
    epochs: int,
    kind: DeviceKind,
    chunk: int | str = "auto",
    ladder: str = "auto",
) -> Job:
    """Returns what an executor needs, its ladder planned.

    Args:
        parts: what the search is made of.
        root: words of the study's root key.
        trials: declared, in all.
        epochs: of one trial at most.
        kind: of the devices to train on.
        chunk: lanes of every chunk, or "auto".
        ladder: JSON of one that was planned before, or "auto".

    Raises:
        ValueError: for a ladder that does not fit.
    """
    planner = parts.planner(trials=trials, epochs=epochs, kind=kind, chunk=chunk)
    return parts.job(make_ladder(parts, planner, ladder), root)


def make_ladder(parts: Parts, planner: Planner, ladder: str = "auto") -> Ladder:
    """Returns the ladder of a search.

    Args:
        parts: what the search is made of.
        planner: of these parts.
        ladder: JSON of one that was planned before, or "auto" for the cheapest.

    Raises:
        ValueError: for a ladder that does not fit.
    """
    warn_of_many_programs(parts.space, parts.findings)
    if ladder == "auto":
        return plan(parts, planner)
    given = Ladder.from_json(ladder)
    planner.check(given, parts.large_trials())
    return given


def plan(parts: Parts, planner: Planner) -> Ladder:
    """Returns the cheapest ladder."""
    if parts.findings.elastic:
        return planner.plan_elastic(parts.findings.elastic, parts.findings.sizes)
    return planner.plan_opaque(*largest_size(parts, planner))


def largest_size(parts: Parts, planner: Planner) -> tuple[int, int]:
    """Returns the weights of the largest network of a space, and about how many bytes a chunk takes for each lane."""
    alone = parts.job(planner.plan_opaque(1, 1), np.zeros(2, np.uint32))
    sizes = [_size(alone, trial) for trial in parts.large_trials()]
    num_weights, lane_bytes = (max(numbers) for numbers in zip(*sizes, strict=True))
    return num_weights, lane_bytes


def plan_one(parts: Parts, planner: Planner, trials: int) -> Ladder:
    """Returns a ladder of one rung, that of the largest shape of a space, whose chunks share these trials evenly.

    Raises:
        ValueError: where hyperparameters vary that must be constants of a program.
    """
    varying = [name for name in parts.findings.structural if name in parts.space.parameters]
    if varying:
        raise ValueError(
            f"{varying[0]!r} varies, and it must be a constant of a program, but this search is a single program. "
            f"Write one plain value for {', '.join(map(repr, varying))}, or use vtune.search."
        )
    elastic = parts.findings.elastic
    ladder = planner.plan_largest(elastic, parts.findings.sizes) if elastic else plan(parts, planner)
    (cell,) = ladder.cells
    num_chunks = -(-trials // min(trials, cell.lanes))
    return ladder._replace(cells=(cell._replace(lanes=-(-trials // num_chunks)),))


def _check_optimizer(optimizer: Any, space: Space) -> None:
    if callable(optimizer):
        if not isinstance(optimizer, Hashable):
            raise TypeError(
                f"optimizer={optimizer!r} cannot be hashed, and programs are remembered by it. Write a function."
            )
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
