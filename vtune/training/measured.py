"""A cost table that was measured on a machine, and the file that it is kept in.

No search measures: its ladder would depend on the moment, and with it its bits (law Ladder). Such a table counts where
it is given to ``plan``, whose ladder a search may then be given.
"""

import json
import math
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from vtune.notices import warn_user
from vtune.training.cost import VERSION, CostTable, cost_table
from vtune.training.devices import DeviceKind, machine_of

SPEEDS = (
    "flops_per_second", "seconds_per_unit", "seconds_per_weight", "seconds_per_step", "seconds_per_turn",
    "compile_seconds",
)  # fmt: skip
"""What is measured of a cost table."""

_ADVICE = "Write one with vtune bench --calibrate FILE."


class MeasuredTable(NamedTuple):
    """The speeds of a machine, by their names in a cost table, and what machine they are of."""

    speeds: Mapping[str, float]
    machine: str

    def table(self, kind: DeviceKind) -> CostTable:
        """Returns a whole table: how large chunks are to be is not measured."""
        return cost_table(kind)._replace(**self.speeds)

    @property
    def version(self) -> int:
        """The version of ladders that are planned by it: a digest, negative, unlike vtune's own versions."""
        return -1 - zlib.crc32(json.dumps([VERSION, dict(self.speeds)], sort_keys=True).encode())

    def warn_of_others(self, kind: DeviceKind) -> None:
        """Warns where this machine is another one."""
        if machine_of(kind) != self.machine:
            warn_user(
                f"cost_table: it was measured on {self.machine!r}, and this is {machine_of(kind)!r}. Measure it with "
                "vtune bench --calibrate FILE."
            )


def write_table(path: str | PathLike[str], measured: MeasuredTable) -> None:
    """Writes a table as JSON.

    Args:
        path: of the file.
        measured: the table, and what it is of.

    Raises:
        OSError: for a file that cannot be written.
    """
    plain = {"version": VERSION, "machine": measured.machine, "speeds": dict(measured.speeds)}
    Path(path).write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def read_table(path: str | PathLike[str]) -> MeasuredTable:
    """Returns the table that ``vtune bench --calibrate`` wrote to a file.

    Args:
        path: of the file.

    Raises:
        TypeError: for what is no path.
        ValueError: for a file that is not there, or holds anything else.
    """
    if not isinstance(path, str | PathLike):
        raise TypeError(f"cost_table={path!r} is no path. Write the file of vtune bench --calibrate FILE.")
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
        _check(plain)
    except FileNotFoundError as error:
        raise ValueError(f'cost_table "{path}": there is no such file. {_ADVICE}') from error
    except (OSError, ValueError) as error:
        raise ValueError(f'cost_table "{path}" is no cost table ({error}). {_ADVICE}') from error
    return MeasuredTable(plain["speeds"], plain["machine"])


def _check(plain: Any) -> None:
    """Refuses a file of another kind or version, and numbers that no machine has.

    Raises:
        ValueError: for the first of these.
    """
    if not isinstance(plain, dict) or set(plain) != {"version", "machine", "speeds"}:
        raise ValueError("it holds something else")
    if plain["version"] != VERSION:
        raise ValueError(f"it goes with version {plain['version']} of vtune's own table, and this is version {VERSION}")
    speeds = plain["speeds"]
    if not isinstance(speeds, dict) or set(speeds) != set(SPEEDS) or not isinstance(plain["machine"], str):
        raise ValueError(f"its speeds are not {', '.join(SPEEDS)}")
    for name, value in speeds.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"{name}={value!r}")
    if not (speeds["flops_per_second"] > 0 and speeds["compile_seconds"] > 0):
        raise ValueError("flops_per_second and compile_seconds are above 0")
