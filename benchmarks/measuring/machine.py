"""What the machine can do at best."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def peak_flops(size: int = 2048) -> float:
    """Returns the floating-point operations a second of one large float32 product."""
    a = jnp.ones((size, size), jnp.float32)
    return 2 * size**3 / _best_seconds(jnp.matmul, a, a)


def bandwidth(megabytes: int = 256) -> float:
    """Returns the bytes a second that a pass over a large array reads and writes."""
    a = jnp.ones(megabytes << 18, jnp.float32)
    return 2 * a.nbytes / _best_seconds(lambda a: a * 2, a)


def _best_seconds(function: Callable[..., Any], *arguments: Array, repeats: int = 5) -> float:
    compiled = jax.jit(function).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - started)
    return min(seconds)
