"""What a search refuses, and that it does so before anything compiles; and what it takes though it looks odd."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optuna
import pandas as pd
import pytest
from flax import nnx

import vtune
from tests.compilations import Compilations
from vtune.training.networks import ModelError
from vtune.training.programs import Program

ROOT = Path(__file__).parent.parent
ROWS, COLUMNS, CLASSES = 60, 4, 3
X = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
LABELS = np.repeat(np.arange(CLASSES), ROWS // CLASSES)
TARGETS = X.sum(axis=1)
SPACE = {"learning_rate": vtune.loguniform(1e-3, 1e-1), "batch_size": 16, "hidden": 8, "layers": 1}


def search(**changes: Any) -> vtune.Study:
    plain = {"strategy": "random", "trials": 4, "epochs": 1, "chunk": 4, "devices": 1, "progress": False}
    arguments = {"model_fn": vtune.MLP, "space": SPACE, "data": (X, LABELS)} | plain | changes
    return vtune.search(**arguments)


def space(**changes: Any) -> vtune.Study:
    return search(space=SPACE | changes)


def data(x: Any = X, y: Any = LABELS, **changes: Any) -> vtune.Study:
    return search(data=(x, y), **changes)


class Linear(nnx.Module):
    """A network of one layer, for model functions that go wrong around it."""

    def __init__(self, inputs: int, outputs: int):
        self.layer = nnx.Linear(inputs, outputs, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.layer(x)


def raises(hparams):
    raise RuntimeError("no such layer")


def reads_a_name_that_is_not_there(hparams):
    return Linear(COLUMNS, CLASSES * hparams["widht"])


def mean_loss(outputs, y):
    return jnp.mean(jnp.abs(outputs))


def failing_loss(outputs, y):
    raise RuntimeError("no such class")


def absolute_error(outputs, y):
    return jnp.abs(outputs[:, 0] - y)


def loss(outputs, y):
    return absolute_error(outputs, y)


def with_one(values: np.ndarray, value: Any) -> np.ndarray:
    changed = values.copy()
    changed[7] = value
    return changed


def case(name: str, call: Callable[[], Any], *pieces: str, error: type[Exception] = ValueError) -> Any:
    """A call, and the pieces of its message: what was written, why it cannot be, what to write instead."""
    return pytest.param(call, error, pieces, id=name)


SPACES = [
    case(
        "low above high",
        lambda: space(learning_rate=vtune.loguniform(1.0, 1e-4)),
        *("loguniform(1.0, 0.0001)", "the lower bound is above the upper one", "Write them as 0.0001, 1.0"),
    ),
    case(
        "low equal to high",
        lambda: space(learning_rate=vtune.uniform(0.1, 0.1)),
        *("uniform(0.1, 0.1)", "nothing lies between", "Write 0.1 alone"),
    ),
    case(
        "integers low above high",
        lambda: space(hidden=vtune.integers(64, 16)),
        *("integers(64, 16)", "the lower bound is above the upper one", "Write them as 16, 64"),
    ),
    case(
        "log from 0",
        lambda: space(learning_rate=vtune.loguniform(0, 1.0)),
        *("loguniform(0, 1.0)", "a log scale needs bounds above 0", "Write for example loguniform(1e-4, 1.0)"),
    ),
    case(
        "log below 0",
        lambda: space(learning_rate=vtune.loguniform(-1.0, 1.0)),
        *("loguniform(-1.0, 1.0)", "a log scale needs bounds above 0", "Write for example loguniform(1e-4, 1.0)"),
    ),
    case(
        "log integers from 0",
        lambda: space(hidden=vtune.integers(0, 16, log=True)),
        *("integers(0, 16, log=True)", "a log scale has integers from 1 up", "Write integers(0, 16)"),
    ),
    case(
        "reverse log up to 1",
        lambda: space(beta1=vtune.reverse_loguniform(0.9, 1.0)),
        *("reverse_loguniform(0.9, 1.0)", "needs bounds in [0, 1)", "Write reverse_loguniform(0.9, 0.999)"),
    ),
    case(
        "reverse log below 0",
        lambda: space(beta1=vtune.reverse_loguniform(-0.1, 0.9)),
        *("reverse_loguniform(-0.1, 0.9)", "needs bounds in [0, 1)", "Write reverse_loguniform(0.9, 0.999)"),
    ),
    case(
        "a NaN bound",
        lambda: space(learning_rate=vtune.uniform(float("nan"), 1.0)),
        *("uniform(nan, 1.0)", "nan is no float32 number", "Write 0, or a size from"),
    ),
    case(
        "an infinite bound",
        lambda: space(decay=vtune.uniform(0, float("inf"))),
        *("uniform(0, inf)", "inf is no float32 number", "Write 0, or a size from"),
    ),
    case(
        "an empty choice",
        lambda: space(hidden=vtune.choice([])),
        *("choice([])", "there is nothing to choose from", "Write at least two values"),
    ),
    case(
        "a list for a choice",
        lambda: space(hidden=[8, 16]),
        *("{'hidden': [8, 16]}", "a plain value is a single one", "Write choice([8, 16])"),
        error=TypeError,
    ),
    case(
        "epsilon 0",
        lambda: space(epsilon=0),
        *('"epsilon": 0 cannot be', "must be above 0: Adam divides by it", 'Write "epsilon": 1e-08'),
    ),
    case(
        "epsilon that may be 0",
        lambda: space(epsilon=vtune.choice([0, 1e-8])),
        *('"epsilon": choice([0, 1e-08]) cannot be', "must be above 0: Adam divides by it", 'Write "epsilon": 1e-08'),
    ),
    case(
        "a misspelt name",
        lambda: space(hiden=vtune.integers(4, 8)),
        *("'hiden' is in the space", "neither model, optimizer nor engine reads it", "did you mean 'hidden'?"),
    ),
    case(
        "a name that nobody reads",
        lambda: space(zzz=3),
        *(
            "'zzz' is in the space",
            "neither model, optimizer nor engine reads it",
            "write one of 'batch_size', 'beta1'",
        ),
    ),
    case(
        "momentum with adam",
        lambda: space(momentum=vtune.reverse_loguniform(0.5, 0.99)),
        *("'momentum' is in the space", "nor engine reads it", "optimizer='momentum' would read it"),
    ),
    case(
        "beta2 with sgd",
        lambda: search(space=SPACE | {"beta2": 0.9}, optimizer="sgd"),
        *("'beta2' is in the space", "nor engine reads it", "optimizer='adam' would read it"),
    ),
    case(
        "hidden for a model without it",
        lambda: search(model_fn=lambda shapes: Linear(COLUMNS, CLASSES)),
        *("'hidden' is in the space", "neither model, optimizer nor engine reads it", "write one of 'batch_size'"),
    ),
    case(
        "nothing varies",
        lambda: search(space={"learning_rate": 0.1}),
        *("{'learning_rate': 0.1}", "nothing varies", "Write a range, 'learning_rate': loguniform(1e-4, 1.0)"),
    ),
    case(
        "an empty space",
        lambda: search(space={}),
        *("{}", "nothing varies", "Write a range, 'learning_rate': loguniform(1e-4, 1.0)"),
    ),
    case(
        "a choice of one value alone",
        lambda: search(space={"hidden": vtune.choice([8])}),
        *("{'hidden': 8}", "nothing varies", "Write a range"),
    ),
    case(
        "a name that is a column",
        lambda: space(score=vtune.uniform(0, 1)),
        *(
            'a hyperparameter named "score"',
            "a column of study.trials already",
            'write another name, such as "my_score"',
        ),
    ),
    case(
        "a width a layer for MLP",
        lambda: space(hidden=vtune.choice([(8, 4), (4, 8)])),
        *("hidden=(8, 4)", "takes one integer for hidden", "Write 'hidden': vtune.integers("),
    ),
    case(
        "a width a layer beside plain widths",
        lambda: space(hidden=vtune.choice([16, (4, 8)])),
        *("hidden=(4, 8)", "takes one integer for hidden", "Write 'hidden': vtune.integers("),
    ),
    case(
        "an unknown activation",
        lambda: space(activation="rleu"),
        *("activation='rleu'", "is not known", "write one of relu, tanh"),
    ),
    case(
        "an unknown activation among known ones",
        lambda: space(activation=vtune.choice(["relu", "rleu"])),
        *("activation='rleu'", "is not known", "write one of relu, tanh"),
    ),
    case(
        "batch size above the rows",
        lambda: space(batch_size=49),
        *("batch_size=49 is more than the 48 rows", "an epoch would hold no step", '"batch_size": 48 at most'),
    ),
    case(
        "batch size that may be above the rows",
        lambda: space(batch_size=vtune.powers_of_two(16, 64)),
        *("batch_size=64 is more than the 48 rows", "an epoch would hold no step", '"batch_size": 48 at most'),
    ),
    case(
        "the default batch size above the rows",
        lambda: search(space={"learning_rate": vtune.loguniform(1e-3, 1e-1)}),
        *("batch_size=64, the default,", "an epoch would hold no step", '"batch_size": 48 at most'),
    ),
]

DATA = [
    case(
        "x and y of different lengths",
        lambda: data(X, LABELS[:50]),
        *("x has 60 rows and y has 50", "give each row of x one entry of y"),
    ),
    case("no rows", lambda: data(X[:0], LABELS[:0]), "x is empty (shape (0, 4))", "give it at least one row"),
    case("no columns", lambda: data(X[:, :0]), "x is empty (shape (60, 0))", "give it at least one row and one column"),
    case(
        "NaN in x",
        lambda: data(with_one(X, np.nan)),
        *("x is NaN or infinite in 4 of 240 entries", "first at row 7", "would diverge", "leave those rows out"),
    ),
    case(
        "infinity in y",
        lambda: data(X, with_one(TARGETS, np.inf)),
        *("y is NaN or infinite in 1 of 60 entries", "would diverge", "leave those rows out"),
    ),
    case(
        "negative labels",
        lambda: data(X, LABELS - 1),
        *("y holds the label -1", "labels count from 0 up", "np.unique(y, return_inverse=True)[1]"),
    ),
    case(
        "negative whole floats with cross_entropy",
        lambda: data(X, (LABELS - 1).astype(np.float32), loss="cross_entropy"),
        *("y holds the label -1", "labels count from 0 up", "np.unique(y, return_inverse=True)[1]"),
    ),
    case(
        "fractions with cross_entropy",
        lambda: data(X, with_one(TARGETS * 0, 0.5), loss="cross_entropy"),
        *("y holds 0.5 in row 7", 'which loss="cross_entropy"', "are whole numbers", 'write loss="mse"'),
    ),
    case(
        "fractions with accuracy",
        lambda: data(X, with_one(TARGETS * 0, 0.5), metric="accuracy"),
        *("y holds 0.5 in row 7", 'metric="accuracy" need, are whole numbers', 'write loss="mse" alone'),
    ),
    case(
        "labels of one class",
        lambda: data(X, np.zeros(ROWS, int)),
        *("y holds one class only (label 0 in all 60 rows)", "nothing to tell apart", "rows of a second class"),
    ),
    case(
        "labels of one class as floats",
        lambda: data(X, np.ones(ROWS, np.float32), loss="cross_entropy"),
        *("y holds one class only (label 1 in all 60 rows)", "nothing to tell apart", "rows of a second class"),
    ),
    case(
        "one-hot labels",
        lambda: data(X, np.eye(CLASSES, dtype=int)[LABELS]),
        *("y has shape (60, 3)", "labels are one whole number a row", "write y.argmax(axis=1)"),
    ),
    case(
        "strings in x",
        lambda: data(X.astype(str)),
        *("x holds strings", "networks take numbers", "encode them with np.unique"),
        error=TypeError,
    ),
    case(
        "strings in y",
        lambda: data(X, np.array(["a", "b", "c"])[LABELS]),
        *("y holds strings", "networks take numbers", "encode them with np.unique(y, return_inverse=True)[1]"),
        error=TypeError,
    ),
    case(
        "x alone",
        lambda: search(data=X),
        *("data is a ndarray", "not a pair of rows and what belongs to them", "write (x, y)"),
        error=TypeError,
    ),
    case(
        "a number for data",
        lambda: search(data=5),
        *("data is a int", "not a pair", "write (x, y), or vtune.Data(train=(x, y), valid=(x, y))"),
        error=TypeError,
    ),
    case("x of one axis", lambda: data(X[:, 0]), "x has shape (60,)", "needs rows and columns", "write x[:, None]"),
    case(
        "a class of its own in each row",
        lambda: data(X, np.arange(ROWS)),
        *("each of the 60 rows of y is a class of its own", "no row can be held out", "write y.astype(float)"),
    ),
]

MODELS = [
    case(
        "a model_fn that raises",
        lambda: search(model_fn=raises),
        *("model_fn raised RuntimeError: no such layer", "hparams={'learning_rate'", "rows of shape (4,)"),
        "Make it run by itself first: model_fn(hparams, flax.nnx.Rngs(0), vtune.Shapes((4,), 3))(x)",
    ),
    case(
        "a model_fn for other inputs",
        lambda: search(model_fn=lambda shapes: Linear(9, CLASSES)),
        *("model_fn raised TypeError", "(9,)", "Make it run by itself first"),
    ),
    case(
        "a model_fn of other arguments",
        lambda: search(model_fn=lambda width: Linear(COLUMNS, CLASSES)),
        *("model_fn raised TypeError", "'width'", "model_fn(hparams, flax.nnx.Rngs(0), vtune.Shapes((4,), 3))"),
    ),
    case(
        "too many outputs",
        lambda: search(model_fn=lambda shapes: Linear(COLUMNS, 7)),
        *("puts out shape (2, 7) for 2 rows", "these data need (2, 3)", "a layer of shapes.outputs (here 3) units"),
    ),
    case(
        "no Flax module",
        lambda: search(model_fn=lambda hparams: lambda x: x),
        *("model_fn returned function", "no Flax module", "Return an nnx.Module such as nnx.Linear("),
        error=ModelError,
    ),
    case(
        "a model_fn that returns nothing",
        lambda: search(model_fn=lambda hparams: None),
        *("model_fn returned NoneType", "no Flax module", "Return an nnx.Module"),
        error=ModelError,
    ),
    case(
        "a model_fn that reads a name not in the space",
        lambda: search(model_fn=reads_a_name_that_is_not_there),
        *("hparams['widht'] was read", "the space has no 'widht' (it has: learning_rate", "Add it to the space, for"),
        "hparams.get('widht', default)",
    ),
]

ARGUMENTS = [
    *(
        case(f"{name}={value}", lambda name=name, value=value: search(**{name: value}), f"{name}={value}", why, instead)
        for name, value, why, instead in [
            ("trials", 0, "must be a whole number of 1 or more", "Write for example trials=256"),
            ("trials", -1, "must be a whole number of 1 or more", "Write for example trials=256"),
            ("epochs", 0, "must be a whole number of 1 or more", "Write for example epochs=20"),
            ("chunk", 0, "must be a whole number of 1 or more", "Write for example chunk=64"),
            ("chunk", -4, "must be a whole number of 1 or more", "Write for example chunk=64"),
            ("seed", -1, "must be a whole number of 0 or more", "Write for example seed=0"),
            ("finalists", -1, "must be a whole number of 0 or more", "Write for example finalists=8"),
            ("seeds_per_trial", 0, "must be a whole number of 1 or more", "Write for example seeds_per_trial=3"),
            ("devices", 0, "needs at least one device", "Write devices=1, or leave it out"),
            ("devices", -1, "needs at least one device", "Write devices=1, or leave it out"),
            ("devices", 99, "there are only 4 here", "Write devices=4"),
            ("devices", [], "a search needs a device", "Write devices=jax.local_devices(), or leave it out"),
        ]
    ),
    *(
        case(
            f"{name}={value}", lambda name=name, value=value: search(**{name: value}), f"{name}='{value}'", why, instead
        )
        for name, value, why, instead in [
            ("strategy", "corse_to_fine", "no such strategy", "did you mean 'coarse_to_fine'?"),
            ("optimizer", "adm", "not known", "did you mean 'adam'?"),
            ("optimizer", "lion", "not known", "write one of 'adam', 'momentum', 'rmsprop', 'sgd'"),
            ("loss", "crossentropy", "not known", "did you mean 'cross_entropy'?"),
            ("metric", "acuracy", "not known", "did you mean 'accuracy'?"),
            ("direction", "up", "not known", "write one of 'auto', 'minimize', 'maximize'"),
            ("select", "first", "not known", "write one of 'last', 'best_epoch'"),
            ("chunk", "big", "must be a whole number of 1 or more", "Write for example chunk=64"),
        ]
    ),
    case(
        "a loss and a metric for different y",
        lambda: search(loss="cross_entropy", metric="mse"),
        *("loss='cross_entropy' takes y for classes and metric='mse' for targets", "Leave one of them out"),
    ),
    case(
        "a direction against the metric",
        lambda: search(metric="accuracy", direction="minimize"),
        *("direction='minimize'", "would rank the worst 'accuracy' first", "Leave direction out"),
    ),
    case(
        "a metric without a direction",
        lambda: search(metric=absolute_error),
        *("metric=absolute_error", "does not say which way is better", "Add direction='minimize' or 'maximize'"),
    ),
    case(
        "a metric named like a column of the curves",
        lambda: search(metric=loss, direction="minimize"),
        *("metric=loss", "study.curves has a 'loss' already", "Rename the function, for example to my_loss"),
    ),
    case(
        "a loss that averages over rows",
        lambda: search(loss=mean_loss),
        *("loss=mean_loss returned shape ()", "every row needs one number: shape (2,)", "Write for example jnp."),
    ),
    case(
        "a loss that raises",
        lambda: search(loss=failing_loss),
        *("loss=failing_loss raised RuntimeError: no such class", "outputs of shape (2, 3) and y of shape (2,), int32"),
        "Write a function of (outputs, y) that returns one number a row",
    ),
    case(
        "a metric of another shape",
        lambda: search(metric=lambda outputs, y: outputs, direction="minimize"),
        *("metric=<lambda> returned shape (2, 3)", "every row needs one number: shape (2,)", "Write for example jnp."),
    ),
    case(
        "a loss for x and y of a regression",
        lambda: data(X, TARGETS, loss=lambda outputs, y: (outputs - y) ** 2),
        *("loss=<lambda> returned shape (2, 1)", "every row needs one number: shape (2,)", ".mean(axis=-1)"),
    ),
]


@pytest.fixture(scope="module", autouse=True)
def warm():
    """Splitting data takes tiny programs, whatever the data; a refusal after it compiles them."""
    with pytest.raises(ValueError, match="batch_size"):
        search(space={**SPACE, "batch_size": 10_000})


@pytest.fixture
def programs(monkeypatch):
    """The programs that were made: none must be, let alone traced."""
    made = []
    monkeypatch.setattr(Program, "__init__", lambda self, *arguments: made.append(arguments))
    return made


@pytest.mark.parametrize(("call", "error", "pieces"), [*SPACES, *DATA, *MODELS, *ARGUMENTS])
def test_bad_input_is_refused_before_anything_compiles(call, error, pieces, programs):
    with Compilations() as compilations, pytest.raises(error) as refusal:
        call()
    message = str(refusal.value)
    assert type(refusal.value) is error
    assert [piece for piece in pieces if piece not in message] == [], message
    assert (programs, compilations.count) == ([], 0)


def test_compilations_are_counted():
    with Compilations() as compilations:
        jax.jit(lambda x: x * 3)(X)
    assert compilations.count == 1


# Folders


def test_a_folder_below_a_file_is_refused_before_anything_compiles(tmp_path, programs):
    (tmp_path / "file").write_text("")
    with Compilations() as compilations, pytest.raises(NotADirectoryError) as refusal:
        search(folder=tmp_path / "file" / "study")
    for piece in (f'folder "{tmp_path / "file" / "study"}"', "cannot be made", "write one whose parents are folders"):
        assert piece in str(refusal.value)
    assert (programs, compilations.count) == ([], 0)


@pytest.mark.parametrize(
    ("name", "error", "pieces"),
    [
        ("study.json", ValueError, ["study.json is not in the format", "write the folder of a vtune search"]),
        ("trials.csv", FileExistsError, ["holds a trials.csv but no study.json", "write a new name, such as"]),
    ],
)
def test_a_folder_of_something_else_is_refused_and_left_as_it_is(tmp_path, programs, name, error, pieces):
    (tmp_path / name).write_text("{}")
    with Compilations() as compilations, pytest.raises(error) as refusal:
        search(folder=tmp_path)
    for piece in pieces:
        assert piece in str(refusal.value)
    assert (programs, compilations.count) == ([], 0)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "{}")]


def test_a_refused_search_makes_no_folder(tmp_path):
    with pytest.raises(ValueError, match="optimizer"):
        search(optimizer="adm", folder=tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


# Wrong types: in a process of its own, as the checks of signatures in this one would come first

WRONG_TYPES = [
    ("model_fn=3", "TypeError", "model_fn=3 cannot be called", "Write a function that returns a Flax module"),
    ("model_fn='MLP'", "TypeError", "model_fn='MLP' cannot be called", "or vtune.MLP"),
    ("model_fn=lambda shapes: Pair()", "ModelError", "Flax module returned a tuple", "Return the array alone"),
    ("space=[1]", "TypeError", "[1] is not a dict", "Write {'learning_rate': loguniform(1e-4, 1.0)}"),
    ("strategy=3", "TypeError", "strategy=3 is no strategy", "Write a name, 'coarse_to_fine'"),
    ("strategy=vtune.strategies.random", "TypeError", "is no strategy", "call what makes it"),
    ("strategy=dict", "TypeError", "is no strategy", "call what makes it"),
    ("trials=2.5", "ValueError", "trials=2.5: this must be a whole number", "trials=256"),
    ("trials='4'", "ValueError", "trials='4': this must be a whole number", "trials=256"),
    ("epochs=None", "ValueError", "epochs=None: this must be a whole number", "epochs=20"),
    ("seed=0.5", "ValueError", "seed=0.5: this must be a whole number", "seed=0"),
    ("seed='a'", "ValueError", "seed='a': this must be a whole number", "seed=0"),
    ("seed=True", "ValueError", "seed=True: this must be a whole number", "seed=0"),
    ("chunk=2.0", "ValueError", "chunk=2.0: this must be a whole number", "chunk=64"),
    ("optimizer=['adam']", "ValueError", "optimizer=['adam'] is not known", "did you mean 'adam'?"),
    ("optimizer=None", "ValueError", "optimizer=None is not known", "write one of 'adam', 'momentum'"),
    ("loss=3", "TypeError", "loss=3 is of the wrong type", "write one of 'auto', 'cross_entropy', 'mse'"),
    ("metric=3", "TypeError", "metric=3 is of the wrong type", "write one of 'auto', 'loss', 'accuracy', 'mse'"),
    ("direction=1", "TypeError", "direction=1 is of the wrong type", "write one of 'auto', 'minimize', 'maximize'"),
    ("select=None", "TypeError", "select=None is of the wrong type", "write one of 'last', 'best_epoch'"),
    ("devices='cpu'", "TypeError", "devices='cpu' is neither a number nor a list of JAX devices", "Write devices=1"),
    ("devices=[0]", "TypeError", "devices=[0] is neither a number nor a list of JAX devices", "Write devices=1"),
    ("devices=1.5", "TypeError", "devices=1.5 is neither", "leave it out for all of them"),
    ("devices=True", "TypeError", "devices=True is neither", "leave it out for all of them"),
    ("executor=3", "ValueError", "executor=3 is not known", "write one of 'queue', 'mesh'"),
    ("folder=3", "TypeError", "folder=3 is no path", "Write one as a string"),
    ("data=vtune.Data.of(data, standardize='yes')", "TypeError", "standardize='yes' is neither", "standardize=True to"),
    ("data=vtune.Data(data, data, standardize=1)", "TypeError", "standardize=1 is neither True nor", "or leave it out"),
    ("data=vtune.Data(data, data, None, None)", "TypeError", "standardize=None is neither True", "or leave it out"),
    ("progress=3", "TypeError", "progress=3 is no bool and lacks a method", "write progress=True"),
    ("study=3", "TypeError", "study=3 is no study and no path", "Write what vtune.search returned, or its folder"),
    ("study='old', seeds=2.5", "ValueError", "seeds=2.5: this must be a whole number of 2 or more", "seeds=8"),
    ("study='old', tolerance='no'", "ValueError", "tolerance='no' is no difference", "such as 0.005"),
    ("study='old', folder=3", "TypeError", "folder=3 is no path", "Write one as a string"),
]
"""Arguments of a search; with a study among them, of a retest."""

_SCRIPT = """
import json, sys
import numpy as np
import jax, vtune
from flax import nnx

class Pair(nnx.Module):
    def __init__(self):
        self.layer = nnx.Linear(2, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.layer(x), x

compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **_: compiled.append(event) if event.endswith("backend_compile_duration") else None
)
space = {"learning_rate": vtune.loguniform(1e-3, 1e-1), "batch_size": 16}
data = np.arange(80.0, dtype=np.float32).reshape(40, 2), np.arange(40) % 2

def outcome(written):
    arguments = {"model_fn": vtune.MLP, "space": space, "data": data, "trials": 4, "epochs": 1, "progress": False}
    num_compiled = len(compiled)
    try:
        changes = eval(f"dict({written})")
        if "study" in changes:
            vtune.retest(**{"data": data, "progress": False} | changes)
        else:
            vtune.search(**arguments | changes)
    except BaseException as error:
        return type(error).__name__, str(error), len(compiled) - num_compiled
    return "no error", "", 0

outcome("space={**space, 'batch_size': 10_000}")  # refused once the data are split, which takes tiny programs
print(json.dumps({written: outcome(written) for written in json.loads(sys.argv[1])}))
"""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, list[Any]]:
    calls = json.dumps([written for written, *_ in WRONG_TYPES])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, calls], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("written", "error", "problem", "instead"), WRONG_TYPES, ids=[case[0] for case in WRONG_TYPES])
def test_a_wrong_type_is_refused_before_anything_compiles(outcomes, written, error, problem, instead):
    kind, message, num_compiled = outcomes[written]
    assert (kind, num_compiled) == (error, 0)
    assert problem in message
    assert instead in message


# What looks odd and is taken


def assert_same(study: vtune.Study, other: vtune.Study) -> None:
    pd.testing.assert_frame_equal(study.curves, other.curves, check_exact=True)
    left, right = (each.trials.drop(columns=["finished_at", "seconds"]) for each in (study, other))
    pd.testing.assert_frame_equal(left, right, check_exact=True)


@pytest.fixture(scope="module")
def plain() -> vtune.Study:
    return data(X, LABELS)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("x", "y"),
    [
        pytest.param(X, LABELS[:, None], id="labels of shape (n, 1)"),
        pytest.param(read_only(X), read_only(LABELS), id="read-only"),
        pytest.param(np.repeat(X, 2, axis=1)[:, ::2], np.repeat(LABELS, 2)[::2], id="not contiguous"),
        pytest.param(np.asfortranarray(X), LABELS.astype(np.uint8), id="columns first, small integers"),
        pytest.param(pd.DataFrame(X, columns=list("abcd")), pd.Series(LABELS, name="class"), id="pandas"),
        pytest.param(pd.DataFrame(X), pd.DataFrame({"class": LABELS}), id="a data frame for y"),
        pytest.param(jnp.asarray(X), jnp.asarray(LABELS), id="JAX arrays"),
        pytest.param(X.tolist(), LABELS.tolist(), id="lists"),
    ],
)
def test_the_same_numbers_in_another_form_train_the_same(plain, x, y):
    assert_same(data(x, y), plain)


def test_float64_is_converted_and_said_once(plain):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        study = data(X.astype(np.float64), LABELS)
    assert [str(warning.message) for warning in caught] == [
        "float64 data are trained in float32, JAX's default; write x.astype(np.float32) to say so yourself, or "
        'jax.config.update("jax_enable_x64", True) to train in float64'
    ]
    assert_same(study, plain)


def test_integer_x_trains_as_the_floats_it_stands_for():
    whole = (X * 5).astype(int)
    assert_same(data(whole, LABELS), data(whole.astype(np.float32), LABELS))


def test_distributions_of_optuna_are_taken(plain):
    assert_same(space(learning_rate=optuna.distributions.FloatDistribution(1e-3, 1e-1, log=True)), plain)


def test_whole_floats_are_labels_where_the_loss_says_so(plain):
    assert_same(data(X, LABELS.astype(np.float32), loss="cross_entropy"), plain)


@pytest.mark.long
def test_float_y_are_the_targets_of_a_regression():
    study = data(X, TARGETS)
    assert (study.metric, study.data.kind, len(study.trials)) == ("mse", "targets", 4)
    assert list(study.curves.columns) == ["train_loss", "loss", "mse"]
    assert study.best_score == study.trials["score"].min() < study.trials["score"].max()
    assert study.best_params["learning_rate"] == study.trials["learning_rate"][study.trials["score"].idxmin()]
    x, y = study.data.valid
    assert y.shape == (12, 1)
    np.testing.assert_allclose(((np.asarray(study.best_model(x)) - y) ** 2).mean(), study.best_score, rtol=1e-5)
