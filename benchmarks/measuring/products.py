"""How many of a search's operations are matrix products, and how fast those are by themselves."""

import threading
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from vtune.protocols import ChunkResult, Rung
from vtune.study import Study
from vtune.training.devices import Device, kind_of, local_devices, own, worker_devices
from vtune.training.outlook import Outlook

_FLOPS = 2e9
"""How many operations a measurement makes."""

_REPEATS = 3


def outlook_of(study: Study) -> Outlook:
    """Returns what tells how much a rung of a study computes."""
    told = {name: study.settings[name] for name in ("trials", "epochs", "chunk")}
    return Outlook(study.parts, study.parts.planner(kind=kind_of(own(local_devices())), **told), [])


def made_flops(outlook: Outlook, result: ChunkResult) -> int:
    """Returns the operations of a chunk's products while it trains: those of padding and of idle lanes count too."""
    rung, trainings = result.chunk.rung, result.chunk.trainings
    turns = max(
        outlook.planner.turns(one.hparams["batch_size"], rung.rows) * (one.legs[-1].until - one.start)
        for one in trainings
    )
    first, *others = outlook.made_macs(rung, [training.hparams for training in trainings])
    return turns * rung.lanes * rung.rows * (4 * first + 6 * sum(others))


def product_rate(rung: Rung) -> float:
    """Returns the operations a second of the three products of a hidden layer, for one worker while all are at work.

    They are batched over a chunk's lanes, and nothing else is done: what a program does beside them takes its time
    from this.
    """
    return _rate(dict((*rung.sizes, *rung.structure))["hidden"], rung.rows, rung.lanes)


@cache
def _rate(width: int, rows: int, lanes: int) -> float:
    devices, flops = worker_devices(local_devices()), 6 * lanes * rows * width**2
    turns = max(1, round(_FLOPS / flops))
    rows_of, weights = jnp.zeros((lanes, rows, width)), jnp.zeros((lanes, width, width))
    step = jax.jit(partial(_turns, number=turns)).lower(rows_of, weights).compile()
    return turns * flops / median(_side_by_side(step, rows_of, weights, devices) for _ in range(_REPEATS))


def _turns(x: Array, kernel: Array, number: int) -> tuple[Array, Array]:
    """Forward, and both ways back, again and again; each takes what the last put out, or it would be left out."""

    def turn(_: Array, carried: tuple[Array, Array]) -> tuple[Array, Array]:
        x, kernel = carried
        slope = x @ kernel
        return slope @ jnp.swapaxes(kernel, 1, 2), jnp.swapaxes(x, 1, 2) @ slope

    return lax.fori_loop(0, number, turn, (x, kernel))


def _side_by_side(step: Callable[..., Any], x: Array, kernel: Array, devices: Sequence[Device]) -> float:
    """Returns the seconds of a call, one being made on each device at the same time."""
    gate, seconds = threading.Barrier(len(devices)), []

    def call(device: Device) -> None:
        arguments = jax.device_put((x, kernel), device)
        gate.wait()
        started = time.perf_counter()
        jax.block_until_ready(step(*arguments))
        seconds.append(time.perf_counter() - started)

    threads = [threading.Thread(target=call, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return median(seconds)
