"""The strategies by name, for ``search(strategy="coarse_to_fine")`` and the command line."""

from collections.abc import Callable

from vtune.defaults import did_you_mean
from vtune.strategies.factories import Factory
from vtune.strategies.lattice import grid
from vtune.strategies.sampling import random
from vtune.strategies.zoom import coarse_to_fine

STRATEGIES: dict[str, Callable[..., Factory]] = {
    "coarse_to_fine": coarse_to_fine,
    "grid": grid,
    "random": random,
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
