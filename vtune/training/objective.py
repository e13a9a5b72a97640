"""What a study minimises, what it measures, and what it ranks by."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from vtune.arrays import Kind
from vtune.defaults import did_you_mean
from vtune.precision import float_precision
from vtune.scaling import Units
from vtune.training.losses import LOSSES, METRICS, Metric, RowLoss

Select = Literal["last", "best_epoch"]
"""Which epoch of a trial is ranked: the last of its budget, or its best."""

_LOSS_COLUMN = 1
_DIRECTIONS = {"auto": None, "minimize": False, "maximize": True}
_NEEDS: dict[str, Kind] = {"cross_entropy": "classes", "mse": "targets", "accuracy": "classes"}
_TAKEN = ("train_loss", "loss", "trial_id", "epoch")
"""What the learning curves call their other columns."""


class Objective(NamedTuple):
    """The loss of a study, its metrics, and how they rank trials.

    Attributes:
        loss: what is minimised, one number a row.
        metric: what is ranked; None where that is the validation loss itself.
        is_maximized: whether a larger metric is better.
        select: which epoch is ranked.
        patience: after how many epochs in a row that are no better than the best one before a trial ends; None for
            never.
    """

    loss: RowLoss
    metric: Metric | None
    is_maximized: bool
    select: Select
    patience: int | None = None

    @property
    def name(self) -> str:
        """What is ranked, as its column in the curves is called."""
        return self.metric.name if self.metric else "loss"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured beside the loss."""
        return (self.metric,) if self.metric else ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the curves."""
        return ("train_loss", "loss", *(metric.name for metric in self.metrics))

    def of_rows(self, units: Units | None) -> RowLoss:
        """Returns what is ranked as a function of outputs and y, both as the user knows them.

        Args:
            units: by which targets are standardized to train on, or None. The loss is that of standardized ones.
        """
        if self.metric:
            return self.metric.of_rows
        if units is None:
            return self.loss
        return lambda outputs, y: self.loss(units.standardize(outputs), units.standardize(y))

    def stop(self, curves: Float[np.ndarray, "epochs metrics"]) -> int | None:
        """Returns after how many epochs patience ran out; None where it did not.

        It is the usual rule, that of Keras' ``EarlyStopping``: so many epochs in a row without a new best. What counts
        is the metric and, where it is equal, the loss.
        """
        if self.patience is None:
            return None
        best, best_epoch = (np.inf, np.inf), 0
        for epoch, now in enumerate(zip(*map(np.ndarray.tolist, self._lower_is_better(curves)), strict=True), 1):
            if now < best:
                best, best_epoch = now, epoch
            elif epoch - best_epoch >= self.patience:
                return epoch
        return None

    def best_epoch(self, curves: Float[np.ndarray, "epochs metrics"]) -> int:
        """Returns the epoch with the best metric, then loss, counted from 1; 0 where no epoch was finite."""
        metric, loss = self._lower_is_better(curves[: self.stop(curves)])
        order = np.lexsort((np.arange(len(loss)), loss, metric))
        return int(order[0]) + 1 if len(order) and np.isfinite(metric[order[0]]) else 0

    def ranked_epoch(self, curves: Float[np.ndarray, "epochs metrics"]) -> int:
        """Returns the epoch that is ranked, counted from 1; 0 where a trial has none."""
        return self.best_epoch(curves) if self.select == "best_epoch" else len(curves[: self.stop(curves)])

    def outcome(self, curves: Float[np.ndarray, "epochs metrics"]) -> tuple[float, float]:
        """Returns the score as the user knows it, and the loss that decides among equal scores."""
        curves = curves[: self.stop(curves)]
        epoch = self.ranked_epoch(curves)
        if epoch == 0 or not np.isfinite(curves[-1]).all():
            return np.nan, np.nan
        return float(curves[epoch - 1, -1]), float(curves[epoch - 1, _LOSS_COLUMN])

    def to_strategy(self, score: float, loss: float, num_valid: int) -> float:
        """Returns a score as strategies know it: lower is better, and equal accuracies are told apart by their loss.

        The loss moves an accuracy by half a row's worth at most, also where it is negative, so it decides nothing else.
        """
        return float(self._told(np, np.float64(score), np.float64(loss), num_valid))

    def trace(
        self, curves: Float[Array, "trials epochs metrics"], is_diverged: Bool[Array, " trials"], num_valid: int
    ) -> tuple[Float[Array, " trials"], Float[Array, " trials"], Float[Array, " trials"]]:
        """Returns what ``outcome`` and ``to_strategy`` do, inside a program: scores, losses, and what is told.

        All are NaN for a trial that diverged. What is told is worked out in float64, as on the host.
        """
        metric, loss = curves[..., -1], curves[..., _LOSS_COLUMN]
        epoch = jnp.full(len(curves), curves.shape[1] - 1)
        if self.select == "best_epoch":
            ranked = -metric if self.is_maximized else metric
            epoch = jnp.lexsort((loss, jnp.where(jnp.isfinite(ranked), ranked, jnp.inf)))[:, 0]
        score, loss = (jnp.take_along_axis(column, epoch[:, None], axis=1)[:, 0] for column in (metric, loss))
        with float_precision(np.dtype(np.float64)):
            told = self._told(jnp, score.astype(np.float64), loss.astype(np.float64), num_valid).astype(np.float32)
        score, loss, told = (jnp.where(is_diverged, jnp.nan, column) for column in (score, loss, told))
        return score, loss, told

    def _told(self, xp: Any, score: Any, loss: Any, num_valid: int) -> Any:
        ranked = -score if self.is_maximized else score
        return ranked + xp.arctan(loss) / (math.pi * num_valid) if self.metric == METRICS["accuracy"] else ranked

    def _lower_is_better(self, curves: Float[np.ndarray, "epochs metrics"]) -> tuple[np.ndarray, np.ndarray]:
        metric = -curves[:, -1] if self.is_maximized else curves[:, -1]
        return np.where(np.isfinite(metric), metric, np.inf), curves[:, _LOSS_COLUMN]


def kind_needed(loss: Any, metric: Any) -> Literal["auto"] | Kind:
    """Returns what y must hold for this loss and metric; "auto" where they do not say.

    Raises:
        TypeError: for what is neither a name nor a function.
        ValueError: for a name that is not known, or a loss and a metric that need different things.

    Example:
        >>> kind_needed("mse", "auto")
        'targets'
    """
    _check_name("loss", loss, ("auto", *LOSSES))
    _check_name("metric", metric, ("auto", "loss", *METRICS))
    needs: list[Kind] = [_NEEDS[name] for name in (loss, metric) if isinstance(name, str) and name in _NEEDS]
    if len(set(needs)) > 1:
        raise ValueError(
            f"loss={loss!r} takes y for {needs[0]} and metric={metric!r} for {needs[1]}. Leave one of them out."
        )
    return needs[0] if needs else "auto"


def make_objective(
    loss: Any, metric: Any, direction: str, select: str, kind: Kind, patience: int | None = None
) -> Objective:
    """Makes sense of the arguments of a search.

    Args:
        loss: "auto", "cross_entropy", "mse", or a function of (outputs, y) to one number a row.
        metric: "auto", "accuracy", "mse", "loss", or a function of (outputs, y) to one number a row.
        direction: "auto", "minimize" or "maximize"; a function as metric needs one of the latter two.
        select: "last" or "best_epoch".
        kind: what y holds.
        patience: epochs without an improvement that end a trial, or None.

    Raises:
        TypeError: for what is neither a name nor a function.
        ValueError: for a name that is not known or is taken, a missing direction, or one against the metric's own.
    """
    _check_name("direction", direction, tuple(_DIRECTIONS))
    _check_name("select", select, ("last", "best_epoch"))
    default_loss, default_metric = ("cross_entropy", "accuracy") if kind == "classes" else ("mse", "mse")
    loss, metric = default_loss if loss == "auto" else loss, default_metric if metric == "auto" else metric
    ranked = _metric(metric, direction)
    is_maximized = bool(ranked and ranked.is_maximized)
    if _DIRECTIONS[direction] not in (None, is_maximized):
        raise ValueError(f"direction={direction!r} would rank the worst {metric!r} first. Leave direction out.")
    return Objective(LOSSES[loss] if isinstance(loss, str) else loss, ranked, is_maximized, select, patience)  # pyright: ignore[reportArgumentType]


def _metric(metric: Any, direction: str) -> Metric | None:
    if isinstance(metric, str):
        return METRICS.get(metric)
    name = getattr(metric, "__name__", "metric")
    if direction == "auto":
        raise ValueError(
            f"metric={name}: a function does not say which way is better. Add direction='minimize' or 'maximize'."
        )
    if name in _TAKEN:
        raise ValueError(
            f"metric={name}: study.curves has a {name!r} already. Rename the function, for example to my_{name}."
        )
    return Metric("metric" if name == "<lambda>" else name, metric, is_maximized=direction == "maximize")


def _check_name(argument: str, value: Any, known: Sequence[str]) -> None:
    if isinstance(value, str) and value not in known:
        raise ValueError(f"{argument}={value!r} is not known; {did_you_mean(value, known)}")
    if not isinstance(value, str) and not (callable(value) and argument in ("loss", "metric")):
        raise TypeError(f"{argument}={value!r} is of the wrong type; write one of {', '.join(map(repr, known))}.")
