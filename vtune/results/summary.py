"""A study in a few lines: as plain text, and as HTML for notebooks."""

import math
from collections.abc import Iterator
from html import escape

import numpy as np
import pandas as pd

from vtune.defaults import is_missing
from vtune.results.tables import OUTCOMES

_TOP = 10

_NONE = pd.DataFrame()

_GAP = "-"
"""What stands for a hyperparameter that a trial does not use, and for the score of one that diverged."""


def format_value(value: object) -> str:
    """Returns a value as tables show it: numbers with 4 significant digits, a gap as "-", all else as it is.

    Args:
        value: a hyperparameter or a score.

    Example:
        >>> [format_value(value) for value in (0.00123456, 1e-8, 256, "relu", math.nan)]
        ['0.001235', '1e-08', '256', 'relu', '-']
    """
    if is_missing(value):
        return _GAP
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def summary(ranked: pd.DataFrame, finalists: pd.DataFrame = _NONE, *, data: str, metric: str, seconds: float) -> str:
    """Returns a study as plain text: what it saw, how many trials ended how, the best, the top ten.

    Args:
        ranked: all trials as ``Table.trials`` has them, best first.
        finalists: as ``finalists_table`` has them, where there are any.
        data: one line on the data.
        metric: what the score is.
        seconds: how long the search took.

    Example:
        >>> from vtune.results.tables import Table
        >>> table = Table(["layers"], ["loss"], is_maximized=False)
        >>> print(summary(table.trials, data="digits", metric="loss", seconds=0.5))
        digits
        0 trials in 0.5 s
        no trial has a finite score yet
    """
    facts = list(_facts(ranked, finalists, data, metric, seconds))
    return "\n".join([*facts, "", *_aligned(_top_cells(ranked, metric))] if len(ranked) else facts)


def to_html(ranked: pd.DataFrame, finalists: pd.DataFrame = _NONE, *, data: str, metric: str, seconds: float) -> str:
    """Returns the same as a piece of HTML, for ``_repr_html_``: escaped, in the colours of whatever surrounds it.

    Args:
        ranked: all trials as ``Table.trials`` has them, best first.
        finalists: as ``finalists_table`` has them, where there are any.
        data: one line on the data.
        metric: what the score is.
        seconds: how long the search took.

    Example:
        >>> from vtune.results.tables import Table
        >>> table = Table(["layers"], ["loss"], is_maximized=False)
        >>> to_html(table.trials, data="<digits>", metric="loss", seconds=0.5)
        '<div><p>&lt;digits&gt;<br>0 trials in 0.5 s<br>no trial has a finite score yet</p></div>'
    """
    facts = "<br>".join(map(escape, _facts(ranked, finalists, data, metric, seconds)))
    return f"<div><p>{facts}</p>{_html_table(_top_cells(ranked, metric)) if len(ranked) else ''}</div>"


def _facts(ranked: pd.DataFrame, finalists: pd.DataFrame, data: str, metric: str, seconds: float) -> Iterator[str]:
    yield data
    counts = ", ".join(f"{count} {status}" for status, count in ranked["status"].value_counts().items())
    noun = "trial" if len(ranked) == 1 else "trials"
    yield f"{len(ranked)} {noun} in {seconds:.1f} s" + (f": {counts}" if counts else "")
    if ranked.empty or not math.isfinite(ranked["score"].iloc[0]):
        yield "no trial has a finite score yet"
    elif finalists.empty:
        yield f"best {metric} {format_value(ranked['score'].iloc[0])}: {_told(ranked, int(ranked.index[0]))}"
    else:
        winner = finalists.iloc[0]
        score, error = (format_value(winner[name]) for name in ("score", "score_error"))
        searched = f"{format_value(winner['search_score'])} in the search"
        yield f"best {metric} {score} +- {error} on fresh seeds ({searched}): {_told(ranked, int(finalists.index[0]))}"


def _told(ranked: pd.DataFrame, trial_id: int) -> str:
    values = {name: format_value(ranked[name][trial_id]) for name in _names(ranked)}
    return f"trial {trial_id}, " + ", ".join(f"{name}={value}" for name, value in values.items() if value != _GAP)


def _top_cells(ranked: pd.DataFrame, metric: str) -> list[list[str]]:
    """The top ten as rows of text, the headings first."""
    top = ranked.head(_TOP).reset_index()
    headings = {"trial_id": "trial", "score": metric, **{name: name for name in _names(ranked)}, "round": "round"}
    columns = [[heading, *map(format_value, top[name].tolist())] for name, heading in headings.items()]
    return [list(row) for row in zip(*columns, strict=True)]


def _names(ranked: pd.DataFrame) -> list[str]:
    return [name for name in ranked.columns if name not in OUTCOMES]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _html_table(rows: list[list[str]]) -> str:
    headings, *body = ([escape(cell) for cell in row] for row in rows)
    lines = [f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in body]
    return (
        f'<table style="text-align: right"><thead><tr><th>{"</th><th>".join(headings)}</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )
