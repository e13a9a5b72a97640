"""How fast does one device train a chunk, and does the cost table foresee it?

    python benchmarks/chunks.py [--repeats 5]

For widths, depths, micro-batches and batch sizes it prints the seconds to compile, and, warm, the useful FLOP/s of a
chunk while nothing else runs (``measuring/work.py`` says what is useful). On a CPU, seconds are those of all cores
added up: a product is shared with a core that rests, and in a search none does. The last column is measured over
predicted seconds: the ladder is planned from the predicted ones (``vtune/training/cost.py``), and numbers near 1 are a
table that fits this machine. With ``XLA_FLAGS=--xla_backend_optimization_level=3`` it measures what LLVM's usual level
of optimization costs and brings. Expected time: 4 minutes.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from measuring.work import useful_flops
from vtune.data import Data
from vtune.defaults import DEFAULTS
from vtune.keys import seed_words
from vtune.protocols import Chunk, Hparams, Leg, Rung, Shapes, Training
from vtune.training.cost import VERSION, cost_table, lanes_within, turn_seconds
from vtune.training.devices import Device, kind_of, local_devices
from vtune.training.job import Job
from vtune.training.ladder import Ladder
from vtune.training.mlp import MLP
from vtune.training.objective import make_objective
from vtune.training.optimizers import named
from vtune.training.places import OneDevice
from vtune.training.task import Recipe
from vtune.training.weights import Weights
from vtune.training.worker import Worker

EPOCHS = 10
CASES = [
    (width, layers, rows, batch_size, is_shared)
    for width, layers in [(16, 1), (32, 2), (64, 2), (128, 2), (128, 4), (256, 2), (256, 4)]
    for rows, batch_size, is_shared in [
        (32, 32, True),
        (32, 128, True),
        (64, 64, True),
        (64, 128, False),
        (128, 128, True),
        (128, 256, True),
    ]
]


def main() -> None:
    """Prints one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    device = local_devices()[0]
    table = cost_table(kind_of(device))
    data = Data.of(None, key=jax.random.key(0, impl="threefry2x32"))
    print(f"{device.device_kind}, jax {jax.__version__}, {data}")
    print("width layers rows batch shared lanes  compile   GFLOP/s (spread)     measured/predicted")
    for width, layers, rows, batch_size, is_shared in CASES:
        row = {**DEFAULTS, "hidden": width, "layers": layers, "batch_size": batch_size}
        macs = MLP.elastic.row_macs(row, Shapes(data.inputs, data.outputs))
        lanes = lanes_within(table, sum(macs), 4, 1000)
        rung = Rung(
            sizes=(("hidden", width),),
            structure=(("layers", layers), ("optimizer", "adam")),
            lanes=lanes,
            rows=rows,
            is_shared=is_shared,
            accumulates=batch_size > rows,
            copies_rows=is_shared and table.copies_rows,
        )
        compile_seconds, seconds = measure(rung, row, data, device, repeats)
        rates = [lanes * useful_flops(row, data, EPOCHS) / one / 1e9 for one in seconds]
        turns = data.num_train // batch_size * (batch_size // rows) * EPOCHS * lanes
        ratio = statistics.median(seconds) / (turns * turn_seconds(table, macs, rows, rows / batch_size))
        print(
            f"{width:5d} {layers:6d} {rows:4d} {batch_size:5d} {is_shared!s:>6} {lanes:5d} {compile_seconds:7.1f}s "
            f"{statistics.median(rates):9.1f} ({min(rates):.1f} to {max(rates):.1f}) {ratio:12.2f}"
        )


def measure(rung: Rung, row: Hparams, data: Data, device: Device, repeats: int) -> tuple[float, list[float]]:
    """Seconds to compile a rung, and to train a chunk of it once it is compiled."""
    objective = make_objective("auto", "auto", "auto", "last", data.kind)
    recipe = Recipe(MLP, named, objective.loss, objective.metrics, data.inputs, data.outputs)
    names = ("batch_size", "beta1", "beta2", "decay", "epsilon", "hidden", "layers", "learning_rate")
    traced = tuple((name, "int32" if name in ("batch_size", "hidden", "layers") else "float32") for name in names)
    no_ladder = Ladder(VERSION, device.device_kind, data.dtype.name, None, (), None, (), 1, 0.0)
    job = Job(recipe, no_ladder, traced, data, seed_words(0), objective)
    worker, program = Worker(OneDevice(device), job, Weights()), job.program(rung)
    chunk = Chunk(rung, tuple(Training((Leg(lane, row, EPOCHS),)) for lane in range(rung.lanes)))
    clock = time.perf_counter if kind_of(device).is_accelerator else time.process_time

    def seconds_of(call: Callable[[], Any]) -> float:
        started = clock()
        call()
        return clock() - started

    compiling = seconds_of(lambda: program.on(worker.place))
    worker.train(chunk)
    return compiling, [seconds_of(lambda: worker.train(chunk)) for _ in range(repeats)]


if __name__ == "__main__":
    main()
