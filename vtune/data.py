"""The rows a search trains on: what they may be, how they are split, and the checks before anything compiles."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, Key, Num, Shaped, UInt32

Kind = Literal["classes", "targets"]
"""What y holds: whole numbers that name a class, or quantities to come close to."""

# "_rows", as one annotation serves parts of different lengths.
Part = tuple[Float[np.ndarray, "_rows ..."], Num[np.ndarray, "_rows ..."]]
"""The rows of x and what belongs to them: int32 labels of shape (rows,) or float targets of shape (rows, outputs)."""

_Raw = tuple[Shaped[np.ndarray, "_rows ..."], Shaped[np.ndarray, "_rows ..."]]

_TRAIN, _VALID, _TEST = range(3)

# Hands in which rows are dealt to the parts. Any two neighbours hold a _TRAIN, also around the end, so every class of
# two rows or more trains; any run of a hand is within one row of its fair share.
_EIGHTY_TWENTY = (_TRAIN, _VALID, _TRAIN, _TRAIN, _TRAIN)
_SIXTY_TWENTY_TWENTY = (_TRAIN, _VALID, _TRAIN, _TEST, _TRAIN)


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Data:
    """Your own split of the data, checked when it is made.

    Whatever ``np.asarray`` understands will do: NumPy and JAX arrays, data frames, lists. They are copied, not changed.
    x becomes float32, or float64 where ``jax_enable_x64`` is on. Integer or bool y are labels, float y are targets.

    Attributes:
        train: (x, y) to train on.
        valid: (x, y) to score trials on.
        test: (x, y) that no trial sees, or None.

    Example:
        >>> x, y = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1]
        >>> Data(train=(x, y), valid=(x[:1], y[:1]))
        Data(2 classes, inputs (2,), 3 train + 1 valid rows)
    """

    train: Part
    valid: Part
    test: Part | None

    def __init__(self, train: Any, valid: Any, test: Any = None) -> None:
        """Checks and converts the parts.

        Args:
            train: (x, y); x has rows along its first axis, at least two axes, and no NaN or infinite value.
            valid: (x, y) of at least one row, with the same columns as ``train`` and no class beyond its last.
            test: the same, or None.

        Raises:
            TypeError: for what is not a pair, and for values that are not real numbers.
            ValueError: for shapes, lengths, values and labels that cannot be trained on.
        """
        given = {"train": train, "valid": valid} | ({} if test is None else {"test": test})
        raw = {part: _read(f"{part} ", pair) for part, pair in given.items()}
        kind = _common_kind(raw)
        parts = {part: _convert(f"{part} ", pair, kind) for part, pair in raw.items()}
        _warn_if_narrowed(list(raw.values()), list(parts.values()))
        _check_agreement(parts, kind)
        for part in ("train", "valid", "test"):
            object.__setattr__(self, part, parts.get(part))

    @classmethod
    def of(cls, data: Any = None, *, key: Key[Array, ""], kind: Literal["auto"] | Kind = "auto") -> "Data":
        """Makes ``Data`` of all that a search accepts.

        Splits are random by ``key`` alone. For classes they are stratified: each class gives every part its share to
        within one row, and a class of a single row trains.

        Args:
            data: (x, y), split into 80 % to train and 20 % to validate; a ``Data``, used as it is; or None for
                scikit-learn's digits, 1797 images of 8 x 8 pixels flattened to 64 columns and divided by 16, so that
                values lie in [0, 1], split into 60 % to train, 20 % to validate and 20 % to test.
            key: typed key of the split.
            kind: what the loss needs, "classes" or "targets"; "auto" goes by the type of y.

        Returns:
            The checked, split data.

        Raises:
            TypeError: for anything else, and for values that are not real numbers.
            ValueError: for what cannot be trained on or cannot be split.

        Example:
            >>> Data.of(key=jax.random.key(0))
            Data(10 classes, inputs (64,), 1078 train + 360 valid + 359 test rows)
        """
        if isinstance(data, Data):
            return data._converted(data.kind if kind == "auto" else kind)
        raw, hand = (_digits(), _SIXTY_TWENTY_TWENTY) if data is None else (_read("", data), _EIGHTY_TWENTY)
        part = _convert("", raw, _kind_of(raw[1]) if kind == "auto" else kind)
        _warn_if_narrowed([raw], [part])
        _check_two_classes("y", part[1])
        return cls(*_split(part, hand, key))

    @property
    def kind(self) -> Kind:
        """Whether y holds labels of "classes" or "targets" of a regression."""
        return _kind_of(self.train[1])

    @property
    def outputs(self) -> int:
        """Numbers that a network puts out for a row: the largest label + 1, or the columns of the targets."""
        y = self.train[1]
        return int(y.max()) + 1 if self.kind == "classes" else y.shape[1]

    @property
    def num_classes(self) -> int:
        """The largest label + 1.

        Raises:
            ValueError: where y holds targets.
        """
        if self.kind == "targets":
            raise ValueError("these data hold targets, which have no classes; write data.outputs for their columns")
        return self.outputs

    @property
    def inputs(self) -> tuple[int, ...]:
        """The shape of one row of x."""
        return self.train[0].shape[1:]

    @property
    def num_train(self) -> int:
        """The number of rows to train on."""
        return len(self.train[0])

    @property
    def dtype(self) -> np.dtype:
        """The type in which x is held and networks train: float32, or float64 in JAX's x64 mode."""
        return self.train[0].dtype

    def require_classes(self) -> "Data":
        """The same data with y as labels, for a loss over classes such as "cross_entropy".

        Raises:
            ValueError: where y holds anything but whole numbers from 0 up.

        Example:
            >>> part = ([[0.0], [1.0]], [0.0, 1.0])
            >>> Data(train=part, valid=part).require_classes()
            Data(2 classes, inputs (1,), 2 train + 2 valid rows)
        """
        return self._converted("classes")

    def require_targets(self) -> "Data":
        """The same data with y as float targets of shape (rows, outputs), for a loss of regression such as "mse".

        Example:
            >>> part = ([[0.0], [1.0]], [0, 1])
            >>> Data(train=part, valid=part).require_targets()
            Data(1 target, inputs (1,), 2 train + 2 valid rows)
        """
        return self._converted("targets")

    def _converted(self, kind: Kind) -> "Data":
        if kind == self.kind:
            return self
        return Data(**{part: (x, _CONVERTERS[kind](f"{part} y", y)) for part, (x, y) in self._parts().items()})

    def _parts(self) -> dict[str, Part]:
        held = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: part for name, part in held.items() if part is not None}

    def __repr__(self) -> str:
        """One line: what y holds, the shape of a row, the rows of each part."""
        noun = self.kind if self.outputs > 1 else self.kind.removesuffix("s")
        rows = " + ".join(f"{len(x)} {name}" for name, (x, _) in self._parts().items())
        return f"Data({self.outputs} {noun}, inputs {self.inputs}, {rows} rows)"


def _digits() -> _Raw:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return np.asarray(images, _float_dtype()) / 16, np.asarray(labels)


# Splitting


def _split(part: Part, hand: tuple[int, ...], key: Key[Array, ""]) -> list[Part]:
    x, y = part
    dealt = _deal(np.zeros(len(y), np.int32) if _is_float(y) else y, hand, key)
    if not (dealt == _VALID).any():
        raise ValueError(_unsplittable(len(y)))
    return [(x[dealt == part], y[dealt == part]) for part in sorted(set(hand))]


def _deal(labels: Int[np.ndarray, " rows"], hand: tuple[int, ...], key: Key[Array, ""]) -> Int[np.ndarray, " rows"]:
    """Deals the rows, class after class and shuffled within a class, to the parts; a class of one row trains."""
    # The raw stream of a bit generator stays the same in every NumPy version; that of Generator.permutation may not.
    seed = np.asarray(_bits(key))
    order = np.lexsort((np.random.PCG64(seed).random_raw(len(labels)), labels))
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = order[sizes[classes[order]] > 1]
    dealt = np.full(len(labels), _TRAIN)
    dealt[order] = np.resize(hand, len(order))
    return dealt


@jax.jit
def _bits(key: Key[Array, ""]) -> UInt32[Array, "4"]:
    return jax.random.bits(key, (4,), "uint32")


def _unsplittable(num_rows: int) -> str:
    if num_rows == 1:
        return "x has 1 row, which cannot be split into a part to train and one to validate; give at least 2 rows"
    return (
        f"each of the {num_rows} rows of y is a class of its own, so no row can be held out to validate; if y holds "
        "quantities, write y.astype(float); otherwise bring your own split, vtune.Data(train=(x, y), valid=(x, y))"
    )


# Reading: from what users have to arrays of real, finite numbers of their own dtype


def _read(where: str, pair: Any) -> _Raw:
    """Reads (x, y); ``where`` is "train " and so on, or "" for data that are not split yet."""
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
    return _to_float(name, array) if isinstance(value, tuple | list) and _is_float(array) else array


def _check_dtype(name: str, array: Shaped[np.ndarray, "..."]) -> None:
    if array.dtype == bool or np.issubdtype(array.dtype, np.integer) or _is_float(array):
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


# Converting: to the types that networks train in


def _convert(where: str, raw: _Raw, kind: Kind) -> Part:
    return _to_float(f"{where}x", raw[0]), _CONVERTERS[kind](f"{where}y", raw[1])


def _to_float(name: str, array: Shaped[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    with np.errstate(over="ignore"):
        # A copy in any case: rows that change under a study would change what it replays.
        converted = np.array(array, _float_dtype(), order="C")
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
    is_whole = np.equal(y, np.rint(y)) if _is_float(y) else np.ones(len(y), bool)
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


def _warn_if_narrowed(raw: list[_Raw], parts: list[Part]) -> None:
    pairs = [pair for before, after in zip(raw, parts, strict=True) for pair in zip(before, after, strict=True)]
    names = {str(a.dtype) for a, b in pairs if _is_float(a) and _is_float(b) and a.dtype.itemsize > b.dtype.itemsize}
    if names:
        warnings.warn(
            f"{' and '.join(sorted(names))} data are trained in float32, JAX's default; write x.astype(np.float32) to "
            'say so yourself, or jax.config.update("jax_enable_x64", True) to train in float64',
            UserWarning,
            stacklevel=3,
        )


# Checking the parts against one another


def _common_kind(raw: dict[str, _Raw]) -> Kind:
    kinds: dict[str, Kind] = {part: _kind_of(y) for part, (_, y) in raw.items()}
    for part, kind in kinds.items():
        if kind != kinds["train"]:
            raise ValueError(
                f"{part} y holds {kind} ({raw[part][1].dtype}) and train y {kinds['train']} ({raw['train'][1].dtype}); "
                "write integers in every part for classes, floats in every part for targets"
            )
    return kinds["train"]


def _check_agreement(parts: dict[str, Part], kind: Kind) -> None:
    x_train, y_train = parts["train"]
    _check_two_classes("train y", y_train)
    for part, (x, y) in parts.items():
        for name, this, other in ((f"{part} x", x, x_train), (f"{part} y", y, y_train)):
            if this.shape[1:] != other.shape[1:]:
                raise ValueError(
                    f"{name} has rows of shape {this.shape[1:]} and train {name[-1]} of {other.shape[1:]}; "
                    "give all parts the same columns"
                )
        if kind == "classes" and y.max() > y_train.max():
            raise ValueError(
                f"{part} y holds class {y.max()}, but train y ends at {y_train.max()}: a network cannot learn a class "
                "that it never sees; move rows of it to train, or let vtune split (x, y)"
            )


def _check_two_classes(name: str, y: Num[np.ndarray, "rows ..."]) -> None:
    if not _is_float(y) and y.min() == y.max():
        raise ValueError(
            f"{name} holds one class only (label {y[0]} in all {len(y)} rows), so there is nothing to tell apart; "
            "give rows of a second class, or write y.astype(float) if these are quantities"
        )


def _kind_of(y: Shaped[np.ndarray, "..."]) -> Kind:
    return "targets" if _is_float(y) else "classes"


def _is_float(array: Shaped[np.ndarray, "..."]) -> bool:
    return jnp.issubdtype(array.dtype, np.floating)  # NumPy alone does not know bfloat16


def _float_dtype() -> np.dtype:
    return jax.dtypes.canonicalize_dtype(np.float64)
