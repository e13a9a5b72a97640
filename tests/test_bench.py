"""The short benchmark that users run."""

import re

import pytest

from vtune.benching import QUICK, Scale, _told_agreement, bench
from vtune.cli import main


@pytest.mark.long
def test_it_tells_the_peak_the_useful_share_and_how_much_faster_a_search_is():
    lines = list(bench(Scale(4, 2, 1.0)))
    assert " cpu device" in lines[0]
    peak = float(re.fullmatch(r"peak: (\d+) GFLOP/s, .*", lines[1])[1])
    rows = [line for line in lines if line.startswith(("vtune, ", "a loop, "))]
    assert len(rows) == 3
    for row in rows:
        trials, seconds, per_second, rate, share = row[29:].rstrip("%").split()
        # Each is told rounded: seconds to 0.01, the peak to 1, all others to 0.1.
        assert (float(per_second) - 0.051) * (float(seconds) - 0.0051) <= int(trials)
        assert (float(per_second) + 0.051) * (float(seconds) + 0.0051) >= int(trials)
        assert float(share) * peak / 100 == pytest.approx(float(rate), abs=0.051 + (peak + 10 * float(share)) * 5.1e-4)
    assert re.fullmatch(r"by useful work, vtune is [\d.]+ times as fast as the loop, and [\d.]+ times .*", lines[-2])
    assert re.fullmatch(
        r"the losses of (\d) of \1 trials are those of the loop within 0.0001 after one epoch", lines[-1]
    )


def test_losses_that_differ_are_found():
    assert _told_agreement([1.0, float("nan")], [1.00001, float("nan")]).startswith("the losses of 2 of 2 trials")
    assert _told_agreement([1.0, 2.0], [1.1, float("nan")]).startswith("NOT THE SAME WORK: the losses of 0 of 2")


def test_the_command_prints_what_is_measured(monkeypatch, capsys):
    monkeypatch.setattr("vtune.benching.bench", lambda scale: iter([f"{scale.trials} trials"]))
    assert main(["bench", "--quick"]) == 0
    assert capsys.readouterr().out == f"{QUICK.trials} trials\n"
