"""Every test runs on 4 CPU devices, promotes no type or rank in silence, and checks vtune's signatures."""

import gc

import hypothesis
import jax
import jaxtyping
import pytest

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


@pytest.fixture(scope="module", autouse=True)
def _programs_end_with_their_module():
    """Drops what was compiled: on a CPU a program takes about 400 memory maps, and Linux allows a process 65,530."""
    from vtune.training.programs import SHELF

    yield
    SHELF.clear()
    jax.clear_caches()
    gc.collect()
