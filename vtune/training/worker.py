"""One place at work: it holds the data, and trains one chunk after the other."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax import Array

from vtune.precision import float_precision
from vtune.protocols import Chunk, ChunkResult, LaneState, Rung
from vtune.training.cost import cost_table, epoch_seconds
from vtune.training.engine import ChunkInputs, Rows
from vtune.training.job import Job
from vtune.training.places import Place
from vtune.training.programs import Program, data_orders

_CALL_SECONDS = 1.0
"""What one call of a program aims at, so that a search can report, and stop, in between."""


@dataclass(frozen=True)
class Worker:
    """Trains chunks at one place.

    Attributes:
        place: a device, or a mesh of several.
        job: what is trained.
    """

    place: Place
    job: Job

    def train(self, chunk: Chunk, is_stopped: Callable[[], bool] = lambda: False) -> ChunkResult:
        """Trains a chunk to its budget, or as far as it got when told to stop."""
        with float_precision(self.job.data.dtype):
            self.job.program(chunk.rung).on(self.place)
            started, trials = time.perf_counter(), slice(len(chunk.trial_ids))
            curves, diverged_step = [], np.empty(0, np.int32)
            for states, part in self.calls(chunk):
                curves.append(part)
                diverged_step = self.place.fetch(states.diverged_step).copy()
                if is_stopped():
                    break
        seconds = time.perf_counter() - started
        return ChunkResult(chunk, np.concatenate(curves, axis=1)[trials], diverged_step[trials], seconds)

    def first_lane(self, chunk: Chunk) -> LaneState:
        """Trains a chunk to its budget and returns its first lane, on the host."""
        with float_precision(self.job.data.dtype):
            last = deque((states for states, _ in self.calls(chunk)), maxlen=1)
            return jax.tree.map(lambda leaf: self.place.fetch(leaf)[0].copy(), last.pop())

    def calls(self, chunk: Chunk) -> Iterator[tuple[LaneState, np.ndarray]]:
        """Trains a chunk call by call; yields its lanes, valid until the next call, and the curves of the call."""
        program, put = self.job.program(chunk.rung), self.place.put
        advance, inputs = program.on(self.place), self.inputs(program, chunk)
        states, epoch, window = self._take_memory(program), 0, self.job.signature.epochs_per_call
        while epoch < chunk.budget:
            started = time.perf_counter()
            count = min(chunk.budget - epoch, window - epoch % window, self._epochs_at_once(program))
            inputs = inputs._replace(orders=self._orders(epoch // window))
            states, curves = advance(states, inputs, put(np.int32(epoch)), put(np.int32(count)))
            yield states, self.place.fetch(curves)[:, :count]
            program.epoch_seconds = (time.perf_counter() - started) / count
            epoch += count
        self._memory[chunk.rung] = states

    def _epochs_at_once(self, program: Program) -> int:
        """How many epochs the next call takes: it decides when a search can stop, and no bits (law Segments)."""
        seconds = program.epoch_seconds
        if not self.place.is_within_process:  # where clocks differ, and all processes must make the same calls
            seconds = epoch_seconds(cost_table(self.place.kind), program.state_bytes, self.job.data.num_train)
        return 1 if seconds is None else max(1, int(_CALL_SECONDS / seconds))

    def inputs(self, program: Program, chunk: Chunk) -> ChunkInputs:
        """Returns what the first call of a chunk is given; lanes without a trial repeat the first one, idle."""
        num_trials, lanes = len(chunk.trial_ids), chunk.rung.lanes * self.place.parts
        rows = [*chunk.hparams, *[chunk.hparams[0]] * (lanes - num_trials)]
        columns = {name: np.array([row[name] for row in rows], dtype) for name, dtype in program.traced}
        columns, is_active = self.place.put_lanes((columns, np.arange(lanes) < num_trials))
        return ChunkInputs(columns, is_active, orders=self._orders(0), **self._constants)

    @cached_property
    def _constants(self) -> dict[str, Any]:
        """What the inputs of all chunks have in common, by name."""
        train, valid = (Rows(*map(self.place.put, part)) for part in self.job.data.scaled)
        numbers = {"root": self.job.root, "seed_index": np.int32(self.job.seed_index), "units": self.job.data.y_units}
        return {"train": train, "valid": valid, **self.place.put(numbers)}

    @cached_property
    def _memory(self) -> dict[Rung, LaneState]:
        """Lanes of the last chunk, whose memory the next one takes over if it is of the same rung."""
        return {}

    @cached_property
    def _known_orders(self) -> dict[int, Array]:
        return {}

    def _take_memory(self, program: Program) -> LaneState:
        lent = self._memory.pop(program.rung, None)
        self._memory.clear()
        if lent is not None:
            return lent
        parts = self.place.parts
        return self.place.put_lanes(
            jax.tree.map(lambda leaf: np.zeros((leaf.shape[0] * parts, *leaf.shape[1:]), leaf.dtype), program.states)
        )

    def _orders(self, window: int) -> Array:
        """The orders of the epochs of one window, of which the last two are kept."""
        if window not in self._known_orders:
            count = self.job.signature.epochs_per_call
            numbers = self.job.root, np.int32(self.job.seed_index), np.int32(window * count)
            orders = data_orders(*self.place.put(numbers), num_rows=self.job.data.num_train, num_epochs=count)
            self._known_orders[window] = self.place.put(orders)
            for old in list(self._known_orders)[:-2]:
                del self._known_orders[old]
        return self._known_orders[window]
