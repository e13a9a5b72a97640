"""hyperoptax, which maps a JAX function of numbers over trials.

It varies what does not change a shape, so it is given a population of one shape. All trials are mapped at once, as many
as memory holds being what it is made for. Its function returns one number.
"""

from collections.abc import Callable
from typing import Any

import hyperoptax  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from contest.contestants import Prepare
from contest.loops import NUMBERS, blank, train_whole
from contest.work import Curves, Work


class Drawn(hyperoptax.RandomSearch):
    """A random search that is handed its draws, which takes it no time."""

    def get_next_params(self, state: Any, key: Array, params: Any = None, results: Any = None) -> Any:
        """Returns all trials."""
        return state.space


def start(cores: int) -> Prepare:
    """Starts JAX."""
    jax.devices()
    return prepare


def prepare(work: Work) -> Callable[[], Curves]:
    """Stacks the weights of all trials, and gives the search its function."""
    (shape,) = {(row["hidden"], row["layers"], row["batch_size"]) for row in work.rows}
    hidden, layers, batch_size = shape
    graph, structure = blank(work.num_features, hidden, layers, work.num_classes)
    data = jax.device_put((work.orders, work.train, work.valid))
    stacked = jax.tree.map(lambda *blocks: np.stack(blocks), *work.weights)
    draws = {name: jnp.asarray(work.column(name)) for name in NUMBERS}
    draws["weights"] = jax.device_put(jax.tree.unflatten(structure, jax.tree.leaves(stacked)))

    def train() -> Curves:
        state, search = Drawn.init(draws, n_parallel=work.trials)
        _, (_, [losses]) = search.optimize(state, jax.random.key(work.seed), last_loss, n_iterations=1)
        curves = np.full((work.trials, work.epochs, 2), np.nan)
        curves[:, -1, 1] = losses
        return curves

    def last_loss(key: Array, drawn: dict[str, Any]) -> Float[Array, ""]:
        numbers = {name: drawn[name] for name in NUMBERS}
        return train_whole(drawn["weights"], numbers, *data, graph=graph, batch_size=batch_size)[-1, 1]

    return train
