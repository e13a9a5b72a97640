"""When a search ends before its strategy does: a score that is good enough, or no time left."""

import re
from typing import Any, NamedTuple

from vtune.defaults import is_number

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


class OutOfTime(Exception):
    """There is no time left to train."""


class Ending(NamedTuple):
    """The rules.

    Attributes:
        target: a score, as the user knows it, at which a search is done; None for none.
        seconds: that a search may take in all, those before it was interrupted included; None for no limit.
    """

    target: float | None = None
    seconds: float | None = None

    def is_reached(self, score: float | None, is_maximized: bool) -> bool:
        """Returns whether a score is good enough.

        Args:
            score: the best one so far; None while there is none.
            is_maximized: whether a higher score is better.

        Example:
            >>> Ending(target=0.9).is_reached(0.95, is_maximized=True), Ending().is_reached(0.95, is_maximized=True)
            (True, False)
        """
        if self.target is None or score is None:
            return False
        return score >= self.target if is_maximized else score <= self.target


def make_ending(target_score: Any, time_budget: Any) -> Ending:
    """Returns the rules that a user writes.

    Raises:
        TypeError: for a target that is no number.
        ValueError: for a time that is none.
    """
    if target_score is not None and not is_number(target_score):
        raise TypeError(
            f"target_score={target_score!r} is no number. Write a score of the metric, such as target_score=0.98."
        )
    return Ending(None if target_score is None else float(target_score), read_seconds(time_budget))


def read_seconds(time_budget: Any) -> float | None:
    """Returns a time in seconds.

    Args:
        time_budget: a number of seconds, also in a string, or "90s", "10m", "1h30m"; None for no limit.

    Raises:
        ValueError: for anything else, and for no time at all.

    Example:
        >>> read_seconds("1h30m"), read_seconds(90), read_seconds(None)
        (5400.0, 90.0, None)
    """
    if time_budget is None:
        return None
    seconds = 0.0
    if is_number(time_budget):
        seconds = float(time_budget)
    elif isinstance(time_budget, str) and _NUMBER.fullmatch(time_budget.strip()):
        seconds = float(time_budget)  # as the command line gives it
    elif isinstance(time_budget, str) and (found := _TIME.fullmatch(time_budget.replace(" ", ""))):
        seconds = sum(float(part or 0) * unit for part, unit in zip(found.groups(), _UNITS.values(), strict=True))
    if not 0 < seconds < float("inf"):
        raise ValueError(
            f'time_budget={time_budget!r} is no time. Write a number of seconds, or hours, minutes and seconds: "10m", '
            '"1h30m", "90s".'
        )
    return seconds
