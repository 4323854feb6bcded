"""The generator's random words are those of numpy's Philox."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.synth.philox import philox

WORD = st.integers(0, 2**64 - 1)


def words(*values: int) -> np.ndarray:
    # As a list, numpy would take words of either half of the range for floating-point numbers.
    return np.array(values, dtype=np.uint64)


@settings(deadline=None)
@given(st.lists(WORD, min_size=1, max_size=5), WORD, st.integers(1, 23))
def test_many_keys_at_once_give_numpys_own_words(keys, stream, count):
    ours = philox(np.array(keys, dtype=np.uint64), stream, count)

    for key, row in zip(keys, ours, strict=True):
        numpys = np.random.Philox(key=words(key, 0), counter=words(0, stream, 0, 0))
        theirs = numpys.random_raw(count)
        assert row.tolist() == theirs.tolist()
