"""Programs for accelerators that are not here: every one of them lowers for CPU, CUDA and TPU."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import vtune
from tests import user_models
from tests.laws.population import complete, digits, make_queue
from vtune.training import cost, devices
from vtune.training.devices import DeviceKind
from vtune.training.places import DeviceMesh, OneDevice

ROOT = Path(__file__).parent.parent
PLATFORMS = ("cpu", "cuda", "tpu")
HERE = OneDevice(jax.devices()[0])
ALL_NINE = {**vtune.default_space(["momentum", "adam", "rmsprop"], tiers=(1, 2, 3, 4))}
T4 = DeviceKind("gpu", "Tesla T4", 15 << 30, 40)
A100 = DeviceKind("gpu", "NVIDIA A100-SXM4-40GB", 38 << 30, 108)
H100 = DeviceKind("gpu", "NVIDIA H100 80GB HBM3", 74 << 30, 132)
TPU = DeviceKind("tpu", "TPU v5 lite", 16 << 30)


def lowers(exported: jax.export.Exported) -> bool:
    return exported.platforms == PLATFORMS


def rungs_of(queue, space, count=200):
    space = vtune.Space.of(space)
    rows = space.rows(np.random.default_rng(0).uniform(size=(count, len(space.axes))))
    return {queue.job.ladder.rung(row) for row in complete(rows)}


@pytest.mark.long
@pytest.mark.parametrize("kind", [DeviceKind("cpu", "cpu"), T4, H100, TPU], ids=lambda kind: kind.name)
def test_every_rung_of_a_search_of_all_nine_lowers(kind):
    queue = make_queue(ALL_NINE, trials=256, kind=kind)
    rungs = rungs_of(queue, ALL_NINE)
    assert len({dict(rung.structure)["optimizer"] for rung in rungs}) == 3
    assert queue.job.ladder.device == kind.name
    for rung in rungs:
        assert lowers(queue.job.program(rung).export(*PLATFORMS, place=HERE))


@pytest.mark.long
def test_the_program_of_a_mesh_lowers():
    queue = make_queue(ALL_NINE, trials=256)
    mesh = DeviceMesh(tuple(jax.devices()[:2]))
    exported = queue.job.program(min(rungs_of(queue, ALL_NINE, 20), key=repr)).export(*PLATFORMS, place=mesh)
    assert lowers(exported)
    assert exported.nr_devices == 2


@pytest.mark.long
@pytest.mark.parametrize(
    ("model_fn", "space"),
    [
        (user_models.noisy, {"rate": 0.1}),
        (user_models.linen_noisy, {"rate": 0.1}),
        (user_models.cnn, {"width": vtune.choice([4])}),
        (vtune.MLP, {"hidden": vtune.per_layer(vtune.choice([5, 16])), "layers": vtune.integers(1, 2)}),
    ],
    ids=["nnx with dropout and batch statistics", "linen", "nnx CNN", "a width a layer"],
)
def test_models_of_users_lower(model_fn, space):
    space = {**space, "learning_rate": vtune.loguniform(1e-4, 1e-1)}
    queue = make_queue(space, model_fn=model_fn)
    for rung in rungs_of(queue, space, 20):
        assert lowers(queue.job.program(rung).export(*PLATFORMS, place=HERE))


def test_the_fused_search_lowers():
    space = {name: parameter for name, parameter in ALL_NINE.items() if name not in ("optimizer", "momentum")}
    fused = vtune.fused_search(vtune.MLP, space, digits(), rounds=3, trials=8, epochs=2, progress=False)
    key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
    assert lowers(jax.export.export(jax.jit(fused), platforms=PLATFORMS)(key))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0, impl="threefry2x32"), 8))
    assert lowers(jax.export.export(jax.jit(jax.vmap(fused)), platforms=PLATFORMS)(keys))


# Precision of matrix products


@pytest.mark.parametrize("layers", [2, vtune.integers(1, 2)], ids=["two layers", "one of which a trial may lack"])
@pytest.mark.parametrize("precision", [None, "default", "bfloat16", "highest"])
def test_the_precision_of_matrix_products_reaches_forward_and_backward_pass(precision, layers):
    space = {"learning_rate": vtune.loguniform(1e-4, 1e-1), "layers": layers}
    queue = make_queue(space, matmul_precision=precision)
    (rung,) = rungs_of(queue, space, 1)
    text = queue.job.program(rung).export("cuda", place=HERE).mlir_module()
    # The network's own: whether numbers are finite is a product with zeros, one number a lane, exact in any precision.
    lines = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    products = [line for line in lines if not re.search(r"-> tensor<\d+xf32>", line)]
    assert len(lines) - len(products) == 6  # weights and biases of 3 layers
    assert len(products) >= 3 + 3 + 2 + 3  # forward, backward to weights and to inputs, and validation, of 3 layers
    highest = [line for line in products if "precision = [HIGHEST, HIGHEST]" in line]
    assert len(highest) == (len(products) if precision == "highest" else 0)
    assert queue.job.ladder.matmul_precision == precision


@pytest.mark.long
def test_what_jax_was_told_holds_where_nothing_else_is():
    space = {"learning_rate": vtune.loguniform(1e-4, 1e-1), "hidden": 4}
    settings = {"trials": 1, "epochs": 1, "progress": False, "data": digits(96, 50)}
    with jax.default_matmul_precision("highest"):
        study = vtune.search(vtune.MLP, space, **settings)
        other = vtune.search(vtune.MLP, space, **settings, matmul_precision="default")
    assert study.job.recipe.matmul_precision == study.settings["matmul_precision"] == "highest"
    assert other.executor.job.recipe.matmul_precision == "default"
    assert vtune.search(vtune.MLP, space, **settings).executor.job.recipe.matmul_precision is None
    with pytest.raises(ValueError, match=r"^matmul_precision='fast': .*Write matmul_precision='highest'"):
        vtune.search(vtune.MLP, space, **settings, matmul_precision="fast")


# Ladders for devices that are described


def ladder_for(kind, space=ALL_NINE, **options):
    return make_queue(space, kind=kind, **({"trials": 4096} | options)).job.ladder


@pytest.mark.parametrize(
    "kind",
    [pytest.param(T4, marks=pytest.mark.long), pytest.param(A100, marks=pytest.mark.long), H100, TPU],
    ids=lambda kind: kind.name,
)
def test_an_accelerator_gets_hundreds_of_lanes_that_fit_its_memory(kind):
    ladder, table = ladder_for(kind), cost.cost_table(kind)
    for cell in ladder.cells:
        weights = sum(vtune.MLP.elastic.row_macs(cell.high, vtune.Shapes((64,), 10)))
        assert 100 <= cell.lanes <= table.max_lanes
        assert cell.lanes * weights * 4 * cost.ARRAYS_PER_WEIGHT <= kind.memory_bytes / 4


@pytest.mark.long
def test_a_larger_accelerator_gets_more_lanes_and_less_time():
    small, large = ladder_for(T4), ladder_for(H100)
    assert max(cell.lanes for cell in small.cells) < max(cell.lanes for cell in large.cells)
    assert small.expected_seconds > large.expected_seconds
    assert small.to_json() != large.to_json()


@pytest.mark.long
def test_memory_bounds_the_lanes_of_large_networks():
    wide = {**ALL_NINE, "hidden": 4096, "layers": 4}
    lanes = [ladder_for(T4._replace(memory_bytes=size << 30), wide).cells[0].lanes for size in (4, 64)]
    assert lanes[0] < lanes[1]


@pytest.mark.long
def test_an_accelerator_pads_where_a_cpu_compiles():
    on_cpu = len(make_queue(ALL_NINE, trials=256).job.ladder.cells)
    assert len(ladder_for(H100, trials=256).cells) < on_cpu


def test_lanes_of_an_unknown_model_are_bounded_by_memory_too():
    space = {"width": vtune.choice([4]), "learning_rate": vtune.loguniform(1e-4, 1e-1)}
    tiny = DeviceKind("gpu", "a tiny one", 64 << 20, 20)
    few, many = (ladder_for(kind, space, model_fn=user_models.cnn) for kind in (tiny, A100))
    assert few.cells[0].lanes < many.cells[0].lanes


# What depends on the kind of a device


class Fake:
    """A device as a driver describes it."""

    def __init__(self, platform, device_kind, stats=None, cores=None):
        self.platform, self.device_kind, self._stats = platform, device_kind, stats
        if cores:
            self.core_count = cores

    def memory_stats(self):
        return self._stats


def test_devices_are_described_by_what_their_driver_says():
    assert devices.kind_of(Fake("cuda", "Tesla T4", {"bytes_limit": 15 << 30}, 40)) == T4
    assert devices.kind_of(Fake("rocm", "MI300X", None, 304)) == DeviceKind("gpu", "MI300X", 8 << 30, 304)
    assert devices.kind_of(Fake("tpu", "TPU v5 lite", {"bytes_limit": 16 << 30}, 1)) == TPU
    assert devices.kind_of(jax.devices()[0]) == DeviceKind("cpu", "cpu")
    assert [kind.is_accelerator for kind in (T4, TPU, DeviceKind("cpu", "cpu"))] == [True, True, False]


def test_the_cores_of_a_cpu_share_a_device_and_accelerators_work_by_themselves(monkeypatch):
    gpus = [Fake("cuda", "Tesla T4"), Fake("cuda", "Tesla T4")]
    assert devices.worker_devices(gpus) == gpus
    cpus = jax.devices()
    assert devices.worker_devices(cpus[1:3]) == [cpus[1], cpus[1]]
    assert devices.worker_devices([cpus[0], *gpus]) == [cpus[0], *gpus]
    monkeypatch.setattr(jax, "local_devices", lambda: cpus[:1])
    monkeypatch.setattr(devices, "num_cores", lambda: 6)
    assert devices.worker_devices(cpus[:1]) == 6 * cpus[:1]


@pytest.mark.parametrize("kind", [T4, H100, TPU])
def test_only_cpus_are_compiled_for_by_other_rules_and_the_users_own_come_first(monkeypatch, kind):
    cpu = DeviceKind("cpu", "cpu")
    assert devices.compiler_options(kind) == {}
    copies = {"xla_cpu_copy_insertion_use_region_analysis": True}
    assert devices.compiler_options(cpu) == {"xla_backend_optimization_level": 1, **copies}
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    assert devices.compiler_options(cpu) == copies


@pytest.fixture
def untouched(monkeypatch):
    """A JAX of which no setting is changed without being noted."""
    changed = {}
    monkeypatch.setattr(jax.config, "update", changed.__setitem__)
    monkeypatch.setattr(type(jax.config), "jax_num_cpu_devices", -1, raising=False)
    return changed


@pytest.mark.parametrize("found", ["plugin", "libtpu"])
def test_no_setting_for_cpus_is_made_where_an_accelerator_may_be(monkeypatch, untouched, found):
    monkeypatch.setattr(devices, "entry_points", lambda group: ["cuda"] if found == "plugin" else [])
    monkeypatch.setattr(devices, "find_spec", lambda name: found if name == found else None)
    devices._split_cpu(None)
    assert untouched == {}


def test_a_cpu_is_split_into_a_device_a_core(monkeypatch, untouched):
    monkeypatch.setattr(devices, "entry_points", lambda group: [])
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    monkeypatch.setattr(devices, "num_cores", lambda: 6)
    monkeypatch.delenv(devices.CPU_DEVICES_VARIABLE, raising=False)
    devices._split_cpu(None)
    assert untouched == {"jax_num_cpu_devices": 6}
    monkeypatch.setenv(devices.CPU_DEVICES_VARIABLE, "3")
    devices._split_cpu(None)
    assert untouched == {"jax_num_cpu_devices": 3}


@pytest.mark.long
def test_a_search_splits_the_cpu_before_anything_in_it_starts_jax():
    code = (
        "import jax, vtune, vtune.searching; "
        "vtune.searching.make_parts = lambda *_, **__: print(jax.device_count()) or 1 / 0; "
        "vtune.search(vtune.MLP, {'learning_rate': vtune.loguniform(1e-3, 1e-1)}, devices=3)"
    )
    environment = os.environ | {"VTUNE_CPU_DEVICES": "3", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.splitlines()[-1:] == ["3"], done.stderr


@pytest.mark.parametrize("said", ["jax_num_cpu_devices", "XLA_FLAGS"])
def test_a_cpu_that_the_user_has_split_stays_as_it_is(monkeypatch, untouched, said):
    monkeypatch.setattr(devices, "_may_have_accelerator", lambda: False)
    monkeypatch.setenv(devices.CPU_DEVICES_VARIABLE, "3")
    if said == "XLA_FLAGS":
        monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    else:
        monkeypatch.setattr(type(jax.config), "jax_num_cpu_devices", 1)
    devices._split_cpu(None)
    assert untouched == {}


@pytest.mark.parametrize("device", ["an NVIDIA GPU", "an AMD GPU", "a TPU"])
def test_an_accelerator_that_is_not_used_is_warned_of(monkeypatch, tmp_path, device):
    driver = tmp_path / "driver"
    driver.touch()
    monkeypatch.setattr(devices, "_DRIVERS", {device: str(driver)})
    monkeypatch.setattr(devices, "_is_cpu_wanted", lambda: False)
    with pytest.warns(
        UserWarning, match=rf"there is {device} here, but this JAX trains on the CPU\. .*JAX_PLATFORMS=cpu"
    ):
        devices.local_devices(1)


def test_nothing_is_said_where_the_cpu_is_meant_or_there_is_nothing_else(monkeypatch, tmp_path):
    driver = tmp_path / "driver"
    monkeypatch.setattr(devices, "_DRIVERS", {"a TPU": str(driver)})
    monkeypatch.setattr(devices, "_is_cpu_wanted", lambda: False)
    devices.local_devices(1)  # warnings are errors here
    driver.touch()
    monkeypatch.setattr(devices, "_is_cpu_wanted", lambda: True)
    devices.local_devices(1)
    monkeypatch.setattr(devices, "_is_cpu_wanted", lambda: False)
    devices._warn_of_unused_accelerator([Fake("cuda", "Tesla T4", {"bytes_limit": 15 << 30}, 40)])


def test_a_driver_is_asked_of_its_own_devices_alone():
    here, there = jax.devices()[0], Fake("cuda", "of another process")
    there.process_index = here.process_index + 1
    assert devices.own([there, here]) is here
    assert devices.describe([here, here]) == "2 cpu devices"
