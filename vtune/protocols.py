"""The words of vtune as types. Imports nothing of vtune, so that every other module may import it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, PyTree

FRESH = -1
"""The parent of a trial that starts from new weights."""

RUNNING, DIVERGED, IDLE = 0, 1, 2
"""What a lane is doing: training, frozen after a non-finite step, or filling up its chunk."""

Hparams = Mapping[str, Any]
"""One trial's hyperparameters by name: scalars, traced or not, and strings."""


class Axis(NamedTuple):
    """One varying parameter as a strategy sees it: an edge of the unit cube.

    Attributes:
        name: its name in the space.
        levels: how many values it can take; ``None`` for a continuous one.
        is_ordered: whether neighbouring levels are neighbouring values.
        default: where the value lies that a name takes where a space leaves it out, as far as this edge has it; the
            middle for a name without one.
        log_length: of an edge on a log scale the natural logarithm of the factor between its ends, so that moving by
            ``log(2) / log_length`` doubles the value (on that of betas the window 1 / (1 - value)); None on others.
    """

    name: str
    levels: int | None
    is_ordered: bool
    default: float = 0.5
    log_length: float | None = None


class Plan(NamedTuple):
    """What a strategy wants trained next: one row a lane, padded to the strategy's ``max_lanes``.

    Arrays of JAX to a strategy, of NumPy to what trains and records it.

    Attributes:
        trial_id: never reused; rising in every plan.
        parent: the trial's own id to continue it, another's to start a new trial from a copy of its weights,
            optimizer and model state as they are now, ``FRESH`` to start anew. A trial that has a parent takes over
            its structure (layers, hidden units, batch size, optimizer), whatever its point says.
        points: the hyperparameters as points of the unit cube, one column an axis. The study decodes them
            on the host in float64, so a strategy stays pure, jit-able and ignorant of units.
        budget: epochs offered to the trial in all, those of its parent included.
        active: False for padding.
    """

    trial_id: Int[Array, " lanes"]
    parent: Int[Array, " lanes"]
    points: Float[Array, "lanes axes"]
    budget: Int[Array, " lanes"]
    active: Bool[Array, " lanes"]


def same_state(state: PyTree, plan: Plan) -> PyTree:
    """Returns the state as it was: that of a strategy to which it makes no difference that a plan is open."""
    return state


class Strategy(NamedTuple):
    """What to try next, as pure functions on arrays. It never trains and never writes.

    Whoever runs one keeps a queue of open plans: asked for, and not told yet. While there are at most ``lag`` of them
    and ``done`` is False, it asks for one more, announces it with ``opened`` and puts it at the end; then it trains
    them, tells the first and asks again. So plan ``i`` is asked for once plan ``i - lag - 1`` has been told, and plans
    are told in their order: what is asked for depends on nothing else. A plan without active rows says "wait" if there
    are open ones: it is neither announced, trained nor told, and the next telling comes first. The search is over when
    ``done`` is True; nothing is open then.

    Attributes:
        init: ``init(key) -> state``.
        ask: ``ask(key, state) -> Plan``; the key is the same at every call, points are drawn by trial id.
        tell: ``tell(state, plan, scores) -> state``; scores are lower-is-better, one a lane, non-finite for
            a trial that diverged.
        done: ``done(state) -> bool``; once True, True for ever.
        max_lanes: the number of rows of every plan.
        keeps: whose weights a later plan may ask for: "none", "round" (those of the plan before it), or "all".
        lag: how many plans may be open at once beyond the first.
        opened: ``opened(state, plan) -> state``; for the plan just asked for, as it will run. With a lag of 0 it may be
            left out, as ``tell`` follows at once and does as much.
        is_traceable: whether JAX may trace the functions. One that calls out, such as a sampler of Optuna, is run as it
            is: its states may be any objects, and it cannot be part of a fused search.
    """

    init: Callable[[Array], PyTree]
    ask: Callable[[Array, PyTree], Plan]
    tell: Callable[[PyTree, Plan, Array], PyTree]
    done: Callable[[PyTree], Any]
    max_lanes: int
    keeps: Literal["none", "round", "all"] = "none"
    lag: int = 0
    opened: Callable[[PyTree, Plan], PyTree] = same_state
    is_traceable: bool = True


@runtime_checkable
class StrategyFactory(Protocol):
    """A strategy before its search is known: what ``vtune.strategies.coarse_to_fine(rounds=4)`` returns."""

    def __call__(self, axes: Sequence[Axis], *, trials: int, epochs: int, earlier: Sequence[int] = ()) -> Strategy:
        """Returns the strategy for a cube with these axes, ``trials`` new trials in all, ``epochs`` each at most.

        ``earlier`` is given for a search that is continued alone: the trials it first had, each time fewer than now.
        The strategy then goes on where it would have ended, and the plans up to there are those it had.
        """
        ...


class Shapes(NamedTuple):
    """What a model function may ask of the data and the rung.

    Attributes:
        inputs: the shape of one row of x.
        outputs: numbers the network puts out for a row: classes, or columns of a regression target.
        sizes: for an elastic model, the padded size of each of its elastic hyperparameters; the true ones,
            in ``hparams``, are at most these and traced. Empty otherwise.
    """

    inputs: tuple[int, ...]
    outputs: int
    sizes: Mapping[str, int] = {}


class LaneState(NamedTuple):
    """All that training changes in one trial. A chunk holds these stacked along a leading lanes axis."""

    params: PyTree
    optimizer_state: PyTree
    model_state: PyTree
    step: Int[Array, "*lanes"]
    epoch: Int[Array, "*lanes"]
    status: Int[Array, "*lanes"]
    diverged_step: Int[Array, "*lanes"]


class Task(NamedTuple):
    """How ONE trial is trained; hyperparameters are scalars, vmap makes the lanes.

    Attributes:
        init: ``init(key, hparams) -> LaneState``.
        loss_sum: ``loss_sum(params, state, hparams, x, y, weight, key) -> (sum, model state)``: the weighted sum
            of the rows' losses, differentiated by the engine for ``params``.
        update: ``update(state, grads, hparams) -> LaneState``: one optimizer step from mean gradients.
        metric_sums: ``metric_sums(state, hparams, x, y, weight, units=None) -> sums``: the loss and then each metric.
            ``units`` are those of standardized targets: y is then in its own ones, and so is what metrics measure; the
            loss is that of standardized numbers.
        metrics: the names of what ``metric_sums`` returns; the first is "loss".
        has_part: ``has_part(hparams) -> {name: bool}``: of the entries of the weights that a trial may lack, whether it
            has it. ``update`` can then be called with one entry at a time.
    """

    init: Callable[[Array, Hparams], LaneState]
    loss_sum: Callable[..., tuple[Array, PyTree]]
    update: Callable[[LaneState, PyTree, Hparams], LaneState]
    metric_sums: Callable[..., Float[Array, " metrics"]]
    metrics: tuple[str, ...]
    has_part: Callable[[Hparams], Mapping[str, Array]] = lambda hparams: {}


class Rung(NamedTuple):
    """One program of the ladder: all that decides its shapes, and with them its bits.

    Attributes:
        sizes: padded size of each elastic hyperparameter, as sorted (name, size) pairs.
        structure: the hyperparameters that are constants of the program, as sorted (name, value) pairs.
        lanes: trials per chunk.
        rows: rows per micro-batch.
        is_shared: whether all lanes read the same rows at the same time (``rows`` divides every batch size).
        accumulates: whether a mini-batch may take more than one micro-batch.
        copies_rows: whether every lane has a copy of the rows that all read; only where they are shared.
    """

    sizes: tuple[tuple[str, int], ...]
    structure: tuple[tuple[str, Any], ...]
    lanes: int
    rows: int
    is_shared: bool
    accumulates: bool
    copies_rows: bool = False


class Leg(NamedTuple):
    """A stretch of a training under one set of hyperparameters.

    Attributes:
        trial_id: of the trial that trained it.
        hparams: complete ones of that trial.
        until: the number of epochs at its end, those of earlier legs included.
    """

    trial_id: int
    hparams: Hparams
    until: int


Moment = tuple[int, int, int]
"""A trial, a seed index, and the number of epochs that were trained under it."""


class Training(NamedTuple):
    """One trial to be trained on under one seed index.

    Attributes:
        legs: how its network comes about, from new weights on. The last one is to be trained; those before it are done,
            by this trial or by those that it descends from, all of the same structure.
        seed_index: fixes initial weights, data order and noise, in all legs.
        is_kept: whether a later training may go on from where this one ends.
        is_brief: whether it may be ended when patience has run out.
    """

    legs: tuple[Leg, ...]
    seed_index: int = 0
    is_kept: bool = False
    is_brief: bool = False

    @property
    def trial_id(self) -> int:
        """The trial that is trained."""
        return self.legs[-1].trial_id

    @property
    def hparams(self) -> Hparams:
        """The hyperparameters that it is trained with, complete ones."""
        return self.legs[-1].hparams

    @property
    def start(self) -> int:
        """How many epochs are done already."""
        return self.legs[-2].until if len(self.legs) > 1 else 0

    @property
    def until(self) -> int:
        """How many epochs are done at its end."""
        return self.legs[-1].until

    @property
    def born(self) -> int:
        """How many epochs were done when its trial began: those of the trials that it descends from."""
        return max((leg.until for leg in self.legs if leg.trial_id != self.trial_id), default=0)

    @property
    def end(self) -> Moment:
        """What names the weights at its end."""
        return self.trial_id, self.seed_index, self.until

    def cut(self, until: int) -> "Training":
        """Returns the same as far as an epoch, without the pauses in which a trial waited to be trained further."""
        whole = [
            leg for leg, following in zip(self.legs, (*self.legs[1:], None), strict=True) if _is_last(leg, following)
        ]
        done = [leg for leg in whole if leg.until < until]
        return self._replace(legs=(*done, whole[len(done)]._replace(until=until)))

    @property
    def before(self) -> "Training":
        """What must have been trained before, where it does not begin with new weights."""
        return self._replace(legs=self.legs[:-1], is_kept=True)


def _is_last(leg: Leg, following: Leg | None) -> bool:
    return following is None or following.trial_id != leg.trial_id


class Chunk(NamedTuple):
    """Trainings of one rung that go the same way, trained by the same calls: up to ``rung.lanes`` a device.

    Attributes:
        rung: whose program trains them.
        trainings: one a trial; of the same seed index, start and end.
    """

    rung: Rung
    trainings: tuple[Training, ...]

    @property
    def seed_index(self) -> int:
        """Of all its trainings."""
        return self.trainings[0].seed_index

    @property
    def start(self) -> int:
        """How many epochs are done already."""
        return self.trainings[0].start

    @property
    def until(self) -> int:
        """How many epochs are done at its end."""
        return self.trainings[0].until


class ChunkResult(NamedTuple):
    """What one finished chunk tells, one entry a trial.

    Attributes:
        chunk: what was trained.
        curves: at each epoch from the first one trained ``train_loss``, then what ``Task.metrics`` names; NaN from the
            epoch in which a trial diverged. Fewer epochs than planned where all trainings were brief.
        diverged_step: number of the optimizer step that was not finite, from 0; -1 where all were.
        seconds: wall time of the chunk; compiling is left out, and waiting for what all its trials share.
    """

    chunk: Chunk
    curves: Float[np.ndarray, "trials epochs metrics"]
    diverged_step: Int[np.ndarray, " trials"]
    seconds: float


@runtime_checkable
class Executor(Protocol):
    """Trains trials; it knows no strategy and no store."""

    @property
    def num_parallel(self) -> int:
        """How many chunks are trained at the same time."""
        ...

    @property
    def num_parts(self) -> int:
        """How many times the lanes of its rung a full chunk holds."""
        ...

    def train(
        self, trainings: Sequence[Training], on_chunk: Callable[[ChunkResult], Sequence[Training] | None]
    ) -> None:
        """Trains, packed into chunks, and gives each finished chunk to ``on_chunk``.

        Weights at the end of a training that ``is_kept`` are kept for one that goes on from there; where they are not
        at hand, as after a restart, all legs before are trained again, to the same bits.

        Args:
            trainings: what to train.
            on_chunk: called on the caller's thread, in the order in which chunks finish. What it returns is trained as
                well: so a search goes on without waiting for all that is under way.
        """
        ...

    def replay(self, training: Training) -> tuple[Rung, LaneState]:
        """Trains one trial again, to the same bits, and returns its rung and its lane on the host."""
        ...

    def keep_only(self, trial_ids: Collection[int]) -> None:
        """Lets go of the weights of all other trials."""
        ...

    def describe(self) -> str:
        """Returns the plan in one line: programs, chunks, devices, expected time."""
        ...
