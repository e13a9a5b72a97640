import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtune.training.losses import LOSSES, METRICS
from vtune.training.objective import Objective, kind_needed, make_objective

NAN, INF = math.nan, math.inf


def objective(metric: Any = "auto", direction="auto", select="last", kind: Any = "classes") -> Objective:
    return make_objective("auto", metric, direction, select, kind)


def curves(*rows: tuple[float, ...]) -> np.ndarray:
    """One epoch a row: validation loss, then the metric; the training loss plays no part."""
    return np.array([(1.0, *row) for row in rows]).reshape(len(rows), 3)


def accuracy(outputs, y):
    return jnp.exp(-jnp.abs(outputs[:, 0] - y))


# What the arguments mean


@pytest.mark.parametrize(
    ("loss", "metric", "kind"),
    [
        ("auto", "auto", "auto"),
        ("auto", "loss", "auto"),
        ("cross_entropy", "auto", "classes"),
        ("cross_entropy", "accuracy", "classes"),
        ("mse", "loss", "targets"),
        ("auto", "accuracy", "classes"),
        ("auto", "mse", "targets"),
        (accuracy, "auto", "auto"),
        (accuracy, "mse", "targets"),
        ("mse", accuracy, "targets"),
    ],
)
def test_loss_and_metric_tell_what_y_must_hold(loss, metric, kind):
    assert kind_needed(loss, metric) == kind


@pytest.mark.parametrize(("loss", "metric"), [("cross_entropy", "mse"), ("mse", "accuracy")])
def test_a_loss_and_a_metric_of_different_kinds_are_refused(loss, metric):
    with pytest.raises(ValueError, match=f"^loss='{loss}' takes y for .* and metric='{metric}' for .* Leave one"):
        kind_needed(loss, metric)


@pytest.mark.parametrize(
    ("kind", "loss", "metric"), [("classes", "cross_entropy", "accuracy"), ("targets", "mse", "mse")]
)
def test_auto_goes_by_what_y_holds(kind, loss, metric):
    found = objective(kind=kind)
    assert (found.loss, found.metric) == (LOSSES[loss], METRICS[metric])
    assert found.is_maximized == (kind == "classes")
    assert (found.name, found.columns) == (metric, ("train_loss", "loss", metric))


def test_the_loss_itself_may_rank_and_is_not_measured_twice():
    found = objective("loss")
    assert (found.name, found.columns, found.metrics) == ("loss", ("train_loss", "loss"), ())
    assert not found.is_maximized
    assert found.outcome(np.array([[1.0, 0.25]])) == (0.25, 0.25)


def test_a_function_is_called_by_its_name_and_a_lambda_by_metric():
    assert objective(accuracy, "maximize").columns[-1] == "accuracy"
    assert objective(lambda outputs, y: y, "minimize").columns[-1] == "metric"


@pytest.mark.parametrize(("direction", "is_maximized"), [("maximize", True), ("minimize", False)])
def test_a_function_goes_the_way_it_is_told(direction, is_maximized):
    assert objective(accuracy, direction).is_maximized == is_maximized


@pytest.mark.parametrize(("metric", "direction"), [("accuracy", "maximize"), ("mse", "minimize"), ("loss", "minimize")])
def test_a_direction_that_a_metric_has_anyway_may_be_written(metric, direction):
    assert objective(metric, direction) == objective(metric)


@pytest.mark.parametrize(("metric", "direction"), [("accuracy", "minimize"), ("mse", "maximize"), ("loss", "maximize")])
def test_a_direction_against_the_metric_is_refused(metric, direction):
    with pytest.raises(ValueError, match=f"^direction='{direction}' would rank the worst '{metric}' first. Leave"):
        objective(metric, direction)


@pytest.mark.parametrize("name", ["loss", "train_loss", "trial_id", "epoch"])
def test_a_metric_named_like_a_column_of_the_curves_is_refused(name):
    def metric(outputs, y):
        return y

    metric.__name__ = name
    with pytest.raises(ValueError, match=f"^metric={name}: study.curves has a '{name}' already. Rename .* my_{name}"):
        objective(metric, "minimize")


# Which epoch counts


@pytest.mark.parametrize(
    ("rows", "epoch"),
    [
        ([(0.5, 0.7), (0.5, 0.9), (0.5, 0.8)], 2),
        ([(0.5, 0.9), (0.3, 0.9), (0.4, 0.9)], 2),  # a tie goes to the lower loss,
        ([(0.5, 0.7), (0.3, 0.9), (0.3, 0.9)], 2),  # then to the earlier epoch
        ([(0.1, 0.8), (0.9, 0.9)], 2),  # and the loss has no say where there is no tie
        ([(0.5, NAN), (0.5, 0.1)], 2),
        ([(0.5, INF), (0.5, 0.1)], 2),
        ([(NAN, 0.9), (0.5, 0.9)], 2),
        ([(0.5, NAN)], 0),
        ([], 0),
    ],
)
def test_the_best_epoch_has_the_best_metric_and_then_the_lower_loss(rows, epoch):
    assert objective().best_epoch(curves(*rows)) == epoch


def test_the_best_epoch_of_a_regression_has_the_lowest_error():
    assert objective(kind="targets").best_epoch(curves((0.1, 0.3), (0.2, 0.2), (0.0, 0.4))) == 2


def test_the_last_epoch_is_ranked_unless_told():
    rows = curves((0.4, 0.7), (0.3, 0.9), (0.5, 0.8))
    last, best = objective(), objective(select="best_epoch")
    assert (last.ranked_epoch(rows), last.outcome(rows)) == (3, (0.8, 0.5))
    assert (best.ranked_epoch(rows), best.outcome(rows)) == (2, (0.9, 0.3))


@pytest.mark.parametrize("select", ["last", "best_epoch"])
@pytest.mark.parametrize("rows", [[], [(0.5, NAN)], [(0.5, 0.9), (INF, 0.9)], [(0.5, 0.9), (0.5, NAN)]])
def test_a_trial_that_does_not_end_finite_has_no_score(select, rows):
    assert np.isnan(objective(select=select).outcome(curves(*rows))).all()


# What strategies are told

NUM_VALID = st.integers(1, 10_000)
LOSS = st.floats(-1e3, 1e3)


@given(NUM_VALID, LOSS, LOSS, st.data())
def test_a_loss_never_reorders_distinct_accuracies(num_valid, loss_of_better, loss_of_worse, data):
    worse = data.draw(st.integers(0, num_valid - 1))
    better = data.draw(st.integers(worse + 1, num_valid))
    told = objective().to_strategy
    assert told(better / num_valid, loss_of_better, num_valid) < told(worse / num_valid, loss_of_worse, num_valid)


@given(NUM_VALID, st.floats(0, INF), st.floats(0, INF), st.data())
def test_nor_does_it_in_the_float32_that_strategies_are_told(num_valid, loss_of_better, loss_of_worse, data):
    worse = data.draw(st.integers(0, num_valid - 1))
    told = [
        objective().to_strategy(hits / num_valid, loss, num_valid)
        for hits, loss in ((worse + 1, loss_of_better), (worse, loss_of_worse))
    ]
    assert np.float32(told[0]) < np.float32(told[1])


@pytest.mark.parametrize(("lower", "higher"), [(0.1, 0.2), (2.0, 3.0), (-0.9, 0.1), (-3.0, -2.0), (5.0, INF)])
def test_equal_accuracies_are_told_apart_by_their_loss(lower, higher):
    told = objective().to_strategy
    assert np.float32(told(0.9, lower, 360)) < np.float32(told(0.9, higher, 360))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (objective("mse", kind="targets"), 0.25),
        (objective("loss"), 0.25),
        (objective(accuracy, "maximize"), -0.25),  # the name is not what makes an accuracy
        (objective(accuracy, "minimize"), 0.25),
    ],
)
def test_other_scores_are_told_as_they_are(found, expected):
    assert found.to_strategy(0.25, 0.9, 10) == expected


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_no_score_stays_no_score(metric):
    assert np.isnan(objective(metric).to_strategy(NAN, NAN, 10))
