"""TensorFlow Datasets without TensorFlow: a small set prepared here, and real CIFAR-10."""

import io
import json
import shutil
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from dnas.data import StreamFeed, from_tfds, limit, load, make_feed, tfds_source


class DnasPictures(tfds.core.GeneratorBasedBuilder):
    """Grey pictures of 5x7 pixels; a picture's grey is its number, its kind that modulo 3."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "picture": tfds.features.Image(shape=(5, 7, 1)),
            "kind": tfds.features.ClassLabel(num_classes=3),
            "note": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("picture", "kind"),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(300), "validation": self._generate_examples(8)}

    def _generate_examples(self, n):
        for i in range(n):
            _, png = cv2.imencode(".png", np.full((5, 7, 1), i % 256, np.uint8))
            yield i, {"picture": io.BytesIO(png.tobytes()), "kind": i % 256 % 3, "note": "x"}


class DnasSecrets(DnasPictures):
    """Its test labels are kept secret."""

    VERSION = tfds.core.Version("1.0.0")

    def _split_generators(self, dl_manager):
        secret = ((i, example | {"kind": -1}) for i, example in self._generate_examples(4))
        return {"train": self._generate_examples(4), "test": secret}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds"))
    DnasPictures(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_keys_shapes_and_classes_come_from_the_builder(prepared):
    data = from_tfds("dnas_pictures", prepared)
    assert (data.image_shape, data.classes) == ((5, 7, 1), 3)
    assert data.class_names == ("0", "1", "2")
    assert "dnas_pictures, 5x7x1 pixels, 3 classes (0, 1, 2), 300" in repr(data)
    assert (len(data.train), len(data.test)) == (300, 8)
    grey = data.train.images[:, 0, 0, 0]
    assert (data.train.images == grey[:, None, None, None]).all()
    assert sorted(grey) == sorted(np.arange(300) % 256)
    np.testing.assert_array_equal(data.train.labels, grey % 3)
    assert data.train.labels.dtype == np.int32
    again = from_tfds("dnas_pictures", prepared).train
    np.testing.assert_array_equal(again.labels, data.train.labels, "labels without images")


def test_only_the_chosen_records_are_decoded(prepared):
    data = from_tfds("dnas_pictures", prepared)
    few = limit(data.train, 20, seed=0)
    assert few.images.shape == (20, 5, 7, 1)
    np.testing.assert_array_equal(few.images, data.train.images[few.indices])
    np.testing.assert_array_equal(few.labels, data.train.labels[few.indices])


def test_streamed_records_equal_those_on_the_device(prepared):
    train = from_tfds("dnas_pictures", prepared).train
    stream, on_device = (make_feed([train], 16, jax.random.key(0), b) for b in (0, 2**30))
    assert isinstance(stream, StreamFeed)
    for one, other in zip(stream.chunks(3, 9, 4), on_device.chunks(3, 9, 4), strict=True):
        assert jax.tree.all(jax.tree.map(np.array_equal, one, other))


def test_content_is_that_of_the_records_and_nothing_is_decoded(prepared, monkeypatch):
    data = from_tfds("dnas_pictures", prepared)
    monkeypatch.setattr(cv2, "imdecode", None)
    whole = data.train.content
    assert whole.covers == "all records as stored: images and labels"
    assert from_tfds("dnas_pictures", prepared).train.content == whole != data.test.content
    assert limit(data.train, 20, seed=0).content != limit(data.train, 20, seed=1).content
    monkeypatch.setattr(tfds_source, "DEVICE_BUDGET", 35 * 10)
    sample = from_tfds("dnas_pictures", prepared).train.content
    assert sample.covers == "10 of 300 records as stored, spread evenly"
    assert sample.digest != whole.digest


def test_an_unknown_set_is_named():
    with pytest.raises(ValueError, match=r"'no_such_set' \(data_dir /nowhere\)"):
        load("no_such_set", "/nowhere")


def test_an_unknown_set_lists_what_is_possible(tmp_path):
    (tmp_path / "mnist").mkdir()
    with pytest.raises(ValueError) as caught:
        load("cifar", str(tmp_path))
    message = str(caught.value)
    for possible in ("'digits'", "'folder'", "'arrays'", "prepared there: mnist", "alike: cifar10"):
        assert possible in message
    assert "\n" not in message


def test_an_unprepared_set_says_how_to_prepare_it(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load("mnist", str(tmp_path))
    message = str(caught.value)
    assert "'mnist' is not prepared in " + str(tmp_path) in message
    assert "pip install -e '.[prepare]'" in message
    command = message.split('python -c "')[1].rstrip('"')
    assert f"tfds.builder('mnist', data_dir='{tmp_path}', file_format='array_record')" in command
    compile(command, "command", "exec")


def test_a_set_of_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'imdb_reviews'.*not one for image.*'text', 'label'"):
        load("imdb_reviews", str(tmp_path))


def test_images_of_many_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'tf_flowers'.*\(None, None, 3\)"):
        load("tf_flowers", str(tmp_path))


@pytest.mark.parametrize("damage", ["format", "files"])
def test_records_without_random_access_are_refused(prepared, tmp_path, damage):
    shutil.copytree(f"{prepared}/dnas_pictures", tmp_path / "dnas_pictures")
    folder = tmp_path / "dnas_pictures" / "1.0.0"
    if damage == "format":
        info = json.loads((folder / "dataset_info.json").read_text())
        (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    else:
        for file in folder.glob("*train*array_record*"):
            file.unlink()
    with pytest.raises(FileNotFoundError, match=r"(?s)'train'.*'dnas_pictures'.*array_record"):
        load("dnas_pictures", str(tmp_path))


def test_a_set_without_a_test_split_is_refused(prepared, tmp_path):
    shutil.copytree(f"{prepared}/dnas_pictures", tmp_path / "dnas_pictures")
    file = tmp_path / "dnas_pictures" / "1.0.0" / "dataset_info.json"
    info = json.loads(file.read_text())
    info["splits"] = [split for split in info["splits"] if split["name"] == "train"]
    file.write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"\['train'\].*'test', 'validation'"):
        load("dnas_pictures", str(tmp_path))


def test_a_test_split_without_labels_is_refused_at_once(tmp_path):
    DnasSecrets(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    with pytest.raises(ValueError, match=r"dnas_secrets test .* label -1, .* without labels"):
        load("dnas_secrets", str(tmp_path))


def test_cifar10_is_read_without_tensorflow(shared_data):
    folder = shared_data / "tfds"
    if not (folder / "cifar10").is_dir():
        pytest.skip(f"no prepared CIFAR-10 in {folder}")
    script = f"""
import sys, numpy as np, dnas.data as d
data = d.load('cifar10', {str(folder)!r})
assert (data.image_shape, data.classes) == ((32, 32, 3), 10)
assert (len(data.train), len(data.test)) == (50000, 10000)
few = d.limit(data.train, 2000, seed=0)
assert len(few.images) == 2000
mean, std = d.images.statistics(few)
np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=0.01)
np.testing.assert_allclose(std, (0.2470, 0.2435, 0.2616), atol=0.01)
assert (np.bincount(data.test.labels) == 1000).all()
assert 'tensorflow' not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
