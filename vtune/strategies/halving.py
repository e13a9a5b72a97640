"""Successive halving and Hyperband: many trials for a few epochs, and the best of them for more."""

from functools import lru_cache
from itertools import pairwise

from vtune.arguments import check_count
from vtune.protocols import Axis, Strategy
from vtune.strategies.brackets import Bracket, budgets_of_levels, filled, packed
from vtune.strategies.factories import Factory


def successive_halving(eta: int = 3, least: int | None = None) -> Factory:
    """Starts every trial with a few epochs, and goes on with the best third, and the best third of those.

    Trials are drawn at random and all start with the smallest budget; after each level the best ``1 / eta`` of them
    (rounded down, but one at least) go on from their weights, until the last have trained for all ``epochs``. Budgets
    are ``epochs / eta**s``, rounded. Equal scores rank by trial id; a trial that diverged does not go on. With 81
    trials, 81 epochs and ``eta=3``: 81 trials for 1 epoch, 27 for 3, 9 for 9, 3 for 27, 1 for 81.

    Source: Jamieson & Talwalkar (2016), "Non-stochastic Best Arm Identification and Hyperparameter Optimization",
    AISTATS. Departures: levels follow from ``epochs`` and not from the number of trials, so that with few trials the
    last levels have one; a search that is continued starts another population, which competes within itself.

    Args:
        eta: one in how many goes on.
        least: the fewest epochs to judge a trial by; by default 1.

    Returns:
        A factory ``(axes, trials, epochs) -> Strategy``.

    Raises:
        ValueError: for an ``eta`` below 2, a ``least`` below 1, and by the factory for one above ``epochs``.

    Example:
        >>> successive_halving(least=2)([Axis("learning_rate", None, True)], trials=64, epochs=20).max_lanes
        64
    """
    check_count("eta", eta, least=2, example=3)
    if least is not None:
        check_count("least", least, least=1, example=2)
    return Factory("successive_halving", _successive_halving, {"eta": eta, "least": least})


@lru_cache
def _successive_halving(
    axes: tuple[Axis, ...], stages: tuple[int, ...], epochs: int, eta: int, least: int | None
) -> Strategy:
    brackets = [(Bracket(end - start, first_level=0),) for start, end in pairwise((0, *stages))]
    return packed(axes, brackets, budgets_of_levels(epochs, eta, least or 1), eta)


def hyperband(eta: int = 3) -> Factory:
    """Successive halving several times over, from many trials judged early to few that are never cut.

    How many epochs it takes to tell a good trial from a bad one is not known beforehand. So the trials are spread over
    brackets, each of which starts to choose later than the one before it, and has fewer trials for about the same
    work; the last gives all ``epochs`` to everyone. All brackets train side by side (``vtune.strategies.brackets``):
    with ``epochs=81`` and ``eta=3`` a set of them has 81 + 34 + 15 + 8 + 5 = 143 trials, and its plans 143 trials for
    1 epoch, 89 for 3, 48 for 9, 24 for 27, 10 for 81. Sets are repeated until the trials are used up, and trained side
    by side too; fewer trials than a set fill the brackets in their order. Equal scores rank by trial id; a trial that
    diverged does not go on.

    Source: Li, Jamieson, DeSalvo, Rostamizadeh & Talwalkar (2018), "Hyperband: A Novel Bandit-Based Approach to
    Hyperparameter Optimization", JMLR 18, algorithm 1. Departures: the packing; the last bracket may have fewer trials
    than the paper's; budgets are rounded to whole epochs; a search that is continued starts another population.

    Args:
        eta: one in how many goes on.

    Returns:
        A factory ``(axes, trials, epochs) -> Strategy``.

    Raises:
        ValueError: for an ``eta`` below 2.

    Example:
        >>> [bracket.trials for bracket in set_of_brackets(num_levels=5, eta=3)]
        [81, 34, 15, 8, 5]
    """
    check_count("eta", eta, least=2, example=3)
    return Factory("hyperband", _hyperband, {"eta": eta})


@lru_cache
def _hyperband(axes: tuple[Axis, ...], stages: tuple[int, ...], epochs: int, eta: int) -> Strategy:
    budgets = budgets_of_levels(epochs, eta)
    kinds = set_of_brackets(len(budgets), eta)
    brackets = [filled(end - start, kinds) for start, end in pairwise((0, *stages))]
    return packed(axes, brackets, budgets, eta)


def set_of_brackets(num_levels: int, eta: int) -> tuple[Bracket, ...]:
    """Returns one bracket for each level to start from, with the trials that the paper gives it."""
    return tuple(
        Bracket(trials=-(-num_levels * eta**cuts // (cuts + 1)), first_level=num_levels - 1 - cuts)
        for cuts in reversed(range(num_levels))
    )
