"""A model function as pure functions of its weights: the same numbers as the module itself, whatever kind it is."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from tests import user_models
from vtune.keys import Purpose
from vtune.protocols import Shapes
from vtune.training.networks import Network

KEY = jax.random.key(3, impl="threefry2x32")
SHAPES = Shapes(inputs=(64,), outputs=10)
X = np.linspace(-1, 1, 5 * 64, dtype=np.float32).reshape(5, 64)


def rngs():
    """Random streams as a network gives them to a model function."""
    weights, noise = (jax.random.fold_in(KEY, purpose) for purpose in (Purpose.WEIGHTS, Purpose.NOISE))
    return nnx.Rngs(params=weights, default=noise)


def network_of(model_fn):
    return Network(model_fn, SHAPES)


def outputs_of(network, weights, *, is_training, hparams=None):
    return network.apply(weights, hparams or {}, jnp.asarray(X), KEY, is_training=is_training)


def equal(ours, truth):
    np.testing.assert_allclose(ours, truth, rtol=1e-6, atol=1e-7)


# What a model function may ask for


@pytest.mark.parametrize(
    ("model_fn", "expected"),
    [
        (lambda hparams, rngs, shapes: told(hparams=hparams, rngs=rngs, shapes=shapes), {"hparams", "rngs", "shapes"}),
        (lambda shapes, hparams: told(hparams=hparams, shapes=shapes), {"hparams", "shapes"}),
        (lambda rngs, *, depth=2: told(rngs=rngs), {"rngs"}),
        (lambda: told(), set()),
        (lambda **given: told(**given), {"hparams", "rngs", "shapes"}),
        (partial(lambda depth, hparams: told(hparams=hparams), 3), {"hparams"}),
    ],
)
def test_a_model_function_is_given_what_it_names(model_fn, expected):
    module = network_of(model_fn)._build(KEY, {"width": 3})
    assert isinstance(module, Told)
    assert module.given.keys() == expected
    assert module.given.get("hparams", {"width": 3}) == {"width": 3}
    assert module.given.get("shapes", SHAPES) == SHAPES


class Told(linen.Module):
    given: dict


def told(**given):
    return Told(given)


class ByClass(nnx.Module):
    def __init__(self, hparams, rngs, depth=1):
        self.layer = nnx.Linear(64, hparams["width"] * depth, rngs=rngs)

    def __call__(self, x):
        return self.layer(x)


@pytest.mark.parametrize("model_fn", [ByClass, partial(ByClass, depth=1)])
def test_an_nnx_class_is_a_model_function(model_fn):
    network = network_of(model_fn)
    weights = network.init(KEY, {"width": 10})
    equal(outputs_of(network, weights, is_training=True, hparams={"width": 10})[0], ByClass({"width": 10}, rngs())(X))


def test_a_linen_class_is_a_model_function():
    network = network_of(user_models.LinenMLP)
    with pytest.raises(TypeError, match="width"):
        network.init(KEY, {})

    class Takes(linen.Module):
        hparams: dict

        @linen.compact
        def __call__(self, x):
            return linen.Dense(self.hparams["width"])(x)

    params, _ = network_of(Takes).init(KEY, {"width": 7})
    assert params["Dense_0"]["kernel"].shape == (64, 7)


@pytest.mark.parametrize("returned", [None, 3.0, (1, 2), linen.Dense, nnx.Linear])
def test_what_is_no_module_is_refused(returned):
    with pytest.raises(TypeError, match="is no Flax module. Return an nnx.Module such as"):
        network_of(lambda: returned).init(KEY, {})


# nnx


def test_an_nnx_module_starts_with_its_own_weights_and_puts_out_its_own_outputs():
    network, truth = network_of(user_models.fixed_width), user_models.fixed_width(rngs(), SHAPES)
    weights = network.init(KEY, {})
    assert weights[1] == {}
    first = truth.layers[0]
    assert isinstance(first, nnx.Linear)
    np.testing.assert_array_equal(weights[0]["layers"][0]["kernel"], first.kernel[...])
    for outputs in (outputs_of(network, weights, is_training=True)[0], network.module(weights, {})(X)):
        equal(outputs, truth(X))


def test_dropout_and_batch_statistics_of_nnx_count_on_from_call_to_call():
    hparams = {"rate": 0.5}
    network, truth = network_of(user_models.noisy), user_models.noisy(rngs(), hparams)
    params, state = network.init(KEY, hparams)
    assert all(not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in jax.tree.leaves(state))
    seen = []
    for _ in range(3):
        truth.train()
        outputs, state = outputs_of(network, (params, state), is_training=True, hparams=hparams)
        equal(outputs, truth(X))
        equal(state["norm"]["mean"], truth.norm.mean[...])
        seen.append(outputs)
    assert not np.array_equal(seen[0], seen[1])
    truth.eval()
    outputs, after = outputs_of(network, (params, state), is_training=False, hparams=hparams)
    equal(outputs, truth(X))
    jax.tree.map(np.testing.assert_array_equal, after, state)
    equal(network.module((params, state), hparams)(X), truth(X))


def test_a_module_of_weights_on_the_host_may_keep_counting():
    class Counting(nnx.Module):
        def __init__(self, rngs):
            self.rngs, self.layer = rngs, nnx.Linear(64, 10, rngs=rngs)

        def __call__(self, x):
            return self.layer(x) + jax.random.normal(self.rngs.noise(), (10,))[None, :]

    network = network_of(Counting)
    weights = jax.tree.map(np.asarray, network.init(KEY, {}))
    module, truth = network.module(weights, {}), Counting(rngs())
    for _ in range(2):
        equal(module(X), truth(X))


def test_a_traced_hyperparameter_may_be_an_attribute():
    hparams = {"slope": 0.2, "scale": 0.5}
    network, truth = network_of(user_models.Leaky), user_models.Leaky(hparams, rngs())

    @jax.jit
    def run(hparams):
        return outputs_of(network, network.init(KEY, hparams), is_training=True, hparams=hparams)[0]

    np.testing.assert_allclose(run(hparams), truth(X), rtol=1e-5, atol=1e-6)


# linen


def test_a_linen_module_starts_with_its_own_weights_and_puts_out_its_own_outputs():
    hparams, truth = {"width": 16}, user_models.LinenMLP(16, 10)
    network = network_of(user_models.linen_mlp)
    variables = truth.init(jax.random.fold_in(KEY, Purpose.WEIGHTS), X)
    weights = network.init(KEY, hparams)
    assert weights[1] == {}
    jax.tree.map(np.testing.assert_array_equal, weights[0], variables["params"])
    for is_training in (True, False):
        outputs, state = outputs_of(network, weights, is_training=is_training, hparams=hparams)
        equal(outputs, truth.apply(variables, X))
        assert state == {}
    equal(network.module(weights, hparams)(X), truth.apply(variables, X))


def test_batch_statistics_of_linen_are_updated_by_training_alone():
    hparams, truth = {"rate": 0.5}, user_models.LinenNoisy(0.5)
    network = network_of(user_models.linen_noisy)
    params, state = network.init(KEY, hparams)
    streams = {"dropout": KEY}
    expected, updated = truth.apply({"params": params, **state}, X, True, rngs=streams, mutable=["batch_stats"])
    outputs, after = outputs_of(network, (params, state), is_training=True, hparams=hparams)
    equal(outputs, expected)
    jax.tree.map(equal, after, updated)
    assert not np.array_equal(after["batch_stats"]["BatchNorm_0"]["mean"], state["batch_stats"]["BatchNorm_0"]["mean"])
    outputs, evaluated = outputs_of(network, (params, after), is_training=False, hparams=hparams)
    equal(outputs, truth.apply({"params": params, **updated}, X, False))
    jax.tree.map(np.testing.assert_array_equal, evaluated, after)
    equal(network.module((params, after), hparams)(X), outputs)


# Keywords by which a module is told that it trains


def linen_with(flag, default):
    namespace: dict[str, Any] = {"linen": linen}
    source = f"def __call__(self, x, {flag}{default}):\n    return linen.Dense(10)(x) * (2.0 if {flag} else 1.0)"
    exec(source, namespace)
    return type("WithFlag", (linen.Module,), {"__call__": linen.compact(namespace["__call__"])})


@pytest.mark.parametrize("default", ["", "=None", "=True", "=False"])
@pytest.mark.parametrize("flag", ["train", "training", "is_training", "deterministic"])
def test_each_keyword_says_whether_it_trains(flag, default):
    network = network_of(linen_with(flag, default))
    weights = network.init(KEY, {})
    plain = X @ weights[0]["Dense_0"]["kernel"]
    for is_training in (True, False):
        factor = 2.0 if is_training == (flag != "deterministic") else 1.0
        np.testing.assert_allclose(
            outputs_of(network, weights, is_training=is_training)[0], factor * plain, rtol=1e-4, atol=1e-5
        )
    in_evaluation = 2.0 if flag == "deterministic" else 1.0
    np.testing.assert_allclose(network.module(weights, {})(X), in_evaluation * plain, rtol=1e-4, atol=1e-5)


def test_an_nnx_module_is_told_by_its_keyword_too():
    class Told(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(64, 10, rngs=rngs)

        def __call__(self, x, *, train):
            return self.layer(x) * (2.0 if train else 1.0)

    network = network_of(Told)
    weights = network.init(KEY, {})
    evaluated = network.module(weights, {})(X)
    equal(evaluated, Told(rngs())(X, train=False))
    equal(outputs_of(network, weights, is_training=False)[0], evaluated)
    equal(outputs_of(network, weights, is_training=True)[0], 2 * evaluated)
