import numpy as np
import pytest

from vtune.results.moves import moves

NAMES = ["learning_rate", "beta1", "decay", "epsilon"]
"""On the first two the loss depends, the first more; on the others it does not."""


def retest(generator, move, neighbours=8, fresh=16, seeds=4):
    """Points and noisy losses where the optimum of the first axis has moved, and where it lies."""
    old = generator.uniform(0.15, 0.85, 4)
    optimum = old[0] + (move if old[0] + move < 0.95 else -move)
    near = np.clip(old + generator.normal(0, 0.08, (neighbours, 4)), 0, 1)
    points = np.concatenate([old[None], near, generator.uniform(size=(fresh, 4))])
    losses = 4 * (points[:, 0] - optimum) ** 2 + 2 * (points[:, 1] - old[1]) ** 2
    return points, losses[:, None] + 0.15 * generator.standard_normal((len(points), seeds)), optimum


def found(move, runs=60, **sizes):
    generator = np.random.default_rng(1)
    for _ in range(runs):
        points, losses, optimum = retest(generator, move, **sizes)
        yield points, moves(NAMES, points, losses, is_maximized=False), optimum


def test_what_moved_is_named_first_and_is_sure():
    first = [results[0] for _, results, _ in found(0.5)]
    assert np.mean([move.name == "learning_rate" for move in first]) >= 0.95
    assert np.mean([move.chance < 0.05 for move in first]) >= 0.9


def test_it_ends_near_the_new_optimum():
    errors = []
    for points, results, optimum in found(0.5, fresh=32):
        (move,) = (move for move in results if move.name == "learning_rate")
        assert move.start == points[0, 0]
        errors.append(abs(move.end - optimum) / 0.5)
    assert np.median(errors) < 0.2


@pytest.mark.parametrize("move", [0.0, 0.5])
def test_what_did_not_move_is_rarely_sure(move):
    chances = [
        other.chance for _, results, _ in found(move) for other in results if not move or other.name != "learning_rate"
    ]
    assert np.mean(np.array(chances) < 0.05) <= 0.06


def test_scores_without_any_meaning_are_sure_as_often_as_they_may_be():
    generator = np.random.default_rng(0)
    chances = []
    for _ in range(100):
        results = moves(NAMES, generator.uniform(size=(25, 4)), generator.standard_normal((25, 1)), is_maximized=True)
        chances += [move.chance for move in results]
    assert np.mean(np.array(chances) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_the_same_again_and_for_scores_the_other_way_round():
    points, losses, _ = retest(np.random.default_rng(0), 0.5)
    first = moves(NAMES, points, losses, is_maximized=False)
    assert moves(NAMES, points, losses, is_maximized=False) == first
    assert moves(NAMES, points, -losses, is_maximized=True) == first


def test_inactive_coordinates_and_diverged_trainings_are_left_out():
    points, losses, optimum = retest(np.random.default_rng(0), 0.5)
    points[10:14, 0] = np.nan
    points[:, 3] = np.nan
    points[0, 2] = np.nan
    losses[14:16] = np.inf
    results = {move.name: move for move in moves(NAMES, points, losses, is_maximized=False)}
    assert next(iter(results)) == "learning_rate"
    assert results["learning_rate"].end == pytest.approx(optimum, abs=0.25)
    assert np.isnan([results["decay"].start, results["epsilon"].start, results["epsilon"].end]).all()
    assert results["decay"].chance == results["epsilon"].chance == 1.0


def test_too_few_configurations_are_refused():
    with pytest.raises(ValueError, match=r"points has 7 row\(s\), too few .* write at least 8 configurations"):
        moves(NAMES, np.zeros((7, 4)), np.zeros((7, 2)), is_maximized=True)
