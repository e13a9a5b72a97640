"""One place at work: it holds the data, and trains one chunk after the other."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from vtune.precision import float_precision
from vtune.protocols import IDLE, Chunk, ChunkResult, LaneState, Moment, Rung, Training
from vtune.training.cost import cost_table, epoch_seconds
from vtune.training.draws import Draws
from vtune.training.engine import ChunkInputs, Rows
from vtune.training.job import Job
from vtune.training.places import Place
from vtune.training.programs import Program, Stopped
from vtune.training.weights import Weights

_CALL_SECONDS = 1.0
"""What one call of a program aims at, so that a search can report, and stop, in between."""


def _never() -> bool:
    return False


def _is_brief(chunk: Chunk) -> bool:
    return all(training.is_brief for training in chunk.trainings)


@dataclass(frozen=True)
class Worker:
    """Trains chunks at one place.

    Attributes:
        place: a device, or a mesh of several.
        job: what is trained.
        weights: of trials that may be trained further.
        draws: of the job at this place.
    """

    place: Place
    job: Job
    weights: Weights
    draws: Draws

    def prepare(self, rung: Rung, is_stopped: Callable[[], bool] = _never) -> None:
        """Compiles the program of a rung for this place, if it is not compiled yet.

        Raises:
            Stopped: when told so.
        """
        with float_precision(self.job.data.dtype):
            self.job.program(rung).on(self.place, is_stopped)

    def train(self, chunk: Chunk, is_stopped: Callable[[], bool] = _never) -> ChunkResult:
        """Trains a chunk to its budget, or until patience with all its trainings ran out.

        Args:
            chunk: what to train.
            is_stopped: asked before and after compiling and after each call, also where earlier legs are trained again.

        Raises:
            Stopped: when told so.
        """
        self.prepare(chunk.rung, is_stopped)
        with float_precision(self.job.data.dtype):
            if is_stopped():
                raise Stopped
            begun = self._begin(chunk, is_stopped)
            jax.block_until_ready(self.draws.of(chunk.seed_index, chunk.start))  # to wait for these is not to train
            started = time.perf_counter()
            trials, curves, diverged_step = slice(len(chunk.trainings)), [], np.empty(0, np.int32)
            for states, part in self._calls(chunk, begun):
                curves.append(part)
                diverged_step = self.place.fetch(states.diverged_step).copy()
                if is_stopped():
                    raise Stopped
                if self._is_over(chunk, curves):
                    break
        seconds = time.perf_counter() - started
        return ChunkResult(chunk, np.concatenate(curves, axis=1)[trials], diverged_step[trials], seconds)

    def lanes_after(self, chunk: Chunk) -> list[LaneState]:
        """Trains a chunk and returns its lanes as they are then, on the host."""
        with float_precision(self.job.data.dtype):
            return self._trained(chunk, self._begin(chunk))

    def calls(self, chunk: Chunk) -> Iterator[tuple[LaneState, np.ndarray]]:
        """Trains a chunk call by call; yields its lanes, valid until the next call, and the curves of the call."""
        return self._calls(chunk, self._begin(chunk))

    def _calls(self, chunk: Chunk, states: LaneState) -> Iterator[tuple[LaneState, np.ndarray]]:
        program, hand_in = self.job.program(chunk.rung), self.place.hand_in
        advance, inputs = program.on(self.place), self.inputs(program, chunk)
        epoch, window = chunk.start, self.job.signature.epochs_per_call
        while epoch < chunk.until:
            count = min(chunk.until - epoch, window - epoch % window, self._epochs_at_once(program, chunk))
            inputs = inputs._replace(orders=self.draws.of(chunk.seed_index, epoch).orders)
            started = time.perf_counter()
            states, curves = advance(states, inputs, hand_in(np.int32(epoch)), hand_in(np.int32(count)))
            yield states, self.place.fetch(curves)[:, :count]
            program.epoch_seconds = (time.perf_counter() - started) / count
            epoch += count
        if any(training.is_kept for training in chunk.trainings):
            self._keep(chunk, states)
        self._memory[chunk.rung] = states

    def _is_over(self, chunk: Chunk, parts: Sequence[np.ndarray]) -> bool:
        """Whether nobody waits for the rest of a chunk: patience with all its trainings ran out."""
        if not _is_brief(chunk):
            return False
        curves = np.concatenate(parts, axis=1)[: len(chunk.trainings)]
        return all(self.job.objective.stop(curve) is not None for curve in curves)

    def _epochs_at_once(self, program: Program, chunk: Chunk) -> int:
        """How many epochs the next call takes: it decides when a search can stop, and no bits (law Segments)."""
        seconds = program.epoch_seconds
        if not self.place.is_within_process:  # where clocks differ, and all processes must make the same calls
            seconds = epoch_seconds(cost_table(self.place.kind), program.state_bytes, self.job.data.num_train)
        count = 1 if seconds is None else max(1, int(_CALL_SECONDS / seconds))
        return min(count, self.job.objective.patience or count) if _is_brief(chunk) else count

    def inputs(self, program: Program, chunk: Chunk) -> ChunkInputs:
        """Returns what the first call of a chunk is given; lanes without a trial repeat the first one, idle."""
        num_trials, lanes = len(chunk.trainings), self._num_lanes(chunk)
        rows = [training.hparams for training in chunk.trainings] + [chunk.trainings[0].hparams] * (lanes - num_trials)
        columns = {name: np.array([row[name] for row in rows], dtype) for name, dtype in program.traced}
        columns, is_active = self.place.hand_in_lanes((columns, np.arange(lanes) < num_trials))
        return ChunkInputs(columns, is_active, *self.draws.of(chunk.seed_index, chunk.start), **self._constants)

    @cached_property
    def _constants(self) -> dict[str, Any]:
        """What the inputs of all chunks have in common, by name."""
        train, valid = (Rows(*map(self.place.put, part)) for part in self.job.data.scaled)
        return {"train": train, "valid": valid, "units": self.place.put(self.job.data.y_units)}

    @cached_property
    def _memory(self) -> dict[Rung, LaneState]:
        """Lanes of the last chunk, whose memory the next one takes over if it is of the same rung."""
        return {}

    def _num_lanes(self, chunk: Chunk) -> int:
        return chunk.rung.lanes * self.place.parts

    def _begin(self, chunk: Chunk, is_stopped: Callable[[], bool] = _never) -> LaneState:
        """Returns the lanes that the first call is given; legs that are not known any more are trained again."""
        lanes, lost = self._before(chunk)
        last_use = {
            training.before.end: place
            for place, later in enumerate((*lost, chunk))
            for training in later.trainings
            if training.start
        }
        for place, again in enumerate(lost):
            trained = self._trained(again, self._put(again, lanes), is_stopped)
            lanes.update(zip((training.end for training in again.trainings), trained, strict=True))
            lanes = {end: lane for end, lane in lanes.items() if last_use[end] > place}
        return self._put(chunk, lanes)

    def _before(self, chunk: Chunk) -> tuple[dict[Moment, LaneState], list[Chunk]]:
        """Returns the lanes that a chunk goes on from, as far as they are known, and else what leads to it in order."""
        lanes: dict[Moment, LaneState] = {}
        missing: dict[Moment, Training] = {}
        needed = [training.before for training in reversed(chunk.trainings) if training.start]
        while needed:
            before = needed.pop()
            if before.end in lanes or before.end in missing:
                continue
            if (lane := self.weights.get(before)) is not None:
                lanes[before.end] = lane
            else:
                missing[before.end] = before
                needed += [before.before] if before.start else []
        return lanes, self.job.chunks(sorted(missing.values(), key=lambda lost: lost.until), self.place.parts)

    def _put(self, chunk: Chunk, known: Mapping[Moment, LaneState]) -> LaneState:
        """Returns the lanes of a chunk at this place: where its trainings go on from, or memory for new ones."""
        if chunk.start == 0:
            return self._take_memory(self.job.program(chunk.rung))
        self._memory.clear()
        lanes = [known[training.before.end] for training in chunk.trainings]
        idle = lanes[0]._replace(status=np.full_like(lanes[0].status, IDLE))
        lanes += [idle] * (self._num_lanes(chunk) - len(lanes))
        return self.place.put_lanes(jax.tree.map(lambda *leaves: np.stack(leaves), *lanes))

    def _trained(self, chunk: Chunk, states: LaneState, is_stopped: Callable[[], bool] = _never) -> list[LaneState]:
        """Trains a chunk from these lanes on to its end, and returns its lanes on the host."""
        for after, _ in self._calls(chunk, states):
            if is_stopped():
                raise Stopped
            states = after
        return self._lanes(chunk, states)

    def _lanes(self, chunk: Chunk, states: LaneState) -> list[LaneState]:
        """Returns the lanes of a chunk on the host."""
        fetched = jax.tree.map(self.place.fetch, states)
        places = range(len(chunk.trainings))
        return [jax.tree.map(lambda leaf, place=place: leaf[place].copy(), fetched) for place in places]

    def _keep(self, chunk: Chunk, states: LaneState) -> None:
        for training, lane in zip(chunk.trainings, self._lanes(chunk, states), strict=True):
            if training.is_kept:
                self.weights.put(training, lane)

    def _take_memory(self, program: Program) -> LaneState:
        lent = self._memory.pop(program.rung, None)
        self._memory.clear()
        if lent is not None:
            return lent
        parts = self.place.parts
        return self.place.put_lanes(
            jax.tree.map(lambda leaf: np.zeros((leaf.shape[0] * parts, *leaf.shape[1:]), leaf.dtype), program.states)
        )
