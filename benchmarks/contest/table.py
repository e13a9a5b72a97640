"""What a contest came to, as a table in Markdown and as JSON."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from contest.agreement import Agreement
from contest.process import Lap
from contest.turns import RUNS, Result, Works, agreement, truth_of

COLUMNS = "contestant", "run", "seconds", "trials/s", "useful GFLOP/s", "vtune is faster", "compilations", "same work"

SAME_WORK = """\
Same work: the largest relative deviation from the losses of the per-shape loop after one epoch (1e-4 is allowed), at
the end where learning rates are at most 3e-3 (1e-3), and that of median and quartiles in standard deviations of the
bootstrap (1). Chaotic trials are left out of the first two: the loop itself does not keep to a tenth of what is allowed
when its initial weights move by 2 ulp."""


class Row(NamedTuple):
    """One line of a table.

    Attributes:
        population: which search.
        contestant: who trained it.
        run: "cold" or "warm".
        seconds: of each lap.
        compilations: in each lap.
        trials: in the population.
        useful_flops: of all of them; a mean where laps trained different ones.
        speedup: how many times as fast vtune is; None without vtune.
        agreement: with the truth; None without it, and for the truth itself.
        is_truth: whether the others are compared with it.
    """

    population: str
    contestant: str
    run: str
    seconds: list[float]
    compilations: list[int]
    trials: int
    useful_flops: float
    speedup: float | None
    agreement: Agreement | None
    is_truth: bool

    @property
    def median(self) -> float:
        """The median of its laps, in seconds."""
        return statistics.median(self.seconds)

    def as_dict(self) -> dict[str, Any]:
        """Returns all of it for JSON."""
        found = self.agreement
        agreement = {**found._asdict(), "failures": found.failures} if found else None
        return {**self._asdict(), "median_seconds": self.median, "agreement": agreement}


def rows_of(title: str, works: Works, results: Mapping[str, Result]) -> Iterator[Row]:
    """Yields a cold and a warm row for each contestant that ended."""
    for name, result in results.items():
        for run in () if result.trouble else RUNS:
            laps, trained = _laps(result, run), works[result.stands_for(run)]
            seconds = _seconds(laps, run)
            ours = _seconds(_laps(results["vtune"], run), run) if "vtune" in results else None
            yield Row(
                population=title,
                contestant=name,
                run=run,
                seconds=seconds,
                compilations=[lap.compilations for lap in laps],
                trials=trained[0].trials,
                useful_flops=statistics.mean(work.useful_flops for work in trained[: len(laps)]),
                speedup=statistics.median(seconds) / statistics.median(ours) if ours else None,
                agreement=agreement(works, results, name, run),
                is_truth=name == truth_of(results),
            )


def print_table(rows: Sequence[Row]) -> None:
    """Prints the rows in Markdown."""
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in rows:
        cells = [
            row.contestant,
            row.run,
            _told_seconds(row),
            f"{row.trials / row.median:.2f}",
            f"{row.useful_flops / row.median / 1e9:.1f}",
            _told_speedup(row),
            _told_compilations(row),
            _told_agreement(row),
        ]
        print(f"| {' | '.join(cells)} |")


def _laps(result: Result, run: str) -> list[Lap]:
    return result.laps[result.stands_for(run)]


def _seconds(laps: Sequence[Lap], run: str) -> list[float]:
    """Who is never warm is as slow the second time, but has started."""
    return [lap.seconds + (lap.start if run == "cold" else 0.0) for lap in laps]


def _told_seconds(row: Row) -> str:
    if len(row.seconds) == 1:
        return f"{row.median:.2f} (one run)"
    return f"{row.median:.2f} ({min(row.seconds):.2f} to {max(row.seconds):.2f}, {len(row.seconds)} runs)"


def _told_compilations(row: Row) -> str:
    least, most = min(row.compilations), max(row.compilations)
    return str(least) if least == most else f"{least} to {most}"


def _told_speedup(row: Row) -> str:
    if row.speedup is None or row.contestant == "vtune":
        return ""
    return f"{row.speedup:.1f}x" if row.speedup >= 1 else f"no, {1 / row.speedup:.1f}x slower"


def _told_agreement(row: Row) -> str:
    found = row.agreement
    if found is None:
        return "the loop compared with" if row.is_truth else "not checked"
    if found.failures:
        return f"not comparable: {'; '.join(found.failures)}"
    if not found.is_law:
        return f"yes, in median and quartiles: {found.quartiles:.2f} sd"
    losses = [f"{loss:.0e}" if np.isfinite(loss) else "-" for loss in (found.one_epoch, found.whole_training)]
    deviations = f"yes: {', '.join(losses)}, {found.quartiles:.2f} sd"
    if not any(found.chaotic):
        return deviations
    early, late = (f"{left_out} of {trials}" for left_out, trials in zip(found.chaotic, found.asked, strict=True))
    return f"{deviations}; {early} and {late} chaotic"
