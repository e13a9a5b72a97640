"""Brackets of trials that compete among themselves, packed: all of them train side by side, one level after the other.

A plan is a level: one budget for every trial of every bracket that is still in. Where a bracket begins to choose only
at a later level, its trials come along and nobody of it is cut. Each bracket so has the budgets and survivors that it
would have had alone, while a level has the trials of all brackets to fill its chunks with.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, cycle
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Key

from vtune.protocols import FRESH, Axis, Plan, Strategy
from vtune.space import sample_points
from vtune.strategies.leaders import worst_last


class Bracket(NamedTuple):
    """Trials that compete among themselves.

    Attributes:
        trials: how many there are.
        first_level: after which of the levels they are cut for the first time.
    """

    trials: int
    first_level: int

    def survivors(self, num_levels: int, eta: int) -> tuple[int, ...]:
        """Returns how many trials go on after each level, at least one; after the last nobody does.

        Example:
            >>> Bracket(trials=34, first_level=1).survivors(num_levels=5, eta=3)
            (34, 11, 3, 1, 0)
        """
        cuts = [max(0, level + 1 - self.first_level) for level in range(num_levels - 1)]
        return (*(max(1, self.trials // eta**times) for times in cuts), 0)


def budgets_of_levels(epochs: int, eta: int, least: int = 1) -> tuple[int, ...]:
    """Returns the budgets ``epochs / eta**s``, each rounded, from the smallest of at least ``least`` on.

    Raises:
        ValueError: where ``least`` is more than ``epochs``.

    Example:
        >>> budgets_of_levels(epochs=81, eta=3), budgets_of_levels(epochs=20, eta=3, least=5)
        ((1, 3, 9, 27, 81), (7, 20))
    """
    if least > epochs:
        raise ValueError(
            f"least={least}: no trial trains for that long in a search with epochs={epochs}. Write for example "
            f"least=1, or epochs={least * eta**2}."
        )
    factors = [1]
    while least * factors[-1] * eta <= epochs:
        factors.append(factors[-1] * eta)
    return tuple((2 * epochs + factor) // (2 * factor) for factor in reversed(factors))


def filled(trials: int, kinds: Iterable[Bracket]) -> tuple[Bracket, ...]:
    """Returns brackets of these kinds in turn, over and over, until all trials have one; the last may be smaller.

    Example:
        >>> [bracket.trials for bracket in filled(20, [Bracket(9, 0), Bracket(5, 1), Bracket(3, 2)])]
        [9, 5, 3, 3]
    """
    brackets: list[Bracket] = []
    for kind in cycle(kinds):
        brackets.append(Bracket(min(kind.trials, trials), kind.first_level))
        trials -= brackets[-1].trials
        if not trials:
            break
    return tuple(brackets)


class _State(NamedTuple):
    """The number of stages stands for "over"; a lane is a trial of the stage, counted from its first."""

    stage: Int[Array, ""]
    level: Int[Array, ""]
    is_in: Bool[Array, " lanes"]
    points: Float[Array, "lanes axes"]


class Tables(NamedTuple):
    """What is known of all brackets beforehand, one row a stage, and a last one without trials for "over".

    Attributes:
        first_trial: id of the stage's first trial.
        trials: how many the stage has.
        bracket: for each lane the first lane of its bracket.
        survivors: how many of the lane's bracket go on after each level.
    """

    first_trial: Int[np.ndarray, " stages"]
    trials: Int[np.ndarray, " stages"]
    bracket: Int[np.ndarray, "stages lanes"]
    survivors: Int[np.ndarray, "stages levels lanes"]

    @classmethod
    def of(cls, stages: Sequence[Sequence[Bracket]], num_levels: int, eta: int) -> "Tables":
        """Returns the tables of the brackets of each stage."""
        trials = [sum(bracket.trials for bracket in brackets) for brackets in stages] + [0]
        bracket = np.full((len(trials), max(trials)), max(trials), np.int32)
        survivors = np.zeros((len(trials), num_levels, max(trials)), np.int32)
        for stage, brackets in enumerate(stages):
            sizes = [bracket.trials for bracket in brackets]
            going_on = [bracket.survivors(num_levels, eta) for bracket in brackets]
            bracket[stage, : trials[stage]] = np.repeat([0, *accumulate(sizes)][:-1], sizes)
            survivors[stage, :, : trials[stage]] = np.repeat(np.transpose(going_on), sizes, axis=1)
        first_trial = [0, *accumulate(trials)][:-1]
        return cls(np.array(first_trial, np.int32), np.array(trials, np.int32), bracket, survivors)


def packed(axes: tuple[Axis, ...], stages: Sequence[Sequence[Bracket]], budgets: tuple[int, ...], eta: int) -> Strategy:
    """Returns the strategy that trains these brackets side by side, a plan a level; those of a later stage after that.

    Args:
        axes: the edges of the cube, from which all trials are drawn uniformly.
        stages: the brackets of the search, and of each time that it was continued.
        budgets: of the levels, rising.
        eta: one in how many goes on.
    """
    host = Tables.of(stages, len(budgets), eta)
    max_lanes = int(host.trials.max())
    lane = np.arange(max_lanes, dtype=np.int32)

    def init(key: Key[Array, ""]) -> _State:
        nowhere = jnp.zeros((max_lanes, len(axes)), jnp.float32)
        return _State(jnp.int32(0), jnp.int32(0), jnp.asarray(lane < host.trials[0]), nowhere)

    def ask(key: Key[Array, ""], state: _State) -> Plan:
        trial_id = jnp.asarray(host.first_trial)[state.stage] + lane
        is_new, nobody = state.level == 0, jnp.full(max_lanes, FRESH, jnp.int32)
        return Plan(
            trial_id=jnp.where(state.is_in, trial_id, nobody),
            parent=jnp.where(state.is_in & ~is_new, trial_id, nobody),
            points=jnp.where(is_new, sample_points(key, trial_id, len(axes)), state.points),
            budget=jnp.full(max_lanes, jnp.asarray(budgets, jnp.int32)[state.level]),
            active=state.is_in,
        )

    def tell(state: _State, plan: Plan, scores: Float[Array, " lanes"]) -> _State:
        tables = jax.tree.map(jnp.asarray, host)
        scores = worst_last(scores, plan.active)
        ranks = ranks_within(tables.bracket[state.stage], scores)
        is_in = jnp.isfinite(scores) & (ranks < tables.survivors[state.stage, state.level])
        goes_on = jnp.any(is_in)
        stage = jnp.where(goes_on, state.stage, jnp.minimum(state.stage + 1, len(stages)))
        return _State(
            stage=stage,
            level=jnp.where(goes_on, state.level + 1, 0),
            is_in=jnp.where(goes_on, is_in, lane < tables.trials[stage]),
            points=jnp.where(plan.active[:, None], plan.points, state.points),
        )

    return Strategy(init, ask, tell, done=lambda state: state.stage >= len(stages), max_lanes=max_lanes, keeps="round")


def ranks_within(bracket: Int[Array, " lanes"], scores: Float[Array, " lanes"]) -> Int[Array, " lanes"]:
    """Returns each lane's rank among those of its bracket, from 0, the lowest score first; ties by lane.

    Args:
        bracket: for each lane the first lane of its bracket.
        scores: lower is better.

    Example:
        >>> ranks_within(jnp.array([0, 0, 0, 3, 3]), jnp.array([2.0, 1.0, 1.0, 9.0, 0.0])).tolist()
        [2, 0, 1, 1, 0]
    """
    lane = jnp.arange(len(bracket), dtype=jnp.int32)
    order = jnp.lexsort((lane, scores, bracket))
    return jnp.zeros_like(lane).at[order].set(lane) - bracket
