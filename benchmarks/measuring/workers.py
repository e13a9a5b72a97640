"""What workers do while a search runs."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import jax

from vtune.protocols import ChunkResult
from vtune.training.programs import Program
from vtune.training.worker import Worker

Span: TypeAlias = tuple[float, float]
"""When something began and when it ended, as ``time.perf_counter`` tells."""


@contextmanager
def recorded() -> Iterator[list[ChunkResult]]:
    """Keeps what workers return."""
    results: list[ChunkResult] = []
    with _watched(results.append):
        yield results


@contextmanager
def timed() -> Iterator[list[Span]]:
    """Keeps when workers trained chunks; compiling is left out."""
    spans: list[Span] = []

    def note(result: ChunkResult) -> None:
        ended = time.perf_counter()
        spans.append((ended - result.seconds, ended))

    with _watched(note):
        yield spans


LOWERING = "/jax/core/compile/jaxpr_to_mlir_module_duration"
COMPILING = "/jax/core/compile/backend_compile_duration"
"""What JAX tells of every program: for how long it was lowered, and then compiled or fetched."""


@contextmanager
def heard(note: Callable[[str, float], None]) -> Iterator[None]:
    """Hears what JAX tells of its durations, in the thread that took so long."""
    is_open = True

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if is_open:
            note(event, duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield
    finally:
        is_open = False


@contextmanager
def prepared() -> Iterator[list[Span]]:
    """Keeps when programs were made ready: those of rungs traced as well, and all others lowered and compiled."""
    spans: list[Span] = []
    on = Program.on

    def note(event: str, seconds: float) -> None:
        if event in (LOWERING, COMPILING):
            spans.append((time.perf_counter() - seconds, time.perf_counter()))

    def timing(self: Program, place: Any, *stopped: Any) -> Any:
        if self.is_compiled_for(place):
            return on(self, place, *stopped)
        begun = time.perf_counter()
        compiled = on(self, place, *stopped)
        spans.append((begun, time.perf_counter()))
        return compiled

    with replaced(Program, "on", timing), heard(note):
        yield spans


def covered(spans: Iterable[Span]) -> float:
    """Returns for how long there was at least one of these spans.

    Example:
        >>> covered([(0.0, 2.0), (4.0, 5.0), (1.0, 3.0)])
        4.0
    """
    total, reached = 0.0, float("-inf")
    for begun, ended in sorted(spans):
        total += max(0.0, ended - max(begun, reached))
        reached = max(reached, ended)
    return total


@contextmanager
def _watched(see: Callable[[ChunkResult], None]) -> Iterator[None]:
    train = Worker.train

    def watching(self: Worker, *arguments: Any) -> ChunkResult:
        result = train(self, *arguments)
        see(result)
        return result

    with replaced(Worker, "train", watching):
        yield


@contextmanager
def replaced(owner: type, name: str, by: Callable[..., Any]) -> Iterator[None]:
    """Puts a function in place of a method, for a time."""
    method = getattr(owner, name)
    setattr(owner, name, by)
    try:
        yield
    finally:
        setattr(owner, name, method)
