"""Programs of past searches are kept for the next one, and freed where there is no more room."""

import gc
import weakref
from pathlib import Path

import jax
import pytest

from tests.laws.population import complete, make_queue
from vtune.parameters import choice, loguniform
from vtune.training.places import OneDevice
from vtune.training.programs import SHELF
from vtune.training.shelf import Shelf

MAPS = Path("/proc/self/maps")


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


@pytest.mark.long
@pytest.mark.skipif(not MAPS.exists(), reason="only Linux tells what a process has mapped, and limits it")
def test_what_is_kept_takes_less_than_half_of_the_memory_maps_that_linux_allows():
    space = {
        "learning_rate": loguniform(1e-4, 1e-1),
        "hidden": choice([16, 64]),
        "layers": 4,
        "batch_size": choice([32, 96]),
    }
    queue = make_queue(space)
    (row,) = complete([{"learning_rate": 1e-3, "hidden": 64, "layers": 4, "batch_size": 96}])
    program = queue.job.program(queue.job.ladder.rung(row))
    jax.jit(lambda x: x + 1)(1.0)  # what the first compilation maps for good
    gc.collect()  # no program of an earlier test is freed meanwhile
    before = len(MAPS.read_text().splitlines())
    program.on(OneDevice(jax.devices()[0]))
    taken = len(MAPS.read_text().splitlines()) - before
    assert 0 < SHELF.room * taken < 65_530 / 2
