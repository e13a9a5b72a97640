"""The benchmarks that compare run, and notice when two sides did not do the same work."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
CONTESTANTS = ["vtune", "per-trial", "per-shape", "padded"]


def test_the_sequential_benchmark_tells_of_every_contestant_and_all_are_comparable():
    command = [sys.executable, "benchmarks/sequential.py", "--quick"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.strip("|").split("|") for line in done.stdout.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line] for line in lines if line[0].strip() in CONTESTANTS]
    assert [row[:2] for row in rows] == 2 * [[name, run] for name in CONTESTANTS for run in ("cold", "warm")]
    for row in rows:
        assert row[-1].startswith("the loop compared with" if row[0] == "per-shape" else "yes"), done.stdout


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from contest.agreement import compare

    return compare


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


def test_where_most_trials_are_left_out_nothing_is_shown(compare):
    half, more = ([TRUTH, changed(0, slice(0, count), 1.01)] for count in (8, 9))
    assert compare(TRUTH, TRUTH, half, RATES).failures == []
    assert compare(TRUTH, TRUTH, more, RATES).failures == ["most trials are chaotic"]
