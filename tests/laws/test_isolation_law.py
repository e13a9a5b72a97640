"""Laws Zero and Isolation: padding stays exactly 0, and a diverged lane is frozen and disturbs nobody."""

import jax
import numpy as np
import pytest

from tests.laws.population import complete, digits, final_states, initial_lane, make_queue, train, trainings_of
from vtune.data import Data
from vtune.parameters import choice, loguniform
from vtune.protocols import DIVERGED, IDLE, RUNNING
from vtune.space import per_layer
from vtune.training.task import Recipe
from vtune.training.trained import true_block

SPACE = {
    "learning_rate": loguniform(1e-4, 1e30),
    "batch_size": choice([32, 37, 96]),
    "hidden": choice([16, 37, 64]),
    "layers": choice([1, 2, 3]),
}
SIZES = [(16, 1), (37, 2), (64, 3), (16, 3), (37, 1), (64, 2)]
HUGE = 1e30


def population(rate=1e-2):
    turns = zip(SIZES, [32, 37, 96, 96, 32, 37], strict=True)
    return [{"learning_rate": rate, "batch_size": b, "hidden": h, "layers": n} for (h, n), b in turns]


def targets():
    """A regression, whose loss a huge step drives to infinity, as no cross entropy of relu units would be."""
    data = digits()
    train, valid = ((x, (y / 9).astype(np.float32)) for x, y in (data.train, data.valid))
    return Data(train=train, valid=valid)


def assert_zero_outside(tree, recipe: Recipe, row):
    """Everything that the true network does not have is exactly 0."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes, _ = jax.eval_shape(lambda key: recipe.network().init(key, complete([row])[0]), key)
    inside = true_block(shapes, tree)
    total = sum(np.abs(leaf).sum(dtype=np.float64) for leaf in jax.tree.leaves(tree))
    within = sum(np.abs(leaf).sum(dtype=np.float64) for leaf in jax.tree.leaves(inside))
    assert np.isfinite(total)
    num_inside = sum(leaf.size for leaf in jax.tree.leaves(inside))
    num_zero = sum((leaf == 0).sum() for leaf in jax.tree.leaves(tree))
    assert num_zero >= sum(leaf.size for leaf in jax.tree.leaves(tree)) - num_inside
    assert total == pytest.approx(within, rel=1e-12)


@pytest.mark.parametrize(
    "activation", ["relu", *(pytest.param(name, marks=pytest.mark.long) for name in ("tanh", "gelu", "silu"))]
)
def test_zero_padded_weights_and_moments_stay_zero(activation):
    queue = make_queue({**SPACE, "activation": activation})
    rows = [{**row, "activation": activation} for row in population()]
    for row, (rung, lane) in zip(rows, final_states(queue, rows, 3), strict=True):
        moments = lane.optimizer_state[0]
        assert dict(rung.sizes).get("hidden", row["hidden"]) >= row["hidden"]
        for tree in (lane.params, moments.mu, moments.nu):
            assert_zero_outside(tree, queue.job.recipe, row)
        assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(moments.nu))


def test_zero_initial_weights_are_zero_outside_the_true_block():
    queue = make_queue(SPACE)
    for row in population():
        _, lane = initial_lane(queue, row)
        assert_zero_outside(lane.params, queue.job.recipe, row)


@pytest.mark.long
def test_zero_holds_where_every_layer_has_a_width_of_its_own():
    queue = make_queue({**SPACE, "hidden": per_layer(choice([5, 16, 40])), "layers": choice([1, 2, 3])})
    widths = [(40, 5, 16), (5, 40, 5), (16, 5, 40)]
    rows = [
        {**population()[0], **{f"hidden_{i + 1}": width for i, width in enumerate(some)}, "layers": layers}
        for some in widths
        for layers in (1, 2, 3)
    ]
    for row, (rung, lane) in zip(rows, final_states(queue, rows, 2), strict=True):
        moments = lane.optimizer_state[0]
        assert "layers" in dict(rung.sizes)
        for tree in (lane.params, moments.mu, moments.nu):
            assert_zero_outside(tree, queue.job.recipe, row)


def of_sgd():
    return [{**row, "optimizer": "sgd"} for row in population()]


@pytest.fixture(scope="module")
def queue():
    return make_queue(SPACE, targets(), optimizer="sgd")


def test_a_diverged_lane_leaves_the_bits_of_its_neighbours(queue):
    calm = of_sgd()
    mixed = [{**row, "learning_rate": HUGE} if place % 2 else row for place, row in enumerate(calm)]
    truth, curves = train(queue, calm, 4), train(queue, mixed, 4)
    for place in range(len(calm)):
        if place % 2:
            assert np.isnan(curves[place][-1]).all()
        else:
            np.testing.assert_array_equal(curves[place], truth[place])
            assert np.isfinite(curves[place]).all()


def test_a_diverged_lane_is_frozen_at_finite_weights_with_its_step(queue):
    rows = [{**row, "learning_rate": HUGE} for row in of_sgd()]
    short, long = final_states(queue, rows, 1), final_states(queue, rows, 3)
    for row, (_, lane), (_, later) in zip(rows, short, long, strict=True):
        assert lane.status == DIVERGED
        assert lane.diverged_step == lane.step < queue.job.data.num_train // row["batch_size"]
        jax.tree.map(np.testing.assert_array_equal, lane, later)


def test_a_diverged_lane_keeps_its_padding_at_zero(queue):
    rows = [{**row, "learning_rate": HUGE} for row in of_sgd()]
    for row, (_, lane) in zip(rows, final_states(queue, rows, 2), strict=True):
        assert_zero_outside(lane.params, queue.job.recipe, row)


@pytest.mark.long
def test_idle_lanes_fill_up_a_chunk_and_are_no_trials(queue):
    queue = make_queue(SPACE, targets(), optimizer="sgd", chunk=4)
    (chunk,) = queue.job.chunks(trainings_of(of_sgd()[:1], 2))
    *_, (states, curves) = queue.workers[0].calls(chunk)
    assert np.asarray(states.status).tolist() == [RUNNING, IDLE, IDLE, IDLE]
    assert np.asarray(states.step).tolist()[1:] == [0, 0, 0]
    assert np.isfinite(curves[0]).all()
    assert np.isnan(curves[1:]).all()
    assert queue.workers[0].train(chunk).curves.shape[0] == 1
