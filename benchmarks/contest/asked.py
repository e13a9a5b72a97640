"""Is vtune as fast as is asked, against whom it is asked?"""

import statistics
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from contest.table import Row


class Asked(NamedTuple):
    """A ratio to come up to.

    Attributes:
        trials: of the mixed population.
        run: "cold" or "warm".
        contestant: against whom.
        times: how many times as fast vtune is to be at least; below 1, it may be slower.
    """

    trials: int
    run: str
    contestant: str
    times: float


class Verdict(NamedTuple):
    """What came of it.

    Attributes:
        asked: what was.
        ratios: how many times as fast vtune was, one a pair of laps; none where it was not measured.
        is_met: whether their median comes up to it; None where it was not measured, or is not comparable.
        told: all of it in words.
    """

    asked: Asked
    ratios: list[float]
    is_met: bool | None
    told: str


def judge(asked: Sequence[Asked], rows: Sequence[Row]) -> Iterator[Verdict]:
    """Yields a verdict for each ratio, from the rows of mixed populations."""
    by_key = {(row.trials, row.run, row.contestant): row for row in rows if "mixed" in row.population}
    for one in asked:
        ours, theirs = (by_key.get((one.trials, one.run, name)) for name in ("vtune", one.contestant))
        told = f"{one.trials} trials, {one.run}, against {one.contestant}: {_told(one.times)} asked, "
        if ours is None or theirs is None:
            yield Verdict(one, [], None, told + "not measured")
            continue
        ratios = _ratios(ours.seconds, theirs.seconds)
        median = statistics.median(ratios)
        told += f"{median:.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
        if any(row.agreement and row.agreement.failures for row in (ours, theirs)):
            yield Verdict(one, ratios, None, told + ", not comparable")
            continue
        is_met = median >= one.times
        yield Verdict(one, ratios, is_met, f"{told}: {'met' if is_met else 'not met'}")


def _told(times: float) -> str:
    return f"at least {times:g} times as fast" if times >= 1 else f"at most {1 / times:g} times its time"


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Returns those of laps run in the same turn, or of all pairs where one side was run once."""
    pairs = zip(theirs, ours, strict=True) if len(ours) == len(theirs) else product(theirs, ours)
    return [theirs / ours for theirs, ours in pairs]
