"""What workers do while a search runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vtune.protocols import ChunkResult
from vtune.training.worker import Worker


@contextmanager
def recorded() -> Iterator[list[ChunkResult]]:
    """Keeps what workers return."""
    train, results = Worker.train, []

    def recording(self: Worker, *arguments: Any) -> ChunkResult:
        results.append(train(self, *arguments))
        return results[-1]

    Worker.train = recording  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield results
    finally:
        Worker.train = train
