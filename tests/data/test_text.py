"""Texts: vocabulary, windows of feeds and of evaluations, and files that are wrong."""

import math

import jax
import numpy as np
import pytest

from dnas.data import limit
from dnas.data import text as texts

TEXT = "the cat sat\non the mat\n"


def write(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.txt").write_text(content, encoding="utf-8")
    return folder


def test_words_and_characters():
    assert texts.split(TEXT, "word") == ["the", "cat", "sat", "<eos>", "on", "the", "mat", "<eos>"]
    assert texts.split("ab\n", "character") == ["a", "b", "\n"]
    assert texts.count_symbols("abcab") == ("a", "b", "c", "<unk>")
    assert texts.count_symbols("abcab", 2) == ("a", "<unk>")
    assert texts.count_symbols(["<unk>", "a", "<unk>"]) == ("<unk>", "a")


def test_a_folder_has_train_and_test_and_unknown_words(tmp_path):
    write(tmp_path, train=TEXT * 3, test="the dog sat\n" * 3)
    data = texts.from_text(tmp_path, bptt=2)
    assert data.symbols[:2] == ("<eos>", "the") and "dog" not in data.symbols
    words = [data.symbols[t] for t in data.test.tokens[:4]]
    assert words == ["the", "<unk>", "sat", "<eos>"]
    task = data.task()
    assert task.vocabulary == len(data.symbols) == 7 and task.inputs.shape == (2,)
    first, second = data.halves(0)
    np.testing.assert_array_equal(np.concatenate([first.tokens, second.tokens]), data.train.tokens)
    assert data.describe() == texts.from_text(tmp_path, bptt=2).describe()
    write(tmp_path, train=TEXT * 2 + "the mat sat\non the cat\n")
    assert data.describe()["train"] != texts.from_text(tmp_path, bptt=2).describe()["train"]


def test_the_end_of_a_single_file_is_the_test_text(tmp_path):
    path = write(tmp_path, novel="ab" * 50) / "novel.txt"
    data = texts.from_text(path, "character", bptt=4, test_share=0.2)
    assert len(data.train.tokens) == 80 and len(data.test.tokens) == 20
    assert data.name == "novel" and "20 test characters" in repr(data)
    part = limit(data.train, 5, seed=0)
    assert len(part) == 5 and part.tokens.tobytes() == data.train.tokens[:24].tobytes()
    with pytest.raises(ValueError, match="cannot limit the train set to 20"):
        limit(data.train, 20, seed=0)


def batches(feed, start, stop, size):
    """The steps of a feed, one by one, of its only part."""
    found = []
    for (chunk,), count in feed.chunks(start, stop, size):
        assert chunk["tokens"].shape[0] == size
        found += [jax.tree.map(lambda x, i=i: np.asarray(x[i]), chunk) for i in range(count)]
    return found


def test_rows_go_on_where_they_stopped_and_begin_anew_with_every_epoch():
    part = texts.Tokens(np.arange(100, dtype=np.int32), 5)
    feed = texts.TextFeed([part], 3, jax.random.key(0))
    assert len(part) == 19 and feed.steps_per_epoch == 6
    steps = batches(feed, 0, 24, 4)
    firsts = set()
    for epoch in range(4):
        rows = steps[6 * epoch : 6 * epoch + 6]
        joined = np.concatenate([step["tokens"] for step in rows], 1)
        firsts.add(int(joined[0, 0]))
        assert (np.diff(joined) == 1).all()
        assert (np.diff(joined[:, 0]) == 30).all() and 0 <= joined[0, 0] < 5
        assert [step["reset"].tolist() for step in rows] == [[True] * 3] + [[False] * 3] * 5
        for step in rows:
            np.testing.assert_array_equal(step["targets"], step["tokens"] + 1)
    assert len(firsts) > 1
    # A pure function of the step: resumed anywhere, in chunks of any size.
    for first, size in ((5, 1), (7, 3), (17, 24)):
        for found, wanted in zip(batches(feed, first, 24, size), steps[first:], strict=True):
            jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize(("tokens", "batch", "length"), [(100, 3, 7), (12, 5, 4), (8, 1, 7)])
def test_an_evaluation_asks_for_every_token_but_the_first_once(tokens, batch, length):
    part = texts.Tokens(np.arange(tokens, dtype=np.int32), length)
    found = list(texts.evaluation_windows(part, batch))
    assert len(found) == math.ceil(math.ceil((tokens - 1) / batch) / length)
    assert found[0]["reset"].all() and not any(window["reset"].any() for window in found[1:])
    targets = np.concatenate([window["targets"] for window in found], 1)
    inputs = np.concatenate([window["tokens"] for window in found], 1)
    real = targets >= 0
    np.testing.assert_array_equal(inputs[real], targets[real] - 1)
    np.testing.assert_array_equal(targets[real], np.arange(1, tokens))  # row after row


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"level": "byte"}, "level='byte': expected one of"),
        ({"bptt": 1}, "bptt=1"),
        ({"bptt": 50}, r"the train text has 72 characters; expected 150 at least"),
        ({"vocabulary": 1}, "vocabulary=1"),
        ({"test_share": 1.0}, "test_share=1.0"),
        ({"path": "none.txt"}, "'none.txt': there is no such file"),
    ],
)
def test_what_does_not_fit_is_named(fields, message, tmp_path):
    path = write(tmp_path, a="abcdefgh" * 10) / "a.txt"
    with pytest.raises(ValueError, match=message):
        texts.from_text(**{"path": path, "level": "character", **fields})
