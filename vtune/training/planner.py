"""Plans a ladder: how few programs, and how little padding, make a study take little time, and the next one too."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import NamedTuple

import numpy as np

from vtune.notices import warn_user
from vtune.protocols import Hparams, Shapes
from vtune.space import Layer, Space
from vtune.training.cost import VERSION, CostTable, cost_table, lanes_within, turn_seconds
from vtune.training.devices import DeviceKind
from vtune.training.elastic import Elastic
from vtune.training.ladder import Cell, Cut, Ladder
from vtune.training.measured import MeasuredTable

_MAX_STEPS = 16
"""How many padded sizes are considered for one elastic hyperparameter."""

_MAX_BOXES = 20_000
"""How many boxes of sizes are considered; with many elastic hyperparameters, each has fewer padded sizes."""

_SIMD_WIDTH = 16
"""Padded sizes of a long range are multiples of so many units."""

_MAX_GROUPS = 8
"""Ways to cut batches into more kinds of micro-batches are not considered: each kind has programs of its own."""

_MAX_ROWS = 128
"""Rows of the largest micro-batches."""

_CHARGED = 2 / 3
"""How much of compiling a search is charged with: its programs are kept, and the next one finds them. A choice between
the first search and later ones, for which ``vtune.plan`` tells the seconds of both.
"""

_CUTS = [Cut(target, divides) for divides in (True, False) for target in (32, 64, _MAX_ROWS)]

_Interval = tuple[int, int]
_Groups = dict[tuple[int, bool], list[int]]
_Box = tuple[_Interval, ...]
_Split = tuple[float, list[tuple[_Box, float]]]
"""Seconds that are charged, and boxes with the share of the trials that each holds."""


class _Choice(NamedTuple):
    """Cells for some trials.

    Attributes:
        charged: seconds of training them, and as much of compiling as counts.
        programs: expected to be used.
        cells: where the trials have their place.
    """

    charged: float
    programs: float
    cells: list[Cell]


@dataclass(frozen=True)
class Planner:
    """What a ladder may depend on (law Ladder).

    Attributes:
        space: defaults included.
        structural: names whose values are constants of a program.
        shapes: of a row of the data.
        num_rows: to train on.
        trials: declared, in all.
        epochs: of one trial at most.
        kind: of the devices.
        dtype: of weights and data.
        chunk: lanes of every chunk, or "auto".
        matmul_precision: of the networks.
        measured: what is known of the devices, where it is not what vtune knows of their kind.
    """

    space: Space
    structural: tuple[str, ...]
    shapes: Shapes
    num_rows: int
    trials: int
    epochs: int
    kind: DeviceKind
    dtype: str
    chunk: int | str = "auto"
    matmul_precision: str | None = None
    measured: MeasuredTable | None = None

    def plan_opaque(self, num_weights: int, lane_bytes: int) -> Ladder:
        """Returns the ladder of a model that vtune does not know: a program for each structure, batches trained whole.

        Args:
            num_weights: of the model at its largest.
            lane_bytes: that a chunk takes for each of its lanes, activations included, at its largest.
        """
        structures = int(min(self.num_structures, self.trials))
        batch_size = int(self.space.support("batch_size")[0])
        turns = self.num_rows // batch_size * self.epochs * self.trials
        seconds = turns * turn_seconds(self.table, [num_weights], batch_size) + structures * self.table.compile_seconds
        fitting = max(1, self.table.chunk_bytes // lane_bytes)
        lanes = self.lanes(num_weights, float(min(self.trials / structures, fitting)))
        return self._ladder(None, [Cell({}, {}, None, is_shared=True, accumulates=False, lanes=lanes)], seconds)

    def plan_elastic(self, elastic: Elastic, names: Sequence[str]) -> Ladder:
        """Returns the cheapest of some ways to cut batches, each with the cheapest way to split the sizes.

        Every elastic range is cut into intervals, and the cells are their products; where a range is cut may differ
        from cell to cell. More cells waste less on padding and cost a compilation each; a program is paid for as far as
        trials are expected to need it, and so are the lanes that its last chunk leaves empty. Of compiling,
        ``_CHARGED`` counts. How evenly workers share the chunks is left out, as their number may not decide bits, and
        so is measuring on validation rows, which takes a small part of what training does in every plan alike. The
        optimum over all such splits is found by dynamic programming, one elastic hyperparameter inside the other.

        Args:
            elastic: what the model declares.
            names: of its elastic sizes in this space.
        """
        groups = {cut: self._groups(cut) for cut in _CUTS}
        few = {cut: kinds for cut, kinds in groups.items() if len(kinds) <= _MAX_GROUPS}

        @cache
        def part(rows: int, is_shared: bool, batch_sizes: tuple[int, ...]) -> _Choice:
            """Several cuts have the same part."""
            return _Group(self, elastic, tuple(names), batch_sizes, rows, is_shared).plan()

        def whole(kinds: _Groups) -> _Choice:
            parts = [part(*kind, tuple(batch_sizes)) for kind, batch_sizes in kinds.items()]
            cells = [cell for part in parts for cell in part.cells]
            return _Choice(sum(part.charged for part in parts), sum(part.programs for part in parts), cells)

        plans = [(whole(kinds), cut) for cut, kinds in few.items()]
        plan, cut = min(plans, key=lambda each: each[0].charged)
        rest = (1 - _CHARGED) * plan.programs * self.table.compile_seconds
        return self._ladder(cut, plan.cells, plan.charged + rest)

    def plan_largest(self, elastic: Elastic, names: Sequence[str]) -> Ladder:
        """Returns a ladder with one cell for all trials: padded to the largest sizes, with one kind of micro-batch.

        Args:
            elastic: what the model declares.
            names: of its elastic sizes in this space.
        """
        ends = {name: self.space.support(name) for name in names}
        low, high = ({name: int(end[place]) for name, end in ends.items()} for place in (0, 1))
        macs, batch_sizes = elastic.row_macs(high, self.shapes), whole_levels(self.space, "batch_size")
        common = math.gcd(*batch_sizes)
        shared = [(rows, True) for rows in range(1, min(common, _MAX_ROWS) + 1) if common % rows == 0]
        cuts = [*shared, *((cut.target, False) for cut in _CUTS)]

        def epoch_seconds(cut: tuple[int, bool]) -> float:
            turns = max(self.turns(size, cut[0]) for size in batch_sizes)  # lanes wait for the one that takes the most
            return turns * turn_seconds(self.table, macs, cut[0])

        rows, is_shared = cut = min(cuts, key=epoch_seconds)
        cell = self.cell(low, high, rows, is_shared, batch_sizes, self.lanes(sum(macs), float(self.trials)))
        seconds = epoch_seconds(cut) * self.epochs * self.trials + self.table.compile_seconds
        return self._ladder(None, [cell], seconds)

    def cell(
        self,
        low: dict[str, int],
        high: dict[str, int],
        rows: int,
        is_shared: bool,
        batch_sizes: Sequence[int],
        lanes: int,
    ) -> Cell:
        """Returns the cell of these sizes, for trials whose batches are cut into micro-batches of so many rows."""
        accumulates, copies_rows = max(batch_sizes) > rows, is_shared and self.table.copies_rows
        return Cell(low, high, rows, is_shared, accumulates, lanes, copies_rows)

    def turns(self, batch_size: int, rows: int) -> int:
        """Returns the micro-batches of an epoch."""
        return self.num_rows // batch_size * math.ceil(batch_size / rows)

    def lane_seconds(self, row_macs: Sequence[int], batch_size: int, rows: int) -> float:
        """Returns the seconds of one trial, among others of its batch size that skip the same."""
        turn = turn_seconds(self.table, row_macs, rows, 1 / math.ceil(batch_size / rows))
        return self.turns(batch_size, rows) * turn * self.epochs

    def check(self, ladder: Ladder, large: Sequence[Hparams]) -> None:
        """Refuses a ladder that was planned for another search.

        Args:
            ladder: given by the user, or by the folder of a search that goes on.
            large: complete trials, the largest of the space among them.

        Raises:
            ValueError: for one of other types or constants, or in which a trial has no place.
        """
        advice = "Write ladder='auto', or what study.ladder gives for a search of the same space and model."
        for name in ("dtype", "matmul_precision", "structural"):
            planned, here = getattr(ladder, name), getattr(self, name)
            if planned != here:
                raise ValueError(
                    f"ladder: it was planned for {name}={planned!r}, and this search has {here!r}. {advice}"
                )
        lowest = dict(self.space.rows(np.zeros((1, len(self.space.axes))))[0])
        for hparams in (lowest, *large):
            if not ladder.covers(hparams):
                raise ValueError(f"ladder: a trial with {dict(hparams)} has no place in it. {advice}")
        if ladder.device != self.kind.name:
            warn_user(
                f"the ladder was planned for {ladder.device!r} and this device is {self.kind.name!r}: trials cannot be "
                "compared bit for bit, and chunks may not fit it. Write ladder='auto' for one that does.",
            )

    def _ladder(self, cut: Cut | None, cells: list[Cell], seconds: float) -> Ladder:
        num_rungs = len(cells) * int(min(self.num_structures, self.trials))
        kind = self.kind.name, self.dtype, self.matmul_precision
        version = self.measured.version if self.measured else VERSION
        return Ladder(version, *kind, self.structural, cut, tuple(cells), num_rungs, seconds)

    def _groups(self, cut: Cut) -> _Groups:
        """The batch sizes by the micro-batches that they are cut into."""
        groups: _Groups = {}
        for batch_size in whole_levels(self.space, "batch_size"):
            groups.setdefault(cut.rows(batch_size), []).append(batch_size)
        return groups

    @cached_property
    def table(self) -> CostTable:
        """What is known of these devices."""
        return self.measured.table(self.kind) if self.measured else cost_table(self.kind)

    @cached_property
    def num_structures(self) -> float:
        """How many constants a program may be compiled for; infinite where one of them is a number of any value."""
        levels = [self.space.levels_of(name) for name in self.structural]
        return float(math.prod(math.inf if values is None else len(values) for values in levels))

    def expected_programs(self, share: float) -> float:
        """Returns how many programs are used for sizes that such a share of the trials has.

        There is one for each structure that a trial is drawn with; all are taken to be as likely.
        """
        if math.isinf(self.num_structures):
            return self.trials * share
        return self.num_structures * (1 - (1 - share / self.num_structures) ** self.trials)

    def lanes(self, num_weights: int, expected_trials: float) -> int:
        """Returns the lanes of a chunk of networks with so many weights, of which so many trials are expected."""
        if isinstance(self.chunk, int):
            return self.chunk
        return lanes_within(self.table, num_weights, 8 if self.dtype == "float64" else 4, expected_trials)

    def share(self, name: str, interval: _Interval) -> float:
        """Returns the share of sampled trials whose value of ``name`` lies in the interval, ends included."""
        low, high = interval
        return self._cdf(name, high) - self._cdf(name, low - 1)

    @cached_property
    def _cdf(self) -> Callable[[str, int], float]:
        """The space's, of which a plan asks for the same few values thousands of times."""
        return cache(self.space.cdf)

    def share_with_layer(self, layer: Layer, interval: _Interval) -> float:
        """Returns the share with a layer, of the trials whose number of layers lies in the interval."""
        low, high = interval
        if layer.number > high:
            return 0.0
        return self.share(layer.layers, (max(low, layer.number), high)) / self.share(layer.layers, interval)


@dataclass(frozen=True)
class _Group:
    """The trials of one kind of micro-batch, to be split by their elastic sizes."""

    planner: Planner
    elastic: Elastic
    names: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    rows: int
    is_shared: bool

    def plan(self) -> _Choice:
        """Returns the cheapest way to split them."""
        charged, boxes = self._split((), sum(self._all_shares))
        programs = sum(self.planner.expected_programs(share) for _, share in boxes)
        return _Choice(charged, programs, [self._cell(box, share) for box, share in boxes])

    @cached_property
    def _all_shares(self) -> list[float]:
        """Of all trials, those with each batch size."""
        return [self.planner.share("batch_size", (size, size)) for size in self.batch_sizes]

    @cached_property
    def _shares(self) -> dict[int, float]:
        """Of this group's trials, those with each batch size."""
        whole = sum(self._all_shares)
        return {size: share / whole for size, share in zip(self.batch_sizes, self._all_shares, strict=True)}

    @cached_property
    def _names(self) -> list[str]:
        """In the order in which their ranges are cut: the number of layers before what is there per layer."""
        layer_of = self.planner.space.layer_of
        return sorted(self.names, key=lambda name: (name in layer_of, len(self._steps[name]), name))

    @cached_property
    def _steps(self) -> dict[str, list[int]]:
        for most in range(_MAX_STEPS, 0, -1):
            steps = {name: padded_sizes(self.planner.space, name, most) for name in self.names}
            if math.prod(len(sizes) * (len(sizes) + 1) // 2 for sizes in steps.values()) <= _MAX_BOXES:
                return steps
        return {name: whole_levels(self.planner.space, name)[-1:] for name in self.names}

    def _lane_seconds(self, box: _Box) -> float:
        """Seconds of one trial padded to a box, whatever its batch size and what its chunk skips are."""
        is_skipped = [name in self.elastic.skipped for name in self._names]
        return self._seconds_within(
            tuple(ends if skips else ends[1:] for ends, skips in zip(box, is_skipped, strict=True))
        )

    @cached_property
    def _seconds_within(self) -> Callable[[tuple[tuple[int, ...], ...]], float]:
        """From a box, whose ranges have both ends where less than the upper one may be computed, to seconds."""

        @cache
        def seconds_within(box: tuple[tuple[int, ...], ...]) -> float:
            computed = product(*(self._computed(name, ends) for name, ends in zip(self._names, box, strict=True)))
            return sum(
                math.prod(share for _, share in way) * self._seconds_of(*(s for s, _ in way)) for way in computed
            )

        return seconds_within

    @cached_property
    def _seconds_of(self) -> Callable[..., float]:
        """From computed sizes to the seconds of one trial, whatever its batch size is."""

        @cache
        def seconds_of(*sizes: int) -> float:
            macs = self.elastic.row_macs(dict(zip(self._names, sizes, strict=True)), self.planner.shapes)
            by_size = {size: self.planner.lane_seconds(macs, size, self.rows) for size in self.batch_sizes}
            return sum(self._shares[size] * seconds for size, seconds in by_size.items())

        return seconds_of

    def _computed(self, name: str, ends: tuple[int, ...]) -> list[tuple[int, float]]:
        """The sizes that are computed for the trials of a range, each with its share of them."""
        if len(ends) == 1:
            return [(ends[0], 1.0)]
        shares = {size: share for size, share in self._skipped_shares[name].items() if ends[0] <= size <= ends[1]}
        whole = sum(shares.values())
        return [(size, share / whole) for size, share in shares.items()]

    @cached_property
    def _skipped_shares(self) -> dict[str, dict[int, float]]:
        """By name and size, the share of the trials that have it."""
        skipped = [name for name in self._names if name in self.elastic.skipped]
        levels = {name: whole_levels(self.planner.space, name) for name in skipped}
        return {name: {size: self.planner.share(name, (size, size)) for size in levels[name]} for name in skipped}

    def _split(self, box: _Box, share: float) -> _Split:
        """Cuts the ranges that ``box`` does not hold yet; ``best[end]`` is the cheapest way up to step ``end``."""
        planner = self.planner
        if len(box) == len(self._names):
            return self._box_seconds(box, share), [(box, share)]
        name = self._names[len(box)]
        lowest, used = int(planner.space.support(name)[0]), self._share_used(name, box)
        steps = self._steps[name] if used else [lowest]
        starts = [lowest, *(step + 1 for step in steps[:-1])]
        best: list[_Split] = [(0.0, [])]
        for end, high in enumerate(steps, start=1):
            options = []
            for start, low in enumerate(starts[:end]):
                # A trial that does not use a size has the lowest: see ``Usage.complete``.
                part = used * planner.share(name, (low, high)) + (1 - used) * (low == lowest)
                seconds, boxes = self._split((*box, (low, high)), share * part)
                options.append((best[start][0] + seconds, best[start][1] + boxes))
            best.append(min(options, key=lambda option: option[0]))
        return best[-1]

    def _box_seconds(self, box: _Box, share: float) -> float:
        """Seconds that the trials in a box are charged with, of which there is such a share."""
        planner = self.planner
        programs = planner.expected_programs(share)
        if not programs:
            return 0.0
        lanes, trials = self._lanes(box, share), planner.trials * share / programs
        computed = max(lanes, trials + (lanes - 1) / 2)  # the last chunk is half empty
        return programs * (self._lane_seconds(box) * computed + _CHARGED * planner.table.compile_seconds)

    def _lanes(self, box: _Box, share: float) -> int:
        num_weights = self._weights_of(*(high for _, high in box))
        return self.planner.lanes(num_weights, self.planner.trials * share / self.planner.num_structures)

    @cached_property
    def _weights_of(self) -> Callable[..., int]:
        """From sizes to the weights of a network: about as many as the multiply-adds of a row."""

        @cache
        def weights_of(*sizes: int) -> int:
            return sum(self.elastic.row_macs(dict(zip(self._names, sizes, strict=True)), self.planner.shapes))

        return weights_of

    def _share_used(self, name: str, box: _Box) -> float:
        """The share of a box's trials that have the layer which a size belongs to."""
        layer = self.planner.space.layer_of.get(name)
        if layer is None or layer.layers not in self._names:
            return 1.0
        return self.planner.share_with_layer(layer, box[self._names.index(layer.layers)])

    def _cell(self, box: _Box, share: float) -> Cell:
        low = {name: low for name, (low, _) in zip(self._names, box, strict=True)}
        high = {name: high for name, (_, high) in zip(self._names, box, strict=True)}
        return self.planner.cell(low, high, self.rows, self.is_shared, self.batch_sizes, self._lanes(box, share))


def padded_sizes(space: Space, name: str, most: int = _MAX_STEPS) -> list[int]:
    """Returns the sizes that a program for part of an elastic range may be padded to, ascending.

    They are the values themselves where there are few; of a long range, multiples of the SIMD width
    and its end.

    Args:
        space: of the study.
        name: of the elastic hyperparameter.
        most: how many; of a long range there may be one more.
    """
    levels = whole_levels(space, name)
    if len(levels) <= most:
        return levels
    stride = _SIMD_WIDTH * math.ceil((levels[-1] - levels[0]) / (_SIMD_WIDTH * most))
    first = math.ceil(levels[0] / stride) * stride
    return [min(size, levels[-1]) for size in range(first, levels[-1] + stride, stride)]


def whole_levels(space: Space, name: str) -> list[int]:
    """Returns the integers that a name can take, ascending."""
    return sorted(level for level in space.levels_of(name) or [] if isinstance(level, int))
