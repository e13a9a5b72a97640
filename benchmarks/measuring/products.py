"""How many of a search's operations are matrix products, and how long those of vtune's layers take by themselves."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

from measuring.repeating import seconds_a_turn
from vtune.calibration import side_by_side
from vtune.protocols import ChunkResult
from vtune.study import Study
from vtune.training.dense import linear
from vtune.training.devices import kind_of, local_devices, own, worker_devices
from vtune.training.outlook import Outlook


class Layer(NamedTuple):
    """The products of a dense layer of a chunk in one micro-batch: forward, for its weights, and for what it was given.

    Attributes:
        inputs: padded.
        outputs: likewise.
        rows: of the micro-batch.
        lanes: of the chunk.
        is_first: whether nothing asks for the gradient of what it is given.
    """

    inputs: int
    outputs: int
    rows: int
    lanes: int
    is_first: bool

    @property
    def flops(self) -> int:
        """Operations, those of padding and of idle lanes too."""
        return (4 if self.is_first else 6) * self.lanes * self.rows * self.inputs * self.outputs


class Products(NamedTuple):
    """What the matrix products of a chunk's training come to.

    Attributes:
        flops: operations, those of padding and of idle lanes too.
        seconds: that they take by themselves.
    """

    flops: int
    seconds: float


def outlook_of(study: Study) -> Outlook:
    """Returns what tells how much a rung of a study computes."""
    told = {name: study.settings[name] for name in ("trials", "epochs", "chunk")}
    return Outlook(study.parts, study.parts.planner(kind=kind_of(own(local_devices())), **told), [])


def products_of(outlook: Outlook, result: ChunkResult) -> Products:
    """Returns the products of a chunk of multilayer perceptrons; those of its evaluation are left out."""
    turns, layers = turns_of(outlook, result), layers_of(outlook, result)
    return Products(turns * sum(layer.flops for layer in layers), turns * sum(map(seconds_of, layers)))


def turns_of(outlook: Outlook, result: ChunkResult) -> int:
    """Returns how many micro-batches a chunk trains: as many as the lane with the most."""
    rung, chunk = result.chunk.rung, result.chunk
    epochs = chunk.trainings[0].legs[-1].until - chunk.trainings[0].start
    return epochs * max(outlook.planner.turns(one.hparams["batch_size"], rung.rows) for one in chunk.trainings)


def layers_of(outlook: Outlook, result: ChunkResult) -> list[Layer]:
    """Returns the layers that are computed for a chunk, those that none of its networks has left out."""
    rung = result.chunk.rung
    width = dict((*rung.sizes, *rung.structure))["hidden"]
    first, *others = outlook.made_macs(rung, [training.hparams for training in result.chunk.trainings])
    shapes = [(first // width, width), *((width, macs // width) for macs in others)]
    return [Layer(*shape, rung.rows, rung.lanes, place == 0) for place, shape in enumerate(shapes)]


@cache
def seconds_of(layer: Layer) -> float:
    """Returns the seconds of a layer's products on one worker, while all workers are busy with the same."""
    step = jax.jit(_turns, static_argnames="is_first")
    shapes = (layer.lanes, layer.rows, layer.inputs), (layer.lanes, layer.inputs, layer.outputs)
    shapes += ((layer.lanes, layer.rows, layer.outputs),)
    given = [jax.device_put(tuple(map(jnp.zeros, shapes)), device) for device in worker_devices(local_devices())]

    def measured(turns: int) -> float:
        return side_by_side(lambda arguments: step(*arguments, turns, is_first=layer.is_first), given)

    return seconds_a_turn(measured)


def _turns(
    x: Float[Array, "lanes rows inputs"],
    kernel: Float[Array, "lanes inputs outputs"],
    slope: Float[Array, "lanes rows outputs"],
    number: Int[Array, ""],
    is_first: bool,
) -> tuple[Array, ...]:
    """Computes the products again and again, of the same numbers: none is copied for the next turn."""

    def product(x: Array, kernel: Array) -> Array:
        return linear(x, kernel, jnp.zeros(kernel.shape[1]))

    def turn(count: Array, _: tuple[Array, ...]) -> tuple[Array, ...]:
        x_now, kernel_now, slope_now, _ = lax.optimization_barrier((x, kernel, slope, count))  # else it is made once
        made, way_back = jax.vjp(jax.vmap(product), x_now, kernel_now)
        of_x, of_kernel = way_back(slope_now)
        return (made, of_kernel) if is_first else (made, of_kernel, of_x)

    return lax.fori_loop(0, number, turn, (slope, kernel) if is_first else (slope, kernel, x))
