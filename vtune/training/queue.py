"""The chunk queue: every worker, a thread, takes the next chunk and calls the one-device program of its rung.

Workers wait for nobody, and whoever has a device for itself has the next program compiled meanwhile. Every chunk is the
same program on the same numbers wherever and whenever it runs. So the bits do not depend on how many devices there are
or on how the chunks were dealt.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from queue import SimpleQueue
from typing import Any

from vtune.garbage import collected_later
from vtune.protocols import Chunk, ChunkResult, LaneState, Rung, Training
from vtune.training.cost import cost_table
from vtune.training.dealer import Dealer
from vtune.training.devices import Device, describe, device_bytes, kind_of, num_cores, worker_devices
from vtune.training.draws import Draws
from vtune.training.job import Job
from vtune.training.places import OneDevice
from vtune.training.programs import Stopped
from vtune.training.weights import Weights
from vtune.training.worker import Worker

TRAINING, COMPILING, DRAWING = "vtune trains", "vtune compiles", "vtune draws"
"""Names of threads: of workers, of those who compile for a worker while it trains, and of those who draw for all."""

_IDLE_SECONDS = 0.05
"""How long a worker without a chunk waits before it asks again, where none are added."""


@dataclass(frozen=True)
class ChunkQueue:
    """Trains on local devices; an ``Executor``.

    Attributes:
        job: what is trained.
        devices: to train on.
    """

    job: Job
    devices: Sequence[Device]

    def train(
        self, trainings: Sequence[Training], on_chunk: Callable[[ChunkResult], Sequence[Training] | None]
    ) -> None:
        """Trains, packed into chunks; see ``Executor.train``.

        Raises:
            ValueError: for chunks that are larger than a worker's share of the device's memory.
        """
        chunks = self._chunks(trainings)
        table = cost_table(kind_of(self.devices[0]))
        places = [worker.place for worker in self.workers]
        dealer = Dealer(chunks, places, self.job.program, table, self.job.data.num_train)
        results, stop, num_open = SimpleQueue(), threading.Event(), len(chunks)
        has_room = kind_of(self.devices[0]).is_accelerator or len(self.workers) < num_cores()
        alone = [worker for worker in self.workers if places.count(worker.place) == 1] if has_room else []
        tasks = [(TRAINING, partial(_work, worker, dealer, results, stop)) for worker in self.workers]
        tasks += [(COMPILING, partial(_compile_ahead, worker, dealer, stop)) for worker in alone]
        shared = {worker.draws for worker in self.workers[: len(chunks)]}
        tasks += [(DRAWING, partial(_draw, draws, chunks[0], stop)) for draws in shared]
        threads = [threading.Thread(target=task, name=name, daemon=True) for name, task in tasks]
        try:
            for thread in threads:
                thread.start()
            while num_open:
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                more = self._chunks(on_chunk(result) or ())
                dealer.add(more)
                num_open += len(more) - 1
        finally:
            stop.set()
            dealer.notify()  # who waits for chunks sees that there are none to come
            for thread in threads:
                if thread.ident is not None:  # it was started
                    thread.join()

    def replay(self, training: Training) -> tuple[Rung, LaneState]:
        """Trains one trial again, to the same bits, and returns its rung and its lane on the host."""
        (chunk,) = self.job.chunks([training])
        return chunk.rung, self.workers[0].lanes_after(chunk)[0]

    def keep_only(self, trial_ids: Collection[int]) -> None:
        """Lets go of the weights of all other trials."""
        self.weights.keep_only(trial_ids)

    def describe(self) -> str:
        """Returns the plan in one line."""
        return self.job.describe(describe(self.devices), self.num_parallel)

    @property
    def num_parallel(self) -> int:
        """How many chunks are trained at the same time."""
        return len(self.workers)

    @property
    def num_parts(self) -> int:
        """How many times the lanes of its rung a full chunk holds: a worker has a chunk for itself."""
        return 1

    def _chunks(self, trainings: Sequence[Training]) -> list[Chunk]:
        with collected_later():
            chunks = self.job.chunks(trainings)
        self.job.refuse_beyond_memory((chunk.rung for chunk in chunks), self._bytes_of_a_worker)
        return chunks

    @cached_property
    def _bytes_of_a_worker(self) -> int:
        """Of memory: of a device that several work on, each has a share."""
        return device_bytes(self.devices[0]) * len(self.devices) // len(self.workers)

    @cached_property
    def weights(self) -> Weights:
        """Of trials that may be trained further, whichever device trained them."""
        return Weights()

    @cached_property
    def workers(self) -> list[Worker]:
        """What trains chunks side by side."""
        places = Counter(OneDevice(device) for device in worker_devices(self.devices))
        draws = {place: Draws(place, self.job, num_workers) for place, num_workers in places.items()}
        return [Worker(place, self.job, self.weights, draws[place]) for place in places.elements()]


def _work(worker: Worker, dealer: Dealer, results: SimpleQueue[Any], stop: threading.Event) -> None:
    """Trains chunks until told to stop; an error goes to the caller's thread."""
    try:
        while not stop.is_set():
            chunk = dealer.take(worker.place)
            if chunk is None:
                dealer.wait(_IDLE_SECONDS)
                continue
            if not worker.job.program(chunk.rung).is_compiled_for(worker.place):
                worker.prepare(chunk.rung, stop.is_set)
                dealer.notify()  # others of this place can train that rung too
            results.put(worker.train(chunk, stop.is_set))
    except Stopped:
        pass
    except BaseException as error:  # whatever it is, it is raised again where the plan was asked for
        results.put(error)


def _compile_ahead(worker: Worker, dealer: Dealer, stop: threading.Event) -> None:
    """Compiles what a worker will need while it trains, until told to stop.

    What cannot be compiled beside a training, perhaps as there is no room for both, is left to the worker; so is the
    error, if there is one.
    """
    while not stop.is_set():
        rung = dealer.take_rung(worker.place)
        if rung is None:
            dealer.wait(_IDLE_SECONDS)
            continue
        try:
            worker.prepare(rung, stop.is_set)
        except Exception:
            dealer.give_back(worker.place, rung)
            return
        dealer.notify()


def _draw(draws: Draws, chunk: Chunk, stop: threading.Event) -> None:
    """Draws what a chunk's first call takes, while the first programs are traced, one after the other, and compiled.

    An error is left to the worker that needs the draws, and makes them again.
    """
    if not stop.is_set():
        with suppress(Exception):
            draws.of(chunk.seed_index, chunk.start)
