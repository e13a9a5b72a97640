"""The panda's rule beside stories told in scores, and babysit in a search."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vtune
from tests.laws.population import digits
from tests.laws.rehearsal import active_rows, rehearse
from vtune.protocols import FRESH, Axis, Plan, Strategy
from vtune.strategies import babysit
from vtune.strategies.panda import DEFAULT_RULES, PATIENCE, WORDS, Act, Rules, decide, start

RATE = Axis("learning_rate", None, True, log_length=math.log(1e8))


_decided = jax.jit(decide, static_argnames="rules")


def told(scores, rules=DEFAULT_RULES):
    """The acts that follow upon these scores."""
    watch, acts = start(), []
    for score in scores:
        act, watch = _decided(watch, jnp.float32(score), rules=rules)
        acts.append(Act(int(act)).name)
    return acts, watch


def test_every_act_has_a_word_and_a_reason():
    assert set(WORDS) == set(Act)
    assert len({word for word, _ in WORDS.values()}) == len(Act)


def test_a_start_that_was_good_is_gone_back_to_and_good_days_lead_up():
    falling = [1.0, 2.0, *np.geomspace(0.9, 0.1, 16)]
    acts, watch = told(falling)
    assert acts[:2] == ["RESTART", "UNDO"]
    assert "UP" in acts
    assert set(acts[2:]) <= {"GO_ON", "UP"}
    assert int(watch.kept_day) == len(falling) - 1


def test_kept_nudges_double_in_log_size_so_that_a_hundredth_is_made_up_for():
    watch, rate, nudges = start(), 0.0, []
    for day in range(60):
        score = 2.0 if int(watch.act) == Act.RESTART else 1.0 - day / 100
        _, watch = _decided(watch, jnp.float32(score))
        if int(watch.act) == Act.UP:
            rate += float(watch.rate)
            nudges.append(float(watch.rate))
        if rate > math.log(100):
            break
    np.testing.assert_allclose(nudges, math.log(1.25) * 2.0 ** np.arange(len(nudges)), rtol=1e-6)
    assert len(nudges) <= 8


def test_a_start_that_diverges_is_tried_again_ever_lower():
    watch, rates = start(), []
    for _ in range(3):
        act, watch = _decided(watch, jnp.float32(jnp.nan))
        assert int(act) == Act.RESTART
        assert int(watch.origin) == FRESH
        rates.append(math.exp(float(watch.rate)))
        assert int(watch.like) == len(rates) - 1
    np.testing.assert_allclose(rates[:2], [1 / 8, 1 / 64], rtol=1e-5)
    assert rates[2] <= rates[1]


def test_a_day_that_diverged_is_rolled_back_then_there_is_a_day_without_a_change():
    acts, watch = told([1.0, 2.0, 0.9, jnp.nan])
    assert acts[-1] == "ROLLBACK"
    assert int(watch.origin) == int(watch.best_day) == 2
    assert math.exp(float(watch.rate)) == pytest.approx(0.5)
    acts, watch = told([1.0, 2.0, 0.9, jnp.nan, 0.8])
    assert acts[-1] == "WAIT"
    assert float(watch.rate) == 0


def test_far_worse_than_the_noise_is_a_day_that_went_wrong():
    acts, _ = told([1.0, 2.0, 0.9, 0.91, 0.905, 5.0])
    assert acts[-1] == "ROLLBACK"


def test_the_first_rise_is_measured_by_the_falls_before_it_and_a_lost_day_is_no_noise():
    ordinary = [1.0, 2.0, 0.9, 0.8, 0.7]
    _, before = told(ordinary)
    acts, after = told([*ordinary, 500.0])
    assert acts[-1] == "ROLLBACK"
    assert int(after.origin) == len(ordinary) - 1
    assert float(after.noise) == float(before.noise) == pytest.approx(0.1)
    acts, after = told([*ordinary, 500.0, 0.65, 400.0])
    assert acts[-1] == "ROLLBACK"
    acts, _ = told([*ordinary, 0.95])
    assert acts[-1] == "GO_ON"


@pytest.mark.parametrize("has_momentum", [True, False])
def test_a_plateau_is_left_by_each_remedy_from_the_best_day_and_then_begun_again(has_momentum):
    acts, watch = told([1.0, 2.0, *[0.5] * (PATIENCE + 20)], Rules(has_momentum=has_momentum))
    assert ("MOMENTUM" in acts) == has_momentum
    remedies = [act for act in acts if act in ("DOWN", "MOMENTUM")]
    assert remedies[0] == "DOWN"
    assert "AGAIN" in acts
    assert float(watch.record) == 0.5


# As a strategy


def compiled(strategy: Strategy) -> Strategy:
    names = ("init", "ask", "tell", "done")
    return strategy._replace(**{name: jax.jit(getattr(strategy, name)) for name in names})


def test_days_start_from_their_parents_and_closing_makes_the_best_the_longest():
    @jax.jit
    def score(plan: Plan) -> jax.Array:
        return jnp.where(plan.trial_id == 7, 0.0, 1 + jnp.float32(plan.trial_id % 7))

    days = active_rows(rehearse(compiled(babysit()((RATE,), trials=40, epochs=40)), score))
    budgets = dict(zip(days.trial_id.tolist(), days.budget.tolist(), strict=True))
    parents = dict(zip(days.trial_id.tolist(), days.parent.tolist(), strict=True))
    assert all(budgets[day] == budgets.get(parent, 0) + 1 for day, parent in parents.items())
    ancestors, day = set(), len(budgets) - 1
    assert budgets[day] == max(budgets.values())
    while day != FRESH:
        ancestors.add(day)
        day = parents[day]
    assert 7 in ancestors


@pytest.mark.long
def test_looking_ahead_goes_on_from_the_best_lane():
    def score(plan: Plan) -> jax.Array:
        return jnp.abs(plan.points[:, 0] - 0.8)

    steps = rehearse(compiled(babysit(look_ahead=3)((RATE,), trials=30, epochs=30)), score)
    best = steps[2].plan.trial_id[jnp.argmin(steps[2].scores)]
    assert set(steps[3].plan.parent.tolist()) == {int(best)}


@pytest.mark.long
@pytest.mark.parametrize("look_ahead", [1, 3])
def test_a_continued_search_has_the_days_it_had_and_goes_on_from_before_the_closing_ones(look_ahead):
    @jax.jit
    def score(plan: Plan) -> jax.Array:
        return jnp.float32(plan.trial_id * 7919 % 97)

    stages, before = (9, 12, 40), None
    for number, trials in enumerate(stages):
        strategy = babysit(look_ahead=look_ahead)((RATE,), trials=trials, epochs=30, earlier=stages[:number])
        days = active_rows(rehearse(compiled(strategy), score))
        assert days.trial_id.tolist() == list(range(trials))
        for ours, theirs in zip(days, before or days, strict=True):
            np.testing.assert_array_equal(ours[: len(theirs)], theirs)
        before = days


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"day": 0}, "day=0: this must be a whole number"),
        ({"up": 0.9}, r"up=0.9: .* Write up=1.25"),
        ({"down": 2}, r"down=2: .* Write down=0.5"),
        ({"look_ahead": 0}, "look_ahead=0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        babysit(**settings)


def test_it_takes_a_learning_rate_on_a_log_scale_and_days_that_fit():
    with pytest.raises(ValueError, match=r"\['beta1'\] have none on a log scale\. Write \"learning_rate\""):
        babysit()([Axis("beta1", None, True)], trials=9, epochs=9)
    with pytest.raises(ValueError, match=r"day=5: no day ends .* Write day=1"):
        babysit(day=5)([RATE], trials=9, epochs=3)


@pytest.mark.long
def test_from_a_learning_rate_far_too_high_a_search_recovers_and_ranks_the_best_day_first():
    space = {"learning_rate": vtune.loguniform(1e-6, 100.0), "hidden": 16, "layers": 1}
    study = vtune.search(
        vtune.MLP, space, digits(256, 100), strategy=babysit(), start=[{"learning_rate": 3.0}], metric="loss",
        select="best_epoch", trials=30, epochs=30, finalists=0, devices=1, progress=False,
    )  # fmt: skip
    assert study.trials["learning_rate"][0] == 3.0
    assert study.best_score == study.trials["score"].min() < study.trials["score"][0] / 2
    assert study.best_params["learning_rate"] < 1
