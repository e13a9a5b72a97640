"""How fast does one device train a chunk, and does the cost table foresee it?

    python benchmarks/chunks.py [--repeats 5]

For widths, depths, micro-batches and batch sizes it prints the seconds to compile, and, warm, the useful FLOP/s of a
worker that trains a chunk (``measuring/work.py`` says what is useful). On a CPU all workers train such chunks at the
same time, and compiling is told in seconds of one core. The last column is measured over predicted seconds: the ladder
is planned from the predicted ones (``vtune/training/cost.py``), and numbers near 1 are a table that fits this machine.
Under ``XLA_FLAGS=--xla_backend_optimization_level=3`` it measures what LLVM's usual level of optimization costs and
brings, and under ``XLA_FLAGS=--xla_cpu_copy_insertion_use_region_analysis=false`` what arrays cost that XLA copies
then. Expected time: 4 minutes.
"""

import argparse
import statistics

import jax

from measuring.work import useful_flops
from vtune.calibration import EPOCHS, Case, chunk_seconds
from vtune.data import Data
from vtune.training.cost import cost_table
from vtune.training.devices import kind_of, local_devices

CASES = [
    Case(width, layers, rows, batch_size, is_shared)
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
    for case in CASES:
        rung = case.rung(table, data)
        compile_seconds, seconds = chunk_seconds(rung, case.row, data, device, repeats)
        rates = [rung.lanes * useful_flops(case.row, data, EPOCHS) / one / 1e9 for one in seconds]
        ratio = statistics.median(seconds) / (case.turns(data) * rung.lanes * case.expected(table, data))
        width, layers, rows, batch_size, is_shared = case
        print(
            f"{width:5d} {layers:6d} {rows:4d} {batch_size:5d} {is_shared!s:>6} {rung.lanes:5d} {compile_seconds:7.1f}s"
            f" {statistics.median(rates):9.1f} ({min(rates):.1f} to {max(rates):.1f}) {ratio:12.2f}"
        )


if __name__ == "__main__":
    main()
