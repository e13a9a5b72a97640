"""Law Agreement between two ways to train the same trials in float32: did they do the same work?

Training is chaotic: where a gradient is nearly nothing, Adam still takes a whole step in its direction, and one
rounding decides it. So the law's tolerances are asked of those trials alone that the loop itself keeps to when its
initial weights move by 2 ulp; medians and quartiles are asked of all. Of another library, whose formulas may differ in
what rounding and a tiny epsilon do, medians and quartiles alone are asked.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from contest.work import Curves

ONE_EPOCH = 1e-4
WHOLE_TRAINING = 1e-3
SMALL_RATE = 3e-3
MOVED = 0.1
"""A trial is chaotic where moved weights move its loss by more than this part of the tolerance."""

_DIVERGED = 1e6
"""Stands for the loss of a diverged trial where trials are ranked."""


class Agreement(NamedTuple):
    """How far a contestant's losses are from the loop's, as largest relative deviations.

    Attributes:
        one_epoch: after one epoch, of the trials that are not chaotic by then.
        whole_training: at the end, of those with a small learning rate that are not chaotic by then.
        one_epoch_of_all: after one epoch, of all trials.
        whole_training_of_all: at the end, of all with a small learning rate.
        asked: how many trials the first number and the second could be of.
        chaotic: how many of them are left out. Where they are more than half, nothing is shown.
        quartiles: of the last validation loss over all trials, in standard deviations of the bootstrap.
        is_law: whether all of the law is asked, or median and quartiles alone.
    """

    one_epoch: float
    whole_training: float
    one_epoch_of_all: float
    whole_training_of_all: float
    asked: tuple[int, int]
    chaotic: tuple[int, int]
    quartiles: float
    is_law: bool = True

    @property
    def failures(self) -> list[str]:
        """What is asked and not so, in words; nothing where both did the same work."""
        failures = [] if self.quartiles <= 1.0 else [f"quartiles differ by {self.quartiles:.1f} sd"]
        return self._breaches + failures if self.is_law else failures

    @property
    def _breaches(self) -> list[str]:
        limits = [
            (self.one_epoch, ONE_EPOCH, f"losses after one epoch differ by {self.one_epoch:.1e}"),
            (self.whole_training, WHOLE_TRAINING, f"losses at the end differ by {self.whole_training:.1e}"),
        ]
        breaches = [told for value, allowed, told in limits if not value <= allowed]
        if any(2 * left_out > trials for left_out, trials in zip(self.chaotic, self.asked, strict=True)):
            breaches.append("most trials are chaotic")
        return breaches


def compare(
    truth: Curves, curves: Curves, moved: Sequence[Curves], rates: Float[np.ndarray, " trials"], is_law: bool = True
) -> Agreement:
    """Compares a contestant with the loop.

    Args:
        truth: the loop's curves.
        curves: the contestant's.
        moved: the loop's from initial weights moved by 2 ulp, one entry a way to move them; none where the law is not
            asked, and so no trial need be left out.
        rates: the learning rates.
        is_law: whether all of the law is asked, or median and quartiles alone.
    """
    is_small = rates <= SMALL_RATE
    first, last = deviations(truth, curves, 0), deviations(truth, curves, -1)[is_small]
    is_chaotic_early = _is_chaotic(truth, moved, 0, ONE_EPOCH)
    is_chaotic_late = _is_chaotic(truth, moved, -1, WHOLE_TRAINING)[is_small]
    return Agreement(
        one_epoch=_largest(first[~is_chaotic_early]),
        whole_training=_largest(last[~is_chaotic_late]),
        one_epoch_of_all=_largest(first),
        whole_training_of_all=_largest(last),
        asked=(len(first), len(last)),
        chaotic=(int(is_chaotic_early.sum()), int(is_chaotic_late.sum())),
        quartiles=quartile_deviation(truth[:, -1, 1], curves[:, -1, 1]),
        is_law=is_law,
    )


def deviations(truth: Curves, curves: Curves, epoch: int) -> Float[np.ndarray, " trials"]:
    """Returns the larger relative deviation of the two losses of an epoch; infinite where one alone diverged."""
    ours, theirs = curves[:, epoch], truth[:, epoch]
    relative = np.abs(ours - theirs) / np.abs(theirs)
    both_diverged = ~np.isfinite(ours) & ~np.isfinite(theirs)
    return np.where(both_diverged, 0.0, np.where(np.isfinite(relative), relative, np.inf)).max(axis=-1)


def quartile_deviation(truth: Float[np.ndarray, " trials"], losses: Float[np.ndarray, " trials"]) -> float:
    """Returns the largest difference of a quartile or the median, in standard deviations of the bootstrap."""
    theirs, ours = (np.where(np.isfinite(column), column, _DIVERGED) for column in (truth, losses))
    drawn = np.random.default_rng(0).choice(theirs, (2000, len(theirs)))
    shares = (0.25, 0.5, 0.75)
    noise = np.quantile(drawn, shares, axis=1).std(axis=1)
    return float(np.max(np.abs(np.quantile(ours, shares) - np.quantile(theirs, shares)) / noise))


def _is_chaotic(truth: Curves, moved: Sequence[Curves], epoch: int, tolerance: float) -> Bool[np.ndarray, " trials"]:
    steady = np.zeros(len(truth))
    return np.max([steady, *(deviations(truth, curves, epoch) for curves in moved)], axis=0) > MOVED * tolerance


def _largest(values: Float[np.ndarray, " some"]) -> float:
    return float(values.max(initial=0.0))
