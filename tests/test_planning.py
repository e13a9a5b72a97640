"""A plan is what the search would do, told without doing it."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

import vtune
from tests.compilations import Compilations
from vtune.cli import main
from vtune.planning import plan
from vtune.training.cost import cost_table
from vtune.training.dealer import Dealer
from vtune.training.devices import kind_of
from vtune.training.outlook import Outlook

X = np.random.default_rng(0).normal(size=(240, 6)).astype(np.float32)
LABELS = np.arange(240) % 3
DATA = (X, LABELS)
RATE = {"learning_rate": vtune.loguniform(1e-3, 1e-1)}
MIXED = RATE | {
    "batch_size": vtune.powers_of_two(8, 64),
    "hidden": vtune.integers(4, 64, log=True),
    "layers": vtune.integers(1, 3),
}

LONG = {"trials": 20_000, "epochs": 50}
"""Of a search that is worth many programs."""


class Own(nnx.Module):
    """A model of a user's, which is not elastic."""

    def __init__(self, hparams, rngs, shapes):
        self.first = nnx.Linear(shapes.inputs[0], hparams["width"], rngs=rngs)
        self.last = nnx.Linear(hparams["width"], shapes.outputs, rngs=rngs)

    def __call__(self, x):
        return self.last(jax.nn.tanh(self.first(x)))


SPACES = {
    "mixed": (vtune.MLP, MIXED),
    "a width for each layer": (vtune.MLP, MIXED | {"hidden": vtune.per_layer(vtune.integers(4, 16))}),
    "one size": (vtune.MLP, RATE | {"batch_size": 16}),
    "optimizers": (vtune.MLP, MIXED | {"optimizer": vtune.choice(["adam", "momentum"])}),
    "odd batch sizes": (vtune.MLP, RATE | {"batch_size": vtune.choice([7, 24, 50])}),
    "a model of one's own": (Own, RATE | {"width": vtune.choice([4, 8]), "batch_size": 16}),
}


@pytest.mark.parametrize(("model_fn", "space"), SPACES.values(), ids=SPACES)
def test_the_plan_is_that_of_the_search_and_nothing_compiles(model_fn, space, monkeypatch):
    with Compilations() as compiled:
        forecast = plan(model_fn, space, DATA, trials=6, epochs=2)
    assert compiled.count == 0
    monkeypatch.setattr("vtune.searching.Loop.run", lambda self: None)  # what is planned is settled by then
    study = vtune.search(model_fn, space, DATA, trials=6, epochs=2, progress=False)
    assert forecast.ladder == study.ladder
    given = vtune.search(model_fn, space, DATA, trials=6, epochs=2, ladder=forecast.ladder, progress=False)
    assert given.ladder == study.ladder


@pytest.mark.parametrize(("model_fn", "space"), SPACES.values(), ids=SPACES)
def test_what_is_expected_adds_up(model_fn, space):
    forecast = plan(model_fn, space, DATA, trials=64, epochs=5, devices=2)
    rungs, compile_seconds = forecast.rungs, cost_table(kind_of(jax.devices()[0])).compile_seconds
    assert rungs["share"].sum() == pytest.approx(1)
    assert rungs["trials"].sum() == pytest.approx(64)
    assert rungs["share"].is_monotonic_decreasing
    assert (rungs["chunks"] * rungs["lanes"]).sum() >= 64
    assert 1 <= forecast.programs <= len(rungs) <= json.loads(forecast.ladder)["num_rungs"]
    assert (rungs["padding"] >= 1).all()
    assert rungs["train_seconds"].sum() / 2 <= forecast.warm_seconds < forecast.seconds
    assert forecast.seconds <= forecast.warm_seconds + forecast.programs * compile_seconds
    assert forecast.seconds >= rungs["train_seconds"].sum() / 2 + compile_seconds / 2
    assert f" {forecast.programs} program" in str(forecast).splitlines()[0]
    assert "64 trials of 5 epochs on 2 cpu devices" in forecast._repr_html_()


def test_shares_are_those_of_the_space_and_sizes_are_told():
    space = RATE | {"hidden": vtune.choice([8, 512]), "layers": 1, "batch_size": 16}
    rungs = plan(vtune.MLP, space, DATA, trials=20_000, epochs=20).rungs
    assert set(rungs["sizes"]) == {"layers 1, hidden 8", "layers 1, hidden 512"}
    np.testing.assert_allclose(rungs["share"], 0.5, atol=0.03)
    np.testing.assert_allclose(rungs["padding"], 1.0)
    assert set(rungs["structure"]) == {"optimizer=adam"}


def test_one_size_is_not_padded_and_compared_with_nothing():
    forecast = plan(vtune.MLP, SPACES["one size"][1], DATA, trials=64, epochs=5)
    assert forecast.rungs["padding"].tolist() == [1.0]
    assert "instead" not in forecast.why


def test_it_is_told_what_other_plans_would_take():
    forecast = plan(vtune.MLP, MIXED, DATA, trials=2048, epochs=20)
    assert "with all trials padded to the largest (1 program)" in forecast.why
    assert "with a program for each of " in forecast.why


@pytest.mark.long
def test_more_workers_take_less_and_a_mesh_compiles_one_program_after_the_other():
    times = [plan(vtune.MLP, MIXED, DATA, trials=256, epochs=50, devices=devices).seconds for devices in (1, 2, 4)]
    assert times[0] > times[1] > times[2] > times[0] / 8
    mesh = plan(vtune.MLP, MIXED, DATA, trials=256, epochs=50, devices=4, executor="mesh")
    assert mesh.seconds >= mesh.programs * cost_table(kind_of(jax.devices()[0])).compile_seconds


def looked_at(monkeypatch, model_fn, space):
    """Returns the study of a long search that trains nothing, and the outlook on it."""
    monkeypatch.setattr("vtune.searching.Loop.run", lambda self: None)
    study = vtune.search(model_fn, space, DATA, **LONG, progress=False)
    planner = study.parts.planner(**LONG, kind=kind_of(jax.devices()[0]), chunk="auto")
    return study, Outlook(study.parts, planner, [])


def test_the_largest_chunks_are_the_largest_in_thought(monkeypatch):
    study, outlook = looked_at(monkeypatch, vtune.MLP, MIXED)
    rungs = {study.job.rung(trial) for trial in outlook.draws}
    pairs = [(outlook.state_bytes(rung), study.job.program(rung).state_bytes) for rung in rungs]
    thought, true = zip(*pairs, strict=True)
    assert len(rungs) > 3
    assert np.argsort(thought).tolist() == np.argsort(true).tolist()
    np.testing.assert_allclose(thought, true, rtol=0.25)


def test_trials_of_a_space_take_longer_on_average_than_small_ones(monkeypatch):
    study, outlook = looked_at(monkeypatch, vtune.MLP, RATE | {"hidden": vtune.choice([8, 256]), "layers": 1})
    small, large = ({**outlook.draws[0], "hidden": hidden} for hidden in (8, 256))
    ladder = study.job.ladder
    of_small, of_large = (outlook.mean_over(ladder, trial) for trial in (small, large))
    assert of_large < 1 < of_small
    assert 1 / of_large + 1 / of_small == pytest.approx(2, rel=0.1)  # each size is that of half the trials
    of_its_own = ladder._replace(cells=(ladder.cell(small),))
    assert not of_its_own.covers(large)
    assert outlook.mean_over(of_its_own, small) == pytest.approx(1)  # among those that the ladder has a program for


def test_all_trials_of_a_model_that_is_not_known_are_taken_to_be_alike(monkeypatch):
    study, outlook = looked_at(
        monkeypatch, Own, SPACES["a model of one's own"][1] | {"batch_size": vtune.choice([8, 64])}
    )
    assert [outlook.mean_over(study.job.ladder, trial) for trial in outlook.draws[:9]] == [1.0] * 9


def test_workers_of_one_place_are_imagined_to_train_the_largest_first(monkeypatch):
    dealers = []

    class Watched(Dealer):
        def __init__(self, chunks, places, program, *rest):
            super().__init__(chunks, places, program, *rest)
            self.program, self.sizes = program, []
            dealers.append(self)

        def take(self, place):
            if (chunk := super().take(place)) is not None:
                self.sizes.append(self.program(chunk.rung).state_bytes)
                self.is_warm = self.program(chunk.rung).compile_seconds == 0
            return chunk

    monkeypatch.setattr("vtune.training.outlook.Dealer", Watched)
    plan(vtune.MLP, MIXED, DATA, **LONG, devices=2)
    of_warm = [dealer.sizes for dealer in dealers if dealer.is_warm]
    assert len({*of_warm[0]}) > 1
    assert of_warm == [sorted(sizes, reverse=True) for sizes in of_warm]


@pytest.mark.long
def test_a_long_search_is_foreseen_in_proportion():
    short, long = (plan(vtune.MLP, MIXED, DATA, trials=trials, chunk=4) for trials in (1000, 4000))
    ladder = long.ladder
    shorter = plan(vtune.MLP, MIXED, DATA, trials=1000, chunk=4, ladder=ladder)
    assert long.warm_seconds == pytest.approx(4 * shorter.warm_seconds, rel=0.1)
    assert short.ladder != ladder
    assert "at least" not in short.why


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    "wrong",
    [
        {"trials": 0},
        {"epochs": 2.5},
        {"chunk": "large"},
        {"executor": "pool"},
        {"devices": 99},
        {"ladder": "{}"},
        {"optimizer": "adm"},
        {"loss": "hinge"},
        {"metric": "auc"},
        {"direction": "up"},
        {"matmul_precision": "most"},
        {"space": {"hidden": 8}},
        {"space": RATE | {"score": vtune.uniform(0, 1)}},
        {"space": RATE | {"widht": vtune.integers(1, 4)}},
        {"space": RATE | {"batch_size": 1000}},
        {"model_fn": 3},
        {"data": (X, LABELS[:-1])},
    ],
    ids=str,
)
def test_errors_are_those_of_the_search(wrong):
    asked = {"model_fn": vtune.MLP, "space": RATE | {"batch_size": 16}, "data": DATA} | wrong
    with pytest.raises((ValueError, TypeError)) as ours:
        plan(**asked)
    with pytest.raises(ours.type) as theirs:
        vtune.search(**asked, progress=False)
    assert str(ours.value) == str(theirs.value)


def test_the_command_line_prints_a_plan_and_stops(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vtune.searching.search", lambda *_, **__: pytest.fail("it was to be planned alone"))
    (tmp_path / "space.toml").write_text(
        "learning_rate = { loguniform = [1e-4, 1.0] }\nhidden = { integers = [8, 64] }"
    )
    small = ["--space", str(tmp_path / "space.toml"), "--trials", "32", "--epochs", "3"]
    assert main(["search", *small, "--plan", "--folder", str(tmp_path / "study")]) == 0
    assert capsys.readouterr().out.startswith("32 trials of 3 epochs on 4 cpu devices: ")
    assert not (tmp_path / "study").exists()
    for option, given in {
        "--strategy": "random",
        "--seeds-per-trial": "3",
        "--time-budget": "10m",
        "--seed": "1",
    }.items():
        assert main(["search", *small, "--plan", option, given]) == 2
        assert capsys.readouterr().err.startswith(f"vtune: error: {option} {given}: a plan does not depend on it")
