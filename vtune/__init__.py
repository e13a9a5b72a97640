"""vtune: tunes neural networks in JAX by training hundreds of trials at the same time."""

from vtune.versions import refuse_broken_jax as _refuse_broken_jax

_refuse_broken_jax()  # before anything else of JAX or Flax is touched

from vtune import strategies
from vtune.data import Data
from vtune.fused import FusedResults, FusedSearch, fused_search
from vtune.parameters import (
    Choice,
    Continuous,
    Integer,
    choice,
    integers,
    loguniform,
    powers_of_two,
    reverse_loguniform,
    uniform,
)
from vtune.planning import Forecast, plan
from vtune.protocols import Shapes
from vtune.retesting import Retest, retest
from vtune.searching import search
from vtune.sitting import Sitter
from vtune.space import Space, default_space, per_layer
from vtune.study import Study
from vtune.training.mlp import MLP

__all__ = [
    "MLP",
    "Choice",
    "Continuous",
    "Data",
    "Forecast",
    "FusedResults",
    "FusedSearch",
    "Integer",
    "Retest",
    "Shapes",
    "Sitter",
    "Space",
    "Study",
    "choice",
    "default_space",
    "fused_search",
    "integers",
    "loguniform",
    "per_layer",
    "plan",
    "powers_of_two",
    "retest",
    "reverse_loguniform",
    "search",
    "strategies",
    "uniform",
]
