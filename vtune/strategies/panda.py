"""The rule of the panda, who raises one network and looks at it once a day: what to do tomorrow, and why."""

from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from vtune.protocols import FRESH


class Act(IntEnum):
    """What is done before a day is trained."""

    START = 0
    GO_ON = 1
    UP = 2
    DOWN = 3
    MOMENTUM = 4
    UNDO = 5
    ROLLBACK = 6
    WAIT = 7
    RESTART = 8
    AGAIN = 9


WORDS: dict[Act, tuple[str, str]] = {
    Act.START: ("start", "the first day"),
    Act.GO_ON: ("go on", "nothing calls for a change"),
    Act.UP: ("up", "several good days, or nothing smaller helped: a larger learning rate, kept if the day is better"),
    Act.DOWN: ("down", "a plateau: a smaller learning rate, kept if the day is better"),
    Act.MOMENTUM: ("momentum", "a plateau: more momentum, kept if the day is better"),
    Act.UNDO: ("undo", "the last change did not help: back to the day before it"),
    Act.ROLLBACK: ("rollback", "not finite, or far worse than the best day: back to it, at a smaller learning rate"),
    Act.WAIT: ("wait", "a day without a change after going back"),
    Act.RESTART: ("restart", "the first day once more, at a much smaller learning rate, kept if it is better"),
    Act.AGAIN: ("again", "nothing helps any more: from the first weights again, at another learning rate"),
}
"""For the day book: what each act is called, and why it is done."""

PATIENCE = 4
"""Good days before the learning rate goes up, and days without progress that make a plateau."""

_PROBE = 3
"""How many times the learning rate goes down for the first restart; twice as many for the next."""

_REMEDIES = ((Act.DOWN, 1), (Act.MOMENTUM, 1), (Act.UP, 2), (Act.DOWN, 2))
"""What is tried against a plateau, in turn, and by how many times its factor."""

_REMEDY = -1
"""Stands for the remedy whose turn it is."""

_LARGEST = 6.0
"""The logarithm of the largest factor of a nudge."""

_OTHERS = (1, -1, 2, -2, 3, -3)
"""How many times the learning rate of the best network's first day goes down for those that begin after it."""


class Rules(NamedTuple):
    """By how much the panda changes things.

    Attributes:
        up: times the learning rate, after good days.
        down: times the learning rate, on a plateau and after a day that went wrong.
        has_momentum: whether there is a momentum (or a beta1) to change.
    """

    up: float = 1.25
    down: float = 0.5
    has_momentum: bool = False

    def remedies(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns what is done against plateaus: acts, and the logarithms of the factors of rate and 1 - momentum."""
        sizes = {Act.DOWN: (self.down, 1.0), Act.UP: (self.up, 1.0), Act.MOMENTUM: (1.0, self.down)}
        used = [remedy for remedy in _REMEDIES if self.has_momentum or remedy[0] != Act.MOMENTUM]
        logs = np.log([sizes[act] for act, _ in used]) * [[times] for _, times in used]
        return (np.array([int(act) for act, _ in used], np.int32), *logs.T.astype(np.float32))


DEFAULT_RULES = Rules()
"""Those of Ng's course, as far as it gives numbers; the others are ours."""


class Watch(NamedTuple):
    """What the panda knows, and what it does tomorrow.

    Days are numbered from 0 by who trains them, also those that were undone.

    Attributes:
        day: the number of the day to be trained.
        act: what is done before it.
        origin: the day that it starts from; ``FRESH`` for the first weights.
        like: the day whose hyperparameters it starts from: ``origin``, unless that is fresh.
        rate: the logarithm of the factor by which its learning rate differs from that of the day ``like``.
        momentum: likewise of 1 - momentum.
        best: the lowest score since the first weights.
        best_day: whose it is; ``FRESH`` for nobody's.
        born: the first day since the first weights.
        record: the lowest score of those before: of networks that were given up.
        record_born: the first day of that one.
        given_up: how many networks in a row were given up without a record.
        kept: the lowest score on the way to the day that is gone on from; a day is good if it is below.
        kept_day: its number.
        noise: a running mean of how far from there scores were, above or below, on days without a change that did not
            go wrong.
        good: how many days in a row were better than the one before, since the last nudge; -1 to wait a day.
        bad: how many in a row were not.
        failed: how many in a row went wrong.
        remedy: how many remedies in a row were tried in vain.
        step: logarithm of the factor of the next nudge up; of a restart, of the next one down.
    """

    day: Int[Array, ""]
    act: Int[Array, ""]
    origin: Int[Array, ""]
    like: Int[Array, ""]
    rate: Float[Array, ""]
    momentum: Float[Array, ""]
    best: Float[Array, ""]
    best_day: Int[Array, ""]
    born: Int[Array, ""]
    record: Float[Array, ""]
    record_born: Int[Array, ""]
    given_up: Int[Array, ""]
    kept: Float[Array, ""]
    kept_day: Int[Array, ""]
    noise: Float[Array, ""]
    good: Int[Array, ""]
    bad: Int[Array, ""]
    failed: Int[Array, ""]
    remedy: Int[Array, ""]
    step: Float[Array, ""]


def start() -> Watch:
    """Returns what the panda knows before the first day.

    Example:
        >>> Act(int(start().act)).name
        'START'
    """
    whole = {name: jnp.int32(0) for name in ("day", "act", "good", "bad", "failed", "remedy", "born", "given_up")}
    nobody = {name: jnp.int32(FRESH) for name in ("origin", "like", "best_day", "kept_day", "record_born")}
    nothing = {name: jnp.float32(0) for name in ("rate", "momentum", "noise", "step")}
    unknown = {name: jnp.float32(jnp.inf) for name in ("best", "kept", "record")}
    return Watch(**whole, **nobody, **nothing, **unknown)


class _Day(NamedTuple):
    """How the day went.

    Attributes:
        is_better: than the day that it was compared with.
        has_failed: whether it went wrong.
        probes: whether the first day is being looked for.
        nudged: whether something was changed.
    """

    is_better: Bool[Array, ""]
    has_failed: Bool[Array, ""]
    probes: Bool[Array, ""]
    nudged: Bool[Array, ""]


def decide(watch: Watch, score: Float[Array, ""], rules: Rules = DEFAULT_RULES) -> tuple[Array, Watch]:
    """Returns what is done before the next day, and what is known by then.

    Args:
        watch: as it was when the day began.
        score: what the day came to; lower is better.
        rules: by how much things are changed.

    Example:
        >>> act, watch = decide(start(), jnp.float32(2.3))
        >>> Act(int(act)).name, round(float(jnp.exp(watch.rate)), 3)
        ('RESTART', 0.125)
    """
    score = jnp.asarray(score, jnp.float32)
    day = _judged(watch, score)
    watch = _ahead(_taken_in(watch, score, day), day, rules)
    return watch.act, watch


def _is(watch: Watch, *acts: Act) -> Bool[Array, ""]:
    return jnp.any(jnp.stack([watch.act == int(act) for act in acts]))


def _judged(watch: Watch, score: Float[Array, ""]) -> _Day:
    is_finite = jnp.isfinite(score)
    most = (watch.best + 2 * watch.noise) + watch.noise
    is_lost = (watch.noise > 0) & (score > most) & (watch.best_day != FRESH)
    probes = _is(watch, Act.START, Act.RESTART)
    nudged = _is(watch, Act.UP, Act.DOWN, Act.MOMENTUM)
    return _Day(is_finite & (score < watch.kept), ~is_finite | (is_lost & ~probes), probes, nudged)


def _taken_in(watch: Watch, score: Float[Array, ""], day: _Day) -> Watch:
    """Returns the watch with the day in it."""
    is_trial = day.nudged | day.probes
    is_best, is_kept = ~day.has_failed & (score < watch.best), day.is_better | ~(day.has_failed | is_trial)
    is_ordinary = ~(day.has_failed | is_trial) & jnp.isfinite(watch.kept)
    moved = jnp.where(is_ordinary, jnp.abs(score - watch.kept), 0)
    noise = jnp.where(watch.noise > 0, watch.noise + (moved - watch.noise) / 4, moved)
    return watch._replace(
        best=jnp.where(is_best, score, watch.best),
        best_day=jnp.where(is_best, watch.day, watch.best_day),
        kept=jnp.where(is_kept, jnp.minimum(score, watch.kept), watch.kept),
        kept_day=jnp.where(is_kept, watch.day, watch.kept_day),
        noise=jnp.where(moved > 0, noise, watch.noise),
        good=jnp.where(day.is_better, jnp.where(is_trial, 1, watch.good + 1), 0),
        bad=jnp.where(day.is_better | is_trial, 0, watch.bad + 1),
        failed=jnp.where(day.has_failed, watch.failed + 1, jnp.where(day.is_better, 0, watch.failed)),
        remedy=jnp.where(day.is_better, 0, watch.remedy),
    )


def _ahead(watch: Watch, day: _Day, rules: Rules) -> Watch:
    """Returns the watch with what is done before the next day."""
    up, down = (jnp.float32(np.log(factor)) for factor in (rules.up, rules.down))
    acts, rates, momenta = (jnp.asarray(column) for column in rules.remedies())
    remedy = jnp.minimum(watch.remedy, len(acts) - 1)
    doubled = jnp.minimum(2 * jnp.abs(watch.step), _LARGEST)
    probe = jnp.where(_is(watch, Act.START), _PROBE * down, -doubled)
    step = jnp.where(_is(watch, Act.UP) & day.is_better, doubled, jnp.where(day.nudged | day.probes, up, watch.step))
    halvings = down * jnp.asarray([1, 1, 2, 4, 8], jnp.float32)[jnp.minimum(watch.failed, 4)]
    is_stuck = ~day.is_better & (day.nudged | (watch.bad >= PATIENCE))
    is_over = is_stuck & (watch.remedy == len(acts))
    like_best = watch.record_born == FRESH
    is_record = watch.best < watch.record
    record_born, given_up = (
        jnp.where(is_record, watch.born, watch.record_born),
        jnp.where(is_record, 0, watch.given_up + 1),
    )
    others = down * jnp.asarray(_OTHERS, jnp.float32)[given_up % len(_OTHERS)]
    still, fresh = jnp.float32(0), jnp.int32(FRESH)
    here, best = watch.kept_day, watch.best_day
    chosen = {  # the first that holds
        Act.RESTART: (day.probes & (day.is_better | (best == FRESH)), fresh, watch.day, probe),
        Act.UNDO: (~day.is_better & (day.probes | (_is(watch, Act.UP) & (watch.remedy == 0))), here, here, still),
        Act.ROLLBACK: (day.has_failed & ~day.nudged & ~is_over, best, best, halvings),
        Act.AGAIN: (is_over, fresh, jnp.where(like_best, best, record_born), jnp.where(like_best, still, others)),
        _REMEDY: (is_stuck, best, best, rates[remedy]),
        Act.WAIT: (_is(watch, Act.ROLLBACK), here, here, still),
        Act.UP: (watch.good >= PATIENCE, here, here, step),
        Act.GO_ON: (jnp.bool_(True), here, here, still),
    }
    conditions, origins, likes, changes = (list(column) for column in zip(*chosen.values(), strict=True))
    act = jnp.select(conditions, [acts[remedy] if act == _REMEDY else jnp.int32(int(act)) for act in chosen])
    cures = jnp.select(conditions, [jnp.int32(act == _REMEDY) for act in chosen])
    ahead = watch._replace(
        day=watch.day + 1,
        act=act,
        origin=jnp.select(conditions, origins),
        like=jnp.select(conditions, likes),
        rate=jnp.select(conditions, changes),
        momentum=jnp.where(cures > 0, momenta[remedy], still),
        step=jnp.where(act == int(Act.RESTART), probe, step),
        remedy=watch.remedy + cures,
    )
    anew = start()._replace(
        **{name: getattr(ahead, name) for name in ("day", "act", "origin", "like", "rate", "momentum")},
        born=ahead.day,
        record=jnp.minimum(watch.record, watch.best),
        record_born=record_born,
        given_up=given_up,
    )
    return jax.tree.map(lambda new, old: jnp.where(act == int(Act.AGAIN), new, old), anew, ahead)


def offers(watch: Watch, lanes: int, rules: Rules = DEFAULT_RULES) -> Watch:
    """Returns the watch as it is, and in further rows with what else could be done from the same day.

    Args:
        watch: one, as ``decide`` returns it.
        lanes: how many rows.
        rules: by how much things are changed.

    Example:
        >>> [Act(act).name for act in offers(start(), 3).act.tolist()]
        ['START', 'UP', 'DOWN']
    """
    up, down = float(np.log(rules.up)), float(np.log(rules.down))
    kinds = [(Act.UP, up), (Act.DOWN, down)]
    others = [(kinds[place % 2][0], kinds[place % 2][1] * (1 + place // 2)) for place in range(lanes - 1)]
    acts = np.array([0, *(int(act) for act, _ in others)], np.int32)
    rates = np.array([0, *(rate for _, rate in others)], np.float32)
    rows, is_own = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (lanes,)), watch), np.arange(lanes) == 0
    return rows._replace(
        act=jnp.where(is_own, rows.act, acts),
        rate=jnp.where(is_own | (rows.origin == FRESH), rows.rate, 0) + rates,
        momentum=jnp.where(is_own, rows.momentum, 0),
    )


def going_on(watch: Watch, day: Int[Array, ""]) -> Watch:
    """Returns the watch of a day that goes on from another, whatever the rule says."""
    whole, zero = jnp.zeros_like(watch.day), jnp.zeros_like(watch.rate)
    return watch._replace(act=whole + int(Act.GO_ON), origin=whole + day, like=whole + day, rate=zero, momentum=zero)
