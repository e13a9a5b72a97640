"""The weights of trials that may be trained further: kept on the host between one chunk and another."""

import threading
from collections import OrderedDict
from collections.abc import Collection

from vtune.protocols import LaneState, Moment, Training
from vtune.training.devices import host_bytes
from vtune.training.memory import num_bytes

_SHARE = 4
"""One byte in so many of the machine's memory."""


class Weights:
    """Lanes on the host by the moment that they were in. Used by several threads at once.

    It is a memory and no record: what is not in it can be trained again, to the same bits. So it holds what fits in a
    quarter of the machine's memory, and lets go of what was put there first.

    Attributes:
        most_bytes: how much it holds.
    """

    def __init__(self, most_bytes: int | None = None):
        self.most_bytes = host_bytes() // _SHARE if most_bytes is None else most_bytes
        self._lanes: OrderedDict[Moment, LaneState] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def put(self, training: Training, lane: LaneState) -> None:
        """Keeps a lane as it was at the end of a training."""
        with self._lock:
            self._drop(training.end)
            self._lanes[training.end] = lane
            self._num_bytes += num_bytes(lane)
            while self._num_bytes > self.most_bytes:
                self._drop(next(iter(self._lanes)))

    def get(self, training: Training) -> LaneState | None:
        """Returns the lane as it was at the end of a training; None where that is not known any more."""
        return self._lanes.get(training.end)

    def keep_only(self, trial_ids: Collection[int]) -> None:
        """Lets go of all other trials."""
        with self._lock:
            for moment in [moment for moment in self._lanes if moment[0] not in trial_ids]:
                self._drop(moment)

    def _drop(self, moment: Moment) -> None:
        lane = self._lanes.pop(moment, None)
        self._num_bytes -= 0 if lane is None else num_bytes(lane)
