"""Hyperparameters as a model or an optimizer sees them: a mapping that remembers what was read."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from vtune.protocols import Hparams


class Reader(Mapping[str, Any]):
    """One trial's hyperparameters; every name asked for is added to ``names``.

    Attributes:
        names: the names read so far, shared with the readers made ``like`` this one.
    """

    def __init__(self, hparams: Mapping[str, Any], names: set[str] | None = None):
        """Wraps ``hparams`` and notes reads in ``names``."""
        self._hparams = hparams
        self.names = set() if names is None else names

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        if name not in self._hparams:
            raise UnknownHparamError(name, list(self._hparams))
        return self._hparams[name]

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return name in self._hparams

    def __iter__(self) -> Iterator[str]:
        return iter(self._hparams)

    def __len__(self) -> int:
        return len(self._hparams)


class UnknownHparamError(KeyError):
    """A hyperparameter was read that the space does not give."""

    def __init__(self, name: str, known: list[str]):
        """Notes the ``name`` that was read and those ``known``."""
        super().__init__(name)
        self.name, self.known = name, known

    def __str__(self) -> str:
        return (
            f"hparams[{self.name!r}] was read, but the space has no {self.name!r} (it has: {', '.join(self.known)}). "
            f'Add it to the space, for example "{self.name}": vtune.uniform(...) or a plain value, or read it as '
            f"hparams.get({self.name!r}, default)."
        )


class Way(NamedTuple):
    """One way through a function: the values that decide it, the trial that first went it, and the names it read."""

    decided_by: tuple[tuple[str, Any], ...]
    row: Hparams
    names: frozenset[str]


class Paths:
    """What a function reads along each way through it, traced once a way.

    Which way it goes is decided by the values that it reads. Another trial that has the same ones goes the same way,
    whatever else is different.

    Attributes:
        ways: those known so far.
    """

    def __init__(self, trace: Callable[[Hparams], Collection[str]]):
        """Knows no way yet; ``trace`` tells what is read by a trial."""
        self._trace = trace
        self._is_deciding: Callable[[str], bool] = lambda name: True
        self.ways: list[Way] = []

    @property
    def names(self) -> frozenset[str]:
        """All names that are read on some way."""
        return frozenset().union(*(way.names for way in self.ways))

    def reads(self, row: Hparams) -> frozenset[str]:
        """Returns the names that the function reads of a trial."""
        known = next((way for way in self.ways if all(row[name] == value for name, value in way.decided_by)), None)
        return known.names if known else self._add(row, frozenset(self._trace(row)))

    def where_decided_by(self, constants: Collection[str]) -> "Paths":
        """Returns the same where these names alone decide the way, as all others are traced numbers."""
        paths = Paths(self._trace)
        paths._is_deciding = constants.__contains__
        for way in self.ways:
            paths._add(way.row, way.names)
        return paths

    def _add(self, row: Hparams, names: frozenset[str]) -> frozenset[str]:
        deciding = tuple((name, row[name]) for name in sorted(names) if name in row and self._is_deciding(name))
        self.ways.append(Way(deciding, row, names))
        return names
