"""One trial while its search runs: where it comes from, and what its training came to so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from jaxtyping import Float

from vtune.protocols import ChunkResult, Leg, Training

Curves = Float[np.ndarray, "_epochs metrics"]
"""One row an epoch, from the first one of the network on, those of a trial's ancestors included."""


@dataclass
class History:
    """One trial.

    Attributes:
        row: a value for every name of the space, used or not.
        used: the values that it uses, by name.
        point: of the unit cube, as its plan was recorded; NaN for what it does not use.
        round: the plan that first asked for it.
        parent: the trial whose weights it started from; None where it started fresh.
        legs: how its network comes about, up to the end of the plan that it is in.
        curves: the learning curve under each seed index, as far as it was finite; of a trial that was trained further
            before the search was interrupted, further than where it stands now.
        diverged_step: the first optimizer step that was not finite, of any seed index.
        seconds: wall time of the chunks that it trained in.
        finished_at: when the last of them was done, in UTC.
    """

    row: dict[str, Any]
    used: dict[str, Any]
    point: Float[np.ndarray, " axes"]
    round: int
    parent: int | None
    legs: tuple[Leg, ...]
    curves: list[Curves]
    diverged_step: int | None = None
    seconds: float = 0.0
    finished_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _open: set[int] = field(default_factory=set)

    @property
    def trial_id(self) -> int:
        """Its own."""
        return self.legs[-1].trial_id

    @property
    def budget(self) -> int:
        """The epochs that it was offered in all."""
        return self.legs[-1].until

    @property
    def curves_so_far(self) -> list[Curves]:
        """The learning curves within its budget."""
        return [curve[: self.budget] for curve in self.curves]

    @property
    def is_trained(self) -> bool:
        """Whether nothing is under way."""
        return not self._open

    def trainings(self, is_kept: bool, has_patience: bool) -> list[Training]:
        """Returns what there is to be trained: its last leg under each seed index.

        With several of them patience goes by the mean of their curves, so none of them is ended alone.
        """
        self._open = set(range(len(self.curves)))
        is_brief = has_patience and len(self.curves) == 1
        return [Training(self.legs, seed_index, is_kept, is_brief) for seed_index in sorted(self._open)]

    def add(self, done: ChunkResult, place: int) -> None:
        """Takes in what one of its trainings came to."""
        training, new = done.chunk.trainings[place], done.curves[place].astype(np.float64)
        is_diverged = bool(done.diverged_step[place] >= 0)
        new = new[np.isfinite(new[:, 1])] if is_diverged else new
        self.curves[training.seed_index] = np.concatenate([self.curves[training.seed_index][: training.start], new])
        if is_diverged and self.diverged_step is None:
            self.diverged_step = int(done.diverged_step[place])
        self.seconds, self.finished_at = self.seconds + done.seconds, datetime.now(UTC)
        self._open.discard(training.seed_index)


def mean_curve(curves: Sequence[Curves]) -> Curves:
    """Returns the mean over seed indices, for the epochs that all of them have.

    Example:
        >>> mean_curve([np.array([[1.0], [2.0]]), np.array([[3.0]])]).tolist()
        [[2.0]]
    """
    if len(curves) == 1:
        return curves[0].copy()
    length = min(map(len, curves))
    return np.mean([curve[:length] for curve in curves], axis=0)
