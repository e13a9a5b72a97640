"""The linear part of a dense layer: its derivatives are those of the plain formula, in every direction and shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.test_util import check_grads

from vtune.training.dense import linear

SHAPES = {
    "a tall kernel": (8, 64, 24),
    "a flat one": (32, 16, 24),
    "an odd number of rows": (7, 5, 3),
    "rows that halve twice": (12, 64, 10),
    "one row": (1, 9, 4),
}


def plain(x: Array, kernel: Array, bias: Array) -> Array:
    return x @ kernel + bias[None, :]


def drawn(rows: int, inputs: int, outputs: int, lanes: tuple[int, ...] = ()) -> tuple[Array, Array, Array]:
    numbers = np.random.default_rng(0)
    shapes = (rows, inputs), (inputs, outputs), (outputs,)
    return tuple(jnp.asarray(numbers.standard_normal((*lanes, *shape))) for shape in shapes)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_its_gradients_are_those_of_the_plain_formula(shape):
    arguments = drawn(*shape)

    def loss(function):
        return lambda *given: jnp.sum(jnp.sin(function(*given)))

    np.testing.assert_array_equal(linear(*arguments), plain(*arguments))
    for ours, theirs in zip(*(jax.grad(loss(f), argnums=(0, 1, 2))(*arguments) for f in (linear, plain)), strict=True):
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
