"""ASHA: successive halving that promotes the best as soon as they are known, and never waits for a level to be full."""

from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int, Key

from vtune.arguments import check_count
from vtune.protocols import FRESH, Axis, Plan, Strategy
from vtune.space import sample_points
from vtune.strategies.brackets import budgets_of_levels
from vtune.strategies.factories import Factory
from vtune.strategies.leaders import worst_last


def asha(eta: int = 3, least: int | None = None, width: int | None = None, lag: int = 1) -> Factory:
    """Successive halving without its waits: plans of equal width, promotions before new trials.

    Trials are drawn at random and start with the smallest budget. A trial is promotable if it is among the best
    ``1 / eta`` that have been told so far at its level, and has not been promoted yet. A plan is ``width`` promotions
    from the highest level that has so many, else ``width`` new trials, so that every plan has one budget and fills its
    chunks. When all trials are started and told, what is promotable is promoted from the lowest level on; the rows
    left over go to the next best of that level, as lanes would be idle otherwise, and one trial at least goes on.
    Equal scores rank by trial id; a trial that diverged is never promoted. New trials of a search that is continued
    compete with the old ones.

    Filling up costs epochs, most of them at the highest levels: with 243 trials, 81 epochs and the default width it
    trains 16 trials to the end and 1779 epochs in all, where halving trains 3 to the end and 891. A smaller ``width``
    fills less: 8 trains 8 to the end and 1331 epochs.

    Up to ``lag`` plans may be open while another is asked for, so that a device need not wait for a straggler.
    Decisions look at nothing but what has been told, so they do not depend on how many devices there are. With one
    device plain halving is as fast.

    Source: Li, Jamieson, Rostamizadeh, Gonina, Ben-Tzur, Hardt, Recht & Talwalkar (2020), "A System for Massively
    Parallel Hyperparameter Tuning", MLSys, algorithm 2. Departures: ``width`` trials at a time instead of one; the
    number of trials is fixed, so there is an end, at which rows are filled up as said above.

    Args:
        eta: one in how many is promoted.
        least: the fewest epochs to judge a trial by; by default 1.
        width: the rows of a plan. By default a 16th of the trials, up to a power of two, between 4 and 64: wide enough
            for whole chunks on a CPU, and about as many trials are trained to the end.
        lag: how many plans may be open beside the one that is asked for.

    Returns:
        A factory ``(axes, trials, epochs) -> Strategy``.

    Raises:
        ValueError: for an ``eta`` below 2, a ``least`` or ``width`` below 1, a negative ``lag``, and by the factory
            for a ``least`` above ``epochs``.

    Example:
        >>> asha()([Axis("learning_rate", None, True)], trials=243, epochs=81).max_lanes
        16
    """
    check_count("eta", eta, least=2, example=3)
    check_count("lag", lag, least=0, example=1)
    for name, value, example in (("least", least, 2), ("width", width, 16)):
        if value is not None:
            check_count(name, value, least=1, example=example)
    return Factory("asha", _asha, {"eta": eta, "least": least, "width": width, "lag": lag})


def default_width(trials: int) -> int:
    """Returns the rows of a plan in a search with so many trials.

    Example:
        >>> [default_width(trials) for trials in (1, 243, 256, 257, 10_000)]
        [4, 16, 16, 32, 64]
    """
    return min(64, max(4, 1 << (-(-trials // 16) - 1).bit_length()))


class Board(NamedTuple):
    """All trials of the search, in the places of their ids: what each was asked for, and what was told.

    Attributes:
        asked: the highest level that the trial was asked for; -1 for none.
        told: the highest level whose score was told; -1 for none. Where it is below ``asked``, the trial is open.
        scores: what was told at each level; infinite for a trial that diverged.
        points: where the trial lies, as told.
    """

    asked: Int[Array, " trials"]
    told: Int[Array, " trials"]
    scores: Float[Array, "levels trials"]
    points: Float[Array, "trials axes"]

    @classmethod
    def empty(cls, places: int, num_levels: int, num_axes: int) -> "Board":
        """Returns the board before the first plan."""
        nothing = jnp.full(places, -1, jnp.int32)
        scores = jnp.full((num_levels, places), jnp.inf, jnp.float32)
        return cls(nothing, nothing, scores, jnp.zeros((places, num_axes), jnp.float32))

    def opened(self, trial_id: Int[Array, " lanes"], level: Int[Array, " lanes"]) -> "Board":
        """Returns the board with these trials asked for; an id beyond the last is nobody's."""
        return self._replace(asked=self.asked.at[trial_id].set(level, mode="drop"))

    def after(self, plan: Plan, trial_id: Int[Array, " lanes"], level: Int[Array, " lanes"], scores: Array) -> "Board":
        """Returns the board with these trials told."""
        return Board(
            asked=self.asked.at[trial_id].set(level, mode="drop"),
            told=self.told.at[trial_id].set(level, mode="drop"),
            scores=self.scores.at[level, trial_id].set(worst_last(scores, plan.active), mode="drop"),
            points=self.points.at[trial_id].set(plan.points, mode="drop"),
        )

    def num_started(self) -> Int[Array, ""]:
        """Returns how many trials have been asked for."""
        return jnp.sum(self.asked >= 0, dtype=jnp.int32)

    def ranks(self) -> Int[Array, "levels trials"]:
        """Returns each trial's rank among those told at a level, from 0; ties by id."""
        trial = jnp.broadcast_to(jnp.arange(len(self.told), dtype=jnp.int32)[None], self.scores.shape)
        return jnp.argsort(jnp.lexsort((trial, self.scores)), axis=1).astype(jnp.int32)


class Choice(NamedTuple):
    """What the board lets a plan be.

    Attributes:
        level: to promote from; -1 for none.
        candidates: the trials of each level that may be promoted at all: told, finite, and not promoted yet.
        ranks: each trial's rank at a level.
        num_new: how many trials may be started.
        is_over: whether nothing is promotable or open, and all trials are started.
    """

    level: Int[Array, ""]
    candidates: Bool[Array, "levels trials"]
    ranks: Int[Array, "levels trials"]
    num_new: Int[Array, ""]
    is_over: Bool[Array, ""]


class Rules(NamedTuple):
    """How plans are chosen.

    Attributes:
        stages: how many trials there are in all, in the search and each time that it was continued.
        budgets: of the levels, rising.
        eta: one in how many is promoted.
        width: the rows of a plan.
    """

    stages: tuple[int, ...]
    budgets: tuple[int, ...]
    eta: int
    width: int

    @property
    def places(self) -> int:
        """The length of a board."""
        return max(self.stages[-1], self.width)

    def choose(self, board: Board) -> Choice:
        """Returns what the next plan may be."""
        level = jnp.arange(len(self.budgets), dtype=jnp.int32)[:, None]
        ranks, at_level = board.ranks(), (board.told[None] == level) & (board.asked[None] == level)
        candidates = at_level & jnp.isfinite(board.scores) & (level < len(self.budgets) - 1)
        quota = jnp.sum(board.told[None] >= level, axis=1, dtype=jnp.int32) // self.eta
        promotable = _count(candidates & (ranks < quota[:, None]))
        left_over = _count(candidates & (ranks < jnp.maximum(quota, 1)[:, None]))

        ends, started = jnp.asarray(self.stages, jnp.int32), board.num_started()
        is_last_resort = jnp.any(started == ends) & ~jnp.any(board.asked > board.told)
        is_stage_over = is_last_resort & ~jnp.any(left_over > 0)
        is_over = is_stage_over & (started == ends[-1])
        end = jnp.min(jnp.where((ends > started) | ((ends == started) & ~is_stage_over), ends, ends[-1]))
        return Choice(
            level=_level_to_promote(promotable, jnp.where(is_last_resort, left_over, 0), self.width),
            candidates=candidates,
            ranks=ranks,
            num_new=end - started,
            is_over=is_over,
        )

    def promoted(self, choice: Choice) -> tuple[Int[Array, " lanes"], Bool[Array, " lanes"]]:
        """Returns the ids of those to promote, rising, and which rows hold one."""
        is_candidate, ranks = choice.candidates[choice.level], choice.ranks[choice.level]
        best = jnp.argsort(jnp.where(is_candidate, ranks, self.places))[: self.width].astype(jnp.int32)
        trial_id = jnp.sort(jnp.where(is_candidate[best], best, self.places))
        return trial_id, trial_id < self.places

    def started(self, board: Board, choice: Choice) -> tuple[Int[Array, " lanes"], Bool[Array, " lanes"]]:
        """Returns the ids of those to start, and which rows hold one."""
        lane = jnp.arange(self.width, dtype=jnp.int32)
        return board.num_started() + lane, lane < choice.num_new

    def level_of(self, plan: Plan) -> tuple[Int[Array, " lanes"], Int[Array, " lanes"]]:
        """Returns the trials of a plan, padding as an id that is nobody's, and their levels."""
        level = jnp.searchsorted(jnp.asarray(self.budgets, jnp.int32), plan.budget).astype(jnp.int32)
        return jnp.where(plan.active, plan.trial_id, self.places), level


def _count(which: Bool[Array, "levels trials"]) -> Int[Array, " levels"]:
    return jnp.sum(which, axis=1, dtype=jnp.int32)


def _level_to_promote(
    promotable: Int[Array, " levels"], left_over: Int[Array, " levels"], width: int
) -> Int[Array, ""]:
    """Returns the highest level that fills a plan, else the lowest with anything left over; -1 for none."""
    level = jnp.arange(len(promotable), dtype=jnp.int32)
    fullest = jnp.max(jnp.where(promotable >= width, level, -1))
    lowest = jnp.min(jnp.where(left_over > 0, level, len(level)))
    return jnp.where((fullest < 0) & (lowest < len(level)), lowest, fullest)


@lru_cache
def _asha(
    axes: tuple[Axis, ...],
    stages: tuple[int, ...],
    epochs: int,
    eta: int,
    least: int | None,
    width: int | None,
    lag: int,
) -> Strategy:
    rules = Rules(stages, budgets_of_levels(epochs, eta, least or 1), eta, width or default_width(stages[0]))

    def init(key: Key[Array, ""]) -> Board:
        return Board.empty(rules.places, len(rules.budgets), len(axes))

    def ask(key: Key[Array, ""], board: Board) -> Plan:
        choice = rules.choose(board)
        promotes = choice.level >= 0
        promoted, started = rules.promoted(choice), rules.started(board, choice)
        trial_id, active = (jnp.where(promotes, old, new) for old, new in zip(promoted, started, strict=True))
        drawn, told = sample_points(key, trial_id, len(axes)), board.points.at[trial_id].get(mode="clip")
        nobody = jnp.full(rules.width, FRESH, jnp.int32)
        return Plan(
            trial_id=jnp.where(active, trial_id, nobody),
            parent=jnp.where(active & promotes, trial_id, nobody),
            points=jnp.where(promotes, told, drawn),
            budget=jnp.full(rules.width, jnp.asarray(rules.budgets, jnp.int32)[choice.level + 1]),
            active=active,
        )

    def opened(board: Board, plan: Plan) -> Board:
        return board.opened(*rules.level_of(plan))

    def tell(board: Board, plan: Plan, scores: Float[Array, " lanes"]) -> Board:
        return board.after(plan, *rules.level_of(plan), scores)

    return Strategy(
        init,
        ask,
        tell,
        done=lambda board: rules.choose(board).is_over,
        max_lanes=rules.width,
        keeps="all",
        lag=lag,
        opened=opened,
    )
