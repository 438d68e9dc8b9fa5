"""Folders of images: what is read, how it is numbered, and what is refused or left out."""

import pathlib

import cv2
import numpy as np
import pytest

from dnas.data import from_folder, load
from dnas.data.folder import decode, squared

RNG = np.random.default_rng(0)


def write(path, image):
    """An image, red first, into a file; PNG keeps every bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.asarray(image)
    reds_last = image[..., [2, 1, 0, 3][: image.shape[-1]]] if image.ndim == 3 else image
    assert cv2.imwrite(str(path), reds_last)
    return image


def colours(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Twelve train images of two classes and four test images, of one size, in colour."""
    for split, count in (("train", 6), ("test", 2)):
        for name in ("dog", "cat"):
            for i in range(count):
                write(tmp_path / "pets" / split / name / f"{i}.png", colours(4, 5, 3))
    return tmp_path / "pets"


def pixels(path):
    return cv2.imread(str(path))[..., ::-1]


def test_images_come_in_order_with_the_names_of_their_classes(folder):
    data = from_folder(folder)
    assert (data.name, data.class_names, data.image_shape) == ("pets", ("cat", "dog"), (4, 5, 3))
    assert data.train.labels.tolist() == [0] * 6 + [1] * 6
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    files = [folder / "train" / name / f"{i}.png" for name in ("cat", "dog") for i in range(6)]
    np.testing.assert_array_equal(data.train.images, [pixels(file) for file in files])
    assert "LabelledImages(pets, 4x5x3 pixels, 2 classes (cat, dog), 12 train" in repr(data)
    np.testing.assert_array_equal(load("folder", path=str(folder)).test.images, data.test.images)


def test_images_are_read_in_any_order(folder):
    train = from_folder(folder).train
    some = np.array([7, 0, 7])
    images, labels = train.source.read(some).values()
    np.testing.assert_array_equal(images, train.images[some])
    assert labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("kind", ["grey", "alpha", "deep", "grey and alpha", "palette"])
def test_kinds_of_png(tmp_path, kind):
    image = colours(6, 7, 3)
    if kind == "grey":
        write(tmp_path / "1.png", image[..., 0])
        image = image[..., :1]
    elif kind == "alpha":
        write(tmp_path / "1.png", np.concatenate([image, colours(6, 7, 1)], -1))
    elif kind == "deep":
        deep = RNG.integers(0, 65536, (6, 7, 3), np.uint16)
        write(tmp_path / "1.png", deep)
        image = np.round(deep / 65535 * 255)
    else:
        pil = pytest.importorskip("PIL.Image")
        if kind == "palette":
            picture = pil.fromarray(image).quantize(5)
            image = np.asarray(picture.convert("RGB"))
        else:
            picture = pil.fromarray(image[..., :2], "LA")
            image = image[..., :1]
        picture.save(tmp_path / "1.png")
    np.testing.assert_array_equal(decode(str(tmp_path / "1.png")), image)


def test_grey_stays_grey_unless_others_are_in_colour(folder):
    grey = write(folder / "train" / "cat" / "6.png", colours(4, 5))
    train = from_folder(folder).train
    assert train.image_shape == (4, 5, 3)
    np.testing.assert_array_equal(train.images[6], np.repeat(grey[..., None], 3, -1))
    for file in folder.rglob("*.png"):
        write(file, cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
    assert from_folder(folder).image_shape == (4, 5, 1)


def test_jpeg_and_webp_in_folders_within(folder):
    smooth = np.full((4, 5, 3), (200, 90, 30), np.uint8)
    write(folder / "train" / "cat" / "deep" / "a.JPG", smooth)
    write(folder / "train" / "cat" / "deep" / "b.jpeg", smooth)
    write(folder / "train" / "dog" / "c.webp", smooth)
    train = from_folder(folder).train
    assert train.labels.tolist() == [0] * 8 + [1] * 7
    for row in (6, 7, 14):
        np.testing.assert_allclose(train.images[row].astype(int), smooth, atol=8)


def test_what_is_no_image_is_left_out(folder):
    for hidden in (".DS_Store", ".hidden/1.png", "._1.png"):
        (folder / "train" / "cat" / hidden).parent.mkdir(exist_ok=True)
        (folder / "train" / "cat" / hidden).write_bytes(b"x")
    (folder / "train" / ".cache").mkdir()
    assert len(from_folder(folder).train) == 12
    (folder / "train" / "cat" / "notes.txt").write_text("x")
    write(folder / "train" / "loose.png", colours(4, 5, 3))
    with pytest.warns(UserWarning, match=r"no \.png.*: train/cat/n.*, train/loose.png \(2 in"):
        assert len(from_folder(folder).train) == 12


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_broken_files_are_named_and_left_out(folder, ending):
    names = [f"train/cat/{i}{ending}" for i in (6, 7, 8, 9)]
    for name in names:
        write(folder / name, colours(4, 5, 3))
    data = pathlib.Path(folder / names[0]).read_bytes()
    contents = (b"", b"no image", data[: len(data) // 2], data[:-2])
    for name, content in zip(names, contents, strict=True):
        (folder / name).write_bytes(content)
    listed = rf"they cannot be decoded: {', '.join(names[:3])}, \.\.\. \(4 in all\)"
    with pytest.warns(UserWarning, match=listed):
        train = from_folder(folder).train
    assert len(train) == 12 and train.labels.tolist() == [0] * 6 + [1] * 6


def test_a_file_that_breaks_later_is_named(folder):
    train = from_folder(folder).train
    write(folder / "train" / "dog" / "2.png", colours(5, 5, 3))
    with pytest.raises(OSError, match=r"dog/2.png: since the folder was looked through"):
        train.images  # noqa: B018


def test_sizes(folder):
    with pytest.raises(ValueError, match="size=0: expected a whole number of at least 1"):
        from_folder(folder, size=0)
    write(folder / "test" / "dog" / "0.png", colours(9, 4, 3))
    with pytest.raises(ValueError, match=r"size must be.*2 sizes \(4x5: 15, 9x4: 1\)"):
        from_folder(folder)
    data = from_folder(folder, size=2)
    assert data.image_shape == (2, 2, 3)
    wide = pixels(folder / "train" / "cat" / "0.png")[:, :4].astype(float)
    means = wide.reshape(2, 2, 2, 2, 3).mean((1, 3))  # of the square without the last column
    np.testing.assert_allclose(data.train.images[0], means, atol=1)
    image = colours(7, 3, 1)
    np.testing.assert_array_equal(squared(image, 3), image[2:5])
    np.testing.assert_array_equal(squared(np.full((3, 7, 1), 9, np.uint8), 11), 9)


def test_a_fifth_of_each_class_is_the_test_split(folder):
    every = {}
    for split in ("train", "test"):
        for file in sorted((folder / split).rglob("*.png")):
            every[pixels(file).tobytes()] = file.parent.name
            file.rename(folder / "train" / file.parent.name / f"{split}-{file.name}")
    for name in ("cat", "dog"):
        (folder / "test" / name).rmdir()
    (folder / "test").rmdir()
    data, again = from_folder(folder), from_folder(folder)
    assert data.train.labels.tolist() == [0] * 6 + [1] * 6  # of 8 each, round(0.2 * 8) = 2 to test
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(data.test.images, again.test.images)
    found = {}
    for split in (data.train, data.test):
        for image, label in zip(split.images, split.labels, strict=True):
            found[image.tobytes()] = data.class_names[label]
    assert found == every, "each image once, in its class"


def test_other_names_of_the_test_folder(folder):
    (folder / "test").rename(folder / "val")
    assert len(from_folder(folder).test) == 4


def test_classes_that_do_not_fit(folder, tmp_path):
    (folder / "test" / "dog").rename(folder / "test" / "cow")
    with pytest.raises(ValueError, match="test lacks classes that train/ has: dog; both must"):
        from_folder(folder)
    (folder / "train" / "cow").mkdir()
    (folder / "test" / "dog").mkdir()
    with pytest.raises(ValueError, match=r"train: too few readable .* classes cow; .* 1"):
        from_folder(folder)
    write(folder / "train" / "cow" / "1.png", colours(4, 5, 3))
    (folder / "test").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="classes cow; expected at least 2: one to train and one"):
        from_folder(folder)
    only = tmp_path / "only"
    write(only / "train" / "cat" / "1.png", colours(4, 5, 3))
    with pytest.raises(ValueError, match="the folders of classes: cat; expected are at least two"):
        from_folder(only)
    with pytest.raises(FileNotFoundError, match=r"no train/ \(its folders: cat, cow, dog\); exp"):
        from_folder(folder / "train")
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        from_folder(tmp_path / "nowhere")


def test_content_is_that_of_the_files_and_of_what_is_made_of_them(folder):
    content = from_folder(folder).train.content
    assert from_folder(folder).train.content == content
    assert content.covers == "all files as stored, and labels"
    assert from_folder(folder, size=4).train.content.digest != content.digest
    write(folder / "train" / "dog" / "5.png", colours(4, 5, 3))
    assert from_folder(folder).train.content.digest != content.digest
