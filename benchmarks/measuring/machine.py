"""What the machine is, and what it can do at best."""

import os
import platform

import jax
import jax.numpy as jnp

from vtune.benching import best_seconds, peak_flops
from vtune.training.devices import num_cores

__all__ = ["bandwidth", "machine", "peak_flops"]


def machine() -> str:
    """Returns what this is, in a line."""
    told = f"{platform.machine()}, {num_cores()} cores, Python {platform.python_version()}, jax {jax.__version__}"
    return f"{told}, load average {os.getloadavg()[0]:.1f}"


def bandwidth(megabytes: int = 256) -> float:
    """Returns the bytes a second that a pass over a large array reads and writes."""
    a = jnp.ones(megabytes << 18, jnp.float32)
    return 2 * a.nbytes / best_seconds(lambda a: a * 2, a)
