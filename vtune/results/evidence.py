"""Whether an old best configuration is still good on new data: what paired trainings tell, and what they do not.

A retest trains the old best, its neighbours and fresh samples on the new data, on the same seeds. The best of many
challengers looks better than it is, so it is chosen on some seeds and judged on further ones, as finalists are.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from vtune.results.finalists import ranking
from vtune.results.resampling import draw_means

_POWER = 0.8
"""With this probability ``more_seeds`` more are enough, if the effect is the one that was seen."""

_MOST_SEEDS = 1000
"""More seeds than this are not asked for."""


class Evidence(NamedTuple):
    """What a retest found, and how sure that is.

    Differences are in the units of the score, and positive where the challenger is better than the old best.

    Attributes:
        verdict: "stale" where the challenger is better by more than the tolerance, "fresh" where no challenger is,
            both with the confidence that was asked for; else "not enough evidence".
        challenger: the row of the best challenger, chosen on the choosing seeds.
        difference: of the challenger's mean to that of the old best, on the judging seeds; so it is unbiased over
            seeds, on these validation rows.
        interval: two bounds on the difference, each of which holds with the confidence that was asked for.
        probability: that the difference exceeds the tolerance.
        others: the same upper bound on the differences of all other challengers, on the choosing seeds; -inf where
            there are none. The verdict is "fresh" only where this, the challenger's own bound on these seeds, and the
            interval stay within the tolerance.
        tolerance: a difference up to this one does not matter.
        more_seeds: how many more would decide in 4 of 5 retests: of judging seeds where the challenger seems better
            by more than the tolerance, else of both kinds. 0 where the verdict is "fresh" or "stale"; None where it
            would take more than 1000.
    """

    verdict: Literal["fresh", "stale", "not enough evidence"]
    challenger: int
    difference: float
    interval: tuple[float, float]
    probability: float
    others: float
    tolerance: float
    more_seeds: int | None


def challenger_of(choosing: Float[np.ndarray, "configurations seeds"], *, is_maximized: bool) -> int:
    """Returns the row of the best challenger: the one to train on the judging seeds, beside the old best.

    Args:
        choosing: scores on the choosing seeds, the old best in row 0; not finite where a training diverged.
        is_maximized: whether a higher score is better.

    Raises:
        ValueError: where row 0 has no challenger.

    Example:
        >>> challenger_of(np.array([[0.9, 0.9], [0.2, 0.1], [0.8, 0.9]]), is_maximized=True)
        2
    """
    if len(choosing) < 2:
        raise ValueError(
            f"choosing has {len(choosing)} row(s), and the first one is the old best, so nothing challenges it; write "
            "one more row for each neighbour and each fresh sample"
        )
    return 1 + int(ranking(choosing[1:], is_maximized=is_maximized)[0])


def noise_of(scores: Float[np.ndarray, "configurations seeds"], *, is_maximized: bool) -> float:
    """Returns the standard deviation that another seed makes: the median of those of the better half of the rows.

    The worse half is left out since trainings that fail differently each time, or not at all, tell nothing of the
    differences among good ones; of an odd number the row in the middle counts as better. The median of a variance
    from k seeds is too small by (1 - 2 / (9 (k - 1)))^3 (Wilson & Hilferty 1931), for which there is a correction.

    Args:
        scores: finite; one column a seed, at least 2.
        is_maximized: whether a higher score is better.

    Example:
        >>> scores = np.random.default_rng(0).normal(0.9, 0.01, (1000, 4))
        >>> round(noise_of(scores, is_maximized=True), 3)
        0.01
    """
    better = ranking(scores, is_maximized=is_maximized)[: (len(scores) + 1) // 2]
    median = np.median(np.std(scores[better], axis=1, ddof=1))
    return float(median / (1 - 2 / (9 * (scores.shape[1] - 1))) ** 1.5)


def weigh(
    choosing: Float[np.ndarray, "configurations choosing"],
    judging: Float[np.ndarray, "2 judging"],
    *,
    is_maximized: bool,
    tolerance: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Evidence:
    """Returns whether the old best is still the best, or near enough.

    Both verdicts are a bound of a paired bootstrap (``draw_means``) on a difference to the old best. "stale" needs
    the lower bound of the one challenger on seeds that did not choose it: there is nothing to correct for. "fresh" is
    a claim on all challengers, and is made where the upper bound of every one of them on the choosing seeds allows it,
    whichever is judged then: such an intersection of tests needs no correction either (Berger 1982, Technometrics 24).
    That the bound on the judging seeds must allow it too only makes the claim rarer. Against a tolerance, the two are
    the two one-sided tests of Schuirmann (1987). Retests that are repeated until one of them decides are wrong more
    often.

    Two configurations are never quite equal, so the tolerance is what tells a difference from one that matters. A
    search compares single trainings, and so cannot tell apart what differs by less than the noise of one: by default
    the tolerance is that noise (``noise_of`` the choosing seeds). It does not shrink with more seeds; where you know
    what matters to you, such as half a percent of accuracy, write that.

    How often that is wrong, simulated with 16 challengers, normal, heavy-tailed and skewed noise, and 4 + 4 or 8 + 8
    seeds: "stale" is said of equal configurations in about 5 % without a tolerance and in 0.3 % with the default one;
    in 2 % where half of the challengers are better by half the noise, and in up to 7 % where one is better by all of
    it. Where one is better by 4 times the noise it is said in 9 of 10 with 4 + 4 seeds, where by 3 times in 94 % with
    8 + 8. "fresh" takes 4 + 4 seeds where all challengers are worse by 3 times the noise, and 32 + 32 among equals
    (each in 9 of 10).

    A diverged training counts as worse than the worst finite one, by as much as the best one is better than that.

    Args:
        choosing: scores on the new data, as the user knows them: the old best in row 0, then the challengers; one
            column a seed. Not finite where a training diverged.
        judging: scores on further seeds, of the old best and of ``challenger_of(choosing)``.
        is_maximized: whether a higher score is better.
        tolerance: a difference that does not matter, in units of the score; None for the noise of one training.
        confidence: of each bound.
        seed: of the bootstrap.

    Raises:
        ValueError: for less than one challenger, or two seeds of a kind; for a tolerance or a confidence that cannot
            be; where no training was finite.

    Example:
        >>> choosing = np.array([[0.70, 0.72, 0.71, 0.70], [0.80, 0.83, 0.81, 0.80], [0.60, 0.63, 0.61, 0.61]])
        >>> judging = np.array([[0.71, 0.70, 0.69, 0.72], [0.81, 0.81, 0.80, 0.82]])
        >>> evidence = weigh(choosing, judging, is_maximized=True)
        >>> evidence.verdict, evidence.challenger, round(evidence.difference, 3), evidence.more_seeds
        ('stale', 1, 0.105, 0)
    """
    challenger = challenger_of(choosing, is_maximized=is_maximized)
    _check(choosing, judging, tolerance, confidence)
    gains, judged = _finite(choosing, judging, 1 if is_maximized else -1)
    allowed = _noise(choosing, gains) if tolerance is None else float(tolerance)
    difference = judged[1] - judged[0]
    draws = draw_means(difference[None], seed)
    (lower,), (upper,) = -_upper_bounds(-draws, confidence), _upper_bounds(draws, confidence)
    differences = gains[1:] - gains[0]
    bounds = _upper_bounds(draw_means(differences, seed), confidence)
    if lower > allowed:
        verdict, undecided = "stale", []
    else:
        undecided = [*([difference] if upper > allowed else []), *differences[bounds > allowed]]
        verdict = "not enough evidence" if undecided else "fresh"
    if np.mean(difference) > allowed:
        undecided = undecided[:1]
    return Evidence(
        verdict=verdict,
        challenger=challenger,
        difference=float(np.mean(difference)),
        interval=(float(lower), float(upper)),
        probability=float(np.mean(draws > allowed)),
        others=float(np.max(np.delete(bounds, challenger - 1), initial=-math.inf)),
        tolerance=allowed,
        more_seeds=_more_seeds(undecided, allowed, confidence),
    )


def _finite(choosing: np.ndarray, judging: np.ndarray, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns both as numbers that are better where higher, and finite: the worst is not infinitely bad."""
    finite = sign * np.concatenate([scores[np.isfinite(scores)] for scores in (choosing, judging)])
    if not finite.size:
        raise ValueError(
            "choosing and judging hold no finite score: every training on the new data diverged. Look for columns of x "
            "with large values, as standardize=True takes care of, and retest then"
        )
    failed = 2 * np.min(finite) - np.max(finite)
    gains, judged = (np.where(np.isfinite(scores), sign * scores, failed) for scores in (choosing, judging))
    return gains, judged


def _noise(choosing: np.ndarray, gains: np.ndarray) -> float:
    """That of the configurations that never diverged, where there are any: others differ by what a failure counts."""
    is_whole = np.all(np.isfinite(choosing), axis=1)
    return noise_of(gains[is_whole] if np.any(is_whole) else gains, is_maximized=True)


def _upper_bounds(draws: np.ndarray, confidence: float) -> np.ndarray:
    """The quantile of each column, to one draw: to interpolate it, NumPy would take most of the time of a retest."""
    place = math.ceil(confidence * len(draws)) - 1
    return np.partition(np.ascontiguousarray(draws.T), place, axis=1)[:, place]


def _more_seeds(undecided: Sequence[np.ndarray], tolerance: float, confidence: float) -> int | None:
    """By the normal approximation, with what Guenther (1981) adds to it for Student's t."""
    quantile = NormalDist().inv_cdf
    more = 0
    for difference in undecided:
        effect = abs(np.mean(difference) - tolerance)
        needed = (quantile(confidence) + quantile(_POWER)) * np.std(difference, ddof=1)
        if needed**2 > _MOST_SEEDS * effect**2:
            return None
        seeds = (needed / effect) ** 2 + quantile(confidence) ** 2 / 2 if effect else 0
        more = max(more, 1, math.ceil(seeds) - len(difference))
    return more


def _check(choosing: np.ndarray, judging: np.ndarray, tolerance: float | None, confidence: float) -> None:
    for name, scores in {"choosing": choosing, "judging": judging}.items():
        if scores.shape[1] < 2:
            raise ValueError(
                f"{name} has {scores.shape[1]} seed(s), and a noise cannot be told from less than 2; train on more, 8 "
                "are a good number"
            )
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise ValueError(
            f"tolerance={tolerance} is no difference of scores; write one that does not matter to you, such as 0.005, "
            "or None for the noise of one training"
        )
    if not 0.5 < confidence < 1:
        raise ValueError(f"confidence={confidence} is not between 0.5 and 1; write one such as 0.95")
