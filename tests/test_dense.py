"""The linear part of a dense layer: its derivatives are those of the plain formula, in every direction and shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.test_util import check_grads

from vtune.precision import float_precision
from vtune.training.dense import linear

SHAPES = {
    "a tall kernel": (8, 64, 24),
    "a flat one": (32, 16, 24),
    "an odd number of rows": (7, 5, 3),
    "rows that halve twice": (12, 64, 10),
    "one row": (1, 9, 4),
    "no row": (0, 9, 4),
}


def plain(x: Array, kernel: Array, bias: Array) -> Array:
    return x @ kernel + bias[None, :]


@pytest.fixture(params=["cpu", "another backend"], autouse=True)
def _on(request, monkeypatch):
    if request.param != "cpu":
        monkeypatch.setattr(jax, "default_backend", lambda: request.param)


def drawn(rows: int, inputs: int, outputs: int, lanes: tuple[int, ...] = ()) -> tuple[Array, Array, Array]:
    numbers = np.random.default_rng(0)
    shapes = (rows, inputs), (inputs, outputs), (outputs,)
    return tuple(jnp.asarray(numbers.standard_normal((*lanes, *shape))) for shape in shapes)


@pytest.fixture(autouse=True)
def _float64():
    with float_precision(np.dtype(np.float64)):
        yield


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_its_gradients_are_those_of_the_plain_formula(shape):
    arguments = drawn(*shape)

    def loss(function):
        return lambda *given: jnp.sum(jnp.sin(function(*given)))

    np.testing.assert_array_equal(linear(*arguments), plain(*arguments))
    gradients = [jax.jit(jax.grad(loss(f), argnums=(0, 1, 2)))(*arguments) for f in (linear, plain)]
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_it_is_differentiable_in_both_directions_and_twice(shape):
    def of_numpy(*arguments):  # as check_grads hands them in
        return linear(*map(jnp.asarray, arguments))

    check_grads(of_numpy, drawn(*shape), order=2, modes=["fwd", "rev"])


def test_lanes_are_differentiated_as_each_by_itself():
    arguments = drawn(8, 64, 24, lanes=(3,))

    def gradients(*given):
        return jax.grad(lambda *given: jnp.sum(jnp.sin(linear(*given))), argnums=(0, 1, 2))(*given)

    together = jax.vmap(gradients)(*arguments)
    for lane in range(3):
        alone = gradients(*(argument[lane] for argument in arguments))
        for ours, theirs in zip(together, alone, strict=True):
            np.testing.assert_allclose(ours[lane], theirs, rtol=1e-12, atol=1e-12)


def test_rows_of_whole_numbers_and_rows_that_nobody_differentiates_are_let_be():
    x, kernel, bias = drawn(8, 64, 24)
    whole = jnp.round(4 * x).astype(jnp.int32)

    def gradient(function):
        return jax.grad(lambda kernel: jnp.sum(jnp.sin(function(whole, kernel, bias))))(kernel)

    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(gradient(linear), gradient(plain), rtol=1e-12, atol=1e-12)
    traced = jax.make_jaxpr(jax.linearize(lambda kernel: linear(x, kernel, bias), kernel)[1])(kernel)
    assert str(traced).count("dot_general") == 1


def test_only_on_cpus_are_rows_transposed_beforehand():
    def traced() -> str:
        return str(jax.make_jaxpr(jax.grad(lambda *given: linear(*given).sum(), argnums=(0, 1, 2)))(*drawn(8, 64, 24)))

    assert ("optimization_barrier" in traced()) == (jax.default_backend() == "cpu")
