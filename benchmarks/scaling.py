"""How do time and memory grow with the trials of a search, the width of its networks, and the devices?

    python benchmarks/scaling.py [--part trials width devices] [--repeats 5] [--json FILE]    # 15 minutes on two cores
    python benchmarks/scaling.py --quick                                                      # half a minute

Every search is a random one in a fresh process of its own, where the same search with another seed has compiled all
before; the processes take turns. Numbers are means over the turns with 95 % intervals.

*Trials* are as small as can be (4 inputs, 4 hidden units, 2 steps of 32 rows), so that all else is seen. Of each time
a line ``t0 + t1 * trials`` is fitted, and its slope between neighbouring sizes is printed. The times are: *search*,
from the call to its return; *nobody trains*, in which no worker trains a chunk; *workers idle*, the mean over workers
of the time in which that one trains none; *loop*, processor time of the thread that asks, records and tells. While that
thread runs, workers train, but for what Python's lock makes them wait for, which counts as training. So the overhead of
the loop is *nobody trains* at least and *loop* at most.

Memory is the peak of the process in the first search of its size. *Added* is what lies above the peak that it had
after 64 of the smallest trials: divided by the trials, where those are what grows. *Width* and *devices* train on the
digits, 2 hidden layers and batches of 128; useful GFLOP/s count true weights as in ``roofline.py``. *Cores at work* is
the processor time of the process by time: XLA may use more of them than there are devices.
"""

import argparse
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import vtune
from measuring.fresh import Fresh
from measuring.line import fit, slopes
from measuring.machine import machine
from measuring.work import useful_flops
from measuring.workers import covered, timed
from regret.statistics import Interval

RATES = {"learning_rate": vtune.loguniform(1e-4, 1e-1)}
TINY = {**RATES, "hidden": 4, "layers": 1, "batch_size": 32}
CONSTANT_WITHIN, MOST_OVERHEAD, FROM_TRIALS = 0.15, 100e-6, 1_000
TIMES = {"search": "seconds", "nobody trains": "untrained", "workers idle": "idle", "loop": "loop"}
"""Columns by the names of the fields that hold them."""


class Case(NamedTuple):
    """A search; ``devices`` are all where it is None, and ``space`` is of the tiny trials where ``is_tiny``."""

    name: str
    space: Mapping[str, Any]
    trials: int
    epochs: int
    is_tiny: bool = False
    devices: int | None = None


class Memory(NamedTuple):
    """Peaks of resident memory in bytes: after a few of the smallest trials, and after the first search."""

    before: int
    peak: int


class Lap(NamedTuple):
    """One search.

    Attributes:
        seconds: from the call to its return.
        untrained: of them, in which no worker trained a chunk.
        idle: of them, in which a worker trained none; the mean over workers.
        loop: processor seconds of the thread that called.
        processor: processor seconds of all threads.
        flops: useful floating-point operations.
        devices: that this process has.
    """

    seconds: float
    untrained: float
    idle: float
    loop: float
    processor: float
    flops: float
    devices: int


class Found(NamedTuple):
    """What came of a case."""

    case: Case
    memory: Memory
    laps: list[Lap]

    def column(self, name: str) -> np.ndarray:
        """Returns a field of all laps."""
        return np.array([getattr(lap, name) for lap in self.laps])


# In the fresh process


def begin(case: Case) -> Memory:
    """Starts JAX with a small search, and then compiles all that the search of a case takes by running it."""
    vtune.search(vtune.MLP, TINY, tiny_rows(), **settings(Case("", TINY, 64, 1), seed=0))
    before = peak_bytes()
    run(case, seed=0)
    return Memory(before, peak_bytes())


def run(case: Case, seed: int) -> Lap:
    """Searches, and returns how long that took."""
    rows = tiny_rows() if case.is_tiny else None
    gc.collect()
    with timed() as spans:
        started, loop, processor = time.perf_counter(), time.thread_time(), time.process_time()
        study = vtune.search(vtune.MLP, case.space, rows, **settings(case, seed))
        seconds, loop = time.perf_counter() - started, time.thread_time() - loop
        processor = time.process_time() - processor
    working = sum(ended - begun for begun, ended in spans) / study.executor.num_parallel
    flops = case.trials * useful_flops(study.best_params, study.data, case.epochs)
    return Lap(seconds, seconds - covered(spans), seconds - working, loop, processor, flops, len(jax.local_devices()))


def settings(case: Case, seed: int) -> dict[str, Any]:
    """Returns the arguments of a search."""
    asked = {"trials": case.trials, "epochs": case.epochs, "devices": case.devices, "seed": seed}
    return {**asked, "strategy": "random", "finalists": 0, "progress": False}


def tiny_rows() -> tuple[np.ndarray, np.ndarray]:
    """Returns 80 rows of 4 columns, of which 64 train: two steps."""
    x = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64)


def peak_bytes() -> int:
    """Returns the most memory that this process had at a time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# In this one


def measure(cases: Sequence[Case], repeats: int) -> list[Found]:
    """Searches again and again, in turns."""
    processes = [Fresh.start() for _ in cases]
    memories = [process.call(begin, case) for process, case in zip(processes, cases, strict=True)]
    found = [Found(case, memory, []) for case, memory in zip(cases, memories, strict=True)]
    for turn in range(1, 1 + repeats):
        for process, each in zip(processes, found, strict=True):
            each.laps.append(process.call(run, each.case, turn))
    for process in processes:
        process.close()
    return found


def of_trials(sizes: Sequence[int], repeats: int) -> list[Found]:
    """Measures searches of so many trials, and prints how they grow."""
    found = measure([Case(f"{size:,}", TINY, size, 1, is_tiny=True) for size in sizes], repeats)
    print(f"| trials | trials/s | {', s | '.join(TIMES)}, s | peak, MB | added, bytes a trial |\n{'|---' * 8}|")
    for each in found:
        told = [Interval.of(each.column(field)).told() for field in TIMES.values()]
        rate = Interval.of(each.case.trials / each.column("seconds")).told()
        print(f"| {each.case.name} | {rate} | {' | '.join(told)} | {told_memory(each, by_trial=True)} |")
    print_lines(sizes, found)
    return found


def print_lines(sizes: Sequence[int], found: Sequence[Found]) -> None:
    """Prints the line through each time, its slope from size to size, and what follows."""
    pairs = [f"{small:,} to {large:,}" for small, large in pairwise(sizes)]
    print(f"\n| time | t0, s | t1, us a trial | {' | '.join(pairs)} |\n{'|---' * (3 + len(pairs))}|")
    answers = told_growth(sizes, found)
    for name, field in TIMES.items():
        seconds = by_turn(found, field)
        t0, t1 = np.array([fit(sizes, turn) for turn in seconds]).T
        told = [Interval.of(column).told(1e6) for column in [t1, *slopes(sizes, seconds).T]]
        print(f"| {name} | {Interval.of(t0).told()} | {' | '.join(told)} |")
        if name != "search":
            asked = f"overhead of the loop under {MOST_OVERHEAD * 1e6:.0f} us a trial, by *{name}*"
            answers.append(f"{asked}: {yes(t1.mean() < MOST_OVERHEAD)}, {told[0]} us")
    print("", *(f"- {answer}" for answer in answers), sep="\n")


def told_growth(sizes: Sequence[int], found: Sequence[Found]) -> list[str]:
    """Returns whether a trial takes as long among many as among few."""
    judged = [place for place, size in enumerate(sizes) if size >= FROM_TRIALS]
    if len(judged) < 3:
        return []
    between = slopes([sizes[place] for place in judged], by_turn(found, "seconds")[:, judged])
    apart = float(between.mean(axis=0).max() / between.mean(axis=0).min() - 1)
    in_turns = Interval.of(between.max(axis=1) / between.min(axis=1) - 1).told(100)
    asked = f"t1 constant within {CONSTANT_WITHIN:.0%} from {FROM_TRIALS:,} to {sizes[-1]:,} trials"
    return [f"{asked}: {yes(apart <= CONSTANT_WITHIN)}, {100 * apart:.3g} % apart; within a turn {in_turns} %"]


def by_turn(found: Sequence[Found], field: str) -> np.ndarray:
    """Returns a time, one row a turn, one column a size."""
    return np.stack([each.column(field) for each in found], axis=1)


def of_width(widths: Sequence[int], trials: int, epochs: int, repeats: int) -> list[Found]:
    """Measures searches of networks so wide."""
    found = measure([Case(str(width), sized(width), trials, epochs) for width in widths], repeats)
    print(f"\n{trials} trials of {epochs} epochs\n")
    print(f"| hidden | seconds | trials/s | useful GFLOP/s | peak, MB | added, MB |\n{'|---' * 6}|")
    for each in found:
        print(f"| {each.case.name} | {told_speed(each)} | {told_memory(each)} |")
    return found


def of_devices(widths: Sequence[int], trials: int, epochs: int, repeats: int) -> list[Found]:
    """Measures searches on one device, two, four, ... and all that there are."""
    print(f"\n{trials} trials of {epochs} epochs\n")
    print("| hidden | devices | seconds | trials/s | useful GFLOP/s | cores at work | speed-up |\n" + "|---" * 7 + "|")
    (one,) = measure([Case("", sized(widths[0]), 1, 1)], 1)
    most, found = one.laps[0].devices, []
    counts = sorted({min(most, 2**power) for power in range(most.bit_length() + 1)})
    for width in widths:
        cases = [Case(str(width), sized(width), trials, epochs, devices=count) for count in counts]
        rows = measure(cases, repeats)
        for row in rows:
            faster = Interval.of(rows[0].column("seconds") / row.column("seconds")).told()
            cores = Interval.of(row.column("processor") / row.column("seconds")).told()
            print(f"| {width} | {row.case.devices} | {told_speed(row)} | {cores} | {faster} |", flush=True)
        found += rows
    return found


def sized(width: int) -> dict[str, Any]:
    """Returns the space of networks of one size."""
    return {**RATES, "hidden": width, "layers": 2, "batch_size": 128}


def told_speed(found: Found) -> str:
    seconds = found.column("seconds")
    gflops = found.column("flops") / seconds / 1e9
    return " | ".join(Interval.of(column).told() for column in (seconds, found.case.trials / seconds, gflops))


def told_memory(found: Found, by_trial: bool = False) -> str:
    added = found.memory.peak - found.memory.before
    told = f"{added / found.case.trials:,.0f}" if by_trial else f"{added / 1e6:.0f}"
    return f"{found.memory.peak / 1e6:.0f} | {told}"


def yes(is_so: Any) -> str:
    return "yes" if is_so else "no"


def main() -> None:
    """Prints a table for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ["trials", "width", "devices"]
    parser.add_argument("--part", nargs="+", choices=parts, default=parts)
    parser.add_argument("--trials", type=int, nargs="+", default=[64, 1_000, 10_000, 100_000], help="of the first part")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small searches, to see that it runs")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    options = parser.parse_args()
    widths, some, trials, epochs = [16, 32, 64, 128, 256, 512], [16, 64, 256], 64, 5
    if options.quick:
        options.trials, options.repeats = [64, 256], 1
        widths, some, trials, epochs = [16], [16], 16, 1
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiling is most of it
    told: dict[str, Any] = {"machine": machine()}
    print(told["machine"], flush=True)
    found: dict[str, list[Found]] = {}
    for part in options.part:
        print(f"\n**{part.capitalize()}**\n", flush=True)
        if part == "trials":
            found[part] = of_trials(options.trials, options.repeats)
        else:
            measured = of_width if part == "width" else of_devices
            found[part] = measured(widths if part == "width" else some, trials, epochs, options.repeats)
    print(f"\n{machine()} at the end")
    if options.json:
        told |= {part: [as_dict(each) for each in rows] for part, rows in found.items()}
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def as_dict(found: Found) -> dict[str, Any]:
    """Returns all numbers for JSON."""
    case = {name: getattr(found.case, name) for name in ("name", "trials", "epochs", "devices")}
    return {**case, **found.memory._asdict(), "laps": [lap._asdict() for lap in found.laps]}


if __name__ == "__main__":
    main()
