"""What strategies came to, row by row, and how they compare with a baseline."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from regret.statistics import Interval

Found = TypeVar("Found", bound=tuple)
"""A NamedTuple of columns, one entry a seed."""


class Row(NamedTuple, Generic[Found]):
    """One strategy on one function or data set.

    Attributes:
        on: the function or the data, by name.
        strategy: by its name.
        found: by the whole trainings that its searches were given.
    """

    on: str
    strategy: str
    found: dict[int, Found]

    @property
    def last(self) -> Found:
        """With the most trainings."""
        return self.found[max(self.found)]

    def as_dict(self) -> dict[str, Any]:
        """Returns all numbers for JSON."""
        found = {
            trainings: {name: column.tolist() for name, column in columns._asdict().items()}  # pyright: ignore[reportAttributeAccessIssue]
            for trainings, columns in self.found.items()
        }
        return {"on": self.on, "strategy": self.strategy, "found": found}


def differences(
    rows: Sequence[Row[Found]], baseline: str, regret: Callable[[Found], Float[np.ndarray, " seeds"]]
) -> dict[tuple[str, str], Interval]:
    """Returns each strategy's regret with the most trainings less the baseline's, seed by seed.

    Args:
        rows: all of them.
        baseline: the name of a strategy; without it, and for itself, there is nothing to compare.
        regret: of what was found.

    Returns:
        By the names of the strategy and of what it was tried on.
    """
    known = {row.on: regret(row.last) for row in rows if row.strategy == baseline}
    others = [row for row in rows if row.strategy != baseline and row.on in known]
    return {(row.strategy, row.on): Interval.of(regret(row.last) - known[row.on]) for row in others}
