import math

import numpy as np
import pytest

from vtune.results.evidence import Evidence, challenger_of, noise_of, weigh

CHALLENGERS = 16


def heavy_tailed(generator, shape):
    return generator.standard_t(3, shape) / math.sqrt(3)


def skewed(generator, shape):
    return generator.exponential(size=shape) - 1


NOISES = {"normal": np.random.Generator.standard_normal, "heavy-tailed": heavy_tailed, "skewed": skewed}
"""All of mean 0 and standard deviation 1: of one training, by its seed."""


def retests(means, seeds, *, noise="normal", runs=200, is_maximized=True, **settings) -> list[Evidence]:
    """Many retests, of which ``means`` gives the true scores: of the old best first, higher is better."""
    generator = np.random.default_rng(len(noise))
    sign = 1 if is_maximized else -1
    found = []
    for _ in range(runs):
        choosing = sign * (means[:, None] + NOISES[noise](generator, (len(means), seeds)))
        challenger = challenger_of(choosing, is_maximized=is_maximized)
        judged = means[[0, challenger], None]
        judging = sign * (judged + NOISES[noise](generator, (2, seeds)))
        found.append(weigh(choosing, judging, is_maximized=is_maximized, **settings))
    return found


def share(found, verdict):
    return np.mean([evidence.verdict == verdict for evidence in found])


def challenged_by(*means):
    """The true scores where these challenge an old best of score 0, and all others are 0.5 better or equal to it."""
    return np.concatenate([[0.0], means, np.resize([0.0, 0.5], CHALLENGERS - len(means))])


EQUAL = np.zeros(1 + CHALLENGERS)


@pytest.mark.parametrize("seeds", [4, 8])
@pytest.mark.parametrize("noise", NOISES)
def test_equal_configurations_are_rarely_called_stale_even_without_a_tolerance(noise, seeds):
    # Judged on the seeds that chose it, the best of 16 would be called stale in a quarter of all retests.
    found = retests(EQUAL, seeds, noise=noise, runs=250, tolerance=0.0)
    assert share(found, "stale") <= 0.08
    assert abs(np.mean([evidence.difference for evidence in found])) < 0.12


def test_judging_on_the_choosing_seeds_would_be_the_trap():
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(100):
        scores = generator.standard_normal((1 + CHALLENGERS, 8))
        judged = scores[[0, challenger_of(scores, is_maximized=True)]]
        alarms += weigh(scores, judged, is_maximized=True, tolerance=0.0).verdict == "stale"
    assert alarms > 20


@pytest.mark.parametrize("noise", NOISES)
def test_challengers_that_are_slightly_better_are_no_sign_of_drift(noise):
    assert share(retests(challenged_by(), 8, noise=noise), "stale") <= 0.05


def test_a_challenger_at_the_tolerance_is_rarely_called_stale_or_fresh():
    means = challenged_by(1.0)
    found = retests(means, 8, runs=300, tolerance=1.0)
    assert share(found, "stale") <= 0.08
    assert share(found, "fresh") <= 0.05


@pytest.mark.parametrize(("effect", "seeds"), [(4.0, 4), (3.0, 8)])
@pytest.mark.parametrize("noise", NOISES)
def test_a_large_drift_is_called_stale(noise, effect, seeds):
    found = retests(challenged_by(effect), seeds, noise=noise, runs=100)
    assert share(found, "stale") >= 0.85
    assert share(found, "fresh") == 0.0


def test_an_old_best_that_is_far_ahead_is_called_fresh():
    means = np.concatenate([[0.0], np.full(CHALLENGERS, -3.0)])
    found = retests(means, 8, runs=100)
    assert share(found, "fresh") >= 0.9
    assert share(found, "stale") == 0.0


def test_equal_configurations_become_fresh_with_seeds():
    shares = [share(retests(EQUAL, seeds, runs=50), "fresh") for seeds in (4, 16, 32)]
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.85


def test_more_seeds_decide_as_often_as_they_should():
    # The effect of 2.5 is known from 4 seeds alone, so 4 in 5 becomes somewhat less.
    generator = np.random.default_rng(3)
    decided = []
    for _ in range(150):
        choosing = np.array([[0.0], [2.5]]) + generator.standard_normal((2, 4))
        judging = np.array([[0.0], [2.5]]) + generator.standard_normal((2, 4))
        first = weigh(choosing, judging, is_maximized=True, tolerance=1.0)
        if first.verdict != "not enough evidence" or not first.more_seeds or first.difference < 1:
            continue
        further = np.array([[0.0], [2.5]]) + generator.standard_normal((2, first.more_seeds))
        second = weigh(choosing, np.concatenate([judging, further], axis=1), is_maximized=True, tolerance=1.0)
        decided.append(second.verdict == "stale")
    assert len(decided) > 50
    assert np.mean(decided) > 0.65


def test_lower_scores_are_better_where_they_are_not_maximized():
    up, down = (retests(challenged_by(4.0), 8, runs=3, is_maximized=is_maximized) for is_maximized in (True, False))
    assert up == down
    assert [evidence.verdict for evidence in up] == ["stale"] * 3


def test_the_evidence_tells_of_the_difference_on_judging_seeds():
    choosing = np.array([[0.5, 0.52, 0.48], [0.9, 0.91, 0.89], [0.6, 0.64, 0.62]])
    judging = np.array([[0.50, 0.54, 0.52], [0.58, 0.60, 0.62]])
    evidence = weigh(choosing, judging, is_maximized=True, tolerance=0.01)
    assert evidence.challenger == 1
    assert evidence.difference == pytest.approx(0.08)
    assert evidence.interval == pytest.approx((0.08 - 0.0337, 0.08 + 0.0337), abs=0.002)  # Student's t: 2.92 x 0.0115
    assert evidence.probability == pytest.approx(0.987, abs=0.005)
    assert 0.12 < evidence.others < 0.2
    assert evidence == evidence._replace(verdict="stale", tolerance=0.01, more_seeds=0)


def test_what_seeds_have_in_common_cancels():
    choosing, judging = np.random.default_rng(0).standard_normal((2, 5, 8))
    common = 100 * np.random.default_rng(1).standard_normal(8)
    alone = weigh(choosing, judging[:2], is_maximized=True, tolerance=1.0)
    shared = weigh(choosing + common, judging[:2] + common, is_maximized=True, tolerance=1.0)
    assert shared.interval == pytest.approx(alone.interval)
    assert shared.others == pytest.approx(alone.others)


def test_without_noise_equals_are_fresh_and_anything_better_is_stale():
    equal = weigh(np.ones((3, 4)), np.ones((2, 4)), is_maximized=True)
    assert (equal.verdict, equal.tolerance, equal.more_seeds) == ("fresh", 0.0, 0)
    better = weigh(np.array([[1.0] * 4, [1.1] * 4]), np.array([[1.0] * 4, [1.1] * 4]), is_maximized=True)
    assert (better.verdict, better.others) == ("stale", -math.inf)


def test_no_number_of_seeds_decides_on_a_challenger_at_the_tolerance():
    scores = np.array([[0.0, 0.0], [0.0, 2.0]])
    assert weigh(scores, scores, is_maximized=True, tolerance=1.0).more_seeds is None


@pytest.mark.parametrize("is_maximized", [True, False])
@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf])
def test_an_old_best_that_diverges_always_is_stale_and_once_is_not_yet(worst, is_maximized):
    scores = np.random.default_rng(0).normal(1.0, 0.1, (2, 2, 8))
    once = scores.copy()
    once[1, 0, 3] = worst
    always = scores.copy()
    always[:, 0] = worst
    assert weigh(*once, is_maximized=is_maximized).verdict == "not enough evidence"
    evidence = weigh(*always, is_maximized=is_maximized, tolerance=0.1)
    assert evidence.verdict == "stale"
    assert math.isfinite(evidence.difference)


def test_challengers_that_diverge_do_not_make_stale_or_hide_who_is_better():
    choosing, judging = np.random.default_rng(0).normal([[0.0], [0.1], [0.9]], 0.05, (2, 3, 8))
    choosing[1] = np.nan
    assert weigh(choosing, judging[[0, 2]], is_maximized=True).verdict == "stale"
    choosing[2] = judging[2] = np.nan
    assert weigh(choosing, judging[[0, 2]], is_maximized=True).verdict == "fresh"


def test_the_tolerance_is_the_noise_of_those_that_never_diverged():
    choosing, judging = np.random.default_rng(0).normal(1.0, 0.1, (2, 17, 8))
    alone = weigh(choosing[:3], judging[:2], is_maximized=False).tolerance
    choosing[3:10] = np.inf
    choosing[10:, 2] = np.nan
    assert weigh(choosing, judging[:2], is_maximized=False).tolerance == alone


def test_noise_is_that_of_the_better_half():
    generator = np.random.default_rng(0)
    good, bad = generator.normal(1.0, 0.1, (20, 8)), generator.normal(-5.0, 3.0, (20, 8))
    assert noise_of(np.concatenate([bad, good]), is_maximized=True) == pytest.approx(0.1, rel=0.1)


SCORES = np.zeros((3, 4))


@pytest.mark.parametrize(
    ("choosing", "judging", "settings", "told"),
    [
        (SCORES[:1], SCORES[:2], {}, r"choosing has 1 row\(s\).* nothing challenges it; write one more row"),
        (SCORES[:, :1], SCORES[:2], {}, r"choosing has 1 seed\(s\).*; train on more"),
        (SCORES, SCORES[:2, :1], {}, r"judging has 1 seed\(s\)"),
        (SCORES, SCORES[:2], {"tolerance": -0.1}, r"tolerance=-0.1 is no difference .* write one that"),
        (SCORES, SCORES[:2], {"tolerance": math.nan}, "tolerance=nan is no difference"),
        (SCORES, SCORES[:2], {"confidence": 95.0}, r"confidence=95.0 is not between 0.5 and 1; write one such as 0.95"),
        (SCORES * np.nan, SCORES[:2] * np.nan, {}, "no finite score: every training .* diverged. Look for columns"),
    ],
)
def test_what_cannot_be_weighed_is_refused(choosing, judging, settings, told):
    with pytest.raises(ValueError, match=told):
        weigh(choosing, judging, is_maximized=True, **settings)


def test_a_challenger_has_one_chance_to_hide_whichever_is_judged():
    # The better of the two is noisy, and the other is exact: which of them is judged depends on the choosing seeds.
    generator, searches = np.random.default_rng(0), 1000
    means, deviations = np.array([0.0, 1.0, 0.7]), np.array([0.0, 1.0, 0.001])
    wrong = 0
    for _ in range(searches):
        choosing = means[:, None] + deviations[:, None] * generator.standard_normal((3, 8))
        sides = [0, challenger_of(choosing, is_maximized=True)]
        judging = means[sides, None] + deviations[sides, None] * generator.standard_normal((2, 8))
        wrong += weigh(choosing, judging, is_maximized=True, tolerance=0.999).verdict == "fresh"
    assert wrong / searches < 0.05 + 2 * np.sqrt(0.05 * 0.95 / searches)
