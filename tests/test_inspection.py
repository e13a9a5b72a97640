"""What a model reads, and what of it must be a constant of its program, is found by tracing and nothing else."""

import warnings

import jax
import numpy as np
import pytest
from flax import linen, nnx

import vtune
from tests import user_models
from vtune.data import Data
from vtune.space import Space
from vtune.training.inspection import Findings, Reads, inspect, refuse_unread, warn_of_many_programs
from vtune.training.losses import LOSSES, METRICS
from vtune.training.optimizers import named
from vtune.training.probes import Probe
from vtune.training.reading import Paths
from vtune.training.setup import complete
from vtune.training.task import Recipe

TRAINING = {"learning_rate", "decay", "beta1", "beta2", "epsilon"}
"""What is data under Adam, whatever the model."""


def findings_of(model_fn, space=None, optimizer="adam", inputs=(64,)) -> Findings:
    step = named if isinstance(optimizer, str) else optimizer
    recipe = Recipe(model_fn, step, LOSSES["cross_entropy"], (METRICS["accuracy"],), inputs=inputs, outputs=10)
    whole = complete(Space.of(space or {}), optimizer if isinstance(optimizer, str) else "adam")
    return inspect(Probe(recipe, jax.ShapeDtypeStruct((), np.int32)), whole)


def structural(model_fn, space=None, **options):
    """The structural names beside batch size and optimizer."""
    findings = findings_of(model_fn, space, **options)
    assert findings.elastic is None
    assert not set(findings.structural) & set(dict(findings.traced))
    return set(findings.structural) - {"batch_size", "optimizer"}


def traced(model_fn, space=None):
    return set(dict(findings_of(model_fn, space).traced)) - TRAINING


def test_a_width_is_structural():
    assert structural(user_models.cnn, {"width": vtune.choice([4, 6])}, inputs=(8, 8, 1)) == {"width"}
    assert structural(user_models.cnn, {"width": vtune.integers(4, 6)}) == {"width"}
    assert structural(user_models.linen_mlp, {"width": vtune.choice([16, 24])}) == {"width"}
    assert structural(user_models.by_keywords, {"width": vtune.choice([16, 24])}) == {"width"}


def test_a_value_made_an_int_is_structural_and_one_used_in_arithmetic_is_data():
    def model_fn(hparams, rngs):
        width = int(8 * hparams["factor"])
        return nnx.Sequential(
            nnx.Linear(64, width, rngs=rngs), lambda x: x * hparams["gain"], nnx.Linear(width, 10, rngs=rngs)
        )

    space = {"factor": vtune.choice([1.0, 1.5]), "gain": vtune.loguniform(0.5, 2.0)}
    assert structural(model_fn, space) == {"factor"}
    assert traced(model_fn, space) == {"gain"}


@pytest.mark.parametrize("model_fn", [user_models.noisy, user_models.linen_noisy])
@pytest.mark.parametrize("rate", [vtune.choice([0.1, 0.4]), vtune.uniform(0.1, 0.5)])
def test_the_rate_of_dropout_is_structural_where_flax_needs_it_as_a_constant(model_fn, rate):
    findings = findings_of(model_fn, {"rate": rate})
    assert ("rate" in findings.structural) == (not takes_traced_rate(model_fn))
    assert ("rate" in dict(findings.traced)) == takes_traced_rate(model_fn)


def takes_traced_rate(model_fn):
    """Whether this version of Flax, by itself, takes a traced rate when training."""

    def run(rate):
        x = np.ones((2, 64), np.float32)
        if model_fn is user_models.noisy:
            return user_models.Noisy(rate, nnx.Rngs(0))(x)
        streams = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        return user_models.LinenNoisy(rate).init_with_output(streams, x, True)[0]

    try:
        jax.eval_shape(run, jax.ShapeDtypeStruct((), np.float32))
    except jax.errors.ConcretizationTypeError:
        return False
    return True


def test_numbers_in_jax_numpy_are_data_even_as_attributes():
    space = {"slope": vtune.uniform(0.0, 0.3), "scale": vtune.uniform(0.5, 1.5)}
    assert traced(user_models.Leaky, space) == {"slope", "scale"}
    assert structural(user_models.Leaky, space) == set()


def test_what_is_fixed_is_a_constant():
    space = {"slope": 0.1, "scale": vtune.uniform(0.5, 1.5)}
    assert structural(user_models.Leaky, space) == {"slope"}
    assert traced(user_models.Leaky, space) == {"scale"}


def test_strings_bools_and_mixed_lists_are_structural():
    def model_fn(hparams, rngs):
        activation = {"relu": nnx.relu, "tanh": nnx.tanh}[hparams["activation"]]
        head = nnx.Linear(64, 10, use_bias=hparams["has_bias"], rngs=rngs)
        gain = 1.0 if hparams["gain"] is None else hparams["gain"]
        return nnx.Sequential(activation, head, lambda x: x * gain)

    space = {
        "activation": vtune.choice(["relu", "tanh"]),
        "has_bias": vtune.choice([True, False]),
        "gain": vtune.choice([None, 2.0]),
    }
    assert structural(model_fn, space) == set(space)


def test_numbers_that_only_work_one_at_a_time_are_structural():
    def model_fn(hparams, rngs):
        a, b = hparams["a"], hparams["b"]
        are_both_traced = not isinstance(a, float) and not isinstance(b, float)
        return nnx.Linear(64, [10, "ten"][are_both_traced], rngs=rngs)

    space = {"a": vtune.uniform(0, 1), "b": vtune.uniform(0, 1)}
    assert structural(model_fn, space) == {"a", "b"}


def test_numbers_that_only_work_together_are_data():
    """What is trained has all of them traced: whether one of them alone could be is of no matter."""

    def model_fn(hparams, rngs, shapes):
        low, high = hparams["low"], hparams["high"]
        if isinstance(low, float) != isinstance(high, float):
            raise TypeError("one of the two is traced")
        return nnx.Sequential(nnx.Linear(64, shapes.outputs, rngs=rngs), lambda x: low * high * x)

    space = {"low": vtune.uniform(0.1, 1.0), "high": vtune.uniform(1.0, 2.0)}
    assert structural(model_fn, space) == set()


def test_where_all_numbers_are_data_one_trace_tells_it(monkeypatch):
    asked = []
    accepts = Probe.optimizer_accepts
    monkeypatch.setattr(Probe, "optimizer_accepts", lambda *args: asked.append(set(args[2])) or accepts(*args))
    findings_of(vtune.MLP, {"learning_rate": vtune.loguniform(1e-3, 1e-1)})
    assert asked == [{"beta1", "beta2", "epsilon"}]


def test_a_number_that_only_evaluation_needs_as_a_constant_is_structural():
    class Model(linen.Module):
        gain: float

        @linen.compact
        def __call__(self, x, train):
            return linen.Dense(10)(x) * (self.gain if train else float(self.gain))

    assert structural(lambda hparams: Model(hparams["gain"]), {"gain": vtune.uniform(0.5, 1.0)}) == {"gain"}


@pytest.mark.parametrize(
    "kinds", [["linear", "deep", "leaky"], ["deep", "leaky", "linear"], ["leaky", "linear", "deep"]]
)
def test_names_read_under_one_value_of_a_choice_are_found_and_tried_there(kinds):
    space = {"kind": vtune.choice(kinds), "width": vtune.choice([8, 16]), "slope": vtune.uniform(0.0, 0.3)}
    assert structural(user_models.of_some_kind, space) == {"kind", "width"}
    assert traced(user_models.of_some_kind, space) == {"slope"}


def test_names_read_at_some_depths_alone_are_found():
    space = {
        "depth": vtune.integers(1, 4),
        "width_0": 8,
        "width_1": vtune.choice([8, 16]),
        "width_2": vtune.choice([4, 8]),
        "width_3": vtune.integers(1, 100),
    }
    findings = findings_of(user_models.layer_by_layer, space)
    refuse_unread(Space.of(space), findings)
    assert set(findings.structural) == {"batch_size", "optimizer", *space}


def test_a_number_that_is_a_constant_under_one_choice_alone_is_structural():
    def model_fn(hparams, rngs):
        size = hparams["size"]
        if hparams["kind"] == "scaled":
            return nnx.Sequential(nnx.Linear(64, 10, rngs=rngs), lambda x: x * size)
        return nnx.Sequential(nnx.Linear(64, size, rngs=rngs), nnx.Linear(size, 10, rngs=rngs))

    for kinds in (["scaled", "wide"], ["wide", "scaled"]):
        space = {"kind": vtune.choice(kinds), "size": vtune.choice([8, 16])}
        assert structural(model_fn, space) == {"kind", "size"}


def test_a_value_under_which_the_model_fails_is_refused():
    def model_fn(hparams, rngs):
        return nnx.Linear(64, {"ten": 10, "nine": 9}[hparams["head"]], rngs=rngs)

    for heads in (["ten", "nine"], ["nine", "ten"]):
        with pytest.raises(ValueError, match=r"puts out shape \(2, 9\).*need \(2, 10\)"):
            findings_of(model_fn, {"head": vtune.choice(heads)})


def test_a_model_that_fails_in_evaluation_alone_is_refused():
    class Model(linen.Module):
        @linen.compact
        def __call__(self, x, train):
            return linen.Dense(10 if train else 9, name="head" if train else "other")(x)

    with pytest.raises(ValueError, match="model_fn"):
        findings_of(lambda: Model())


def test_the_batch_size_is_a_constant_unless_vtune_knows_the_model():
    space = {"batch_size": vtune.choice([32, 64]), "hidden": vtune.integers(16, 32)}
    known = findings_of(vtune.MLP, space)
    assert known.elastic is vtune.MLP.elastic
    assert known.structural == ("optimizer",)
    assert {"batch_size", "hidden", "layers"} <= set(dict(known.traced))
    assert dict(known.traced)["batch_size"] == dict(known.traced)["hidden"] == "int32"
    unknown = findings_of(user_models.fixed_width, space)
    assert unknown.structural == ("batch_size", "optimizer")


def test_data_have_the_type_of_their_values():
    space = {"slope": vtune.choice([0, 1]), "scale": vtune.choice([0, 0.5])}
    with jax.numpy_dtype_promotion("standard"):  # as users have it: an integer times a float is a float
        types = dict(findings_of(user_models.Leaky, space).traced)
    assert (types["slope"], types["scale"], types["decay"]) == ("int32", "float32", "float32")


@pytest.mark.parametrize(
    ("optimizer", "names"),
    [
        ("adam", {"beta1", "beta2", "epsilon"}),
        ("momentum", {"momentum"}),
        ("rmsprop", {"momentum", "epsilon"}),
        ("sgd", set()),
    ],
)
def test_the_optimizer_reads_its_own_names(optimizer, names):
    findings = findings_of(user_models.fixed_width, optimizer=optimizer)
    assert set(dict(findings.traced)) == {"learning_rate", "decay", *names}


def test_a_name_that_nothing_reads_is_refused_with_the_likely_one():
    space = {"widht": vtune.choice([16, 24]), "width": 16}
    with pytest.raises(ValueError, match="'widht' is in the space, but .* did you mean 'width'"):
        refuse_unread(Space.of(space), findings_of(user_models.linen_mlp, space))


def test_a_name_that_the_space_lacks_is_named():
    with pytest.raises(ValueError, match=r"hparams\['width'\] was read, but the space has no 'width'"):
        findings_of(user_models.linen_mlp)


def found(*structural):
    nothing = Paths(lambda row: ())
    return Findings(None, (), structural, (), Reads(nothing, nothing))


def test_a_continuous_range_that_must_be_a_constant_is_warned_of():
    space = Space.of({"rate": vtune.uniform(0.1, 0.5)})
    with pytest.warns(UserWarning, match="needs 'rate' as a constant.*vtune.choice"):
        warn_of_many_programs(space, found("batch_size", "rate"))
    for written in ({"rate": vtune.choice([0.1, 0.5])}, {"rate": 0.1}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_many_programs(Space.of(written), found("rate"))


@pytest.mark.long
def test_a_search_warns_of_it_once():
    x = np.zeros((40, 64), np.float32)
    data = Data((x, np.arange(40) % 10), (x, np.arange(40) % 10))

    def model_fn(hparams, rngs):
        return nnx.Linear(64, 10, use_bias=hparams["a"] > 0.5, rngs=rngs)

    space = {"a": vtune.uniform(0.0, 1.0), "batch_size": 32}
    with pytest.warns(UserWarning, match="needs 'a' as a constant") as caught:
        vtune.search(model_fn, space, data, trials=1, epochs=1, strategy="random", progress=False)
    assert len(caught) == 1


@pytest.mark.long
def test_nothing_is_compiled_and_nothing_is_computed():
    spaces = {
        user_models.noisy: {"rate": vtune.choice([0.1, 0.4])},
        user_models.linen_noisy: {"rate": vtune.choice([0.1, 0.4])},
        user_models.Leaky: {"slope": vtune.uniform(0.0, 0.3), "scale": vtune.uniform(0.5, 1.5)},
        vtune.MLP: {"hidden": vtune.integers(16, 256)},
    }
    compiled = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.jit(lambda x: x + 41.5)(1.0)
    assert compiled, "the listener hears of compilations"
    compiled.clear()
    for model_fn, space in spaces.items():
        findings_of(model_fn, space)
    assert not compiled


def test_a_complete_space_has_the_axes_of_the_written_one():
    space = Space.of({"layers": vtune.integers(1, 3), "hidden": vtune.per_layer(vtune.integers(4, 8)), "decay": 0.5})
    whole = complete(space, "momentum")
    assert whole.axes == space.axes
    assert whole.fixed | space.fixed == whole.fixed
    assert (whole.fixed["optimizer"], whole.fixed["momentum"], whole.fixed["decay"]) == ("momentum", 0.9, 0.5)


@pytest.fixture
def traces(monkeypatch):
    """What was traced of models, in order."""
    traced, trace = [], Probe._trace_model

    def noting(self, row, *arguments):
        traced.append(row)
        return trace(self, row, *arguments)

    monkeypatch.setattr(Probe, "_trace_model", noting)
    return traced


def test_what_is_vtunes_own_is_traced_once_for_a_space(traces):
    space = {"hidden": vtune.integers(3, 77), "learning_rate": vtune.loguniform(1e-4, 1e-1)}
    first = findings_of(vtune.MLP, space)
    num_traced = len(traces)
    assert num_traced > 0
    assert findings_of(vtune.MLP, dict(space)) == first
    assert len(traces) == num_traced


@pytest.mark.parametrize("other", [{"hidden": vtune.integers(3, 78)}, {"decay": 1}, {"decay": vtune.choice([0, 1.5])}])
def test_for_another_space_it_is_traced_again(traces, other):
    space = {"hidden": vtune.integers(3, 77), "decay": 1.0}
    findings_of(vtune.MLP, space)
    num_traced = len(traces)
    findings_of(vtune.MLP, {**space, **other})
    assert len(traces) > num_traced


def test_a_model_of_a_users_is_traced_every_time_as_it_may_have_changed(traces):
    for _ in range(2):
        before = len(traces)
        findings_of(user_models.linen_mlp, {"width": vtune.choice([16, 24])})
        assert len(traces) > before
