"""Counts what XLA compiles."""

from typing import Any

import jax

_open: list["Compilations"] = []


class Compilations:
    """The number of programs compiled while it is open."""

    def __init__(self):
        self.count = 0

    def __enter__(self) -> "Compilations":
        _open.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        _open.remove(self)


def _listen(event: str, _seconds: float, **_: Any) -> None:
    if event.endswith("backend_compile_duration"):
        for counter in _open:
            counter.count += 1


jax.monitoring.register_event_duration_secs_listener(_listen)
