"""Batches for the training loop, read ahead by Grain, resumed exactly.

Which examples batch number `t` has is a function of the seed alone; Grain evaluates it ahead of the
loop, in threads or in worker processes. So the batches depend neither on the number of workers nor
on that of hosts, and the position to resume from is a number.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from absl import flags
from jaxtyping import Bool, Int32, Int64, UInt8

from fer_jax.data.sources import Source
from fer_jax.errors import UserError
from fer_jax.padding import pad

IteratorBatch = dict[
    str, UInt8[np.ndarray, "b s s 3"] | Int32[np.ndarray, " b"] | Bool[np.ndarray, " b"]
]

_BATCHES_AHEAD = 4
_THREADS = 4


class TrainIterator(Iterator[IteratorBatch]):
    """Endless training batches, as `Batch` and `mask`, bool [B].

    Each epoch has every example once, in another order; a batch may span two epochs, so all are
    full and `mask` is True throughout. Labels of single tasks (`label_<task>`) come with them.

    Args:
        source: of the examples.
        batch_size: B, the examples in one batch of this process.
        seed: 0 to 2**32 - 1; decides every order.
        workers: processes that read; 0 reads in threads of this one, which suffices for sources
            in memory, and for small images.
        shard: (index, count) of this process among those that train together. Their batches, side
            by side, are the batch of `B * count` that one process alone would see.

    Raises:
        UserError: there is no example.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        if len(source) == 0:
            raise UserError("there is no example to train on")
        index, count = shard
        self._source, self._workers = source, workers
        self._whole_batches = _Rows(len(source), batch_size * count, seed=seed)
        self._identity = {
            "examples": len(source),
            "global_batch": batch_size * count,
            "seed": seed,
        }
        self._next_batch = 0
        self._batches = (
            grain.MapDataset.range(sys.maxsize)
            .map(_Rows(len(source), batch_size, index, count, seed))
            .map(_Load(source, batch_size))
        )
        self._reader: grain.DatasetIterator | None = None

    def __next__(self) -> IteratorBatch:
        if self._reader is None:
            self._reader = self._start()
        batch = next(self._reader)
        if self._workers:  # theirs lie in shared memory that goes with the worker
            batch = {name: np.array(value) for name, value in batch.items()}
        self._next_batch += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """The position, as JSON, to be saved with the train state."""
        return {"next_batch": self._next_batch, **self._identity}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on exactly where `get_state` was called, with any number of workers or hosts.

        Raises:
            UserError: the state is that of another data set, global batch size or seed.
        """
        for name, value in self._identity.items():
            if state[name] != value:
                raise UserError(
                    f"cannot resume: the input had {name}={state[name]} and has {name}={value}; "
                    "choose another --workdir or undo the change"
                )
        self.close()
        self._next_batch = int(state["next_batch"])

    def examples(self, batch: int) -> list[str]:
        """The ids of the examples in batch number `batch`, from 0, of all hosts together."""
        return [self._source[int(index)]["id"] for index in self._whole_batches(batch)]

    def close(self) -> None:
        """Ends threads and worker processes. Another `next` would start them again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def __enter__(self) -> TrainIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> grain.DatasetIterator:
        ahead = self._batches[self._next_batch :].to_iter_dataset(_read_options())
        if self._workers:
            # Grain hands absl flags on to its workers; outside of launch.py nobody parsed them.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            ahead = ahead.mp_prefetch(
                grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=2)
            )
        return iter(ahead)


def eval_batches(
    source: Source, *, batch_size: int, shard: tuple[int, int] = (0, 1)
) -> Iterator[IteratorBatch]:
    """One pass over `source`, in order, in batches as those of `TrainIterator`.

    All batches have B rows; rows after the last example are zeros with the label 0 and `mask`
    False. Processes that evaluate together (`shard`) get equally many batches.
    """
    index, count = shard
    whole = batch_size * count
    steps = -(-len(source) // whole)
    batches = (
        grain.MapDataset.range(steps)
        .map(_Rows(len(source), batch_size, index, count))
        .map(_Load(source, batch_size))
    )
    reader = iter(batches.to_iter_dataset(_read_options()))
    try:
        yield from reader
    finally:
        reader.close()


def _read_options() -> grain.ReadOptions:
    threads = min(_THREADS, os.cpu_count() or 1)
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=_BATCHES_AHEAD)


@functools.lru_cache(maxsize=4)
def _permutation(length: int, seed: int, epoch: int) -> Int64[np.ndarray, " length"]:
    return np.random.default_rng([seed, epoch]).permutation(length)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The indices of a process's part of batch `step`.

    With a seed, they come from shuffled epochs, one after the other; without, they are in order,
    and fewer or none at the end. Grain's own shuffle gives the same guarantees, but takes 20
    microseconds per index, which would be most of the cost of a small image in memory.
    """

    length: int
    size: int
    index: int = 0
    count: int = 1
    seed: int | None = None

    def __call__(self, step: int) -> Int64[np.ndarray, " rows"]:
        start = (int(step) * self.count + self.index) * self.size
        rows = np.arange(start, start + self.size)
        if self.seed is None:
            return rows[rows < self.length]
        epochs, places = np.divmod(rows, self.length)
        parts = [
            _permutation(self.length, self.seed, int(epoch))[places[epochs == epoch]]
            for epoch in np.unique(epochs)
        ]
        return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class _Load:
    """Reads the examples at `indices`, and pads them to `size` rows."""

    source: Source
    size: int

    def __call__(self, indices: Int64[np.ndarray, " rows"]) -> IteratorBatch:
        batch = self.source.batch(indices)
        mask = np.arange(self.size) < len(indices)
        return {**{name: pad(array, self.size) for name, array in batch.items()}, "mask": mask}
