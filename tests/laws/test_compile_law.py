"""Law Compile: at most one trace a rung, one compilation a rung and place, and few other programs a study."""

import gc
import threading
import time
from contextlib import nullcontext

import jax
import pytest

from tests.compilations import Compilations
from vtune.parameters import choice, integers, loguniform
from vtune.searching import search
from vtune.strategies import coarse_to_fine
from vtune.training import queue as queue_module
from vtune.training.engine import Engine
from vtune.training.mlp import MLP
from vtune.training.places import OneDevice
from vtune.training.programs import Program, Stopped
from vtune.training.worker import Worker

SPACE = {
    "learning_rate": loguniform(1e-3, 1e-1),
    "batch_size": choice([32, 64]),
    "hidden": integers(8, 96, log=True),
    "layers": integers(1, 2),
    "activation": choice(["relu", "tanh"]),
}
SETTINGS = {
    "epochs": 1,
    "progress": False,
    "optimizer": "rmsprop",
}  # an optimizer of this file's own: nothing is compiled yet
OTHERS = 4
"""The most programs of a search beside those of its rungs."""

OF_A_STRATEGY = 3
"""The programs of another strategy: to begin, to ask and to tell."""


def programs_of(study):
    """The programs of the rungs in use."""
    trials = [study.parts.usage.complete(study.trial(trial_id).params) for trial_id in study.trials.index]
    rungs = {study.job.ladder.rung(trial) for trial in trials}
    return [study.job.program(rung) for rung in rungs]


@pytest.fixture(scope="module")
def first():
    """A search on one device in a process that has compiled nothing for it, and its compilations."""
    with Compilations() as compiled:
        study = search(MLP, SPACE, trials=48, devices=1, **SETTINGS)
    return study, compiled


def test_every_rung_is_traced_once(first):
    study, _ = first
    programs = programs_of(study)
    assert len(programs) > 1
    assert [program.num_traces for program in programs] == [1] * len(programs)


def test_there_are_few_other_programs(first):
    study, compiled = first
    assert len(programs_of(study)) <= compiled.count <= len(programs_of(study)) + OTHERS


def test_programs_are_traced_one_after_the_other(monkeypatch):
    advance, is_traced, together = Engine.advance, threading.Lock(), []

    def tracing(*arguments):
        together.append(not is_traced.acquire(blocking=False))
        time.sleep(0.1)  # so that the other device's is sure to come in between
        traced = advance(*arguments)
        is_traced.release()
        return traced

    monkeypatch.setattr(Engine, "advance", tracing)
    space = {"hidden": 8, "layers": 1, "activation": choice(["gelu", "silu"])}
    search(MLP, space, strategy="random", trials=8, chunk=2, devices=2, **SETTINGS)
    assert together == [False, False]


@pytest.mark.parametrize("seed", [1, 2])
def test_another_seed_compiles_nothing(first, seed):
    with Compilations() as compiled:
        study = search(MLP, SPACE, trials=48, devices=1, seed=seed, **SETTINGS)
    assert compiled.count == 0
    assert study.trials.loc[0, "learning_rate"] != first[0].trials.loc[0, "learning_rate"]


def test_rounds_after_the_first_compile_nothing_but_rungs_met_for_the_first_time():
    with Compilations() as one_round:
        search(
            MLP,
            {**SPACE, "hidden": 24, "layers": 1, "activation": "relu"},
            trials=16,
            devices=1,
            strategy=coarse_to_fine(rounds=1),
            **SETTINGS,
        )
    with Compilations() as four_rounds:
        search(
            MLP,
            {**SPACE, "hidden": 24, "layers": 1, "activation": "relu"},
            trials=16,
            devices=1,
            strategy=coarse_to_fine(rounds=4),
            **SETTINGS,
        )
    assert one_round.count > 0
    assert four_rounds.count <= OF_A_STRATEGY


def test_the_number_of_trials_adds_no_program(first):
    with Compilations() as compiled:
        study = search(MLP, SPACE, trials=47, devices=1, **SETTINGS)
    assert study.ladder == first[0].ladder
    assert compiled.count <= OF_A_STRATEGY


def test_devices_compile_a_rung_at_most_once_each(first, monkeypatch):
    monkeypatch.setattr("vtune.training.queue.worker_devices", list)
    with Compilations() as compiled:
        study = search(MLP, SPACE, trials=48, devices=3, **SETTINGS)
    programs = programs_of(study)
    assert [program.num_traces for program in programs] == [1] * len(programs)
    assert compiled.count <= 2 * len(programs)
    assert study.ladder == first[0].ladder
    assert jax.device_count() >= 3


def test_a_worker_alone_has_its_next_program_compiled_while_it_trains(monkeypatch):
    on, compiling = Program.on, {}

    def watched(program, place, *stopped):
        if not program.is_compiled_for(place):
            compiling.setdefault(program.rung, threading.current_thread().name)
        return on(program, place, *stopped)

    monkeypatch.setattr(queue_module, "num_cores", lambda: 2)
    monkeypatch.setattr(Program, "on", watched)
    with Compilations() as compiled:
        study = search(MLP, {**SPACE, "hidden": integers(8, 95, log=True)}, trials=48, devices=1, **SETTINGS)
    assert len(compiling) == len(programs_of(study)) > 1
    assert set(compiling.values()) == {queue_module.TRAINING, queue_module.COMPILING}
    assert compiled.count <= len(compiling) + OTHERS
    assert not {thread.name for thread in threading.enumerate()} & set(compiling.values())


@pytest.mark.parametrize("is_hopeless", [False, True])
def test_what_cannot_be_compiled_beside_a_training_is_left_to_the_worker(monkeypatch, first, is_hopeless):
    on, tried, ready = Program.on, [], set()
    has_begun, is_tried_beside = threading.Event(), threading.Event()

    def compiling(program, place, *stopped):
        name = threading.current_thread().name
        assert name == queue_module.TRAINING or has_begun.wait(60)
        tried.append((name, program.rung))
        if name == queue_module.COMPILING:
            is_tried_beside.set()
            raise MemoryError("no room for it")
        has_begun.set()
        assert is_tried_beside.wait(60)  # the worker has begun with its first
        if is_hopeless and program.rung != tried[0][1]:
            raise MemoryError("no room for it")
        ready.add(program.rung)
        return on(program, place, *stopped)

    monkeypatch.setattr(queue_module, "num_cores", lambda: 2)
    monkeypatch.setattr(Program, "on", compiling)
    monkeypatch.setattr(Program, "is_compiled_for", lambda program, place: program.rung in ready)
    with pytest.raises(MemoryError, match="no room for it") if is_hopeless else nullcontext():
        study = search(MLP, SPACE, trials=48, devices=1, **SETTINGS)
        assert len(study.trials) == len(first[0].trials)
    assert (queue_module.COMPILING, tried[0][1]) not in tried
    assert {name for name, _ in tried} == {queue_module.TRAINING, queue_module.COMPILING}


@pytest.mark.parametrize("asked", [1, 2])
def test_who_is_told_to_stop_does_not_compile(first, asked):
    answers = iter([False] * (asked - 1) + [True])
    program = programs_of(first[0])[0]
    fresh = Program(program._recipe, program.rung, first[0].job.signature)
    place = OneDevice(jax.devices()[0])
    with Compilations() as compiled, pytest.raises(Stopped):
        fresh.on(place, lambda: next(answers))
    assert compiled.count == 0
    assert not fresh.is_compiled_for(place)
    assert fresh.num_traces == asked - 1


@pytest.mark.parametrize("was_on", [True, False])
def test_garbage_is_collected_after_a_trace_as_before_it(monkeypatch, first, was_on):
    known, seen = programs_of(first[0])[0], []
    program = Program(known._recipe, known.rung, first[0].job.signature)

    def traced(*_):
        seen.append(gc.isenabled())
        raise Stopped

    monkeypatch.setattr(Program, "_advance", traced)
    try:
        if not was_on:
            gc.disable()
        with pytest.raises(Stopped):
            program.on(OneDevice(jax.devices()[0]))
        assert seen == [False]
        assert gc.isenabled() == was_on
    finally:
        gc.enable()


def test_the_cores_of_a_cpu_share_what_is_compiled(first):
    with Compilations() as compiled:
        study = search(MLP, SPACE, trials=48, devices=3, **SETTINGS)
    programs = programs_of(study)
    assert [program.num_traces for program in programs] == [1] * len(programs)
    assert compiled.count == 0
    assert study.ladder == first[0].ladder
    assert study.executor.num_parallel == 3


def test_who_shares_a_place_trains_as_soon_as_one_has_compiled(monkeypatch):
    both, train = threading.Barrier(2), Worker.train

    def together(worker, *arguments):
        both.wait(timeout=60)  # breaks where the other one sleeps on
        return train(worker, *arguments)

    monkeypatch.setattr(queue_module, "_IDLE_SECONDS", 120.0)
    monkeypatch.setattr(Worker, "train", together)
    one = {**SPACE, "batch_size": 32, "hidden": 23, "layers": 1, "activation": "relu"}
    study = search(MLP, one, trials=4, chunk=2, devices=2, strategy="random", finalists=0, **SETTINGS)
    assert len(study.trials) == 4


def test_cores_that_start_together_compile_every_rung_once():
    with Compilations() as compiled:
        study = search(MLP, {**SPACE, "hidden": integers(8, 97, log=True)}, trials=48, devices=3, **SETTINGS)
    programs = programs_of(study)
    assert len(programs) > 1
    assert [(program.num_traces, program.num_compiled) for program in programs] == [(1, 1)] * len(programs)
    assert compiled.count <= len(programs) + OTHERS
