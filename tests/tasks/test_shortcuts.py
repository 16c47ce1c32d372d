"""Probes that see only borders, colours or artefacts cannot solve puzzles or predict rotations.

Each probe is also applied to the task without the countermeasure, where it finds the shortcut.
"""

import dataclasses
import functools

import pytest

from benchmarks import shortcuts
from fer_jax.tasks.augment import MODERATE
from fer_jax.tasks.jigsaw import Jigsaw
from fer_jax.tasks.rotation import TURNS, Rotation

COUNT, SIDE, ALLOWED, CLEARLY = 1000, 48, 0.05, 0.30
PUZZLE = Jigsaw(permutations=24, mode="tiles")
CHANCE = 1 / PUZZLE.permutations


textures = functools.cache(shortcuts.textures)


def puzzle_accuracy(probe, trace=None, **fields):
    images = textures(COUNT, SIDE, detail=0.7, trace=trace)
    task = dataclasses.replace(PUZZLE, **fields)
    return shortcuts.solved(shortcuts.puzzles(images, task, probe, seed=0))


def turn_accuracy(kind, augment):
    images = textures(COUNT, SIDE)
    return shortcuts.solved(shortcuts.rotations(images, kind(views=1, augment=augment), seed=0))


def test_borders_solve_only_a_puzzle_without_gaps():
    assert puzzle_accuracy(shortcuts.borders) <= CHANCE + ALLOWED
    assert puzzle_accuracy(shortcuts.borders, gap=0) > CHANCE + CLEARLY


@pytest.mark.parametrize("trace", [shortcuts.lit, shortcuts.tinted])
def test_colours_solve_only_a_puzzle_that_is_not_normalised(trace):
    assert puzzle_accuracy(shortcuts.tints, trace, grey=0.0) <= CHANCE + ALLOWED
    without = puzzle_accuracy(shortcuts.tints, trace, grey=0.0, normalise_tiles=False)
    assert without > CHANCE + CLEARLY


def test_joint_normalisation_of_channels_preserves_the_tint():
    with shortcuts.joint_normalisation():
        together = puzzle_accuracy(shortcuts.tints, shortcuts.tinted, grey=0.0)
    assert together > CHANCE + CLEARLY


def test_aberration_solves_only_a_puzzle_in_colour():
    assert puzzle_accuracy(shortcuts.shifts, shortcuts.aberrated) <= CHANCE + ALLOWED
    assert puzzle_accuracy(shortcuts.shifts, shortcuts.aberrated, grey=0.3) > CHANCE + CLEARLY


def test_artefacts_of_resampling_reveal_only_later_rotations():
    for augment in (MODERATE, shortcuts.Sideways()):
        assert turn_accuracy(Rotation, augment) <= 1 / TURNS + ALLOWED
    assert turn_accuracy(shortcuts.TurnedLast, shortcuts.Sideways()) > 1 / TURNS + CLEARLY
