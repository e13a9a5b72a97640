"""Successive halving and Hyperband beside the papers' tables, and beside the paper's loop written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.rehearsal import Step, active_rows, packed_share, rehearse
from vtune.protocols import Axis, Plan
from vtune.strategies import hyperband, successive_halving
from vtune.strategies.brackets import budgets_of_levels, ranks_within

AXES = (Axis("learning_rate", None, True), Axis("layers", 4, True))


@jax.jit
def shuffled(plan: Plan) -> jax.Array:
    """Scores that differ from level to level, with ties."""
    return jnp.float32(plan.trial_id * 7919 % 97 + plan.trial_id * plan.budget % 31)


def run(factory, trials: int, epochs: int, score=shuffled, **search) -> list[Step]:
    return rehearse(factory(AXES, trials=trials, epochs=epochs, **search), score)


def table(steps: list[Step], first: int = 0, end: int = 10**6) -> list[tuple[int, int]]:
    """How many of these trials each plan trains, and for how long."""
    counts = [sum(first <= trial < end for trial in active_rows([step]).trial_id) for step in steps]
    return [(count, int(step.plan.budget[0])) for count, step in zip(counts, steps, strict=True)]


def bracket_tables(steps: list[Step], sizes: list[int], first: int = 0) -> list[list[tuple[int, int]]]:
    edges = first + np.cumsum([0, *sizes])
    return [table(steps, start, end) for start, end in zip(edges, edges[1:], strict=False)]


# The papers' tables


def test_halving_is_the_table_of_the_paper():
    assert table(run(successive_halving(), 81, 81)) == [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]


PAPER = [
    [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
    [(34, 3), (11, 9), (3, 27), (1, 81)],
    [(15, 9), (5, 27), (1, 81)],
    [(8, 27), (2, 81)],
    [(5, 81)],
]


def test_hyperband_has_the_brackets_of_the_paper_packed():
    steps = run(hyperband(), 143, 81)
    assert table(steps) == [(143, 1), (89, 3), (48, 9), (24, 27), (10, 81)]
    brackets = bracket_tables(steps, [81, 34, 15, 8, 5])
    assert [ours[-len(paper) :] for ours, paper in zip(brackets, PAPER, strict=True)] == PAPER
    for ours, paper in zip(brackets, PAPER, strict=True):  # before its first level nobody of a bracket is cut
        assert {count for count, _ in ours[: -len(paper)]} <= {paper[0][0]}


@pytest.mark.long
def test_sets_of_brackets_are_repeated_until_the_trials_are_used_up():
    steps = run(hyperband(), 2 * 143 + 100, 81)
    sizes = 2 * [81, 34, 15, 8, 5] + [81, 19]
    brackets = bracket_tables(steps, sizes)
    for number, size in enumerate(sizes[:-1]):
        assert brackets[number][-len(PAPER[number % 5]) :] == PAPER[number % 5]
        assert brackets[number][0] == (size, 1)
    assert brackets[-1] == [(19, 1), (19, 3), (6, 9), (2, 27), (1, 81)]


def test_fewer_trials_than_a_set_fill_the_first_brackets():
    assert bracket_tables(run(hyperband(), 90, 81), [81, 9])[1] == [(9, 1), (9, 3), (3, 9), (1, 27), (1, 81)]


@pytest.mark.parametrize(
    ("epochs", "eta", "least", "budgets"),
    [
        (81, 3, 1, (1, 3, 9, 27, 81)),
        (20, 3, 1, (2, 7, 20)),
        (20, 2, 4, (5, 10, 20)),
        (20, 3, 7, (20,)),
        (1, 3, 1, (1,)),
        (243, 3, 1, (1, 3, 9, 27, 81, 243)),  # log(243) / log(3) is 4.999...
    ],
)
def test_budgets_fall_by_eta_as_far_as_they_may(epochs, eta, least, budgets):
    assert budgets_of_levels(epochs, eta, least) == budgets


@given(epochs=st.integers(1, 10**6), eta=st.integers(2, 9), least=st.integers(1, 100))
def test_budgets_rise_from_the_least_to_the_epochs(epochs, eta, least):
    budgets = budgets_of_levels(max(epochs, least), eta, least)
    assert budgets[0] >= least
    assert budgets[-1] == max(epochs, least)
    assert np.all(np.diff(budgets) > 0)


def test_few_trials_leave_one_for_the_last_levels():
    assert table(run(successive_halving(), 4, 20)) == [(4, 2), (1, 7), (1, 20)]


# Who goes on


def paper_survivors(trials: list[int], first_level: int, budgets: tuple[int, ...], eta: int, score) -> list[list[int]]:
    """Algorithm 1's inner loop for one bracket: who trains at each of its levels."""
    levels, count = [], len(trials)
    for budget in budgets[first_level:]:
        levels.append(trials)
        count = max(1, count // eta)
        ranked = sorted(trials, key=lambda trial: (score(trial, budget), trial))
        trials = sorted(ranked[:count])
    return levels


@settings(max_examples=8)
@given(factor=st.integers(1, 10**4), modulus=st.integers(1, 60))
def test_packed_brackets_have_the_survivors_of_the_papers_loop(factor, modulus):
    def score(trial, budget):
        return (trial * factor + trial * budget) % modulus

    steps = run(hyperband(), 143, 81, lambda plan: score(plan.trial_id, plan.budget).astype(jnp.float32))
    trials = [active_rows([step]).trial_id for step in steps]
    first = 0
    for level, size in enumerate([81, 34, 15, 8, 5]):
        mine = list(range(first, first + size))
        ours = [ids[np.isin(ids, mine)].tolist() for ids in trials]
        assert ours[:level] == [mine] * level
        assert ours[level:] == paper_survivors(mine, level, (1, 3, 9, 27, 81), 3, score)
        first += size


def test_ties_rank_by_trial_id():
    steps = run(successive_halving(), 9, 9, lambda plan: jnp.zeros(9))
    assert [active_rows([step]).trial_id.tolist() for step in steps] == [list(range(9)), [0, 1, 2], [0]]


def test_what_diverged_does_not_go_on_even_where_there_is_room():
    def score(plan: Plan) -> jax.Array:
        return jnp.where(plan.trial_id == 7, 5.0, jnp.array([jnp.nan, -jnp.inf, jnp.inf])[plan.trial_id % 3])

    assert [active_rows([step]).trial_id.tolist() for step in run(successive_halving(), 9, 9, score)][1:] == [[7], [7]]


def test_it_is_over_when_all_have_diverged_and_goes_on_where_it_is_continued():
    def alike(plan: Plan) -> jax.Array:
        return jnp.full(plan.trial_id.shape, jnp.nan)

    assert table(run(hyperband(), 143, 81, alike)) == [(143, 1)]
    assert table(run(hyperband(), 150, 81, alike, earlier=(143,))) == [(143, 1), (7, 1)]


def test_a_continued_search_has_brackets_of_its_own_after_the_old():
    steps = run(hyperband(), 143 + 90, 81, earlier=(143,))
    assert table(steps)[:5] == table(run(hyperband(), 143, 81))
    assert bracket_tables(steps[5:], [81, 9], first=143) == bracket_tables(run(hyperband(), 90, 81), [81, 9])


def test_ranks_stay_within_a_bracket():
    ranks = ranks_within(jnp.array([0, 0, 2, 2, 2]), jnp.array([9.0, 8.0, 1.0, jnp.inf, 1.0]))
    assert ranks.tolist() == [1, 0, 0, 2, 1]


# What it costs


def test_hyperband_fills_its_chunks():
    assert packed_share(run(hyperband(), 143, 81), lanes=8) >= 0.8


def test_halving_finds_a_good_trial_for_a_fraction_of_the_epochs():
    # Scores that tell more with every epoch: the truth, and noise that falls as one over the budget.
    def score(plan: Plan) -> jax.Array:
        noise = jax.random.normal(jax.random.key(1), plan.trial_id.shape) / jnp.float32(plan.budget)
        return jnp.float32(plan.trial_id * 37 % 81) / 10 + noise

    steps = run(successive_halving(), 81, 81, score)
    winner = int(active_rows(steps[-1:]).trial_id[0])
    assert winner * 37 % 81 < 8
    had = dict.fromkeys(range(81), 0)
    for step in steps:
        had |= dict(zip(*(column.tolist() for column in active_rows([step])[::3]), strict=True))
    assert sum(had.values()) < 81 * 81 / 20
