"""From a strategy's settings to its factory: checked at the door, and built once for each search of the same shape."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from itertools import pairwise
from typing import Any

from vtune.arguments import check_count
from vtune.protocols import Axis, Strategy, StrategyFactory


@dataclass(frozen=True, repr=False)
class Factory:
    """A strategy with its settings, before its search is known; a ``StrategyFactory`` that prints as its call.

    Attributes:
        name: of the public function that made it.
        build: makes the strategy from a tuple of axes, the trials of each stage, epochs and the settings, checked
            already. Memoised, so that equal arguments give the very same functions: jit knows a program by its
            function, and a second search with another seed compiles nothing. A search has one stage, and one more each
            time that it is continued with more trials; their numbers count from the beginning.
        settings: what the user wrote or left at its default.
        parts: what the user wrote without a name, before the settings; ``build`` gets it before them too.
    """

    name: str
    build: Callable[..., Strategy]
    settings: Mapping[str, Any] = field(hash=False)
    parts: tuple[Any, ...] = ()

    def __call__(self, axes: Sequence[Axis], *, trials: int, epochs: int, earlier: Sequence[int] = ()) -> Strategy:
        """Returns the strategy for a cube with these axes.

        Args:
            axes: the edges of the cube.
            trials: how many new trials to try in all.
            epochs: the largest budget of one trial.
            earlier: how many trials there were to be before the search was continued, rising.

        Raises:
            ValueError: for no axes, numbers below 1, or a continued search that has not more trials than before.
        """
        if not axes:
            raise ValueError(f"{self!r} got no axes, so there is nothing to try. Let at least one parameter vary.")
        check_count("trials", trials, least=1, example=256)
        check_count("epochs", epochs, least=1, example=20)
        stages = (*earlier, trials)
        if any(later <= before for before, later in pairwise(stages)):
            raise ValueError(
                f"trials={trials}: the search had {max(earlier)} already. Write trials={max(earlier) + 64}."
            )
        return self.build(tuple(axes), stages, epochs, *self.parts, **self.settings)

    def __repr__(self) -> str:
        """Returns the call that makes this factory."""
        written = [*map(repr, self.parts), *(f"{name}={value!r}" for name, value in self.settings.items())]
        return f"{self.name}({', '.join(written)})"


CALL = "Call what makes one, vtune.strategies.coarse_to_fine(rounds=4)"
"""What to do instead of handing in what is no strategy."""


def checked_factory(written: str, factory: Any, advice: str = CALL) -> StrategyFactory:
    """Returns what the user wrote for a strategy, if it is one.

    Args:
        written: the argument as the user wrote it, quoted in the message.
        factory: its value.
        advice: what to do instead.

    Raises:
        TypeError: for what is no strategy, such as the function that makes one.
    """
    try:
        signature(factory).bind((), trials=1, epochs=1)
    except (TypeError, ValueError) as error:  # vtune.strategies.random, say, which is not a strategy but makes one
        raise TypeError(f"{written} is no strategy ({error}). {advice}.") from error
    return factory
