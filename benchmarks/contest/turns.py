"""The contestants take turns, so that a machine that is slow for a while is slow for all of them."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import vtune
from contest.agreement import Agreement, compare
from contest.contestants import TRUTH, Contestant
from contest.process import Lap, Runner
from contest.work import Curves, Work

RATES = {"cold": vtune.loguniform(1e-4, 1e-1), "warm": vtune.loguniform(2e-4, 5e-2)}
"""The learning rates of the first search in a process and of the next one, whose shapes are the same."""

LONG_SECONDS = 30.0
"""What takes longer is run once."""

NUM_NUDGES = 4
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


def take_turns(work: Work, contestants: Sequence[Contestant], repeats: int) -> dict[str, Result]:
    """Trains a search again and again, in a fresh process whenever it is run cold; returns results by name."""
    results = {contestant.name: Result(contestant) for contestant in contestants}
    works = {run: with_rates(work, run) for run in RATES}
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


def with_rates(work: Work, run: str) -> Work:
    """Returns the search with the learning rates of a run; all its trials keep their shapes."""
    return replace(work, space={**work.space, "learning_rate": RATES[run]})


def agreement(work: Work, results: Mapping[str, Result], name: str, run: str) -> Agreement | None:
    """Returns how far a contestant is from the truth; None for the truth itself, and where it takes no part."""
    if TRUTH not in results or name == TRUTH:
        return None
    run, truth = results[name].stands_for(run), results[TRUTH]
    curves, rates = results[name].laps[run][0].curves, with_rates(work, run).column("learning_rate")
    return compare(truth.laps[run][0].curves, curves, truth.moved[run], rates)


def _moved(runner: Runner, work: Work) -> list[Curves]:
    return [runner.train(replace(work, nudge=nudge)).curves for nudge in range(1, 1 + NUM_NUDGES)]


def _close(runners: dict[str, Runner], name: str) -> None:
    if name in runners:
        runners.pop(name).close()


def _report(name: str, run: str, lap: Lap) -> None:
    print(f"{name}, {run}: {lap.seconds:.1f} s, {lap.compilations} compilations", file=sys.stderr, flush=True)
