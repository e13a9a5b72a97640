"""``strategy="auto"``: a measured trial tells how many trials the time holds, and with it which school fits.

Ng's course calls them the panda and the caviar: babysit one model where there is time for few trainings, or train many
models at once and take the best ("Improving Deep Neural Networks", week 3, "Hyperparameters tuning in practice").
"""

import math
import time
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from vtune.ending import Ending
from vtune.protocols import ChunkResult, Executor, Leg, StrategyFactory, Training
from vtune.results.store import Held
from vtune.strategies.babysitting import has_rate
from vtune.strategies.names import by_name
from vtune.training.job import Job
from vtune.training.outlook import Outlook

FEWEST, MOST = 16, 4096
"""As few trials still make a caviar search; with more, a search gains less than a longer training does."""

_SHARE = 0.75
"""How much of the time that measuring and compiling leave is for trials: the rest is for the finals, and for errors."""

_IN_ROUNDS = 1.25
"""How many times as long as foreseen the trials of a search in rounds take: workers wait for the last of a round, and
large networks may take longer than the cost table has it. ``benchmarks/quality.py`` prints what becomes of a minute.
"""

_DAYS = 20
"""Of how many days the panda's plan makes one whole training."""

_MEASURED_SECONDS = 0.5
"""For how long a chunk is trained to be measured, where a whole training takes longer: what it costs however few epochs
it has is then a small part."""


class Measured(NamedTuple):
    """What full chunks tell.

    Attributes:
        trial_seconds: that a trial of the space takes on average under all its seeds, in full chunks, all devices at
            work; compiling left out.
        compile_seconds: of a program.
        epoch_seconds: that one trial by itself takes for an epoch under all its seeds.
        seconds: that measuring took.
    """

    trial_seconds: float
    compile_seconds: float
    epoch_seconds: float
    seconds: float = 0.0


class Decision(NamedTuple):
    """What to do with the time that there is. Recorded with the study, as clocks differ.

    Attributes:
        strategy: its name.
        settings: of the strategy.
        trials: in all.
        epochs: of a trial at most.
        told: the decision in one line.
        seconds: that measuring took.
    """

    strategy: str
    settings: dict[str, Any]
    trials: int
    epochs: int
    told: str
    seconds: float = 0.0

    def factory(self) -> StrategyFactory:
        """Returns the strategy."""
        return by_name(self.strategy, **self.settings)


def decide(measured: Measured, seconds: float, epochs: int, num_programs: int, has_panda: bool = True) -> Decision:
    """Decides between many trials and one.

    Args:
        measured: what chunks told.
        seconds: that there are.
        epochs: of a whole training.
        num_programs: that a search with many trials compiles, but for the one that is measured.
        has_panda: whether one network can be babysat; else it is the caviar with as many trials as there is time for.

    Example:
        >>> measured = Measured(trial_seconds=3.1, compile_seconds=2.0, epoch_seconds=1.2)
        >>> decide(measured, seconds=600.0, epochs=20, num_programs=3).told
        'one trial takes 3.1 s, 600 s hold 114 trials: caviar (coarse_to_fine, 114 trials of 20 epochs)'
    """

    def left(programs: int) -> float:
        return max(0.0, _SHARE * (seconds - measured.seconds - measured.compile_seconds * programs))

    holds = int(left(num_programs) / (_IN_ROUNDS * measured.trial_seconds))
    found = f"one trial takes {measured.trial_seconds:.2g} s, {seconds:.0f} s hold {holds} trials"
    if holds >= FEWEST or not has_panda:
        trials = min(max(holds, 1), MOST)
        reason = "" if holds >= FEWEST else "; no learning rate varies on a log scale, which the panda needs"
        told = f"{found}: caviar (coarse_to_fine, {trials} trial{'s' if trials > 1 else ''} of {epochs} epochs){reason}"
        return Decision("coarse_to_fine", {}, trials, epochs, told, measured.seconds)
    day = max(1, epochs // _DAYS)
    days = max(1, int(left(1) / (measured.epoch_seconds * day)))  # it may begin at another size than what was measured
    told = f"{found}: panda (babysit, {days} days of {day} epoch{'s' if day > 1 else ''})"
    return Decision("babysit", {"day": day}, days, days * day, told, measured.seconds)


def measure(executor: Executor, job: Job, outlook: Outlook, seeds_per_trial: int) -> Measured:
    """Trains full chunks of the trial in the middle of the space, as many as are trained at the same time.

    For an epoch, which compiles; for another, which tells how long an epoch is; and for as many as are soon done.

    Args:
        executor: of the search.
        job: likewise.
        outlook: on what trials cost, which tells how the middle compares with all that the space holds.
        seeds_per_trial: how many trainings a trial has.
    """
    started, parts, epochs = time.perf_counter(), outlook.parts, outlook.planner.epochs
    (row,) = parts.space.rows(np.full((1, len(parts.space.axes)), 0.5))
    middle = parts.usage.complete(parts.usage.used(row))
    rung, num_parallel = job.ladder.rung(middle), executor.num_parallel
    size = executor.num_parts * rung.lanes

    def chunk_seconds(num_epochs: int) -> float:
        done: list[ChunkResult] = []
        legs = [Leg(trial_id, middle, num_epochs) for trial_id in range(num_parallel * size)]
        executor.train([Training((leg,)) for leg in legs], done.append)
        return max(fmean(chunk.seconds for chunk in done), 1e-9)

    chunk_seconds(1)
    epoch = chunk_seconds(1)
    num_epochs = min(epochs, max(1, int(_MEASURED_SECONDS / epoch)))
    whole = (chunk_seconds(num_epochs) if num_epochs > 1 else epoch) * epochs / num_epochs
    return Measured(
        whole / size / num_parallel * seeds_per_trial * outlook.mean_over(job.ladder, middle),
        job.program(rung).compile_seconds or 0.0,
        epoch * max(1.0, seeds_per_trial / num_parallel),  # the seeds of one trial are chunks side by side
        time.perf_counter() - started,
    )


def recorded(kept: Held | None) -> Decision | None:
    """Returns the decision that a folder holds; None where it holds none."""
    held = kept and kept.record.get("decision")
    return Decision(**held) if held else None


def is_auto(strategy: Any, seconds: float | None) -> bool:
    """Returns whether the strategy is to be decided on.

    Raises:
        ValueError: if so, without a time to go by.
    """
    if not (isinstance(strategy, str) and strategy == "auto"):
        return False
    if seconds is None:
        raise ValueError(
            "strategy='auto' goes by the time that there is, and none is given. Add time_budget='10m', or write "
            "strategy='coarse_to_fine'."
        )
    return True


def decide_now(executor: Executor, job: Job, outlook: Outlook, ending: Ending, seeds_per_trial: int) -> Decision:
    """Measures and decides.

    Args:
        executor: of the search.
        job: likewise.
        outlook: on what it is expected to cost.
        ending: whose time there is.
        seeds_per_trial: how many trainings a trial has.
    """
    measured, seconds = measure(executor, job, outlook, seeds_per_trial), ending.seconds or math.inf
    has_panda = has_rate(outlook.parts.written.axes)
    return decide(measured, seconds, outlook.planner.epochs, job.ladder.num_rungs - 1, has_panda)
