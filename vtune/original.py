"""What a study asked and found, so that the same can be asked again of other data: from the study, or from its folder.

A folder holds names and numbers, and no code. So what was a function has to be given again; ``vtune.MLP`` and what
vtune knows by name is found by itself.
"""

from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, NamedTuple

from vtune.arrays import Kind
from vtune.data import Data
from vtune.finals import winner_of
from vtune.results.store import Held, read_folder
from vtune.space import Space
from vtune.spacefile import space_of, write_space
from vtune.start import params_in
from vtune.study import Study
from vtune.training.losses import LOSSES, METRICS, RowLoss
from vtune.training.mlp import MLP
from vtune.training.networks import ModelFn
from vtune.training.optimizers import Optimizer, named
from vtune.training.setup import Parts

_RECORDED = "asked"
"""The name in ``study.json``."""


class Layout(NamedTuple):
    """What other data must have in common with those of a study.

    Attributes:
        kind: what y holds.
        inputs: the shape of one row of x.
        outputs: classes, or columns of the targets.
        standardize: whether networks trained on standardized numbers.
        columns: names of the columns of x, where they had any.
    """

    kind: Kind
    inputs: tuple[int, ...]
    outputs: int
    standardize: bool
    columns: tuple[str, ...] | None

    @classmethod
    def of(cls, data: Data) -> "Layout":
        """Returns that of these data."""
        return cls(data.kind, data.inputs, data.outputs, data.standardize, data.columns)

    def check(self, data: Data) -> None:
        """Refuses data for which the networks of the study would be others.

        Raises:
            ValueError: for another shape of rows, other columns, or another number of classes or targets.
        """
        if data.inputs != self.inputs:
            raise ValueError(
                f"data: a row of x has the shape {data.inputs}, and in the study it had {self.inputs}. Give the same "
                "columns as there, or search anew: other columns make another problem."
            )
        if self.columns and data.columns and data.columns != self.columns:
            here, there = next(pair for pair in zip(data.columns, self.columns, strict=True) if pair[0] != pair[1])
            raise ValueError(
                f"data: x has a column {here!r} where the study had {there!r}. Give the same columns in the same "
                f"order, x[{list(self.columns[:3])} ...]."
            )
        if data.outputs != self.outputs:
            noun = "classes" if self.kind == "classes" else "columns of targets"
            raise ValueError(
                f"data: y has {data.outputs} {noun}, and in the study it had {self.outputs}. Give rows with the same "
                f"{noun}, or search anew: another number makes another network."
            )


class Original(NamedTuple):
    """What a study asked, and the best that it found.

    Attributes:
        model_fn: as for ``vtune.search``, as are all up to ``matmul_precision``.
        space: as the user wrote it.
        optimizer: a name or a function.
        loss: a name or a function.
        metric: a name or a function.
        direction: "auto" for a metric known by name.
        select: which epoch is ranked.
        epochs: of each trial.
        patience: with each trial.
        matmul_precision: as it was told.
        layout: of its data.
        seeds_per_trial: under how many seed indices each of its trials was trained.
        best_params: of its winner, as far as they vary.
    """

    model_fn: ModelFn
    space: Space
    optimizer: str | Optimizer
    loss: str | RowLoss
    metric: str | RowLoss
    direction: str
    select: str
    epochs: int
    patience: int | None
    matmul_precision: str | None
    layout: Layout
    seeds_per_trial: int
    best_params: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        study: Study | str | PathLike[str],
        *,
        model_fn: ModelFn | None = None,
        optimizer: str | Optimizer | None = None,
        loss: str | RowLoss | None = None,
        metric: str | RowLoss | None = None,
    ) -> "Original":
        """Returns what a study asked.

        Args:
            study: it, or its folder.
            model_fn: the model function, where the folder cannot tell it.
            optimizer: the optimizer, likewise.
            loss: the loss, likewise.
            metric: the metric, likewise.

        Raises:
            TypeError: for what is neither a study nor a path.
            ValueError: for functions that a folder does not hold and that are not given, and for a study in which no
                trial has a finite score.
            OSError: for a folder that is not there.
        """
        given = {"model_fn": model_fn, "optimizer": optimizer, "loss": loss, "metric": metric}
        if isinstance(study, Study):
            return _of_study(study, given)
        if isinstance(study, str | PathLike):
            return _of_folder(read_folder(study), given)
        raise TypeError(f"study={study!r} is no study and no path. Write what vtune.search returned, or its folder.")


def record(parts: Parts, **functions: Any) -> dict[str, Any]:
    """Returns what a study's record tells of what it asked: what JSON can hold.

    Args:
        parts: of the study.
        functions: the arguments of the search that may be functions.
    """
    own = {name: _place(function) for name, function in functions.items() if callable(function)}
    layout = Layout.of(parts.data)._asdict()
    return {_RECORDED: {"space": write_space(parts.written), "functions": own, "data": layout}}


def recorded_kind(folder: str | PathLike[str]) -> Kind:
    """Returns what y held in the data of the study in a folder.

    Raises:
        ValueError: for a folder without a study, or of an older version.
        OSError: for a folder that is not there.
    """
    return _layout(_asked(read_folder(folder))).kind


def _of_study(study: Study, given: Mapping[str, Any]) -> Original:
    recipe, objective, settings = study.parts.recipe, study.parts.objective, study.settings
    own = {
        "model_fn": recipe.model_fn,
        "optimizer": settings["optimizer"] if recipe.optimizer is named else recipe.optimizer,
        "loss": next((name for name, loss in LOSSES.items() if loss is objective.loss), objective.loss),
        "metric": objective.metric.of_rows if objective.metric not in (None, *METRICS.values()) else objective.name,
    }
    params = study.best_params
    varying = {name: params[name] for name in study.space.parameters if name in params}
    return _original(own, given, study.space, settings, Layout.of(study.data), varying)


def _of_folder(held: Held, given: Mapping[str, Any]) -> Original:
    asked, settings = _asked(held), held.record
    functions = asked["functions"]
    own = {name: settings[name] for name in given if name not in functions}
    if functions.get("model_fn") == _place(MLP):
        own["model_fn"] = MLP
    missing = [name for name in given if given[name] is None and name not in own]
    if missing:
        raise ValueError(
            f'folder "{held.path}": its {missing[0]} was the function {functions[missing[0]]}, and a folder holds no '
            f"code. Give it, vtune.retest(folder, data, {missing[0]}={functions[missing[0]].rpartition('.')[2]})."
        )
    space = space_of(asked["space"])
    params = params_in(space, held.trials.loc[winner_of(held)])
    return _original(own, given, space, settings, _layout(asked), params)


def _original(
    own: Mapping[str, Any],
    given: Mapping[str, Any],
    space: Space,
    settings: Mapping[str, Any],
    layout: Layout,
    params: Mapping[str, Any],
) -> Original:
    functions = {**own, **{name: function for name, function in given.items() if function is not None}}
    way = "maximize" if settings["is_maximized"] else "minimize"
    return Original(
        **functions,
        space=space,
        direction=way if callable(functions["metric"]) else "auto",
        select=settings["select"],
        epochs=settings["epochs"],
        patience=settings["patience"],
        matmul_precision=settings["matmul_precision"],
        layout=layout,
        seeds_per_trial=settings["seeds_per_trial"],
        best_params=params,
    )


def _asked(held: Held) -> dict[str, Any]:
    if _RECORDED not in held.record:
        raise ValueError(
            f'folder "{held.path}" was written by a version that did not record its space so that it can be read back. '
            "Give vtune.retest the study itself, or search again in a new folder."
        )
    return held.record[_RECORDED]


def _layout(asked: Mapping[str, Any]) -> Layout:
    written = asked["data"]
    columns = written["columns"]
    return Layout(**{**written, "inputs": tuple(written["inputs"]), "columns": columns and tuple(columns)})


def _place(function: Callable[..., Any]) -> str:
    """Where a function stands: another one of the same name is not taken for it."""
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
