"""The table of parameters has correct sums."""

import numpy as np

from fer_jax.training import parameter_table


def test_blocks_and_totals_are_correct():
    def block(frozen):
        return {"conv": {"kernel": frozen if isinstance(frozen, bool) else np.ones((3, 3, 2, 4))}}

    parameters = {
        "backbone": {"block17": {0: block(None), 1: block(None)}, "stem": block(None)},
        "heads": {"emotion": {"linear": {"bias": np.ones(5)}}},
    }
    frozen = {
        "backbone": {"block17": {0: block(True), 1: block(False)}, "stem": block(False)},
        "heads": {"emotion": {"linear": {"bias": False}}},
    }
    rows = [line.split() for line in parameter_table.draw(parameters, frozen).splitlines()]
    assert rows[0] == ["block", "tensors", "parameters", "trained"]
    assert ["backbone/block17/0", "1", "72", "0"] in rows
    assert ["backbone/block17/1", "1", "72", "72"] in rows
    assert ["heads/emotion", "1", "5", "5"] in rows
    assert rows[-1] == ["all", "4", "221", "149"]
