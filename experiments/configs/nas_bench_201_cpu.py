"""The config 'nas_bench_201_cpu' of the package as a file; see `dnas.configs.nas_bench_201_cpu`."""

from dnas.configs.nas_bench_201_cpu import get_config as get_config
