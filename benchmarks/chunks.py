"""How fast does one device train a chunk, and does the cost table foresee it?

    python benchmarks/chunks.py [--repeats 5] [--json FILE]    # 4 minutes on two cores
    python benchmarks/chunks.py --quick                        # some seconds

For widths, depths, micro-batches and batch sizes it prints the seconds to compile, and, warm, the useful FLOP/s of a
worker that trains a chunk (``measuring/work.py`` says what is useful). On a CPU all workers train such chunks at the
same time, and compiling is told in seconds of one core. ``shared`` is whether all lanes read the same rows. The last
column is measured over predicted seconds: the ladder is planned from the predicted ones (``vtune/training/cost.py``),
and numbers near 1 are a table that fits this machine.

Under ``XLA_FLAGS=--xla_backend_optimization_level=3`` it measures what LLVM's usual level of optimization costs and
brings, and under ``XLA_FLAGS=--xla_cpu_copy_insertion_use_region_analysis=false`` what arrays cost that XLA copies
then.
"""

import argparse
import json
import statistics
from pathlib import Path

import jax

from measuring.machine import machine
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
    """Prints a row a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    parser.add_argument("--quick", action="store_true", help="two chunks, to see that it runs")
    options = parser.parse_args()
    cases, repeats = (CASES[:2], 1) if options.quick else (CASES, options.repeats)
    device = local_devices()[0]
    table = cost_table(kind_of(device))
    data = Data.of(None, key=jax.random.key(0, impl="threefry2x32"))
    print(here := f"{machine()}; {data}", end="\n\n")
    print(
        "| width | layers | rows | batch | shared | lanes | compiling, s | useful GFLOP/s of a worker "
        f"| measured / predicted |\n{'|---' * 9}|"
    )
    rows = []
    for case in cases:
        rung = case.rung(table, data)
        compile_seconds, seconds = chunk_seconds(rung, case.row, data, device, repeats)
        rates = sorted(rung.lanes * useful_flops(case.row, data, EPOCHS) / one / 1e9 for one in seconds)
        ratio = statistics.median(seconds) / (case.turns(data) * rung.lanes * case.expected(table, data))
        width, layers, num_rows, batch_size, is_shared = case
        print(
            f"| {width} | {layers} | {num_rows} | {batch_size} | {'yes' if is_shared else 'no'} | {rung.lanes} "
            f"| {compile_seconds:.1f} | {statistics.median(rates):.1f} ({rates[0]:.1f} to {rates[-1]:.1f}) "
            f"| {ratio:.2f} |",
            flush=True,
        )
        told = {"compile_seconds": compile_seconds, "seconds": list(seconds), "ratio": ratio}
        rows.append(case._asdict() | {"lanes": rung.lanes} | told)
    if options.json:
        options.json.write_text(json.dumps({"machine": here, "chunks": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
