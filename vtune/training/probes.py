"""The parts of a study traced for one trial: do they run, what do they read, can a number be data to them?

Nothing is computed and nothing compiles here. Constructing a module may succeed where its forward pass fails, so all
of constructor, forward pass, gradient and evaluation are traced, and an optimizer's start and its step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import optax
from jax import Array
from jaxtyping import Key, PyTree

from vtune.keys import IMPLEMENTATION
from vtune.precision import float_dtype
from vtune.protocols import Hparams
from vtune.training.losses import RowLoss
from vtune.training.networks import ModelError
from vtune.training.reading import Reader, UnknownHparamError
from vtune.training.task import Recipe

_ROWS = 2

_OPTIMIZER_EXAMPLE = "Write for example lambda hparams: optax.adamw(hparams['learning_rate'])."

Target: TypeAlias = jax.ShapeDtypeStruct
"""Shape and type of what belongs to one row of x."""

Traced: TypeAlias = Mapping[str, jax.ShapeDtypeStruct]
"""Hyperparameters to give as traced numbers, by name."""


@dataclass(frozen=True)
class Probe:
    """Traces the parts of a study.

    Attributes:
        recipe: model function, optimizer, loss, metrics, shapes.
        target: of one row.
    """

    recipe: Recipe
    target: Target

    def check_losses(self) -> None:
        """Traces loss and metrics, which users may write themselves, with outputs of the right shape.

        Raises:
            ValueError: where one raises, or returns anything but one number a row.
        """
        self._check_of_rows("loss", self.recipe.loss)
        for metric in self.recipe.metrics:
            self._check_of_rows("metric", metric.of_rows)

    def model_reads(self, row: Hparams) -> set[str]:
        """Traces the model of a trial, all its hyperparameters constants; returns the names that it reads.

        Raises:
            ValueError: the model function or its module raises, or puts out a wrong shape.
            TypeError: the model function returns no Flax module, or its module no array.
        """
        recipe, names = self.recipe, set[str]()
        try:
            shapes = self._trace_model(row, {}, names)
        except UnknownHparamError as error:
            raise ValueError(f"model_fn: {error}") from error
        except ModelError:
            raise
        except Exception as error:
            raise ValueError(
                f"model_fn raised {type(error).__name__}: {error} when it was called with hparams={dict(row)} and rows "
                f"of shape {recipe.inputs}. Make it run by itself first: model_fn(hparams, flax.nnx.Rngs(0), "
                f"vtune.Shapes({recipe.inputs}, {recipe.outputs}))(x)."
            ) from error
        expected = (_ROWS, recipe.outputs)
        for shape in shapes - {expected}:
            raise ValueError(
                f"model_fn's module puts out shape {shape} for {_ROWS} rows of x, but these data need {expected}. "
                f"End the network with a layer of shapes.outputs (here {recipe.outputs}) units."
            )
        return names

    def optimizer_reads(self, row: Hparams) -> set[str]:
        """Traces the optimizer of a trial on the weights of its model; returns the names that it reads.

        Raises:
            ValueError: the optimizer raises, or its updates do not have the shapes of the weights.
            TypeError: the optimizer is no Optax transformation.
        """
        names = set[str]()
        # The learning rate changes from epoch to epoch, so it is never a constant.
        rate = {"learning_rate": jax.ShapeDtypeStruct((), float_dtype())}
        try:
            params, updates = self._trace_optimizer(row, rate, names)
        except UnknownHparamError as error:
            raise ValueError(f"optimizer: {error}") from error
        except _OptimizerError:
            raise
        except Exception as error:
            raise ValueError(
                f"{self._optimizer} raised {type(error).__name__}: {error} when it was called with a trial's hparams, "
                f"of which learning_rate is a traced number. {_OPTIMIZER_EXAMPLE}"
            ) from error
        if _shapes_of(params) != _shapes_of(updates):
            raise ValueError(
                f"{self._optimizer} returned updates that do not have the shapes of the weights. {_OPTIMIZER_EXAMPLE}"
            )
        return names

    def model_accepts(self, row: Hparams, traced: Traced) -> bool:
        """Whether the model of a trial can take these as traced numbers."""
        try:
            self._trace_model(row, traced, set())
        except Exception:  # a model may fail on a traced number in any way
            return False
        return True

    def optimizer_accepts(self, row: Hparams, traced: Traced) -> bool:
        """Whether the optimizer of a trial can take these as traced numbers."""
        try:
            self._trace_optimizer(row, traced, set())
        except Exception:  # and so may an optimizer
            return False
        return True

    def _trace_model(self, row: Hparams, traced: Traced, names: set[str]) -> set[tuple[int, ...]]:
        """Notes the names read; returns the shapes put out."""
        recipe, network, expected = self.recipe, self.recipe.network(), (_ROWS, self.recipe.outputs)

        def run(weights: tuple[PyTree, PyTree], hparams: Reader, x: Array, is_training: bool) -> Array:
            outputs, _ = network.apply(weights, hparams, x, _key(), is_training=is_training)
            if not isinstance(outputs, Array):
                raise ModelError(
                    f"model_fn's Flax module returned a {type(outputs).__name__}, but a loss needs one array of shape "
                    f"{expected} for {_ROWS} rows of x. Return the array alone."
                )
            return outputs

        def loss(params: PyTree, state: PyTree, hparams: Reader, x: Array, y: Array) -> tuple[Array, Array]:
            outputs = run((params, state), hparams, x, is_training=True)
            total = recipe.loss(outputs, y).sum() if outputs.shape == expected else outputs.sum()
            return total, outputs

        def outputs(traced: Hparams, x: Array, y: Array) -> tuple[Array, Array]:
            hparams = Reader({**row, **traced}, names)
            weights = network.init(_key(), hparams)
            _, trained = jax.grad(loss, has_aux=True)(*weights, hparams, x, y)
            return trained, run(weights, hparams, x, is_training=False)

        x = jax.ShapeDtypeStruct((_ROWS, *recipe.inputs), float_dtype())
        return {out.shape for out in jax.eval_shape(outputs, traced, x, self._y())}

    def _trace_optimizer(self, row: Hparams, traced: Traced, names: set[str]) -> tuple[PyTree, PyTree]:
        """Notes the names read; returns the shapes of weights and of updates."""

        def step(traced: Hparams) -> tuple[PyTree, PyTree]:
            params, _ = self.recipe.network().init(_key(), row)
            with jax.numpy_dtype_promotion("standard"):
                transformation = self.recipe.optimizer(Reader({**row, **traced}, names))
                if not isinstance(transformation, optax.GradientTransformation):
                    raise _OptimizerError(
                        f"{self._optimizer} returned a {type(transformation).__name__}, which is no "
                        f"optax.GradientTransformation. {_OPTIMIZER_EXAMPLE}"
                    )
                updates, _ = transformation.update(params, transformation.init(params), params)
            return params, updates

        return jax.eval_shape(step, traced)

    def _check_of_rows(self, argument: str, function: RowLoss) -> None:
        name = getattr(function, "__name__", repr(function))
        outputs, y = jax.ShapeDtypeStruct((_ROWS, self.recipe.outputs), float_dtype()), self._y()
        given = f"outputs of shape {outputs.shape} and y of shape {y.shape}, {y.dtype}"
        try:
            of_rows = jax.eval_shape(function, outputs, y)
        except Exception as error:
            raise ValueError(
                f"{argument}={name} raised {type(error).__name__}: {error} when it was called with {given}. Write a "
                "function of (outputs, y) that returns one number a row."
            ) from error
        shape = getattr(of_rows, "shape", None)
        if shape != (_ROWS,):
            returned = f"a {type(of_rows).__name__}" if shape is None else f"shape {shape}"
            raise ValueError(
                f"{argument}={name} returned {returned} for {given}, but every row needs one number: shape "
                f"({_ROWS},). Write for example jnp.abs(outputs - y).mean(axis=-1)."
            )

    @property
    def _optimizer(self) -> str:
        return f"optimizer={getattr(self.recipe.optimizer, '__name__', repr(self.recipe.optimizer))}"

    def _y(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((_ROWS, *self.target.shape), self.target.dtype)


class _OptimizerError(TypeError):
    """What a user's optimizer function returned is no Optax transformation."""


def _shapes_of(tree: PyTree) -> tuple[Any, list[tuple[int, ...]]]:
    return jax.tree.structure(tree), [leaf.shape for leaf in jax.tree.leaves(tree)]


def as_traced(names: Iterable[str], dtype_of: Mapping[str, str]) -> Traced:
    """Returns these names as traced numbers of their types."""
    return {name: jax.ShapeDtypeStruct((), dtype_of[name]) for name in names}


def _key() -> Key[Array, ""]:
    return jax.random.key(0, impl=IMPLEMENTATION)
