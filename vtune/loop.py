"""The loop of a search: ask the strategy, train its plan, record what comes out, tell the strategy."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jaxtyping import Bool, Float32, Key, PyTree, UInt32

from vtune.keys import Purpose, from_words, study_key
from vtune.progress import Progress
from vtune.protocols import FRESH, ChunkResult, Hparams, Plan, Rung, Strategy
from vtune.results.store import Held
from vtune.results.tables import TrialResult
from vtune.study import Study

SECONDS_BETWEEN_SAVES = 10.0
"""What a process may lose that is killed. (Writing a large study takes longer, and is done less often.)"""


class Steps(NamedTuple):
    """A strategy as two programs, each from one plan to the next."""

    first: Callable[[UInt32[np.ndarray, "2"]], tuple[PyTree, Plan, Bool[Array, ""]]]
    following: Callable[..., tuple[PyTree, Plan, Bool[Array, ""]]]


@lru_cache(maxsize=64)
def compiled(strategy: Strategy) -> Steps:
    """Compiles a strategy; a later search with the same one compiles nothing. One that calls out runs as it is."""

    @jax.jit  # for the strategies that are not compiled themselves
    def sample_key(root: UInt32[Array | np.ndarray, "2"]) -> Key[Array, ""]:
        return study_key(from_words(root), Purpose.SAMPLE)

    def first(root: UInt32[Array | np.ndarray, "2"]) -> tuple[PyTree, Plan, Any]:
        state = strategy.init(sample_key(root))
        return state, strategy.ask(sample_key(root), state), strategy.done(state)

    def following(
        root: UInt32[Array | np.ndarray, "2"], state: PyTree, plan: Plan, scores: Any
    ) -> tuple[PyTree, Plan, Any]:
        state = strategy.tell(state, plan, scores)
        return state, strategy.ask(sample_key(root), state), strategy.done(state)

    return Steps(jax.jit(first), jax.jit(following)) if strategy.is_traceable else Steps(first, following)


@dataclass
class Loop:
    """Fills a study.

    A study that is continued goes through the same loop: the plans that were kept take the place of those asked for,
    and of each of them only those trials are trained that have no result yet.

    Attributes:
        study: to fill.
        progress: what shows how far it is.
        start: the first trials, as far as the user names them.
        kept: what the folder held at the beginning, or None.
    """

    study: Study
    progress: Progress
    start: Sequence[Mapping[str, Any]] = ()
    kept: Held | None = None
    _rungs: dict[Rung, int] = field(default_factory=dict)
    _started_at: float = 0.0
    _next_save: float = 0.0

    def run(self, strategy: Strategy, root: UInt32[np.ndarray, "2"]) -> None:
        """Runs the search to its end.

        Args:
            strategy: what to try.
            root: words of the study's root key.
        """
        steps, study, round = compiled(strategy), self.study, 0
        self._started_at = time.perf_counter() - study.seconds
        self._next_save = time.perf_counter() + SECONDS_BETWEEN_SAVES
        state, asked, is_done = steps.first(root)
        while not is_done:
            asked = jax.device_get(asked)
            if round == len(study.plans):
                study.plans.add(self._as_it_runs(asked))
            plan = study.plans.plan(round, asked)
            try:
                scores = self._train(plan, round)
            finally:  # what is trained is in the folder, also when Ctrl-C or an error ends the search here
                self._save()
            self.progress.round_done(round, None)
            state, asked, is_done = steps.following(root, state, plan, scores)
            round += 1

    def _save(self) -> None:
        """Writes the folder, and leaves it alone for so long that writing takes a twentieth of the time at most."""
        began = time.perf_counter()
        self.study.seconds = began - self._started_at
        self.study.save()
        ended = time.perf_counter()
        self._next_save = ended + max(SECONDS_BETWEEN_SAVES, 20 * (ended - began))

    def _as_it_runs(self, asked: Plan) -> Plan:
        """Returns the plan with the trials that the user starts with, and NaN for what a trial does not use."""
        usage, points = self.study.parts.usage, np.array(asked.points)
        for lane in self._started(asked):
            (point,) = self.study.space.encode([self.start[int(asked.trial_id[lane])]])
            points[lane] = np.where(np.isnan(point), points[lane], point)
        asked = asked._replace(points=points)
        used = [usage.used(row) for row in self._rows(asked)]
        return asked._replace(points=np.where(usage.mask(used), points, np.float32(np.nan)))

    def _started(self, plan: Plan) -> list[int]:
        """The lanes whose trials the user names."""
        lanes = np.flatnonzero(plan.active & (plan.parent == FRESH) & (plan.trial_id < len(self.start)))
        return lanes.tolist()

    def _rows(self, plan: Plan) -> list[dict[str, Any]]:
        """Returns a value for every name of each trial of a plan, also for those that it does not use."""
        rows = self.study.parts.usage.space.rows(np.nan_to_num(plan.points))
        for lane in self._started(plan):
            written = self.start[int(plan.trial_id[lane])]
            rows[lane].update(written)  # exactly, where a point only comes close
        return rows

    def _train(self, plan: Plan, round: int) -> Float32[np.ndarray, " lanes"]:
        """Returns one score a lane as strategies know them: lower is better, NaN for what diverged."""
        study, rows = self.study, self._rows(plan)
        used = [study.parts.usage.used(row) for row in rows]
        whole = [study.parts.usage.complete(row) for row in used]
        lanes = {int(plan.trial_id[lane]): int(lane) for lane in np.flatnonzero(plan.active)}
        for lane in lanes.values():
            self._rungs.setdefault(study.job.ladder.rung(whole[lane]), len(self._rungs))
        scores = np.full(len(rows), np.nan, np.float32)

        def record(results: list[TrialResult]) -> None:
            study.table.add(results)
            for result in results:
                scores[lanes[result.trial_id]] = study.parts.objective.to_strategy(
                    result.score, result.loss, len(study.data.valid[0])
                )
            num_diverged = sum(result.status == "diverged" for result in results)
            self.progress.trials_done(len(results), num_diverged, study.table.best_score)

        def record_chunk(done: ChunkResult) -> None:
            ids = enumerate(done.chunk.trial_ids)
            record([self._new(done, place, used[lanes[trial_id]], round) for place, trial_id in ids])
            if time.perf_counter() > self._next_save:
                self._save()

        known = [trial_id for trial_id in lanes if self.kept and trial_id in self.kept.trials.index]
        if known:
            record([self._known(trial_id, used[lanes[trial_id]]) for trial_id in known])
        is_known = np.isin(plan.trial_id, known)
        if (plan.active & ~is_known).any():
            study.executor.train(plan._replace(active=plan.active & ~is_known), whole, record_chunk)
        return scores

    def _new(self, done: ChunkResult, place: int, used: Hparams, round: int) -> TrialResult:
        """What one trial of a finished chunk came to. Only fresh trials are trained so far, so there is no parent."""
        is_diverged = bool(done.diverged_step[place] >= 0)
        curves = done.curves[place].astype(np.float64)
        return self._result(
            curves[np.isfinite(curves[:, 1])] if is_diverged else curves,
            used,
            trial_id=done.chunk.trial_ids[place],
            status="diverged" if is_diverged else "complete",
            round=round,
            parent=None,
            rung=self._rungs[done.chunk.rung],
            finished_at=datetime.now(UTC),
            seconds=done.seconds,
            diverged_step=int(done.diverged_step[place]) if is_diverged else None,
        )

    def _known(self, trial_id: int, used: Hparams) -> TrialResult:
        """What a trial came to whose result was kept."""
        assert self.kept is not None
        return self._result(self.kept.curves_of(trial_id), used, **self.kept.facts_of(trial_id))

    def _result(self, curves: np.ndarray, used: Hparams, **facts: Any) -> TrialResult:
        objective = self.study.parts.objective
        score, loss = (np.nan, np.nan) if facts["status"] == "diverged" else objective.outcome(curves)
        return TrialResult(
            params={name: used[name] for name in self.study.space.entries if name in used},
            score=score,
            loss=loss,
            epochs=len(curves),
            best_epoch=objective.best_epoch(curves),
            curves=curves,
            **facts,
        )
