"""The digits of the benchmarks: what the paper says of them, and a drift of known size."""

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def digits(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from contest import mnist1d

    return mnist1d


def softmax_losses(x, y, learning_rate, steps=50):
    """Of a linear model, by gradient descent from 0."""
    weights, losses = np.zeros((x.shape[1], 10)), []
    for _ in range(steps):
        logits = x @ weights
        log_p = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
        losses.append(-np.mean(log_p[np.arange(len(y)), y]))
        weights -= learning_rate * x.T @ (np.exp(log_p) - np.eye(10)[y]) / len(y)
    return np.array(losses)


def test_there_are_as_many_of_each_digit_and_the_seed_draws_them(digits):
    x, y = digits.mnist1d(500, seed=3)
    assert x.shape == (500, 40)
    assert (x.dtype, y.dtype) == (np.float32, np.int32)
    assert np.bincount(y).tolist() == [50] * 10
    np.testing.assert_array_equal(digits.mnist1d(500, seed=3).x, x)
    assert not np.array_equal(digits.mnist1d(500, seed=4).x, x)


def test_templates_begin_and_end_at_0_and_differ(digits):
    templates = digits.templates()
    assert templates[:, [0, -1]] == pytest.approx(0)
    assert np.std(templates, axis=1) == pytest.approx(1 / 6)
    distances = np.max(np.abs(templates[:, None] - templates), axis=2) + np.eye(10)
    assert np.min(distances) > 0.05


def test_noise_hides_the_digits_from_a_linear_model_and_not_from_neighbours(digits):
    # The paper, also with 4000 rows to learn from: a logistic regression finds 32 % of the others, an MLP 68 %.
    (x, y), (test_x, test_y) = digits.mnist1d(4000, seed=0), digits.mnist1d(500, seed=1)
    with_ones, test_with_ones = (np.concatenate([part, np.ones((len(part), 1))], axis=1) for part in (x, test_x))
    linear = test_with_ones @ np.linalg.lstsq(with_ones, np.eye(10)[y], rcond=None)[0]
    distances = np.sum(x**2, axis=1) - 2 * test_x @ x.T
    assert 0.2 < np.mean(np.argmax(linear, axis=1) == test_y) < 0.45
    assert np.mean(y[np.argmin(distances, axis=1)] == test_y) > 0.5


@pytest.mark.parametrize("drift", [-1.0, 0.5, 2.0])
def test_a_drift_moves_the_learning_rate_of_a_linear_model_by_as_many_decades(digits, drift):
    (x, y), (drifted, same_y) = digits.mnist1d(200), digits.mnist1d(200, drift=drift)
    np.testing.assert_array_equal(y, same_y)
    before = softmax_losses(x.astype(np.float64), y, 1.0)
    after = softmax_losses(drifted.astype(np.float64), y, 10**-drift)
    assert after == pytest.approx(before, rel=1e-5)
    assert before[-1] < 0.99 * before[0]
