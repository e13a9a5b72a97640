"""Functions of known minima on the unit cube, and trials that seem to train on them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Key

from vtune.protocols import Axis, Plan

NOISE = 0.1
"""Standard deviation of a score, in ranges of its function."""

HEAD_START, TALENT = 0.5, 0.2
"""What a score is too high after one epoch, in ranges: for all trials alike, and by a standard normal of each trial."""

SAMPLES = 2**16

_OTHER_DRAWS = 2**30
"""What is folded into a search's key where its trials are scored; strategies fold in the ids of trials."""


class Function(NamedTuple):
    """A function on the unit cube.

    Attributes:
        name: as in the literature, with its number of arguments.
        num_axes: of the cube, those included that do not matter.
        value: the function, of one point.
        least: its minimum.
    """

    name: str
    num_axes: int
    value: Callable[[Float[Array, " axes"]], Float[Array, ""]]
    least: float

    @property
    def axes(self) -> list[Axis]:
        """The edges of its cube, all continuous."""
        return [Axis(f"x{number}", None, True) for number in range(1, self.num_axes + 1)]


class Trainings:
    """Trials whose score is a function of their point, as if they had trained.

    After b of B epochs a trial's score is, in ranges of the function: its value, and (0.5 + 0.2 z) times a decay that
    falls from 1 after the first epoch to 0 after the last as 1/b does, and 0.1 times noise. z is the trial's own, so
    that early scores rank trials by how fast they learn too; the noise is new for every b. A trial that begins with the
    weights of another has no more from it than its epochs. A range is that of 65,536 points drawn at random.

    Attributes:
        function: of the points.
        epochs: of a whole training, B.
        noise: standard deviation of the scores at a point, in ranges.
    """

    def __init__(self, function: Function, epochs: int, noise: float = NOISE):
        """Measures the range of the function."""
        self.function, self.epochs, self.noise = function, epochs, noise
        points = jax.random.uniform(jax.random.key(0, impl="threefry2x32"), (SAMPLES, function.num_axes))
        self._range = float(jnp.max(jax.vmap(function.value)(points))) - function.least
        self.scores = jax.jit(jax.vmap(self._scores))

    def _scores(self, key: Key[Array, ""], plan: Plan) -> tuple[Float[Array, " lanes"], Float[Array, " lanes"]]:
        """Returns what the trials of a plan score, and how far their points are from the minimum, in ranges."""
        own = jax.random.fold_in(key, _OTHER_DRAWS)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(own, plan.trial_id)
        regrets = (jax.vmap(self.function.value)(plan.points) - self.function.least) / self._range
        talents = jax.vmap(jax.random.normal)(keys)
        noises = jax.vmap(lambda key, budget: jax.random.normal(jax.random.fold_in(key, budget)))(keys, plan.budget)
        decay = (1 / plan.budget - 1 / self.epochs) / (1 - 1 / self.epochs) if self.epochs > 1 else jnp.float32(0)
        scores = regrets + (HEAD_START + TALENT * talents) * decay + self.noise * noises
        return jnp.where(plan.active, scores, jnp.nan), regrets


def branin(point: Float[Array, "2"]) -> Float[Array, ""]:
    """On [-5, 10] x [0, 15]; three minima."""
    x, y = 15 * point[0] - 5, 15 * point[1]
    valley = y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6
    return valley**2 + 10 * (1 - 1 / (8 * np.pi)) * jnp.cos(x) + 10


_WEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_SCALES = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_CENTRES = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(point: Float[Array, "6"]) -> Float[Array, ""]:
    """Four wells of different depths, in the unit cube."""
    return -jnp.sum(_WEIGHTS * jnp.exp(-jnp.sum(_SCALES * (point[None] - _CENTRES) ** 2, axis=1)))


def hartmann6_among_ten(point: Float[Array, "10"]) -> Float[Array, ""]:
    """Of ten arguments every other one, and the last, matters."""
    return hartmann6(point[np.array([0, 2, 4, 6, 8, 9])])


def ackley5(point: Float[Array, "5"]) -> Float[Array, ""]:
    """On [-24, 40], so that the minimum is not where a grid or CMA-ES begins: in the centre."""
    x = 64 * point - 24
    bowl, waves = jnp.sqrt(jnp.mean(x**2)), jnp.mean(jnp.cos(2 * np.pi * x))
    return -20 * jnp.exp(-0.2 * bowl) - jnp.exp(waves) + 20 + np.e


def rosenbrock4(point: Float[Array, "4"]) -> Float[Array, ""]:
    """On [-5, 10]; a bent valley."""
    x = 15 * point - 5
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def griewank6(point: Float[Array, "6"]) -> Float[Array, ""]:
    """On [-450, 750], moved like Ackley's; a bowl with ripples."""
    x = 1200 * point - 450
    return jnp.sum(x**2) / 4000 - jnp.prod(jnp.cos(x / np.sqrt(np.arange(1, 7)))) + 1


FUNCTIONS = [
    Function("Branin", 2, branin, 0.397887),
    Function("Hartmann6", 6, hartmann6, -3.32237),
    Function("Ackley5", 5, ackley5, 0.0),
    Function("Rosenbrock4", 4, rosenbrock4, 0.0),
    Function("Hartmann6 + 4", 10, hartmann6_among_ten, -3.32237),
    Function("Griewank6", 6, griewank6, 0.0),
]
