"""Law Agreement between the mesh and the queue: another program of the same trials, on several devices in lockstep."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pandas as pd
import pytest

import vtune
from tests.compilations import Compilations
from tests.laws.population import digits, float64, make_queue, train, trainings_of
from vtune.parameters import choice, integers, loguniform
from vtune.progress import Silent

ROOT = Path(__file__).parent.parent.parent

SPACE = {
    "optimizer": choice(["adam", "momentum"]),
    "learning_rate": loguniform(1e-4, 3e-3),
    "momentum": choice([0.5, 0.9]),
    "batch_size": choice([32, 37, 96]),
    "hidden": integers(5, 64, log=True),
    "layers": integers(1, 3),
}


def population(count: int, rates=(1e-4, 3e-3)) -> list[dict[str, Any]]:
    numbers = np.random.default_rng(4)
    return [
        {
            "optimizer": str(numbers.choice(["adam", "momentum"])),
            "learning_rate": float(np.float32(np.exp(numbers.uniform(*np.log(rates))))),
            "momentum": 0.5,
            "batch_size": int(numbers.choice([32, 37, 96])),
            "hidden": int(numbers.integers(5, 65)),
            "layers": int(numbers.integers(1, 4)),
        }
        for _ in range(count)
    ]


def queue(**options: Any) -> Any:
    """The queue on one device: on any number of them it gives the same bits."""
    return make_queue(SPACE, devices=jax.devices()[:1], executor="queue", **options)


def mesh_of(num_devices: int, **options: Any) -> Any:
    return make_queue(SPACE, devices=jax.devices()[:num_devices], executor="mesh", **options)


FIFTY_STEPS = [{**row, "batch_size": 37} for row in population(9)], 5  # 11 steps an epoch


@pytest.fixture(scope="module")
def after_one_epoch():
    return train(queue(), population(19), 1)


@pytest.fixture(scope="module")
def after_fifty_steps():
    with float64():
        return train(queue(data=digits()), *FIFTY_STEPS)


@pytest.mark.parametrize("num_devices", [pytest.param(2, marks=pytest.mark.long), 4])
def test_after_one_epoch_in_float32_they_agree_to_1e_4(num_devices, after_one_epoch):
    curves = train(mesh_of(num_devices), population(19), 1)
    assert curves.keys() == after_one_epoch.keys()
    for trial_id, curve in curves.items():
        np.testing.assert_allclose(curve[:, :2], after_one_epoch[trial_id][:, :2], rtol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("num_devices", [2, 4])
def test_after_fifty_steps_in_float64_they_agree_to_1e_9(num_devices, after_fifty_steps):
    with float64():
        curves = train(mesh_of(num_devices, data=digits()), *FIFTY_STEPS)
    assert curves.keys() == after_fifty_steps.keys()
    for trial_id, curve in curves.items():
        np.testing.assert_allclose(curve[:, :2], after_fifty_steps[trial_id][:, :2], rtol=1e-9)


@pytest.mark.long
def test_whole_trainings_have_equal_quartiles():
    rows = population(40, rates=(1e-4, 1e-1))
    ours, truth = (
        np.array([curve[-1, 1] for _, curve in sorted(train(each, rows, 10).items())]) for each in (mesh_of(2), queue())
    )
    drawn = np.random.default_rng(0).choice(truth, (2000, len(rows)))
    for share in (0.25, 0.5, 0.75):
        noise = np.quantile(drawn, share, axis=1).std()
        assert abs(np.quantile(ours, share) - np.quantile(truth, share)) < noise


def test_a_trial_is_the_same_bits_whatever_is_beside_it_on_the_mesh():
    mesh = mesh_of(2, chunk=2)
    rows = population(12)
    truth = train(mesh, rows, 2)
    few = [1, 8, 10]
    for trial_id, curve in train(mesh, [rows[i] for i in few], 2, few).items():
        np.testing.assert_array_equal(curve, truth[trial_id])


def test_a_chunk_of_the_mesh_has_the_lanes_of_all_its_devices():
    mesh = mesh_of(4, chunk=3)
    rows = [{**population(1)[0], "batch_size": 32} for _ in range(13)]
    results = []
    mesh.train(trainings_of(rows, 1), results.append)
    assert [len(result.chunk.trainings) for result in results] == [12, 1]
    states = mesh.worker._memory[results[0].chunk.rung]
    assert len(states.step.sharding.device_set) == 4
    assert states.step.shape == (12,)


def search(**changes: Any) -> vtune.Study:
    plain = {"trials": 12, "epochs": 2, "progress": False, "executor": "mesh", "devices": 2, "data": digits(96, 50)}
    return vtune.search(vtune.MLP, SPACE, **(plain | changes))


@pytest.fixture(scope="module")
def study():
    return search()


@pytest.mark.long
def test_a_search_on_a_mesh_ends_like_one_of_the_queue(study):
    queue = search(executor="queue")
    assert study.ladder == queue.ladder
    first_round = [trial_id for trial_id in study.trials.index if study.trials.loc[trial_id, "round"] == 0]
    for trial_id in first_round:
        assert study.trial(trial_id).params == queue.trial(trial_id).params
        np.testing.assert_allclose(study.trial(trial_id).curves[0, :2], queue.trial(trial_id).curves[0, :2], rtol=1e-4)
    assert len(study.trials) == len(queue.trials) == 12
    assert "on a mesh of 2 cpu devices" in study.executor.describe()


@pytest.mark.long
def test_its_best_model_is_trained_again_to_the_same_bits(study):
    x, y = study.data.valid
    share = float((np.argmax(np.asarray(study.best_model(x)), axis=-1) == y).mean())
    assert share == pytest.approx(study.best_score, abs=1e-7)


@pytest.mark.long
def test_all_devices_share_one_compilation_and_one_trace(study):
    with Compilations() as compiled:
        again = search(seed=3, strategy="random", trials=11, epochs=1, optimizer=adam)
    rungs = again.trials["rung"].nunique()
    assert rungs <= compiled.count <= rungs + 6
    with Compilations() as compiled:
        search(seed=4)
    assert compiled.count <= 2  # rungs that the first search did not meet


def adam(hparams):
    momentum = optax.sgd(hparams["learning_rate"], hparams["momentum"])
    return momentum if hparams["optimizer"] == "momentum" else optax.adam(hparams["learning_rate"])


@pytest.mark.long
def test_diverged_lanes_are_told_apart_on_the_mesh():
    rates = loguniform(1e-3, 1e25)
    study = vtune.search(
        vtune.MLP, {**SPACE, "optimizer": "momentum", "learning_rate": rates}, digits(96, 50), trials=12, epochs=2,
        strategy="random", executor="mesh", devices=2, progress=False,
    )  # fmt: skip
    queue = vtune.search(
        vtune.MLP, {**SPACE, "optimizer": "momentum", "learning_rate": rates}, digits(96, 50), trials=12, epochs=2,
        strategy="random", devices=2, progress=False,
    )  # fmt: skip
    assert study.trials["status"].tolist() == queue.trials["status"].tolist()
    assert {"complete", "diverged"} == set(study.trials["status"])
    for trial_id in study.trials.index:
        assert study.trial(trial_id).diverged_step == queue.trial(trial_id).diverged_step


def test_an_executor_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match=r"^executor=.* is not known; write one of 'queue', 'mesh'"):
        search(executor="pmap")


@pytest.mark.long
def test_a_folder_does_not_go_on_with_the_other_executor(tmp_path):
    search(folder=tmp_path)
    with pytest.raises(ValueError, match="holds a search with executor='mesh', and this one has executor='queue'"):
        search(folder=tmp_path, executor="queue")


@pytest.mark.long
def test_a_search_that_was_stopped_goes_on_to_the_same_bits_on_as_many_devices(tmp_path, study):
    class Stops(Silent):
        def trials_done(self, count, num_diverged, best_score):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(folder=tmp_path, progress=Stops())
    with pytest.raises(ValueError, match="holds a search with mesh_devices=2, and this one has mesh_devices=4"):
        search(folder=tmp_path, devices=4)
    pd.testing.assert_frame_equal(search(folder=tmp_path).curves, study.curves, check_exact=True)


@pytest.mark.long
def test_standardized_targets_are_trained_on_the_mesh_too():
    x, _ = digits(200, 60).train
    y = (x[:, 20] * 3000 + x[:, 30] * 500).astype(np.float32)
    data = vtune.Data(train=(x[:150], y[:150]), valid=(x[150:], y[150:]), standardize=True)
    mesh, queue = (search(data=data, executor=name, epochs=1, strategy="random") for name in ("mesh", "queue"))
    assert mesh.best_score > 1e3
    np.testing.assert_allclose(mesh.trials["score"], queue.trials["score"], rtol=1e-4)


# Several processes


@pytest.mark.parametrize(
    ("changes", "written"),
    [
        ({"time_budget": "10m"}, "time_budget='10m'"),
        ({"time_budget": "10m", "strategy": "auto"}, "strategy='auto'"),
        ({"strategy": "auto"}, "strategy='auto'"),
    ],
)
def test_several_processes_do_not_go_by_their_clocks(monkeypatch, changes, written):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr("vtune.training.programs.Program.__init__", lambda *_: pytest.fail("it compiles"))
    with pytest.raises(ValueError, match=rf"^{written}: JAX runs in 2 processes.*clock.*Leave time_budget out"):
        search(**changes, devices=None)


PROGRAM = """
import json, sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
port, process, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=process)
import numpy as np
import vtune
from tests.laws.population import digits
from tests.laws.test_mesh_law import SPACE
assert (jax.device_count(), jax.local_device_count()) == (4, 2)
try:
    vtune.search(vtune.MLP, SPACE, digits(96, 50), trials=2, progress=False)
except ValueError as error:
    print("refused:", error)
study = vtune.search(
    vtune.MLP, SPACE, digits(96, 50), trials=12, epochs=2, executor="mesh", progress=False, folder=folder,
)
again = vtune.search(
    vtune.MLP, SPACE, digits(96, 50), trials=16, epochs=2, executor="mesh", progress=False, folder=folder,
)
assert len(again.trials) == 16
assert again.curves[:24].equals(study.curves)
try:
    own = f"{folder}-{process}" if process else folder
    vtune.search(vtune.MLP, SPACE, digits(96, 50), trials=20, epochs=2, executor="mesh", progress=False, folder=own)
except ValueError as error:
    print("apart:", error)
x, y = study.data.valid
told = {
    "curves": study.curves.to_numpy().tolist(),
    "params": [study.trial(i).params for i in range(12)],
    "best": [study.best_score, float((np.argmax(study.best_model(x), axis=-1) == y).mean())],
    "devices": len(study.executor.devices),
}
print("told:", json.dumps(told))
"""


@pytest.mark.long
def test_two_processes_train_one_population_and_agree(tmp_path, study):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(port), str(number), str(tmp_path / "study")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )  # fmt: skip
        for number in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    lines = [dict(line.split(":", 1) for line in output.splitlines() if ":" in line) for output, _ in outputs]
    assert all(re.search(r"JAX runs in 2 processes.*executor='mesh'", line["refused"]) for line in lines)
    assert all("does not hold the same for all 2 processes" in line["apart"] for line in lines)
    first, second = (json.loads(line["told"]) for line in lines)
    assert first == second
    assert first["devices"] == 4
    assert first["best"][0] == pytest.approx(first["best"][1], abs=1e-7)
    files = sorted(path.name for path in (tmp_path / "study").iterdir())
    assert files == ["curves.csv", "finalists.csv", "plans.csv", "study.json", "trials.csv"]
    alone = [study.trial(trial_id) for trial_id in range(len(study.trials))]
    ours = np.array(first["curves"]).reshape(12, 2, -1)
    for trial_id in study.trials.index[study.trials["round"] == 0]:
        assert first["params"][trial_id] == alone[trial_id].params
        np.testing.assert_allclose(ours[trial_id][0, :2], alone[trial_id].curves[0, :2], rtol=1e-4)
