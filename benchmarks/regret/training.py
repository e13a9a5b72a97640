"""Strategies on networks that are really trained, each given the same number of epochs.

Searched are the learning rate, beta1, mini-batch size, width and depth of Adam-trained networks, by the validation
loss: on scikit-learn's digits and breast cancer data (standardized), and on MNIST-1D. A search has as many epochs as 16
and 32 whole trainings of 9. The seed is that of the search: its points, initial weights and data orders; the split is
always the same. The winner is then trained once more and scored on test rows that no search saw. There is no known
minimum, so regret is the loss beyond the lowest one that any search here came to, on validation and on test rows each.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.datasets import load_breast_cancer

import vtune
from contest.mnist1d import mnist1d
from regret.answer import print_answer
from regret.driving import RATE, epochs_spent, fitted_trials
from regret.rows import Row, differences
from regret.statistics import Interval
from vtune.protocols import StrategyFactory

SPACE = {
    "learning_rate": vtune.loguniform(1e-4, 1.0),
    "beta1": vtune.reverse_loguniform(0.5, 0.999),
    "batch_size": vtune.powers_of_two(32, 128),
    "hidden": vtune.integers(8, 64, log=True),
    "layers": vtune.integers(1, 2),
}


def digits() -> vtune.Data:
    """Returns all of them: 60 % of the rows to train, 20 % to validate and 20 % to test."""
    return vtune.Data.of()


def breast_cancer() -> vtune.Data:
    """Returns the standardized data: 64 % of the rows to train, 16 % to validate and 20 % to test."""
    x, y = (np.asarray(part) for part in load_breast_cancer(return_X_y=True))
    return split(x.astype(np.float32), y, standardize=True)


def of_mnist1d() -> vtune.Data:
    """Returns the data, split likewise."""
    return split(*mnist1d(rows=2000), standardize=False)


def split(x: np.ndarray, y: np.ndarray, standardize: bool) -> vtune.Data:
    """Holds out a fifth of the rows to test, and of the others a fifth to validate."""
    outer = vtune.Data.of((x, y))
    inner = vtune.Data.of(outer.train)
    return vtune.Data(train=inner.train, valid=inner.valid, test=outer.valid, standardize=standardize)


TASKS: list[tuple[str, Callable[[], vtune.Data]]] = [
    ("digits", digits),
    ("breast cancer", breast_cancer),
    ("MNIST-1D", of_mnist1d),
]


class Winners(NamedTuple):
    """What searches came to: losses of their winners and whole trainings spent, one a seed."""

    valid: Float[np.ndarray, " seeds"]
    test: Float[np.ndarray, " seeds"]
    trainings: Float[np.ndarray, " seeds"]


def train_all(factories: Mapping[str, StrategyFactory], options: argparse.Namespace) -> list[Row[Winners]]:
    """Searches with every strategy on every task."""
    offers = {
        name: {count: Offer.of(factory, count, options.training_epochs) for count in options.training_trials}
        for name, factory in factories.items()
    }
    rows = []
    for task, load in options.tasks:
        data = load()
        for name, factory in factories.items():
            winners = {count: train(data, factory, offer, options) for count, offer in offers[name].items()}
            rows.append(Row(task, name, winners))
    return rows


_MANY = 256
"""Trials of which a strategy that trains several at a time does so."""


class Offer(NamedTuple):
    """What a search is given, to spend the epochs of some whole trainings.

    Attributes:
        trials: in all.
        epochs: of one trial at most.
    """

    trials: int
    epochs: int

    @classmethod
    def of(cls, factory: StrategyFactory, trainings: int, epochs: int) -> "Offer":
        """Returns as many trials as it takes; who has but one network, which is looked after, may give it all."""
        if factory([RATE], trials=_MANY, epochs=epochs).max_lanes == 1:
            return cls(trainings * epochs, trainings * epochs)
        return cls(fitted_trials(factory, trainings, epochs), epochs)


def train(data: vtune.Data, factory: StrategyFactory, offer: Offer, options: argparse.Namespace) -> Winners:
    """Searches once a seed."""
    found = []
    for seed in range(options.training_seeds):
        study = vtune.search(
            vtune.MLP,
            options.space,
            data,
            strategy=factory,
            trials=offer.trials,
            epochs=offer.epochs,
            metric="loss",
            finalists=0,
            seed=seed,
            progress=False,
        )
        plans = study.plans.table.reset_index()
        spent = epochs_spent(*(plans[column].to_numpy() for column in ("trial_id", "parent", "budget")))
        found.append((study.best_score, study.test_score, spent / options.training_epochs))
    return Winners(*np.array(found, np.float64).T)


def print_training(rows: Sequence[Row[Winners]], baseline: str) -> None:
    """Prints one line a strategy and task."""
    print("\nLoss beyond the lowest that is known, from networks that were trained\n")
    counts, against = list(rows[0].found), differences(rows, baseline, lambda winners: winners.test)
    columns = ["data", "strategy", *(f"validation, {count} trainings" for count in counts), f"test, {max(counts)}"]
    columns += [f"test against {baseline} at {max(counts)} (95 %)", "trainings spent"]
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    for row in rows:
        print("|", " | ".join(cells(row, rows, against)), "|")
    print_answer(against, baseline, max(counts))


def cells(
    row: Row[Winners], rows: Sequence[Row[Winners]], against: Mapping[tuple[str, str], Interval]
) -> Iterator[str]:
    """Yields the cells of one line."""
    known = [winners for other in rows if other.on == row.on for winners in other.found.values()]
    yield from (row.on, row.strategy)
    for winners in row.found.values():
        yield Interval.of(winners.valid - min(other.valid.min() for other in known)).told()
    yield Interval.of(row.last.test - min(other.test.min() for other in known)).told()
    pair = against.get((row.strategy, row.on))
    yield pair.told(sign="+") if pair else ""
    yield f"{row.last.trainings.mean():.1f}"
