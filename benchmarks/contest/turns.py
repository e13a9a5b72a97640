"""The contestants take turns, so that a machine that is slow for a while is slow for all of them."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import vtune
from contest.agreement import Agreement, compare
from contest.contestants import TRUTH, Contestant
from contest.process import Lap, Runner
from contest.work import Curves, Work, draw

RATES = {"cold": vtune.loguniform(1e-4, 1e-1), "warm": vtune.loguniform(2e-4, 5e-2)}
"""The learning rates of the first search in a process and of the next one, whose shapes are the same."""

LONG_SECONDS = 30.0
"""What takes longer is run once."""

NUM_WAYS = 8
"""In how many ways the initial weights are moved to see which trials are chaotic."""


@dataclass
class Result:
    """What one contestant did with a population.

    Attributes:
        contestant: who.
        laps: those run "cold" and those run "warm".
        moved: for both, the curves from initial weights moved by 2 ulp; of the truth alone.
    """

    contestant: Contestant
    laps: dict[str, list[Lap]] = field(default_factory=lambda: {run: [] for run in RATES})
    moved: dict[str, list[Curves]] = field(default_factory=dict)

    def lacks(self, run: str, repeats: int) -> bool:
        """Whether there is another lap to run."""
        laps = self.laps[run]
        if not laps:
            return run == "cold" or self.contestant.is_ever_warm
        return len(laps) < repeats and laps[0].seconds < LONG_SECONDS

    def stands_for(self, run: str) -> str:
        """The run whose laps tell of this one: a contestant that is never warm is as slow the second time."""
        return run if self.contestant.is_ever_warm else "cold"


class Population(NamedTuple):
    """Trials to train.

    Attributes:
        title: what it is called.
        space: of the trials; their learning rates are those of ``RATES``.
        trials: how many.
        epochs: of each.
    """

    title: str
    space: Mapping[str, Any]
    trials: int
    epochs: int

    def works(self) -> dict[str, Work]:
        """Draws what is trained cold, and what is trained warm: trials of the same shapes at other learning rates."""
        spaces = {run: {**self.space, "learning_rate": rates} for run, rates in RATES.items()}
        return {run: draw(space, self.trials, self.epochs) for run, space in spaces.items()}


def take_turns(works: Mapping[str, Work], contestants: Sequence[Contestant], repeats: int) -> dict[str, Result]:
    """Trains a search again and again, in a fresh process whenever it is run cold; returns results by name."""
    results = {contestant.name: Result(contestant) for contestant in contestants}
    runners: dict[str, Runner] = {}
    for _ in range(repeats):
        for name, result in results.items():
            for run in (run for run in RATES if result.lacks(run, repeats)):
                if run == "cold":
                    _close(runners, name)
                    runners[name] = Runner.start(result.contestant)
                result.laps[run].append(runners[name].train(works[run]))
                _report(name, run, result.laps[run][-1])
            if name == TRUTH and not result.moved:
                result.moved = {run: _moved(runners[name], works[run]) for run in RATES}
            if not any(result.lacks(run, repeats) for run in RATES):
                _close(runners, name)
    return results


def agreement(works: Mapping[str, Work], results: Mapping[str, Result], name: str, run: str) -> Agreement | None:
    """Returns how far a contestant is from the truth; None for the truth itself, and where it takes no part."""
    if TRUTH not in results or name == TRUTH:
        return None
    run, truth = results[name].stands_for(run), results[TRUTH]
    curves, rates = results[name].laps[run][0].curves, works[run].column("learning_rate")
    return compare(truth.laps[run][0].curves, curves, truth.moved[run], rates)


def _moved(runner: Runner, work: Work) -> list[Curves]:
    return [runner.train(work.moved(way)).curves for way in range(NUM_WAYS)]


def _close(runners: dict[str, Runner], name: str) -> None:
    if name in runners:
        runners.pop(name).close()


def _report(name: str, run: str, lap: Lap) -> None:
    print(f"{name}, {run}: {lap.seconds:.1f} s, {lap.compilations} compilations", file=sys.stderr, flush=True)
