"""Populations of MLPs on a slice of the digits, for the laws of training."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vtune.data import Data
from vtune.defaults import DEFAULTS
from vtune.keys import seed_words
from vtune.precision import float_precision
from vtune.protocols import Chunk, ChunkResult, LaneState, Leg, Rung, Training
from vtune.training.devices import kind_of
from vtune.training.mlp import MLP
from vtune.training.queue import ChunkQueue
from vtune.training.setup import EXECUTORS, make_job, make_parts

ROOT = seed_words(11)


def digits(num_train: int = 416, num_valid: int = 151) -> Data:
    """The first rows of the digits; 416 rows are 13 batches of 32, 11 of 37, 4 of 96 and 2 of 200."""
    whole = Data.of(None, key=jax.random.key(0, impl="threefry2x32"))
    return Data(
        train=tuple(part[:num_train] for part in whole.train), valid=tuple(part[:num_valid] for part in whole.valid)
    )


def make_queue(space: Mapping[str, Any], data: Data | None = None, **options: Any) -> ChunkQueue:
    """The executor that a search over this space would have."""
    settings = {"trials": 64, "epochs": 20, "chunk": "auto", "ladder": "auto", "kind": None}
    settings |= {name: options.pop(name) for name in list(options) if name in settings}
    devices, executor = options.pop("devices", jax.devices()[:1]), options.pop("executor", "queue")
    parts = make_parts(options.pop("model_fn", MLP), space, data or digits(), **options)
    settings["kind"] = settings["kind"] or kind_of(devices[0])
    make_executor, _ = EXECUTORS[executor]
    return make_executor(make_job(parts, root=ROOT, **settings), devices)


def trainings_of(
    rows: Sequence[Mapping[str, Any]], epochs: int, ids: Sequence[int] | None = None, seed_index: int = 0
) -> list[Training]:
    """Trains these trials from new weights on."""
    numbered = zip(range(len(rows)) if ids is None else ids, complete(rows), strict=True)
    return [Training((Leg(trial_id, row, epochs),), seed_index) for trial_id, row in numbered]


def complete(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**DEFAULTS, **row} for row in rows]


def train(
    queue: ChunkQueue, rows: Sequence[Mapping[str, Any]], epochs: int, ids: Sequence[int] | None = None
) -> dict[int, np.ndarray]:
    """Trains the trials and returns their curves by trial id."""
    results: list[ChunkResult] = []
    queue.train(trainings_of(rows, epochs, ids), results.append)
    return {
        training.trial_id: curves
        for result in results
        for training, curves in zip(result.chunk.trainings, result.curves, strict=True)
    }


def final_states(queue: ChunkQueue, rows: Sequence[Mapping[str, Any]], epochs: int) -> list[tuple[Rung, LaneState]]:
    """Trains the trials and returns rung and lane of each, in the order of the rows."""
    lanes: dict[int, tuple[Rung, LaneState]] = {}
    for chunk in queue.job.chunks(trainings_of(rows, epochs)):
        *_, states = (jax.device_get(states) for states, _ in queue.workers[0].calls(chunk))
        for place, training in enumerate(chunk.trainings):
            lanes[training.trial_id] = chunk.rung, jax.tree.map(lambda leaf, place=place: leaf[place], states)
    return [lanes[trial_id] for trial_id in range(len(rows))]


def initial_lane(queue: ChunkQueue, row: Mapping[str, Any]) -> tuple[Rung, LaneState]:
    """Rung and lane of a trial before its first epoch."""
    (chunk,) = queue.job.chunks(trainings_of([row], 1))
    return chunk.rung, first_lane(queue, chunk)


def first_lane(queue: ChunkQueue, chunk: Chunk) -> LaneState:
    worker, program = queue.workers[0], queue.job.program(chunk.rung)
    states = program.initial(worker.inputs(program, chunk))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], states)


def float64() -> contextlib.AbstractContextManager[None]:
    """x64 mode for this thread."""
    return float_precision(np.dtype(np.float64))
