"""How much memory a chunk takes, estimated before it compiles."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from vtune.keys import IMPLEMENTATION
from vtune.protocols import LaneState, Rung, Task
from vtune.training.engine import ChunkInputs

_COPIES = 3
"""Arrays of the weights' size that a step needs beside the lanes: gradients, their sum, and the stepped weights."""

_KEPT_PER_MAC = 8
"""Numbers kept for the way back for each multiply-add of the way forward, at most: a layer has no more outputs, and of
these little more is kept than what they were before and after the activation, and masks of both."""


def chunk_bytes(task: Task, rung: Rung, states: LaneState, inputs: ChunkInputs) -> int:
    """Returns about how many bytes the program of a rung takes, its arguments included.

    It counts lanes, data, and the larger of two: ``_COPIES`` of the weights as the optimizer steps, or, before that,
    gradients, their sum where there is one, and what the backward pass keeps of one micro-batch. XLA fuses some of it
    away: compared with its ``memory_analysis``, the estimate is within 25 % (a test says so).

    Args:
        task: how one trial is trained.
        rung: sizes and lanes.
        states: shapes of the lanes.
        inputs: shapes of what a call is given.
    """
    kept, weights = rung.lanes * _kept_bytes(task, rung, states, inputs), num_bytes(states.params)
    held = max(_COPIES * weights, (2 if rung.accumulates else 1) * weights + kept)
    return num_bytes(states) + num_bytes(inputs) + held


def most_bytes(rung: Rung, states: LaneState, inputs: ChunkInputs, row_macs: Sequence[int]) -> int:
    """Returns what ``chunk_bytes`` does not exceed. It takes no trace, and mostly shows that there is room enough.

    Args:
        rung: sizes and lanes.
        states: shapes of the lanes.
        inputs: shapes of what a call is given.
        row_macs: multiply-adds of one row's forward pass by layer, at the padded sizes.
    """
    x = inputs.train.x
    kept_of_row = (math.prod(x.shape[1:]) + _KEPT_PER_MAC * sum(row_macs)) * x.dtype.itemsize
    return num_bytes((states, inputs)) + _COPIES * num_bytes(states.params) + rung.lanes * rung.rows * kept_of_row


def num_bytes(tree: PyTree) -> int:
    """Returns the bytes of all arrays in a tree, given as arrays or as shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _kept_bytes(task: Task, rung: Rung, states: LaneState, inputs: ChunkInputs) -> int:
    """What the backward pass of one lane keeps of its rows; x itself too, unless all lanes read the same array."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), (states, inputs.hparams))
    x, y = (jax.ShapeDtypeStruct((rung.rows, *leaf.shape[1:]), leaf.dtype) for leaf in inputs.train)

    def backward(state: LaneState, traced: dict[str, Array], x: Array, y: Array) -> PyTree:
        hparams, weight = {**dict(rung.structure), **traced}, jnp.ones(rung.rows)

        def loss(params: PyTree) -> Array:
            return task.loss_sum(params, state, hparams, x, y, weight, jax.random.key(0, impl=IMPLEMENTATION))[0]

        return jax.vjp(loss, state.params)[1]

    weights = {leaf.shape for leaf in jax.tree.leaves(one[0].params)}

    def is_of_rows(shape: tuple[int, ...]) -> bool:
        """Rows may be kept transposed; weights with as many columns are no rows."""
        return shape[:1] == (rung.rows,) or (shape[1:2] == (rung.rows,) and shape not in weights)

    kept = [leaf for leaf in jax.tree.leaves(jax.eval_shape(backward, *one, x, y)) if is_of_rows(leaf.shape)]
    shared = [leaf for leaf in kept if leaf.size == x.size][:1] if rung.is_shared and not rung.copies_rows else []
    return num_bytes(kept) - num_bytes(shared)
