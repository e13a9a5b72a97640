"""Compiled programs: one trace a rung, one compilation a rung and place, kept for the next study."""

import hashlib
import math
import re
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax import Array

from vtune.garbage import collected_later
from vtune.protocols import LaneState, Rung
from vtune.scaling import Units
from vtune.training.devices import compiler_options
from vtune.training.disk import compiled_before, traced_before
from vtune.training.engine import ChunkInputs, Engine, Rows
from vtune.training.memory import chunk_bytes, most_bytes, num_bytes
from vtune.training.places import Place
from vtune.training.shelf import Shelf
from vtune.training.task import Recipe

SHELF: Shelf["Program"] = Shelf(room=64)
"""Programs kept for later studies with the same recipe, rung and shapes of data.

On a CPU an executable takes about 400 memory maps (jax 0.10.1), and Linux allows a process 65,530 unless told
otherwise; past that, compiling the next one ends the process. These take 26,000, beside those of the study itself.
"""

_TRACING = threading.Lock()
"""One program at a time is traced to be compiled: Python runs no two, and the first can compile beside the next one."""

_ORDER_ENTRIES = 1 << 22
_MAX_EPOCHS_PER_CALL = 32


class Stopped(Exception):
    """A worker was told to stop before it was done."""


class Signature(NamedTuple):
    """Shapes and types of what a program takes beside its states. Hashable.

    Attributes:
        traced: name and dtype of each traced hyperparameter.
        train: shape and dtype of x, then of y.
        valid: the same.
        epochs_per_call: how many epochs' orders a call is given.
        has_units: whether targets are standardized.
    """

    traced: tuple[tuple[str, str], ...]
    train: tuple[tuple[tuple[int, ...], str], ...]
    valid: tuple[tuple[tuple[int, ...], str], ...]
    epochs_per_call: int
    has_units: bool = False


class Program:
    """The program of one rung, traced once and compiled for each place that asks for it.

    Attributes:
        rung: its sizes and constants.
        states: shapes and types of a chunk's lanes.
        traced: name and dtype of each hyperparameter that its calls take.
        num_traces: how often it was traced.
        compile_seconds: of the last compilation; None before the first.
        epoch_seconds: of a chunk's epoch in the last call; None before the first.
    """

    def __init__(self, recipe: Recipe, rung: Rung, signature: Signature):
        """Prepares the program; nothing is traced yet but the shapes of its states."""
        self.rung = rung
        self._recipe = recipe
        self._engine = Engine(recipe.task(rung.sizes), rung)
        self._inputs = _abstract_inputs(rung, signature)
        self.states: LaneState = jax.eval_shape(self._engine.fresh, self._inputs)
        self.traced = tuple((name, leaf.dtype.name) for name, leaf in self._inputs.hparams.items())
        self.num_traces = 0
        self.compile_seconds: float | None = None
        self.epoch_seconds: float | None = None
        self._compiling: dict[Place, threading.Lock] = {}
        self._jitted = jax.jit(self._advance, donate_argnums=0)
        self._mark = None if recipe.name is None else repr((recipe.name, rung, signature))
        self._known: dict[tuple[str, str], Any] = {}
        self._fresh = jax.jit(self._engine.fresh)
        self._compiled: dict[Place, Any] = {}

    @cached_property
    def state_bytes(self) -> int:
        """Bytes of a chunk's lanes."""
        return num_bytes(self.states)

    @cached_property
    def estimated_bytes(self) -> int:
        """About how many bytes a call takes, known before anything compiles."""
        return chunk_bytes(self._engine.task, self.rung, self.states, self._inputs)

    @cached_property
    def most_bytes(self) -> float:
        """What ``estimated_bytes`` does not exceed, known without a trace; infinite for what is not vtune's own."""
        row_macs = self._recipe.row_macs(self.rung) if self._recipe.name else None
        return math.inf if row_macs is None else float(most_bytes(self.rung, self.states, self._inputs, row_macs))

    @property
    def num_compiled(self) -> int:
        """For how many places it is compiled."""
        return len(self._compiled)

    def is_compiled_for(self, place: Place) -> bool:
        """Whether a call at this place would not compile."""
        return place in self._compiled

    def on(
        self, place: Place, is_stopped: Callable[[], bool] = lambda: False
    ) -> Callable[..., tuple[LaneState, Array]]:
        """Returns ``Engine.advance`` compiled for a place; several places compile side by side.

        Args:
            place: where it is to run.
            is_stopped: asked before it is traced, for which it may have waited, and before it is compiled.

        Raises:
            Stopped: when told so.
        """
        with self._compiling.setdefault(place, threading.Lock()):
            if place not in self._compiled:
                with _TRACING, collected_later():  # where it is a second device's turn, it finds this done
                    _go_on_unless(is_stopped)
                    started = time.perf_counter()
                    lowered = self._jitted_for(place).trace(*place.abstract(self._arguments)).lower()
                _go_on_unless(is_stopped)
                with compiled_before(place.kind):
                    self._compiled[place] = lowered.compile(compiler_options(place.kind))
                self.compile_seconds = time.perf_counter() - started
        return self._compiled[place]

    def export(self, *platforms: str, place: Place) -> jax.export.Exported:
        """Returns the program lowered for platforms that need not be here, as ``jax.export`` names them.

        Args:
            platforms: which.
            place: a device or a mesh, of whatever platform.
        """
        with _TRACING:
            jitted, arguments = self._plain(place), place.abstract(self._arguments)
            return jax.export.export(jitted, platforms=platforms)(*arguments)

    def initial(self, inputs: ChunkInputs) -> LaneState:
        """Returns a chunk's lanes before their first epoch, to look at them; training makes them inside its program."""
        return self._fresh(inputs)

    def memory_analysis(self, place: Place) -> Any:
        """Returns what the compiler says of the program's memory."""
        return self.on(place).memory_analysis()  # pyright: ignore[reportFunctionMemberAccess]

    @property
    def _arguments(self) -> tuple[Any, ...]:
        scalar = jax.ShapeDtypeStruct((), jnp.int32)
        return self.states, self._inputs, scalar, scalar

    def _jitted_for(self, place: Place) -> Any:
        target = place.target
        if self._mark is None or target is None:
            return self._plain(place)
        if (target, place.kind.name) not in self._known:
            advance = self._known_advance(target, place.kind.name)
            self._known[target, place.kind.name] = jax.jit(advance, donate_argnums=0)
        return self._known[target, place.kind.name]

    def _plain(self, place: Place) -> Any:
        spread = place.spread(self._advance)
        return self._jitted if spread is None else jax.jit(spread, donate_argnums=0)

    def _known_advance(self, target: str, device: str) -> Callable[..., tuple[LaneState, Array]]:
        """Returns ``_advance`` as an earlier process traced it, or else this one.

        Either way it is compiled from what was exported: if one process compiled another text of the same program, its
        bits might be others. Exported are the leaves of all trees, as nodes of Optax's own could not be read back.
        """
        leaves, tree = jax.tree.flatten(self._arguments)

        def advance_leaves(*leaves: Any) -> list[Array]:
            return jax.tree.leaves(self._advance(*jax.tree.unflatten(tree, leaves)))

        def trace() -> jax.export.Exported:
            return jax.export.export(jax.jit(advance_leaves), platforms=[target])(*leaves)

        exported = traced_before(repr((self._mark, target, device)), trace)
        returned = jax.tree.structure((self.states, 0))
        return lambda *arguments: jax.tree.unflatten(returned, exported.call(*jax.tree.leaves(arguments)))

    def _advance(self, *arguments: Any) -> tuple[LaneState, Array]:
        self.num_traces += 1
        return self._engine.advance(*arguments)


def _go_on_unless(is_stopped: Callable[[], bool]) -> None:
    if is_stopped():
        raise Stopped


def program(recipe: Recipe, rung: Rung, signature: Signature, fingerprint: str) -> Program:
    """Returns the program of a rung; the same one for every study that differs in its seed alone.

    Args:
        recipe: what all trials have in common.
        rung: sizes and constants.
        signature: of the data.
        fingerprint: of what the recipe comes to, so that no study is given the program of a model that has changed.
    """
    return SHELF.take((recipe, rung, signature, fingerprint), lambda: Program(recipe, rung, signature))


def fingerprint(recipe: Recipe, rung: Rung, signature: Signature) -> str:
    """Returns a digest of what a program would compute, its constants included.

    A function that reads a global variable is the same object with another value of it, and does something else. The
    types of the constants count too: 1, 1.0 and True are equal.
    """
    types = [type(value).__name__ for _, value in rung.structure]
    if recipe.elastic and recipe.is_vtunes_own:  # an elastic model depends on its arguments alone
        return repr(types)
    engine, inputs = Engine(recipe.task(rung.sizes), rung), _abstract_inputs(rung, signature)
    states = jax.eval_shape(engine.fresh, inputs)
    scalar = jax.ShapeDtypeStruct((), jnp.int32)
    traced = jax.make_jaxpr(engine.advance)(states, inputs, scalar, scalar)
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", str(traced)).encode())
    for constant in traced.consts:
        digest.update(np.asarray(constant).tobytes())
    return repr(types) + digest.hexdigest()


def epochs_per_call(num_rows: int) -> int:
    """Returns how many epochs' orders of so many rows fit in one call."""
    return max(1, min(_MAX_EPOCHS_PER_CALL, _ORDER_ENTRIES // num_rows))


def _abstract_inputs(rung: Rung, signature: Signature) -> ChunkInputs:
    constants = dict(rung.structure)
    train, valid = (Rows(*(_abstract(*array) for array in part)) for part in (signature.train, signature.valid))
    num_rows, (y_shape, y_dtype) = signature.train[0][0][0], signature.train[1]
    unit = _abstract(y_shape[1:], y_dtype)
    return ChunkInputs(
        hparams={n: _abstract((rung.lanes,), dtype) for n, dtype in signature.traced if n not in constants},
        is_active=_abstract((rung.lanes,), "bool"),
        key_words=_abstract((2,), "uint32"),
        orders=_abstract((signature.epochs_per_call, num_rows), "int32"),
        train=train,
        valid=valid,
        units=Units(unit, unit) if signature.has_units else None,
    )


def _abstract(shape: tuple[int, ...], dtype: str) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)
