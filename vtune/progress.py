"""How a search shows that it moves: a bar in terminals and notebooks, plain lines elsewhere, or nothing."""

import sys
import time
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """What a search tells while it runs. Bring your own to show it elsewhere.

    Example:
        >>> make_progress(False).say("nobody reads this")
    """

    def begin(self, num_trials: int) -> None:
        """Training starts, and ends after so many trials."""
        ...

    def say(self, line: str) -> None:
        """Something worth a line: the plan, a note."""
        ...

    def trials_done(self, count: int, num_diverged: int, best_score: float | None) -> None:
        """A chunk is finished.

        Args:
            count: its trials.
            num_diverged: those of them that diverged.
            best_score: the best score so far, as the user knows it; None while there is none.
        """
        ...

    def round_done(self, round: int, num_rounds: int | None) -> None:
        """A round is finished.

        Args:
            round: which one, counted from 0 as in ``study.trials``.
            num_rounds: how many there will be, where the strategy knows it.
        """
        ...

    def close(self) -> None:
        """The search is over, by success or by an error; a second call does nothing."""
        ...


class Silent:
    """Shows nothing.

    Example:
        >>> Silent().begin(256)
    """

    def begin(self, num_trials: int) -> None:
        """Shows nothing."""

    def say(self, line: str) -> None:
        """Shows nothing."""

    def trials_done(self, count: int, num_diverged: int, best_score: float | None) -> None:
        """Shows nothing."""

    def round_done(self, round: int, num_rounds: int | None) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Shows nothing."""


class Lines:
    """One plain line a round, on standard error: for logs.

    Example:
        >>> Lines().begin(256)
    """

    def __init__(self):
        self._num_trials = self._num_done = self._num_diverged = 0
        self._best: float | None = None
        self._started_at = time.monotonic()

    def begin(self, num_trials: int) -> None:
        """Starts the clock."""
        self._num_trials = num_trials
        self._started_at = time.monotonic()

    def say(self, line: str) -> None:
        """Writes the line."""
        print(line, file=sys.stderr, flush=True)  # noqa: T201  (what this module is for)

    def trials_done(self, count: int, num_diverged: int, best_score: float | None) -> None:
        """Counts, for the next line."""
        self._num_done += count
        self._num_diverged += num_diverged
        self._best = best_score

    def round_done(self, round: int, num_rounds: int | None) -> None:
        """Writes how far the search has come."""
        per_second = self._num_done / max(time.monotonic() - self._started_at, 1e-9)
        left = max(self._num_trials - self._num_done, 0) / per_second if per_second else 0.0
        self.say(
            f"{_round_name(round, num_rounds)}: {self._num_done}/{self._num_trials} trials, "
            f"{_standing(self._best, self._num_diverged)}, {per_second:.1f} trials/s, {left:.0f} s left"
        )

    def close(self) -> None:
        """Leaves the lines where they are."""


class Bar:
    """A bar of tqdm on standard error: trials done, the best score, those that diverged, trials a second, time left.

    Example:
        >>> Bar().close()
    """

    def __init__(self):
        self._bar: Any = None
        self._num_diverged = 0

    def begin(self, num_trials: int) -> None:
        """Draws the bar."""
        from tqdm import tqdm

        self._bar = tqdm(total=num_trials, unit=" trials", file=sys.stderr, dynamic_ncols=True)

    def say(self, line: str) -> None:
        """Writes the line above the bar."""
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)

    def trials_done(self, count: int, num_diverged: int, best_score: float | None) -> None:
        """Moves the bar on."""
        self._num_diverged += num_diverged
        self._bar.set_postfix_str(_standing(best_score, self._num_diverged), refresh=False)
        self._bar.update(count)

    def round_done(self, round: int, num_rounds: int | None) -> None:
        """Names the round that is done in front of the bar."""
        self._bar.set_description_str(f"{_round_name(round, num_rounds)} done")

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def make_progress(progress: object = True) -> Progress:
    """Returns what shows the progress of a search.

    Args:
        progress: True for a bar, or for a line a round where the output is no terminal or notebook; False for
            nothing; or a ``Progress`` of your own.

    Raises:
        TypeError: for anything else.

    Example:
        >>> type(make_progress(False)).__name__
        'Silent'
    """
    if isinstance(progress, bool):
        return (Bar() if _can_redraw() else Lines()) if progress else Silent()
    if isinstance(progress, Progress):
        return progress
    raise TypeError(
        f"progress={progress!r} is no bool and lacks a method of vtune's Progress (begin, say, trials_done, "
        "round_done, close); write progress=True or progress=False"
    )


def _can_redraw() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _round_name(round: int, num_rounds: int | None) -> str:
    return f"round {round + 1}" + ("" if num_rounds is None else f"/{num_rounds}")


def _standing(best_score: float | None, num_diverged: int) -> str:
    best = "-" if best_score is None else f"{best_score:.4g}"
    return f"best {best}, {num_diverged} diverged"
