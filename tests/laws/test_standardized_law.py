"""Laws Solo, Replay and Compile for standardized data: against loops on numbers that were standardized by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_diabetes

import vtune
from tests.compilations import Compilations
from tests.laws.population import complete, final_states, float64, initial_lane, make_queue, train
from tests.laws.reference import PlainMLP, train_alone
from vtune.data import Data
from vtune.training.draws import seed_draws

SPACE = {
    "learning_rate": vtune.loguniform(1e-5, 1.0),
    "batch_size": vtune.choice([32, 37]),
    "hidden": vtune.choice([16, 37]),
    "layers": vtune.choice([1, 2]),
}
ROWS = [
    {"learning_rate": float(np.float32(rate)), "batch_size": batch, "hidden": hidden, "layers": layers}
    for rate, batch, hidden, layers in [(3e-3, 32, 16, 1), (1e-3, 37, 37, 2), (1e-2, 37, 16, 2), (3e-3, 32, 37, 1)]
]
PARTS = {"train": slice(300), "valid": slice(300, 380), "test": slice(380, None)}


def diabetes(kind: str = "targets", **options: Any) -> Data:
    """Raw columns of sizes from 1 to 200, and two targets: the progress of the disease, and its root in thousandths."""
    x, y = load_diabetes(return_X_y=True, scaled=False)
    targets = np.stack([y, np.sqrt(y) / 1000], axis=1)
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    x, y = x.astype(dtype), targets.astype(dtype) if kind == "targets" else np.digitize(y, [90, 140, 210])
    return Data(**{part: (x[rows], y[rows]) for part, rows in PARTS.items()}, **options)


def by_hand(data: Data) -> tuple[tuple[np.ndarray, Any], tuple[np.ndarray, Any], np.ndarray, np.ndarray]:
    """Rows to train on, rows to validate, mean and scale of y; in float64, with the training rows' statistics."""
    (x, y), (x_valid, y_valid) = ([np.asarray(a, np.float64) for a in part] for part in (data.train, data.valid))
    x, x_valid = (x - x.mean(axis=0)) / x.std(axis=0), (x_valid - x.mean(axis=0)) / x.std(axis=0)
    mean, scale = np.zeros(()), np.ones(())
    if data.kind == "targets":
        mean, scale = y.mean(axis=0), y.std(axis=0)
    y, y_valid = (y - mean) / scale, (y_valid - mean) / scale
    dtypes = data.dtype, data.train[1].dtype
    one, other = (tuple(a.astype(d) for a, d in zip(p, dtypes, strict=True)) for p in ((x, y), (x_valid, y_valid)))
    return one, other, mean, scale


def alone(queue: Any, row: Any, num_epochs: int) -> tuple[np.ndarray, Any]:
    """The reference's curves and trained model on hand-standardized data, from vtune's initial weights."""
    data = queue.job.data
    rows, valid, _, _ = by_hand(data)
    model = PlainMLP(data.inputs[0], [row["hidden"]] * row["layers"], data.outputs, "relu")
    model.load(initial_lane(queue, row)[1].params)
    numbers = queue.job.root, np.int32(0), np.int32(0)
    orders = np.asarray(seed_draws(*numbers, num_rows=data.num_train, num_epochs=num_epochs).orders)
    (hparams,) = complete([row])
    return train_alone(model, hparams, rows, valid, orders), model


def test_the_statistics_by_hand_are_those_of_the_training_rows():
    data = diabetes(standardize=True)
    rows, valid, mean, _ = by_hand(data)
    np.testing.assert_allclose(rows[0].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(mean, data.train[1].mean(axis=0), rtol=1e-5)
    assert np.abs(valid[0].mean(axis=0)).max() > 0.01


@pytest.mark.long
@pytest.mark.parametrize("kind", ["classes", "targets"])
def test_one_epoch_in_float32_equals_a_loop_on_numbers_standardized_by_hand(kind):
    queue = make_queue(SPACE, diabetes(kind, standardize=True))
    curves = train(queue, ROWS, 1)
    for trial_id, row in enumerate(ROWS):
        truth, _ = alone(queue, row, 1)
        columns = 2 if kind == "targets" else 3  # the metric of a regression is in other units
        np.testing.assert_allclose(curves[trial_id][:, :columns], truth[:, :columns], rtol=1e-4, err_msg=str(row))


@pytest.mark.long
def test_a_metric_is_in_the_targets_own_units():
    queue = make_queue(SPACE, diabetes(standardize=True))
    curves = train(queue, ROWS, 2)
    _, (x, _), mean, scale = by_hand(queue.job.data)
    for trial_id, row in enumerate(ROWS):
        _, model = alone(queue, row, 2)
        outputs = np.asarray(model(jnp.asarray(x)), np.float64) * scale + mean
        truth = ((outputs - queue.job.data.valid[1]) ** 2).mean()
        assert curves[trial_id][-1, 2] == pytest.approx(truth, rel=1e-3)
        assert curves[trial_id][-1, 2] > 100 * curves[trial_id][-1, 1]


@pytest.mark.long
def test_fifty_steps_in_float64_agree_to_1e_9():
    with float64():
        queue = make_queue(SPACE, diabetes(standardize=True))
        epochs = 7  # of 8 or 9 steps
        curves = train(queue, ROWS, epochs)
        _, (x, _), mean, scale = by_hand(queue.job.data)
        for trial_id, (row, (_, lane)) in enumerate(zip(ROWS, final_states(queue, ROWS, epochs), strict=True)):
            truth, model = alone(queue, row, epochs)
            assert lane.step >= 50, row
            for name in model.names:
                for part in ("kernel", "bias"):
                    expected = np.asarray(getattr(getattr(model, name), part)[...])
                    ours = lane.params[name][part][tuple(map(slice, expected.shape))]
                    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
            np.testing.assert_allclose(curves[trial_id][:, :2], truth[:, :2], rtol=1e-9)
            outputs = np.asarray(model(jnp.asarray(x))) * scale + mean
            assert curves[trial_id][-1, 2] == pytest.approx(((outputs - queue.job.data.valid[1]) ** 2).mean(), rel=1e-9)


def test_standardizing_beforehand_is_the_same_but_for_the_units():
    data = diabetes(standardize=True)
    rows, valid, _, _ = by_hand(data)
    ours = train(make_queue(SPACE, data), ROWS, 3)
    theirs = train(make_queue(SPACE, Data(train=rows, valid=valid)), ROWS, 3)
    for trial_id in range(len(ROWS)):
        np.testing.assert_allclose(ours[trial_id][:, :2], theirs[trial_id][:, :2], rtol=1e-3)


SMALL = {"learning_rate": vtune.loguniform(1e-3, 1e-1), "batch_size": 32, "hidden": vtune.choice([4, 8]), "layers": 1}
SETTINGS = {"strategy": "random", "trials": 6, "epochs": 3, "chunk": 3, "devices": 1, "progress": False}


def split_by(seed: int) -> Data:
    x, y = load_diabetes(return_X_y=True, scaled=False)
    return Data.of((x.astype(np.float32), y.astype(np.float32)), key=jax.random.key(seed), standardize=True)


@pytest.mark.long
def test_another_split_has_other_statistics_and_compiles_nothing():
    first = vtune.search(vtune.MLP, SMALL, split_by(0), **SETTINGS)
    with Compilations() as compiled:
        second = vtune.search(vtune.MLP, SMALL, split_by(1), seed=1, **SETTINGS)
    assert compiled.count == 0
    means = [study.data.y_units.mean[0] for study in (first, second)]
    assert means[0] != means[1]
    # and the second was not measured in the units of the first
    x, y = second.data.valid
    truth = ((np.asarray(second.best_model(x)) - y) ** 2).mean()
    assert second.best_score == pytest.approx(truth, rel=1e-4)


def test_the_same_study_has_the_same_bits_on_more_devices():
    studies = [vtune.search(vtune.MLP, SMALL, split_by(0), **SETTINGS | {"devices": n}) for n in (1, 2)]
    np.testing.assert_array_equal(*(study.curves.to_numpy() for study in studies))


@pytest.mark.parametrize("x64", [False, pytest.param(True, marks=pytest.mark.long)])
def test_the_best_model_reproduces_its_score_from_raw_rows(x64):
    def check():
        study = vtune.search(vtune.MLP, SMALL, diabetes(standardize=True), **SETTINGS)
        tolerance = 1e-10 if x64 else 1e-4
        for score, (x, y) in ((study.best_score, study.data.valid), (study.test_score, study.data.test)):
            outputs = study.best_model(x)
            assert outputs.dtype == study.data.dtype == (np.float64 if x64 else np.float32)
            assert score == pytest.approx(((np.asarray(outputs) - y) ** 2).mean(), rel=tolerance)
        assert study.best_score > 1000  # of targets between 25 and 346

    if x64:
        with float64():
            check()
    else:
        check()
