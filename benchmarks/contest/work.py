"""What all contestants train: the same trials on the same rows, in the same order, from the same weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

import vtune
from vtune.data import Data
from vtune.defaults import DEFAULTS
from vtune.keys import IMPLEMENTATION, Purpose, from_words, seed_key, seed_words, study_key
from vtune.protocols import Shapes
from vtune.space import Space
from vtune.training.networks import Network
from vtune.training.programs import data_orders
from vtune.training.trained import true_block

Weights = dict[str, dict[str, np.ndarray]]
"""Kernel and bias by layer, "hidden_0" to the last hidden one and "output"."""

Curves = Float[np.ndarray, "trials epochs 2"]
"""Of each trial and epoch: the training loss over its mini-batches, and the validation loss after it."""


@dataclass(frozen=True)
class Work:
    """A random search of MLPs on the digits, down to the numbers. Nothing is computed before it is asked for.

    Attributes:
        space: with hidden, layers, batch_size and learning_rate at least.
        trials: how many.
        epochs: of each.
        seed: of the trials, the initial weights and the data order.
        nudge: 0, or a number from 1: which way the true-size weights are moved by 2 ulp, to see whom that moves.
    """

    space: Mapping[str, Any]
    trials: int
    epochs: int
    seed: int = 0
    nudge: int = 0

    @property
    def data(self) -> Data:
        """The digits: 1078 rows to train on and 360 to validate on."""
        return _digits(self.seed)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The hyperparameters that ``vtune.search`` samples, complete, one dict a trial."""
        space = Space.of(self.space)
        strategy = vtune.strategies.random()(space.axes, trials=self.trials, epochs=self.epochs)

        @jax.jit
        def points() -> Array:
            key = study_key(from_words(seed_words(self.seed)), Purpose.SAMPLE)
            return strategy.ask(key, strategy.init(key)).points

        return [{**DEFAULTS, **row} for row in space.rows(np.asarray(points()))]

    @cached_property
    def orders(self) -> Int[np.ndarray, "epochs rows"]:
        """The order of the rows in each epoch; a step takes the next ``batch_size`` of them, floor(n / b) times."""
        numbers = seed_words(self.seed), np.int32(0), np.int32(0)
        return np.asarray(data_orders(*numbers, num_rows=self.data.num_train, num_epochs=self.epochs))

    @property
    def padded_weights(self) -> Sequence[Weights]:
        """The initial weights of each trial as vtune draws them, padded with zeros to the largest network."""
        sizes = tuple((row["hidden"], row["layers"]) for row in self.rows)
        return _initial_weights(self.seed, self.data.inputs, self.data.outputs, sizes, self._largest_sizes)

    @cached_property
    def weights(self) -> Sequence[Weights]:
        """The same at the true sizes."""
        pairs = zip(self.rows, self.padded_weights, strict=True)
        blocks = [true_block(self._shapes(row), padded) for row, padded in pairs]
        return jax.tree.map(partial(_moved, nudge=self.nudge), blocks) if self.nudge else blocks

    @cached_property
    def useful_flops(self) -> float:
        """Floating-point operations at true sizes: 4 per weight of layer 1 and trained row, 6 per other weight."""
        return float(sum(self._useful_flops(row) for row in self.rows))

    @property
    def smallest_batch(self) -> int:
        """The smallest batch size of the space."""
        return int(Space.of(self.space).support("batch_size")[0])

    def column(self, name: str) -> np.ndarray:
        """Returns one hyperparameter of all trials: whole numbers as int32, others as float32."""
        column = np.array([row[name] for row in self.rows])
        return column.astype(np.int32 if column.dtype.kind == "i" else np.float32)

    @property
    def _largest_sizes(self) -> tuple[int, int]:
        hidden, layers = (int(Space.of(self.space).support(name)[1]) for name in ("hidden", "layers"))
        return hidden, layers

    def _useful_flops(self, row: Mapping[str, Any]) -> int:
        first, *others = vtune.MLP.elastic.row_macs(row, Shapes(self.data.inputs, self.data.outputs))
        rows_of_epoch = self.data.num_train // row["batch_size"] * row["batch_size"]
        return self.epochs * rows_of_epoch * (4 * first + 6 * sum(others))

    def _shapes(self, row: Mapping[str, Any]) -> Any:
        names = [*(f"hidden_{layer}" for layer in range(row["layers"])), "output"]
        widths = [self.data.inputs[0], *[row["hidden"]] * row["layers"], self.data.outputs]
        return {
            name: {
                "kernel": jax.ShapeDtypeStruct((widths[place], widths[place + 1]), np.float32),
                "bias": jax.ShapeDtypeStruct((widths[place + 1],), np.float32),
            }
            for place, name in enumerate(names)
        }


def _moved(weights: np.ndarray, nudge: int) -> np.ndarray:
    """Moves what is not zero by 2 ulp: all up, all down, and from 3 on each weight either way."""
    ways = {1: [np.inf], 2: [-np.inf]}.get(nudge, [-np.inf, np.inf])
    towards = np.random.default_rng(nudge).choice(ways, weights.shape).astype(weights.dtype)
    return np.where(weights == 0, weights, np.nextafter(np.nextafter(weights, towards), towards))


@lru_cache(maxsize=1)
def _digits(seed: int) -> Data:
    return Data.of(None, key=jax.random.key(seed, impl=IMPLEMENTATION))


@lru_cache(maxsize=1)
def _initial_weights(
    seed: int, inputs: tuple[int, ...], outputs: int, sizes: Sequence[tuple[int, int]], largest: tuple[int, int]
) -> Sequence[Weights]:
    """Draws the weights of networks of these (hidden, layers), all padded to the largest, by one program."""
    names = "hidden", "layers"
    network = Network(vtune.MLP, Shapes(inputs, outputs, dict(zip(names, largest, strict=True))))

    @jax.jit
    def draw(*size: Array) -> Any:
        key = seed_key(from_words(seed_words(seed)), jnp.int32(0))
        return network.init(key, dict(zip(names, size, strict=True)))[0]

    return [jax.tree.map(np.asarray, draw(*map(np.int32, size))) for size in sizes]
