"""The results of padded batches equal those of all rows at once; the padding has no results."""

import jax
import numpy as np
import pytest

from fer_jax import padding


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 5, 8, 11])
def test_every_row_has_a_result_and_only_the_given_sizes_are_compiled(rows):
    sizes = []

    def function(x, y):
        assert len(x) == len(y)
        sizes.append(len(x))
        return {"sum": x + y[:, 0], "pair": (y,)}

    x, y = np.arange(rows), np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    found = padding.in_batches(jax.jit(function), x, y, size=lambda left: 4)
    np.testing.assert_array_equal(found["sum"], x + y[:, 0])
    np.testing.assert_array_equal(found["pair"][0], y)
    assert found["sum"].dtype == np.float32 and sizes == [4]  # traced once


def test_sizes_depend_on_the_remaining_rows():
    seen = []
    padding.in_batches(
        lambda x: seen.append(len(x)) or x,
        np.zeros((11, 2), np.uint8),
        size=lambda left: padding.power_of_two(left, most=4),
    )
    assert seen == [4, 4, 4]
    assert [padding.power_of_two(n, 64) for n in (1, 2, 3, 37, 64, 99)] == [1, 2, 4, 64, 64, 64]


def test_pad_appends_zeros():
    assert padding.pad(np.ones((2, 1), np.uint8), 3).tolist() == [[1], [1], [0]]
    assert padding.pad(np.ones((0, 2)), 1).tolist() == [[0, 0]]
