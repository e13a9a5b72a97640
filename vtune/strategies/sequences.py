"""Sobol points: spread evenly over the whole box, however many there are.

All in integers. A coordinate is a word of 24 bits, and a point the exclusive or of one word for each bit of its trial
id; so points are the same to the last bit wherever they are computed, and multiples of 2**-24, as float32 holds them.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, Key, UInt32

from vtune.arguments import check_count
from vtune.protocols import Axis, Strategy
from vtune.strategies.factories import Factory
from vtune.strategies.rounds import Rounds

BITS = 24
"""Of a coordinate: as many as float32 holds below 1. With as many of a trial id, all points differ."""

MOST_AXES = 21201
"""For how many the direction numbers of Joe & Kuo (2008) reach."""


def sobol(round_size: int | None = None) -> Factory:
    """Tries the points of a scrambled Sobol sequence, which leave fewer gaps than random ones.

    Of the first 2**k trials each of 2**k equal parts of every axis has exactly one, so equally wide levels of integers
    and categories have their fair share. A power of two is therefore a good number of trials. Otherwise it is like
    random search: nothing is learnt from scores, and another key gives other points.

    Sources: Bousquet, Gelly, Kurach, Teytaud & Vincent (2017), "Critical Hyper-Parameters: No Random, No Cry",
    arXiv:1706.03200; direction numbers of Joe & Kuo (2008), SIAM J. Sci. Comput. 30, as SciPy has them; scrambled by a
    random matrix and shift (Matousek 1998, J. Complexity 14, after Owen). Departures: points are counted in plain
    binary, not in Gray code, which changes their order within the first 2**k alone; a point belongs to its trial id,
    so the cut into rounds does not change it.

    Args:
        round_size: the most trials to ask for at once; all of them by default. Rounds differ in size by one at most.

    Returns:
        A factory ``(axes, trials, epochs) -> Strategy``.

    Raises:
        ValueError: for a round size that is not a whole number of 1 or more; and by the factory for more axes or
            trials than there are points for.

    Example:
        >>> strategy = sobol()([Axis("learning_rate", None, True)], trials=4, epochs=5)
        >>> key = jax.random.key(0, impl="threefry2x32")
        >>> sorted(int(4 * point) for (point,) in strategy.ask(key, strategy.init(key)).points)
        [0, 1, 2, 3]
    """
    if round_size is not None:
        check_count("round_size", round_size, least=1, example=64)
    return Factory("sobol", _sobol, {"round_size": round_size})


@lru_cache
def _sobol(axes: tuple[Axis, ...], stages: tuple[int, ...], epochs: int, round_size: int | None) -> Strategy:
    if len(axes) > MOST_AXES or stages[-1] > 2**BITS:
        raise ValueError(
            f"sobol() got {len(axes)} axes and trials={stages[-1]}: its points have at most {MOST_AXES} coordinates, "
            f"and there are 2**{BITS} of them. Write strategy='random'."
        )
    rounds = Rounds.in_stages(stages, lambda trials: -(-trials // (round_size or trials)), epochs)
    directions = directions_of(len(axes), num_bits=max(1, (stages[-1] - 1).bit_length()))
    return rounds.without_memory(lambda key, trial_ids: points_of(scrambled(key, directions), trial_ids))


def directions_of(num_axes: int, num_bits: int) -> UInt32[np.ndarray, "bits axes"]:
    """Returns the words that a point is made of, one for each bit of its trial id.

    Example:
        >>> [f"{word:024b}"[:4] for (word,) in directions_of(num_axes=1, num_bits=3).tolist()]
        ['1000', '0100', '0010']
    """
    from scipy.stats import qmc  # here, as it takes a second to import

    points = qmc.Sobol(num_axes, scramble=False, bits=BITS).random_base2(num_bits)
    steps = (points[2 ** np.arange(num_bits)] * 2**BITS).astype(np.uint32)
    return np.bitwise_xor.accumulate(steps, axis=0)  # in Gray code, 2**k has the bits k and k - 1


def scrambled(key: Key[Array, ""], directions: UInt32[np.ndarray, "bits axes"]) -> UInt32[Array, "words axes"]:
    """Returns the shift of each axis, and below it its direction numbers, multiplied by a random matrix of bits.

    Each bit of a product is that bit of the factor, plus some of those before it: what is in one of 2**k equal parts
    of an axis stays together, for every k.
    """
    drawn = jax.random.bits(key, (BITS + 1, directions.shape[1]), jnp.uint32)
    bit = jnp.arange(BITS, dtype=jnp.uint32)[:, None]
    before = jnp.uint32(2**BITS - 2) << bit & jnp.uint32(2**BITS - 1)
    matrix = drawn[1:] & before | jnp.uint32(1) << bit
    is_odd = jax.lax.population_count(matrix[:, None] & jnp.asarray(directions)[None]) & jnp.uint32(1)
    products = jnp.sum(is_odd << bit[:, None], axis=0, dtype=jnp.uint32)
    return jnp.concatenate([drawn[:1] & jnp.uint32(2**BITS - 1), products])


def points_of(words: UInt32[Array, "words axes"], trial_ids: Int[Array, " lanes"]) -> Float[Array, "lanes axes"]:
    """Returns the points of some trials from what ``scrambled`` returns."""
    bits = trial_ids[:, None] >> jnp.arange(len(words) - 1, dtype=trial_ids.dtype)[None] & 1
    is_in = jnp.concatenate([jnp.ones_like(bits[:, :1]), bits], axis=1).astype(bool)
    taken = jnp.where(is_in[:, :, None], words[None], jnp.uint32(0))
    coordinates = jax.lax.reduce(taken, np.uint32(0), jax.lax.bitwise_xor, (1,))
    return coordinates.astype(jnp.float32) / jnp.float32(2**BITS)
