"""The embedded digits and users' own arrays."""

import numpy as np
import pytest

from dnas.data import digits, from_arrays, from_npz, load

IMAGES = np.zeros((4, 5, 6, 3), np.uint8)
LABELS = np.array([0, 1, 2, 1])
ARRAYS = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS}


def test_digits_are_fixed_and_stratified():
    data = digits()
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert (data.image_shape, data.classes) == ((8, 8, 1), 10)
    assert data.train.images.dtype == np.uint8
    assert (data.train.images.min(), data.train.images.max()) == (0, 255)
    for split in (data.train, data.test):
        share = np.bincount(split.labels) / len(split)
        np.testing.assert_allclose(share, 0.1, atol=0.004)
    np.testing.assert_array_equal(data.test.images, load("digits").test.images)


def test_digits_are_sklearns_and_every_one_is_used_once():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    data = digits()
    rows = lambda images, labels: sorted(  # noqa: E731
        (label, *row) for row, label in zip(images.reshape(len(images), -1), labels, strict=True)
    )
    found = rows(
        np.concatenate([data.train.images, data.test.images]) / 255 * 16,
        np.concatenate([data.train.labels, data.test.labels]),
    )
    np.testing.assert_allclose(found, rows(pixels, labels), atol=16 / 255 / 2 + 1e-9)


def test_digits_read_no_folder():
    with pytest.raises(ValueError, match=r"data_dir.*'/somewhere'"):
        load("digits", "/somewhere")


def test_arrays_become_a_dataset():
    train = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    data = from_arrays(train, LABELS.astype(np.int64), train[:2], LABELS[:2].astype(np.uint8))
    assert (data.name, data.image_shape, data.classes) == ("arrays", (5, 6, 1), 3)
    np.testing.assert_array_equal(data.train.images[..., 0], train)
    assert data.train.labels.dtype == data.test.labels.dtype == np.int32
    assert np.shares_memory(data.train.images, train), "a large set must not be copied"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": IMAGES / 255}, r"x_train must be uint8, got float64.*255 \* x"),
        ({"x_test": IMAGES.astype(np.int32)}, "x_test must be uint8, got int32.*np.rint"),
        ({"x_train": IMAGES[0, 0]}, r"x_train must have the shape.*\[6, 3\]"),
        ({"x_train": IMAGES[:0]}, r"not be empty.*\[0, 5, 6, 3\]"),
        ({"x_train": np.zeros((4, 3, 8, 8), np.uint8)}, "channels come last"),
        ({"y_train": LABELS[:3]}, "y_train has 3 labels, but there are 4 images"),
        ({"y_train": LABELS / 1}, "y_train must be an integer.*float64"),
        ({"y_test": np.eye(3, dtype=int)[LABELS]}, "y_test.*argmax"),
        ({"y_test": LABELS[:, None]}, r"y_test.*y\[:, 0\]"),
        ({"y_train": LABELS - 1}, "y_train holds the label -1"),
        ({"y_test": LABELS + 1}, r"y_test holds the label 3, but y_train only 0..2"),
        ({"y_train": LABELS * 0, "y_test": LABELS * 0}, "one class only"),
        ({"y_train": LABELS + 1}, "lacks the labels 0: .*return_inverse=True"),
        ({"y_train": np.array([3, 7, 3, 7])}, r"labels 0, 1, 2, 4, 5, \.\.\. \(6 in all\): "),
        ({"y_train": LABELS.astype(np.uint8) * 127}, r"goes up to 254 and lacks .*252 in all"),
        ({"y_train": LABELS * (2**32 + 1)}, r"goes up to 8589934594 and lacks the labels 1, 2"),
        ({"y_train": LABELS.astype(np.uint64) + np.uint64(2**64 - 3)}, "lacks the labels 0, 1, 2"),
        ({"y_test": LABELS + 2**32}, "y_test holds the label 4294967298, but"),
        ({"y_train": LABELS.astype("timedelta64[s]")}, "integer array.*timedelta64.*numbers by"),
        ({"y_test": LABELS.astype(bool)}, r"y_test.*bool.*y\.astype\(np\.int32\)"),
        ({"y_train": np.array(["cat", "dog", "cat", "dog"])}, "<U3.*return_inverse"),
        ({"x_train": IMAGES + np.float32(np.nan)}, "x_train.*float32: .*NaN"),
        ({"x_train": IMAGES - 1.5}, "values go from -1.5 to -1.5"),
        ({"x_train": None}, "x_train must be uint8, got object"),
        ({"x_train": np.ma.masked_equal(IMAGES, 0)}, "x_train is masked"),
        ({"y_test": np.ma.masked_equal(LABELS, 0)}, "y_test is masked"),
        ({"x_train": []}, r"not be empty; got \[0\]"),
        ({"x_test": [IMAGES[0]] * 3 + [IMAGES[0, :4]]}, r"2 sizes \(5x6x3: 3, 4x6x3: 1\).*cv2"),
        ({"x_test": IMAGES[:, :4]}, r"\(5, 6, 3\).*\(4, 6, 3\)"),
    ],
)
def test_wrong_arrays_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(**(ARRAYS | change))


def test_images_of_one_size_may_come_one_by_one():
    images = np.arange(4 * 5 * 6 * 3, dtype=np.uint8).reshape(4, 5, 6, 3)
    objects = np.empty(4, object)
    objects[:] = list(images)
    for given in (list(images), tuple(images), objects):
        data = from_arrays(given, LABELS, images, LABELS)
        np.testing.assert_array_equal(data.train.images, images)
    objects[3] = images[3, 1:]
    with pytest.raises(ValueError, match=r"x_test holds images of 2 sizes \(5x6x3: 3, 4x6x3: 1\)"):
        from_arrays(images, LABELS, objects, LABELS)


def test_classes_have_names():
    data = from_arrays(**ARRAYS, class_names=["ant", "bee", "cat"])
    assert data.class_names == ("ant", "bee", "cat")
    assert from_arrays(**ARRAYS).class_names is None
    assert digits().class_names == tuple("0123456789")
    with pytest.raises(ValueError, match="class_names has 2 names, but there are 3 classes"):
        from_arrays(**ARRAYS, class_names=["ant", "bee"])
    for wrong in (["ant", "bee", 3], "abc", ["ant", "bee", "bee"]):
        with pytest.raises(ValueError, match=r"class_names must .*got .*b"):
            from_arrays(**ARRAYS, class_names=wrong)


def test_an_archive_is_its_arrays(tmp_path):
    images = np.arange(4 * 5 * 6 * 3, dtype=np.uint8).reshape(4, 5, 6, 3)
    path = tmp_path / "insects.npz"
    np.savez(path, **(ARRAYS | {"x_train": images}), class_names=["ant", "bee", "cat"], more=[1])
    for data in (from_npz(path), load("arrays", path=str(path))):
        assert (data.name, data.class_names) == ("insects", ("ant", "bee", "cat"))
        np.testing.assert_array_equal(data.train.images, images)
        np.testing.assert_array_equal(data.test.labels, LABELS)


def test_archives_that_are_none(tmp_path):
    def refused(message, name="a.npz"):
        with pytest.raises(ValueError, match=message):
            from_npz(tmp_path / name)

    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS)
    refused("a.npz' lacks x_test, y_test; .*holds x_train, y_train")
    np.savez(tmp_path / "a.npz", **(ARRAYS | {"y_test": LABELS - 1}))
    refused("a.npz': y_test holds the label -1")
    np.savez(tmp_path / "a.npz", **(ARRAYS | {"y_test": np.array([{}, 1, 2, 3])}))
    refused("a.npz' is no .npz archive of plain arrays.*allow_pickle")
    np.save(tmp_path / "b.npy", IMAGES)
    refused("b.npy' is no .npz archive", "b.npy")
    whole = (tmp_path / "a.npz").read_bytes()
    for content in (b"", b"nothing", whole[: len(whole) // 2]):
        (tmp_path / "a.npz").write_bytes(content)
        refused("a.npz' is no .npz archive of plain arrays, as np.savez")
    with pytest.raises(FileNotFoundError, match=r"c\.npz': there is no such file"):
        from_npz(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "digits", "path": "x"}, "path='x' is not used by the data set 'digits'"),
        (
            {"name": "arrays", "path": "x", "size": 8},
            "size=8 is not used.* 'arrays'.*reads path;.*'folder', which reads it",
        ),
        ({"name": "folder", "path": "x", "data_dir": "y"}, "data_dir='y' is not .*path and size"),
        ({"name": "mnist", "size": 8}, "size=8 is not used.* 'mnist', which reads data_dir"),
        (
            {"name": "folder"},
            "path must be given with the data set 'folder'.*from_folder",
        ),
        ({"name": "arrays"}, "path must be given with the data set 'arrays'.*from_npz"),
    ],
)
def test_settings_that_a_source_does_not_read_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        load(**settings)
