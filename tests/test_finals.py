"""The last round of a search: who wins, and by a number that was not chosen for its luck."""

import numpy as np
import pandas as pd
import pytest

import vtune
from tests.laws.population import digits
from vtune.finals import NUM_SEEDS, expected_seconds, hold_finals, number_of_finalists, seeds_taken, winner_of
from vtune.progress import Silent
from vtune.protocols import Leg, Training
from vtune.results.store import Folder, read_folder
from vtune.strategies import babysit, random
from vtune.training.worker import Worker

SPACE = {"learning_rate": vtune.loguniform(1e-3, 1e25), "hidden": vtune.choice([4, 8]), "layers": 1}


def search(**changes):
    plain = {"trials": 12, "epochs": 2, "chunk": 4, "devices": 1, "progress": False, "strategy": random()}
    given = {"model_fn": vtune.MLP, "space": SPACE, "data": digits(96, 50), "finalists": 3}
    return vtune.search(**(given | plain | changes))


@pytest.fixture(scope="module")
def study():
    return search()


def scores_of(study, trial_id, seeds):
    """Trains a trial under these seed indices, without the finals."""
    scores = {}
    leg = Leg(trial_id, study.parts.usage.complete(study.trial(trial_id).params), 2)

    def record(done):
        for training, curves in zip(done.chunk.trainings, done.curves, strict=True):
            scores[training.seed_index] = curves[-1, -1]

    study.executor.train([Training((leg,), seed) for seed in seeds], record)
    return np.array([scores[seed] for seed in seeds], np.float64)


def test_the_finalists_are_the_best_of_the_search(study):
    assert set(study.finalists.index) == set(study.top(3).index)
    assert study.finalists["search_score"].to_dict() == study.trials["score"][study.finalists.index].to_dict()


def test_they_are_compared_on_fresh_seeds_and_the_winner_is_measured_on_further_ones(study):
    fresh, further = range(1, 1 + NUM_SEEDS), range(1 + NUM_SEEDS, 1 + 2 * NUM_SEEDS)
    for trial_id in study.finalists.index.tolist():
        assert study.finalists["mean"][trial_id] == pytest.approx(scores_of(study, trial_id, fresh).mean())
    assert study.finalists["mean"].is_monotonic_decreasing
    winner = int(study.finalists.index[0])
    assert study.best_score == pytest.approx(scores_of(study, winner, further).mean())
    assert study.finalists["score"].isna().tolist() == [False, True, True]


def test_the_study_speaks_of_the_winner(study):
    winner = int(study.finalists.index[0])
    assert study.best_trial.trial_id == winner
    assert study.best_params == study.trial(winner).params
    assert study.search_score == study.trials["score"][winner]
    x, y = study.data.valid
    assert float((study.best_model(x).argmax(-1) == y).mean()) == pytest.approx(study.search_score)
    assert f"best accuracy {study.best_score:.4g} +- " in study.summary()
    assert f"on fresh seeds ({study.search_score:.4g} in the search): trial {winner}, " in study.summary()


def test_finalists_change_no_trial(study):
    without = search(finalists=0)
    columns = ["finished_at", "seconds"]
    pd.testing.assert_frame_equal(without.trials.drop(columns=columns), study.trials.drop(columns=columns))
    assert without.finalists.empty
    assert without.best_score == without.search_score == without.top(1)["score"].iloc[0]


def test_with_several_seeds_a_trial_the_finals_take_others(study):
    twice = search(seeds_per_trial=2)
    assert {seed for _, seed, _ in twice.final_scores} == set(range(2, seeds_taken(2)))


def test_an_epoch_that_was_chosen_is_the_epoch_that_is_measured():
    study = search(select="best_epoch", epochs=4)
    for trial_id in study.finalists.index.tolist():
        assert study.training(trial_id).until == study.trial(trial_id).best_epoch


class Stops(Silent):
    """Interrupts the finals."""

    def say(self, line):
        if line.startswith("finals"):
            raise KeyboardInterrupt


def test_the_folder_keeps_them(tmp_path, study, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        search(folder=tmp_path, progress=Stops())
    assert read_folder(tmp_path).final_scores == {}
    assert winner_of(read_folder(tmp_path)) == study.top(1).index[0]
    again = search(folder=tmp_path)
    pd.testing.assert_frame_equal(again.finalists, study.finalists)
    assert winner_of(read_folder(tmp_path)) == study.best_trial.trial_id
    monkeypatch.setattr("vtune.training.worker.Worker.train", lambda *_: pytest.fail("it trains"))
    once_more = search(folder=tmp_path)
    pd.testing.assert_frame_equal(once_more.finalists, study.finalists)
    pd.testing.assert_frame_equal(read_folder(tmp_path).finalists, study.finalists)
    assert search(folder=tmp_path, finalists=0).finalists.empty


class Breaks(Silent):
    """Counts how often a folder is written during the finals, and interrupts them after so many chunks."""

    def __init__(self, monkeypatch, folder, after):
        self.chunks = self.writes = 0
        self.searched = {}
        train, write = Worker.train, Folder.write

        def counted(*arguments):
            self.chunks += 1
            if self.chunks > after:
                raise KeyboardInterrupt
            return train(*arguments)

        def written(*arguments):
            self.writes += 1
            return write(*arguments)

        def begin():
            self.searched = read_folder(folder).record
            monkeypatch.setattr(Worker, "train", counted)
            monkeypatch.setattr(Folder, "write", written)

        self._begin = begin

    def say(self, line):
        if line.startswith("finals"):
            self._begin()


@pytest.mark.parametrize(("seconds_between", "is_written_once"), [(1e9, True), (0.0, False)])
def test_the_folder_is_written_now_and_then_and_when_the_finals_are_interrupted(
    tmp_path, study, monkeypatch, seconds_between, is_written_once
):
    monkeypatch.setattr("vtune.saves.SECONDS_BETWEEN_SAVES", seconds_between)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        search(folder=tmp_path, progress=(breaks := Breaks(patched, tmp_path, after=4)))
    held = read_folder(tmp_path)
    assert 3 <= len(held.final_scores) <= 12
    assert breaks.writes == 1 if is_written_once else breaks.writes > 1
    assert held.record["seconds"] > breaks.searched["seconds"]
    again = search(folder=tmp_path)
    assert again.finalists.equals(study.finalists)


@pytest.mark.long
@pytest.mark.parametrize(
    "changes",
    [{}, {"seeds_per_trial": 3}, {"strategy": babysit(day=1), "epochs": 12, "optimizer": "sgd"}],
    ids=["alone", "with seeds", "lineages"],
)
def test_how_long_finals_take_is_told_by_epochs_and_by_all_that_leads_to_them(monkeypatch, changes):
    epochs, guessed, train, calls = [], [], Worker.train, Worker._calls

    def timed(*arguments):
        result = train(*arguments)
        return result._replace(seconds=float(result.curves.shape[1]))  # an epoch takes a second

    def counted(*arguments):
        for states, part in calls(*arguments):
            epochs.append(part.shape[1])
            yield states, part

    def held(study, *rest):
        guessed.append(expected_seconds(study, 3) * study.executor.num_parallel)
        epochs.clear()
        hold_finals(study, *rest)

    monkeypatch.setattr(Worker, "train", timed)
    monkeypatch.setattr(Worker, "_calls", counted)
    monkeypatch.setattr("vtune.searching.hold_finals", held)
    study = search(**changes)
    assert sum(epochs) / 1.5 <= guessed[0] <= 1.5 * sum(epochs)
    assert expected_seconds(study, 3) == 0  # all of them are held


def test_where_all_diverge_there_are_no_finals():
    study = search(space={**SPACE, "learning_rate": vtune.loguniform(1e24, 1e25)}, trials=4, optimizer="sgd")
    assert study.finalists.empty


def test_the_default_goes_by_the_trials():
    assert [number_of_finalists("auto", trials) for trials in (1, 31, 32, 256)] == [0, 0, 8, 8]
    assert number_of_finalists(2, 256) == 2


@pytest.mark.parametrize("finalists", [-1, "many", True])
def test_a_wrong_number_is_refused(finalists):
    with pytest.raises((TypeError, ValueError), match=r"finalists="):
        search(finalists=finalists)
