"""How good is the best network after so many seconds: with vtune's strategies, and with Optuna on a PyTorch loop?

    python benchmarks/quality.py                       # 70 minutes: 10 seeds, 3 sides, 2 data sets, 60 seconds each
    python benchmarks/quality.py --only random successive_halving hyperband population_based
    python benchmarks/quality.py --quick               # a minute

Each search is cold, in fresh processes: its seconds begin with the start of Python, and hold all imports and all that
is compiled. Both sides have the same rows to train on and to validate on, float32, the same space, at most the same
epochs a trial, and all cores. The score of a search at a moment is the best accuracy on the validation rows of any
network that was trained by then, after its last epoch, also of one that was stopped early; among equal ones the lower
loss is the better. What is under way when the time is over does not count. As the best of many scores is too good,
*test* is the accuracy of the network that is best at the end on rows that no side sees. Numbers are medians over the
seeds with 95 % intervals; the data and their split are always the same.

``auto`` is what a user with so many seconds calls: vtune measures a trial, and finds out by itself how many trials of
``coarse_to_fine`` the time holds; where it holds few, it babysits one. To the other strategies a number of trials has
to be said before they start, as they cut it into rounds: as many are asked for as spend about ``--trainings`` whole
trainings, by default what two slow cores do in the time; a time budget ends what takes longer, and who is done earlier
waits. ``random`` is asked for twice as many, so that it always has more to try. Optuna needs no number. Its side stands
in ``anytime/search_optuna.py``: a process a core, which share a journal. It needs Optuna and PyTorch, ``pip install
'vtune[bench]'``; without them the other rows are printed.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import vtune
from anytime.asked import Part, best_at, keep
from anytime.plot import plot
from anytime.running import INSTALL, OPTUNA, SIDES, Outcome, lacking, run
from measuring.machine import machine
from regret.driving import fitted_trials
from regret.statistics import median_interval
from regret.training import breast_cancer, digits
from vtune.strategies.names import STRATEGIES

DATA = {"digits": digits, "breast cancer": breast_cancer}
DEFAULT = ["auto", "coarse_to_fine", OPTUNA]
MOMENTS = [5, 10, 20, 30, 60]
EPOCHS = 27  # of a whole training: 3 ** 3, which halving by thirds divides
TRAININGS_A_SECOND = 4


def main() -> None:
    """Prints a table, and draws it where asked to."""
    options = parse_arguments()
    told = machine()
    print(f"{told}; {len(options.seeds)} seeds, {options.seconds:g} seconds, {options.epochs} epochs\n", flush=True)
    found: dict[str, dict[str, list[Outcome]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.data:
            rows = f"{folder}/{name}.npz"
            keep(Path(rows), **parts_of(DATA[name]()))
            found[name] = search_all(rows, options)
    moments = [moment for moment in MOMENTS if moment < options.seconds] + [options.seconds]
    print_table(found, moments)
    print_answer(found, options.seconds)
    print(f"\nload average {os.getloadavg()[0]:.1f} at the end")
    if options.json:
        rows = {
            name: {side: [each._asdict() for each in row] for side, row in by.items()} for name, by in found.items()
        }
        options.json.write_text(json.dumps({"machine": told, **rows}, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot(found, options.seconds, options.plot)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of a whole training")
    parser.add_argument("--trainings", type=int, help="whole ones that a search of vtune plans for")
    parser.add_argument("--data", nargs="+", choices=[name.replace(" ", "_") for name in DATA], default=list(DATA))
    parser.add_argument("--only", nargs="+", choices=SIDES, default=DEFAULT, help="these sides alone")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    parser.add_argument("--plot", type=Path, help="where to draw it: an SVG, PNG or PDF file")
    parser.add_argument("--quick", action="store_true", help="a smoke run: 1 seed, 15 seconds, 1 data set")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.seconds, options.epochs, options.data = 1, 15.0, 3, ["breast_cancer"]
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiling is most of it
    options.seeds = range(options.seeds)
    options.trainings = options.trainings or max(1, round(TRAININGS_A_SECOND * options.seconds))
    options.data = [name.replace("_", " ") for name in options.data]
    for side in options.only:
        if missing := lacking(side):
            print(f"{side} is left out, as it needs {' and '.join(missing)}: {INSTALL}\n")
    options.only = [side for side in options.only if not lacking(side)]
    return options


def search_all(rows: str, options: argparse.Namespace) -> dict[str, list[Outcome]]:
    """Searches with every side and seed, in turns."""
    found: dict[str, list[Outcome]] = {side: [] for side in options.only}
    settings = {"rows": rows, "epochs": options.epochs, "seconds": options.seconds}
    trials = {side: trials_of(side, options) for side in options.only}
    for seed in options.seeds:
        for side, outcomes in found.items():
            outcomes.append(run(side, trials=trials[side], seed=seed, **settings))
    return found


def trials_of(side: str, options: argparse.Namespace) -> int:
    """Returns how many trials a strategy is told that there will be."""
    if side in STRATEGIES:
        return fitted_trials(STRATEGIES[side](), (1 + (side == "random")) * options.trainings, options.epochs)
    return options.trainings


def print_table(found: Mapping[str, Mapping[str, Sequence[Outcome]]], moments: Sequence[float]) -> None:
    """Prints one line a data set and side."""
    columns = ["data", "side", *(f"{moment:g} s" for moment in moments), "test", "trials ended", "seconds"]
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for data, by_side in found.items():
        for side, outcomes in by_side.items():
            scores = np.array([best_at(moments, outcome.better) for outcome in outcomes])
            cells = [data, side if side == OPTUNA else f"vtune, {side}", *map(told_median, scores.T)]
            cells.append(told_median(np.array([test_score(outcome) for outcome in outcomes])))
            cells += [f"{np.median([getattr(each, name) for each in outcomes]):.0f}" for name in ("trials", "took")]
            print("|", " | ".join(cells), "|", flush=True)


def print_answer(found: Mapping[str, Mapping[str, Sequence[Outcome]]], seconds: float) -> None:
    """Prints whether the median best score is below Optuna's."""
    for data, by_side in found.items():
        medians = {
            side: median_interval(np.array([best_at([seconds], outcome.better)[0] for outcome in outcomes]))[0]
            for side, outcomes in by_side.items()
        }
        theirs = medians.pop(OPTUNA, None)
        if theirs is None:
            continue
        print(f"\nMedian best score after {seconds:g} s, {data}; Optuna: {theirs:.4f}\n")
        for side, ours in medians.items():
            print(f"- {side}: {ours:.4f}, {'below' if ours < theirs else 'not below'} Optuna's")


def test_score(outcome: Outcome) -> float:
    """Returns the accuracy on test rows of the network that was best at the end."""
    score = outcome.better[-1].test_score if outcome.better else None
    return -np.inf if score is None else score


def told_median(values: np.ndarray) -> str:
    """Returns a median with its interval; a search that has no network yet counts as worse than any."""
    middle, low, high = ("none" if value == -np.inf else f"{value:.4f}" for value in median_interval(values))
    return f"{middle} ({low} to {high})"


def parts_of(split: vtune.Data) -> dict[str, Part]:
    """Returns the parts of the data as networks are given them."""
    (train, valid), test = split.scaled, split.test
    if test is None:
        raise ValueError("the data have no rows to test on")
    x, y = test
    return {"train": train, "valid": valid, "test": (x if split.x_units is None else split.x_units.standardize(x), y)}


if __name__ == "__main__":
    main()
