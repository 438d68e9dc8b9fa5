"""Image classification sets of TensorFlow Datasets, read without TensorFlow.

The records must have been prepared as ``array_record``, which gives random access; images are
decoded by OpenCV, in threads (it releases Python's lock).
"""

import dataclasses
import difflib
import itertools
import os
from typing import Any, cast

import numpy as np

from dnas.checks import shown
from dnas.data import decoding
from dnas.data.content import Content, blocks, hashed, spread
from dnas.data.dataset import DEVICE_BUDGET, Arrays, Examples, Split
from dnas.data.images import LabelledImages, image_examples

_SHOWN = 10  # prepared sets that a line names


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsSource:
    """The records of one split.

    Attributes:
      name: how errors call it: data set, split and folder.
      records: random access to serialized examples.
      features: the builder's feature of the images and that of the labels, by name.
      image_key: the name of the images' feature.
      label_key: the name of the labels' feature.
      image_shape: height, width and channels.
      classes: number of classes.
    """

    name: str
    records: Any
    features: dict[str, Any]
    image_key: str
    label_key: str
    image_shape: tuple[int, int, int]
    classes: int

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"TfdsSource({self.name!r}, {len(self):,} records)"

    @property
    def examples(self) -> Examples:
        """See `Source.examples`."""
        return image_examples(self.image_shape)

    def read(self, indices: np.ndarray) -> Arrays:
        """See `Source.read`.

        Raises:
          ValueError: an image has not the shape, or a label not the range, that was promised.
        """
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        examples = self._examples(indices, (self.image_key, self.label_key))
        for i, example in enumerate(examples):
            image = example[self.image_key]
            if image.shape != self.image_shape:
                raise ValueError(
                    f"{self.name}: image {indices[i]} has the shape {image.shape}, "
                    f"expected {self.image_shape}"
                )
            images[i] = image
        return {"image": images, "label": self._labels(examples, indices)}

    def load(self, indices: np.ndarray) -> Arrays:
        """See `Source.load`."""
        return decoding.read_all(self.read, indices, self.examples, f"reading {self.name}")

    def column(self, name: str, indices: np.ndarray) -> np.ndarray:
        """See `Source.column`."""
        if name == "image":
            return self.load(indices)[name]
        return self._labels(self._examples(indices, (self.label_key,)), indices)

    def content(self, indices: np.ndarray) -> Content:
        """See `Source.content`; of records as they are stored, nothing is decoded.

        Of images that take more than `DEVICE_BUDGET` when decoded, some records are read.
        """
        some = spread(indices, DEVICE_BUDGET // int(np.prod(self.image_shape)))
        order = indices.astype("<i8").tobytes()
        records = (
            record for block in blocks(some) for record in self.records.__getitems__(block.tolist())
        )
        covers = "all records as stored: images and labels"
        if len(some) < len(indices):
            covers = f"{len(some):,} of {len(indices):,} records as stored, spread evenly"
        return Content(hashed(itertools.chain([order], records)), covers)

    def _examples(self, indices: np.ndarray, keys: tuple[str, ...]) -> list[dict[str, Any]]:
        """The features `keys` of some examples; what is not named is not decoded."""
        import tensorflow_datasets as tfds

        features = tfds.features.FeaturesDict({key: self.features[key] for key in keys})
        records = self.records.__getitems__(indices.tolist())
        return [cast(Any, features.deserialize_example_np(record)) for record in records]

    def _labels(self, examples: list[dict[str, Any]], indices: np.ndarray) -> np.ndarray:
        labels = np.array([example[self.label_key] for example in examples], np.int32)
        wrong = (labels < 0) | (labels >= self.classes)
        if wrong.any():
            raise ValueError(
                f"{self.name}: image {indices[wrong][0]} has the label {labels[wrong][0]}, "
                f"expected 0..{self.classes - 1}; a split without labels is of no use here"
            )
        return labels


def from_tfds(name: str, data_dir: str | None = None) -> LabelledImages:
    """An image classification set of TensorFlow Datasets, by name.

    It must have been prepared as ``array_record`` (where it is not, the error says how); for
    that step TensorFlow is needed, for reading it is not. Nothing is decoded yet. The test
    split is ``'test'``, or ``'validation'`` of sets that have no other.

    Args:
      name: for instance ``'cifar10'``, or with its config ``'imagenet_resized/32x32'``.
      data_dir: the folder in which the set was prepared; by default that of TensorFlow
        Datasets, ``~/tensorflow_datasets``.

    Returns:
      The data set.

    Raises:
      FileNotFoundError: the set is not prepared in `data_dir`, or not as ``array_record``.
      ValueError: no such set; it is not one for image classification; its images have more
        than one size; it lacks a split.
    """
    import tensorflow_datasets as tfds

    data_dir = None if data_dir is None else os.path.expanduser(data_dir)
    folder = data_dir or "~/tensorflow_datasets"
    try:
        builder = cast(Any, tfds.builder(name, data_dir=data_dir))
    except Exception as error:  # Builders are code of their own and raise what they like.
        reason = str(error).strip().split("\n")[0][:200]
        raise ValueError(_possible(name, folder, reason)) from error
    # What the set is comes first: preparing one that is of no use would be a waste.
    keys, image_shape, names = _task(name, builder.info)
    splits = [split for split in ("train", "test", "validation") if split in builder.info.splits]
    if not splits:
        raise FileNotFoundError(
            f"the data set {name!r} is not prepared in {folder}. {_how(name, folder)}"
        )
    if "train" not in splits or len(splits) < 2:
        raise ValueError(
            f"the data set {name!r} (data_dir {folder}) has the splits "
            f"{sorted(builder.info.splits)}; needed are 'train' and one of 'test', 'validation'"
        )
    features = {key: builder.info.features[key] for key in keys}

    def split(which: str) -> Split:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        try:
            records = builder.as_data_source(which, deserialize_method=raw)
            records[0]  # Nothing is opened before something is read.
        except Exception as error:
            raise FileNotFoundError(
                f"cannot read the split {which!r} of the data set {name!r} at {builder.data_dir} "
                f"(format {builder.info.file_format.value}): no random access there, or files "
                f"are missing. Take another data_dir, or delete that folder, and prepare it "
                f"again. {_how(name, folder)}"
            ) from error
        label = f"{name} {which} ({folder})"
        source = TfdsSource(label, records, features, *keys, image_shape, len(names))
        source.column("label", np.zeros(1, int))  # Some sets have test images without labels.
        return Split.all(source)

    return LabelledImages(name, split("train"), split(splits[1]), len(names), names)


def _possible(name: str, folder: str, reason: str) -> str:
    """What is wrong with a name, and which ones there are."""
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    alike = difflib.get_close_matches(name, [*known, "digits", "folder", "arrays"], 3)
    place = os.path.expanduser(folder)
    prepared = sorted(set(os.listdir(place)) & set(known)) if os.path.isdir(place) else []
    hints = {"prepared there": prepared[:_SHOWN], "alike": alike}
    hints = "".join(f"; {what}: {', '.join(names)}" for what, names in hints.items() if names)
    return (
        f"there is no usable data set {shown(name)} (data_dir {folder}): {reason} Possible are "
        "'digits' (embedded), 'folder' (images, at path), 'arrays' (an .npz file, at path), and "
        f"the image sets of TensorFlow Datasets, https://www.tensorflow.org/datasets/catalog{hints}"
    )


def _task(name: str, info: Any) -> tuple[tuple[str, str], tuple[int, int, int], tuple[str, ...]]:
    """The keys of image and label, the images' shape and the names of the classes."""
    import tensorflow_datasets as tfds

    keys = info.supervised_keys
    pair = isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(k, str) for k in keys)
    features: list[Any] = [info.features[key] for key in keys] if pair else [None, None]
    image, label = features
    kinds_of = tfds.features.Image, tfds.features.ClassLabel
    if not all(map(isinstance, features, kinds_of)):
        kinds = [type(feature).__name__ for feature in features]
        found = f"its supervised_keys are {keys}" + (f", {kinds[0]} and {kinds[1]}" * pair)
        raise ValueError(
            f"the data set {name!r} is not one for image classification: {found}; expected are "
            "the keys of an Image and of a ClassLabel"
        )
    if None in image.shape or len(image.shape) != 3:
        raise ValueError(
            f"the images of the data set {name!r} have the shape {image.shape}; expected is one "
            "fixed size. Take a resized form of the set ('imagenet_resized/32x32', for "
            "instance), or resize the images yourself and use dnas.data.from_arrays"
        )
    if image.np_dtype != np.uint8:
        raise ValueError(
            f"the images of the data set {name!r} are {np.dtype(image.np_dtype).name}; expected "
            "uint8. Convert them yourself and use dnas.data.from_arrays"
        )
    if not label.num_classes or label.num_classes < 2:
        raise ValueError(
            f"the data set {name!r} has {label.num_classes} classes; at least two are needed"
        )
    return tuple(keys), tuple(image.shape), tuple(label.names)


def _how(name: str, folder: str) -> str:
    """How to prepare a set."""
    where = "" if folder.startswith("~") else f", data_dir={folder!r}"
    return (
        "To prepare it (this step alone needs TensorFlow):\n"
        "  pip install -e '.[prepare]'\n"
        f'  python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}{where}, '
        "file_format='array_record').download_and_prepare()\""
    )
