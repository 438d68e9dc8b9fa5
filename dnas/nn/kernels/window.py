"""The geometry of a convolution, and that of its transposes."""

from collections.abc import Sequence
from typing import NamedTuple

Pair = tuple[int, int]
Sizes = Sequence[int]  # height and width


class Window(NamedTuple):
    """How a kernel moves over images; for height and width each.

    Attributes:
      stride: step between outputs.
      padding: rows of zeros before and behind the image, columns likewise; may be negative.
      spread: step between the image's pixels, with zeros between them.
      dilation: step between the kernel's taps.
    """

    stride: Pair
    padding: tuple[Pair, Pair]
    spread: Pair
    dilation: Pair

    def output(self, image: Sizes, kernel: Sizes) -> Pair:
        """Height and width of what comes out."""

        def along(i: int) -> int:
            full = (image[i] - 1) * self.spread[i] + 1 + sum(self.padding[i])
            return (full - (kernel[i] - 1) * self.dilation[i] - 1) // self.stride[i] + 1

        return along(0), along(1)

    def for_images(self, image: Sizes, kernel: Sizes, output: Sizes) -> "Window":
        """The window that takes the outputs' cotangent and the turned kernel to the images'."""
        pads = []
        for i in (0, 1):
            reach = self.dilation[i] * (kernel[i] - 1)
            low = reach - self.padding[i][0]
            full = self.spread[i] * (image[i] - 1) + 1 + reach
            pads.append((low, full - (self.stride[i] * (output[i] - 1) + 1) - low))
        return Window(self.spread, tuple(pads), self.stride, self.dilation)

    def for_kernel(self, image: Sizes, kernel: Sizes, output: Sizes) -> "Window":
        """The window that takes images, and the outputs' cotangent as kernel, to the kernel's."""
        pads = []
        for i in (0, 1):
            low = self.padding[i][0]
            full = self.dilation[i] * kernel[i] + self.stride[i] * (output[i] - 1)
            pads.append((low, full - (self.spread[i] * (image[i] - 1) + 1) - low))
        return Window(self.dilation, tuple(pads), self.spread, self.stride)


def centred(kernel: Sizes, stride: int, dilation: int, padding: int | None = None) -> Window:
    """A window with equal padding on both sides.

    Args:
      kernel: height and width of the kernel.
      stride: step between outputs, both ways.
      dilation: step between taps, both ways.
      padding: zeros on each side; by default as many as keep the size at stride 1 for odd kernels.
    """
    height, width = (dilation * (k - 1) // 2 if padding is None else padding for k in kernel)
    pads = ((height, height), (width, width))
    return Window((stride, stride), pads, (1, 1), (dilation, dilation))
