"""The benchmarks that compare run, and notice when two sides did not do the same work."""

import importlib
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vtune
from tests.compilations import Compilations
from vtune.parameters import integers
from vtune.protocols import Plan, Strategy
from vtune.training import inspection

pytestmark = pytest.mark.long
ROOT = Path(__file__).parent.parent
CONTESTANTS = ["vtune", "per-trial", "per-shape", "padded"]


def quick(name: str, *arguments: str) -> str:
    """Runs a benchmark in small, and returns what it prints."""
    command = [sys.executable, f"benchmarks/{name}.py", "--quick", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_sequential_benchmark_tells_of_every_contestant_and_all_are_comparable():
    told = quick("sequential")
    lines = [line.strip("|").split("|") for line in told.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line] for line in lines if line[0].strip() in CONTESTANTS]
    assert [row[:2] for row in rows] == 2 * [[name, run] for name in CONTESTANTS for run in ("cold", "warm")]
    for row in rows:
        assert row[-1].startswith("the loop compared with" if row[0] == "per-shape" else "yes"), told


def test_the_peers_benchmark_tells_of_every_contestant_or_why_it_is_left_out():
    told = quick("peers")
    tables = [table.splitlines() for table in re.split(r"^4 .*2 epochs.*$", told, flags=re.MULTILINE)[1:]]
    assert len(tables) == 2
    for table, is_mixed in zip(tables, (True, False), strict=True):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("|")][2:]
        names = [*CONTESTANTS, *(name for name in PEERS if not is_left_out(name, is_mixed))]
        assert [row[:2] for row in rows] == [[name, run] for name in names for run in ("cold", "warm")], told
        for row in rows:
            assert row[-1].startswith("the loop compared with" if row[0] == "per-shape" else "yes"), told
        for name in set(PEERS) - set(names):
            assert any(line.startswith(f"- {name}: left out, as ") for line in table), told
    assert told.count("not measured") == 5  # what is asked is asked of more trials


PEERS = {"scikit-learn": [], "pytorch": ["torch"], "optuna": ["optuna", "torch"], "hyperoptax": ["hyperoptax"]}


def is_left_out(name, is_mixed):
    return any(find_spec(package) is None for package in PEERS[name]) or (name == "hyperoptax" and is_mixed)


def test_the_strategies_benchmark_compares_all_of_them_with_random_search():
    told = quick("strategies", "--only", "random", "coarse_to_fine")
    assert re.search(r"\b(nan|inf)\b", told) is None
    lines = [line.strip("|").split("|") for line in told.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line] for line in lines if line[1].strip() in ("random", "coarse_to_fine")]
    assert [(row[0], row[1], float(row[-1])) for row in rows] == [
        ("Branin", "random", 8.0),
        ("Branin", "coarse_to_fine", 8.0),
        ("breast cancer", "random", 4.0),
        ("breast cancer", "coarse_to_fine", 4.0),
    ]
    assert "coarse_to_fine, 8 trainings: better on" in told


def test_the_roofline_benchmark_tells_what_share_of_the_peak_is_useful(benchmark, tmp_path):
    parts = quick("roofline", "--json", str(tmp_path / "all.json")).split("\n\n")[1:]
    rows, factors, rungs, spent = ([line.strip("| ").split(" | ") for line in part.splitlines()[2:]] for part in parts)
    own = ["hidden 128, 2 layers, batch 128", "mixed"]
    for table in (rows, factors):
        assert [row[0] for row in table] == [*own, "mixed, as if made in 0.1 s"]
    assert int(rows[2][2]) > int(rows[1][2])
    for _, _, programs, cold, compiling, warm, useful, peak, share, _, filled in rows:
        assert int(programs) > 0
        assert float(cold) > float(warm.split()[0]) > 0
        assert float(compiling) > 0
        assert float(useful) <= float(peak)
        assert all(0 <= int(text.split("%")[0]) <= 100 for text in (share, filled))
    kept = json.loads((tmp_path / "all.json").read_text())
    laps = [benchmark("roofline").Lap(**lap) for search in kept["searches"] for lap in search["warm"]]
    for (_, _, *shares), lap in zip(factors, laps, strict=True):
        true_sizes, product_rate, in_products, at_work = lap.factors
        assert 0 < true_sizes <= 1
        assert 0 < product_rate < 2  # products that are made once for all turns would come to many times the peak
        assert 0 < in_products
        assert 0 < at_work <= 1
        assert shares == [f"{share:.0%}" for share in (*lap.factors, true_sizes * product_rate)]
    assert [row[0] for row in rungs] == own
    for (_, trials, rung, of_rung, *numbers), lap in zip(rungs, laps[:2], strict=True):
        assert trials == of_rung == "8"
        assert rung in ("rows 128", "hidden 256, layers 4, rows 32")
        (only,) = lap.rungs
        chunks, working, flops, made = (only[name] for name in ("chunks", "working", "flops", "made"))
        assert min(chunks, working, flops, made) > 0
        assert numbers == [f"{chunks}", f"{working:.2f}", f"{flops / working / 1e9:.0f}", f"{flops / made:.0%}"]
    assert [(row[0], row[2]) for row in spent] == [(name, run) for name in own for run in ("cold", "warm")]
    for name, _, run, whole, *parts in spent:
        *of_workers, storing = kept["shares"][name][run].values()
        shares = [f"{seconds / sum(of_workers):.1%}" for seconds in of_workers]
        assert [whole, *parts] == [f"{sum(of_workers):.2f}", *shares, f"{storing:.2f} s"]
    assert [len(search["warm"]) for search in kept["searches"]] == [1, 1, 1]
    assert "cores" in kept["machine"]
    assert list(kept["shares"]) == own
    for runs in kept["shares"].values():
        assert runs["warm"]["tracing"] == runs["warm"]["compiling"] == 0 < min(runs["cold"].values())
        assert min(value for name, value in runs["warm"].items() if name not in ("tracing", "compiling")) > 0


def test_what_the_roofline_benchmark_forgets_is_found_out_and_made_anew(benchmark, monkeypatch):
    roofline, inspect, inspected = benchmark("roofline"), inspection._inspect, []
    monkeypatch.setattr(inspection, "_inspect", lambda *asked: inspected.append(asked) or inspect(*asked))
    case = roofline.MIXED_256._replace(trials=4)
    made = []
    for begin in (roofline.forget, lambda: None, roofline.forget):
        begin()
        with Compilations() as compiled:
            roofline.search(case, epochs=1, seed=0)
        made.append((len(inspected), compiled.count))
    (one, first), (still_one, none), (two, again) = made
    assert (one, still_one, two) == (1, 1, 2)
    assert first == again > 0 == none


def test_the_share_of_the_peak_is_taken_apart_without_a_rest(benchmark):
    roofline = benchmark("roofline")
    lap = roofline.Lap(3.0, 7e9, 1e11, 5.0, 2, 3, 0.9, 8.0, 2e10, 4.0)
    assert math.prod(lap.factors) == pytest.approx(lap.share, rel=1e-12)
    assert lap.factors[0] == pytest.approx(0.35)


def test_products_are_counted_at_the_sizes_that_a_chunk_computes(benchmark):
    products, workers = benchmark("measuring.products"), benchmark("measuring.workers")
    space = {
        "hidden": vtune.integers(5, 8),
        "layers": 2,
        "batch_size": 32,
        "learning_rate": vtune.loguniform(0.01, 0.1),
    }
    with workers.recorded() as results:
        study = vtune.search(vtune.MLP, space, trials=4, epochs=3, strategy="random", chunk=2, progress=False)
    outlook = products.outlook_of(study)
    turns, inputs, outputs = 3 * (study.data.num_train // 32), study.data.inputs[0], study.data.outputs
    for result in results:
        width = dict((*result.chunk.rung.sizes, *result.chunk.rung.structure))["hidden"]
        of_row = 4 * inputs * width + 6 * width * width + 6 * width * outputs
        found = products.products_of(outlook, result)
        assert found.flops == turns * 32 * 2 * of_row
        assert found.seconds > 0


def test_the_restart_benchmark_tells_that_the_next_process_is_ready_sooner(tmp_path):
    told = quick("restart", "--json", str(tmp_path / "all.json"))
    kept = json.loads((tmp_path / "all.json").read_text())
    rows = [line.strip("| ").split(" | ") for line in told.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == list(kept) == ["keeps nothing", "finds an empty folder", "finds a full folder"]
    assert [int(row[4]) for row in rows] == [1, 1, 0]
    (nothing,), (empty,), (full,) = kept.values()
    assert [row[5].split()[0] for row in rows] == [f"{lap['waited']:.2f}" for lap in (nothing, empty, full)]
    assert full["waited"] < nothing["waited"]
    assert "Same bits in all three: yes." in told
    # Of the numbers themselves: what the table has is rounded already.
    assert f"Who finds an empty folder compiles all in {empty['waited']:.1f} s" in told
    assert f"The next process fetches all in {full['waited'] / len(full['programs']):.2f} s for each rung" in told


def test_the_packing_benchmark_tells_how_full_chunks_are(tmp_path):
    told = quick("packing", "--json", str(tmp_path / "all.json"))
    kept = json.loads((tmp_path / "all.json").read_text())
    assert [(row["trials"], len(row["laps"])) for row in kept["searches"]] == [(9, 1)] * 3
    rows = [line.strip("| ").split(" | ") for line in told.splitlines()[4:]]
    assert [row[0] for row in rows] == [f"{name}, one rung" for name in ("successive halving", "Hyperband", "ASHA")]
    for row, search in zip(rows, kept["searches"], strict=True):
        assert 0 < float(row[4].split("%")[0]) <= 100
        # The bound goes by the median chunk: a search as short as these may come out below it.
        (lap,) = search["laps"]
        times = f"{lap['seconds'] / lap['bound']:.2f}"
        assert row[5:] == [f"{lap['seconds']:.2f}", f"{lap['bound']:.2f}", f"{times} ({times} to {times})"]


def test_the_chunks_benchmark_tells_how_near_the_cost_table_comes(tmp_path):
    told = quick("chunks", "--json", str(tmp_path / "all.json")).split("\n\n")[1]
    rows = [line.strip("| ").split(" | ") for line in told.splitlines()[2:]]
    assert [row[:5] for row in rows] == [["16", "1", "32", "32", "yes"], ["16", "1", "32", "128", "yes"]]
    for row in rows:
        assert min(float(row[6]), float(row[7].split()[0]), float(row[8])) > 0
    kept = json.loads((tmp_path / "all.json").read_text())["chunks"]
    assert [row["ratio"] for row in kept] == pytest.approx([float(row[8]) for row in rows], abs=0.006)


@pytest.mark.parametrize(("devices", "rounds"), [(1, 5), (2, 3), (5, 1)])
def test_the_bound_of_packing_is_that_of_full_chunks_on_all_devices(benchmark, monkeypatch, devices, rounds):
    packing, workers = benchmark("packing"), benchmark("measuring.workers")
    space = {"hidden": 5, "layers": 1, "learning_rate": vtune.loguniform(0.01, 0.1)}
    with workers.recorded() as results:
        study = vtune.search(vtune.MLP, space, trials=9, epochs=3, strategy="random", chunk=2, progress=False)
    monkeypatch.setattr(type(study.executor), "num_parallel", devices)
    a_second_an_epoch = [result._replace(seconds=float(packing.length(result))) for result in results]
    assert packing.bound(study, a_second_an_epoch) == 3 * rounds


def test_the_panda_benchmark_tells_of_both_starts():
    told = quick("panda")
    lines = [line.strip("|").split("|") for line in told.splitlines() if line.startswith("| breast")]
    assert [line[4].strip() for line in lines] == ["30 times too high", "100 times too low"]


def test_the_scaling_benchmark_tells_of_trials_width_and_devices(tmp_path):
    told = quick("scaling", "--json", str(tmp_path / "scaling.json"))
    found = json.loads((tmp_path / "scaling.json").read_text())
    assert [len(found[part]) for part in ("trials", "width")] == [2, 1]
    for row in [*found["trials"], *found["width"], *found["devices"]]:
        assert row["peak"] >= row["before"] > 0
        for lap in row["laps"]:
            assert 0 <= lap["untrained"] <= lap["idle"] <= lap["seconds"]
            assert 0 < lap["loop"] <= lap["processor"] * 1.01
    assert "overhead of the loop under 100 us a trial, by *loop*: " in told
    assert found["devices"][0]["devices"] == 1


def test_the_quality_benchmark_tells_of_every_side_that_is_installed(tmp_path):
    told = quick("quality", "--only", "auto", "random", "Optuna", "--json", str(tmp_path / "quality.json"))
    (by_side,) = [rows for name, rows in json.loads((tmp_path / "quality.json").read_text()).items() if name in told]
    has_all = all(importlib.util.find_spec(name) for name in ("optuna", "torch"))
    assert list(by_side) == ["auto", "random", *["Optuna"] * has_all]
    assert has_all or "Optuna is left out, as it needs torch: pip install 'vtune[bench]'" in told
    for (search,) in by_side.values():
        scores = [score for _, score, _, _ in search["better"]]
        assert scores == sorted(scores)


def test_what_is_better_is_told_by_time_and_ties_by_loss(benchmark):
    asked = benchmark("anytime.asked")
    ended = [
        asked.Ended(4.0, 0.9, 0.3),  # equal accuracy, lower loss
        asked.Ended(1.0, 0.8, 0.5),
        asked.Ended(5.0, 0.9, 0.4),
        asked.Ended(2.0, float("nan"), float("nan")),
        asked.Ended(3.0, 0.9, 0.4),
        asked.Ended(7.0, 1.0, 0.1),  # too late
    ]
    better = asked.improvements(ended, seconds=6.0)
    assert [each.seconds for each in better] == [1.0, 3.0, 4.0]
    np.testing.assert_array_equal(asked.best_at([0.0, 1.0, 2.9, 3.0, 6.0], better), [-np.inf, 0.8, 0.8, 0.9, 0.9])
    np.testing.assert_array_equal(asked.best_at([1.0], []), [-np.inf])


def test_medians_know_searches_that_have_nothing_yet(regret):
    median_interval = regret("statistics").median_interval
    assert median_interval(np.array([-np.inf] * 6 + [0.9] * 4)) == (-np.inf, -np.inf, 0.9)
    assert median_interval(np.array([0.5])) == (0.5, 0.5, 0.5)


def test_a_line_is_found_again_also_where_times_differ_by_orders_of_magnitude(benchmark):
    line = benchmark("measuring.line")
    trials = [64, 1_000, 10_000, 100_000]
    seconds = np.array([[0.3 + 2e-4 * count for count in trials]])
    assert line.fit(trials, seconds[0]) == pytest.approx((0.3, 2e-4))
    np.testing.assert_allclose(line.slopes(trials, seconds), [[2e-4] * 3])
    off = line.fit(trials, seconds[0] * [1, 1, 1, 1.2])  # a fifth too long for the largest moves t0 little
    assert off.t0 == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [([], 0.0), ([(1, 2), (3, 5)], 3.0), ([(1, 4), (2, 3)], 3.0), ([(2, 4), (1, 3)], 3.0), ([(1, 2), (2, 3)], 2.0)],
)
def test_time_that_several_workers_train_counts_once(benchmark, spans, seconds):
    assert benchmark("measuring.workers").covered(spans) == seconds


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def regret(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return lambda module: importlib.import_module(f"regret.{module}")


MINIMA = {
    "Branin": [(np.pi + 5) / 15, 2.275 / 15],
    "Hartmann6": [0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573],
    "Ackley5": [0.375] * 5,
    "Rosenbrock4": [0.4] * 4,
    "Hartmann6 + 4": [0.20169, 0.9, 0.150011, 0.1, 0.476874, 0.5, 0.275332, 0.3, 0.311652, 0.6573],
    "Griewank6": [0.375] * 6,
}


def test_functions_have_their_minima_where_the_literature_has_them(regret):
    functions = regret("functions").FUNCTIONS
    assert [function.name for function in functions] == list(MINIMA)
    for function in functions:
        point = np.array(MINIMA[function.name], np.float32)
        assert point.shape == (function.num_axes,)
        assert float(function.value(point)) == pytest.approx(function.least, abs=1e-3)


class Halver:
    """Three trials of one epoch; the best goes on to three, and ends well."""

    ids, parents, budgets = np.array([[0, 1, 2], [1, -1, -1]]), np.array([[-1] * 3, [1, -1, -1]]), [1, 3]

    def ask(self, key, number):
        row = jnp.minimum(number, 1)
        points = jnp.array([[0.5], [0.25], [0.75]], jnp.float32)
        points = jnp.where(row == 0, points, points[1][None])
        budget = jnp.full(3, jnp.asarray(self.budgets, jnp.int32)[row])
        active = jnp.where(row == 0, True, jnp.arange(3) == 0)
        table = [jnp.asarray(rows, jnp.int32)[row] for rows in (self.ids, self.parents)]
        return Plan(*table, points, budget, active)


@pytest.mark.parametrize("is_traceable", [True, False])
def test_a_driver_counts_epochs_once_and_ranks_equal_budgets_alone(regret, is_traceable):
    halver = Strategy(
        init=lambda key: jnp.int32(0),
        ask=Halver().ask,
        tell=lambda number, plan, scores: number + 1,
        done=lambda number: number >= 2,
        max_lanes=3,
        is_traceable=is_traceable,
    )
    keys = jax.random.split(jax.random.key(0, impl="threefry2x32"), 2)

    def scores(keys, plan):
        return jnp.where(plan.budget == 3, 5.0, plan.points[..., 0]), plan.points[..., 0]

    outcome = regret("driving").run(halver, keys, scores, 3)
    np.testing.assert_array_equal(outcome.regret, [0.25, 0.25])
    np.testing.assert_array_equal(outcome.best_regret, [0.25, 0.25])
    np.testing.assert_allclose(outcome.trainings, [5 / 3, 5 / 3])


@pytest.fixture
def contest(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return lambda module: importlib.import_module(f"contest.{module}")


def test_the_loop_over_shapes_lets_go_of_programs_before_there_is_no_room_for_more(contest, monkeypatch):
    loops, space = contest("loops"), {"layers": 1, "batch_size": 512, "learning_rate": 0.1, "hidden": integers(3, 40)}
    work = contest("drawing").draw(space, trials=6, epochs=1)
    assert len({row["hidden"] for row in work.rows}) > 3
    train = loops.prepare_per_shape(work)
    with jax.numpy_dtype_promotion("standard"):  # the loop is written as usual
        whole = train()
        loops.train_whole.clear_cache()
        monkeypatch.setattr(loops, "MOST_PROGRAMS", 2)
        np.testing.assert_array_equal(train(), whole)
    assert loops.train_whole._cache_size() <= 2


@pytest.fixture
def compare(contest):
    return contest("agreement").compare


RATES = np.geomspace(1e-4, 1e-1, 16)
TRUTH = np.random.default_rng(0).uniform(0.5, 2.0, (16, 3, 2))


def changed(epoch, trials, factor):
    curves = TRUTH.copy()
    curves[trials, epoch] *= factor
    return curves


@pytest.mark.parametrize(
    ("curves", "failures"),
    [
        (TRUTH, 0),
        (changed(0, 15, 1 + 5e-5), 0),
        (changed(0, 15, 1 + 2e-4), 1),
        (changed(-1, 15, 1.5), 0),  # at a large learning rate
        (changed(-1, 0, 1 + 5e-4), 0),
        (changed(-1, 0, 1 + 2e-3), 1),
        (changed(-1, 0, np.nan), 1),
        (changed(-1, slice(8, None), 3.0), 1),  # the quartiles move
    ],
)
def test_agreement_finds_what_is_not_the_same_work(compare, curves, failures):
    assert len(compare(TRUTH, curves, [TRUTH], RATES).failures) == failures


def test_a_trial_that_the_loop_does_not_keep_to_itself_is_left_out(compare):
    moved = [TRUTH, changed(0, 3, 1 + 2e-5), changed(-1, 0, 1 + 2e-4)]
    assert len(compare(TRUTH, changed(0, 3, 1.01), moved, RATES).failures) == 0
    assert len(compare(TRUTH, changed(-1, 0, 1.01), moved, RATES).failures) == 0
    assert compare(TRUTH, TRUTH, moved, RATES).chaotic == (1, 1)
    assert len(compare(TRUTH, changed(0, 4, 1.01), moved, RATES).failures) == 1


def test_another_library_is_asked_for_median_and_quartiles_alone(compare):
    assert compare(TRUTH, changed(0, 15, 1.01), [], RATES, is_law=False).failures == []
    assert len(compare(TRUTH, changed(-1, slice(8, None), 3.0), [], RATES, is_law=False).failures) == 1
    assert len(compare(TRUTH, changed(-1, slice(None), np.nan), [], RATES, is_law=False).failures) == 1


def test_where_most_trials_are_left_out_nothing_is_shown(compare):
    half, more = ([TRUTH, changed(0, slice(0, count), 1.01)] for count in (8, 9))
    assert compare(TRUTH, TRUTH, half, RATES).failures == []
    assert compare(TRUTH, TRUTH, more, RATES).failures == ["most trials are chaotic"]


@pytest.mark.parametrize(
    ("packages", "told"),
    [
        ((), None),
        (("numpy",), None),
        (("numpy", "no_such"), "no_such is not installed"),
        (("no_such", "nor_this"), "no_such and nor_this are not installed"),
    ],
)
def test_a_missing_package_is_named_with_what_to_write(contest, packages, told):
    missing = contest("contestants").Contestant("a", "is told", "somewhere:start", packages).missing
    assert missing == (told and f"left out, as {told}. Write: pip install 'vtune[bench]'")


@pytest.fixture
def take_turns(contest, monkeypatch):
    """Turns whose processes take 10 seconds to start, and train as many seconds as their search says."""
    turns, process = contest("turns"), contest("process")

    class Runner:
        seconds = 10.0

        def __init__(self, contestant):
            self.name = contestant.name

        @classmethod
        def start(cls, contestant, cores):
            return cls(contestant)

        def train(self, work):
            if self.name == "broken":
                raise process.ContestantError("ImportError: it is broken")
            return process.Lap(float(work), 0, TRUTH)

        def close(self):
            pass

    monkeypatch.setattr(turns, "Runner", Runner)
    return turns.take_turns


def seconds(result):
    return {run: [lap.seconds for lap in laps] for run, laps in result.laps.items()}


WORKS = {"cold": [1.0], "warm": [2.0, 3.0, 4.0]}


@pytest.mark.parametrize(("counts_imports", "cold"), [(False, 1.0), (True, 11.0)])
def test_a_cold_search_counts_imports_if_told_and_every_warm_one_is_another(contest, take_turns, counts_imports, cold):
    one = contest("contestants").Contestant("one", "is told", "somewhere:start")
    result = take_turns(WORKS, [one], 3, counts_imports)["one"]
    assert seconds(result) == {"cold": [1.0] * 3, "warm": [2.0, 3.0, 4.0]}
    told = contest("table")._seconds  # who is never warm has the same laps told as warm ones: it has started by then
    assert told(result.laps["cold"], "cold") == [cold] * 3
    assert told(result.laps["cold"], "warm") == [1.0] * 3


def test_what_takes_long_is_run_once(contest, take_turns):
    one = contest("contestants").Contestant("one", "is told", "somewhere:start")
    assert seconds(take_turns({**WORKS, "warm": [31.0, 3.0, 4.0]}, [one], 3)["one"])["warm"] == [31.0]


def test_the_trouble_of_another_library_is_noted_and_ours_is_raised(contest, take_turns):
    one, broken = (contest("contestants").Contestant(name, "is told", "somewhere:start") for name in ("one", "broken"))
    results = take_turns(WORKS, [broken._replace(packages=("numpy",)), one], 3)
    assert results["broken"].trouble == "ImportError: it is broken"
    assert seconds(results["broken"]) == {"cold": [], "warm": []}
    assert len(seconds(results["one"])["warm"]) == 3
    with pytest.raises(contest("process").ContestantError, match="it is broken"):
        take_turns(WORKS, [broken, one], 3)


def mixed_row(contest, name, run, seconds, quartiles=0.0):
    agreement = contest("agreement").Agreement(0.0, 0.0, 0.0, 0.0, (1, 1), (0, 0), quartiles)
    return contest("table").Row("256 mixed trials", name, run, seconds, [0], 256, 1.0, None, agreement, False)


@pytest.mark.parametrize(
    ("theirs", "quartiles", "is_met", "ratios"),
    [
        ([3.0, 8.0, 9.0], 0.0, True, [3.0, 4.0, 3.0]),  # in the same turn
        ([5.0], 0.0, False, [5.0, 2.5, 5.0 / 3.0]),
        ([5.0, 5.0, 5.0], 2.0, None, [5.0, 2.5, 5.0 / 3.0]),
        ([], 0.0, None, []),
    ],
)
def test_a_ratio_is_that_of_the_same_turn_and_of_nobody_who_did_other_work(contest, theirs, quartiles, is_met, ratios):
    asked = contest("asked").Asked(256, "warm", "pytorch", 3.0)
    rows = [mixed_row(contest, "vtune", "warm", [1.0, 2.0, 3.0])]
    rows += [mixed_row(contest, "pytorch", "warm", theirs, quartiles)] if theirs else []
    (verdict,) = contest("asked").judge([asked], rows)
    assert verdict.is_met is is_met
    assert verdict.ratios == ratios


def test_vtune_may_be_slower_where_so_much_is_asked(contest):
    asked = contest("asked").Asked(256, "cold", "pytorch", 1 / 1.2)
    for theirs, is_met in ((9.0, True), (8.0, False)):
        rows = [mixed_row(contest, name, "cold", [taken]) for name, taken in (("vtune", 10.0), ("pytorch", theirs))]
        (verdict,) = contest("asked").judge([asked], rows)
        assert verdict.is_met is is_met
        assert "at most 1.2 times its time asked" in verdict.told


@pytest.fixture
def lesson(contest):
    """A search of one trial, whose epochs take the rows as they stand."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(64, 5)).astype(np.float32), random.integers(0, 3, 64)
    row = {
        "learning_rate": 0.01,
        "beta1": 0.9,
        "beta2": 0.99,
        "epsilon": 1e-8,
        "batch_size": 16,
        "hidden": 8,
        "layers": 2,
    }
    widths = {"hidden_1": (5, 8), "hidden_2": (8, 8), "output": (8, 3)}
    weights = {
        name: {"kernel": random.normal(0.0, 0.3, block).astype(np.float32), "bias": np.zeros(block[1], np.float32)}
        for name, block in widths.items()
    }
    orders = np.tile(np.arange(64), (4, 1))
    return contest("work").Work({}, 0, (x, y), (x[:20], y[:20]), 3, [row], orders, [weights], 1.0)


def test_scikit_learn_keeps_the_state_of_adam_from_epoch_to_epoch(contest, lesson):
    peer = contest("peers.scikit_learn")
    curve = peer.train_trial(lesson, 0)
    whole = peer.make(lesson.rows[0]).begin_with(lesson.weights[0]).set_params(max_iter=lesson.epochs)
    with pytest.warns(UserWarning, match="converged"):
        whole.fit(*lesson.train)
    assert curve.shape == (lesson.epochs, 2)
    np.testing.assert_array_equal(curve[:, 0], whole.loss_curve_)
    assert curve[-1, 1] == peer.validate(whole, lesson.valid)


def test_scikit_learn_trains_whole_mini_batches_alone_and_no_longer_than_weights_are_finite(contest, lesson):
    peer = contest("peers.scikit_learn")
    longer = lesson._replace(train=tuple(np.concatenate([part, part[:7]]) for part in lesson.train))
    longer = longer._replace(orders=np.tile(np.arange(71), (4, 1)))
    np.testing.assert_array_equal(peer.train_trial(longer, 0), peer.train_trial(lesson, 0))
    diverging = lesson._replace(rows=[{**lesson.rows[0], "learning_rate": 1e38}])
    with np.errstate(all="ignore"):
        assert np.isnan(peer.train_trial(diverging, 0)[-1]).all()


def test_pytorch_trains_as_many_epochs_as_asked_from_the_weights_it_is_given(contest, lesson):
    pytest.importorskip("torch")
    torch, scikit_learn = (contest(f"peers.{name}").train_trial(lesson, 0) for name in ("pytorch", "scikit_learn"))
    assert torch.shape == (lesson.epochs, 2)
    np.testing.assert_allclose(torch, scikit_learn, rtol=1e-3)


def test_a_strategy_is_given_the_trials_that_spend_the_epochs_there_are(regret, monkeypatch):
    driving = regret("driving")
    # What was measured of ASHA: the more trials, the more of them are trained to the end.
    measured = {1: 1.0, 128: 17.2, 400: 62.2, 700: 116.0, 900: 128.2, 920: 128.9, 950: 130.0}

    def run(trials, keys, scores, epochs):
        spent = np.interp(trials.count, list(measured), list(measured.values()))
        return driving.Outcome(np.zeros(1), np.zeros(1), np.array([spent]))

    monkeypatch.setattr(driving, "run", run)

    def factory(axes, trials, epochs):
        return SimpleNamespace(is_traceable=True, count=trials)

    trials = driving.fitted_trials(factory, trainings=128, epochs=27)
    assert 0.98 * 128 <= np.interp(trials, list(measured), list(measured.values())) <= 128
