"""What a hyperparameter may be, and the nine that vtune knows by name: how much each matters, where it starts."""

import math
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeGuard

import numpy as np

FLOAT32_MIN, FLOAT32_MAX = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
"""The sizes that float32 holds in full; XLA takes smaller ones for 0."""


class Domain(NamedTuple):
    """The values that make sense for a hyperparameter, as float32 numbers from ``low`` up to, but not at, ``end``."""

    low: float
    end: float
    is_whole: bool
    rule: str


_POSITIVE = Domain(FLOAT32_MIN, math.inf, False, "must be above 0")
_DIVISOR = _POSITIVE._replace(
    rule="must be above 0: Adam divides by it, and padded weights stay 0 only as 0 / (0 + epsilon)"
)
_NOT_NEGATIVE = Domain(0.0, math.inf, False, "must be 0 or more")
_AVERAGE = Domain(0.0, 1.0, False, "averages over 1 / (1 - value) steps, so as a float32 it must lie in [0, 1)")
_COUNT = Domain(1, math.inf, True, "must be an integer of 1 or more")


class Hyperparameter(NamedTuple):
    """One row of the table of the nine.

    Attributes:
        symbol: how papers and the deep-learning course write it.
        tier: how much it matters; tier 1 is tuned first.
        default: its value where a space leaves it out.
        call: the constructor of ``vtune.parameters`` that draws it on its scale.
        search: the arguments of that call for a sensible first search.
        domain: the values that make sense.
        meaning: what it does, in a few words.
    """

    symbol: str
    tier: int
    default: float
    call: str
    search: tuple[Any, ...]
    domain: Domain
    meaning: str


NINE = {
    "learning_rate": Hyperparameter("alpha", 1, 1e-3, "loguniform", (1e-4, 1.0), _POSITIVE, "step size"),
    "momentum": Hyperparameter("beta", 2, 0.9, "reverse_loguniform", (0.5, 0.999), _AVERAGE, "momentum of SGD"),
    "batch_size": Hyperparameter("", 2, 64, "powers_of_two", (32, 256), _COUNT, "mini-batch size"),
    "hidden": Hyperparameter("n[l]", 2, 64, "integers", (16, 256, True), _COUNT, "hidden units of a layer"),
    "layers": Hyperparameter("L", 3, 2, "integers", (1, 4), _COUNT, "hidden layers"),
    "decay": Hyperparameter("", 3, 0, "loguniform", (1e-3, 1.0), _NOT_NEGATIVE, "epoch e uses alpha / (1 + decay * e)"),
    "beta1": Hyperparameter(
        "beta1", 4, 0.9, "reverse_loguniform", (0.5, 0.999), _AVERAGE, "Adam's window of gradients"
    ),
    "beta2": Hyperparameter(
        "beta2", 4, 0.999, "reverse_loguniform", (0.9, 0.9999), _AVERAGE, "Adam's window of squares"
    ),
    "epsilon": Hyperparameter("epsilon", 4, 1e-8, "loguniform", (1e-10, 1e-4), _DIVISOR, "floor of Adam's divisor"),
}
"""The hyperparameters with a meaning of their own; a space may hold any other name too."""

DEFAULTS: dict[str, Any] = {name: row.default for name, row in NINE.items()} | {"optimizer": "adam"}
"""What a name takes where a space leaves it out."""

TIERS = {name: row.tier for name, row in NINE.items()}
"""What to tune first: 1 before 2 before 3 before 4."""

OPTIMIZER_READS = {
    "adam": ("beta1", "beta2", "epsilon"),
    "momentum": ("momentum",),
    "rmsprop": ("momentum", "epsilon"),
    "sgd": (),
}
"""The names that belong to an optimizer. All others of the nine are read whatever the optimizer."""


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Returns the end of an error message about a misspelt name: the likely one, or all of them.

    Args:
        name: what was written.
        known: what could have been written.

    Example:
        >>> did_you_mean("adm", ["adam", "sgd"])
        "did you mean 'adam'?"
    """
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"write one of {', '.join(map(repr, known))}."


def is_number(value: Any) -> TypeGuard[float]:
    """Returns whether the value is a real number; True and False are none.

    Example:
        >>> is_number(64), is_number(True), is_number("64")
        (True, False, False)
    """
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_missing(value: Any) -> bool:
    """Returns whether a cell of a table holds no value: NaN, or a missing integer or bool of pandas.

    Example:
        >>> is_missing(math.nan), is_missing(None), is_missing(0)
        (True, False, False)
    """
    return type(value).__name__ == "NAType" or (isinstance(value, float | np.floating) and math.isnan(value))


def check_value(written: object, value: Any) -> None:
    """Refuses what cannot be a hyperparameter's value.

    Args:
        written: what the user wrote, quoted in the message.
        value: the value, or one part of it.

    Raises:
        TypeError: for anything but a number, a string, a bool or None.
        ValueError: for a number that float32 cannot hold, or holds as a subnormal, which XLA takes for 0.

    Example:
        >>> check_value("choice([nan])", math.nan)
        Traceback (most recent call last):
        ValueError: choice([nan]): nan is no float32 number. Write 0, or a size from 1.2e-38 to 3.4e38.
    """
    if not (is_number(value) or isinstance(value, str | bool | None)):
        raise TypeError(f"{written}: {value!r} is not a number, string, bool or None. Write a string that names it.")
    if is_number(value) and value != 0 and not FLOAT32_MIN <= abs(value) <= FLOAT32_MAX:
        raise ValueError(f"{written}: {value!r} is no float32 number. Write 0, or a size from 1.2e-38 to 3.4e38.")


def check_fixed(written: object, value: Any) -> None:
    """Refuses what cannot be the plain value of a name, several values above all.

    Args:
        written: what the user wrote, quoted in the message.
        value: the value.

    Raises:
        TypeError: for anything but a number, a string, a bool or None.
        ValueError: for a number that float32 cannot hold.

    Example:
        >>> check_fixed("{'hidden': [32, 64]}", [32, 64])
        Traceback (most recent call last):
        TypeError: {'hidden': [32, 64]}: a plain value is a single one. Write choice([32, 64]) to try each of them.
    """
    if isinstance(value, Iterable) and not isinstance(value, str):
        raise TypeError(f"{written}: a plain value is a single one. Write choice({list(value)!r}) to try each of them.")
    check_value(written, value)


def names_of(optimizer: str, tiers: Iterable[int]) -> list[str]:
    """Returns which of the nine belong to the tiers and are read under the optimizer, in the table's order.

    Args:
        optimizer: "adam", "momentum", "rmsprop" or "sgd".
        tiers: numbers from 1, what matters most, to 4.

    Raises:
        ValueError: for an optimizer or a tier that does not exist.

    Example:
        >>> names_of("sgd", tiers=(1, 2))
        ['learning_rate', 'batch_size', 'hidden']
    """
    if optimizer not in OPTIMIZER_READS:
        raise ValueError(f"optimizer={optimizer!r} is unknown; {did_you_mean(str(optimizer), OPTIMIZER_READS)}")
    tiers = tuple(tiers)
    unknown = [tier for tier in tiers if tier not in TIERS.values()]
    if unknown:
        raise ValueError(
            f"tiers={tiers!r}: there is no tier {unknown[0]!r}; write some of 1, 2, 3 and 4: tiers=(1, 2, 3)."
        )
    unread = set().union(*OPTIMIZER_READS.values()) - set(OPTIMIZER_READS[optimizer])
    return [name for name, tier in TIERS.items() if tier in tiers and name not in unread]


def check_known(name: str, written: Any, values: Iterable[Any]) -> None:
    """Refuses values that make no sense for one of the nine; lets every other name pass.

    Args:
        name: a name in a space.
        written: what the space gives it, quoted in the message.
        values: the extreme values it can take. One of ``hidden`` may be a tuple, a width a layer.

    Raises:
        TypeError: for a value that is not a number.
        ValueError: for a number outside the domain of the name.

    Example:
        >>> check_known("momentum", 0.9, [0.9])
        >>> check_known("momentum", 1.0, [1.0])
        Traceback (most recent call last):
        ValueError: "momentum": 1.0 cannot be: momentum averages over 1 / (1 - value) steps, so as a float32 it must...
    """
    if name not in NINE:
        return
    for value in values:
        for number in value if name == "hidden" and isinstance(value, tuple) else (value,):
            _check_number(name, written, number)


def _check_number(name: str, written: Any, number: Any) -> None:
    row = NINE[name]
    advice = f'Write "{name}": {row.default!r}, or {row.call}{row.search} to search.'
    if not is_number(number):
        raise TypeError(f'"{name}": {written!r} cannot be: {name} is a number, and {number!r} is not. {advice}')
    is_whole_enough = isinstance(number, int) or not row.domain.is_whole
    if not (is_whole_enough and row.domain.low <= float(np.float32(number)) < row.domain.end):
        raise ValueError(f'"{name}": {written!r} cannot be: {name} {row.domain.rule}, and {number!r} is not. {advice}')
