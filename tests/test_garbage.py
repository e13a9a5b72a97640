"""Garbage collection is put off for a while, and comes back whatever happens meanwhile."""

import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.laws.population import digits, make_queue, trainings_of
from vtune.garbage import collected_later
from vtune.loop import Loop
from vtune.parameters import integers
from vtune.searching import search
from vtune.training.ladder import Ladder
from vtune.training.mlp import MLP

SPACE = {"hidden": integers(2, 5), "layers": 1, "batch_size": 64}


@pytest.fixture(autouse=True)
def collection_on():
    was_on = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if was_on else gc.disable)()


def test_it_is_off_within_and_on_after():
    with collected_later():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_comes_back_after_an_error():
    with pytest.raises(RuntimeError, match="within"), collected_later():
        raise RuntimeError("within")
    assert gc.isenabled()


def test_it_stays_off_where_the_user_has_turned_it_off():
    gc.disable()
    with collected_later():
        pass
    assert not gc.isenabled()


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_the_last_to_leave_turns_it_on_again(first_to_leave):
    entered = [collected_later(), collected_later()]
    for each in entered:
        each.__enter__()
    entered[first_to_leave].__exit__(None, None, None)
    assert not gc.isenabled()
    entered[1 - first_to_leave].__exit__(None, None, None)
    assert gc.isenabled()


def test_threads_that_put_it_off_again_and_again_leave_it_on():
    def again_and_again(_):
        for _ in range(2000):
            with collected_later():
                assert not gc.isenabled()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(again_and_again, range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert gc.isenabled()


def test_it_is_off_while_a_plan_is_opened_and_packed(monkeypatch):
    seen, opening, rung = [], Loop._open_history, Ladder.rung

    def watched(name, call):
        def watching(*arguments):
            seen.append((name, gc.isenabled()))
            return call(*arguments)

        return watching

    monkeypatch.setattr(Loop, "_open_history", watched("opened", opening))
    search(MLP, SPACE, trials=4, epochs=1, strategy="random", finalists=0, progress=False)
    assert seen == [("opened", False)] * 4
    queue = make_queue(SPACE, digits())
    monkeypatch.setattr(Ladder, "rung", watched("packed", rung))
    assert queue._chunks(trainings_of([{"hidden": 3, "layers": 1, "batch_size": 64}], epochs=1))
    assert seen[4:] == [("packed", False)]
    assert gc.isenabled()
