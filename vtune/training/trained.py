"""The network of one trial, at its true size, out of a padded lane."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import PyTree

from vtune.data import Data
from vtune.keys import IMPLEMENTATION
from vtune.protocols import Executor, Training
from vtune.scaling import Units
from vtune.training.job import Job
from vtune.training.losses import RowLoss


class Standardized(nnx.Module):
    """A network that was trained on standardized numbers, to be called on x as it is.

    Attributes:
        network: what was trained.
        x_mean: by which x is standardized, as are the following.
        x_scale: of x.
        y_mean: of targets, which are put out in their own units; None for classes.
        y_scale: likewise.
    """

    def __init__(self, network: Callable[..., Array], x_units: Units, y_units: Units | None):
        """Puts the parts together; variables but no ``nnx.Param``, so that an optimizer leaves the units alone."""
        self.network = network
        self.x_mean, self.x_scale = (nnx.Variable(jnp.asarray(number)) for number in x_units)
        y_parts = (None, None) if y_units is None else (nnx.Variable(jnp.asarray(number)) for number in y_units)
        self.y_mean, self.y_scale = y_parts

    def __call__(self, x: Any, **flags: Any) -> Array:
        """Returns outputs: logits, or targets in their own units."""
        x_units = Units(self.x_mean[...], self.x_scale[...])
        outputs = self.network(x_units.standardize(jnp.asarray(x, x_units.mean.dtype)), **flags)
        if self.y_mean is None or self.y_scale is None:
            return outputs
        return Units(self.y_mean[...], self.y_scale[...]).restore(outputs)


def trained_module(executor: Executor, job: Job, training: Training) -> Callable[..., Array]:
    """Returns the Flax module at the end of a training, by going through it again to the same bits.

    It takes x as the user has it, and puts targets out in their own units, also where the data are standardized.

    Args:
        executor: what trained it.
        job: what it trained.
        training: of the trial, as long as its network is to be trained.
    """
    _, lane = executor.replay(training)
    network, hparams = job.recipe.network(), training.hparams
    true_shapes = jax.eval_shape(
        lambda key: network.init(key, hparams), jax.eval_shape(lambda: jax.random.key(0, impl=IMPLEMENTATION))
    )
    module = network.module(true_block(true_shapes, (lane.params, lane.model_state)), hparams)
    return _in_own_units(module, job.data)


def _in_own_units(module: Callable[..., Array], data: Data) -> Callable[..., Array]:
    if data.x_units is None:
        return module
    if isinstance(module, partial):
        return partial(Standardized(module.func, data.x_units, data.y_units), **module.keywords)
    return Standardized(module, data.x_units, data.y_units)


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


def mean_of_rows(
    module: Callable[..., Array], of_rows: RowLoss, x: Any, y: Any, matmul_precision: str | None = None
) -> float:
    """Returns the mean of a loss or metric of the module's outputs, as one compiled call.

    Args:
        module: from rows to outputs.
        of_rows: from outputs and y to one number a row.
        x: rows.
        y: what belongs to them.
        matmul_precision: that the module was trained with.
    """
    with jax.default_matmul_precision(matmul_precision):  # pyright: ignore[reportArgumentType]  (None resets)
        return float(jax.jit(lambda x, y: of_rows(module(x), y).mean())(x, y))
