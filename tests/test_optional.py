"""What is computed of networks that lack a part, and what is skipped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vtune
from vtune.defaults import DEFAULTS
from vtune.precision import float_precision
from vtune.training.optimizers import OPTIMIZERS
from vtune.training.optional import NetworkParts, optional_layer

BATCH, ROOM, INPUTS, OUTPUTS = 5, 8, 6, 7


@pytest.fixture(autouse=True)
def in_float64():
    with float_precision(np.dtype(np.float64)):
        yield


def draws(*shape):
    return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape))


def optional_loss(kernel, x, has_layer):
    return (optional_layer(jnp.tanh, kernel, jnp.zeros(OUTPUTS), x, has_layer) ** 3).sum()


def plain_loss(kernel, x):
    return (jnp.pad(jnp.tanh(x[:, :INPUTS] @ kernel), ((0, 0), (0, ROOM - OUTPUTS))) ** 3).sum()


def test_an_optional_layer_that_is_there_is_a_plain_one_backward_too():
    kernel, x = draws(INPUTS, OUTPUTS), draws(BATCH, ROOM)
    found = jax.value_and_grad(optional_loss, argnums=(0, 1))(kernel, x, jnp.array(True))
    expected = jax.value_and_grad(plain_loss, argnums=(0, 1))(kernel, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15), found, expected)


def test_an_optional_layer_that_is_not_there_hands_on_what_it_is_given():
    kernel, x = draws(INPUTS, OUTPUTS), draws(BATCH, ROOM)
    loss, (of_kernel, of_x) = jax.value_and_grad(optional_loss, argnums=(0, 1))(kernel, x, jnp.array(False))
    np.testing.assert_allclose(loss, (x**3).sum(), rtol=1e-12)
    np.testing.assert_allclose(of_x, 3 * x**2, rtol=1e-12)
    np.testing.assert_array_equal(of_kernel, np.zeros((INPUTS, OUTPUTS)))


def test_lanes_with_and_without_the_layer_are_what_they_are_alone():
    kernels, x, has_layer = draws(3, INPUTS, OUTPUTS), draws(BATCH, ROOM), jnp.array([True, False, True])
    gradient = jax.grad(optional_loss)
    together = jax.vmap(gradient, in_axes=(0, None, 0))(kernels, x, has_layer)
    alone = jnp.stack([gradient(kernel, x, there) for kernel, there in zip(kernels, has_layer, strict=True)])
    np.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-15)
    assert np.any(together[0])
    assert not np.any(together[1])


@pytest.mark.parametrize("has_layer", [(False, False), (False, True)])
def test_what_no_lane_has_is_not_computed(has_layer):
    counted = []

    def activation(x):  # counts how often it is gone through
        jax.debug.callback(lambda: counted.append(1))
        return jax.nn.relu(x)

    def loss(kernel, x, there):
        return optional_layer(activation, kernel, jnp.zeros(OUTPUTS), x, there).sum()

    lanes = jax.jit(jax.vmap(loss, in_axes=(0, None, 0)))
    jax.block_until_ready(lanes(draws(2, INPUTS, OUTPUTS), draws(BATCH, ROOM), jnp.array(has_layer)))
    jax.effects_barrier()
    assert bool(counted) == any(has_layer)


def test_neither_pass_is_computed_for_all_lanes_and_then_selected_from():
    lanes = jax.vmap(jax.grad(optional_loss), in_axes=(0, None, 0))
    arguments = draws(2, INPUTS, OUTPUTS), draws(BATCH, ROOM), jnp.array([True, False])
    conditions = [line for line in str(jax.make_jaxpr(lanes)(*arguments)).splitlines() if " cond[" in line]
    assert len(conditions) == 2  # forward and backward


def test_parts_are_worked_on_one_by_one_and_put_together_again():
    names = ("first", "second")
    weights = {"first": {"kernel": jnp.ones(3)}, "second": {"kernel": jnp.full(2, 2.0)}}
    adam = optax.adam(0.1)
    state = adam.init(weights)

    def step(state, grads):
        with jax.numpy_dtype_promotion("standard"):
            return adam.update(grads, state)[1]

    def rest(state, grads):
        return state

    alone = NetworkParts(names, {}).map(step, rest, state, weights)
    there, lacking = (
        NetworkParts(names, {"second": jnp.array(has_second)}).map(step, rest, state, weights)
        for has_second in (True, False)
    )
    jax.tree.map(np.testing.assert_array_equal, there, alone)
    np.testing.assert_array_equal(lacking[0].mu["first"]["kernel"], alone[0].mu["first"]["kernel"])
    np.testing.assert_array_equal(lacking[0].mu["second"]["kernel"], state[0].mu["second"]["kernel"])
    assert lacking[0].count == 1


def test_an_optional_layer_may_have_weights_of_half_precision():
    kernel, x = draws(INPUTS, OUTPUTS).astype(jnp.bfloat16), draws(BATCH, ROOM).astype(jnp.bfloat16)

    def loss(kernel, bias):
        return optional_layer(jnp.tanh, kernel, bias, x, jnp.array(True)).sum()

    found = jax.grad(loss, argnums=(0, 1))(kernel, jnp.zeros(OUTPUTS, jnp.bfloat16))
    assert all(gradient.dtype == jnp.bfloat16 for gradient in found)


def test_what_a_part_says_counts_where_a_network_has_it():
    weights = {"first": jnp.ones(3), "second": jnp.full(2, jnp.nan)}
    said = [
        bool(NetworkParts(tuple(weights), has).all(lambda part: jnp.isfinite(jax.tree.leaves(part)[0]).all(), weights))
        for has in ({"second": jnp.array(True)}, {"second": jnp.array(False)})
    ]
    assert said == [False, True]


def test_a_network_has_the_layers_that_its_rung_may_lack():
    shapes = vtune.Shapes((4,), 3, {"hidden": 8, "layers": 3})
    assert vtune.MLP.elastic.has_part({"layers": 2}, shapes) == {"hidden_2": True, "hidden_3": False}
    assert vtune.MLP.elastic.has_part({"layers": 2}, shapes._replace(sizes={"hidden": 8})) == {}


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_known_optimizers_step_one_part_as_they_step_all(optimizer):
    """What ``Task.has_part`` goes by: they are elementwise."""
    weights = {"first": draws(3), "second": draws(2, 2)}
    grads = jax.tree.map(jnp.cos, weights)
    made = OPTIMIZERS[optimizer]({**DEFAULTS, "learning_rate": 0.1})
    with jax.numpy_dtype_promotion("standard"):
        whole, _ = made.update(grads, made.init(weights), weights)
        ones = {name: made.update(grads[name], made.init(part), part)[0] for name, part in weights.items()}
    for name, one in ones.items():
        np.testing.assert_allclose(one, whole[name], rtol=1e-14)  # as where a number lies decides its last bit
