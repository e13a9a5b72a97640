"""What a process leaves on disk for the next one: it is quicker, and gets the same bits."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vtune
from vtune.precision import float_precision
from vtune.training import caches, disk
from vtune.training.caches import folder, forget_oldest, nothing_kept
from vtune.training.devices import DeviceKind
from vtune.training.disk import compiled_before, traced_before
from vtune.training.losses import METRICS, cross_entropy
from vtune.training.optimizers import named
from vtune.training.task import Recipe

ROOT = Path(__file__).parent.parent
CPU, GPU = DeviceKind("cpu", "cpu"), DeviceKind("gpu", "a large one", 1 << 30)

SCRIPT = """
import hashlib, json, sys
from collections import Counter

import jax
import vtune

told = Counter()
jax.monitoring.register_event_listener(lambda name, **_: told.update([name.rpartition("/")[-1]]))
study = vtune.search(
    vtune.MLP, {"learning_rate": vtune.loguniform(1e-3, 1e-1), "hidden": vtune.integers(4, 8)}, trials=4, epochs=2,
    strategy="random", finalists=0, progress=False,
)
within = dict(told)
jax.jit(lambda x: x * 3 + 1)(2.0).block_until_ready()
print(json.dumps({
    "traces": [program.num_traces for program in study.job._programs.values()], "hits": within.get("cache_hits", 0),
    "misses": within.get("cache_misses", 0), "outside": told["cache_misses"] - within.get("cache_misses", 0),
    "bits": hashlib.sha256(study.curves.to_numpy().tobytes()).hexdigest(),
    "settings": [jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs],
}))
"""


def run(kept):
    environment = {**os.environ, "VTUNE_CACHE": str(kept), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return json.loads(done.stdout)


OF_A_SEARCH = 5
"""What is kept: its rung, what begins, asks and tells, and what draws the order of rows."""


def test_the_next_process_neither_traces_nor_compiles_what_is_kept_and_gets_the_same_bits(tmp_path):
    off, first, second = (run(kept) for kept in ("off", tmp_path, tmp_path))
    assert (off["hits"], off["misses"]) == (0, 0)
    assert first["traces"] == off["traces"] == [1]
    assert (first["hits"], first["misses"]) == (0, OF_A_SEARCH)
    assert second["traces"] == [0]
    assert (second["hits"], second["misses"]) == (OF_A_SEARCH, 0)
    assert len({told["bits"] for told in (off, first, second)}) == 1
    assert second["outside"] == 0  # the user's own programs are theirs
    assert first["settings"] == second["settings"] == [None, 1.0]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("VTUNE_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("kept")
def test_the_folder_is_the_users_alone():
    here = folder()
    assert here is not None
    assert here.stat().st_mode & 0o777 == 0o700
    here.chmod(0o720)
    assert folder() is None


def test_nobody_can_put_another_folder_in_its_place(kept, tmp_path_factory):
    here = folder()
    assert here is not None
    kept.chmod(0o777)
    assert folder() is None
    kept.chmod(0o1777)  # as /tmp: others cannot move what is not theirs
    assert folder() == here
    here.rmdir()
    here.symlink_to(tmp_path_factory.mktemp("elsewhere"))
    assert folder() is None


@pytest.mark.usefixtures("kept")
def test_what_is_compiled_for_a_processor_that_is_not_known_is_not_kept(monkeypatch):
    def unknown():
        raise OSError

    monkeypatch.setattr(caches, "_machine", unknown)
    assert folder() is None


def test_who_has_no_home_keeps_nothing(monkeypatch):
    def fail(name, appauthor):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("VTUNE_CACHE")
    monkeypatch.setattr(caches.platformdirs, "user_cache_path", fail)
    assert folder() is None


def test_what_cannot_be_a_folder_is_none(kept, monkeypatch):
    (kept / "file").write_text("")
    monkeypatch.setenv("VTUNE_CACHE", str(kept / "file"))
    assert folder() is None
    monkeypatch.setenv("VTUNE_CACHE", "off")
    assert folder() is None


def test_who_has_turned_off_jaxs_cache_wants_none(kept):
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert folder() is None
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert folder() is not None
    assert folder().parent == kept


def test_left_alone_it_is_where_the_users_caches_are(tmp_path, monkeypatch):
    monkeypatch.delenv("VTUNE_CACHE")
    monkeypatch.setattr(caches.platformdirs, "user_cache_path", lambda name, appauthor: tmp_path / name)
    here = folder()
    assert here is not None
    assert here.parent == tmp_path / "vtune"


@pytest.fixture
def levels(monkeypatch):
    told = []
    monkeypatch.setattr(disk.utils, "absl_set_min_log_level", told.append)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    return told


def cache_dir():
    return jax.config.jax_compilation_cache_dir


def compile_anew(number):
    return jax.jit(lambda x: x * number).lower(1.0).compile()


def names(kept):
    return sorted(file.name for file in kept.rglob("*-cache"))


@pytest.mark.usefixtures("levels")
def test_jaxs_cache_is_on_as_long_as_anybody_compiles(kept):
    with compiled_before(CPU):
        within = cache_dir()
        assert Path(within).parent == folder()
        with compiled_before(CPU):
            assert cache_dir() == within
        assert cache_dir() == within
        compile_anew(2.5)
    assert cache_dir() is None
    assert not Path(within).exists()
    assert len(names(kept)) == 1
    compile_anew(3.5)
    assert len(names(kept)) == 1


def test_what_was_compiled_is_found_again(kept, levels):
    told = []
    jax.monitoring.register_event_listener(lambda name, **_: told.append(name.rpartition("/")[-1]))
    for _ in range(2):
        with compiled_before(CPU):
            compile_anew(4.5)
        jax.clear_caches()
    assert [name for name in told if name in ("cache_hits", "cache_misses")] == ["cache_misses", "cache_hits"]
    assert len(names(kept)) == 1
    assert levels == [3, 1, 3, 1]


@pytest.mark.usefixtures("kept")
def test_xlas_log_is_quiet_only_where_it_is_noisy_and_nobody_asked_for_it(levels, monkeypatch):
    with compiled_before(GPU):
        pass
    assert levels == []
    with compiled_before(CPU):
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    assert levels == [3, 1]
    with compiled_before(CPU):
        pass
    assert levels == [3, 1]


@pytest.mark.usefixtures("levels")
def test_threads_share_it(kept):
    def work(number):
        with compiled_before(CPU):
            compile_anew(number)

    threads = [threading.Thread(target=work, args=(5.5 + place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache_dir() is None
    assert len(names(kept)) == 8
    assert not list(kept.rglob("new-*"))


@pytest.mark.usefixtures("levels")
def test_an_entry_that_was_cut_short_is_seen_by_nobody(kept):
    with compiled_before(CPU):
        staged = Path(cache_dir())
        (staged / "half-cache").write_bytes(b"")
        shutil.rmtree(staged)  # a process that is killed moves nothing
    assert names(kept) == []
    assert cache_dir() is None


@pytest.mark.usefixtures("kept")
def test_where_it_cannot_be_turned_on_all_goes_on(monkeypatch):
    def fail(**_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(disk.tempfile, "mkdtemp", fail)
        with compiled_before(CPU):
            assert cache_dir() is None
    with compiled_before(CPU):
        assert cache_dir() is not None
    assert cache_dir() is None


@pytest.mark.usefixtures("kept")
def test_a_cache_that_the_user_has_turned_on_stays_theirs(tmp_path):
    theirs = str(tmp_path / "theirs")
    jax.config.update("jax_compilation_cache_dir", theirs)
    try:
        with compiled_before(CPU):
            assert cache_dir() == theirs
            assert jax.config.jax_persistent_cache_min_compile_time_secs == 1.0
        assert cache_dir() == theirs
        jax.config.update("jax_compilation_cache_dir", None)
        with compiled_before(CPU):
            jax.config.update("jax_compilation_cache_dir", theirs)
        assert cache_dir() == theirs
    finally:
        jax.config.update("jax_compilation_cache_dir", None)


@pytest.mark.usefixtures("kept")
def test_to_measure_compiling_nothing_is_kept_nor_found():
    with nothing_kept():
        assert folder() is None
        assert not jax.config.jax_enable_compilation_cache
    assert folder() is not None
    assert jax.config.jax_enable_compilation_cache


def exported(traced):
    def trace():
        traced.append(len(traced))
        return jax.export.export(jax.jit(lambda x: 2 * x))(jax.ShapeDtypeStruct((3,), "float32"))

    return trace


def test_what_is_damaged_is_traced_again(kept):
    traced = []
    for _ in range(2):
        program = traced_before("twice", exported(traced))
        np.testing.assert_array_equal(program.call(jnp.ones(3)), [2, 2, 2])
    assert traced == [0]
    (file,) = kept.rglob("traced/*")
    file.write_bytes(file.read_bytes()[:-1])
    for _ in range(2):
        traced_before("twice", exported(traced))
    assert traced == [0, 1]
    assert [file] == list(kept.rglob("traced/*"))
    file.write_bytes(hashlib.sha256(b"of another time").digest() + b"of another time")
    traced_before("twice", exported(traced))
    assert traced == [0, 1, 2]


@pytest.mark.usefixtures("kept")
def test_another_mark_setting_or_edition_of_vtune_is_another_program(monkeypatch):
    traced = []
    traced_before("one", exported(traced))
    traced_before("other", exported(traced))
    with float_precision(np.dtype("float64")):
        traced_before("one", exported(traced))
    with jax.default_matmul_precision("highest"):
        traced_before("one", exported(traced))
    assert len(traced) == 4
    monkeypatch.setattr(disk, "_OWN_CODE", "edited")
    traced_before("one", exported(traced))
    assert len(traced) == 5
    monkeypatch.setattr(disk, "_OWN_CODE", None)
    for _ in range(2):
        traced_before("one", exported(traced))
    assert len(traced) == 7


def test_where_the_disk_is_full_nothing_is_kept(kept, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, "replace", fail)
    traced = []
    for _ in range(2):
        traced_before("one", exported(traced))
    assert traced == [0, 1]
    assert not list(kept.rglob("traced/*"))


def test_the_oldest_go_first_and_nothing_else_does(kept, monkeypatch):
    monkeypatch.setattr(caches, "_MOST_BYTES", 25)
    here = folder()
    files = [here / "compiled" / "old-cache", here / "traced" / "older", kept / "jax-1" / "traced" / "oldest"]
    for age, file in enumerate([*files, kept / "mine", here / "compiled" / "mine"]):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(10))
        os.utime(file, (0, 1000 - age))
    (here / "new-1").mkdir()
    (here / "new-3").write_bytes(bytes(10))
    (kept / "jax-1" / "new-4").mkdir()
    for left_by_the_dead in (here / "new-1", here / "new-3", kept / "jax-1" / "new-4"):
        os.utime(left_by_the_dead, (0, 0))
    (here / "new-2").mkdir()
    forget_oldest(here)
    left = sorted(file.name for file in kept.rglob("*") if file.is_file())
    assert left == ["mine", "mine", "old-cache", "older"]
    assert [path.name for path in kept.rglob("new-*")] == ["new-2"]


class Edited(vtune.MLP):
    """A user's own, which may be another tomorrow."""


@pytest.mark.parametrize(
    "changed",
    [
        {"model_fn": Edited},
        {"model_fn": lambda hparams, rngs, shapes: vtune.MLP(hparams, rngs, shapes)},
        {"optimizer": lambda hparams: named(hparams)},
        {"loss": lambda outputs, y: cross_entropy(outputs, y)},
        {"metrics": (METRICS["accuracy"]._replace(name="mine"),)},
    ],
)
def test_what_is_the_users_in_any_part_has_no_name_that_lasts(changed):
    recipe = Recipe(vtune.MLP, named, cross_entropy, (METRICS["accuracy"],), (64,), 10)
    assert recipe.name is not None
    assert recipe._replace(**changed).name is None


@pytest.mark.parametrize(
    "changed",
    [{"metrics": ()}, {"inputs": (8, 8)}, {"outputs": 9}, {"matmul_precision": "highest"}],
)
def test_recipes_that_differ_have_names_that_differ(changed):
    recipe = Recipe(vtune.MLP, named, cross_entropy, (METRICS["accuracy"],), (64,), 10)
    assert recipe._replace(**changed).name != recipe.name
