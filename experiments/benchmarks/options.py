"""The flags that say which step a benchmark is of; see `settings.Settings`.

They are read before JAX is imported, for which a benchmark may have to set the environment first.
"""

from absl import flags

_SPACE = flags.DEFINE_enum("space", "nas_bench_201", ["nas_bench_201", "darts"], "Search space.")
_METHOD = flags.DEFINE_string("hypergradient", "first_order", "Hypergradient, by name.")
_RELAXATION = flags.DEFINE_enum("relaxation", "softmax", ["softmax", "gumbel"], "Relaxation.")
_SINGLE_PATH = flags.DEFINE_bool("single_path", False, "Compute sampled operations only.")
_CHANNELS = flags.DEFINE_integer("channels", 16, "Channels of the supernet.")
_CELLS = flags.DEFINE_integer("cells", None, "Cells; the space's published number by default.")
_BATCH = flags.DEFINE_integer("batch", 64, "Images of each half in a step.")
_SIZE = flags.DEFINE_integer("size", 32, "Height and width of the images.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "tf32", "bfloat16"], "Arithmetic.")
_POPULATION = flags.DEFINE_integer("population", 1, "Seeds that one step searches with.")


def settings():
    """What the flags say, as `Settings`.

    Raises:
      ValueError: the flags do not fit each other.
    """
    from experiments.benchmarks.settings import Settings

    return Settings(
        space=_SPACE.value,
        channels=_CHANNELS.value,
        cells=_CELLS.value,
        size=_SIZE.value,
        batch=_BATCH.value,
        hypergradient=_METHOD.value,
        relaxation=_RELAXATION.value,
        single_path=_SINGLE_PATH.value,
        dtype=_DTYPE.value,
        population=_POPULATION.value,
    )
