"""Flax modules as pure functions: one face for nnx and linen.

A module is built anew inside every trace that needs it, from the hyperparameters of that trace, and then filled with
the weights of the lane. What it drew for its own start is not used there, and XLA drops it. So a hyperparameter
may be a traced number anywhere in a model, and no module object lives longer than a trace.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import Array
from jaxtyping import Key, PyTree

from vtune.keys import IMPLEMENTATION, Purpose
from vtune.precision import float_dtype
from vtune.protocols import Hparams, Shapes
from vtune.training.elastic import declared

ModelFn = Callable[..., Any]
"""``model_fn(hparams, rngs, shapes)`` returns a Flax module; it is given those of the three that it names."""


class ModelError(TypeError):
    """What a model function made is no Flax module, or no network of one array."""


_STATE = nnx.All(nnx.OfType(nnx.Variable), nnx.Not(nnx.Any(nnx.Param, nnx.Intermediate)))  # what is sown is left
_FLAGS_WHEN_TRAINING = {"train": True, "training": True, "is_training": True, "deterministic": False}


@dataclass(frozen=True)
class Network:
    """A model function as pure functions of its weights.

    Attributes:
        model_fn: returns a Flax module.
        shapes: what it may ask of the data and the rung.
        matmul_precision: of its matrix products, backward ones too; None for what JAX takes by itself.
    """

    model_fn: ModelFn
    shapes: Shapes
    matmul_precision: str | None = None

    def init(self, key: Key[Array, ""], hparams: Hparams) -> tuple[PyTree, PyTree]:
        """Returns new weights and the rest of the model's state, as nested dicts of arrays.

        Raises:
            ModelError: the model function returned no Flax module.
        """
        module = self._build(key, hparams)
        if isinstance(module, nnx.Module):
            return _values(module, nnx.Param), _values(module, _STATE)
        row = jnp.zeros((1, *self.shapes.inputs), float_dtype())
        streams = {"params": _stream(key, Purpose.WEIGHTS), "dropout": _stream(key, Purpose.NOISE)}
        variables = dict(module.init(streams, row, **_flags(module, is_training=False)))
        variables.pop("intermediates", None)  # what is sown is left
        return variables.pop("params", {}), variables

    def apply(
        self,
        weights: tuple[PyTree, PyTree],
        hparams: Hparams,
        x: Array,
        noise_key: Key[Array, ""],
        *,
        is_training: bool,
    ) -> tuple[Array, PyTree]:
        """Runs the network on a batch.

        Args:
            weights: what ``init`` returned, or a later value of it.
            hparams: those of the trial.
            x: rows, of shape (batch, *inputs).
            noise_key: linen's dropout stream of this step; nnx keeps its own in the model state.
            is_training: told to the module in the way that it knows.

        Returns:
            The outputs, of shape (batch, outputs), and the model state after the call.
        """
        with jax.default_matmul_precision(self.matmul_precision):  # pyright: ignore[reportArgumentType]  (None resets)
            return self._apply(weights, hparams, x, noise_key, is_training)

    def _apply(
        self, weights: tuple[PyTree, PyTree], hparams: Hparams, x: Array, noise_key: Key[Array, ""], is_training: bool
    ) -> tuple[Array, PyTree]:
        module = self._build(_unused_key(), hparams)
        flags = _flags(module, is_training=is_training)
        if isinstance(module, nnx.Module):
            _fill(module, weights)
            (module.train if is_training else module.eval)()
            return module(x, **flags), _values(module, _STATE)  # pyright: ignore[reportCallIssue]
        params, state = weights
        variables, streams = {"params": params, **state}, {"dropout": noise_key}
        if not is_training:
            return module.apply(variables, x, rngs=streams, **flags), state  # pyright: ignore[reportReturnType]
        outputs, updated = module.apply(variables, x, rngs=streams, mutable=list(state), **flags)
        return outputs, {**state, **updated}

    def has_part(self, hparams: Hparams) -> Mapping[str, Any]:
        """Returns, of the entries of the weights that a network may lack, whether this one has it."""
        elastic = declared(self.model_fn)
        return elastic.has_part(hparams, self.shapes) if elastic else {}

    def module(self, weights: tuple[PyTree, PyTree], hparams: Hparams) -> Callable[..., Array]:
        """Returns a Flax module that holds these weights, ready to be called on rows of x.

        Where its call takes a keyword such as ``train``, that is bound to what evaluation needs, by a ``partial``.
        """
        module, weights = self._build(_unused_key(), hparams), jax.tree.map(jnp.asarray, weights)
        flags = _flags(module, is_training=False)
        if isinstance(module, nnx.Module):
            _fill(module, weights)
            module.eval()
        else:
            params, state = weights
            module = module.bind({"params": params, **state})
        return partial(module, **flags) if flags else module  # pyright: ignore[reportReturnType, reportCallIssue]

    def _build(self, key: Key[Array, ""], hparams: Hparams) -> nnx.Module | linen.Module:
        rngs = nnx.Rngs(params=_stream(key, Purpose.WEIGHTS), default=_stream(key, Purpose.NOISE))
        offers = {"hparams": hparams, "rngs": rngs, "shapes": self.shapes}
        module = self.model_fn(**{name: offers[name] for name in self._named_arguments})
        if isinstance(module, nnx.Module | linen.Module):
            return module
        raise ModelError(
            f"model_fn returned {type(module).__name__}, which is no Flax module. Return an nnx.Module such as "
            "nnx.Linear(..., rngs=rngs), or a flax.linen.Module."
        )

    @cached_property
    def _named_arguments(self) -> Sequence[str]:
        offered, parameters = ("hparams", "rngs", "shapes"), _parameters(self.model_fn)
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return offered
        return [name for name in offered if name in parameters]


def _parameters(model_fn: ModelFn) -> Mapping[str, inspect.Parameter]:
    """What a model function takes; of a class, what its constructor does: nnx hides that behind ``*args``."""
    built = model_fn.func if isinstance(model_fn, partial) else model_fn
    return inspect.signature(built.__init__ if isinstance(built, type) else model_fn).parameters


def _stream(key: Key[Array, ""], purpose: Purpose) -> Key[Array, ""]:
    return jax.random.fold_in(key, purpose)


def _unused_key() -> Key[Array, ""]:
    return jax.random.key(0, impl=IMPLEMENTATION)


def _flags(module: nnx.Module | linen.Module, *, is_training: bool) -> dict[str, Any]:
    """The keywords by which the module's call is told that it trains, by their usual names."""
    parameters = inspect.signature(type(module).__call__).parameters
    return {name: value == is_training for name, value in _FLAGS_WHEN_TRAINING.items() if name in parameters}


def _values(module: nnx.Module, kind: Any) -> PyTree:
    """The module's variables of one kind as nested dicts; random keys as their words."""
    variables = nnx.to_pure_dict(nnx.state(module, kind))
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, variables)


def _fill(module: nnx.Module, weights: tuple[PyTree, PyTree]) -> None:
    """Puts these values in place of the module's own."""
    for kind, values in zip((nnx.Param, _STATE), weights, strict=True):
        state = nnx.state(module, kind)
        nnx.replace_by_pure_dict(state, jax.tree.map(_retyped, nnx.to_pure_dict(state), values))
        nnx.update(module, state)


def _retyped(own: Any, value: Any) -> Any:
    return jax.random.wrap_key_data(value, impl=jax.random.key_impl(own)) if _is_key(own) else value


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
