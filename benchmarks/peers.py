"""How much faster is vtune than the same search in other libraries?

    python benchmarks/peers.py [--trials 64 256 1024] [--epochs 10] [--repeats 5] [--only vtune pytorch] [--json FILE]

The same random search (trials, epochs, rows, mini-batches in the same order, initial weights, float32) is trained by
vtune, by the three loops of ``benchmarks/sequential.py``, by scikit-learn, by PyTorch, by Optuna driving PyTorch, and
by hyperoptax where all trials have one shape, as it varies numbers alone. Who they are stands in
``benchmarks/contest/contestants.py`` and below the tables. ``pip install 'vtune[bench]'`` brings their packages; a
contestant whose package is missing is left out, with a word.

Cold is a search in a fresh process, from its start to the last curve: with all imports, processes of its own, and
compiling, and nothing cached on disk. Warm is a later search in that process with another seed, each time a new one:
hyperparameters, initial weights and rows are drawn anew. So the loops meet shapes that they have not compiled; how fast
they are on shapes that they have, ``benchmarks/sequential.py`` tells. All are given initial weights and orders
beforehand but vtune, which samples, plans and draws within its time. Settings of OpenBLAS in the environment are unset.

All must have done the same work; a row that did not says so. Below 30 seconds a number is the median of ``--repeats``
runs, in turns with those of the others, with its range; above, it is one run. Expected time: an hour. With ``--quick``,
a smoke test of 4 trials and 2 epochs, it is a minute or two.
"""

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import vtune
from contest.asked import Asked, judge
from contest.contestants import CONTESTANTS, PEERS, Contestant
from contest.table import SAME_WORK, Row, print_table, rows_of
from contest.turns import Population, take_turns
from measuring.machine import machine
from measuring.work import MIXED, ONE_SHAPE

RATES = vtune.loguniform(1e-4, 1e-1)

EVERYBODY = {contestant.name: contestant for contestant in (*CONTESTANTS, *PEERS)}

LARGE = 1024
"""Trials from which on the loops do not take part."""

ASKED = (
    Asked(256, "warm", "scikit-learn", 3.0),
    Asked(256, "warm", "pytorch", 5.0),
    Asked(256, "cold", "scikit-learn", 1 / 1.2),
    Asked(1024, "cold", "scikit-learn", 2.0),
    Asked(256, "warm", "per-trial", 40.0),
)

LEGEND = f"""\
Cold is from the start of the process to the last curve on the host; warm is a later search in it with another seed.

{SAME_WORK}

Of other libraries median and quartiles alone are asked. Where the per-shape loop takes no part, so it is of all, and
they are compared with PyTorch, or else with scikit-learn. Of warm searches the first is compared."""


def main() -> None:
    """Prints a table for each population, and what was asked."""
    options = parse_arguments()
    print(here := machine())
    rows, left_out = [], {}
    for population in populations(options.trials, options.epochs, options.repeats):
        found, absent = contest(population, options)
        rows += found
        left_out[population.title] = absent
    told = [f"- {name}: {EVERYBODY[name].told}." for name in dict.fromkeys(row.contestant for row in rows)]
    print("", LEGEND, "", *told, sep="\n")
    verdicts = list(judge(ASKED, rows))
    print("\nWhat is asked of mixed trials:\n", *(f"- {verdict.told}." for verdict in verdicts), sep="\n")
    if options.json:
        answers = [verdict._asdict() for verdict in verdicts]
        everything = {
            "machine": here,
            "rows": [row.as_dict() for row in rows],
            "asked": answers,
            "left_out": left_out,
        }
        options.json.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=EVERYBODY, default=list(EVERYBODY), help="these contestants alone")
    parser.add_argument("--quick", action="store_true", help="4 trials, 2 epochs, one run")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    options = parser.parse_args()
    if options.quick:
        options.trials, options.epochs, options.repeats = [4], 2, 1
    return options


def populations(trials: Sequence[int], epochs: int, repeats: int) -> Iterator[Population]:
    """Yields mixed populations of all sizes, and the smallest of them with a single shape."""
    for count in trials:
        yield population(f"{count} mixed trials, {epochs} epochs", MIXED, count, epochs, repeats)
    count = min(trials)
    yield population(f"{count} trials of one shape, {epochs} epochs", ONE_SHAPE, count, epochs, repeats)


def population(title: str, space: Mapping[str, Any], trials: int, epochs: int, repeats: int) -> Population:
    spaces = {run: {**space, "learning_rate": RATES} for run in ("cold", "warm")}
    return Population(title, spaces, trials, epochs, range(1, 1 + repeats))


def contest(population: Population, options: argparse.Namespace) -> tuple[list[Row], dict[str, str]]:
    """Prints the table of a population; returns its rows, and who is left out, and why."""
    wanted = [EVERYBODY[name] for name in EVERYBODY if name in options.only]
    reasons = {contestant.name: reason(contestant, population) for contestant in wanted}
    present = [contestant for contestant in wanted if not reasons[contestant.name]]
    load, works = os.getloadavg()[0], population.works()
    results = take_turns(works, present, options.repeats, counts_imports=True)
    left_out = {name: told for name, told in reasons.items() if told}
    left_out |= {name: f"left out: {result.trouble}" for name, result in results.items() if result.trouble}
    rows = list(rows_of(population.title, works, results))
    print(f"\n{population.title} (load average {load:.1f} before, {os.getloadavg()[0]:.1f} after)\n")
    print_table(rows)
    if left_out:
        print("", *(f"- {name}: {told}." for name, told in left_out.items()), sep="\n")
    return rows, left_out


def reason(contestant: Contestant, population: Population) -> str | None:
    """Returns why a contestant does not train a population; None where it does."""
    if contestant.missing:
        return contestant.missing
    is_mixed = population.spaces["cold"]["hidden"] != ONE_SHAPE["hidden"]
    if contestant.name == "hyperoptax" and is_mixed:
        return "left out, as it varies numbers alone and not shapes; it takes part where all trials have one shape"
    if contestant.name in ("per-trial", "per-shape", "padded") and is_mixed and population.trials >= LARGE:
        return "left out, as it takes many minutes; see what it takes for fewer trials"
    return None


if __name__ == "__main__":
    main()
