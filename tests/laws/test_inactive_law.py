"""Law Inactive: a hyperparameter that a trial does not use decides nothing, and is missing in the table."""

import math
from typing import Any

import jax
import numpy as np
import optax
import pytest

import vtune
from tests import user_models
from tests.laws.population import digits, make_queue, train
from vtune.protocols import Strategy
from vtune.strategies import random

NINE_AND_OPTIMIZER = {
    "optimizer": vtune.choice(["momentum", "adam", "rmsprop"]),
    "learning_rate": vtune.loguniform(1e-4, 1e-1),
    "momentum": vtune.reverse_loguniform(0.5, 0.99),
    "beta1": vtune.reverse_loguniform(0.5, 0.99),
    "beta2": vtune.reverse_loguniform(0.9, 0.999),
    "epsilon": vtune.loguniform(1e-9, 1e-5),
    "decay": vtune.loguniform(1e-3, 1.0),
    "batch_size": vtune.choice([32, 64]),
    "hidden": vtune.integers(4, 32, log=True),
    "layers": vtune.integers(1, 3),
}
PER_LAYER = {**NINE_AND_OPTIMIZER, "hidden": vtune.per_layer(vtune.integers(4, 32, log=True))}
READS = {
    "momentum": {"momentum"},
    "adam": {"beta1", "beta2", "epsilon"},
    "rmsprop": {"momentum", "epsilon"},
}
OF_OPTIMIZERS = {"momentum", "beta1", "beta2", "epsilon"}


def search(space: Any, model_fn: Any = vtune.MLP, **options: Any) -> vtune.Study:
    settings = {"trials": 24, "epochs": 1, "devices": 1, "progress": False, "strategy": "random"}
    return vtune.search(model_fn, space, digits(), **(settings | options))


@pytest.fixture(scope="module")
def study():
    return search(PER_LAYER)


def test_all_nine_and_the_optimizer_vary_in_one_search(study):
    assert set(study.trials["optimizer"]) == set(READS)
    assert (study.trials["status"] == "complete").all()
    assert study.trials["score"].nunique() > 4


def test_a_trial_has_values_for_what_its_optimizer_reads_and_nan_for_the_rest(study):
    for _, row in study.trials.iterrows():
        assert {name for name in OF_OPTIMIZERS if not math.isnan(row[name])} == READS[row["optimizer"]]
        assert row[["learning_rate", "decay", "batch_size", "layers"]].notna().all()


def test_a_trial_has_a_width_for_each_of_its_layers(study):
    for _, row in study.trials.iterrows():
        widths = row[["hidden_1", "hidden_2", "hidden_3"]]
        assert widths.notna().tolist() == [layer <= row["layers"] for layer in (1, 2, 3)]
    assert str(study.trials["hidden_3"].dtype) == "Int64"


def test_what_a_trial_does_not_use_is_not_among_its_parameters(study):
    for trial_id in study.trials.index:
        params = study.trial(trial_id).params
        assert params.keys() & OF_OPTIMIZERS == READS[params["optimizer"]]
        assert "hidden" not in params
    assert study.best_params.keys() & OF_OPTIMIZERS == READS[study.best_params["optimizer"]]
    (best,) = [line for line in study.summary().splitlines() if line.startswith("best accuracy")]
    assert all(f"{name}=" in best for name in study.best_params)
    assert "=-" not in best


def test_the_best_model_has_its_own_widths(study):
    model, best = study.best_model, study.best_params
    for layer in range(1, best["layers"] + 1):
        assert getattr(model, f"hidden_{layer}").bias.shape == (best[f"hidden_{layer}"],)
    x, y = study.data.valid
    assert float((np.argmax(model(x), axis=1) == y).mean()) == pytest.approx(study.best_score, abs=1e-6)


def test_inactive_values_change_neither_the_rung_nor_a_bit(study):
    usage = study.parts.usage
    rows, others = (
        usage.space.rows(np.random.default_rng(seed).uniform(size=(12, len(usage.space.axes)))) for seed in (0, 1)
    )
    changed = [{**other, **usage.used(row)} for row, other in zip(rows, others, strict=True)]
    assert all(row != other for row, other in zip(rows, changed, strict=True))
    first, second = ([usage.complete(usage.used(row)) for row in some] for some in (rows, changed))
    assert first == second
    assert [study.job.ladder.rung(row) for row in first] == [study.job.ladder.rung(row) for row in second]
    curves, others = train(study.executor, first, 1), train(study.executor, second, 1)
    for trial_id, curve in curves.items():
        np.testing.assert_array_equal(curve, others[trial_id])


@pytest.mark.long
def test_strategies_are_told_nan():
    told: list[np.ndarray] = []

    def listening(axes: Any, *, trials: int, epochs: int) -> Strategy:
        plain = random(round_size=12)(axes, trials=trials, epochs=epochs)

        def tell(state: Any, plan: Any, scores: Any) -> Any:
            jax.debug.callback(lambda points, active: told.append(np.asarray(points)[active]), plan.points, plan.active)
            return plain.tell(state, plan, scores)

        return plain._replace(tell=tell)

    study = search(NINE_AND_OPTIMIZER, strategy=listening)
    jax.effects_barrier()
    columns = study.trials[list(NINE_AND_OPTIMIZER)]
    np.testing.assert_array_equal(np.isnan(np.concatenate(told)), columns.isna().to_numpy())


@pytest.mark.long
def test_a_zoom_goes_on_where_only_some_trials_use_a_parameter():
    study = search(NINE_AND_OPTIMIZER, strategy=vtune.strategies.coarse_to_fine(rounds=3), trials=36)
    assert len(study.trials) == 36
    assert study.trials["momentum"].isna().any()


@pytest.mark.long
def test_models_of_several_kinds_use_what_their_kind_reads():
    space = {
        "kind": vtune.choice(["linear", "deep", "leaky"]),
        "width": vtune.choice([4, 8, 12]),
        "slope": vtune.uniform(0.0, 0.3),
        "learning_rate": vtune.loguniform(1e-3, 1e-1),
    }
    trials = search(space, user_models.of_some_kind).trials
    assert (trials["width"].notna() == (trials["kind"] == "deep")).all()
    assert (trials["slope"].notna() == (trials["kind"] == "leaky")).all()
    rungs = trials.groupby("kind")["rung"].nunique()
    assert (rungs["linear"], rungs["leaky"]) == (1, 1)
    assert rungs["deep"] == trials["width"].nunique()


@pytest.mark.long
def test_one_width_a_layer_goes_with_models_of_users():
    def model_fn(hparams, rngs):
        widths = [hparams[f"width_{layer}"] for layer in range(1, hparams["depth"] + 1)]
        written = {f"width_{layer}": width for layer, width in enumerate(widths)}
        return user_models.layer_by_layer({"depth": len(widths), **written}, rngs)

    space = {
        "depth": vtune.integers(1, 3),
        "width": vtune.per_layer(vtune.choice([4, 6]), layers="depth"),
        "learning_rate": 1e-2,
    }
    trials = search(space, model_fn, trials=6).trials
    assert set(trials["depth"]) == {1, 2, 3}
    for _, row in trials.iterrows():
        assert row[["width_1", "width_2", "width_3"]].notna().tolist() == [layer <= row["depth"] for layer in (1, 2, 3)]


# Optimizers of users


def adamw(hparams):
    schedule = optax.cosine_decay_schedule(hparams["learning_rate"], 100)
    decayed = optax.adamw(schedule, weight_decay=hparams["weight_decay"])
    return optax.chain(optax.clip_by_global_norm(hparams["clip"]), decayed)


@pytest.mark.long
def test_an_optimizer_of_ones_own_is_trained_with_its_own_numbers_in_one_program():
    space = {
        "learning_rate": vtune.loguniform(1e-3, 1e-1),
        "weight_decay": vtune.loguniform(1e-4, 1.0),
        "clip": vtune.choice([0.1, 1.0]),
        "hidden": 16,
    }
    study = search(space, optimizer=adamw, trials=8)
    assert study.trials["rung"].nunique() == 1
    assert study.trials["score"].max() > 0.3
    assert study.settings["optimizer"] == "adamw"


def test_what_an_optimizer_needs_as_a_constant_has_programs_of_its_own():
    def step(hparams):
        rate = optax.linear_schedule(hparams["learning_rate"], 0.0, int(hparams["steps"]))
        return optax.adam(rate, b1=hparams["beta1"], nesterov=hparams["nesterov"])

    steps, nesterov = vtune.choice([20, 40]), vtune.choice([True, False])
    space = {"learning_rate": 1e-2, "beta1": 0.8, "steps": steps, "nesterov": nesterov, "hidden": 8}
    queue = make_queue(space, optimizer=step)
    assert {"steps", "nesterov"} <= set(queue.job.ladder.structural)
    assert {"learning_rate", "beta1"} <= set(dict(queue.job.traced))


@pytest.mark.long
def test_an_optimizer_may_read_other_names_with_each_value_of_one():
    def step(hparams):
        if hparams["optimizer"] == "lion":
            return optax.lion(hparams["learning_rate"], b1=hparams["lion_beta"])
        return optax.adam(hparams["learning_rate"], b1=hparams["beta1"])

    space = {
        "optimizer": vtune.choice(["lion", "adam"]),
        "lion_beta": vtune.uniform(0.5, 0.9),
        "beta1": vtune.uniform(0.5, 0.9),
        "learning_rate": vtune.loguniform(1e-4, 1e-2),
        "hidden": 8,
    }
    trials = search(space, optimizer=step, trials=8).trials
    assert (trials["lion_beta"].isna() == (trials["optimizer"] == "adam")).all()
    assert (trials["beta1"].isna() == (trials["optimizer"] == "lion")).all()


@pytest.mark.long
def test_an_optimizer_that_reads_a_global_is_compiled_anew_when_it_changes():
    scale = {"of": 1.0}

    def step(hparams):
        return optax.sgd(hparams["learning_rate"] * scale["of"])

    space = {"learning_rate": 1e-2, "hidden": vtune.choice([8, 16])}
    first = search(space, optimizer=step, trials=2)
    scale["of"] = 3.0
    second = search(space, optimizer=step, trials=2)
    assert (first.trials["score"] != second.trials["score"]).any() or (first.curves != second.curves).any(axis=None)
