"""What all contestants train: the same trials on the same rows, in the same order, from the same weights.

In NumPy alone: a process that trains in another library reads it, and must not wait for JAX.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

Weights = dict[str, dict[str, np.ndarray]]
"""Kernel and bias by layer, "hidden_1" to the last hidden one and "output"."""

Curves = Float[np.ndarray, "trials epochs 2"]
"""Of each trial and epoch: the training loss over its mini-batches, and the validation loss after it."""

Part = tuple[np.ndarray, np.ndarray]
"""Rows and their labels."""


class Work(NamedTuple):
    """A random search of MLPs on the digits, down to the numbers.

    Attributes:
        space: what is searched, for vtune; its parameters are vtune's own.
        seed: of the trials, the initial weights and the data order.
        train: 1078 rows to train on.
        valid: 360 rows to validate on.
        num_classes: of the labels.
        rows: the hyperparameters of each trial, complete.
        orders: of the rows in each epoch; a step takes the next ``batch_size`` of them, floor(n / b) times.
        weights: the initial ones of each trial, at its true size.
        useful_flops: floating-point operations of all trials at their true sizes.
    """

    space: Mapping[str, Any]
    seed: int
    train: Part
    valid: Part
    num_classes: int
    rows: Sequence[Mapping[str, Any]]
    orders: Int[np.ndarray, "epochs rows"]
    weights: Sequence[Weights]
    useful_flops: float

    @property
    def trials(self) -> int:
        """How many trials there are."""
        return len(self.rows)

    @property
    def epochs(self) -> int:
        """How many epochs each of them trains."""
        return len(self.orders)

    @property
    def num_features(self) -> int:
        """Columns of a row."""
        return self.train[0].shape[1]

    def column(self, name: str) -> np.ndarray:
        """Returns one hyperparameter of all trials: whole numbers as int32, others as float32."""
        column = np.array([row[name] for row in self.rows])
        return column.astype(np.int32 if column.dtype.kind == "i" else np.float32)

    def batches(self, epoch: int, batch_size: int) -> Int[np.ndarray, "steps batch"]:
        """Returns which rows the steps of an epoch take; the remainder waits for another epoch."""
        order = self.orders[epoch]
        return order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)

    def bare(self) -> "Work":
        """Returns the same without the space, which nobody reads who has not imported vtune."""
        return self._replace(space={})

    def moved(self, way: int) -> "Work":
        """Returns the same from initial weights moved by 2 ulp: all up (0), all down (1), or each either way."""
        return self._replace(weights=[_moved_weights(weights, way) for weights in self.weights])


def _moved_weights(weights: Weights, way: int) -> Weights:
    return {name: {part: _moved(values, way) for part, values in layer.items()} for name, layer in weights.items()}


def _moved(weights: np.ndarray, way: int) -> np.ndarray:
    """Moves what is not zero."""
    signs = {0: [np.inf], 1: [-np.inf]}.get(way, [-np.inf, np.inf])
    towards = np.random.default_rng(way).choice(signs, weights.shape).astype(weights.dtype)
    return np.where(weights == 0, weights, np.nextafter(np.nextafter(weights, towards), towards))
