import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.test_store import FINALS
from tests.test_tables import result_of, table_of
from vtune.cli import main
from vtune.data import split_data
from vtune.defaults import NINE
from vtune.keys import seed_words, split_bits
from vtune.parameters import choice, integers, loguniform
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


def test_demo_varies_the_optimizer_and_all_nine_on_the_digits(search, capsys):
    assert main(["demo"]) == 0
    model, space, data = search.args
    assert (model.__name__, data) == ("MLP", None)
    assert set(space) == {"optimizer", *NINE}
    assert space["optimizer"] == choice(["momentum", "adam", "rmsprop"])
    assert space["hidden"] == integers(16, 256, log=True)
    assert space["layers"] == integers(1, 4)
    assert search.kwargs == {
        "strategy": "coarse_to_fine",
        "trials": 256,
        "epochs": 20,
        "chunk": "auto",
        "seed": 0,
        "folder": None,
        "finalists": "auto",
        "seeds_per_trial": 1,
        "patience": None,
        "time_budget": None,
        "target_score": None,
    }
    assert capsys.readouterr() == ("the summary\nheld-out accuracy 0.978\n", "")


@pytest.mark.parametrize("command", ["demo", "search"])
def test_options_reach_the_search(search, command):
    options = "--strategy random --trials 8 --epochs 3 --chunk 4 --seed 7 --folder here --finalists 2"
    options += " --seeds-per-trial 3 --patience 5 --time-budget 10m --target-score 0.9"
    assert main([command, *options.split()]) == 0
    expected = {"strategy": "random", "trials": 8, "epochs": 3, "chunk": 4, "seed": 7, "folder": "here"}
    expected |= {"finalists": 2, "seeds_per_trial": 3, "patience": 5, "time_budget": "10m", "target_score": 0.9}
    assert search.kwargs == expected | ({"optimizer": "adam", "metric": "auto"} if command == "search" else {})


def test_search_takes_the_default_space_of_its_optimizer(search):
    assert main(["search", "--optimizer", "momentum"]) == 0
    assert search.args[1:] == (default_space("momentum"), None)
    assert search.kwargs["optimizer"] == "momentum"


def test_search_takes_several_optimizers_and_an_older_search(search, tmp_path):
    assert main(["search", "--optimizer", "momentum,adam", "--start", "old"]) == 0
    assert search.args[1] == default_space(["momentum", "adam"])
    assert search.kwargs["start"] == "old"
    assert "optimizer" not in search.kwargs
    (tmp_path / "space.toml").write_text(SPACE)
    assert main(["search", "--space", str(tmp_path / "space.toml"), "--optimizer", "momentum,sgd"]) == 0
    assert search.args[1]["optimizer"] == choice(["momentum", "sgd"])


def test_an_optimizer_is_not_said_twice(search, tmp_path, capsys):
    (tmp_path / "space.toml").write_text('optimizer = { choice = ["adam", "sgd"] }\n')
    for written in ("momentum", "momentum,sgd"):
        assert main(["search", "--space", str(tmp_path / "space.toml"), "--optimizer", written]) == 2
        assert f"--optimizer {written}, and " in (told := capsys.readouterr().err)
        assert "has an optimizer as well; leave one of them out" in told


def test_the_metric_says_what_integers_are(search, tmp_path, capsys):
    table = tmp_path / "visits.csv"
    table.write_text("age,visits\n" + "".join(f"{age},{age % 3}\n" for age in range(30)))
    for metric, meaning, kind in [("auto", "3 classes", "classes"), ("mse", "a quantity", "targets")]:
        assert main(["search", "--data", str(table), "--metric", metric]) == 0
        assert f"target visits ({meaning})" in capsys.readouterr().out
        assert search.args[2].kind == kind
        assert search.kwargs["metric"] == metric


def test_search_reads_a_space_and_data(search, tmp_path):
    (tmp_path / "space.toml").write_text(SPACE)
    np.savez(tmp_path / "data.npz", x=np.ones((4, 2), np.float32), y=np.array([0, 1, 0, 1]))
    assert main(["search", "--space", str(tmp_path / "space.toml"), "--data", str(tmp_path / "data.npz")]) == 0
    _, space, (x, y) = search.args
    assert space == {"learning_rate": loguniform(1e-4, 1.0), "layers": integers(1, 4), "decay": 0.01}
    assert (x.shape, y.tolist()) == ((4, 2), [0, 1, 0, 1])


HOUSES = "rooms,price,age\n" + "".join(f"{row % 5},{row * 1e4 + 0.5},{row % 7}\n" for row in range(40))


@pytest.fixture
def houses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("houses.csv").write_text(HOUSES)


@pytest.mark.usefixtures("houses")
def test_a_table_is_standardized_and_the_command_says_so(search, capsys):
    assert main(["search", "--data", "houses.csv", "--target", "price", "--seed", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "houses.csv: target price (a quantity), 2 columns standardized"
    _, _, data = search.args
    assert (data.kind, data.inputs, data.standardize, data.columns) == ("targets", (2,), True, ("rooms", "age"))
    # the split is the one that the search would make with this seed
    x, y, _ = np.genfromtxt("houses.csv", delimiter=",", skip_header=1, dtype=np.float32).T[[0, 2, 1]]
    split = split_data((np.c_[x, y], y), partial(split_bits, seed_words(3)), kind="targets")
    np.testing.assert_array_equal(data.train[0], split.train[0])


@pytest.mark.usefixtures("houses")
def test_a_table_is_left_alone_where_told_so(search, capsys):
    assert main(["search", "--data", "houses.csv", "--no-standardize"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "houses.csv: target age (7 classes), 2 columns as they are"
    _, _, (x, y) = search.args
    assert (list(x.columns), len(y)) == (["rooms", "price"], 40)


def test_a_target_of_names_is_told_with_its_classes(search, tmp_path, capsys):
    (tmp_path / "pets.csv").write_text("weight,animal\n9,dog\n4,cat\n8,dog\n5,cat\n")
    assert main(["search", "--data", str(tmp_path / "pets.csv")]) == 0
    told = capsys.readouterr().out.splitlines()[0]
    assert told == f"{tmp_path / 'pets.csv'}: target animal (0: cat, 1: dog), 1 column standardized"


@pytest.mark.parametrize("name", ["digits", "rows.npz", "split.npz"])
def test_other_data_are_standardized_where_told_so(search, tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    x, y = np.arange(8, dtype=np.float32).reshape(4, 2), np.array([0, 1, 0, 1])
    np.savez("rows.npz", x=x, y=y)
    np.savez("split.npz", x_train=x, y_train=y, x_valid=x, y_valid=y)
    assert main(["search", "--data", name, "--standardize"]) == 0
    assert search.args[2].standardize
    assert main(["search", "--data", name, "--no-standardize"]) == 0
    assert not getattr(search.args[2], "standardize", False)
    assert capsys.readouterr().out.startswith("the summary")


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
        (["search", "--target", "price"], 'target "price": data "digits" has no columns with names'),
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
    Folder(tmp_path / "study").write(
        record, table_of(*(result_of(i, i / 100) for i in range(12))), Plans([]).table, FINALS
    )
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


@pytest.mark.long
def test_a_real_search_from_the_space_to_the_verdict(tmp_path, capsys):
    (tmp_path / "space.toml").write_text(SPACE)
    small = ["--trials", "8", "--epochs", "1", "--folder", str(tmp_path / "study")]
    assert main(["search", "--space", str(tmp_path / "space.toml"), *small]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"held-out accuracy \d\.\d{3}", out.splitlines()[-1])
    assert "round " in err
    assert main(["show", str(tmp_path / "study")]) == 0
    assert "8 trials in" in capsys.readouterr().out


@pytest.mark.usefixtures("houses")
def test_a_real_search_of_a_table(tmp_path, capsys):
    (tmp_path / "space.toml").write_text(f"{SPACE}\nbatch_size = 8")
    small = ["--trials", "4", "--epochs", "2", "--space", "space.toml", "--folder", "study"]
    assert main(["search", "--data", "houses.csv", "--target", "price", *small]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "houses.csv: target price (a quantity), 2 columns standardized",
        "Data(1 target, inputs (2,), 32 train + 8 valid rows, standardized)",
    ]
    assert re.fullmatch(r"validation mse \d\.\d+e\+\d\d", lines[-1])  # of prices up to 4e5
    assert main(["show", "study"]) == 0
    assert ", standardized)" in capsys.readouterr().out


@pytest.mark.usefixtures("houses")
def test_a_table_is_searched_on_all_cores():
    code = (
        "import vtune.searching; from vtune.cli import main; from vtune.training.devices import local_devices; "
        "vtune.searching.search = lambda *_, **__: print(len(local_devices())) or 1 / 0; "
        "main(['search', '--data', 'houses.csv'])"
    )
    environment = os.environ | {"VTUNE_CPU_DEVICES": "3", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.splitlines()[-1] == "3", done.stderr


@pytest.mark.long
@pytest.mark.usefixtures("houses")
def test_a_table_left_alone_by_its_user_is_not_warned_of(tmp_path, capsys):
    (tmp_path / "space.toml").write_text(f"{SPACE}\nbatch_size = 8")
    small = ["--trials", "2", "--epochs", "1", "--space", "space.toml", "--no-standardize"]
    assert main(["search", "--data", "houses.csv", "--target", "price", *small]) == 0
    assert "far from 1" not in capsys.readouterr().err
