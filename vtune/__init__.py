"""vtune: tunes neural networks in JAX by training hundreds of trials at the same time.

Names are imported when they are first used, so that the command line need not wait for JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtune import strategies
    from vtune.data import Data
    from vtune.protocols import Shapes
    from vtune.space import (
        Choice,
        Continuous,
        Integer,
        Space,
        choice,
        default_space,
        integers,
        loguniform,
        powers_of_two,
        reverse_loguniform,
        uniform,
    )
    from vtune.study import Study, search
    from vtune.training.mlp import MLP

_HOMES = {
    "vtune.data": ["Data"],
    "vtune.protocols": ["Shapes"],
    "vtune.space": [
        "Choice",
        "Continuous",
        "Integer",
        "Space",
        "choice",
        "default_space",
        "integers",
        "loguniform",
        "powers_of_two",
        "reverse_loguniform",
        "uniform",
    ],
    "vtune.study": ["Study", "search"],
    "vtune.training.mlp": ["MLP"],
}

__all__ = [
    "MLP",
    "Choice",
    "Continuous",
    "Data",
    "Integer",
    "Shapes",
    "Space",
    "Study",
    "choice",
    "default_space",
    "integers",
    "loguniform",
    "powers_of_two",
    "reverse_loguniform",
    "search",
    "strategies",
    "uniform",
]


def __getattr__(name: str) -> Any:
    if name == "strategies":
        return import_module("vtune.strategies")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'vtune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
