"""What a process leaves on disk for the next one: programs as they were traced, and, in JAX's own cache, as compiled.

They lie in a folder that is the user's alone, as whoever writes there decides what later processes run. There is one a
kind of machine and version of JAX: what was compiled for another processor may end this process.
"""

import hashlib
import os
import platform
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import flax
import jax
import jax.export
import optax
import platformdirs
from jax.experimental.compilation_cache import compilation_cache
from jaxlib import utils, version  # pyright: ignore[reportAttributeAccessIssue]  (compiled in part)

CACHE_VARIABLE = "VTUNE_CACHE"
"""Environment variable: the folder in which programs are kept, or "off". By default the user's own for caches; JAX's
``JAX_ENABLE_COMPILATION_CACHE=false`` is obeyed too."""

_MOST_BYTES = 1 << 30
"""Of a machine's folder; where it takes more, files that were written the longest ago go first."""

_IDLE = re.compile("cache|log|dump|traceback")
"""Settings of JAX that decide nothing of a program."""

_SUM_BYTES = hashlib.sha256().digest_size

_LOG_VARIABLE, _LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL", 1
"""Environment variable that tells XLA what to log, and what JAX sets it to where nobody has."""

_FATAL = 3
"""Level of XLA's log at which it tells of nothing but its own end.

On many processors it takes two of LLVM's preferences for features that the processor lacks, and says at length and for
every program that is loaded that it may fail (jax#38445). The folder's name holds what the processor really has.
"""


def folder() -> Path | None:
    """Returns the folder of this machine, or None where nothing is to be kept or nobody else must write, but may."""
    asked = os.environ.get(CACHE_VARIABLE)
    if asked == "off" or not _setting("jax_enable_compilation_cache"):
        return None
    here = (Path(asked) if asked else platformdirs.user_cache_path("vtune", appauthor=False)) / _machine()
    try:
        here.mkdir(mode=0o700, parents=True, exist_ok=True)
        return here if _is_private(here) else None
    except OSError:
        return None


@contextmanager
def programs_kept() -> Iterator[None]:
    """What compiles within is kept for the next process, and taken from there, by JAX's persistent cache.

    Afterwards it is off again: what the user compiles is theirs. Where they have turned it on, it stays as it is.
    """
    _SWITCH.turn(+1)
    try:
        yield
    finally:
        _SWITCH.turn(-1)


def traced_before(mark: str, trace: Callable[[], jax.export.Exported]) -> jax.export.Exported:
    """Returns what was traced under a mark in an earlier process, or traces it for the next one.

    Args:
        mark: tells all that decides what is traced, but for the code of vtune, versions of packages and settings.
        trace: called where it was not, or where it cannot be read.
    """
    here = folder()
    if here is None:
        return trace()
    file = here / "traced" / hashlib.sha256(repr((mark, *_surroundings())).encode()).hexdigest()
    if (kept := _read(file)) is not None:
        return jax.export.deserialize(bytearray(kept))
    exported = trace()
    _write(file, bytes(exported.serialize()))
    return exported


class _Switch:
    """JAX's persistent cache, on as long as any thread needs it."""

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._before: dict[str, Any] = {}

    def turn(self, by: int) -> None:
        """Counts who needs it; the first one turns it on, the last one off."""
        with self._lock:
            self._users += by
            if by > 0 and self._users == 1:
                self._turn_on()
            elif self._users == 0 and self._before:
                self._turn_off()

    def _turn_on(self) -> None:
        is_theirs = _setting("jax_compilation_cache_dir") is not None
        if is_theirs or (here := folder()) is None:
            return
        _forget_oldest(here)
        settings = {
            "jax_compilation_cache_dir": str(here / "compiled"),
            "jax_persistent_cache_min_compile_time_secs": 0.0,
        }
        self._before = {name: _setting(name) for name in settings}
        _set(settings)
        if _is_log_left_alone():
            utils.absl_set_min_log_level(_FATAL)

    def _turn_off(self) -> None:
        _set(self._before)
        self._before = {}
        compilation_cache.reset_cache()  # else it would go on with this folder
        if _is_log_left_alone():
            utils.absl_set_min_log_level(_LOG_LEVEL)


_SWITCH = _Switch()


def _is_log_left_alone() -> bool:
    """Whether nobody has told JAX what to log, nor XLA by its variable."""
    return _setting("jax_logging_level") in (None, "NOTSET") and os.environ.get(_LOG_VARIABLE) == str(_LOG_LEVEL)


def _setting(name: str) -> Any:
    return getattr(jax.config, name)


def _set(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)


def _is_private(here: Path) -> bool:
    """Whether it is this user's, who alone may write there; so they are where a system knows no such thing."""
    found = here.stat()
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)


@cache
def _machine() -> str:
    """Names what programs depend on: JAX, and the processor with all that it can."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.exists() else [platform.processor()]
    able = sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}) or lines
    told = hashlib.sha256(repr((platform.machine(), able)).encode()).hexdigest()[:12]
    return f"jax-{jax.__version__}-jaxlib-{version.__version__}-{told}"


def _surroundings() -> tuple[Any, ...]:
    """All that decides what is traced, beside what is asked for."""
    settings = sorted(jax.config.values.items())
    # Of those that a thread may set for itself the thread's value counts, which is not in the list.
    told = [(name, getattr(jax.config, name, value)) for name, value in settings if not _IDLE.search(name)]
    return _own_code(), flax.__version__, optax.__version__, told


@cache
def _own_code() -> str:
    """A digest of vtune as it is installed here, edited or not."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _read(file: Path) -> bytes | None:
    """Returns what was written; None where nothing was, or not all of it."""
    try:
        whole = file.read_bytes()
    except OSError:
        return None
    checked, content = whole[:_SUM_BYTES], whole[_SUM_BYTES:]
    return content if hashlib.sha256(content).digest() == checked else None


def _write(file: Path, content: bytes) -> None:
    """Writes a file that is there as a whole or not at all; where there is no room, it is not."""
    try:
        file.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as beside:
            try:
                beside.write(hashlib.sha256(content).digest() + content)
                beside.close()
                os.replace(beside.name, file)
            except OSError:
                os.unlink(beside.name)
    except OSError:
        return


@cache
def _forget_oldest(here: Path) -> None:
    """Deletes files until the rest takes no more than it may; once a process."""
    found = [(file, file.stat()) for file in here.rglob("*") if file.is_file()]
    size = sum(stat.st_size for _, stat in found)
    for file, stat in sorted(found, key=lambda one: one[1].st_mtime):
        if size <= _MOST_BYTES:
            return
        file.unlink(missing_ok=True)
        size -= stat.st_size
