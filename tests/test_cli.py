import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.test_tables import result_of, table_of
from vtune.cli import main
from vtune.parameters import integers, loguniform
from vtune.results.plans import Plans
from vtune.results.store import Folder
from vtune.space import default_space

ROOT = Path(__file__).parent.parent
SPACE = "learning_rate = { loguniform = [1e-4, 1.0] }\nlayers = { integers = [1, 4] }\ndecay = 0.01"


def study_of(**changes: Any) -> SimpleNamespace:
    study = {"summary": lambda: "the summary", "metric": "accuracy", "best_score": 0.98888, "test_score": 0.97777}
    return SimpleNamespace(**study | changes)


class Search:
    """Stands in for ``vtune.searching.search``: keeps how it was called, returns or raises what it was given."""

    def __init__(self):
        self.outcome: SimpleNamespace | BaseException = study_of()

    def __call__(self, *args: Any, **kwargs: Any) -> SimpleNamespace:
        self.args, self.kwargs = args, kwargs
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def search(monkeypatch):
    module, search = ModuleType("vtune.searching"), Search()
    module.search = search  # pyright: ignore[reportAttributeAccessIssue]  (a stand-in)
    monkeypatch.setitem(sys.modules, "vtune.searching", module)
    return search


def test_demo_varies_eight_hyperparameters_on_the_digits(search, capsys):
    assert main(["demo"]) == 0
    model, space, data = search.args
    assert (model.__name__, data) == ("MLP", None)
    assert sorted(space) == sorted(
        ["learning_rate", "beta1", "beta2", "epsilon", "decay", "batch_size", "hidden", "layers"]
    )
    assert space["hidden"] == integers(16, 256, log=True)
    assert space["layers"] == integers(1, 4)
    assert search.kwargs == {
        "optimizer": "adam",
        "strategy": "coarse_to_fine",
        "trials": 256,
        "epochs": 20,
        "chunk": "auto",
        "seed": 0,
        "folder": None,
    }
    assert capsys.readouterr() == ("the summary\nheld-out accuracy 0.978\n", "")


@pytest.mark.parametrize("command", ["demo", "search"])
def test_options_reach_the_search(search, command):
    options = "--strategy random --trials 8 --epochs 3 --chunk 4 --seed 7 --folder here"
    assert main([command, *options.split()]) == 0
    expected = {"strategy": "random", "trials": 8, "epochs": 3, "chunk": 4, "seed": 7, "folder": "here"}
    assert search.kwargs == expected | {"optimizer": "adam"}


def test_search_takes_the_default_space_of_its_optimizer(search):
    assert main(["search", "--optimizer", "momentum"]) == 0
    assert search.args[1:] == (default_space("momentum"), None)
    assert search.kwargs["optimizer"] == "momentum"


def test_search_reads_a_space_and_data(search, tmp_path):
    (tmp_path / "space.toml").write_text(SPACE)
    np.savez(tmp_path / "data.npz", x=np.ones((4, 2), np.float32), y=np.array([0, 1, 0, 1]))
    assert main(["search", "--space", str(tmp_path / "space.toml"), "--data", str(tmp_path / "data.npz")]) == 0
    _, space, (x, y) = search.args
    assert space == {"learning_rate": loguniform(1e-4, 1.0), "layers": integers(1, 4), "decay": 0.01}
    assert (x.shape, y.tolist()) == ((4, 2), [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "held-out accuracy 0.978"),
        ({"test_score": 1.0}, "held-out accuracy 1.000"),
        ({"test_score": None}, "validation accuracy 0.989"),
        ({"metric": "mse", "test_score": 0.000123456}, "held-out mse 0.0001235"),
        ({"metric": "mse", "best_score": 12345.6, "test_score": None}, "validation mse 1.235e+04"),
    ],
)
def test_the_last_line_is_the_verdict(search, capsys, changes, line):
    search.outcome = study_of(**changes)
    assert main(["search"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == line


@pytest.mark.parametrize("kind", [ValueError, TypeError, PermissionError])
def test_mistakes_of_the_user_are_told_without_a_traceback(search, capsys, kind):
    search.outcome = kind("trials=0 tries nothing; write trials=256")
    assert main(["search"]) == 2
    assert capsys.readouterr() == ("", "vtune: error: trials=0 tries nothing; write trials=256\n")


def test_mistakes_of_vtune_keep_their_traceback(search):
    search.outcome = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        main(["search"])


def test_ctrl_c(search, capsys):
    search.outcome = KeyboardInterrupt()
    assert main(["demo"]) == 130
    assert capsys.readouterr() == ("", "vtune: interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["search", "--data", "digitz"], 'data "digitz" is no name or file'),
        (["search", "--space", "no.toml"], 'space "no.toml": there is no such file'),
        (["search", "--optimizer", "adm"], "did you mean 'adam'?"),
        (["show", "nowhere"], 'folder "nowhere" is not there'),
    ],
)
def test_files_and_names_that_do_not_exist(search, capsys, arguments, problem):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vtune: error: ")
    assert problem in err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "COMMAND"),
        (["tune"], "invalid choice"),
        (["show"], "FOLDER"),
        (["demo", "--trials", "many"], "invalid int value"),
        (["demo", "--chunk", "big"], "'big' is no number of trials; write one such as 64, or auto"),
    ],
)
def test_arguments_that_make_no_command(capsys, arguments, problem):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version(capsys, option):
    with pytest.raises(SystemExit) as stop:
        main([option])
    assert stop.value.code == 0
    assert "vtune" in capsys.readouterr().out


@pytest.fixture
def folder(tmp_path):
    record = {"data": "Data(10 classes)", "metric": "accuracy", "seconds": 1.5}
    Folder(tmp_path / "study").write(record, table_of(*(result_of(i, i / 100) for i in range(12))), Plans([]).table)
    return str(tmp_path / "study")


def test_show_prints_the_summary_of_a_folder(folder, capsys):
    assert main(["show", folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "Data(10 classes)",
        "12 trials in 1.5 s: 12 complete",
        "best accuracy 0.11: trial 11, learning_rate=0.01, layers=2",
    ]
    assert [line.split()[0] for line in lines[5:]] == [str(trial_id) for trial_id in range(11, 1, -1)]


def test_a_real_search_from_the_space_to_the_verdict(tmp_path, capsys):
    (tmp_path / "space.toml").write_text(SPACE)
    small = ["--trials", "8", "--epochs", "1", "--folder", str(tmp_path / "study")]
    assert main(["search", "--space", str(tmp_path / "space.toml"), *small]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"held-out accuracy \d\.\d{3}", out.splitlines()[-1])
    assert "round " in err
    assert main(["show", str(tmp_path / "study")]) == 0
    assert "8 trials in" in capsys.readouterr().out
