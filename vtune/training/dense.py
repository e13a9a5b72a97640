"""A dense layer's linear part, with derivatives in the forms that XLA compiles to the fastest code for CPUs.

The gradients are what they always are. But written as they come, two of the products read an array across, and the sum
over rows is taken number by number.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

_TALL = 4
"""How many times as many rows as a mini-batch a kernel must have to be the larger thing to turn round."""


@jax.custom_jvp
def linear(
    x: Float[Array, "batch inputs"], kernel: Float[Array, "inputs outputs"], bias: Float[Array, " outputs"]
) -> Float[Array, "batch outputs"]:
    """Returns ``x @ kernel + bias``. It may be differentiated forwards and backwards, any number of times.

    The way back turns rows round, before or after a product, and never a kernel that is much larger than they are. It
    sums rows by halves. ``benchmarks/chunks.py`` measures networks of such layers.
    """
    return x @ kernel + bias[None, :]


@linear.defjvp
def _linear_jvp(primals: tuple[Any, Any, Any], tangents: tuple[Any, Any, Any]) -> tuple[Array, Array]:
    """The way back is the transpose of this, operation by operation."""
    (x, kernel, _), (of_x, of_kernel, of_bias) = primals, map(jnp.asarray, tangents)
    rows, inputs = x.shape
    turned = lax.optimization_barrier(x.T)  # else XLA puts it back into the product
    of_rows = lax.optimization_barrier(of_x.T) if inputs > _TALL * rows else of_x.T
    by_x = lax.dot_general(kernel, of_rows, (((0,), (0,)), ((), ()))).T
    by_kernel = lax.dot_general(turned, of_kernel, (((0,), (0,)), ((), ())))
    return linear(*primals), by_x + by_kernel + _repeated(of_bias, rows)


def _repeated(row: Float[Array, " outputs"], times: int) -> Float[Array, "times outputs"]:
    """Returns equal rows, doubled as often as they can be, so that on the way back they are added up by halves."""
    odd = times // (times & -times)
    rows = jnp.broadcast_to(row, (odd, *row.shape))
    while rows.shape[0] < times:
        rows = jnp.concatenate([rows, rows])
    return rows
