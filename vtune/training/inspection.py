"""What a model and an optimizer read, and which of it must be a constant of the program: found by tracing them.

Nothing is computed and nothing compiles here. A number that a model can take as a traced value is data; one that it
needs as a constant (a width, the rate of Flax's Dropout) is structure, and trials that differ in it take different
programs. Constructing a module may succeed where its forward pass fails, so all of constructor, forward pass and
gradient are traced.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax import Array
from jaxtyping import Key, PyTree

from vtune.defaults import NINE, OPTIMIZER_READS, did_you_mean, is_number
from vtune.keys import IMPLEMENTATION
from vtune.protocols import Hparams
from vtune.space import Space
from vtune.training.elastic import Elastic
from vtune.training.reading import Reader, UnknownHparamError
from vtune.training.task import Recipe

ENGINE_READS = frozenset({"learning_rate", "decay", "batch_size"})
"""What training itself reads, whatever the model and the optimizer."""

_MAX_LEVELS = 32
"""How many values of a structural choice are traced to see what the model reads with each."""

_PROBE_ROWS = 2

Target: TypeAlias = jax.ShapeDtypeStruct
"""Shape and type of what belongs to one row of x."""


class Findings(NamedTuple):
    """What was found out about a model and an optimizer on a space.

    Attributes:
        elastic: what the model declares, or None.
        structural: names whose values are constants of a program, sorted.
        traced: names whose values are arrays with one entry a lane, sorted, each with its dtype.
    """

    elastic: Elastic | None
    structural: tuple[str, ...]
    traced: tuple[tuple[str, str], ...]


def inspect(recipe: Recipe, space: Space, target: Target) -> Findings:
    """Traces the parts of a study with typical trials of its space.

    Args:
        recipe: model function, optimizer, loss, metrics, shapes.
        space: defaults included.
        target: of one row.

    Returns:
        Which names are structure and which are data.

    Raises:
        ValueError: the model function raises, or its module puts out a wrong shape.
        TypeError: the model function returns no Flax module.
    """
    elastic = getattr(recipe.model_fn, "elastic", None)
    typical, *others = _typical_rows(space)
    model_reads = _check_model(recipe, typical, target)
    model_reads |= {name for row in others for name in _check_model(recipe, row, target)}
    known = (model_reads | _optimizer_reads(recipe, typical) | ENGINE_READS) & set(space.entries)
    data = set(known - model_reads) | set(elastic.names if elastic else ())
    data |= _traceable(recipe, space, typical, target, sorted((model_reads & set(space.parameters)) - data))
    if elastic is None:
        data.discard("batch_size")
    traced = tuple((name, _dtype(space, name)) for name in sorted(known & data))
    return Findings(elastic, tuple(sorted(known - data)), traced)


def refuse_unread(written: Space, findings: Findings) -> None:
    """Refuses names of the user's space that neither model, optimizer nor engine reads.

    Raises:
        ValueError: for such a name, with the nearest that is read.
    """
    read = sorted({*findings.structural, *dict(findings.traced)})
    for name in written.entries:
        if name not in read:
            reader = next((optimizer for optimizer, names in OPTIMIZER_READS.items() if name in names), None)
            hint = f"optimizer={reader!r} would read it." if reader else did_you_mean(name, read)
            raise ValueError(f"{name!r} is in the space, but neither model, optimizer nor engine reads it; {hint}")


def warn_of_many_programs(space: Space, findings: Findings) -> None:
    """Says once that a continuous range costs a program a trial where the model needs its value as a constant."""
    for name in findings.structural:
        if name in space.parameters and space.parameters[name].levels is None:
            warnings.warn(
                f"the model needs {name!r} as a constant, so every trial compiles a program of its own. "
                f"Write {name!r}: vtune.choice([...]) with a few values, or use it in jax.numpy alone.",
                stacklevel=2,
            )


def _typical_rows(space: Space) -> list[dict[str, Any]]:
    """The trial in the middle of the space, then one for each value of each short list of values."""
    middle = np.full((1, len(space.axes)), 0.5)
    rows = space.rows(middle)
    for column, axis in enumerate(space.axes):
        if axis.levels is not None and axis.levels <= _MAX_LEVELS and not _is_numeric(space, axis.name):
            points = np.repeat(middle, axis.levels, 0)
            points[:, column] = (np.arange(axis.levels) + 0.5) / axis.levels
            rows += space.rows(points)
    return rows


def _check_model(recipe: Recipe, row: Hparams, target: Target) -> set[str]:
    """Traces the model with constants alone; returns the names that it reads."""
    names: set[str] = set()
    try:
        shape = _trace(recipe, row, {}, target, names)
    except UnknownHparamError as error:
        raise ValueError(f"model_fn: {error}") from error
    except Exception as error:
        if isinstance(error, TypeError) and "Flax module" in str(error):
            raise
        raise ValueError(
            f"model_fn raised {type(error).__name__}: {error} when it was called with hparams={dict(row)} and rows of "
            f"shape {recipe.inputs}. Make it run by itself first: model_fn(hparams, flax.nnx.Rngs(0), "
            f"vtune.Shapes({recipe.inputs}, {recipe.outputs}))(x)."
        ) from error
    expected = (_PROBE_ROWS, recipe.outputs)
    if shape != expected:
        raise ValueError(
            f"model_fn's module puts out shape {shape} for {_PROBE_ROWS} rows of x, but these data need {expected}. "
            f"End the network with a layer of shapes.outputs (here {recipe.outputs}) units."
        )
    return names


def _traceable(recipe: Recipe, space: Space, row: Hparams, target: Target, names: Sequence[str]) -> set[str]:
    """Those of the names that the model takes as traced numbers: each by itself, then all of them together."""

    def is_traceable(some: Sequence[str]) -> bool:
        traced = {name: jax.ShapeDtypeStruct((), _dtype(space, name)) for name in some}
        try:
            _trace(recipe, row, traced, target, set())
        except Exception:  # a model may fail on a traced number in any way
            return False
        return True

    alone = [name for name in names if _is_numeric(space, name) and is_traceable([name])]
    return set(alone) if len(alone) < 2 or is_traceable(alone) else set()


def _trace(
    recipe: Recipe, row: Hparams, traced: Mapping[str, jax.ShapeDtypeStruct], target: Target, names: set[str]
) -> tuple[int, ...]:
    """Traces constructor, forward pass and gradient; notes the names read and returns the shape put out."""
    network = recipe.network()
    expected = (_PROBE_ROWS, recipe.outputs)

    def loss(params: PyTree, state: PyTree, hparams: Reader, x: Array, y: Array) -> tuple[Array, Array]:
        outputs, _ = network.apply((params, state), hparams, x, _key(), is_training=True)
        total = recipe.loss(outputs, y).sum() if outputs.shape == expected else outputs.sum()
        return total, outputs

    def forward_and_back(traced: Hparams, x: Array, y: Array) -> tuple[PyTree, Array]:
        hparams = Reader({**row, **traced}, names)
        params, state = network.init(_key(), hparams)
        return jax.grad(loss, has_aux=True)(params, state, hparams, x, y)

    x = jax.ShapeDtypeStruct((_PROBE_ROWS, *recipe.inputs), jax.dtypes.canonicalize_dtype(np.float64))
    y = jax.ShapeDtypeStruct((_PROBE_ROWS, *target.shape), target.dtype)
    return jax.eval_shape(forward_and_back, traced, x, y)[1].shape


def _optimizer_reads(recipe: Recipe, row: Hparams) -> set[str]:
    reader = Reader(row)

    def step(weight: Array) -> PyTree:
        transformation = recipe.optimizer(reader)
        return transformation.update(weight, transformation.init(weight), weight)

    with jax.numpy_dtype_promotion("standard"):
        jax.eval_shape(step, jax.ShapeDtypeStruct((1,), np.float32))
    return reader.names


def _is_numeric(space: Space, name: str) -> bool:
    values = space.levels_of(name)
    return values is None or all(map(is_number, values))


def _dtype(space: Space, name: str) -> str:
    """int32 for counts and for names whose values are all integers; the type of the weights for other numbers."""
    values = space.levels_of(name)
    is_whole = values is not None and all(isinstance(value, int) for value in values)
    if name in NINE:
        is_whole = NINE[name].domain.is_whole
    return "int32" if is_whole else jax.dtypes.canonicalize_dtype(np.float64).name


def _key() -> Key[Array, ""]:
    return jax.random.key(0, impl=IMPLEMENTATION)
