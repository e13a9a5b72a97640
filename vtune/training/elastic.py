"""Layers whose true size is data: one compiled program holds networks of every size up to a padded one.

A padded weight starts at 0 and, where the activation maps 0 to 0, forward, backward and optimizer keep it there: the
hot loop needs no mask. Initial weights are drawn by counter, so the true block of a layer has the same values
whatever it is padded to, and they are scaled by the true fan-in.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax
from jax.extend.random import threefry_2x32
from jaxtyping import Bool, Float, Key, UInt

from vtune.precision import float_dtype
from vtune.protocols import Hparams, Shapes
from vtune.training.dense import linear

Size = Any
"""A true size: a Python int, or the traced integer of a lane."""

_MASS_WITHIN_2 = 0.9544997361036416
"""Share of a unit normal that lies within two standard deviations."""

_STD_WITHIN_2 = 0.8796256610342398
"""Standard deviation of a unit normal truncated to [-2, 2]."""

_MAX_ROWS, _MAX_MATRICES = 1 << 20, 1 << 12
"""How many rows and matrices a 32-bit counter tells apart."""

_VECTOR = 128
"""A multiple of the numbers that a CPU takes at once, on every CPU: draws beyond the last whole vector are rounded
otherwise (seen with jax 0.7.2), and which these are depends on the padded sizes."""


class Elastic(NamedTuple):
    """What a model function declares, as its attribute ``elastic``, to share programs between its sizes.

    Such a model takes the padded sizes from ``shapes.sizes`` and the true ones, traced, from ``hparams``; its rows do
    not see each other (no batch statistics), so that mini-batches may be cut into micro-batches.

    Attributes:
        names: the hyperparameters it takes as elastic sizes. One of them may be there once a layer, as ``hidden_1``
            and so on for ``hidden``: where a space has it so.
        row_macs: multiply-adds of one row's forward pass, by layer, at these sizes and shapes; the first layer first.
            Sizes of layers that such a network does not have are to be left out of account.
        skipped: those of the names whose padding is not computed where no lane of a chunk needs it, as
            ``optional_layer`` does it. Trials that are alike in these are trained together.
        has_part: for these hyperparameters and shapes, of the attributes that a network may lack, whether it has it:
            weights that are 0 and stay so where it has not.
    """

    names: tuple[str, ...]
    row_macs: Callable[[Mapping[str, int], Shapes], Sequence[int]]
    skipped: tuple[str, ...] = ()
    has_part: Callable[[Hparams, Shapes], Mapping[str, Any]] = lambda hparams, shapes: {}


def declared(model_fn: Callable[..., Any]) -> Elastic | None:
    """Returns what a model function declares; None for one that declares nothing."""
    return getattr(model_fn, "elastic", None)


def padded_size(name: str, hparams: Hparams, shapes: Shapes) -> int:
    """The size to allocate for ``name``: the rung's, or the true one where the network stands alone."""
    return shapes.sizes[name] if name in shapes.sizes else int(hparams[name])


def truncated_normals(key: Key[Array, ""], blocks: Sequence[tuple[int, int]]) -> list[Float[Array, "rows columns"]]:
    """Draws one matrix a block; entry (i, j) of matrix l depends on the key and on (l, i, j) alone.

    All of them come from one call of threefry: a call a matrix would multiply the compile time.

    Args:
        key: a typed threefry key.
        blocks: (rows, columns) of each matrix; at most 4096 matrices of 2**20 rows.

    Returns:
        Matrices of unit variance, normal and truncated at two standard deviations of the untruncated normal, as
        ``jax.nn.initializers.lecun_normal`` has them.

    Raises:
        ValueError: for more or larger matrices, whose draws would repeat.
    """
    if len(blocks) > _MAX_MATRICES or max(rows for rows, _ in blocks) > _MAX_ROWS:
        raise ValueError(f"{blocks} are more than {_MAX_MATRICES} layers or {_MAX_ROWS} inputs. Write a smaller model.")
    return _draw(key, tuple(blocks))


@partial(jax.jit, static_argnames="blocks")
def _draw(key: Key[Array, ""], blocks: tuple[tuple[int, int], ...]) -> list[Float[Array, "rows columns"]]:
    """Draws matrices; traced once for all networks of these padded sizes."""
    high = [matrix * _MAX_ROWS + lax.broadcasted_iota(np.uint32, block, 0) for matrix, block in enumerate(blocks)]
    low = [lax.broadcasted_iota(np.uint32, block, 1) for block in blocks]
    counters = jnp.concatenate([counter.ravel() for counter in (*high, *low)])
    words = threefry_2x32(jax.random.key_data(key), counters)
    ends = np.cumsum([rows * cols for rows, cols in blocks])
    draws = _truncated_normal(jnp.pad(words[: ends[-1]], (0, -ends[-1] % _VECTOR)))
    # Fused with what cuts and scales them, draws of other padded sizes are rounded otherwise too (seen with jax 0.12).
    *parts, _ = jnp.split(lax.optimization_barrier(draws), ends)
    return [part.reshape(block) for part, block in zip(parts, blocks, strict=True)]


def _truncated_normal(words: UInt[Array, " draws"]) -> Float[Array, " draws"]:
    dtype = float_dtype()
    centred = 2 * ((words >> 8).astype(dtype) + 0.5) * 2.0**-24 - 1
    return jax.scipy.special.erfinv(centred * _MASS_WITHIN_2) * (2**0.5 / _STD_WITHIN_2)


class ElasticLinear(nnx.Module):
    """A dense layer of padded size, zero outside its true block."""

    def __init__(
        self,
        draws: Float[Array, "inputs outputs"],
        fan_in: Size,
        fan_out: Size,
        is_active: Bool[Array, ""] | bool = True,
    ):
        """Scales and cuts its initial weights.

        Args:
            draws: unit-variance draws for the padded block.
            fan_in: true number of inputs.
            fan_out: true number of outputs.
            is_active: False for a layer that its network does not have: all its weights are zero.
        """
        self.kernel = nnx.Param(_initial_kernel(draws, fan_in, fan_out, is_active))
        self.bias = nnx.Param(jnp.zeros(draws.shape[1], draws.dtype))

    def __call__(self, x: Float[Array, "batch inputs"]) -> Float[Array, "batch outputs"]:
        """Returns ``x @ kernel + bias``."""
        return linear(x, self.kernel[...], self.bias[...])


@jax.jit
def _initial_kernel(
    draws: Float[Array, "inputs outputs"], fan_in: Size, fan_out: Size, is_active: Bool[Array, ""] | bool
) -> Float[Array, "inputs outputs"]:
    """Scales and cuts draws. It is traced once for all layers, and all programs, of the same padded size."""
    rows, columns = draws.shape
    is_input, is_output = (
        jnp.arange(size, dtype=jnp.int32) < true for size, true in [(rows, fan_in), (columns, fan_out)]
    )
    inside = is_input[:, None] & is_output[None, :] & is_active
    scale = jnp.sqrt(1 / jnp.asarray(fan_in).astype(draws.dtype))
    return jnp.where(inside, draws * scale, 0)
