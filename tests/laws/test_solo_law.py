"""Law Solo: a trial in a population equals the same trial alone, at its true size, in a plain Flax and Optax loop."""

import chex
import jax
import numpy as np
import pytest

from tests.laws.population import complete, digits, final_states, float64, initial_lane, make_queue, train
from tests.laws.reference import PlainMLP, clipped, train_alone
from vtune.data import Data
from vtune.parameters import choice, integers, loguniform
from vtune.space import per_layer
from vtune.training.draws import seed_draws
from vtune.training.elastic import truncated_normals
from vtune.training.trained import true_block

SIZES = [(16, 1), (37, 2), (128, 4)]
BATCH_SIZES = [32, 37, 96, 200]
RATES = [1e-4, 3e-3, 1e-1, 1.0]

SPACE = {
    "learning_rate": loguniform(1e-5, 1.0),
    "beta1": choice([0.5, 0.9, 0.99]),
    "beta2": choice([0.9, 0.999]),
    "epsilon": choice([1e-8, 1e-6]),
    "decay": choice([0.0, 0.1]),
    "batch_size": choice(BATCH_SIZES),
    "hidden": choice([16, 37, 128]),
    "layers": choice([1, 2, 4]),
}


def population(rates):
    """Every size with every batch size and learning rate; the other hyperparameters take turns."""
    grid = [(size, batch_size, rate) for size in SIZES for batch_size in BATCH_SIZES for rate in rates]
    return [
        {
            "learning_rate": float(np.float32(rate)),
            "beta1": float(np.float32([0.5, 0.9, 0.99][turn % 3])),
            "beta2": float(np.float32([0.9, 0.999][turn % 2])),
            "epsilon": float(np.float32([1e-8, 1e-6][turn % 2])),
            "decay": float(np.float32([0.0, 0.1][turn % 2])),
            "batch_size": batch_size,
            "hidden": hidden,
            "layers": layers,
        }
        for turn, ((hidden, layers), batch_size, rate) in enumerate(grid)
    ]


def orders_of(queue, num_epochs):
    num_rows = queue.job.data.num_train
    numbers = queue.job.root, np.int32(0), np.int32(0)
    return np.asarray(seed_draws(*numbers, num_rows=num_rows, num_epochs=num_epochs).orders)


def alone(queue, row, orders, activation="relu", moved_by=None):
    """The reference's curves and trained model for one trial, from vtune's initial weights, perhaps moved a bit."""
    data = queue.job.data
    widths = [row.get(f"hidden_{layer + 1}", row.get("hidden")) for layer in range(row["layers"])]
    model = PlainMLP(data.inputs[0], widths, data.outputs, activation)
    params = initial_lane(queue, row)[1].params
    model.load(params if moved_by is None else jax.tree.map(moved_by, params))
    (hparams,) = complete([row])
    return train_alone(model, hparams, data.train, data.valid, orders), model


@pytest.mark.parametrize("activation", [pytest.param("relu", marks=pytest.mark.long), "tanh"])
def test_one_epoch_in_float32_agrees_to_1e_4(activation):
    space = {**SPACE, "activation": activation}
    queue = make_queue(space)
    rows = [{**row, "activation": activation} for row in population([3e-3])]
    rows = rows if activation == "relu" else rows[1::4]
    curves, orders = train(queue, rows, 1), orders_of(queue, 1)
    for trial_id, row in enumerate(rows):
        truth, _ = alone(queue, row, orders, activation)
        np.testing.assert_allclose(curves[trial_id][:, :2], truth[:, :2], rtol=1e-4, err_msg=str(row))


@pytest.mark.long
def test_learning_rates_up_to_1_agree_after_one_epoch():
    queue = make_queue(SPACE)
    rows = [row for row in population(RATES) if (row["hidden"], row["batch_size"]) in [(16, 96), (37, 37), (128, 200)]]
    curves, orders = train(queue, rows, 1), orders_of(queue, 1)
    for trial_id, row in enumerate(rows):
        truth, _ = alone(queue, row, orders)
        np.testing.assert_allclose(curves[trial_id][:, :2], truth[:, :2], rtol=1e-4, err_msg=str(row))


@pytest.mark.parametrize(
    "batch_size", [size if size == 37 else pytest.param(size, marks=pytest.mark.long) for size in BATCH_SIZES]
)
def test_fifty_steps_in_float64_agree_to_1e_9(batch_size):
    with float64():
        data = digits()
        epochs = -(-50 // (data.num_train // batch_size))
        queue = make_queue(SPACE, data)
        rows = [row for row in population(RATES) if row["batch_size"] == batch_size]
        orders, lanes = orders_of(queue, epochs), final_states(queue, rows, epochs)
        for row, (_, lane) in zip(rows, lanes, strict=True):
            _, model = alone(queue, row, orders)
            for name in model.names:
                layer = getattr(model, name)
                for part in ("kernel", "bias"):
                    truth = np.asarray(getattr(layer, part)[...])
                    ours = lane.params[name][part][tuple(map(slice, truth.shape))]
                    assert ours.dtype == np.float64
                    scale = np.abs(truth).max()
                    np.testing.assert_allclose(ours, truth, rtol=0, atol=1e-9 * scale, err_msg=f"{row} {name}")


@pytest.mark.long
def test_whole_trainings_at_small_learning_rates_agree_to_1e_3():
    queue = make_queue(SPACE)
    rows, excused = [row for row in population([1e-4, 3e-3]) if row["batch_size"] in (37, 96)], []
    curves, orders = train(queue, rows, 20), orders_of(queue, 20)
    for trial_id, row in enumerate(rows):
        truth, _ = alone(queue, row, orders)
        deviation = np.abs(curves[trial_id][:, :2] / truth[:, :2] - 1).max()
        # Now and then a trial is chaotic at 3e-3 too: with jax 0.7.2 one of these is 1.2 % off, and so is the plain
        # loop where its initial weights are moved by 2 ulp. Only such a measurement excuses more than 1e-3.
        if deviation > 1e-3:
            moved = [alone(queue, row, orders, moved_by=by_2_ulp(seed))[0] for seed in range(3)]
            assert deviation < 2 * max(np.abs(curve[:, :2] / truth[:, :2] - 1).max() for curve in moved), row
            excused.append(row)
    assert len(excused) <= 1


def by_2_ulp(seed):
    """Moves weights up, down or not at all, at random."""
    numbers = np.random.default_rng(seed)

    def move(leaf):
        ulps = numbers.integers(-1, 2, leaf.shape) * 2
        return np.where(leaf == 0, leaf, leaf + np.spacing(leaf) * ulps.astype(leaf.dtype))

    return move


@pytest.mark.parametrize("optimizer", ["momentum", pytest.param("rmsprop", marks=pytest.mark.long)])
def test_every_optimizer_agrees_and_shares_the_search_with_the_others(optimizer):
    space = {
        **SPACE,
        "optimizer": choice(["adam", "momentum", "rmsprop"]),
        "momentum": choice([0.5, 0.9]),
    }
    with float64():
        queue = make_queue(space, digits())
        rows = [
            {**row, "optimizer": optimizer, "momentum": float(np.float32(0.9))}
            for row in population([3e-3])
            if row["batch_size"] in (37, 96)
        ]
        curves, orders = train(queue, rows, 3), orders_of(queue, 3)
        for trial_id, row in enumerate(rows):
            truth, _ = alone(queue, row, orders)
            np.testing.assert_allclose(curves[trial_id][:, :2], truth[:, :2], rtol=1e-9, err_msg=str(row))


@pytest.mark.long
def test_an_optimizer_that_measures_all_gradients_agrees_whatever_layers_its_neighbours_have():
    space = {**SPACE, "hidden": 37, "layers": integers(1, 3), "batch_size": choice([32, 96])}
    with float64():
        queue = make_queue(space, digits(), optimizer=clipped, trials=6)
        base = [row for row in population([3e-3]) if row["batch_size"] in (32, 96)]
        rows = [{**base[number], "hidden": 37, "layers": 1 + number % 3} for number in range(6)]
        assert len({queue.job.ladder.rung(row) for row in complete(rows)}) == 1
        curves, orders = train(queue, rows, 3), orders_of(queue, 3)
        for trial_id, row in enumerate(rows):
            truth, _ = alone(queue, {**row, "optimizer": "clipped"}, orders)
            np.testing.assert_allclose(curves[trial_id][:, :2], truth[:, :2], rtol=1e-9, err_msg=str(row))


@pytest.mark.long
def test_a_width_of_its_own_in_every_layer_agrees():
    space = {**SPACE, "hidden": per_layer(integers(5, 130, log=True)), "layers": integers(1, 4)}
    widths = [
        (1, (130, 5, 40, 77)),
        (2, (7, 128, 5, 5)),
        (3, (130, 5, 40, 77)),
        (4, (33, 5, 90, 5)),
        (4, (130, 5, 40, 77)),
    ]
    with float64():
        queue = make_queue(space, digits(), trials=3000)
        base = [row for row in population([3e-3]) if row["batch_size"] in (37, 96)]
        rows = [
            {**base[number], **{f"hidden_{i + 1}": width for i, width in enumerate(some)}, "layers": layers}
            for number, (layers, some) in enumerate(widths)
        ]
        assert len({queue.job.ladder.rung(row) for row in complete(rows)}) > 2
        curves, orders = train(queue, rows, 3), orders_of(queue, 3)
        for trial_id, row in enumerate(rows):
            truth, _ = alone(queue, row, orders)
            np.testing.assert_allclose(curves[trial_id][:, :2], truth[:, :2], rtol=1e-9, err_msg=str(row))


@pytest.mark.long
def test_regression_agrees():
    x, y = digits().train
    targets = np.stack([y / 9, (y % 2).astype(np.float32)], axis=1).astype(np.float32)
    data = Data(train=(x[:300], targets[:300]), valid=(x[300:], targets[300:]))
    queue = make_queue(SPACE, data)
    rows = population([3e-3])[:6]
    curves, orders = train(queue, rows, 1), orders_of(queue, 1)
    for trial_id, row in enumerate(rows):
        truth, _ = alone(queue, row, orders)
        np.testing.assert_allclose(curves[trial_id], truth, rtol=1e-4, err_msg=str(row))


def test_the_true_block_of_initial_weights_is_the_same_on_every_rung():
    row = population([3e-3])[5]
    lanes = [
        initial_lane(make_queue({**SPACE, "hidden": choice(widths), "layers": choice(depths)}), row)
        for widths, depths in [([37, 128], [2, 4]), ([16, 37], [1, 2]), ([37, 300], [2])]
    ]
    assert len({rung.sizes for rung, _ in lanes}) > 1
    shapes = {
        "hidden_1": {"kernel": (64, 37), "bias": (37,)},
        "hidden_2": {"kernel": (37, 37), "bias": (37,)},
        "output": {"kernel": (37, 10), "bias": (10,)},
    }
    structs = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, np.float32), shapes, is_leaf=lambda leaf: isinstance(leaf, tuple)
    )
    first, *others = [true_block(structs, lane.params) for _, lane in lanes]
    for other in others:
        chex.assert_trees_all_equal(first, other)


@pytest.mark.long
def test_a_draw_depends_on_its_place_and_not_on_the_size_of_its_matrix():
    def draw(width):
        keys = jax.random.split(jax.random.key(3, impl="threefry2x32"), 3)
        blocks = [(width, 10), (64, width), (width, width)]
        return jax.device_get(jax.jit(jax.vmap(lambda key: truncated_normals(key, blocks)))(keys))

    large = draw(301)
    for width in (7, 16, 37, 51, 107):
        for part, whole in zip(draw(width), large, strict=True):
            np.testing.assert_array_equal(part, whole[:, : part.shape[1], : part.shape[2]])


def test_initial_weights_are_lecun_normal_at_the_true_fan_in():
    queue = make_queue({**SPACE, "hidden": choice([37, 400]), "layers": 2})
    row = {**population([3e-3])[0], "hidden": 400, "layers": 2}
    _, lane = initial_lane(queue, row)
    kernel = lane.params["hidden_2"]["kernel"]
    np.testing.assert_allclose(kernel.std(), 1 / np.sqrt(400), rtol=0.01)
    assert np.abs(kernel).max() <= 2 / 0.8796 / np.sqrt(400)
    row["hidden"] = 37
    _, lane = initial_lane(queue, row)
    np.testing.assert_allclose(lane.params["hidden_2"]["kernel"][:37, :37].std(), 1 / np.sqrt(37), rtol=0.05)
    assert not any(layer["bias"].any() for layer in lane.params.values())


@pytest.mark.long
def test_whole_trainings_at_all_learning_rates_have_equal_quartiles():
    # Training is chaotic: at large learning rates single losses part, their distribution does not (law Agreement).
    queue = make_queue(SPACE)
    sizes = [(16, 1), (37, 2)]
    rows = [row for row in population(np.geomspace(1e-4, 1.0, 12)) if (row["hidden"], row["layers"]) in sizes]
    rows = [row for row in rows if row["batch_size"] in (37, 96)]
    curves, orders = train(queue, rows, 10), orders_of(queue, 10)
    ours = np.array([curves[trial_id][-1, 1] for trial_id in range(len(rows))])
    truth = np.array([alone(queue, row, orders)[0][-1, 1] for row in rows])
    assert len(rows) == 48
    drawn = np.random.default_rng(0).choice(truth, (2000, len(rows)))
    for share in (0.25, 0.5, 0.75):
        noise = np.quantile(drawn, share, axis=1).std()
        assert abs(np.quantile(ours, share) - np.quantile(truth, share)) < noise
