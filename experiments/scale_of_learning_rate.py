"""On which scale should learning rates be sampled?

    python experiments/scale_of_learning_rate.py [--seeds 400] [--epochs 10] [--rows 480] [--quick]

A. Ng, "Improving Deep Neural Networks" (deeplearning.ai), week 3, "Using an appropriate scale to pick hyperparameters":
sampled uniformly between 0.0001 and 1, about 90 % of the learning rates lie between 0.1 and 1, and 10 % are left for
the three orders of magnitude below. It is more reasonable to search on a log scale, where each of them has a quarter.

So this compares ``vtune.loguniform(1e-4, 1.0)`` and ``vtune.uniform(1e-4, 1.0)`` at equal numbers of trials: random
searches of 32 trials, of which the first 4, 8 and 16 are searches too. The log scale can only pay where the good
learning rates are not in the highest decade, so there are optimizers that like them small and large, on two data sets;
the table tells where the best ones lay. Both scales are given the same uniform numbers, initial weights and data order.

The network has 16 hidden units and is trained for 10 epochs, on 480 of the digits or on the diabetes data, standardized
(353 rows, a regression); scored is the validation loss, which for diabetes is a squared error in variances of the
target. A seed is a key: the draws, initial weights and data order. The split of the data is always the same. Trials
that diverge, or end worse than guessing, count as guessing; a trial is near the best if its loss is at most 10 % above
the lowest loss of its seed, on either scale. Intervals: 95 %, percentiles of a bootstrap over the seeds, in pairs.
Expected time: 1 minute on 2 cores; with ``--quick``, a smoke run, 10 seconds.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Float, Key
from sklearn.datasets import load_diabetes

import vtune
from vtune.training.devices import local_devices

LOW, HIGH, TOP_DECADE = 1e-4, 1.0, 0.1
TRIALS = 4, 8, 16, 32
AT_A_TIME = 4  # searches vmapped together on a device: with more of them a core's cache is too small
GUESS = {"digits": math.log(10), "diabetes": 1.0}  # the loss of a network that looks at no input
RESAMPLES = 10_000


class Case(NamedTuple):
    data: str
    optimizer: str


CASES = [
    Case("digits", "adam"),
    Case("diabetes", "adam"),
    Case("diabetes", "momentum"),
    Case("digits", "momentum"),
    Case("digits", "sgd"),
]


class Interval(NamedTuple):
    """A mean over the seeds, in percent, and where it lies with 95 % confidence."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} % ({self.low:+.1f} to {self.high:+.1f})"


class Searches(NamedTuple):
    """What random search tried on one scale."""

    learning_rates: Float[np.ndarray, "seeds trials"]
    losses: Float[np.ndarray, "seeds trials"]

    def best_of(self, trials: int) -> Float[np.ndarray, " seeds"]:
        """Returns the lowest loss of the first trials."""
        return self.losses[:, :trials].min(axis=1)

    def share_above(self, learning_rate: float) -> float:
        """Returns the share of trials with a larger learning rate."""
        return float(np.mean(self.learning_rates > learning_rate))


class Row(NamedTuple):
    """The first so many trials of both scales."""

    case: Case
    trials: int
    log: Searches
    linear: Searches

    @property
    def difference(self) -> Interval:
        """Of the log scale's best loss, from the linear one's."""
        return difference(self.log.best_of(self.trials), self.linear.best_of(self.trials))

    @property
    def wins(self) -> float:
        """The share of seeds in which the log scale has the lower loss."""
        return float(np.mean(self.log.best_of(self.trials) < self.linear.best_of(self.trials)))

    @property
    def best_rates(self) -> Float[np.ndarray, "3"]:
        """Quartiles over the seeds of the best learning rate, out of all trials on either scale."""
        rates, losses = (np.concatenate(pair, axis=1) for pair in zip(self.log, self.linear, strict=True))
        best = np.take_along_axis(rates, losses.argmin(axis=1)[:, None], axis=1)
        return np.percentile(best, [25, 50, 75])

    @property
    def near_the_best(self) -> tuple[float, float]:
        """Shares of the trials on the log and on the linear scale."""
        lowest = np.minimum(self.log.best_of(max(TRIALS)), self.linear.best_of(max(TRIALS)))[:, None]
        log, linear = (float(np.mean(side.losses <= 1.1 * lowest)) for side in (self.log, self.linear))
        return log, linear


def main() -> None:
    """Prints the table."""
    options, started = parse_arguments(), time.perf_counter()
    share = len(local_devices()) * AT_A_TIME
    seeds = -(-options.seeds // share) * share
    data = {"digits": some_digits(options.rows), "diabetes": standardized_diabetes()}
    rows = []
    for case in CASES[:1] if options.quick else CASES:
        scales = vtune.loguniform, vtune.uniform
        log, linear = (run(case, scale, data[case.data], options.epochs, keys_of(seeds)) for scale in scales)
        rows += [Row(case, trials, log, linear) for trials in TRIALS]
    print(f"learning rates in [{LOW}, {HIGH}], {seeds} seeds, {options.epochs} epochs\n")
    print_table(rows)
    print_answer(rows)
    print(f"\n{time.perf_counter() - started:.0f} seconds, load average {os.getloadavg()[0]:.1f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=400, help="rounded up to a multiple of 4 a device")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rows", type=int, default=480, help="of the digits")
    parser.add_argument("--quick", action="store_true", help="a smoke run: one setting, 2 epochs, 96 digits")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.epochs, options.rows = 1, 2, 96
        jax.config.update("jax_disable_most_optimizations", True)  # compiling is most of it
    return options


# Training


def run(
    case: Case,
    scale: Callable[[float, float], vtune.Continuous],
    data: vtune.Data,
    epochs: int,
    keys: Key[Array, " seeds"],
) -> Searches:
    """Searches the learning rate at random on one scale, once a key."""
    search = vtune.fused_search(
        vtune.MLP,
        {"learning_rate": scale(LOW, HIGH), "hidden": 16, "layers": 1, "batch_size": 32},
        data,
        rounds=1,
        trials=max(TRIALS),
        epochs=epochs,
        strategy=vtune.strategies.random(),
        optimizer=case.optimizer,
        metric="loss",
    )
    results = train(search, keys)
    losses = np.minimum(np.nan_to_num(results.scores[:, 0], nan=np.inf), GUESS[case.data])
    return Searches(np.asarray(results.hparams["learning_rate"])[:, 0], losses)


def train(search: vtune.FusedSearch, keys: Key[Array, " seeds"]) -> vtune.FusedResults:
    """Runs the search once a key; every device has its share of the keys and takes a few of them at a time."""
    mesh = Mesh(np.array(local_devices()), ("seeds",), axis_types=(AxisType.Auto,))
    each, same = PartitionSpec("seeds"), PartitionSpec()

    def share_of_device(keys: Key[Array, " share"], data: Any) -> vtune.FusedResults:
        return jax.lax.map(lambda key: search(key, data), keys, batch_size=AT_A_TIME)

    spread = jax.shard_map(share_of_device, mesh=mesh, in_specs=(each, same), out_specs=each, check_vma=False)
    return jax.device_get(jax.jit(spread)(keys, search.data))


def keys_of(seeds: int) -> Key[Array, " seeds"]:
    """Returns the keys of these seeds; more seeds have the same first ones."""
    root = jax.random.key(0, impl="threefry2x32")
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(root, jnp.arange(seeds))


def some_digits(rows: int) -> vtune.Data:
    """Returns the digits with fewer rows to train on."""
    digits = vtune.Data.of()
    return vtune.Data(train=(digits.train[0][:rows], digits.train[1][:rows]), valid=digits.valid)


def standardized_diabetes() -> vtune.Data:
    x, y = (np.asarray(part, np.float32) for part in load_diabetes(return_X_y=True, scaled=False))
    return vtune.Data.of((x, y), standardize=True)


# Statistics


def difference(these: Float[np.ndarray, " seeds"], those: Float[np.ndarray, " seeds"]) -> Interval:
    """Returns by how many percent these losses are above those: the geometric mean of the ratios of each seed."""
    ratios = np.log(these / those)
    resampled = np.random.default_rng(0).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(ratios[resampled].mean(axis=1), [2.5, 97.5])
    return Interval(*(100 * math.expm1(value) for value in (ratios.mean(), low, high)))


# Telling


def print_table(rows: Sequence[Row]) -> None:
    """Prints one line a setting and number of trials."""
    columns = [
        "setting",
        "best learning rate, median (quartiles)",
        "trials near the best: log, linear",
        "trials",
        "median best loss: log, linear",
        "log against linear (95 %)",
        "seeds in which log wins",
    ]
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for row in rows:
        quarter, median, three_quarters = row.best_rates
        near_log, near_linear = row.near_the_best
        medians = [np.median(side.best_of(row.trials)) for side in (row.log, row.linear)]
        cells = [
            f"{row.case.data}, {row.case.optimizer}",
            f"{median:.3f} ({quarter:.3f} to {three_quarters:.3f})",
            f"{100 * near_log:.0f} %, {100 * near_linear:.0f} %",
            str(row.trials),
            f"{medians[0]:.4f}, {medians[1]:.4f}",
            str(row.difference),
            f"{100 * row.wins:.0f} %",
        ]
        print("|", " | ".join(cells), "|")


def print_answer(rows: Sequence[Row]) -> None:
    """Prints what follows from the numbers."""
    above = [[side.share_above(TOP_DECADE) for side in (row.log, row.linear)] for row in rows]
    log, linear = 100 * np.mean(above, axis=0)
    print(f"\nBelow 0, the log scale found the lower loss. Of its trials, {log:.0f} % were above {TOP_DECADE};")
    print(f"of the linear scale's, {linear:.0f} %.\n")
    verdicts: dict[str, list[str]] = {"confirmed": [], "reversed": [], "not decided": []}
    for case in dict.fromkeys(row.case for row in rows):
        of_case = [row for row in rows if row.case == case]
        wins = {
            "log": [row.trials for row in of_case if row.difference.high < 0],
            "linear": [row.trials for row in of_case if row.difference.low > 0],
        }
        told = [f"{scale} is better with {', '.join(map(str, won))} trials" for scale, won in wins.items() if won]
        name, best = f"{case.data}, {case.optimizer}", of_case[0].best_rates[1]
        print(f"- {name}, best around {best:.2g}: {' and '.join(told) or 'neither scale is shown to be better'};")
        print(f"  with {of_case[0].trials} trials, the loss of log against linear is {of_case[0].difference}.")
        everywhere = [scale for scale, won in wins.items() if len(won) == len(of_case)]
        verdict = {"log": "confirmed", "linear": "reversed"}[everywhere[0]] if everywhere else "not decided"
        verdicts[verdict].append(name)
    summary = "; ".join(f"{verdict} for {' and for '.join(names)}" for verdict, names in verdicts.items() if names)
    print(f"\nThat the log scale finds lower losses, whatever the number of trials, is {summary}.")


if __name__ == "__main__":
    main()
