"""The plans of a study: what its strategy asked for, kept so that it can be told again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vtune.protocols import Plan

_POINT = "point."
"""What begins the names of columns that hold a coordinate."""


class Plans:
    """All plans of a study, in their order.

    A study is continued by telling its strategy these plans once more: what was asked for then is what counts, also
    where a newer version would ask for something else.

    Attributes:
        names: of the axes.

    Example:
        >>> plans = Plans(["layers"])
        >>> plans.add(Plan(*map(np.array, ([0, -1], [-1, -1], [[0.25], [0.5]], [5, 5], [True, False]))))
        >>> plans.table.reset_index().to_dict("records")
        [{'round': 0, 'trial_id': 0, 'lane': 0, 'parent': -1, 'budget': 5, 'point.layers': 0.25}]
    """

    def __init__(self, names: Sequence[str], table: pd.DataFrame | None = None):
        """Begins without plans, or with those of a ``table`` that was kept."""
        self.names = tuple(names)
        self._points = [_POINT + name for name in names]
        self._rounds: list[dict[str, np.ndarray]] = [] if table is None else _rounds_of(table.reset_index())

    def __len__(self) -> int:
        """The number of plans."""
        return len(self._rounds)

    def add(self, plan: Plan) -> None:
        """Adds the next plan: its active rows, as they ran."""
        lanes = np.flatnonzero(plan.active)
        facts = {"trial_id": plan.trial_id, "parent": plan.parent, "budget": plan.budget}
        points = dict(zip(self._points, np.asarray(plan.points).T, strict=True))
        columns = {name: np.asarray(column)[lanes] for name, column in (facts | points).items()}
        self._rounds.append({"round": np.full(len(lanes), len(self)), "lane": lanes, **columns})

    def plan(self, round: int, asked: Plan) -> Plan:
        """Returns the plan of a round, in the shape of what the strategy asks for now.

        Args:
            round: counted from 0.
            asked: a plan of the same strategy, whose padding is kept.
        """
        kept = self._rounds[round]
        points = np.stack([kept[name] for name in self._points], axis=1)
        rows = {**kept, "points": points, "active": np.ones(len(points), bool)}
        padding = asked._replace(active=np.zeros_like(asked.active))._asdict()
        return Plan(**{name: _with_rows(column, rows[name], kept["lane"]) for name, column in padding.items()})

    @property
    def table(self) -> pd.DataFrame:
        """One row a trial of a plan, indexed by ``round`` and ``trial_id``: its lane, parent, budget and point."""
        names = ["round", "trial_id", "lane", "parent", "budget", *self._points]
        none = [np.empty(0)]
        columns = {name: np.concatenate([kept[name] for kept in self._rounds] or none) for name in names}
        return pd.DataFrame(columns).set_index(["round", "trial_id"])


def _rounds_of(table: pd.DataFrame) -> list[dict[str, np.ndarray]]:
    columns = {str(name): column.to_numpy() for name, column in table.items()}
    rounds = np.unique(columns["round"])
    return [{name: column[columns["round"] == round] for name, column in columns.items()} for round in rounds]


def _with_rows(column: Any, rows: np.ndarray, lanes: np.ndarray) -> Any:
    changed = np.array(column)
    changed[lanes] = rows
    return changed
