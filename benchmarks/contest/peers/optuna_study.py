"""Optuna's random sampler, driving the PyTorch loop.

The parent asks and tells, and the processes train. Ranges are those of the drawn values; every trial is enqueued just
before it is asked for, so that what Optuna suggests is what was drawn.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optuna

from contest.contestants import Prepare
from contest.peers.team import Team, collect
from contest.work import Curves, Work

SUGGESTED = "learning_rate", "beta1", "batch_size", "hidden", "layers"


def start(cores: int) -> Prepare:
    """Starts the processes of PyTorch."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    team = Team.start("contest.peers.pytorch:train_trial", cores)

    def prepare(work: Work) -> Callable[[], Curves]:
        team.send(work)
        return lambda: collect(work, driven(work, team))

    return prepare


def driven(work: Work, team: Team) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the place and curve of each trial that the study asked for."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=work.seed))
    ranges = {name: distribution(work, name) for name in SUGGESTED}
    open_trials: dict[int, optuna.Trial] = {}

    def ask() -> Iterator[int]:
        for place, row in enumerate(work.rows):
            study.enqueue_trial({name: row[name] for name in SUGGESTED})
            trial = study.ask(ranges)
            if trial.params != {name: row[name] for name in SUGGESTED}:
                raise ValueError(f"Optuna suggests {trial.params} for trial {place}, not what was enqueued")
            open_trials[place] = trial
            yield place

    for place, curve in team.train(ask()):
        score = float(curve[-1, 1])
        failed = optuna.trial.TrialState.FAIL
        trial = open_trials.pop(place)
        study.tell(trial, score) if np.isfinite(score) else study.tell(trial, state=failed)
        yield place, curve


def distribution(work: Work, name: str) -> Any:
    """Returns the range of the drawn values of a hyperparameter."""
    drawn = sorted({row[name] for row in work.rows})
    if name == "batch_size":
        return optuna.distributions.CategoricalDistribution(drawn)
    if isinstance(drawn[0], int):
        return optuna.distributions.IntDistribution(drawn[0], drawn[-1])
    return optuna.distributions.FloatDistribution(drawn[0], drawn[-1], log=name == "learning_rate")
