"""The tree of random keys: every draw of a study has its own place in it, so no draw depends on another.

A study's root key comes from its seed. Below it hang one branch for what belongs to the study (the split of its
data, the points of its trials by trial id) and one for each seed index (initial weights, data order, noise), which
the trials of a round share: they are compared on common random numbers.
"""

import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int, Key, UInt32

IMPLEMENTATION = "threefry2x32"
"""Stated wherever a key is made: under vmap, other implementations draw the whole batch from the first key."""


class Purpose(enum.IntEnum):
    """What a key is for; the last fold of every path through the tree."""

    SPLIT = 0
    SAMPLE = 1
    WEIGHTS = 2
    ORDER = 3
    NOISE = 4
    RETEST = 6


_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
"""By how many bits threefry rotates, in turns of four rounds."""

_PARITY = np.uint32(0x1BD11BDA)
"""What threefry's third key word is made with."""

_SEEDS = 5
"""The branch of the seed indices. Purposes to come take other numbers: this one is in every study's bits."""


def is_typed_threefry(key: Any) -> bool:
    """Returns whether this is a typed key of the implementation that all draws here are made with.

    Example:
        >>> is_typed_threefry(jax.random.key(0, impl="threefry2x32")), is_typed_threefry(jax.random.PRNGKey(0))
        (True, False)
    """
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and str(jax.random.key_impl(key)) == IMPLEMENTATION


def seed_words(seed: int) -> UInt32[np.ndarray, "2"]:
    """The root key of ``seed`` as raw words, made on the host: making keys one by one compiles for each.

    Example:
        >>> seed_words(7).tolist()
        [0, 7]
    """
    return np.array([(seed >> 32) & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32)


def from_words(words: UInt32[Array | np.ndarray, "2"]) -> Key[Array, ""]:
    """The typed key with these raw words. Call it inside a jitted function."""
    return jax.random.wrap_key_data(jnp.asarray(words), impl=IMPLEMENTATION)


def study_key(root: Key[Array, ""], purpose: Purpose) -> Key[Array, ""]:
    """The key of what belongs to the study as a whole: its split, its samples."""
    return jax.random.fold_in(root, purpose)


def seed_key(root: Key[Array, ""], seed_index: Int[Array, ""]) -> Key[Array, ""]:
    """The key of what the trials of one seed index share; fold in WEIGHTS, ORDER or NOISE."""
    return jax.random.fold_in(jax.random.fold_in(root, _SEEDS), seed_index)


def split_bits(root: UInt32[np.ndarray, "2"]) -> UInt32[np.ndarray, "4"]:
    """What a study with this root splits its data by: four words drawn from the key of that.

    They are drawn on the host, by what JAX draws with unless its setting ``jax_threefry_partitionable`` is turned off.
    It compiles nothing, and does not start JAX: a CPU that has started is no longer split into one device a core.

    Example:
        >>> key = study_key(jax.random.key(7, impl="threefry2x32"), Purpose.SPLIT)
        >>> split_bits(seed_words(7)).tolist() == jax.random.bits(key, (4,), "uint32").tolist()
        True
    """
    high, low = _threefry_2x32(root, np.array([[0, Purpose.SPLIT]], np.uint32)).T
    counters = np.stack([np.zeros(4, np.uint32), np.arange(4, dtype=np.uint32)], axis=1)
    return np.bitwise_xor.reduce(_threefry_2x32(np.concatenate([high, low]), counters), axis=1)


def _threefry_2x32(
    key: UInt32[np.ndarray, "2"], counters: UInt32[np.ndarray, "draws 2"]
) -> UInt32[np.ndarray, "draws 2"]:
    """Threefry-2x32 of 20 rounds, as JAX draws with it.

    Source: Salmon, Moraes, Dror & Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3", SC11, section 3.3.
    """
    words = np.array([*key, key[0] ^ key[1] ^ _PARITY], np.uint32)
    left, right = counters[:, 0] + words[0], counters[:, 1] + words[1]
    for turn in range(5):
        for rotation in _ROTATIONS[turn % 2]:
            left = left + right
            right = ((right << np.uint32(rotation)) | (right >> np.uint32(32 - rotation))) ^ left
        left, right = left + words[(turn + 1) % 3], right + words[(turn + 2) % 3] + np.uint32(turn + 1)
    return np.stack([left, right], axis=1)
