"""The automatic choice between many trials and one."""

import pytest

import vtune
from tests.laws.population import digits
from vtune.deciding import FEWEST, MOST, Measured, decide
from vtune.progress import Silent
from vtune.training.outlook import Outlook
from vtune.training.queue import ChunkQueue
from vtune.training.worker import Worker

MEAN = 3.0
"""How many times as long as the trial that is measured one of the space takes here."""

SPACE = {"learning_rate": vtune.loguniform(1e-3, 1e-1), "hidden": vtune.choice([4, 8]), "layers": 1}


class Told(Silent):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def seen(seconds=1.0, compiling=0.0, **more):
    """What is measured where a trial takes so many seconds, and as long by itself as among others."""
    return Measured(seconds, compiling, **({"epoch_seconds": seconds / 20} | more))


def search(**changes):
    plain = {"strategy": "auto", "trials": 24, "epochs": 2, "chunk": 2, "devices": 1, "progress": False, "finalists": 0}
    return vtune.search(**({"model_fn": vtune.MLP, "space": SPACE, "data": digits(96, 50)} | plain | changes))


def test_where_there_is_time_for_many_trials_it_is_caviar_and_else_the_panda():
    enough = decide(seen(), seconds=FEWEST / 0.6 + 1e-6, epochs=20, num_programs=1)
    assert (enough.strategy, enough.trials, enough.epochs) == ("coarse_to_fine", FEWEST, 20)
    short = decide(seen(), seconds=FEWEST / 0.6 - 0.1, epochs=20, num_programs=1)
    assert (short.strategy, short.settings) == ("babysit", {"day": 1})
    assert short.epochs == short.trials == int(0.75 * (FEWEST / 0.6 - 0.1) * 20)
    alone = decide(seen(epoch_seconds=8 / 20), seconds=FEWEST / 0.6 - 0.1, epochs=20, num_programs=1)
    assert alone.trials == short.trials // 8  # days, whose chunks have one trial each
    assert short.told == f"one trial takes 1 s, 27 s hold 15 trials: panda (babysit, {short.trials} days of 1 epoch)"


def test_compiling_takes_its_part_and_there_is_a_most():
    assert decide(seen(1.0, 10.0), seconds=100.0, epochs=20, num_programs=4).trials == 36
    assert decide(seen(1e-6), seconds=600.0, epochs=20, num_programs=4).trials == MOST


def test_it_is_decided_by_what_is_measured_and_said_in_one_line(monkeypatch):
    told = Told()
    monkeypatch.setattr("vtune.deciding.measure", lambda *_: seen())
    study = search(time_budget=40, progress=told)
    assert len(study.trials) == 24
    assert told.lines[0] == "one trial takes 1 s, 40 s hold 24 trials: caviar (coarse_to_fine, 24 trials of 2 epochs)"
    assert study.settings["decision"]["trials"] == 24


class Enough(Exception):
    """What was measured is known."""


def measured_by(monkeypatch, seconds_of=lambda epochs: 1.0 * epochs, **changes):
    """Returns what a search measures where a chunk takes so many seconds, and the trials and epochs of its chunks."""
    chunks, measured, train = [], [], Worker.train

    def timed(worker, chunk, *rest):
        epochs = chunk.trainings[0].legs[-1].until
        chunks.append((len(chunk.trainings), epochs))
        return train(worker, chunk, *rest)._replace(seconds=seconds_of(epochs))

    def decided(measurement, *_):
        measured.append(measurement)
        raise Enough

    monkeypatch.setattr(Worker, "train", timed)
    monkeypatch.setattr(ChunkQueue, "num_parallel", property(lambda _: 3))
    monkeypatch.setattr("vtune.deciding.decide", decided)
    monkeypatch.setattr(Outlook, "mean_over", lambda *_: MEAN)
    with pytest.raises(Enough):
        search(time_budget=40, **({"epochs": 6} | changes))
    return measured[0], chunks


@pytest.mark.parametrize(
    ("changes", "size", "at_once", "seconds", "alone"),
    [
        pytest.param({}, 2, 3, 6 / 2 / 3, 6, id="queue"),  # of a chunk for 6 epochs, 3 chunks of 2 trials at a time
        *(
            pytest.param(changes, size, at_once, seconds, alone, id=name, marks=pytest.mark.long)
            for name, changes, size, at_once, seconds, alone in [
                ("few seeds", {"seeds_per_trial": 2}, 2, 3, 2 * 6 / 2 / 3, 6),  # side by side
                ("many seeds", {"seeds_per_trial": 6}, 2, 3, 6 * 6 / 2 / 3, 2 * 6),
                ("mesh", {"executor": "mesh", "devices": 2}, 4, 1, 6 / 4, 6),
                ("mesh, seeds", {"executor": "mesh", "devices": 2, "seeds_per_trial": 5}, 4, 1, 5 * 6 / 4, 5 * 6),
            ]
        ),
    ],
)
def test_what_is_measured_are_full_chunks_as_many_as_train_at_once(monkeypatch, changes, size, at_once, seconds, alone):
    measured, chunks = measured_by(monkeypatch, **changes)
    assert chunks == [(size, 1)] * 2 * at_once  # to compile, and to be measured
    assert measured.trial_seconds == pytest.approx(MEAN * seconds)
    assert measured.epoch_seconds == pytest.approx(alone / 6)
    assert min(measured.compile_seconds, measured.seconds) > 0


def test_a_chunk_is_trained_for_many_epochs_where_they_are_short(monkeypatch):
    measured, chunks = measured_by(monkeypatch, lambda epochs: 0.04 + 0.05 * epochs)
    assert [epochs for _, epochs in chunks] == [1] * 6 + [5] * 3
    assert measured.trial_seconds == pytest.approx(MEAN * 0.29 / 5 * 6 / 2 / 3)
    assert measured.epoch_seconds == pytest.approx(0.09)  # the panda's days are short
    measured, chunks = measured_by(monkeypatch, lambda epochs: 0.001 * epochs)
    assert chunks[-1] == (2, 6)  # a whole training, and no more


def test_what_measuring_took_is_not_there_to_train():
    assert decide(seen(), 80.0, 20, 1).trials == 48
    assert decide(seen()._replace(seconds=40.0), 80.0, 20, 1).trials == 24
    assert decide(seen()._replace(seconds=90.0), 80.0, 20, 1).trials == 1


def test_a_decision_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr("vtune.deciding.measure", lambda *_: seen())
    first = search(time_budget=40, folder=tmp_path)
    monkeypatch.setattr("vtune.deciding.measure", lambda *_: pytest.fail("it measures again"))
    again = search(time_budget=40, folder=tmp_path)
    assert again.trials["score"].equals(first.trials["score"])
    assert again.settings["decision"] == first.settings["decision"]


def test_the_trials_are_those_of_the_strategy_that_is_decided_on(monkeypatch):
    monkeypatch.setattr("vtune.deciding.measure", lambda *_: seen())
    study = search(time_budget=40)
    same = search(strategy="coarse_to_fine", trials=24, ladder=study.ladder)
    assert same.trials["score"].equals(study.trials["score"])


def test_without_a_panda_it_is_caviar_with_the_trials_that_fit():
    few = decide(seen(), seconds=8.0, epochs=20, num_programs=1, has_panda=False)
    assert (few.strategy, few.trials, few.epochs) == ("coarse_to_fine", 4, 20)
    assert few.told == (
        "one trial takes 1 s, 8 s hold 4 trials: caviar (coarse_to_fine, 4 trials of 20 epochs); "
        "no learning rate varies on a log scale, which the panda needs"
    )
    none = decide(seen(1.0, 5.0), seconds=8.0, epochs=20, num_programs=4, has_panda=False)
    assert (none.strategy, none.trials) == ("coarse_to_fine", 1)
    plenty = [decide(seen(), 40.0, 20, 1, has_panda) for has_panda in (True, False)]
    assert plenty[0] == plenty[1]


@pytest.mark.parametrize("rate", [0.01, vtune.uniform(0.001, 0.1)], ids=["fixed", "on no log scale"])
@pytest.mark.parametrize("seconds", [4.0, 1000.0])
def test_a_slow_machine_searches_a_space_without_a_rate_on_a_log_scale(monkeypatch, rate, seconds):
    monkeypatch.setattr("vtune.deciding.measure", lambda *_: seen(seconds))
    study = search(time_budget=40, space={**SPACE, "learning_rate": rate})
    assert study.settings["decision"]["strategy"] == "coarse_to_fine"
    assert len(study.trials) == (6 if seconds < 40 else 1)


def test_without_a_time_nothing_can_be_decided():
    with pytest.raises(ValueError, match=r"strategy='auto' goes by the time .* Add time_budget='10m'"):
        search()
