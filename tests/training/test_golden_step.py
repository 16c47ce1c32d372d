"""Training steps give the same numbers as earlier versions."""

import jax
import numpy as np
import pytest

from tests.training import golden_step


@pytest.mark.parametrize("case", golden_step.CASES)
def test_three_steps_give_the_golden_numbers(case):
    with np.load(golden_step.FILE) as golden:
        wanted = dict(zip(golden["names"], golden["values"], strict=True))
    with jax.enable_x64(True):
        found = golden_step.train(**golden_step.CASES[case])
    assert {f"{case}/{name}" for name in found} == {n for n in wanted if n.startswith(f"{case}/")}
    for name, leaf in found.items():
        values = wanted[f"{case}/{name}"]
        size = np.maximum(np.abs(values), 1)
        size[0] = max(size[0], np.sqrt(leaf.size * values[1]))  # scale of a sum's rounding error
        error = np.abs(golden_step.summary(leaf) - values) / size
        assert error.max() < 1e-12, name
