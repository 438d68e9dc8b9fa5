"""The config of that name in the package as a file; see `dnas.configs.california_housing`."""

from dnas.configs.california_housing import get_config as get_config
