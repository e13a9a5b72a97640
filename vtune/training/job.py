"""What a study trains, whoever trains it: its recipe, its ladder, its rows, and the programs that follow from them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import UInt32

from vtune.arrays import Part
from vtune.data import Data
from vtune.protocols import Chunk, Hparams, Rung, Training
from vtune.training.ladder import Ladder
from vtune.training.objective import Objective
from vtune.training.programs import Program, Signature, epochs_per_call, fingerprint, program
from vtune.training.task import Recipe


@dataclass(frozen=True)
class Job:
    """What all executors need.

    Attributes:
        recipe: what all trials have in common.
        ladder: which trials share a program.
        traced: name and dtype of each hyperparameter that is data.
        data: rows to train and to measure on.
        root: words of the study's root key.
        objective: what ranks trials, and ends those that it has no patience with.
    """

    recipe: Recipe
    ladder: Ladder
    traced: tuple[tuple[str, str], ...]
    data: Data
    root: UInt32[np.ndarray, "2"]
    objective: Objective

    def chunks(self, trainings: Iterable[Training], parts: int = 1) -> list[Chunk]:
        """Packs trainings into full chunks; what does not fill the last one makes a smaller one.

        What goes the same way comes in the order in which the first of it is given. In it come together those that need
        the same of what the model skips, the longest first, and of these those of one batch size: lanes that step at
        the same time skip the optimizer at the same time.

        Args:
            trainings: what to train.
            parts: how many times the lanes of its rung a chunk may have.
        """
        skipped = self.recipe.elastic.skipped if self.recipe.elastic else ()
        groups: dict[tuple[Rung, int, int, int], list[Training]] = {}
        for training in trainings:
            way = training.seed_index, training.start, training.until
            groups.setdefault((self.rung(training.hparams), *way), []).append(training)
        for members in groups.values():
            members.sort(
                key=lambda training: [training.hparams[name] for name in (*skipped, "batch_size")], reverse=True
            )
        return [
            Chunk(rung, tuple(members[first : first + parts * rung.lanes]))
            for (rung, *_), members in groups.items()
            for first in range(0, len(members), parts * rung.lanes)
        ]

    def rung(self, hparams: Hparams) -> Rung:
        """Returns the program of a trial; one that is told apart by nothing that the ladder goes by is known."""
        decides = tuple(hparams[name] for name in self._deciding)
        if decides not in self._rungs:
            self._rungs[decides] = self.ladder.rung(hparams)
        return self._rungs[decides]

    def program(self, rung: Rung) -> Program:
        """Returns the program of a rung for these data."""
        if rung not in self._programs:
            mark = fingerprint(self.recipe, rung, self.signature)
            self._programs[rung] = program(self.recipe, rung, self.signature, mark)
        return self._programs[rung]

    def code_digest(self, trials: Iterable[Hparams]) -> str:
        """Returns a digest of what model, optimizer, loss and metric compute in some trials, as this JAX sees it.

        Functions bear the same name before and after they are edited; this tells them apart.

        Args:
            trials: complete ones.
        """
        marks = (fingerprint(self.recipe, self.ladder.rung(trial), self.signature) for trial in trials)
        return hashlib.sha256("".join(marks).encode()).hexdigest()[:16]

    def refuse_beyond_memory(self, rungs: Iterable[Rung], room: int) -> None:
        """Refuses programs whose lanes do not fit.

        Args:
            rungs: of them.
            room: bytes that one call may take.

        Raises:
            ValueError: for chunks that are larger.
        """
        for rung in set(rungs):
            program = self.program(rung)
            if program.most_bytes > room and (needed := program.estimated_bytes) > room:
                raise ValueError(
                    f"a chunk of {rung.lanes} trials would take about {needed / 2**30:.1f} GiB, but there are "
                    f"{room / 2**30:.1f} GiB for it. Write chunk={max(1, rung.lanes * room // (2 * needed))}."
                )

    def describe(self, where: str, num_parallel: int) -> str:
        """Returns the plan in one line: programs, chunks, devices, expected time, and why there are several programs.

        Args:
            where: the devices, in words.
            num_parallel: how many workers train there, or devices in lockstep.
        """
        fewest, most = (bound(cell.lanes for cell in self.ladder.cells) for bound in (min, max))
        lanes = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        chunks = f"chunks of {lanes} trial{'s' if most > 1 else ''}"
        told = f"plan: {self.ladder.describe()}, {chunks}, on {where}"
        seconds = self.ladder.expected_seconds / num_parallel
        if not np.isfinite(seconds):  # one that was given tells no time
            return told
        why = ", as fewer rungs would pad more and more would compile longer" if len(self.ladder.cells) > 1 else ""
        return f"{told}; about {seconds:.0f} s{why}"

    @cached_property
    def signature(self) -> Signature:
        """Shapes and types of what programs take."""
        train, valid = map(_shapes_of, self.data.scaled)  # and so they are scaled once, before there are threads
        has_units = self.data.y_units is not None
        return Signature(self.traced, train, valid, epochs_per_call(self.data.num_train), has_units)

    @cached_property
    def _deciding(self) -> tuple[str, ...]:
        """The hyperparameters that a ladder goes by: sizes, structure and the batch size."""
        names = {name for cell in self.ladder.cells for name in cell.high}.union(self.ladder.structural)
        return tuple(sorted(names | {"batch_size"}))

    @cached_property
    def _rungs(self) -> dict[tuple[Any, ...], Rung]:
        return {}

    @cached_property
    def _programs(self) -> dict[Rung, Program]:
        return {}


def _shapes_of(part: Part) -> tuple[tuple[tuple[int, ...], str], ...]:
    return tuple((array.shape, array.dtype.name) for array in part)
