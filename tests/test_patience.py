"""Trials that end when they no longer improve: as if their curves had been looked at by hand."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vtune
from tests.laws.population import digits
from vtune.history import mean_curve
from vtune.protocols import Leg, Training
from vtune.results.store import read_folder
from vtune.strategies import random
from vtune.training.objective import make_objective
from vtune.training.worker import Worker

SPACE = {"learning_rate": vtune.loguniform(1e-3, 3.0), "hidden": vtune.choice([4, 8]), "layers": 1}
NAN = math.nan


def search(**changes):
    plain = {"trials": 12, "epochs": 12, "chunk": 3, "devices": 1, "progress": False, "strategy": random(round_size=6)}
    return vtune.search(**({"model_fn": vtune.MLP, "space": SPACE, "data": digits(96, 50)} | plain | changes))


@pytest.fixture(scope="module")
def whole():
    """The trials when each trains all its epochs."""
    return search()


def stop(losses, patience):
    objective = make_objective("auto", "loss", "auto", "last", "classes", patience)
    return objective.stop(np.array([(1.0, loss) for loss in losses]).reshape(-1, 2))


@pytest.mark.parametrize(
    ("losses", "patience", "epochs"),
    [
        ([3, 2, 1], 1, None),
        ([3, 2, 2], 1, 3),
        ([3, 2, 2.5, 1, 1.5, 1.5, 0], 2, 6),
        ([3, 2, 2.5], 2, None),
        ([3, 4, 5, 6], 3, 4),
        ([NAN, NAN, 1, 0], 2, 2),
        ([1, NAN, 0.5], 2, None),
        ([3, 4, 5, 6], None, None),
        ([], 1, None),
    ],
)
def test_patience_runs_out_that_many_epochs_after_the_best(losses, patience, epochs):
    assert stop(losses, patience) == epochs


def test_of_equal_metrics_the_loss_decides_what_is_better():
    curves = np.array([[1.0, loss, 0.9] for loss in (0.5, 0.4, 0.4, 0.4)])
    objective = make_objective("auto", "auto", "auto", "last", "classes", patience=2)
    assert objective.stop(curves[:3]) is None
    assert objective.stop(curves) == 4


def by_hand(study, trial_id, patience):
    """After how many epochs a trial of a search without patience would have ended with it."""
    curve = study.trial(trial_id).curves
    key = [(-accuracy, loss) for _, loss, accuracy in curve]
    for epoch in range(patience, len(key)):
        if min(key[: epoch - patience + 1]) <= min(key[epoch - patience + 1 : epoch + 1]):
            return epoch + 1
    return len(key)


def test_each_trial_is_the_head_of_what_it_would_have_been(whole):
    study, ends = search(patience=2), [by_hand(whole, trial_id, 2) for trial_id in range(12)]
    assert min(ends) < 12 == max(ends)
    for trial_id, end in enumerate(ends):
        ours, theirs = study.trial(trial_id), whole.trial(trial_id)
        np.testing.assert_array_equal(ours.curves, theirs.curves[:end])
        assert (ours.epochs, ours.score) == (end, theirs.curves[end - 1, -1])
    assert (study.trials["budget"] == 12).all()
    assert (study.trials["status"] == "complete").all()


@pytest.mark.long
def test_the_best_model_is_that_of_the_epoch_that_is_ranked():
    for select in ("last", "best_epoch"):
        study = search(patience=2, select=select)
        x, y = study.data.valid
        assert (np.argmax(study.best_model(x), axis=-1) == y).mean() == pytest.approx(study.best_score)


@pytest.fixture
def lengths(monkeypatch):
    """How many epochs each chunk trains."""
    lengths, train = [], Worker.train

    def counted(*arguments):
        result = train(*arguments)
        lengths.append(result.curves.shape[1])
        return result

    monkeypatch.setattr(Worker, "train", counted)
    return lengths


def test_a_chunk_is_done_when_all_its_trials_are(lengths, monkeypatch):
    monkeypatch.setattr(Worker, "_epochs_at_once", lambda *_: 1)
    ends = search(patience=1, chunk=1).trials["epochs"]
    assert sorted(lengths) == sorted(ends)
    assert ends.min() < 12


def test_with_several_seeds_none_is_ended_alone(lengths):
    search(patience=1, chunk=1, trials=2, epochs=6, seeds_per_trial=2)
    assert lengths == [6] * 4  # their mean decides


def test_a_call_takes_no_more_epochs_than_patience_has(lengths, monkeypatch):
    monkeypatch.setattr("vtune.training.worker._CALL_SECONDS", 1e9)
    ends = search(patience=2, chunk=1).trials["epochs"]
    assert sum(lengths) <= sum(min(12, end + 2) for end in ends)
    assert sum(lengths) < 12 * 12


def test_a_retest_is_no_more_patient(lengths, whole):
    study = search(patience=1)
    lengths.clear()
    vtune.retest(
        study, digits(96, 50), seeds=2, neighbours=3, fresh=4, refine=False, chunk=1, progress=False, devices=1
    )
    assert min(lengths) < 12


def test_with_several_seeds_their_mean_decides():
    study, without = search(patience=2, seeds_per_trial=3), search(seeds_per_trial=3)
    rule = study.parts.objective
    for trial_id in range(12):
        curve = mean_curve([without.table.result(trial_id).seed_curves[seed] for seed in range(3)])
        np.testing.assert_array_equal(study.trial(trial_id).curves, curve[: rule.stop(curve)])
    assert study.trials["epochs"].nunique() > 1


def test_finals_train_to_the_epoch_that_was_ranked():
    study = search(patience=2, finalists=2)
    ends = {trial_id: study.trial(trial_id).epochs for trial_id in study.finalists.index.tolist()}
    assert min(ends.values()) < 12
    for trial_id, end in ends.items():
        alone = Training((Leg(trial_id, study.parts.usage.complete(study.trial(trial_id).params), end),))
        scores = []
        trainings = [alone._replace(seed_index=seed) for seed in range(1, 9)]
        study.executor.train(trainings, lambda done, scores=scores: scores.extend(done.curves[:, -1, -1].tolist()))
        assert study.finalists["mean"][trial_id] == pytest.approx(np.mean(scores))


def test_it_goes_on_in_a_folder(tmp_path):
    search(patience=2, trials=6, folder=tmp_path)
    assert len(read_folder(tmp_path).trials) == 6
    again, at_once = search(patience=2, folder=tmp_path), search(patience=2)
    assert again.table.seed_curves.equals(at_once.table.seed_curves)
    with pytest.raises(ValueError, match="patience"):
        search(patience=3, folder=tmp_path)


def test_what_would_diverge_after_patience_ran_out_is_complete():
    def explosive(hparams):  # an epoch is one step of 64 rows
        return optax.sgd(lambda step: jnp.where(step < 8, hparams["learning_rate"], jnp.inf))

    without, study = (search(optimizer=explosive, patience=patience) for patience in (None, 1))
    assert (without.trials["status"] == "diverged").all()
    rule = study.parts.objective
    is_done = [rule.stop(without.trial(trial_id).curves) is not None for trial_id in range(12)]
    assert set(is_done) == {True, False}
    assert (study.trials["status"].sort_index() == np.where(is_done, "complete", "diverged")).all()


@pytest.mark.parametrize("strategy", ["successive_halving", "asha", "population_based", "babysit", "auto"])
def test_strategies_that_train_trials_further_take_no_patience(strategy):
    time_budget = "1h" if strategy == "auto" else None
    with pytest.raises(ValueError, match=f"patience=2: strategy={strategy}.* may train trials further, .*coarse_to"):
        search(patience=2, strategy=strategy, time_budget=time_budget)


@pytest.mark.parametrize("patience", [0, -1, True])
def test_what_is_no_patience_is_refused(patience):
    with pytest.raises(ValueError, match=r"patience=.*: this must be a whole number of 1 or more"):
        search(patience=patience)
