"""One process a core, with one thread each, that train trials one at a time: as a careful user of a library does it."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from pkgutil import resolve_name
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from contest.contestants import Prepare
from contest.work import Curves, Work

TrainTrial: TypeAlias = Callable[[Work, int], Float[np.ndarray, "epochs 2"]]
"""Trains the trial of a search that stands at a place."""


@dataclass(frozen=True)
class Team:
    """Processes that have imported a library."""

    processes: list[Any]
    connections: list[Connection]

    @classmethod
    def start(cls, train_trial: str, cores: int) -> "Team":
        """Starts the processes, and waits until all have imported.

        Args:
            train_trial: where the function stands that trains a trial, as "module:name".
            cores: how many processes.
        """
        os.environ["OMP_NUM_THREADS"] = "1"  # OpenBLAS, MKL and PyTorch all go by it
        spawn = multiprocessing.get_context("spawn")
        processes, connections = [], []
        for _ in range(cores):
            ours, theirs = spawn.Pipe()
            processes.append(spawn.Process(target=_serve, args=(theirs, train_trial), daemon=True))
            processes[-1].start()
            theirs.close()
            connections.append(ours)
        for connection in connections:
            _receive(connection)
        return cls(processes, connections)

    def send(self, work: Work) -> None:
        """Gives all of them a search."""
        for connection in self.connections:
            connection.send(work)
        for connection in self.connections:
            _receive(connection)

    def train(self, places: Iterable[int]) -> Iterator[tuple[int, Float[np.ndarray, "epochs 2"]]]:
        """Trains the trials at these places: whoever is idle takes the next, which is asked for only then."""
        waiting = iter(places)
        busy: dict[Connection, int] = {}
        for connection in self.connections:
            self._take_next(connection, waiting, busy)
        while busy:
            ready = wait(list(busy))
            for connection in [connection for connection in busy if connection in ready]:
                place, curve = busy.pop(connection), _receive(connection)
                self._take_next(connection, waiting, busy)
                yield place, curve

    @staticmethod
    def _take_next(connection: Connection, waiting: Iterator[int], busy: dict[Connection, int]) -> None:
        place = next(waiting, None)
        if place is not None:
            busy[connection] = place
            connection.send(place)


def start_team(train_trial: str, cores: int) -> Prepare:
    """Starts a team; it is given a search untimed, and trains all of its trials in order."""
    team = Team.start(train_trial, cores)

    def prepare(work: Work) -> Callable[[], Curves]:
        team.send(work)
        return partial(collect, work, team.train(range(work.trials)))

    return prepare


start_scikit_learn = partial(start_team, "contest.peers.scikit_learn:train_trial")
start_pytorch = partial(start_team, "contest.peers.pytorch:train_trial")
"""Both stand here so that the process that starts the others need not import what they do."""


def collect(work: Work, trained: Iterable[tuple[int, Float[np.ndarray, "epochs 2"]]]) -> Curves:
    """Puts the curves of trials where they belong."""
    curves = np.full((work.trials, work.epochs, 2), np.nan)
    for place, curve in trained:
        curves[place] = curve
    return curves


def _receive(connection: Connection) -> Any:
    received = connection.recv()
    if isinstance(received, Exception):
        raise received
    return received


def _serve(connection: Connection, train_trial: str) -> None:
    """Takes searches, and trains their trials by place, until nobody is there to send."""
    try:
        train: TrainTrial = resolve_name(train_trial)
        connection.send("ready")
        work: Work = connection.recv()
        while True:
            connection.send("taken")
            while not isinstance(received := connection.recv(), Work):
                connection.send(train(work, received))
            work = received
    except EOFError:
        return
    except Exception as error:
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))
        raise
