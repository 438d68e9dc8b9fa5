"""What tasks about images and classes have in common."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dnas.tasks.augment import NOTHING, Augment
from dnas.tasks.task import Measure, Task


@dataclasses.dataclass(frozen=True)
class ImageTask:
    """Images of one shape, and classes.

    Attributes:
      image_shape: height, width and channels of one image.
      classes: number of classes.
      mean: of the train images' channels, scaled to [0, 1]; zeros by default.
      std: standard deviation of the channels, likewise; ones by default.
      augment: what is done to images in training.
      class_names: names of the classes, in the order of the labels; None where they have none.
    """

    image_shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    augment: Augment = NOTHING
    class_names: tuple[str, ...] | None = None

    name: ClassVar[str]
    measure: ClassVar[Measure]

    @property
    def inputs(self) -> jax.ShapeDtypeStruct:
        """A normalised image, float32."""
        return jax.ShapeDtypeStruct(self.image_shape, jnp.float32)

    @property
    def chance(self) -> float:
        """The cross-entropy, in nats, where all classes are as likely."""
        return math.log(self.classes)

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation by which images are normalised."""
        channels = self.image_shape[-1]
        return self.mean or (0.0,) * channels, self.std or (1.0,) * channels

    def check_fit(self, other: Task, name: str) -> None:
        """Raises ValueError where shapes, classes or their names differ."""
        if not isinstance(other, type(self)):
            raise ValueError(
                f"data: {name!r} is for {other.name}, but the network was trained for {self.name}"
            )
        if other.image_shape != self.image_shape:
            raise ValueError(
                f"data: the images of {name!r} are {_size(other.image_shape)}, but the network "
                f"was trained on images of {_size(self.image_shape)}"
            )
        if other.classes != self.classes:
            raise ValueError(
                f"data: {name!r} has {other.classes} classes, but the network was trained to tell "
                f"{self.classes} apart"
            )
        names, others = self.class_names, other.class_names
        if names and others and names != others:
            pairs = zip(names, others, strict=True)
            i, *_ = (i for i, pair in enumerate(pairs) if len(set(pair)) > 1)
            raise ValueError(
                f"data: class {i} of {name!r} is {others[i]!r}, but the network was trained to "
                f"call it {names[i]!r}; if it is the same, give dataclasses.replace(data, "
                "class_names=None)"
            )

    def describe(self) -> dict[str, Any]:
        """What it takes to use a trained network without its data set."""
        facts = dataclasses.asdict(self) | {"mean": self.statistics[0], "std": self.statistics[1]}
        del facts["augment"]
        return {"task": self.name, **facts}


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
