"""Hyperparameters as a model or an optimizer sees them: a mapping that remembers what was read."""

from collections.abc import Iterator, Mapping
from typing import Any


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
