"""The experiments run, tell every row in numbers, and conclude what their numbers say."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

pytestmark = pytest.mark.long
ROOT = Path(__file__).parent.parent
QUICK_ROWS = {"coarse_to_fine": 3, "random_against_grid": 1, "scale_of_beta": 7, "scale_of_learning_rate": 4}
INTERVAL = re.compile(r"([+-]?[\d.]+) % \(([+-]?[\d.]+) to ([+-]?[\d.]+)\)")


def test_every_experiment_is_run_here():
    assert sorted(QUICK_ROWS) == sorted(path.stem for path in (ROOT / "experiments").glob("*.py"))


@pytest.mark.parametrize("name", QUICK_ROWS)
def test_a_quick_run_prints_one_whole_table_and_what_follows(name):
    command = [sys.executable, f"experiments/{name}.py", "--quick"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\b(nan|inf)\b", done.stdout) is None
    table = re.search(r"(?:^\|.*\|\n)+", done.stdout, re.MULTILINE)
    assert table is not None
    assert done.stdout.count("\n|") == table[0].count("\n"), "more than one table"
    header, line, *rows = [row.strip("|").split("|") for row in table[0].splitlines()]
    assert len(rows) == QUICK_ROWS[name]
    assert {len(row) for row in [line, *rows]} == {len(header)}
    for row in rows:
        intervals = INTERVAL.findall("|".join(row))
        assert intervals
        assert all(float(low) <= float(mean) <= float(high) for mean, low, high in intervals)
    assert "Below 0" in done.stdout.split(table[0])[1]


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    return importlib.import_module


# Conclusions, from losses made up: the second of a pair is 10 % above the first, give or take 1 %

NOISE = np.random.default_rng(0).normal(0.0, 0.01, (2, 40))
LOW, HIGH = np.exp(NOISE) * np.array([[1.0], [1.1]])
SIDES = {"first": (LOW, HIGH), "second": (HIGH, LOW), "neither": (LOW, LOW[::-1])}


@pytest.mark.parametrize(
    ("better", "verdict"), [("first", "confirmed"), ("second", "reversed"), ("neither", "not decided")]
)
def test_random_against_grid_concludes_from_its_rows(experiment, capsys, better, verdict):
    module = experiment("random_against_grid")
    random, grid = SIDES[better]
    row = module.Row(module.CASES[0], module.Shares(0.5, 0.2, 0.1), np.stack([random, grid, grid], axis=1))
    module.print_answer([row])
    told = capsys.readouterr().out
    assert f"is {verdict} beside epsilon." in told
    assert "30 % of the variance involves epsilon" in told


@pytest.mark.parametrize(
    ("better", "verdict"), [("first", "confirmed"), ("second", "reversed"), ("neither", "not decided")]
)
def test_scale_of_learning_rate_concludes_from_its_rows(experiment, capsys, better, verdict):
    module = experiment("scale_of_learning_rate")
    rates = np.full((40, 32), 0.2)
    log, linear = (module.Searches(rates, np.repeat(losses[:, None], 32, axis=1)) for losses in SIDES[better])
    module.print_answer([module.Row(module.CASES[0], trials, log, linear) for trials in module.TRIALS])
    told = capsys.readouterr().out
    assert f"is {verdict} for digits, adam." in told
    assert "100 % were above 0.1" in told


@pytest.mark.parametrize(("better", "counts"), [("first", (0, 1)), ("second", (1, 0)), ("neither", (0, 0))])
def test_scale_of_beta_concludes_from_its_rows(experiment, capsys, better, counts):
    module = experiment("scale_of_beta")
    linear, log = (module.Tried(np.full((40, 1), 0.9), losses[:, None]) for losses in SIDES[better])
    case = module.CASES[0]
    searches = [module.Row(case, "", linear, log) for _ in module.TRIALS]
    alike, apart = (
        module.Row(case, "", linear, linear),
        module.Row(case, "", linear, module.Tried(log.betas, log.losses * 2)),
    )
    module.print_answer([alike, alike, apart, alike, alike], searches)
    told = capsys.readouterr().out
    assert "is confirmed for 1 of 1: averaged momentum." in told
    assert f"log(1 - beta) is better for {counts[0]} of 1" in told
    assert f"a linear scale is better for {counts[1]} of 1" in told
    module.print_answer([apart, alike, alike, alike, alike], searches)
    assert "is confirmed for 0 of 1." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("better", "verdict"), [("first", "reversed"), ("second", "confirmed"), ("neither", "not decided")]
)
def test_coarse_to_fine_concludes_from_its_test_rows(experiment, capsys, better, verdict):
    module = experiment("coarse_to_fine")
    one, four = (
        module.Winners(np.zeros((40, 4)), valid, tested)
        for valid, tested in zip((HIGH, LOW), SIDES[better], strict=True)
    )
    module.print_answer([module.Row("digits", 64, (module.ONE, module.FOUR), one, four)])
    told = capsys.readouterr().out
    assert "On validation rows, four rounds are better in 1 of 1 (digits with 64)" in told
    assert f"is {verdict} there, on average." in told


# What is made for the experiments


def test_the_variance_is_split_between_two_coordinates(experiment):
    module = experiment("random_against_grid")
    points = np.random.default_rng(0).uniform(size=(2, 100_000))
    cells = np.floor(points * 5) - 2
    assert module.variance_shares(points, cells[0] + 2 * cells[1]) == pytest.approx((0.2, 0.8, 0.0), abs=0.01)
    assert module.variance_shares(points, cells[0] * cells[1]) == pytest.approx((0.0, 0.0, 1.0), abs=0.01)
    noise = np.random.default_rng(1).normal(size=100_000)
    assert module.variance_shares(points, noise) == pytest.approx((0.0, 0.0, 0.0), abs=0.01)


def test_a_shifted_grid_has_a_point_in_every_cell_at_the_same_place(experiment):
    module = experiment("random_against_grid")
    points = np.asarray(module.shifted_grid(jax.random.key(0, impl="threefry2x32")))
    cells = np.floor(points * 5)
    assert len({tuple(cell) for cell in cells}) == 25
    assert np.ptp(points * 5 - cells, axis=0) == pytest.approx([0.0, 0.0], abs=1e-5)
    assert (points > 0).all()
    assert (points < 1).all()


def test_an_interval_holds_the_mean_ratio_and_narrows_with_its_pairs(experiment):
    module = experiment("scale_of_learning_rate")
    found = module.difference(HIGH, LOW)
    assert found.low < 10.0 < found.high
    assert found.high - found.low < 1.5
    noise = np.exp(np.random.default_rng(1).normal(0.0, 1.0, 40))
    paired = module.difference(HIGH * noise, LOW * noise)
    assert paired == pytest.approx(found)
