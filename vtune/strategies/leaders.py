"""The best trials so far, and the one place where scores that are not finite become the worst."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from vtune.protocols import FRESH, Plan


class Leaders(NamedTuple):
    """A fixed number of trials, the best first; places that no finite trial has taken hold an infinite score.

    Scores of different budgets are not compared: a finite trial that was offered more epochs is the better one.

    Attributes:
        trial_id: whose place it is.
        budgets: epochs that the trial was offered for its score; 0 where that is infinite.
        scores: lower is better.
        points: where in the unit cube the trial lies; NaN for a parameter that it did not use.
    """

    trial_id: Int[Array, " places"]
    budgets: Int[Array, " places"]
    scores: Float[Array, " places"]
    points: Float[Array, "places axes"]

    @classmethod
    def nobody(cls, places: int, num_axes: int) -> "Leaders":
        """Returns a table with every place free."""
        return cls(
            trial_id=jnp.full(places, FRESH, jnp.int32),
            budgets=jnp.zeros(places, jnp.int32),
            scores=jnp.full(places, jnp.inf, jnp.float32),
            points=jnp.zeros((places, num_axes), jnp.float32),
        )

    def after(self, plan: Plan, scores: Float[Array, " lanes"]) -> "Leaders":
        """Returns the table with the trials of a plan taken in; equal scores of a budget rank by trial id."""
        scores = worst_last(scores, plan.active)
        newcomers = Leaders(plan.trial_id, jnp.where(jnp.isfinite(scores), plan.budget, 0), scores, plan.points)
        everyone = jax.tree.map(lambda old, new: jnp.concatenate([old, new]), self, newcomers)
        order = jnp.lexsort((everyone.trial_id, everyone.scores, -everyone.budgets))[: len(self.scores)]
        return jax.tree.map(lambda column: column[order], everyone)

    def known(self) -> Bool[Array, "places axes"]:
        """Returns which coordinates tell something: those of finite trials, of parameters that they used."""
        return jnp.isfinite(self.scores)[:, None] & jnp.isfinite(self.points)


def worst_last(scores: Float[Array, " lanes"], active: Bool[Array, " lanes"]) -> Float[Array, " lanes"]:
    """Returns float32 scores to rank by: infinite for diverged trials and for padding.

    Example:
        >>> worst_last(jnp.array([-jnp.inf, 2.0, 3.0]), jnp.array([True, True, False])).tolist()
        [inf, 2.0, inf]
    """
    scores = scores.astype(jnp.float32)
    return jnp.where(active & jnp.isfinite(scores), scores, jnp.inf)
