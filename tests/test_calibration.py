"""A cost table of one's own: fitted to what was measured, kept in a file, and good for the plans it is given to."""

import json

import numpy as np
import pytest

import vtune
from vtune import calibration
from vtune.calibration import CASES, Timing, fit
from vtune.cli import main
from vtune.data import Data
from vtune.training.cost import VERSION, CostTable, cost_table
from vtune.training.devices import DeviceKind
from vtune.training.measured import MeasuredTable, read_table, write_table

CPU = DeviceKind("cpu", "cpu")
TABLE = cost_table(CPU)._replace(
    flops_per_second=5e10, seconds_per_unit=1e-9, seconds_per_weight=3e-9, seconds_per_step=2e-9, compile_seconds=40.0
)
SPACE = {"learning_rate": vtune.loguniform(1e-3, 1e-1), "hidden": vtune.integers(8, 64), "layers": vtune.integers(1, 3)}


def test_a_table_is_found_again_in_what_it_predicts():
    data, noise = Data.of(None), np.random.default_rng(0).uniform(0.95, 1.05, len(CASES))
    exact = [Timing(case, 40.0, case.expected(TABLE, data)) for case in CASES]
    found = fit(exact, cost_table(CPU), data, peak=1e12)
    assert found.compile_seconds == 40.0
    np.testing.assert_allclose(found[:5], TABLE[:5], rtol=1e-3)
    assert found[6:] == TABLE[6:]
    noisy = [timing._replace(turn_seconds=timing.turn_seconds * one) for timing, one in zip(exact, noise, strict=True)]
    found = fit(noisy, cost_table(CPU), data, peak=1e12)
    assert min(found[:5]) >= 0
    for timing in exact:
        assert timing.case.expected(found, data) == pytest.approx(timing.turn_seconds, rel=0.1)


def test_no_product_is_taken_to_be_faster_than_the_peak():
    data = Data.of(None)
    timings = [Timing(case, 1.0, case.expected(TABLE, data)) for case in CASES]
    assert fit(timings, cost_table(CPU), data, peak=1e9).flops_per_second <= 1e9 * (1 + 1e-6)


def test_a_plan_by_a_table_of_ones_own_says_so_and_a_search_takes_it(tmp_path):
    file = tmp_path / "own.json"
    write_table(file, MeasuredTable(TABLE, "cpu"))
    assert read_table(file) == MeasuredTable(TABLE, "cpu")
    wide = {**SPACE, "hidden": vtune.integers(8, 256)}
    shipped, own = (vtune.plan(vtune.MLP, wide, cost_table=table, trials=500) for table in (None, str(file)))
    assert own.rungs["compile_seconds"].tolist() == [40.0] * len(own.rungs)
    assert "by a cost table of your own" in own.why
    assert own.programs < shipped.programs
    assert json.loads(shipped.ladder)["version"] == VERSION
    assert (version := json.loads(own.ladder)["version"]) == MeasuredTable(TABLE, "cpu").version < 0
    assert MeasuredTable(TABLE._replace(min_lanes=1), "cpu").version != version
    study = vtune.search(vtune.MLP, wide, trials=2, epochs=1, ladder=own.ladder, progress=False)
    assert study.ladder == own.ladder


def test_a_table_of_other_devices_is_warned_of(tmp_path):
    write_table(tmp_path / "own.json", MeasuredTable(TABLE, "a large one"))
    with pytest.warns(UserWarning, match="was measured on 'a large one', and this device is 'cpu'"):
        vtune.plan(vtune.MLP, SPACE, cost_table=tmp_path / "own.json", trials=8)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (None, "there is no such file"),
        ("width,layers", "is no cost table"),
        ("[1, 2]", "is no cost table"),
        ("{}", "is no cost table"),
        (json.dumps({"device": "cpu", **TABLE._asdict(), "flops_per_second": "fast"}), "flops_per_second='fast'"),
        (json.dumps({"device": "cpu", **TABLE._asdict(), "seconds_per_unit": -1.0}), "seconds_per_unit=-1.0"),
        (json.dumps({"device": "cpu", **TABLE._asdict(), "compile_seconds": 0}), "compile_seconds are above 0"),
        (json.dumps({"device": "cpu", **TABLE._asdict(), "min_lanes": 0}), "min_lanes=0"),
        (json.dumps({"device": "cpu", **TABLE._asdict(), "copies_rows": 1}), "copies_rows=1"),
        (json.dumps({"device": "cpu", **TABLE._asdict(), "more": 1}), "more"),
    ],
)
def test_a_file_that_is_no_cost_table_is_refused(tmp_path, written, problem):
    file = tmp_path / "own.json"
    if written is not None:
        file.write_text(written)
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
    monkeypatch.setattr(calibration, "_REPEATS", 2)
    file = tmp_path / "own.json"
    assert main(["bench", "--calibrate", str(file)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8
    assert isinstance(read_table(file).table, CostTable)
    monkeypatch.setattr(calibration, "CASES", CASES[:1])
    monkeypatch.setattr(calibration, "fit", lambda timings, base, *_: base._replace(seconds_per_turn=1.0))
    assert main(["bench", "--calibrate", str(tmp_path / "bad.json")]) == 2
    assert "no table fits" in capsys.readouterr().err
    assert not (tmp_path / "bad.json").exists()
