"""Programs of past searches, kept for the next one: as many as a process has memory maps for."""

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar, runtime_checkable


@runtime_checkable
class Compiled(Protocol):
    """What is kept: it knows how often it was compiled."""

    @property
    def num_compiled(self) -> int:
        """Executables that it holds, one a device."""
        ...


T = TypeVar("T", bound=Compiled)


class Shelf(Generic[T]):
    """Keeps what was asked for last, as long as all of it holds no more executables than there is room for.

    What is dropped goes on living in the studies that hold it.

    Attributes:
        room: how many executables.

    Example:
        >>> from types import SimpleNamespace
        >>> shelf = Shelf(room=3)
        >>> first = shelf.take("a", lambda: SimpleNamespace(num_compiled=2))
        >>> shelf.take("a", lambda: SimpleNamespace(num_compiled=2)) is first
        True
        >>> second = shelf.take("b", lambda: SimpleNamespace(num_compiled=2))
        >>> shelf.take("a", lambda: SimpleNamespace(num_compiled=2)) is first
        False
    """

    def __init__(self, room: int):
        self.room = room
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: Hashable, make: Callable[[], T]) -> T:
        """Returns what is kept under the key, or what ``make`` returns, which is kept from now on."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
            self._kept.move_to_end(key)
            if self._taken > self.room:
                self._make_room()
            return self._kept[key]

    def clear(self) -> None:
        """Drops everything."""
        with self._lock:
            self._kept.clear()

    def _make_room(self) -> None:
        while len(self._kept) > 1 and self._taken > self.room:
            self._kept.popitem(last=False)
        gc.collect()  # programs refer to themselves, and would stay until Python looks for such cycles

    @property
    def _taken(self) -> int:
        """What is not compiled yet will be, once at least."""
        return sum(max(1, one.num_compiled) for one in self._kept.values())
