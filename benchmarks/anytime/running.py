"""Runs a side in fresh processes, and puts together what came out."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from anytime.asked import Asked, Ended, improvements
from vtune.training.devices import num_cores

OPTUNA = "Optuna"
SIDES = ["coarse_to_fine", "auto", "random", "successive_halving", "hyperband", "population_based", OPTUNA]
INSTALL = "pip install 'vtune[bench]'"

_SHARED_MEMORY = Path("/dev/shm")


class Outcome(NamedTuple):
    """What a search came to.

    Attributes:
        side: who searched.
        seed: of the search.
        better: the networks that were better than all before, in the time that there was.
        trials: that ended, also those too late.
        took: seconds, with what was under way when the time was over.
    """

    side: str
    seed: int
    better: list[Ended]
    trials: int
    took: float


def lacking(side: str) -> list[str]:
    """Returns the packages that a side needs and that are not here."""
    needed = ["optuna", "torch"] if side == OPTUNA else []
    return [name for name in needed if find_spec(name) is None]


def run(side: str, **settings: Any) -> Outcome:
    """Searches once.

    Args:
        side: who.
        **settings: what is asked, but for the strategy, the beginning, and what its processes share.
    """
    shared = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        started = time.time()
        asked = Asked(strategy=side, started=started, journal=f"{folder}/journal", **settings)
        script, count = ("search_optuna", num_cores()) if side == OPTUNA else ("search_vtune", 1)
        processes = [_start(script, asked._replace(place=place)) for place in range(count)]
        told = [_read(process) for process in processes]
    ended = [Ended(*each) for each_told in told for each in each_told["ended"]]
    trials, took = sum(each["trials"] for each in told), max(each["took"] for each in told)
    return Outcome(side, asked.seed, improvements(ended, asked.seconds), trials, took)


def _start(script: str, asked: Asked) -> subprocess.Popen[str]:
    root = Path(__file__).parent.parent
    path = os.pathsep.join(filter(None, [str(root), str(root.parent), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", f"anytime.{script}", json.dumps(asked._asdict())]
    cold = {"JAX_ENABLE_COMPILATION_CACHE": "false", "PYTHONPATH": path}
    return subprocess.Popen(command, env={**os.environ, **cold}, stdout=subprocess.PIPE, text=True)


def _read(process: subprocess.Popen[str]) -> Mapping[str, Any]:
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, process.args[2:4]))} ended with {process.returncode}; see above")  # pyright: ignore[reportIndexIssue]
    return json.loads(printed.splitlines()[-1])
