"""A dense layer's linear part, with derivatives in forms that XLA compiles to faster code for CPUs.

The gradients are what they always are. Differentiated as it comes, ``x @ kernel`` has two products on its backward pass
that read an array by columns, and the sum over rows of the bias, which XLA takes number by number.
"""

from functools import reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Float, Num

from vtune.training.devices import is_cpu_default

_TALL = 4
"""How many times as many inputs as rows a layer must have for its rows to be transposed, and not its kernel."""


@jax.custom_jvp
def linear(
    x: Num[Array, "batch inputs"], kernel: Float[Array, "inputs outputs"], bias: Float[Array, " outputs"]
) -> Float[Array, "batch outputs"]:
    """Returns ``x @ kernel + bias``. It may be differentiated forwards and backwards, any number of times.

    On a CPU the backward pass transposes rows, before or after a product, and no kernel that is much larger than they
    are; and it sums rows by halves.
    """
    return x @ kernel + bias[None, :]


def _linear_jvp(primals: tuple[Any, Any, Any], tangents: tuple[Any, Any, Any]) -> tuple[Array, Array]:
    """The backward pass is the transpose of this, operation by operation. Tangents that are zero are left out."""
    (x, kernel, _), (x_dot, kernel_dot, bias_dot) = primals, tangents
    products = (_product_by_rows, _product, _repeated) if _pays(x.shape) else (jnp.matmul, jnp.matmul, _broadcast)
    by_x, by_kernel, by_bias = products
    parts = [
        (x_dot, lambda: by_x(x_dot, kernel)),
        (kernel_dot, lambda: by_kernel(x, kernel_dot)),
        (bias_dot, lambda: by_bias(bias_dot, x.shape[0])),
    ]
    return linear(*primals), reduce(add, (part() for dot, part in parts if not isinstance(dot, SymbolicZero)))


linear.defjvp(_linear_jvp, symbolic_zeros=True)


def _pays(shape: tuple[Any, ...]) -> bool:
    """Whether that pays here. Other devices' libraries read by columns as fast; a symbolic shape has no halves."""
    return is_cpu_default() and all(isinstance(size, int) for size in shape)


def _product_by_rows(x_dot: Array, kernel: Array) -> Array:
    """Returns ``x_dot @ kernel``, whose transpose is a product by the kernel as it lies in memory."""
    rows, inputs = x_dot.shape
    transposed = lax.optimization_barrier(x_dot.T) if inputs > _TALL * rows else x_dot.T
    return lax.dot_general(kernel, transposed, (((0,), (0,)), ((), ()))).T


def _product(x: Array, kernel_dot: Array) -> Array:
    """Returns ``x @ kernel_dot``, whose transpose is a product of rows that were transposed beforehand."""
    transposed = lax.optimization_barrier(x.T)  # else XLA puts it back into the product
    return lax.dot_general(transposed, kernel_dot, (((0,), (0,)), ((), ())))


def _broadcast(row: Array, times: Any) -> Array:
    return jnp.broadcast_to(row, (times, *row.shape))


def _repeated(row: Array, times: int) -> Array:
    """Returns equal rows, doubled as often as they can be, so that the transpose adds them up by halves."""
    odd = times // (times & -times or 1)
    rows = _broadcast(row, odd)
    while rows.shape[0] < times:
        rows = jnp.concatenate([rows, rows])
    return rows
