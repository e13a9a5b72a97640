import sys
from types import SimpleNamespace

import pytest

from vtune import progress
from vtune.progress import Bar, Lines, Progress, Silent, make_progress


def search_with(shown: Progress, num_rounds: int | None = 2) -> None:
    """What a study tells of four trials in two rounds of one chunk each."""
    shown.say("the plan")
    shown.begin(4)
    for round, (num_diverged, best) in enumerate([(2, None), (1, 0.97531)]):
        shown.trials_done(2, num_diverged, best)
        shown.round_done(round, num_rounds)
    shown.close()
    shown.close()


@pytest.fixture
def clock(monkeypatch):
    """A clock that ticks one second a look."""
    seconds = iter(range(100))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))


@pytest.mark.parametrize("implementation", [Bar, Lines, Silent])
def test_every_implementation_is_a_progress_and_leaves_stdout_alone(implementation, capsys):
    shown = implementation()
    assert isinstance(shown, Progress)
    assert make_progress(shown) is shown
    search_with(shown)
    assert capsys.readouterr().out == ""


def test_silent_says_nothing(capsys):
    search_with(Silent())
    assert capsys.readouterr().err == ""


def test_lines_are_one_a_round(clock, capsys):
    search_with(Lines())
    assert capsys.readouterr().err.splitlines() == [
        "the plan",
        "round 1/2: 2/4 trials, best -, 2 diverged, 2.0 trials/s, 1 s left",
        "round 2/2: 4/4 trials, best 0.9753, 3 diverged, 2.0 trials/s, 0 s left",
    ]


def test_lines_where_nobody_knows_the_number_of_rounds(clock, capsys):
    search_with(Lines(), num_rounds=None)
    assert capsys.readouterr().err.splitlines()[1].startswith("round 1: 2/4 trials")


def test_lines_of_a_round_without_results(clock, capsys):
    shown = Lines()
    shown.begin(4)
    shown.round_done(0, 1)
    assert capsys.readouterr().err == "round 1/1: 0/4 trials, best -, 0 diverged, 0.0 trials/s, 0 s left\n"


def test_bar_shows_all_that_a_line_shows(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")  # a narrow terminal cuts off the end
    search_with(Bar())
    written = capsys.readouterr().err
    assert "the plan\n" in written
    last = written.split("\r")[-1]
    for part in ("round 2/2 done", "100%", "4/4", "trials/s", "best 0.9753, 3 diverged"):
        assert part in last


def test_bar_writes_lines_above_itself(capsys):
    shown = Bar()
    shown.begin(4)
    shown.say("a note")
    shown.close()
    assert "a note\n" in capsys.readouterr().err


def test_bar_may_be_closed_before_it_began():
    Bar().close()


@pytest.mark.parametrize(("is_terminal", "expected"), [(True, Bar), (False, Lines)])
def test_a_bar_where_the_output_is_a_terminal(monkeypatch, is_terminal, expected):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    assert isinstance(make_progress(True), expected)


def test_a_bar_in_notebooks(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    assert isinstance(make_progress(True), Bar)


def test_no_progress():
    assert isinstance(make_progress(False), Silent)


@pytest.mark.parametrize("wrong", ["yes", None, 1, SimpleNamespace(say=print)])
def test_what_is_no_progress_is_refused(wrong):
    with pytest.raises(TypeError, match="is no bool and lacks a method .* write progress=True"):
        make_progress(wrong)
