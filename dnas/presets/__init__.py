"""Searches by name, as plain data: choices of parts with numbers.

A preset is a function in one of the files below, and its name in that file's ``__all__``.

>>> from dnas import presets
>>> presets.gdas(epochs=100).relaxation
gumbel_softmax(temperature=linear(first=10.0, last=0.1), hard=True)
>>> presets.darts() == presets.darts(epochs=50)
True
"""

from collections.abc import Callable, Mapping

from dnas.parts import Part, linear, part
from dnas.presets import contrib, progressive, published
from dnas.presets.contrib import *  # noqa: F403
from dnas.presets.preset import Preset
from dnas.presets.progressive import *  # noqa: F403
from dnas.presets.published import *  # noqa: F403
from dnas.presets.stages import Stage

__all__ = ["PRESETS", "Part", "Preset", "Stage", "linear", "part"]
__all__ += contrib.__all__
__all__ += progressive.__all__
__all__ += published.__all__

# What a config's key `preset` may name.
PRESETS: Mapping[str, Callable[..., Preset]] = {
    name: vars(module)[name]
    for module in (published, progressive, contrib)
    for name in module.__all__
}
