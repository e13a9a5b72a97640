"""How full are the chunks of strategies that continue trials, and how close is a search to what its schedule allows?

    python benchmarks/packing.py [--repeats 5] [--json FILE]    # about a minute on two cores
    python benchmarks/packing.py --quick                        # a few seconds

Trials that go on are packed anew into full chunks. *Active* is the share of lane-epochs that a trial trained in, the
rest being lanes that only fill up a chunk. The *bound* of a search is what its plans take where nothing else costs
time: plan by plan, as many full chunks as its trials need, shared evenly by the devices, each at the speed of the
median chunk of the same run. Searches are warm: one before them, with another seed, has compiled every program. Finals
are left out.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import vtune
from measuring.machine import machine
from measuring.workers import recorded
from vtune.protocols import ChunkResult, Rung, StrategyFactory
from vtune.strategies import asha, hyperband, successive_halving

ONE_RUNG = {"learning_rate": vtune.loguniform(1e-4, 1e-1), "hidden": 4, "layers": 1}
MIXED = {
    "learning_rate": vtune.loguniform(1e-4, 1e-1),
    "batch_size": vtune.powers_of_two(32, 128),
    "hidden": vtune.integers(16, 64, log=True),
    "layers": vtune.integers(1, 2),
}


class Case(NamedTuple):
    """A search to look at; ``least`` is the share of active lane-epochs that is asked of it."""

    name: str
    strategy: StrategyFactory
    space: dict[str, Any]
    trials: int
    epochs: int
    least: float | None = None


class Seen(NamedTuple):
    """What a search came to."""

    seconds: float
    bound: float
    active: float
    chunks: int


CASES = [
    Case("successive halving, one rung", successive_halving(), ONE_RUNG, 81, 81),
    Case("Hyperband, one rung", hyperband(), ONE_RUNG, 143, 81, 0.7),
    Case("ASHA, one rung", asha(), ONE_RUNG, 243, 81, 0.9),
    Case("successive halving, mixed", successive_halving(), MIXED, 81, 81),
    Case("Hyperband, mixed", hyperband(), MIXED, 143, 81),
    Case("ASHA, mixed", asha(), MIXED, 243, 81),
]


def see(case: Case, seed: int) -> Seen:
    """Searches, and returns how long it took and how full its chunks were."""
    with recorded() as results:
        started = time.perf_counter()
        study = search(case, seed)
        seconds = time.perf_counter() - started
    lanes = sum(result.chunk.rung.lanes * length(result) for result in results)
    active = sum(len(result.chunk.trainings) * length(result) for result in results)
    return Seen(seconds, bound(study, results), active / lanes, len(results))


def search(case: Case, seed: int) -> vtune.Study:
    """Runs the search of a case."""
    settings = {"strategy": case.strategy, "trials": case.trials, "epochs": case.epochs, "seed": seed}
    return vtune.search(vtune.MLP, case.space, finalists=0, progress=False, **settings)


def length(result: ChunkResult) -> int:
    """Returns the epochs that a chunk trained."""
    return result.chunk.until - result.chunk.start


def bound(study: vtune.Study, results: list[ChunkResult]) -> float:
    """Returns the seconds of a search whose plans take nothing but full chunks on all devices at work."""
    seconds, trials, devices = epoch_seconds(results), trials_of(study), study.executor.num_parallel
    whole = 0.0
    for (_, rung, start, end), number in trials.items():
        chunks = -(-number // rung.lanes)
        at_once = -(-chunks // devices) if len(seconds) == 1 else chunks / devices  # other rungs fill the last turn
        whole += at_once * (end - start) * seconds[rung]
    return whole


def epoch_seconds(results: list[ChunkResult]) -> dict[Rung, float]:
    """Returns what an epoch of a chunk of each rung took, in the median."""
    by_rung: dict[Rung, list[float]] = {}
    for result in results:
        by_rung.setdefault(result.chunk.rung, []).append(result.seconds / length(result))
    return {rung: median(seconds) for rung, seconds in by_rung.items()}


def trials_of(study: vtune.Study) -> Counter[tuple[int, Rung, int, int]]:
    """Returns how many trials each plan trains of a rung, from which epoch to which."""
    trials: Counter[tuple[int, Rung, int, int]] = Counter()
    until: dict[int, int] = {}
    plans = study.plans.table.reset_index()[["trial_id", "parent", "budget", "round"]]
    for trial_id, parent, budget, plan in plans.itertuples(index=False):
        rung = study.job.ladder.rung(study.lineages[trial_id][-1].hparams)
        trials[plan, rung, until.get(parent, 0), budget] += 1
        until[trial_id] = budget
    return trials


def main() -> None:
    """Prints a row a case."""
    parser = argparse.ArgumentParser(description="How full are the chunks?")
    parser.add_argument("--quick", action="store_true", help="small searches, to see that it runs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    options = parser.parse_args()
    cases = [case._replace(trials=9, epochs=9, least=None) for case in CASES[:3]] if options.quick else CASES
    print(here := machine(), end="\n\n")
    print("| search | trials | epochs | chunks | active lane-epochs | seconds | bound | times the bound |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for case in cases:
        search(case, seed=0)
        seen = [see(case, seed) for seed in range(1, 2 if options.quick else 1 + options.repeats)]
        ratios = sorted(each.seconds / each.bound for each in seen)
        active = min(each.active for each in seen)
        asked = "" if case.least is None else f" (asked: {case.least:.0%})"
        print(
            f"| {case.name} | {case.trials} | {case.epochs} | {seen[0].chunks} | {active:.0%}{asked} "
            f"| {median(each.seconds for each in seen):.2f} | {median(each.bound for each in seen):.2f} "
            f"| {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        )
        laps = {"laps": [each._asdict() for each in seen]}
        rows.append({"search": case.name, "trials": case.trials, "epochs": case.epochs} | laps)
    if options.json:
        options.json.write_text(json.dumps({"machine": here, "searches": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
