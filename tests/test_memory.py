"""chunk=512: hundreds of lanes in one call on one device, their memory known before they compile."""

import math

import jax
import numpy as np
import pytest

from tests.laws.population import complete, make_queue, train, trainings_of
from vtune.data import Data
from vtune.parameters import choice, integers, loguniform, reverse_loguniform
from vtune.training import programs as programs_module
from vtune.training import queue as queue_module
from vtune.training.places import OneDevice

LARGE = {
    "learning_rate": loguniform(1e-4, 1e-1),
    "beta1": reverse_loguniform(0.8, 0.99),
    "batch_size": choice([32, 64]),
    "hidden": integers(16, 64),
    "layers": integers(1, 2),
}
SPACES = {
    "mixed": (LARGE, {}),
    "narrow and deep": ({**LARGE, "hidden": 16, "layers": 4}, {}),
    "any batch size": ({**LARGE, "batch_size": choice([37, 50])}, {}),
    "whole batches": ({**LARGE, "batch_size": 32}, {}),
    "momentum": ({**{k: v for k, v in LARGE.items() if k != "beta1"}}, {"optimizer": "momentum"}),
}


def rows_for(count):
    numbers = np.random.default_rng(5)
    return [
        {
            "learning_rate": float(np.float32(10 ** numbers.uniform(-4, -1))),
            "beta1": 0.9,
            "batch_size": int(numbers.choice([32, 64])),
            "hidden": int(numbers.integers(16, 65)),
            "layers": int(numbers.integers(1, 3)),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize(("space", "options"), SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("chunk", [8, pytest.param(512, marks=pytest.mark.long)])
def test_the_estimate_is_within_a_quarter_of_what_the_compiler_says(space, options, chunk):
    queue = make_queue(space, chunk=chunk, **options)
    row = {**rows_for(1)[0], **{name: value for name, value in space.items() if isinstance(value, int)}}
    row["batch_size"] = space["batch_size"] if isinstance(space["batch_size"], int) else space["batch_size"].values[-1]
    (row,) = complete([{**row, "optimizer": options.get("optimizer", "adam")}])
    program = queue.job.program(queue.job.ladder.rung(row))
    assert program.rung.lanes == chunk
    told = program.memory_analysis(OneDevice(jax.devices()[0]))
    needed = told.argument_size_in_bytes + told.output_size_in_bytes + told.temp_size_in_bytes
    needed -= told.alias_size_in_bytes
    assert program.estimated_bytes == pytest.approx(needed, rel=0.25)
    assert program.estimated_bytes <= program.most_bytes


@pytest.mark.parametrize("batch_size", [32, choice([24, 40])], ids=["shared", "rows of their own"])
@pytest.mark.long
def test_the_estimate_holds_for_rows_of_many_numbers_too(batch_size):
    numbers = np.random.default_rng(1).normal(size=(96, 3072)).astype(np.float32)
    data = Data(train=(numbers, np.arange(96) % 10), valid=(numbers[:50], np.arange(50) % 10))
    space = {**LARGE, "batch_size": batch_size, "hidden": 16, "layers": 1}
    queue = make_queue(space, data, chunk=64)
    size = batch_size if isinstance(batch_size, int) else batch_size.values[-1]
    (row,) = complete([{**rows_for(1)[0], "batch_size": size, "hidden": 16, "layers": 1, "optimizer": "adam"}])
    program = queue.job.program(queue.job.ladder.rung(row))
    assert program.rung.is_shared == isinstance(batch_size, int)
    told = program.memory_analysis(OneDevice(jax.devices()[0]))
    needed = told.argument_size_in_bytes + told.output_size_in_bytes + told.temp_size_in_bytes
    assert program.estimated_bytes == pytest.approx(needed - told.alias_size_in_bytes, rel=0.25)
    assert program.estimated_bytes <= program.most_bytes


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize(("hidden", "layers"), [(1, 1), (1, 8), (2, 3), (300, 1)])
def test_no_estimate_is_more_than_the_bound_that_takes_no_trace(hidden, layers, activation):
    space = {**LARGE, "hidden": hidden, "layers": layers, "activation": activation}
    queue = make_queue(space, chunk=4)
    (row,) = complete([{**rows_for(1)[0], "optimizer": "adam", **{n: space[n] for n in ("hidden", "layers")}}])
    program = queue.job.program(queue.job.ladder.rung({**row, "activation": activation}))
    assert 0 < program.estimated_bytes <= program.most_bytes < math.inf


def test_where_the_bound_fits_nothing_is_traced_to_estimate(monkeypatch):
    def traced(*_):
        raise AssertionError

    monkeypatch.setattr(programs_module, "chunk_bytes", traced)
    queue = make_queue(LARGE, chunk=4)
    queue.job.refuse_beyond_memory([queue.job.ladder.rung(complete(rows_for(1))[0])], 1 << 40)


@pytest.fixture(scope="module")
def large():
    rows = rows_for(512)
    queue = make_queue(LARGE, chunk=512)
    return queue, rows, train(queue, rows, 2)


def test_512_lanes_are_one_call(large):
    queue, rows, curves = large
    (chunk,) = queue.job.chunks(trainings_of(rows, 2))
    assert len(chunk.trainings) == chunk.rung.lanes == 512
    assert len(curves) == 512
    assert all(np.isfinite(curve).all() for curve in curves.values())


def test_within_its_ladder_company_and_order_do_not_matter(large):
    _, rows, truth = large
    few = np.random.default_rng(6).permutation(512)[:9].tolist()
    curves = train(make_queue(LARGE, chunk=512), [rows[i] for i in few], 2, few)
    for trial_id, curve in curves.items():
        np.testing.assert_array_equal(curve, truth[trial_id])


def test_a_chunk_that_no_device_can_hold_is_refused_before_it_compiles(monkeypatch):
    queue = make_queue(LARGE, chunk=64)
    monkeypatch.setattr(queue_module, "device_bytes", lambda _: 1 << 20)
    with pytest.raises(
        ValueError, match=r"chunk of 64 trials would take about .* GiB, but .* GiB for it\. Write chunk="
    ):
        train(queue, rows_for(2), 1)


def test_those_who_work_on_one_device_share_its_memory(monkeypatch):
    queue, held = make_queue(LARGE, chunk=64), []
    monkeypatch.setattr(queue_module, "worker_devices", lambda devices: 4 * devices)
    monkeypatch.setattr(queue_module, "device_bytes", lambda _: 4 << 30)
    monkeypatch.setattr(type(queue.job), "refuse_beyond_memory", lambda job, rungs, bytes_: held.append(bytes_))
    train(queue, rows_for(1), 1)
    assert set(held) == {1 << 30}


def test_what_only_the_bound_exceeds_is_not_refused():
    queue = make_queue(LARGE, chunk=4)
    rung = queue.job.ladder.rung(complete(rows_for(1))[0])
    program = queue.job.program(rung)
    queue.job.refuse_beyond_memory([rung], program.estimated_bytes)
    with pytest.raises(ValueError, match="Write chunk="):
        queue.job.refuse_beyond_memory([rung], program.estimated_bytes - 1)
