"""The loop of a search: ask the strategy, train its plans, record what comes out, tell the strategy."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jaxtyping import Float32, PyTree, UInt32

from vtune.ending import Ending, OutOfTime
from vtune.garbage import collected_later
from vtune.history import History, mean_curve
from vtune.keys import Purpose, from_words, study_key
from vtune.progress import Progress
from vtune.protocols import FRESH, ChunkResult, Leg, Plan, Rung, Strategy, Training
from vtune.results.store import Held
from vtune.results.tables import TrialResult
from vtune.saves import Saves
from vtune.study import Study
from vtune.training.devices import compiler_options, kind_of
from vtune.training.disk import kept_for_later


class Steps(NamedTuple):
    """A strategy as programs; ``ask`` returns a plan, and whether the search is over instead."""

    init: Callable[[UInt32[np.ndarray, "2"]], PyTree]
    ask: Callable[[UInt32[np.ndarray, "2"], PyTree], tuple[Plan, Any]]
    opened: Callable[[PyTree, Plan], PyTree]
    tell: Callable[[PyTree, Plan, Any], PyTree]


@lru_cache(maxsize=64)
def compiled(strategy: Strategy) -> Steps:
    """Compiles a strategy; a later search with the same one compiles nothing. One that calls out runs as it is."""

    @jax.jit  # for the strategies that are not compiled themselves
    def sample_key(root: UInt32[Array | np.ndarray, "2"]) -> Any:
        return study_key(from_words(root), Purpose.SAMPLE)

    def init(root: UInt32[Array | np.ndarray, "2"]) -> PyTree:
        return strategy.init(sample_key(root))

    def ask(root: UInt32[Array | np.ndarray, "2"], state: PyTree) -> tuple[Plan, Any]:
        return strategy.ask(sample_key(root), state), strategy.done(state)

    steps = Steps(init, ask, strategy.opened, strategy.tell)
    if not strategy.is_traceable:
        return steps
    kind = kind_of(jax.local_devices()[0])
    options = compiler_options(kind)
    return Steps(*(kept_for_later(jax.jit(step, compiler_options=options), kind) for step in steps))


@dataclass
class Asked:
    """A plan that is not told yet.

    Attributes:
        plan: as it runs.
        lanes: the lane of each of its trials, by id.
        scores: one a lane as strategies know them: lower is better, NaN for what diverged.
        left: the trials that are under way.
    """

    plan: Plan
    lanes: dict[int, int]
    scores: Float32[np.ndarray, " lanes"]
    left: set[int]


@dataclass
class Loop:
    """Fills a study.

    A study that is continued goes through the same loop: the plans that were kept take the place of those asked for,
    and of each of them only those trials are trained that have no result yet.

    Attributes:
        study: to fill.
        progress: what shows how far it is.
        strategy: what to try.
        root: words of the study's root key.
        start: the first trials, as far as the user names them.
        kept: what the folder held at the beginning, or None.
        ending: when to stop before the strategy does.
        reserve: how many seconds to leave of those that there are, for what is done when the search is over.
    """

    study: Study
    progress: Progress
    strategy: Strategy
    root: UInt32[np.ndarray, "2"]
    start: Sequence[Mapping[str, Any]] = ()
    kept: Held | None = None
    ending: Ending = Ending()
    reserve: Callable[[Study], float] = lambda study: 0.0
    _histories: dict[int, History] = field(default_factory=dict)
    _asked: deque[Asked] = field(default_factory=deque)
    _num_asked: int = 0
    _state: PyTree = None
    _is_new: bool = False
    _rungs: dict[Rung, int] = field(default_factory=dict)

    def __post_init__(self):
        self._saves = Saves(self.study)

    def run(self) -> None:
        """Runs the search to its end."""
        self._state = compiled(self.strategy).init(self.root)
        try:
            first = self._go_on()
            self._check_time()
            if first:
                self.study.executor.train(first, self._record_chunk)
        except OutOfTime:
            self.progress.say(f"time is up: {len(self.study.table)} trials in {self.study.seconds:.0f} s")
        finally:  # what is trained is in the folder, also when Ctrl-C or an error ends the search here
            self._save()

    # What to train

    def _go_on(self) -> list[Training]:
        """Asks the strategy for as many plans as may be open, tells it of the first, and so on; returns what to train.

        It is told of one plan at a time, and only where it may not, or does not, ask. So what it asks for depends on
        the same scores however many plans are complete by then.
        """
        new: list[Training] = []
        while True:
            may_ask = len(self._asked) <= self.strategy.lag and not self._has_reached_target()
            plan = self._ask() if may_ask else None
            if plan is not None:
                with collected_later():
                    new += self._begin(plan)
            elif self._asked and not self._asked[0].left:
                self._tell(self._asked.popleft())
            else:
                return new

    def _ask(self) -> Plan | None:
        """Returns the next plan; None where the strategy is done, or waits to be told of what is open."""
        plan, is_over = jax.device_get(compiled(self.strategy).ask(self.root, self._state))
        return None if is_over or not plan.active.any() else plan

    def _tell(self, told: Asked) -> None:
        self._save()
        self.progress.round_done(self._num_asked - len(self._asked) - 1, None)
        self._state = compiled(self.strategy).tell(self._state, told.plan, told.scores)
        if self.strategy.keeps == "round":
            self.study.executor.keep_only(told.lanes.keys())

    def _begin(self, asked: Plan) -> list[Training]:
        """Opens the next plan, records what is known of its trials already, and returns what is to be trained."""
        round, study = self._num_asked, self.study
        if round == len(study.plans):
            study.plans.add(self._as_it_runs(asked))
        plan = study.plans.plan(round, asked)
        if self.strategy.lag:
            self._state = compiled(self.strategy).opened(self._state, plan)
        lanes = {int(plan.trial_id[lane]): int(lane) for lane in np.flatnonzero(plan.active)}
        rows = self._rows(plan, list(lanes.values()))
        # A child starts from what its parent was before this plan.
        for lane in sorted(rows, key=lambda lane: goes_on(plan, lane)):
            self._open_history(plan, lane, rows[lane], round)
        self._asked.append(Asked(plan, lanes, np.full(len(plan.active), np.nan, np.float32), set(lanes)))
        self._num_asked += 1
        known = [trial_id for trial_id in lanes if self._recall(trial_id)]
        self._record(known)
        is_kept, has_patience = self.strategy.keeps != "none", self.study.parts.objective.patience is not None
        return [
            training
            for trial_id in lanes
            if trial_id not in known
            for training in self._histories[trial_id].trainings(is_kept and self._can_go_on(trial_id), has_patience)
        ]

    def _can_go_on(self, trial_id: int) -> bool:
        return self._histories[trial_id].budget < self.study.settings["epochs"]

    def _open_history(self, plan: Plan, lane: int, row: dict[str, Any], round: int) -> None:
        """Begins the history of a new trial, or the next leg of one that goes on."""
        usage, study = self.study.parts.usage, self.study
        trial_id, parent, point = int(plan.trial_id[lane]), int(plan.parent[lane]), np.asarray(plan.points)[lane]
        used = usage.used(row)
        leg = Leg(trial_id, usage.complete(used), int(plan.budget[lane]))
        self._rungs.setdefault(study.job.rung(leg.hparams), len(self._rungs))
        if parent == trial_id:
            self._histories[trial_id].legs += (leg,)
        else:
            of = self._histories.get(parent)
            curves = of.curves_so_far if of else [np.empty((0, len(study.table.metrics)))] * study.num_seeds
            legs = (*(of.legs if of else ()), leg)
            self._histories[trial_id] = History(row, used, point, round, of and parent, legs, curves)
        study.lineages[trial_id] = self._histories[trial_id].legs

    def _as_it_runs(self, asked: Plan) -> Plan:
        """Returns the plan as it is recorded.

        The trials that the user starts with are in it, what a trial takes over from its parent, and NaN for what it
        does not use.
        """
        usage, points = self.study.parts.usage, np.array(asked.points)
        for lane in self._started(asked):
            (point,) = self.study.space.encode([self.start[int(asked.trial_id[lane])]])
            points[lane] = np.where(np.isnan(point), points[lane], point)
        for lane in np.flatnonzero(asked.active & (asked.parent != FRESH)).tolist():
            point = self._histories[int(asked.parent[lane])].point
            points[lane] = np.where(goes_on(asked, lane) | self._is_inherited, point, points[lane])
        lanes = np.flatnonzero(asked.active)
        used = [usage.used(row) for row in self._rows(asked._replace(points=points), lanes.tolist()).values()]
        points[lanes] = np.where(usage.mask(used), points[lanes], np.float32(np.nan))
        return asked._replace(points=points)

    def _started(self, plan: Plan) -> list[int]:
        """The lanes whose trials the user names."""
        lanes = np.flatnonzero(plan.active & (plan.parent == FRESH) & (plan.trial_id < len(self.start)))
        return lanes.tolist()

    @cached_property
    def _is_inherited(self) -> np.ndarray:
        """Which axes are structure, that a trial takes over from its parent with the weights."""
        return np.array([axis.name in self.study.parts.inherited for axis in self.study.space.axes])

    def _rows(self, plan: Plan, lanes: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Returns for each of these lanes a value for every name, also for those that its trial does not use."""
        decoded = self.study.parts.usage.space.rows(np.nan_to_num(plan.points[np.array(lanes, int)]))
        rows, started = dict(zip(lanes, decoded, strict=True)), set(self._started(plan))
        for lane, row in rows.items():  # exactly, where a point only comes close
            trial_id, parent = int(plan.trial_id[lane]), int(plan.parent[lane])
            if lane in started:
                row.update(self.start[trial_id])
            elif parent != FRESH:
                taken = self._histories[parent].row
                row.update(taken if goes_on(plan, lane) else {name: taken[name] for name in self.study.parts.inherited})
        return rows

    # What came out

    def _record_chunk(self, done: ChunkResult) -> list[Training]:
        """Records a chunk, and returns what is to be trained now that it is known."""
        histories = [self._histories[training.trial_id] for training in done.chunk.trainings]
        for place, history in enumerate(histories):
            history.add(done, place)
        self._is_new = True
        self._record([history.trial_id for history in histories if history.is_trained])
        if self._saves.is_due:
            self._save()
        self._check_time()
        return self._go_on() if not self._asked[0].left else []

    def _has_reached_target(self) -> bool:
        """Whether nothing more is asked for; plans that a folder holds are gone through all the same."""
        table, is_told_all = self.study.table, self._num_asked == len(self.study.plans)
        return is_told_all and self.ending.is_reached(table.best_score, table.is_maximized)

    def _check_time(self) -> None:
        self._saves.look()
        if self.ending.seconds is not None:
            if self.study.seconds + self.reserve(self.study) >= self.ending.seconds:
                raise OutOfTime

    def _record(self, trial_ids: Sequence[int]) -> None:
        """Puts trials into the table as they are now, and their scores where the strategy is told of them."""
        table, objective = self.study.table, self.study.parts.objective
        if not trial_ids:
            return
        num_before, results = len(table), [self._result(self._histories[trial_id]) for trial_id in trial_ids]
        table.add(results)
        for result in results:
            asked = next(asked for asked in self._asked if result.trial_id in asked.left)
            told = self._outcome_of_its_own(result)
            asked.scores[asked.lanes[result.trial_id]] = objective.to_strategy(*told, len(self.study.data.valid[0]))
            asked.left.discard(result.trial_id)
        num_diverged = sum(result.status == "diverged" for result in results)
        self.progress.trials_done(len(table) - num_before, num_diverged, table.best_score)

    def _result(self, history: History) -> TrialResult:
        """What a trial came to within its budget."""
        objective, budget = self.study.parts.objective, history.budget
        curves = mean_curve(history.curves_so_far)
        stop = objective.stop(curves)
        is_diverged = history.diverged_step is not None and len(curves) < budget and stop is None
        score, loss = (np.nan, np.nan) if is_diverged else objective.outcome(curves)
        whole = "complete" if budget == self.study.settings["epochs"] else "pruned"
        return TrialResult(
            trial_id=history.trial_id,
            params={name: history.used[name] for name in self.study.space.entries if name in history.used},
            score=score,
            loss=loss,
            status="diverged" if is_diverged else whole,
            round=history.round,
            parent=history.parent,
            rung=self._rungs[self.study.job.rung(history.legs[-1].hparams)],
            budget=budget,
            epochs=len(curves[:stop]),
            best_epoch=objective.best_epoch(curves),
            curves=curves[:stop],
            seed_curves=tuple(curve[:stop] for curve in history.curves_so_far),
            diverged_step=history.diverged_step if is_diverged else None,
            finished_at=history.finished_at,
            seconds=history.seconds,
        )

    def _outcome_of_its_own(self, result: TrialResult) -> tuple[float, float]:
        """Returns score and loss of the epochs that a trial trained itself: a strategy has no use for its ancestors'.

        They differ from those in the table where the best epoch is ranked: a child worse than its parent is told so.
        """
        if result.status == "diverged":
            return np.nan, np.nan
        training = Training(self._histories[result.trial_id].legs)
        if training.born == 0:
            return result.score, result.loss
        return self.study.parts.objective.outcome(result.curves[training.born :])

    # The folder

    def _recall(self, trial_id: int) -> bool:
        """Whether the folder tells what a trial comes to within its budget; if so, takes it from there."""
        if self.kept is None or trial_id not in self.kept.trials.index:
            return False
        history, facts = self._histories[trial_id], self.kept.facts_of(trial_id)
        curves = self.kept.curves_of(trial_id, self.study.num_seeds)
        if facts["budget"] < history.budget and facts["status"] != "diverged":
            return False
        history.curves, history.seconds = curves, facts["seconds"]
        history.diverged_step, history.finished_at = facts["diverged_step"], facts["finished_at"]
        return True

    def _save(self) -> None:
        """Writes the folder, unless it knows more than the table: while a search that goes on is told what it had."""
        if self.kept and not self._is_new:
            self._saves.look()
        else:
            self._saves.write()


def goes_on(plan: Plan, lane: int) -> bool:
    """Returns whether a lane goes on with a trial that there was."""
    return bool(plan.parent[lane] == plan.trial_id[lane])
