"""What a chunk costs in time and memory, estimated before anything compiles.

The ladder is planned from these numbers alone, so that it is the same on every machine with devices of one kind:
they ship with vtune, carry a version, and are never measured where a study runs.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from vtune.training.devices import DeviceKind

VERSION = 6
"""Changes whenever a number below does, or what is made of them; recorded with every ladder."""


class CostTable(NamedTuple):
    """The speed of one device, as far as small networks feel it.

    Attributes:
        flops_per_second: of batched matrix products.
        seconds_per_unit: of the passes that a row makes over what its layers put out.
        seconds_per_weight: of the passes that a micro-batch makes over a lane's weights and gradients.
        seconds_per_step: of the passes that the optimizer makes over a weight, its moments and its gradient.
        seconds_per_turn: of all else that a micro-batch costs a lane.
        compile_seconds: of one more program, on one core.
        working_set_bytes: how much of a chunk's state should be on hand at a time.
        chunk_bytes: how much a chunk may take in all.
        min_lanes: where there is room, and trials to fill them; batched products of fewer are slow.
        max_lanes: beyond which more lanes gain nothing.
        copies_rows: whether lanes that read the same rows are faster with copies of their own. XLA makes one product of
            the rows and all lanes' weights else, and for that reorders the weights every time.
    """

    flops_per_second: float
    seconds_per_unit: float
    seconds_per_weight: float
    seconds_per_step: float
    seconds_per_turn: float
    compile_seconds: float
    working_set_bytes: int
    chunk_bytes: int
    min_lanes: int
    max_lanes: int
    copies_rows: bool


_CPU = CostTable(
    flops_per_second=9.7e10,
    seconds_per_unit=1.7e-9,
    seconds_per_weight=0.14e-9,
    seconds_per_step=1.3e-9,
    seconds_per_turn=4.7e-6,
    compile_seconds=3.0,
    working_set_bytes=2 << 20,
    chunk_bytes=1 << 30,
    min_lanes=2,
    max_lanes=16,
    copies_rows=True,
)
"""Fitted with ``vtune bench --calibrate`` on two cores with AVX-512 and 2 MiB of L2 each, float32, widths 16 to 256.
Chunks have two lanes even where those do not fit into L2; under ``chunk=1`` a search shows what a single one costs."""

_ACCELERATOR = CostTable(
    flops_per_second=8.0e10,
    seconds_per_unit=0.0,
    seconds_per_weight=1.0e-12,
    seconds_per_step=1.0e-12,
    seconds_per_turn=2e-7,
    compile_seconds=6.0,
    working_set_bytes=0,
    chunk_bytes=0,
    min_lanes=1,
    max_lanes=4,
    copies_rows=False,
)
"""Not measured: orders of magnitude from data sheets. FLOP/s and most lanes are those of one multiprocessor, and the
working set is a share of the device's memory."""

_ASSUMED_CORES = 128
"""Multiprocessors of an accelerator that does not tell how many it has; a TPU's few cores are as strong as so many."""

_MEMORY_SHARE = 4
"""An accelerator's chunk takes at most one part in so many of its memory: data, other programs and JAX need theirs."""

ARRAYS_PER_WEIGHT = 5
"""Arrays of the weights' size in the hot loop: weights, two moments, gradients, and their sum over micro-batches."""


_STATE_BYTES_PER_WEIGHT = 3 * 4
"""A weight and two moments of it, in float32."""


def cost_table(kind: DeviceKind) -> CostTable:
    """Returns what is known of devices of this kind."""
    if not kind.is_accelerator:
        return _CPU
    share, cores = kind.memory_bytes // _MEMORY_SHARE, kind.cores or _ASSUMED_CORES
    return _ACCELERATOR._replace(
        flops_per_second=_ACCELERATOR.flops_per_second * cores,
        max_lanes=_ACCELERATOR.max_lanes * cores,
        working_set_bytes=share,
        chunk_bytes=share,
    )


def turn_seconds(table: CostTable, row_macs: Sequence[int], rows: int, steps: float = 1.0) -> float:
    """Returns the seconds of one lane's micro-batch.

    A layer is taken to put out as many numbers as the square root of its multiply-adds.

    Args:
        table: of the device.
        row_macs: multiply-adds of one row's forward pass by layer, at padded sizes, the first layer first. Layers that
            are skipped cost next to nothing.
        rows: of the micro-batch.
        steps: steps of the optimizer, for each micro-batch.
    """
    first, *rest = row_macs
    units = sum(math.sqrt(macs) for macs in row_macs)
    of_row = (4 * first + 6 * sum(rest)) / table.flops_per_second + units * table.seconds_per_unit
    of_weight = table.seconds_per_weight + steps * table.seconds_per_step
    return rows * of_row + sum(row_macs) * of_weight + table.seconds_per_turn


def epoch_seconds(table: CostTable, state_bytes: int, num_rows: int) -> float:
    """Returns a rough guess at the seconds of an epoch of a chunk whose lanes take so many bytes: to deal work by."""
    return 6 * state_bytes / _STATE_BYTES_PER_WEIGHT * num_rows / table.flops_per_second


def state_bytes_of(weights: int, lanes: int) -> int:
    """Returns a rough guess at the bytes of the states of a chunk of networks with so many weights."""
    return weights * lanes * _STATE_BYTES_PER_WEIGHT


def lanes_within(table: CostTable, weights: int, itemsize: int, expected_trials: float) -> int:
    """Returns how many lanes a chunk should have: a power of two.

    Args:
        table: of the device.
        weights: of one lane, padded.
        itemsize: bytes of a number.
        expected_trials: how many trials the study is expected to send here; more lanes would stay empty.
    """
    lane_bytes = weights * ARRAYS_PER_WEIGHT * itemsize
    fewest = min(table.min_lanes, max(1, table.chunk_bytes // lane_bytes))
    fitting = max(fewest, table.working_set_bytes // lane_bytes)
    wanted = max(1, min(fitting, table.max_lanes, round(expected_trials)))
    return 1 << (wanted.bit_length() - 1)
