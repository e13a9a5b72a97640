"""How much faster is vtune than the loops that one would write instead?

    python benchmarks/sequential.py [--trials 64 256] [--epochs 10] [--repeats 5] [--only vtune per-shape] [--json FILE]

The same random search (trials, rows, initial weights and data orders, float32) is trained by vtune, by a loop that
compiles for every trial, by a loop with one program a shape, and by one padded ``vmap``; all of them are in
``benchmarks/contest/loops.py``. Cold is a first search in a fresh process, compiling included, imports left out;
warm is a second one there, of the same shapes with other learning rates. Nothing is cached on disk. All keep JAX's
defaults: vtune trains on a thread a core, the others on one, where XLA may use every core for a large product.
The loops are given the initial weights and orders; vtune samples, plans and draws its weights within its time.

Useful floating-point operations are those of true weights and trained rows: 4 a weight of the first layer and row, 6 a
weight of the others. All must have done the same work (law Agreement, ``benchmarks/contest/agreement.py``); a row that
did not says so. Below 30 seconds a number is the median of ``--repeats`` runs, in turns with those of the others, with
its range; above, it is one run, which on a busy machine may be off by a factor of 2. Expected time: 20 to 40 minutes.
With ``--quick``, a smoke test of 4 trials and 2 epochs, it is half a minute.
"""

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import vtune
from contest.contestants import CONTESTANTS
from contest.table import SAME_WORK, print_table, rows_of
from contest.turns import Population, take_turns
from measuring.machine import machine
from measuring.work import MIXED, ONE_SHAPE

RATES = {"cold": vtune.loguniform(1e-4, 1e-1), "warm": vtune.loguniform(2e-4, 5e-2)}
"""The learning rates of the first search in a process and of the next one, whose shapes are the same."""

LEGEND = f"""\
Warm is a second search of the same shapes. One of other shapes is as warm for vtune and for the padded program, and as
cold as the first for the loops.

{SAME_WORK}"""


def main() -> None:
    """Prints a table for each population."""
    options = parse_arguments()
    contestants = [contestant for contestant in CONTESTANTS if contestant.name in options.only]
    print(here := machine())
    rows = []
    for population in populations(options.trials, options.epochs):
        load, works = os.getloadavg()[0], population.works()
        found = list(rows_of(population.title, works, take_turns(works, contestants, options.repeats)))
        print(f"\n{population.title} (load average {load:.1f} before, {os.getloadavg()[0]:.1f} after)\n")
        print_table(found)
        rows += found
    print("", LEGEND, "", *(f"- {contestant.name}: {contestant.told}." for contestant in contestants), sep="\n")
    if options.json:
        told = {"machine": here, "rows": [row.as_dict() for row in rows]}
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [contestant.name for contestant in CONTESTANTS]
    parser.add_argument("--trials", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these contestants alone")
    parser.add_argument("--quick", action="store_true", help="4 trials, 2 epochs, one run")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    options = parser.parse_args()
    if options.quick:
        options.trials, options.epochs, options.repeats = [4], 2, 1
    return options


def populations(trials: Sequence[int], epochs: int) -> Iterator[Population]:
    """Yields mixed populations of all sizes, and the smallest of them with a single shape, which compiles once."""
    for count in trials:
        yield population(f"{count} mixed trials, {epochs} epochs", MIXED, count, epochs)
    yield population(f"{min(trials)} trials of one shape, {epochs} epochs", ONE_SHAPE, min(trials), epochs)


def population(title: str, space: Mapping[str, Any], trials: int, epochs: int) -> Population:
    spaces = {run: {**space, "learning_rate": rates} for run, rates in RATES.items()}
    return Population(title, spaces, trials, epochs)


if __name__ == "__main__":
    main()
