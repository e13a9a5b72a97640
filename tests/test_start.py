"""Where a search starts: trials of the user's, or the best of an older study."""

from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from flax import nnx

import vtune
from tests.laws.population import digits
from vtune.start import first_trials

SPACE = {
    "optimizer": vtune.choice(["momentum", "adam"]),
    "learning_rate": vtune.loguniform(1e-3, 1e-1),
    "momentum": vtune.reverse_loguniform(0.5, 0.99),
    "hidden": vtune.choice([4, 8]),
    "layers": 1,
    "batch_size": 32,
}


def search(**changes: Any) -> vtune.Study:
    plain = {"trials": 8, "epochs": 1, "chunk": 4, "devices": 1, "progress": False, "strategy": "random"}
    arguments = {"model_fn": vtune.MLP, "space": SPACE, "data": digits(96, 50)} | plain | changes
    return vtune.search(**arguments)


@pytest.fixture(scope="module")
def old():
    return search()


def test_the_first_trials_are_those_the_user_names(old):
    start = [{"optimizer": "momentum", "learning_rate": 0.003, "momentum": 0.9, "hidden": 8.0}, {"hidden": 4}]
    study = search(start=start)
    first = study.trial(0).params
    assert first == {
        "optimizer": "momentum",
        "learning_rate": float(np.float32(0.003)),
        "momentum": float(np.float32(0.9)),
        "hidden": 8,
        "layers": 1,
        "batch_size": 32,
    }
    drawn = {**old.trial(1).params, "hidden": 4}
    assert study.trial(1).params == drawn
    for trial_id in range(2, 8):
        assert study.trial(trial_id).params == old.trial(trial_id).params
        np.testing.assert_array_equal(study.trial(trial_id).curves, old.trial(trial_id).curves)


def test_a_trial_started_with_is_the_trial_itself(old):
    study = search(start=[old.trial(3).params], seed=0)
    assert study.trial(0).params == old.trial(3).params
    np.testing.assert_array_equal(study.trial(0).curves, old.trial(3).curves)


def test_starts_go_on_into_later_rounds(old):
    start = [old.trial(trial_id).params for trial_id in range(5, 0, -1)]
    study = search(start=start, strategy=vtune.strategies.random(round_size=2))
    assert [study.trial(trial_id).params for trial_id in range(5)] == start
    assert study.trial(5).params == old.trial(5).params


def test_a_row_of_the_table_can_be_pasted_with_its_gaps(old):
    row = old.trials.loc[3, list(SPACE)].to_dict()
    assert search(start=[row]).trial(0).params == old.trial(3).params


def test_a_zoom_is_told_where_the_starts_lie():
    start = [{"learning_rate": 0.0999, "optimizer": "momentum", "momentum": 0.9, "hidden": 8}] * 4
    study = search(start=start, trials=12, strategy=vtune.strategies.coarse_to_fine(rounds=2, keep=2), epochs=2)
    assert len(study.trials) == 12
    np.testing.assert_allclose(study.plans.table["point.learning_rate"][:4], 0.99978, rtol=1e-4)


@pytest.mark.parametrize("kind", ["study", pytest.param("folder", marks=pytest.mark.long)])
def test_an_old_study_gives_its_best_eight(tmp_path, kind):
    old = search(trials=20, folder=tmp_path)
    start = old if kind == "study" else tmp_path
    study = search(trials=12, start=start, seed=5, data=digits(80, 60))
    best = [old.trial(trial_id).params for trial_id in old.top(8).index]
    assert [study.trial(trial_id).params for trial_id in range(8)] == best
    assert study.trial(8).params not in best


@pytest.mark.long
def test_of_an_old_study_only_what_lies_in_the_space_is_taken(old):
    narrow = {**SPACE, "learning_rate": vtune.loguniform(1e-2, 1e-1), "hidden": 4, "decay": vtune.loguniform(1e-3, 1.0)}
    fits = [
        old.trial(trial_id).params for trial_id in old.top(8).index if old.trials.loc[trial_id, "learning_rate"] >= 1e-2
    ]
    study = search(space=narrow, start=old, trials=8)
    assert 0 < len(fits) < 8
    for trial_id, params in enumerate(fits):
        assert study.trial(trial_id).params["learning_rate"] == params["learning_rate"]
        assert study.trial(trial_id).params["hidden"] == 4
    assert study.trials["decay"].notna().all()


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        ({"hidden": 4}, TypeError, r"neither a list of trials nor a study\. Write start=\[\{"),
        (7, TypeError, "neither a list of trials nor a study"),
        ([3], TypeError, "neither a list of trials nor a study"),
        ([{"hiden": 4}], ValueError, r"^start\[0\]: 'hiden' is not in this space; did you mean 'hidden'\?"),
        ([{}, {"hidden": 5}], ValueError, r"^start\[1\]: \{'hidden': 5\} is outside the space\. Write one of choice"),
        ([{"layers": 2}], ValueError, r"^start\[0\]: \{'layers': 2\} is outside the space\. Write one of 1"),
        ([{"learning_rate": 1.0}], ValueError, r"is outside the space\. Write one of loguniform"),
        ([{}] * 9, ValueError, r"^start has 9 trials, more than the trials=8 of the search\. Write"),
    ],
)
def test_what_is_no_start_is_refused(start, error, message):
    with pytest.raises(error, match=message):
        search(start=start)


def test_a_study_that_lies_elsewhere_is_refused(old):
    elsewhere = {**SPACE, "learning_rate": vtune.loguniform(1.0, 2.0)}
    with pytest.raises(ValueError, match="^start: no trial of that study lies in this space. Widen the space, or"):
        search(space=elsewhere, start=old)


def test_diverged_trials_are_no_start():
    space = vtune.Space.of(SPACE)
    old = search(space={**SPACE, "optimizer": "momentum", "learning_rate": vtune.loguniform(1e20, 1e25)})
    assert set(old.trials["status"]) == {"diverged"}
    with pytest.raises(ValueError, match="no trial of that study lies in this space"):
        first_trials(old, space, 8)


@pytest.mark.long
def test_what_a_fused_search_found_is_a_start():
    space = {name: parameter for name, parameter in SPACE.items() if name not in ("optimizer", "momentum")}
    fused = vtune.fused_search(vtune.MLP, space, digits(96, 50), rounds=1, trials=4, epochs=1, progress=False)
    best = fused(jax.random.key(3)).best_hparams
    study = search(space=space, start=[best], trials=2)
    assert study.trial(0).params["hidden"] == int(best["hidden"])
    assert study.trial(0).params["learning_rate"] == float(best["learning_rate"])


@pytest.mark.long
def test_a_row_with_layers_that_its_trial_does_not_have_can_be_pasted():
    space = {**SPACE, "hidden": vtune.per_layer(vtune.integers(4, 8)), "layers": vtune.integers(1, 3)}
    old = search(space=space)
    (short,) = old.trials.index[old.trials["layers"] == 1][:1]
    row = old.trials.loc[short, list(old.space.entries)].to_dict()
    assert pd.isna(row["hidden_3"])
    assert search(space=space, start=[row]).trial(0).params == old.trial(short).params


@pytest.mark.long
def test_choices_come_back_from_a_folder_as_what_they_were(tmp_path):
    def model_fn(hparams, rngs):
        widths = hparams["widths"]
        first = nnx.Linear(64, widths[0], rngs=rngs)
        return nnx.Sequential(first, nnx.Linear(widths[0], 10, rngs=rngs))

    space = {"widths": vtune.choice([(4, 2), (8, 4)]), "learning_rate": vtune.loguniform(1e-3, 1e-2)}
    old = search(model_fn=model_fn, space=space, folder=tmp_path)
    study = search(model_fn=model_fn, space=space, start=tmp_path, seed=1)
    assert study.trial(0).params == old.best_params


@pytest.mark.long
def test_none_is_a_choice_that_comes_back_from_a_folder(tmp_path):
    def model_fn(hparams, rngs):
        return nnx.Linear(64, 10, use_bias=hparams["bias"] is not None, rngs=rngs)

    space = {"bias": vtune.choice([None, "zeros"]), "learning_rate": vtune.loguniform(1e-3, 1e-2)}
    search(model_fn=model_fn, space=space, folder=tmp_path, start=[{"bias": None}, {"bias": None}], trials=2)
    study = search(model_fn=model_fn, space=space, start=tmp_path, seed=1, trials=2)
    assert [study.trial(trial_id).params["bias"] for trial_id in (0, 1)] == [None, None]


@pytest.mark.long
@pytest.mark.parametrize("given", ["study", "folder"])
def test_a_search_that_started_from_an_older_one_goes_on_when_that_has_grown(tmp_path, given):
    old = search(trials=4, folder=tmp_path / "old")
    new = search(trials=3, start=old, seed=1, folder=tmp_path / "new")
    old = search(trials=12, folder=tmp_path / "old")
    more = search(trials=6, start=old if given == "study" else tmp_path / "old", seed=1, folder=tmp_path / "new")
    assert (
        more.trials.sort_index().iloc[:3]["learning_rate"].tolist() == new.trials.sort_index()["learning_rate"].tolist()
    )
    assert more.settings["start"] == new.settings["start"]
    with pytest.raises(ValueError, match="holds a search with start= an older study"):
        search(trials=8, start=search(trials=4, seed=9), seed=1, folder=tmp_path / "new")


@pytest.mark.long
def test_of_a_folder_too_diverged_trials_are_no_start(tmp_path):
    search(space={**SPACE, "optimizer": "momentum", "learning_rate": vtune.loguniform(1e20, 1e25)}, folder=tmp_path)
    with pytest.raises(ValueError, match="no trial of that study lies in this space"):
        first_trials(tmp_path, vtune.Space.of({**SPACE, "learning_rate": vtune.loguniform(1e-3, 1e25)}), 8)
