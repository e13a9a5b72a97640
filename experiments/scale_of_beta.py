"""On which scale should momentum and Adam's betas be sampled?

    python experiments/scale_of_beta.py [--seeds 120] [--epochs 40] [--rows 480] [--quick]

A. Ng, "Improving Deep Neural Networks" (deeplearning.ai), week 3, "Using an appropriate scale to pick hyperparameters":
an average with beta looks back over about 1 / (1 - beta) steps: 10 steps with 0.9, 1000 with 0.999. From 0.9 to 0.9005
hardly anything changes, but from 0.999 to 0.9995 the window doubles, from 1000 steps to 2000. So beta should be sampled
where it matters: uniformly in log(1 - beta).

First, this takes the equal steps of 0.0005 in actual training, at 0.9, 0.99 and 0.999, and beside them steps that
double the window. Then it searches beta in [0.9, 0.9995] at random in log(1 - beta), ``vtune.reverse_loguniform``, and
linearly, ``vtune.uniform``, at equal numbers of trials: 16, of which the first 4 are a search too. Both scales
are given the same uniform numbers, initial weights and data order.

There are four betas. What is held constant is the learning rate:

- averaged momentum, the course's: v = beta v + (1 - beta) g, and the step is 0.1 v. Beta changes the window alone.
- summed momentum, Optax's and PyTorch's: v = beta v + g, and the step is 0.0003 v. Beta changes the window and the
  length of the steps, as 1 / (1 - beta); at 0.9 they are too short, so here large windows matter.
- Adam's beta1 and Adam's beta2, at a learning rate of 0.003.

A window of 2000 steps cannot matter in a training of 200, so this one takes 2400: 40 epochs of 480 digits in
mini-batches of 8; the network has 16 hidden units. Scored is the validation loss after the last epoch. A seed is a key:
the draws, initial weights and data order. The split of the data is always the same. Trials that diverge, or end worse
than guessing, count as guessing. A change is the geometric mean over the seeds of second loss over first, its size that
of larger over smaller. Intervals: 95 %, percentiles of a bootstrap over the seeds, in pairs. Expected time: 2 minutes
on 2 cores; with ``--quick``, a smoke run, 10 seconds.
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
import optax
from jax import Array
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Float, Int, Key

import vtune
from vtune.protocols import Axis, Hparams, Strategy, StrategyFactory
from vtune.strategies.rounds import Rounds
from vtune.training.devices import local_devices
from vtune.training.optimizers import Optimizer

LOG, LINEAR = vtune.reverse_loguniform(0.9, 0.9995), vtune.uniform(0.9, 0.9995)
EQUAL_STEPS = [(0.9, 0.9005), (0.99, 0.9905), (0.999, 0.9995)]
DOUBLINGS = [(0.9, 0.95), (0.99, 0.995)]
BETAS = sorted({beta for step in EQUAL_STEPS + DOUBLINGS for beta in step})
TRIALS = 4, 16
AT_A_TIME = 4  # searches vmapped together on a device: with more of them a core's cache is too small
GUESS = math.log(10)  # the loss of a network that gives every digit the same probability
RESAMPLES = 10_000


def averaged_momentum(hparams: Hparams) -> optax.GradientTransformation:
    """Gradient descent along an average of the gradients; Optax's sum, scaled by 1 - momentum."""
    return optax.sgd(hparams["learning_rate"] * (1 - hparams["momentum"]), hparams["momentum"])


class Case(NamedTuple):
    title: str
    optimizer: str | Optimizer
    name: str
    learning_rate: float


CASES = [
    Case("averaged momentum", averaged_momentum, "momentum", 0.1),
    Case("summed momentum", "momentum", "momentum", 0.0003),
    Case("Adam's beta1", "adam", "beta1", 0.003),
    Case("Adam's beta2", "adam", "beta2", 0.003),
]


class Interval(NamedTuple):
    """A mean over the seeds, in percent, and where it lies with 95 % confidence."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} % ({self.low:+.2f} to {self.high:+.2f})"


class Tried(NamedTuple):
    """Some values of a beta, and what they came to."""

    betas: Float[np.ndarray, "seeds trials"]
    losses: Float[np.ndarray, "seeds trials"]


class Row(NamedTuple):
    """Two sides of a comparison, one beta and one loss a seed."""

    case: Case
    title: str
    first: Tried
    second: Tried

    @property
    def log_ratios(self) -> Float[np.ndarray, " seeds"]:
        """Below 0 where the second side has the lower loss."""
        return np.log(self.second.losses / self.first.losses)[:, 0]

    @property
    def change(self) -> Interval:
        """Of the loss, from the first side to the second."""
        return interval(self.log_ratios)

    @property
    def size(self) -> Interval:
        """Of the change, up or down."""
        return interval(np.abs(self.log_ratios))


def main() -> None:
    """Prints the table."""
    options, started = parse_arguments(), time.perf_counter()
    share = len(local_devices()) * AT_A_TIME
    seeds = -(-options.seeds // share) * share
    data = some_digits(options.rows)
    steps, searches = [], []
    for case in CASES[:1] if options.quick else CASES:
        fixed, log = run(case, LOG, data, options.epochs, keys_of(seeds), betas=BETAS)
        _, linear = run(case, LINEAR, data, options.epochs, keys_of(seeds), betas=[])
        steps += [step(case, fixed, *pair) for pair in EQUAL_STEPS + DOUBLINGS]
        searches += [Row(case, f"best of {n}: linear, log", best_of(linear, n), best_of(log, n)) for n in TRIALS]
    num_steps = options.epochs * (options.rows // 8)
    print(f"{seeds} seeds, {options.epochs} epochs of {data.num_train} digits: {num_steps} steps\n")
    print_table(steps + searches)
    print_answer(steps, searches)
    print(f"\n{time.perf_counter() - started:.0f} seconds, load average {os.getloadavg()[0]:.1f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=120, help="rounded up to a multiple of 4 a device")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--rows", type=int, default=480)
    parser.add_argument("--quick", action="store_true", help="a smoke run: one beta, 2 epochs of 96 rows")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.epochs, options.rows = 1, 2, 96
        jax.config.update("jax_disable_most_optimizations", True)  # compiling is most of it
    return options


def step(case: Case, fixed: Tried, before: float, after: float) -> Row:
    """Compares two of ``BETAS``."""
    first, second = (Tried(*(column[:, [BETAS.index(beta)]] for column in fixed)) for beta in (before, after))
    return Row(case, f"{before} to {after}", first, second)


def best_of(tried: Tried, trials: int) -> Tried:
    """Returns the best of the first trials of each seed."""
    best = tried.losses[:, :trials].argmin(axis=1)[:, None]
    return Tried(*(np.take_along_axis(column, best, axis=1) for column in tried))


# Training


def run(
    case: Case,
    scale: vtune.Continuous,
    data: vtune.Data,
    epochs: int,
    keys: Key[Array, " seeds"],
    betas: Sequence[float],
) -> tuple[Tried, Tried]:
    """Trains given betas and random ones on a scale, side by side, once a key."""
    search = vtune.fused_search(
        vtune.MLP,
        {case.name: scale, "learning_rate": case.learning_rate, "hidden": 16, "layers": 1, "batch_size": 8},
        data,
        rounds=1,
        trials=len(betas) + max(TRIALS),
        epochs=epochs,
        strategy=given_then_random(scale.encode(betas)),
        optimizer=case.optimizer,
        metric="loss",
    )
    results = train(search, keys)
    losses = np.minimum(np.nan_to_num(results.scores[:, 0], nan=np.inf), GUESS)
    tried = np.asarray(results.hparams[case.name])[:, 0], losses
    given, random = (
        Tried(*(column[:, part] for column in tried)) for part in (slice(len(betas)), slice(len(betas), None))
    )
    return given, random


def given_then_random(given: Float[np.ndarray, " points"]) -> StrategyFactory:
    """Returns a strategy of one round: first these points of the only axis, then those of random search."""

    def factory(axes: Sequence[Axis], *, trials: int, epochs: int, earlier: Sequence[int] = ()) -> Strategy:
        random = vtune.strategies.random()(axes, trials=trials - len(given), epochs=epochs)

        def points_of(key: Key[Array, ""], trial_ids: Int[Array, " lanes"]) -> Float[Array, "lanes axes"]:
            drawn = random.ask(key, random.init(key)).points
            return jnp.concatenate([jnp.asarray(given, drawn.dtype)[:, None], drawn])

        return Rounds((trials,), epochs).without_memory(points_of)

    return factory


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


def interval(log_ratios: Float[np.ndarray, " seeds"]) -> Interval:
    """Returns the geometric mean of ratios, as a change in percent."""
    resampled = np.random.default_rng(0).integers(len(log_ratios), size=(RESAMPLES, len(log_ratios)))
    low, high = np.percentile(log_ratios[resampled].mean(axis=1), [2.5, 97.5])
    return Interval(*(100 * math.expm1(value) for value in (log_ratios.mean(), low, high)))


# Telling


def print_table(rows: Sequence[Row]) -> None:
    """Prints one line a comparison."""
    columns = [
        "beta",
        "first, second",
        "median windows: first, second",
        "median loss: first, second",
        "second against first (95 %)",
        "size of the change (95 %)",
        "seeds in which the second is lower",
    ]
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for row in rows:
        windows = [np.median(1 / (1 - side.betas)) for side in (row.first, row.second)]
        losses = [np.median(side.losses) for side in (row.first, row.second)]
        cells = [
            row.case.title,
            row.title,
            f"{windows[0]:.0f}, {windows[1]:.0f}",
            f"{losses[0]:.4f}, {losses[1]:.4f}",
            str(row.change),
            str(row.size).replace("+", ""),
            f"{100 * np.mean(row.log_ratios < 0):.0f} %",
        ]
        print("|", " | ".join(cells), "|")


def print_answer(steps: Sequence[Row], searches: Sequence[Row]) -> None:
    """Prints what follows from the numbers."""
    print("\nBelow 0, the second has the lower loss. Windows of searches are those of their best trials.\n")
    cases = list(dict.fromkeys(row.case for row in steps))
    confirmed, best_on = [], {"log(1 - beta)": [], "a linear scale": []}
    for case in cases:
        at_09, _, at_0999, doubled, _ = (row for row in steps if row.case == case)
        growth = interval(np.abs(at_0999.log_ratios) - np.abs(at_09.log_ratios))
        confirmed += [case.title] if growth.low > 0 else []
        changes = dict(zip(TRIALS, (row.change for row in searches if row.case == case), strict=True))
        wins = {
            "log(1 - beta)": [trials for trials, change in changes.items() if change.high < 0],
            "a linear scale": [trials for trials, change in changes.items() if change.low > 0],
        }
        for scale, won in wins.items():
            best_on[scale] += [case.title] if len(won) == len(TRIALS) else []
        told = [f"{scale} wins with {' and '.join(map(str, won))} trials" for scale, won in wins.items() if won]
        sizes = [f"{row.size.mean:.2g} %" for row in (at_09, at_0999, doubled)]
        print(f"- {case.title}: 0.0005 more changes the loss by {sizes[0]} at 0.9 and by {sizes[1]} at 0.999; a window")
        print(f"  of 20 instead of 10 by {sizes[2]}. Searched, {'; '.join(told) or 'neither scale is shown to win'}.")
    print(f"\nThat equal steps change more at 0.999 than at 0.9 is confirmed for {listed(confirmed, cases)}.")
    for scale, titles in best_on.items():
        print(f"Whatever the number of trials, {scale} is better for {listed(titles, cases)}.")


def listed(titles: Sequence[str], cases: Sequence[Case]) -> str:
    return f"{len(titles)} of {len(cases)}" + f": {', '.join(titles)}" * bool(titles)


if __name__ == "__main__":
    main()
