"""When a search ends before its strategy does."""

from types import SimpleNamespace

import numpy as np
import pytest

import vtune
from tests.laws.population import digits
from vtune.ending import Ending, make_ending, read_seconds
from vtune.progress import Silent
from vtune.results.store import read_folder
from vtune.strategies import random, successive_halving

SPACE = {"learning_rate": vtune.loguniform(1e-3, 1e-1), "hidden": vtune.choice([4, 8]), "layers": 1}


def search(**changes):
    plain = {"trials": 24, "epochs": 2, "chunk": 2, "devices": 1, "progress": False, "strategy": random(round_size=4)}
    return vtune.search(**({"model_fn": vtune.MLP, "space": SPACE, "data": digits(96, 50)} | plain | changes))


class Clock:
    """Time that passes by a second whenever it is looked at."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


class Told(Silent):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("vtune.saves.time", SimpleNamespace(perf_counter=clock))  # all other clocks go as ever
    return clock


def test_a_target_ends_the_search_with_the_round_that_reaches_it():
    whole = search()
    by_round = whole.trials.groupby("round")["score"].max()
    target = by_round.iloc[:3].max()
    last = int(np.flatnonzero(by_round >= target)[0])
    study = search(target_score=target)
    assert len(study.trials) == 4 * (last + 1) < 24
    assert study.trials["score"].equals(whole.trials["score"][: len(study.trials)])


def test_a_target_of_a_loss_is_reached_from_above():
    assert len(search(metric="loss", target_score=1e9).trials) == 4
    assert len(search(metric="loss", target_score=-1.0).trials) == 24


def test_a_target_that_comes_later_takes_nothing_from_a_folder(tmp_path):
    whole = search(folder=tmp_path)
    again = search(
        folder=tmp_path, target_score=0.0, finalists=2
    )  # reached in the first round, and the folder is written
    assert again.trials["score"].equals(whole.trials["score"])
    assert len(read_folder(tmp_path).trials) == 24


def test_when_time_is_up_what_is_done_is_returned(clock):
    told, whole = Told(), search()
    study = search(time_budget=20, progress=told)
    assert 0 < len(study.trials) < 24
    assert study.trials["score"].equals(whole.trials["score"][study.trials.index])
    assert any(line.startswith(f"time is up: {len(study.trials)} trials in ") for line in told.lines)
    assert study.best_params


def test_a_search_that_ran_out_of_time_goes_on_when_there_is_more(tmp_path, clock):
    first = search(time_budget=20, folder=tmp_path)
    again = search(time_budget=20, folder=tmp_path)  # there is still no time
    assert again.trials["score"].equals(first.trials["score"])
    more = search(folder=tmp_path)
    assert more.trials["score"].equals(search().trials["score"])
    assert more.seconds > first.seconds


def test_time_is_left_for_the_finals_or_they_are_left_out(clock, monkeypatch):
    monkeypatch.setattr(
        "vtune.finals.expected_seconds", lambda study, number: 9.0 if number and len(study.table) else 0.0
    )
    monkeypatch.setattr("vtune.finals._SLACK", 10.0)  # by this clock they take longer
    whole, held = search(time_budget=30), search(time_budget=30, finalists=2)
    assert len(held.trials) < len(whole.trials) < 24
    assert len(held.finalists) == 2
    told = Told()
    monkeypatch.setattr("vtune.finals.expected_seconds", lambda study, number: 1000.0)
    assert search(time_budget=30, finalists=2, progress=told).finalists.empty
    assert any(line.startswith("finals: none, as there is no time left") for line in told.lines)


def test_finals_that_take_longer_than_was_thought_are_given_up_and_gone_on_with(tmp_path, clock, monkeypatch):
    monkeypatch.setattr("vtune.finals.expected_seconds", lambda study, number: 0.0)
    whole = search(trials=4, finalists=2)
    clock.now = 0.0
    told = Told()
    given_up = search(trials=4, finalists=2, time_budget=25, folder=tmp_path, progress=told)
    assert len(given_up.trials) == 4
    assert given_up.finalists.empty
    assert told.lines[-1].startswith("finals: none, as there is no time left")
    assert 0 < len(read_folder(tmp_path).final_scores) < 24
    assert search(trials=4, finalists=2, folder=tmp_path).finalists.equals(whole.finalists)


@pytest.mark.parametrize("ending", [{"time_budget": 14}, {"target_score": 0.0}])
def test_a_strategy_that_continues_trials_may_end_early_too(tmp_path, clock, monkeypatch, ending):
    monkeypatch.setattr("vtune.finals.expected_seconds", lambda study, number: 0.0)
    halving = {"strategy": successive_halving(), "trials": 9, "epochs": 9, "finalists": 2}
    study = search(folder=tmp_path, **ending, **halving)
    assert 0 < len(study.trials) <= 9
    assert study.trials["budget"].max() < 9
    whole, again = search(**halving), search(folder=tmp_path, **halving)
    assert again.table.seed_curves.equals(whole.table.seed_curves)
    assert again.finalists.equals(whole.finalists)  # and not those of the short trainings


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), (5, 5), ("1.5 h", 5400), ("600", 600), (" 0.5 ", 0.5)],
)
def test_times(written, seconds):
    assert read_seconds(written) == seconds


@pytest.mark.parametrize("written", ["", "soon", "-10", "1e3", "0", "10 min", 0, -1, np.inf, "0s", [1]])
def test_what_is_no_time_is_refused(written):
    with pytest.raises(ValueError, match=r"time_budget=.* is no time\. Write a number of seconds, .* \"10m\""):
        read_seconds(written)


def test_what_is_no_score_is_refused():
    with pytest.raises(TypeError, match=r"target_score='high' is no number\. Write a score"):
        make_ending("high", None)


def test_without_a_rule_nothing_ends():
    assert not Ending().is_reached(1e9, is_maximized=True)
    assert not Ending(target=0.5).is_reached(None, is_maximized=True)
