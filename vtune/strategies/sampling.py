"""Random search: every trial a fresh draw from the whole box."""

from functools import lru_cache

from vtune.arguments import check_count
from vtune.protocols import Axis, Strategy
from vtune.space import sample_points
from vtune.strategies.factories import Factory
from vtune.strategies.rounds import Rounds


def random(round_size: int | None = None) -> Factory:
    """Tries points drawn uniformly from the whole space, each on the scale of its parameter.

    The baseline that every other strategy has to beat, and hard to beat by a grid: n trials test n values of the one
    parameter that matters, where a grid of two parameters tests sqrt(n).

    Source: Bergstra & Bengio (2012), "Random Search for Hyper-Parameter Optimization", JMLR 13, figure 1. Departure:
    a point belongs to its trial id, so the cut into rounds does not change it.

    Args:
        round_size: the most trials to ask for at once; all of them by default. Rounds differ in size by one at most.

    Returns:
        A factory ``(axes, trials, epochs) -> Strategy``.

    Raises:
        ValueError: for a round size that is not a whole number of 1 or more.

    Example:
        >>> strategy = random(round_size=4)([Axis("learning_rate", None, True)], trials=10, epochs=5)
        >>> strategy.max_lanes
        4
    """
    if round_size is not None:
        check_count("round_size", round_size, least=1, example=64)
    return Factory("random", _random, {"round_size": round_size})


@lru_cache
def _random(axes: tuple[Axis, ...], stages: tuple[int, ...], epochs: int, round_size: int | None) -> Strategy:
    rounds = Rounds.in_stages(stages, lambda trials: -(-trials // (round_size or trials)), epochs)
    return rounds.without_memory(lambda key, trial_ids: sample_points(key, trial_ids, len(axes)))
