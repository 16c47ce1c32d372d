"""Batches for the training loop, prefetched by Grain and exactly resumable.

The examples in global batch `t` (the batches number `t` of all hosts together) depend only on the
data set, the size of the global batch, the seed and `t`, not on the number of workers or hosts. So
the position to resume from is a single number. Grain prefetches the examples in threads or worker
processes.
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
    """Endless training batches: the arrays of `sources.Batch`, and `mask`, bool [B].

    Each epoch contains every example once, in a new order. A batch may span several epochs, so that
    each batch is full and `mask` is True everywhere.

    Args:
        source: the examples.
        batch_size: B, the number of examples per batch in this process.
        seed: 0 to 2**32 - 1; determines the order.
        workers: number of reader processes; if 0, threads of this process read the examples, which
            is enough for sources in memory and for small images.
        shard: (index, count) of this process among those that train together. Their concatenated
            batches are the batch of `B * count` examples that a single process would read.

    Raises:
        UserError: the source is empty.
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
            raise UserError("there are no examples to train on; check --config.data")
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
        if self._workers:  # copies from shared memory, which is freed with the worker's batch
            batch = {name: np.array(value) for name, value in batch.items()}
        self._next_batch += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """The position as a JSON-serialisable dictionary, to be saved with the train state."""
        return {"next_batch": self._next_batch, **self._identity}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues at the position that `get_state` returned, with any number of workers or hosts.

        Raises:
            UserError: the state has another number of examples, global batch size or seed.
        """
        for name, value in self._identity.items():
            if state[name] != value:
                raise UserError(
                    f"cannot resume: {name} was {state[name]} and is now {value}; undo the change, "
                    "or choose another --workdir"
                )
        self.close()
        self._next_batch = int(state["next_batch"])

    def examples(self, batch: int) -> list[str]:
        """The ids of the examples in batch number `batch` (from 0), over all hosts."""
        return [self._source[int(index)]["id"] for index in self._whole_batches(batch)]

    def close(self) -> None:
        """Stops threads and worker processes; `next` starts them again."""
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
            # Grain passes absl flags to its workers; outside launch.py they have not been parsed.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            ahead = ahead.mp_prefetch(
                grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=2)
            )
        return iter(ahead)


def eval_batches(
    source: Source, *, batch_size: int, shard: tuple[int, int] = (0, 1)
) -> Iterator[IteratorBatch]:
    """One pass over `source`, in order, in batches like those of `TrainIterator`.

    All batches have `batch_size` rows. Rows after the last example are padding: zeros, label 0,
    `mask` False. Processes that evaluate together (`shard`) get the same number of batches.
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
    """Maps a batch number `step` to the indices of the examples that one process reads.

    `length` is the number of examples, `size` the number of examples per process and batch; `index`
    and `count` are the shard. With a seed, the indices come from consecutive epochs, each a new
    permutation of all examples. Without one, they are in order, and the last batches contain fewer
    indices or none. Grain's own shuffle takes 20 microseconds per index, which would be most of the
    time for reading a small image from memory.
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
    """Reads the examples at `indices`, pads them to `size` rows, and adds `mask`."""

    source: Source
    size: int

    def __call__(self, indices: Int64[np.ndarray, " rows"]) -> IteratorBatch:
        batch = self.source.batch(indices)
        mask = np.arange(self.size) < len(indices)
        return {**{name: pad(array, self.size) for name, array in batch.items()}, "mask": mask}
