"""The finalists of a search, trained again: which one is the best, and how good it is without the luck of its seeds.

The best of n noisy scores is too good: it was chosen for its noise too, 2.8 standard deviations of it among 256 equal
trials (Cawley & Talbot 2010 measure this bias of model selection). So there are two stages, each on seeds that no
earlier one has seen: the finalists are trained on fresh seeds and the best mean wins; then the winner is trained on
further seeds, which chose nothing, and so their mean is unbiased over seeds, on these validation rows. The luck of rows
stays, as all trials are scored on the same ones: ``Study.test_score`` is the number for new rows.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from vtune.results.resampling import draw_means, standard_errors


class Choice(NamedTuple):
    """What the choosing seeds tell of the finalists; all but ``ranking`` is in the order of the candidates.

    Attributes:
        ranking: the candidates' numbers, best first.
        means: over the choosing seeds; NaN where one of them diverged. The winner's is somewhat too good.
        standard_errors: of the means; NaN where there is one seed, or one diverged.
        probabilities: that a candidate's mean over all seeds there could be is the best of them.
        seeds: how many there were.
        diverged: how many of them diverged.
    """

    ranking: Int[np.ndarray, " candidates"]
    means: Float[np.ndarray, " candidates"]
    standard_errors: Float[np.ndarray, " candidates"]
    probabilities: Float[np.ndarray, " candidates"]
    seeds: int
    diverged: Int[np.ndarray, " candidates"]

    @property
    def winner(self) -> int:
        """The number of the best candidate."""
        return int(self.ranking[0])


class Verified(NamedTuple):
    """A score from seeds that chose nothing.

    Attributes:
        mean: unbiased over seeds, on the validation rows; NaN where a seed diverged.
        standard_error: of the mean; NaN where there is one seed, or one diverged.
        seeds: how many there were.
        diverged: how many of them diverged.
    """

    mean: float
    standard_error: float
    seeds: int
    diverged: int


def ranking(
    scores: Float[np.ndarray, "*searches candidates seeds"], *, is_maximized: bool
) -> Int[np.ndarray, "*searches candidates"]:
    """Returns the candidates' numbers, best first: by diverged seeds, then the mean of the others, then order.

    Args:
        scores: one column a seed, the same in every row; not finite where a training diverged.
        is_maximized: whether a higher score is better.

    Example:
        >>> ranking(np.array([[0.9, np.nan], [0.7, 0.8], [0.8, 0.9], [0.9, 0.8]]), is_maximized=True).tolist()
        [2, 3, 1, 0]
    """
    is_finite = np.isfinite(scores)
    losses = np.where(is_finite, -scores if is_maximized else scores, 0.0)
    means = np.sum(losses, axis=-1) / np.maximum(np.sum(is_finite, axis=-1), 1)
    # Means of the same numbers in another order differ by roundings, and are a tie.
    rounded = np.round(means / np.maximum(_largest(losses), np.finfo(float).tiny), 12)
    return np.lexsort((rounded, np.sum(~is_finite, axis=-1)), axis=-1)


def choose(scores: Float[np.ndarray, "candidates seeds"], *, is_maximized: bool, seed: int = 0) -> Choice:
    """Chooses the best finalist by its mean over fresh seeds, and tells how sure that is.

    Args:
        scores: as the user knows them. One column a seed, the same initial weights and data order in every row; not
            finite where a training diverged.
        is_maximized: whether a higher score is better.
        seed: of the bootstrap that the probabilities come from (see ``draw_means``).

    Raises:
        ValueError: for no candidate, or no seed.

    Example:
        >>> choice = choose(np.array([[0.90, 0.92, 0.91], [0.93, 0.94, 0.94]]), is_maximized=True)
        >>> choice.winner, np.round(choice.means, 3).tolist(), np.round(choice.probabilities, 1).tolist()
        (1, [0.91, 0.937], [0.0, 1.0])
    """
    if not scores.size:
        raise ValueError(
            f"scores have the shape {scores.shape}, so there is nothing to choose from; write one row a candidate and "
            "one column a seed"
        )
    diverged = np.sum(~np.isfinite(scores), axis=1)
    return Choice(
        ranking=ranking(scores, is_maximized=is_maximized),
        means=np.mean(np.where(diverged[:, None] > 0, np.nan, scores), axis=1),
        standard_errors=standard_errors(scores),
        probabilities=_probabilities(scores, diverged, is_maximized, seed),
        seeds=scores.shape[1],
        diverged=diverged,
    )


def verify(scores: Float[np.ndarray, " seeds"]) -> Verified:
    """Returns how good the winner is, from seeds that had no part in choosing it.

    Args:
        scores: of the winner, as the user knows them; not finite where it diverged.

    Raises:
        ValueError: for no seed.

    Example:
        >>> verify(np.array([0.25, 0.75]))
        Verified(mean=0.5, standard_error=0.25, seeds=2, diverged=0)
    """
    if not scores.size:
        raise ValueError("scores are empty, so they tell nothing of the winner; write one score a further seed")
    diverged = int(np.sum(~np.isfinite(scores)))
    mean = math.nan if diverged else float(np.mean(scores))
    return Verified(mean, float(standard_errors(scores[None])[0]), len(scores), diverged)


def finalists_table(
    trial_ids: Sequence[int],
    search_scores: Sequence[float] | Float[np.ndarray, " candidates"],
    choice: Choice,
    verified: Verified,
) -> pd.DataFrame:
    """Returns one row a finalist, best first, indexed by ``trial_id``.

    The columns are ``is_winner``; ``search_score``, which is too good; from the choosing seeds ``mean``,
    ``standard_error``, ``probability_best``, ``seeds`` and ``diverged``; and from further ones ``score`` and
    ``score_error``, which the winner alone has.

    Args:
        trial_ids: of the candidates, in their order.
        search_scores: of the candidates, by which they became finalists.
        choice: among them.
        verified: the winner.

    Example:
        >>> choice = choose(np.array([[0.3, 0.5], [0.2, 0.3]]), is_maximized=False)
        >>> table = finalists_table([17, 4], [0.1, 0.2], choice, verify(np.array([0.25, 0.29])))
        >>> table.index.tolist(), table["score"].tolist()
        ([4, 17], [0.27, nan])
    """
    is_winner = np.arange(len(trial_ids)) == choice.winner
    columns = {
        "is_winner": is_winner,
        "search_score": np.asarray(search_scores, np.float64),
        "mean": choice.means,
        "standard_error": choice.standard_errors,
        "probability_best": choice.probabilities,
        "seeds": choice.seeds,
        "diverged": choice.diverged,
        "score": np.where(is_winner, verified.mean, np.nan),
        "score_error": np.where(is_winner, verified.standard_error, np.nan),
    }
    index = pd.Index(trial_ids, dtype="int64", name="trial_id")
    return pd.DataFrame(columns, index).iloc[choice.ranking]


def _largest(losses: np.ndarray) -> np.ndarray:
    return np.max(np.abs(losses), axis=(-2, -1))[..., None]


def _probabilities(scores: np.ndarray, diverged: np.ndarray, is_maximized: bool, seed: int) -> np.ndarray:
    """A candidate that diverged is not the best where another did not; where all did, or seeds are too few: NaN."""
    rows = np.flatnonzero(diverged == 0)
    probabilities = np.full(len(scores), 0.0 if rows.size else np.nan)
    if rows.size:
        draws = draw_means(scores[rows] if is_maximized else -scores[rows], seed)
        tie = 1e-12 * np.max(np.abs(scores[rows]))
        is_best = draws >= np.max(draws, axis=1, keepdims=True) - tie
        shares = is_best / np.maximum(np.sum(is_best, axis=1, keepdims=True), 1)
        probabilities[rows] = np.mean(shares, axis=0) if scores.shape[1] > 1 else np.nan
    return probabilities
