"""Law Replay: a search that is stopped anywhere and started again is the search that was never stopped."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import vtune
from tests import user_models
from tests.compilations import Compilations
from tests.laws.population import digits
from vtune.progress import Silent
from vtune.results.store import read_folder
from vtune.strategies import coarse_to_fine, grid, random

SPACE = {
    "optimizer": vtune.choice(["momentum", "adam"]),
    "learning_rate": vtune.loguniform(1e-3, 1e25),  # some diverge
    "momentum": vtune.reverse_loguniform(0.5, 0.99),
    "batch_size": vtune.choice([32, 64]),
    "hidden": vtune.per_layer(vtune.choice([4, 8])),
    "layers": vtune.integers(1, 2),
}
ROUNDS = coarse_to_fine(rounds=3)
OF_MY_OWN = {
    "model_fn": user_models.Leaky,
    "space": {"learning_rate": vtune.loguniform(1e-3, 1e-1), "slope": vtune.uniform(0.0, 0.3), "scale": 1.0},
    "strategy": random(),  # one round: nothing but the clock saves before its end
}
ROOT = Path(__file__).parent.parent.parent


def search(**changes: Any) -> vtune.Study:
    plain = {"trials": 18, "epochs": 2, "chunk": 2, "devices": 1, "progress": False, "strategy": ROUNDS}
    arguments = {"model_fn": vtune.MLP, "space": SPACE, "data": digits(96, 50)} | plain | changes
    return vtune.search(**arguments)


class Stops(Silent):
    """Interrupts a search after so many trials."""

    def __init__(self, after: int):
        self._left = after

    def trials_done(self, count, num_diverged, best_score):
        self._left -= count
        if self._left <= 0:
            raise KeyboardInterrupt


def assert_same(study: vtune.Study, truth: vtune.Study) -> None:
    pd.testing.assert_frame_equal(study.curves, truth.curves, check_exact=True)
    left, right = (each.trials.drop(columns=["finished_at", "seconds"]) for each in (study, truth))
    pd.testing.assert_frame_equal(left, right, check_exact=True)
    assert study.top(1).index[0] == truth.top(1).index[0]
    assert study.ladder == truth.ladder
    for trial_id in truth.trials.index:
        assert study.trial(trial_id).params == truth.trial(trial_id).params
        assert study.trial(trial_id).diverged_step == truth.trial(trial_id).diverged_step


@pytest.fixture(scope="module")
def truth():
    study = search()
    assert {"complete", "diverged"} == set(study.trials["status"])
    return study


@pytest.mark.parametrize("after", [1, 5, 6, 7, 13, 18])
@pytest.mark.parametrize("devices", [1, 3])
def test_stopped_and_started_again_it_is_the_search_that_was_never_stopped(tmp_path, truth, after, devices):
    with pytest.raises(KeyboardInterrupt):
        search(folder=tmp_path, progress=Stops(after))
    held = len(read_folder(tmp_path).trials)
    assert after <= held < 19
    assert_same(search(folder=tmp_path, devices=devices), truth)


def test_stopped_again_and_again(tmp_path, truth):
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            search(folder=tmp_path, progress=Stops(len_of(tmp_path) + 4))
    assert_same(search(folder=tmp_path), truth)


def len_of(folder):
    return len(read_folder(folder).trials) if (folder / "study.json").exists() else 0


def test_a_search_that_is_done_is_read_and_trains_nothing(tmp_path, truth, monkeypatch):
    first = search(folder=tmp_path)
    assert_same(first, truth)
    files = {path: path.read_bytes() for path in tmp_path.iterdir() if path.name != "study.json"}
    monkeypatch.setattr("vtune.training.worker.Worker.train", lambda *_: pytest.fail("it trains"))
    again = search(folder=tmp_path)
    assert_same(again, truth)
    assert {path: path.read_bytes() for path in files} == files
    assert again.seconds >= first.seconds
    assert (again.trials["finished_at"] == first.trials["finished_at"]).all()


def test_its_best_model_is_the_same(tmp_path, truth):
    search(folder=tmp_path)
    x = truth.data.valid[0]
    np.testing.assert_array_equal(search(folder=tmp_path).best_model(x), truth.best_model(x))


@pytest.mark.long
@pytest.mark.parametrize("nth", range(9))
def test_killed_while_it_writes_it_goes_on_too(tmp_path, truth, monkeypatch, nth):
    replace, calls = os.replace, count()

    def killed(source, target):
        if next(calls) == nth:
            raise SystemExit  # nothing is written after this, as if the process were gone
        replace(source, target)

    with monkeypatch.context() as context:
        context.setattr("vtune.results.store.os.replace", killed)
        with pytest.raises(SystemExit):
            search(folder=tmp_path)
    assert_same(search(folder=tmp_path), truth)


# More trials


@pytest.fixture(scope="module")
def continued(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    search(folder=folder)
    with Compilations() as compiled:
        study = search(folder=folder, trials=30)
    return study, compiled


def test_more_trials_follow_on_those_there_are(continued, truth):
    study, _ = continued
    assert len(study.trials) == 30
    old = study.trials.drop(columns=["finished_at", "seconds"])[:18]
    pd.testing.assert_frame_equal(old, truth.trials.drop(columns=["finished_at", "seconds"]), check_dtype=False)
    assert study.trials["round"].tolist() == [*[0] * 6, *[1] * 6, *[2] * 6, *[3] * 4, *[4] * 4, *[5] * 4]
    assert study.ladder == truth.ladder


def test_they_compile_nothing_but_their_strategy_and_rungs_met_for_the_first_time(continued, truth):
    study, compiled = continued
    new = study.trials["rung"].nunique() - truth.trials["rung"].nunique()
    assert compiled.count <= 3 + new


@pytest.mark.parametrize("after", [2, 18 + 3, 18 + 9])
def test_a_continued_search_may_be_stopped_too(tmp_path, continued, after):
    with pytest.raises(KeyboardInterrupt):
        search(folder=tmp_path, progress=Stops(min(after, 18)))
    search(folder=tmp_path)
    if after > 18:
        with pytest.raises(KeyboardInterrupt):
            search(folder=tmp_path, trials=30, progress=Stops(after))
    assert_same(search(folder=tmp_path, trials=30), continued[0])


def test_more_trials_may_be_asked_for_before_the_first_are_done(tmp_path, continued):
    with pytest.raises(KeyboardInterrupt):
        search(folder=tmp_path, progress=Stops(8))
    assert_same(search(folder=tmp_path, trials=30), continued[0])


@pytest.mark.parametrize("strategy", [random(), random(round_size=4), ROUNDS])
def test_the_plans_of_the_first_stage_stay_as_they_were(strategy):
    axes = vtune.Space.of(SPACE).axes
    whole, first = (strategy(axes, trials=30, epochs=2, earlier=(18,)), strategy(axes, trials=18, epochs=2))
    key = jax.random.key(0, impl="threefry2x32")
    states = whole.init(key), first.init(key)
    while not first.done(states[1]):
        plans = [each.ask(key, state) for each, state in zip((whole, first), states, strict=True)]
        points = [np.asarray(plan.points)[np.asarray(plan.active)] for plan in plans]
        np.testing.assert_array_equal(*points)
        states = [
            each.tell(state, plan, plan.points.sum(axis=1))
            for each, state, plan in zip((whole, first), states, plans, strict=True)
        ]
    assert not whole.done(states[0])


def test_a_strategy_of_ones_own_that_knows_of_no_earlier_trials_still_runs(truth):
    def plain(axes, *, trials, epochs):
        return ROUNDS(axes, trials=trials, epochs=epochs)

    assert_same(search(strategy=plain), truth)


@pytest.mark.long
def test_functions_of_ones_own_are_known_again_by_their_names(tmp_path):
    def arguments() -> dict[str, Any]:
        """As another process has them: functions of the same names at other addresses."""

        def plain(axes, *, trials, epochs):
            return ROUNDS(axes, trials=trials, epochs=epochs)

        def model_fn(hparams, rngs, shapes, scale):
            return vtune.MLP(hparams, rngs, shapes)

        return {"strategy": plain, "model_fn": partial(model_fn, scale=2)}

    with pytest.raises(KeyboardInterrupt):
        search(folder=tmp_path, progress=Stops(2), **arguments(), space={"learning_rate": SPACE["learning_rate"]})
    study = search(folder=tmp_path, **arguments(), space={"learning_rate": SPACE["learning_rate"]})
    assert len(study.trials) == 18
    assert study.settings["strategy"] == "plain"


KILLED = """
import os, signal, sys
import vtune.loop
from tests.laws.test_resume_law import OF_MY_OWN, Silent, search

class Killer(Silent):
    left = 7

    def trials_done(self, count, num_diverged, best_score):
        self.left -= count
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

vtune.saves.SECONDS_BETWEEN_SAVES = 0.0
search(**OF_MY_OWN, folder=sys.argv[1], progress=Killer())
"""


@pytest.mark.long
def test_what_a_killed_process_has_trained_is_kept(tmp_path, monkeypatch):
    command, environment = [sys.executable, "-c", KILLED, str(tmp_path)], {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    held = read_folder(tmp_path)
    monkeypatch.setattr("vtune.saves.SECONDS_BETWEEN_SAVES", 1e9)
    assert 2 <= len(held.trials) <= 7
    assert 0 < held.record["seconds"] < 600
    assert_same(search(**OF_MY_OWN, folder=tmp_path), search(**OF_MY_OWN))


# Another search


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 3},
        {"seed": 1},
        {"strategy": random()},
        {"space": SPACE | {"layers": 2}},
        {"data": digits(96, 51)},
        {"metric": "loss"},
        {"select": "best_epoch"},
        {"start": [{"layers": 2}]},
        {"chunk": 4},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_search_does_not_go_on_in_its_folder(tmp_path, change):
    with pytest.raises(KeyboardInterrupt):
        search(folder=tmp_path / "study", progress=Stops(2))
    (name,) = change
    with pytest.raises(
        ValueError, match=rf'^folder ".*study" holds a search with (another )?{name}.*Write the same.*study-2'
    ):
        search(folder=tmp_path / "study", **change)


def test_other_rows_of_the_same_shape_are_other_data(tmp_path):
    x, y = digits(96, 50).train
    with pytest.raises(KeyboardInterrupt):
        search(folder=tmp_path, progress=Stops(2), data=vtune.Data((x, y), (x[:50], y[:50])))
    with pytest.raises(ValueError, match="holds a search with data whose values have"):
        search(folder=tmp_path, data=vtune.Data((x, y), (x[1:51], y[1:51])))


@pytest.mark.long
def test_a_function_of_the_same_name_that_computes_something_else_is_refused(tmp_path):
    def model_of(slope):
        def model_fn(hparams, rngs):
            return user_models.Leaky({"slope": slope, "scale": 1.0}, rngs)

        return model_fn

    def metric_of(power):
        return lambda outputs, y: (outputs.argmax(-1) - y) ** power

    options = {"space": {"learning_rate": vtune.loguniform(1e-3, 1e-1)}, "trials": 4, "direction": "minimize"}
    search(**options, folder=tmp_path, model_fn=model_of(0.1), metric=metric_of(2))
    search(**options, folder=tmp_path, model_fn=model_of(0.1), metric=metric_of(2))
    for changed in ({"model_fn": model_of(0.2)}, {"metric": metric_of(4)}):
        with pytest.raises(ValueError, match=r"holds a search with model, optimizer, loss and metric .* of the digest"):
            search(**options | {"model_fn": model_of(0.1), "metric": metric_of(2)} | changed, folder=tmp_path)


def test_fewer_trials_and_larger_grids_are_refused(tmp_path):
    search(folder=tmp_path / "zoom")
    with pytest.raises(ValueError, match=r"trials=10: the folder holds a search of 18. Write trials=18"):
        search(folder=tmp_path / "zoom", trials=10)
    search(folder=tmp_path / "grid", strategy=grid())
    with pytest.raises(ValueError, match="a grid of 18 trials is no part of a larger one"):
        search(folder=tmp_path / "grid", strategy=grid(), trials=30)


# A ladder given


@pytest.mark.long
def test_with_a_ladder_of_another_search_trials_are_the_same_bits(truth):
    assert search(trials=600, strategy=random(), chunk="auto", devices=2, epochs=1).ladder != truth.ladder
    study = search(trials=12, strategy=random(), chunk="auto", ladder=truth.ladder)
    assert study.ladder == truth.ladder
    for trial_id in range(6):  # the first round, in which both are the same random draws
        np.testing.assert_array_equal(study.trial(trial_id).curves, truth.trial(trial_id).curves)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ladder: "nonsense", "ladder='nonsense' is not what study.ladder gives"),
        (lambda ladder: json.dumps({"cells": []}), "is not what study.ladder gives"),
        (lambda ladder: json.dumps(json.loads(ladder) | {"dtype": "float16"}), "planned for dtype='float16'"),
        (
            lambda ladder: json.dumps(json.loads(ladder) | {"structural": ["width"]}),
            r"planned for structural=\('width',\)",
        ),
        (lambda ladder: json.dumps(json.loads(ladder) | {"cells": []}), "has no place in it"),
    ],
)
def test_a_ladder_of_something_else_is_refused(truth, change, message):
    with pytest.raises(ValueError, match=message):
        search(ladder=change(truth.ladder))


@pytest.mark.long
def test_a_ladder_of_another_device_is_warned_of(truth):
    other = json.dumps(json.loads(truth.ladder) | {"device": "H100"})
    with pytest.warns(UserWarning, match="planned for 'H100' and this device is 'cpu'"):
        search(ladder=other, trials=2, epochs=1)
