"""What all contestants train: the same trials on the same rows, in the same order, from the same weights."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, UInt32

import vtune
from measuring.work import useful_flops
from vtune.data import Data
from vtune.defaults import DEFAULTS
from vtune.keys import IMPLEMENTATION, Purpose, from_words, seed_key, seed_words, study_key
from vtune.protocols import Shapes, Strategy
from vtune.space import Space
from vtune.training.networks import Network
from vtune.training.programs import data_orders

Weights = dict[str, dict[str, np.ndarray]]
"""Kernel and bias by layer, "hidden_1" to the last hidden one and "output"."""

Curves = Float[np.ndarray, "trials epochs 2"]
"""Of each trial and epoch: the training loss over its mini-batches, and the validation loss after it."""


class Work(NamedTuple):
    """A random search of MLPs on the digits, down to the numbers.

    Attributes:
        space: what is searched.
        seed: of the trials, the initial weights and the data order.
        data: 1078 rows to train on and 360 to validate on.
        rows: the hyperparameters of each trial, complete.
        orders: of the rows in each epoch; a step takes the next ``batch_size`` of them, floor(n / b) times.
        weights: the initial ones of each trial, at its true size.
    """

    space: Mapping[str, Any]
    seed: int
    data: Data
    rows: Sequence[Mapping[str, Any]]
    orders: Int[np.ndarray, "epochs rows"]
    weights: Sequence[Weights]

    @property
    def trials(self) -> int:
        """How many trials there are."""
        return len(self.rows)

    @property
    def epochs(self) -> int:
        """How many epochs each of them trains."""
        return len(self.orders)

    @property
    def useful_flops(self) -> float:
        """Floating-point operations at true sizes: 4 per weight of layer 1 and trained row, 6 per other weight."""
        return float(sum(useful_flops(row, self.data, self.epochs) for row in self.rows))

    def column(self, name: str) -> np.ndarray:
        """Returns one hyperparameter of all trials: whole numbers as int32, others as float32."""
        column = np.array([row[name] for row in self.rows])
        return column.astype(np.int32 if column.dtype.kind == "i" else np.float32)

    def moved(self, way: int) -> "Work":
        """Returns the same from initial weights moved by 2 ulp: all up (0), all down (1), or each either way."""
        return self._replace(weights=jax.tree.map(partial(_moved, way=way), self.weights))


def draw(space: Mapping[str, Any], trials: int, epochs: int, seed: int = 0) -> Work:
    """Returns what ``vtune.search(vtune.MLP, space, strategy="random", ...)`` trains.

    Args:
        space: with hidden, layers, batch_size and learning_rate at least.
        trials: how many.
        epochs: of each.
        seed: of the trials, the initial weights and the data order.
    """
    searched, root = Space.of(space), seed_words(seed)
    data = Data.of(None, key=jax.random.key(seed, impl=IMPLEMENTATION))
    strategy = vtune.strategies.random()(searched.axes, trials=trials, epochs=epochs)
    points = np.asarray(_sample(root, strategy=strategy))
    rows = [{name: _in_float32(value) for name, value in {**DEFAULTS, **row}.items()} for row in searched.rows(points)]
    orders = data_orders(root, np.int32(0), np.int32(0), num_rows=data.num_train, num_epochs=epochs)
    return Work(space, seed, data, rows, np.asarray(orders), _initial_weights(root, data, rows))


@partial(jax.jit, static_argnames="strategy")
def _sample(root: UInt32[Array, "2"], *, strategy: Strategy) -> Float[Array, "trials axes"]:
    key = study_key(from_words(root), Purpose.SAMPLE)
    return strategy.ask(key, strategy.init(key)).points


def _in_float32(value: Any) -> Any:
    """Rounds as vtune does before it trains: ``1 - 0.999`` is another number in float64, by 1e-5 of it."""
    return float(np.float32(value)) if isinstance(value, float) else value


def _initial_weights(root: UInt32[np.ndarray, "2"], data: Data, rows: Sequence[Mapping[str, Any]]) -> list[Weights]:
    """Draws with one program, padded to the largest network: the true block does not depend on the padding."""
    largest = {name: max(row[name] for row in rows) for name in ("hidden", "layers")}
    network = Network(vtune.MLP, Shapes(data.inputs, data.outputs, largest))

    @jax.jit
    def draw_padded(sizes: dict[str, Array]) -> Any:
        return network.init(seed_key(from_words(root), jnp.int32(0)), sizes)[0]

    padded = [draw_padded({name: np.int32(row[name]) for name in largest}) for row in rows]
    return [_true_block(jax.device_get(one), row, data) for one, row in zip(padded, rows, strict=True)]


def _true_block(padded: Weights, row: Mapping[str, Any], data: Data) -> Weights:
    names = [*(f"hidden_{layer}" for layer in range(1, row["layers"] + 1)), "output"]
    widths = [data.inputs[0], *[row["hidden"]] * row["layers"], data.outputs]
    return {
        name: {
            "kernel": padded[name]["kernel"][: widths[place], : widths[place + 1]].copy(),
            "bias": padded[name]["bias"][: widths[place + 1]].copy(),
        }
        for place, name in enumerate(names)
    }


def _moved(weights: np.ndarray, way: int) -> np.ndarray:
    """Moves what is not zero."""
    signs = {0: [np.inf], 1: [-np.inf]}.get(way, [-np.inf, np.inf])
    towards = np.random.default_rng(way).choice(signs, weights.shape).astype(weights.dtype)
    return np.where(weights == 0, weights, np.nextafter(np.nextafter(weights, towards), towards))
