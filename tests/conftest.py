"""Every test runs on 4 CPU devices, promotes no type or rank in silence, and checks vtune's signatures."""

import gc
import os
from pathlib import Path

import hypothesis
import jax
import jaxtyping
import pytest

os.environ["VTUNE_CACHE"] = "off"  # what an earlier run left on disk must not stand in for what is tested
jax.config.update("jax_num_cpu_devices", 4)  # before anything asks for a device; the laws compare 1, 2 and 4
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

jaxtyping.install_import_hook("vtune", "beartype.beartype")  # before the first test imports vtune

hypothesis.settings.register_profile(
    "vtune",
    deadline=None,  # the first example of a test compiles, the others do not
    derandomize=True,  # what is red once is red again
)
hypothesis.settings.load_profile("vtune")


MAPS = Path("/proc/self/maps")
MANY_MAPS = 20_000  # Linux allows a process 65,530; a program for a CPU takes about 400, a module of tests some 10,000


@pytest.fixture
def as_users_call():
    """Signatures are not checked, as outside of tests, so that what is of another type reaches vtune's own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(params=["one device", "devices of their own"])
def workers_on(request, monkeypatch):
    """Workers share a device, as on a CPU, or have one each, with executables of its own, as accelerators do."""
    if request.param == "devices of their own":
        monkeypatch.setattr("vtune.training.queue.worker_devices", list)
    return request.param


@pytest.fixture(scope="module", autouse=True)
def _programs_do_not_pile_up():
    """Drops what was compiled for tests that are over, before the process has more memory maps than it may."""
    from vtune.training.programs import SHELF

    yield
    if MAPS.exists() and len(MAPS.read_text().splitlines()) > MANY_MAPS:
        SHELF.clear()
        jax.clear_caches()
        gc.collect()
