"""The strategies by name, for ``search(strategy="coarse_to_fine")`` and the command line."""

from collections.abc import Callable
from typing import Any

from vtune.defaults import did_you_mean
from vtune.protocols import StrategyFactory
from vtune.strategies.babysitting import babysit
from vtune.strategies.compositions import tiered
from vtune.strategies.factories import Factory, checked_factory
from vtune.strategies.halving import hyperband, successive_halving
from vtune.strategies.lattice import grid
from vtune.strategies.population import population_based
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
    "population_based": population_based,
    "random": random,
    "sobol": sobol,
    "successive_halving": successive_halving,
    "tiered": tiered,
}


def by_name(name: str, **settings: Any) -> Factory:
    """Returns the strategy of this name, with its defaults but for some settings.

    Args:
        name: one of ``STRATEGIES``.
        settings: as the function of that name takes them.

    Raises:
        ValueError: for a name that there is not.

    Example:
        >>> by_name("corse_to_fine")
        Traceback (most recent call last):
        ValueError: strategy='corse_to_fine': there is no such strategy; did you mean 'coarse_to_fine'?
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy={name!r}: there is no such strategy; {did_you_mean(name, STRATEGIES)}")
    return STRATEGIES[name](**settings)


def factory_of(strategy: Any) -> StrategyFactory:
    """Returns the strategy that a user means: one by its name, or one of the objects.

    Raises:
        ValueError: for a name that is not known.
        TypeError: for what is no strategy, such as the function that makes one.
    """
    factory = by_name(strategy) if isinstance(strategy, str) else strategy
    advice = "Write a name, 'coarse_to_fine', or call what makes it, vtune.strategies.coarse_to_fine(rounds=4)"
    return checked_factory(f"strategy={strategy!r}", factory, advice)
