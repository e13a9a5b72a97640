"""Draws what a random search of vtune draws, so that others can train the same."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, UInt32

import vtune
from contest.work import Weights, Work
from measuring.work import useful_flops
from vtune.data import Data
from vtune.defaults import DEFAULTS
from vtune.keys import IMPLEMENTATION, Purpose, from_words, seed_key, seed_words, study_key
from vtune.protocols import Shapes, Strategy
from vtune.space import Space
from vtune.training.draws import seed_draws
from vtune.training.networks import Network


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
    orders = seed_draws(root, np.int32(0), np.int32(0), num_rows=data.num_train, num_epochs=epochs).orders
    return Work(
        space=space,
        seed=seed,
        train=data.train,
        valid=data.valid,
        num_classes=data.num_classes,
        rows=rows,
        orders=np.asarray(orders),
        weights=_initial_weights(root, data, rows),
        useful_flops=float(sum(useful_flops(row, data, epochs) for row in rows)),
    )


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
