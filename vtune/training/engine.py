"""The one program of a rung: it carries a chunk of trials from one epoch to another.

Only this module knows lanes and micro-batches. A mini-batch is cut into micro-batches of ``rung.rows`` rows whose
gradients are summed; the optimizer steps where a mini-batch ends. Where a lane has nothing to do, ``where`` keeps its
old state bit for bit. Nothing is ever reduced over lanes but the number of turns of the loop, whether any lane steps,
and whether any has some part of the network: where none does, the optimizer, or the part, is left out.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int, Key, PyTree, UInt32

from vtune.keys import from_words
from vtune.protocols import DIVERGED, IDLE, RUNNING, LaneState, Rung, Task
from vtune.scaling import Units
from vtune.training.optional import NetworkParts

VALIDATION_ROWS = 128
"""How many validation rows are measured at a time, at most."""


class Rows(NamedTuple):
    """Data as the program takes them: arguments, never constants of it."""

    x: Float[Array, "rows *inputs"]
    y: Array


class ChunkInputs(NamedTuple):
    """What decides a chunk beside its states.

    Attributes:
        hparams: the traced hyperparameters by name, one entry a lane.
        is_active: False for the lanes that fill up the chunk.
        key_words: of the chunk's seed index: initial weights and noise are drawn from it.
        orders: row numbers in the order of each epoch of a window; epoch e reads row e modulo the window.
        train: the rows to train on.
        valid: the rows to measure on.
        units: by which the targets to train on were standardized, those to measure on being in their own units; None
            where they are the same.
    """

    hparams: dict[str, Array]
    is_active: Bool[Array, " lanes"]
    key_words: UInt32[Array, "2"]
    orders: Int[Array, "epochs rows"]
    train: Rows
    valid: Rows
    units: Units | None = None


class _Turn(NamedTuple):
    """What a lane carries from micro-batch to micro-batch; the sums run since its mini-batch and its epoch began."""

    state: LaneState
    grads: PyTree
    batch_loss: Float[Array, "*lanes"]
    epoch_loss: Float[Array, "*lanes"]


class _Gradients(NamedTuple):
    """What a lane has found out about its mini-batch when a turn ends.

    Attributes:
        loss: summed over the rows so far.
        grads: likewise.
        model_state: after the micro-batch.
        is_due: whether the optimizer is to step.
    """

    loss: Float[Array, "*lanes"]
    grads: PyTree
    model_state: PyTree
    is_due: Bool[Array, "*lanes"]


class _Clock(NamedTuple):
    """Where a lane is in its epoch at one turn of the loop, and which rows of the epoch's order it then reads."""

    first_row: Int[Array, ""]
    weight: Float[Array, " rows"]
    begins_batch: Bool[Array, ""]
    ends_batch: Bool[Array, ""]
    is_within_epoch: Bool[Array, ""]


@dataclass(frozen=True)
class Engine:
    """Writes the program of one rung.

    Attributes:
        task: how one trial is trained.
        rung: the program's sizes and constants.
    """

    task: Task
    rung: Rung

    def advance(
        self, states: LaneState, inputs: ChunkInputs, first_epoch: Int[Array, ""], num_epochs: Int[Array, ""]
    ) -> tuple[LaneState, Float[Array, "lanes epochs metrics"]]:
        """Trains every lane of a chunk for some epochs. Any split of epochs over calls gives the same bits.

        Args:
            states: the lanes as the last call left them. From epoch 0 they are made anew, and these only lend their
                memory.
            inputs: all else that decides the chunk.
            first_epoch: the absolute number of the first epoch.
            num_epochs: how many to train, at most as many as there are ``inputs.orders``; traced.

        Returns:
            The lanes afterwards, and for each lane and epoch the training loss over the epoch's mini-batches, then
            the validation loss and metrics; NaN for a diverged lane and beyond ``num_epochs``.
        """
        key = from_words(inputs.key_words)

        def epoch(offset: Int[Array, ""], carry: tuple[LaneState, Array]) -> tuple[LaneState, Array]:
            states, curves = carry
            order = inputs.orders[lax.rem(first_epoch + offset, jnp.int32(inputs.orders.shape[0]))]
            states, train_loss = self._train_epoch(states, inputs, key, order)
            measured = self.validate(states, inputs)
            states, row = jax.vmap(_close_epoch)(states, train_loss, measured)
            return states, lax.dynamic_update_index_in_dim(curves, row, offset, axis=1)

        states = lax.cond(first_epoch == 0, lambda: self.fresh(inputs), lambda: states)
        curves = jnp.full((self.rung.lanes, inputs.orders.shape[0], 1 + len(self.task.metrics)), jnp.nan)
        return lax.fori_loop(0, num_epochs, epoch, (states, curves))

    def fresh(self, inputs: ChunkInputs) -> LaneState:
        """Returns the lanes before their first epoch."""
        key = from_words(inputs.key_words)
        states = jax.vmap(lambda traced: self.task.init(key, self._complete(traced)))(inputs.hparams)
        return states._replace(status=jnp.where(inputs.is_active, RUNNING, IDLE))

    def _complete(self, traced: dict[str, Array]) -> dict[str, Any]:
        return {**dict(self.rung.structure), **traced}

    def _train_epoch(
        self, states: LaneState, inputs: ChunkInputs, key: Key[Array, ""], order: Int[Array, " rows"]
    ) -> tuple[LaneState, Float[Array, " lanes"]]:
        rung, num_rows = self.rung, order.shape[0]
        batch_sizes = jnp.asarray(self._complete(inputs.hparams)["batch_size"])
        padded_order = jnp.concatenate([order, jnp.zeros(rung.rows, order.dtype)])

        def rows_from(first: Int[Array, ""]) -> Rows:
            rows = lax.dynamic_slice(padded_order, (first,), (rung.rows,))
            return Rows(inputs.train.x[rows], inputs.train.y[rows])

        def lane_gradients(lane: _Turn, traced: dict[str, Array], time: Int[Array, ""], *shared: Array) -> _Gradients:
            hparams = self._complete(traced)
            clock = self._clock(time, hparams["batch_size"], num_rows)
            rows = Rows(*shared) if shared else rows_from(clock.first_row)
            return self._gradients(lane, hparams, clock, rows, key)

        def step(lanes: _Turn, found: _Gradients) -> _Turn:
            return jax.vmap(self._step)(lanes, found, inputs.hparams)

        def turn(time: Int[Array, ""], lanes: _Turn) -> _Turn:
            shared, axes = (), ()
            if rung.is_shared:
                x, y = rows_from(time * rung.rows)
                if rung.copies_rows:
                    x = jnp.broadcast_to(x, (rung.lanes, *x.shape))
                shared, axes = (x, y), (0 if rung.copies_rows else None, None)
            found = jax.vmap(lane_gradients, in_axes=(0, 0, None, *axes))(lanes, inputs.hparams, time, *shared)
            if not rung.accumulates:
                return step(lanes, found)
            return lax.cond(found.is_due.any(), step, _wait, lanes, found)

        # Of no matter: what a mini-batch begins with is left out. Zeros would take a kernel for each. The sum of a part
        # that no lane has stays what it is here: the zeros that its weights are, which nobody reads.
        grads = states.params if rung.accumulates else ()
        start = _Turn(states, grads, jnp.zeros(rung.lanes), jnp.zeros(rung.lanes))
        batches = _quotient(num_rows, batch_sizes)
        end = lax.fori_loop(0, jnp.max(batches * self._pieces(batch_sizes)), turn, start)
        return end.state, end.epoch_loss / (batches * batch_sizes).astype(end.epoch_loss.dtype)

    def _gradients(self, lane: _Turn, hparams: dict[str, Any], clock: _Clock, rows: Rows, key: Array) -> _Gradients:
        """Adds the gradients of one micro-batch to those of its mini-batch."""
        state = lane.state
        gradient = jax.value_and_grad(self.task.loss_sum, has_aux=True)
        (loss, model_state), grads = gradient(state.params, state, hparams, *rows, clock.weight, key)
        if self.rung.accumulates:

            def add(new: PyTree, old: PyTree) -> PyTree:
                return jax.tree.map(lambda new, old: new + jnp.where(clock.begins_batch, 0, old), new, old)

            loss = add(loss, lane.batch_loss)
            grads = self._parts(state, hparams).map(add, lambda new, old: old, grads, lane.grads)
        is_due = clock.is_within_epoch & clock.ends_batch & (state.status == RUNNING)
        return _Gradients(loss, grads, model_state, is_due)

    def _step(self, lane: _Turn, found: _Gradients, traced: dict[str, Array]) -> _Turn:
        """Takes the optimizer's step of a mini-batch where it is due.

        One whose loss or gradients are not finite is not taken: the lane stays as it was before it, for ever.
        """
        hparams = self._complete(traced)
        loss, grads, model_state, is_due = found
        parts = self._parts(lane.state, hparams)
        steps = is_due & jnp.isfinite(loss) & parts.all(_all_finite, grads)

        def step(state: LaneState, grads: PyTree, model_state: PyTree) -> LaneState:
            mean = jax.tree.map(lambda grad: grad / jnp.asarray(hparams["batch_size"]).astype(grad.dtype), grads)
            stepped = self.task.update(state._replace(model_state=model_state), mean, hparams)
            return jax.tree.map(lambda new, old: jnp.where(steps, new, old), stepped, state)

        state = parts.map(step, lambda state, *_: state, lane.state, grads, model_state)
        epoch_loss = jnp.where(steps, lane.epoch_loss + loss, lane.epoch_loss)
        return _Turn(_freeze_where(is_due & ~steps, state), grads if self.rung.accumulates else (), loss, epoch_loss)

    def _parts(self, state: LaneState, hparams: dict[str, Any]) -> NetworkParts:
        return NetworkParts(tuple(state.params), self.task.has_part(hparams))

    def _clock(self, time: Int[Array, ""], batch_size: Any, num_rows: int) -> _Clock:
        rows, pieces = self.rung.rows, self._pieces(batch_size)
        batch = _quotient(time, pieces)
        piece = time - batch * pieces
        is_inside = piece * rows + jnp.arange(rows, dtype=jnp.int32) < batch_size
        return _Clock(
            first_row=batch * batch_size + piece * rows,
            weight=jnp.ones(rows) if self.rung.is_shared else is_inside.astype(jnp.ones(()).dtype),
            begins_batch=piece == 0,
            ends_batch=piece == pieces - 1,
            is_within_epoch=batch < _quotient(num_rows, batch_size),
        )

    def _pieces(self, batch_size: Any) -> Any:
        """Micro-batches in a mini-batch."""
        return _quotient(batch_size + self.rung.rows - 1, self.rung.rows)

    def validate(self, states: LaneState, inputs: ChunkInputs) -> Float[Array, "lanes metrics"]:
        """Returns the means of loss and metrics over the validation rows, some rows at a time to bound the memory."""
        num_rows = inputs.valid.x.shape[0]
        rows = math.ceil(num_rows / math.ceil(num_rows / VALIDATION_ROWS))  # the last part is nearly as large as others
        missing = -num_rows % rows
        padded = jax.tree.map(lambda a: jnp.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1)), inputs.valid)

        def lane_sums(state: LaneState, traced: dict[str, Array], part: Rows, weight: Array) -> Array:
            return self.task.metric_sums(state, self._complete(traced), *part, weight, inputs.units)

        def add_part(index: Int[Array, ""], sums: Float[Array, "lanes metrics"]) -> Float[Array, "lanes metrics"]:
            part = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, index * rows, rows), padded)
            weight = (index * rows + jnp.arange(rows, dtype=jnp.int32) < num_rows).astype(sums.dtype)
            return sums + jax.vmap(lane_sums, in_axes=(0, 0, None, None))(states, inputs.hparams, part, weight)

        none = jnp.zeros((self.rung.lanes, len(self.task.metrics)))
        return lax.fori_loop(0, (num_rows + missing) // rows, add_part, none) / num_rows


def _quotient(number: Any, part: Any) -> Int[Array, "*lanes"]:
    """Returns ``number // part`` where neither has a sign: ``//`` would see to those as well."""
    number, part = (jnp.asarray(value, jnp.int32) for value in (number, part))
    return lax.div(*jnp.broadcast_arrays(number, part))


def _wait(lanes: _Turn, found: _Gradients) -> _Turn:
    """What ``Engine._step`` comes to where no lane is due."""
    return lanes._replace(grads=found.grads, batch_loss=found.loss)


def _close_epoch(
    state: LaneState, train_loss: Float[Array, ""], measured: Float[Array, " metrics"]
) -> tuple[LaneState, Float[Array, " columns"]]:
    """Counts the epoch, and freezes a lane whose last step made its network's loss non-finite."""
    state = state._replace(epoch=jnp.where(state.status == RUNNING, state.epoch + 1, state.epoch))
    state = _freeze_where((state.status == RUNNING) & ~jnp.isfinite(measured[0]), state)
    row = jnp.concatenate([train_loss[None], measured])
    return state, jnp.where(state.status == RUNNING, row, jnp.nan)


def _freeze_where(diverges: Bool[Array, ""], state: LaneState) -> LaneState:
    return state._replace(
        status=jnp.where(diverges, DIVERGED, state.status),
        diverged_step=jnp.where(diverges, state.step, state.diverged_step),
    )


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every number is finite.

    Its product with zeros is 0 or NaN. XLA has products at hand, and a reduction takes longer to compile and to run.
    """
    flat = [leaf.ravel() for leaf in jax.tree.leaves(tree)]
    zeros = [lax.optimization_barrier(jnp.zeros_like(leaf)) for leaf in flat]  # else they might be multiplied out
    return jnp.stack([leaf @ zero == 0 for leaf, zero in zip(flat, zeros, strict=True)]).all()
