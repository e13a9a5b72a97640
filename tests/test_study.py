import ast
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import nnx
from sklearn.datasets import load_digits

import vtune
from tests.laws.population import float64
from vtune.protocols import Training
from vtune.results.store import read_folder
from vtune.training.trained import trained_module
from vtune.training.worker import Worker

TRIALS, EPOCHS, ROWS, COLUMNS = 8, 3, 120, 5
_RNG = np.random.default_rng(3)
X = _RNG.normal(size=(ROWS, COLUMNS)).astype(np.float32)
TARGETS = (X[:, 0] - X[:, 1] * X[:, 2]).astype(np.float32)
LABELS = np.digitize(TARGETS + _RNG.normal(0, 0.3, ROWS), [-0.5, 0.5])
PARTS = {"train": slice(64), "valid": slice(64, 96), "test": slice(96, ROWS)}  # 32 to validate: shares are exact
SPACE = {
    "learning_rate": vtune.loguniform(1e-3, 0.3),
    "batch_size": vtune.choice([8, 16]),
    "hidden": vtune.choice([3, 6]),
    "layers": 1,
}
HUGE_RATES = vtune.loguniform(1e20, 1e25)


def data(y: np.ndarray = LABELS, x: np.ndarray = X) -> vtune.Data:
    return vtune.Data(**{part: (x[rows], y[rows]) for part, rows in PARTS.items()})


def search(**changes: Any) -> Any:
    plain = {"trials": TRIALS, "epochs": EPOCHS, "chunk": 4, "devices": 1, "progress": False, "strategy": "random"}
    arguments = {"model_fn": vtune.MLP, "space": SPACE, "data": data()} | plain | changes
    return vtune.search(**arguments)


def assert_same(study: vtune.Study, other: vtune.Study) -> None:
    pd.testing.assert_frame_equal(study.curves, other.curves, check_exact=True)
    left, right = (each.trials.drop(columns=["finished_at", "seconds"]) for each in (study, other))
    pd.testing.assert_frame_equal(left, right, check_exact=True)


class Recorder:
    """A progress that keeps what it is told, and what then lies in the folder; it may interrupt the search."""

    def __init__(self, folder: Path, interrupts: str = ""):
        self.calls: list[tuple[str, Any]] = []
        self.rows_in_folder: list[int] = []
        self._folder, self._interrupts = folder, interrupts

    def begin(self, num_trials):
        self._note("begin", num_trials)

    def say(self, line):
        self._note("say", line)

    def trials_done(self, count, num_diverged, best_score):
        self._note("trials_done", (count, num_diverged, best_score))

    def round_done(self, round, num_rounds):
        self.rows_in_folder.append(len(read_folder(self._folder).trials))
        self._note("round_done", round)

    def close(self):
        self._note("close", None)

    def _note(self, name, what):
        self.calls.append((name, what))
        if name == self._interrupts:
            raise KeyboardInterrupt

    @property
    def names(self):
        return [name for name, _ in self.calls]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("studies") / "study"


@pytest.fixture(scope="module")
def recorder(folder) -> Recorder:
    return Recorder(folder)


@pytest.fixture(scope="module")
def study(folder, recorder) -> Any:
    """Two rounds of four trials, zooming in, kept in a folder."""
    return search(strategy=vtune.strategies.coarse_to_fine(rounds=2), folder=folder, progress=recorder)


@pytest.fixture(scope="module")
def partly_diverged() -> Any:
    rates = {"learning_rate": vtune.loguniform(1e-6, 1e6)}
    with pytest.warns(UserWarning, match=r"^5 of 5 columns of x are far from 1 in size"):
        return search(space=SPACE | rates, data=data(x=X * 1e3), optimizer="sgd")


@pytest.fixture(scope="module")
def all_diverged(tmp_path_factory) -> Any:
    folder = tmp_path_factory.mktemp("diverged")
    return search(space=SPACE | {"learning_rate": HUGE_RATES}, optimizer="sgd", folder=folder)


# Tables


def test_trials_have_a_row_each_and_tell_what_the_design_lists(study):
    trials = study.trials
    assert trials.index.name == "trial_id"
    assert trials.index.tolist() == list(range(TRIALS))
    assert {name: str(dtype) for name, dtype in trials.dtypes.items()} == {
        "learning_rate": "float64",
        "batch_size": "int64",
        "hidden": "int64",
        "layers": "int64",
        "score": "float64",
        "status": "object",
        "round": "int64",
        "parent": "Int64",
        "rung": "int64",
        "budget": "int64",
        "epochs": "int64",
        "best_epoch": "int64",
        "diverged_step": "Int64",
        "finished_at": "datetime64[us, UTC]",
        "seconds": "float64",
    }
    assert trials["round"].tolist() == [0] * 4 + [1] * 4
    assert trials["parent"].isna().all()
    assert (trials["status"] == "complete").all()
    assert (trials["epochs"] == EPOCHS).all()
    assert (trials["seconds"] > 0).all()
    finished = trials.groupby("round")["finished_at"]
    assert finished.max()[0] < finished.min()[1]


def test_the_values_that_ran_lie_in_the_space(study):
    for name, parameter in study.space.parameters.items():
        assert all(value in parameter for value in study.trials[name])
    rates = study.trials["learning_rate"]
    assert (rates == rates.astype(np.float32)).all()
    assert rates.nunique() == TRIALS
    assert (study.trials["layers"] == 1).all()


def test_curves_have_a_row_for_each_epoch_of_each_trial(study):
    curves = study.curves
    assert curves.index.names == ["trial_id", "epoch"]
    assert curves.index.tolist() == [(trial, epoch) for trial in range(TRIALS) for epoch in range(1, EPOCHS + 1)]
    assert list(curves.columns) == ["train_loss", "loss", "accuracy"]
    assert np.isfinite(curves.to_numpy()).all()
    assert curves["accuracy"].xs(EPOCHS, level="epoch").tolist() == study.trials["score"].tolist()


def test_the_best_epoch_is_where_the_curve_is_best(study):
    for trial_id, curve in study.curves["accuracy"].groupby("trial_id"):
        epoch = study.trials["best_epoch"][trial_id]
        assert curve[(trial_id, epoch)] == curve.max()


def test_tables_are_copies(study):
    for view in ("trials", "curves"):
        mine = getattr(study, view)
        mine["mine"] = 1
        assert "mine" not in getattr(study, view)


def test_a_trial_tells_parameters_that_can_be_pasted(study):
    params = study.trial(3).params
    assert ast.literal_eval(repr(params)) == params
    assert list(params) == list(SPACE)
    row = study.trials.loc[3]
    assert all(row[name] == value for name, value in params.items())
    assert study.space.rows(study.space.encode([params])) == [params]


def test_a_trial_that_is_not_there(study):
    with pytest.raises(ValueError, match=r"there is no trial 8 here; write one of trials.index \(0 to 7\)"):
        study.trial(TRIALS)


# The best


def test_the_best_trial_has_the_highest_accuracy_and_then_the_lowest_loss(study):
    last = study.curves.xs(EPOCHS, level="epoch")
    best = int(last.sort_values(["accuracy", "loss"], ascending=[False, True]).index[0])
    assert study.best_params == study.trial(best).params
    assert study.best_score == study.best_value == study.trials["score"].max()
    assert study.top(3).index[0] == best
    assert study.top(3)["score"].is_monotonic_decreasing
    pd.testing.assert_frame_equal(study.trials_dataframe(), study.trials)


def test_changing_the_best_parameters_changes_no_study(study):
    study.best_params["layers"] = 9
    assert study.best_params["layers"] == 1


def share_of_hits(module: Any, part: tuple[np.ndarray, np.ndarray]) -> float:
    return float((np.argmax(np.asarray(module(part[0])), axis=-1) == part[1]).mean())


def test_the_best_model_is_a_flax_module_of_its_true_size_with_the_score_of_the_table(study):
    model = study.best_model
    assert isinstance(model, vtune.MLP)
    hidden = study.best_params["hidden"]
    shapes = jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    assert shapes == {
        "hidden_1": {"kernel": (COLUMNS, hidden), "bias": (hidden,)},
        "output": {"kernel": (hidden, 3), "bias": (3,)},
    }
    assert model(jnp.asarray(X)).shape == (ROWS, 3)
    assert share_of_hits(model, study.data.valid) == study.best_score


def test_any_trial_comes_back_at_its_true_size_with_its_score(study):
    assert study.trials["hidden"].nunique() == 2
    for trial_id in range(4):
        params = study.trial(trial_id).params
        model: Any = trained_module(study.executor, study.job, Training(study.lineages[trial_id]))
        assert model.hidden_1.kernel.shape == (COLUMNS, params["hidden"])
        assert share_of_hits(model, study.data.valid) == study.trials["score"][trial_id]


def test_the_best_model_is_trained_once(study):
    assert study.best_model is study.best_model


def test_the_test_score_is_that_of_the_best_model_on_rows_that_no_trial_saw(study):
    assert study.test_score == pytest.approx(share_of_hits(study.best_model, study.data.test), rel=1e-6)
    assert len(study.data.test[1]) == ROWS - 96


def test_without_test_rows_there_is_no_test_score():
    held = data()
    study = search(data=vtune.Data(train=held.train, valid=held.valid), trials=4)
    assert study.test_score is None


def test_best_epoch_ranks_and_replays_the_best_epoch_of_a_trial():
    space = SPACE | {"learning_rate": vtune.loguniform(0.05, 1.0)}
    study = search(select="best_epoch", space=space, epochs=8, seed=1)
    accuracy = study.curves["accuracy"]
    assert study.trials["score"].tolist() == accuracy.groupby("trial_id").max().tolist()
    best = study.trial(int(study.top(1).index[0]))
    assert best.best_epoch < 8  # or the last epoch would do as well
    assert accuracy[(best.trial_id, best.best_epoch)] == study.best_score > accuracy[(best.trial_id, 8)]
    assert share_of_hits(study.best_model, study.data.valid) == study.best_score


# What it says


def test_the_ladder_is_json_that_names_its_cells(study):
    ladder = json.loads(study.ladder)
    assert len(ladder["cells"]) == 1
    assert ladder["cells"][0]["lanes"] == 4
    assert ladder["cells"][0]["high"] == {"hidden": 6, "layers": 1}


def test_the_summary_tells_data_trials_and_the_best(study):
    text = study.summary()
    assert text.startswith("Data(3 classes, inputs (5,), 64 train + 32 valid + 24 test rows)\n8 trials in ")
    assert f"best accuracy {study.best_score:.4g}: trial {study.top(1).index[0]}, learning_rate=" in text
    assert len(text.splitlines()) == 3 + 1 + 1 + TRIALS  # facts, a gap, the headings, the trials
    assert repr(study) == text


def test_html_has_a_row_a_trial(study):
    html = study._repr_html_()
    assert html.count("<tr>") == TRIALS + 1
    assert f"<td>{study.best_score:.4g}</td>" in html


# Diverged trials


def test_diverged_trials_are_told_apart_and_rank_last(partly_diverged):
    trials = partly_diverged.trials
    is_diverged = trials["status"] == "diverged"
    assert 0 < is_diverged.sum() < TRIALS
    assert trials["score"].isna().tolist() == is_diverged.tolist()
    assert (trials["epochs"][is_diverged] < EPOCHS).all()
    assert (trials["epochs"][~is_diverged] == EPOCHS).all()
    assert set(trials["status"][~is_diverged]) == {"complete"}
    num_finite = int((~is_diverged).sum())
    assert partly_diverged.top(TRIALS).index[num_finite:].tolist() == trials.index[is_diverged].tolist()
    assert partly_diverged.best_score == trials["score"].max()
    steps = [partly_diverged.trial(trial_id).diverged_step for trial_id in trials.index]
    assert [step is not None and step >= 0 for step in steps] == is_diverged.tolist()
    assert trials["learning_rate"][~is_diverged].max() < trials["learning_rate"][is_diverged].min()


def test_the_neighbours_of_diverged_trials_are_fine(partly_diverged):
    curves = partly_diverged.curves
    assert np.isfinite(curves.to_numpy()).all()
    lengths = curves.groupby("trial_id").size().reindex(range(TRIALS), fill_value=0)
    assert lengths.tolist() == partly_diverged.trials["epochs"].tolist()
    assert share_of_hits(partly_diverged.best_model, partly_diverged.data.valid) == partly_diverged.best_score


@pytest.mark.parametrize("name", ["best_params", "best_score", "best_value", "best_model", "test_score"])
def test_where_all_diverged_none_is_the_best(all_diverged, name):
    with pytest.raises(
        ValueError, match=r"^none of 8 trials has a finite score \(8 diverged\).*; lower the upper bound"
    ):
        getattr(all_diverged, name)


def test_where_all_diverged_the_trials_are_there(all_diverged):
    assert all_diverged.trials["status"].tolist() == ["diverged"] * TRIALS
    assert all_diverged.trials["score"].isna().all()
    assert all_diverged.trials["best_epoch"].tolist() == [0] * TRIALS
    assert "8 diverged\nno trial has a finite score yet" in all_diverged.summary()
    assert all_diverged._repr_html_().count("<tr>") == TRIALS + 1
    assert all_diverged.trial(2).params["learning_rate"] >= 1e20
    held = read_folder(all_diverged.folder.path)
    record, trials = held.record, held.trials
    assert (record["metric"], trials["status"].tolist()) == ("accuracy", ["diverged"] * TRIALS)


# Folder and progress


def test_the_folder_is_written_after_each_round(study, recorder):
    assert recorder.rows_in_folder == [4, 8]


def test_the_folder_tells_what_the_study_tells(study, folder):
    held = read_folder(folder)
    record, trials, curves = held.record, held.trials, held.curves
    assert trials.index.tolist() == study.top(TRIALS).index.tolist()
    pd.testing.assert_frame_equal(trials.sort_index(), study.trials, check_dtype=False, rtol=1e-15)
    pd.testing.assert_frame_equal(curves.xs(0, level="seed").sort_index(), study.curves, rtol=1e-15)
    assert record["strategy"] == "coarse_to_fine(rounds=2, keep=None, exploration=0.125)"
    told = {name: record[name] for name in ("trials", "epochs", "optimizer", "seed", "metric", "data")}
    assert told == {
        "trials": TRIALS,
        "epochs": EPOCHS,
        "optimizer": "adam",
        "seed": 0,
        "metric": "accuracy",
        "data": repr(study.data),
    }
    assert record["ladder"] == json.loads(study.ladder)
    assert "learning_rate  loguniform(0.001, 0.3)" in record["space"]
    assert record["seconds"] == study.seconds > 0


def test_progress_is_told_in_order(study, recorder):
    assert recorder.names == ["say", "begin", *["trials_done", "round_done"] * 2, "close"]
    told = dict(enumerate(what for _, what in recorder.calls))
    assert told[0].startswith("plan: 1 rung, chunks of 4 trials, on 1 cpu device;")
    assert told[1] == TRIALS
    assert (told[2], told[4]) == ((4, 0, study.trials["score"][:4].max()), (4, 0, study.best_score))
    assert (told[3], told[5]) == (0, 1)


def test_progress_is_told_of_diverged_trials(tmp_path):
    recorder = Recorder(tmp_path)
    search(space=SPACE | {"learning_rate": HUGE_RATES}, optimizer="sgd", folder=tmp_path, progress=recorder)
    assert [what for name, what in recorder.calls if name == "trials_done"] == [(4, 4, None)] * 2


@pytest.mark.parametrize(
    ("interrupts", "names"),
    [("trials_done", ["say", "begin", "trials_done", "close"]), ("begin", ["say", "begin", "close"])],
)
def test_ctrl_c_keeps_what_was_trained(tmp_path, interrupts, names):
    recorder = Recorder(tmp_path, interrupts)
    with pytest.raises(KeyboardInterrupt):
        search(folder=tmp_path, progress=recorder)
    assert recorder.names == names
    if interrupts == "begin":
        assert list(tmp_path.iterdir()) == []
        return
    held = read_folder(tmp_path)
    record, trials, curves = held.record, held.trials, held.curves
    assert record["trials"] == TRIALS
    whole = search()
    by_batch_size = whole.trials.sort_values("batch_size", ascending=False, kind="stable").index.tolist()
    assert sorted(trials.index) == sorted(by_batch_size[:4])  # one chunk of the two
    for name in ("learning_rate", "score"):
        np.testing.assert_allclose(trials[name], whole.trials[name][trials.index], rtol=1e-15)
    assert len(curves) == 4 * EPOCHS


def test_ctrl_c_between_rounds_keeps_the_round(tmp_path):
    recorder = Recorder(tmp_path, "round_done")
    with pytest.raises(KeyboardInterrupt):
        search(strategy=vtune.strategies.coarse_to_fine(rounds=2), folder=tmp_path, progress=recorder)
    assert recorder.names == ["say", "begin", "trials_done", "round_done", "close"]
    assert sorted(read_folder(tmp_path).trials.index) == [0, 1, 2, 3]


def test_an_error_of_a_worker_reaches_the_caller(tmp_path, monkeypatch):
    trained = []

    def train(self, chunk, is_stopped):
        if trained:
            raise RuntimeError("the device is gone")
        trained.append(chunk)
        return whole(self, chunk, is_stopped)

    whole = Worker.train
    monkeypatch.setattr(Worker, "train", train)
    with pytest.raises(RuntimeError, match="the device is gone"):
        search(folder=tmp_path)
    assert sorted(read_folder(tmp_path).trials.index) == sorted(training.trial_id for training in trained[0].trainings)


# The same again, and otherwise


def test_the_same_seed_gives_the_same_bits(study):
    assert_same(search(strategy=vtune.strategies.coarse_to_fine(rounds=2)), study)


def test_another_seed_gives_other_trials(study):
    other = search(strategy=vtune.strategies.coarse_to_fine(rounds=2), seed=1)
    assert set(other.trials["learning_rate"]).isdisjoint(study.trials["learning_rate"])
    assert not np.isclose(other.curves["loss"].iloc[::EPOCHS], study.curves["loss"].iloc[::EPOCHS]).any()


def test_a_strategy_by_name_is_the_one_by_call(study):
    assert_same(search(strategy="random"), search(strategy=vtune.strategies.random()))
    later = search(strategy="random").trials["learning_rate"][4:]
    assert later.tolist() != study.trials["learning_rate"][4:].tolist()  # where that one zoomed in


def test_a_grid_may_try_fewer_trials_than_asked():
    study = search(strategy="grid", trials=9)
    assert study.trials["learning_rate"].nunique() == 2
    assert sorted(zip(*(study.trials[name] for name in ("hidden", "batch_size")), strict=True)) == [
        *[(3, 8)] * 2,
        *[(3, 16)] * 2,
        *[(6, 8)] * 2,
        *[(6, 16)] * 2,
    ]
    assert len(study.trials) == 8


@pytest.mark.parametrize(
    ("optimizer", "own"),
    [
        ("momentum", {"momentum": vtune.reverse_loguniform(0.5, 0.99)}),
        ("rmsprop", {"momentum": 0.5, "epsilon": vtune.loguniform(1e-8, 1e-4)}),
        ("sgd", {}),
    ],
)
def test_other_optimizers_learn(optimizer, own):
    study = search(space=SPACE | own, optimizer=optimizer)
    assert (study.trials["status"] == "complete").all()
    assert set(own) < set(study.trials.columns)
    losses = study.curves["train_loss"].unstack()
    assert losses.loc[study.top(1).index[0]].is_monotonic_decreasing
    assert share_of_hits(study.best_model, study.data.valid) == study.best_score


def closeness(outputs, y):
    return jnp.exp(-jnp.abs(outputs - y)).mean(axis=-1)


def huber(outputs, y):
    return jnp.minimum(jnp.abs(outputs - y), (outputs - y) ** 2).mean(axis=-1)


closeness.__name__ = "a<b"


def test_losses_and_metrics_may_be_functions():
    study = search(data=data(TARGETS), loss=huber, metric=closeness, direction="maximize")
    scores = study.trials["score"]
    assert study.metric == "a<b"
    assert list(study.curves.columns) == ["train_loss", "loss", "a<b"]
    assert study.best_params == study.trial(int(scores.idxmax())).params
    assert scores.nunique() == TRIALS
    (x, y), (x_test, y_test) = study.data.valid, study.data.test
    predicted, predicted_test = (np.asarray(study.best_model(rows)) for rows in (x, x_test))
    assert study.best_score == pytest.approx(np.exp(-np.abs(predicted - y)).mean(), rel=1e-5)
    assert study.test_score == pytest.approx(np.exp(-np.abs(predicted_test - y_test)).mean(), rel=1e-5)
    residuals = np.abs(predicted - y)
    assert study.table.best.loss == pytest.approx(np.minimum(residuals, residuals**2).mean(), rel=1e-5)
    assert "<th>a&lt;b</th>" in study._repr_html_()


def test_the_loss_itself_may_rank():
    study = search(metric="loss")
    assert list(study.curves.columns) == ["train_loss", "loss"]
    assert study.best_score == study.trials["score"].min() < study.trials["score"].max()
    logits = np.asarray(study.best_model(study.data.valid[0]), np.float64)
    log_sums = np.log(np.exp(logits).sum(axis=-1))
    expected = (log_sums - np.take_along_axis(logits, study.data.valid[1][:, None], 1)[:, 0]).mean()
    assert study.best_score == pytest.approx(expected, rel=1e-5)
    assert math.isfinite(study.test_score or math.nan)


SMALL = {"learning_rate": vtune.loguniform(1e-3, 1e-2), "hidden": 8, "layers": 1, "batch_size": 32}
WIDTH = 4


def test_a_search_in_x64_mode_of_this_thread_alone_trains_in_float64():
    with float64():
        study = vtune.search(vtune.MLP, SMALL, digits_of(200), trials=2, epochs=2, devices=2, progress=False)
        again = vtune.search(vtune.MLP, SMALL, digits_of(200), trials=2, epochs=2, devices=2, progress=False)
        assert study.data.dtype == np.float64
        weights = jax.tree.leaves(nnx.state(study.best_model, nnx.Param))
        assert {weight.dtype for weight in weights} == {np.dtype(np.float64)}
    losses = study.curves["loss"].to_numpy()
    np.testing.assert_array_equal(losses, again.curves["loss"].to_numpy())
    assert (losses != losses.astype(np.float32)).any()


@pytest.mark.long
def test_a_model_that_reads_a_global_is_trained_as_it_is_now(monkeypatch):
    widths = []
    for width in (4, 6):
        monkeypatch.setattr(sys.modules[__name__], "WIDTH", width)
        study = vtune.search(
            model_of_a_global,
            {"learning_rate": SMALL["learning_rate"]},
            digits_of(100),
            trials=2,
            epochs=1,
            progress=False,
        )
        widths.append(study.best_model.first.kernel.shape[-1])
    assert widths == [4, 6]


def model_of_a_global(hparams, rngs, shapes):
    class Net(nnx.Module):
        def __init__(self):
            self.first = nnx.Linear(64, WIDTH, rngs=rngs)
            self.last = nnx.Linear(WIDTH, shapes.outputs, rngs=rngs)

        def __call__(self, x):
            return self.last(self.first(x))

    return Net()


@pytest.mark.long
def test_numpy_counts_are_counts(tmp_path):
    # in a process of its own: the signature checks of the test run take a NumPy integer for no int
    code = (
        "import numpy as np, vtune; n = np.int64; "
        "space = {'learning_rate': vtune.loguniform(1e-3, 1e-2), 'hidden': 8}; "
        "counts = dict(trials=n(2), epochs=n(1), seed=n(3), chunk=n(2), finalists=n(1)); "
        "study = vtune.search(vtune.MLP, space, **counts, folder=" + repr(str(tmp_path / "a")) + "); "
        "assert len(study.trials) == 2 and all(cell.lanes == 2 for cell in study.job.ladder.cells)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_more_epochs_than_one_call_holds():
    study = vtune.search(vtune.MLP, SMALL, digits_of(100), trials=2, epochs=70, progress=False)
    assert study.curves.groupby("trial_id").size().tolist() == [70, 70]
    assert study.curves["loss"].notna().all()
    xs = study.best_model(study.data.valid[0])
    assert (np.argmax(xs, -1) == study.data.valid[1]).mean() == pytest.approx(study.best_score, abs=1e-6)


def digits_of(count):
    x, y = load_digits(return_X_y=True)
    return (x[:count] / 16).astype(jax.dtypes.canonicalize_dtype(np.float64)), y[:count]


def test_the_summary_says_where_the_best_lies_near_a_bound():
    space = SMALL | {"learning_rate": vtune.loguniform(1e-9, 1e-2)}
    study = vtune.search(vtune.MLP, space, digits_of(200), trials=24, epochs=2, strategy="random", progress=False)
    place = study.space.encode([study.best_params])[0, 0]
    says_so = "the best learning_rate lies within 2 % of the upper bound of loguniform" in study.summary()
    assert says_so == (place > 0.98)
    study.table.add(
        [study.table.best._replace(trial_id=99, params=study.best_params | {"learning_rate": 0.0099999}, score=1.0)]
    )
    assert "the best learning_rate lies within 2 % of the upper bound of loguniform" in study.summary()
