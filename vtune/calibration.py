"""``vtune bench --calibrate``: chunks of networks are timed here, and a cost table is fitted to them."""

import math
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.optimize import lsq_linear

from vtune.benching import peak_flops
from vtune.data import Data
from vtune.defaults import DEFAULTS
from vtune.keys import seed_words
from vtune.protocols import Chunk, Hparams, Leg, Rung, Shapes, Training
from vtune.training.caches import nothing_kept
from vtune.training.cost import VERSION, CostTable, cost_table, lanes_within, turn_seconds
from vtune.training.devices import Device, kind_of, local_devices, machine_of, worker_devices
from vtune.training.draws import Draws
from vtune.training.job import Job
from vtune.training.ladder import Ladder
from vtune.training.measured import SPEEDS, MeasuredTable, write_table
from vtune.training.mlp import MLP
from vtune.training.objective import make_objective
from vtune.training.optimizers import named
from vtune.training.places import OneDevice
from vtune.training.task import Recipe
from vtune.training.weights import Weights
from vtune.training.worker import Worker

EPOCHS = 10
"""Of a chunk that is timed."""

_REPEATS = 5

_FACTOR = 2.0
"""By how much a table may miss a chunk that it was fitted to."""

_SPEEDS = tuple(name for name in SPEEDS if name.startswith("seconds_per_"))


class Case(NamedTuple):
    """A chunk to time: networks of one shape, on one kind of micro-batch."""

    width: int
    layers: int
    rows: int
    batch_size: int
    is_shared: bool

    @property
    def row(self) -> dict[str, Any]:
        """The hyperparameters of its trials."""
        return {**DEFAULTS, "hidden": self.width, "layers": self.layers, "batch_size": self.batch_size}

    def macs(self, data: Data) -> Sequence[int]:
        """Returns the multiply-adds of a row's forward pass, by layer."""
        sizes = {"hidden": self.width, "layers": self.layers}
        return MLP.elastic.row_macs(sizes, Shapes(data.inputs, data.outputs))

    def rung(self, table: CostTable, data: Data) -> Rung:
        """Returns its program; like most of those of a search, it has networks with fewer layers too."""
        return Rung(
            sizes=(("hidden", self.width), ("layers", self.layers)),
            structure=(("optimizer", "adam"),),
            lanes=lanes_within(table, sum(self.macs(data)), 4, 1000.0),
            rows=self.rows,
            is_shared=self.is_shared,
            accumulates=self.batch_size > self.rows,
            copies_rows=self.is_shared and table.copies_rows,
        )

    def turns(self, data: Data) -> int:
        """Returns the micro-batches of a chunk's lane."""
        return data.num_train // self.batch_size * (self.batch_size // self.rows) * EPOCHS

    def expected(self, table: CostTable, data: Data) -> float:
        """Returns the seconds of one lane's micro-batch, by a table."""
        return turn_seconds(table, self.macs(data), self.rows, self.rows / self.batch_size)


class Timing(NamedTuple):
    """What a case took: seconds to compile, and of one lane's micro-batch."""

    case: Case
    compile_seconds: float
    turn_seconds: float


CASES = [
    Case(16, 1, 32, 32, is_shared=True),
    Case(32, 2, 32, 128, is_shared=True),
    Case(64, 1, 64, 64, is_shared=True),
    Case(64, 2, 32, 32, is_shared=True),
    Case(64, 4, 128, 128, is_shared=True),
    Case(128, 2, 32, 128, is_shared=True),
    Case(128, 2, 64, 128, is_shared=False),
    Case(128, 4, 64, 64, is_shared=True),
    Case(256, 2, 32, 32, is_shared=True),
    Case(256, 3, 128, 256, is_shared=True),
]


def calibrate(path: str | PathLike[str]) -> Iterator[str]:
    """Measures this machine's first device, writes its cost table, and yields what it finds line by line.

    How large chunks are to be is not measured: that part is vtune's own.

    Args:
        path: of the file.

    Raises:
        ValueError: where the file has no folder to be in, and where no table fits what was measured.
        OSError: for a file that cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f'"{path}": there is no folder "{path.parent}". Make it, or write a file that is here.')
    path.open("a", encoding="utf-8").close()  # before minutes of measuring, and not after them
    if path.stat().st_size == 0:
        path.unlink()
    device, data = local_devices()[0], Data.of(None)
    kind = kind_of(device)
    base = cost_table(kind)
    yield f"{machine_of(kind)}, jax {jax.__version__}: {len(CASES)} chunks of networks on the digits"
    with nothing_kept():
        timings = [_time(case, base, data, device) for case in CASES]
    peak = peak_flops() / len(worker_devices(local_devices()))
    speeds = fit(timings, base, data, peak)
    own = base._replace(**speeds)
    yield "width layers rows batch  compile  measured/predicted by your table   by vtune's"
    missed = 1.0
    for case, compiling, seconds in timings:
        ratio, before = (seconds / case.expected(table, data) for table in (own, base))
        missed = max(missed, ratio, 1 / ratio)
        yield (
            f"{case.width:5d} {case.layers:6d} {case.rows:4d} {case.batch_size:5d} {compiling:7.1f}s "
            f"{ratio:33.2f} {before:12.2f}"
        )
    if missed > _FACTOR:
        raise ValueError(
            f"no table fits: the best one is wrong by a factor of {missed:.1f}, so none was written. The machine may "
            "have been busy; run vtune bench --calibrate again."
        )
    write_table(path, MeasuredTable(speeds, machine_of(kind)))
    yield f'written to {path}: vtune.plan(..., cost_table="{path}") goes by it'


def _time(case: Case, base: CostTable, data: Data, device: Device) -> Timing:
    rung = case.rung(base, data)
    compiling, seconds = chunk_seconds(rung, case.row, data, device, _REPEATS)
    return Timing(case, compiling, statistics.median(seconds) / rung.lanes / case.turns(data))


def chunk_seconds(rung: Rung, row: Hparams, data: Data, device: Device, repeats: int) -> tuple[float, list[float]]:
    """Returns the seconds to compile a rung, and to train a chunk of it once it is compiled.

    On a CPU every worker trains such a chunk at the same time, as in a search: a core that rests would help with the
    products of another. Compiling is told in seconds of one core, as other programs may have the others.

    Args:
        rung: of an MLP with Adam.
        row: the hyperparameters of all its lanes.
        data: to train on.
        device: that does.
        repeats: how often the chunk is trained.
    """
    objective = make_objective("auto", "auto", "auto", "last", data.kind)
    recipe = Recipe(MLP, named, objective.loss, objective.metrics, data.inputs, data.outputs)
    names = ("batch_size", "beta1", "beta2", "decay", "epsilon", "hidden", "layers", "learning_rate")
    traced = tuple((name, "int32" if name in ("batch_size", "hidden", "layers") else "float32") for name in names)
    no_ladder = Ladder(VERSION, device.device_kind, data.dtype.name, None, (), None, (), 1, 0.0)
    job = Job(recipe, no_ladder, traced, data, seed_words(0), objective)
    program, place = job.program(rung), OneDevice(device)
    is_accelerator = kind_of(device).is_accelerator
    seats = [device] if is_accelerator else worker_devices(local_devices())
    draws = Draws(place, job, len(seats))
    workers = [Worker(place, job, Weights(), draws) for _ in seats]
    chunk = Chunk(rung, tuple(Training((Leg(lane, row, EPOCHS),)) for lane in range(rung.lanes)))
    clock = time.perf_counter if is_accelerator else time.process_time
    started = clock()
    program.on(place)
    compiling = clock() - started
    side_by_side(lambda worker: worker.train(chunk), workers)
    return compiling, [side_by_side(lambda worker: worker.train(chunk), workers) for _ in range(repeats)]


def side_by_side(call: Callable[[Any], Any], given: Sequence[Any]) -> float:
    """Returns the seconds of a call, the median of as many at the same time as there are arguments.

    Args:
        call: takes one of them, each in a thread of its own. Arrays that it returns are waited for.
        given: the arguments.
    """
    gate = threading.Barrier(len(given))

    def timed(argument: Any) -> float:
        gate.wait()
        started = time.perf_counter()
        jax.block_until_ready(call(argument))
        return time.perf_counter() - started

    with ThreadPoolExecutor(len(given)) as pool:
        return statistics.median(pool.map(timed, given))


def fit(timings: Sequence[Timing], base: CostTable, data: Data, peak: float) -> dict[str, float]:
    """Returns the speeds whose predictions are nearest: non-negative least squares of relative errors.

    Args:
        timings: what was measured.
        base: holds what is not fitted.
        data: that was trained on.
        peak: floating-point operations a second that no product exceeds.
    """
    free = base._replace(flops_per_second=math.inf, **dict.fromkeys(_SPEEDS, 0.0))
    ones = [free._replace(flops_per_second=1.0), *(free._replace(**{name: 1.0}) for name in _SPEEDS)]
    measured = np.array([timing.turn_seconds for timing in timings])
    parts = np.array([[timing.case.expected(one, data) for one in ones] for timing in timings])
    relative, scale = parts / measured[:, None], parts.max(axis=0)
    lower = np.array([1 / peak, *[0.0] * len(_SPEEDS)])
    # Columns differ by many orders of magnitude: each is divided by its largest.
    found = lsq_linear(relative / scale, np.ones(len(timings)), bounds=(lower * scale, np.inf)).x / scale
    compiling = statistics.median(timing.compile_seconds for timing in timings)
    speeds = dict(zip(_SPEEDS, map(float, found[1:]), strict=True))
    return {"flops_per_second": float(1 / found[0]), **speeds, "compile_seconds": compiling}
