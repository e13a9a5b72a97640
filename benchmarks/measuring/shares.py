"""Where the time of a search goes: what is traced, compiled, trained, evaluated, waited for and stored."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import jax

from measuring.repeating import seconds_a_turn
from measuring.workers import COMPILING, heard, recorded, replaced
from vtune.calibration import side_by_side
from vtune.protocols import Chunk, ChunkResult
from vtune.saves import Saves
from vtune.study import Study
from vtune.training.devices import compiler_options
from vtune.training.engine import Engine
from vtune.training.programs import Program
from vtune.training.queue import TRAINING, ChunkQueue


class Shares(NamedTuple):
    """Seconds of all workers together, from the call of a search to its return.

    Attributes:
        setting_up: before they are given anything: checks, looking into the model, planning, the first trials.
        tracing: and lowering, or fetching what was traced; with waiting for another worker's, as Python runs one.
        compiling: or fetching what was compiled, of rungs; what draws the order of rows compiles beside the workers.
        training: without the next.
        evaluating: on validation rows, as it takes by itself, with all workers busy.
        queueing: what is left: waiting for draws, for a chunk or for the last one of others, and what follows the last.
        storing: of the search's own thread, which writes beside the workers, or after the last chunk, while they queue.
    """

    setting_up: float
    tracing: float
    compiling: float
    training: float
    evaluating: float
    queueing: float
    storing: float


class Watch:
    """What is seen of one search while it runs."""

    def __init__(self) -> None:
        """Nothing is seen yet."""
        self.begun, self.given, self.storing = time.perf_counter(), 0.0, 0.0
        self.making: list[float] = []
        self.compiled: list[float] = []
        self.results: Sequence[ChunkResult] = []

    def shares(self, study: Study) -> Shares:
        """Returns where the time went, now that it is over."""
        workers = study.executor.num_parallel
        whole = workers * (time.perf_counter() - self.begun)
        setting_up, working = workers * (self.given - self.begun), sum(result.seconds for result in self.results)
        evaluating = evaluation_seconds(study, self.results)
        queueing = whole - setting_up - sum(self.making) - working
        return Shares(
            setting_up,
            sum(self.making) - sum(self.compiled),
            sum(self.compiled),
            working - evaluating,
            evaluating,
            queueing,
            self.storing,
        )


@contextmanager
def watched() -> Iterator[Watch]:
    """Watches the search within; call ``shares`` as soon as it is over."""
    watch, on, train, write = Watch(), Program.on, ChunkQueue.train, Saves.write
    making = threading.local()

    def note(event: str, seconds: float) -> None:
        if event == COMPILING and getattr(making, "is_rung", False):
            watch.compiled.append(seconds)

    def make(self: Program, place: Any, *stopped: Any) -> Any:
        if self.is_compiled_for(place) or not _is_worker():
            return on(self, place, *stopped)
        started, making.is_rung = time.perf_counter(), True
        made, making.is_rung = on(self, place, *stopped), False
        watch.making.append(time.perf_counter() - started)
        return made

    def begin(self: ChunkQueue, *arguments: Any) -> None:
        watch.given = watch.given or time.perf_counter()
        train(self, *arguments)

    def store(self: Saves) -> None:
        started = time.perf_counter()
        write(self)
        watch.storing += time.perf_counter() - started

    with ExitStack() as stack:
        for owner, name, by in ((Program, "on", make), (ChunkQueue, "train", begin), (Saves, "write", store)):
            stack.enter_context(replaced(owner, name, by))
        stack.enter_context(heard(note))
        watch.results = stack.enter_context(recorded())
        yield watch


def _is_worker() -> bool:
    return threading.current_thread().name == TRAINING


def evaluation_seconds(study: Study, results: Sequence[ChunkResult]) -> float:
    """Returns the seconds, summed over workers, in which chunks were measured on validation rows."""
    skipped = study.job.recipe.elastic.skipped if study.job.recipe.elastic else ()
    known: dict[tuple[Any, ...], float] = {}
    total = 0.0
    for chunk in (result.chunk for result in results):
        largest = (max(training.hparams[name] for training in chunk.trainings) for name in skipped)
        kind = chunk.rung, *largest  # of what is skipped, the largest there is in a chunk is computed
        if kind not in known:
            known[kind] = _seconds_once(study, chunk)
        total += known[kind] * (chunk.until - chunk.start)
    return total


def _seconds_once(study: Study, chunk: Chunk) -> float:
    """Seconds of measuring the lanes of a chunk once, while all workers are busy with the same."""
    assert isinstance(study.executor, ChunkQueue)
    worker, program = study.executor.workers[0], study.job.program(chunk.rung)
    engine = Engine(study.job.recipe.task(chunk.rung.sizes), chunk.rung)
    inputs = worker.place.put(worker.inputs(program, chunk))
    step = jax.jit(engine.validate, compiler_options=compiler_options(worker.place.kind))
    given = [(program.initial(inputs), inputs)] * study.executor.num_parallel

    def measured(turns: int) -> float:
        return side_by_side(lambda arguments: [step(*arguments) for _ in range(turns)], given)

    return seconds_a_turn(measured)
