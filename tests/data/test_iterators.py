"""Batches contain each example once per epoch and resume exactly, with and without workers."""

import json

import numpy as np
import pytest

from fer_jax.data.iterators import TrainIterator, eval_batches
from fer_jax.data.sources import ArraySource
from fer_jax.errors import UserError

EXAMPLES, BATCH = 37, 8


@pytest.fixture
def source() -> ArraySource:
    """Image `i` is filled with `i` and has the label `i`."""
    numbers = np.arange(EXAMPLES)
    images = np.broadcast_to(numbers[:, None, None, None], (EXAMPLES, 4, 4, 3)).astype(np.uint8)
    return ArraySource(images, numbers)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def labels(batches):
    return np.concatenate([batch["label"] for batch in batches])


def test_every_epoch_has_each_example_once_in_a_new_order(source):
    with TrainIterator(source, batch_size=BATCH, seed=1) as iterator:
        seen = labels(take(iterator, EXAMPLES))  # EXAMPLES batches are BATCH epochs
    epochs = seen.reshape(BATCH, EXAMPLES)
    assert all(sorted(epoch) == list(range(EXAMPLES)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == BATCH


def test_batches_are_full_and_images_match_their_labels(source):
    with TrainIterator(source, batch_size=BATCH, seed=1) as iterator:
        for batch in take(iterator, 6):
            assert batch["image"].shape == (BATCH, 4, 4, 3) and batch["image"].dtype == np.uint8
            assert batch["label"].dtype == np.int32 and batch["mask"].all()
            assert (batch["image"][:, 0, 0, 0] == batch["label"]).all()


def test_the_seed_determines_the_order(source):
    orders = []
    for seed in (1, 1, 2):
        with TrainIterator(source, batch_size=BATCH, seed=seed) as iterator:
            orders.append(tuple(labels(take(iterator, 6))))
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("taken", [0, 1, 9])
def test_a_resumed_iterator_continues_at_its_position(source, taken):
    with TrainIterator(source, batch_size=BATCH, seed=3) as iterator:
        take(iterator, taken)
        state = json.loads(json.dumps(iterator.get_state()))
        expected = labels(take(iterator, 5))
    with TrainIterator(source, batch_size=BATCH, seed=3) as resumed:
        take(resumed, 2)
        resumed.set_state(state)
        assert resumed.get_state() == state
        assert (labels(take(resumed, 5)) == expected).all()


def test_workers_give_the_same_batches_and_resume(source):
    with TrainIterator(source, batch_size=BATCH, seed=3) as iterator:
        take(iterator, 2)
        state = iterator.get_state()
        expected = take(iterator, 4)
    with TrainIterator(source, batch_size=BATCH, seed=3, workers=1) as iterator:
        iterator.set_state(state)
        for batch, same in zip(take(iterator, 4), expected, strict=True):
            assert all((batch[name] == same[name]).all() for name in same)


def test_the_batches_of_several_hosts_join_to_the_batch_of_one(source):
    whole = labels(take(TrainIterator(source, batch_size=2 * BATCH, seed=5), 6))
    parts = [
        take(TrainIterator(source, batch_size=BATCH, seed=5, shard=(host, 2)), 6)
        for host in range(2)
    ]
    both = [np.concatenate([a["label"], b["label"]]) for a, b in zip(*parts, strict=True)]
    assert (np.concatenate(both) == whole).all()


@pytest.mark.parametrize("hosts_after", [64, 16])
def test_64_hosts_miss_and_repeat_no_example_also_after_a_resume(hosts_after):
    """A run of three epochs is resumed within the second one, on as many or fewer hosts."""
    count, whole_batch, hosts, before, after = 1000, 192, 64, 8, 8
    images = np.zeros((count, 2, 2, 3), np.uint8)
    source = ArraySource(images, np.arange(count))

    def read(hosts, batches, state=None):
        """The examples in the order of all hosts together, and the state of each host."""
        parts, states = [], []
        for host in range(hosts):
            shard, size = (host, hosts), whole_batch // hosts
            with TrainIterator(source, batch_size=size, seed=7, shard=shard) as iterator:
                if state:
                    iterator.set_state(state)
                parts.append(np.stack([batch["label"] for batch in take(iterator, batches)]))
                states.append(iterator.get_state())
        return np.concatenate(parts, axis=1).ravel(), states

    first, states = read(hosts, before)
    assert all(state == states[0] for state in states)
    second, _ = read(hosts_after, after, json.loads(json.dumps(states[0])))
    seen = np.concatenate([first, second])
    assert len(first) % count and len(seen) >= 3 * count
    for epoch in range(3):
        examples, times = np.unique(seen[epoch * count : (epoch + 1) * count], return_counts=True)
        assert list(examples) == list(range(count)) and (times == 1).all()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("examples", {"source": ArraySource(np.zeros((5, 4, 4, 3), np.uint8))}),
        ("global_batch", {"batch_size": BATCH + 1}),
        ("seed", {"seed": 4}),
    ],
)
def test_the_state_of_another_input_is_refused(source, name, other):
    state = TrainIterator(source, batch_size=BATCH, seed=3).get_state()
    arguments = {"source": source, "batch_size": BATCH, "seed": 3} | other
    with pytest.raises(UserError, match=name):
        TrainIterator(arguments.pop("source"), **arguments).set_state(state)


def test_an_empty_source_is_a_user_error():
    with pytest.raises(UserError, match="no examples to train on"):
        TrainIterator(ArraySource(np.zeros((0, 4, 4, 3), np.uint8)), batch_size=2, seed=0)


@pytest.mark.parametrize("hosts", [1, 2, 3, 64])
def test_evaluation_has_each_example_once_and_masks_the_padding(source, hosts):
    passes = [
        list(eval_batches(source, batch_size=BATCH, shard=(host, hosts))) for host in range(hosts)
    ]
    assert len({len(batches) for batches in passes}) == 1
    batches = [batch for step in zip(*passes, strict=True) for batch in step]
    assert all(batch["image"].shape == (BATCH, 4, 4, 3) for batch in batches)
    seen = np.concatenate([batch["label"][batch["mask"]] for batch in batches])
    assert list(seen) == list(range(EXAMPLES))
    for batch in batches:
        assert not batch["image"][~batch["mask"]].any() and not batch["label"][~batch["mask"]].any()


def test_evaluation_of_an_empty_source_has_no_batches():
    assert list(eval_batches(ArraySource(np.zeros((0, 4, 4, 3), np.uint8)), batch_size=2)) == []


def test_batches_include_the_labels_of_single_tasks(source):
    own = {"label_emotion": np.arange(EXAMPLES, dtype=np.int32) - 1}
    source = ArraySource(source.images, task_labels=own)
    with TrainIterator(source, batch_size=BATCH, seed=1) as iterator:
        for batch in take(iterator, 3):
            assert (batch["label"] == -1).all()
            assert (batch["label_emotion"] == batch["image"][:, 0, 0, 0] - 1.0).all()
    last = list(eval_batches(source, batch_size=BATCH))[-1]
    assert last["label_emotion"].dtype == np.int32
    np.testing.assert_array_equal(last["label_emotion"], [31, 32, 33, 34, 35, 0, 0, 0])
