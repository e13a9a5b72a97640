"""Programs of earlier processes: as they were traced, and, in JAX's own cache, as they were compiled."""

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import flax
import jax
import jax.export
import optax
from jax.experimental.compilation_cache import compilation_cache
from jaxlib import utils  # pyright: ignore[reportAttributeAccessIssue]  (compiled in part)

from vtune.training.caches import COMPILED, STAGED, TRACED, folder, forget_oldest
from vtune.training.devices import DeviceKind

_Returned = TypeVar("_Returned")

_IDLE = (
    "jax_compilation_cache", "jax_debug_log", "jax_dump", "jax_enable_compilation_cache", "jax_explain", "jax_log_",
    "jax_logging", "jax_num_cpu_devices", "jax_persistent_cache", "jax_pprint", "jax_raise_persistent",
    "jax_traceback", "jax_tracer_error", "jax_transfer_guard",
)  # fmt: skip
"""How the names of JAX's settings begin that do not affect what is traced."""

_SUM_BYTES = hashlib.sha256().digest_size

_LOG_VARIABLE, _LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL", 1
"""Environment variable that tells XLA what to log, and what JAX sets it to where nobody has."""

_FATAL = 3
"""Level of XLA's log at which it tells of nothing but its own end.

On many processors it takes two of LLVM's preferences for instruction sets that the processor lacks, and says at length,
for every program that is loaded, that it may fail (jax#38445). The folder's name holds what the processor really has.
"""


@contextmanager
def compiled_before(kind: DeviceKind) -> Iterator[None]:
    """What compiles within is kept for later processes, and taken from earlier ones, by JAX's persistent cache.

    It is off again afterwards: what the user compiles is theirs. Where they have turned it on, it stays as it is.

    Args:
        kind: of the device that it compiles for.
    """
    _SWITCH.take(kind)
    try:
        yield
    finally:
        _SWITCH.give_back()


def kept_for_later(step: Callable[..., _Returned], kind: DeviceKind) -> Callable[..., _Returned]:
    """Returns a jitted function that does the same, and of which what it compiles is kept for later processes.

    Args:
        step: the function.
        kind: of the device that it runs on.
    """
    compiled: set[tuple[Any, ...]] = set()

    def run(*arguments: Any) -> _Returned:
        told = tuple((leaf.shape, leaf.dtype, getattr(leaf, "sharding", None)) for leaf in jax.tree.leaves(arguments))
        if told in compiled:
            return step(*arguments)
        with compiled_before(kind):
            returned = step(*arguments)
        compiled.add(told)
        return returned

    return run


def traced_before(mark: str, trace: Callable[[], jax.export.Exported]) -> jax.export.Exported:
    """Returns what was traced under a mark in an earlier process, or traces it for later ones.

    Args:
        mark: tells all that decides what is traced, but for the code of vtune, versions of packages and settings.
        trace: called where it was not, or where it cannot be read.
    """
    here = folder()
    if here is None or _OWN_CODE is None:
        return trace()
    file = here / TRACED / hashlib.sha256(repr((mark, *_surroundings())).encode()).hexdigest()
    if (kept := _read(file)) is not None:
        with suppress(Exception):  # whatever a later version of the format makes of it
            return jax.export.deserialize(bytearray(kept))
    exported = trace()
    _write(file, bytes(exported.serialize()))
    forget_oldest(here)
    return exported


class _Switch:
    """JAX's persistent cache, on as long as any thread needs it.

    JAX writes an entry little by little, and never replaces one that was cut short. So it is given a folder of its own,
    in which all that is kept is linked, and what is whole when it is done is moved to where others look.
    """

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._staged: Path | None = None
        self._before: dict[str, Any] = {}
        self._is_quiet = False

    def take(self, kind: DeviceKind) -> None:
        """Turns it on for the first who needs it."""
        with self._lock:
            self._users += 1
            if self._users == 1 and jax.config.jax_compilation_cache_dir is None:  # pyright: ignore
                with suppress(OSError):
                    self._turn_on()
            if self._staged and not kind.is_accelerator and not self._is_quiet and _is_log_left_alone():
                utils.absl_set_min_log_level(_FATAL)
                self._is_quiet = True

    def give_back(self) -> None:
        """Turns it off after the last."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._staged:
                self._turn_off(self._staged)

    def _turn_on(self) -> None:
        if (here := folder()) is None:
            return
        (here / COMPILED).mkdir(exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=STAGED, dir=here))
        for entry in (here / COMPILED).glob("*-cache"):
            with suppress(OSError):
                os.link(entry, staged / entry.name)
        settings = {
            "jax_compilation_cache_dir": str(staged),
            "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_enable_xla_caches": "none",  # they would lie in this folder
        }
        self._before = {name: getattr(jax.config, name) for name in settings}
        _set(settings)
        compilation_cache.reset_cache()  # it might still hold a folder that it was once told
        self._staged = staged

    def _turn_off(self, staged: Path) -> None:
        if jax.config.jax_compilation_cache_dir == str(staged):  # pyright: ignore
            _set(self._before)
        compilation_cache.reset_cache()  # else it would go on with this folder
        if self._is_quiet:
            utils.absl_set_min_log_level(_LOG_LEVEL)
        self._staged, self._is_quiet = None, False
        with suppress(OSError):
            for entry in staged.glob("*-cache"):
                if not (kept := staged.parent / COMPILED / entry.name).exists():
                    os.replace(entry, kept)
        shutil.rmtree(staged, ignore_errors=True)
        forget_oldest(staged.parent)


_SWITCH = _Switch()


def _set(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)


def _is_log_left_alone() -> bool:
    """Whether nobody has told JAX what to log, nor XLA by its variable."""
    level = jax.config.jax_logging_level  # pyright: ignore[reportAttributeAccessIssue]
    return level in (None, "NOTSET") and os.environ.get(_LOG_VARIABLE) == str(_LOG_LEVEL)


def _surroundings() -> tuple[Any, ...]:
    """All that decides what is traced, beside what is asked for."""
    settings = sorted(jax.config.values.items())  # pyright: ignore[reportAttributeAccessIssue]
    # Of those that a thread may set for itself the thread's value counts, which is not in the list.
    told = [(name, getattr(jax.config, name, value)) for name, value in settings if not name.startswith(_IDLE)]
    return _OWN_CODE, flax.__version__, optax.__version__, told


def _digest_of_own_code() -> str | None:
    """A digest of vtune as it is installed here, edited or not; None where its code cannot be read."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    try:
        for file in sorted(package.rglob("*.py")):
            code = file.read_bytes()
            digest.update(repr((file.relative_to(package).as_posix(), len(code))).encode() + code)
    except OSError:
        return None
    return digest.hexdigest() if (package / "__init__.py").exists() else None


_OWN_CODE = _digest_of_own_code()
"""Of what this process runs: files may be edited later."""


def _read(file: Path) -> bytes | None:
    """Returns what was written; None where nothing was, or not all of it."""
    try:
        whole = file.read_bytes()
        os.utime(file)  # what is in use is not the oldest
    except OSError:
        return None
    checked, content = whole[:_SUM_BYTES], whole[_SUM_BYTES:]
    return content if hashlib.sha256(content).digest() == checked else None


def _write(file: Path, content: bytes) -> None:
    """Writes a file that is there as a whole or not at all; where there is no room, it is not."""
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent.parent, prefix=STAGED, delete=False) as beside:
            try:
                beside.write(hashlib.sha256(content).digest() + content)
                beside.close()
                os.replace(beside.name, file)
            except OSError:
                os.unlink(beside.name)
