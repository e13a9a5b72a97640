"""What a model and an optimizer read, and which of it must be a constant of the program: found by tracing them.

Nothing is computed and nothing compiles here. A number that a model can take as a traced value is data; one that it
needs as a constant (a width, the rate of Flax's Dropout) is structure, and trials that differ in it take different
programs. Constructing a module may succeed where its forward pass fails, so all of constructor, forward pass and
gradient are traced.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from jax import Array
from jaxtyping import Key, PyTree

from vtune.defaults import NINE, OPTIMIZER_READS, did_you_mean, is_number
from vtune.keys import IMPLEMENTATION
from vtune.precision import float_dtype
from vtune.protocols import Hparams
from vtune.space import Space
from vtune.training.elastic import Elastic
from vtune.training.losses import RowLoss
from vtune.training.networks import ModelError
from vtune.training.reading import Reader, UnknownHparamError
from vtune.training.task import Recipe

ENGINE_READS = frozenset({"learning_rate", "decay", "batch_size"})
"""What training itself reads, whatever the model and the optimizer."""

_MAX_LEVELS = 32
"""Up to how many values of a name are traced to see what the model reads with each."""

_PROBE_ROWS = 2

Target: TypeAlias = jax.ShapeDtypeStruct
"""Shape and type of what belongs to one row of x."""


_Branch: TypeAlias = tuple[Hparams, set[str]]
"""A trial, and the names that the model reads in it."""


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
        ValueError: the model function, loss or metric raises or puts out a wrong shape; or a size that an elastic
            model takes is no integer.
        TypeError: the model function returns no Flax module, or its module no array.
    """
    elastic = getattr(recipe.model_fn, "elastic", None)
    _check_sizes(space, elastic.names if elastic else ())
    _check_of_rows("loss", recipe.loss, recipe, target)
    for metric in recipe.metrics:
        _check_of_rows("metric", metric.of_rows, recipe, target)
    sizes = set(elastic.names if elastic else ())
    branches = _explore(recipe, space, target, set(space.parameters) - sizes)
    model_reads = set().union(*(reads for _, reads in branches))
    known = (model_reads | _optimizer_reads(recipe, branches[0][0]) | ENGINE_READS) & set(space.entries)
    data = set(known - model_reads) | sizes
    candidates = sorted((model_reads & set(space.parameters)) - data)
    data |= _traceable(recipe, space, branches, target, [name for name in candidates if _is_numeric(space, name)])
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
    """Says so where the model needs values of a long range as constants, which costs a program for each."""
    for name in findings.structural:
        levels = space.parameters[name].levels if name in space.parameters else 1
        if levels is None or levels > _MAX_LEVELS:
            warnings.warn(
                f"the model needs {name!r} as a constant, so every value of it compiles a program of its own. "
                f"Write {name!r}: vtune.choice([...]) with a few values, or use it in jax.numpy alone.",
                stacklevel=2,
            )


def _explore(recipe: Recipe, space: Space, target: Target, names: Set[str]) -> list[_Branch]:
    """Checks the model on the trial in the middle of the space, and on others that show what it reads.

    Which names a model reads may depend on the value of one: of a kind of layer, of the number of layers. So each of
    the names is varied, all else equal, around the first trial that reads it.
    """
    columns = {axis.name: column for column, axis in enumerate(space.axes)}
    branches, waiting, found = [], [np.full(len(columns), 0.5)], set()
    while waiting:
        point = waiting.pop(0)
        row = space.rows(point[None])[0]
        reads = _check_model(recipe, row, target)
        branches.append((row, reads))
        for name in sorted((reads & names) - found):
            found.add(name)
            waiting += [
                np.where(np.arange(len(point)) == columns[name], place, point) for place in _places(space, name)
            ]
    return branches


def _places(space: Space, name: str) -> list[float]:
    """Where on its axis each value of a name lies, or the ends where there are many."""
    levels = space.levels_of(name)
    if levels is None or len(levels) > _MAX_LEVELS:
        return [0.0, 1.0]
    return [(level + 0.5) / len(levels) for level in range(len(levels))]


def _check_sizes(space: Space, names: Sequence[str]) -> None:
    """Refuses what a space may hold for models that take it, such as one width a layer, and an elastic one does not."""
    for name in set(names) & set(space.entries):
        for value in space.levels_of(name) or ():
            if not isinstance(value, int):
                raise ValueError(
                    f"{name}={value!r}: this model takes one integer for {name}, the same in every layer. Write "
                    f"{name!r}: vtune.integers(16, 256, log=True), or write a model_fn of your own that reads it."
                )


def _check_of_rows(argument: str, function: RowLoss, recipe: Recipe, target: Target) -> None:
    """Traces a loss or a metric, which users may write themselves, with outputs of the right shape."""
    name = getattr(function, "__name__", repr(function))
    outputs = jax.ShapeDtypeStruct((_PROBE_ROWS, recipe.outputs), float_dtype())
    y = jax.ShapeDtypeStruct((_PROBE_ROWS, *target.shape), target.dtype)
    given = f"outputs of shape {outputs.shape} and y of shape {y.shape}, {y.dtype}"
    try:
        of_rows = jax.eval_shape(function, outputs, y)
    except Exception as error:
        raise ValueError(
            f"{argument}={name} raised {type(error).__name__}: {error} when it was called with {given}. Write a "
            "function of (outputs, y) that returns one number a row."
        ) from error
    shape = getattr(of_rows, "shape", None)
    if shape != (_PROBE_ROWS,):
        returned = f"a {type(of_rows).__name__}" if shape is None else f"shape {shape}"
        raise ValueError(
            f"{argument}={name} returned {returned} for {given}, but every row needs one number: shape "
            f"({_PROBE_ROWS},). Write for example jnp.abs(outputs - y).mean(axis=-1)."
        )


def _check_model(recipe: Recipe, row: Hparams, target: Target) -> set[str]:
    """Traces the model with constants alone; returns the names that it reads."""
    names: set[str] = set()
    try:
        shapes = _trace(recipe, row, {}, target, names)
    except UnknownHparamError as error:
        raise ValueError(f"model_fn: {error}") from error
    except ModelError:
        raise
    except Exception as error:
        raise ValueError(
            f"model_fn raised {type(error).__name__}: {error} when it was called with hparams={dict(row)} and rows of "
            f"shape {recipe.inputs}. Make it run by itself first: model_fn(hparams, flax.nnx.Rngs(0), "
            f"vtune.Shapes({recipe.inputs}, {recipe.outputs}))(x)."
        ) from error
    expected = (_PROBE_ROWS, recipe.outputs)
    for shape in shapes - {expected}:
        raise ValueError(
            f"model_fn's module puts out shape {shape} for {_PROBE_ROWS} rows of x, but these data need {expected}. "
            f"End the network with a layer of shapes.outputs (here {recipe.outputs}) units."
        )
    return names


def _traceable(
    recipe: Recipe, space: Space, branches: Sequence[_Branch], target: Target, names: Sequence[str]
) -> set[str]:
    """Those of the names that the model takes as traced numbers, on every branch: each by itself, then together."""

    def accepts(row: Hparams, some: Iterable[str]) -> bool:
        traced = {name: jax.ShapeDtypeStruct((), _dtype(space, name)) for name in some}
        try:
            _trace(recipe, row, traced, target, set())
        except Exception:  # a model may fail on a traced number in any way
            return False
        return True

    def reading(name: str) -> list[Hparams]:
        return [row for row, reads in branches if name in reads]

    def is_accepted(some: Sequence[str]) -> bool:
        return all(accepts(row, reads & set(some)) for row, reads in branches if reads & set(some))

    alone = [name for name in names if accepts(reading(name)[0], [name])]
    if not is_accepted(alone):  # somewhere else, or not all of them at the same time
        alone = [name for name in alone if is_accepted([name])]
    return set(alone) if is_accepted(alone) else set()


def _trace(
    recipe: Recipe, row: Hparams, traced: Mapping[str, jax.ShapeDtypeStruct], target: Target, names: set[str]
) -> set[tuple[int, ...]]:
    """Traces constructor, forward pass, gradient and evaluation; notes the names read, returns the shapes put out."""
    network = recipe.network()
    expected = (_PROBE_ROWS, recipe.outputs)

    def run(weights: tuple[PyTree, PyTree], hparams: Reader, x: Array, is_training: bool) -> Array:
        outputs, _ = network.apply(weights, hparams, x, _key(), is_training=is_training)
        if not isinstance(outputs, Array):
            raise ModelError(
                f"model_fn's Flax module returned a {type(outputs).__name__}, but a loss needs one array of shape "
                f"{expected} for {_PROBE_ROWS} rows of x. Return the array alone."
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

    x = jax.ShapeDtypeStruct((_PROBE_ROWS, *recipe.inputs), float_dtype())
    y = jax.ShapeDtypeStruct((_PROBE_ROWS, *target.shape), target.dtype)
    return {out.shape for out in jax.eval_shape(outputs, traced, x, y)}


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
    return "int32" if is_whole else float_dtype().name


def _key() -> Key[Array, ""]:
    return jax.random.key(0, impl=IMPLEMENTATION)
