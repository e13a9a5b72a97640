"""``vtune bench``: how fast this machine is, how much of that a search makes use of, and what a loop would take."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jaxtyping import Float

from vtune.data import Data
from vtune.keys import from_words, seed_key
from vtune.parameters import integers, loguniform, powers_of_two, reverse_loguniform
from vtune.protocols import Shapes
from vtune.searching import search
from vtune.study import Study
from vtune.training.caches import nothing_kept
from vtune.training.devices import describe, kind_of, local_devices
from vtune.training.draws import seed_draws
from vtune.training.mlp import MLP

MIXED = {
    "beta1": reverse_loguniform(0.8, 0.99),
    "batch_size": powers_of_two(32, 256),
    "hidden": integers(16, 256, log=True),
    "layers": integers(1, 4),
}
"""Networks of all sizes; learning rates come with the benchmark."""

_RATES = loguniform(1e-4, 1e-1)

_SAME = 1e-4
"""How far losses after one epoch may differ where two programs did the same work in float32 (law Agreement)."""


Rows: TypeAlias = tuple[Any, Any]
"""Rows and their labels."""


class Scale(NamedTuple):
    """How much is trained: trials of a search, epochs of each, and the seconds that the loop is given."""

    trials: int
    epochs: int
    loop_seconds: float


WHOLE, QUICK = Scale(64, 10, 20.0), Scale(16, 3, 4.0)


class Lap(NamedTuple):
    """Trials that were trained one way: how many, in how many seconds, with how many useful operations."""

    trials: int
    seconds: float
    flops: float


def bench(scale: Scale = WHOLE) -> Iterator[str]:
    """Measures, and yields what it finds line by line.

    A random search of networks of all sizes on the digits is run cold, and again with another seed, warm. Some of the
    first one's trials are then trained by a loop in Flax and Optax as it is usually written, which compiles each of
    them, from the same initial weights and in the same order of the rows. The loop's validation is timed too.

    Args:
        scale: how much is trained.
    """
    with nothing_kept():  # compiling is measured too
        yield from _bench(scale)


def _bench(scale: Scale) -> Iterator[str]:
    devices = local_devices()
    yield f"{describe(devices)} ({devices[0].device_kind}), jax {jax.__version__}"
    is_accelerated = kind_of(devices[0]).is_accelerator
    peak = peak_flops()
    yield f"peak: {peak / 1e9:.0f} GFLOP/s, of one large float32 product{' a device' * is_accelerated}"
    yield f"{scale.trials} networks of all sizes, {scale.epochs} epochs of the digits:"
    yield _row("", "trials", "seconds", "trials/s", "useful GFLOP/s", "of the peak")
    study, cold = _search(scale, seed=0)
    yield _told("vtune, compiling included", cold, peak)
    _, warm = _search(scale, seed=1)
    yield _told("vtune, once compiled", warm, peak)
    losses, loop = _loop(study, scale)
    yield _told("a loop, compiling each trial", loop, peak)
    ratios = [lap.flops / lap.seconds / (loop.flops / loop.seconds) for lap in (cold, warm)]
    yield f"by useful work, vtune is {ratios[0]:.1f} times as fast as the loop, and {ratios[1]:.1f} times once compiled"
    yield _agreement(study, losses)


def peak_flops() -> float:
    """Returns the floating-point operations a second of one large float32 product, on all devices of this process.

    On a CPU all cores take part in one; of accelerators one is measured, and the others are taken to be like it.
    """
    devices = local_devices()
    size, times = (8192, len(devices)) if kind_of(devices[0]).is_accelerator else (2048, 1)
    a = jnp.ones((size, size), jnp.float32)
    return times * 2 * size**3 / best_seconds(jnp.matmul, a, a)


def best_seconds(function: Callable[..., Any], *arguments: Array, repeats: int = 5) -> float:
    """Returns the seconds of the fastest of some calls, compiled before."""
    compiled = jax.jit(function).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def useful_flops(params: Mapping[str, Any], data: Data, epochs: int) -> int:
    """Returns the floating-point operations of one MLP at its true size: padding and the optimizer do not count.

    4 per weight of the first layer and trained row, as no gradient of the input is needed, and 6 per other weight.

    Args:
        params: hidden, layers and batch_size at least.
        data: that it is trained on.
        epochs: how many.
    """
    sizes = {name: params[name] for name in MLP.elastic.names}
    first, *others = MLP.elastic.row_macs(sizes, Shapes(data.inputs, data.outputs))
    rows_of_epoch = data.num_train // params["batch_size"] * params["batch_size"]
    return epochs * rows_of_epoch * (4 * first + 6 * sum(others))


def _search(scale: Scale, seed: int) -> tuple[Study, Lap]:
    settings: dict[str, Any] = {"trials": scale.trials, "epochs": scale.epochs, "seed": seed}
    started = time.perf_counter()
    study = search(MLP, {**MIXED, "learning_rate": _RATES}, strategy="random", finalists=0, progress=False, **settings)
    seconds = time.perf_counter() - started
    return study, Lap(scale.trials, seconds, _flops(study, scale.trials, scale.epochs))


def _flops(study: Study, trials: int, epochs: int) -> int:
    return sum(useful_flops(study.trial(trial_id).params, study.data, epochs) for trial_id in range(trials))


def _loop(study: Study, scale: Scale) -> tuple[list[float], Lap]:
    """Trains one trial of a study after the other until the time is over; returns losses after their first epoch."""
    numbers = study.job.root, np.int32(0), np.int32(0)
    orders = np.asarray(seed_draws(*numbers, num_rows=study.data.num_train, num_epochs=scale.epochs).orders)
    losses, seconds = [], 0.0
    while len(losses) < scale.trials and (not losses or seconds < scale.loop_seconds):
        hparams, module = _begin(study, len(losses))
        started = time.perf_counter()
        with jax.numpy_dtype_promotion("standard"):  # which Optax needs, whatever is set here
            curve = train_as_usual(module, hparams, study.data.train, study.data.valid, orders)
        seconds += time.perf_counter() - started
        losses.append(curve[0, 1])
    return losses, Lap(len(losses), seconds, _flops(study, len(losses), scale.epochs))


def _begin(study: Study, trial_id: int) -> tuple[Mapping[str, Any], nnx.Module]:
    """Returns the hyperparameters of a trial, and its network at its true size with its initial weights."""
    hparams, network = study.lineages[trial_id][-1].hparams, study.job.recipe.network()
    weights = jax.jit(lambda key: network.init(key, hparams))(seed_key(from_words(study.job.root), jnp.int32(0)))
    return hparams, network.module(weights, hparams)  # pyright: ignore[reportReturnType]


def train_as_usual(
    model: Any, hparams: Mapping[str, Any], train: Rows, valid: Rows, orders: np.ndarray
) -> Float[np.ndarray, "epochs 2"]:
    """Trains a network as it is usually written in Flax and Optax: its hyperparameters are Python numbers.

    So every call compiles. Of each epoch it returns the training loss over its mini-batches and the validation loss.

    Args:
        model: an nnx module of classes, with its initial weights; it holds the trained ones afterwards.
        hparams: learning_rate, beta1, beta2, epsilon and batch_size.
        train: rows and labels.
        valid: likewise.
        orders: of the rows in each epoch; a step takes the next ``batch_size`` of them.
    """
    (x, y), batch_size = train, hparams["batch_size"]
    betas = {"b1": hparams["beta1"], "b2": hparams["beta2"], "eps": hparams["epsilon"]}
    optimizer = nnx.Optimizer(model, optax.adam(hparams["learning_rate"], **betas), wrt=nnx.Param)

    def mean_loss(model: Any, x: Any, y: Any) -> Float[Array, ""]:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    @nnx.jit
    def train_step(model: Any, optimizer: nnx.Optimizer, x: Any, y: Any) -> Float[Array, ""]:
        loss, grads = nnx.value_and_grad(mean_loss)(model, x, y)
        optimizer.update(model, grads)
        return loss

    validate, curve = nnx.jit(mean_loss), []
    for order in orders:
        batches = order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)
        losses = [train_step(model, optimizer, x[batch], y[batch]) for batch in batches]
        curve.append((np.mean([float(loss) for loss in losses]), float(validate(model, *valid))))
    return np.array(curve)


def _agreement(study: Study, losses: list[float]) -> str:
    """Whether search and loop did the same work; where one epoch is chaotic already, they part."""
    curves = [study.trial(trial_id).curves for trial_id in range(len(losses))]
    return _told_agreement([curve[0, 1] if len(curve) else np.nan for curve in curves], losses)


def _told_agreement(ours: Sequence[float], theirs: Sequence[float]) -> str:
    is_same = np.isclose(ours, theirs, rtol=_SAME, atol=0, equal_nan=True)
    told = (
        f"the losses of {is_same.sum()} of {len(theirs)} trials are those of the loop within {_SAME:g} after one epoch"
    )
    return told if is_same.mean() > 0.5 else f"NOT THE SAME WORK: {told}"


def _told(name: str, lap: Lap, peak: float) -> str:
    rate = lap.flops / lap.seconds
    numbers = f"{lap.seconds:.2f}", f"{lap.trials / lap.seconds:.1f}", f"{rate / 1e9:.1f}", f"{rate / peak:.1%}"
    return _row(name, str(lap.trials), *numbers)


def _row(name: str, *cells: str) -> str:
    return f"{name:29}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, (8, 9, 10, 16, 13), strict=True))
