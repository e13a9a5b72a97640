"""Contestants in JAX: vtune, and the three loops that one would write instead.

All train the same trials from the same initial weights, on mini-batches of the trial's own size in the same order, and
validate after every epoch.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array, lax
from jaxtyping import Float, PyTree

import vtune
from contest.contestants import Prepare
from contest.work import Curves, Weights, Work
from vtune.benching import train_as_usual
from vtune.training.devices import local_devices

NUMBERS = ("learning_rate", "beta1", "beta2", "epsilon")

MOST_PROGRAMS = 250
"""How many programs a loop holds: each takes memory maps, of which Linux allows a process so many and no more."""


# vtune


def start_vtune(cores: int) -> Prepare:
    """Starts JAX as the first search does, with a CPU device a core."""
    local_devices()
    return prepare_vtune


def prepare_vtune(work: Work) -> Callable[[], Curves]:
    """``vtune.search`` as users call it: it also samples, plans, draws the weights and keeps the tables."""
    data = vtune.Data(train=work.train, valid=work.valid)

    def train() -> Curves:
        settings = {"strategy": "random", "trials": work.trials, "epochs": work.epochs, "seed": work.seed}
        settings |= {"finalists": 0}  # the loops train every trial once
        study = vtune.search(vtune.MLP, work.space, data, **settings, progress=False)
        curves = np.full((work.trials, work.epochs, 2), np.nan)
        for trial_id in range(work.trials):
            finite = study.trial(trial_id).curves[:, :2]
            curves[trial_id, : len(finite)] = finite
        return curves

    return train


# The loops: JAX as it starts by itself, with one CPU device


def start_loop(cores: int, prepare: Prepare) -> Prepare:
    """Starts JAX."""
    jax.devices()
    return prepare


# A loop in Flax and Optax, as it is usually written


class MLP(nnx.Module):
    """Dense layers with relu between them."""

    def __init__(self, inputs: int, hidden: int, layers: int, outputs: int, rngs: nnx.Rngs):
        *hiddens, last = pairwise([inputs, *[hidden] * layers, outputs])
        self.depth = layers
        for layer, widths in enumerate(hiddens, start=1):
            setattr(self, f"hidden_{layer}", nnx.Linear(*widths, rngs=rngs))
        self.output = nnx.Linear(*last, rngs=rngs)

    def __call__(self, x: Float[Array, "batch features"]) -> Float[Array, "batch classes"]:
        """Returns logits."""
        for layer in range(1, self.depth + 1):
            x = jax.nn.relu(getattr(self, f"hidden_{layer}")(x))
        return self.output(x)


def mean_loss(outputs: Float[Array, "batch classes"], labels: Array) -> Float[Array, ""]:
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


def prepare_per_trial(work: Work) -> Callable[[], Curves]:
    """Hyperparameters are Python numbers in jitted closures, so every trial compiles its own."""
    trials = list(zip(work.rows, work.weights, strict=True))

    def train_trial(row: Mapping[str, Any], weights: Weights) -> np.ndarray:
        graph, structure = blank(work.num_features, row["hidden"], row["layers"], work.num_classes)
        model = nnx.merge(graph, jax.tree.unflatten(structure, jax.tree.leaves(weights)))
        return train_as_usual(model, row, work.train, work.valid, work.orders)

    return lambda: np.array([train_trial(*trial) for trial in trials])


# The best loop over trials: one program a shape holds the whole training, and takes the other numbers as arguments


def prepare_per_shape(work: Work) -> Callable[[], Curves]:
    """Trials one after another, each a single call of the program of its hidden, layers and batch size."""
    data = jax.device_put((work.orders, work.train, work.valid))
    columns = {name: work.column(name) for name in NUMBERS}
    trials = list(enumerate(zip(work.rows, work.weights, strict=True)))

    def train() -> Curves:
        curves = []
        for place, (row, weights) in trials:
            graph, structure = blank(work.num_features, row["hidden"], row["layers"], work.num_classes)
            params = jax.tree.unflatten(structure, jax.tree.leaves(weights))
            numbers = {name: column[place] for name, column in columns.items()}
            if train_whole._cache_size() >= MOST_PROGRAMS:  # pyright: ignore[reportAttributeAccessIssue]
                jax.clear_caches()
            curves.append(train_whole(params, numbers, *data, graph=graph, batch_size=row["batch_size"]))
        return np.array(jax.device_get(curves))

    return train


@cache
def blank(inputs: int, hidden: int, layers: int, outputs: int) -> tuple[Any, Any]:
    """The definition of a network, and the structure of its weights, without drawing any."""
    graph, params = nnx.split(nnx.eval_shape(lambda: MLP(inputs, hidden, layers, outputs, rngs=nnx.Rngs(0))))
    return graph, jax.tree.structure(params)


@partial(jax.jit, static_argnames=("graph", "batch_size"))
def train_whole(
    params: PyTree,
    numbers: dict[str, Array],
    orders: Array,
    train: tuple[Array, Array],
    valid: tuple[Array, Array],
    *,
    graph: Any,
    batch_size: int,
) -> Float[Array, "epochs 2"]:
    """Trains one network for all its epochs."""
    x, y = train
    adam = optax.adam(numbers["learning_rate"], b1=numbers["beta1"], b2=numbers["beta2"], eps=numbers["epsilon"])

    def loss_of(params: PyTree, x: Array, y: Array) -> Array:
        return mean_loss(nnx.merge(graph, params)(x), y)

    def step(carry: tuple[PyTree, PyTree], batch: Array) -> tuple[tuple[PyTree, PyTree], Array]:
        params, state = carry
        loss, grads = jax.value_and_grad(loss_of)(params, x[batch], y[batch])
        updates, state = adam.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    def epoch(carry: tuple[PyTree, PyTree], order: Array) -> tuple[tuple[PyTree, PyTree], Array]:
        batches = order[: len(x) // batch_size * batch_size].reshape(-1, batch_size)
        carry, losses = lax.scan(step, carry, batches)
        return carry, jnp.stack([losses.mean(), loss_of(carry[0], *valid)])

    return lax.scan(epoch, (params, adam.init(params)), orders)[1]


# All trials as lanes of one vmap, padded to the largest


class Lane(NamedTuple):
    """What a trial carries through an epoch; sums run since its mini-batch and its epoch began."""

    params: PyTree
    state: PyTree
    grads: PyTree
    batch_loss: Array
    epoch_loss: Array


def prepare_padded(work: Work) -> Callable[[], Curves]:
    """One program: every network padded to the largest, mini-batches in micro-batches of the smallest one's rows."""
    data = jax.device_put((work.orders, work.train, work.valid))
    hparams = {name: work.column(name) for name in (*NUMBERS, "layers", "batch_size")}
    rows = int(hparams["batch_size"].min())
    params = padded_alike(work)
    return lambda: np.asarray(train_padded(params, hparams, data, rows=rows))


def padded_alike(work: Work) -> dict[str, dict[str, np.ndarray]]:
    """The initial weights of all trials, stacked, with zeros where the largest network has more."""
    hidden, layers = work.column("hidden").max(), work.column("layers").max()
    widths = [work.num_features, *[hidden] * layers, work.num_classes]
    names = [*(f"hidden_{layer}" for layer in range(1, layers + 1)), "output"]
    padded = {
        name: {
            "kernel": np.zeros((work.trials, *block), np.float32),
            "bias": np.zeros((work.trials, block[1]), np.float32),
        }
        for name, block in zip(names, pairwise(widths), strict=True)
    }
    for trial, weights in enumerate(work.weights):
        for name, layer in weights.items():
            rows, columns = layer["kernel"].shape
            padded[name]["kernel"][trial, :rows, :columns] = layer["kernel"]
            padded[name]["bias"][trial, :columns] = layer["bias"]
    return padded


@partial(jax.jit, static_argnames="rows")
def train_padded(
    params: PyTree, hparams: dict[str, Array], data: tuple[Any, ...], *, rows: int
) -> Float[Array, "trials epochs 2"]:
    """Trains all networks for all their epochs, in lockstep."""
    return jax.vmap(lambda params, hparams: train_lane(params, hparams, *data, rows=rows))(params, hparams)


def train_lane(
    params: PyTree,
    hparams: dict[str, Array],
    orders: Array,
    train: tuple[Array, Array],
    valid: tuple[Array, Array],
    rows: int,
) -> Float[Array, "epochs 2"]:
    """Trains one network; sums the gradients of micro-batches and steps where a mini-batch ends."""
    (x, y), batch_size = train, hparams["batch_size"]
    adam = optax.adam(hparams["learning_rate"], b1=hparams["beta1"], b2=hparams["beta2"], eps=hparams["epsilon"])
    pieces = batch_size // rows

    def loss_sum(params: PyTree, batch: Array) -> Array:
        return rows * mean_loss(forward(params, hparams["layers"], x[batch]), y[batch])

    def turn(lane: Lane, clock: tuple[Array, Array]) -> tuple[Lane, None]:
        time, batch = clock
        loss, grads = jax.value_and_grad(loss_sum)(lane.params, batch)
        loss, grads = jax.tree.map(jnp.add, (loss, grads), (lane.batch_loss, lane.grads))
        updates, state = adam.update(jax.tree.map(lambda grad: grad / batch_size, grads), lane.state, lane.params)
        stepped = optax.apply_updates(lane.params, updates)
        none = jax.tree.map(jnp.zeros_like, grads)
        after = Lane(stepped, state, none, jnp.zeros(()), lane.epoch_loss + loss)
        before = Lane(lane.params, lane.state, grads, loss, lane.epoch_loss)
        ends_batch = time % pieces == pieces - 1
        return jax.tree.map(partial(jnp.where, ends_batch), after, before), None

    def epoch(carry: tuple[PyTree, PyTree], order: Array) -> tuple[tuple[PyTree, PyTree], Array]:
        turns = len(x) // rows
        clock = jnp.arange(turns), order[: turns * rows].reshape(turns, rows)
        none = jax.tree.map(jnp.zeros_like, carry[0])
        lane, _ = lax.scan(turn, Lane(*carry, none, jnp.zeros(()), jnp.zeros(())), clock)
        train_loss = lane.epoch_loss / (len(x) // batch_size * batch_size)
        outputs = forward(lane.params, hparams["layers"], valid[0])
        return (lane.params, lane.state), jnp.stack([train_loss, mean_loss(outputs, valid[1])])

    return lax.scan(epoch, (params, adam.init(params)), orders)[1]


def forward(params: PyTree, layers: Array, x: Array) -> Array:
    """Runs a padded network; relu keeps its padding at zero, and the layers it does not have pass on their input."""
    depth = len(params) - 1
    for layer in range(1, depth + 1):
        kernel, bias = (params[f"hidden_{layer}"][part] for part in ("kernel", "bias"))
        hidden = jax.nn.relu(x @ kernel + bias)
        x = hidden if layer == 1 else jnp.where(layer <= layers, hidden, x)
    return x @ params["output"]["kernel"] + params["output"]["bias"]


start_per_trial = partial(start_loop, prepare=prepare_per_trial)
start_per_shape = partial(start_loop, prepare=prepare_per_shape)
start_padded = partial(start_loop, prepare=prepare_padded)
