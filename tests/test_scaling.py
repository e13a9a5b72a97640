"""Standardizing: statistics of the training part, and the one warning where nothing is standardized."""

import dataclasses
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris

import vtune
from tests.laws.population import float64
from vtune.data import Data
from vtune.keys import IMPLEMENTATION, Purpose, study_key
from vtune.scaling import Units, far_from_one

_RNG = np.random.default_rng(0)
X = (_RNG.normal(size=(60, 4)) * [1, 30, 1e4, 1e-5] + [0, 7, -2e4, 1]).astype(np.float32)
LABELS = np.arange(60) % 3
PRICES = (X[:, 1] * 3e4 + 1e6).astype(np.float32)
KEY = jax.random.key(0)


def standardized(y: Any = LABELS, x: Any = X) -> Data:
    return Data(train=(x[:40], y[:40]), valid=(x[40:50], y[40:50]), test=(x[50:], y[50:]), standardize=True)


# What networks train on


def test_every_column_has_mean_0_and_standard_deviation_1_on_the_training_rows():
    (x, _), _ = standardized().scaled
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=0, dtype=np.float64), 0, atol=5e-4)  # of 1 + 1e-5 float32 holds little
    np.testing.assert_allclose(x.std(axis=0, dtype=np.float64), 1, rtol=1e-4)


def test_validation_rows_are_scaled_by_the_training_rows():
    data = standardized()
    _, (x, _) = data.scaled
    mean, scale = (getattr(data.train[0].astype(np.float64), name)(axis=0) for name in ("mean", "std"))
    truth = (data.valid[0] - mean) / scale
    np.testing.assert_allclose(x[:, :3], truth[:, :3], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(x[:, 3], truth[:, 3], atol=0.01)  # of 1 +- 1e-5 float32 holds steps of 0.01 deviations
    assert np.abs(x.mean(axis=0)).min() > 1e-2


def test_the_parts_stay_as_they_were_given():
    data = standardized(PRICES)
    for (x, y), rows in zip(
        (data.train, data.valid, data.test), (slice(40), slice(40, 50), slice(50, 60)), strict=True
    ):
        np.testing.assert_array_equal(x, X[rows])
        np.testing.assert_array_equal(y, PRICES[rows, None])


def test_labels_are_no_quantities_and_have_no_units():
    data = standardized()
    assert data.y_units is None
    (_, y), (_, y_valid) = data.scaled
    np.testing.assert_array_equal(y, LABELS[:40])
    np.testing.assert_array_equal(y_valid, LABELS[40:50])


def test_each_column_of_targets_is_standardized_to_train_on():
    targets = np.stack([PRICES, X[:, 0] / 100], axis=1)
    data = standardized(targets)
    (_, y), _ = data.scaled
    assert data.y_units is not None
    assert data.y_units.mean.shape == data.y_units.scale.shape == (2,)
    np.testing.assert_allclose(y.mean(axis=0, dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=0, dtype=np.float64), 1, rtol=1e-5)


def test_targets_to_validate_stay_in_their_own_units_bit_for_bit():
    # what a metric is given: a target of 0 stays a 0
    y = np.where(np.arange(60) % 5 == 0, 0, PRICES)
    _, (_, valid) = standardized(y).scaled
    np.testing.assert_array_equal(valid[:, 0], y[40:50])


def test_rows_of_more_axes_have_one_mean_and_one_scale():
    images = _RNG.integers(0, 256, (60, 4, 4, 3)).astype(np.uint8)
    data = standardized(x=images)
    assert data.x_units is not None
    assert data.x_units.mean.shape == data.x_units.scale.shape == ()
    (x, _), _ = data.scaled
    np.testing.assert_allclose((x.mean(), x.std()), (0, 1), atol=1e-5)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, 1e-42, -3e7])
def test_a_constant_column_has_scale_1(x64, constant):
    x = np.c_[X, np.full(60, constant)].astype(np.float64 if x64 else np.float32)
    with float64() if x64 else warnings.catch_warnings():
        data = standardized(x=x)
        assert data.x_units is not None
        assert data.x_units.scale[-1] == 1
        for rows, _ in data.scaled:
            np.testing.assert_allclose(rows[:, -1], 0, atol=1e-16)


def test_a_column_that_varies_by_less_than_a_normal_number_keeps_its_scale():
    data = standardized(x=np.concatenate([X, np.where(np.arange(60) % 2, 1e-41, 0)[:, None]], 1).astype(np.float32))
    assert np.isfinite(data.scaled[0][0]).all()


@pytest.mark.parametrize("y", [LABELS, PRICES], ids=["classes", "targets"])
def test_data_that_are_not_to_be_standardized_are_not(y):
    data = Data(train=(X[:40], y[:40]), valid=(X[40:], y[40:]))
    assert (data.standardize, data.x_units, data.y_units) == (False, None, None)
    assert data.scaled == (data.train, data.valid)


def test_x64_mode_standardizes_in_float64():
    with float64():
        data = standardized(PRICES.astype(np.float64), X.astype(np.float64))
        (x, y), (x_valid, _) = data.scaled
    assert {array.dtype for array in (x, y, x_valid)} == {np.dtype(np.float64)}
    np.testing.assert_allclose(x.std(axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(y.mean(), 0, atol=1e-12)


finite = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@pytest.mark.long
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6), elements=finite))
def test_restoring_undoes_standardizing(rows):
    units = Units.of(rows)
    assert (np.asarray(units.scale) > 0).all()
    back = units.restore(units.standardize(rows))
    np.testing.assert_allclose(back, rows, rtol=1e-5, atol=1e-5 * max(1e-30, np.abs(rows).max()))
    on_device = units.standardize(jax.numpy.asarray(rows))
    np.testing.assert_allclose(on_device, units.standardize(rows), rtol=1e-6, atol=1e-30)


# Data that say so


def test_data_of_a_pair_is_the_split_that_a_search_of_seed_0_makes():
    ours = Data.of((X, LABELS), standardize=True)
    theirs = Data.of((X, LABELS), key=study_key(jax.random.key(0, impl=IMPLEMENTATION), Purpose.SPLIT))
    assert (ours.standardize, theirs.standardize) == (True, False)
    for part, other in zip((*ours.train, *ours.valid), (*theirs.train, *theirs.valid), strict=True):
        np.testing.assert_array_equal(part, other)


def test_making_data_does_not_start_jax():
    # once it has started, a CPU cannot be split into one device a core
    code = (
        "import jax, numpy as np, vtune; x = np.eye(6, dtype=np.float32); "
        "vtune.Data.of((x, np.arange(6) % 2), standardize=True).scaled; vtune.Data.of(); "
        "from vtune.data import split_data; from vtune.keys import seed_words, split_bits; "
        "split_data(None, lambda: split_bits(seed_words(5))); "
        "jax.config.update('jax_num_cpu_devices', 3); assert jax.device_count() == 3"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_search_makes_the_same_split_of_seed_0():
    x = X / np.abs(X).max(axis=0)
    study = search((x, LABELS))
    np.testing.assert_array_equal(study.data.valid[0], Data.of((x, LABELS)).valid[0])


def test_data_can_be_standardized_later_and_stay_so():
    plain = Data(train=(X, PRICES), valid=(X, PRICES))
    data = Data.of(plain, standardize=True)
    assert (plain.standardize, data.standardize) == (False, True)
    assert Data.of(data) is data
    assert Data.of(data, standardize=True) is data
    assert dataclasses.replace(plain, standardize=True).standardize
    assert dataclasses.replace(data, test=data.train).standardize


def test_data_stay_standardized_as_labels_become_targets():
    data = standardized(LABELS)
    targets = data.require_targets()
    assert targets.standardize
    assert targets.y_units is not None
    np.testing.assert_allclose(targets.scaled[0][1].std(), 1, rtol=1e-6)
    assert targets.require_classes().y_units is None


def test_digits_may_be_standardized_too():
    data = Data.of(standardize=True)
    assert repr(data) == "Data(10 classes, inputs (64,), 1078 train + 360 valid + 359 test rows, standardized)"


def test_repr_says_so():
    assert repr(standardized(PRICES)) == "Data(1 target, inputs (4,), 40 train + 10 valid + 10 test rows, standardized)"


# Which columns are far from 1

ONE_HOT = np.eye(40, dtype=np.float32)[_RNG.integers(0, 40, 2000)]
YEARS = _RNG.integers(1990, 2024, (200, 1))
SILENT = {
    "digits": load_digits().data / 16,
    "a standard normal": _RNG.normal(size=(500, 5)),
    "one-hot columns": ONE_HOT,
    "rare one-hot columns": np.eye(2000)[:, :3],
    "constant columns": np.c_[np.ones(20), np.zeros(20), np.full(20, 1e4)],
    "iris, in cm": load_iris().data,
    "diabetes, scaled by its makers": load_diabetes().data,
    "images in [0, 1]": _RNG.integers(0, 256, (20, 8, 8, 3)) / 255,
    "one small column among others": np.c_[_RNG.normal(size=(500, 2)), _RNG.normal(size=500) * 1e-5],
    "one row": np.full((1, 3), 1e6),
}
LOUD = {
    "breast cancer": (load_breast_cancer().data, [23, 3, 22, 2, 13, 21, 1, 20, 0]),
    "diabetes": (load_diabetes(scaled=False).data, [4, 5, 3, 9, 6, 0, 2]),
    "images up to 255": (_RNG.integers(0, 256, (20, 8, 8, 3)), [0]),
    "years and prices": (np.c_[YEARS, YEARS % 7, _RNG.lognormal(12, 1, 200)], [2, 0]),
    "a constant beside years": (np.c_[np.full(200, 1e9), YEARS], [1]),
    "rates": (_RNG.uniform(0, 1, (50, 2)) * [1e-3, 1e-5], [1, 0]),
    "large and rare": (np.eye(200)[:, :2] * 1000, [0, 1]),
    "below 0": (-YEARS, [0]),
}


@pytest.mark.parametrize("rows", SILENT.values(), ids=SILENT)
def test_numbers_near_1_are_fine(rows):
    assert far_from_one(np.asarray(rows, np.float32)) == {}


@pytest.mark.parametrize(("rows", "columns"), LOUD.values(), ids=LOUD)
def test_columns_far_from_1_are_found_worst_first(rows, columns):
    assert list(far_from_one(np.asarray(rows, np.float32))) == columns


def test_the_typical_size_is_that_of_the_numbers_that_are_not_0():
    rows = np.array([[0, 30.0], [0, -40.0], [2e3, 0.0], [0, 0.0]], np.float32)
    assert far_from_one(rows) == {0: 2000.0, 1: pytest.approx(np.sqrt(1250))}


# The warning

SPACE = {"learning_rate": vtune.loguniform(1e-3, 1e-2), "batch_size": 16, "hidden": 4, "layers": 1}


def caught_from(call: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(issubclass(warning.category, UserWarning) for warning in caught)
    return [str(warning.message) for warning in caught]


def said_by(data: Any, kind: Any = "auto") -> list[str]:
    """What a search warns of, without the search."""
    return caught_from(lambda: Data.of(data, kind=kind).warn_of_sizes(data, kind))


def search(data: Any, **changes: Any) -> vtune.Study:
    settings = {"strategy": "random", "trials": 2, "epochs": 1, "devices": 1, "progress": False} | changes
    return vtune.search(vtune.MLP, SPACE, data, **settings)


WIDE = np.c_[X[:, :1], X[:, :3] * 20, X[:, 1:3] * 500].astype(np.float32)
REST = (
    "Networks learn best from numbers of about 1, and vtune scales nothing by itself. Write vtune.Data.of({}, "
    "standardize=True) for the data: scaled by their training part, with results in your own units"
)


def test_one_warning_names_the_worst_columns_by_number_and_says_what_to_write():
    (said,) = said_by((WIDE, LABELS))
    assert said.startswith("5 of 6 columns of x are far from 1 in size (column 5: about 1")
    assert "column 3: about 4" in said
    assert said.endswith(", ...). " + REST.format("(x, y)"))
    assert said.count(": about") == 3


def test_columns_of_a_data_frame_are_named():
    frame = pd.DataFrame(X[:, [0, 2]], columns=["height", "price"])
    (said,) = said_by((frame, LABELS))
    assert said.startswith("1 of 2 columns of x is far from 1 in size (price: about 2")
    (said,) = said_by(Data(train=(frame, LABELS), valid=(frame, LABELS)))
    assert "(price: about 2" in said
    assert said.endswith(REST.format("data"))


def test_a_data_frame_without_names_has_numbers():
    (said,) = said_by((pd.DataFrame(X[:, [0, 2]]), LABELS))
    assert "(column 1: about 2" in said


def test_images_are_one_size():
    (said,) = said_by((_RNG.integers(0, 256, (60, 4, 4)), LABELS))
    assert said == "x is about 150 in size. " + REST.format("(x, y)")


def test_targets_far_from_1_are_warned_of_in_the_same_breath():
    (said,) = said_by((X[:, :1], PRICES))
    assert said.startswith("y is about 1.")
    assert said.endswith("e+06 in size. " + REST.format("(x, y)"))
    (said,) = said_by((X[:, :2], np.c_[X[:, 0], PRICES].astype(np.float32)))
    assert said.startswith("1 of 2 columns of x is far from 1 in size (column 1: about 2")
    assert "), and 1 of 2 columns of y is far from 1 in size (column 1: about 1" in said


@pytest.mark.long
def test_integer_targets_that_the_loss_asks_for_are_written_as_such():
    prices = np.rint(PRICES).astype(int)
    (said,) = caught_from(lambda: search((X[:, :1], prices), loss="mse"))
    assert 'Write vtune.Data.of((x, y), kind="targets", standardize=True) for the data' in said
    data = Data.of((X[:, :1], prices), kind="targets", standardize=True)
    assert caught_from(lambda: search(data, loss="mse")) == []


@pytest.mark.long
@pytest.mark.parametrize("y", [LABELS, PRICES], ids=["classes", "targets"])
def test_what_the_warning_says_to_write_silences_it(y):
    (said,) = caught_from(lambda: search((X, y)))
    assert [said] == said_by((X, y))
    assert caught_from(lambda: search(Data.of((X, y), standardize=True))) == []
    assert said_by(Data.of((X, y), standardize=True)) == []
    assert said_by(Data.of(Data(train=(X, y), valid=(X, y)), standardize=True)) == []


def test_large_labels_are_names_and_no_quantities():
    assert said_by((X[:, :1], np.arange(60) % 20)) == []


def test_the_warning_points_at_the_line_that_called_the_search():
    # in a process of its own: the signature checks of the test run add frames
    code = (
        "import warnings, numpy as np, vtune; warnings.simplefilter('ignore'); "
        "warnings.filterwarnings('error', module='__main__'); "
        "data = np.arange(80, dtype=np.float32).reshape(40, 2), np.arange(40) % 2; "
        "vtune.search(vtune.MLP, {'learning_rate': vtune.loguniform(1e-3, 1e-2), 'batch_size': 16}, data, trials=1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "SizeWarning: 2 of 2 columns of x are far from 1 in size (column 1: about 47" in done.stderr, done.stderr


def test_a_file_beside_the_package_is_the_users(tmp_path):
    code = (
        "import warnings, numpy as np, vtune; warnings.simplefilter('always'); "
        "name = vtune.__path__[0] + '_of_mine.py'; data = np.eye(40), np.arange(40) % 2; "
        "line = 'vtune.search(vtune.MLP, {\"learning_rate\": vtune.loguniform(1e-3, 1e-2)}, data, trials=1)'; "
        "exec(compile(line, name, 'exec'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "vtune_of_mine.py:1: UserWarning: float64 data" in done.stderr, done.stderr


def test_the_warning_comes_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr("vtune.training.queue.ChunkQueue.train", lambda *_: pytest.fail("it trained"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="far from 1"):
            search((WIDE, LABELS))
