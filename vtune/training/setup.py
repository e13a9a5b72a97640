"""Puts together all that trains, and checks it, before anything compiles."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import UInt32

from vtune.data import Data
from vtune.defaults import DEFAULTS, did_you_mean
from vtune.protocols import Shapes
from vtune.space import Space
from vtune.training.devices import Device, kind_of
from vtune.training.inspection import inspect, refuse_unread, warn_of_many_programs
from vtune.training.networks import ModelFn
from vtune.training.objective import Objective
from vtune.training.optimizers import OPTIMIZERS
from vtune.training.planner import Planner
from vtune.training.queue import ChunkQueue
from vtune.training.task import Recipe


def complete(space: Space) -> Space:
    """Returns the space with the default of every name of the nine that it leaves out."""
    return Space.of({**DEFAULTS, **space.entries})


def set_up(
    model_fn: ModelFn,
    space: Space,
    data: Data,
    *,
    objective: Objective,
    optimizer: str,
    root: UInt32[np.ndarray, "2"],
    trials: int,
    epochs: int,
    chunk: int | str,
    devices: Sequence[Device],
) -> ChunkQueue:
    """Returns the executor of a study, its ladder planned.

    Args:
        model_fn: returns a Flax module.
        space: as the user wrote it.
        data: rows to train and to measure on.
        objective: what is minimised and measured.
        optimizer: by name.
        root: words of the study's root key.
        trials: declared, in all.
        epochs: of one trial at most.
        chunk: lanes of every chunk, or "auto".
        devices: to train on.

    Raises:
        TypeError: the model function returns no Flax module.
        ValueError: for whatever cannot be trained: see ``inspect`` and ``refuse_unread``.
    """
    if not isinstance(optimizer, str) or optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer={optimizer!r} is not known; {did_you_mean(str(optimizer), OPTIMIZERS)}")
    whole = complete(space)
    _check_batch_size(whole, data, is_default="batch_size" not in space.entries)
    recipe = Recipe(model_fn, OPTIMIZERS[optimizer], objective.loss, objective.metrics, data.inputs, data.outputs)
    y = data.train[1]
    findings = inspect(recipe, whole, jax.ShapeDtypeStruct(y.shape[1:], y.dtype))
    refuse_unread(space, findings)
    warn_of_many_programs(whole, findings)
    shapes, kind = Shapes(data.inputs, data.outputs), kind_of(devices[0])
    planner = Planner(whole, findings.structural, shapes, data.num_train, trials, epochs, kind, data.dtype.name, chunk)
    ladder = planner.plan(findings.elastic, 0 if findings.elastic else _num_weights(recipe, whole))
    return ChunkQueue(recipe, ladder, findings.traced, data, root, devices)


def _check_batch_size(space: Space, data: Data, is_default: bool) -> None:
    largest = int(space.support("batch_size")[1])
    if largest > data.num_train:
        raise ValueError(
            f"batch_size={largest}{', the default,' if is_default else ''} is more than the {data.num_train} rows to "
            "train on, so an epoch would hold no step. "
            f'Write a smaller one into the space, "batch_size": {data.num_train} at most.'
        )


def _num_weights(recipe: Recipe, space: Space) -> int:
    """Weights of the network at the upper end of the space."""
    row = space.rows(np.ones((1, len(space.axes))))[0]
    params, _ = jax.eval_shape(lambda key: recipe.network().init(key, row), jax.eval_shape(lambda: jax.random.key(0)))
    return max(1, sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)))
