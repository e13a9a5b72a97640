"""Number formats: which floats networks are made of, and float64 where a thread or a part of a program needs it."""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np


def float_dtype() -> np.dtype:
    """Returns the type that networks train in by default: float32, or float64 in JAX's x64 mode."""
    return jax.dtypes.canonicalize_dtype(np.float64)


@contextlib.contextmanager
def float_precision(dtype: np.dtype) -> Iterator[None]:
    """Puts this thread in x64 mode or out of it: a thread does not inherit the mode of the one that started it.

    Args:
        dtype: float64 for x64 mode.
    """
    enable = getattr(jax, "enable_x64", None)
    if enable is None:  # before jax 0.8
        from jax.experimental import enable_x64 as enable  # pyright: ignore[reportAttributeAccessIssue]
    with enable(dtype == np.float64):
        yield


def told_precision(matmul_precision: str | None = None) -> str | None:
    """Returns the precision of matrix products that was asked for, or else what JAX was told; None for its own choice.

    Args:
        matmul_precision: as ``jax.default_matmul_precision`` takes it.

    Raises:
        ValueError: for what that does not take.

    Example:
        >>> told_precision("highest")
        'highest'
    """
    try:
        with jax.default_matmul_precision(matmul_precision or jax.config.jax_default_matmul_precision):  # pyright: ignore
            return matmul_precision or jax.config.jax_default_matmul_precision  # pyright: ignore
    except ValueError as error:
        raise ValueError(
            f"matmul_precision={matmul_precision!r}: {error} Write matmul_precision='highest', 'high' or 'default'."
        ) from error
