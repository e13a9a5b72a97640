"""What the two sides are asked, and what they answer. Neither needs JAX or PyTorch to read this."""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

Part = tuple[np.ndarray, np.ndarray]
"""Rows, float32, and their classes."""


class Asked(NamedTuple):
    """A search.

    Attributes:
        rows: a file with the parts of the data.
        strategy: by its name.
        trials: how many to plan for.
        epochs: of a whole training.
        seed: of all that is drawn.
        seconds: that there are.
        started: when the process was, as ``time.time`` tells.
        journal: a file that the processes of one search share, for those that need one.
        place: which of these processes this is.
    """

    rows: str
    strategy: str
    trials: int
    epochs: int
    seed: int
    seconds: float
    started: float
    journal: str = ""
    place: int = 0

    @classmethod
    def read(cls) -> "Asked":
        """Returns what this process was started with."""
        return cls(**json.loads(sys.argv[1]))

    @property
    def elapsed(self) -> float:
        """Seconds since the process was started, imports included."""
        return time.time() - self.started

    def part(self, name: str) -> Part:
        """Returns "train", "valid" or "test"."""
        with np.load(self.rows) as held:
            return held[f"{name}_x"], held[f"{name}_y"]


class Ended(NamedTuple):
    """A network as it stood when its training ended, or was interrupted.

    Attributes:
        seconds: since the process was started.
        score: accuracy on the rows to validate, after its last epoch.
        loss: likewise; it decides among equal scores.
        test_score: accuracy on rows that no side sees; None where it was not worked out.
    """

    seconds: float
    score: float
    loss: float
    test_score: float | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """Sorts the best first."""
        return -self.score, self.loss


def keep(path: Path, **parts: Part) -> None:
    """Writes the parts of the data to a file."""
    columns = {f"{name}_{axis}": part[place] for name, part in parts.items() for place, axis in enumerate("xy")}
    np.savez(path, allow_pickle=False, **columns)


def improvements(ended: Iterable[Ended], seconds: float) -> list[Ended]:
    """Returns those that were better than all before them, in the time that there was.

    Example:
        >>> late, first, tied = Ended(9.0, 0.99, 0.1), Ended(1.0, 0.8, 0.5), Ended(3.0, 0.8, 0.4)
        >>> [each.seconds for each in improvements([late, tied, Ended(2.0, 0.7, 0.1), first], seconds=8.0)]
        [1.0, 3.0]
    """
    best: list[Ended] = []
    for each in sorted(ended):
        if each.seconds <= seconds and np.isfinite(each.score) and (not best or each.rank < best[-1].rank):
            best.append(each)
    return best


def best_at(moments: Sequence[float] | np.ndarray, better: Sequence[Ended]) -> np.ndarray:
    """Returns the best score at each moment, from what ``improvements`` returned; -inf before there is one.

    Example:
        >>> best_at([0.5, 1.0, 60.0], [Ended(1.0, 0.8, 0.5), Ended(3.0, 0.9, 0.4)]).tolist()
        [-inf, 0.8, 0.9]
    """
    seconds = [each.seconds for each in better]
    scores = np.array([-np.inf, *(each.score for each in better)])
    return scores[np.searchsorted(seconds, moments, side="right")]
