"""The folder in which programs are kept for later processes: where it is, whose it is, and how large it may grow."""

import hashlib
import os
import platform
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import jax
import platformdirs
from jax.experimental.compilation_cache import compilation_cache
from jaxlib import version  # pyright: ignore[reportAttributeAccessIssue]  (compiled in part)

CACHE_VARIABLE = "VTUNE_CACHE"
"""Environment variable: the folder in which programs are kept, or "off". By default the user's own for caches; JAX's
``JAX_ENABLE_COMPILATION_CACHE=false`` is obeyed too."""

COMPILED, TRACED, STAGED = "compiled", "traced", "new-"
"""Folders of a machine: of compiled programs, of traced ones, and how the name begins of what is still being written, a
folder by JAX and a file by vtune."""

_MOST_BYTES = 1 << 30
"""Of all that is kept; beyond it, the files that were written longest ago are deleted."""

_STALE_SECONDS = 24 * 3600
"""Age from which what was being written is taken for what a process that was killed has left."""


def folder() -> Path | None:
    """Returns this machine's folder, made if it is not there; None where nothing is to be kept.

    Nothing is kept where the user has said so, where others could write to the folder, where it cannot be made, where
    several processes train together (they would not find the same), and where it is not known what a processor can do:
    a program that was compiled for another one may end this process.
    """
    asked = os.environ.get(CACHE_VARIABLE)
    if asked == "off" or not jax.config.jax_enable_compilation_cache or jax.process_count() > 1:  # pyright: ignore
        return None
    try:
        root = Path(asked).expanduser() if asked else platformdirs.user_cache_path("vtune", appauthor=False)
        here = root.absolute() / _machine()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        here.mkdir(mode=0o700, exist_ok=True)
        return here if _is_private(here) and _is_safe(root) and os.access(here, os.W_OK) else None
    except (OSError, RuntimeError):  # such as no room, or no home
        return None


@contextmanager
def nothing_kept() -> Iterator[None]:
    """What compiles within is neither kept nor found, by JAX's own cache neither: to measure what compiling takes."""
    asked, enabled = os.environ.get(CACHE_VARIABLE), jax.config.jax_enable_compilation_cache  # pyright: ignore
    os.environ[CACHE_VARIABLE] = "off"
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX decides only once whether it uses its cache
    try:
        yield
    finally:
        os.environ.pop(CACHE_VARIABLE)
        os.environ.update({} if asked is None else {CACHE_VARIABLE: asked})
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


def forget_oldest(here: Path) -> None:
    """Deletes programs, those of other machines and versions too, until the rest takes no more than it may."""
    kept = []
    for file in [*here.parent.glob(f"jax-*/{COMPILED}/*-cache"), *here.parent.glob(f"jax-*/{TRACED}/*")]:
        with suppress(OSError):  # another process may delete it, too
            kept.append((file.stat().st_mtime, file.stat().st_size, file))
    size = sum(one for _, one, _ in kept)
    for _, one, file in sorted(kept):
        if size <= _MOST_BYTES:
            break
        with suppress(OSError):
            file.unlink()
        size -= one
    for staged in here.parent.glob(f"jax-*/{STAGED}*"):
        with suppress(OSError):
            if time.time() - staged.stat().st_mtime <= _STALE_SECONDS:
                continue
            if staged.is_dir():
                shutil.rmtree(staged, ignore_errors=True)
            else:
                staged.unlink()


def _is_private(here: Path) -> bool:
    """Whether it is a folder of this user, who alone may write there."""
    found = here.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _is_safe(root: Path) -> bool:
    """Whether others cannot put another folder in the place of one in it."""
    found = root.stat()
    return found.st_uid in (0, os.getuid()) and (not found.st_mode & 0o022 or bool(found.st_mode & stat.S_ISVTX))


@cache
def _machine() -> str:
    """Names what compiled programs depend on: JAX, and the processor with its instruction sets.

    Raises:
        OSError: where these are not known.
    """
    told = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = "flags", "Features", "model name", "CPU implementer", "CPU part"
    able = sorted({line for line in told if line.startswith(names)})
    if not any(line.startswith(names[:2]) for line in able):
        raise OSError("the instruction sets of this processor are not known")
    digest = hashlib.sha256(repr((platform.machine(), able)).encode()).hexdigest()[:12]
    return f"jax-{jax.__version__}-jaxlib-{version.__version__}-{digest}"
