"""The slow truth: one network at its true size in a plain Flax and Optax loop. It shares no code with vtune."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


class PlainMLP(nnx.Module):
    """Dense layers of true size, as one would write them by hand."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, activation: str):
        widths = [inputs, *hidden, outputs]
        dtype = jax.dtypes.canonicalize_dtype(np.float64)
        dense = [nnx.Linear(i, o, rngs=nnx.Rngs(0), param_dtype=dtype) for i, o in pairwise(widths)]
        self.names = (*(f"hidden_{layer}" for layer in range(1, len(hidden) + 1)), "output")
        for name, layer in zip(self.names, dense, strict=True):
            setattr(self, name, layer)
        self.activation = activation

    def load(self, weights: Mapping[str, Any]) -> None:
        """Takes these initial weights, at its own size."""
        for name in self.names:
            layer = getattr(self, name)
            for part in ("kernel", "bias"):
                own = getattr(layer, part)
                own[...] = jnp.asarray(weights[name][part][tuple(map(slice, own[...].shape))])

    def __call__(self, x: Array) -> Array:
        for name in self.names[:-1]:
            x = ACTIVATIONS[self.activation](getattr(self, name)(x))
        return self.output(x)


def losses(outputs: Array, y: Array) -> Array:
    if jnp.issubdtype(y.dtype, jnp.integer):
        return optax.softmax_cross_entropy_with_integer_labels(outputs, y)
    return jnp.mean((outputs - y) ** 2, axis=-1)


def train_alone(
    model: nnx.Module, hparams: Mapping[str, Any], train: tuple[Any, Any], valid: tuple[Any, Any], orders: np.ndarray
) -> np.ndarray:
    """Trains as ``hparams`` tells and returns train_loss, loss and accuracy (or mse) of each epoch.

    Args:
        model: holds its initial weights, and afterwards the trained ones.
        hparams: as Python numbers.
        train: x and y.
        valid: x and y.
        orders: the order of the rows in each epoch; a step takes the next ``batch_size`` of them, floor(n / b) times.
    """
    graph, params = nnx.split(model)
    state = _optimizer(hparams["optimizer"], hparams, hparams["learning_rate"]).init(params)
    (x, y), batch, curves = train, hparams["batch_size"], []
    for epoch, order in enumerate(np.asarray(orders)):
        rate = hparams["learning_rate"] / (1 + hparams["decay"] * epoch)
        names = ("beta1", "beta2", "epsilon", "momentum")
        numbers = {**{name: hparams[name] for name in names}, "learning_rate": rate}
        numbers = {name: jnp.asarray(number, jnp.zeros(()).dtype) for name, number in numbers.items()}
        seen = []
        for first in range(0, len(x) // batch * batch, batch):
            rows = order[first : first + batch]
            params, state, loss = _step(
                params, state, numbers, x[rows], y[rows], graph=graph, optimizer=hparams["optimizer"]
            )
            seen.append(float(loss))
        curves.append([np.mean(seen), *(float(value) for value in _measure(params, *valid, graph=graph))])
    nnx.update(model, params)
    return np.array(curves)


def clipped(hparams: Mapping[str, Any]) -> optax.GradientTransformation:
    """Adam on gradients of no more than a norm, over all weights: no optimizer of one weight at a time."""
    adam = optax.adam(hparams["learning_rate"], b1=hparams["beta1"], b2=hparams["beta2"], eps=hparams["epsilon"])
    return optax.chain(optax.clip_by_global_norm(0.1), adam)


def _optimizer(name: str, hparams: Mapping[str, Any], rate: Any) -> optax.GradientTransformation:
    """As Optax has it, at the learning rate of this epoch; its state is the same for every rate."""
    if name == "adam":
        return optax.adam(rate, b1=hparams["beta1"], b2=hparams["beta2"], eps=hparams["epsilon"])
    if name == "momentum":
        return optax.sgd(rate, momentum=hparams["momentum"])
    if name == "clipped":
        return clipped({**hparams, "learning_rate": rate})
    assert name == "rmsprop"
    return optax.rmsprop(rate, eps=hparams["epsilon"], momentum=hparams["momentum"])


@partial(jax.jit, static_argnames=("graph", "optimizer"))
def _step(
    params: Any, state: Any, hparams: Any, x: Array, y: Array, *, graph: Any, optimizer: str
) -> tuple[Any, Any, Array]:
    loss, grads = jax.value_and_grad(lambda params: losses(nnx.merge(graph, params)(x), y).mean())(params)
    with jax.numpy_dtype_promotion("standard"):
        updates, state = _optimizer(optimizer, hparams, hparams["learning_rate"]).update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss


@partial(jax.jit, static_argnames="graph")
def _measure(params: Any, x: Array, y: Array, *, graph: Any) -> tuple[Array, Array]:
    outputs = nnx.merge(graph, params)(x)
    loss = losses(outputs, y).mean()
    is_class = jnp.issubdtype(y.dtype, jnp.integer)
    return loss, (outputs.argmax(-1).astype(y.dtype) == y).mean() if is_class else loss
