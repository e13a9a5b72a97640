"""How close does a search come to what the machine could do, and where does the rest of the time go?

    python benchmarks/roofline.py            # 8 to 12 minutes on two cores
    python benchmarks/roofline.py --quick    # half a minute

Useful floating-point operations count true sizes only: per row and epoch 4 for a weight of the first layer (no gradient
of the input), 6 for another one; padding, idle lanes, evaluation and the optimizer count for nothing. The peak is that
of one large float32 product on all cores or on the accelerator, measured before and after every search; a share is
taken of the higher of the two. *Cold* is a search for which this process has traced, lowered and compiled nothing, or
has let go of it; its ``compiling`` is summed over programs, two of which compile side by side on two cores. *Warm* are
``--repeats`` more with other seeds. ``filled`` is the share of lanes that hold a trial. The last search is given a
ladder that was planned for programs that are made in 0.1 s: it shows what more of them bring, and cost.

The second table takes the search with the median share apart. Its share of the peak is the product of ``true sizes``,
how much of what the matrix products of the training compute is no padding and no idle lane; ``product rate``, how fast
these products are by themselves, as ``vtune/training/dense.py`` writes them, layer by layer, batched over as many lanes
and rows and with all workers busy, by the peak; ``in products``, what they take at that rate, of the time in which
workers train or evaluate; and ``at work``, the latter by the warm time: the rest is set-up, queue and waiting for the
last chunk. ``products alone`` is the product of the first two: the share of programs that do nothing but these
products, all the time.

The third table takes the same search apart by rung, where vtune planned the ladder: useful operations for each second
in which a worker had a chunk of it, and how much of what its products compute is of true sizes. The last is of one
width and of the mixed search of 256 trials, twice more each, with a folder that keeps the results, and the first time
with nothing compiled: where the time of all workers goes. ``queue`` is all that is left: waiting for the order of rows,
for a chunk, for the last one of others, and what follows it. ``storing`` is not the workers' but the search's own
thread's, beside them or after the last chunk.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax

import vtune
from measuring.machine import bandwidth, machine, peak_flops
from measuring.products import Products, outlook_of, products_of
from measuring.shares import Shares, watched
from measuring.work import MIXED, useful_flops
from measuring.workers import recorded
from vtune.protocols import ChunkResult, Rung
from vtune.training.caches import nothing_kept
from vtune.training.cost import cost_table
from vtune.training.devices import kind_of, local_devices, machine_of
from vtune.training.inspection import FOUND
from vtune.training.measured import SPEEDS, MeasuredTable, write_table
from vtune.training.programs import SHELF

EPOCHS = 10
RATES = {"learning_rate": vtune.loguniform(1e-4, 1e-1)}
ONE = {**MIXED, **RATES, "batch_size": 128, "hidden": 128, "layers": 2}


class Case(NamedTuple):
    """A search to look at.

    Attributes:
        name: of its space.
        space: to search.
        trials: how many.
        asked: the share of the peak that it should reach.
        made_in: seconds that its ladder is planned for a program to take; None for those of vtune's own table.
    """

    name: str
    space: Mapping[str, Any]
    trials: int
    asked: float | None = None
    made_in: float | None = None


class OfRung(NamedTuple):
    """What one rung came to in a search.

    Attributes:
        name: its padded sizes.
        trials: of it.
        chunks: of it.
        working: seconds in which workers trained these, summed.
        flops: useful ones.
        made: operations of all matrix products of the training.
    """

    name: str
    trials: int
    chunks: int
    working: float
    flops: float
    made: float


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
        rungs: those in use.
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
    rungs: Sequence[OfRung] = ()

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


def as_dict(lap: Lap) -> dict[str, Any]:
    """Returns it for JSON."""
    return lap._asdict() | {"rungs": [rung._asdict() for rung in lap.rungs]}


ONE_WIDTH = Case("hidden 128, 2 layers, batch 128", ONE, 256, 0.6)
MIXED_256 = Case("mixed", {**MIXED, **RATES}, 256, 0.35)
CASES = [
    ONE_WIDTH,
    MIXED_256._replace(trials=64, asked=None),
    MIXED_256,
    MIXED_256._replace(trials=1024, asked=0.4),
    MIXED_256._replace(name="mixed, as if made in 0.1 s", asked=None, made_in=0.1),
]


def forget() -> None:
    """Lets go of all that this process has found out, traced or compiled."""
    SHELF.clear()
    FOUND.clear()
    jax.clear_caches()


def ladder_of(case: Case, epochs: int) -> str:
    """Returns what to give a search as its ladder."""
    if case.made_in is None:
        return "auto"
    kind = kind_of(local_devices()[0])
    speeds = {name: getattr(cost_table(kind), name) for name in SPEEDS} | {"compile_seconds": case.made_in}
    with tempfile.TemporaryDirectory() as folder:
        write_table(table := Path(folder) / "table.json", MeasuredTable(speeds, machine_of(kind)))
        return vtune.plan(vtune.MLP, case.space, trials=case.trials, epochs=epochs, cost_table=table).ladder


def search(case: Case, epochs: int, seed: int, folder: str | None = None, ladder: str = "auto") -> vtune.Study:
    """Searches at random."""
    settings = {"trials": case.trials, "epochs": epochs, "seed": seed, "folder": folder, "ladder": ladder}
    return vtune.search(vtune.MLP, case.space, strategy="random", finalists=0, progress=False, **settings)


def run(case: Case, epochs: int, seed: int, ladder: str) -> Lap:
    """Searches at random, and returns what that came to."""
    before = peak_flops()
    with recorded() as results:
        started = time.perf_counter()
        study = search(case, epochs, seed, ladder=ladder)
        seconds = time.perf_counter() - started
    outlook = outlook_of(study)
    rungs, products = {result.chunk.rung for result in results}, [products_of(outlook, result) for result in results]
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
        [of_rung(study, rung, results, products) for rung in sorted(rungs, key=lambda rung: rung.sizes)],
    )


def of_rung(study: vtune.Study, rung: Rung, results: Sequence[ChunkResult], products: Sequence[Products]) -> OfRung:
    """Returns what one rung came to."""
    chunks = [(result, made) for result, made in zip(results, products, strict=True) if result.chunk.rung == rung]
    hparams = [training.hparams for result, _ in chunks for training in result.chunk.trainings]
    epochs = results[0].chunk.until
    return OfRung(
        ", ".join(f"{name} {size}" for name, size in (*rung.sizes, ("rows", rung.rows))),
        len(hparams),
        len(chunks),
        sum(result.seconds for result, _ in chunks),
        sum(useful_flops(one, study.data, epochs) for one in hparams),
        sum(made.flops for _, made in chunks),
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


def middle(warm: Sequence[Lap]) -> Lap:
    """Returns the search with the median share."""
    return sorted(warm, key=lambda lap: lap.share)[len(warm) // 2]


def told_factors(case: Case, lap: Lap) -> str:
    """Returns a row of the second table."""
    true_sizes, product_rate, *_ = lap.factors
    shares = *lap.factors, true_sizes * product_rate
    return f"| {case.name} | {case.trials} | {' | '.join(f'{share:.0%}' for share in shares)} |"


def told_rungs(case: Case, lap: Lap) -> list[str]:
    """Returns rows of the third table."""
    return [
        f"| {case.name} | {case.trials} | {rung.name} | {rung.trials} | {rung.chunks} | {rung.working:.2f} "
        f"| {rung.flops / rung.working / 1e9:.0f} | {rung.flops / rung.made:.0%} |"
        for rung in lap.rungs
    ]


def shares_of(case: Case, epochs: int) -> dict[str, Shares]:
    """Searches twice, in a folder, the first time with nothing compiled; returns where the time went."""
    forget()
    found = {}
    for name, seed in (("cold", 101), ("warm", 102)):
        with tempfile.TemporaryDirectory() as folder, watched() as watch:
            study = search(case, epochs, seed, folder=folder)
            found[name] = watch.shares(study)
    return found


def told_shares(case: Case, name: str, shares: Shares) -> str:
    """Returns a row of the last table."""
    *of_workers, storing = shares
    whole = sum(of_workers)
    parts = " | ".join(f"{seconds / whole:.1%}" for seconds in of_workers)
    return f"| {case.name} | {case.trials} | {name} | {whole:.2f} | {parts} | {storing:.2f} s |"


def main() -> None:
    """Prints a row a search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small searches, to see that it runs")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    options = parser.parse_args()
    with nothing_kept():  # compiling is measured too
        tables(options)


def tables(options: argparse.Namespace) -> None:
    """Measures, and prints as it goes."""
    cases = [case._replace(trials=8, asked=None) for case in CASES[:2] + CASES[-1:]] if options.quick else CASES
    epochs, repeats = (2, 1) if options.quick else (EPOCHS, options.repeats)
    vtune.search(vtune.MLP, RATES, trials=1, epochs=1, progress=False)  # starts JAX
    print(here := f"{machine()}; memory {bandwidth() / 1e9:.0f} GB/s", end="\n\n")
    print(
        "| search | trials | programs | cold, s | compiling, s | warm, s | useful GFLOP/s | peak GFLOP/s "
        "| share of the peak | asked | filled |"
    )
    print("|---" * 11 + "|")
    rows, factors, rungs = [], [], []
    for case in cases:
        ladder = ladder_of(case, epochs)
        forget()
        cold = run(case, epochs, seed=0, ladder=ladder)
        warm = [run(case, epochs, seed, ladder) for seed in range(1, 1 + repeats)]
        print(told(case, cold, warm), flush=True)
        factors.append(told_factors(case, middle(warm)))
        rungs += told_rungs(case, middle(warm)) if case.made_in is None else []
        laps = {"cold": as_dict(cold), "warm": [as_dict(lap) for lap in warm]}
        rows.append({"search": case.name, "trials": case.trials, **laps})
    print("\n| search | trials | true sizes | product rate | in products | at work | products alone |")
    print("|---" * 7 + "|", *factors, sep="\n")
    print(
        "\n| search | trials | rung | its trials | chunks | worker seconds | useful GFLOP/s of a worker | true sizes |"
    )
    print("|---" * 8 + "|", *rungs, sep="\n")
    print(
        "\n| search | trials | run | worker seconds | set-up | tracing | compiling | training | evaluating | queue "
        "| storing |"
    )
    print("|---" * 11 + "|")
    spent = {}
    for case in cases[:2] if options.quick else (ONE_WIDTH, MIXED_256):
        shares = shares_of(case, epochs)
        print(*(told_shares(case, *each) for each in shares.items()), sep="\n", flush=True)
        spent[case.name] = {name: each._asdict() for name, each in shares.items()}
    if options.json:
        everything = {"machine": here, "searches": rows, "shares": spent}
        options.json.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
