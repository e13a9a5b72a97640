"""What a ladder is expected to cost: trials are drawn, packed and dealt out in thought, by the seconds of ``cost``.

Nothing is traced or compiled. The trials come through the code that maps those of a search to its programs, chunks and
workers, so what is expected is right for every kind of space, as far as the cost table is.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heappop, heappush
from statistics import fmean
from typing import NamedTuple

import numpy as np

from vtune.protocols import Chunk, Hparams, Leg, Rung, Training
from vtune.training.cost import state_bytes_of
from vtune.training.dealer import Dealer
from vtune.training.ladder import Ladder
from vtune.training.places import Place
from vtune.training.planner import Planner
from vtune.training.setup import Parts, largest_size

DRAWS = 4096
"""How many trials are drawn."""

_DEALT = 1024
"""How many of them are dealt out one by one; of trials beyond, every worker is taken to have its share."""

_SEARCHES = 8
"""How many searches the expected time is a mean of, as far as these suffice."""

_IDLE_SECONDS = 0.05
"""How long a worker waits where nothing is known to happen."""


class Cost(NamedTuple):
    """What a search is expected to take.

    Attributes:
        seconds: from its first chunk to its last, compiling included.
        warm_seconds: likewise, with all programs compiled before.
        training: seconds that chunks train, summed over workers.
        programs: how many are compiled.
        chunks: how many of each rung.
        busy: seconds that the chunks of each rung train.
    """

    seconds: float
    warm_seconds: float
    training: float
    programs: float
    chunks: Mapping[Rung, float]
    busy: Mapping[Rung, float]


@dataclass(frozen=True)
class Outlook:
    """Foresees what ladders cost a search.

    Attributes:
        parts: what is searched.
        planner: of ladders.
        places: of the workers, an entry each.
    """

    parts: Parts
    planner: Planner
    places: Sequence[Place]

    @cached_property
    def draws(self) -> list[dict]:
        """Complete trials, drawn from the whole space."""
        points = np.random.default_rng(0).random((DRAWS, len(self.parts.space.axes)))
        return [self.parts.usage.complete(self.parts.usage.used(row)) for row in self.parts.space.rows(points)]

    def cost(self, ladder: Ladder) -> Cost:
        """Returns what a search with this ladder is expected to take."""
        num_dealt, trials = min(self.planner.trials, _DEALT), self.planner.trials
        laps = [self._lap(ladder, draws) for draws in self._searches(num_dealt)]
        beyond = trials / num_dealt
        training = fmean(sum(lap.busy.values()) for lap in laps)
        rest = (beyond - 1) * training / len(self.places)
        rungs = {rung for lap in laps for rung in lap.busy}
        return Cost(
            fmean(lap.seconds for lap in laps) + rest,
            fmean(lap.warm_seconds for lap in laps) + rest,
            training * beyond,
            fmean(lap.programs for lap in laps),
            {rung: beyond * fmean(lap.chunks.get(rung, 0) for lap in laps) for rung in rungs},
            {rung: beyond * fmean(lap.busy.get(rung, 0.0) for lap in laps) for rung in rungs},
        )

    def mean_over(self, ladder: Ladder, trial: Hparams) -> float:
        """Returns how many times as long as this trial one of the space takes on average, each among its like.

        Of a model that vtune does not know all trials are taken to be alike.
        """
        if self.parts.findings.elastic is None:
            return 1.0
        drawn = [self._trial_seconds(ladder, each) for each in self.draws if ladder.covers(each)]
        return fmean(drawn) / self._trial_seconds(ladder, trial)

    def exact_shapes(self) -> tuple[int, float]:
        """Returns how many shapes there are among the trials, and the seconds of a search with a program for each.

        At true sizes, with whole batches, and every worker with its share. Of more trials than are drawn, there may be
        more shapes.
        """
        names = (*self.parts.findings.structural, *self.parts.findings.sizes, "batch_size")
        drawn = self.draws[: self.planner.trials]
        shapes = {tuple(self._own(trial, name) for name in names) for trial in drawn}
        training = fmean(self._seconds(self.true_macs(trial), trial["batch_size"], None) for trial in drawn)
        compiling = len(shapes) * self.planner.table.compile_seconds
        return len(shapes), (compiling + training * self.planner.trials) / len(self.places)

    def padding(self, rung: Rung, trials: Sequence[Hparams]) -> float:
        """Returns how many times the multiply-adds a rung makes that its trials need at their true sizes.

        Trials are taken to be among others that skip the same.
        """
        made = sum(self._turns(trial, rung) * rung.rows * sum(self.made_macs(rung, [trial])) for trial in trials)
        return made / sum(self._trained_rows(trial) * sum(self.true_macs(trial)) for trial in trials)

    def made_macs(self, rung: Rung, trials: Sequence[Hparams]) -> Sequence[int]:
        """Returns the multiply-adds of a row's forward pass by layer, as a rung makes them for a chunk of trials."""
        elastic, padded = self.parts.findings.elastic, dict(rung.sizes)
        skipped = elastic.skipped if elastic else ()
        made = {name: max(trial[name] for trial in trials) for name in skipped if name in padded}
        return self.parts.recipe.row_macs(rung, **made) or [self._num_weights]

    def true_macs(self, trial: Hparams) -> Sequence[int]:
        """Returns the same at a trial's true sizes."""
        elastic = self.parts.findings.elastic
        if elastic is None:
            return [self._num_weights]
        sizes = {name: trial[name] for name in self.parts.findings.sizes}
        return elastic.row_macs(sizes, self.planner.shapes)

    def state_bytes(self, rung: Rung) -> int:
        """Returns about how many bytes the lanes of a chunk take; weights count as many as a row's multiply-adds.

        It is for dealing, where only the order of rungs counts: Adam's moments are taken for those of all optimizers,
        and the largest network for all of a model that vtune does not know.
        """
        return state_bytes_of(sum(self.parts.recipe.row_macs(rung) or [self._num_weights]), rung.lanes)

    @cached_property
    def _num_weights(self) -> int:
        """Of the largest network of a model that vtune does not know: a multiply-add each, as the planner has it."""
        return largest_size(self.parts, self.planner)[0]

    def _own(self, trial: Hparams, name: str) -> object:
        """The value of a name; of a layer that a trial does not have it is the same for all."""
        return self.parts.usage.used(trial).get(name)

    def _turns(self, trial: Hparams, rung: Rung) -> int:
        return self.planner.turns(trial["batch_size"], rung.rows)

    def _trained_rows(self, trial: Hparams) -> int:
        return self.planner.num_rows // trial["batch_size"] * trial["batch_size"]

    def _trial_seconds(self, ladder: Ladder, trial: Hparams) -> float:
        rung = ladder.rung(trial)
        return self._seconds(self.made_macs(rung, [trial]), trial["batch_size"], rung.rows)

    def _seconds(self, macs: Sequence[int], batch_size: int, rows: int | None) -> float:
        """Seconds of one trial; ``rows`` are None for whole batches."""
        key = tuple(macs), batch_size, rows or batch_size
        if key not in self._known_seconds:
            self._known_seconds[key] = self.planner.lane_seconds(*key)
        return self._known_seconds[key]

    @cached_property
    def _known_seconds(self) -> dict[tuple[tuple[int, ...], int, int], float]:
        return {}

    def _searches(self, trials: int) -> Iterator[list[dict]]:
        for first in range(0, min(_DEALT // trials, _SEARCHES) * trials, trials):
            yield self.draws[first : first + trials]

    def _lap(self, ladder: Ladder, drawn: Sequence[Hparams]) -> Cost:
        """Packs and deals out one search."""
        job = self.parts.job(ladder, np.zeros(2, np.uint32))
        trainings = [Training((Leg(place, trial, self.planner.epochs),)) for place, trial in enumerate(drawn)]
        chunks, num_chunks, busy = job.chunks(trainings, self.places[0].parts), dict[Rung, int](), dict[Rung, float]()
        for chunk in chunks:
            num_chunks[chunk.rung] = num_chunks.get(chunk.rung, 0) + 1
            busy[chunk.rung] = busy.get(chunk.rung, 0.0) + self._chunk_seconds(chunk)
        epoch = {rung: seconds / num_chunks[rung] / self.planner.epochs for rung, seconds in busy.items()}
        cold, warm = (self._dealt(chunks, epoch, compiling) for compiling in (self.planner.table.compile_seconds, 0.0))
        return Cost(cold, warm, sum(busy.values()), len(busy), num_chunks, busy)

    def _chunk_seconds(self, chunk: Chunk) -> float:
        """All lanes wait for the one that takes the most, and those without a trial are computed too."""
        rung, macs = chunk.rung, self.made_macs(chunk.rung, [training.hparams for training in chunk.trainings])
        sizes = {training.hparams["batch_size"] for training in chunk.trainings}
        return rung.lanes * max(self._seconds(macs, size, rung.rows) for size in sizes)

    def _dealt(self, chunks: Sequence[Chunk], epoch_seconds: Mapping[Rung, float], compile_seconds: float) -> float:
        """Returns when the last chunk is done, as workers are dealt one after the other."""
        clock = _Clock()
        programs = {
            rung: _Imagined(clock, seconds, compile_seconds, self.state_bytes(rung))
            for rung, seconds in epoch_seconds.items()
        }
        table, num_rows = self.planner.table, self.planner.num_rows
        dealer = Dealer(chunks, self.places, programs.__getitem__, table, num_rows)
        free, left, end = [(0.0, worker) for worker in range(len(self.places))], len(chunks), 0.0
        while left:
            clock.now, worker = heappop(free)
            place = self.places[worker]
            chunk = dealer.take(place)
            if chunk is None:
                news = [time for time, _ in free] + [program.ready_at(place) for program in programs.values()]
                later = min((time for time in news if clock.now < time < math.inf), default=clock.now + _IDLE_SECONDS)
                heappush(free, (later, worker))
                continue
            done = programs[chunk.rung].begin(place) + self._chunk_seconds(chunk)
            left, end = left - 1, max(end, done)
            heappush(free, (done, worker))
        return end


@dataclass
class _Clock:
    now: float = 0.0


@dataclass
class _Imagined:
    """A program that is never compiled; see ``dealer.Timed``."""

    clock: _Clock
    epoch_seconds: float
    compile_seconds: float
    state_bytes: int
    compiled: dict[Place, float] = field(default_factory=dict)

    def ready_at(self, place: Place) -> float:
        """When it is compiled for a place; never, as far as is known."""
        return self.compiled.get(place, math.inf)

    def is_compiled_for(self, place: Place) -> bool:
        """Whether it is by now; always, where compiling takes no time."""
        return self.compile_seconds == 0.0 or self.ready_at(place) <= self.clock.now

    def begin(self, place: Place) -> float:
        """Compiles it for a place if need be, and returns when it is ready."""
        if self.is_compiled_for(place):
            return self.clock.now
        self.compiled.setdefault(place, self.clock.now + self.compile_seconds)
        return self.compiled[place]
