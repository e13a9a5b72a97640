"""``search``: checks what it is asked, puts together all that a study takes, and runs its loop."""

import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from os import PathLike
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vtune.arguments import check_count, check_folder
from vtune.deciding import decide_now, is_auto, recorded
from vtune.ending import make_ending
from vtune.finals import hold_finals, number_of_finalists, reserved_seconds
from vtune.keys import seed_words
from vtune.loop import Loop
from vtune.original import record
from vtune.progress import Progress, make_progress
from vtune.protocols import StrategyFactory
from vtune.results.plans import Plans
from vtune.results.store import Folder, Held, read_if_there
from vtune.results.tables import Table, check_column_names
from vtune.space import Space
from vtune.start import check_same, first_trials, ladder_of, source_of, stages
from vtune.strategies.names import factory_of
from vtune.study import Study
from vtune.training.devices import Device, kind_of, own
from vtune.training.losses import RowLoss
from vtune.training.networks import ModelFn
from vtune.training.optimizers import Optimizer
from vtune.training.outlook import Outlook
from vtune.training.setup import EXECUTORS, Parts, check_amounts, make_job, make_parts, worker_places


def search(
    model_fn: ModelFn,
    space: Space | Mapping[str, Any],
    data: Any = None,
    *,
    strategy: str | StrategyFactory = "coarse_to_fine",
    trials: int = 256,
    epochs: int = 20,
    optimizer: str | Optimizer = "adam",
    loss: str | RowLoss = "auto",
    metric: str | RowLoss = "auto",
    direction: str = "auto",
    select: str = "last",
    finalists: int | str = "auto",
    seeds_per_trial: int = 1,
    patience: int | None = None,
    target_score: float | int | None = None,
    time_budget: float | int | str | None = None,
    start: Any = None,
    seed: int = 0,
    folder: str | PathLike[str] | None = None,
    chunk: int | str = "auto",
    ladder: str = "auto",
    devices: int | Sequence[Device] | None = None,
    executor: str = "queue",
    matmul_precision: str | None = None,
    progress: bool | Progress = True,
) -> Study:
    """Tries hyperparameters at random, zooms in on the best, and trains many networks at a time.

    Every trial is the experiment it would be alone: its result depends on the seed and on its own hyperparameters,
    and not on which trials are trained beside it, in which order, or on how many devices.

    Args:
        model_fn: ``model_fn(hparams, rngs, shapes)`` returns a Flax module (nnx or linen); it is called with those of
            the three arguments that it names. ``vtune.MLP`` is one.
        space: names to parameter types (``vtune.loguniform(1e-4, 1.0)``), distributions of Optuna, or plain values.
            Of the nine that vtune knows by name, one left out takes its default.
        data: ``(x, y)``, of which 20 % are held out to score trials; a ``vtune.Data``; or None for the digits of
            scikit-learn, 60 % to train, 20 % to score trials and 20 % to test the winner. Nothing is scaled but what
            ``vtune.Data`` is told to standardize; one warning names columns that are far from 1 in size.
        strategy: what to try next: a name in ``vtune.strategies``, or one of its objects. "auto" measures a trial and
            decides by the ``time_budget`` between many trials and one that is watched, on ``trials`` and on ``epochs``;
            without a learning rate on a log scale, which the one needs, it is as many trials as there is time for.
        trials: how many to try in all.
        epochs: how long each trains. An epoch is ``rows // batch_size`` mini-batches of a fresh permutation.
        optimizer: "adam", "momentum", "rmsprop" or "sgd", as in Optax; or a function from a trial's hyperparameters to
            an Optax transformation. ``"optimizer": vtune.choice(["momentum", "adam"])`` in the space tries several.
        loss: "cross_entropy", "mse", or a function of (outputs, y) that returns one number a row. "auto" goes by y:
            integers are classes, floats are targets. It is given the targets that networks train on, which are
            standardized where the data are.
        metric: what ranks trials: "accuracy", "mse", "loss" (the validation loss), or a function as for ``loss``,
            which is given outputs and y in the targets' own units, also where they are standardized.
        direction: "minimize" or "maximize", for a metric that is a function.
        select: "last" ranks the last epoch of a trial, "best_epoch" its best one.
        patience: a trial is done when this many epochs in a row were no better than the best one before them, by metric
            and, where that is equal, loss; with several seeds, by the mean of their curves, and then each is trained to
            its end all the same. A trial is ranked among those of the same budget. Not for strategies that train trials
            further, which stop the worse ones by themselves.
        target_score: the search is done with the first round in which a trial reaches it.
        time_budget: seconds, or "90s", "10m", "1h30m", that the search may take in all, compiling included, and those
            before it was interrupted. When they are over, so is the search: what is under way is dropped, and whatever
            is done is returned. Time for the finalists is left, or there are none. Not where JAX is distributed over
            several processes.
        start: trials to begin with, ``[{"learning_rate": 0.01}]``, in which what is left out is drawn as in any other
            trial; or an older study (or its folder), of which the best 8 are tried first.
        finalists: how many of the best trials are trained again, each on 8 fresh seeds, to choose the winner by the
            mean; it alone is then trained on 8 further seeds, and their mean is ``best_score``: the best of many noisy
            scores is too good. "auto": 8 from 32 trials on, else none. 0: the winner is the trial with the best score.
        seeds_per_trial: under how many seed indices each trial is trained; what is ranked, and told to the strategy, is
            their mean. A seed index fixes initial weights, noise and data order, the same for all trials.
        seed: of the split, the sampled hyperparameters, the initial weights and the data order.
        folder: where to keep the trials; None keeps them in memory. A folder with a search that was interrupted, or
            that is to have more ``trials`` now, is continued: what it holds is not trained again, its ladder is kept,
            and all but ``trials`` must be as it was, what your own functions compute included.
        chunk: trials that one call trains at a time, or "auto": what the device is best at.
        ladder: which trials share a program, as ``study.ladder`` of another search gives it, for results that can be
            compared bit for bit; "auto" plans it.
        devices: to train on; how many; or None for all. A CPU counts as one device a core.
        executor: "queue": each device of this process trains chunks by itself, which is fast and gives the same bits on
            any number of them; "mesh": all devices train the same chunk in lockstep, with one compilation for all.
            Where JAX is distributed over several processes, all of them make the same calls, ``best_model`` and
            ``test_score`` included, and a folder is one that they share.
        matmul_precision: of matrix products, as ``jax.default_matmul_precision`` names it: "highest" for true float32
            on a GPU or TPU. None for what JAX takes by itself, or was told.
        progress: whether to show a bar, or an object that shows it your way.

    Returns:
        The study: all trials, their curves, the best hyperparameters and the trained network.

    Raises:
        TypeError: for an argument of a wrong type.
        ValueError: for what cannot be searched or trained; always before anything is compiled.
        OSError: for a folder that cannot be written.

    Example:
        >>> import vtune
        >>> space = {"learning_rate": vtune.loguniform(1e-4, 1.0), "hidden": vtune.integers(16, 32)}
        >>> study = vtune.search(vtune.MLP, space, trials=4, epochs=2, progress=False)
        >>> len(study.trials)
        4
    """
    _check_arguments(
        strategy, trials, epochs, finalists, seeds_per_trial, patience, time_budget, seed, folder, chunk, executor
    )
    train, used = _started(executor, devices, strategy, time_budget)
    trials, epochs, seed = int(trials), int(epochs), int(seed)
    chunk, root = chunk if chunk == "auto" else int(chunk), seed_words(seed)
    written, ending = Space.of(space), make_ending(target_score, time_budget)
    factory = None if is_auto(strategy, ending.seconds) else factory_of(strategy)
    if factory is None:
        _check_patience(patience, strategy)
    check_column_names(written.entries)
    kept = None if folder is None else read_if_there(folder)
    first = first_trials(start, written, trials, kept)
    _check_shared(folder, kept)
    parts = make_parts(
        model_fn, written, data, optimizer=optimizer, loss=loss, metric=metric, direction=direction, select=select,
        patience=patience, seed=seed, matmul_precision=matmul_precision,
    )  # fmt: skip
    kind, planned = kind_of(own(used)), ladder_of(kept, ladder) if kept else ladder
    job = make_job(parts, root=root, trials=trials, epochs=epochs, kind=kind, chunk=chunk, ladder=planned)
    trainer, decision, seconds = train(job, used), None, kept.record["seconds"] if kept else 0.0
    if factory is None:
        outlook = Outlook(
            parts, parts.planner(trials=trials, epochs=epochs, kind=kind, chunk=chunk), worker_places(used, executor)
        )
        decision = recorded(kept) or decide_now(trainer, job, outlook, ending, int(seeds_per_trial))
        factory, trials, epochs = decision.factory(), decision.trials, decision.epochs
        seconds = max(seconds, decision.seconds)
    *earlier, trials = stages(kept, trials)
    tried = factory(written.axes, trials=trials, epochs=epochs, **({"earlier": tuple(earlier)} if earlier else {}))
    _check_patience(patience, factory, tried.keeps)
    table = Table(list(written.entries), parts.objective.columns, parts.objective.is_maximized)
    settings = _remembered(parts, {
        "model_fn": model_fn, "strategy": factory, "epochs": epochs, "optimizer": optimizer, "loss": loss,
        "select": select, "patience": patience, "seed": seed, "seeds_per_trial": int(seeds_per_trial), "chunk": chunk,
        "executor": executor,
    }) | {
        "trials": trials, "start_from": source_of(start), "start": first,
        "finalists": finalists if isinstance(finalists, str) else int(finalists),
        "target_score": ending.target, "time_budget": ending.seconds,
        "mesh_devices": len(used) if executor == "mesh" else None, "decision": decision and decision._asdict(),
    }  # fmt: skip
    if folder is not None:
        settings["code_digest"] = job.code_digest(parts.large_trials())
    if kept:
        check_same(kept, settings)
    plans = Plans([axis.name for axis in written.axes], kept.plans if kept else None)
    settings["stages"] = [*earlier, trials]
    settings |= record(parts, model_fn=model_fn, optimizer=optimizer, loss=loss, metric=metric)
    place = None if folder is None else Folder(folder)
    study = Study(parts, job, trainer, table, plans, settings, place, seconds)
    study.final_scores = kept.final_scores if kept else {}
    with closing(make_progress(progress if jax.process_index() == 0 else False)) as shown:
        if kept:
            shown.say(f"{len(kept.trials)} of {trials} trials are in {kept.path}; the search goes on there")
        if decision:
            shown.say(decision.told)
        shown.say(study.executor.describe())
        shown.begin(trials)
        number = number_of_finalists(finalists, trials)
        reserve = partial(reserved_seconds, number=number, ending=ending)
        Loop(study, shown, tried, root, first, kept, ending, reserve).run()
        hold_finals(study, number, shown, ending)
    if folder is not None and jax.process_count() > 1:
        multihost_utils.sync_global_devices("the folder is whole")  # one process writes it, and all may read it now
    return study


def _started(executor: str, devices: Any, strategy: Any, time_budget: Any) -> tuple[Any, Sequence[Device]]:
    """Returns what trains, and on which devices; before all else that starts JAX, as a CPU can be split until then."""
    train, find_devices = EXECUTORS[executor]
    used = find_devices(devices)
    _check_clocks(strategy, time_budget)
    return train, used


def _check_clocks(strategy: Any, time_budget: Any) -> None:
    """Refuses to go by time where several processes train, as all of them must make the same calls."""
    is_decided = isinstance(strategy, str) and strategy == "auto"
    if jax.process_count() > 1 and (is_decided or time_budget is not None):
        asked = "strategy='auto'" if is_decided else f"time_budget={time_budget!r}"
        raise ValueError(
            f"{asked}: JAX runs in {jax.process_count()} processes, and each would decide by a clock of its own, so "
            "they would not train the same. Leave time_budget out, and write how much to train, such as "
            "strategy='coarse_to_fine', trials=64."
        )


def _check_shared(folder: Any, kept: Held | None) -> None:
    """Refuses a folder in which the processes of a mesh do not find the same; all of them wait for one another here."""
    if folder is None or jax.process_count() == 1:
        return
    found = zlib.crc32(repr(kept and (kept.record, kept.trials.index.tolist(), len(kept.plans))).encode())
    if len(np.unique(multihost_utils.process_allgather(np.uint32(found)))) > 1:
        raise ValueError(
            f'folder "{folder}" does not hold the same for all {jax.process_count()} processes. Write one on a file '
            "system that they share."
        )


def check_goes_on(folder: str | PathLike[str], parts: Parts, asked: Mapping[str, Any]) -> None:
    """Refuses a folder that holds another search than one which is to be made later, from trials that come out by then.

    Args:
        folder: of that search.
        parts: likewise.
        asked: arguments of ``search`` that are known now, by name; all that ``parts`` do not tell.

    Raises:
        ValueError: for a folder that holds another one, with what differs.
        OSError: for tables of something else.
    """
    if kept := read_if_there(folder):
        check_same(kept, _remembered(parts, asked) | {"start_from": None, "decision": None})
        stages(kept, asked["trials"])


def _remembered(parts: Parts, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a study remembers of what it was asked, as far as that is known before anything is planned."""
    return {
        **{name: _name(asked[name]) for name in ("model_fn", "strategy", "optimizer", "loss")},
        **{name: asked[name] for name in ("epochs", "select", "seed", "seeds_per_trial", "chunk", "executor")},
        "patience": asked["patience"] and int(asked["patience"]), "space": parts.written.describe(),
        "data": repr(parts.data), "data_digest": parts.data.digest, "metric": parts.objective.name,
        "is_maximized": parts.objective.is_maximized, "matmul_precision": parts.recipe.matmul_precision,
    }  # fmt: skip


def _name(written: Any) -> str:
    """Returns what a study remembers of a name, a function or an object: the same in every process."""
    if isinstance(written, str):
        return written
    return getattr(written, "__name__", re.sub(r" at 0x[0-9a-f]+", "", repr(written)))


def _check_patience(patience: int | None, strategy: str | StrategyFactory, keeps: str = "all") -> None:
    if patience is not None and keeps != "none":
        raise ValueError(
            f"patience={patience}: strategy={_name(strategy)} may train trials further, so none of them is done before "
            'it says so. Leave patience out, or write strategy="coarse_to_fine".'
        )


def _check_arguments(
    strategy: Any,
    trials: Any,
    epochs: Any,
    finalists: Any,
    seeds_per_trial: Any,
    patience: Any,
    time_budget: Any,
    seed: Any,
    folder: Any,
    chunk: Any,
    executor: Any,
) -> None:
    check_amounts(trials, epochs, chunk, executor)
    check_count("seeds_per_trial", seeds_per_trial, least=1, example=3)
    if patience is not None:
        check_count("patience", patience, least=1, example=5)
    check_count("seed", seed, least=0, example=0)
    check_folder(folder)
    if finalists != "auto":
        check_count("finalists", finalists, least=0, example=8)
