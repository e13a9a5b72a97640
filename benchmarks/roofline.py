"""How close does a search come to what the machine could do, and where does the rest of the time go?

    python benchmarks/roofline.py            # 3 to 6 minutes on two cores
    python benchmarks/roofline.py --quick    # half a minute

Useful floating-point operations count true sizes only: per row and epoch 4 for a weight of the first layer (no gradient
of the input), 6 for another one; padding, idle lanes, evaluation and the optimizer count for nothing. The peak is that
of one large float32 product on all cores or on the accelerator, measured before and after every search; a share is
taken of the higher of the two. *Cold* is the first search of a space in this process, which has traced, lowered and
compiled nothing for it; its ``compiling`` is summed over programs, two of which compile side by side on two cores.
*Warm* are ``--repeats`` more with other seeds. ``filled`` is the share of lanes that hold a trial.

The second table takes the search with the median share apart. Its share of the peak is the product of ``true sizes``,
how much of what the matrix products of the training compute is no padding and no idle lane; ``product rate``, how fast
these products are by themselves, layer by layer, batched over as many lanes and rows and with all workers busy, by the
peak; ``in products``, what they take at that rate, of the time in which workers train or evaluate; and ``at work``, the
latter by the warm time: the rest is set-up, queue and waiting for the last chunk. ``products alone`` is the product of
the first two: the share of programs that do nothing but these products, all the time.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import vtune
from measuring.machine import bandwidth, machine, peak_flops
from measuring.products import outlook_of, products_of
from measuring.work import MIXED, useful_flops
from measuring.workers import recorded

EPOCHS = 10
RATES = {"learning_rate": vtune.loguniform(1e-4, 1e-1)}
ONE = {**MIXED, **RATES, "batch_size": 128, "hidden": 128, "layers": 2}


class Case(NamedTuple):
    """A search to look at; ``asked`` is the share of the peak that it should reach."""

    name: str
    space: Mapping[str, Any]
    trials: int
    asked: float | None = None


class Lap(NamedTuple):
    """What one search came to.

    Attributes:
        seconds: from the call to its return.
        flops: useful ones.
        peak: of the machine around it, in floating-point operations a second.
        working: seconds in which workers trained, summed over them.
        workers: how many there are.
        programs: rungs in use.
        filled: share of lanes that hold a trial.
        compiling: seconds that its programs once took to be traced, lowered and compiled, summed, some side by side.
        made: operations of all matrix products of the training, padding and idle lanes included.
        multiplying: seconds that these would take by themselves, summed over workers.
    """

    seconds: float
    flops: float
    peak: float
    working: float
    workers: int
    programs: int
    filled: float
    compiling: float
    made: float
    multiplying: float

    @property
    def share(self) -> float:
        """Of the peak."""
        return self.flops / self.seconds / self.peak

    @property
    def factors(self) -> tuple[float, float, float, float]:
        """What the share of the peak is the product of."""
        return (
            self.flops / self.made,
            self.workers * self.made / self.multiplying / self.peak,
            self.multiplying / self.working,
            self.working / self.seconds / self.workers,
        )


CASES = [
    Case("hidden 128, 2 layers, batch 128", ONE, 256, 0.6),
    Case("mixed", {**MIXED, **RATES}, 64),
    Case("mixed", {**MIXED, **RATES}, 256, 0.35),
    Case("mixed", {**MIXED, **RATES}, 1024, 0.4),
]


def run(case: Case, epochs: int, seed: int) -> Lap:
    """Searches at random, and returns what that came to."""
    before = peak_flops()
    with recorded() as results:
        started = time.perf_counter()
        study = vtune.search(
            vtune.MLP,
            case.space,
            strategy="random",
            trials=case.trials,
            epochs=epochs,
            finalists=0,
            seed=seed,
            progress=False,
        )
        seconds = time.perf_counter() - started
    rungs, outlook = {result.chunk.rung for result in results}, outlook_of(study)
    products = [products_of(outlook, result) for result in results]
    lanes = sum(result.chunk.rung.lanes for result in results)
    return Lap(
        seconds,
        sum(useful_flops(study.trial(trial_id).params, study.data, epochs) for trial_id in study.trials.index),
        max(before, peak_flops()),
        sum(result.seconds for result in results),
        study.executor.num_parallel,
        len(rungs),
        case.trials / lanes,
        sum(study.job.program(rung).compile_seconds or 0.0 for rung in rungs),
        sum(made.flops for made in products),
        sum(made.seconds for made in products),
    )


def told(case: Case, cold: Lap, warm: Sequence[Lap]) -> str:
    """Returns a row of the first table."""
    seconds, shares = sorted(lap.seconds for lap in warm), sorted(lap.share for lap in warm)
    asked = "" if case.asked is None else f"{case.asked:.0%}"
    return (
        f"| {case.name} | {case.trials} | {cold.programs} | {cold.seconds:.1f} | {cold.compiling:.1f} "
        f"| {median(seconds):.2f} ({seconds[0]:.2f} to {seconds[-1]:.2f}) "
        f"| {median(lap.flops / lap.seconds for lap in warm) / 1e9:.0f} | {median(lap.peak for lap in warm) / 1e9:.0f} "
        f"| {median(shares):.0%} ({shares[0]:.0%} to {shares[-1]:.0%}) | {asked} "
        f"| {median(lap.filled for lap in warm):.0%} |"
    )


def told_factors(case: Case, warm: Sequence[Lap]) -> str:
    """Returns a row of the second table."""
    lap = sorted(warm, key=lambda lap: lap.share)[len(warm) // 2]
    true_sizes, product_rate, *_ = lap.factors
    shares = *lap.factors, true_sizes * product_rate
    return f"| {case.name} | {case.trials} | {' | '.join(f'{share:.0%}' for share in shares)} |"


def main() -> None:
    """Prints a row a search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small searches, to see that it runs")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    options = parser.parse_args()
    cases = [case._replace(trials=8, asked=None) for case in CASES[:2]] if options.quick else CASES
    epochs, repeats = (2, 1) if options.quick else (EPOCHS, options.repeats)
    vtune.search(vtune.MLP, RATES, trials=1, epochs=1, progress=False)  # starts JAX
    print(f"{machine()}; memory {bandwidth() / 1e9:.0f} GB/s\n")
    print(
        "| search | trials | programs | cold, s | compiling, s | warm, s | useful GFLOP/s | peak GFLOP/s "
        "| share of the peak | asked | filled |"
    )
    print("|---" * 11 + "|")
    rows, factors = [], []
    for case in cases:
        cold = run(case, epochs, seed=0)
        warm = [run(case, epochs, seed) for seed in range(1, 1 + repeats)]
        print(told(case, cold, warm), flush=True)
        factors.append(told_factors(case, warm))
        laps = {"cold": cold._asdict(), "warm": [lap._asdict() for lap in warm]}
        rows.append({"search": case.name, "trials": case.trials, **laps})
    print("\n| search | trials | true sizes | product rate | in products | at work | products alone |")
    print("|---" * 7 + "|", *factors, sep="\n")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
