"""Methods that no paper describes, built of the same parts as the published ones."""

from dnas.presets.contrib.corrected import *  # noqa: F403
from dnas.presets.contrib.corrected import __all__ as __all__
