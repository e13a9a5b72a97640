"""Models as a user would write them, outside the package: plain Flax, and nothing of vtune."""

import jax
import jax.numpy as jnp
from flax import linen, nnx


class CNN(nnx.Module):
    """A convolution and a linear layer on images of 8 x 8 pixels, flattened or not."""

    def __init__(self, width, outputs, rngs):
        dtype = jnp.result_type(float)
        self.convolution = nnx.Conv(1, width, (3, 3), strides=2, param_dtype=dtype, rngs=rngs)
        self.head = nnx.Linear(4 * 4 * width, outputs, param_dtype=dtype, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.convolution(x.reshape(-1, 8, 8, 1)))
        return self.head(x.reshape(x.shape[0], -1))


def cnn(hparams, rngs, shapes):
    return CNN(hparams["width"], shapes.outputs, rngs)


class LinenMLP(linen.Module):
    width: int
    outputs: int

    @linen.compact
    def __call__(self, x):
        dtype = jnp.result_type(float)
        x = linen.tanh(linen.Dense(self.width, param_dtype=dtype)(x))
        return linen.Dense(self.outputs, param_dtype=dtype)(x)


def linen_mlp(hparams, shapes):
    return LinenMLP(hparams["width"], shapes.outputs)


class Noisy(nnx.Module):
    """Batch statistics and dropout, told by ``train()`` and ``eval()`` which of its two ways to go."""

    def __init__(self, rate, rngs):
        dtype = jnp.result_type(float)
        self.hidden = nnx.Linear(64, 16, use_bias=False, param_dtype=dtype, rngs=rngs)
        self.norm = nnx.BatchNorm(16, momentum=0.9, param_dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.head = nnx.Linear(16, 10, param_dtype=dtype, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def noisy(rngs, hparams):
    return Noisy(hparams["rate"], rngs)


class LinenNoisy(linen.Module):
    """The same in linen, told by an argument of its call."""

    rate: float

    @linen.compact
    def __call__(self, x, train):
        dtype = jnp.result_type(float)
        x = linen.Dense(16, use_bias=False, param_dtype=dtype)(x)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9, param_dtype=dtype)(x)
        x = linen.Dropout(self.rate, deterministic=not train)(linen.relu(x))
        return linen.Dense(10, param_dtype=dtype)(x)


def linen_noisy(hparams):
    return LinenNoisy(hparams["rate"])


class Leaky(nnx.Module):
    """A residual network whose slope and scale are plain numbers in jax.numpy: any value will do in one program.

    The class itself is a model function.
    """

    def __init__(self, hparams, rngs):
        dtype = jnp.result_type(float)
        self.slope, self.scale = hparams["slope"], hparams["scale"]
        self.hidden = nnx.Linear(64, 16, param_dtype=dtype, rngs=rngs)
        self.block = nnx.Linear(16, 16, param_dtype=dtype, rngs=rngs)
        self.head = nnx.Linear(16, 10, param_dtype=dtype, rngs=rngs)

    def __call__(self, x):
        x = self.hidden(x)
        return self.head(x + self.scale * self.block(nnx.leaky_relu(x, self.slope)))


def fixed_width(rngs, shapes):
    """Names no hyperparameters: only how it is trained can be searched."""
    dtype = jnp.result_type(float)
    first = nnx.Linear(shapes.inputs[0], 16, param_dtype=dtype, rngs=rngs)
    return nnx.Sequential(first, jax.nn.gelu, nnx.Linear(16, shapes.outputs, param_dtype=dtype, rngs=rngs))


def by_keywords(**given):
    """Takes whatever there is."""
    return LinenMLP(given["hparams"]["width"], given["shapes"].outputs)


def layer_by_layer(hparams, rngs):
    """One width a layer, as people write spaces elsewhere: how many are read depends on the depth."""
    layers, inputs = [], 64
    for layer in range(hparams["depth"]):
        width = hparams[f"width_{layer}"]
        layers += [nnx.Linear(inputs, width, rngs=rngs), nnx.relu]
        inputs = width
    return nnx.Sequential(*layers, nnx.Linear(inputs, 10, rngs=rngs))


def of_some_kind(hparams, rngs):
    """A linear model, or a network that alone has a width and a slope."""
    if hparams["kind"] == "linear":
        return nnx.Linear(64, 10, rngs=rngs)
    if hparams["kind"] == "leaky":
        return Leaky({"slope": hparams["slope"], "scale": 1.0}, rngs)
    return nnx.Sequential(
        nnx.Linear(64, hparams["width"], rngs=rngs), nnx.relu, nnx.Linear(hparams["width"], 10, rngs=rngs)
    )
