"""One network in the hand: every day is that of a search, bit for bit, and can be gone back to."""

import jax.numpy as jnp
import numpy as np
import pytest

import vtune
from tests.laws.population import digits
from vtune.protocols import FRESH, Plan, Strategy

SPACE = {"learning_rate": vtune.loguniform(1e-3, 1.0), "momentum": 0.9, "hidden": 8, "layers": 1}
DATA = digits(128, 60)


def sitter(space=SPACE, **others):
    return vtune.Sitter(vtune.MLP, space, DATA, **{"optimizer": "momentum", "devices": 1, **others})


@pytest.fixture(scope="module")
def raised():
    ours = sitter(start={"learning_rate": 0.05})
    ours.day()
    ours.nudge(learning_rate=2, momentum=0.5)
    ours.day()
    ours.rollback(0)
    ours.nudge(learning_rate=0.5)
    ours.day()
    ours.run(6)
    return ours


def test_the_book_tells_each_day_with_what_was_changed_and_why(raised):
    book = raised.book
    assert book["act"].tolist()[:3] == ["start", "nudge", "nudge"]
    assert book["from"].isna().tolist()[:3] == [True, False, False]
    assert book["from"].tolist()[1:3] == [0, 0]
    assert book["epochs"].tolist()[:3] == [1, 2, 2]
    np.testing.assert_allclose(book["learning_rate"][:3], [0.05, 0.1, 0.025], rtol=1e-6)
    np.testing.assert_allclose(book["learning_rate_before"][1:3], [0.05, 0.05], rtol=1e-6)
    np.testing.assert_allclose(book["momentum"][:3], [0.9, 0.95, 0.9], rtol=1e-6)
    assert book["why"][1] == "by hand: learning_rate x 2, 1 - momentum x 0.5"
    assert {"train_loss", "loss", "accuracy"} < set(book.columns)
    assert len(book) == 9


def test_it_prints_the_book(raised):
    assert "by hand: learning_rate x 2" in repr(raised)
    assert raised._repr_html_().startswith("<table")
    assert "no day yet" in repr(sitter())


def test_every_day_is_that_of_a_search_with_the_same_lineage():
    space = vtune.Space.of({**SPACE, "momentum": vtune.reverse_loguniform(0.5, 0.99)})
    points = np.array([[0.5, 0.5], [0.7, 0.8], [0.5, 0.5]], np.float32)
    first, second, _ = space.rows(points)
    ours = sitter(space, start={name: first[name] for name in ("learning_rate", "momentum")})
    ours.day()
    averages = (1 - second["momentum"]) / (1 - first["momentum"])
    ours.nudge(learning_rate=second["learning_rate"] / first["learning_rate"], momentum=averages)
    ours.day()
    ours.rollback(0)
    ours.day()
    study = vtune.search(
        vtune.MLP, ours.parts.written, DATA, strategy=told_by(ours, points), trials=3, epochs=2, optimizer="momentum",
        finalists=0, devices=1, ladder=ours.ladder, progress=False,
    )  # fmt: skip
    for entry in ours.entries:
        assert study.trial(entry.number).params == {name: entry.row[name] for name in space.entries}
        np.testing.assert_array_equal(study.trial(entry.number).curves[entry.legs[-1].until - 1 :], entry.curves)


def told_by(ours, points):
    """A strategy whose plans are the sitter's days."""

    def factory(axes, *, trials, epochs, earlier=()):
        parents = jnp.array([entry.origin for entry in ours.entries], jnp.int32)
        budgets = jnp.array([entry.legs[-1].until for entry in ours.entries], jnp.int32)

        def ask(key, day):
            at = jnp.minimum(day, trials - 1)[None]
            return Plan(at, parents[at], jnp.asarray(points)[at], budgets[at], jnp.full(1, day < trials))

        return Strategy(
            init=lambda key: jnp.zeros((), jnp.int32),
            ask=ask,
            tell=lambda day, plan, scores: day + 1,
            done=lambda day: day >= trials,
            max_lanes=1,
            keeps="all",
        )

    return factory


def test_a_day_that_is_trained_again_is_the_same(raised):
    first = raised.entries[1]
    raised.rollback(0)
    raised.nudge(learning_rate=2, momentum=0.5)
    np.testing.assert_array_equal(raised.day().curves, first.curves)


def test_models_are_those_of_the_book(raised):
    x, y = raised.parts.data.valid
    best = raised.entries[raised.best_day]
    assert float(jnp.mean(jnp.argmax(raised.best_model(x), axis=-1) == y)) == pytest.approx(best.curves[-1, -1])
    last = raised.entries[-1]
    assert float(jnp.mean(jnp.argmax(raised.model(x), axis=-1) == y)) == pytest.approx(last.curves[-1, -1])
    assert raised.best_params["learning_rate"] == best.row["learning_rate"]


def test_a_nudge_stops_at_the_bounds_and_the_book_says_so():
    ours = sitter()
    ours.nudge(learning_rate=1e6)
    assert ours.day().why == "by hand: learning_rate x 1e+06; learning_rate stops at 1"
    assert ours.book["learning_rate"][0] == 1.0


def test_a_plain_learning_rate_is_where_it_starts():
    ours = sitter({"learning_rate": 0.25, "hidden": 8, "layers": 1})
    assert ours.day().row["learning_rate"] == 0.25
    assert ours.day().origin == 0


def test_looking_ahead_trains_a_day_in_several_ways_and_goes_on_from_the_best():
    ours = sitter()
    book = ours.run(3, look_ahead=3)
    assert len(book) == 1 + 3 + 3
    assert book["from"].isna()[0]
    assert ours.entries[0].origin == FRESH
    assert len(set(book["from"][4:7])) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ours: ours.nudge(hidden=2), r"'hidden' is structure.* Write a new Sitter"),
        (lambda ours: ours.nudge(beta1=0.5), r"beta1=0.5.*does not use it; write one of"),
        (lambda ours: ours.nudge(learning_rat=2), "did you mean 'learning_rate'"),
        (
            lambda ours: ours.nudge(learning_rate=-1),
            r"a factor is a number above 0\. Write nudge\(learning_rate=1.25\)",
        ),
        (lambda ours: ours.rollback(), "no day has a finite score yet"),
        (lambda ours: ours.rollback(3), "day 3: the book has no day yet"),
        (lambda ours: ours.model, "no day yet"),
        (lambda ours: ours.run(0), "days=0"),
        (lambda ours: sitter(day=0), "day=0"),
        (lambda ours: sitter(start={"hidden": 16}), "outside the space"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(sitter())


def test_what_was_nudged_by_hand_is_the_first_day_of_a_run():
    ours, alone = (sitter(start={"learning_rate": 0.05}) for _ in range(2))
    for each in (ours, alone):
        each.day()
        each.nudge(learning_rate=2)
        each.nudge(momentum=0.5)
    alone.day()
    book = ours.run(3)
    assert len(book) == 3
    assert book["act"].tolist()[0] == "nudge"
    assert book["why"][1] == "by hand: learning_rate x 2; by hand: 1 - momentum x 0.5"
    np.testing.assert_allclose(book["learning_rate"][1], 0.1, rtol=1e-6)
    np.testing.assert_array_equal(ours.entries[1].curves, alone.entries[1].curves)


def test_one_may_go_back_and_nudge_and_let_it_run():
    ours = sitter(start={"learning_rate": 0.05})
    ours.run(3)
    ours.rollback(0)
    ours.nudge(learning_rate=0.1)
    book = ours.run(2)
    assert book["from"].tolist()[0] == 0
    assert book["why"][3] == "by hand: a day of your choice; by hand: learning_rate x 0.1"
    np.testing.assert_allclose(book["learning_rate"][3], 0.005, rtol=1e-6)


@pytest.mark.parametrize("by_rule", [False, True])
def test_after_a_first_day_that_diverged_the_network_starts_afresh(by_rule):
    ours = sitter({**SPACE, "learning_rate": vtune.loguniform(1e-3, 1e30)}, start={"learning_rate": 1e25})
    assert np.isnan(ours.day().score)
    with pytest.raises(ValueError, match=r"day\(\): day 0 started from the same weights .*diverged\. Write nudge"):
        ours.day()
    with pytest.raises(ValueError, match=r"the first day diverged, so there is no network yet\. Write nudge"):
        _ = ours.model
    ours.nudge(learning_rate=1e-26)
    if by_rule:
        ours.run(2)
    else:
        ours.day()
    assert ours.entries[1].origin == FRESH
    assert np.isfinite(ours.entries[1].score)


def test_a_day_that_diverged_cannot_be_gone_back_to():
    ours = sitter({**SPACE, "learning_rate": vtune.loguniform(1e-3, 1e30)})
    ours.day()
    ours.nudge(learning_rate=1e30)
    assert np.isnan(ours.day().score)
    with pytest.raises(ValueError, match=r"rollback\(1\): that day diverged"):
        ours.rollback(1)
    ours.rollback()
    assert np.isfinite(ours.day().score)
