"""The multilayer perceptron, elastic in width and depth."""

from collections.abc import Mapping
from itertools import pairwise
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from vtune.protocols import Hparams, Shapes
from vtune.training.elastic import Elastic, ElasticLinear, padded_size, truncated_normals

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "gelu": jax.nn.gelu, "silu": jax.nn.silu}
"""By name. All map 0 to 0, which keeps padding at zero without a mask."""


def _blocks(sizes: Mapping[str, int], shapes: Shapes) -> list[tuple[int, int]]:
    """(inputs, outputs) of the output layer and then of each hidden one: a layer's place does not move with depth."""
    widths = [prod(shapes.inputs), *[sizes["hidden"]] * sizes["layers"]]
    return [(widths[-1], shapes.outputs), *pairwise(widths)]


def _row_macs(sizes: Mapping[str, int], shapes: Shapes) -> list[int]:
    output, *hidden = (inputs * outputs for inputs, outputs in _blocks(sizes, shapes))
    return [*hidden, output]


class MLP(nnx.Module):
    """A multilayer perceptron: ``layers`` hidden layers of ``hidden`` units, and a linear layer on top.

    Weights start lecun normal at the true fan-in and biases at zero, as Flax's. Hyperparameters: ``hidden`` and
    ``layers`` (elastic: many sizes share a program), ``activation`` ("relu", "tanh", "gelu" or "silu").

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp, vtune
        >>> shapes = vtune.Shapes(inputs=(64,), outputs=10)
        >>> model = vtune.MLP({"hidden": 32, "layers": 2}, nnx.Rngs(0), shapes)
        >>> model(jnp.zeros((5, 64))).shape
        (5, 10)
    """

    elastic = Elastic(names=("hidden", "layers"), row_macs=_row_macs)

    def __init__(self, hparams: Hparams, rngs: nnx.Rngs, shapes: Shapes):
        """Builds the network at its true size, or padded to ``shapes.sizes``.

        Args:
            hparams: reads ``hidden``, ``layers`` and, with "relu" if absent, ``activation``.
            rngs: reads the stream ``params``.
            shapes: a row of x may have any shape; it is flattened.
        """
        name = hparams.get("activation", "relu")
        if name not in ACTIVATIONS:
            raise ValueError(f"activation={name!r} is not known; write one of {', '.join(ACTIVATIONS)}")
        self.activation = ACTIVATIONS[name]
        self.layers = hparams["layers"]
        sizes = {size: padded_size(size, hparams, shapes) for size in self.elastic.names}
        draws = truncated_normals(rngs.params(), _blocks(sizes, shapes))
        fan_in = prod(shapes.inputs)
        self.depth = sizes["layers"]
        for layer in range(self.depth):
            is_active = layer < self.layers
            setattr(self, f"hidden_{layer}", ElasticLinear(draws[1 + layer], fan_in, hparams["hidden"], is_active))
            fan_in = hparams["hidden"]
        self.output = ElasticLinear(draws[0], fan_in, shapes.outputs)

    def __call__(self, x: Float[Array | np.ndarray, "batch *inputs"]) -> Float[Array, "batch outputs"]:
        """Returns logits, or the predicted targets of a regression."""
        x = jnp.asarray(x).reshape(x.shape[0], -1)
        for layer in range(self.depth):
            hidden = self.activation(getattr(self, f"hidden_{layer}")(x))
            x = hidden if layer == 0 else jnp.where(layer < self.layers, hidden, x)
        return self.output(x)
