"""Garbage collection, put off where it would find little."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Within:
    """How many put it off by now, and whether it was on before the first of them came."""

    lock, number, was_on = threading.Lock(), 0, False


@contextmanager
def collected_later() -> Iterator[None]:
    """Puts garbage collection off while many objects are made and few dropped.

    Every some hundred new ones set off a collection, and now and then one that looks at all objects of the process.
    Several threads may put it off at the same time: the last to leave turns it on again, if it was on when the first
    came.
    """
    has_come = False
    try:
        with _Within.lock:
            _Within.was_on = _Within.was_on if _Within.number else gc.isenabled()
            _Within.number, has_come = _Within.number + 1, True
            gc.disable()
        yield
    finally:
        if has_come:
            with _Within.lock:
                _Within.number -= 1
                if _Within.was_on and not _Within.number:
                    gc.enable()
