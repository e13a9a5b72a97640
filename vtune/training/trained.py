"""The network of one trial, at its true size, out of a padded lane."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jaxtyping import PyTree

from vtune.protocols import Hparams
from vtune.training.losses import RowLoss
from vtune.training.queue import ChunkQueue


def trained_module(executor: ChunkQueue, hparams: Hparams, num_epochs: int) -> Callable[..., Array]:
    """Returns the Flax module of a trial as it was after some epochs, by training it again to the same bits.

    Args:
        executor: what trained it.
        hparams: complete ones of the trial.
        num_epochs: how many.
    """
    _, lane = executor.replay(hparams, num_epochs)
    network = executor.recipe.network()
    true_shapes = jax.eval_shape(lambda key: network.init(key, hparams), jax.eval_shape(lambda: jax.random.key(0)))
    return network.module(true_block(true_shapes, (lane.params, lane.model_state)), hparams)


def true_block(shapes: PyTree, padded: PyTree) -> PyTree:
    """Returns the leading block of each padded array, and only the arrays that the true network has.

    Args:
        shapes: the weights of the network at its true size, as shapes.
        padded: nested dicts and tuples that hold at least the same names, each array at least as large.

    Example:
        >>> import jax, numpy as np
        >>> true_block({"kernel": jax.ShapeDtypeStruct((1, 2), "float32")}, {"kernel": np.ones((4, 4)), "more": 0})
        {'kernel': array([[1., 1.]])}
    """
    if isinstance(shapes, dict):
        return {name: true_block(shape, padded[name]) for name, shape in shapes.items()}
    if isinstance(shapes, tuple):
        return tuple(true_block(*pair) for pair in zip(shapes, padded, strict=True))
    return padded[tuple(slice(size) for size in shapes.shape)]


def mean_of_rows(module: Callable[..., Array], of_rows: RowLoss, x: Any, y: Any) -> float:
    """Returns the mean of a loss or metric of the module's outputs, as one compiled call."""
    return float(jax.jit(lambda x, y: of_rows(module(x), y).mean())(x, y))
