"""MNIST-1D: ten digits as short curves, drawn by a seed, and the same digits after a drift of known size.

The data set of Greydanus (2020, "Scaling down deep learning", arXiv:2011.14439): a template of 12 points a digit is
stretched, scaled, moved along a line of noise, sheared, and sampled at 40 points. Linear models and networks differ on
it far more than on MNIST, and it takes a second to make. Templates and sizes of all changes are the paper's; the code,
and so the draws, are not: no curve here is one of the published file.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

LENGTH = 72
"""Points of a curve before it is sampled: those of a template, and at most 60 around it."""

FEATURES = 40
"""Points that it is sampled at."""

_PADDING = 36, 60
_SCALE, _SHEAR, _MOST_MOVED = 0.4, 0.75, 48
_CORRELATED, _WIDTH, _INDEPENDENT = 0.25, 2.0, 0.02

_DRAWN = (  # heights of the pen from left to right, as the paper draws 0 to 9 turned on their side
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)


class Curves1D(NamedTuple):
    """Rows to train on.

    Attributes:
        x: one curve a row.
        y: which digit it is.
    """

    x: Float[np.ndarray, "rows 40"]
    y: Int[np.ndarray, " rows"]


def mnist1d(rows: int = 5000, seed: int = 0, drift: float = 0.0) -> Curves1D:
    """Draws MNIST-1D, as many of each digit as go.

    A drift of d multiplies all curves by 10 ** (d / 2), as a sensor does whose gain has changed. The same seed draws
    the same digits and noise. For a linear model that starts at 0 and gradient descent, weights are then 10 ** (-d / 2)
    times the old ones, and gradients 10 ** (d / 2) times: a learning rate of 10 ** -d times the old one does exactly
    what that did.

    In a network only the first layer sees the gain. Measured with ``vtune.MLP`` (2 layers of 64, 1000 rows, 20 epochs,
    two seeds, 16 learning rates a third of a decade apart): with momentum the best one goes from 0.19 to 0.09 at a
    drift of 2 and to 0.02 at 3, where the old one finds 30 % and 10 % of the digits and the new ones 44 % and 39 %;
    at 1, as with Adam at any of them, what changes is within the noise.

    Args:
        rows: how many curves.
        seed: of all draws.
        drift: decades by which a linear model's best learning rate falls; 0 for the data of the paper.
    """
    generator = np.random.default_rng(seed)
    y = generator.permutation(np.arange(rows) % len(_DRAWN))
    x = _sampled(_sheared(_on_noise(*_moved(*_stretched(y, generator), generator), generator), generator), FEATURES)
    return Curves1D((x * 10 ** (drift / 2)).astype(np.float32), y.astype(np.int32))


def templates() -> Float[np.ndarray, "10 12"]:
    """Returns the ten digits: of standard deviation 1/6, begun and ended at 0."""
    drawn = np.array(_DRAWN)
    scaled = (drawn - drawn[:, :1]) / np.std(drawn, axis=1, keepdims=True)
    return scaled / 6


def _stretched(y: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Curves that begin with their digit, somewhat longer and larger or less so, and where the digit is."""
    points = templates().shape[1]
    places = np.linspace(0, 1, LENGTH) * (points - 1 + generator.integers(*_PADDING, (len(y), 1)))
    is_digit = places <= points - 1
    left = np.minimum(places.astype(int), points - 2)
    share = np.minimum(places - left, 1)
    drawn = templates()[y]
    curves = np.take_along_axis(drawn, left, 1) * (1 - share) + np.take_along_axis(drawn, left + 1, 1) * share
    return is_digit * curves * (1 + _SCALE * generator.uniform(-0.5, 0.5, (len(y), 1))), is_digit


def _moved(curves: np.ndarray, is_digit: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    places = (np.arange(LENGTH) - generator.integers(0, _MOST_MOVED, (len(curves), 1))) % LENGTH
    return np.take_along_axis(curves, places, 1), np.take_along_axis(is_digit, places, 1)


def _on_noise(curves: np.ndarray, is_digit: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Smooth noise where no digit is, and a little independent noise on everything."""
    distances = np.arange(LENGTH)[:, None] - np.arange(LENGTH)
    kernel = np.exp(-np.square(distances / _WIDTH) / 2)
    smooth = generator.standard_normal(curves.shape) @ (kernel / np.sum(kernel, axis=0))
    independent = generator.standard_normal(curves.shape)
    return np.where(is_digit, curves, _CORRELATED * smooth) + _INDEPENDENT * independent


def _sheared(curves: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    slopes = _SHEAR * generator.uniform(-0.5, 0.5, (len(curves), 1))
    return curves - slopes * np.linspace(-0.5, 0.5, LENGTH)


def _sampled(curves: np.ndarray, points: int) -> np.ndarray:
    """The same curves at fewer points, linear between the old ones."""
    places = np.linspace(0, LENGTH - 1, points)
    left = np.minimum(places.astype(int), LENGTH - 2)
    share = places - left
    return curves[:, left] * (1 - share) + curves[:, left + 1] * share
