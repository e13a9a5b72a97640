"""Which chunk a worker takes next: bits do not depend on it, waiting does."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Protocol

from vtune.protocols import Chunk, Rung
from vtune.training.cost import CostTable, epoch_seconds
from vtune.training.places import Place
from vtune.training.programs import Program


class Timed(Protocol):
    """What dealing goes by of a program, for one that is only imagined."""

    @property
    def state_bytes(self) -> int:
        """Bytes of a chunk's lanes."""
        ...

    @property
    def epoch_seconds(self) -> float | None:
        """Of a chunk's epoch; None before the first call."""
        ...

    @property
    def compile_seconds(self) -> float | None:
        """Of the last compilation; None before the first."""
        ...

    def is_compiled_for(self, place: Place) -> bool:
        """Whether a call at this place would not compile."""
        ...


class Dealer:
    """Deals chunks to workers so that few programs compile, and what takes long starts first.

    A worker that has its place for itself is first given what it has a program for, then a rung that nobody has
    compiled, and only then helps another place out: if what waits there takes longer than compiling a second time. Of
    several rungs it is given the one with the most work left.

    Where workers share a place, and with it their programs, the rung that nobody has compiled comes first: the others
    train meanwhile, and none is left to wait for it at the end. Of what is compiled the largest chunk comes first, by
    the bytes of its lanes and its epochs: the smallest are left for the end, when some workers wait for others (Graham,
    1969, "Bounds on multiprocessing timing anomalies", section 4), and one kind is done before the next, as each needs
    memory of its own. Who is the first to be given a rung at a place compiles it, and nobody else waits for that who
    could do something else.

    A worker with a place for itself is helped by one who compiles for it while it trains: ``take_rung`` tells what.
    """

    def __init__(
        self,
        chunks: Iterable[Chunk],
        places: Iterable[Place],
        program: Callable[[Rung], Program | Timed],
        table: CostTable,
        num_rows: int,
    ):
        """Takes the first chunks.

        Args:
            chunks: in the order in which those of a rung are dealt.
            places: of the workers that will ask, one for each of them.
            program: returns the program of a rung.
            table: what to expect of a program before it was timed.
            num_rows: of an epoch.
        """
        self._places, self._table, self._num_rows, self._program = Counter(places), table, num_rows, program
        self._waiting: dict[Rung, deque[Chunk]] = {}
        self._epochs: dict[Rung, int] = {}  # that wait, kept as counting them anew takes longer than a small chunk
        self._programs: dict[Rung, Program | Timed] = {}
        self._claimed_by: dict[Rung, set[Place]] = {}
        self._ahead: dict[Place, Rung] = {}  # what was last compiled, or is being compiled, while a worker trains
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self.add(chunks)

    def add(self, chunks: Iterable[Chunk]) -> None:
        """Takes further chunks."""
        with self._lock:
            for chunk in chunks:
                if chunk.rung not in self._programs:
                    self._programs[chunk.rung] = self._program(chunk.rung)
                    self._claimed_by[chunk.rung] = set()
                self._waiting.setdefault(chunk.rung, deque()).append(chunk)
                self._epochs[chunk.rung] = self._epochs.get(chunk.rung, 0) + chunk.until - chunk.start
            self._news.notify_all()

    def wait(self, seconds: float) -> None:
        """Returns when there is news, or after so many seconds: what is worth a compilation changes with time."""
        with self._news:
            self._news.wait(seconds)

    def notify(self) -> None:
        """Wakes those who wait: something was compiled."""
        with self._news:
            self._news.notify_all()

    def take(self, place: Place) -> Chunk | None:
        """Returns the next chunk for a place; None where nothing waits that it had better do now.

        Ask again later: what is worth a second compilation is a guess until a program's first call was timed.
        """
        with self._lock:
            rung = self._choose(place)
            if rung is None:
                return None
            self._claimed_by[rung].add(place)
            if self._ahead.get(place) == rung:
                del self._ahead[place]
            chunk = self._waiting[rung].popleft()
            self._epochs[rung] -= chunk.until - chunk.start
            return chunk

    def take_rung(self, place: Place) -> Rung | None:
        """Returns what to compile next for a place while its worker trains; None where nothing waits to be compiled.

        It is what no place has, once every place has something, and one at a time: the next only when the worker has
        begun with the last. Else other places would be left without.
        """
        with self._lock:
            has_something = {place for claimed in self._claimed_by.values() for place in claimed}
            last = self._ahead.get(place)
            if not has_something.issuperset(self._places) or (last is not None and self._waiting[last]):
                return None
            rung = max(self._unclaimed(), key=self._work, default=None)
            if rung is not None:
                self._claimed_by[rung].add(place)
                self._ahead[place] = rung
            return rung

    def give_back(self, place: Place, rung: Rung) -> None:
        """Takes back a rung that could not be compiled ahead: whoever is given a chunk of it tries again."""
        with self._news:
            self._claimed_by[rung].discard(place)
            self._news.notify_all()

    def _unclaimed(self) -> list[Rung]:
        """The rungs that wait, and that no place has compiled or is compiling."""
        waiting = [rung for rung, chunks in self._waiting.items() if chunks]
        return [rung for rung in waiting if not any(self._is_claimed(rung, place) for place in self._places)]

    def _choose(self, place: Place) -> Rung | None:
        waiting = [rung for rung, chunks in self._waiting.items() if chunks]
        ready = [rung for rung in waiting if self._programs[rung].is_compiled_for(place)]
        foreign = [rung for rung in waiting if not self._is_claimed(rung, place)]
        unclaimed = self._unclaimed()
        if self._places[place] > 1 and not unclaimed and ready:
            return max(ready, key=self._size)
        worth_compiling = [rung for rung in foreign if self._work(rung) > self._compile_seconds(rung)]
        candidates = (unclaimed if self._places[place] > 1 else ready or unclaimed) or worth_compiling
        return max(candidates, key=self._work) if candidates else None

    def _is_claimed(self, rung: Rung, place: Place) -> bool:
        """Whether a rung is compiled for a place, or is being compiled."""
        return place in self._claimed_by[rung] or self._programs[rung].is_compiled_for(place)

    def _work(self, rung: Rung) -> float:
        """The seconds of what waits at a rung."""
        program = self._programs[rung]
        seconds = program.epoch_seconds or epoch_seconds(self._table, program.state_bytes, self._num_rows)
        return seconds * self._epochs[rung]

    def _size(self, rung: Rung) -> int:
        """Of the next chunk of a rung: the same however long the last one took."""
        chunk = self._waiting[rung][0]
        return self._programs[rung].state_bytes * (chunk.until - chunk.start)

    def _compile_seconds(self, rung: Rung) -> float:
        return self._programs[rung].compile_seconds or self._table.compile_seconds
