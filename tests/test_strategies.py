import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vtune.protocols import Axis, Plan, Strategy
from vtune.space import sample_points
from vtune.strategies import (
    asha,
    by_name,
    coarse_to_fine,
    grid,
    hyperband,
    near_bounds,
    random,
    sobol,
    successive_halving,
)
from vtune.strategies.boxes import CELLS, NARROWEST, Box
from vtune.strategies.lattice import values_per_axis
from vtune.strategies.leaders import Leaders
from vtune.strategies.names import STRATEGIES
from vtune.strategies.rounds import Rounds

KEY = jax.random.key(0, impl="threefry2x32")
RATE = Axis("learning_rate", None, True)
DECAY = Axis("decay", None, True)
CUBE = tuple(Axis(name, None, True) for name in ("learning_rate", "decay", "beta1"))

units = st.floats(0, 1, exclude_max=True, width=32)


def plan_and_rest(strategy: Strategy, points: list[list[float]], scores: list[float]) -> tuple[Plan, jax.Array]:
    """The first plan with some trials at these points, all others diverged."""
    plan = strategy.ask(KEY, strategy.init(KEY))
    rows = jnp.arange(len(points))
    told = jnp.full(strategy.max_lanes, jnp.nan).at[rows].set(jnp.array(scores, jnp.float32))
    return plan._replace(points=plan.points.at[rows].set(jnp.array(points, jnp.float32))), told


def second_round(points, axes=(RATE,), scores=None, keep=4, trials=2048, exploration=0.0) -> Plan:
    """What coarse to fine asks for when the first round's only finite trials lie at these points."""
    strategy = coarse_to_fine(2, keep, exploration)(axes, trials=trials, epochs=1)
    told = plan_and_rest(strategy, points, [0.0] * len(points) if scores is None else scores)
    return strategy.ask(KEY, strategy.tell(strategy.init(KEY), *told))


def bounds(plan: Plan, column: int = 0) -> tuple[float, float]:
    points = np.asarray(plan.points)[plan.active, column]
    return points.min(), points.max()


def near(low: float, high: float):
    """Where 1024 draws from [low, high) end: just inside, up to a cell of 1/256 outside."""
    return pytest.approx((low, high), abs=1.5 / CELLS)


def best_of(strategy: Strategy, num_rounds: int, keys: jax.Array) -> jax.Array:
    """The best squared distance from an optimum off the middle, a search a key."""

    def search(key: jax.Array) -> jax.Array:
        def advance(state, _):
            plan = strategy.ask(key, state)
            distances = jnp.sum((plan.points - jnp.array([[0.71, 0.23, 0.46]])) ** 2, axis=1)
            return strategy.tell(state, plan, distances), jnp.min(jnp.where(plan.active, distances, jnp.inf))

        return jnp.min(jax.lax.scan(advance, strategy.init(key), length=num_rounds)[1])

    return jax.jit(jax.vmap(search))(keys)


# Rounds


@given(trials=st.integers(1, 300), rounds=st.integers(1, 40))
def test_rounds_are_even_and_add_up(trials, rounds):
    sizes = Rounds.even(trials, rounds, epochs=1).sizes
    assert sum(sizes) == trials
    assert len(sizes) == min(rounds, trials)
    assert max(sizes) - min(sizes) <= 1


# Random


def test_a_point_belongs_to_its_trial_id_whatever_the_rounds():
    expected = sample_points(KEY, jnp.arange(10), 2)
    for round_size in (None, 3, 10, 64):
        strategy = random(round_size)((RATE, DECAY), trials=10, epochs=1)
        state, rows = strategy.init(KEY), []
        while not strategy.done(state):
            plan = strategy.ask(KEY, state)
            rows.append(plan.points[plan.active])
            state = strategy.tell(state, plan, jnp.zeros(strategy.max_lanes))
        chex.assert_trees_all_equal(jnp.concatenate(rows), expected)


def test_random_asks_for_all_at_once_unless_told():
    assert random()((RATE,), trials=100, epochs=1).max_lanes == 100
    assert random(round_size=64)((RATE,), trials=100, epochs=1).max_lanes == 50


# Grid


def grid_points(axes, trials):
    strategy = grid()(axes, trials=trials, epochs=1)
    return np.asarray(strategy.ask(KEY, strategy.init(KEY)).points)


@pytest.mark.parametrize(
    ("levels", "trials", "counts"),
    [
        ([None, None], 9, (3, 3)),
        ([None, None], 12, (4, 3)),
        ([None, 2, None], 20, (3, 2, 3)),
        ([2, 3], 100, (2, 3)),
        ([None] * 4, 3, (3, 1, 1, 1)),
        ([None] * 4, 1, (1, 1, 1, 1)),
    ],
)
def test_the_axis_with_the_fewest_values_gets_the_next(levels, trials, counts):
    axes = tuple(Axis(f"axis{position}", level, True) for position, level in enumerate(levels))
    assert values_per_axis(axes, trials) == counts


def test_grid_tries_every_combination_once():
    points = grid_points((RATE, Axis("optimizer", 2, False)), trials=11)
    assert points.tolist() == [[np.float32(0.1 + 0.2 * (row // 2)), 0.25 + 0.5 * (row % 2)] for row in range(10)]


def test_grid_takes_the_middle_where_trials_are_few():
    assert grid_points((RATE, DECAY, Axis("layers", 4, True)), trials=1).tolist() == [[0.5, 0.5, 0.625]]


@pytest.mark.parametrize("trials", [3, 7, 12, 20])
def test_grid_spreads_different_levels_over_a_discrete_axis(trials):
    levels = np.floor(grid_points((Axis("layers", 12, True),), trials)[:, 0] * 12)
    assert len(levels) == min(trials, 12)
    assert set(np.diff(levels)) <= {12 // len(levels), 12 // len(levels) + 1}


# Coarse to fine: the box


@pytest.mark.parametrize(
    ("leaders", "box"),
    [
        ([0.2, 0.3, 0.9], (0.2, 0.9)),  # their range
        ([0.49, 0.5, 0.51], (0.25, 0.75)),  # halved at most
        ([0.01, 0.02], (0.0, 0.5)),  # shifted at the bounds, not clipped
        ([0.99, 0.999], (0.5, 1.0)),
        ([0.5], (0.0, 1.0)),  # one says nothing of a range
        ([], (0.0, 1.0)),
    ],
)
def test_the_second_round_closes_in_on_the_leaders(leaders, box):
    assert bounds(second_round([[leader] for leader in leaders])) == near(*box)


@pytest.mark.long
def test_the_box_keeps_a_twentieth_of_every_side():
    strategy = coarse_to_fine(rounds=8, exploration=0.0)((RATE,), trials=8 * 512, epochs=1)
    plan, told = plan_and_rest(strategy, [[0.7]] * 4, [0.0] * 4)
    state, sides = strategy.tell(strategy.init(KEY), plan, told), []
    for _ in range(7):
        plan = strategy.ask(KEY, state)
        sides.append(np.ptp(bounds(plan)))
        state = strategy.tell(state, plan, jnp.full(strategy.max_lanes, jnp.nan))
    assert sides == pytest.approx([0.5, 0.25, 0.125, 0.0625, 0.051, 0.051, 0.051], rel=0.03)


def test_the_box_grows_again_where_a_better_trial_lies_outside():
    leaders = Leaders(jnp.arange(2), jnp.ones(2, jnp.int32), jnp.zeros(2), jnp.array([[0.1], [0.6]]))
    grown = Box(jnp.array([128]), jnp.array([32])).around(leaders, (RATE,))
    low, side = int(grown.low[0]), int(grown.side[0])
    assert low / CELLS == pytest.approx(0.1, abs=1 / CELLS)
    assert (low + side) / CELLS == pytest.approx(0.6, abs=1 / CELLS)


AXES = (RATE, Axis("batch_size", 4, True), Axis("layers", 7, True), Axis("hidden", 241, True), Axis("seed", 999, True))
zoomed = jax.jit(lambda box, leaders: box.around(leaders, AXES))


@given(
    points=arrays.arrays(np.float32, (4, len(AXES)), elements=units),
    side=st.integers(NARROWEST, CELLS),
    shift=st.floats(0, 1),
)
def test_the_leaders_are_in_the_box_whole_levels_and_all(points, side, shift):
    before = Box(*(jnp.full(len(AXES), cells, jnp.int32) for cells in (round(shift * (CELLS - side)), side)))
    box = zoomed(before, Leaders(jnp.arange(4), jnp.ones(4, jnp.int32), jnp.zeros(4), jnp.asarray(points)))
    low, end = np.asarray(box.low), np.asarray(box.low + box.side)
    assert np.all((low >= 0) & (end <= CELLS))
    assert np.all(end - low >= max(NARROWEST, side / 2))
    assert np.all((low <= points * CELLS) & (points * CELLS < end))
    for column, levels in ((1, 4), (2, 7)):
        level = np.floor(points[:, column] * np.float32(levels))
        assert low[column] <= CELLS * level.min() / levels
        assert end[column] >= CELLS * (level.max() + 1) / levels


def test_a_discrete_axis_zooms_to_whole_levels():
    # All leaders at the lower end of level 1 of 2: a box around the points themselves would half miss it.
    plan = second_round([[0.51], [0.52], [0.51], [0.53]], axes=(Axis("batch_size", 2, True),))
    assert bounds(plan) == near(0.5, 1.0)


def test_points_stay_below_one():
    top = jnp.full((1, 1), np.nextafter(np.float32(1), np.float32(0)))
    for low, side in ((0, 256), (243, 13), (128, 128), (1, 255)):
        assert Box(jnp.array([low]), jnp.array([side])).draw(top).item() < 1


# Coarse to fine: who leads


def test_only_the_best_finite_trials_count():
    points, scores = [[0.9], [0.1], [0.2], [0.8], [0.7]], [9.0, 0.0, 1.0, np.nan, -np.inf]
    assert bounds(second_round(points, scores=scores, keep=2)) == near(0.0, 0.5)


def test_equal_scores_rank_by_trial_id():
    points, scores = [[0.9], [0.8], [0.1], [0.2]], [1.0, 1.0, 1.0, 1.0]
    assert bounds(second_round(points, scores=scores, keep=2)) == near(0.5, 1.0)


def test_the_best_of_all_rounds_lead():
    strategy = coarse_to_fine(rounds=3, keep=2, exploration=0.0)((RATE,), trials=3072, epochs=1)
    plan, told = plan_and_rest(strategy, [[0.1], [0.2]], [0.0, 0.0])
    state = strategy.tell(strategy.init(KEY), plan, told)
    plan = strategy.ask(KEY, state)
    state = strategy.tell(state, plan, jnp.ones(strategy.max_lanes))  # worse than before
    assert bounds(strategy.ask(KEY, state)) == near(0.025, 0.275)


def test_an_unused_parameter_has_no_say():
    points = [[0.1, np.nan], [0.2, np.nan], [0.3, 0.9], [0.3, np.nan]]
    plan = second_round(points, axes=(RATE, DECAY))
    assert bounds(plan, column=0) == near(0.0, 0.5)
    assert bounds(plan, column=1) == near(0.0, 1.0)  # a single trial used it


@pytest.mark.parametrize(("trials", "places"), [(16, 4), (256, 8), (1024, 32)])
def test_an_eighth_of_a_round_leads_by_default_and_at_least_four(trials, places):
    strategy = coarse_to_fine()((RATE,), trials=trials, epochs=1)
    assert len(jax.tree.leaves(strategy.init(KEY), is_leaf=lambda leaf: isinstance(leaf, Leaders))[1].scores) == places


# Coarse to fine: categories and exploration


@pytest.mark.long
def test_categories_are_drawn_by_votes_and_one_more():
    plan = second_round([[0.5], [0.4], [0.6], [0.9]], axes=(Axis("optimizer", 3, False),), trials=8192)
    drawn = np.bincount((np.asarray(plan.points[:, 0]) * 3).astype(int), minlength=3)
    assert drawn / len(plan.points) == pytest.approx([1 / 7, 4 / 7, 2 / 7], abs=0.03)


@pytest.mark.parametrize("exploration", [0.0, 0.125, 0.3])
def test_a_share_of_every_later_round_stays_on_the_whole_box(exploration):
    plan = second_round([[0.5]] * 4, trials=128, exploration=exploration)
    on_whole_box = np.asarray(plan.points == sample_points(KEY, plan.trial_id, 1))[:, 0]
    assert on_whole_box.sum() == round(64 * exploration)


def test_the_first_round_is_that_of_random_search():
    search = {"axes": (RATE, Axis("optimizer", 3, False)), "trials": 16, "epochs": 1}
    coarse, chance = coarse_to_fine(rounds=1)(**search), random()(**search)
    chex.assert_trees_all_equal(coarse.ask(KEY, coarse.init(KEY)), chance.ask(KEY, chance.init(KEY)))


@pytest.mark.parametrize(("trials", "rounds"), [(64, 4), (16, 4), (128, 3)])
def test_it_beats_random_search_on_a_bowl(trials, rounds):
    keys = jnp.stack([jax.random.key(seed, impl="threefry2x32") for seed in range(20)])
    coarse = best_of(coarse_to_fine(rounds)(CUBE, trials=trials, epochs=1), rounds, keys)
    chance = best_of(random()(CUBE, trials=trials, epochs=1), 1, keys)
    assert jnp.median(coarse) < jnp.median(chance)


# Names, errors, reports


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_name_is_the_strategy_with_its_defaults(name):
    assert by_name(name) == STRATEGIES[name]()
    assert by_name(name).name == STRATEGIES[name].__name__ == name


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("corse_to_fine", "did you mean 'coarse_to_fine'?"),
        ("Random", "did you mean 'random'?"),
        ("succesive_halving", "did you mean 'successive_halving'?"),
        ("annealing", f"write one of {', '.join(map(repr, sorted(STRATEGIES)))}."),
    ],
)
def test_an_unknown_name_is_refused_with_advice(name, advice):
    with pytest.raises(ValueError, match="there is no such strategy") as refusal:
        by_name(name)
    assert str(refusal.value).startswith(f"strategy={name!r}: ")
    assert str(refusal.value).endswith(advice)


@pytest.mark.parametrize(
    ("call", "written"),
    [
        (lambda: coarse_to_fine(rounds=0), "rounds=0"),
        (lambda: coarse_to_fine(rounds=True), "rounds=True"),
        (lambda: coarse_to_fine(keep=1), "keep=1"),
        (lambda: coarse_to_fine(exploration=1.0), "exploration=1.0"),
        (lambda: coarse_to_fine(exploration=-0.1), "exploration=-0.1"),
        (lambda: coarse_to_fine(exploration=float("nan")), "exploration=nan"),
        (lambda: coarse_to_fine(exploration="0.1"), "exploration='0.1'"),  # pyright: ignore[reportArgumentType]
        (lambda: random(round_size=0), "round_size=0"),
        (lambda: sobol(round_size=0), "round_size=0"),
        (lambda: successive_halving(eta=1), "eta=1"),
        (lambda: successive_halving(least=0), "least=0"),
        (lambda: successive_halving(least=6)((RATE,), trials=1, epochs=5), "least=6"),
        (lambda: hyperband(eta=0), "eta=0"),
        (lambda: asha(eta=1), "eta=1"),
        (lambda: asha(least=0), "least=0"),
        (lambda: asha(least=6)((RATE,), trials=1, epochs=5), "least=6"),
        (lambda: asha(width=0), "width=0"),
        (lambda: asha(lag=-1), "lag=-1"),
        (lambda: random()((RATE,), trials=0, epochs=1), "trials=0"),
        (lambda: grid()((RATE,), trials=1, epochs=0), "epochs=0"),
        (lambda: grid()((), trials=1, epochs=1), "grid() got no axes"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_what_cannot_be_is_refused_before_anything_runs(call, written):
    with pytest.raises(ValueError, match=r"must|nothing to try|no trial trains") as refusal:
        call()
    assert str(refusal.value).startswith(written)
    assert any(advice in str(refusal.value) for advice in ("Write for example", "Let at least"))


def test_a_factory_prints_as_its_call():
    assert repr(coarse_to_fine(rounds=3)) == "coarse_to_fine(rounds=3, keep=None, exploration=0.125)"


def test_near_bounds_names_the_axes_where_better_may_lie_outside():
    axes = (RATE, DECAY, Axis("layers", 4, True), Axis("hidden", 241, True), Axis("optimizer", 99, False))
    assert near_bounds(np.array([0.99, 0.01, 0.99, 0.985, 0.99]), axes) == {
        "learning_rate": "upper",
        "decay": "lower",
        "hidden": "upper",
    }
    assert near_bounds(jnp.array([0.97, jnp.nan, 0.0, 0.5, 0.0]), axes) == {}
    assert near_bounds(jnp.array([0.97, 0.5, 0.0, 0.5, 0.0]), axes, margin=0.05) == {"learning_rate": "upper"}
