"""What the trials of a seed index share: the key of their weights and noise, and the order of the rows."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int, UInt32

from vtune.keys import Purpose, from_words, seed_key
from vtune.precision import float_precision
from vtune.training.devices import DeviceKind, compiler_options
from vtune.training.disk import kept_for_later
from vtune.training.job import Job
from vtune.training.places import Place

_KEPT_WINDOWS = 4
"""Of how many windows of epochs a worker needs the orders: for two seed indices in turn, of two windows each."""


class SeedDraws(NamedTuple):
    """What the trials of a seed index share.

    Attributes:
        key_words: of its key; weights and noise are drawn from that. Rungs need not each compile how it comes about.
        orders: of the rows, in each of some epochs.
    """

    key_words: UInt32[Array, "2"]
    orders: Int[Array, "epochs rows"]


@partial(jax.jit, static_argnames=("num_rows", "num_epochs"))
def seed_draws(
    root: UInt32[Array, "2"], seed_index: Int[Array, ""], first_epoch: Int[Array, ""], *, num_rows: int, num_epochs: int
) -> SeedDraws:
    """Returns what the trials of a seed index share.

    It may be part of another program; where it is one by itself, ``Draws`` compiles it as all are.

    Args:
        root: words of the study's root key.
        seed_index: which of the study's seeds.
        first_epoch: absolute number of the first epoch.
        num_rows: how many rows there are to train on.
        num_epochs: how many epochs.
    """
    key = seed_key(from_words(root), seed_index)
    epochs = first_epoch + jnp.arange(num_epochs, dtype=jnp.int32)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(key, Purpose.ORDER), epochs)
    orders = jax.vmap(lambda key: jax.random.permutation(key, num_rows))(keys).astype(jnp.int32)
    return SeedDraws(jax.random.key_data(key), orders)


class Draws:
    """The draws of a job at one place, which its workers share: who asks first makes them, and others wait for that."""

    def __init__(self, place: Place, job: Job, num_workers: int):
        """Draws nothing yet.

        Args:
            place: a device, or a mesh of several.
            job: what is trained.
            num_workers: how many train there.
        """
        self._place, self._job, self._room = place, job, _KEPT_WINDOWS * num_workers
        self._known: OrderedDict[tuple[int, int], SeedDraws] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, seed_index: int, epoch: int) -> SeedDraws:
        """Returns the draws of a seed index, with the orders of the window of epochs that holds this one.

        Those asked for last are kept.
        """
        asked = seed_index, epoch - epoch % self._job.signature.epochs_per_call
        with self._lock:
            if asked not in self._known:
                self._known[asked] = self._drawn(*asked)
            self._known.move_to_end(asked)
            if len(self._known) > self._room:
                self._known.popitem(last=False)
            return self._known[asked]

    def _drawn(self, seed_index: int, first_epoch: int) -> SeedDraws:
        draw = _drawing(self._place.kind, self._job.data.num_train, self._job.signature.epochs_per_call)
        with float_precision(self._job.data.dtype):
            numbers = self._place.put((self._job.root, np.int32(seed_index), np.int32(first_epoch)))
            return self._place.put(draw(*numbers))


@lru_cache
def _drawing(kind: DeviceKind, num_rows: int, num_epochs: int) -> Callable[..., SeedDraws]:
    """Returns ``seed_draws`` for these sizes as a program by itself, compiled as all are for devices of a kind."""
    draw = partial(seed_draws, num_rows=num_rows, num_epochs=num_epochs)
    return kept_for_later(jax.jit(draw, compiler_options=compiler_options(kind)), kind)
