"""How one trial is trained: a network, an optimizer, a loss and the metrics, as pure functions of one lane."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, Int, Key, PyTree, Shaped

from vtune.keys import IMPLEMENTATION, Purpose
from vtune.protocols import RUNNING, Hparams, LaneState, Rung, Shapes, Task
from vtune.scaling import Units
from vtune.training.elastic import Elastic, declared
from vtune.training.losses import LOSSES, METRICS, Metric, RowLoss
from vtune.training.networks import ModelFn, Network
from vtune.training.optimizers import Optimizer, named


class Recipe(NamedTuple):
    """What all trials of a study have in common. Hashable: with a rung it names a program.

    Attributes:
        model_fn: returns a Flax module.
        optimizer: from hyperparameters to an Optax transformation.
        loss: what is minimised, one number a row.
        metrics: what else is measured on validation rows.
        inputs: the shape of one row of x.
        outputs: numbers that the network puts out for a row.
        matmul_precision: of the network's matrix products, as ``jax.default_matmul_precision`` names it; None for what
            JAX takes by itself.
    """

    model_fn: ModelFn
    optimizer: Optimizer
    loss: RowLoss
    metrics: tuple[Metric, ...]
    inputs: tuple[int, ...]
    outputs: int
    matmul_precision: str | None = None

    @property
    def is_vtunes_own(self) -> bool:
        """Whether optimizer, loss and metrics are vtune's, and so always do the same."""
        return self.optimizer is named and self.loss in LOSSES.values() and set(self.metrics) <= set(METRICS.values())

    @property
    def name(self) -> str | None:
        """What it is in every process; None where a part is a user's, which may do something else by the same name."""
        model_fn = self.model_fn
        is_known = self.is_vtunes_own and isinstance(model_fn, type) and model_fn.__module__.startswith("vtune.")
        if not is_known:
            return None
        losses = [loss for loss, function in LOSSES.items() if function is self.loss]
        metrics = [metric.name for metric in self.metrics]
        return repr(
            (
                model_fn.__module__,
                model_fn.__qualname__,
                losses,
                metrics,
                self.inputs,
                self.outputs,
                self.matmul_precision,
            )
        )

    @property
    def elastic(self) -> Elastic | None:
        """What the model declares; None for one that declares nothing."""
        return declared(self.model_fn)

    def row_macs(self, rung: Rung, **computed: int) -> Sequence[int] | None:
        """Returns the multiply-adds of one row's forward pass by layer; None for a model that does not declare them.

        Args:
            rung: whose padded sizes they are of.
            computed: of the sizes that a chunk may skip, how much it computes, where that is less.
        """
        if self.elastic is None:
            return None
        whole = {name: value for name, value in rung.structure if type(value) is int}  # sizes that are constants there
        return self.elastic.row_macs({**whole, **dict(rung.sizes), **computed}, Shapes(self.inputs, self.outputs))

    def network(self, sizes: Sequence[tuple[str, int]] = ()) -> Network:
        """Returns the network padded to these elastic sizes, or at its true size where none is given."""
        return Network(self.model_fn, Shapes(self.inputs, self.outputs, dict(sizes)), self.matmul_precision)

    def task(self, sizes: Sequence[tuple[str, int]] = ()) -> Task:
        """Returns how one trial is trained, padded to these elastic sizes."""
        return make_task(self.network(sizes), self.optimizer, self.loss, self.metrics)


def make_task(network: Network, optimizer: Optimizer, loss: RowLoss, metrics: Sequence[Metric]) -> Task:
    """Puts the parts together.

    Args:
        network: the model.
        optimizer: called inside the trace. The learning rate it is given in epoch e is
            ``learning_rate / (1 + decay * e)``, e counted from 0.
        loss: what is minimised, one number a row.
        metrics: what else is measured on validation rows, beside the loss.

    Returns:
        The task of one trial.
    """

    def transformation(hparams: Hparams, epoch: Int[Array, ""]) -> optax.GradientTransformation:
        start = jnp.asarray(hparams["learning_rate"])
        now = start / (1 + hparams["decay"] * epoch.astype(start.dtype))
        return optimizer(ChainMap({"learning_rate": now}, hparams))  # pyright: ignore[reportArgumentType]

    def init(key: Key[Array, ""], hparams: Hparams) -> LaneState:
        params, model_state = network.init(key, hparams)
        zero = jnp.zeros((), jnp.int32)
        with jax.numpy_dtype_promotion("standard"):
            optimizer_state = transformation(hparams, zero).init(params)
        return LaneState(params, optimizer_state, model_state, zero, zero, zero + RUNNING, zero - 1)

    def loss_sum(
        params: PyTree, state: LaneState, hparams: Hparams, x: Array, y: Array, weight: Array, key: Array
    ) -> tuple[Array, PyTree]:
        noise_key = jax.random.fold_in(jax.random.fold_in(key, Purpose.NOISE), state.step)
        weights = (params, state.model_state)
        outputs, model_state = network.apply(weights, hparams, x, noise_key, is_training=True)
        return _weighted_sum(loss(outputs, y), weight), _typed_like(state.model_state, model_state)

    def update(state: LaneState, grads: PyTree, hparams: Hparams) -> LaneState:
        with jax.numpy_dtype_promotion("standard"):
            step = transformation(hparams, state.epoch).update
            updates, optimizer_state = step(grads, state.optimizer_state, state.params)
            params = optax.apply_updates(state.params, updates)
        optimizer_state = _typed_like(state.optimizer_state, optimizer_state)
        return state._replace(params=params, optimizer_state=optimizer_state, step=state.step + 1)

    def metric_sums(
        state: LaneState, hparams: Hparams, x: Array, y: Array, weight: Array, units: Units | None = None
    ) -> Float[Array, " metrics"]:
        weights, unused = (state.params, state.model_state), jax.random.key(0, impl=IMPLEMENTATION)
        outputs, _ = network.apply(weights, hparams, x, unused, is_training=False)
        targets, predicted = (y, outputs) if units is None else (units.standardize(y), units.restore(outputs))
        rows = [loss(outputs, targets), *(metric.of_rows(predicted, y) for metric in metrics)]
        return jnp.stack([_weighted_sum(row, weight) for row in rows])

    def has_part(hparams: Hparams) -> Mapping[str, Array]:
        is_elementwise = optimizer is named  # a user's may measure the gradients as a whole
        return network.has_part(hparams) if is_elementwise else {}

    return Task(init, loss_sum, update, metric_sums, ("loss", *(metric.name for metric in metrics)), has_part)


def _weighted_sum(of_rows: Shaped[Array, " batch"], weight: Float[Array, " batch"]) -> Float[Array, ""]:
    """Sums rows of weight 1 in the type of the weights; what a row of weight 0 came to, NaN too, is left out."""
    return jnp.sum(jnp.where(weight > 0, of_rows.astype(weight.dtype), 0))


def _typed_like(old: PyTree, new: PyTree) -> PyTree:
    """The new state in the types of the old one.

    A traced hyperparameter has a type of its own, unlike a Python float: half-precision moments would not stay so.
    """
    return jax.tree.map(lambda before, after: jnp.asarray(after).astype(before.dtype), old, new)
