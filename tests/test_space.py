import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optuna.distributions
import pytest

import vtune
from vtune.defaults import DEFAULTS, NINE, OPTIMIZER_READS, TIERS
from vtune.parameters import (
    Choice,
    Continuous,
    Integer,
    choice,
    integers,
    loguniform,
    powers_of_two,
    reverse_loguniform,
    uniform,
)
from vtune.protocols import Axis
from vtune.space import Space, default_space, per_layer, sample_points


def key(seed=0):
    return jax.random.key(seed, impl="threefry2x32")


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (uniform(0, 1), Continuous(0, 1, "linear")),
        (loguniform(1e-4, 1.0), Continuous(1e-4, 1.0, "log")),
        (reverse_loguniform(0.9, 0.999), Continuous(0.9, 0.999, "reverse_log")),
        (integers(1, 4), Integer(1, 4, log=False)),
        (integers(16, 256, log=True), Integer(16, 256, log=True)),
        (choice(["adam", "momentum"]), Choice(("adam", "momentum"))),
        (choice([32, 64], ordered=False), Choice((32, 64), ordered=False)),
        (powers_of_two(32, 256), Choice((32, 64, 128, 256))),
        (uniform(np.float32(0.5), np.int64(1)), Continuous(0.5, 1)),
        (choice(np.array([32, 64])), Choice((32, 64))),
    ],
    ids=str,
)
def test_constructors_make_the_parameter_whose_repr_is_the_call(parameter, expected):
    assert parameter == expected
    assert eval(repr(parameter)) == parameter


@pytest.mark.parametrize(
    ("values", "is_ordered"),
    [
        ([32, 64, 128], True),
        ([0.1, 1, 2.5], True),
        ([64, 32], False),
        (["a", "b"], False),
        ([False, True], False),
        ([1, None], False),
        ([(16,), (32, 16)], False),
    ],
)
def test_a_choice_of_rising_numbers_is_ordered_unless_told_otherwise(values, is_ordered):
    assert choice(values).is_ordered == is_ordered
    assert choice(values, ordered=True).is_ordered
    assert not choice(values, ordered=False).is_ordered


@pytest.mark.parametrize(
    ("call", "quote", "why", "instead"),
    [
        (lambda: uniform(1, 0), "uniform(1, 0)", "lower bound is above", "0, 1"),
        (lambda: uniform(2, 2), "uniform(2, 2)", "nothing lies between", "2 alone"),
        (lambda: uniform(0, math.inf), "uniform(0, inf)", "no float32 number", "3.4e38"),
        (lambda: uniform(math.nan, 1), "uniform(nan, 1)", "no float32 number", "3.4e38"),
        (lambda: uniform(0, 1e39), "uniform(0, 1e+39)", "no float32 number", "3.4e38"),
        (lambda: uniform(1, 1 + 1e-9), "uniform(1, 1.000000001)", "too few numbers", "coarser"),
        (lambda: loguniform(0, 1), "loguniform(0, 1)", "above 0", "loguniform(1e-4, 1.0)"),
        (lambda: loguniform(-1, 1), "loguniform(-1, 1)", "above 0", "loguniform(1e-4, 1.0)"),
        (
            lambda: loguniform(1e-40, 1),
            "loguniform(1e-40, 1)",
            "no float32 number",
            "1.2e-38",
        ),  # subnormal: XLA reads 0
        (lambda: reverse_loguniform(0.9, 1), "reverse_loguniform(0.9, 1)", "[0, 1)", "reverse_loguniform(0.9, 0.999)"),
        (lambda: reverse_loguniform(-0.1, 0.9), "reverse_loguniform(-0.1, 0.9)", "[0, 1)", "(0.9, 0.999)"),
        (lambda: reverse_loguniform(0.9, 1 - 1e-9), "reverse_loguniform(0.9, ", "too few numbers", "coarser"),
        (lambda: reverse_loguniform(1 - 1e-9, 1 - 1e-10), "reverse_loguniform(0.99", "[0, 1)", "(0.9, 0.999)"),
        (lambda: integers(4, 1), "integers(4, 1)", "lower bound is above", "1, 4"),
        (lambda: integers(0, 8, log=True), "integers(0, 8, log=True)", "from 1 up", "integers(0, 8)."),
        (lambda: integers(0, 2**23), "integers(0, 8388608)", "tell apart", "narrower"),
        (lambda: choice([]), "choice([])", "nothing to choose", "choice([32, 64])"),
        (lambda: choice([1, 2, 1]), "choice([1, 2, 1])", "twice", "choice([1, 2])"),
        (lambda: choice([1, True]), "choice([1, True])", "twice", "choice([1])"),
        (lambda: choice([1.0, math.nan]), "choice([1.0, nan])", "no float32 number", "3.4e38"),
        (lambda: powers_of_two(32, 100), "powers_of_two(32, 100)", "100 is not a power", "integers"),
        (lambda: powers_of_two(0, 64), "powers_of_two(0, 64)", "0 is not a power", "integers"),
        (lambda: powers_of_two(64, 32), "powers_of_two(64, 32)", "lower bound is above", "32, 64"),
        (lambda: Space.of({"learning-rate": 1}), "'learning-rate'", "identifier", "'learning_rate'"),
        (lambda: Space.of({"rate": math.nan}), "{'rate': nan}", "no float32 number", "3.4e38"),
        (lambda: Space.of({"epsilon": 1e-50}), "{'epsilon': 1e-50}", "no float32 number", "1.2e-38"),
        (lambda: Space.of({"rate": -math.inf}), "{'rate': -inf}", "no float32 number", "3.4e38"),
        (
            lambda: Space.of({"decay": 0.1}).require_varying(),
            "{'decay': 0.1}",
            "nothing varies",
            "loguniform(1e-4, 1.0)",
        ),
        (lambda: Space.of({}).require_varying(), "{}", "nothing varies", "loguniform(1e-4, 1.0)"),
    ],
)
def test_a_value_error_tells_what_was_written_why_it_cannot_be_and_what_to_write(call, quote, why, instead):
    with pytest.raises(ValueError, match=rf"{re.escape(quote)}.*{re.escape(why)}.*{re.escape(instead)}"):
        call()


@pytest.mark.parametrize(
    ("call", "quote", "why", "instead"),
    [
        (lambda: uniform("0", 1), "uniform('0', 1)", "'0' is not a number", "two numbers"),
        (lambda: uniform(False, True), "uniform(False, True)", "False is not a number", "two numbers"),
        (lambda: loguniform(None, 1), "loguniform(None, 1)", "None is not a number", "two numbers"),
        (lambda: integers(16.0, 256), "integers(16.0, 256)", "must be integers", "integers(16, 256, log=False)"),
        (lambda: integers(1, 4.5), "integers(1, 4.5)", "must be integers", "integers(1, 5, log=False)"),
        (lambda: powers_of_two("2", 4), "powers_of_two('2', 4)", "'2' is not a number", "two numbers"),
        (lambda: choice("adam"), "choice('adam')", "need an order", "choice([32, 64])"),
        (lambda: choice({32, 64}), "choice({", "need an order", "choice([32, 64])"),
        (lambda: choice(3), "choice(3)", "need an order", "choice([32, 64])"),
        (lambda: choice([[1, 2], [3]]), "choice([[1, 2], [3]])", "not a number, string, bool or None", "string"),
        (lambda: choice([math.tanh, "relu"]), "choice([", "not a number, string, bool or None", "string that names it"),
        (lambda: choice([uniform(0, 1), 2]), "choice([uniform(0, 1), 2])", "not a number", "string"),
        (lambda: Space.of([("decay", 0.1)]), "[('decay', 0.1)]", "not a dict", "{'learning_rate': "),
        (lambda: Space.of({3: 0.1}), "{3: 0.1}", "identifier", "'learning_rate'"),
        (lambda: Space.of({"width": [32, 64]}), "{'width': [32, 64]}", "single", "choice([32, 64])"),
        (lambda: Space.of({"width": (32, 64)}), "{'width': (32, 64)}", "single", "choice([32, 64])"),
        (lambda: Space.of({"width": np.arange(2)}), "{'width': array([0, 1])}", "single", "choice(["),
        (lambda: Space.of({"activation": math.tanh}), "{'activation': <", "not a number", "string that names it"),
        (lambda: Space.of({"width": integers}), "{'width': <function", "not a number", "string that names it"),
    ],
)
def test_a_type_error_tells_what_was_written_why_it_cannot_be_and_what_to_write(call, quote, why, instead):
    with pytest.raises(TypeError, match=rf"{re.escape(quote)}.*{re.escape(why)}.*{re.escape(instead)}"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: Continuous(0, 1, "logg"),  # pyright: ignore[reportArgumentType]
        lambda: integers(1, 4, 2),  # pyright: ignore[reportArgumentType]
        lambda: choice([1, 2], ordered="yes"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_options_are_checked(call):
    with pytest.raises((TypeError, ValueError)):  # which one is up to the type checker of the test run
        call()


@pytest.mark.parametrize(
    ("name", "written", "why"),
    [
        ("learning_rate", 0, "must be above 0"),
        ("learning_rate", -0.1, "must be above 0"),
        ("learning_rate", uniform(0, 1), "must be above 0"),
        ("learning_rate", choice([0.1, 0.0]), "must be above 0"),
        ("momentum", 1, "[0, 1)"),
        ("momentum", uniform(0.5, 1.5), "[0, 1)"),
        ("batch_size", 0, "integer of 1 or more"),
        ("batch_size", 32.0, "integer of 1 or more"),
        ("batch_size", uniform(32, 256), "integer of 1 or more"),
        ("hidden", integers(0, 64), "integer of 1 or more"),
        ("hidden", choice([(64, 0), (64,)]), "integer of 1 or more"),
        ("layers", choice([0, 1, 2]), "integer of 1 or more"),
        ("decay", -1e-3, "0 or more"),
        ("decay", uniform(-1, 1), "0 or more"),
        ("beta1", -0.1, "[0, 1)"),
        ("beta2", 1 - 1e-9, "[0, 1)"),  # which is 1 in float32
        ("epsilon", 0, "Adam divides by it, and padded weights stay 0"),
        ("epsilon", -1e-8, "Adam divides by it, and padded weights stay 0"),
        ("epsilon", uniform(0, 1e-4), "Adam divides by it, and padded weights stay 0"),
    ],
)
def test_the_nine_refuse_values_without_sense_however_they_are_reached(name, written, why):
    row = NINE[name]
    instead = f'Write "{name}": {row.default!r}, or {row.call}{row.search} to search.'
    with pytest.raises(ValueError, match=rf'"{name}": {re.escape(repr(written))} .*{re.escape(why)}.*') as caught:
        Space.of({name: written})
    assert str(caught.value).endswith(instead)


@pytest.mark.parametrize("written", ["0.1", None, True, choice([0.1, "auto"])])
def test_the_nine_refuse_what_is_not_a_number(written):
    with pytest.raises(
        TypeError, match=r'"learning_rate": .*is a number, and .* is not.*Write "learning_rate": 0\.001'
    ):
        Space.of({"learning_rate": written})


@pytest.mark.parametrize(
    ("name", "default", "tier", "call"),
    [
        ("learning_rate", 1e-3, 1, "loguniform"),
        ("momentum", 0.9, 2, "reverse_loguniform"),
        ("batch_size", 64, 2, "powers_of_two"),
        ("hidden", 64, 2, "integers"),
        ("layers", 2, 3, "integers"),
        ("decay", 0, 3, "loguniform"),
        ("beta1", 0.9, 4, "reverse_loguniform"),
        ("beta2", 0.999, 4, "reverse_loguniform"),
        ("epsilon", 1e-8, 4, "loguniform"),
    ],
)
def test_the_table_of_the_nine(name, default, tier, call):
    assert (DEFAULTS[name], TIERS[name], NINE[name].call) == (default, tier, call)
    assert Space.of({name: default}).fixed == {name: default}
    assert len(NINE) == 9


@pytest.mark.parametrize(
    ("optimizer", "own_names"),
    [
        ("adam", {"beta1", "beta2", "epsilon"}),
        ("momentum", {"momentum"}),
        ("rmsprop", {"momentum", "epsilon"}),
        ("sgd", set()),
    ],
)
def test_the_default_space_holds_what_the_optimizer_reads(optimizer, own_names):
    everyones = {"learning_rate", "batch_size", "hidden", "layers", "decay"}
    space = Space.of(default_space(optimizer, tiers=(1, 2, 3, 4)))
    assert set(space.parameters) == everyones | own_names
    assert set(OPTIMIZER_READS[optimizer]) == own_names


def test_the_default_space_keeps_to_the_tiers_asked():
    assert list(default_space()) == ["learning_rate", "batch_size", "hidden", "layers", "decay"]
    assert list(default_space("momentum", tiers=[2, 1])) == ["learning_rate", "momentum", "batch_size", "hidden"]
    assert default_space(tiers=(1,)) == {"learning_rate": loguniform(1e-4, 1.0)}
    assert default_space()["hidden"] == integers(16, 256, log=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("adm",), r"optimizer='adm' is unknown; did you mean 'adam'\?"),
        (("lion",), r"optimizer='lion' is unknown; write one of 'adam', 'momentum', 'rmsprop', 'sgd'\."),
        (("adam", (1, 5)), r"tiers=\(1, 5\): there is no tier 5; write some of 1, 2, 3 and 4: tiers=\(1, 2, 3\)\."),
    ],
)
def test_the_default_space_refuses_unknown_optimizers_and_tiers(arguments, message):
    with pytest.raises(ValueError, match=message):
        default_space(*arguments)


@pytest.fixture
def space():
    return Space.of(
        {
            "learning_rate": loguniform(1e-4, 1.0),
            "decay": 0.01,
            "optimizer": choice(["momentum", "adam"]),
            "layers": integers(1, 4),
            "skip": np.bool_(True),
            "widths": choice([(8,), (8, 4), None], ordered=True),
            "batch_size": choice([64]),
        }
    )


def test_a_space_parts_what_varies_from_what_is_fixed_in_the_order_written(space):
    assert list(space.parameters) == ["learning_rate", "optimizer", "layers", "widths"]
    assert space.fixed == {"decay": 0.01, "skip": True, "batch_size": 64}
    assert type(space.fixed["skip"]) is bool
    assert [axis[:3] for axis in space.axes] == [
        ("learning_rate", None, True),
        ("optimizer", 2, False),
        ("layers", 4, True),
        ("widths", 3, True),
    ]


def test_an_axis_tells_where_the_default_lies_and_how_long_its_log_scale_is():
    space = Space.of(
        {
            "learning_rate": loguniform(1e-4, 1e-1),  # default 1e-3
            "beta1": reverse_loguniform(0.9, 0.999),  # 0.9
            "layers": integers(3, 4),  # 2, below
            "hidden": per_layer(integers(32, 128, log=True)),  # 64
            "optimizer": choice(["sgd", "adam"]),
            "my_own": uniform(0.0, 1.0),
        }
    )
    rate, beta1, layers, *hidden, optimizer, my_own = space.axes
    assert rate == Axis("learning_rate", None, True, pytest.approx(1 / 3), pytest.approx(np.log(1000)))
    assert beta1 == Axis("beta1", None, True, pytest.approx(0, abs=1e-6), pytest.approx(np.log(100)))
    assert layers == Axis("layers", 2, True, pytest.approx(0.25), None)
    assert {axis.name for axis in hidden} == {"hidden_1", "hidden_2", "hidden_3", "hidden_4"}
    assert all(axis.default == pytest.approx(0.5, abs=0.01) for axis in hidden)
    assert all(axis.log_length == pytest.approx(np.log(128.5 / 31.5)) for axis in hidden)
    assert (optimizer.default, my_own.default, optimizer.log_length, my_own.log_length) == (0.75, 0.5, None, None)


def test_a_space_of_a_space_is_itself(space):
    assert Space.of(space) is space
    assert Space.of(space.entries) == space


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.array(0.5), jnp.float32(0.5)])
def test_fixed_scalars_become_plain_numbers(value):
    fixed = Space.of({"decay": value}).fixed["decay"]
    assert fixed == 0.5
    assert type(fixed) is float


def test_decode_gives_columns_and_rows_give_plain_values(space):
    points = np.array([[0.5, 0.0, 0.0, 0.5], [1.0, 1.0, 1.0, 1.0]], np.float32)
    columns = space.decode(points)
    assert list(columns) == list(space.entries)
    assert columns["learning_rate"].dtype == columns["decay"].dtype == np.float64
    assert columns["layers"].dtype == columns["batch_size"].dtype == np.int64
    first, last = space.rows(points)
    assert first == {
        "learning_rate": pytest.approx(1e-2),
        "decay": 0.01,
        "optimizer": "momentum",
        "layers": 1,
        "skip": True,
        "widths": (8, 4),
        "batch_size": 64,
    }
    assert [type(value) for value in first.values()] == [float, float, str, int, bool, tuple, int]
    assert last == first | {"learning_rate": 1.0, "optimizer": "adam", "layers": 4, "widths": None}


def test_decode_takes_the_points_of_a_plan_and_no_points_at_all(space):
    points = jnp.full((3, 4), 0.5)
    assert space.rows(points) == space.rows(np.asarray(points))
    assert space.rows(points[:0]) == []
    assert space.encode([]).shape == (0, 4)
    assert Space.of({"decay": 0.1}).rows(np.zeros((2, 0))) == [{"decay": 0.1}] * 2


@pytest.mark.parametrize(
    "points", [np.zeros((2, 3)), np.full((1, 4), -0.1), np.full((1, 4), 1.1), np.full((1, 4), np.nan)]
)
def test_decode_refuses_points_outside_the_cube(space, points):
    with pytest.raises(ValueError, match="points .*Give "):
        space.decode(points)


def test_encode_takes_rows_back_to_points(space):
    rows = space.rows(np.asarray(sample_points(key(), jnp.arange(20), 4)))
    points = space.encode(rows)
    assert points.dtype == np.float32
    assert space.rows(points) == rows
    assert space.rows(space.encode([rows[0] | {"layers": 2.0}]))[0]["layers"] == 2  # pandas makes floats of integers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 2.0}, r"\{'learning_rate': 2.0\} is outside the space\. Write one of loguniform"),
        ({"decay": math.nan}, "outside the space"),
        ({"layers": 2.5}, "outside the space"),
        ({"optimizer": "sgd"}, r"Write one of choice\(\['momentum', 'adam'\]\)"),
        ({"decay": 0.02}, r"\{'decay': 0.02\} is outside the space\. Write one of 0.01"),
        ({"learning_rte": 0.1}, r"'learning_rte' is not in this space; did you mean 'learning_rate'\?"),
    ],
)
def test_encode_refuses_rows_that_the_space_cannot_give(space, change, message):
    (row,) = space.rows(np.full((1, 4), 0.5))
    with pytest.raises(ValueError, match=message):
        space.encode([row | change])


def test_a_name_that_a_trial_does_not_use_is_nan_in_its_point(space):
    (point,) = space.encode([{"learning_rate": 1.0, "layers": math.nan}])
    np.testing.assert_array_equal(point, np.array([1.0, np.nan, np.nan, np.nan], np.float32))


def test_per_layer_has_a_name_a_layer():
    widths = vtune.per_layer(integers(16, 64, log=True))
    space = Space.of({"hidden": widths, "layers": choice([1, 3]), "decay": 0.0})
    assert list(space.entries) == ["hidden_1", "hidden_2", "hidden_3", "layers", "decay"]
    assert space.members("hidden") == ("hidden_1", "hidden_2", "hidden_3")
    assert space.members("decay") == ("decay",)
    assert space.axes[2][:3] == ("hidden_3", 49, True)
    assert space.has_layer({"layers": 1}) == {"hidden_1": True, "hidden_2": False, "hidden_3": False}
    depths = space.has_layer({"layers": np.array([1, 3])})
    assert {name: has.tolist() for name, has in depths.items()} == {
        "hidden_1": [True, True],
        "hidden_2": [False, True],
        "hidden_3": [False, True],
    }
    assert "hidden_2  integers(16, 64, log=True), if layers >= 2" in space.describe()
    assert repr(widths) == "per_layer(integers(16, 64, log=True))"
    assert Space.of({**space.written, "layers": 2}).members("hidden") == ("hidden_1", "hidden_2")


def test_layers_left_out_are_as_many_as_by_default():
    assert list(Space.of({"hidden": vtune.per_layer(integers(16, 64))}).entries) == ["hidden_1", "hidden_2"]


@pytest.mark.parametrize(
    ("written", "error", "message"),
    [
        (lambda: {"hidden": vtune.per_layer(64)}, TypeError, r"per_layer\(64\): .* Write per_layer\(integers"),
        (lambda: {"hidden": vtune.per_layer(integers(1, 2), layers=3)}, TypeError, "layers=3 is no name"),
        (
            lambda: {"width": vtune.per_layer(integers(1, 2), layers="depth")},
            ValueError,
            r"'depth' tells how many layers there are, and is not in the space. Write 'depth': integers\(1, 4\)",
        ),
        (
            lambda: {"width": vtune.per_layer(integers(1, 2), layers="depth"), "depth": uniform(1, 2)},
            ValueError,
            r"'depth' tells how many layers there are, and is uniform\(1, 2\)",
        ),
        (lambda: {"hidden": vtune.per_layer(integers(0, 2))}, ValueError, "hidden must be an integer of 1 or more"),
        (
            lambda: {"hidden": vtune.per_layer(integers(1, 2)), "hidden_1": 5},
            ValueError,
            "'hidden_1' is in the space, and per_layer makes one too",
        ),
    ],
)
def test_per_layer_refuses_what_makes_no_layers(written, error, message):
    with pytest.raises(error, match=message):
        Space.of(written())


def test_support_levels_and_cdf_tell_a_planner_what_may_come(space):
    low, high = space.support("learning_rate")
    assert (np.float32(low), np.float32(high)) == (low, high)
    assert 1e-4 <= low < 1.0001e-4
    assert high == 1.0
    assert space.support("layers") == (1, 4)
    assert space.support("decay") == (0.01, 0.01)
    assert space.levels_of("learning_rate") is None
    assert space.levels_of("layers") == [1, 2, 3, 4]
    assert space.levels_of("optimizer") == ["momentum", "adam"]
    assert space.levels_of("batch_size") == [64]


@pytest.mark.parametrize(
    ("parameter", "value", "share"),
    [
        (loguniform(1e-4, 1.0), 1e-3, 0.25),
        (loguniform(1e-4, 1.0), 1e-5, 0.0),
        (loguniform(1e-4, 1.0), 7.0, 1.0),
        (integers(1, 4), 0, 0.0),
        (integers(1, 4), 2.9, 0.5),
        (integers(1, 4), 9, 1.0),
        (integers(1, 4, log=True), 1, math.log(3) / math.log(9)),
        (powers_of_two(32, 256), 100, 0.5),
        (choice([3, 1, 2]), 1, 1 / 3),
        (64, 63, 0.0),
        (64, 64, 1.0),
    ],
)
def test_cdf_is_the_share_of_samples_up_to_a_value(parameter, value, share):
    assert Space.of({"width": parameter}).cdf("width", value) == pytest.approx(share)


def test_questions_without_an_answer_are_refused(space):
    for ask in (space.support, lambda name: space.cdf(name, 1)):
        with pytest.raises(TypeError, match=r"choice\(\['momentum', 'adam'\]\).*not all are numbers.*values instead"):
            ask("optimizer")
    with pytest.raises(ValueError, match="'layer' is not in this space; did you mean 'layers'?"):
        space.levels_of("layer")


def test_describe_and_repr_give_a_line_a_name():
    space = Space.of({"learning_rate": loguniform(1e-4, 1.0), "decay": 0.01, "optimizer": "adam"})
    assert (
        space.describe()
        == repr(space)
        == ("learning_rate  loguniform(0.0001, 1.0)\ndecay          0.01, fixed\noptimizer      'adam', fixed")
    )


@pytest.mark.parametrize(
    ("distribution", "entry"),
    [
        (optuna.distributions.FloatDistribution(0.5, 2.0), uniform(0.5, 2.0)),
        (optuna.distributions.FloatDistribution(1e-4, 1.0, log=True), loguniform(1e-4, 1.0)),
        (optuna.distributions.FloatDistribution(0.1, 0.5, step=0.2), choice([0.1, 0.3, 0.5])),
        (optuna.distributions.FloatDistribution(0.5, 0.5), 0.5),
        (optuna.distributions.IntDistribution(1, 4), integers(1, 4)),
        (optuna.distributions.IntDistribution(16, 256, log=True), integers(16, 256, log=True)),
        (optuna.distributions.IntDistribution(10, 30, step=10), choice([10, 20, 30])),
        (optuna.distributions.IntDistribution(3, 3), 3),
        (optuna.distributions.CategoricalDistribution(["a", "b"]), choice(["a", "b"])),
        (optuna.distributions.CategoricalDistribution(["a"]), "a"),
    ],
    ids=str,
)
def test_distributions_of_optuna_stand_for_parameters(distribution, entry):
    assert Space.of({"width": distribution}).entries == {"width": entry}


def test_a_row_of_samples_depends_on_its_key_and_trial_alone():
    alone = [sample_points(key(), jnp.array([trial_id]), 3)[0] for trial_id in range(6)]
    shuffled = np.array([4, 0, 5, 2])
    np.testing.assert_array_equal(sample_points(key(), jnp.arange(6), 3), alone)
    np.testing.assert_array_equal(sample_points(key(), jnp.asarray(shuffled), 3), np.stack(alone)[shuffled])
    assert not np.array_equal(sample_points(key(1), jnp.arange(6), 3), alone)


def test_samples_are_float32_numbers_of_the_cube_and_can_be_jitted():
    points = sample_points(key(), jnp.arange(500), 2)
    assert points.dtype == jnp.float32
    assert np.all((points >= 0) & (points < 1))
    assert len(np.unique(points)) > 990
    np.testing.assert_array_equal(jax.jit(sample_points, static_argnums=2)(key(), jnp.arange(500), 2), points)


def test_samples_need_a_typed_threefry_key():
    with pytest.raises(
        TypeError, match=r"not a typed threefry key\. Write jax.random.key\(seed, impl='threefry2x32'\)"
    ):
        sample_points(jax.random.key(0, impl="rbg"), jnp.arange(3), 2)
    with pytest.raises(TypeError):
        sample_points(jax.random.PRNGKey(0), jnp.arange(3), 2)
