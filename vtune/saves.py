"""When a study is written: not more often than it is worth."""

import time
from dataclasses import dataclass

from vtune.study import Study

SECONDS_BETWEEN_SAVES = 10.0
"""What a process may lose that is killed. (Writing a large study takes longer, and is done less often.)"""


@dataclass
class Saves:
    """Keeps the time that a study takes, and writes it now and then.

    Attributes:
        study: whose seconds go on from where they stand.
    """

    study: Study

    def __post_init__(self):
        now = time.perf_counter()
        self._started_at, self._next = now - self.study.seconds, now + SECONDS_BETWEEN_SAVES

    def look(self) -> None:
        """Looks at the clock."""
        self.study.seconds = time.perf_counter() - self._started_at

    @property
    def is_due(self) -> bool:
        """Whether the last writing is long enough ago."""
        return time.perf_counter() > self._next

    def write(self) -> None:
        """Writes the folder, and leaves it alone for so long that writing takes a twentieth of the time at most."""
        began = time.perf_counter()
        self.study.seconds = began - self._started_at
        self.study.save()
        ended = time.perf_counter()
        self._next = ended + max(SECONDS_BETWEEN_SAVES, 20 * (ended - began))
