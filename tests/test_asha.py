"""ASHA beside its rules written out, and what it fills of its plans."""

from collections import Counter
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.rehearsal import Step, active_rows, packed_share, rehearse
from vtune.protocols import Axis, Plan
from vtune.strategies import asha
from vtune.strategies.promotions import default_width

AXES = (Axis("learning_rate", None, True), Axis("layers", 4, True))


@jax.jit
def shuffled(plan: Plan) -> jax.Array:
    """Scores that differ from level to level, with ties, and trials that diverge."""
    scores = jnp.float32(plan.trial_id * 7919 % 97 + plan.trial_id * plan.budget % 31)
    return jnp.where(plan.trial_id % 11 == 3, jnp.nan, scores)


def compiled(factory, trials: int, epochs: int, **search):
    strategy = factory(AXES, trials=trials, epochs=epochs, **search)
    functions = {name: jax.jit(getattr(strategy, name)) for name in ("ask", "opened", "tell", "done")}
    return strategy._replace(**functions)


def run(factory, trials: int, epochs: int, score=shuffled, **search) -> list[Step]:
    return rehearse(compiled(factory, trials, epochs, **search), score)


def plans(steps: list[Step]) -> list[tuple[list[int], int]]:
    """Who trains in each plan, and for how long."""
    return [(active_rows([step]).trial_id.tolist(), int(step.plan.budget[0])) for step in steps]


class Slow:
    """ASHA for people: one dictionary a level, and the rules in the order in which the docstring tells them."""

    def __init__(self, trials: int, budgets: list[int], eta: int, width: int):
        self.trials, self.budgets, self.eta, self.width = trials, budgets, eta, width
        self.started = 0
        self.open: list[tuple[list[int], int]] = []
        self.told: list[dict[int, float]] = [{} for _ in budgets]
        self.promoted: list[set[int]] = [set() for _ in budgets]

    def promotable(self, level: int, least: int = 0) -> tuple[list[int], list[int]]:
        told = self.told[level]
        ranked = sorted(told, key=lambda trial: (told[trial], trial))
        may = [trial for trial in ranked if np.isfinite(told[trial]) and trial not in self.promoted[level]]
        top = ranked[: max(len(ranked) // self.eta, least)]
        return [trial for trial in may if trial in top], may

    def promote(self, level: int, least: int = 0) -> tuple[list[int], int]:
        chosen = sorted(self.promotable(level, least)[1][: self.width])
        self.promoted[level] |= set(chosen)
        return chosen, self.budgets[level + 1]

    def ask(self) -> tuple[list[int], int] | None:
        levels = range(len(self.budgets) - 1)
        for level in reversed(levels):
            if len(self.promotable(level)[0]) >= self.width:
                return self.promote(level)
        if self.started < self.trials:
            first, self.started = self.started, min(self.trials, self.started + self.width)
            return list(range(first, self.started)), self.budgets[0]
        if not self.open:
            for level in levels:
                if self.promotable(level, least=1)[0]:
                    return self.promote(level, least=1)
        return None

    def run(self, lag: int, score) -> list[tuple[list[int], int]]:
        finished = []
        while True:
            while len(self.open) <= lag and (plan := self.ask()):
                self.open.append(plan)
            if not self.open:
                return finished
            ids, budget = self.open.pop(0)
            finished.append((ids, budget))
            scores = {trial: score(trial, budget) for trial in ids}
            worst = {trial: value if np.isfinite(value) else np.inf for trial, value in scores.items()}
            self.told[self.budgets.index(budget)] |= worst


@pytest.mark.long
@settings(max_examples=12)
@given(
    factor=st.integers(1, 10**4),
    modulus=st.integers(1, 60),
    diverges=st.integers(2, 12),
    shape=st.sampled_from([(40, 4, 1), (40, 4, 2), (25, 1, 0), (30, 7, 3)]),
)
def test_it_follows_its_rules(factor, modulus, diverges, shape):
    trials, width, lag = shape

    def score(trial, budget):
        return (trial * factor + trial * budget) % modulus

    def of_plan(plan: Plan) -> jax.Array:
        scores = score(plan.trial_id, plan.budget).astype(jnp.float32)
        return jnp.where(plan.trial_id % diverges == 1, jnp.inf, scores)

    def of_trial(trial: int, budget: int) -> float:
        return np.inf if trial % diverges == 1 else float(score(trial, budget))

    ours = plans(rehearse(SHAPED[shape], of_plan))
    assert ours == Slow(trials, [1, 3, 9, 27], 3, width).run(lag, of_trial)


SHAPED = {
    (trials, width, lag): compiled(asha(width=width, lag=lag), trials, 27)
    for trials, width, lag in [(40, 4, 1), (40, 4, 2), (25, 1, 0), (30, 7, 3)]
}


def test_it_promotes_before_it_starts_new_ones_and_looks_at_nothing_open():
    steps = plans(run(asha(width=4, lag=1), 40, 27, lambda plan: plan.trial_id.astype(jnp.float32)))
    # Three plans told make twelve trials, of which the best four go on; the fourth was asked for before the third
    # was told, so the promotion is the fifth.
    assert steps[:4] == [([4 * plan + lane for lane in range(4)], 1) for plan in range(4)]
    assert steps[4] == ([0, 1, 2, 3], 3)


def test_scores_of_other_budgets_are_not_compared():
    # At the second level all scores are far better: still the best of the first are promoted, by their scores there.
    steps = run(asha(width=4), 40, 27, lambda plan: jnp.float32(plan.trial_id - 1000 * plan.budget))
    ids = [ids for ids, budget in plans(steps) if budget == 3]
    assert sorted(sum(ids, []))[:13] == list(range(13))


@pytest.mark.long
@pytest.mark.parametrize(("trials", "epochs"), [(243, 81), (256, 20), (1000, 27)])
def test_its_plans_and_chunks_are_full(trials, epochs):
    steps = run(asha(), trials, epochs, lambda plan: jnp.float32(plan.trial_id * 7919 % 997))
    rows = [len(ids) for ids, _ in plans(steps)]
    assert sum(rows) >= 0.9 * len(rows) * len(steps[0].plan.active)
    assert packed_share(steps, lanes=8) >= 0.9


@pytest.mark.parametrize(("width", "lane_epochs"), [(16, 1779), (8, 1331)])
def test_a_third_goes_on_from_every_level_and_what_is_left_over_of_a_plan_is_filled_up(width, lane_epochs):
    asked = plans(run(asha(width=width), 243, 81, lambda plan: jnp.float32(plan.trial_id % 89)))
    counts, budgets = Counter(budget for ids, budget in asked for _ in ids), (1, 3, 9, 27, 81)
    expected = [243]
    for _ in budgets[1:]:
        expected.append(-(-(expected[-1] // 3) // width) * width)
    assert [counts[budget] for budget in budgets] == expected
    steps = [after - before for before, after in pairwise((0, *budgets))]
    assert sum(count * step for count, step in zip(expected, steps, strict=True)) == lane_epochs
    assert sum(243 // 3**level * step for level, step in enumerate(steps)) == 891  # halving, which fills nothing up


@pytest.mark.parametrize("trials", [1, 2, 5])
def test_few_trials_still_come_to_the_end(trials):
    assert plans(run(asha(), trials, 9, lambda plan: plan.trial_id.astype(jnp.float32)))[-1][1] == 9


def test_when_all_diverge_nobody_is_promoted():
    steps = plans(run(asha(), 20, 9, lambda plan: jnp.full(plan.trial_id.shape, jnp.nan)))
    assert {budget for _, budget in steps} == {1}


@pytest.mark.long
def test_a_continued_search_begins_with_the_plans_it_had():
    before, after = (plans(run(asha(), *search, 27, earlier=early)) for search, early in (((50,), ()), ((90,), (50,))))
    assert after[: len(before)] == before
    assert {trial for ids, _ in after for trial in ids} == set(range(90))


def test_the_width_grows_with_the_trials():
    assert [default_width(trials) for trials in (1, 128, 129, 512, 2048, 5000)] == [4, 8, 16, 32, 64, 64]
