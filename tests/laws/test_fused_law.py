"""The fused search is the search: the same first population, the same trials, the same zoom."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import vtune
from tests import user_models
from tests.compilations import Compilations
from tests.laws.population import digits, float64, trainings_of
from vtune.protocols import Plan
from vtune.strategies import coarse_to_fine, random

KEY = jax.random.key(7, impl="threefry2x32")
SPACE = {
    "learning_rate": vtune.loguniform(1e-4, 1e-2),
    "beta1": vtune.reverse_loguniform(0.5, 0.99),
    "epsilon": vtune.choice([1e-8, 1e-6]),
    "decay": vtune.uniform(0.0, 1.0),
    "batch_size": vtune.choice([32, 64]),
    "hidden": vtune.per_layer(vtune.integers(4, 24, log=True)),
    "layers": vtune.integers(1, 3),
}
ROUNDS, TRIALS, EPOCHS = 3, 12, 2


def fuse(space: Any = SPACE, model_fn: Any = vtune.MLP, **options: Any) -> vtune.FusedSearch:
    settings = {"rounds": ROUNDS, "trials": TRIALS, "epochs": EPOCHS, "progress": False, "data": digits(200, 60)}
    return vtune.fused_search(model_fn, space, **(settings | options))


def search(space: Any = SPACE, model_fn: Any = vtune.MLP, rounds: int = ROUNDS, **options: Any) -> vtune.Study:
    settings = {"trials": rounds * TRIALS, "epochs": EPOCHS, "progress": False, "data": digits(200, 60), "seed": 7}
    settings |= {"strategy": coarse_to_fine(rounds=rounds), "devices": 2, "finalists": 0}
    return vtune.search(model_fn, space, **(settings | options))


def points_of(study: vtune.Study) -> np.ndarray:
    table = study.plans.table
    columns = [name for name in table if name.startswith("point.")]
    return table[columns].to_numpy(np.float32).reshape(study.settings["trials"] // TRIALS, TRIALS, -1)


@pytest.fixture(scope="module")
def fused():
    return fuse()


@pytest.fixture(scope="module")
def compiled_and_results(fused):
    with Compilations() as compiled:
        results = jax.device_get(fused(KEY))
    return compiled, results


@pytest.fixture(scope="module")
def results(compiled_and_results):
    return compiled_and_results[1]


@pytest.fixture(scope="module")
def study():
    return search()


@pytest.fixture(scope="module")
def fused_in_float64():
    with float64():
        return fuse(data=digits(200, 60))


# One program


def test_three_rounds_are_one_compiled_program(compiled_and_results):
    assert compiled_and_results[0].count == 1


def test_another_key_compiles_nothing_and_gives_another_search(fused, results):
    other = jax.random.key(8, impl="threefry2x32")
    with Compilations() as compiled:
        others = jax.device_get(fused(other))
    assert compiled.count == 0
    assert not np.array_equal(others.points, results.points, equal_nan=True)


def test_the_same_key_gives_the_same_bits(fused, results):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(fused(KEY)), results)


# The same search


def test_the_first_population_is_that_of_search_bit_for_bit(results, study):
    np.testing.assert_array_equal(results.points[0], points_of(study)[0])
    first = study.trials[study.trials["round"] == 0]
    for name, values in results.hparams.items():
        used = first[name].notna().to_numpy()
        np.testing.assert_array_equal(values[0][used], first[name][used].to_numpy(values.dtype), err_msg=name)
        assert np.isnan(results.points[0][:, list(study.space.parameters).index(name)]).tolist() == (~used).tolist()


def test_trained_by_the_queue_its_populations_have_its_scores(results, study):
    # The same trials by other programs: law Agreement. Rounds 2 and 3 are not those of the study, but of these scores.
    rows = [
        {name: column[round, trial].item() for name, column in results.hparams.items()}
        for round in range(ROUNDS)
        for trial in range(TRIALS)
    ]
    whole = [study.parts.usage.complete(study.parts.usage.used(study.parts.usage.complete(row))) for row in rows]
    curves: dict[int, np.ndarray] = {}

    def keep(done):
        curves.update(zip([training.trial_id for training in done.chunk.trainings], done.curves, strict=True))

    study.executor.train(trainings_of(whole, EPOCHS), keep)
    ours = results.curves.reshape(len(rows), EPOCHS, -1)
    for trial_id, curve in curves.items():
        np.testing.assert_allclose(ours[trial_id][0, :2], curve[0, :2], rtol=1e-4)
        np.testing.assert_allclose(ours[trial_id][:, :2], curve[:, :2], rtol=1e-3)


def test_told_its_scores_the_strategy_asks_for_its_populations(fused, results):
    with_key = jax.random.fold_in(KEY, 1)  # the key of what is sampled
    strategy = fused.strategy
    state = strategy.init(with_key)
    for round in range(ROUNDS):
        plan: Plan = strategy.ask(with_key, state)
        used = ~np.isnan(results.points[round])
        np.testing.assert_array_equal(np.asarray(plan.points)[used], results.points[round][used])
        told = plan._replace(points=jnp.asarray(results.points[round]))
        state = strategy.tell(state, told, jnp.asarray(results.told[round]))


@pytest.mark.long
def test_from_end_to_end_it_is_the_search_in_float64(fused_in_float64):
    with float64():
        results, study = jax.device_get(fused_in_float64(KEY)), search(data=digits(200, 60))
    np.testing.assert_array_equal(results.points, points_of(study))
    scores = study.trials["score"].to_numpy().reshape(ROUNDS, TRIALS)
    np.testing.assert_array_equal(results.scores, scores)
    curves = study.curves[["train_loss", "loss"]].to_numpy().reshape(ROUNDS, TRIALS, EPOCHS, 2)
    np.testing.assert_allclose(results.curves[..., :2], curves, rtol=1e-9)
    assert results.best_score == study.best_score
    assert results.best_trial == study.top(1).index[0]
    for name, value in study.best_params.items():
        assert results.best_hparams[name] == value


def test_the_best_is_the_best(results):
    np.testing.assert_array_equal(results.trial_id, np.arange(ROUNDS * TRIALS).reshape(ROUNDS, TRIALS))
    place = np.unravel_index(np.argmin(results.told), results.told.shape)
    assert results.best_trial == results.trial_id[place]
    assert results.best_score == results.scores[place] == results.scores.max()
    assert all(results.best_hparams[name] == column[place] for name, column in results.hparams.items())


# Many keys at once


@pytest.mark.long
def test_eight_keys_at_once_are_eight_searches(fused_in_float64):
    keys, fused = jax.random.split(KEY, 8), fused_in_float64
    with float64():
        with Compilations() as compiled:
            together = jax.device_get(jax.jit(jax.vmap(fused, in_axes=(0, None)))(keys, fused.data))
        assert compiled.count == 1
        for number in range(0, 8, 3):
            alone = jax.device_get(fused(keys[number]))
            np.testing.assert_array_equal(together.points[number], alone.points)
            np.testing.assert_allclose(together.curves[number], alone.curves, rtol=1e-9)
            assert together.best_score[number] == alone.best_score
    assert len(np.unique(together.points[:, 0, 0, 0])) == 8


# Every kind of search


@pytest.mark.long
def test_trials_that_diverge_are_nan_and_told_apart():
    space = {**SPACE, "optimizer": "momentum", "learning_rate": vtune.loguniform(1e-3, 1e25)}
    space = {name: space[name] for name in space if name not in ("beta1", "epsilon")}
    results, study = jax.device_get(fuse(space, rounds=1)(KEY)), search(space, rounds=1)
    is_diverged = (study.trials["status"] == "diverged").to_numpy()
    assert 0 < is_diverged.sum() < TRIALS
    assert np.isnan(results.scores[0]).tolist() == np.isnan(results.told[0]).tolist() == is_diverged.tolist()
    steps = [study.trial(trial_id).diverged_step for trial_id in range(TRIALS)]
    assert results.diverged_step[0].tolist() == [-1 if step is None else step for step in steps]


@pytest.mark.long
def test_where_all_diverge_there_is_no_best_score():
    results = fuse({"learning_rate": vtune.loguniform(1e25, 1e30), "hidden": 4}, optimizer="sgd")(KEY)
    assert np.isnan(results.best_score)
    assert results.best_trial == 0


@pytest.mark.long
def test_epochs_beyond_one_window_go_on():
    space = {"learning_rate": vtune.loguniform(1e-4, 1e-3), "hidden": 4, "layers": 1, "batch_size": 32}
    options = {"epochs": 35, "rounds": 1, "data": digits(64, 20)}
    results, study = jax.device_get(fuse(space, **options)(KEY)), search(space, **options)
    assert results.curves.shape == (1, TRIALS, 35, 3)
    curves = study.curves.to_numpy().reshape(TRIALS, 35, 3)
    np.testing.assert_allclose(results.curves[0][..., :2], curves[..., :2], rtol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("select", ["last", "best_epoch"])
def test_the_epoch_that_is_ranked_is_chosen_as_in_a_search(select):
    space = {"learning_rate": vtune.loguniform(1e-3, 3e-1), "hidden": 8, "layers": 1, "batch_size": 32}
    with float64():
        options = {"epochs": 6, "rounds": 2, "select": select, "data": digits(96, 60)}
        results, study = jax.device_get(fuse(space, **options)(KEY)), search(space, **options)
    np.testing.assert_array_equal(results.scores.ravel(), study.trials["score"].to_numpy())
    np.testing.assert_array_equal(results.points, points_of(study))


@pytest.mark.long
def test_standardized_targets_have_scores_in_their_own_units():
    x, _ = digits(200, 60).train
    y = (x[:, 20] * 3000 + x[:, 30] * 500).astype(np.float32)
    data = vtune.Data(train=(x[:150], y[:150]), valid=(x[150:], y[150:]), standardize=True)
    results, study = jax.device_get(fuse(data=data, rounds=1)(KEY)), search(data=data, rounds=1)
    assert study.best_score > 1e3
    np.testing.assert_allclose(results.scores.ravel(), study.trials["score"], rtol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("batch_size", [vtune.choice([20, 50]), vtune.integers(30, 70), 37])
def test_batch_sizes_without_a_common_divisor_are_cut_with_rows_of_no_weight(batch_size):
    space = {**SPACE, "batch_size": batch_size}
    fused = fuse(space, rounds=1)
    results, study = jax.device_get(fused(KEY)), search(space, rounds=1)
    for trial_id, curve in study.curves.groupby("trial_id"):
        np.testing.assert_allclose(results.curves[0, trial_id, :, :2], curve.to_numpy()[:, :2], rtol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize(
    ("model_fn", "space"),
    [
        (user_models.Leaky, {"slope": vtune.uniform(0.0, 0.3), "scale": vtune.uniform(0.5, 1.5)}),
        (user_models.linen_noisy, {"rate": 0.1}),
        (user_models.cnn, {"width": 4}),
    ],
    ids=["nnx with numbers", "linen with dropout", "nnx of a constant width"],
)
def test_models_of_users_are_trained_as_in_a_search(model_fn, space):
    space = {**space, "learning_rate": vtune.loguniform(1e-4, 1e-2)}
    fused = fuse(space, model_fn, rounds=1)
    results, study = jax.device_get(fused(KEY)), search(space, model_fn, rounds=1)
    for trial_id, curve in study.curves.groupby("trial_id"):
        np.testing.assert_allclose(results.curves[0, trial_id, 0, :2], curve.to_numpy()[0, :2], rtol=1e-4)
    assert np.isnan(fused.padding)


@pytest.mark.long
def test_a_grid_may_have_fewer_trials_than_its_round_has_room_for():
    space = {"learning_rate": vtune.loguniform(1e-3, 1e-1), "beta1": vtune.uniform(0.5, 0.9), "hidden": 4}
    results = fuse(space, rounds=1, trials=11, strategy="grid")(KEY)
    np.testing.assert_array_equal(results.trial_id, np.arange(9)[None])
    rates = np.asarray(results.hparams["learning_rate"][0])
    assert len(np.unique(rates)) == 3


@pytest.mark.long
def test_random_search_is_a_strategy_too(study):
    results = fuse(strategy=random(round_size=TRIALS))(KEY)
    np.testing.assert_array_equal(results.points[0], points_of(study)[0])
    assert not np.array_equal(results.points[1], points_of(study)[1], equal_nan=True)


# What it says


class Listener:
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)

    def begin(self, num_trials): ...
    def trials_done(self, count, num_diverged, best_score): ...
    def round_done(self, round, num_rounds): ...
    def close(self): ...


def test_it_says_what_the_padding_costs():
    listener = Listener()
    space = {"learning_rate": vtune.loguniform(1e-4, 1e-2), "hidden": vtune.choice([8, 32]), "layers": 2}
    fused = fuse(space, progress=listener)
    (line,) = listener.lines
    small, large = (64 * width + width * width + width * 10 for width in (8, 32))
    share = np.mean([row["hidden"] == 8 for row in draws(space)])
    assert fused.padding == pytest.approx(large / (share * small + (1 - share) * large), rel=1e-6)
    assert "padded to hidden=32, micro-batches of 64 rows" in line
    assert line.endswith(f": {fused.padding:.1f} times the multiply-adds that true sizes need")
    assert line.startswith(f"fused: one program, 3 rounds of 12 trials in chunks of {fused.rung.lanes}")


def draws(space):
    key = jax.random.key(0, impl="threefry2x32")
    return vtune.Space.of(space).rows(np.asarray(vtune.space.sample_points(key, jnp.arange(1024), 2)))


def test_nothing_is_said_where_nothing_is_padded():
    fused = fuse({"learning_rate": vtune.loguniform(1e-4, 1e-2), "hidden": 8, "batch_size": 25}, trials=13, chunk=8)
    assert fused.padding == pytest.approx(14 / 13)  # 13 trials are two chunks of 7
    assert fused.rung.lanes == 7
    fused = fuse({"learning_rate": vtune.loguniform(1e-4, 1e-2), "hidden": 8, "batch_size": 25}, trials=7, chunk=64)
    assert (fused.padding, fused.rung.lanes) == (1.0, 7)
    assert fused.describe().endswith("micro-batches of 25 rows")


def test_rows_of_no_weight_and_waiting_for_the_slowest_lane_are_padding_too():
    space = {"learning_rate": vtune.loguniform(1e-4, 1e-2), "hidden": 8, "batch_size": vtune.choice([33, 128])}
    fused = fuse(space, data=digits(264, 60), chunk=4)
    rows = fused.rung.rows
    turns = {33: 8 * -(-33 // rows), 128: 2 * -(-128 // rows)}  # micro-batches of an epoch
    sizes = [row["batch_size"] for row in draws(space)]
    longest = np.mean([max(turns[size] for size in sizes[first : first + 4]) for first in range(0, 1024, 4)])
    trained = np.mean([264 // size * size for size in sizes])
    assert fused.padding == pytest.approx(longest * rows / trained, rel=1e-6)
    assert fused.padding > 1.2


@pytest.mark.long
def test_inside_another_program_the_rows_are_an_argument(fused):
    keys = jax.random.split(KEY, 2)
    lowered = jax.jit(jax.vmap(fused, in_axes=(0, None))).lower(keys, fused.data).as_text()
    assert max(map(len, lowered.splitlines())) < 4000
    assert len(jax.jit(jax.vmap(fused)).lower(keys).as_text()) > len(lowered) + 4 * 200 * 64


def test_what_does_not_fit_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr("vtune.fused.device_bytes", lambda device: 1 << 16)
    with pytest.raises(ValueError, match=r"a chunk of \d+ trials would take about .* GiB, but there are"):
        fuse()


# What it refuses


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"space": {**SPACE, "activation": vtune.choice(["relu", "tanh"])}},
            ValueError,
            "'activation' varies, and it must be a constant of a program.*one plain value for 'activation', or use",
        ),
        ({"space": {**SPACE, "optimizer": vtune.choice(["adam", "sgd"])}}, ValueError, "'optimizer' varies"),
        ({"space": {"learning_rate": 0.1}}, ValueError, "nothing varies"),
        ({"rounds": 0}, ValueError, "rounds=0"),
        ({"trials": -1}, ValueError, "trials=-1"),
        ({"strategy": random()}, ValueError, r"asks 1 times, for 36 trials.*Write strategy=.*random\(round_size=12\)"),
        ({"strategy": "coarse_to_fine"}, ValueError, "asks more than 3 times, for 9 trials at most"),
        ({"strategy": random(round_size=5)}, ValueError, "asks more than 3 times, for 5 trials at most"),
        ({"matmul_precision": "best"}, ValueError, "matmul_precision='best'"),
        ({"optimizer": "adm"}, ValueError, "did you mean 'adam'"),
    ],
)
def test_what_is_no_fused_search_is_refused_before_anything_compiles(changes, error, message):
    with Compilations() as compiled, pytest.raises(error, match=message):
        fuse(**changes)
    assert compiled.count <= (1 if "strategy" in changes else 0)  # a strategy is asked


def test_widths_of_a_model_that_is_not_elastic_are_refused():
    with pytest.raises(ValueError, match="'width' varies, and it must be a constant"):
        fuse({"width": vtune.choice([4, 8])}, user_models.cnn)
    with pytest.raises(ValueError, match="'batch_size' varies"):
        fuse({"batch_size": vtune.choice([32, 64])}, lambda rngs: nnx.Linear(64, 10, rngs=rngs))


@pytest.mark.parametrize("key", [jax.random.PRNGKey(0), jax.random.key(0, impl="rbg")])
def test_another_kind_of_key_is_refused(fused, key):
    with pytest.raises(TypeError, match=r"no typed threefry key\. Write jax.random.key"):
        fused(key)
