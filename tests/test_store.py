import json
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.test_tables import result_of, table_of
from vtune.protocols import Plan
from vtune.results.plans import Plans
from vtune.results.store import Folder, read_folder

RECORD = {"data": "digits", "metric": "accuracy", "seconds": 1.5, "space": {"layers": "integers(1, 4)"}, "seed": 0}


PLANS = Plans(["layers"]).table
FINALS = {(1, 1, 5): 0.5, (1, 2, 5): math.nan, (1, 1, 20): 0.75}


def whole(path):
    held = read_folder(path)
    return held.record, held.trials, held.curves, held.plans


def table():
    return table_of(
        result_of(0, 0.1, parent=None, params={"learning_rate": 0.1 + 0.2, "layers": 3}),
        result_of(1, 0.9, parent=0, params={"learning_rate": 1e-8, "layers": 4}),
        result_of(2, math.nan),
    )


def test_a_study_comes_back_as_it_was_written(tmp_path):
    given = table()
    Folder(tmp_path / "study").write(RECORD, given, PLANS, FINALS)
    record, trials, curves, _ = whole(tmp_path / "study")
    assert record == RECORD
    np.testing.assert_equal(read_folder(tmp_path / "study").final_scores, FINALS)
    pd.testing.assert_frame_equal(trials.sort_index(), given.trials, check_dtype=False, rtol=1e-15)
    pd.testing.assert_frame_equal(curves, given.seed_curves, rtol=1e-15)


def test_trials_stand_best_first(tmp_path):
    Folder(tmp_path).write(RECORD, table(), PLANS, FINALS)
    assert read_folder(tmp_path).trials.index.tolist() == [1, 0, 2]


def test_strings_that_look_like_gaps_are_kept(tmp_path):
    values = ["None", "NA", 'a,"b"\nc', "<b>"]
    results = [result_of(i, params={"x": value}) for i, value in enumerate(values)]
    Folder(tmp_path).write(RECORD, table_of(*results, names=("x",)), PLANS, FINALS)
    assert read_folder(tmp_path).trials["x"].tolist() == values


def test_a_study_without_trials_can_be_written(tmp_path):
    Folder(tmp_path).write(RECORD, table_of(), PLANS, FINALS)
    record, trials, curves, _ = whole(tmp_path)
    assert (record, len(trials), len(curves)) == (RECORD, 0, 0)


def test_writing_again_replaces_the_files_and_leaves_no_others(tmp_path):
    folder = Folder(tmp_path)
    folder.write(RECORD, table_of(result_of(0)), PLANS, FINALS)
    folder.write(RECORD | {"seconds": 3.0}, table(), PLANS, FINALS)
    record, trials, *_ = whole(tmp_path)
    assert (record["seconds"], len(trials)) == (3.0, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "curves.csv",
        "finalists.csv",
        "plans.csv",
        "study.json",
        "trials.csv",
    ]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    folder.write(RECORD, table_of(result_of(0)), PLANS, FINALS)

    def to_half_a_csv(self, path):
        path.write_text("trial_id,lay")
        raise OSError("No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", to_half_a_csv)
    with pytest.raises(OSError, match="No space left"):
        folder.write(RECORD, table(), PLANS, FINALS)
    assert len(read_folder(tmp_path).trials) == 1


def test_a_record_that_json_cannot_hold_is_refused_before_any_file_is_written(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        Folder(tmp_path).write({"space": object()}, table(), PLANS, FINALS)
    assert list(tmp_path.iterdir()) == []


def test_parents_are_made_and_nothing_is_left_of_the_check(tmp_path):
    folder = Folder(str(tmp_path / "a" / "b"))
    assert folder.path == tmp_path / "a" / "b"
    assert list(folder.path.iterdir()) == []


def test_a_relative_path_survives_a_change_of_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Folder("study")
    monkeypatch.chdir(os.path.dirname(tmp_path))
    folder.write(RECORD, table(), PLANS, FINALS)
    assert (tmp_path / "study" / "study.json").exists()


@pytest.mark.parametrize("name", ["trials.csv", "curves.csv", "plans.csv", "finalists.csv"])
def test_a_folder_with_tables_of_something_else_is_not_overwritten(tmp_path, name):
    first = tmp_path / "study"
    (tmp_path / "study-2").mkdir()
    first.mkdir()
    (first / name).write_text("precious")
    with pytest.raises(FileExistsError, match=rf"study.* holds a {name} but no study.json.* such as .*study-3"):
        Folder(first)
    assert (first / name).read_text() == "precious"


def test_other_files_are_welcome(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    Folder(tmp_path).write(RECORD, table(), PLANS, FINALS)
    assert (tmp_path / "notes.txt").read_text() == "hello"


def test_a_folder_below_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"file/study.* cannot be made \(Not a directory\); write one"):
        Folder(tmp_path / "file" / "study")
    with pytest.raises(FileExistsError, match=r"file.* cannot be made \(File exists\); write one"):
        Folder(tmp_path / "file")


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(PermissionError, match=r"cannot be written to \(Permission denied\); write one that you own"):
        Folder(tmp_path)


def test_reading_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.* is not there"):
        read_folder(tmp_path / "nowhere")


def test_reading_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match=r"holds no study\.json, so no search"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is no JSON"),
        ("[]", "not in the format"),
        ("{}", "not in the format"),
        (json.dumps({"format": "vtune study 99"}), "not in the format"),
    ],
)
def test_reading_the_folder_of_something_else(tmp_path, text, problem):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(ValueError, match=rf"study\.json .*{problem}"):
        read_folder(tmp_path)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text(""), lambda path: path.write_text("a,b")])
@pytest.mark.parametrize("name", ["trials.csv", "curves.csv", "plans.csv", "finalists.csv"])
def test_reading_a_damaged_table(tmp_path, name, damage):
    Folder(tmp_path).write(RECORD, table(), PLANS, FINALS)
    damage(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} cannot be read as a table"):
        read_folder(tmp_path)


def test_plans_come_back_in_the_shape_of_what_is_asked_for_now():
    points = np.array([[0.1, np.nan], [1 / 3, 0.7], [0.0, 0.0]], np.float32)
    plan = Plan(np.array([4, 5, -1]), np.array([-1, 2, -1]), points, np.array([5, 5, 5]), np.array([True, True, False]))
    plans = Plans(["a", "b"])
    plans.add(plan)
    wider = Plan(*(np.concatenate([column, column[-1:]]) for column in plan))
    wider = wider._replace(trial_id=np.array([4, 5, 6, 7]), active=np.ones(4, bool))
    for kept in (plans, Plans(["a", "b"], plans.table)):
        again = kept.plan(0, wider)
        np.testing.assert_array_equal(again.points[:2], points[:2])
        assert again.points.dtype == np.float32
        assert again.active.tolist() == [True, True, False, False]
        assert (again.trial_id[:2].tolist(), again.parent[:2].tolist()) == ([4, 5], [-1, 2])


def test_plans_come_back_from_the_folder_bit_for_bit(tmp_path):
    points = np.random.default_rng(0).random((50, 1)).astype(np.float32)
    lanes = np.arange(50)
    plan = Plan(lanes, np.full(50, -1), points, np.full(50, 3), lanes < 49)
    plans = Plans(["layers"])
    plans.add(plan)
    Folder(tmp_path).write(RECORD, table(), plans.table, FINALS)
    again = Plans(["layers"], read_folder(tmp_path).plans).plan(0, plan)
    np.testing.assert_array_equal(again.points, points)
    assert again.active.tolist() == plan.active.tolist()
