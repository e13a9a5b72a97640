"""``plan``: what a search would compile, pack and take, without running it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from os import PathLike
from typing import Any

import pandas as pd

from vtune.protocols import Hparams, Rung
from vtune.results.tables import check_column_names
from vtune.space import Space
from vtune.training.cost import VERSION
from vtune.training.devices import Device, describe, kind_of, own
from vtune.training.ladder import Cell, Ladder
from vtune.training.losses import RowLoss
from vtune.training.measured import read_table
from vtune.training.networks import ModelFn
from vtune.training.optimizers import Optimizer
from vtune.training.outlook import Cost, Outlook
from vtune.training.planner import Planner, whole_levels
from vtune.training.setup import EXECUTORS, check_amounts, make_ladder, make_parts, worker_places

_MOST_ROWS = 16
"""How many programs are shown."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """The plan of a search, and what it is expected to take; ``plan`` makes it. Printed, it says why.

    Attributes:
        ladder: as JSON; ``search(ladder=forecast.ladder)`` trains by it.
        rungs: one row a program, those with the most trials first. ``sizes`` are the true sizes that share it, and all
            are padded to the largest of them; ``structure`` are the constants of its model and optimizer, ``rows``
            those of a micro-batch, and ``lanes`` the trials of a chunk. Of all trials it is expected to have the
            ``share``, so many ``trials`` and ``chunks``. ``compile_seconds`` and ``train_seconds`` are those of one
            worker, and ``padding`` is how many times the multiply-adds it makes that its trials need at their true
            sizes, idle lanes left out.
        programs: how many are expected to be compiled.
        seconds: that the trials are expected to take on these devices, compiling included; setting up and finalists
            come on top.
        warm_seconds: likewise, where all programs are compiled already.
        why: the plan, and what it is better than, in a few lines.
    """

    ladder: str
    rungs: pd.DataFrame
    programs: int
    seconds: float
    warm_seconds: float
    why: str

    def __repr__(self) -> str:
        """The plan, why, and a line a program."""
        return f"{self.why}\n\n{_rounded(self.rungs).to_string(index=False, max_rows=_MOST_ROWS)}"

    def _repr_html_(self) -> str:
        facts = "<br>".join(map(escape, self.why.splitlines()))
        return f"<div><p>{facts}</p>{_rounded(self.rungs).to_html(index=False, max_rows=_MOST_ROWS)}</div>"


def plan(
    model_fn: ModelFn,
    space: Space | Mapping[str, Any],
    data: Any = None,
    *,
    trials: int = 256,
    epochs: int = 20,
    optimizer: str | Optimizer = "adam",
    loss: str | RowLoss = "auto",
    metric: str | RowLoss = "auto",
    direction: str = "auto",
    chunk: int | str = "auto",
    ladder: str = "auto",
    devices: int | Sequence[Device] | None = None,
    executor: str = "queue",
    matmul_precision: str | None = None,
    cost_table: str | PathLike[str] | None = None,
) -> Forecast:
    """Returns how ``search`` with the same arguments would train, and what that is expected to take, without training.

    Nothing is compiled either. The ladder is the one that the search plans for itself: where sizes and batches are cut
    so that padding and compiling together take the least time, a third of compiling being left to later searches, which
    find the programs. It goes by a cost table that ships with vtune: for CPUs it was measured on one of them, for
    accelerators it is a guess. So seconds here may be others, and their ratios count.
    Every trial is taken to train all its epochs, once, whatever a strategy makes of it. What each program has of the
    trials is told by 4,096 that are drawn from the whole space: a strategy that zooms in has other shares later on, and
    one that asks in rounds waits for the last chunk of each. Left out is the time in which a search looks into the
    model and plans, a second or a few, and that of finalists, which are trainings of their own.

    Args:
        model_fn: as for ``search``, as are all arguments.
        space: names to parameter types, or plain values.
        data: rows to train and to score trials on.
        trials: how many in all.
        epochs: of each at most.
        optimizer: a name or a function.
        loss: a name or a function; it tells classes from targets.
        metric: a name or a function.
        direction: of a metric that is a function.
        chunk: trials that one call trains at a time, or "auto".
        ladder: one that was planned before, to see what it costs here; "auto" plans it.
        devices: to train on.
        executor: "queue" or "mesh".
        matmul_precision: of matrix products.
        cost_table: the file of ``vtune bench --calibrate FILE``, to plan by what was measured on this machine; a search
            plans so where it is given this forecast's ladder. None for the table that ships with vtune.

    Raises:
        TypeError: for an argument of a wrong type.
        ValueError: for what ``search`` would refuse, but for chunks beyond the memory of a device; and for a file that
            holds no cost table.

    Example:
        >>> import vtune
        >>> space = {"learning_rate": vtune.loguniform(1e-4, 1.0), "hidden": vtune.integers(16, 256, log=True)}
        >>> forecast = vtune.plan(vtune.MLP, space, trials=64, epochs=10)
        >>> forecast.programs == len(forecast.rungs)
        True
    """
    check_amounts(trials, epochs, chunk, executor)
    trials, epochs, chunk = int(trials), int(epochs), chunk if chunk == "auto" else int(chunk)
    measured = None if cost_table is None else read_table(cost_table)
    written = Space.of(space)
    check_column_names(written.entries)
    _, find_devices = EXECUTORS[executor]
    used = find_devices(devices)
    parts = make_parts(
        model_fn, written, data, optimizer=optimizer, loss=loss, metric=metric, direction=direction,
        matmul_precision=matmul_precision,
    )  # fmt: skip
    kind = kind_of(own(used))
    if measured:
        measured.warn_of_others(kind)
    planner = parts.planner(trials=trials, epochs=epochs, kind=kind, chunk=chunk, measured=measured)
    planned = make_ladder(parts, planner, ladder)
    outlook = Outlook(parts, planner, worker_places(used, executor))
    cost = outlook.cost(planned)
    rungs = _rungs(outlook, planned, cost)
    why = "\n".join(_why(outlook, planned, cost, rungs, describe(used)))
    return Forecast(planned.to_json(), rungs, round(cost.programs), cost.seconds, cost.warm_seconds, why)


def _rungs(outlook: Outlook, ladder: Ladder, cost: Cost) -> pd.DataFrame:
    members: dict[Rung, list[Hparams]] = {}
    for trial in outlook.draws:
        members.setdefault(ladder.rung(trial), []).append(trial)
    rows = []
    for rung, drawn in sorted(members.items(), key=lambda item: -len(item[1])):
        cell, share = ladder.cell(drawn[0]), len(drawn) / len(outlook.draws)
        row = {"sizes": _ranges(outlook.planner.space, cell), "structure": _told(rung.structure, but=cell.high)}
        row |= {"rows": rung.rows, "lanes": rung.lanes, "share": share, "trials": share * outlook.planner.trials}
        row |= {"chunks": cost.chunks.get(rung, 0.0), "compile_seconds": outlook.planner.table.compile_seconds}
        row |= {"train_seconds": cost.busy.get(rung, 0.0), "padding": outlook.padding(rung, drawn)}
        rows.append(row)
    return pd.DataFrame(rows)


def _ranges(space: Space, cell: Cell) -> str:
    return ", ".join(_range(space, name, low, cell.high[name]) for name, low in cell.low.items())


def _range(space: Space, name: str, low: int, high: int) -> str:
    held = [level for level in whole_levels(space, name) if low <= level <= high]
    told = f"{name} {' to '.join(map(str, sorted({held[0], held[-1]})))}"
    return told if held[-1] == high else f"{told} (padded to {high})"


def _told(structure: Sequence[tuple[str, Any]], but: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in structure if name not in but)


def _why(outlook: Outlook, ladder: Ladder, cost: Cost, rungs: pd.DataFrame, where: str) -> Iterator[str]:
    planner = outlook.planner
    lanes = rungs["lanes"].tolist()
    yield (
        f"{planner.trials} trial{'s' * (planner.trials > 1)} of {planner.epochs} epoch{'s' * (planner.epochs > 1)} on "
        f"{where}: {_counted(cost)}, chunks of {' to '.join(map(str, sorted({min(lanes), max(lanes)})))}"
    )
    compiling, at_a_time = cost.programs * planner.table.compile_seconds, len(outlook.places)
    yield (
        f"{cost.seconds:.3g} s: {compiling:.3g} s of compiling and {cost.training:.3g} s of training"
        f"{f', {at_a_time} at a time' if at_a_time > 1 else ''}; {cost.warm_seconds:.3g} s once all is compiled"
    )
    others = list(_others(outlook, cost))
    yield "every trial is taken to train all its epochs; setting up, the end of rounds, and finalists come on top"
    if others:
        yield f"instead: {'; '.join(others)}"
    yield f"seconds by {_known(planner)}"


def _known(planner: Planner) -> str:
    if planner.measured:
        return "a cost table of your own"
    known = "a guess at accelerators" if planner.kind.is_accelerator else "measured on another machine"
    return f"cost table {VERSION} of vtune, {known}: their ratios count"


def _others(outlook: Outlook, cost: Cost) -> Iterator[str]:
    parts, planner = outlook.parts, outlook.planner
    elastic = parts.findings.elastic
    if elastic:
        largest = outlook.cost(planner.plan_largest(elastic, parts.findings.sizes))
        if largest.programs < cost.programs:
            yield f"{largest.seconds:.3g} s with all trials padded to the largest ({_counted(largest)})"
    count, seconds = outlook.exact_shapes()
    if count > cost.programs:
        least = "at least " if planner.trials > len(outlook.draws) else ""
        yield f"{least}{seconds:.3g} s with a program for each of {least}{count} exact shapes"


def _counted(cost: Cost) -> str:
    programs = round(cost.programs)
    return f"{programs} program{'s' if programs > 1 else ''}"


def _rounded(rungs: pd.DataFrame) -> pd.DataFrame:
    digits = {"share": 3, "trials": 1, "chunks": 1, "compile_seconds": 1, "train_seconds": 2, "padding": 2}
    kept = [name for name in rungs.columns if name not in ("sizes", "structure") or len(set(rungs[name])) > 1]
    return rungs[kept].assign(**{name: rungs[name].round(places) for name, places in digits.items()})
