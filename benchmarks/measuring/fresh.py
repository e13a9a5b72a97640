"""A fresh process, which finds nothing compiled, no device chosen and no memory in use."""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any


@dataclass(frozen=True)
class Fresh:
    """A process that calls functions for another one."""

    process: Any
    connection: Connection

    @classmethod
    def start(cls) -> "Fresh":
        """Starts the process."""
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function of a module there, and returns what it returned.

        Raises:
            RuntimeError: where the process has ended; it has written why.
        """
        try:
            self.connection.send((function, arguments))
            return self.connection.recv()
        except (EOFError, BrokenPipeError) as error:
            raise RuntimeError(f"the process that calls {function.__name__} has ended") from error

    def close(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.join()


def _serve(connection: Connection) -> None:
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        connection.send(function(*arguments))
