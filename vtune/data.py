"""The rows a search trains on: how they are split and standardized, and the checks before anything compiles."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax import Array
from jaxtyping import Int, Key, Num, UInt32

from vtune.arrays import Kind, Part, Raw, column_names, convert, convert_y, is_float, kind_of, read
from vtune.keys import seed_words, split_bits
from vtune.notices import warn_user
from vtune.precision import float_dtype
from vtune.scaling import SizeWarning, Units, tell_sizes

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

    With ``standardize=True`` networks train on x minus its mean, divided by its standard deviation, and on targets
    likewise: of each column, or of the whole array where a row of x has more axes; the statistics are those of
    ``train``. The parts stay as they were given. So do the results: ``study.best_model`` takes x as it is, and puts
    targets out in their own units, in which metrics are measured too. Only the losses in ``study.curves``, which are
    what is minimised, are those of standardized targets.

    Attributes:
        train: (x, y) to train on.
        valid: (x, y) to score trials on.
        test: (x, y) that no trial sees, or None.
        standardize: whether networks train on standardized numbers.
        columns: the names of the columns of x, where ``train`` came as a data frame that has them; None otherwise.

    Example:
        >>> x, y = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1]
        >>> Data(train=(x, y), valid=(x[:1], y[:1]), standardize=True)
        Data(2 classes, inputs (2,), 3 train + 1 valid rows, standardized)
    """

    train: Part
    valid: Part
    test: Part | None
    standardize: bool
    columns: tuple[str, ...] | None = field(init=False)

    def __init__(self, train: Any, valid: Any, test: Any = None, standardize: bool = False) -> None:
        """Checks and converts the parts.

        Args:
            train: (x, y); x has rows along its first axis, at least two axes, and no NaN or infinite value.
            valid: (x, y) of at least one row, with the same columns as ``train`` and no class beyond its last.
            test: the same, or None.
            standardize: whether to train on standardized numbers.

        Raises:
            TypeError: for what is not a pair, for values that are not real numbers, and for another ``standardize``.
            ValueError: for shapes, lengths, values and labels that cannot be trained on.
        """
        _check_standardize(standardize)
        given = {"train": train, "valid": valid} | ({} if test is None else {"test": test})
        raw = {part: read(f"{part} ", pair) for part, pair in given.items()}
        kind = _common_kind(raw)
        parts = {part: convert(f"{part} ", pair, kind) for part, pair in raw.items()}
        _warn_if_narrowed(list(raw.values()), list(parts.values()))
        _check_agreement(parts, kind)
        held = {"test": None, **parts, "standardize": bool(standardize), "columns": column_names(train[0])}
        for name, value in held.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(
        cls,
        data: Any = None,
        *,
        key: Key[Array, ""] | None = None,
        kind: Literal["auto"] | Kind = "auto",
        standardize: bool = False,
    ) -> "Data":
        """Makes ``Data`` of all that a search accepts.

        Splits are random by ``key`` alone. For classes they are stratified: each class gives every part its share to
        within one row, and a class of a single row trains.

        Args:
            data: (x, y), split into 80 % to train and 20 % to validate; a ``Data``, whose split it is; or None for
                scikit-learn's digits, 1797 images of 8 x 8 pixels flattened to 64 columns and divided by 16, so that
                values lie in [0, 1], split into 60 % to train, 20 % to validate and 20 % to test.
            key: typed key of the split; None for that of ``vtune.search(seed=0)``.
            kind: what the loss needs, "classes" or "targets"; "auto" goes by the type of y.
            standardize: whether to train on standardized numbers; a ``Data`` that is standardized stays so.

        Returns:
            The checked, split data.

        Raises:
            TypeError: for anything else, and for values that are not real numbers.
            ValueError: for what cannot be trained on or cannot be split.

        Example:
            >>> Data.of()
            Data(10 classes, inputs (64,), 1078 train + 360 valid + 359 test rows)
            >>> x, y = [[2019.0], [2021.0], [2024.0]], [1.1, 1.3, 1.9]
            >>> Data.of((x, y), standardize=True)
            Data(1 target, inputs (1,), 2 train + 1 valid rows, standardized)
        """
        return split_data(data, lambda: _drawn_by(key), kind=kind, standardize=standardize)

    @property
    def kind(self) -> Kind:
        """Whether y holds labels of "classes" or "targets" of a regression."""
        return kind_of(self.train[1])

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

    @cached_property
    def x_units(self) -> Units | None:
        """By what x is standardized; None where it is not."""
        return Units.of(self.train[0]) if self.standardize else None

    @cached_property
    def y_units(self) -> Units | None:
        """By what targets are standardized; None where they are not, and for labels."""
        return Units.of(self.train[1]) if self.standardize and self.kind == "targets" else None

    @cached_property
    def scaled(self) -> tuple[Part, Part]:
        """The rows to train on and the rows to score trials on, as networks are given them.

        Targets to score are left in their own units, where a metric measures: a target of 0 stays 0 to the bit.
        """
        if self.x_units is None:
            return self.train, self.valid
        (x, y), (x_valid, y_valid) = self.train, self.valid
        y = y if self.y_units is None else self.y_units.standardize(y)
        return (self.x_units.standardize(x), y), (self.x_units.standardize(x_valid), y_valid)

    @cached_property
    def digest(self) -> str:
        """Tells these rows from any others: a hash of all parts, in hexadecimal.

        Example:
            >>> part = ([[0.0], [1.0]], [0, 1])
            >>> Data(train=part, valid=part).digest == Data(train=part, valid=part, test=part).digest
            False
        """
        digest = hashlib.sha256(repr(self).encode())
        for x, y in self._parts().values():
            digest.update(x.tobytes() + y.tobytes())
        return digest.hexdigest()

    def warn_of_sizes(self, given: Any, kind: Literal["auto"] | Kind) -> None:
        """Warns of columns that are far from 1 in size, unless they are standardized.

        Args:
            given: what ``Data.of`` made this of: the warning says what to write instead.
            kind: as it was given to ``Data.of``.
        """
        if self.standardize:
            return
        of_x = tell_sizes("x", self.train[0], self.columns)
        of_y = tell_sizes("y", self.train[1]) if self.kind == "targets" else ""
        if of_x or of_y:
            written = "data" if isinstance(given, Data) else "(x, y)" + ("" if kind == "auto" else f', kind="{kind}"')
            warn_user(
                f"{', and '.join(filter(None, [of_x, of_y]))}. Networks learn best from numbers of about 1, and vtune "
                f"scales nothing by itself. Write vtune.Data.of({written}, standardize=True) for the data: scaled by "
                "their training part, with results in your own units",
                SizeWarning,
            )

    def require_classes(self) -> "Data":
        """The same data with y as labels, for a loss over classes such as "cross_entropy".

        Raises:
            ValueError: where y holds anything but whole numbers from 0 up.

        Example:
            >>> part = ([[0.0], [1.0]], [0.0, 1.0])
            >>> Data(train=part, valid=part).require_classes()
            Data(2 classes, inputs (1,), 2 train + 2 valid rows)
        """
        return self._converted("classes", self.standardize)

    def require_targets(self) -> "Data":
        """The same data with y as float targets of shape (rows, outputs), for a loss of regression such as "mse".

        Example:
            >>> part = ([[0.0], [1.0]], [0, 1])
            >>> Data(train=part, valid=part).require_targets()
            Data(1 target, inputs (1,), 2 train + 2 valid rows)
        """
        return self._converted("targets", self.standardize)

    def _converted(self, kind: Kind, standardize: bool) -> "Data":
        if (kind, standardize) == (self.kind, self.standardize):
            return self
        parts = {part: (x, convert_y(f"{part} ", y, kind)) for part, (x, y) in self._parts().items()}
        return Data(**parts, standardize=standardize)._naming(self.columns)

    def _naming(self, columns: tuple[str, ...] | None) -> "Data":
        object.__setattr__(self, "columns", columns)
        return self

    def _parts(self) -> dict[str, Part]:
        held = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: part for name, part in held.items() if part is not None}

    def __repr__(self) -> str:
        """One line: what y holds, the shape of a row, the rows of each part, and whether they are standardized."""
        noun = self.kind if self.outputs > 1 else self.kind.removesuffix("s")
        rows = " + ".join(f"{len(x)} {name}" for name, (x, _) in self._parts().items())
        scaled = ", standardized" if self.standardize else ""
        return f"Data({self.outputs} {noun}, inputs {self.inputs}, {rows} rows{scaled})"


def _check_standardize(standardize: Any) -> None:
    if not isinstance(standardize, bool | np.bool_):
        raise TypeError(
            f"standardize={standardize!r} is neither True nor False; write standardize=True to train on x and targets "
            "of mean 0 and standard deviation 1, or leave it out to train on them as they are"
        )


def _digits() -> Raw:
    table = _digits_table()
    return table[:, :-1].astype(float_dtype()) / 16, table[:, -1].astype(np.int64)


def _digits_table() -> Num[np.ndarray, "rows columns"]:
    """Reads scikit-learn's file of images and labels; importing scikit-learn would take 30 times as long."""
    package = find_spec("sklearn")
    for place in (package and package.submodule_search_locations) or ():
        if (file := Path(place, "datasets", "data", "digits.csv.gz")).exists():
            return np.loadtxt(file, delimiter=",", dtype=np.float32)
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return np.column_stack([np.asarray(images), np.asarray(labels)])


# Splitting


def split_data(
    data: Any,
    draw_bits: Callable[[], UInt32[np.ndarray, "4"]],
    *,
    kind: Literal["auto"] | Kind = "auto",
    standardize: bool = False,
) -> Data:
    """Makes ``Data`` as ``Data.of`` does of the same arguments.

    Args:
        data: see ``Data.of``.
        draw_bits: returns what rows are split by, as ``keys.split_bits`` does; called once all is checked.
        kind: see ``Data.of``.
        standardize: see ``Data.of``.
    """
    _check_standardize(standardize)
    if isinstance(data, Data):
        return data._converted(data.kind if kind == "auto" else kind, data.standardize or bool(standardize))
    raw, hand = (_digits(), _SIXTY_TWENTY_TWENTY) if data is None else (read("", data), _EIGHTY_TWENTY)
    part = convert("", raw, kind_of(raw[1]) if kind == "auto" else kind)
    _warn_if_narrowed([raw], [part])
    _check_two_classes("y", part[1])
    made = Data(*_split(part, hand, draw_bits()), standardize=standardize)
    return made if data is None else made._naming(column_names(data[0]))


def _split(part: Part, hand: tuple[int, ...], bits: UInt32[np.ndarray, "4"]) -> list[Part]:
    x, y = part
    dealt = _deal(np.zeros(len(y), np.int32) if is_float(y) else y, hand, bits)
    if not (dealt == _VALID).any():
        raise ValueError(_unsplittable(len(y)))
    return [(x[dealt == part], y[dealt == part]) for part in sorted(set(hand))]


def _deal(
    labels: Int[np.ndarray, " rows"], hand: tuple[int, ...], bits: UInt32[np.ndarray, "4"]
) -> Int[np.ndarray, " rows"]:
    """Deals the rows, class after class and shuffled within a class, to the parts; a class of one row trains."""
    # The raw stream of a bit generator stays the same in every NumPy version; that of Generator.permutation may not.
    order = np.lexsort((np.random.PCG64(bits).random_raw(len(labels)), labels))
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    order = order[sizes[classes[order]] > 1]
    dealt = np.full(len(labels), _TRAIN)
    dealt[order] = np.resize(hand, len(order))
    return dealt


def _drawn_by(key: Key[Array, ""] | None) -> UInt32[np.ndarray, "4"]:
    return split_bits(seed_words(0)) if key is None else np.asarray(_bits(key))


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


def _warn_if_narrowed(raw: list[Raw], parts: list[Part]) -> None:
    pairs = [pair for before, after in zip(raw, parts, strict=True) for pair in zip(before, after, strict=True)]
    names = {str(a.dtype) for a, b in pairs if is_float(a) and is_float(b) and a.dtype.itemsize > b.dtype.itemsize}
    if names:
        warn_user(
            f"{' and '.join(sorted(names))} data are trained in float32, JAX's default; write x.astype(np.float32) to "
            'say so yourself, or jax.config.update("jax_enable_x64", True) to train in float64',
        )


# Checking the parts against one another


def _common_kind(raw: dict[str, Raw]) -> Kind:
    kinds: dict[str, Kind] = {part: kind_of(y) for part, (_, y) in raw.items()}
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
    if not is_float(y) and y.min() == y.max():
        raise ValueError(
            f"{name} holds one class only (label {y[0]} in all {len(y)} rows), so there is nothing to tell apart; "
            "give rows of a second class, or write y.astype(float) if these are quantities"
        )
