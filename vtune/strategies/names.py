"""The strategies by name, for ``search(strategy="coarse_to_fine")`` and the command line."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from vtune.defaults import did_you_mean
from vtune.protocols import StrategyFactory
from vtune.strategies.babysitting import babysit
from vtune.strategies.factories import Factory
from vtune.strategies.halving import hyperband, successive_halving
from vtune.strategies.lattice import grid
from vtune.strategies.promotions import asha
from vtune.strategies.sampling import random
from vtune.strategies.sequences import sobol
from vtune.strategies.zoom import coarse_to_fine

STRATEGIES: dict[str, Callable[..., Factory]] = {
    "asha": asha,
    "babysit": babysit,
    "coarse_to_fine": coarse_to_fine,
    "grid": grid,
    "hyperband": hyperband,
    "random": random,
    "sobol": sobol,
    "successive_halving": successive_halving,
}


def by_name(name: str) -> Factory:
    """Returns the strategy of this name with its default settings.

    Args:
        name: one of ``STRATEGIES``.

    Raises:
        ValueError: for a name that there is not.

    Example:
        >>> by_name("corse_to_fine")
        Traceback (most recent call last):
        ValueError: strategy='corse_to_fine': there is no such strategy; did you mean 'coarse_to_fine'?
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy={name!r}: there is no such strategy; {did_you_mean(name, STRATEGIES)}")
    return STRATEGIES[name]()


def factory_of(strategy: Any) -> StrategyFactory:
    """Returns the strategy that a user means: one by its name, or one of the objects.

    Raises:
        ValueError: for a name that is not known.
        TypeError: for what is no strategy, such as the function that makes one.
    """
    factory = by_name(strategy) if isinstance(strategy, str) else strategy
    try:
        signature(factory).bind((), trials=1, epochs=1)
    except (TypeError, ValueError) as error:  # vtune.strategies.random, say, which is not a strategy but makes one
        raise TypeError(
            f"strategy={strategy!r} is not one ({error}). Write a name, 'coarse_to_fine', or call what makes it, "
            "vtune.strategies.coarse_to_fine(rounds=4)."
        ) from error
    return factory
