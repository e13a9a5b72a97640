"""Losses and metrics, one number a row; lower-is-better is a matter of the border."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float

RowLoss = Callable[[Array, Array], Float[Array, " batch"]]


def cross_entropy(outputs: Float[Array, "batch classes"], labels: Array) -> Float[Array, " batch"]:
    """Softmax cross entropy of integer labels, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels)


def squared_error(outputs: Float[Array, "batch targets"], targets: Array) -> Float[Array, " batch"]:
    """Squared error, averaged over the columns of the target."""
    return jnp.mean((outputs - targets) ** 2, axis=-1)


def is_correct(outputs: Float[Array, "batch classes"], labels: Array) -> Float[Array, " batch"]:
    """1 where the largest output is the label's; NaN where an output is NaN, which ``argmax`` takes for a class."""
    hits = jnp.argmax(outputs, axis=-1).astype(labels.dtype) == labels
    return jnp.where(jnp.any(jnp.isnan(outputs), axis=-1), jnp.nan, hits.astype(outputs.dtype))


class Metric(NamedTuple):
    """A number to report of each row, averaged.

    Attributes:
        name: its column in the curves.
        of_rows: from outputs and targets to one number a row.
        is_maximized: whether larger is better.
    """

    name: str
    of_rows: RowLoss
    is_maximized: bool


LOSSES: dict[str, RowLoss] = {"cross_entropy": cross_entropy, "mse": squared_error}
METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", is_correct, is_maximized=True),
    "mse": Metric("mse", squared_error, is_maximized=False),
}
