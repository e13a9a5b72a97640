"""The ladder: which trials share a program. ``planner`` makes it, once a study.

It is a pure function of the space's bounds, the declared trials and epochs, the shapes of the data, the dtype and the
kind of device, by the versioned numbers of ``cost``; never of timings, device counts or what was sampled. A trial's
rung follows from the ladder and its own hyperparameters, and so do its bits.
"""

import json
import math
from collections.abc import Iterable
from typing import NamedTuple

from vtune.protocols import Hparams, Rung


class Cut(NamedTuple):
    """How mini-batches are cut into micro-batches: a function of a trial's own batch size.

    Attributes:
        target: rows of a micro-batch where the batch size allows.
        divides: whether micro-batches take the batch size's own largest divisor up to the target, if that is at least
            half of what is aimed at; else, and where there is none, a size that the target does not divide is cut
            with rows of zero weight.
    """

    target: int
    divides: bool

    def rows(self, batch_size: int) -> tuple[int, bool]:
        """Returns the rows of a micro-batch, and whether they divide the batch size."""
        aim = min(self.target, batch_size)
        divisor = max(rows for rows in range(1, aim + 1) if batch_size % rows == 0)
        if divisor == self.target or (self.divides and 2 * divisor > aim):
            return divisor, True
        return self.target, False


class Cell(NamedTuple):
    """Trials that share a program: a box of elastic sizes at one kind of micro-batch.

    Attributes:
        low: smallest true size of each elastic hyperparameter.
        high: largest one, to which all are padded; one that equals its ``low`` is a constant of the program.
        rows: rows of a micro-batch; None for the trial's whole batch.
        is_shared: whether ``rows`` divides the batch sizes of this cell.
        accumulates: whether some batch size of this cell takes more than one micro-batch.
        lanes: trials per chunk.
        copies_rows: whether every lane has a copy of the rows that all read.
    """

    low: dict[str, int]
    high: dict[str, int]
    rows: int | None
    is_shared: bool
    accumulates: bool
    lanes: int
    copies_rows: bool = False

    def holds(self, hparams: Hparams, rows: tuple[int, bool] | None) -> bool:
        """Whether a trial with these hyperparameters and micro-batches (None where nothing is cut) belongs here."""
        fits = all(size <= hparams[name] <= self.high[name] for name, size in self.low.items())
        return fits and (rows is None or self.rows is None or rows == (self.rows, self.is_shared))

    def rung(self, hparams: Hparams, structural: Iterable[str]) -> Rung:
        """Returns the program of a trial that belongs here; ``structural`` names the constants of all programs."""
        exact = [name for name in self.high if self.low[name] == self.high[name]]
        return Rung(
            sizes=tuple(sorted((name, size) for name, size in self.high.items() if name not in exact)),
            structure=tuple(sorted((name, hparams[name]) for name in (*structural, *exact))),
            lanes=self.lanes,
            rows=self.rows or hparams["batch_size"],
            is_shared=self.is_shared,
            accumulates=self.accumulates,
            copies_rows=self.copies_rows,
        )


class Ladder(NamedTuple):
    """The set of programs of a study.

    Attributes:
        version: of the cost table it was planned with.
        device: kind of device.
        dtype: of weights and data.
        matmul_precision: of the networks; None for what JAX takes by itself.
        structural: names whose values are constants of a program.
        cut: how mini-batches are cut; None where a batch is trained whole, or all in the same way.
        cells: they do not overlap, and cover the space.
        num_rungs: how many programs there may be.
        expected_seconds: of the whole study on one device, compiling included, by the cost table.
    """

    version: int
    device: str
    dtype: str
    matmul_precision: str | None
    structural: tuple[str, ...]
    cut: Cut | None
    cells: tuple[Cell, ...]
    num_rungs: int
    expected_seconds: float

    def cell(self, hparams: Hparams) -> Cell:
        """Returns where a trial belongs."""
        rows = self.cut.rows(hparams["batch_size"]) if self.cut else None
        return next(cell for cell in self.cells if cell.holds(hparams, rows))

    def rung(self, hparams: Hparams) -> Rung:
        """Returns the program of a trial."""
        return self.cell(hparams).rung(hparams, self.structural)

    def describe(self) -> str:
        """Returns how many programs there may be, in words."""
        return f"{self.num_rungs} rung{'s' if self.num_rungs > 1 else ''}"

    def to_json(self) -> str:
        """Returns all that decides bits as JSON: equal text, equal bits."""
        plain = {**self._asdict(), "cut": self.cut and self.cut._asdict(), "cells": [c._asdict() for c in self.cells]}
        del plain["expected_seconds"]
        return json.dumps(plain, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Ladder":
        """Returns the ladder that ``to_json`` wrote; its expected seconds are not known.

        Raises:
            ValueError: for any other text.
        """
        try:
            plain = json.loads(text)
            cells = tuple(Cell(**cell) for cell in plain.pop("cells"))
            cut = plain.pop("cut")
            structural = tuple(plain.pop("structural"))
            return cls(**plain, structural=structural, cut=cut and Cut(**cut), cells=cells, expected_seconds=math.nan)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"ladder={text[:60]!r} is not what study.ladder gives ({error}). Write that.") from error

    def covers(self, hparams: Hparams) -> bool:
        """Whether a trial with these hyperparameters has a program here."""
        rows = self.cut.rows(hparams["batch_size"]) if self.cut else None
        return any(cell.holds(hparams, rows) for cell in self.cells)
