"""A process of its own for each contestant, so that it finds nothing compiled and no device chosen by another.

It imports what the contestant needs and nothing else, JAX neither, and tells when it is ready.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

from contest.contestants import CONTESTANTS, PEERS, Contestant
from contest.work import Curves, Work

BY_NAME = {contestant.name: contestant for contestant in (*CONTESTANTS, *PEERS)}


class Lap(NamedTuple):
    """One search, trained.

    Attributes:
        seconds: from the call to the last curve on the host.
        compilations: programs that JAX compiled meanwhile.
        curves: what came out.
        start: seconds that the process took to start, where the search was its first and they count.
    """

    seconds: float
    compilations: int
    curves: Curves
    start: float = 0.0


class ContestantError(Exception):
    """What a contestant raised, in a line."""


@dataclass(frozen=True)
class Runner:
    """A contestant in a fresh process.

    Attributes:
        process: that it runs in.
        connection: to the process.
        seconds: from before the process was started until it could train: all imports, and processes of its own.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    seconds: float

    @classmethod
    def start(cls, contestant: Contestant, cores: int) -> "Runner":
        """Starts the process, and waits until it is ready.

        Raises:
            ContestantError: where it cannot be.
        """
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "contest.process", contestant.name, str(theirs.fileno()), str(cores)]
        started = time.perf_counter()
        process = subprocess.Popen(command, env=_environment(), pass_fds=[theirs.fileno()])
        theirs.close()
        try:
            _receive(ours)
        except ContestantError:
            process.wait()
            raise
        return cls(process, ours, time.perf_counter() - started)

    def train(self, work: Work) -> Lap:
        """Trains a search. Sending it is not timed, nor what the contestant does to prepare it.

        Raises:
            ContestantError: where it does not work.
        """
        self.connection.send(work)
        return _receive(self.connection)

    def close(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.wait()


def _environment() -> dict[str, str]:
    """What all contestants find: no settings of OpenBLAS, which NumPy and scikit-learn go by, and nothing cached."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    places = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "JAX_ENABLE_COMPILATION_CACHE": "false", "PYTHONPATH": os.pathsep.join(places)}


def _receive(connection: Connection) -> Any:
    try:
        received = connection.recv()
    except EOFError:
        raise ContestantError("its process ended") from None
    if isinstance(received, ContestantError):
        raise received
    return received


def _serve(contestant: Contestant, connection: Connection, cores: int) -> None:
    """Trains what it is sent until nobody is there to send."""
    try:
        prepare = resolve_name(contestant.start)(cores)
        compilations = _compilations()
        connection.send("ready")
        for work in iter(partial(_receive_work, connection), None):
            train = prepare(work)
            compilations.clear()
            started = time.perf_counter()
            curves = train()
            connection.send(Lap(time.perf_counter() - started, len(compilations), curves))
    except Exception as error:  # whatever a library raises: the others' rows must not be lost
        connection.send(ContestantError(f"{type(error).__name__}: {error}".splitlines()[0]))
        if not contestant.packages:
            raise


def _receive_work(connection: Connection) -> Work | None:
    try:
        return connection.recv()
    except EOFError:
        return None


def _compilations() -> list[float]:
    """Returns a list that grows with every program that JAX compiles, where it is imported."""
    compilations: list[float] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            compilations.append(duration_secs)

    if "jax" in sys.modules:
        sys.modules["jax"].monitoring.register_event_duration_secs_listener(listen)
    return compilations


if __name__ == "__main__":
    # By its name, so that what is sent is what the other side knows, and not a class of __main__.
    from contest.process import _serve as serve

    name, descriptor, cores = sys.argv[1:]
    serve(BY_NAME[name], Connection(int(descriptor)), int(cores))
