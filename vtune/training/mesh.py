"""The mesh: all devices train the same chunk in lockstep, each with its own lanes; also those of several hosts.

It compiles once for all of them, and uses no threads. Scores agree with the queue's within law Agreement, and not bit
for bit: XLA makes another program for several devices than for one.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from vtune.garbage import collected_later
from vtune.protocols import Chunk, ChunkResult, LaneState, Rung, Training
from vtune.training.devices import Device, describe, device_bytes, own
from vtune.training.draws import Draws
from vtune.training.job import Job
from vtune.training.places import DeviceMesh
from vtune.training.weights import Weights
from vtune.training.worker import Worker


@dataclass(frozen=True)
class Lockstep:
    """Trains on a mesh; an ``Executor``.

    Where JAX is distributed over several processes, all of them make the same calls with the same arguments, and all of
    them are told every result.

    Attributes:
        job: what is trained.
        devices: to train on, those of other processes included.
    """

    job: Job
    devices: Sequence[Device]

    def train(
        self, trainings: Sequence[Training], on_chunk: Callable[[ChunkResult], Sequence[Training] | None]
    ) -> None:
        """Trains, packed into chunks; see ``Executor.train``.

        Raises:
            ValueError: for chunks that are larger than the device's memory.
        """
        waiting = deque(self._chunks(trainings))
        while waiting:
            waiting.extend(self._chunks(on_chunk(self.worker.train(waiting.popleft())) or ()))

    def replay(self, training: Training) -> tuple[Rung, LaneState]:
        """Trains one trial again, to the same bits, and returns its rung and its lane on the host."""
        (chunk,) = self._chunks([training])
        return chunk.rung, self.worker.lanes_after(chunk)[0]

    def keep_only(self, trial_ids: Collection[int]) -> None:
        """Lets go of the weights of all other trials."""
        self.worker.weights.keep_only(trial_ids)

    @property
    def num_parallel(self) -> int:
        """How many chunks are trained at the same time: the devices share each."""
        return 1

    @property
    def num_parts(self) -> int:
        """How many times the lanes of its rung a full chunk holds: each device has so many."""
        return len(self.devices)

    def _chunks(self, trainings: Sequence[Training]) -> list[Chunk]:
        with collected_later():
            chunks = self.job.chunks(trainings, parts=self.num_parts)
        self.job.refuse_beyond_memory((chunk.rung for chunk in chunks), device_bytes(own(self.devices)))
        return chunks

    def describe(self) -> str:
        """Returns the plan in one line."""
        return self.job.describe(f"a mesh of {describe(self.devices)}", len(self.devices))

    @cached_property
    def worker(self) -> Worker:
        """All devices together."""
        place = DeviceMesh(tuple(self.devices))
        return Worker(place, self.job, Weights(), Draws(place, self.job, num_workers=1))
