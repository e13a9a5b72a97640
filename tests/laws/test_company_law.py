"""Laws Company and Segments: given the ladder, a trial's bits depend on its own hyperparameters and on nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.laws.population import ROOT, digits, make_queue, train, trainings_of
from vtune.keys import from_words
from vtune.parameters import choice, integers, loguniform, reverse_loguniform
from vtune.protocols import Chunk
from vtune.space import Space, sample_points
from vtune.training.draws import seed_draws

SPACE = Space.of(
    {
        "learning_rate": loguniform(1e-4, 1.0),
        "beta1": reverse_loguniform(0.5, 0.999),
        "epsilon": loguniform(1e-9, 1e-4),
        "decay": loguniform(1e-3, 1.0),
        "batch_size": choice([32, 37, 64, 67, 96, 128, 200]),
        "hidden": integers(5, 128, log=True),
        "layers": integers(1, 3),
    }
)
EPOCHS = 3


@pytest.fixture(scope="module")
def rows():
    points = sample_points(from_words(ROOT), jnp.arange(64, dtype=jnp.int32), len(SPACE.axes))
    return SPACE.rows(np.asarray(points))


@pytest.fixture(scope="module")
def truth(rows):
    """All 64 trials together on one device."""
    return train(make_queue(SPACE.entries, trials=600), rows, EPOCHS)


def assert_same_bits(curves, truth):
    assert curves
    for trial_id, curve in curves.items():
        np.testing.assert_array_equal(curve, truth[trial_id], err_msg=f"trial {trial_id}")


def test_the_population_takes_several_rungs_and_full_and_part_filled_chunks(rows):
    queue = make_queue(SPACE.entries, trials=600)
    chunks = queue.job.chunks(trainings_of(rows, 1))
    assert len({chunk.rung for chunk in chunks}) >= 3
    assert {chunk.rung.is_shared for chunk in chunks} == {True, False}
    fills = [len(chunk.trainings) / chunk.rung.lanes for chunk in chunks]
    assert max(fills) == 1 > min(fills)


def test_trials_of_one_depth_are_packed_together_and_in_these_those_of_one_batch_size(rows):
    chunks = make_queue(SPACE.entries, trials=600).job.chunks(trainings_of(rows, 1))
    for rung in {chunk.rung for chunk in chunks}:
        members = [training for chunk in chunks if chunk.rung == rung for training in chunk.trainings]
        sizes = [(training.hparams["layers"], training.hparams["batch_size"]) for training in members]
        assert sizes == sorted(sizes, reverse=True)


def test_seven_trials_are_what_they_are_among_64(rows, truth):
    few = [3, 9, 21, 22, 40, 57, 63]
    assert_same_bits(train(make_queue(SPACE.entries, trials=600), [rows[i] for i in few], EPOCHS, few), truth)


def test_neither_order_nor_neighbours_matter(rows, truth):
    order = np.random.default_rng(0).permutation(64).tolist()
    assert_same_bits(train(make_queue(SPACE.entries, trials=600), [rows[i] for i in order], EPOCHS, order), truth)


def test_neighbours_that_step_at_other_times_do_not_matter_either(rows, truth):
    queue = make_queue(SPACE.entries, trials=600)
    chunks = queue.job.chunks(trainings_of(rows, EPOCHS))
    compared = 0
    for rung in dict.fromkeys(chunk.rung for chunk in chunks):
        members = [training for chunk in chunks if chunk.rung == rung for training in chunk.trainings]
        by_size = {}
        for training in members:
            by_size.setdefault(training.hparams["batch_size"], []).append(training)
        mixed = tuple(group[0] for group in by_size.values())[: rung.lanes]
        if len(mixed) > 1:
            curves = queue.workers[0].train(Chunk(rung, mixed)).curves
            compared += len(mixed)
            assert_same_bits({training.trial_id: curve for training, curve in zip(mixed, curves, strict=True)}, truth)
    assert compared >= 4


def test_neighbours_that_have_more_layers_do_not_matter_either(rows, truth):
    queue = make_queue(SPACE.entries, trials=600)
    chunks = queue.job.chunks(trainings_of(rows, EPOCHS))
    compared = 0
    for rung in dict.fromkeys(chunk.rung for chunk in chunks):
        members = [training for chunk in chunks if chunk.rung == rung for training in chunk.trainings]
        deep, *others = members  # the deepest come first
        shallow = [training for training in others if training.hparams["layers"] < deep.hparams["layers"]]
        for training in shallow[-2:]:
            result = queue.workers[0].train(Chunk(rung, (training, deep)))
            assert_same_bits(dict(zip([training.trial_id, deep.trial_id], result.curves, strict=True)), truth)
            compared += 1
    assert compared >= 4


def by_norm(hparams):
    """Steps of one length for every array: one of zeros becomes NaN."""
    of_length_one = optax.stateless(lambda grads, params: jax.tree.map(lambda g: g / jnp.linalg.norm(g), grads))
    return optax.chain(of_length_one, optax.sgd(hparams["learning_rate"]))


def test_what_an_optimizer_makes_of_layers_that_a_network_does_not_have_does_not_matter():
    space = {
        "learning_rate": loguniform(1e-3, 1e-1),
        "batch_size": 32,
        "hidden": integers(5, 16),
        "layers": choice([1, 2]),
    }
    queue = make_queue(space, optimizer=by_norm)
    trial = {"learning_rate": 0.01, "batch_size": 32, "hidden": 9}
    rows = [{**trial, "layers": 1}, {**trial, "layers": 2}]
    truth = train(queue, rows[:1], EPOCHS)
    assert np.isfinite(truth[0]).all()
    (chunk,) = queue.job.chunks(trainings_of(rows, EPOCHS))
    ids = [training.trial_id for training in chunk.trainings]
    together = dict(zip(ids, queue.workers[0].train(chunk).curves, strict=True))
    assert_same_bits({0: together[0]}, truth)


@pytest.mark.parametrize("num_devices", [2, 4])
def test_the_number_of_devices_does_not_matter(rows, truth, num_devices, workers_on):
    queue = make_queue(SPACE.entries, trials=600, devices=jax.devices()[:num_devices])
    assert len({worker.place for worker in queue.workers}) == (1 if workers_on == "one device" else num_devices)
    assert_same_bits(train(queue, rows, EPOCHS), truth)


def test_a_restart_does_not_matter(rows, truth):
    queue = make_queue(SPACE.entries, trials=600)
    first, rest = list(range(20)), list(range(20, 64))
    assert_same_bits(train(queue, [rows[i] for i in first], EPOCHS, first), truth)
    assert_same_bits(train(make_queue(SPACE.entries, trials=600), [rows[i] for i in rest], EPOCHS, rest), truth)


@pytest.mark.long
@pytest.mark.parametrize("chunk", [1, 5])
def test_within_another_chunk_size_company_does_not_matter_either(rows, chunk):
    queue = make_queue(SPACE.entries, trials=600, chunk=chunk)
    some = list(range(12))
    together = train(queue, [rows[i] for i in some], 1, some)
    apart = [train(queue, [rows[i]], 1, [i]) for i in some[::3]]
    for alone in apart:
        assert_same_bits(alone, together)


@pytest.mark.parametrize("split", [(20,), (3, 6, 11), (1,) * 20])
def test_segments_any_split_of_epochs_gives_the_same_bits(rows, split):
    queue = make_queue(SPACE.entries, trials=600)
    chunk = max(queue.job.chunks(trainings_of(rows, 20)), key=lambda chunk: len(chunk.trainings))
    states, curves = advance_by(queue, chunk, split)
    whole_states, whole_curves = advance_by(queue, chunk, (20,))
    np.testing.assert_array_equal(curves, whole_curves)
    jax.tree.map(np.testing.assert_array_equal, states, whole_states)


def advance_by(queue, chunk, split):
    """Calls the program of a chunk for so many epochs at a time."""
    worker, program = queue.workers[0], queue.job.program(chunk.rung)
    inputs, advance = worker.inputs(program, chunk), program.on(worker.place)
    states = worker.place.put(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), program.states))
    first, parts = 0, []
    for count in split:
        scalars = worker.place.put((np.int32(first), np.int32(count)))
        states, curves = advance(states, inputs, *scalars)
        parts.append(np.asarray(curves)[:, :count])
        first += count
    return jax.device_get(states), np.concatenate(parts, axis=1)


def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone():
    make = {"num_rows": digits().num_train, "num_epochs": 4}
    orders = np.asarray(seed_draws(ROOT, np.int32(0), np.int32(0), **make).orders)
    later = np.asarray(seed_draws(ROOT, np.int32(0), np.int32(2), **make).orders)
    other = np.asarray(seed_draws(ROOT, np.int32(1), np.int32(0), **make).orders)
    assert all(sorted(order) == list(range(make["num_rows"])) for order in orders.tolist())
    np.testing.assert_array_equal(orders[2:], later[:2])
    assert not (orders == other).all(axis=1).any()
    assert not (orders[0] == orders[1]).all()
