"""How much sooner is a search done in a process that comes after another?

    python benchmarks/restart.py [--trials 256] [--epochs 10] [--repeats 5] [--json FILE] [--quick]

A random search of networks of all sizes on the digits is run in three fresh processes, one after the other: one that
keeps nothing, one that finds an empty folder and fills it, and one that finds it full, with another seed in every
repeat. Seconds are medians, with the lowest and the highest. *In all* is from the start of the process to the last
curve, with all imports; *a program*, of a rung, is what tracing, lowering and compiling it takes, or fetching what
earlier processes made of it, and all threads do so side by side; *programs, s* is for how long any was under way, on
any device, also one that asks for trials or draws the order of rows. The three must come to the same bits. Expected
time: 8 minutes on 2 cores.
"""

import argparse
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import vtune
from measuring.fresh import Fresh
from measuring.machine import machine
from measuring.workers import covered, prepared
from vtune.benching import MIXED
from vtune.protocols import Hparams

ASKED_TO_COMPILE, ASKED_TO_FETCH = 8.0, 0.3
"""Seconds that a process may take: for all programs where the folder is empty, for each of them where it is full."""


class Lap(NamedTuple):
    """One search in a fresh process.

    Attributes:
        in_all: seconds from the start of the process.
        search: seconds of the call.
        programs: seconds that each took to be ready.
        waited: seconds in which any was under way, of a rung or not.
        traced: how many were traced.
        bits: a digest of all curves.
    """

    in_all: float
    search: float
    programs: list[float]
    waited: float
    traced: int
    bits: str


def main() -> None:
    """Prints a row a process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    parser.add_argument("--quick", action="store_true", help="a small search, once, to see that it runs")
    options = parser.parse_args()
    if options.quick:
        options.trials, options.epochs, options.repeats = 4, 1, 1
    print(machine(), flush=True)
    laps: dict[str, list[Lap]] = {"keeps nothing": [], "finds an empty folder": [], "finds a full folder": []}
    for seed in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for name, kept in zip(laps, ("off", folder, folder), strict=True):
                laps[name].append(lap(kept, options.trials, options.epochs, seed))
    print("| process | in all, s | search, s | programs | traced | programs, s | a program, s |")
    print("|---|---|---|---|---|---|---|")
    for name, some in laps.items():
        print(told(name, some))
    is_same = all(len({one.bits for one in turn}) == 1 for turn in zip(*laps.values(), strict=True))
    compiling = statistics.median(one.waited for one in laps["finds an empty folder"])
    fetching = statistics.median(one.waited / len(one.programs) for one in laps["finds a full folder"])
    print(f"\nWho finds an empty folder compiles all in {compiling:.1f} s (asked: at most {ASKED_TO_COMPILE:g}).")
    print(f"The next process fetches all in {fetching:.2f} s for each rung (asked: at most {ASKED_TO_FETCH}).")
    print(f"Same bits in all three: {'yes' if is_same else 'NO'}.")
    if options.json:
        numbers = {name: [one._asdict() for one in some] for name, some in laps.items()}
        options.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def lap(kept: str, trials: int, epochs: int, seed: int) -> Lap:
    """Runs a search in a process of its own."""
    started = time.perf_counter()
    process = Fresh.start()
    of_search = process.call(run, kept, trials, epochs, seed)
    seconds = time.perf_counter() - started
    process.close()
    return Lap(seconds, *of_search)


def run(kept: str, trials: int, epochs: int, seed: int) -> tuple[float, list[float], float, int, str]:
    """Searches here, and returns what a lap is made of."""
    os.environ["VTUNE_CACHE"] = kept
    space = {**MIXED, "learning_rate": vtune.loguniform(1e-4, 1e-1)}
    settings = {"strategy": "random", "trials": trials, "epochs": epochs, "seed": seed, "finalists": 0}
    with prepared() as spans:
        started = time.perf_counter()
        study = vtune.search(vtune.MLP, space, **settings, progress=False)
        seconds = time.perf_counter() - started
    programs = [study.job.program(rung) for rung in {study.job.rung(trial) for trial in hparams_of(study)}]
    took = [program.compile_seconds or 0.0 for program in programs]
    bits = hashlib.sha256(study.curves.to_numpy().tobytes()).hexdigest()
    return seconds, took, covered(spans), sum(program.num_traces for program in programs), bits


def hparams_of(study: vtune.Study) -> list[Hparams]:
    """Returns the complete hyperparameters of all trials."""
    return [lineage[-1].hparams for lineage in study.lineages.values()]


def told(name: str, laps: Sequence[Lap]) -> str:
    """Returns a row of the table."""
    in_all, search, waited, programs = (
        spread(numbers)
        for numbers in (
            [one.in_all for one in laps],
            [one.search for one in laps],
            [one.waited for one in laps],
            [seconds for one in laps for seconds in one.programs],
        )
    )
    numbers = f"{len(laps[0].programs)} | {laps[0].traced}"
    return f"| {name} | {in_all} | {search} | {numbers} | {waited} | {programs} |"


def spread(seconds: Sequence[float]) -> str:
    """Returns the median, and the ends."""
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    main()
