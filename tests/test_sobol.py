import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import qmc

from vtune.protocols import Axis
from vtune.strategies import random, sobol
from vtune.strategies.sequences import BITS, MOST_AXES, directions_of, points_of, scrambled


def key_of(seed: int | jax.Array) -> jax.Array:
    return jax.random.key(seed, impl="threefry2x32")


def axes_of(number: int) -> tuple[Axis, ...]:
    return tuple(Axis(f"axis{position}", None, True) for position in range(number))


def points(factory, num_axes: int, trials: int, seed: int = 0, **search) -> np.ndarray:
    strategy, rows = factory(axes_of(num_axes), trials=trials, epochs=1, **search), []
    state = strategy.init(key_of(seed))
    while not strategy.done(state):
        plan = strategy.ask(key_of(seed), state)
        rows.append(np.asarray(plan.points)[plan.active])
        state = strategy.tell(state, plan, jnp.zeros(strategy.max_lanes))
    return np.concatenate(rows)


drawn = jax.jit(lambda key: points_of(scrambled(key, directions_of(12, num_bits=8)), jnp.arange(256)))


@given(power=st.integers(0, 8), seed=st.integers(0, 2**32 - 1))
def test_each_part_of_every_axis_holds_one_of_the_first_points(power, seed):
    parts = np.floor(np.asarray(drawn(key_of(seed)))[: 2**power] * 2**power).astype(int)
    assert np.array_equal(np.sort(parts, axis=0), np.tile(np.arange(2**power)[:, None], 12))


@pytest.mark.parametrize("power", [2, 4, 6])
def test_each_box_of_a_power_of_two_holds_one_on_the_first_two_axes(power):
    cloud = points(sobol(), 2, 2**power)
    for split in range(power + 1):
        cells = np.floor(cloud * np.array([2**split, 2 ** (power - split)])).astype(int)
        assert len({tuple(cell) for cell in cells}) == 2**power


def test_unscrambled_they_are_the_points_of_scipy():
    words = jnp.concatenate([jnp.zeros((1, 7), jnp.uint32), directions_of(7, num_bits=6)])
    ours = np.asarray(points_of(words, jnp.arange(64)))
    theirs = qmc.Sobol(7, scramble=False).random_base2(6)
    gray = np.arange(64) ^ np.arange(64) >> 1
    assert np.array_equal(ours[gray], theirs.astype(np.float32))


@pytest.mark.parametrize("trials", [50, 128])
def test_their_discrepancy_is_below_that_of_random_points(trials):
    even, chance = (
        np.mean([qmc.discrepancy(points(strategy(), 5, trials, seed).astype(float)) for seed in range(5)])
        for strategy in (sobol, random)
    )
    assert even < chance / 2


@pytest.mark.long
def test_a_point_belongs_to_its_trial_id_whatever_the_rounds_and_however_many():
    expected = points(sobol(), 3, 40)
    for cut in (points(sobol(7), 3, 40), points(sobol(), 3, 40, earlier=(9,)), points(sobol(), 3, 100)[:40]):
        chex.assert_trees_all_equal(cut, expected)


def test_they_are_multiples_of_what_float32_holds_below_one():
    for seed in range(3):
        steps = points(sobol(), 9, 1000, seed).astype(float) * 2**BITS
        assert np.array_equal(steps, np.round(steps))
        assert steps.min() >= 0
        assert steps.max() < 2**BITS
        assert len(np.unique(steps[:, 0])) == 1000


def test_the_scramble_is_uniform_and_keeps_no_pattern_between_axes():
    # Over many keys one point is anywhere, and its two coordinates know nothing of each other.
    directions = directions_of(2, num_bits=3)
    third = np.asarray(
        jax.jit(jax.vmap(lambda seed: points_of(scrambled(key_of(seed), directions), jnp.array([3]))[0]))(
            jnp.arange(2000)
        )
    )
    assert np.histogram(third[:, 0], bins=10, range=(0, 1))[0] == pytest.approx(np.full(10, 200), abs=60)
    assert abs(np.corrcoef(third.T)[0, 1]) < 0.08


def test_more_axes_than_direction_numbers_are_refused():
    with pytest.raises(ValueError, match=r"^sobol\(\) got 21202 axes .* Write strategy='random'\.$"):
        sobol()(axes_of(MOST_AXES + 1), trials=4, epochs=1)
    with pytest.raises(ValueError, match=r"trials=16777217"):
        sobol()(axes_of(1), trials=2**BITS + 1, epochs=1)
