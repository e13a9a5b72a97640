import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtune.results.tables import OUTCOMES, Table, TrialResult, check_column_names

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


def result_of(trial_id: int, score: float = 0.5, *, loss: float = 1.0, epochs: int = 2, **changes: Any) -> TrialResult:
    result = TrialResult(
        trial_id=trial_id,
        params={"learning_rate": 0.01, "layers": 2},
        score=score,
        loss=loss,
        status="complete" if math.isfinite(score) else "diverged",
        round=0,
        parent=None,
        rung=1,
        budget=20,
        epochs=epochs,
        best_epoch=epochs,
        finished_at=NOON + timedelta(seconds=trial_id),
        seconds=0.25,
        curves=np.arange(3.0 * epochs, dtype=np.float32).reshape(epochs, 3),
    )
    return result._replace(**changes)


def table_of(*results: TrialResult, names: tuple[str, ...] = ("learning_rate", "layers"), is_maximized=True) -> Table:
    table = Table(names, ("train_loss", "loss", "accuracy"), is_maximized)
    table.add(results)
    return table


def column_of(*values: Any) -> pd.Series:
    results = [result_of(trial_id, params={"x": value}) for trial_id, value in enumerate(values)]
    return table_of(*results, names=("x",)).trials.loc[:, "x"]


def test_trials_has_one_row_a_trial_in_the_order_of_ids():
    trials = table_of(result_of(7), result_of(3, parent=1)).trials
    assert trials.index.tolist() == [3, 7]
    assert trials.index.name == "trial_id"
    assert trials.columns.tolist() == ["learning_rate", "layers", *OUTCOMES]
    assert trials.loc[3, "parent"] == 1
    assert pd.isna(trials.loc[7, "parent"])
    assert trials.loc[7, "finished_at"] == NOON + timedelta(seconds=7)


def test_trials_keeps_its_types_with_results_and_without():
    expected = {"learning_rate": "float64", "layers": "int64", **OUTCOMES}
    filled = table_of(result_of(0), result_of(1, math.nan)).trials
    assert filled.dtypes.astype(str).to_dict() == expected
    assert table_of().trials.dtypes.astype(str).to_dict() == expected | {"layers": "float64"}


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([0.5, 2.0], "float64"),
        ([True, False], "bool"),
        (["relu", "tanh"], "object"),
        ([1, 0.5], "object"),
        ([1, None], "object"),
        ([(32, 64), 16], "object"),
        ([2**70, 1], "object"),
        ([0.5, math.nan], "float64"),
        ([64, math.nan], "Int64"),
        ([True, math.nan], "boolean"),
        (["relu", math.nan], "object"),
    ],
)
def test_a_column_has_the_type_of_its_values_and_keeps_them(values, dtype):
    column = column_of(*values)
    assert str(column.dtype) == dtype
    kept = [value for value in column.tolist() if not (value is pd.NA or value != value)]
    assert [(type(value), value) for value in kept] == [(type(v), v) for v in values if v == v]


def test_an_inactive_hyperparameter_may_be_left_out():
    trials = table_of(result_of(0), result_of(1, params={"learning_rate": 0.1})).trials
    assert trials["layers"].isna().tolist() == [False, True]


def test_curves_has_one_row_an_epoch_counted_from_one():
    curves = table_of(result_of(4, epochs=1), result_of(2, epochs=2)).curves
    assert curves.index.tolist() == [(2, 1), (2, 2), (4, 1)]
    assert curves.index.names == ["trial_id", "epoch"]
    assert curves.columns.tolist() == ["train_loss", "loss", "accuracy"]
    assert curves.loc[(2, 2)].tolist() == [3.0, 4.0, 5.0]
    assert set(curves.dtypes.astype(str)) == {"float64"}


def test_curves_of_no_trials_is_empty():
    curves = table_of().curves
    assert curves.shape == (0, 3)
    assert curves.index.names == ["trial_id", "epoch"]


@pytest.mark.parametrize(("is_maximized", "expected"), [(True, [1, 3, 2, 0, 4, 5]), (False, [0, 3, 2, 1, 4, 5])])
def test_ranking_is_by_score_then_loss_then_id_and_diverged_last(is_maximized, expected):
    results = [
        result_of(5, math.nan),
        result_of(4, math.inf),
        result_of(3, 0.5, loss=0.1),
        result_of(2, 0.5, loss=0.2),
        result_of(1, 0.9),
        result_of(0, 0.1),
    ]
    assert table_of(*results, is_maximized=is_maximized).ranking() == expected
    assert table_of(*results[::-1], is_maximized=is_maximized).ranking() == expected


def test_equal_scores_and_losses_go_by_id_and_a_loss_that_is_no_number_is_worst():
    assert table_of(result_of(2), result_of(1), result_of(0, loss=math.nan)).ranking() == [1, 2, 0]


def test_ranking_agrees_with_a_plain_sort():
    rng = np.random.default_rng(0)
    results = [result_of(i, float(rng.integers(9)), loss=float(rng.integers(9))) for i in rng.permutation(200).tolist()]
    expected = sorted(results, key=lambda result: (-result.score, result.loss, result.trial_id))
    assert table_of(*results).ranking() == [result.trial_id for result in expected]


def test_best_and_top():
    table = table_of(result_of(0, 0.1), result_of(1, 0.9), result_of(2, math.nan))
    assert table.best.trial_id == 1
    assert table.top(2).index.tolist() == [1, 0]
    assert table.top(99).index.tolist() == [1, 0, 2]
    assert table.top(0).empty


def test_a_trial_trained_further_replaces_itself():
    table = table_of(result_of(0, 0.9), result_of(1, 0.5))
    assert table.trials.loc[0, "epochs"] == 2
    table.add([result_of(0, 0.2, epochs=4)])
    assert len(table) == 2
    assert table.ranking() == [1, 0]
    assert table.trials.loc[0, "epochs"] == 4
    assert len(table.curves.loc[0]) == 4


@given(
    added=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([0.1, 0.5, 0.9, math.nan]), st.sampled_from([5, 20])), max_size=12
    ),
    is_maximized=st.booleans(),
)
def test_the_best_is_the_first_of_the_ranking_whatever_is_replaced(added, is_maximized):
    table, latest = table_of(is_maximized=is_maximized), {}
    for trial_id, score, budget in added:
        latest[trial_id] = result_of(trial_id, score, budget=budget)
        table.add([latest[trial_id]])
        expected = table_of(*latest.values(), is_maximized=is_maximized).ranking()
        assert table.ranking() == expected
        first = latest[expected[0]]
        assert table.best_score == (first.score if math.isfinite(first.score) else None)
        assert not math.isfinite(first.score) or table.best is first


def test_what_a_user_does_to_a_table_stays_there():
    table = table_of(result_of(0), result_of(1))
    trials, curves = table.trials, table.curves
    trials["mine"] = 1
    curves["loss"] = 0.0
    assert "mine" not in table.trials
    assert table.curves["loss"].tolist() == [1.0, 4.0, 1.0, 4.0]


def test_result_is_what_was_added():
    result = result_of(3)
    assert table_of(result).result(3) is result


@pytest.mark.parametrize(("ids", "held"), [([], "none yet"), ([2, 5], "2 to 5")])
def test_result_of_an_unknown_trial(ids, held):
    with pytest.raises(ValueError, match=rf"no trial 9 here; write one of trials\.index \({held}\)"):
        table_of(*map(result_of, ids)).result(9)


def test_best_of_nothing():
    with pytest.raises(ValueError, match="no trial has finished yet"):
        _ = table_of().best


def test_best_where_all_diverged_says_what_to_lower():
    table = table_of(result_of(0, math.nan), result_of(1, math.nan, status="failed"))
    with pytest.raises(
        ValueError, match=r"none of 2 .*\(1 diverged, 1 failed\).*lower the upper bound of the learning"
    ):
        _ = table.best


@pytest.mark.parametrize("name", ["score", "trial_id", "epochs"])
def test_a_hyperparameter_cannot_bear_the_name_of_another_column(name):
    with pytest.raises(ValueError, match=f'"{name}", which is a column .* such as "my_{name}"'):
        check_column_names(["layers", name])


def test_the_best_of_many_trials_is_had_after_every_chunk_in_little_time():
    # Sorting 20,000 trials after each of 5,000 chunks would take minutes.
    table = table_of()
    for first in range(0, 20_000, 4):
        table.add(result_of(trial_id, trial_id % 997 / 997) for trial_id in range(first, first + 4))
        assert table.best.trial_id <= 997
    assert len(table.trials) == 20_000
