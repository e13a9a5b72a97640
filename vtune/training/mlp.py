"""The multilayer perceptron, elastic in width and depth."""

from collections.abc import Container, Mapping
from itertools import pairwise
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from vtune.protocols import Hparams, Shapes
from vtune.training.elastic import Elastic, ElasticLinear, padded_size, truncated_normals
from vtune.training.optional import optional_layer

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "gelu": jax.nn.gelu, "silu": jax.nn.silu}
"""By name. All map 0 to 0, which keeps padding at zero without a mask."""


def _unit_names(names: Container[str], depth: int) -> list[str]:
    """The name that holds the units of each hidden layer: one of its own, or the one that all share."""
    return [f"hidden_{layer}" if "hidden_1" in names else "hidden" for layer in range(1, depth + 1)]


def _row_macs(sizes: Mapping[str, int], shapes: Shapes) -> list[int]:
    widths = [prod(shapes.inputs), *(sizes[name] for name in _unit_names(sizes, sizes["layers"])), shapes.outputs]
    return [inputs * outputs for inputs, outputs in pairwise(widths)]


def _has_part(hparams: Hparams, shapes: Shapes) -> dict[str, Any]:
    depth = shapes.sizes.get("layers", 1)
    return {f"hidden_{layer}": layer <= hparams["layers"] for layer in range(2, depth + 1)}


class MLP(nnx.Module):
    """A multilayer perceptron: ``layers`` hidden layers of ``hidden`` units, and a linear layer on top.

    Weights start lecun normal at the true fan-in and biases at zero, as Flax's. Hyperparameters: ``hidden``, or
    ``hidden_1``, ``hidden_2`` and so on for a width of its own in each layer, and ``layers`` (elastic: many sizes share
    a program); ``activation`` ("relu", "tanh", "gelu" or "silu").

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp, vtune
        >>> shapes = vtune.Shapes(inputs=(64,), outputs=10)
        >>> model = vtune.MLP({"hidden": 32, "layers": 2}, nnx.Rngs(0), shapes)
        >>> model(jnp.zeros((5, 64))).shape
        (5, 10)
    """

    elastic = Elastic(names=("hidden", "layers"), row_macs=_row_macs, skipped=("layers",), has_part=_has_part)

    def __init__(self, hparams: Hparams, rngs: nnx.Rngs, shapes: Shapes):
        """Builds the network at its true size, or padded to ``shapes.sizes``.

        Args:
            hparams: reads ``layers``, ``hidden`` (or one a layer) and, with "relu" if absent, ``activation``.
            rngs: reads the stream ``params``.
            shapes: a row of x may have any shape; it is flattened.
        """
        name = hparams.get("activation", "relu")
        if name not in ACTIVATIONS:
            raise ValueError(f"activation={name!r} is not known; write one of {', '.join(ACTIVATIONS)}")
        self.activation = ACTIVATIONS[name]
        self.layers = hparams["layers"]
        self.depth = padded_size("layers", hparams, shapes)
        names = _unit_names(hparams, self.depth)
        widths = [prod(shapes.inputs), *(padded_size(name, hparams, shapes) for name in names)]
        # A layer that a network does not have hands on what it is given, and there must be room for that.
        self.room = max(widths[1:]) if "layers" in shapes.sizes else None
        # The output comes first, as the place of a layer's draws must not move with the depth.
        draws = truncated_normals(rngs.params(), [(self.room or widths[-1], shapes.outputs), *pairwise(widths)])
        fan_in = prod(shapes.inputs)
        for layer, name in enumerate(names, start=1):
            is_active = layer <= self.layers
            setattr(self, f"hidden_{layer}", ElasticLinear(draws[layer], fan_in, hparams[name], is_active))
            fan_in = jnp.where(is_active, hparams[name], fan_in) if self.room else hparams[name]
        self.output = ElasticLinear(draws[0], fan_in, shapes.outputs)

    def __call__(self, x: Float[Array | np.ndarray, "batch *inputs"]) -> Float[Array, "batch outputs"]:
        """Returns logits, or the predicted targets of a regression."""
        hidden: Array = jnp.asarray(x).reshape(x.shape[0], -1)
        for layer in range(1, self.depth + 1):
            linear, has_layer = getattr(self, f"hidden_{layer}"), layer <= self.layers
            if self.room and layer > 1:
                hidden = optional_layer(self.activation, linear.kernel[...], linear.bias[...], hidden, has_layer)
            else:
                hidden = self.activation(linear(hidden))
                hidden = jnp.pad(hidden, ((0, 0), (0, self.room - hidden.shape[1]))) if self.room else hidden
        return self.output(hidden)
