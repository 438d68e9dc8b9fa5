"""A folder of images: a folder for each class, in one for each split."""

import collections
import dataclasses
import itertools
import os
import pathlib
import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from dnas import checks
from dnas.data import decoding
from dnas.data.content import Content, hashed, spread
from dnas.data.dataset import DEVICE_BUDGET, Arrays, Examples, Split
from dnas.data.images import LabelledImages, image_examples, many_sizes

TEST_SHARE = 0.2  # of the images of each class, where the folder has no test images
_TESTS = ("test", "validation", "valid", "val")  # what the folder of test images may be called
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_SHOWN = 3  # files that a line names
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_PNG_GREY_ALPHA = 4  # a colour type in the header

Files = dict[str, list[str]]  # the paths of the images of each class


@dataclasses.dataclass(frozen=True, eq=False)
class FolderSource:
    """Images in files, decoded when they are asked for.

    Attributes:
      name: how bars call it.
      files: a path for each image.
      all_labels: int32 ``[N]``.
      image_shape: height, width and channels; grey images fill all channels.
      size: the side in pixels of the square that is made of each; None leaves them as they are.
    """

    name: str
    files: list[str]
    all_labels: np.ndarray
    image_shape: tuple[int, int, int]
    size: int | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        return f"FolderSource({self.name!r}, {len(self):,} files)"

    @property
    def examples(self) -> Examples:
        """See `Source.examples`."""
        return image_examples(self.image_shape)

    def read(self, indices: np.ndarray) -> Arrays:
        """See `Source.read`.

        Raises:
          OSError: a file is no longer what it was when the folder was looked through.
        """
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        for i, index in enumerate(indices):
            image = decode(self.files[index])
            if image is not None and self.size is not None:
                image = squared(image, self.size)
            if image is None or image.shape[:2] != self.image_shape[:2]:
                raise OSError(
                    f"{self.files[index]}: since the folder was looked through, the image was "
                    "removed, damaged or changed; run again to go on without it"
                )
            images[i] = image  # one channel fills all
        return {"image": images, "label": self.all_labels[indices]}

    def load(self, indices: np.ndarray) -> Arrays:
        """See `Source.load`."""
        return decoding.read_all(self.read, indices, self.examples, f"reading {self.name}")

    def column(self, name: str, indices: np.ndarray) -> np.ndarray:
        """See `Source.column`."""
        if name == "image":
            return self.load(indices)[name]
        return self.all_labels[indices]

    def content(self, indices: np.ndarray) -> Content:
        """See `Source.content`; of files as they are stored, nothing is decoded.

        Of images that take more than `DEVICE_BUDGET` when decoded, some files are read.
        """
        some = spread(indices, DEVICE_BUDGET // int(np.prod(self.image_shape)))
        labels = self.all_labels[indices].astype("<i4").tobytes()
        shape = f"brought to {self.image_shape}, squares: {self.size is not None}".encode()
        files = (pathlib.Path(self.files[i]).read_bytes() for i in some)
        covers = "all files as stored, and labels"
        if len(some) < len(indices):
            covers = f"{len(some):,} of {len(indices):,} files as stored, spread evenly; all labels"
        return Content(hashed(itertools.chain([labels, shape], files)), covers)


def from_folder(path: str | os.PathLike, size: int | None = None) -> LabelledImages:
    """A data set of image files: ``train/CLASS/NAME.png``, and the same in ``test/``.

    PNG, JPEG and WebP are read, also in folders within that of a class. Grey images stay grey
    unless others are in colour; alpha is dropped; 16 bits are scaled to 8. Every file is decoded
    once to see whether it can be, and those that cannot are named and left out. From then on
    images are decoded when they are needed. Hidden files and folders are ignored.

    Classes are numbered in the order of their names, and files come in the order of theirs.
    Instead of ``test/`` the folder may have ``validation/``, ``valid/`` or ``val/``. Without any
    of them a fifth of each class, at least one image, becomes the test split: always the same
    one, whatever the seed of a run.

    Args:
      path: the folder.
      size: the side in pixels of the square images to make: the largest square in the middle of
        each, averaged over areas where it is larger. None leaves images as they are; they must
        have one size then.

    Returns:
      The data set, with the names of its classes; its own name is the folder's.

    Raises:
      FileNotFoundError: there is no such folder, or no ``train/`` in it.
      ValueError: the splits have different classes, a class has too few images, or images have
        different sizes.
    """
    if size is not None:
        checks.whole("size", size)
    folder = pathlib.Path(path).expanduser()
    if not (folder / "train").is_dir():
        what = "there is no such folder"
        if folder.is_dir():
            folders = _listed(sorted(p.name for p in folder.iterdir() if p.is_dir())) or "none"
            what = f"the folder has no train/ (its folders: {folders})"
        raise FileNotFoundError(
            f"path={str(path)!r}: {what}; expected are images as in train/CLASS/NAME.png, and "
            "test images, if any, as in test/CLASS/NAME.png"
        )
    test = [name for name in _TESTS if (folder / name).is_dir()][:1]
    found = {split: _files(folder / split) for split in ("train", *test)}
    _check_classes(folder, found)
    shapes = _look_through(folder, found.values())
    good = {
        split: {name: [file for file in some if file in shapes] for name, some in files.items()}
        for split, files in found.items()
    }
    _check_enough(folder, good, least=1 if test else 2)
    image_shape = _common_shape(folder, shapes.values(), size)
    train, tests = (good["train"], good[test[0]]) if test else _divided(good["train"])
    name = folder.resolve().name

    def split(which: str, files: Files) -> Split:
        every = [file for some in files.values() for file in some]
        labels = np.repeat(np.arange(len(files)), [len(some) for some in files.values()])
        source = FolderSource(f"{name} {which}", every, labels.astype(np.int32), image_shape, size)
        return Split.all(source)

    splits = split("train", train), split("test", tests)
    return LabelledImages(name, *splits, len(train), tuple(train))


def decode(file: str) -> np.ndarray | None:
    """An image file as uint8 ``[H, W, 3]``, red first, or ``[H, W, 1]``; None if it is broken."""
    import cv2

    try:
        data = pathlib.Path(file).read_bytes()
        if data.startswith(_JPEG) and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            return None  # the end of the last scan is missing; some decoders fill up with grey
        read_as = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
        image = cv2.imdecode(np.frombuffer(data, np.uint8), read_as)
    except (OSError, cv2.error):  # the latter for empty files and images too large to decode
        return None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        return None
    if image.dtype == np.uint16:
        image = np.rint(image / 257).astype(np.uint8)
    if image.ndim == 2:
        return image[..., None]
    if data.startswith(_PNG) and data[25] == _PNG_GREY_ALPHA:
        return image[..., :1]
    return image[..., ::-1]


def squared(image: np.ndarray, size: int) -> np.ndarray:
    """The largest square in the middle of an image, resized to a side of `size` pixels."""
    import cv2

    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    if side == size:
        return square
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return cv2.resize(square, (size, size), interpolation=how).reshape(size, size, -1)


def _files(folder: pathlib.Path) -> Files:
    """The images of each class in a split's folder, by their endings; says what is left out."""
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    found: Files = {name: [] for name in classes if not name.startswith(".")}
    others = []
    for name, images in found.items():
        for root, folders, files in os.walk(folder / name, onerror=_raise):
            folders[:] = sorted(other for other in folders if not other.startswith("."))
            for file in sorted(other for other in files if not other.startswith(".")):
                path = os.path.join(root, file)
                (images if file.lower().endswith(_ENDINGS) else others).append(path)
    others += sorted(str(p) for p in folder.iterdir() if p.suffix.lower() in _ENDINGS)
    if others:
        _warn_of(
            folder.parent, others, "are no .png, .jpg, .jpeg or .webp in the folder of a class"
        )
    return found


def _raise(error: OSError) -> None:
    raise error


def _check_classes(folder: pathlib.Path, found: dict[str, Files]) -> None:
    """Raises ValueError unless all splits have the same classes, at least two."""
    train, *tests = found
    if len(found[train]) < 2:
        classes = _listed(list(found[train])) or "none"
        raise ValueError(
            f"{folder / train} has the folders of classes: {classes}; expected are at least "
            "two, as in train/cat/1.png and train/dog/1.png"
        )
    for test in tests:
        for one, other in ((train, test), (test, train)):
            if lacking := sorted(set(found[one]) - set(found[other])):
                raise ValueError(
                    f"{folder / other} lacks classes that {one}/ has: {_listed(lacking)}; both "
                    "must have the same folders"
                )


def _look_through(folder: pathlib.Path, found: Iterable[Files]) -> dict[str, tuple[int, ...]]:
    """Decodes every file; the shapes of those that can be, by their paths."""
    files = [file for split in found for some in split.values() for file in some]
    shapes: list[tuple[int, ...] | None] = [None] * len(files)

    def look(block: slice) -> None:
        images = map(decode, files[block])
        shapes[block] = [None if image is None else image.shape for image in images]

    decoding.in_blocks(look, len(files), f"looking through {folder.name}")
    broken = [file for file, shape in zip(files, shapes, strict=True) if shape is None]
    if broken:
        _warn_of(folder, broken, "cannot be decoded")
    return {file: shape for file, shape in zip(files, shapes, strict=True) if shape is not None}


def _check_enough(folder: pathlib.Path, good: dict[str, Files], least: int) -> None:
    """Raises ValueError unless every class has so many images in every split."""
    for split, files in good.items():
        if few := [name for name, some in files.items() if len(some) < least]:
            why = "" if least == 1 else ": one to train and one to test, as there is no test/"
            raise ValueError(
                f"{folder / split}: too few readable images of the classes {_listed(few)}; expected"
                f" at least {least}{why}"
            )


def _common_shape(
    folder: pathlib.Path, shapes: Iterable[tuple[int, ...]], size: int | None
) -> tuple[int, int, int]:
    """The shape to which all images are brought."""
    shapes = collections.Counter(shapes)
    channels = max(shape[-1] for shape in shapes)
    if size is not None:
        return size, size, channels
    sizes = collections.Counter()
    for (height, width, _), number in shapes.items():
        sizes[height, width] += number
    if len(sizes) > 1:
        raise ValueError(
            f"size must be given, as size=32: the images in {str(folder)!r} have "
            f"{many_sizes(sizes)}, and a network needs one"
        )
    return *next(iter(sizes)), channels


def _divided(files: Files) -> tuple[Files, Files]:
    """Train and test images out of one split: of each class the same share, drawn at random."""
    train, test = {}, {}
    for label, (name, some) in enumerate(files.items()):
        order = np.random.default_rng(label).permutation(len(some))
        drawn = set(order[: max(1, round(TEST_SHARE * len(some)))].tolist())
        train[name] = [file for i, file in enumerate(some) if i not in drawn]
        test[name] = [some[i] for i in sorted(drawn)]
    return train, test


def _warn_of(folder: pathlib.Path, files: Sequence[str], what: str) -> None:
    names = [os.path.relpath(file, folder) for file in files]
    warnings.warn(
        f"{str(folder)!r}: left out, since they {what}: {_listed(names)} ({len(files):,} in all)",
        stacklevel=2,
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:_SHOWN], *(["..."] * (len(names) > _SHOWN))])
