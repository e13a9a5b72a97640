"""Strategies from outside vtune: what a sampler of Optuna would try, asked for a round at a time."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from inspect import signature
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Key

from vtune.arguments import check_count
from vtune.protocols import Axis, Plan, Strategy
from vtune.strategies.boxes import LAST
from vtune.strategies.factories import Factory
from vtune.strategies.rounds import Rounds

_FEW = 32
"""The most levels of an ordered axis that a sampler sees as whole numbers; with more of them it sees the edge."""


class _Told(NamedTuple):
    """One round as it was told: None for a parameter that its trial did not use, and for a score that is not finite."""

    points: tuple[tuple[float | None, ...], ...]
    scores: tuple[float | None, ...]


class _Asked(NamedTuple):
    """A study of Optuna in which a round is open: its sampler, the trials that ended, and those of the round."""

    sampler: Any
    ended: tuple[Any, ...]
    open: tuple[Any, ...]


def from_optuna(sampler: Any, round_size: int = 16) -> Factory:
    """Tries what a sampler of Optuna suggests, a round at a time.

    The sampler works on the unit cube of the space's scales: it sees a number from 0 to 1 for each parameter, the level
    for one of up to 32 equally wide ones, and a category for an unordered one; a level stands for its centre. It learns
    of a round's scores when all of them are there, so smaller rounds are better used and train fewer trials at once. A
    trial that diverged is a pruned one to Optuna: TPE ranks it last, and CMA-ES, which ranks complete ones, leaves it
    out. A parameter that a trial did not use keeps the value that was suggested, as samplers such as CMA-ES give up
    where a parameter is missing.

    A resumed study suggests the same trials again and tells them the recorded points and scores, which count, so that
    it goes on with the same bits as far as the sampler is a function of its seed and its trials. Those of Optuna are,
    but for ``QMCSampler``, which is refused, and those without a seed. Between rounds a sampler is copied, and of
    Optuna's study only the trials are kept.

    ``CmaEsSampler`` uses the first so many trials of a round as it has in a generation, and one generation a round:
    with ``functools.partial(CmaEsSampler, popsize=16)`` it uses all of them. It draws unordered parameters at random.

    Sources: Akiba et al. (2019), "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD; Bergstra et
    al. (2011), "Algorithms for Hyper-Parameter Optimization", NeurIPS, for TPE; Hansen (2016), "The CMA Evolution
    Strategy: A Tutorial", arXiv:1604.00772. Departure: trials are suggested a round at a time.

    Args:
        sampler: what makes a sampler when it is called with ``seed=``, such as ``optuna.samplers.TPESampler`` itself,
            ``functools.partial(optuna.samplers.TPESampler, n_startup_trials=20)`` or ``lambda seed: ...``; the seed
            follows from that of the search. Or a sampler, which keeps the seed that it was given, whatever the search's
            is; given none, its searches cannot be repeated.
        round_size: the most trials to ask for at once. Rounds differ in size by one at most.

    Returns:
        A factory ``(axes, trials, epochs) -> Strategy``. The strategy calls Python and is never compiled.

    Raises:
        ImportError: without Optuna, or without cmaes for ``CmaEsSampler``.
        TypeError: for what is no sampler and makes none.
        ValueError: for a round size that is not a whole number of 1 or more, or a sampler that cannot be resumed.

    Example:
        >>> import optuna
        >>> zoom = from_optuna(optuna.samplers.TPESampler, round_size=8)
        >>> zoom([Axis("learning_rate", None, True)], trials=20, epochs=5).max_lanes
        7
    """
    check_count("round_size", round_size, least=1, example=16)
    _check_sampler(sampler)
    return Factory("from_optuna", _from_optuna, {"sampler": sampler, "round_size": round_size})


@lru_cache
def _from_optuna(
    axes: tuple[Axis, ...], stages: tuple[int, ...], epochs: int, sampler: Any, round_size: int
) -> Strategy:
    rounds = Rounds.in_stages(stages, lambda trials: -(-trials // round_size), epochs)
    make_plan = jax.jit(rounds.plan)

    @lru_cache(maxsize=8)  # of a round the one before it is needed, and of several searches at a time a few
    def asked(seed: int, told: tuple[_Told, ...]) -> _Asked:
        if not told:
            return _ask(_make(sampler, seed), (), axes, rounds.sizes[0])
        before = asked(seed, told[:-1])
        ended = before.ended + tuple(_ended(before.open, told[-1], axes))
        return _ask(copy.deepcopy(before.sampler), ended, axes, rounds.sizes[len(told)])

    def ask(key: Key[Array, ""], told: tuple[_Told, ...]) -> Plan:
        points = np.zeros((rounds.max_lanes, len(axes)), np.float32)
        if len(told) < len(rounds.sizes):
            trials = asked(int(jax.random.key_data(key)[-1]), told).open
            points[: len(trials)] = [[_point(axis, trial.params[axis.name]) for axis in axes] for trial in trials]
        return make_plan(jnp.asarray(len(told), jnp.int32), jnp.asarray(points))

    def tell(
        told: tuple[_Told, ...], plan: Plan, scores: Float[Array, " lanes"] | Float[np.ndarray, " lanes"]
    ) -> tuple[_Told, ...]:
        if len(told) == len(rounds.sizes):
            return told
        active = np.asarray(plan.active)
        points, scores_told = np.asarray(plan.points)[active], np.asarray(scores)[active]
        return (*told, _Told(tuple(tuple(map(_finite, point)) for point in points), tuple(map(_finite, scores_told))))

    return Strategy(
        init=lambda key: (),
        ask=ask,
        tell=tell,
        done=lambda told: len(told) == len(rounds.sizes),
        max_lanes=rounds.max_lanes,
        is_traceable=False,
    )


def _finite(number: Any) -> float | None:
    return float(number) if math.isfinite(number) else None


# The cube as Optuna sees it


def _num_levels(axis: Axis) -> int | None:
    """Returns how many levels a sampler sees; None where it sees the edge of the cube.

    Levels of integers on a log scale are not equally wide, so only the edge tells them all apart.
    """
    sees_levels = not axis.is_ordered or (axis.log_length is None and axis.levels is not None and axis.levels <= _FEW)
    return axis.levels if sees_levels else None


def _distribution(axis: Axis) -> Any:
    distributions, levels = _import_optuna().distributions, _num_levels(axis)
    if levels is None:
        return distributions.FloatDistribution(0.0, 1.0)
    if axis.is_ordered:
        return distributions.IntDistribution(0, levels - 1)
    return distributions.CategoricalDistribution(tuple(range(levels)))


def _point(axis: Axis, value: int | float) -> float:
    """Returns where on its edge a sampler's value lies."""
    levels = _num_levels(axis)
    return min(value, LAST) if levels is None else (value + 0.5) / levels


def _value(axis: Axis, point: float) -> int | float:
    """Returns the sampler's value for a point of the edge, its upper end included."""
    levels = _num_levels(axis)
    return point if levels is None else min(int(point * levels), levels - 1)


# Optuna


def _ask(sampler: Any, ended: tuple[Any, ...], axes: tuple[Axis, ...], size: int) -> _Asked:
    """Asks for a round in a study that is new but for its trials: all that these samplers keep, they keep in them."""
    optuna = _import_optuna()
    distributions = {axis.name: _distribution(axis) for axis in axes}
    with _quiet(optuna):
        study = optuna.create_study(sampler=sampler)
        study.add_trials(ended)
        for _ in range(size):
            study.ask(distributions)
        return _Asked(sampler, ended, tuple(study.get_trials(deepcopy=False)[len(ended) :]))


def _ended(trials: tuple[Any, ...], told: _Told, axes: tuple[Axis, ...]) -> Iterator[Any]:
    """Yields the trials of a round as they ran, with what the sampler attached to them when it was asked."""
    optuna = _import_optuna()
    states = optuna.trial.TrialState
    for trial, point, score in zip(trials, told.points, told.scores, strict=True):
        ran = {
            axis.name: trial.params[axis.name] if coordinate is None else _value(axis, coordinate)
            for axis, coordinate in zip(axes, point, strict=True)
        }
        yield optuna.trial.create_trial(
            state=states.PRUNED if score is None else states.COMPLETE,
            value=score,
            params=ran,
            distributions=trial.distributions,
            system_attrs=trial.system_attrs,
        )


def _make(sampler: Any, seed: int) -> Any:
    """Returns a new sampler."""
    is_sampler = isinstance(sampler, _import_optuna().samplers.BaseSampler)
    return copy.deepcopy(sampler) if is_sampler else sampler(seed=seed)


def _check_sampler(sampler: Any) -> None:
    samplers = _import_optuna().samplers
    if not isinstance(sampler, samplers.BaseSampler):
        try:
            signature(sampler).bind(seed=0)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"sampler={sampler!r} is no sampler, and none is made by calling it with seed=0 ({error}). Write "
                "optuna.samplers.TPESampler, or lambda seed: optuna.samplers.TPESampler(seed=seed)."
            ) from error
    made = _make(sampler, seed=0)
    if not isinstance(made, samplers.BaseSampler):
        raise TypeError(
            f"sampler={sampler!r} makes {made!r}, which is no sampler. Return optuna.samplers.TPESampler()."
        )
    if isinstance(made, samplers.QMCSampler):
        raise ValueError(
            f"sampler={sampler!r}: how far a QMCSampler is, it keeps in Optuna's study and not in its trials, so it "
            "would begin anew in every round. Write optuna.samplers.TPESampler, or strategy='random'."
        )
    if isinstance(made, samplers.CmaEsSampler):
        try:
            import cmaes  # noqa: F401  (Optuna asks for it after the first round has trained)
        except ImportError as error:
            raise ImportError("CmaEsSampler needs cmaes. Write pip install 'vtune[optuna]'.") from error


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Keeps Optuna from telling of every study and trial, and leaves its verbosity as it was."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError("from_optuna needs Optuna. Write pip install 'vtune[optuna]'.") from error
    return optuna
