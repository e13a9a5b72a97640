"""The automatic choice between many trials and one."""

import pytest

import vtune
from tests.laws.population import digits
from vtune.deciding import FEWEST, MOST, Measured, decide
from vtune.progress import Silent
from vtune.training.queue import ChunkQueue
from vtune.training.worker import Worker

SPACE = {"learning_rate": vtune.loguniform(1e-3, 1e-1), "hidden": vtune.choice([4, 8]), "layers": 1}


class Told(Silent):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def search(**changes):
    plain = {"strategy": "auto", "trials": 24, "epochs": 2, "chunk": 2, "devices": 1, "progress": False, "finalists": 0}
    return vtune.search(**({"model_fn": vtune.MLP, "space": SPACE, "data": digits(96, 50)} | plain | changes))


def test_where_there_is_time_for_many_trials_it_is_caviar_and_else_the_panda():
    enough = decide(Measured(1.0, 0.0), seconds=FEWEST / 0.75 + 1e-6, epochs=20, num_programs=1)
    assert (enough.strategy, enough.trials, enough.epochs) == ("coarse_to_fine", FEWEST, 20)
    short = decide(Measured(1.0, 0.0), seconds=FEWEST / 0.75 - 0.1, epochs=20, num_programs=1)
    assert (short.strategy, short.settings) == ("babysit", {"day": 1})
    assert short.epochs == short.trials == int((FEWEST - 0.075) * 20)
    alone = decide(Measured(1.0, 0.0, together=8), seconds=FEWEST / 0.75 - 0.1, epochs=20, num_programs=1)
    assert alone.trials == short.trials // 8  # days, whose chunks have one trial each
    assert short.told == f"one trial takes 1 s, 21 s hold 15 trials: panda (babysit, {short.trials} days of 1 epoch)"


def test_compiling_takes_its_part_and_there_is_a_most():
    assert decide(Measured(1.0, 10.0), seconds=100.0, epochs=20, num_programs=4).trials == 45
    assert decide(Measured(1e-6, 0.0), seconds=600.0, epochs=20, num_programs=4).trials == MOST


def test_it_is_decided_by_one_measured_chunk_and_said_in_one_line(monkeypatch):
    told = Told()
    monkeypatch.setattr("vtune.deciding.measure", lambda *_: Measured(1.0, 0.0))
    study = search(time_budget=40, progress=told)
    assert len(study.trials) == 30
    assert told.lines[0] == "one trial takes 1 s, 40 s hold 30 trials: caviar (coarse_to_fine, 30 trials of 2 epochs)"
    assert study.settings["decision"]["trials"] == 30


class Enough(Exception):
    """What was measured is known."""


def measured_by(monkeypatch, **changes):
    """Returns what a search measures where an epoch of a chunk takes a second, and the sizes of its chunks."""
    sizes, measured, train = [], [], Worker.train

    def timed(worker, chunk, *rest):
        sizes.append(len(chunk.trainings))
        return train(worker, chunk, *rest)._replace(seconds=1.0)

    def decided(measurement, *_):
        measured.append(measurement)
        raise Enough

    monkeypatch.setattr(Worker, "train", timed)
    monkeypatch.setattr(ChunkQueue, "num_parallel", property(lambda _: 3))
    monkeypatch.setattr("vtune.deciding.decide", decided)
    with pytest.raises(Enough):
        search(time_budget=40, epochs=6, **changes)
    return measured[0], sizes


@pytest.mark.parametrize(
    ("changes", "size", "seconds", "alone"),
    [
        pytest.param({}, 2, 6 / 2 / 3, 6, id="queue"),  # of a chunk for 6 epochs, 3 chunks of 2 trials at a time
        *(
            pytest.param(changes, size, seconds, alone, id=name, marks=pytest.mark.long)
            for name, changes, size, seconds, alone in [
                ("few seeds", {"seeds_per_trial": 2}, 2, 2 * 6 / 2 / 3, 6),  # side by side
                ("many seeds", {"seeds_per_trial": 6}, 2, 6 * 6 / 2 / 3, 2 * 6),
                ("mesh", {"executor": "mesh", "devices": 2}, 4, 6 / 4, 6),
                ("mesh with seeds", {"executor": "mesh", "devices": 2, "seeds_per_trial": 5}, 4, 5 * 6 / 4, 5 * 6),
            ]
        ),
    ],
)
def test_what_is_measured_is_a_full_chunk(monkeypatch, changes, size, seconds, alone):
    measured, sizes = measured_by(monkeypatch, **changes)
    assert sizes == [size, size]
    assert measured.trial_seconds == pytest.approx(seconds)
    assert measured.trial_seconds * measured.together == pytest.approx(alone)
    assert measured.compile_seconds > 0


def test_a_decision_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setattr("vtune.deciding.measure", lambda *_: Measured(1.0, 0.0))
    first = search(time_budget=40, folder=tmp_path)
    monkeypatch.setattr("vtune.deciding.measure", lambda *_: pytest.fail("it measures again"))
    again = search(time_budget=40, folder=tmp_path)
    assert again.trials["score"].equals(first.trials["score"])
    assert again.settings["decision"] == first.settings["decision"]


def test_the_trials_are_those_of_the_strategy_that_is_decided_on(monkeypatch):
    monkeypatch.setattr("vtune.deciding.measure", lambda *_: Measured(1.0, 0.0))
    study = search(time_budget=40)
    same = search(strategy="coarse_to_fine", trials=30, ladder=study.ladder)
    assert same.trials["score"].equals(study.trials["score"])


def test_without_a_panda_it_is_caviar_with_the_trials_that_fit():
    few = decide(Measured(1.0, 0.0), seconds=8.0, epochs=20, num_programs=1, has_panda=False)
    assert (few.strategy, few.trials, few.epochs) == ("coarse_to_fine", 6, 20)
    assert few.told == (
        "one trial takes 1 s, 8 s hold 6 trials: caviar (coarse_to_fine, 6 trials of 20 epochs); "
        "no learning rate varies on a log scale, which the panda needs"
    )
    none = decide(Measured(1.0, 5.0), seconds=8.0, epochs=20, num_programs=4, has_panda=False)
    assert (none.strategy, none.trials) == ("coarse_to_fine", 1)
    plenty = [decide(Measured(1.0, 0.0), 40.0, 20, 1, has_panda) for has_panda in (True, False)]
    assert plenty[0] == plenty[1]


@pytest.mark.parametrize("rate", [0.01, vtune.uniform(0.001, 0.1)], ids=["fixed", "on no log scale"])
@pytest.mark.parametrize("seconds", [4.0, 1000.0])
def test_a_slow_machine_searches_a_space_without_a_rate_on_a_log_scale(monkeypatch, rate, seconds):
    monkeypatch.setattr("vtune.deciding.measure", lambda *_: Measured(seconds, 0.0))
    study = search(time_budget=40, space={**SPACE, "learning_rate": rate})
    assert study.settings["decision"]["strategy"] == "coarse_to_fine"
    assert len(study.trials) == (7 if seconds < 40 else 1)


def test_without_a_time_nothing_can_be_decided():
    with pytest.raises(ValueError, match=r"strategy='auto' goes by the time .* Add time_budget='10m'"):
        search()
