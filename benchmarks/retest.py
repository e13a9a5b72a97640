"""How often is a retest right: about data that have not drifted, about data that have, and about where to go then?

    python benchmarks/retest.py [--calm 200] [--drifted 100] [--studies 10] [--drift 3] [--seed 0] [--quick]

Studies search learning rate and momentum of an MLP with 2 layers of 32 units on MNIST-1D (100 rows to train, 200 to
validate, 20 epochs): 32 trials, the best 4 of them once more on 8 fresh seeds. Each is retested, with the default
settings, on other draws of the same data, and on draws after a drift: all curves times 10 ** (drift / 2), which moves
the best learning rate down, by a decade at a drift of 3 (``benchmarks/contest/mnist1d.py``).

- **No drift.** How many retests say "stale"? A difference that does not matter is the default one, the noise of one
  training. Bar: at most 8 % (16 of 200).
- **Large drift.** How many say "stale"? Bar: at least 85 %.
- **Recovery.** Of those, how much of what the drift cost does the refined search win back, as the share
  (refined - old best) / (best known - old best) of the accuracy on the new data? The best known is the better of the
  refined search's winner and that of a search of 128 trials on the same new data, from scratch and with finals; all
  three are measured on the same 16 seeds, which chose nothing. The share is that of the sums over all runs. Bar: at
  least 80 %.

Programs are compiled once: all data have the same shapes. Intervals: 95 %, Wilson's for counts, and percentiles of a
bootstrap over the runs. Expected time: 15 minutes on 2 cores; ``--quick``, a smoke run, half a minute.
"""

import argparse
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

import vtune
from contest.mnist1d import mnist1d
from vtune.scaling import SizeWarning

SPACE = {
    "learning_rate": vtune.loguniform(1e-3, 1.0),
    "momentum": vtune.reverse_loguniform(0.5, 0.99),
    "hidden": 32,
    "layers": 2,
    "batch_size": 20,
}
TRAIN, VALID, EPOCHS, CHUNK = 100, 200, 20, 9
SETTINGS: dict[str, Any] = {"chunk": CHUNK, "progress": False}
FIRST_CALM, FIRST_DRIFTED, MEASURED = 10_000, 20_000, 1_000_000


class Recovery(NamedTuple):
    """Accuracies on the new data, on seeds that chose nothing."""

    old: float
    refined: float
    best: float


def main() -> None:
    """Prints the three answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calm", type=int, default=200, metavar="N", help="retests without drift")
    parser.add_argument("--drifted", type=int, default=100, metavar="N", help="retests after a drift")
    parser.add_argument("--studies", type=int, default=10, metavar="N", help="searches that are retested")
    parser.add_argument("--drift", type=float, default=3.0, metavar="DECADES")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--quick", action="store_true", help="one study, 2 retests of each kind")
    arguments = parser.parse_args()
    calm, drifted, studies = (2, 2, 1) if arguments.quick else (arguments.calm, arguments.drifted, arguments.studies)
    warnings.simplefilter("ignore", SizeWarning)  # a drift makes large numbers, and that is the point
    started = time.perf_counter()
    old = [search(data(1000 * arguments.seed + number), number) for number in range(studies)]
    print(f"{studies} studies, {time.perf_counter() - started:.0f} s; learning rates {rates(old)}", flush=True)
    verdicts = Counter(retest.verdict for retest in without_drift(old, calm, arguments.seed))
    tell("no drift", verdicts, f"at most {0.08 * calm:.0f} stale", time.perf_counter() - started)
    pairs = list(with_drift(old, drifted, arguments.drift, arguments.seed))
    verdicts = Counter(retest.verdict for retest, _ in pairs)
    tell(
        f"drift of {arguments.drift:g}", verdicts, f"at least {0.85 * drifted:.0f} stale", time.perf_counter() - started
    )
    recoveries = [recovery for _, recovery in pairs if recovery]
    if recoveries:
        tell_recoveries(recoveries, time.perf_counter() - started)


def data(seed: int, drift: float = 0.0) -> vtune.Data:
    """Rows drawn by this seed."""
    x, y = mnist1d(TRAIN + VALID, seed, drift)
    return vtune.Data(train=(x[:TRAIN], y[:TRAIN]), valid=(x[TRAIN:], y[TRAIN:]))


def search(rows: vtune.Data, seed: int, **changes: Any) -> vtune.Study:
    """A study of these rows."""
    plain = {"trials": 32, "finalists": 4, "epochs": EPOCHS, "optimizer": "momentum", "seed": seed, **SETTINGS}
    return vtune.search(vtune.MLP, SPACE, rows, **plain | changes)


def without_drift(old: Sequence[vtune.Study], runs: int, seed: int) -> Iterator[vtune.Retest]:
    for run in range(runs):
        rows = data(1_000_000 * seed + FIRST_CALM + run)
        yield vtune.retest(old[run % len(old)], rows, seed=FIRST_CALM + run, refine=False, **SETTINGS)


def with_drift(
    old: Sequence[vtune.Study], runs: int, drift: float, seed: int
) -> Iterator[tuple[vtune.Retest, Recovery | None]]:
    """Retests, and what those that are stale recover; all studies are retested on the same new rows, then on others."""
    for first in range(FIRST_DRIFTED, FIRST_DRIFTED + runs, len(old)):
        rows = data(1_000_000 * seed + first, drift)
        scratch = search(rows, first, trials=128, finalists="auto").best_params
        for run, study in enumerate(old[: FIRST_DRIFTED + runs - first], start=first):
            retest = vtune.retest(study, rows, seed=run, **SETTINGS)
            refined = retest.refined
            yield retest, refined and recovery(rows, study.best_params, refined.best_params, scratch)


def recovery(
    rows: vtune.Data, old: Mapping[str, Any], refined: Mapping[str, Any], scratch: Mapping[str, Any]
) -> Recovery:
    """Measures the three on the same 16 seeds."""
    start, seeds = [old, refined, scratch], {"seeds_per_trial": 16, "finalists": 0}
    measured = search(rows, MEASURED, strategy="random", trials=len(start), start=start, **seeds)
    old_score, refined_score, scratch_score = measured.trials["score"].fillna(0.1)  # one that diverged guesses
    return Recovery(old_score, refined_score, max(refined_score, scratch_score))


def rates(old: Sequence[vtune.Study]) -> str:
    found = sorted(study.best_params["learning_rate"] for study in old)
    return f"{found[0]:.2g} to {found[-1]:.2g}"


def tell(what: str, verdicts: Counter[str], bar: str, seconds: float) -> None:
    runs = verdicts.total()
    interval = binomtest(verdicts["stale"], runs).proportion_ci(method="wilson")
    counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in ("stale", "fresh", "not enough evidence"))
    print(
        f"{what}: of {runs} retests {counts}; stale {100 * verdicts['stale'] / runs:.0f} % "
        f"({100 * interval.low:.0f} to {100 * interval.high:.0f} %); bar: {bar} ({seconds:.0f} s)",
        flush=True,
    )


def tell_recoveries(recoveries: Sequence[Recovery], seconds: float) -> None:
    table = np.array(recoveries)
    draws = np.random.default_rng(0).integers(0, len(table), (4000, len(table)))
    low, high = np.percentile([share(table[rows]) for rows in draws], [2.5, 97.5])
    old, refined, best = table.mean(axis=0)
    print(
        f"recovered, in {len(table)} runs: {100 * share(table):.0f} % ({100 * low:.0f} to {100 * high:.0f} %); "
        f"accuracy of the old best {old:.3f}, refined {refined:.3f}, best known {best:.3f}; "
        f"bar: at least 80 % ({seconds:.0f} s)"
    )


def share(table: np.ndarray) -> float:
    old, refined, best = table.sum(axis=0)
    return float((refined - old) / (best - old)) if best > old else 1.0


if __name__ == "__main__":
    main()
