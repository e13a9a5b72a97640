"""What a mean over a few paired seeds may be: draws of it that are wide enough for few seeds."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

NUM_DRAWS = 4000
"""How many draws there are: a probability of 0.05 is then right to 0.003."""


def draw_means(scores: Float[np.ndarray, "rows seeds"], seed: int = 0) -> Float[np.ndarray, "draws rows"]:
    """Draws what the mean of each row over all seeds there could be may be.

    It is a paired bootstrap: a draw weighs the seeds at random, by the same weights in every row, so that what seeds
    have in common cancels where rows are compared. The difference of two rows, like each row itself, is drawn from
    Student's t with seeds - 1 degrees of freedom around its mean, and by its paired standard error.

    That is where we depart from the plain bootstrap, which is too narrow for few seeds: its standard deviation by
    sqrt(1 - 1 / seeds), its tails by those of the normal against Student's t (Hesterberg 2015, "What teachers should
    know about the bootstrap"). Of normal scores, its lower bounds at 95 % hold in 91 % at 8 seeds and in 81 % at 3,
    those of the Bayesian bootstrap (Rubin 1981) in 90 % and 82 %. So the weights are normal ones (the multiplier
    bootstrap of Chernozhukov, Chetverikov & Kato 2013), divided by the root of one chi-squared number a draw. For
    normal scores that is the posterior of a mean under the usual flat prior (Gelman et al. 2013, section 3.2).

    Args:
        scores: finite; one column a seed.
        seed: of the draws; the same one gives the same draws.

    Example:
        >>> scores = np.array([[0.90, 0.92, 0.91], [0.80, 0.83, 0.81]])
        >>> draws = draw_means(scores)
        >>> np.round(np.mean(draws, axis=0), 3).tolist(), bool(np.mean(draws[:, 0] > draws[:, 1]) > 0.99)
        ([0.91, 0.813], True)
    """
    means = np.mean(scores, axis=1)
    return means + _weights(scores.shape[1], seed) @ (scores - means[:, None]).T


def standard_errors(scores: Float[np.ndarray, "rows seeds"]) -> Float[np.ndarray, " rows"]:
    """Returns the standard error of each mean over seeds; NaN for one seed, and where a score is not finite.

    Example:
        >>> standard_errors(np.array([[1.0, 3.0], [1.0, np.nan]])).tolist()
        [1.0, nan]
    """
    num_seeds = scores.shape[1]
    if num_seeds < 2:
        return np.full(len(scores), np.nan)
    is_finite = np.all(np.isfinite(scores), axis=1, keepdims=True)
    return np.std(np.where(is_finite, scores, np.nan), axis=1, ddof=1) / np.sqrt(num_seeds)


@lru_cache(maxsize=16)
def _weights(num_seeds: int, seed: int) -> np.ndarray:
    """What the seeds' deviations are weighed by; every draw has its mirror image, so the draws' mean is the mean."""
    if num_seeds < 2:
        return np.full((NUM_DRAWS, num_seeds), np.nan)
    generator = np.random.default_rng(seed)
    normal = generator.standard_normal((NUM_DRAWS // 2, num_seeds))
    spread = np.sqrt(generator.chisquare(num_seeds - 1, (NUM_DRAWS // 2, 1)) * num_seeds)
    weights = np.concatenate([normal, -normal]) / np.concatenate([spread, spread])
    weights.flags.writeable = False
    return weights
