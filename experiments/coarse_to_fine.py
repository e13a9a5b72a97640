"""Does it pay to search from coarse to fine?

    python experiments/coarse_to_fine.py [--seeds 160] [--epochs 10] [--rows 480] [--quick]

A. Ng, "Improving Deep Neural Networks" (deeplearning.ai), week 3, "Tuning process": when some points of a random search
do well, zoom in on the region around the best of them and sample more densely there. At equal numbers of trials, this
compares one round on the whole space with four rounds, ``vtune.strategies.coarse_to_fine(rounds=4)``: the first is on
the whole space, and each later one is drawn from a box around the best so far, but for an eighth of it, which goes on
exploring. What exploring costs is measured too, with none of it and with a half.

A search reports the lowest of many noisy validation losses, which is too good: its winner had luck with the initial
weights, the data order and the validation rows. Zooming in may sharpen the choice of hyperparameters or of luck. So
the winners of all searches are trained again, all from the same 8 fresh keys, and scored on test rows that no search
saw. The columns "test" are the means over these keys; a claim about hyperparameters must hold there.

Two data sets: 480 of the digits (learning rate, beta1, decay and width of an Adam-trained network), and the diabetes
data, standardized (282 rows, a regression; the same four). The losses of diabetes are squared errors in variances of
the target. Networks have one hidden layer and are trained for 10 epochs. A seed is a key: the points, initial weights
and data order; one round of n trials is the beginning of one of 128, and the first of four rounds is the beginning of
it too. The split of the data is always the same. Trials that diverge, or end worse than guessing, count as guessing.
Intervals: 95 %, percentiles of a bootstrap over the seeds, in pairs. Expected time: 3 minutes on 2 cores; with
``--quick``, a smoke run, 20 seconds.
"""

import argparse
import math
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Float, Key
from sklearn.datasets import load_diabetes

import vtune
from vtune.protocols import Axis, Strategy
from vtune.strategies import coarse_to_fine, random
from vtune.strategies.rounds import Rounds
from vtune.training.devices import local_devices

SPACE = {
    "learning_rate": vtune.loguniform(1e-4, 1.0),
    "beta1": vtune.reverse_loguniform(0.5, 0.999),
    "decay": vtune.loguniform(1e-3, 10.0),
    "hidden": vtune.integers(4, 32, log=True),
    "layers": 1,
    "batch_size": 32,
}
FRESH_KEYS = 8
AT_A_TIME = 4  # searches vmapped together on a device: with more of them a core's cache is too small
RESAMPLES = 10_000


class Way(NamedTuple):
    """How to search."""

    title: str
    rounds: int
    exploration: float


ONE = Way("one round", 1, 1.0)
FOUR = Way("four rounds", 4, 0.125)
OTHERS = [Way("exploring 0", 4, 0.0), Way("exploring 1/2", 4, 0.5)]


class Task(NamedTuple):
    """Data, and the loss of a network that looks at no input."""

    name: str
    data: vtune.Data
    guess: float


class Interval(NamedTuple):
    """A mean over the seeds, in percent, and where it lies with 95 % confidence."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} % ({self.low:+.1f} to {self.high:+.1f})"


class Winners(NamedTuple):
    """The best trial of each seed: where it lies, its validation loss, and its mean test loss from fresh keys."""

    points: Float[np.ndarray, "seeds axes"]
    valid: Float[np.ndarray, " seeds"]
    test: Float[np.ndarray, " seeds"]


class Row(NamedTuple):
    """Two ways to search with equally many trials."""

    task: str
    trials: int
    ways: tuple[Way, Way]
    first: Winners
    second: Winners

    @property
    def log_ratios(self) -> tuple[Float[np.ndarray, " seeds"], Float[np.ndarray, " seeds"]]:
        """Of the validation losses, and of the test losses; below 0 where the second way has the lower one."""
        return np.log(self.second.valid / self.first.valid), np.log(self.second.test / self.first.test)


def main() -> None:
    """Prints the table."""
    options, started = parse_arguments(), time.perf_counter()
    share = len(local_devices()) * AT_A_TIME
    seeds = -(-options.seeds // share) * share
    tasks = [Task("digits", some_digits(options.rows), math.log(10)), Task("diabetes", standardized_diabetes(), 1.0)]
    tasks = tasks[1:] if options.quick else tasks
    rows = [row for task in tasks for row in compare(task, options, keys_of(seeds))]
    print(f"{seeds} seeds, {options.epochs} epochs, tested from {FRESH_KEYS} fresh keys\n")
    for task in tasks:
        print(f"- {task.name}: {task.data}")
    print()
    print_table(rows)
    print_answer(rows)
    print(f"\n{time.perf_counter() - started:.0f} seconds, load average {os.getloadavg()[0]:.1f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=160, help="rounded up to a multiple of 4 a device")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rows", type=int, default=480, help="of the digits")
    parser.add_argument("--trials", type=int, nargs="+", default=[16, 32, 64, 128], help="in all, multiples of 4")
    parser.add_argument("--explored", type=int, default=64, help="with how many trials other shares explore")
    parser.add_argument("--quick", action="store_true", help="a smoke run: diabetes, 8 trials of 2 epochs")
    options = parser.parse_args()
    if any(trials % FOUR.rounds for trials in options.trials) or options.explored not in options.trials:
        parser.error("--trials must be multiples of 4, and --explored one of them")
    if options.quick:
        options.seeds, options.epochs, options.trials, options.explored = 1, 2, [8], 8
        jax.config.update("jax_disable_most_optimizations", True)  # compiling is most of it
    return options


def compare(task: Task, options: argparse.Namespace, keys: Key[Array, " seeds"]) -> list[Row]:
    """Searches in every way for every key, and tests all winners together."""
    longest = search(task, ONE, max(options.trials), options.epochs, keys)
    found = {(ONE, trials): best_of(longest, task.guess, trials) for trials in options.trials}
    for way, trials in [(FOUR, trials) for trials in options.trials] + [(way, options.explored) for way in OTHERS]:
        found[way, trials] = best_of(search(task, way, trials, options.epochs, keys), task.guess, trials)
    tested = test(task, np.concatenate([points for points, _ in found.values()]), options.epochs)
    losses = np.split(tested, len(found))
    winners = {search: Winners(*best, loss) for (search, best), loss in zip(found.items(), losses, strict=True)}

    def row(trials: int, first: Way, second: Way) -> Row:
        return Row(task.name, trials, (first, second), winners[first, trials], winners[second, trials])

    pairs = [row(trials, ONE, FOUR) for trials in options.trials]
    return pairs + [row(options.explored, FOUR, way) for way in OTHERS]


def best_of(results: vtune.FusedResults, guess: float, trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns point and validation loss of the best of the first trials of each seed."""
    seeds, points = len(results.scores), np.asarray(results.points)
    losses = np.minimum(np.nan_to_num(results.scores.reshape(seeds, -1), nan=np.inf), guess)[:, :trials]
    return points.reshape(seeds, -1, points.shape[-1])[np.arange(seeds), losses.argmin(axis=1)], losses.min(axis=1)


# Training


def search(task: Task, way: Way, trials: int, epochs: int, keys: Key[Array, " seeds"]) -> vtune.FusedResults:
    """Searches once a key."""
    fused = vtune.fused_search(
        vtune.MLP,
        SPACE,
        task.data,
        rounds=way.rounds,
        trials=trials // way.rounds,
        epochs=epochs,
        strategy=random() if way.rounds == 1 else coarse_to_fine(way.rounds, exploration=way.exploration),
        metric="loss",
    )
    return train(fused, keys)


def test(task: Task, points: Float[np.ndarray, "trials axes"], epochs: int) -> Float[np.ndarray, " trials"]:
    """Trains the same points from each of some fresh keys; returns their mean losses on the test rows."""

    def these(axes: Sequence[Axis], *, trials: int, epochs: int, earlier: Sequence[int] = ()) -> Strategy:
        return Rounds((trials,), epochs).without_memory(lambda key, trial_ids: jnp.asarray(points))

    assert task.data.test is not None
    data = vtune.Data(train=task.data.train, valid=task.data.test, standardize=task.data.standardize)
    options = {"rounds": 1, "trials": len(points), "epochs": epochs, "metric": "loss"}
    fresh_keys = keys_of(-(-FRESH_KEYS // len(local_devices())) * len(local_devices()), root=1)
    scores = train(vtune.fused_search(vtune.MLP, SPACE, data, strategy=these, **options), fresh_keys).scores
    return np.minimum(np.nan_to_num(scores[:, 0], nan=np.inf), task.guess).mean(axis=0)


def train(fused: vtune.FusedSearch, keys: Key[Array, " seeds"]) -> vtune.FusedResults:
    """Runs the search once a key; every device has its share of the keys and takes a few of them at a time."""
    mesh = Mesh(np.array(local_devices()), ("seeds",), axis_types=(AxisType.Auto,))
    each, same = PartitionSpec("seeds"), PartitionSpec()

    def share_of_device(keys: Key[Array, " share"], data: Any) -> vtune.FusedResults:
        return jax.lax.map(lambda key: fused(key, data), keys, batch_size=AT_A_TIME)

    spread = jax.shard_map(share_of_device, mesh=mesh, in_specs=(each, same), out_specs=each, check_vma=False)
    return jax.device_get(jax.jit(spread)(keys, fused.data))


def keys_of(seeds: int, root: int = 0) -> Key[Array, " seeds"]:
    """Returns the keys of these seeds; more seeds have the same first ones."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    return keys(jax.random.key(root, impl="threefry2x32"), jnp.arange(seeds))


def some_digits(rows: int) -> vtune.Data:
    """Returns the digits with fewer rows to train on."""
    digits = vtune.Data.of()
    return vtune.Data(train=(digits.train[0][:rows], digits.train[1][:rows]), valid=digits.valid, test=digits.test)


def standardized_diabetes() -> vtune.Data:
    """Returns 64 % of the rows to train, 16 % to validate and 20 % to test."""
    x, y = (np.asarray(part, np.float32) for part in load_diabetes(return_X_y=True, scaled=False))
    outer = vtune.Data.of((x, y))
    inner = vtune.Data.of(outer.train)
    return vtune.Data(train=inner.train, valid=inner.valid, test=outer.valid, standardize=True)


# Statistics


def interval(log_ratios: Float[np.ndarray, " seeds"]) -> Interval:
    """Returns the geometric mean of ratios, as a change in percent."""
    resampled = np.random.default_rng(0).integers(len(log_ratios), size=(RESAMPLES, len(log_ratios)))
    low, high = np.percentile(log_ratios[resampled].mean(axis=1), [2.5, 97.5])
    return Interval(*(100 * math.expm1(value) for value in (log_ratios.mean(), low, high)))


# Telling


def print_table(rows: Sequence[Row]) -> None:
    """Prints one line a comparison."""
    columns = ["data", "trials", "first, second"]
    for part in ("validation", "test"):
        columns += [f"median {part} loss", "second against first (95 %)", "seeds in which the second wins"]
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for row in rows:
        cells = [row.task, str(row.trials), ", ".join(way.title for way in row.ways)]
        pairs = (row.first.valid, row.second.valid), (row.first.test, row.second.test)
        for (first, second), log_ratios in zip(pairs, row.log_ratios, strict=True):
            medians = f"{np.median(first):.4f}, {np.median(second):.4f}"
            cells += [medians, str(interval(log_ratios)), f"{100 * np.mean(log_ratios < 0):.0f} %"]
        print("|", " | ".join(cells), "|")


def print_answer(rows: Sequence[Row]) -> None:
    """Prints what follows from the numbers."""
    print("\nBelow 0, the second way found the lower loss. Four rounds explore with 1/8 of their trials.\n")
    pairs, verdict = [row for row in rows if row.ways == (ONE, FOUR)], ""
    for position, part in enumerate(("validation", "test")):
        log_ratios = {f"{row.task} with {row.trials}": row.log_ratios[position] for row in pairs}
        changes = {name: interval(column) for name, column in log_ratios.items()}
        better = [name for name, change in changes.items() if change.high < 0]
        worse = [name for name, change in changes.items() if change.low > 0]
        print(f"- On {part} rows, four rounds are better in {listed(better, pairs)}; worse in {listed(worse, pairs)}.")
        overall = interval(np.mean(list(log_ratios.values()), axis=0))
        print(f"  Over all of them the loss changes by {overall}.")
        verdict = "confirmed" if overall.high < 0 else "reversed" if overall.low > 0 else "not decided"
    for row in (row for row in rows if row.ways != (ONE, FOUR)):
        change = interval(row.log_ratios[1])
        print(f"- {row.task} with {row.trials} trials, {row.ways[1].title} instead of 1/8: test loss {change}.")
    print("\nValidation losses of winners are low because they were selected for it, so the test rows decide.")
    print(f"That four rounds find better hyperparameters than one is {verdict} there, on average.")


def listed(names: Sequence[str], of: Sequence[Row]) -> str:
    return f"{len(names)} of {len(of)}" + f" ({', '.join(names)})" * bool(names)


if __name__ == "__main__":
    main()
