"""What the machine is, and what it can do at best."""

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from vtune.training.devices import num_cores


def machine() -> str:
    """Returns what this is, in a line."""
    told = f"{platform.machine()}, {num_cores()} cores, Python {platform.python_version()}, jax {jax.__version__}"
    return f"{told}, load average {os.getloadavg()[0]:.1f}"


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
