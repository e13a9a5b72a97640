"""What the trials of a seed index share is drawn once at a place, whoever asks, and before it is waited for."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from tests.laws.population import digits, make_queue, trainings_of
from vtune.parameters import choice
from vtune.searching import search
from vtune.training import draws as draws_module
from vtune.training.draws import Draws, seed_draws
from vtune.training.mlp import MLP
from vtune.training.places import OneDevice
from vtune.training.programs import Program

DEVICE = OneDevice(jax.local_devices()[0])
SPACE = {"hidden": choice([3, 5]), "layers": 1, "batch_size": 64}
SETTINGS = {"strategy": "random", "trials": 4, "epochs": 1, "chunk": 2, "progress": False}


@pytest.fixture(scope="module")
def job():
    return make_queue(SPACE, digits()).job


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn, in order; drawing takes so long that others ask meanwhile."""
    found, draw = [], Draws._drawn

    def slowly(self, *asked):
        found.append(asked)
        time.sleep(0.05)
        return draw(self, *asked)

    monkeypatch.setattr(Draws, "_drawn", slowly)
    return found


def test_they_are_those_of_the_seed_index_and_the_window(job):
    count = job.signature.epochs_per_call
    for seed_index, window in [(0, 0), (1, 0), (0, 2)]:
        numbers = job.root, np.int32(seed_index), np.int32(window * count)
        expected = seed_draws(*numbers, num_rows=job.data.num_train, num_epochs=count)
        for epoch in (window * count, window * count + count - 1):
            found = Draws(DEVICE, job, num_workers=1).of(seed_index, epoch)
            np.testing.assert_array_equal(found.orders, expected.orders)
            np.testing.assert_array_equal(found.key_words, expected.key_words)


def test_workers_who_ask_at_the_same_time_are_given_the_same(job, drawn):
    draws = Draws(DEVICE, job, num_workers=4)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: draws.of(0, 0), range(4)))
    assert drawn == [(0, 0)]
    assert all(one is found[0] for one in found)


def test_the_last_four_windows_of_each_worker_are_kept(job, drawn):
    draws = Draws(DEVICE, job, num_workers=2)
    count = job.signature.epochs_per_call
    for window in (*range(9), *range(1, 9)):
        draws.of(0, window * count)
    assert drawn == [(0, window * count) for window in range(9)]
    draws.of(0, 0)
    assert len(drawn) == 10


def test_they_are_drawn_while_the_first_programs_are_made(monkeypatch):
    are_drawn, on, draw, waited = threading.Event(), Program.on, Draws._drawn, []

    def noting(self, *asked):
        found = draw(self, *asked)
        are_drawn.set()
        return found

    def waiting(self, *arguments):
        waited.append(are_drawn.wait(timeout=60))  # in vain, if it was the workers who draw them
        return on(self, *arguments)

    monkeypatch.setattr(Draws, "_drawn", noting)
    monkeypatch.setattr(Program, "on", waiting)
    search(MLP, SPACE, **SETTINGS)
    assert waited
    assert all(waited)


def test_an_error_in_drawing_reaches_the_caller(monkeypatch):
    def failing(*_):
        raise RuntimeError("no room for the orders")

    monkeypatch.setattr(draws_module, "_drawing", failing)
    with pytest.raises(RuntimeError, match="no room for the orders"):
        search(MLP, SPACE, **SETTINGS)


def test_to_wait_for_them_is_not_to_train(monkeypatch):
    queue, draw = make_queue(SPACE, digits()), Draws._drawn
    (chunk,) = queue.job.chunks(trainings_of([{"hidden": 3, "layers": 1, "batch_size": 64}], epochs=1))
    queue.workers[0].prepare(chunk.rung)

    def slowly(self, *asked):
        time.sleep(2.0)
        return draw(self, *asked)

    monkeypatch.setattr(Draws, "_drawn", slowly)
    started = time.perf_counter()
    training = queue.workers[0].train(chunk).seconds
    assert time.perf_counter() - started - training > 2.0
