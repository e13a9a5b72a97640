import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from vtune.data import Data
from vtune.files import load_data
from vtune.precision import float_precision

KEY = jax.random.key(0)
X = np.arange(12, dtype=np.float32).reshape(6, 2)
LABELS = np.array([0, 1, 2, 0, 1, 2])
TARGETS = np.linspace(-1, 1, 6, dtype=np.float32)


@pytest.fixture
def x64():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def data_of(x: Any = X, y: Any = LABELS) -> Data:
    return Data(train=(x, y), valid=(x, y))


def numbered_rows(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) whose x tells the row, so that it can be found again after a split."""
    return np.arange(len(y), dtype=np.float32)[:, None], y


def rows_of(data: Data) -> list[list[int]]:
    parts = [data.train, data.valid, data.test]
    return [x[:, 0].astype(int).tolist() for x, _ in filter(None, parts)]


# What is held


def test_labels_are_classes():
    data = Data(train=(X, LABELS), valid=(X[:1], LABELS[:1]), test=(X[:2], LABELS[:2]))
    assert (data.kind, data.num_classes, data.outputs) == ("classes", 3, 3)
    assert (data.inputs, data.num_train, data.dtype) == ((2,), 6, np.float32)
    assert data.train[1].dtype == np.int32
    assert repr(data) == "Data(3 classes, inputs (2,), 6 train + 1 valid + 2 test rows)"


@pytest.mark.parametrize("num_columns", [1, 3])
def test_floats_are_targets_with_columns(num_columns):
    data = data_of(y=np.ones((6, num_columns), np.float32))
    assert (data.kind, data.outputs) == ("targets", num_columns)
    assert data.train[1].shape == (6, num_columns)


def test_targets_without_columns_get_one():
    np.testing.assert_array_equal(data_of(y=TARGETS).train[1], TARGETS[:, None])


def test_targets_have_no_number_of_classes():
    with pytest.raises(ValueError, match=r"targets, which have no classes; write data.outputs"):
        _ = data_of(y=TARGETS).num_classes


def test_a_class_may_be_missing_from_validation_or_between_others():
    data = Data(train=(X, LABELS * 2), valid=(X[:1], [0]))
    assert data.num_classes == 5


def test_rows_may_have_any_shape():
    assert data_of(x=np.zeros((6, 8, 8, 3), np.uint8)).inputs == (8, 8, 3)


@pytest.mark.parametrize(
    "x",
    [
        X.astype(np.int64),
        X.astype(np.uint8),
        X.astype(np.float16),
        X.tolist(),
        tuple(map(tuple, X.tolist())),
        pd.DataFrame(X),
        pd.DataFrame({"a": X[:, 0].astype(int), "b": X[:, 1].astype(np.uint8)}),
        jnp.asarray(X),
        jnp.asarray(X, jnp.bfloat16),
        np.asfortranarray(X),
        np.repeat(X, 2, axis=0)[::2],
    ],
    ids=lambda x: f"{type(x).__name__}-{getattr(x, 'dtype', '')}",
)
def test_whatever_numpy_understands_becomes_contiguous_float32_without_a_word(x):
    held, _ = data_of(x=x).train
    np.testing.assert_array_equal(held, X)
    assert held.dtype == np.float32
    assert held.flags.c_contiguous


@pytest.mark.parametrize(
    "y",
    [
        LABELS.tolist(),
        LABELS[:, None],
        LABELS.astype(np.uint8),
        pd.Series(LABELS, index=range(6, 0, -1)),
        pd.DataFrame({"y": LABELS}),
        pd.Series(LABELS, dtype="Int64"),
        jnp.asarray(LABELS),
    ],
    ids=lambda y: f"{type(y).__name__}-{np.shape(y)}-{getattr(y, 'dtype', '')}",
)
def test_whatever_numpy_understands_becomes_int32_labels(y):
    held = data_of(y=y).train[1]
    np.testing.assert_array_equal(held, LABELS)
    assert held.dtype == np.int32


def test_booleans_are_numbers_in_x_and_two_classes_in_y():
    data = data_of(x=X > 3, y=LABELS > 1)
    assert (data.dtype, data.num_classes) == (np.float32, 2)


def test_input_is_not_changed_even_where_it_could_not_be():
    x, y = X.copy(), LABELS.copy()
    x.flags.writeable = y.flags.writeable = False
    data = Data.of((x, y), key=KEY)
    assert data.num_train + len(data.valid[0]) == 6
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, LABELS)


def test_data_do_not_change_with_the_arrays_they_came_from():
    x, y = X.copy(), LABELS.copy()
    data = data_of(x, y)
    x[:], y[:] = 7, 7
    np.testing.assert_array_equal(data.train[0], X)
    np.testing.assert_array_equal(data.train[1], LABELS)


def test_data_is_frozen_and_can_be_replaced():
    data = data_of()
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.test = data.train  # pyright: ignore[reportAttributeAccessIssue] # what the test is about
    assert dataclasses.replace(data, test=data.train).test is not None


# Precision


@pytest.mark.parametrize("of", [lambda x, y: data_of(x, y), lambda x, y: Data.of((x, y), key=KEY)], ids=["Data", "of"])
@pytest.mark.parametrize("y", [LABELS, TARGETS.astype(np.float64)], ids=["classes", "targets"])
def test_float64_is_converted_and_said_once(of, y):
    match = r"^float64 data are trained in float32, JAX's default; write x.astype\(np.float32\)"
    with pytest.warns(UserWarning, match=match) as said:
        data = of(X.astype(np.float64), y)
    assert len(said) == 1
    assert data.dtype == np.float32


@pytest.mark.usefixtures("x64")
def test_x64_mode_keeps_float64():
    data = data_of(X.astype(np.float64), TARGETS.astype(np.float64))
    assert (data.dtype, data.train[1].dtype) == (np.float64, np.float64)
    assert Data.of(key=KEY).dtype == np.float64


@pytest.mark.usefixtures("x64")
def test_x64_mode_draws_the_same_split():
    wide = rows_of(Data.of(numbered_rows(LABELS), key=KEY))
    with float_precision(np.dtype(np.float32)):
        assert rows_of(Data.of(numbered_rows(LABELS), key=KEY)) == wide


# Digits


def test_no_data_are_the_digits_split_60_20_20():
    data = Data.of(key=KEY)
    assert data.test is not None
    assert [len(x) for x, _ in (data.train, data.valid, data.test)] == [1078, 360, 359]
    assert (data.inputs, data.num_classes) == ((64,), 10)


def test_the_parts_of_the_digits_are_the_digits_scaled_to_one():
    data = Data.of(None, key=KEY)
    assert data.test is not None
    x = np.concatenate([data.train[0], data.valid[0], data.test[0]])
    assert (x.min(), x.max()) == (0, 1)
    expected = load_digits(return_X_y=True)[0] / 16
    np.testing.assert_array_equal(np.unique(x, axis=0), np.unique(expected, axis=0))


def test_the_digits_are_stratified():
    data = Data.of(key=KEY)
    parts = [np.bincount(y, minlength=10) for _, y in filter(None, [data.train, data.valid, data.test])]
    shares = np.array([[0.6], [0.2], [0.2]]) * np.sum(parts, axis=0)
    assert np.abs(np.array(parts) - shares).max() < 1


# Splits

many_labels = st.lists(st.integers(0, 5), min_size=2, max_size=60).map(np.array)


@given(many_labels.filter(lambda y: len(set(y)) > 1 and len(set(y)) < len(y)), st.integers(0, 3))
def test_a_split_is_disjoint_complete_and_stratified(y, seed):
    data = Data.of(numbered_rows(y), key=jax.random.key(seed))
    train, valid = rows_of(data)
    assert data.test is None
    assert sorted(train + valid) == list(range(len(y)))
    np.testing.assert_array_equal(data.train[1], y[train])
    np.testing.assert_array_equal(data.valid[1], y[valid])
    sizes, held_out = np.bincount(y), np.bincount(y[valid], minlength=y.max() + 1)
    assert np.abs(held_out - 0.2 * sizes).max() < 1
    assert (held_out[sizes == 1] == 0).all()
    assert (held_out[sizes > 1] < sizes[sizes > 1]).all()


@given(st.integers(2, 60))
def test_targets_are_split_80_20(num_rows):
    train, valid = rows_of(Data.of(numbered_rows(np.linspace(0, 1, num_rows, dtype=np.float32)), key=KEY))
    assert sorted(train + valid) == list(range(num_rows))
    assert abs(len(valid) - 0.2 * num_rows) < 1


def test_a_split_depends_on_the_key_alone():
    rows = numbered_rows(np.arange(100) % 4)
    np.random.seed(1)  # noqa: NPY002 - the global state that must not matter
    first = rows_of(Data.of(rows, key=KEY))
    np.random.seed(2)  # noqa: NPY002 - likewise
    assert rows_of(Data.of(rows, key=KEY)) == first
    assert rows_of(Data.of(rows, key=jax.random.key(1))) != first


def test_every_row_is_held_out_equally_often():
    rows = numbered_rows(np.arange(20) % 2)
    held_out = np.concatenate([rows_of(Data.of(rows, key=jax.random.key(seed)))[1] for seed in range(200)])
    counts = np.bincount(held_out, minlength=20)
    assert counts.sum() == 200 * 4
    assert counts.min() > 40 - 4 * 6  # the standard deviation is 5.7
    assert counts.max() < 40 + 4 * 6


def test_splits_of_every_size_share_one_program(caplog):
    Data.of((X, LABELS), key=KEY)
    with jax.log_compiles():
        Data.of(numbered_rows(np.arange(37) % 3), key=jax.random.key(5))
        assert "Compiling" not in caplog.text
        jax.jit(lambda x: x + 37)(np.float32(0))
        assert "Compiling" in caplog.text  # so it would have been seen


def test_data_of_data_is_itself():
    data = data_of()
    assert Data.of(data, key=KEY) is data
    assert Data.of(data, key=KEY, kind="classes") is data


def test_integers_that_are_no_labels_can_be_targets():
    data = Data.of((X, np.array([-5, 3, 8, 1, 2, 9])), key=KEY, kind="targets")
    assert (data.kind, data.num_train) == ("targets", 5)


# What the loss needs


def test_whole_floats_become_the_labels_that_the_loss_needs():
    assert data_of(y=LABELS.astype(np.float32)).kind == "targets"
    data = data_of(y=LABELS.astype(np.float32)).require_classes()
    np.testing.assert_array_equal(data.train[1], LABELS)
    assert data.train[1].dtype == np.int32


def test_labels_become_the_targets_that_the_loss_needs():
    data = data_of().require_targets()
    assert (data.kind, data.train[1].dtype, data.train[1].shape) == ("targets", np.float32, (6, 1))


def test_the_kind_is_settled_before_the_split():
    y = np.repeat(np.array([0, 1], np.float32), [10, 90])
    data = Data.of(numbered_rows(y), key=KEY, kind="classes")
    assert np.bincount(data.valid[1]).tolist() == [2, 18]


def test_data_that_fit_the_loss_stay_as_they_are():
    classes, targets = data_of(), data_of(y=TARGETS)
    assert classes.require_classes() is classes
    assert targets.require_targets() is targets


def test_columns_of_targets_are_no_labels():
    with pytest.raises(ValueError, match=r"train y has shape \(6, 3\), but labels are one.*write y.argmax\(axis=1\)"):
        data_of(y=np.eye(3, dtype=np.float32)[LABELS]).require_classes()


def test_fractions_are_no_labels():
    match = r'valid y holds 0.5 in row 1.*whole numbers; write loss="mse"'
    with pytest.raises(ValueError, match=match):
        Data(train=(X, LABELS.astype(np.float32)), valid=(X[:2], [0.0, 0.5])).require_classes()
    with pytest.raises(ValueError, match=r"^y holds 0.5 in row 1"):
        Data.of((X[:2], [0.0, 0.5]), key=KEY, kind="classes")


# Errors: what was written, why it cannot be, what to write instead

BAD_X = X.copy()
BAD_X[3, 1], BAD_X[4, 0] = np.nan, np.inf
ERRORS = {
    "lengths": (X, LABELS[:4], "x has 6 rows and y has 4", "give each row of x one entry"),
    "no rows": (X[:0], LABELS[:0], "x is empty (shape (0, 2))", "give it at least one row"),
    "no columns": (X[:, :0], LABELS, "x is empty (shape (6, 0))", "one column"),
    "no y": (X, [], "y is empty (shape (0,))", "at least one row"),
    "NaN": (BAD_X, LABELS, "x is NaN or infinite in 2 of 12 entries, the first at row 3, column 1", "leave"),
    "NaN in an image": (BAD_X[:, None], LABELS, "x is NaN or infinite in 2 of 12 entries, the first", "column 0, 1:"),
    "NaN in y": (
        X,
        TARGETS * np.nan,
        "y is NaN or infinite in 6 of 6 entries, the first at row 0: every",
        "fill them in",
    ),
    "too large": (np.full((6, 2), 1e300), LABELS, "x holds 1e+300, which float32 cannot", "divide x by its scale"),
    "negative": (X, LABELS - 1, "y holds the label -1, but labels count from 0", "np.unique(y, return_inverse=True)"),
    "no class numbers": (X, LABELS + 2**40, "y holds the label 1099511627778, but labels", "write y.astype(float)"),
    "one-hot": (X, np.eye(3, dtype=int)[LABELS], "y has shape (6, 3), but labels are one", "write y.argmax(axis=1)"),
    "targets of rank 3": (X, np.ones((6, 2, 2), np.float32), "y has shape (6, 2, 2), but targets", "y.reshape("),
    "flat x": (X[:, 0], LABELS, "x has shape (6,), but needs rows and columns", "write x[:, None]"),
    "scalar x": (1.0, LABELS, "x has shape (), but needs rows and columns", "shape (rows, columns)"),
    "scalar y": (X, 1.0, "y is the single number 1.0, but every row", "write an array"),
    "ragged": ([[1, 2], [3]], [0, 1], "x is a list that makes no rectangular array", "give every row the same length"),
    "strings in y": (X, list("abcabc"), "y holds strings, and networks", "np.unique(y, return_inverse=True)"),
    "strings in x": (X.astype(str), LABELS, "x holds strings, and networks", "np.unique(column, return_inverse=True)"),
    "a frame with text": (pd.DataFrame({"a": [1.0, 2.0], "b": ["c", "d"]}), [0, 1], "x holds strings, and", "encode"),
    "a series of text": (X, pd.Series(list("abcabc")), "y holds strings, and networks", "np.unique(y,"),
    "objects": (X.astype(object), LABELS, "x holds Python objects (float), not numbers", ".astype(np.float32)"),
    "None": (None, LABELS, "x holds Python objects (NoneType), not numbers", "write .astype"),
    "gaps": (X, pd.Series([0, 1, None, 0, 1, 1], dtype="Int64"), "y is NaN or infinite in 1", "at row 2"),
    "complex": (X + 1j, LABELS, "x holds complex numbers, and networks here are real", "[x.real, x.imag]"),
    "dates": (X.astype("datetime64[s]"), LABELS, "x holds datetime64[s] values, not plain numbers", "say what they"),
    "masked": (np.ma.masked_less(X, 2), LABELS, "x is a masked array, and a network has no way", ".filled(value)"),
}


@pytest.mark.filterwarnings("ignore:float64 data are trained in float32")
@pytest.mark.parametrize(("x", "y", "what", "instead"), ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("part", ["", "train ", "valid ", "test "])
def test_errors_name_the_part_and_say_what_why_and_what_instead(x, y, what, instead, part):
    good = (X, TARGETS if np.asarray(y).dtype.kind == "f" else LABELS)
    parts = {"train": good, "valid": good} | {part.strip(): (x, y)}
    with pytest.raises((ValueError, TypeError)) as caught:
        _ = Data(**parts) if part else Data.of((x, y), key=KEY)
    message = str(caught.value).replace(f" and {part}y", " and y")
    assert message.startswith(part + what)
    assert instead in message


def test_one_class_is_nothing_to_tell_apart():
    match = (
        r"y holds one class only \(label 3 in all 6 rows\), so there is nothing to tell apart; give rows of a second"
    )
    with pytest.raises(ValueError, match="^" + match):
        Data.of((X, [3] * 6), key=KEY)
    with pytest.raises(ValueError, match="^train " + match):
        data_of(y=[3] * 6)


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (X, "is a ndarray, not a pair"),
        ("digits", "is a str, not a pair"),
        (pd.DataFrame(X), "is a DataFrame, not a pair"),
        ((X, X, LABELS, LABELS), "is a tuple of 4, not a pair"),
        ({"x": X, "y": LABELS}, "is a dict, not a pair"),
    ],
    ids=["array", "str", "frame", "four", "dict"],
)
def test_what_is_not_a_pair_is_refused(bad, what):
    with pytest.raises(TypeError, match=rf"^data {what}.*write \(x, y\), or vtune.Data\(train="):
        Data.of(bad, key=KEY)
    with pytest.raises(TypeError, match=rf"^valid {what}.*write \(x, y\)$"):
        Data(train=(X, LABELS), valid=bad)


def test_a_split_written_as_a_pair_of_pairs_is_told_about_data():
    with pytest.raises(ValueError, match=r"A split of your own is vtune.Data\(train="):
        Data.of(((X, LABELS), (X[:2], LABELS[:2])), key=KEY)


def test_validation_must_have_rows():
    with pytest.raises(TypeError, match="valid is a NoneType"):
        Data(train=(X, LABELS), valid=None)
    with pytest.raises(ValueError, match="valid x is empty"):
        Data(train=(X, LABELS), valid=(X[:0], LABELS[:0]))


@pytest.mark.parametrize("part", ["valid", "test"])
@pytest.mark.parametrize(
    ("pair", "what", "instead"),
    [
        ((X[:, :1], LABELS), r"x has rows of shape \(1,\) and train x of \(2,\)", "same columns"),
        ((X, LABELS + 1), "y holds class 3, but train y ends at 2", "move rows of it to train"),
        ((X, TARGETS), r"y holds targets \(float32\) and train y classes \(int64\)", "integers in every part"),
    ],
    ids=["columns", "unseen class", "kinds"],
)
def test_parts_must_fit_the_training_part(part, pair, what, instead):
    parts = {"train": (X, LABELS), "valid": (X, LABELS)} | {part: pair}
    with pytest.raises(ValueError, match=rf"^{part} {what}.*{instead}"):
        Data(**parts)


def test_targets_must_have_the_same_columns_in_every_part():
    with pytest.raises(ValueError, match=r"valid y has rows of shape \(1,\) and train y of \(2,\)"):
        Data(train=(X, X), valid=(X, TARGETS))


def test_one_row_cannot_be_split():
    with pytest.raises(ValueError, match="x has 1 row, which cannot be split.*at least 2 rows"):
        Data.of((X[:1], TARGETS[:1]), key=KEY)


def test_classes_of_one_row_each_cannot_be_split():
    with pytest.raises(ValueError, match=r"each of the 6 rows of y is a class of its own.*write y.astype\(float\)"):
        Data.of((X, np.arange(6)), key=KEY)


# Files


def test_digits_are_loaded_by_name():
    assert load_data("digits") == (None, "", "")


def test_npz_with_x_and_y(tmp_path):
    np.savez(tmp_path / "rows.npz", x=X, y=LABELS, names=["a", "b"])
    data = Data.of(load_data(tmp_path / "rows.npz").data, key=KEY)
    assert (data.kind, data.num_train, data.test) == ("classes", 5, None)


@pytest.mark.parametrize("parts", [("train", "valid"), ("train", "valid", "test")], ids=len)
def test_npz_with_a_split(tmp_path, parts):
    arrays = {f"x_{part}": X for part in parts} | {f"y_{part}": LABELS for part in parts}
    np.savez(tmp_path / "split.NPZ", **arrays)  # pyright: ignore[reportArgumentType] # no array is allow_pickle
    (tmp_path / "split.NPZ.npz").rename(tmp_path / "split.NPZ")
    data = load_data(str(tmp_path / "split.NPZ")).data
    assert isinstance(data, Data)
    assert (data.test is not None) == ("test" in parts)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["x"], "x_train, y_train, x_valid, y_valid missing"),
        (["x_train", "y_train", "x_test", "y_test"], "x_valid, y_valid missing"),
        (["x_train", "y_train", "x_valid", "y_valid", "x_test"], "y_test missing"),
        ([], "x_train, y_train, x_valid, y_valid missing"),
    ],
    ids=["no y", "no valid", "no test y", "nothing"],
)
def test_npz_with_arrays_missing(tmp_path, names, missing):
    np.savez(tmp_path / "rows.npz", **dict.fromkeys(names, X))  # pyright: ignore[reportArgumentType] # likewise
    with pytest.raises(ValueError, match=rf"rows.npz holds .*{missing}; write np.savez\(path, x=x, y=y\)"):
        load_data(tmp_path / "rows.npz")


@pytest.mark.parametrize("content", ["objects", "text", "one array"])
def test_npz_that_is_no_archive_of_plain_arrays(tmp_path, content):
    path = tmp_path / "rows.npz"
    if content == "objects":
        np.savez(path, x=X.astype(object), y=LABELS)
    elif content == "text":
        path.write_text("x,y\n1,2\n")
    else:
        np.save(tmp_path / "rows.npy", X)
        (tmp_path / "rows.npy").rename(path)
    with pytest.raises(ValueError, match=r"rows.npz cannot be read.*write it with np.savez"):
        load_data(path)


@pytest.mark.parametrize(
    ("y", "kind"), [([0, 1, 0, 1], "classes"), ([0.5, 1, 2, 3], "targets"), ([True, False] * 2, "classes")], ids=str
)
def test_csv_ends_with_y(tmp_path, y, kind):
    table = pd.DataFrame({"a": [1, 2, 3, 4], "b": [0.1, 0.2, 0.3, 0.4], "c": [True, False] * 2, "y": y})
    table.to_csv(tmp_path / "rows.csv", index=False)
    loaded = load_data(tmp_path / "rows.csv")
    data = Data.of(loaded.data, key=KEY)
    assert (data.kind, data.inputs, data.num_train) == (kind, (3,), 3)
    assert data.columns == ("a", "b", "c")
    assert loaded[1:] == ("y", "2 classes" if kind == "classes" else "a quantity")


CSV_ERRORS = {
    "text column": ("a,b,y\n1,red,0\n2,blue,1\n", "column \"b\" of .* such as 'red', but.*encode it with np.unique"),
    "text column that may be the target": ("a,b,y\n1,red,0\n2,blue,1\n", "or write --target b if it is"),
    "names and numbers": (
        "a,y\n1,cat\n2,3\n3,4\n",
        'column "y" of .* holds numbers such as 3 and names such as cat, but a target is one or the other; write',
    ),
    "names and gaps": (
        "a,y\n1,cat\n2,\n3,dog\n4,\n",
        'column "y" of .* has no value in 2 of 4 rows, the first row 1, but every row.*; leave those rows out',
    ),
    "one column": ("y\n1\n2\n", "has one column, 'y'; write at least one of x, then y"),
    "nothing": ("", "is no table.*write rows of numbers"),
    "no rows": ("a,y\n", "has column names and no rows; write one line of numbers a row"),
    "ragged": ("a,y\n1,2\n1,2,3,4\n", "is no table.*separated by commas"),
    "too long": ("a,y\n1,2,3\n4,5,6\n", "is no table.*separated by commas"),
    "no header": ("5.1,3.5,0\n4.9,3.0,1\n", r"begins with the numbers 5.1, 3.5, 0 ...; put a line of column names"),
    "row numbers": (",a,y\n0,1.5,0\n1,2.5,1\n", r"first column of .* no name.*write table.to_csv\(path, index=False\)"),
}


@pytest.mark.parametrize(("text", "match"), CSV_ERRORS.values(), ids=CSV_ERRORS)
def test_csv_that_is_no_table_of_numbers(tmp_path, text, match):
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(ValueError, match=match):
        load_data(tmp_path / "rows.csv")


def test_csv_of_an_array_may_count_its_columns(tmp_path):
    pd.DataFrame(np.c_[X, LABELS]).to_csv(tmp_path / "rows.csv", index=False)
    x, _ = load_data(tmp_path / "rows.csv").data
    np.testing.assert_array_equal(x, X)


def test_csv_with_gaps_is_refused_as_such_arrays_are(tmp_path):
    (tmp_path / "gaps.csv").write_text("a,y\n1,0\n,1\n3,1\n")
    with pytest.raises(ValueError, match="x is NaN or infinite in 1 of 3 entries, the first at row 1, column 0"):
        Data.of(load_data(tmp_path / "gaps.csv").data, key=KEY)


@pytest.mark.parametrize("name", ["rows.parquet", "digit", "rows"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=rf'data "{name}" is no name or file.*write digits, or a .npz or .csv file'):
        load_data(name)


@pytest.mark.parametrize("name", ["rows.npz", "rows.csv"])
def test_missing_files_are_said_to_be_missing(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=rf"{name}.*no such file in .*; check the path"):
        load_data(tmp_path / name)


HOUSES = "rooms,town,price,age\n3,1,250.5,9\n4,0,300.25,2\n2,1,125.0,30\n5,0,410.0,1\n"


@pytest.fixture
def houses(tmp_path):
    (tmp_path / "houses.csv").write_text(HOUSES)
    return tmp_path / "houses.csv"


def test_a_target_by_name(houses):
    (x, y), target, meaning = load_data(houses, "price")
    assert (list(x.columns), target, meaning) == (["rooms", "town", "age"], "price", "a quantity")
    np.testing.assert_array_equal(x, [[3, 1, 9], [4, 0, 2], [2, 1, 30], [5, 0, 1]])
    np.testing.assert_array_equal(y, [250.5, 300.25, 125, 410])


def test_the_target_is_the_last_column_unless_named(houses):
    assert load_data(houses).target == "age"


@pytest.mark.parametrize(
    ("target", "instead"),
    [("prize", "did you mean 'price'?"), ("zzz", "write one of 'rooms', 'town', 'price', 'age'")],
)
def test_a_target_that_is_no_column(houses, target, instead):
    with pytest.raises(ValueError, match=rf'^target "{target}": .*houses.csv has no such column; {re.escape(instead)}'):
        load_data(houses, target)


@pytest.mark.parametrize("name", ["digits", "rows.npz"])
def test_a_target_of_data_without_named_columns(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    np.savez("rows.npz", x=X, y=LABELS)
    match = f'^target "price": data "{name}" has no columns with names, as a .csv file has; leave the target out'
    with pytest.raises(ValueError, match=match):
        load_data(name, "price")


@pytest.mark.parametrize(("kind", "meaning"), [("targets", "a quantity"), ("classes", "3 classes")])
def test_what_integers_are_may_be_said(tmp_path, kind, meaning):
    for y in ([0, 1, 0, 1, 2, 2], [2, 2, 2, 2, 2, 1]):
        pd.DataFrame({"x": range(6), "y": y}).to_csv(tmp_path / "rows.csv", index=False)
        loaded = load_data(tmp_path / "rows.csv", kind=kind)
        assert loaded.meaning == meaning
        assert Data.of(loaded.data, key=KEY, kind=kind).kind == kind


def test_a_target_of_names_is_classes_in_the_order_of_the_alphabet(tmp_path):
    (tmp_path / "pets.csv").write_text("animal,weight\ndog,9\ncat,4\nbird,0.1\ncat,5\n")
    (x, y), *told = load_data(tmp_path / "pets.csv", "animal")
    assert (list(x.columns), y.tolist(), told) == (["weight"], [2, 1, 0, 1], ["animal", "0: bird, 1: cat, 2: dog"])
    assert Data.of((x, y), key=KEY).kind == "classes"


def test_of_many_classes_a_few_are_named(tmp_path):
    names = [f"town {number:02d}" for number in range(30)]
    pd.DataFrame({"x": range(60), "town": names * 2}).to_csv(tmp_path / "towns.csv", index=False)
    assert load_data(tmp_path / "towns.csv").meaning == "30 classes, 0: town 00, 1: town 01, ..., 29: town 29"


@pytest.mark.parametrize(
    ("y", "kind", "meaning"),
    [
        ([0, 3, 0, 3], "classes", "4 classes"),
        ([0, 4, 0, 4], "targets", "a quantity"),  # more classes than rows
        ([-1, 1, -1, 1], "targets", "a quantity"),
        ([18, 18, 3, 3], "targets", "a quantity"),  # labels begin at 0 or 1
        ([0, 1, 2, 3], "targets", "a quantity"),  # labels come more than once
        ([1, 2, 1, 2], "classes", "3 classes"),
        ([310000, 250000, 410000, 120000], "targets", "a quantity"),
    ],
    ids=str,
)
def test_integers_are_labels_where_they_look_like_it(tmp_path, y, kind, meaning):
    pd.DataFrame({"x": range(4), "y": y}).to_csv(tmp_path / "rows.csv", index=False)
    loaded = load_data(tmp_path / "rows.csv")
    assert loaded.meaning == meaning
    assert Data.of(loaded.data, key=KEY).kind == kind
