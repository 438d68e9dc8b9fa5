"""Both feeds: the same batches, from any step on, every image at most once in an epoch."""

import threading

import jax
import numpy as np
import pytest

from dnas.data import (
    DeviceFeed,
    Split,
    StreamFeed,
    evaluation_batches,
    from_arrays,
    halve,
    make_feed,
)

BATCH = 4
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def train():
    """25 images; the label is the number of the image and its first pixel."""
    images = np.random.default_rng(0).integers(0, 256, (25, 3, 2, 2), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(25)
    return from_arrays(images, np.arange(25), images, np.arange(25)).train


def parts_of(train):
    """Parts of 10 and 15 images: epochs of 2 and of 3 steps."""
    indices = np.random.default_rng(1).permutation(25)
    return [Split(train.source, indices[:10]), Split(train.source, indices[10:])]


@pytest.fixture(scope="module")
def feeds(train):
    parts = parts_of(train)
    on_device, stream = make_feed(parts, BATCH, KEY), make_feed(parts, BATCH, KEY, 100)
    assert isinstance(on_device, DeviceFeed) and isinstance(stream, StreamFeed)
    return {"device": on_device, "stream": stream}


def steps(feed, start, stop, size):
    """The batches step by step: labels and images ``[step][part]``."""
    found = []
    for batches, count in feed.chunks(start, stop, size):
        for batch in batches:
            assert isinstance(batch["image"], jax.Array)
            assert batch["image"].shape == (size, BATCH, 3, 2, 2)
            assert batch["label"].shape == (size, BATCH)
            assert (batch["image"].dtype, batch["label"].dtype) == (np.uint8, np.int32)
        assert 1 <= count <= size
        host = jax.tree.map(np.asarray, batches)
        found += [
            [(batch["label"][step], batch["image"][step]) for batch in host]
            for step in range(count)
        ]
    assert len(found) == stop - start
    return found


def same(first, second):
    return jax.tree.all(jax.tree.map(np.array_equal, first, second))


def test_device_budget_counts_all_parts(train):
    weights, architecture = halve(train, 0)
    needed = weights.nbytes + architecture.nbytes
    assert needed == 25 * (12 + 4)
    feed = lambda budget: make_feed([weights, architecture], BATCH, KEY, budget)  # noqa: E731
    assert isinstance(feed(needed), DeviceFeed)
    assert isinstance(feed(needed - 1), StreamFeed)


def test_both_feeds_give_the_same_batches(feeds):
    assert same(steps(feeds["device"], 0, 8, 3), steps(feeds["stream"], 0, 8, 3))


@pytest.mark.parametrize("kind", ["device", "stream"])
def test_any_step_is_the_same_from_wherever_it_is_reached(feeds, kind):
    whole = steps(feeds[kind], 0, 8, 3)
    assert same(whole[5:], steps(feeds[kind], 5, 8, 3))
    assert same(whole[2:4], steps(feeds[kind], 2, 4, 3)), "going back"


def test_images_follow_the_documented_order(train, feeds):
    found = steps(feeds["device"], 0, 8, 3)
    for part, (split, per_epoch) in enumerate(zip(parts_of(train), (2, 3), strict=True)):
        for step in range(8):
            epoch, position = divmod(step, per_epoch)
            key = jax.random.fold_in(jax.random.fold_in(KEY, part), epoch)
            order = np.asarray(jax.random.permutation(key, len(split)))
            rows = order[position * BATCH : (position + 1) * BATCH]
            labels, images = found[step][part]
            np.testing.assert_array_equal(labels, split.labels[rows])
            np.testing.assert_array_equal(images, split.images[rows])


def test_an_epoch_repeats_no_image_and_the_next_is_shuffled_anew(train, feeds):
    found = steps(feeds["device"], 0, 6, 3)
    first, second = ({*split.labels.tolist()} for split in parts_of(train))
    epochs = []
    for part, members, per_epoch in ((0, first, 2), (1, second, 3)):
        for start in range(0, 6, per_epoch):
            seen = [found[step][part][0] for step in range(start, start + per_epoch)]
            seen = np.concatenate(seen).tolist()
            assert len(set(seen)) == len(seen) == per_epoch * BATCH
            assert set(seen) <= members
            epochs.append(seen)
    assert epochs[0] != epochs[1] != epochs[2] and epochs[3] != epochs[4]


def test_every_image_is_used_where_batches_fit(train):
    feed = make_feed([train], 5, KEY)
    (batches, count), *more = feed.chunks(0, 5, 5)
    assert feed.steps_per_epoch == count == 5 and not more
    assert sorted(np.asarray(batches[0]["label"]).ravel()) == list(range(25))
    np.testing.assert_array_equal(batches[0]["image"][..., 0, 0, 0], batches[0]["label"])


def test_parts_and_keys_are_shuffled_differently(train):
    first = lambda feed: [b["label"].ravel().tolist() for b in next(feed.chunks(0, 5, 5))[0]]  # noqa: E731
    one, two = first(make_feed([train, train], 5, KEY))
    assert one != two and sorted(one) == sorted(two)
    assert one != first(make_feed([train, train], 5, jax.random.key(8)))[0]


def test_the_rest_of_a_short_chunk_repeats_its_last_step(feeds):
    for feed in feeds.values():
        (batches, count), *more = feed.chunks(3, 4, 3)
        assert count == 1 and not more
        for batch in batches:
            for values in batch.values():
                np.testing.assert_array_equal(values[1], values[0])
                np.testing.assert_array_equal(values[2], values[0])


def test_threads_may_read_different_epochs_at_a_time(train):
    """The worst order of events: another epoch is kept while this one is looked up."""
    feed = make_feed(parts_of(train), BATCH, KEY)
    expected = feed._rows(0, 0, 2)

    class Kept(dict):
        def get(self, part, default):
            mine = super().get(part, default)
            self.get = super().get
            feed._rows(part, 2, 4)
            return mine

    feed._orders = Kept(feed._orders)
    np.testing.assert_array_equal(feed._rows(0, 0, 2), expected)
    assert not np.array_equal(feed._rows(0, 2, 4), expected)


def test_no_steps_give_nothing(feeds):
    assert [list(feed.chunks(4, 4, 3)) for feed in feeds.values()] == [[], []]


def test_a_stream_that_is_left_early_ends_its_threads(feeds):
    def count():
        return sum("grain" in thread.name for thread in threading.enumerate())

    before = count()
    chunks = feeds["stream"].chunks(0, 200, 2)
    next(chunks)
    assert count() > before
    chunks.close()
    for thread in threading.enumerate():
        if "grain" in thread.name:
            thread.join(timeout=10)
    assert count() == before


def test_an_error_while_reading_reaches_the_caller(train):
    class Broken(type(train.source)):
        def read(self, indices):
            raise OSError("the disk is gone")

    broken = Split.all(Broken(train.source.arrays))
    with pytest.raises(OSError, match="the disk is gone"):
        next(StreamFeed([broken], BATCH, KEY).chunks(0, 2, 2))


def test_batches_that_do_not_fit_are_refused(train):
    few = Split(train.source, np.arange(3))
    with pytest.raises(ValueError, match=r"batch_size 4.*part 1.*3 images"):
        make_feed([train, few], 4, KEY)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        make_feed([train], 0, KEY)


@pytest.mark.parametrize("budget", [2**30, 0], ids=["memory", "stream"])
@pytest.mark.parametrize("batch_size", [10, 25, 32])
def test_evaluation_sees_every_image_once_and_in_order(train, batch_size, budget):
    labels, images = [], []
    for batch, weights in evaluation_batches(train, batch_size, budget):
        assert batch["image"].shape == (batch_size, 3, 2, 2)
        assert (batch["image"].dtype, weights.dtype) == (np.uint8, np.float32)
        assert weights.shape == batch["label"].shape == (batch_size,)
        assert set(np.unique(weights)) <= {0.0, 1.0}
        labels.append(np.asarray(batch["label"])[np.asarray(weights) == 1])
        images.append(np.asarray(batch["image"])[np.asarray(weights) == 1])
    assert len(labels) == -(-25 // batch_size)
    np.testing.assert_array_equal(np.concatenate(labels), train.labels)
    np.testing.assert_array_equal(np.concatenate(images), train.images)
