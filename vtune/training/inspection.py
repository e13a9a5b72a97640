"""What a model and an optimizer read, and which of it must be a constant of the program: found by tracing them.

A number that they can take as a traced value is data; one that they need as a constant (a width, the rate of Flax's
Dropout) is structure, and trials that differ in it take different programs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np

from vtune.defaults import NINE, OPTIMIZER_READS, did_you_mean, is_number
from vtune.notices import warn_user
from vtune.precision import float_dtype
from vtune.protocols import Hparams
from vtune.space import Space
from vtune.training.elastic import Elastic
from vtune.training.probes import Probe, Traced, as_traced
from vtune.training.reading import Paths, Way

ENGINE_READS = frozenset({"learning_rate", "decay", "batch_size"})
"""What training itself reads, whatever the model and the optimizer."""

FOUND: dict[str, "Findings"] = {}
"""What was found out about vtune's own models, by all that it depends on: the same search with another seed does not
trace again what takes as long as some of its trials. What is found of further trials later is the same for all."""

_MOST_FOUND = 64
"""How many are kept. Beyond, all are let go of: a process that searches so many spaces seldom comes back to one."""

_MAX_LEVELS = 32
"""Up to how many values of a name are traced to see what is read with each."""


class Reads(NamedTuple):
    """What is read of a trial, along each way through a model and an optimizer."""

    model: Paths
    optimizer: Paths

    def names(self, row: Hparams) -> frozenset[str]:
        """Returns the names that are read of a trial by model, optimizer or engine."""
        return self.model.reads(row) | self.optimizer.reads(row) | ENGINE_READS

    def where_decided_by(self, constants: Sequence[str]) -> "Reads":
        """Returns the same where these names alone decide what is read, as all others are traced numbers."""
        return Reads(self.model.where_decided_by(constants), self.optimizer.where_decided_by(constants))

    def tells(self, row: Hparams) -> frozenset[str]:
        """Returns those of the names read by which a way may part from another."""
        return self.model.reads(row) | (self.optimizer.reads(row) - ENGINE_READS)


class Findings(NamedTuple):
    """What was found out about a model and an optimizer on a space.

    Attributes:
        elastic: what the model declares, or None.
        sizes: the names of its elastic sizes in this space: ``hidden``, or ``hidden_1`` and so on.
        structural: names whose values are constants of a program, sorted.
        traced: names whose values are arrays with one entry a lane, sorted, each with its dtype.
        reads: what a trial uses.
    """

    elastic: Elastic | None
    sizes: tuple[str, ...]
    structural: tuple[str, ...]
    traced: tuple[tuple[str, str], ...]
    reads: Reads


def inspect(probe: Probe, space: Space) -> Findings:
    """Traces the parts of a study with typical trials of its space.

    Args:
        probe: of the study.
        space: defaults included.

    Returns:
        Which names are structure and which are data.

    Raises:
        ValueError: model function, optimizer, loss or metric raises or puts out a wrong shape; or a size that an
            elastic model takes is no integer.
        TypeError: the model function returns no Flax module, its module no array, or the optimizer no transformation.
    """
    if probe.recipe.name is None:  # a user's may do something else by the same name
        return _inspect(probe, space)
    text = repr((probe.recipe.name, probe.target, float_dtype(), space.written))
    if text not in FOUND:
        if len(FOUND) >= _MOST_FOUND:
            FOUND.clear()
        FOUND[text] = _inspect(probe, space)
    return FOUND[text]


def _inspect(probe: Probe, space: Space) -> Findings:
    elastic = probe.recipe.elastic
    sizes = tuple(member for name in (elastic.names if elastic else ()) for member in space.members(name))
    _check_sizes(space, sizes)
    probe.check_losses()
    reads = Reads(Paths(probe.model_reads), Paths(probe.optimizer_reads))
    _explore(reads, space, sizes)
    always = (ENGINE_READS if elastic else ENGINE_READS - {"batch_size"}) | set(sizes)
    data = always | _traceable(probe, reads, space, but=ENGINE_READS | set(sizes))
    known = (reads.model.names | reads.optimizer.names | ENGINE_READS) & set(space.entries) | set(sizes)
    structural = tuple(sorted(known - data))
    traced = tuple((name, _dtype(space, name)) for name in sorted(known & data))
    return Findings(elastic, sizes, structural, traced, reads.where_decided_by(structural))


def refuse_unread(written: Space, findings: Findings) -> None:
    """Refuses names of the user's space that neither model, optimizer nor engine reads.

    Raises:
        ValueError: for such a name, with the nearest that is read.
    """
    read = sorted({*findings.structural, *dict(findings.traced)})
    for name in written.entries:
        if name not in read:
            reader = next((optimizer for optimizer, names in OPTIMIZER_READS.items() if name in names), None)
            hint = f"optimizer={reader!r} would read it." if reader else did_you_mean(name, read)
            raise ValueError(f"{name!r} is in the space, but neither model, optimizer nor engine reads it; {hint}")


def warn_of_many_programs(space: Space, findings: Findings) -> None:
    """Says so where values of a long range are needed as constants, which costs a program for each."""
    for name in findings.structural:
        levels = space.parameters[name].levels if name in space.parameters else 1
        if levels is None or levels > _MAX_LEVELS:
            warn_user(
                f"the model needs {name!r} as a constant, so every value of it compiles a program of its own. "
                f"Write {name!r}: vtune.choice([...]) with a few values, or use it in jax.numpy alone.",
            )


def _explore(reads: Reads, space: Space, sizes: Sequence[str]) -> None:
    """Checks the parts on the trial in the middle of the space, and on others that show what they read.

    Which names are read may depend on the value of one: of a kind of layer, of the optimizer. So each of the names is
    varied, all else equal, around the first trial that reads it. Elastic sizes stay at their largest, at which a
    model reads all that it can.
    """
    columns = {axis.name: column for column, axis in enumerate(space.axes)}
    middle = np.array([1.0 if name in sizes else 0.5 for name in columns])
    waiting, found = [middle], set(sizes)
    while waiting:
        point = waiting.pop(0)
        (row,) = space.rows(point[None])
        for name in sorted((reads.tells(row) - found) & columns.keys()):
            found.add(name)
            waiting += [
                np.where(np.arange(len(point)) == columns[name], place, point) for place in _places(space, name)
            ]


def _places(space: Space, name: str) -> list[float]:
    """Where on its axis each value of a name lies, or the ends where there are many."""
    levels = space.levels_of(name)
    if levels is None or len(levels) > _MAX_LEVELS:
        return [0.0, 1.0]
    return [(level + 0.5) / len(levels) for level in range(len(levels))]


def _check_sizes(space: Space, names: Sequence[str]) -> None:
    """Refuses what a space may hold for models that take it, such as a tuple of widths, and an elastic one does not."""
    for name in set(names) & set(space.entries):
        for value in space.levels_of(name) or ():
            if not isinstance(value, int):
                raise ValueError(
                    f"{name}={value!r}: this model takes one integer for {name}. Write "
                    f"{name!r}: vtune.integers(16, 256, log=True), per_layer of it for a width of its own in every "
                    "layer, or a model_fn of your own that reads it."
                )


def _traceable(probe: Probe, reads: Reads, space: Space, but: Set[str]) -> frozenset[str]:
    """The numbers that may be data: of what the model reads those that vary, and what the optimizer alone reads."""
    varying, own = reads.model.names & space.parameters.keys(), reads.optimizer.names - reads.model.names
    dtype_of = {name: _dtype(space, name) for name in (varying | own) - but if _is_numeric(space, name)}
    refused_by_model = _refused(reads.model, probe.model_accepts, dtype_of)
    return frozenset(dtype_of) - refused_by_model - _refused(reads.optimizer, probe.optimizer_accepts, dtype_of)


def _refused(paths: Paths, accepts: Callable[[Hparams, Traced], bool], dtype_of: Mapping[str, str]) -> frozenset[str]:
    """Names that must stay constants: all are tried together first, and one by one only where that fails."""

    def is_accepted(names: Iterable[str], ways: Sequence[Way] = paths.ways) -> bool:
        read = ((way.row, way.names & set(names)) for way in ways)
        return all(accepts(row, as_traced(some, dtype_of)) for row, some in read if some)

    def first_with(name: str) -> list[Way]:
        return [way for way in paths.ways if name in way.names][:1]

    asked = paths.names.intersection(dtype_of)
    if is_accepted(asked):
        return frozenset()
    taken = [name for name in sorted(asked) if is_accepted([name], first_with(name))]
    if not is_accepted(taken):  # somewhere else, or not all of them at the same time
        taken = [name for name in taken if is_accepted([name])]
    return asked - frozenset(taken if is_accepted(taken) else ())


def _is_numeric(space: Space, name: str) -> bool:
    if name not in space.entries:
        return False
    values = space.levels_of(name)
    return values is None or all(map(is_number, values))


def _dtype(space: Space, name: str) -> str:
    """int32 for counts and for names whose values are all integers; the type of the weights for other numbers."""
    values = space.levels_of(name)
    is_whole = values is not None and all(isinstance(value, int) for value in values)
    if name in NINE:
        is_whole = NINE[name].domain.is_whole
    return "int32" if is_whole else float_dtype().name
