"""A search on standardized data, from the raw numbers of a user to results in his own units."""

import json
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import linen, nnx
from sklearn.datasets import load_breast_cancer, load_diabetes

import vtune
from tests.laws.population import float64
from vtune.training.trained import Standardized

SPACE = {"learning_rate": vtune.loguniform(1e-3, 1e-1), "batch_size": 32, "hidden": 8, "layers": 1}
SETTINGS = {"strategy": "random", "trials": 8, "epochs": 5, "chunk": 4, "devices": 1, "progress": False}
PARTS = {"train": slice(300), "valid": slice(300, 370), "test": slice(370, None)}


def data_of(x: Any, y: Any, **options: Any) -> vtune.Data:
    return vtune.Data(**{part: (x[rows], y[rows]) for part, rows in PARTS.items()}, **options)


def diabetes(**options: Any) -> vtune.Data:
    """Ages, blood pressures, ... of sizes from 1 to 200, and the progress of the disease, from 25 to 346."""
    x, y = (array.astype(np.float32) for array in load_diabetes(return_X_y=True, scaled=False))
    return data_of(x, y, **options)


def cancer(**options: Any) -> vtune.Data:
    x, y = load_breast_cancer(return_X_y=True)
    return data_of(x.astype(np.float32), y, **options)


def search(data: Any, **changes: Any) -> vtune.Study:
    arguments = {"model_fn": vtune.MLP, "space": SPACE, "data": data} | SETTINGS | changes
    return vtune.search(**arguments)


def mean_square(model: Any, part: Any) -> float:
    x, y = part
    return float(((np.asarray(model(x), np.float64) - y) ** 2).mean())


def share_of_hits(model: Any, part: Any) -> float:
    x, y = part
    return float((np.argmax(np.asarray(model(x)), axis=-1) == y).mean())


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> vtune.Study:
    return search(diabetes(standardize=True), folder=tmp_path_factory.mktemp("studies") / "study")


@pytest.fixture(scope="module")
def classes() -> vtune.Study:
    return search(cancer(standardize=True))


# Results in the user's own units


def test_the_score_is_the_error_of_the_best_model_on_raw_rows(study):
    assert study.metric == "mse"
    assert study.best_score == pytest.approx(mean_square(study.best_model, study.data.valid), rel=1e-5)
    assert study.test_score == pytest.approx(mean_square(study.best_model, study.data.test), rel=1e-5)


def test_the_parts_of_the_study_are_raw(study):
    assert study.data.train[1].max() == study.data.train[1].max().round() > 300
    np.testing.assert_array_equal(study.data.test[0], diabetes().test[0])


def test_the_losses_are_those_of_standardized_targets(study):
    scale = float(study.data.y_units.scale[0])
    assert scale == pytest.approx(study.data.train[1].std(), rel=1e-5)
    np.testing.assert_allclose(study.curves["loss"] * scale**2, study.curves["mse"], rtol=1e-4)
    assert study.curves["train_loss"].max() < 10


def test_standardizing_is_worth_the_word(study):
    with pytest.warns(UserWarning, match=r"^7 of 10 columns of x are far from 1 .*, and y is about 170 in size\."):
        raw = search(diabetes())
    assert study.best_score < 0.85 * raw.best_score  # 3113 and 4086 when this was written
    assert study.test_score < 0.85 * raw.test_score
    assert raw.best_score == pytest.approx(mean_square(raw.best_model, raw.data.valid), rel=1e-4)


@pytest.mark.long
def test_it_is_worth_it_for_classes_too(classes):
    with pytest.warns(UserWarning, match="columns of x are far from 1"):
        raw = search(cancer())
    assert classes.best_score > max(0.95, raw.best_score)
    assert classes.best_score == pytest.approx(share_of_hits(classes.best_model, classes.data.valid), abs=1e-6)
    assert classes.test_score == pytest.approx(share_of_hits(classes.best_model, classes.data.test), abs=1e-6)


@pytest.mark.long
def test_a_metric_of_the_users_own_is_given_his_own_units():
    def worst_share(outputs, y):
        return jnp.abs(outputs / y - 1).max(axis=-1)

    study = search(diabetes(standardize=True), metric=worst_share, direction="minimize", trials=4)
    for score, (x, y) in ((study.best_score, study.data.valid), (study.test_score, study.data.test)):
        assert score == pytest.approx(np.abs(np.asarray(study.best_model(x)) / y - 1).mean(), rel=1e-5)


@pytest.mark.long
def test_a_metric_sees_targets_to_the_bit():
    def is_zero(outputs, y):
        return (y == 0).all(axis=-1).astype(outputs.dtype)

    x, y = (array.astype(np.float32) for array in load_diabetes(return_X_y=True, scaled=False))
    y[::3] = 0
    study = search(data_of(x, y, standardize=True), metric=is_zero, direction="maximize", trials=4)
    assert study.best_score == pytest.approx((y[PARTS["valid"]] == 0).mean(), abs=1e-6)


def test_a_loss_that_ranks_is_that_of_standardized_targets_on_the_test_rows_too():
    study = search(diabetes(standardize=True), metric="loss", trials=4)
    variance = float(study.data.y_units.scale[0]) ** 2
    assert study.best_score == pytest.approx(mean_square(study.best_model, study.data.valid) / variance, rel=1e-4)
    assert study.test_score == pytest.approx(mean_square(study.best_model, study.data.test) / variance, rel=1e-4)


def test_the_same_study_again_is_the_same(study):
    again = search(diabetes(standardize=True))
    np.testing.assert_array_equal(again.curves.to_numpy(), study.curves.to_numpy())
    np.testing.assert_array_equal(again.best_model(again.data.test[0]), study.best_model(study.data.test[0]))


def test_what_a_study_says_tells_that_it_is_standardized(study):
    said = "Data(1 target, inputs (10,), 300 train + 70 valid + 72 test rows, standardized)"
    assert study.summary().startswith(said)
    assert json.loads((study.folder.path / "study.json").read_text())["data"] == said
    assert said in study._repr_html_()


# The best model


def test_it_is_an_nnx_module_that_holds_the_trained_one_at_its_true_size(study):
    model = study.best_model
    assert isinstance(model, nnx.Module)
    assert isinstance(model.network, vtune.MLP)
    weights = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert jax.tree.map(jnp.shape, weights) == {
        "network": {
            "hidden_1": {"kernel": (10, 8), "bias": (8,)},
            "output": {"kernel": (8, 1), "bias": (1,)},
        }
    }


def test_the_network_in_it_is_given_the_bits_that_it_was_trained_on(study, monkeypatch):
    seen = []
    monkeypatch.setattr(vtune.MLP, "__call__", lambda self, x: seen.append(np.asarray(x)) or jnp.zeros((len(x), 1)))
    study.best_model(study.data.valid[0])
    np.testing.assert_array_equal(seen[0], study.data.scaled[1][0])


def test_without_standardizing_the_best_model_is_the_trained_module():
    x, y = (array.astype(np.float32) for array in load_diabetes(return_X_y=True))
    study = search(data_of(x, y / 100), trials=4, epochs=1)
    assert type(study.best_model) is vtune.MLP


def test_it_can_be_split_merged_compiled_and_mapped(study):
    x = jnp.asarray(study.data.test[0])
    expected = study.best_model(x)
    model = nnx.merge(*nnx.split(study.best_model))
    np.testing.assert_array_equal(model(x), expected)
    for call in (jax.jit(lambda x: model(x)), lambda x: nnx.jit(lambda model, x: model(x))(model, x)):
        np.testing.assert_allclose(call(x), expected, rtol=1e-5)
    row_by_row = jax.vmap(lambda row: model(row[None])[0])(x)
    np.testing.assert_allclose(row_by_row, expected, rtol=1e-5)


def test_it_can_be_trained_on_and_keeps_its_units(study):
    model = nnx.clone(study.best_model)
    x, y = map(jnp.asarray, study.data.train)
    grads = nnx.grad(lambda model: ((model(x) - y) ** 2).mean())(model)
    assert set(nnx.to_pure_dict(nnx.state(grads))) == {"network"}


@pytest.mark.parametrize("form", [pd.DataFrame, np.ndarray.tolist, jnp.asarray, lambda x: x.astype(np.float64)])
def test_it_takes_raw_rows_in_any_form(study, form):
    x = study.data.test[0]
    np.testing.assert_array_equal(study.best_model(form(x)), study.best_model(x))


def test_it_takes_integers_larger_than_jax_would_hold():
    x, y = load_diabetes(return_X_y=True, scaled=False)
    x = np.rint(x * 1e9).astype(np.int64)
    study = search(data_of(x, y.astype(np.float32), standardize=True), trials=4, epochs=2)
    assert study.best_score == pytest.approx(mean_square(study.best_model, (x[PARTS["valid"]], study.data.valid[1])))


class LinenNet(linen.Module):
    outputs: int

    @linen.compact
    def __call__(self, x, train):
        dtype = jnp.result_type(float)
        x = linen.tanh(linen.Dense(8, param_dtype=dtype)(x.reshape(x.shape[0], -1)))
        x = linen.Dropout(0.1, deterministic=not train)(x)
        return linen.Dense(self.outputs, param_dtype=dtype)(x)


class PlainLinenNet(linen.Module):
    outputs: int

    @linen.compact
    def __call__(self, x):
        return linen.Dense(self.outputs, param_dtype=jnp.result_type(float))(x.reshape(x.shape[0], -1))


class ToldNet(nnx.Module):
    """Told by an argument of its call whether it trains."""

    def __init__(self, rngs, shapes):
        dtype = jnp.result_type(float)
        self.first = nnx.Linear(10, 8, param_dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(8, shapes.outputs, param_dtype=dtype, rngs=rngs)

    def __call__(self, x, train):
        return self.last(self.dropout(nnx.relu(self.first(x)), deterministic=not train))


MODELS = {
    "linen": (lambda shapes: PlainLinenNet(shapes.outputs), False),
    "linen, told by an argument": (lambda shapes: LinenNet(shapes.outputs), True),
    "nnx, told by an argument": (ToldNet, True),
}


@pytest.mark.long
@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(("model_fn", "is_partial"), MODELS.values(), ids=MODELS)
def test_models_of_every_kind_take_raw_rows_and_give_own_units(model_fn, is_partial, x64):
    space = {name: SPACE[name] for name in ("learning_rate", "batch_size")}

    def check():
        study = search(diabetes(standardize=True), model_fn=model_fn, space=space, trials=2)
        model: Any = study.best_model
        assert isinstance(model, partial) == is_partial
        assert isinstance(model.func if is_partial else model, Standardized)
        assert study.best_score == pytest.approx(mean_square(model, study.data.valid), rel=1e-5)
        assert study.test_score == pytest.approx(mean_square(model, study.data.test), rel=1e-5)
        assert model(study.data.test[0]).dtype == study.data.dtype

    if x64:
        with float64():
            check()
    else:
        check()


@pytest.mark.long
def test_images_are_standardized_as_a_whole():
    images = np.random.default_rng(0).integers(0, 256, (442, 4, 4)).astype(np.uint8)
    y = (images.mean(axis=(1, 2)) > 127).astype(int)
    study = search(data_of(images, y, standardize=True), trials=4)
    valid = images[PARTS["valid"]], y[PARTS["valid"]]
    assert study.best_score == pytest.approx(share_of_hits(study.best_model, valid), abs=1e-6)
