"""The chunk queue: a thread a device takes the next chunk and calls the one-device program of its rung.

Devices share nothing and wait for nobody, and every chunk is the same program on the same numbers wherever and
whenever it runs. So the bits do not depend on how many devices there are or on how the chunks were dealt.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from queue import SimpleQueue
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt32

from vtune.arrays import Part
from vtune.data import Data
from vtune.protocols import FRESH, Chunk, ChunkResult, Hparams, LaneState, Plan, Rung
from vtune.training.cost import cost_table
from vtune.training.dealer import Dealer
from vtune.training.devices import Device, kind_of, num_cores
from vtune.training.ladder import Ladder
from vtune.training.memory import device_bytes
from vtune.training.programs import Program, Signature, epochs_per_call, fingerprint, program
from vtune.training.task import Recipe
from vtune.training.worker import Worker

_IDLE_SECONDS = 0.05
"""How long a worker without a chunk waits before it asks again."""


@dataclass(frozen=True)
class ChunkQueue:
    """Trains plans of fresh trials on local devices; an ``Executor``.

    Attributes:
        recipe: what all trials have in common.
        ladder: which trials share a program.
        traced: name and dtype of each hyperparameter that is data.
        data: rows to train and to measure on.
        root: words of the study's root key.
        devices: to train on.
        seed_index: which of the study's seeds.
    """

    recipe: Recipe
    ladder: Ladder
    traced: tuple[tuple[str, str], ...]
    data: Data
    root: UInt32[np.ndarray, "2"]
    devices: Sequence[Device]
    seed_index: int = 0

    def train(self, plan: Plan, hparams: Sequence[Hparams], on_chunk: Callable[[ChunkResult], None]) -> None:
        """Trains the active trials of ``plan``; see ``Executor.train``.

        Raises:
            ValueError: for a plan that continues trials, whose weights this queue does not keep, and for chunks that
                are larger than the device's memory.
        """
        if np.any((np.asarray(plan.parent) != FRESH) & np.asarray(plan.active)):
            raise ValueError("this plan continues trials, but the chunk queue trains fresh ones. Set parent=FRESH.")
        chunks = self.chunks(plan, hparams)
        for rung in {chunk.rung for chunk in chunks}:
            self._refuse_beyond_memory(rung)
        table = cost_table(kind_of(self.devices[0]))
        dealer = Dealer(chunks, self.devices, self.program, table, self.data.num_train)
        results, stop = SimpleQueue(), threading.Event()
        threads = [threading.Thread(target=_work, args=(w, dealer, results, stop), daemon=True) for w in self.workers]
        try:
            for thread in threads:
                thread.start()
            for _ in chunks:
                result = results.get()
                if isinstance(result, BaseException):
                    raise result
                on_chunk(result)
        finally:
            stop.set()
            for thread in threads:
                if thread.ident is not None:  # it was started
                    thread.join()

    def replay(self, hparams: Hparams, num_epochs: int) -> tuple[Rung, LaneState]:
        """Trains one trial again, to the same bits, and returns its rung and its lane on the host."""
        chunk = Chunk(self.ladder.rung(hparams), (0,), (hparams,), num_epochs)
        return chunk.rung, self.workers[0].first_lane(chunk)

    def chunks(self, plan: Plan, hparams: Sequence[Hparams]) -> list[Chunk]:
        """Packs the active trials of a plan into chunks of one rung and one budget, in the order of the plan."""
        groups: dict[tuple[Rung, int], list[int]] = {}
        for lane in np.flatnonzero(plan.active).tolist():
            groups.setdefault((self.ladder.rung(hparams[lane]), int(plan.budget[lane])), []).append(lane)
        ids = np.asarray(plan.trial_id).tolist()
        return [
            Chunk(rung, tuple(ids[lane] for lane in lanes), tuple(hparams[lane] for lane in lanes), budget)
            for (rung, budget), members in groups.items()
            for lanes in (members[first : first + rung.lanes] for first in range(0, len(members), rung.lanes))
        ]

    def describe(self) -> str:
        """Returns the plan in one line: programs, chunks, devices, expected time."""
        lanes = sorted({cell.lanes for cell in self.ladder.cells})
        chunks = f"{lanes[0]}" if len(lanes) == 1 else f"{lanes[0]} to {lanes[-1]}"
        count, platform = len(self.devices), self.devices[0].platform
        devices = f"{count} {platform} device{'s' if count > 1 else ''}"
        seconds = self.ladder.expected_seconds / count
        return f"plan: {self.ladder.describe()}, chunks of {chunks} trials, on {devices}; about {seconds:.0f} s"

    def program(self, rung: Rung) -> Program:
        """Returns the program of a rung for these data."""
        if rung not in self._programs:
            mark = fingerprint(self.recipe, rung, self._signature)
            self._programs[rung] = program(self.recipe, rung, self._signature, mark)
        return self._programs[rung]

    @cached_property
    def _programs(self) -> dict[Rung, Program]:
        return {}

    def _refuse_beyond_memory(self, rung: Rung) -> None:
        needed, held = self.program(rung).estimated_bytes, device_bytes(self.devices[0])
        if needed > held:
            raise ValueError(
                f"a chunk of {rung.lanes} trials would take about {needed / 2**30:.1f} GiB, but a device has "
                f"{held / 2**30:.1f} GiB. Write chunk={max(1, rung.lanes * held // (2 * needed))}."
            )

    @cached_property
    def _signature(self) -> Signature:
        train, valid = map(_shapes_of, self.data.scaled)  # and so they are scaled once, before there are threads
        has_units = self.data.y_units is not None
        return Signature(self.traced, train, valid, epochs_per_call(self.data.num_train), has_units)

    @cached_property
    def workers(self) -> list[Worker]:
        """One a device. A CPU that was not split into a device a core gets a worker a core."""
        devices = list(self.devices)
        if devices[0].platform == "cpu" and len(jax.local_devices()) == 1:
            devices *= num_cores()
        setting = (self.data, self.root, self.seed_index, self._signature, self.program)
        return [Worker(device, *setting) for device in devices]


def _shapes_of(part: Part) -> tuple[tuple[tuple[int, ...], str], ...]:
    return tuple((array.shape, array.dtype.name) for array in part)


def _work(worker: Worker, dealer: Dealer, results: SimpleQueue[Any], stop: threading.Event) -> None:
    """Trains chunks until all are dealt; an error goes to the caller's thread."""
    try:
        while not (stop.is_set() or dealer.is_empty):
            chunk = dealer.take(worker.device)
            if chunk is None:
                stop.wait(_IDLE_SECONDS)
                continue
            result = worker.train(chunk, stop.is_set)
            if not stop.is_set():
                results.put(result)
    except BaseException as error:  # whatever it is, it is raised again where the plan was asked for
        results.put(error)
