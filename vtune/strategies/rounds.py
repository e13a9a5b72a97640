"""Rounds of fresh trials under one budget, numbered through: the plans of strategies that continue nothing."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Key

from vtune.protocols import FRESH, Plan, Strategy

PointsOf = Callable[[Key[Array, ""], Int[Array, " lanes"]], Float[Array, "lanes axes"]]
"""From a key and trial ids to points of the unit cube; a row depends on the key and on its own id alone."""


class Rounds(NamedTuple):
    """How many trials each round tries, and for how many epochs.

    Below, ``current`` is the number of a round from 0 on; ``len(sizes)`` stands for "over", whose plan is empty.

    Attributes:
        sizes: trials of each round.
        epochs: the budget of every trial.
    """

    sizes: tuple[int, ...]
    epochs: int

    @classmethod
    def even(cls, trials: int, num_rounds: int, epochs: int) -> "Rounds":
        """Returns rounds whose sizes differ by one at most; fewer of them where there are fewer trials than rounds.

        Example:
            >>> Rounds.even(trials=10, num_rounds=4, epochs=20).sizes
            (3, 3, 2, 2)
        """
        num_rounds = min(num_rounds, trials)
        size, larger = divmod(trials, num_rounds)
        return cls((size + 1,) * larger + (size,) * (num_rounds - larger), epochs)

    @classmethod
    def in_stages(cls, stages: tuple[int, ...], num_rounds: Callable[[int], int], epochs: int) -> "Rounds":
        """Returns even rounds for each stage: a search has one, and one more each time that it is continued.

        Args:
            stages: the trials in all at the end of each stage, rising.
            num_rounds: from the trials of a stage to its number of rounds.
            epochs: the budget of every trial.

        Example:
            >>> Rounds.in_stages((10, 16), num_rounds=lambda trials: 4, epochs=20).sizes
            (3, 3, 2, 2, 2, 2, 1, 1)
        """
        new = [end - start for start, end in pairwise((0, *stages))]
        return cls(tuple(size for trials in new for size in cls.even(trials, num_rounds(trials), epochs).sizes), epochs)

    @property
    def max_lanes(self) -> int:
        """The trials of the largest round."""
        return max(self.sizes)

    def first(self) -> Int[Array, ""]:
        """Returns the number of the first round."""
        return jnp.zeros((), jnp.int32)

    def following(self, current: Int[Array, ""]) -> Int[Array, ""]:
        """Returns the number of the next round; what is over stays over."""
        return jnp.minimum(current + 1, len(self.sizes))

    def is_over(self, current: Int[Array, ""]) -> Bool[Array, ""]:
        """Returns whether no round is left."""
        return current >= len(self.sizes)

    def trial_ids(self, current: Int[Array, ""]) -> Int[Array, " lanes"]:
        """Returns the ids of the current round's trials; rows beyond its size count on."""
        starts = jnp.asarray(np.cumsum([0, *self.sizes]), jnp.int32)
        return starts[current] + jnp.arange(self.max_lanes, dtype=jnp.int32)

    def first_lanes(self, counts: tuple[int, ...], current: Int[Array, ""]) -> Bool[Array, " lanes"]:
        """Returns a mask of the leading lanes: as many as the current round's entry of ``counts``, none when over."""
        return jnp.arange(self.max_lanes, dtype=jnp.int32) < jnp.asarray((*counts, 0), jnp.int32)[current]

    def plan(self, current: Int[Array, ""], points: Float[Array, "lanes axes"]) -> Plan:
        """Returns the plan of the current round: fresh trials at these points, padded with rows of trial id -1."""
        active = self.first_lanes(self.sizes, current)
        nobody = jnp.full(self.max_lanes, FRESH, jnp.int32)
        return Plan(
            trial_id=jnp.where(active, self.trial_ids(current), nobody),
            parent=nobody,
            points=points,
            budget=jnp.full(self.max_lanes, self.epochs, jnp.int32),
            active=active,
        )

    def without_memory(self, points_of: PointsOf) -> Strategy:
        """Returns the strategy that tries these points round after round, whatever the scores."""
        return Strategy(
            init=lambda key: self.first(),
            ask=lambda key, current: self.plan(current, points_of(key, self.trial_ids(current))),
            tell=lambda current, plan, scores: self.following(current),
            done=self.is_over,
            max_lanes=self.max_lanes,
        )
