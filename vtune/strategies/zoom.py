"""Coarse to fine: look everywhere, then closer and closer around the best."""

from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, Key

from vtune.arguments import check_count
from vtune.defaults import is_number
from vtune.protocols import Axis, Plan, Strategy
from vtune.space import sample_points
from vtune.strategies.boxes import Box, draw_categories
from vtune.strategies.factories import Factory
from vtune.strategies.leaders import Leaders
from vtune.strategies.rounds import Rounds


class _State(NamedTuple):
    current: Int[Array, ""]
    leaders: Leaders
    box: Box


def coarse_to_fine(rounds: int = 4, keep: int | None = None, exploration: float = 0.125) -> Factory:
    """Samples the whole space at random, then zooms in on the best trials round by round.

    The first round is that of random search. Each later one draws from a box around the ``keep`` best finite trials so
    far: every side is their range, at least half of the side before and 5 % of the full one; at a bound the box is
    shifted, not clipped. On a discrete axis the range takes in whole levels. Unordered categories are drawn in
    proportion to one more than the times they are among the best, so none is ever dropped. A share of every later
    round stays on the whole box. Diverged trials never count; a parameter that a trial did not use (NaN in the plan
    told) has no say on that axis; with fewer than two trials to go by, the box stays as it is. A search that is
    continued goes on zooming, in as many rounds again.

    Sources: A. Ng, "Improving Deep Neural Networks" (deeplearning.ai), week 3, "Tuning process"; Ye & Kalyanaraman
    (2003), "A Recursive Random Search Algorithm for Large-Scale Network Parameter Configuration", SIGMETRICS.
    Departures: the box encloses several trials instead of being centred on one, and shrinks on a fixed schedule; in
    place of restarts, a share of every round explores.

    Args:
        rounds: how many, the first on the whole box; fewer where there are fewer trials. Sizes differ by one at most.
        keep: how many of the best trials span the box; by default an eighth of a round, and at least 4.
        exploration: share of every round but the first that is drawn from the whole box, rounded to whole trials.

    Returns:
        A factory ``(axes, trials, epochs) -> Strategy``.

    Raises:
        ValueError: for rounds below 1, fewer than 2 to keep, or an exploration outside [0, 1).

    Example:
        >>> strategy = coarse_to_fine(rounds=3)([Axis("learning_rate", None, True)], trials=100, epochs=20)
        >>> strategy.max_lanes
        34
    """
    check_count("rounds", rounds, least=1, example=4)
    if keep is not None:
        check_count("keep", keep, least=2, example=4)
    if not (is_number(exploration) and 0 <= exploration < 1):
        raise ValueError(
            f"exploration={exploration!r}: the share of a round must lie in [0, 1), as with all of it on the whole box "
            f"nothing zooms. Write for example exploration=0.125, or use random()."
        )
    return Factory("coarse_to_fine", _coarse_to_fine, {"rounds": rounds, "keep": keep, "exploration": exploration})


@lru_cache
def _coarse_to_fine(
    axes: tuple[Axis, ...], stages: tuple[int, ...], epochs: int, rounds: int, keep: int | None, exploration: float
) -> Strategy:
    schedule = Rounds.in_stages(stages, lambda trials: rounds, epochs)
    places = keep or max(4, schedule.sizes[0] // 8)
    explorers = (schedule.sizes[0], *(int(exploration * size + 0.5) for size in schedule.sizes[1:]))

    def init(key: Key[Array, ""]) -> _State:
        return _State(schedule.first(), Leaders.nobody(places, len(axes)), Box.whole(len(axes)))

    def ask(key: Key[Array, ""], state: _State) -> Plan:
        uniforms = sample_points(key, schedule.trial_ids(state.current), len(axes))
        explores = schedule.first_lanes(explorers, state.current)
        return schedule.plan(state.current, jnp.where(explores[:, None], uniforms, _closer(state, uniforms, axes)))

    def tell(state: _State, plan: Plan, scores: Float[Array, " lanes"]) -> _State:
        leaders = state.leaders.after(plan, scores)
        return _State(schedule.following(state.current), leaders, state.box.around(leaders, axes))

    return Strategy(init, ask, tell, done=lambda state: schedule.is_over(state.current), max_lanes=schedule.max_lanes)


def _closer(state: _State, uniforms: Float[Array, "lanes axes"], axes: tuple[Axis, ...]) -> Float[Array, "lanes axes"]:
    """Returns the draws of a round around the leaders, from uniform ones."""
    points, is_known = state.box.draw(uniforms), state.leaders.known()
    for column, axis in enumerate(axes):
        if axis.levels is not None and not axis.is_ordered:
            votes = state.leaders.points[:, column], is_known[:, column]
            points = points.at[:, column].set(draw_categories(uniforms[:, column], *votes, axis.levels))
    return points
