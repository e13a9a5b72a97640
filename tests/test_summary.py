import math
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from tests.test_tables import result_of, table_of
from vtune.results.summary import format_value, summary, to_html
from vtune.results.tables import Table

SCRIPT = "<script>alert('&')</script>"


def ranked(table: Table) -> pd.DataFrame:
    return table.top(len(table))


def many() -> Table:
    return table_of(*(result_of(i, i / 100) for i in range(12)), result_of(12, math.nan), result_of(13, math.nan))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00123456, "0.001235"),
        (np.float32(0.1), "0.1"),
        (1e-8, "1e-08"),
        (0.0, "0"),
        (123456, "123456"),
        (np.int64(7), "7"),
        (math.inf, "inf"),
        (math.nan, "-"),
        (np.float64("nan"), "-"),
        (pd.NA, "-"),
        (None, "None"),
        (True, "True"),
        ("relu", "relu"),
        ((32, 64), "(32, 64)"),
    ],
)
def test_format_value(value, text):
    assert format_value(value) == text


def test_summary_tells_data_counts_and_the_best_and_the_top_ten():
    lines = summary(ranked(many()), data="Data(10 classes)", metric="accuracy", seconds=8.04).splitlines()
    assert lines[:4] == [
        "Data(10 classes)",
        "14 trials in 8.0 s: 12 complete, 2 diverged",
        "best accuracy 0.11: trial 11, learning_rate=0.01, layers=2",
        "",
    ]
    assert lines[4].split() == ["trial", "accuracy", "learning_rate", "layers", "round"]
    assert [line.split()[0] for line in lines[5:]] == [str(trial_id) for trial_id in range(11, 1, -1)]
    assert lines[5].split() == ["11", "0.11", "0.01", "2", "0"]
    assert len({len(line) for line in lines[4:]}) == 1


def test_summary_where_every_trial_diverged():
    text = summary(ranked(table_of(result_of(0, math.nan))), data="digits", metric="mse", seconds=1.0)
    assert "1 trial in 1.0 s: 1 diverged\nno trial has a finite score yet\n" in text
    assert text.splitlines()[-1].split() == ["0", "-", "0.01", "2", "0"]


@pytest.mark.parametrize("view", [summary, to_html])
def test_no_trials(view):
    assert "0 trials in 0.0 s" in view(table_of().trials, data="digits", metric="mse", seconds=0.0)


class Texts(HTMLParser):
    """Collects what a browser would show, and refuses tags left open."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_html_shows_what_the_text_shows_and_runs_nothing():
    table = table_of(result_of(0, params={SCRIPT: SCRIPT}), names=(SCRIPT,))
    html = to_html(ranked(table), data=SCRIPT, metric=SCRIPT, seconds=1.0)
    assert "<script" not in html
    parser = Texts()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    assert parser.texts == [
        SCRIPT,
        "1 trial in 1.0 s: 1 complete",
        f"best {SCRIPT} 0.5: trial 0, {SCRIPT}={SCRIPT}",
        *("trial", SCRIPT, SCRIPT, "round"),
        *("0", "0.5", SCRIPT, "0"),
    ]


def test_html_is_small_and_asks_for_nothing():
    html = to_html(ranked(many()), data="digits", metric="accuracy", seconds=8.0)
    assert html.count("<tr>") == 11
    assert len(html) < 2000
    assert not any(word in html for word in ("http", "src", "color", "background"))
