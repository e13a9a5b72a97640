"""Law 10, Space: what every parameter type keeps, whatever its scale."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.laws.population import float64
from vtune.parameters import Continuous, choice, integers, loguniform, powers_of_two, reverse_loguniform, uniform
from vtune.space import Space, sample_points

NUM_SAMPLES = 20_000
LEAST_P_VALUE = 1e-3  # with fixed seeds: a test that passes once passes always

CONTINUOUS = [
    uniform(0, 1),
    uniform(-0.3, 0.7),
    uniform(0, 0.1),
    loguniform(1e-4, 1.0),
    loguniform(1e-10, 1e-4),
    reverse_loguniform(0.9, 0.999),
    reverse_loguniform(0, 0.9999),
]
DISCRETE = [
    integers(1, 4),
    integers(-3, 3),
    integers(16, 256),
    integers(1, 8, log=True),
    integers(16, 256, log=True),
    powers_of_two(32, 256),
    choice([0.1, 0.2, 0.5]),
    choice(["relu", "tanh", "gelu"]),
    choice([False, True]),
    choice([(64,), (64, 32), None]),
]

units = st.floats(0, 1, width=32)


@st.composite
def continuous(draw):
    scale = draw(st.sampled_from(["linear", "log", "reverse_log"]))
    bounds = {"linear": st.floats(-1e3, 1e3), "log": st.floats(1e-30, 1e30), "reverse_log": st.floats(0, 0.9999)}[scale]
    low, high = sorted((draw(bounds), draw(bounds)))
    assume(all(bound == 0 or abs(bound) > 1e-37 for bound in (low, high)))
    assume(high - low > 1e-4 * max(abs(low), abs(high)))
    assume(scale != "reverse_log" or (1 - low) / (1 - high) > 1.001)
    return Continuous(low, high, scale)


@st.composite
def discrete(draw):
    low, num_levels = draw(st.integers(1, 500)), draw(st.integers(2, 500))
    kind = draw(st.sampled_from(["linear", "log", "choice"]))
    return choice(range(num_levels)) if kind == "choice" else integers(low, low + num_levels - 1, log=kind == "log")


parameters = st.one_of(continuous(), discrete())


def sampled(parameter):
    points = sample_points(jax.random.key(0, impl="threefry2x32"), jnp.arange(NUM_SAMPLES), 1)
    return parameter.decode(np.asarray(points)[:, 0])


def fair_shares(parameter):
    if getattr(parameter, "log", False):
        levels = np.array(parameter.values)
        weights = np.log((levels + 0.5) / (levels - 0.5))
    else:
        weights = np.ones(parameter.levels)
    return weights / weights.sum()


@given(parameters, st.lists(units))
def test_values_lie_in_the_parameter(parameter, points):
    values = parameter.decode(np.array(points, np.float32)).tolist()
    assert all(value in parameter for value in values)
    assert all(parameter.support[0] <= value <= parameter.support[1] for value in values)


@given(continuous(), st.lists(units))
def test_the_value_in_the_table_is_the_float32_that_trains(parameter, points):
    values = parameter.decode(np.array(points, np.float32))
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values.astype(np.float32).astype(np.float64), values)
    assert np.all((values == 0) | (np.abs(values) >= np.finfo(np.float32).tiny))  # XLA takes subnormals for 0


@given(parameters, st.lists(units))
def test_values_rise_with_the_points(parameter, points):
    assert np.all(np.diff(parameter.decode(np.sort(np.array(points, np.float32)))) >= 0)


@pytest.mark.long
@settings(max_examples=300)
@given(parameters, st.lists(units))
def test_values_come_back_from_their_float32_points(parameter, points):
    space = Space.of({"value": parameter})
    rows = space.rows(np.array(points, np.float32).reshape(-1, 1))
    assert space.rows(space.encode(rows)) == rows


@pytest.mark.parametrize("parameter", CONTINUOUS + DISCRETE, ids=str)
def test_values_come_back_from_their_float64_points(parameter):
    values = sampled(parameter).tolist()
    points = parameter.encode(values)
    assert points.dtype == np.float64
    assert np.all((points >= 0) & (points <= 1))
    assert parameter.decode(points).tolist() == values


@pytest.mark.parametrize("parameter", DISCRETE, ids=str)
def test_a_discrete_value_is_the_centre_of_its_bin(parameter):
    edges = np.concatenate([[0.0], np.cumsum(fair_shares(parameter))])
    np.testing.assert_allclose(parameter.encode(parameter.values), (edges[:-1] + edges[1:]) / 2, rtol=1e-12)
    for just_inside in (edges[:-1] + 1e-9, edges[1:] - 1e-9):
        assert parameter.decode(just_inside).tolist() == list(parameter.values)


@pytest.mark.parametrize("parameter", CONTINUOUS + DISCRETE, ids=str)
def test_the_ends_of_the_cube_are_the_ends_of_the_parameter(parameter):
    first, last = parameter.decode(np.array([0.0, 1.0], np.float32)).tolist()
    if parameter.levels is None:
        assert (first, last) == pytest.approx((parameter.low, parameter.high), rel=1e-6)
    else:
        assert (first, last) == (parameter.values[0], parameter.values[-1])


@pytest.mark.parametrize("parameter", CONTINUOUS, ids=str)
def test_quantiles_are_those_of_the_scale(parameter):
    warp = {"linear": lambda v: v, "log": np.log, "reverse_log": lambda v: -np.log1p(-v)}[parameter.scale]
    start, end = warp(parameter.low), warp(parameter.high)
    on_scale = (warp(sampled(parameter)) - start) / (end - start)
    assert stats.kstest(on_scale, "uniform").pvalue > LEAST_P_VALUE


def test_the_median_of_momentum_is_half_way_in_orders_of_magnitude_of_its_window():
    assert np.median(sampled(reverse_loguniform(0.9, 0.999))) == pytest.approx(0.990, abs=2e-4)
    assert reverse_loguniform(0.9, 0.999).decode(np.array([0.5]))[0] == pytest.approx(0.990)


@pytest.mark.parametrize("parameter", DISCRETE, ids=str)
def test_every_level_has_its_fair_share(parameter):
    values = sampled(parameter).tolist()
    counts = [values.count(level) for level in parameter.values]
    assert stats.chisquare(counts, NUM_SAMPLES * fair_shares(parameter)).pvalue > LEAST_P_VALUE


@pytest.mark.parametrize("parameter", DISCRETE, ids=str)
def test_the_first_and_the_last_level_have_their_fair_share(parameter):
    values = sampled(parameter).tolist()
    for level in (0, -1):
        count = values.count(parameter.values[level])
        assert stats.binomtest(count, NUM_SAMPLES, fair_shares(parameter)[level]).pvalue > LEAST_P_VALUE


NUMERIC = [*CONTINUOUS, *(p for p in DISCRETE if isinstance(p.values[0], float) or type(p.values[0]) is int)]


@pytest.mark.parametrize("parameter", NUMERIC, ids=repr)
@pytest.mark.parametrize("is_x64", [False, True])
def test_values_worked_out_inside_a_program_are_the_same_bits(parameter, is_x64):
    points = sample_points(jax.random.key(1, impl="threefry2x32"), jnp.arange(NUM_SAMPLES), 1)
    points = jnp.concatenate([points, jnp.array([[0.0], [1.0]], jnp.float32)])
    space = Space.of({"width": parameter, "decay": 0.25})
    truth = space.decode(points)
    with float64() if is_x64 else contextlib.nullcontext():
        types = {"width": jnp.result_type(float).name if truth["width"].dtype == float else "int32", "decay": "float32"}
        traced = jax.jit(lambda points: space.trace(points, types))(np.asarray(points))
    assert {name: column.dtype.name for name, column in traced.items()} == types
    for name, column in traced.items():
        np.testing.assert_array_equal(np.asarray(column), truth[name].astype(column.dtype))
