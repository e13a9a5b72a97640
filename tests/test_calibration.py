"""A cost table of one's own: fitted to what was measured, kept in a file, and good for the plans it is given to."""

import json
import threading

import numpy as np
import pytest

import vtune
from vtune import calibration
from vtune.calibration import CASES, Timing, fit
from vtune.cli import main
from vtune.data import Data
from vtune.training.cost import VERSION, cost_table
from vtune.training.devices import DeviceKind, local_devices, machine_of, worker_devices
from vtune.training.measured import MeasuredTable, read_table, write_table

CPU, DATA = DeviceKind("cpu", "cpu"), Data.of(None)
SPEEDS = {
    "flops_per_second": 5e10,
    "seconds_per_unit": 1e-9,
    "seconds_per_weight": 3e-9,
    "seconds_per_step": 2e-9,
    "seconds_per_turn": 2e-6,
    "compile_seconds": 40.0,
}
HERE = machine_of(CPU)
MEASURED = MeasuredTable(SPEEDS, HERE)
TABLE = MEASURED.table(CPU)
SPACE = {"learning_rate": vtune.loguniform(1e-3, 1e-1), "hidden": vtune.integers(8, 64), "layers": vtune.integers(1, 3)}


def timings(noise=0.0):
    drawn = np.random.default_rng(0).uniform(1 - noise, 1 + noise, len(CASES))
    return [Timing(case, 40.0, case.expected(TABLE, DATA) * one) for case, one in zip(CASES, drawn, strict=True)]


def test_a_table_is_found_again_in_what_it_predicts():
    found = fit(timings(), cost_table(CPU), DATA, peak=1e12)
    assert list(found) == list(SPEEDS)
    np.testing.assert_allclose(list(found.values()), list(SPEEDS.values()), rtol=1e-3)
    noisy = fit(timings(noise=0.05), cost_table(CPU), DATA, peak=1e12)
    assert min(noisy.values()) >= 0
    for timing in timings():
        assert timing.case.expected(TABLE._replace(**noisy), DATA) == pytest.approx(timing.turn_seconds, rel=0.1)


def test_no_product_is_taken_to_be_faster_than_the_peak():
    assert fit(timings(), cost_table(CPU), DATA, peak=1e9)["flops_per_second"] <= 1e9 * (1 + 1e-6)


def test_what_is_not_measured_is_vtunes_own():
    assert TABLE == cost_table(CPU)._replace(**SPEEDS)
    large = DeviceKind("gpu", "a large one", 80 << 30, 100)
    assert MEASURED.table(large).chunk_bytes == cost_table(large).chunk_bytes


@pytest.mark.long
def test_a_plan_by_a_table_of_ones_own_says_so_and_a_search_takes_it(tmp_path):
    file = tmp_path / "own.json"
    write_table(file, MEASURED)
    assert read_table(file) == MEASURED
    wide = {**SPACE, "hidden": vtune.integers(8, 256)}
    shipped, own = (vtune.plan(vtune.MLP, wide, cost_table=table, trials=500) for table in (None, str(file)))
    assert own.rungs["compile_seconds"].tolist() == [40.0] * len(own.rungs)
    assert "by a cost table of your own" in own.why
    assert own.programs < shipped.programs
    assert json.loads(shipped.ladder)["version"] == VERSION
    assert (version := json.loads(own.ladder)["version"]) == MEASURED.version < 0
    assert MeasuredTable({**SPEEDS, "compile_seconds": 41.0}, HERE).version != version
    study = vtune.search(vtune.MLP, wide, trials=2, epochs=1, ladder=own.ladder, progress=False)
    assert study.ladder == own.ladder


def test_a_table_of_another_machine_is_warned_of(tmp_path):
    write_table(tmp_path / "own.json", MeasuredTable(SPEEDS, "a large one"))
    with pytest.warns(UserWarning, match="was measured on 'a large one', and this is '.*cores'"):
        vtune.plan(vtune.MLP, SPACE, cost_table=tmp_path / "own.json", trials=8)


def written(**changed):
    return json.dumps({"version": VERSION, "machine": HERE, "speeds": SPEEDS, **changed})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "there is no such file"),
        ("width,layers", "is no cost table"),
        ("[1, 2]", "is no cost table"),
        (json.dumps({"version": VERSION, "machine": HERE}), "it holds something else"),
        (written(version=VERSION - 1), "it goes with version"),
        (written(machine=3), "its speeds are not"),
        (written(speeds={**SPEEDS, "more": 1}), "its speeds are not flops_per_second, "),
        (written(speeds={**SPEEDS, "flops_per_second": "fast"}), "flops_per_second='fast'"),
        (written(speeds={**SPEEDS, "seconds_per_unit": -1.0}), "seconds_per_unit=-1.0"),
        (written(speeds={**SPEEDS, "seconds_per_unit": True}), "seconds_per_unit=True"),
        (written(speeds={**SPEEDS, "compile_seconds": 0}), "compile_seconds are above 0"),
    ],
)
def test_a_file_that_is_no_cost_table_is_refused(tmp_path, text, problem):
    file = tmp_path / "own.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=problem) as refused:
        vtune.plan(vtune.MLP, SPACE, cost_table=file)
    assert "vtune bench --calibrate" in str(refused.value)


@pytest.mark.usefixtures("as_users_call")
def test_what_is_no_path_is_no_cost_table():
    with pytest.raises(TypeError, match="cost_table=3 is no path"):
        vtune.plan(vtune.MLP, SPACE, cost_table=3)


def test_it_is_asked_for_one_thing_and_a_file_that_can_be_written(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--quick", "--calibrate", "own.json"])
    capsys.readouterr()
    assert main(["bench", "--calibrate", str(tmp_path / "no" / "own.json")]) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.long
def test_a_machine_is_measured_and_what_does_not_fit_is_not_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(calibration, "CASES", CASES[:5])
    monkeypatch.setattr(calibration, "_REPEATS", 3)  # the least whose median is not moved by one call that is held up
    file = tmp_path / "own.json"
    assert main(["bench", "--calibrate", str(file)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8
    assert set(read_table(file).speeds) == set(SPEEDS)
    assert read_table(file).machine == HERE
    monkeypatch.setattr(calibration, "CASES", CASES[:1])
    monkeypatch.setattr(calibration, "fit", lambda timings, base, *_: {**SPEEDS, "seconds_per_turn": 1.0})
    assert main(["bench", "--calibrate", str(tmp_path / "bad.json")]) == 2
    assert "no table fits" in capsys.readouterr().err
    assert not (tmp_path / "bad.json").exists()


def test_on_a_cpu_as_many_chunks_are_timed_at_the_same_time_as_a_search_trains(monkeypatch):
    num_workers = len(worker_devices(local_devices()))
    assert num_workers > 1
    others = threading.Barrier(num_workers)
    train = calibration.Worker.train

    def together(*arguments):
        others.wait(timeout=60)  # raises where one of them is missing
        return train(*arguments)

    monkeypatch.setattr(calibration.Worker, "train", together)
    case = calibration.CASES[0]
    device, table = local_devices()[0], cost_table(CPU)
    compiling, seconds = calibration.chunk_seconds(case.rung(table, DATA), case.row, DATA, device, repeats=2)
    assert compiling > 0
    assert len(seconds) == 2
    assert min(seconds) > 0
