"""A retest finds out whether the old best is still good, says what moved, and searches on from there."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from flax import nnx

import vtune
from tests.compilations import Compilations
from vtune.cli import main
from vtune.keys import seed_words
from vtune.original import Layout
from vtune.progress import Silent
from vtune.results.store import read_folder
from vtune.retesting import NEIGHBOUR, NEW, OLD, _configurations
from vtune.training.setup import make_parts

pytestmark = pytest.mark.filterwarnings("ignore::vtune.scaling.SizeWarning")

SPACE = {
    "learning_rate": vtune.loguniform(1e-5, 1.0),
    "hidden": vtune.integers(4, 8),
    "decay": vtune.choice([0.1, 0.0], ordered=False),
    "layers": 1,
    "batch_size": 16,
}
SMALL = {"devices": 1, "chunk": 8, "progress": False}
FEW = {"seeds": 3, "neighbours": 4, "fresh": 6, "trials": 16}


def rows(seed=0, gain=1.0, num_rows=80, columns=4):
    """A regression whose best learning rate falls as the square of the gain."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(num_rows, columns)).astype(np.float32)
    y = x[:, 0] - x[:, 1] + 0.1 * generator.normal(size=num_rows).astype(np.float32)
    return gain * x, y.astype(np.float32)


def search(data=None, **changes):
    plain = {"strategy": "random", "trials": 16, "epochs": 4, "optimizer": "sgd", "finalists": 3}
    given = {"model_fn": vtune.MLP, "space": SPACE} | plain | SMALL | changes
    return vtune.search(**given, data=data or rows())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("old") / "study"


@pytest.fixture(scope="module")
def study(folder):
    return search(folder=folder)


@pytest.fixture(scope="module")
def calm(study):
    return vtune.retest(study, rows(seed=1), **FEW, **SMALL)


@pytest.fixture(scope="module")
def stale(study):
    return vtune.retest(study, rows(seed=1, gain=30.0), **FEW, **SMALL)


def test_without_drift_the_old_best_is_not_stale(calm, study):
    assert calm.verdict != "stale"
    assert calm.refined is None
    assert calm.best_params == study.best_params


def test_the_old_best_its_neighbours_and_fresh_samples_are_tried(calm, study):
    assert calm.trials["role"].tolist() == [OLD] + 4 * [NEIGHBOUR] + 6 * [NEW]
    assert calm.params[0] == study.best_params
    assert list(calm.trials.columns) == [*SPACE, "role", "score", "judged", "diverged"]
    assert np.flatnonzero(np.isfinite(calm.trials["judged"])).tolist() == sorted({0, calm.evidence.challenger})
    points = study.space.encode(calm.params)
    rate, units, _ = np.abs(points[1:5] - points[0]).T
    assert 0 < rate.max() <= 0.1 + 1e-6
    assert units.max() <= 0.2 + 1e-6  # a level
    assert np.abs(points[5:, 0] - points[0, 0]).max() > 0.2


def test_neighbours_of_another_structure_are_whole():
    space = {
        "learning_rate": vtune.loguniform(1e-3, 1.0),
        "hidden": vtune.per_layer(vtune.integers(4, 64, log=True)),
        "layers": vtune.integers(1, 3),
        "optimizer": vtune.choice(["sgd", "momentum"]),
        "momentum": vtune.uniform(0.1, 0.9),
        "batch_size": 16,
    }
    best = {"learning_rate": 1.0, "hidden_1": 64, "layers": 1, "optimizer": "sgd"}
    parts = make_parts(vtune.MLP, space, rows())
    tried = _configurations(parts, best, seed_words(0), neighbours=60, fresh=4)
    varying = [{name: row[name] for name in parts.written.parameters if name in row} for row in tried.used]
    assert varying[0] == best
    assert {row["layers"] for row in varying[1:61]} == {1, 2}
    shares = [row["optimizer"] == "momentum" for row in varying[1:61]]
    assert 2 <= sum(shares) <= 20  # an eighth of them
    for row, point in zip(varying, tried.points, strict=True):
        assert [f"hidden_{layer}" in row for layer in (1, 2, 3)] == [layer <= row["layers"] for layer in (1, 2, 3)]
        assert ("momentum" in row) == (row["optimizer"] == "momentum")
        assert np.isfinite(point).tolist() == [name in row for name in parts.written.parameters]
    assert len({row["hidden_2"] for row in varying[1:61] if "hidden_2" in row}) > 5  # drawn from its whole range


def test_more_neighbours_or_samples_begin_with_the_same_ones(calm, study):
    more = vtune.retest(study, rows(seed=1), **FEW | {"neighbours": 5, "fresh": 8}, refine=False, **SMALL)
    assert more.params[1:5] == calm.params[1:5]
    assert more.params[6:12] == calm.params[5:]


def test_a_configuration_trains_as_it_does_in_a_search(calm, study):
    alone = search(rows(seed=1), trials=1, start=[calm.params[7]], seeds_per_trial=20, finalists=0)
    scores = [curve[-1, -1] for curve in alone.trial(0).seed_curves[17:20]]
    assert calm.trials["score"][7] == pytest.approx(np.mean(scores), rel=1e-4)


def test_after_a_drift_it_is_stale_and_the_refined_search_is_better(stale, study):
    assert (stale.verdict, stale.more_seeds) == ("stale", 0)
    assert stale.moved.index[0] == "learning_rate"
    assert stale.moved.loc["learning_rate", "from"] == study.best_params["learning_rate"]
    assert stale.moved.loc["learning_rate", "to"] < study.best_params["learning_rate"] / 5
    assert "decay" not in stale.moved.index
    assert stale.refined.best_score < np.nan_to_num(stale.refined.trials["score"][0], nan=np.inf)
    assert stale.best_params == stale.refined.best_params
    assert len(stale.refined.trials) == 16


def test_the_refined_search_begins_with_the_old_best_and_the_challenger(stale):
    table = stale.refined.trials
    for trial_id, number in enumerate([0, stale.evidence.challenger]):
        assert table.loc[trial_id, list(SPACE)].to_dict() == stale.params[number]


def test_without_a_refined_search_the_challenger_is_the_best(stale, study):
    plain = vtune.retest(study, rows(seed=1, gain=30.0), refine=False, **FEW, **SMALL)
    assert plain.refined is None
    assert plain.best_params == stale.params[stale.evidence.challenger]
    assert plain.evidence == stale.evidence


def test_a_folder_tells_the_same_as_its_study(stale, study, folder):
    from_folder = vtune.retest(folder, rows(seed=1, gain=30.0), refine=False, **FEW, **SMALL)
    assert from_folder.params == stale.params
    assert [list(map(type, row.values())) for row in from_folder.params] == [
        list(map(type, row.values())) for row in stale.params
    ]
    pd.testing.assert_frame_equal(from_folder.trials, stale.trials)
    pd.testing.assert_frame_equal(from_folder.moved, stale.moved)
    assert from_folder.evidence == stale.evidence


def test_two_devices_come_to_the_same_bits(stale, study):
    two = vtune.retest(study, rows(seed=1, gain=30.0), **FEW, **SMALL | {"devices": 2})
    pd.testing.assert_frame_equal(two.trials, stale.trials, check_exact=True)
    assert two.refined.best_params == stale.refined.best_params


def test_a_tolerance_decides_what_matters(calm, study):
    wide = vtune.retest(study, rows(seed=1), tolerance=1e6, **FEW, **SMALL)
    assert (wide.verdict, wide.more_seeds) == ("fresh", 0)
    assert wide.summary().startswith("fresh: none of 10 configurations is better than the old best by more than 1e+06")
    assert wide.trials.equals(calm.trials)


def test_the_summary_says_it_in_words(stale, calm, study):
    told = repr(stale)
    assert told.splitlines()[0].startswith("stale: on the new data another configuration is better")
    assert "did not choose it: a training diverged, which counts as worse than the worst" in told
    assert "  old best: mse -, diverged 6 of 6 times, learning_rate=" in told
    assert f"learning_rate moved: {study.best_params['learning_rate']:.4g} -> " in told
    assert "refined search of 16 trials on the new data: mse " in told
    assert stale._repr_html_().startswith("<pre>stale: ")
    difference, low, high = (f"{number:.4g}" for number in (calm.evidence.difference, *calm.evidence.interval))
    assert f"did not choose it: {difference} of mse, {low} to {high} (each bound at 95 %)" in calm.summary()


@pytest.mark.parametrize(("more_seeds", "told"), [(5, "5 more seeds would decide, seeds=8"), (None, "no 1000 seeds")])
def test_the_summary_says_how_many_more_seeds_would_decide(calm, more_seeds, told):
    evidence = calm.evidence._replace(verdict="not enough evidence", more_seeds=more_seeds)
    assert told in dataclasses.replace(calm, evidence=evidence).summary().splitlines()[0]


def test_standardized_data_stay_so_and_a_gain_does_not_matter():
    study = search(vtune.Data.of(rows(), standardize=True))
    retest = vtune.retest(study, rows(seed=1, gain=30.0), **FEW, **SMALL)
    assert retest.verdict != "stale"


# Functions of one's own


class Linear(nnx.Module):
    def __init__(self, inputs, outputs, rngs):
        self.layer = nnx.Linear(inputs, outputs, rngs=rngs)

    def __call__(self, x):
        return self.layer(x)


def linear(hparams, rngs, shapes):
    return Linear(shapes.inputs[0], shapes.outputs, rngs)


def sgd(hparams):
    """Bears the name of one of vtune's, and is not taken for it."""
    return optax.sgd(hparams["learning_rate"])


def largest(outputs, y):
    return jnp.max(jnp.abs(outputs - y), axis=-1)


@pytest.mark.long
def test_functions_of_ones_own_are_given_again_where_a_folder_cannot_tell_them(tmp_path):
    space = {"learning_rate": SPACE["learning_rate"], "batch_size": 16}
    own = {"model_fn": linear, "optimizer": sgd, "metric": largest}
    study = search(space=space, **own, direction="minimize", folder=tmp_path)
    new = rows(seed=1, gain=30.0)
    whole = vtune.retest(study, new, refine=False, **FEW, **SMALL)
    for name in own:
        others = {other: function for other, function in own.items() if other != name}
        with pytest.raises(ValueError, match=rf"its {name} was the function .*\. Give it, .*{name}="):
            vtune.retest(tmp_path, new, **others, **FEW, **SMALL)
    again = vtune.retest(tmp_path, new, **own, refine=False, **FEW, **SMALL)
    pd.testing.assert_frame_equal(again.trials, whole.trials)
    assert again.metric == "largest"


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 1}, r"seeds=1: this must be a whole number of 2 or more"),
        ({"fresh": -1}, r"fresh=-1: this must be"),
        ({"neighbours": 3, "fresh": 3}, r"neighbours=3 and fresh=3 make 6 challengers, too few .* Write 7 or more"),
        ({"trials": 0}, r"trials=0"),
        ({"epochs": 0}, r"epochs=0"),
        ({"seed": -1}, r"seed=-1"),
        ({"chunk": 0}, r"chunk=0"),
        ({"tolerance": -0.1}, r"tolerance=-0\.1 is no difference of scores\. Write one"),
        ({"data": rows(columns=3)}, r"a row of x has the shape \(3,\), and in the study it had \(4,\)\. Give the same"),
        ({"data": (rows()[0], np.stack([rows()[1]] * 2, 1))}, r"y has 2 columns of targets, .* it had 1\. Give rows"),
        ({"data": (rows()[0],)}, r"."),
        ({"study": "nowhere"}, r'folder "nowhere" is not there'),
        ({"devices": 99}, r"devices=99"),
    ],
)
def test_what_cannot_be_retested_is_refused_before_anything_compiles(study, changes, message):
    with Compilations() as compilations, pytest.raises((ValueError, TypeError, OSError), match=message):
        vtune.retest(**{"study": study, "data": rows(seed=1), **FEW, **SMALL, **changes})
    assert compilations.count == 0


@pytest.fixture(scope="module")
def refined(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("refined")
    vtune.retest(study, rows(seed=1, gain=30.0), folder=folder, **FEW, **SMALL)
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": rows(seed=2, gain=30.0)}, r"data whose values have the digest .* Write the same to continue"),
        ({"seed": 1}, r"holds a search with seed=0, and this one has seed=1"),
        ({"epochs": 3}, r"holds a search with epochs=4, and this one has epochs=3"),
        ({"chunk": 4}, r"holds a search with chunk=8, and this one has chunk=4"),
        ({"trials": 8}, r"trials=8: the folder holds a search of 16"),
    ],
)
def test_a_folder_with_another_search_is_refused_before_anything_is_trained(
    study, refined, changes, message, monkeypatch
):
    monkeypatch.setattr("vtune.training.worker.Worker.train", lambda *_: pytest.fail("it trains"))
    given = {"study": study, "data": rows(seed=1, gain=30.0), "folder": refined, **FEW, **SMALL}
    with pytest.raises(ValueError, match=message):
        vtune.retest(**(given | changes))


def test_a_folder_with_a_search_by_another_strategy_is_refused_before_anything_is_trained(study, folder, monkeypatch):
    monkeypatch.setattr("vtune.training.worker.Worker.train", lambda *_: pytest.fail("it trains"))
    with pytest.raises(ValueError, match=r"holds a search with strategy="):
        vtune.retest(study, rows(), folder=folder, **FEW, **SMALL)


def test_a_retest_goes_on_in_the_folder_of_its_own_refined_search(study, refined, stale):
    again = vtune.retest(study, rows(seed=1, gain=30.0), folder=refined, **FEW, **SMALL)
    assert again.refined.trials["score"].equals(stale.refined.trials["score"])


class Told(Silent):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def test_the_verdict_is_told_before_the_refined_search(study, stale, monkeypatch):
    def fails(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("vtune.retesting.search", fails)
    with pytest.raises(KeyboardInterrupt):
        vtune.retest(study, rows(seed=1, gain=30.0), **FEW, **SMALL | {"progress": (told := Told())})
    assert stale.summary().splitlines()[:-1] == told.lines[2:]


def test_other_columns_are_refused(tmp_path):
    x, y = rows()
    frame = pd.DataFrame(x, columns=["a", "b", "c", "d"])
    study = search((frame, y), folder=tmp_path, trials=2)
    for held in (study, tmp_path):
        with pytest.raises(ValueError, match=r"x has a column 'b' where the study had 'a'\. Give the same columns"):
            vtune.retest(held, (frame[["b", "a", "c", "d"]], y), **FEW, **SMALL)


def test_another_number_of_classes_is_refused():
    x, _ = rows()
    layout = Layout.of(vtune.Data.of((x, np.arange(80) % 3)))
    layout.check(vtune.Data.of((x + 1, np.arange(80) % 3)))
    with pytest.raises(ValueError, match=r"y has 4 classes, and in the study it had 3\. Give rows with the same"):
        layout.check(vtune.Data.of((x, np.arange(80) % 4)))


def test_a_folder_without_a_finite_trial_or_of_an_older_version_is_refused(tmp_path):
    diverging = {**SPACE, "learning_rate": vtune.loguniform(1e24, 1e25)}
    study = search(space=diverging, folder=tmp_path, trials=2)
    with pytest.raises(ValueError, match="holds no trial with a finite score, so none is the best; search again"):
        vtune.retest(tmp_path, rows(seed=1), **FEW, **SMALL)
    with pytest.raises(ValueError, match="none of 2 trials has a finite score"):
        vtune.retest(study, rows(seed=1), **FEW, **SMALL)
    record = json.loads((tmp_path / "study.json").read_text())
    del record["asked"]
    (tmp_path / "study.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="was written by a version that did not record its space .* Give vtune.retest"):
        vtune.retest(tmp_path, rows(seed=1), **FEW, **SMALL)


# The command line


def test_the_command_prints_the_summary(folder, stale, tmp_path, capsys):
    x, y = rows(seed=1, gain=30.0)
    table = pd.DataFrame(np.c_[y, x], columns=["price", "a", "b", "c", "d"])
    table.to_csv(tmp_path / "new.csv", index=False)
    sizes = [f"--{name}={value}" for name, value in (FEW | {"chunk": 8, "refined": tmp_path / "refined"}).items()]
    assert main(["retest", str(folder), "--data", str(tmp_path / "new.csv"), "--target", "price", *sizes]) == 0
    target, *summary = capsys.readouterr().out.splitlines()
    assert target == f"{tmp_path / 'new.csv'}: target price (a quantity)"
    assert summary == stale.summary().splitlines()
    assert len(read_folder(tmp_path / "refined").trials) == 16


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nowhere", "--data", "digits"], 'folder "nowhere" is not there'),
        (["{folder}", "--data", "no.npz"], 'data "no.npz": there is no such file'),
        (["{folder}", "--data", "digits", "--seeds", "1"], "seeds=1"),
    ],
)
def test_the_command_tells_of_mistakes(folder, study, capsys, arguments, problem):
    assert main(["retest", *(part.format(folder=folder) for part in arguments)]) == 2
    assert problem in capsys.readouterr().err
