"""One network in the hand: train it a day, look at it, nudge it, go back; or let the panda's rule do so."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array
from jaxtyping import Float

from vtune.arguments import check_count
from vtune.defaults import DEFAULTS, FLOAT32_MAX, did_you_mean, is_number
from vtune.keys import seed_words
from vtune.parameters import loguniform
from vtune.protocols import FRESH, ChunkResult, Leg, Training
from vtune.results.summary import format_value
from vtune.space import Space
from vtune.strategies import panda
from vtune.strategies.panda import DEFAULT_RULES, WORDS, Act, Rules, Watch
from vtune.training.devices import Device, kind_of, own
from vtune.training.losses import RowLoss
from vtune.training.networks import ModelFn
from vtune.training.optimizers import Optimizer
from vtune.training.setup import EXECUTORS, make_job, make_parts
from vtune.training.trained import trained_module

AVERAGES = ("momentum", "beta1", "beta2")
"""The hyperparameters that are nudged in 1 - value: it is 1 / (1 - value) steps that they average over."""

_RANGE = 1e6
"""How far a learning rate may go that is written as a plain value, up and down."""


class Entry(NamedTuple):
    """A day in the book.

    Attributes:
        number: of the day, from 0.
        origin: the day that it started from; ``FRESH`` for the first weights.
        row: its hyperparameters, a value for every name.
        legs: how its network comes about.
        curves: of its own epochs: train_loss, loss, and the metric.
        score: of its last epoch, as strategies know it; NaN where it diverged.
        act: what was done before it, in a word.
        why: for what reason.
    """

    number: int
    origin: int
    row: Mapping[str, Any]
    legs: tuple[Leg, ...]
    curves: Float[np.ndarray, "epochs metrics"]
    score: float
    act: str
    why: str


class Wish(NamedTuple):
    """A day that is to be trained: see ``Entry``."""

    origin: int
    row: Mapping[str, Any]
    act: str
    why: str


class Sitter:
    """One network that is looked after from day to day, as a panda raises its single cub.

    A day is a few epochs. Each is trained as a trial of a search is that starts from another's weights: what comes out
    depends on the seed and on the hyperparameters of the days that led to it, and on nothing else. So any day can be
    gone back to, and its network had again, to the same bits.

    Source: A. Ng, "Improving Deep Neural Networks" (deeplearning.ai), week 3, "Hyperparameters tuning in practice:
    pandas vs. caviar".

    Args:
        model_fn: as for ``vtune.search``.
        space: names to parameter types, whose bounds a nudge does not leave, or plain values. A learning rate that is
            a plain value may go a million times up and down.
        data: as for ``vtune.search``.
        start: hyperparameters of the first day; what is left out takes its default, or the middle of its range.
        day: how many epochs a day has.
        optimizer: as for ``vtune.search``; so are the following.
        loss: what is minimised.
        metric: what days are compared by.
        direction: of a metric that is a function.
        seed: of the split, the initial weights and the data order.
        devices: to train on.
        ladder: of a search, or another sitter, for days that can be compared with theirs bit for bit.
        matmul_precision: of matrix products.

    Raises:
        TypeError: for an argument of a wrong type.
        ValueError: for what cannot be trained; always before anything is compiled.

    Example:
        >>> import vtune
        >>> sitter = Sitter(vtune.MLP, {"learning_rate": vtune.loguniform(1e-4, 1.0), "hidden": 8, "layers": 1})
        >>> day = sitter.day()
        >>> sitter.nudge(learning_rate=2)
        >>> sitter.day().act, sitter.book["learning_rate"].tolist()
        ('nudge', [0.001..., 0.002...])
    """

    def __init__(
        self,
        model_fn: ModelFn,
        space: Space | Mapping[str, Any],
        data: Any = None,
        *,
        start: Mapping[str, Any] | None = None,
        day: int = 1,
        optimizer: str | Optimizer = "adam",
        loss: str | RowLoss = "auto",
        metric: str | RowLoss = "auto",
        direction: str = "auto",
        seed: int = 0,
        devices: int | Sequence[Device] | None = None,
        ladder: str = "auto",
        matmul_precision: str | None = None,
    ):
        check_count("day", day, least=1, example=1)
        check_count("seed", seed, least=0, example=0)
        written = _with_rate(Space.of(space))
        make_executor, find_devices = EXECUTORS["queue"]
        used = find_devices(devices)
        self.parts = make_parts(
            model_fn, written, data, optimizer=optimizer, loss=loss, metric=metric, direction=direction, seed=seed,
            matmul_precision=matmul_precision,
        )  # fmt: skip
        kind, root = kind_of(own(used)), seed_words(seed)
        self.job = make_job(self.parts, root=root, trials=1, epochs=day, kind=kind, chunk=1, ladder=ladder)
        self.executor = make_executor(self.job, used)
        self.epochs_per_day = day
        self.entries: list[Entry] = []
        self._watch = panda.start()
        given = {name: Space.of(space).fixed[name] for name in ("learning_rate",) if name in Space.of(space).fixed}
        self._ahead = Wish(FRESH, self._first_row({**given, **(start or {})}), *WORDS[Act.START])

    # By hand

    def day(self) -> Entry:
        """Trains one day, and returns what the book has on it.

        Raises:
            ValueError: for a day that diverged already, from the same weights and with the same hyperparameters.
        """
        return self._day(DEFAULT_RULES)

    def _day(self, rules: Rules) -> Entry:
        ahead = self._ahead
        self._check_not_again(ahead)
        before = self._before(ahead)
        (entry,) = self._train([ahead])
        change = math.log(ahead.row["learning_rate"] / before["learning_rate"]) if ahead.act == _NUDGE else 0.0
        act = (
            (Act.UP if change > 0 else Act.DOWN) if change else (Act.GO_ON if self._watch.kept_day >= 0 else Act.START)
        )
        self._watch = self._watch._replace(act=jnp.int32(int(act)))
        self._look_at(entry, rules)
        return entry

    def nudge(self, **factors: float | int) -> None:
        """Multiplies hyperparameters from tomorrow on; momentum and betas as 1 - value, so that 0.5 doubles a window.

        What would leave the bounds that the space gives stops there, and the book says so.

        Args:
            factors: by name, ``learning_rate=1.25``.

        Raises:
            ValueError: for a name that the network does not use, or that is structure, and a factor that is not
                positive.
        """
        row, notes = dict(self._ahead.row), []
        for name, factor in factors.items():
            self._check_nudge(name, factor)
            row[name], note = self._moved(name, row[name], math.log(factor))
            notes += [note] * bool(note)
        told = ", ".join(f"{_what(name)} x {factor:g}" for name, factor in factors.items())
        earlier = [self._ahead.why] if self._ahead.act in (_NUDGE, _ROLLBACK) else []
        self._ahead = self._ahead._replace(row=row, act=_NUDGE, why="; ".join([*earlier, f"by hand: {told}", *notes]))

    def rollback(self, day: int | None = None) -> None:
        """Goes back: tomorrow starts from the end of a day before, with its hyperparameters.

        Args:
            day: its number; the best one where it is left out.

        Raises:
            ValueError: for a day that there is not, or that diverged.
        """
        entry = self._best if day is None else self._entry(day)
        if not math.isfinite(entry.score):
            raise ValueError(f"rollback({day}): that day diverged, so nothing can go on from it. Write rollback().")
        why = f"by hand: {'the best day' if day is None else 'a day of your choice'}"
        self._stand_on(entry, Wish(entry.number, entry.row, _ROLLBACK, why))

    # By the rule

    def run(self, days: int, look_ahead: int = 1, up: float | int = 1.25, down: float = 0.5) -> pd.DataFrame:
        """Lets the panda's rule decide for some days, and returns what the book has on them.

        What was nudged by hand is the first of these days, and the rule goes on from there.

        Args:
            days: how many; with ``look_ahead`` each is trained in so many ways.
            look_ahead: in how many ways a day is tried: as the rule says, then with a larger and a smaller learning
                rate, and so on. It goes on from the best of them.
            up: times the learning rate, after good days.
            down: times the learning rate, where it does not get better.

        Raises:
            ValueError: for numbers below 1, and a nudge that diverged already.
        """
        check_count("days", days, least=1, example=20)
        check_count("look_ahead", look_ahead, least=1, example=3)
        first = len(self.entries)
        row = self._ahead.row
        rules = Rules(float(up), float(down), has_momentum=any(name in self._used(row) for name in AVERAGES[:2]))
        if self._ahead.act == _NUDGE:
            self._day(rules)
            days -= 1
        for _ in range(days):
            lanes = 1 if self._watch.kept_day < 0 else look_ahead
            offers = panda.offers(self._watch, lanes, rules)
            trained = self._train([self._wish(_row(offers, lane)) for lane in range(lanes)])
            scores = np.array([entry.score for entry in trained])
            best = int(np.argmin(np.where(np.isfinite(scores), scores, np.inf)))
            self._watch = _row(offers, best)
            self._look_at(trained[best], rules)
        return self.book.loc[first:]

    def _wish(self, watch: Watch) -> Wish:
        """Returns the day that the rule asks for."""
        act, origin, like = Act(int(watch.act)), int(watch.origin), int(watch.like)
        if act == Act.START:
            return self._ahead
        word, why = WORDS[act]
        row, notes = dict(self.entries[max(like, 0)].row), []
        changes = {"learning_rate": float(watch.rate)} | dict.fromkeys(AVERAGES[:2], float(watch.momentum))
        for name in changes.keys() & self._used(row):
            row[name], note = self._moved(name, row[name], changes[name])
            notes += [note] * bool(note)
        return Wish(origin, row, word, "; ".join([why, *notes]))

    def _look_at(self, entry: Entry, rules: Rules = DEFAULT_RULES) -> None:
        """Lets the rule see a day, and stands on it."""
        watch = self._watch._replace(day=jnp.int32(entry.number))
        _, watch = panda.decide(watch, jnp.float32(entry.score), rules)
        self._watch = watch._replace(day=jnp.int32(len(self.entries)))
        origin = entry.number if math.isfinite(entry.score) else entry.origin  # nothing goes on from what diverged
        self._ahead = Wish(origin, entry.row, *WORDS[Act.GO_ON])

    def _stand_on(self, entry: Entry, ahead: Wish) -> None:
        """Goes on from a day, as does the rule."""
        here, still = jnp.int32(entry.number), jnp.float32(0)
        go_on = {"act": jnp.int32(int(Act.GO_ON)), "origin": here, "like": here, "rate": still, "momentum": still}
        counts = dict.fromkeys(("good", "bad", "failed", "remedy"), jnp.int32(0))
        self._watch = self._watch._replace(**go_on, **counts, kept=jnp.float32(entry.score), kept_day=here)
        self._ahead = ahead

    # What came out

    @property
    def book(self) -> pd.DataFrame:
        """The day book: a row a day.

        ``from`` is the day that it started from (missing for the first weights), ``epochs`` how many the network has
        had at its end; then what its last epoch came to, what was done and why, and each hyperparameter that was ever
        changed, with what it was the day before (``learning_rate_before``).
        """
        rows = [self._told(entry) for entry in self.entries]
        columns = {"from": "Int64", "epochs": "int64"}
        frame = pd.DataFrame(rows, columns=self._columns).rename_axis("day")
        return frame.astype(columns)

    @property
    def ladder(self) -> str:
        """The ladder as JSON: days are those of a search bit for bit where it is the same."""
        return self.job.ladder.to_json()

    @property
    def best_params(self) -> dict[str, Any]:
        """The hyperparameters of the best day, as far as the network uses them.

        Raises:
            ValueError: where no day has a score.
        """
        return self._used(self._best.row)

    @property
    def best_day(self) -> int:
        """The number of the best day.

        Raises:
            ValueError: where no day has a score.
        """
        return self._best.number

    @property
    def model(self) -> Callable[[Any], Array]:
        """The network as it stands: at the end of the day that tomorrow starts from.

        Raises:
            ValueError: before the first day, and where that diverged.
        """
        if self.entries and self._ahead.origin == FRESH:
            raise ValueError(
                "the first day diverged, so there is no network yet. Write nudge(learning_rate=0.1), day()."
            )
        return self._model(self._entry(self._ahead.origin))

    @property
    def best_model(self) -> Callable[[Any], Array]:
        """The network at the end of the best day.

        Raises:
            ValueError: where no day has a score.
        """
        return self._model(self._best)

    def __repr__(self) -> str:
        """The book."""
        return self._shown().to_string(na_rep="-") if self.entries else "no day yet: write sitter.day()"

    def _repr_html_(self) -> str:
        return self._shown().to_html(na_rep="-") if self.entries else "<p>no day yet: write sitter.day()</p>"

    def _shown(self) -> pd.DataFrame:
        return self.book.map(format_value)

    def _model(self, entry: Entry) -> Callable[[Any], Array]:
        return trained_module(self.executor, self.job, Training(entry.legs))

    @property
    def _best(self) -> Entry:
        finite = [entry for entry in self.entries if math.isfinite(entry.score)]
        if not finite:
            raise ValueError("no day has a finite score yet, so none is the best. Write sitter.day().")
        return min(finite, key=lambda entry: (entry.score, entry.number))

    def _entry(self, day: int) -> Entry:
        if not 0 <= day < len(self.entries):
            known = f"days 0 to {len(self.entries) - 1}" if self.entries else "no day yet; write sitter.day()"
            raise ValueError(f"day {day}: the book has {known}.")
        return self.entries[day]

    # Training

    def _check_not_again(self, ahead: Wish) -> None:
        for entry in self.entries:
            if (entry.origin, entry.row) == (ahead.origin, ahead.row) and not math.isfinite(entry.score):
                raise ValueError(
                    f"day(): day {entry.number} started from the same weights with the same hyperparameters, and "
                    "diverged. Write nudge(learning_rate=0.1), or rollback()."
                )

    def _train(self, wishes: Sequence[Wish]) -> list[Entry]:
        """Trains days side by side, and puts them into the book."""
        first = len(self.entries)
        legs = [self._legs(first + place, wish) for place, wish in enumerate(wishes)]
        curves: dict[int, np.ndarray] = {}

        def record(done: ChunkResult) -> None:
            for training, curve in zip(done.chunk.trainings, done.curves, strict=True):
                curves[training.trial_id] = curve.astype(np.float64)

        self.executor.train([Training(leg, is_kept=True) for leg in legs], record)
        new = [
            Entry(number, wish.origin, wish.row, leg, curves[number], self._score(curves[number]), wish.act, wish.why)
            for number, (wish, leg) in enumerate(zip(wishes, legs, strict=True), start=first)
        ]
        self.entries += new
        return new

    def _legs(self, number: int, wish: Wish) -> tuple[Leg, ...]:
        before = self._entry(wish.origin).legs if wish.origin != FRESH else ()
        start = before[-1].until if before else 0
        return (*before, Leg(number, self.parts.usage.complete(self._used(wish.row)), start + self.epochs_per_day))

    def _score(self, curves: np.ndarray) -> float:
        objective = self.parts.objective
        return objective.to_strategy(*objective.outcome(curves), len(self.parts.data.valid[0]))

    def _used(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return self.parts.usage.used(row)

    def _first_row(self, start: Mapping[str, Any]) -> dict[str, Any]:
        space = self.parts.space
        (row,) = space.rows(np.array([[axis.default for axis in space.axes]]))
        defaults = {
            name: DEFAULTS[name]
            for name, parameter in space.parameters.items()
            if name in DEFAULTS and DEFAULTS[name] in parameter
        }
        return {**row, **space.nearest(defaults), **space.nearest(start)}

    # Hyperparameters

    def _moved(self, name: str, value: Any, change: float) -> tuple[Any, str]:
        """Returns a value after a change of its logarithm, or of that of 1 - value, and a note where it met a bound."""
        if change == 0:
            return value, ""
        factor = math.exp(change)
        wanted = 1 - (1 - value) * factor if name in AVERAGES else value * factor
        low, high = self._bounds(name)
        clamped = float(np.float32(min(max(wanted, low), high)))
        return clamped, f"{name} stops at {clamped:g}" if not low <= wanted <= high else ""

    def _bounds(self, name: str) -> tuple[float, float]:
        if name in self.parts.space.parameters:
            low, high = self.parts.space.support(name)
            return float(low), float(high)
        return (0.0, float(np.nextafter(np.float32(1), np.float32(0)))) if name in AVERAGES else (0.0, FLOAT32_MAX)

    @property
    def _nudgeable(self) -> list[str]:
        """The hyperparameters that are numbers to a program, and no sizes of weights or batches."""
        used, traced = self._used(self._ahead.row), dict(self.parts.findings.traced)
        return [name for name in used if name in traced and name not in self.parts.inherited]

    def _check_nudge(self, name: str, factor: Any) -> None:
        used, call = self._used(self._ahead.row), f"nudge({name}={factor!r})"
        if name not in used:
            raise ValueError(f"{call}: the network does not use it; {did_you_mean(name, self._nudgeable)}")
        if name not in self._nudgeable:
            raise ValueError(
                f"{call}: {name!r} is structure, which weights and programs have the shape of, so it stays as it is. "
                f"Write a new Sitter with start={{{name!r}: ...}}."
            )
        if not (is_number(factor) and 0 < factor < math.inf):
            raise ValueError(f"{call}: a factor is a number above 0. Write nudge({name}=1.25).")

    # The book

    @property
    def _columns(self) -> list[str]:
        metrics = ("train_loss", "loss", *(metric.name for metric in self.parts.objective.metrics))
        changed = [column for name in self._changed for column in (name, f"{name}_before")]
        return ["from", "epochs", *metrics, "act", "why", *changed]

    @property
    def _changed(self) -> list[str]:
        rows = [entry.row for entry in self.entries]
        return [
            name for name in self.parts.space.entries if name == "learning_rate" or len({row[name] for row in rows}) > 1
        ]

    def _told(self, entry: Entry) -> dict[str, Any]:
        last = dict(zip(self._columns[2:], entry.curves[-1].tolist(), strict=False))
        before = self._before(entry) if entry.origin != FRESH else {}
        values = {name: entry.row[name] for name in self._changed}
        were = {f"{name}_before": before.get(name) for name in self._changed}
        origin = None if entry.origin == FRESH else entry.origin
        return (
            {"from": origin, "epochs": entry.legs[-1].until, "act": entry.act, "why": entry.why} | last | values | were
        )

    def _before(self, day: Wish | Entry) -> Mapping[str, Any]:
        return self.entries[day.origin].row if day.origin != FRESH else day.row


_NUDGE, _ROLLBACK = "nudge", "rollback"


def _row(watches: Watch, lane: int) -> Watch:
    return jax.tree.map(lambda leaf: leaf[lane], watches)


def _what(name: str) -> str:
    return f"1 - {name}" if name in AVERAGES else name


def _with_rate(space: Space) -> Space:
    """Returns the space with a range around a learning rate that is a plain value, or left out."""
    if "learning_rate" in space.parameters:
        return space
    value: Any = space.fixed.get("learning_rate", DEFAULTS["learning_rate"])
    return Space.of({**space.written, "learning_rate": loguniform(value / _RANGE, value * _RANGE)})
