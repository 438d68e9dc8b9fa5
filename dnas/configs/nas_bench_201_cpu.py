"""A search in the NAS-Bench-201 space on real CIFAR-10, reduced for two CPU cores.

Fewer channels, smaller and fewer images, fewer epochs than published: the setting ``nb201`` of the
study of methods. The method is `dnas`, which is ahead of all published presets there.

Expected: 15 to 19 minutes of one busy CPU core, 10 of two. On an AMD EPYC seeds 37 to 41, which
the method was not designed with, found cells with 94.35 +- 0.03 % test accuracy on CIFAR-10 in the
table, 94.30 to 94.37 (random architectures: mean 87.06 %, median 90.75 %; every edge a 3x3
convolution: 93.76 %; optimum 94.37 %). Another processor, and another number of cores, rounds
differently: a seed may find another cell there.
"""

from typing import Any

from dnas.configs import base


def get_config() -> Any:
    """The settings; see `dnas search --help`."""
    config = base.make("nas_bench_201")
    config.preset = "dnas"
    config.space.update(channels=4, cells=5)
    config.data.update(train_limit=10_000, pool=2)
    config.data.augment.crop_padding = 2
    config.search.epochs = 15
    return config
