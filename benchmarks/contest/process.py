"""A process of its own for each contestant, so that it finds nothing compiled and no device chosen by another."""

import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import jax

from contest.contestants import Contestant
from contest.work import Curves, Work


class Lap(NamedTuple):
    """One search, trained.

    Attributes:
        seconds: from the call to the last curve on the host.
        compilations: programs compiled meanwhile.
        curves: what came out.
    """

    seconds: float
    compilations: int
    curves: Curves


@dataclass(frozen=True)
class Runner:
    """A contestant in a fresh process."""

    process: Any
    connection: Connection

    @classmethod
    def start(cls, contestant: Contestant) -> "Runner":
        """Starts the process, and waits until all is imported."""
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(theirs, contestant), daemon=True)
        process.start()
        theirs.close()
        ours.recv()
        return cls(process, ours)

    def train(self, work: Work) -> Lap:
        """Trains a search. Sending it is not timed, nor what the contestant does to prepare it."""
        self.connection.send(work)
        return self.connection.recv()

    def close(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.join()


def _serve(connection: Connection, contestant: Contestant) -> None:
    """Trains what it is sent until nobody is there to send."""
    compilations = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            compilations.append(duration_secs)

    jax.config.update("jax_enable_compilation_cache", False)
    jax.monitoring.register_event_duration_secs_listener(listen)
    connection.send("ready")
    while True:
        try:
            work = connection.recv()
        except EOFError:
            return
        train = contestant.prepare(work)
        compilations.clear()
        started = time.perf_counter()
        curves = train()
        connection.send(Lap(time.perf_counter() - started, len(compilations), curves))
