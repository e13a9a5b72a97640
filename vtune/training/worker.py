"""One device at work: it holds the data, and trains one chunk after the other."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax import Array
from jaxtyping import UInt32

from vtune.data import Data
from vtune.precision import float_precision
from vtune.protocols import Chunk, ChunkResult, LaneState, Rung
from vtune.training.devices import Device
from vtune.training.engine import ChunkInputs, Rows
from vtune.training.programs import Program, Signature, data_orders

_CALL_SECONDS = 1.0
"""What one call of a program aims at, so that a search can report, and stop, in between."""


@dataclass(frozen=True)
class Worker:
    """Trains chunks on one device.

    Attributes:
        device: where.
        data: rows to train and to measure on.
        root: words of the study's root key.
        seed_index: which of the study's seeds.
        signature: of the programs.
        program: returns the program of a rung.
    """

    device: Device
    data: Data
    root: UInt32[np.ndarray, "2"]
    seed_index: int
    signature: Signature
    program: Callable[[Rung], Program]

    def train(self, chunk: Chunk, is_stopped: Callable[[], bool] = lambda: False) -> ChunkResult:
        """Trains a chunk to its budget, or as far as it got when told to stop."""
        with float_precision(self.data.dtype):
            self.program(chunk.rung).on(self.device)
            started, trials = time.perf_counter(), slice(len(chunk.trial_ids))
            curves, diverged_step = [], np.empty(0, np.int32)
            for states, part in self.calls(chunk):
                curves.append(part)
                diverged_step = np.array(states.diverged_step)
                if is_stopped():
                    break
        seconds = time.perf_counter() - started
        return ChunkResult(chunk, np.concatenate(curves, axis=1)[trials], diverged_step[trials], seconds)

    def first_lane(self, chunk: Chunk) -> LaneState:
        """Trains a chunk to its budget and returns its first lane, on the host."""
        with float_precision(self.data.dtype):
            last = deque((states for states, _ in self.calls(chunk)), maxlen=1)
        return jax.tree.map(lambda leaf: np.array(leaf)[0], last.pop())

    def calls(self, chunk: Chunk) -> Iterator[tuple[LaneState, np.ndarray]]:
        """Trains a chunk call by call; yields its lanes, valid until the next call, and the curves of the call."""
        program = self.program(chunk.rung)
        advance, inputs = program.on(self.device), self.inputs(program, chunk)
        states, epoch, window = self._take_memory(program), 0, self.signature.epochs_per_call
        while epoch < chunk.budget:
            started = time.perf_counter()
            count = min(chunk.budget - epoch, window - epoch % window, self._epochs_at_once(program))
            inputs = inputs._replace(orders=self._orders(epoch // window))
            states, curves = advance(states, inputs, self._put(np.int32(epoch)), self._put(np.int32(count)))
            yield states, np.asarray(curves)[:, :count]
            program.epoch_seconds = (time.perf_counter() - started) / count
            epoch += count
        self._memory[chunk.rung] = states

    def _epochs_at_once(self, program: Program) -> int:
        """How many epochs the next call takes: it decides when a search can stop, and no bits (law Segments)."""
        if program.epoch_seconds is None:
            return 1
        return max(1, int(_CALL_SECONDS / program.epoch_seconds))

    def inputs(self, program: Program, chunk: Chunk) -> ChunkInputs:
        """Returns what the first call of a chunk is given; lanes without a trial repeat the first one, idle."""
        num_trials, lanes = len(chunk.trial_ids), chunk.rung.lanes
        rows = [*chunk.hparams, *[chunk.hparams[0]] * (lanes - num_trials)]
        columns = {name: np.array([row[name] for row in rows], dtype) for name, dtype in program.traced}
        is_active = np.arange(lanes) < num_trials
        root, seed_index, *data_and_units = self._constants
        lanes_and_keys = self._put(columns), self._put(is_active), root, seed_index
        return ChunkInputs(*lanes_and_keys, self._orders(0), *data_and_units)

    @cached_property
    def _constants(self) -> tuple[Any, ...]:
        train, valid = (Rows(*map(self._put, part)) for part in self.data.scaled)
        units = self._put(self.data.y_units)
        return self._put(self.root), self._put(np.int32(self.seed_index)), train, valid, units

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
        return self._put(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), program.states))

    def _orders(self, window: int) -> Array:
        """The orders of the epochs of one window, of which the last two are kept."""
        if window not in self._known_orders:
            count = self.signature.epochs_per_call
            numbers = self.root, np.int32(self.seed_index), np.int32(window * count)
            orders = data_orders(*self._put(numbers), num_rows=self.data.num_train, num_epochs=count)
            self._known_orders[window] = self._put(orders)
            for old in list(self._known_orders)[:-2]:
                del self._known_orders[old]
        return self._known_orders[window]

    def _put(self, tree: Any) -> Any:
        return jax.device_put(tree, self.device)
