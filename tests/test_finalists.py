from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from vtune.ending import Ending
from vtune.finals import hold_finals, seeds_taken
from vtune.progress import Silent
from vtune.protocols import Leg, Training
from vtune.results.finalists import Verified, choose, finalists_table, ranking, verify
from vtune.results.resampling import draw_means, standard_errors

SEARCHES, TRIALS, FINALISTS, SEEDS = 2_000, 256, 8, 8


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("is_maximized", [True, False])
def test_the_reported_score_of_equal_configurations_is_not_too_good(is_maximized):
    # All true scores are 0 and the noise of a training is 1, so that a mean is a bias in standard deviations.
    sign = 1 if is_maximized else -1
    searched = noise(SEARCHES, TRIALS, seed=1)
    order = ranking(searched[..., None], is_maximized=is_maximized)[:, :FINALISTS]
    search_score = np.take_along_axis(searched, order, axis=1)[:, 0]
    chosen_from = noise(SEARCHES, FINALISTS, SEEDS, seed=2)
    winner = ranking(chosen_from, is_maximized=is_maximized)[:, 0]
    choosing_mean = np.mean(chosen_from, axis=2)[np.arange(SEARCHES), winner]
    further = noise(SEARCHES, FINALISTS, SEEDS, seed=3)[np.arange(SEARCHES), winner]
    reported = [verify(scores) for scores in further]
    assert 2.7 < sign * np.mean(search_score) < 2.95
    assert 0.45 < sign * np.mean(choosing_mean) < 0.55
    assert abs(np.mean([score.mean for score in reported])) < 0.03  # less than 0.1 is asked for
    errors = [score.standard_error for score in reported]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(1 / np.sqrt(SEEDS), rel=0.05)


def held(scores, num_seeds):
    """Holds the finals of a search whose trial i has scores[i, s] under seed index s; returns who won, and by what."""
    objective = SimpleNamespace(outcome=lambda curve: (float(curve[-1, -1]), 1))
    objective._replace = lambda **_: objective
    searched = scores[:, :num_seeds].mean(axis=1)

    def train(trainings, on_chunk):
        curves = np.array([[[scores[training.trial_id, training.seed_index]]] for training in trainings])
        on_chunk(SimpleNamespace(chunk=SimpleNamespace(trainings=trainings), curves=curves))

    study = SimpleNamespace(
        num_seeds=num_seeds,
        seconds=0.0,
        final_scores={},
        parts=SimpleNamespace(objective=objective),
        executor=SimpleNamespace(train=train),
        training=lambda trial_id: Training((Leg(trial_id, {}, 1),)),
        save=lambda: None,
        table=SimpleNamespace(
            is_maximized=True,
            comparable=lambda: np.argsort(-searched).tolist(),
            result=lambda trial_id: SimpleNamespace(score=searched[trial_id]),
        ),
    )
    hold_finals(study, FINALISTS, Silent(), Ending())
    return study.finalists.iloc[0]


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_no_seed_both_chooses_and_measures(monkeypatch, as_users_call, num_seeds):
    # One table of scores by trial and seed: a seed that chose a winner and measures it, too, would show as a bias.
    monkeypatch.setattr("vtune.finals.expected_seconds", lambda *_: 0.0)
    tables = noise(200, TRIALS, seeds_taken(num_seeds), seed=6)
    winners = pd.DataFrame([held(scores, num_seeds) for scores in tables])
    assert 0.3 < winners["mean"].mean() < 0.7  # chosen by these: the best of 8 means, 0.5 too good
    assert abs(winners["score"].mean()) < 0.09  # its error is 0.025


def test_ranking_is_by_the_mean_then_by_order():
    scores = np.array([[3.0, 1.0], [1.0, 1.0], [1.5, 0.5], [5.0, 0.0]])
    assert ranking(scores, is_maximized=False).tolist() == [1, 2, 0, 3]
    assert ranking(scores, is_maximized=True).tolist() == [3, 0, 1, 2]


def test_equal_numbers_in_another_order_are_a_tie():
    scores = np.array([[0.1, 0.2, 0.3, 0.7], [0.7, 0.3, 0.2, 0.1], [0.3, 0.7, 0.1, 0.2]])
    assert ranking(scores, is_maximized=False).tolist() == [0, 1, 2]


@pytest.mark.parametrize("is_maximized", [True, False])
@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
def test_who_diverged_is_last_and_less_often_is_better(worst, is_maximized):
    scores = np.array([[worst, worst], [0.5, worst], [0.1, 0.1], [worst, 0.5]])
    assert ranking(scores, is_maximized=is_maximized).tolist() == [2, 1, 3, 0]
    choice = choose(scores, is_maximized=is_maximized)
    assert choice.winner == 2
    assert choice.diverged.tolist() == [2, 1, 0, 1]
    assert choice.probabilities.tolist() == [0, 0, 1, 0]
    np.testing.assert_array_equal(choice.means, [np.nan, np.nan, 0.1, np.nan])


def test_where_all_diverged_there_is_a_winner_and_no_probability():
    choice = choose(np.array([[np.nan, np.nan], [0.5, np.inf]]), is_maximized=False)
    assert choice.winner == 1
    assert np.all(np.isnan(choice.probabilities))


def test_one_seed_chooses_and_has_no_error():
    choice = choose(np.array([[1.0], [2.0]]), is_maximized=True)
    assert choice.winner == 1
    assert np.all(np.isnan(choice.standard_errors))
    assert np.all(np.isnan(choice.probabilities))


def test_probabilities_sum_to_one_and_are_shared_in_ties():
    scores = noise(3, SEEDS)
    choice = choose(np.concatenate([scores, scores]), is_maximized=True)
    assert np.sum(choice.probabilities) == pytest.approx(1)
    assert choice.probabilities[:3].tolist() == choice.probabilities[3:].tolist()


def test_probabilities_are_the_same_again_and_either_way_round():
    scores = noise(4, SEEDS)
    first = choose(scores, is_maximized=True).probabilities
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    assert choose(scores, is_maximized=True).probabilities.tolist() == first.tolist()
    assert choose(-scores, is_maximized=False).probabilities.tolist() == first.tolist()
    assert choose(scores, is_maximized=True, seed=1).probabilities == pytest.approx(first, abs=0.03)


def test_what_seeds_have_in_common_cancels():
    common = 100 * noise(1, SEEDS)
    better = np.array([[0.0], [1.0]]) + 0.5 * noise(2, SEEDS, seed=4)
    choice = choose(common + better, is_maximized=True)
    assert choice.probabilities == pytest.approx(choose(better, is_maximized=True).probabilities, abs=1e-9)
    assert choice.probabilities[1] > 0.9


@pytest.mark.parametrize("num_seeds", [3, 8])
def test_the_probability_of_one_of_two_equals_is_uniform(num_seeds):
    # That of the plain bootstrap is below 0.05 in 20 % at 3 seeds, and in 9 % at 8.
    pairs = noise(2_000, 2, num_seeds, seed=5)
    probabilities = np.array([np.mean(np.diff(draw_means(pair)) > 0) for pair in pairs])
    shares = [np.mean(probabilities < limit) for limit in (0.05, 0.5, 0.95)]
    assert shares == pytest.approx([0.05, 0.5, 0.95], abs=0.02)


def test_draws_have_the_mean_and_the_tails_of_student():
    scores = noise(1, 8)
    draws = draw_means(scores)[:, 0]
    assert np.mean(draws) == pytest.approx(np.mean(scores))
    lower, upper = np.quantile(draws, [0.025, 0.975])
    assert (upper - lower) / 2 == pytest.approx(2.365 * standard_errors(scores)[0], rel=0.05)


def test_the_table_tells_the_scores_of_all_stages():
    scores = np.array([[0.5, 0.7], [0.8, 0.9], [np.nan, 0.9]])
    choice = choose(scores, is_maximized=True)
    table = finalists_table([4, 2, 9], np.array([0.99, 0.98, 0.97]), choice, verify(np.array([0.8, 0.9])))
    assert table.index.tolist() == [2, 4, 9]
    assert table.index.name == "trial_id"
    assert table["is_winner"].tolist() == [True, False, False]
    assert table["search_score"].tolist() == [0.98, 0.99, 0.97]
    assert table["mean"].tolist()[:2] == pytest.approx([0.85, 0.6])
    assert table["seeds"].tolist() == [2, 2, 2]
    assert table["diverged"].tolist() == [0, 0, 1]
    assert table.loc[2, "score"] == pytest.approx(0.85)
    assert table.loc[2, "score_error"] == pytest.approx(0.05)
    assert table["score"].isna().tolist() == [False, True, True]


def test_a_winner_that_diverges_on_further_seeds_has_no_score():
    verified = verify(np.array([0.5, np.inf, -np.inf]))
    assert verified == Verified(verified.mean, verified.standard_error, 3, 2)
    assert np.isnan([verified.mean, verified.standard_error]).all()


@pytest.mark.parametrize("shape", [(0, 8), (3, 0)])
def test_nothing_to_choose_from_is_refused(shape):
    with pytest.raises(ValueError, match="nothing to choose from; write one row a candidate"):
        choose(np.empty(shape), is_maximized=True)


def test_nothing_to_verify_is_refused():
    with pytest.raises(ValueError, match="write one score a further seed"):
        verify(np.empty(0))
