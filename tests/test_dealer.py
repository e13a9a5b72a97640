"""Every chunk is dealt once, whoever asks when; and to whom saves compilations."""

import random
import threading
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from vtune.protocols import Chunk, Leg, Rung, Training
from vtune.training.cost import cost_table
from vtune.training.dealer import Dealer
from vtune.training.devices import DeviceKind
from vtune.training.places import OneDevice

TABLE = cost_table(DeviceKind("cpu", "cpu"))
DEVICES = (OneDevice("first"), OneDevice("second"))


class FakeProgram(NamedTuple):
    compiled_for: set
    epoch_seconds: float | None
    compile_seconds: float | None
    state_bytes: int = 1 << 20

    def is_compiled_for(self, device):
        return device in self.compiled_for


def chunks_of(*counts, budget=10):
    rungs = [Rung((("hidden", 16 * (place + 1)),), (), 1, 32, True, True) for place in range(len(counts))]
    return [
        Chunk(rung, (Training((Leg(0, {}, budget),)),))
        for rung, count in zip(rungs, counts, strict=True)
        for _ in range(count)
    ]


def dealer_of(chunks, programs=None, devices=DEVICES):
    known = programs or {chunk.rung: FakeProgram(set(), None, None) for chunk in chunks}
    return Dealer(chunks, devices, known.__getitem__, TABLE, num_rows=1000)


@given(
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    compiled=st.lists(st.sets(st.sampled_from([*DEVICES, OneDevice("of another study")])), min_size=5, max_size=5),
    seconds=st.sampled_from([None, 1e-6, 10.0]),
    devices=st.sampled_from([DEVICES, DEVICES[:1], DEVICES[:1] * 2, (*DEVICES, DEVICES[0])]),
    helped=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_chunk_is_dealt_exactly_once(counts, compiled, seconds, devices, helped, seed):
    chunks = chunks_of(*counts)
    rungs = list(dict.fromkeys(chunk.rung for chunk in chunks))
    programs = {rung: FakeProgram(have, seconds, 1.0) for rung, have in zip(rungs, compiled, strict=False)}
    dealer, asking, dealt = dealer_of(chunks, programs, devices), list(devices), []
    turns = random.Random(seed)
    while asking:
        device = turns.choice(asking)
        if helped and (ahead := dealer.take_rung(device)) is not None:
            programs[ahead].compiled_for.add(device)
        chunk = dealer.take(device)
        if chunk is None:
            asking.remove(device)
        else:
            dealt.append(chunk)
            programs[chunk.rung].compiled_for.add(device)
    assert sorted(map(id, dealt)) == sorted(map(id, chunks))


def test_two_devices_start_on_different_rungs():
    dealer = dealer_of(chunks_of(3, 3))
    assert dealer.take(OneDevice("first")).rung != dealer.take(OneDevice("second")).rung


def test_a_device_goes_on_with_what_it_has_compiled():
    chunks = chunks_of(3, 3)
    programs = {chunk.rung: FakeProgram(set(), None, None) for chunk in chunks}
    dealer = dealer_of(chunks, programs)
    rung = dealer.take(OneDevice("first")).rung
    programs[rung].compiled_for.add(OneDevice("first"))
    assert dealer.take(OneDevice("first")).rung == rung


def test_workers_of_one_place_do_not_wait_for_the_same_compilation():
    dealer = dealer_of(chunks_of(3, 2), devices=DEVICES[:1] * 2)
    first, second = (dealer.take(DEVICES[0]) for _ in range(2))
    assert first.rung != second.rung
    assert dealer.take(DEVICES[0]) is None


def test_workers_of_one_place_compile_what_is_left_before_they_train():
    chunks = chunks_of(3, 2, 1)
    programs = {chunk.rung: FakeProgram(set(), None, None) for chunk in chunks}
    dealer = dealer_of(chunks, programs, devices=DEVICES[:1] * 2)
    first, second = (dealer.take(DEVICES[0]) for _ in range(2))
    programs[first.rung].compiled_for.add(DEVICES[0])
    third = dealer.take(DEVICES[0])
    assert third.rung not in (first.rung, second.rung)
    assert dealer.take(DEVICES[0]).rung == first.rung  # while that is compiled


def test_workers_of_one_place_train_the_largest_chunks_first_and_one_kind_after_the_other():
    chunks = chunks_of(5, 2, 3)
    small, large, middle = dict.fromkeys(chunk.rung for chunk in chunks)
    sizes = {small: 1, large: 4, middle: 2}
    programs = {rung: FakeProgram({DEVICES[0]}, 0.1, 1.0, size << 20) for rung, size in sizes.items()}
    dealer = dealer_of(chunks, programs, devices=DEVICES[:1] * 2)
    dealt = []
    for turn in range(len(chunks)):
        dealt.append(dealer.take(DEVICES[0]).rung)
        programs[dealt[-1]] = programs[dealt[-1]]._replace(epoch_seconds=0.1 * turn)  # however long it took
    assert dealt == [large] * 2 + [middle] * 3 + [small] * 5


def test_a_little_work_is_not_worth_a_second_compilation():
    chunks = chunks_of(3)
    dealer = dealer_of(chunks, {chunks[0].rung: FakeProgram({OneDevice("first")}, 0.01, 2.0)})
    assert dealer.take(OneDevice("second")) is None
    assert dealer.take(OneDevice("first")) is chunks[0]


def test_much_work_is():
    chunks = chunks_of(30)
    dealer = dealer_of(chunks, {chunks[0].rung: FakeProgram({OneDevice("first")}, 0.1, 2.0)})
    assert dealer.take(OneDevice("second")) is chunks[0]


def test_who_waits_is_told_when_there_is_more():
    dealer = dealer_of(chunks_of(1))
    waiting = threading.Thread(target=dealer.wait, args=(600.0,), daemon=True)
    waiting.start()
    for _ in range(1000):  # it may not have begun to wait at the first
        dealer.add([])
        waiting.join(timeout=0.01)
        if not waiting.is_alive():
            break
    assert not waiting.is_alive()


def test_the_longest_work_comes_first():
    chunks = chunks_of(1, 5, 2)
    assert dealer_of(chunks).take(OneDevice("first")).rung == chunks[1].rung


def test_nothing_is_compiled_ahead_before_every_device_has_something():
    dealer = dealer_of(chunks_of(3, 3, 3, 3))
    first = dealer.take(OneDevice("first")).rung
    assert dealer.take_rung(OneDevice("first")) is None
    second = dealer.take(OneDevice("second")).rung
    third = dealer.take_rung(OneDevice("first"))
    assert dealer.take_rung(OneDevice("first")) is None  # another one may want the last
    fourth = dealer.take_rung(OneDevice("second"))
    assert len({first, second, third, fourth}) == 4


def test_the_next_is_compiled_ahead_when_the_last_one_is_begun():
    chunks = chunks_of(1, 2, 1)
    programs = {chunk.rung: FakeProgram(set(), 1e-6, 10.0) for chunk in chunks}
    dealer = dealer_of(chunks, programs, DEVICES[:1])
    begun = dealer.take(DEVICES[0]).rung
    ahead = dealer.take_rung(DEVICES[0])
    programs[ahead].compiled_for.add(DEVICES[0])
    assert dealer.take_rung(DEVICES[0]) is None
    assert dealer.take(DEVICES[0]).rung == ahead
    assert dealer.take_rung(DEVICES[0]) not in (None, begun, ahead)


def test_what_is_given_back_is_dealt_to_be_compiled_by_the_worker():
    dealer = dealer_of(chunks_of(1, 1), devices=DEVICES[:1])
    dealer.take(DEVICES[0])
    rung = dealer.take_rung(DEVICES[0])
    assert dealer.take(DEVICES[0]) is None
    dealer.give_back(DEVICES[0], rung)
    assert dealer.take(DEVICES[0]).rung == rung


def test_what_is_compiled_ahead_is_dealt_to_its_device_once_it_is_ready():
    chunks = chunks_of(1, 1)
    programs = {chunk.rung: FakeProgram(set(), 1e-6, 10.0) for chunk in chunks}
    dealer = dealer_of(chunks, programs, DEVICES[:1])
    dealer.take(DEVICES[0])
    rung = dealer.take_rung(DEVICES[0])
    assert dealer.take(DEVICES[0]) is None
    programs[rung].compiled_for.add(DEVICES[0])
    assert dealer.take(DEVICES[0]).rung == rung


def test_what_is_added_later_is_compiled_ahead_too():
    old, new = chunks_of(1, 1)
    programs = {chunk.rung: FakeProgram(set(), None, None) for chunk in (old, new)}
    dealer = dealer_of([old], programs, DEVICES[:1])
    dealer.take(DEVICES[0])
    assert dealer.take_rung(DEVICES[0]) is None
    dealer.add([new])
    assert dealer.take_rung(DEVICES[0]) == new.rung
