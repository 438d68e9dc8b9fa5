"""The config 'nas_bench_201' of the package as a file; see `dnas.configs.nas_bench_201`."""

from dnas.configs.nas_bench_201 import get_config as get_config
