"""What a chunk costs in time and memory, estimated before anything compiles.

The ladder is planned from these numbers alone, so that it is the same on every machine with devices of one kind:
they ship with vtune, carry a version, and are never measured where a study runs.
"""

from collections.abc import Sequence
from typing import NamedTuple

from vtune.training.devices import DeviceKind

VERSION = 2
"""Changes whenever a number below does; recorded with every ladder."""


class CostTable(NamedTuple):
    """The speed of one device, as far as small networks feel it.

    Attributes:
        flops_per_second: of batched matrix products.
        seconds_per_weight: of the passes that a micro-batch makes over a lane's weights, moments and gradients.
        seconds_per_turn: of all else that a micro-batch costs a lane.
        compile_seconds: of one more program.
        working_set_bytes: how much of a chunk's state should be on hand at a time.
        chunk_bytes: how much a chunk may take in all.
        max_lanes: beyond which more lanes gain nothing.
    """

    flops_per_second: float
    seconds_per_weight: float
    seconds_per_turn: float
    compile_seconds: float
    working_set_bytes: int
    chunk_bytes: int
    max_lanes: int


_CPU = CostTable(1.0e11, 2.2e-9, 5e-6, 2.5, 1 << 20, 1 << 30, 16)
"""Fitted with ``benchmarks/chunks.py`` on one core with AVX-512 and 1 MiB of L2, float32, widths 16 to 256."""

_ACCELERATOR = CostTable(8.0e10, 2.0e-12, 2e-7, 6.0, 0, 0, 4)
"""Not measured: orders of magnitude from data sheets. FLOP/s and most lanes are those of one multiprocessor, and the
working set is a share of the device's memory."""

_ASSUMED_CORES = 128
"""Multiprocessors of an accelerator that does not tell how many it has; a TPU's few cores are as strong as so many."""

_MEMORY_SHARE = 4
"""An accelerator's chunk takes at most one part in so many of its memory: data, other programs and JAX need theirs."""

ARRAYS_PER_WEIGHT = 5
"""Arrays of the weights' size in the hot loop: weights, two moments, gradients, and their sum over micro-batches."""


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


def turn_seconds(table: CostTable, row_macs: Sequence[int], rows: int) -> float:
    """Returns the seconds of one lane's micro-batch.

    Args:
        table: of the device.
        row_macs: multiply-adds of one row's forward pass by layer, at padded sizes, the first layer first.
        rows: of the micro-batch.
    """
    first, *rest = row_macs
    flops = rows * (4 * first + 6 * sum(rest))
    return flops / table.flops_per_second + sum(row_macs) * table.seconds_per_weight + table.seconds_per_turn


def epoch_seconds(table: CostTable, state_bytes: int, num_rows: int) -> float:
    """Returns a rough guess at the seconds of an epoch of a chunk whose lanes take so many bytes: to deal work by."""
    weights = state_bytes / (3 * 4)  # and two moments of them, in float32
    return 6 * weights * num_rows / table.flops_per_second


def lanes_within(table: CostTable, weights: int, itemsize: int, expected_trials: float) -> int:
    """Returns how many lanes a chunk should have: a power of two.

    Args:
        table: of the device.
        weights: of one lane, padded.
        itemsize: bytes of a number.
        expected_trials: how many trials the study is expected to send here; more lanes would stay empty.
    """
    fitting = table.working_set_bytes // (weights * ARRAYS_PER_WEIGHT * itemsize)
    wanted = max(1, min(fitting, table.max_lanes, round(expected_trials)))
    return 1 << (wanted.bit_length() - 1)
