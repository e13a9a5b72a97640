"""Which strategy ends closest to the best, at equal numbers of epochs?

    python benchmarks/strategies.py [--part functions training] [--seeds 20] [--trainings 32 64 128] [--noise 0.1]
        [--only random coarse_to_fine] [--json FILE] [--quick]

Every strategy in ``vtune.strategies.names.STRATEGIES`` with its default settings, and Optuna's TPE where Optuna is
installed, are given as many epochs as 32, 64 and 128 whole trainings take; those that stop trials early try more of
them. Each is a search of its own: how a strategy spends its budget depends on how large that is.

**Functions.** Branin, Hartmann6 (alone, and with 4 arguments more that do not matter), Ackley5, Rosenbrock4 and
Griewank6, on the unit cube. What a strategy is told is the value at its point and Gaussian noise with a standard
deviation of a tenth of the function's range. Regret is the distance from the minimum, in percent of the range and
without noise, of the point that the strategy ranks best: the one with the lowest score of those with the largest budget
(*inference regret*). So luck with the noise counts for nothing, and neither does a good point that goes unrecognized;
the column "best tried" tells what the best of the points tried would have been. A whole training is 27 epochs; how
scores get there is told in ``benchmarks/regret/functions.py``. What follows from another trial's weights is a point
like any other here, so strategies that change hyperparameters on the way have nothing to gain.

**Training.** Networks on digits, breast cancer and, where it is there, MNIST-1D; see ``benchmarks/regret/training.py``.

A seed is a key: points and noise are the same ones for strategies that try the same trials. Intervals: 95 %,
percentiles of a bootstrap over the seeds, in pairs where two strategies are compared. Expected time: an hour on 2
cores, most of it compiling and Optuna's; ``--quick``, a smoke run, a minute.
"""

import argparse
import functools
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Key

from regret.answer import print_answer
from regret.driving import Outcome, fitted_trials, run
from regret.functions import FUNCTIONS, NOISE, Function, Trainings
from regret.rows import Row, differences
from regret.statistics import Interval
from regret.training import SPACE, TASKS, print_training, train_all
from vtune.protocols import StrategyFactory
from vtune.strategies import from_optuna
from vtune.strategies.names import STRATEGIES

BASELINE, OURS = "random", "coarse_to_fine"
EPOCHS = 27  # of a whole training: 3 ** 3, which halving by thirds divides


def main() -> None:
    """Prints a table for each part."""
    options, started = parse_arguments(), time.perf_counter()
    factories = {name: factory for name, factory in all_strategies().items() if name in options.only}
    told: dict[str, Any] = {}
    if "functions" in options.part:
        rows = on_functions(factories, options)
        print_functions(rows, options)
        told["functions"] = [row.as_dict() for row in rows]
    if "training" in options.part:
        trained = train_all(factories, options)
        print_training(trained, BASELINE)
        told["training"] = [row.as_dict() for row in trained]
    print(f"\n{time.perf_counter() - started:.0f} seconds, load average {os.getloadavg()[0]:.1f}")
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(all_strategies())
    parser.add_argument("--part", nargs="+", choices=["functions", "training"], default=["functions", "training"])
    parser.add_argument("--seeds", type=int, default=20, help="on functions")
    parser.add_argument("--trainings", type=int, nargs="+", default=[32, 64, 128], help="whole ones, on functions")
    parser.add_argument("--noise", type=float, default=NOISE, help="in ranges of the function")
    parser.add_argument("--training-seeds", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these strategies alone")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run: 2 seeds, 1 function, 1 data set, 8 trainings"
    )
    options = parser.parse_args()
    options.functions, options.tasks, options.space = FUNCTIONS, TASKS, SPACE
    options.training_trials, options.training_epochs = [16, 32], 9
    if options.quick:
        options.seeds, options.trainings, options.training_seeds = 2, [8], 1
        options.functions, options.tasks = FUNCTIONS[:1], TASKS[1:2]
        options.space = {"learning_rate": SPACE["learning_rate"], "hidden": 8, "layers": 1}
        options.training_trials, options.training_epochs = [4], 3
        jax.config.update("jax_disable_most_optimizations", True)  # compiling is most of it
    return options


def all_strategies() -> dict[str, StrategyFactory]:
    """Returns every strategy with its defaults, the baseline first, and Optuna's TPE where that is installed."""
    names = sorted(STRATEGIES, key=lambda name: (name != BASELINE, name != OURS, name))
    factories: dict[str, StrategyFactory] = {name: STRATEGIES[name]() for name in names}
    try:
        import optuna
    except ImportError:
        return factories
    return {**factories, "TPE": from_optuna(optuna.samplers.TPESampler)}


# Functions


def on_functions(factories: Mapping[str, StrategyFactory], options: argparse.Namespace) -> list[Row[Outcome]]:
    """Searches with every strategy on every function."""
    keys = jax.vmap(functools.partial(jax.random.key, impl="threefry2x32"))(np.arange(options.seeds))
    rows = []
    for name, factory in factories.items():
        try:
            trials = {count: fitted_trials(factory, count, EPOCHS) for count in options.trainings}
            rows += [search(name, factory, function, trials, keys, options.noise) for function in options.functions]
        except ValueError as error:  # what it cannot be used for, it says itself
            print(f"{name} is left out: {error}")
    return sorted(rows, key=lambda row: [function.name for function in options.functions].index(row.on))


def search(
    name: str, factory: StrategyFactory, function: Function, trials: Mapping[int, int], keys: Key, noise: float
) -> Row[Outcome]:
    """Searches once a key for each number of whole trainings, with as many trials as it takes to spend them."""
    scores = Trainings(function, EPOCHS, noise).scores
    made = {count: factory(function.axes, trials=tried, epochs=EPOCHS) for count, tried in trials.items()}
    return Row(function.name, name, {count: run(strategy, keys, scores, EPOCHS) for count, strategy in made.items()})


def print_functions(rows: Sequence[Row[Outcome]], options: argparse.Namespace) -> None:
    """Prints one line a strategy and function, and what follows from them."""
    most, against = max(options.trainings), differences(rows, BASELINE, lambda outcome: outcome.regret)
    print(f"Regret in percent of the range: {options.seeds} seeds, noise of {100 * options.noise:g} %\n")
    columns = ["function", "strategy", *(f"{count} trainings" for count in options.trainings)]
    columns += [f"against {BASELINE} at {most} (95 %)", "best tried", "trainings spent"]
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for row in rows:
        cells = [row.on, row.strategy]
        cells += [Interval.of(outcome.regret).told(100) for outcome in row.found.values()]
        pair = against.get((row.strategy, row.on))
        cells += [pair.told(100, "+") if pair else "", Interval.of(row.last.best_regret).told(100)]
        print("|", " | ".join([*cells, f"{row.last.trainings.mean():.1f}"]), "|")
    print_answer(against, BASELINE, most)


if __name__ == "__main__":
    main()
