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
from typing import NamedTuple

from vtune.notices import warn_user
from vtune.training.cost import CostTable
from vtune.training.devices import DeviceKind

_ADVICE = "Write one with vtune bench --calibrate FILE."


class MeasuredTable(NamedTuple):
    """A cost table, and the name of the kind of device that it is of."""

    table: CostTable
    device: str

    @property
    def version(self) -> int:
        """The version of ladders that are planned by it: a digest of its numbers, below 0, as none of vtune's is."""
        return -1 - zlib.crc32(json.dumps(self.table._asdict(), sort_keys=True).encode())

    def warn_of_others(self, kind: DeviceKind) -> None:
        """Warns where devices are of another kind."""
        if kind.name != self.device:
            warn_user(
                f"cost_table: it was measured on {self.device!r}, and this device is {kind.name!r}. Measure this kind "
                "with vtune bench --calibrate FILE."
            )


def write_table(path: str | PathLike[str], measured: MeasuredTable) -> None:
    """Writes a table as JSON.

    Args:
        path: of the file.
        measured: the table, and what it is of.

    Raises:
        OSError: for a file that cannot be written.
    """
    plain = {"device": measured.device, **measured.table._asdict()}
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
        device = plain.pop("device")
        table = CostTable(**plain)
        _check(table)
    except FileNotFoundError as error:
        raise ValueError(f'cost_table "{path}": there is no such file. {_ADVICE}') from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f'cost_table "{path}" is no cost table ({error}). {_ADVICE}') from error
    return MeasuredTable(table, str(device))


def _check(table: CostTable) -> None:
    """Refuses numbers that no machine has, of which a file that was edited may be full."""
    least: Mapping[str, float] = {"min_lanes": 1, "max_lanes": 1}
    for name, value in table._asdict().items():
        if isinstance(value, bool) != (name == "copies_rows"):
            raise ValueError(f"{name}={value!r}")
        is_whole = name.endswith(("bytes", "lanes"))
        if not (isinstance(value, int if is_whole else int | float) and least.get(name, 0) <= value < math.inf):
            raise ValueError(f"{name}={value!r}")
    if not (table.flops_per_second > 0 and table.compile_seconds > 0):
        raise ValueError("flops_per_second and compile_seconds are above 0")
