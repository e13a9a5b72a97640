"""What users have, as arrays of real, finite numbers in the types that networks train in."""

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Num, Shaped

from vtune.precision import float_dtype

Kind = Literal["classes", "targets"]
"""What y holds: whole numbers that name a class, or quantities to come close to."""

# "_rows", as one annotation serves parts of different lengths.
Part = tuple[Float[np.ndarray, "_rows ..."], Num[np.ndarray, "_rows ..."]]
"""The rows of x and what belongs to them: int32 labels of shape (rows,) or float targets of shape (rows, outputs)."""

Raw = tuple[Shaped[np.ndarray, "_rows ..."], Shaped[np.ndarray, "_rows ..."]]
"""Likewise, of the user's own types."""


def read(where: str, pair: Any) -> Raw:
    """Reads a pair as arrays, and checks that they hold a row each for the other, of real, finite numbers.

    Args:
        where: what errors call the part: "train " and so on, or "" for data that are not split yet.
        pair: (x, y), of whatever ``np.asarray`` understands.

    Raises:
        TypeError: for what is not a pair, and for values that are not real numbers.
        ValueError: for shapes and lengths that do not fit, for gaps and infinite values.
    """
    if not (isinstance(pair, tuple | list) and len(pair) == 2):
        given = f"a {type(pair).__name__}" + (f" of {len(pair)}" if isinstance(pair, tuple | list) else "")
        instead = "(x, y)" if where else "(x, y), or vtune.Data(train=(x, y), valid=(x, y)) for a split of your own"
        raise TypeError(f"{where or 'data '}is {given}, not a pair of rows and what belongs to them; write {instead}")
    x, y = _read_array(f"{where}x", pair[0]), _read_array(f"{where}y", pair[1])
    _check_shapes(where, x, y)
    _check_finite(f"{where}x", x)
    _check_finite(f"{where}y", y)
    return x, y


def _read_array(name: str, value: Any) -> Shaped[np.ndarray, "..."]:
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, and a network has no way to skip a value; "
            "fill the gaps in with .filled(value), or leave those rows out"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{name} is a {type(value).__name__} that makes no rectangular array ({error}); give every row the same "
            "length. A split of your own is vtune.Data(train=(x, y), valid=(x, y))"
        ) from error
    _check_dtype(name, array)
    # A list never asked for float64: nothing to warn of when it becomes float32.
    return _to_float(name, array) if isinstance(value, tuple | list) and is_float(array) else array


def _check_dtype(name: str, array: Shaped[np.ndarray, "..."]) -> None:
    if array.dtype == bool or np.issubdtype(array.dtype, np.integer) or is_float(array):
        return
    if array.dtype.kind in "SUT" or any(isinstance(value, str | bytes) for value in array.flat):
        what = "y" if name.endswith("y") else "column"
        problem = f"strings, and networks take numbers; encode them with np.unique({what}, return_inverse=True)[1]"
    elif array.dtype.kind == "c":
        problem = "complex numbers, and networks here are real; write np.stack([x.real, x.imag], axis=-1)"
    elif array.dtype == object:
        kinds = " and ".join(sorted({type(value).__name__ for value in array.flat}))
        problem = f"Python objects ({kinds}), not numbers; write .astype(np.float32), or .toarray() if it is sparse"
    else:
        problem = f"{array.dtype} values, not plain numbers; say what they count, as in .astype(np.float32)"
    raise TypeError(f"{name} holds {problem}")


def _check_shapes(where: str, x: Shaped[np.ndarray, "..."], y: Shaped[np.ndarray, "..."]) -> None:
    if x.size == 0 or y.size == 0:
        name, shape = ("x", x.shape) if x.size == 0 else ("y", y.shape)
        raise ValueError(f"{where}{name} is empty (shape {shape}); give it at least one row and one column")
    if x.ndim < 2:
        instead = "x[:, None] if each row is one number" if x.ndim else "an array of shape (rows, columns)"
        raise ValueError(f"{where}x has shape {x.shape}, but needs rows and columns; write {instead}")
    if y.ndim == 0:
        raise ValueError(f"{where}y is the single number {y}, but every row of x needs its own; write an array")
    if len(x) != len(y):
        raise ValueError(f"{where}x has {len(x)} rows and {where}y has {len(y)}; give each row of x one entry of y")


def _check_finite(name: str, array: Shaped[np.ndarray, "rows ..."]) -> None:
    is_bad = ~np.isfinite(array)
    if not is_bad.any():
        return
    row, *column = np.argwhere(is_bad)[0]
    at = f"row {row}" + (f", column {', '.join(map(str, column))}" if column else "")
    raise ValueError(
        f"{name} is NaN or infinite in {is_bad.sum()} of {is_bad.size} entries, the first at {at}: every trial would "
        f"diverge; leave those rows out, which np.isfinite({name[-1]}) finds, or fill them in"
    )


def convert(where: str, raw: Raw, kind: Kind) -> Part:
    """Returns copies of x and y in the types that networks train in.

    Args:
        where: what errors call the part.
        raw: as ``read`` returns them.
        kind: what y is to hold.

    Raises:
        ValueError: for values that these types do not hold, and for y of another kind.
    """
    return _to_float(f"{where}x", raw[0]), convert_y(where, raw[1], kind)


def convert_y(where: str, y: Shaped[np.ndarray, "rows ..."], kind: Kind) -> Num[np.ndarray, "rows ..."]:
    """Returns y as labels or targets; see ``convert``."""
    return _CONVERTERS[kind](f"{where}y", y)


def _to_float(name: str, array: Shaped[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    with np.errstate(over="ignore"):
        # A copy in any case: rows that change under a study would change what it replays.
        converted = np.array(array, float_dtype(), order="C")
    has_overflowed = np.isinf(converted) & np.isfinite(array)
    if has_overflowed.any():
        raise ValueError(
            f"{name} holds {array[has_overflowed][0]}, which {converted.dtype} cannot; divide {name[-1]} by its scale"
        )
    return converted


def _to_labels(name: str, y: Shaped[np.ndarray, "rows ..."]) -> Int[np.ndarray, " rows"]:
    y = y[:, 0] if y.shape[1:] == (1,) else y
    if y.ndim != 1:
        raise ValueError(
            f"{name} has shape {y.shape}, but labels are one whole number a row; write y.argmax(axis=1) if it is "
            "one-hot, or y.astype(float) if it holds targets"
        )
    _check_whole(name, y)
    worst = y.min() if y.min() < 0 else y.max()
    if worst < 0 or worst >= np.iinfo(np.int32).max:
        raise ValueError(
            f"{name} holds the label {worst}, but labels count from 0 up to the number of classes; number the classes "
            "with np.unique(y, return_inverse=True)[1], or write y.astype(float) if these are quantities"
        )
    return y.astype(np.int32)


def _check_whole(name: str, y: Shaped[np.ndarray, " rows"]) -> None:
    is_whole = np.equal(y, np.rint(y)) if is_float(y) else np.ones(len(y), bool)
    if not is_whole.all():
        row = int(np.argmin(is_whole))
        raise ValueError(
            f'{name} holds {y[row]} in row {row}, but labels, which loss="cross_entropy" and metric="accuracy" need, '
            'are whole numbers; write loss="mse" alone for targets, or number the classes with '
            "np.unique(y, return_inverse=True)[1]"
        )


def _to_targets(name: str, y: Shaped[np.ndarray, "rows ..."]) -> Float[np.ndarray, "rows _outputs"]:
    if y.ndim > 2:
        raise ValueError(
            f"{name} has shape {y.shape}, but targets have one or several columns a row; write y.reshape(len(y), -1)"
        )
    return _to_float(name, y.reshape(len(y), -1))


_CONVERTERS: dict[Kind, Callable[[str, Any], np.ndarray]] = {"classes": _to_labels, "targets": _to_targets}


def column_names(x: Any) -> tuple[str, ...] | None:
    """Returns the names that a data frame gives its columns; numbers, as pandas gives them by itself, are none."""
    columns = list(getattr(x, "columns", ()))
    return tuple(map(str, columns)) if any(isinstance(name, str) for name in columns) else None


def kind_of(y: Shaped[np.ndarray, "..."]) -> Kind:
    """Returns what y holds, going by its type."""
    return "targets" if is_float(y) else "classes"


def is_float(array: Shaped[np.ndarray, "..."]) -> bool:
    """Returns whether the type is one of real numbers with fractions."""
    return jnp.issubdtype(array.dtype, np.floating)  # NumPy alone does not know bfloat16
