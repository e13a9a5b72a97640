"""Garbage collection, put off where it finds nothing."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected_later() -> Iterator[None]:
    """Puts garbage collection off while many objects are made and few dropped, which sets off one after another.

    Each looks at all objects of the process. Several threads may do so at the same time: who was the first to put it
    off turns it on again.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
