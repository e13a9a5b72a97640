"""The contestants take turns, so that a machine that is slow for a while is slow for all of them."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from contest.agreement import Agreement, compare
from contest.contestants import PEERS, TRUTH, TRUTHS, Contestant
from contest.drawing import draw
from contest.process import ContestantError, Lap, Runner
from contest.work import Curves, Work
from vtune.training.devices import num_cores

RUNS = "cold", "warm"
"""The first search in a process, and a later one there."""

LONG_SECONDS = 30.0
"""What takes longer is run once."""

NUM_WAYS = 8
"""In how many ways the initial weights are moved to see which trials are chaotic."""

PEER_NAMES = {peer.name for peer in PEERS}

Works = Mapping[str, Sequence[Work]]
"""What is trained cold, and what is trained warm: one search a repeat, or one for all repeats."""


@dataclass
class Result:
    """What one contestant did with a population.

    Attributes:
        contestant: who.
        laps: those run "cold" and those run "warm".
        moved: for both, the curves from initial weights moved by 2 ulp; of the truth alone.
        trouble: why it did not end, in words; None where it did.
    """

    contestant: Contestant
    laps: dict[str, list[Lap]] = field(default_factory=lambda: {run: [] for run in RUNS})
    moved: dict[str, list[Curves]] = field(default_factory=dict)
    trouble: str | None = None

    def lacks(self, run: str, repeats: int) -> bool:
        """Whether there is another lap to run."""
        laps = self.laps[run]
        if self.trouble:
            return False
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
        spaces: of the trials that are run cold, and of those that are run warm.
        trials: how many.
        epochs: of each.
        warm_seeds: of the searches that are run warm, one a repeat; the one that is run cold has seed 0.
    """

    title: str
    spaces: Mapping[str, Mapping[str, Any]]
    trials: int
    epochs: int
    warm_seeds: Sequence[int] = (0,)

    def works(self) -> Works:
        """Draws what is trained."""
        seeds = {"cold": [0], "warm": self.warm_seeds}
        return {
            run: [draw(space, self.trials, self.epochs, seed) for seed in seeds[run]]
            for run, space in self.spaces.items()
        }


def take_turns(
    works: Works, contestants: Sequence[Contestant], repeats: int, counts_imports: bool = False
) -> dict[str, Result]:
    """Trains a search again and again, in a fresh process whenever it is run cold; returns results by name.

    Args:
        works: what is trained.
        contestants: who trains it.
        repeats: how often, where it does not take long.
        counts_imports: whether a cold search begins with the start of its process, or when all is imported.
    """
    results = {contestant.name: Result(contestant) for contestant in contestants}
    turns = Turns(works, repeats, counts_imports, {})
    for _ in range(repeats):
        for result in results.values():
            turns.take(result)
    return results


class Turns(NamedTuple):
    """What it takes to give a contestant its turn.

    Attributes:
        works: as for ``take_turns``.
        repeats: likewise.
        counts_imports: likewise.
        runners: the processes that are there, by the name of the contestant.
    """

    works: Works
    repeats: int
    counts_imports: bool
    runners: dict[str, Runner]

    def take(self, result: Result) -> None:
        """Runs it cold and warm, where a lap is lacking; the trouble of another library is noted."""
        name = result.contestant.name
        try:
            self._run(result)
        except ContestantError as error:
            if not result.contestant.packages:
                raise
            result.trouble = str(error)
            print(f"{name}: {error}", file=sys.stderr, flush=True)
        if not any(result.lacks(run, self.repeats) for run in RUNS):
            self._close(name)

    def _run(self, result: Result) -> None:
        name = result.contestant.name
        for run in self._lacking(result):
            if run == "cold":
                self._close(name)
                self.runners[name] = Runner.start(result.contestant, num_cores())
            laps, works = result.laps[run], self.works[run]
            lap = self._train(name, works[len(laps) % len(works)])
            if run == "cold" and self.counts_imports:
                lap = lap._replace(start=self.runners[name].seconds)
            laps.append(lap)
            print(f"{name}, {run}: {lap.seconds:.1f} s, {lap.compilations} compilations", file=sys.stderr, flush=True)
        if name == TRUTH and not result.moved:
            result.moved = {run: self._moved(name, self.works[run][0]) for run in RUNS}

    def _lacking(self, result: Result) -> Iterator[str]:
        return (run for run in RUNS if result.lacks(run, self.repeats))

    def _train(self, name: str, work: Work) -> Lap:
        return self.runners[name].train(work.bare() if name in PEER_NAMES else work)

    def _moved(self, name: str, work: Work) -> list[Curves]:
        return [self._train(name, work.moved(way)).curves for way in range(NUM_WAYS)]

    def _close(self, name: str) -> None:
        if name in self.runners:
            self.runners.pop(name).close()


def truth_of(results: Mapping[str, Result]) -> str | None:
    """Returns with whose losses the others are compared."""
    return next((name for name in TRUTHS if name in results and results[name].trouble is None), None)


def agreement(works: Works, results: Mapping[str, Result], name: str, run: str) -> Agreement | None:
    """Returns how far a contestant is from the truth; None for the truth itself, and where there is none."""
    truth_name = truth_of(results)
    if truth_name in (None, name):
        return None
    run, truth = results[name].stands_for(run), results[truth_name]
    curves, rates = results[name].laps[run][0].curves, works[run][0].column("learning_rate")
    is_law = truth_name == TRUTH and name not in PEER_NAMES
    return compare(truth.laps[run][0].curves, curves, truth.moved.get(run, []), rates, is_law)
