"""The mesh: all devices train the same chunk in lockstep, each with its own lanes; also those of several hosts.

It compiles once for all of them, and uses no threads. Scores agree with the queue's within law Agreement, and not bit
for bit: XLA makes another program for several devices than for one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from vtune.protocols import ChunkResult, Hparams, LaneState, Plan, Rung
from vtune.training.devices import Device, describe, own
from vtune.training.job import Job
from vtune.training.places import DeviceMesh
from vtune.training.worker import Worker


@dataclass(frozen=True)
class Lockstep:
    """Trains plans of fresh trials on a mesh; an ``Executor``.

    Where JAX is distributed over several processes, all of them make the same calls with the same arguments, and all of
    them are told every result.

    Attributes:
        job: what is trained.
        devices: to train on, those of other processes included.
    """

    job: Job
    devices: Sequence[Device]

    def train(self, plan: Plan, hparams: Sequence[Hparams], on_chunk: Callable[[ChunkResult], None]) -> None:
        """Trains the active trials of ``plan``; see ``Executor.train``.

        Raises:
            ValueError: for a plan that continues trials, and for chunks that are larger than the device's memory.
        """
        chunks = self.job.chunks(plan, hparams, parts=len(self.devices))
        self.job.refuse_beyond_memory((chunk.rung for chunk in chunks), own(self.devices))
        for chunk in chunks:
            on_chunk(self.worker.train(chunk))

    def replay(self, hparams: Hparams, num_epochs: int) -> tuple[Rung, LaneState]:
        """Trains one trial again, to the same bits, and returns its rung and its lane on the host."""
        chunk = self.job.alone(hparams, num_epochs)
        return chunk.rung, self.worker.first_lane(chunk)

    def describe(self) -> str:
        """Returns the plan in one line."""
        return self.job.describe(f"a mesh of {describe(self.devices)}", len(self.devices))

    @cached_property
    def worker(self) -> Worker:
        """All devices together."""
        return Worker(DeviceMesh(tuple(self.devices)), self.job)
