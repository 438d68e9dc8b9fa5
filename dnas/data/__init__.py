"""Examples for the search: data sets, their parts, and feeds of batches.

>>> import dnas
>>> data = dnas.data.digits()
>>> data.image_shape, data.classes, len(data.train), len(data.test)
((8, 8, 1), 10, 1437, 360)
"""

from dnas.data.catalogue import SETS, load
from dnas.data.dataset import (
    DEVICE_BUDGET,
    ArraySource,
    Dataset,
    Source,
    Split,
    Validated,
    halve,
    limit,
)
from dnas.data.decoding import bars
from dnas.data.feeds import DeviceFeed, Feed, StreamFeed, evaluation_batches, make_feed
from dnas.data.folder import from_folder
from dnas.data.images import LabelledImages, check_classes
from dnas.data.pooling import pooled
from dnas.data.segmented import SegmentedImages, from_segmented_arrays, from_segmented_npz
from dnas.data.sources import digits, from_arrays, from_npz
from dnas.data.table import Table, from_csv
from dnas.data.text import Text, TextFeed, Tokens, from_text
from dnas.data.tfds_source import from_tfds
from dnas.tasks.augment import Augment, normalise, preprocess

__all__ = [
    "DEVICE_BUDGET",
    "SETS",
    "ArraySource",
    "Augment",
    "Dataset",
    "DeviceFeed",
    "Feed",
    "LabelledImages",
    "SegmentedImages",
    "Source",
    "Split",
    "StreamFeed",
    "Table",
    "Text",
    "TextFeed",
    "Tokens",
    "Validated",
    "bars",
    "check_classes",
    "digits",
    "evaluation_batches",
    "from_arrays",
    "from_csv",
    "from_folder",
    "from_npz",
    "from_segmented_arrays",
    "from_segmented_npz",
    "from_text",
    "from_tfds",
    "halve",
    "limit",
    "load",
    "make_feed",
    "normalise",
    "pooled",
    "preprocess",
]
