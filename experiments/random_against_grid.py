"""Is it better to try random points than a grid?

    python experiments/random_against_grid.py [--seeds 400] [--epochs 10] [--rows 480] [--quick]

A. Ng, "Improving Deep Neural Networks" (deeplearning.ai), week 3, "Tuning process", says yes, after Bergstra & Bengio
(2012), "Random Search for Hyper-Parameter Optimization", JMLR 13: one does not know beforehand which hyperparameter
matters. A grid of 25 points tries 5 values of each of two, and if the second is epsilon, every one of the 5 learning
rates is tried 5 times over. 25 random points try 25 learning rates. The argument is about a second parameter that does
not matter. What if it does?

Here the first parameter is always the learning rate, and the second is one that hardly matters (Adam's epsilon), two
that matter some (Adam's beta1, and learning rate decay) and two that matter as much as the first: momentum, whose good
values depend on the learning rate, and the width of the network, in a narrower range of learning rates. How much they
matter is measured and not assumed: the share of the variance of the log loss that each explains alone and both explain
only together, over all the random points, in 5 x 5 cells. The rest is noise and what varies within a cell.

A grid from ``vtune.strategies.grid()`` has the same points for every key, so its result tells as much about where those
happen to lie as about grids. The fair opponent is the shifted grid: the same 5 x 5 points, moved by a random part of a
cell along each axis, anew for every seed. The table shows both. The three sets of points of a seed are trained side by
side, from the same initial weights and in the same order of the rows.

The network has 16 hidden units and is trained for 10 epochs on 480 of the digits; scored is the validation loss. A
seed is a key: its points, initial weights and data order. The split of the data is always the same. Trials that
diverge, or end worse than guessing, count as guessing. Intervals: 95 %, percentiles of a bootstrap over the seeds, in
pairs. Expected time: 2 minutes on 2 cores; with ``--quick``, a smoke run, 10 seconds.
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
from jaxtyping import Float, Int, Key

import vtune
from vtune.protocols import Axis, Strategy
from vtune.strategies.rounds import Rounds
from vtune.training.devices import local_devices

SIDE = 5
POINTS = SIDE * SIDE
AT_A_TIME = 4  # searches vmapped together on a device: with more of them a core's cache is too small
GUESS = math.log(10)  # the loss of a network that gives every digit the same probability
RESAMPLES = 10_000


class Case(NamedTuple):
    optimizer: str
    learning_rate: vtune.Continuous
    name: str
    second: vtune.Continuous | vtune.Integer


CASES = [
    Case("adam", vtune.loguniform(1e-4, 1.0), "epsilon", vtune.loguniform(1e-10, 1e-6)),
    Case("adam", vtune.loguniform(1e-4, 1.0), "beta1", vtune.reverse_loguniform(0.5, 0.999)),
    Case("adam", vtune.loguniform(1e-4, 1.0), "decay", vtune.loguniform(1e-2, 1e2)),
    Case("momentum", vtune.loguniform(1e-4, 1.0), "momentum", vtune.reverse_loguniform(0.5, 0.999)),
    Case("adam", vtune.loguniform(1e-3, 1e-1), "hidden", vtune.integers(2, 32, log=True)),
]


class Interval(NamedTuple):
    """A mean over the seeds, in percent, and where it lies with 95 % confidence."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f} % ({self.low:+.1f} to {self.high:+.1f})"


class Shares(NamedTuple):
    """Of the variance of the log loss: what each parameter explains alone, and both together beyond that."""

    first: float
    second: float
    together: float


class Row(NamedTuple):
    case: Case
    shares: Shares
    best: Float[np.ndarray, "seeds ways"]  # random, shifted grid, fixed grid

    @property
    def against_shifted(self) -> Interval:
        """Of the best random point's loss, from the shifted grid's."""
        return difference(self.best[:, 0], self.best[:, 1])

    @property
    def against_fixed(self) -> Interval:
        """The same, from the fixed grid's."""
        return difference(self.best[:, 0], self.best[:, 2])

    @property
    def wins(self) -> float:
        """The share of seeds in which the best random point beats the shifted grid."""
        return float(np.mean(self.best[:, 0] < self.best[:, 1]))


def main() -> None:
    """Prints the table."""
    options, started = parse_arguments(), time.perf_counter()
    share = len(local_devices()) * AT_A_TIME
    seeds = -(-options.seeds // share) * share
    data = some_digits(options.rows)
    rows = [run(case, data, options.epochs, keys_of(seeds)) for case in (CASES[:1] if options.quick else CASES)]
    rows.sort(key=lambda row: row.shares.second + row.shares.together)
    print(f"{POINTS} points, {seeds} seeds, {options.epochs} epochs of {data.num_train} digits\n")
    print_table(rows)
    print_answer(rows)
    print(f"\n{time.perf_counter() - started:.0f} seconds, load average {os.getloadavg()[0]:.1f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=400, help="rounded up to a multiple of 4 a device")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rows", type=int, default=480)
    parser.add_argument("--quick", action="store_true", help="a smoke run: one second parameter, 2 epochs of 96 rows")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.epochs, options.rows = 1, 2, 96
        jax.config.update("jax_disable_most_optimizations", True)  # compiling is most of it
    return options


# Training


def run(case: Case, data: vtune.Data, epochs: int, keys: Key[Array, " seeds"]) -> Row:
    """Trains the points of all three ways for every key."""
    space: dict[str, Any] = {"hidden": 16, "layers": 1, "batch_size": 32, "learning_rate": case.learning_rate}
    search = vtune.fused_search(
        vtune.MLP,
        {**space, case.name: case.second},
        data,
        rounds=1,
        trials=3 * POINTS,
        epochs=epochs,
        strategy=side_by_side,
        optimizer=case.optimizer,
        metric="loss",
    )
    results = train(search, keys)
    losses = np.minimum(np.nan_to_num(results.scores[:, 0], nan=np.inf), GUESS)
    best = losses.reshape(len(losses), 3, POINTS).min(axis=2)
    names = [axis.name for axis in search.parts.space.axes]
    points = np.asarray(results.points)[:, 0, :POINTS, [names.index("learning_rate"), names.index(case.name)]]
    return Row(case, variance_shares(points.reshape(2, -1), np.log(losses[:, :POINTS].ravel())), best)


def side_by_side(axes: Sequence[Axis], *, trials: int, epochs: int, earlier: Sequence[int] = ()) -> Strategy:
    """A strategy of one round: first random points, then the shifted grid, then the fixed one."""
    factories = vtune.strategies.random(), vtune.strategies.grid()
    random, grid = (factory(axes, trials=POINTS, epochs=epochs) for factory in factories)

    def points_of(key: Key[Array, ""], trial_ids: Int[Array, " lanes"]) -> Float[Array, "lanes axes"]:
        drawn, fixed = (strategy.ask(key, strategy.init(key)).points for strategy in (random, grid))
        return jnp.concatenate([drawn, shifted_grid(jax.random.fold_in(key, trials)), fixed])

    return Rounds((trials,), epochs).without_memory(points_of)


def shifted_grid(key: Key[Array, ""]) -> Float[Array, "trials axes"]:
    """Returns one point in each of 5 x 5 cells, all at the same place of their cell."""
    cells = jnp.stack(jnp.unravel_index(jnp.arange(POINTS), (SIDE, SIDE)), axis=-1).astype(jnp.float32)
    return (cells + jax.random.uniform(key, (1, 2))) / SIDE


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


# Statistics


def difference(these: Float[np.ndarray, " seeds"], those: Float[np.ndarray, " seeds"]) -> Interval:
    """Returns by how many percent these losses are above those: the geometric mean of the ratios of each seed."""
    ratios = np.log(these / those)
    resampled = np.random.default_rng(0).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(ratios[resampled].mean(axis=1), [2.5, 97.5])
    return Interval(*(100 * math.expm1(value) for value in (ratios.mean(), low, high)))


def variance_shares(points: Float[np.ndarray, "2 points"], values: Float[np.ndarray, " points"]) -> Shares:
    """Splits the variance of values between two coordinates, from their means in 5 x 5 cells."""
    cell = np.ravel_multi_index(tuple(np.minimum(points * SIDE, SIDE - 1).astype(int)), (SIDE, SIDE))
    sums, counts = (np.bincount(cell, weights, minlength=POINTS).reshape(SIDE, SIDE) for weights in (values, None))
    means = sums / np.maximum(counts, 1)
    first, second = (means.mean(axis=axis, keepdims=True) - means.mean() for axis in (1, 0))
    together = means - means.mean() - first - second
    return Shares(*(float(np.mean(part**2) / values.var()) for part in (first, second, together)))


# Telling


def print_table(rows: Sequence[Row]) -> None:
    """Prints one line a second parameter, in the order of how much they matter."""
    columns = [
        "second parameter",
        "variance: learning rate, second, both together",
        "median best loss: random, shifted grid, fixed grid",
        "random against shifted grid (95 %)",
        "seeds in which random wins",
        "random against fixed grid (95 %)",
    ]
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for row in rows:
        shares = ", ".join(f"{100 * share:.0f} %" for share in row.shares)
        medians = ", ".join(f"{loss:.4f}" for loss in np.median(row.best, axis=0))
        cells = [
            f"{row.case.name}, {row.case.second!r}, with {row.case.optimizer}",
            shares,
            medians,
            str(row.against_shifted),
            f"{100 * row.wins:.0f} %",
            str(row.against_fixed),
        ]
        print("|", " | ".join(cells), "|")


def print_answer(rows: Sequence[Row]) -> None:
    """Prints what follows from the numbers."""
    print("\nBelow 0, the best random point has the lower loss.\n")
    verdicts: dict[str, list[str]] = {"confirmed": [], "reversed": [], "not decided": []}
    for row in rows:
        found = row.against_shifted
        better = (
            "random is better" if found.high < 0 else "the grid is better" if found.low > 0 else "no difference shown"
        )
        matters = f"{100 * (row.shares.second + row.shares.together):.0f} % of the variance involves {row.case.name}"
        print(f"- Where {matters}: {better}, {found}.")
        verdicts["confirmed" if found.high < 0 else "reversed" if found.low > 0 else "not decided"].append(
            row.case.name
        )
    told = "; ".join(f"{verdict} beside {', '.join(names)}" for verdict, names in verdicts.items() if names)
    print(f"\nThat {POINTS} random points beat a grid of {SIDE} x {SIDE} is {told}.")


if __name__ == "__main__":
    main()
