"""Garbage collection is put off for a while, and comes back whatever happens meanwhile."""

import gc

import pytest

from vtune.garbage import collected_later


@pytest.fixture(autouse=True)
def collection_on():
    gc.enable()
    yield
    gc.enable()


def test_it_is_off_within_and_on_after():
    with collected_later():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_comes_back_after_an_error():
    with pytest.raises(RuntimeError, match="within"), collected_later():
        raise RuntimeError("within")
    assert gc.isenabled()


def test_it_stays_off_where_the_user_has_turned_it_off():
    gc.disable()
    with collected_later():
        pass
    assert not gc.isenabled()


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_two_threads_may_put_it_off_in_any_order(first_to_leave):
    entered = [collected_later(), collected_later()]
    for each in entered:
        each.__enter__()
    for each in (entered[first_to_leave], entered[1 - first_to_leave]):
        each.__exit__(None, None, None)
    assert gc.isenabled()
