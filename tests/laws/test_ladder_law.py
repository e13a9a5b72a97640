"""Law Ladder: a function of declared things alone, whose cells hold every trial exactly once."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.population import complete, digits, make_queue, train, trainings_of
from vtune.defaults import DEFAULTS
from vtune.parameters import choice, integers, loguniform, powers_of_two, uniform
from vtune.protocols import Shapes
from vtune.space import Space, sample_points
from vtune.training.cost import cost_table
from vtune.training.devices import DeviceKind
from vtune.training.ladder import Cut, Ladder
from vtune.training.mlp import MLP
from vtune.training.planner import _CUTS, Planner, _Group, padded_sizes

CPU = DeviceKind("cpu", "cpu")
GPU = DeviceKind("gpu", "a large one", 80 << 30)
SHAPES = Shapes((64,), 10)
SPACE = {
    "learning_rate": loguniform(1e-4, 1.0),
    "batch_size": powers_of_two(32, 256),
    "hidden": integers(16, 256, log=True),
    "layers": integers(1, 4),
}


def planner_of(space, trials=256, kind=CPU, chunk="auto", num_rows=1078, structural=()):
    return Planner(Space.of({**DEFAULTS, **space}), structural, SHAPES, num_rows, trials, 20, kind, "float32", chunk)


def ladder_of(space, *args, **options):
    planner = planner_of(space, *args, **options)
    whole = planner.space
    return planner.plan_elastic(MLP.elastic, [member for name in MLP.elastic.names for member in whole.members(name)])


def sampled_rows(space, num=300):
    whole = Space.of({**DEFAULTS, **space})
    key = jax.random.key(3, impl="threefry2x32")
    return whole.rows(np.asarray(sample_points(key, jax.numpy.arange(num), len(whole.axes))))


SPACES = {
    "mixed": SPACE,
    "any batch size": {**SPACE, "batch_size": integers(20, 300)},
    "odd batch sizes": {**SPACE, "batch_size": choice([37, 96, 97, 200])},
    "one size": {"learning_rate": loguniform(1e-4, 1.0)},
    "listed sizes": {**SPACE, "hidden": choice([24, 32, 500]), "layers": choice([1, 7])},
    "wide": {**SPACE, "hidden": integers(10, 5000, log=True), "layers": integers(1, 40)},
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("trials", [7, *(pytest.param(trials, marks=pytest.mark.long) for trials in (256, 20_000))])
def test_every_trial_lies_in_exactly_one_cell(space, trials):
    ladder = ladder_of(space, trials)
    for row in sampled_rows(space):
        rows = ladder.cut.rows(row["batch_size"])
        holding = [cell for cell in ladder.cells if cell.holds(row, rows)]
        assert len(holding) == 1
        rung = ladder.rung(row)
        assert all(row[name] <= size for name, size in rung.sizes)
        assert rung.rows == rows[0]
        assert rung.accumulates or row["batch_size"] <= rung.rows


@pytest.mark.long
def test_a_study_knows_the_programs_of_trials_that_the_ladder_does_not_tell_apart():
    queue = make_queue(SPACE, trials=256)
    for row in [*sampled_rows(SPACE), *sampled_rows(SPACE)]:
        assert queue.job.rung(row) == queue.job.ladder.rung(row)


def test_it_is_planned_anew_to_the_same_text():
    first, second = ladder_of(SPACE), ladder_of(SPACE)
    assert first.to_json() == second.to_json()
    assert json.loads(first.to_json())["version"] == first.version


@pytest.mark.long
def test_neither_devices_nor_what_was_trained_change_it():
    texts = {make_queue(SPACE, devices=jax.devices()[:count]).job.ladder.to_json() for count in (1, 2, 4)}
    queue = make_queue(SPACE)
    train(queue, sampled_rows(SPACE)[:3], 1)
    texts.add(make_queue(SPACE).job.ladder.to_json())
    assert len(texts) == 1


@pytest.mark.long
def test_more_trials_buy_more_rungs():
    counts = [len(ladder_of(SPACE, trials).cells) for trials in (8, 256, 100_000)]
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize(("trials", "share"), [(1, 1.0), (3, 1.0), (3, 0.5), (200, 0.01), (5000, 0.3)])
def test_the_programs_expected_are_those_that_trials_are_drawn_for(trials, share):
    planner = planner_of({**SPACE, "activation": choice(["relu", "tanh", "gelu"])}, trials, structural=("activation",))
    numbers = np.random.default_rng(1)
    used = [len(set(numbers.integers(3, size=numbers.binomial(trials, share)))) for _ in range(2000)]
    assert planner.expected_programs(share) == pytest.approx(np.mean(used), abs=4 * np.std(used) / 2000**0.5 + 1e-9)


def test_a_constant_of_any_value_has_a_program_for_every_trial():
    planner = planner_of({**SPACE, "rate": uniform(0.0, 0.5)}, 200, structural=("rate",))
    assert planner.expected_programs(0.25) == 50
    ladder = planner.plan_elastic(MLP.elastic, ["hidden", "layers"])
    assert ladder.num_rungs == 200 * len(ladder.cells)


def test_what_fills_no_chunk_is_planned_with_the_lanes_it_leaves_empty():
    alone, among = (planner_of(SPACE, trials=4, chunk=chunk) for chunk in (4, 512))
    seconds = [planner.plan_elastic(MLP.elastic, ["hidden", "layers"]).expected_seconds for planner in (alone, among)]
    compiling = alone.table.compile_seconds
    assert seconds[1] - compiling > 80 * (seconds[0] - compiling)  # 512 lanes where 4 and, at random, a few more do


def test_what_several_ways_to_cut_batches_have_in_common_is_planned_once(monkeypatch):
    planned, plan = [], _Group.plan

    def counted(group: _Group):
        planned.append((group.rows, group.is_shared, group.batch_sizes))
        return plan(group)

    monkeypatch.setattr(_Group, "plan", counted)
    ladder_of(SPACE)
    groups = [planner_of(SPACE)._groups(cut) for cut in _CUTS]
    asked = [(*kind, tuple(sizes)) for kinds in groups for kind, sizes in kinds.items()]
    assert sorted(planned) == sorted(set(asked))
    assert len(planned) < len(asked)


def test_a_search_is_charged_with_a_part_of_compiling_and_told_all_of_it(monkeypatch):
    def planned(charged: float) -> Ladder:
        monkeypatch.setattr("vtune.training.planner._CHARGED", charged)
        return planner_of(SPACE, trials=300).plan_elastic(MLP.elastic, ["hidden", "layers"])

    some, all_of_it, none = planned(2 / 3), planned(1.0), planned(1e-9)
    assert len(all_of_it.cells) < len(some.cells) < len(none.cells)
    assert all_of_it.expected_seconds <= min(some.expected_seconds, none.expected_seconds)
    alone = planner_of(SPACE, trials=4, chunk=4)
    monkeypatch.setattr("vtune.training.planner._CHARGED", 2 / 3)
    ladder = alone.plan_elastic(MLP.elastic, ["hidden", "layers"])
    assert len(ladder.cells) == 1
    monkeypatch.setattr("vtune.training.planner._CHARGED", 1.0)
    whole = alone.plan_elastic(MLP.elastic, ["hidden", "layers"])
    assert whole.cells == ladder.cells
    assert whole.expected_seconds == pytest.approx(ladder.expected_seconds)


def test_a_single_size_is_a_constant_of_the_program():
    ladder = ladder_of(SPACES["one size"])
    rung = ladder.rung({**DEFAULTS, "learning_rate": 0.1})
    assert dict(rung.structure) == {"hidden": 64, "layers": 2}
    assert rung.sizes == ()


@pytest.mark.long
def test_a_chunk_of_a_cpu_fits_its_cache_and_one_of_an_accelerator_takes_hundreds():
    table = cost_table(CPU)
    for cell in ladder_of(SPACE, 100_000).cells:
        weights = sum(MLP.elastic.row_macs(cell.high, SHAPES))
        held = cell.lanes * weights * 4 * 5
        assert held <= table.working_set_bytes or cell.lanes == table.min_lanes
        assert 2 * held > table.working_set_bytes or cell.lanes == table.max_lanes
    assert all(cell.lanes >= 100 for cell in ladder_of(SPACE, 100_000, GPU).cells)
    small = DeviceKind("gpu", "a small one", 1 << 28)
    assert all(
        cell.lanes < 100 for cell in ladder_of(SPACES["wide"], 100_000, small).cells if cell.high["hidden"] > 4000
    )


@pytest.mark.parametrize("kind", [CPU, GPU])
def test_a_chunk_that_the_user_names_is_every_chunk(kind):
    assert {cell.lanes for cell in ladder_of(SPACE, kind=kind, chunk=48).cells} == {48}


@given(st.integers(1, 3000), st.sampled_from([32, 64, 128]), st.booleans())
def test_micro_batches_are_a_function_of_the_batch_size_alone(batch_size, target, divides):
    rows, is_shared = Cut(target, divides).rows(batch_size)
    assert 1 <= rows <= target
    assert is_shared == (batch_size % rows == 0) or rows == target
    if is_shared:
        assert batch_size % rows == 0
        assert rows == target or 2 * rows > min(target, batch_size)


@given(st.integers(1, 400), st.integers(0, 3000), st.booleans())
def test_padded_sizes_cover_a_range_and_are_few(low, length, log):
    space = Space.of({"hidden": integers(low, low + length, log)}) if length else Space.of({"hidden": low})
    sizes = padded_sizes(space, "hidden")
    assert sizes == sorted(set(sizes))
    assert sizes[-1] >= low + length
    assert sizes[0] >= low
    assert len(sizes) <= 17


def test_a_longer_study_waits_for_its_rungs_and_does_not_change_a_shorter_ones_trials():
    data = digits()
    rows = sampled_rows(SPACE)[:2]
    queue = make_queue(SPACE, data)
    chunks = queue.job.chunks(trainings_of(rows, 1))
    assert {chunk.rung for chunk in chunks} == {queue.job.ladder.rung(row) for row in complete(rows)}


def test_a_plan_of_several_rungs_tells_why_and_one_that_was_given_tells_no_time():
    queue = make_queue(SPACE, trials=256)
    assert queue.describe().endswith(", as fewer rungs would pad more and more would compile longer")
    given = make_queue(SPACE, trials=256, ladder=queue.job.ladder.to_json())
    assert given.describe().endswith(f"on {len(given.devices)} cpu device")
    assert make_queue({**SPACE, "hidden": 16, "layers": 1}).describe().endswith(" s")
