"""Programs of past searches are kept for the next one, and freed where there is no more room."""

import weakref

import pytest

from vtune.training.shelf import Shelf


class Compiled:
    def __init__(self, num_compiled):
        self.num_compiled, self.itself = num_compiled, self


def test_programs_that_find_no_room_are_freed_and_the_last_used_are_kept():
    shelf = Shelf(room=4)
    freed = [weakref.ref(shelf.take(name, lambda: Compiled(2))) for name in ("first", "second")]
    shelf.take("first", lambda: pytest.fail("it is kept"))
    shelf.take("third", lambda: Compiled(1))
    assert [reference() is None for reference in freed] == [False, True]
    shelf.take("large", lambda: Compiled(9))
    assert freed[0]() is None
    shelf.take("large", lambda: pytest.fail("the last one is kept, however large"))
