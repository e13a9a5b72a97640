"""Keys: what is drawn on the host is what JAX draws."""

from functools import partial

import jax
import numpy as np
import pytest

from tests.compilations import Compilations
from vtune.data import Data, split_data
from vtune.keys import Purpose, seed_words, split_bits, study_key


@pytest.mark.parametrize("seed", [0, 1, 7, 2**32 - 1, 2**40 + 3, 2**64 - 1])
def test_rows_are_split_by_what_jax_draws_from_the_key_of_the_split(seed):
    key = study_key(jax.random.wrap_key_data(seed_words(seed), impl="threefry2x32"), Purpose.SPLIT)
    drawn = split_bits(seed_words(seed))
    assert drawn.dtype == np.uint32
    assert drawn.tolist() == jax.random.bits(key, (4,), "uint32").tolist()


def never_drawn():
    raise AssertionError("it was drawn")


@pytest.mark.parametrize(
    ("data", "message"), [(([[1.0], [2.0]], [0.5]), "row"), (([[1.0], [2.0]], [3, 3]), "class"), ((1.0, 2.0), "x")]
)
def test_nothing_is_drawn_for_what_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        split_data(data, never_drawn)


def test_nothing_is_drawn_for_what_is_split_already():
    data = Data.of()
    assert split_data(data, never_drawn) is data


def test_a_split_by_the_key_or_by_what_is_drawn_from_it_is_the_same_and_the_latter_compiles_nothing():
    key = study_key(jax.random.wrap_key_data(seed_words(3), impl="threefry2x32"), Purpose.SPLIT)
    by_key = Data.of(key=key)
    with Compilations() as compiled:
        by_bits = split_data(None, partial(split_bits, seed_words(3)))
    assert compiled.count == 0
    np.testing.assert_array_equal(by_bits.train[0], by_key.train[0])
    np.testing.assert_array_equal(by_bits.valid[1], by_key.valid[1])
