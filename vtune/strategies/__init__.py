"""What to try next: each strategy takes its own settings and returns a factory; it never trains and never writes."""

from vtune.strategies.babysitting import babysit
from vtune.strategies.boxes import near_bounds
from vtune.strategies.compositions import chain, tiered
from vtune.strategies.halving import hyperband, successive_halving
from vtune.strategies.lattice import grid
from vtune.strategies.names import by_name
from vtune.strategies.outside import from_optuna
from vtune.strategies.population import population_based
from vtune.strategies.promotions import asha
from vtune.strategies.sampling import random
from vtune.strategies.sequences import sobol
from vtune.strategies.zoom import coarse_to_fine

__all__ = [
    "asha",
    "babysit",
    "by_name",
    "chain",
    "coarse_to_fine",
    "from_optuna",
    "grid",
    "hyperband",
    "near_bounds",
    "population_based",
    "random",
    "sobol",
    "successive_halving",
    "tiered",
]
