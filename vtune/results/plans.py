"""The plans of a study: what its strategy asked for, kept so that it can be told again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vtune.protocols import Plan

_FACTS = ("lane", "parent", "budget")
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
        >>> plans.table
                        lane  parent  budget  point.layers
        round trial_id
        0     0            0      -1       5          0.25
    """

    def __init__(self, names: Sequence[str], table: pd.DataFrame | None = None):
        """Begins without plans, or with those of a ``table`` that was kept."""
        self.names = tuple(names)
        self._rounds = [] if table is None else [rows.droplevel("round") for _, rows in table.groupby("round")]

    def __len__(self) -> int:
        """The number of plans."""
        return len(self._rounds)

    def add(self, plan: Plan) -> None:
        """Adds the next plan: its active rows, as they ran."""
        lanes = np.flatnonzero(plan.active)
        facts = {"lane": lanes, "parent": plan.parent[lanes], "budget": plan.budget[lanes]}
        points = {_POINT + name: plan.points[lanes, axis] for axis, name in enumerate(self.names)}
        self._rounds.append(pd.DataFrame({**facts, **points}, pd.Index(plan.trial_id[lanes], name="trial_id")))

    def plan(self, round: int, asked: Plan) -> Plan:
        """Returns the plan of a round, in the shape of what the strategy asks for now.

        Args:
            round: counted from 0.
            asked: a plan of the same strategy, whose padding is kept.
        """
        rows = self._rounds[round]
        points = rows[[_POINT + name for name in self.names]].to_numpy(np.float32)
        kept = Plan(rows.index.to_numpy(), rows["parent"], points, rows["budget"], np.ones(len(rows), bool))
        padding = asked._replace(active=np.zeros_like(asked.active))
        return Plan(*(_with_rows(*pair, rows["lane"]) for pair in zip(padding, kept, strict=True)))

    @property
    def table(self) -> pd.DataFrame:
        """One row a trial of a plan, indexed by ``round`` and ``trial_id``: its lane, parent, budget and point."""
        if self._rounds:
            return pd.concat(dict(enumerate(self._rounds)), names=["round"])
        index = pd.MultiIndex.from_arrays([[], []], names=["round", "trial_id"])
        return pd.DataFrame({name: [] for name in (*_FACTS, *(_POINT + name for name in self.names))}, index)


def _with_rows(column: Any, rows: Any, lanes: pd.Series) -> np.ndarray:
    changed = np.array(column)
    changed[lanes.to_numpy()] = rows
    return changed
